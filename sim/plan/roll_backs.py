"""Disks that become older copies of themselves, added to the faults that a run has anyway.

From a stream of their own, so that whatever else a seed draws stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from sim.plan.chance import below, between, choice, happens
from sim.plan.damage import DamageBudget
from sim.plan.episodes import segments_of
from sim.plan.schedule import MS, Action, Knobs

_LETTERS: Final = "ABCDEF"
_SHARE: Final = 0.4
"""Of the runs, those with such a disk."""
_LOSSES: Final = ("wipe", "rot_promise")


def with_roll_backs(random: Random, knobs: Knobs, faults: Sequence[Action]) -> list[Action]:
    """``faults``, and in some runs a disk or two that are rolled back among them.

    Such a disk counts as one that is lost.
    """
    found = list(faults)
    if not happens(random, _SHARE):
        return found
    budget = _budget(knobs, faults)
    for _ in range(between(random, 1, 2)):
        segment = f"{choice(random, _LETTERS)}{below(random, knobs.pg_count)}"
        at_ns = knobs.duration_ns // 20 + below(random, knobs.duration_ns * 8 // 10)
        if not budget.may_go(segment):
            continue
        if happens(random, 0.6):
            age_ns = min(at_ns, choice(random, (5, 50, 500)) * MS)
            found.append(Action(at_ns=at_ns - age_ns, kind="copy_disk", target=segment))
        down_ms = choice(random, (0.1, 2.0, 20.0))
        params = {"harmless": 1, "down_ms": down_ms}
        found.append(Action(at_ns=at_ns, kind="roll_back", target=segment, params=params))
        if happens(random, 0.6):
            later_ns = at_ns + int(down_ms * MS) + below(random, choice(random, (1, 5, 30)) * MS)
            kind = choice(random, ("recover", "take_over"))
            found.append(Action(at_ns=later_ns, kind=kind))
    return [each for each in found if each.at_ns < knobs.duration_ns]


def _budget(knobs: Knobs, faults: Sequence[Action]) -> DamageBudget:
    """What the other faults take."""
    budget = DamageBudget()
    for fault in faults:
        for segment in segments_of(fault.target, knobs.pg_count):
            if fault.kind in _LOSSES:
                budget.may_go(segment)
            elif fault.kind == "bit_rot":
                budget.may_rot(segment)
    return budget
