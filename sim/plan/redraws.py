"""From a moment on other chances: a stream of random numbers that turns into another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

import attrs

from segments.protocol.errors import Invalid

MAX_SALT: Final = (1 << 63) - 1
"""The largest salt: the largest integer that TOML has a word for."""


@attrs.frozen(order=True)
class Redraw:
    """All that is drawn at ``at_ns`` or later is drawn from the seed and this ``salt``.

    Raises `Invalid` for a negative time, or for a salt that is not from 0 to `MAX_SALT`.
    """

    at_ns: int
    salt: int

    def __attrs_post_init__(self) -> None:
        if type(self.at_ns) is not int or self.at_ns < 0:
            raise Invalid(f"redraw at {self.at_ns!r} ns: expected an integer, not negative")
        if type(self.salt) is not int or not 0 <= self.salt <= MAX_SALT:
            raise Invalid(f"salt {self.salt!r}: expected an integer from 0 to {MAX_SALT}")


class TurningRandom(Random):
    """Begins as ``Random(seed)``; whoever draws at a turn's moment or later draws from its seed.

    It asks for the time at each draw, so nothing has to happen at the moment itself: what is drawn
    before is the same, number by number, whether it ever turns or not.
    """

    _turns: tuple[tuple[int, int], ...] = ()
    _now: Callable[[], int]

    @classmethod
    def of(
        cls, seed: int, turns: Sequence[tuple[int, int]], now: Callable[[], int]
    ) -> TurningRandom:
        """A stream of ``seed``; ``turns`` are times, ascending, and what it is seeded with then."""
        made = cls(seed)
        made._turns, made._now = tuple(turns), now
        return made

    def random(self) -> float:
        if self._turns:
            self._turn()
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        if self._turns:
            self._turn()
        return super().getrandbits(k)

    def _turn(self) -> None:
        now_ns = self._now()
        while self._turns and self._turns[0][0] <= now_ns:
            self.seed(self._turns[0][1])
            self._turns = self._turns[1:]
