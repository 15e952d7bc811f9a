"""Predicates of invariants, each given the broken situation that it is there to tell."""

from __future__ import annotations

import pytest

from aurora.recovery import RecoveryPlan
from segments.protocol.truncation import TruncationTable
from sim import invariants
from sim.invariants import Broken
from sim.oracle import Reference
from tests.segment_rig import FIRST, SECOND, SegmentRig, records


def test_a_record_in_an_annulled_range_is_told() -> None:
    rig = SegmentRig()
    rig.take(records(range(1, 6)))
    invariants.nothing_annulled("A0", rig.state)
    rig.state.table = TruncationTable(FIRST).extended(SECOND, 3, 99)
    with pytest.raises(Broken, match="A0 holds LSN 4, which its table annuls"):
        invariants.nothing_annulled("A0", rig.state)


@pytest.mark.parametrize(("last", "told"), [(10, False), (9, True)])
def test_a_range_that_ends_below_an_allocated_lsn_is_told(last: int, told: bool) -> None:
    reference = Reference(1)
    reference.begin_writer("W1", RecoveryPlan.fresh(FIRST, [0]), 0)
    reference.allocated("W1", records(range(1, 11)))
    table = TruncationTable(FIRST).extended(SECOND, 5, last)
    plan = RecoveryPlan(SECOND, table, 5, 5, {0: 5}, {0: ()})
    reference.begin_writer("W2", plan, 0).opened = True
    if not told:
        invariants.within_ranges(reference, FIRST, 10)
        return
    with pytest.raises(Broken, match=r"LSN 10 of epoch .+: W2 covers up to 9"):
        invariants.within_ranges(reference, FIRST, 10)
