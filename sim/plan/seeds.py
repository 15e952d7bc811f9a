"""One seed, many independent streams of random numbers."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from random import Random
from typing import Final

import attrs

from segments.protocol.errors import Invalid
from sim.plan.redraws import Redraw, TurningRandom

_SEED_BYTES: Final = 16


def _at_the_start() -> int:
    return 0


@attrs.frozen
class Seeds:
    """Everything that a run draws, by name, from the one ``seed``.

    A stream depends on the seed and its own name alone, so that one more draw in the network does
    not change what the disks draw. The same on every machine and in every process: of `Random`,
    Python promises that for ``random()``, so whatever must stay the same for years is built on it.

    With ``redraws``, which are ascending, each stream turns at their moments into one that depends
    on their salt as well; ``now`` tells the time in nanoseconds.
    """

    seed: int = attrs.field(validator=attrs.validators.instance_of(int))
    _path: str = attrs.field(default="", kw_only=True)
    redraws: tuple[Redraw, ...] = attrs.field(default=(), kw_only=True)
    _now: Callable[[], int] = attrs.field(default=_at_the_start, kw_only=True, eq=False)
    _streams: dict[str, Random] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    def stream(self, name: str) -> Random:
        """The stream called ``name``: asked again, the same one, going on where it was."""
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = self.begun_from(self.number(name), name)
        return stream

    def begun_from(self, seed: int, name: str = "") -> Random:
        """A new stream that begins as ``Random(seed)``; its name counts once it is drawn anew.

        Without a name the seed itself, a drawn one, stands for it.
        """
        if not self.redraws:
            return Random(seed)
        _check_name(name := name or str(seed))
        turns = [(each.at_ns, self._salted(name, each.salt)) for each in self.redraws]
        return TurningRandom.of(seed, turns, self._now)

    def number(self, name: str, at_ns: int | None = None) -> int:
        """A number of 128 bits that stands for ``name``: a seed to give to something else.

        As of the moment ``at_ns``, with the salt of the last redraw by then; or as if there were no
        redraws.
        """
        _check_name(name)
        past = [each.salt for each in self.redraws if at_ns is not None and each.at_ns <= at_ns]
        return self._salted(name, past[-1]) if past else self._number(name)

    def within(self, name: str) -> Seeds:
        """Seeds with a name space of their own: for one of several parts of the same kind."""
        _check_name(name)
        path = f"{self._path}{name}/"
        return Seeds(self.seed, path=path, redraws=self.redraws, now=self._now)

    def _salted(self, name: str, salt: int) -> int:
        return self._number(f"{name}/drawn anew/{salt}")

    def _number(self, path: str) -> int:
        whole = f"{self.seed}/{self._path}{path}"
        return int.from_bytes(sha256(whole.encode()).digest()[:_SEED_BYTES], "big")


def _check_name(name: str) -> None:
    # A slash would let two different paths read the same.
    if not name or "/" in name:
        raise Invalid(f"name of a stream {name!r}: expected some characters, none of them '/'")
