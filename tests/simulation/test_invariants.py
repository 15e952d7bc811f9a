"""Predicates of invariants, each given the broken situation that it is there to tell."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import trio

from aurora.recovery import RecoveryPlan
from segments.protocol.ids import VolumeEpoch
from segments.protocol.truncation import TruncationTable
from segments.wal import Promise, encode_promise
from sim import invariants
from sim.disk import SimulatedDisk
from sim.generate import generate
from sim.invariants import Broken
from sim.oracle import Reference
from sim.world import run
from tests.segment_rig import FIRST, SECOND, THIRD, SegmentRig, records


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


def test_a_promise_that_is_not_on_disk_is_told() -> None:
    rig = SegmentRig()
    before = rig.promises
    rig.seal(SECOND)
    invariants.promise_kept("A0", rig.state, rig.promises)
    with pytest.raises(Broken, match=r"A0 answers by .*; its disk promises"):
        invariants.promise_kept("A0", rig.state, before)


def test_a_table_that_is_not_promised_is_told() -> None:
    """The log has the table; but if that is spoilt, nothing says that there was one."""
    rig = SegmentRig()
    rig.install(TruncationTable(FIRST).extended(SECOND, 0, 9))
    invariants.promise_kept("A0", rig.state, rig.promises)
    only_sealed = encode_promise(Promise(SECOND, FIRST)) * 2
    with pytest.raises(Broken, match=r"A0 answers by .*; its disk promises"):
        invariants.promise_kept("A0", rig.state, only_sealed)


def test_slots_without_any_promise_are_told() -> None:
    with pytest.raises(Broken, match="A0 has lost its promise: no promise in 256 bytes"):
        invariants.promise_kept("A0", SegmentRig().state, bytes(256))


def test_a_run_whose_disks_forget_promises_ends_with_that(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forget(disk: SimulatedDisk, data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(SimulatedDisk, "write_promise", forget)
    result = run(generate(1))
    assert result.invariant == "epochs-only-rise"
    assert "its disk promises" in result.finding


@pytest.mark.parametrize(
    ("epoch", "table_epoch", "told"),
    [
        (SECOND, FIRST, None),
        (THIRD, FIRST, None),
        (FIRST, FIRST, r"in epoch .* takes gossip"),
        (SECOND, SECOND, r"with the table of .* takes gossip"),
    ],
)
def test_gossip_of_the_past_is_told(
    epoch: VolumeEpoch, table_epoch: VolumeEpoch, told: str | None
) -> None:
    rig = SegmentRig()
    rig.seal(SECOND)
    with nullcontext() if told is None else pytest.raises(Broken, match=told):
        invariants.gossip_of_our_epoch("A0", rig.state, SECOND, epoch, table_epoch)
