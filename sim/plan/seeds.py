"""One seed, many independent streams of random numbers."""

from __future__ import annotations

from hashlib import sha256
from random import Random
from typing import Final

import attrs

from segments.protocol.errors import Invalid

_SEED_BYTES: Final = 16


@attrs.frozen
class Seeds:
    """Everything that a run draws, by name, from the one ``seed``.

    A stream depends on the seed and its own name alone, so that one more draw in the network does
    not change what the disks draw. The same on every machine and in every process: of `Random`,
    Python promises that for ``random()``, so whatever must stay the same for years is built on it.
    """

    seed: int = attrs.field(validator=attrs.validators.instance_of(int))
    _path: str = attrs.field(default="", kw_only=True)
    _streams: dict[str, Random] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    def stream(self, name: str) -> Random:
        """The stream called ``name``: asked again, the same one, going on where it was."""
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = Random(self.number(name))
        return stream

    def number(self, name: str) -> int:
        """A number of 128 bits that stands for ``name``: a seed to give to something else."""
        _check_name(name)
        path = f"{self.seed}/{self._path}{name}"
        return int.from_bytes(sha256(path.encode()).digest()[:_SEED_BYTES], "big")

    def within(self, name: str) -> Seeds:
        """Seeds with a name space of their own: for one of several parts of the same kind."""
        _check_name(name)
        return Seeds(self.seed, path=f"{self._path}{name}/")


def _check_name(name: str) -> None:
    # A slash would let two different paths read the same.
    if not name or "/" in name:
        raise Invalid(f"name of a stream {name!r}: expected some characters, none of them '/'")
