"""The first difference of two traces, event by event, and both its sides in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Final

import attrs

from sim.plan.schedule import Schedule
from sim.story.trace_words import Teller, Told
from sim.wording import counted

_END: Final = object()


@attrs.frozen
class Difference:
    """Where two traces part."""

    events: int
    """How many events are the same in both; so the number of the first that is not, from 0."""
    common: Told | None
    """The last event that they have in common; None if there is none."""
    sides: tuple[Told | None, Told | None]
    """The first event that differs, in each; None of the one that has ended."""
    hint: str = ""
    """In what the two differ, when their words do not tell."""

    def lines(self, names: tuple[str, str]) -> list[str]:
        """All of it for a person; ``names`` are those of the two traces."""
        same = f"the same so far: {counted(self.events, 'line')} of the trace"
        found = [same if self.common is None else f"{same}; the last of them:"]
        if self.common is not None:
            found.append(f"  {self.common}")
        found.append("the first that differs:")
        for name, side in zip(names, self.sides, strict=True):
            found.append(f"  {name}: {side or 'nothing more'}")
        return [*found, f"  {self.hint}"] if self.hint else found


def first_unlike(left: Iterable[object], right: Iterable[object]) -> int | None:
    """The number, from 0, of the first item in which two traces differ; None if in none."""
    pairs = enumerate(zip_longest(left, right, fillvalue=_END))
    return next((number for number, (one, other) in pairs if one != other), None)


def first_difference(
    left: Iterable[bytes],
    right: Iterable[bytes],
    schedules: tuple[Schedule, Schedule] | None = None,
) -> Difference | None:
    """Where two traces, as `Trace.sink` is given them, part; None if they are the same.

    With the ``schedules`` of the two runs, calls are told.
    """
    tellers = (
        Teller(schedules[0] if schedules else None),
        Teller(schedules[1] if schedules else None),
    )
    last: bytes | None = None
    both: Iterator[tuple[bytes | None, bytes | None]] = zip_longest(left, right)
    for number, (one, other) in enumerate(both):
        if one == other:
            assert one is not None
            last = one
            tellers[0].see(one)
            tellers[1].see(one)
            continue
        told = [None if each is None else who.tell(each) for each, who in _of(one, other, tellers)]
        common = None if last is None else tellers[0].tell(last)
        return Difference(number, common, (told[0], told[1]), _hint(one, other, told))
    return None


def _of(
    one: bytes | None, other: bytes | None, tellers: tuple[Teller, Teller]
) -> Iterator[tuple[bytes | None, Teller]]:
    yield one, tellers[0]
    yield other, tellers[1]


def _hint(one: bytes | None, other: bytes | None, told: list[Told | None]) -> str:
    left, right = told
    if one is None or other is None or left is None or right is None or str(left) != str(right):
        return ""
    if left.at_ns != right.at_ns:
        return f"the two moments: {left.at_ns:,} ns and {right.at_ns:,} ns"
    return f"byte {first_unlike(one, other)} of these events is the first that differs"
