"""The rules of space, of clocks and of age, each at its edge."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from segments.protocol.record import RedoRecord
from sim.check import rules_of_availability, rules_of_clocks, rules_of_floors, rules_of_space
from sim.check.invariants import Broken
from sim.plan.schedule import Operation
from sim.plan.seeds import Seeds
from sim.world.history import Call
from sim.world.wall_clock import WallClock

CALL = Call(1, Operation(at_ns=0, client=0, kind="put", pages=(0,)), 0, "writer-1")
SIX = ["A0", "B0", "C0", "D0", "E0", "F0"]
ROOM, SHORT = (9, 10), (10, 10)


def mtr(*clocks: int) -> list[RedoRecord]:
    last = len(clocks)
    return [
        RedoRecord(lsn, 0, 0, b"x", 1, lsn == last, lsn - 1, lsn - 1, lsn - 1, clock)
        for lsn, clock in enumerate(clocks, 1)
    ]


def said(*spaces: tuple[int, int]) -> dict[str, tuple[int, int]]:
    return dict(zip(SIX, spaces, strict=True))


@pytest.mark.parametrize(
    ("predicate", "good", "bad"),
    [
        (rules_of_space.tells_its_space, ("A0", (9, 20), 9, 20), ("A0", (8, 20), 9, 20)),
        (rules_of_space.tells_its_space, ("A0", (9, 20), 9, 20), ("A0", (9, 0), 9, 20)),
        (rules_of_space.begins_nothing_when_full,
         ("w", 0, said(SHORT, SHORT, ROOM, ROOM, (99, 0), ROOM)),
         ("w", 0, said(SHORT, SHORT, ROOM, ROOM, SHORT, ROOM))),
        (rules_of_availability.has_no_room, (CALL, [SIX], {"A0", "B0", "C0"}),
         (CALL, [SIX], {"A0", "B0"})),
        (rules_of_availability.hears_of_room, ("w", [0], {0: SIX}, {"A0", "B0", "C0"}),
         ("w", [0], {0: SIX}, {"A0", "B0"})),
        (rules_of_clocks.carries_the_clock, ("w", 7, mtr(0, 7)), ("w", 7, mtr(0, 6))),
        (rules_of_clocks.carries_the_clock, ("w", 0, mtr(0, 1)), ("w", 0, mtr(0, 0))),
        (rules_of_clocks.carries_the_clock, ("w", 7, mtr(0, 7)), ("w", 7, mtr(7, 7))),
        (rules_of_floors.keeps_what_is_young, ("w", 9, 9, 0.5), ("w", 10, 9, 0.5)),
    ],
)  # fmt: skip
def test_a_rule_tells_the_last_value_that_is_right_from_the_first_that_is_wrong(
    predicate: Callable[..., object], good: tuple[Any, ...], bad: tuple[Any, ...]
) -> None:
    predicate(*good)
    with pytest.raises(Broken):
        predicate(*bad)


def test_the_clock_on_the_wall_jumps_and_is_the_same_in_each_run() -> None:
    clock, again = WallClock(Seeds(3)), WallClock(Seeds(3))
    shown = [clock.at(ms * 1_000_000) for ms in range(2_000)]
    assert shown == [again.at(ms * 1_000_000) for ms in range(2_000)]
    steps = [after - before for before, after in pairwise(shown)]
    assert min(steps) < 0 < max(steps)
