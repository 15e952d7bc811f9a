"""When a failure became inevitable: which moments to try next, and what is known so far.

From each of some moments a run is taken again and again with other chances; the share of these
futures that fail as it did is the curve over time. First come moments spread over the run, then
ever closer ones about the last at which most futures still escape. Pure: who runs the futures, and
where, is none of its business; the same outcomes lead to the same moments, in any order within a
round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from math import sqrt
from typing import Final, NamedTuple

import attrs

from segments.protocol.errors import Invalid

MOST_FUTURES: Final = 1_000
MOST_MOMENTS: Final = 200
_Z: Final = 1.96
"""Standard deviations on both sides of the middle that hold 95 % of a normal distribution."""


class Outcome(Enum):
    """How a future ended."""

    FAILED = "failed"
    """As the run that it was taken from: the same invariant, by about the same time."""
    LATER = "later"
    """It broke the same invariant, so much later that it is another story."""
    PASSED = "passed"
    OTHER = "other"
    """It broke another invariant, was undecided, or the simulator itself failed."""


class Future(NamedTuple):
    """A run that is the same before ``at_ns``, and draws from ``salt`` from then on."""

    at_ns: int
    salt: int


@attrs.frozen
class Point:
    """The futures of one moment."""

    at_ns: int
    failed: int
    later: int
    passed: int
    other: int

    @property
    def of(self) -> int:
        """How many there are."""
        return self.failed + self.later + self.passed + self.other

    @property
    def share(self) -> float:
        """Which share of them failed."""
        return self.failed / self.of

    @property
    def bounds(self) -> tuple[float, float]:
        """Where the share of all possible futures lies, with 95 % confidence."""
        return wilson(self.failed, self.of)

    @property
    def most_escape(self) -> bool:
        """Whether less than half of them failed."""
        return 2 * self.failed < self.of


def wilson(count: int, of: int) -> tuple[float, float]:
    """Wilson's score interval of 95 % for a share of which ``count`` in ``of`` were seen."""
    share, square = count / of, _Z * _Z / of
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * sqrt(share * (1 - share) / of + square / (4 * of))
    return max(0.0, middle - half), min(1.0, middle + half)


class Moments:
    """A search under way."""

    def __init__(self, times: Sequence[int], *, until_ns: int, futures: int, most: int) -> None:
        """``times`` are those at which something happened before the failure, ascending.

        At first moments are spread up to ``until_ns``. ``futures`` are run from each of at most
        ``most`` moments, or from fewer moments more of them. Raises `Invalid` for what is out of
        bounds.
        """
        if not times or list(times) != sorted({*times}):
            raise Invalid(f"{len(times)} times: expected some, ascending, each once")
        if not 1 <= futures <= MOST_FUTURES:
            raise Invalid(f"{futures} futures: expected 1 to {MOST_FUTURES}")
        if not 2 <= most <= MOST_MOMENTS:
            raise Invalid(f"{most} moments: expected 2 to {MOST_MOMENTS}")
        self._times = times
        self._spread = max(1, sum(each <= until_ns for each in times))
        self.futures = futures
        self.most = most
        self._found: dict[int, dict[Outcome, int]] = {}
        """For each place in the times that was tried: what its futures came to so far."""
        self._asked: dict[int, int] = {}
        """For each of them, how many futures were asked for."""
        self._places = {at_ns: place for place, at_ns in enumerate(times)}

    def next_round(self) -> list[Future]:
        """The futures to be run next, once those of the round before are; none when all is done."""
        places = self._next_places() if self._found else self._first_places()
        asked: list[Future] = []
        for place in places:
            self._found.setdefault(place, dict.fromkeys(Outcome, 0))
            first = self._asked.get(place, 0) + 1
            self._asked[place] = first + self.futures - 1
            at_ns = self._times[place]
            asked += [Future(at_ns, first + number) for number in range(self.futures)]
        return asked

    def add(self, future: Future, outcome: Outcome) -> Point:
        """Count what a future came to; how its moment stands."""
        found = self._found[self._places[future.at_ns]]
        found[outcome] += 1
        return _point(future.at_ns, found)

    @property
    def points(self) -> list[Point]:
        """What is known so far, in the order of time; moments without any future are left out."""
        return [
            _point(self._times[place], found)
            for place, found in sorted(self._found.items())
            if any(found.values())
        ]

    @property
    def last_safe(self) -> Point | None:
        """The last moment tried at which most futures still escape; None if there is none."""
        return next((each for each in reversed(self.points) if each.most_escape), None)

    @property
    def first_after(self) -> Point | None:
        """The next moment that was tried after `last_safe`: most futures fail there.

        None if there is no safe one, or if that is the last of all that were tried.
        """
        safe = self.last_safe
        later = [each for each in self.points if safe and each.at_ns > safe.at_ns]
        return later[0] if later else None

    @property
    def is_clear(self) -> bool:
        """Whether the futures of `last_safe` and `first_after` differ more than by chance."""
        safe, after = self.last_safe, self.first_after
        return safe is not None and after is not None and safe.bounds[1] < after.bounds[0]

    def _first_places(self) -> list[int]:
        count = min(self._spread, max(2, self.most // 2))
        return sorted({each * (self._spread - 1) // max(1, count - 1) for each in range(count)})

    def _next_places(self) -> list[int]:
        """Where to go on.

        Between the last safe moment and the next, as long as there is something between them; then
        these two again, until they differ clearly; then wherever the share jumps most.
        """
        left = self.most - sum(self._asked.values()) // self.futures
        if left < 1:
            return []
        end = len(self._times)  # there it has failed
        tried = sorted(self._found)
        shares = {place: _point(0, self._found[place]).share for place in tried} | {end: 1.0}
        pairs = list(zip(tried, [*tried[1:], end], strict=True))
        safe = max((each for each in tried if shares[each] < 0.5), default=None)
        for one, other in pairs:
            if one == safe and other - one > 1:
                return [(one + other) // 2]
            if one == safe and other < end and left > 1 and not self.is_clear:
                return [one, other]
        wide = [each for each in pairs if each[1] - each[0] > 1]
        jumps = {pair: abs(shares[pair[1]] - shares[pair[0]]) for pair in wide}
        widest = max(jumps, key=lambda pair: jumps[pair], default=None)
        if widest is None or not jumps[widest]:
            return []
        return [sum(widest) // 2]


def _point(at_ns: int, found: Mapping[Outcome, int]) -> Point:
    return Point(at_ns, **{each.value: found[each] for each in Outcome})
