"""A bound on the work of a run: steps against virtual time, so that a storm ends as a finding.

Steps are counted, never seconds of a clock or of CPU: the same seed ends at the same step anywhere.
"""

from __future__ import annotations

from typing import Final

import attrs

_NS_PER_MS: Final = 1_000_000

BURST: Final = 20_000
"""So many steps may come at once, and `STEPS_A_MS` for each millisecond since."""
STEPS_A_MS: Final = 500
"""Turns of trio's loop, or events; three turns go with a message.

Of 300 seeds the busiest had 232 turns in one instant, 3,317 in 10 ms, 9,098 in 100 ms and 32,972 in
a second, and half as many events: a seventh of what is allowed, or less.
"""
STEPS_A_CALL: Final = 1_000
"""For each call that a client begins; in a seed one takes 50 turns, recoveries and all."""
_MANY_GROUPS: Final = 4
"""All that is for volumes of fewer protection groups, as seeds have; larger ones may do more."""


def share_of(groups: int) -> int:
    """How many times as much a volume of so many protection groups may do."""
    return 1 + groups // _MANY_GROUPS


@attrs.define(eq=False)
class WorkBound:
    """Holds the steps of one kind against time and calls, whenever it is told of them."""

    burst: int = BURST
    share: int = 1
    since_ns: int = attrs.field(default=0, init=False)
    """Since when there has been more to do than time and calls allow for."""
    since_steps: int = attrs.field(default=0, init=False)
    _left: int = attrs.field(init=False)
    _steps: int = attrs.field(default=0, init=False)
    _now_ns: int = attrs.field(default=0, init=False)
    _calls: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._left = self._full

    @property
    def _full(self) -> int:
        return self.burst * self.share

    @property
    def look_after(self) -> int:
        """After how many further steps it wants to be told."""
        return max(1, self.burst // 4)

    def is_broken(self, steps: int, now_ns: int, calls: int) -> bool:
        """Whether the run has taken too many steps by now, with so many calls begun."""
        earned = self.share * STEPS_A_MS * (now_ns - self._now_ns) // _NS_PER_MS
        if earned:  # calls that are made while no time passes earn nothing
            earned += STEPS_A_CALL * (calls - self._calls)
        left = self._left + earned - (steps - self._steps)
        if left >= self._full:
            left, self.since_ns, self.since_steps = self._full, now_ns, steps
        self._left, self._steps, self._now_ns, self._calls = left, steps, now_ns, calls
        return left < 0
