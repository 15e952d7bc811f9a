"""The clock on the wall of the simulated machines, which somebody sets now and then.

Writers stamp their commits with it, and must let nothing depend on it.
"""

from __future__ import annotations

from typing import Final

from sim.plan.schedule import MS, SECOND
from sim.plan.seeds import Seeds

_START_NS: Final = 1_700_000_000 * SECOND
_STRETCH_NS: Final = 40 * MS
_OFF_BY_NS: Final = (0, 0, 0, SECOND, -SECOND, 3_600 * SECOND, -3_600 * SECOND, 30 * MS)
_KEPT: Final = 1_024


class WallClock:
    """Nanoseconds since the epoch of Unix; wrong by something else in each stretch of a run."""

    def __init__(self, seeds: Seeds) -> None:
        self._seeds = seeds
        self._off_by: dict[int, int] = {}

    def at(self, now_ns: int) -> int:
        """What it shows at a moment of the run."""
        stretch = now_ns // _STRETCH_NS
        if stretch not in self._off_by:
            if len(self._off_by) >= _KEPT:
                self._off_by.clear()  # they are drawn again, the same
            drawn = self._seeds.number(str(stretch), stretch * _STRETCH_NS) % len(_OFF_BY_NS)
            self._off_by[stretch] = _OFF_BY_NS[drawn]
        return _START_NS + now_ns + self._off_by[stretch]
