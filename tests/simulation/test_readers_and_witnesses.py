"""What reviews have found beyond the deliberate bugs: schedules that broke the code or the checks.

The first schedules broke the code itself; the others plant a mistake that no check used to see.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import attrs
import pytest

from segments.protocol.messages import GossipRecords, InstallTable, Seal, WriteBatch
from segments.protocol.record import RedoRecord
from segments.protocol.run import NO_RECORDS, encode_run
from segments.protocol.truncation import TruncationTable
from sim.bugs import Bug, Edit
from sim.bugs.plan import Plan
from sim.run import RunResult, Verdict, run
from sim.world.history import Outcome
from tests.store_rig import FIRST, SECOND, TINY, StoreRig, records

# ---- floors of writers that never opened, or are gone --------------------------------------------


def floor_of_a_writer_that_never_opened(end_ms: float) -> Plan:
    """LSN 3 is on B0 alone. Writer 2 finds it, tells group 1 of its table, and crashes.

    Writer 3 does not hear of B0, and opens at VDL 2.
    """
    plan = Plan(end_ms=end_ms, pg_count=2, retention_lsns=0, fold_bytes=1, collect_ratio=0.01)
    plan.put(6, 0, 1)
    plan.cut(150, "writer-1", "A0,C0,D0,E0,F0")
    plan.keep_apart(150)
    plan.put(160, 0, client=1)
    plan.fault(165, "crash_writer")
    plan.cut(165, "D0,E0,F0", "writer-2")
    plan.fault(166, "recover")
    plan.cut(166.55, "writer-2", "A0,B0,C0,D0,E0,F0")
    plan.fault(260, "crash_writer")
    plan.part(260, "B0", "writer-3")
    plan.fault(261, "recover")
    return plan


def passes(result: RunResult) -> None:
    assert (result.verdict, result.finding) == (Verdict.PASSED, "")


def test_a_writer_that_never_opened_leaves_no_floor_behind() -> None:
    plan = floor_of_a_writer_that_never_opened(600)
    plan.get_at(335, 0, 0.0, client=3)
    result = run(plan.schedule("floor-above-vdl"))
    passes(result)
    (read,) = [call for call in result.calls if call.operation.kind == "get_at"]
    assert (read.outcome, read.lsn, read.writer) == (Outcome.OK, 2, "writer-3")


def test_a_floor_from_a_planned_vdl_would_be_found() -> None:
    edit = Edit("aurora.core:WriterCore.tick", "if self.opened:", "if True:")
    with planted(edit):
        result = run(floor_of_a_writer_that_never_opened(600).schedule("floor-above-vdl"))
    assert result.invariant == "floor-below-readers"
    assert "opens at VDL 2 with the floor at 3" in result.finding


def test_a_restart_does_not_bring_back_a_former_writers_floor() -> None:
    rig = StoreRig()
    rig.step(WriteBatch(FIRST, 1, 0, 0, 4, False, encoded(1, 2, 3, 4)), "writer-1")
    rig.settle()
    rig.step(WriteBatch(FIRST, 2, 4, 4, 4, False, NO_RECORDS), "writer-1")  # the floor is 4
    rig.step(Seal(SECOND, 1), "writer-2")
    rig.settle()
    table = TruncationTable(FIRST).extended(SECOND, 5, 105)
    rig.step(InstallTable(SECOND, 0, table), "writer-2")  # on its way to the disk, when
    rig.step(GossipRecords(SECOND, "B0", TruncationTable(FIRST), 4, encoded(5)), "B0")
    rig.settle()
    before = rig.state
    rig.restart()
    assert rig.state.table.epoch == before.table.epoch == SECOND
    assert rig.state.scl == before.scl == 5
    assert rig.state.announced_floor == before.announced_floor == 0


def test_what_was_collected_for_a_former_writer_is_no_floor_of_the_next() -> None:
    """A segment served readers of a later writer who were below it, and told its peers."""
    rig = StoreRig(config=attrs.evolve(TINY, fold_bytes=1, collect_ratio=0.01))
    rig.take(records(range(1, 4)), vdl=3, floor=3)
    rig.work()
    rig.seal(SECOND)
    rig.install(TruncationTable(FIRST).extended(SECOND, 3, 103))
    assert (rig.state.floor, rig.state.announced_floor) == (3, 0)
    rig.take(records([104], prev=3, after=records(range(1, 4))), epoch=SECOND, vdl=3)
    rig.restart()
    assert (rig.state.floor, rig.state.announced_floor, rig.state.vdl) == (3, 0, 3)


def encoded(*lsns: int) -> bytes:
    return encode_run(
        [RedoRecord(lsn, 0, 0, b"x", lsn, True, lsn - 1, lsn - 1, lsn - 1) for lsn in lsns]
    )


# ---- mistakes that no check used to see ----------------------------------------------------------


def planted(*edits: Edit) -> AbstractContextManager[None]:
    return Bug(name="mistake", summary="", section="", edits=tuple(edits)).apply()


def view_beside_writes() -> Plan:
    """A view stays open while ten writes pass; nothing is retained but for readers."""
    plan = Plan(end_ms=900, retention_lsns=0, buffer_pool_pages=1, fold_bytes=1, collect_ratio=0.01)
    for at_ms in (6, 8, 10):
        plan.put(at_ms, 0)
    plan.view(20, 0, hold_s=0.4, client=1)
    for at_ms in range(40, 240, 20):
        plan.put(at_ms, 1 + at_ms // 20 % 2, client=2)
    return plan


def test_a_writer_that_forgets_its_readers_is_found() -> None:
    passes(run(view_beside_writes().schedule("view")))
    forgets = Edit(
        "aurora.reading:Reading.update_floor",
        "min([kept_from, *self._read_points])",
        "kept_from",
    )
    with planted(forgets):
        result = run(view_beside_writes().schedule("view"))
    assert result.invariant == "floor-below-readers"


def rot_and_restart() -> Plan:
    """A segment's first frame with records rots, it restarts, and knows no more what it had."""
    plan = Plan(end_ms=300)
    for at_ms in range(10, 40, 2):
        plan.put(at_ms, 0)
    plan.fault(60, "bit_rot", "A", bits=1, offset=200)
    plan.fault(70, "crash", "A")
    plan.fault(80, "restart", "A")
    return plan


@pytest.mark.parametrize(
    "edits",
    [
        (Edit("segments.wal_scan:scan_steps", "part.data.find(MAGIC, at + 1)", "-1"),),
        (
            Edit(
                "segments.state:SegmentState.whole",
                "self.lacks_records or self.lacks_table",
                "False",
            ),
        ),
    ],
    ids=["damage taken for a torn tail", "damaged, and calls itself whole"],
)
def test_a_witness_that_has_forgotten_is_found(edits: Sequence[Edit]) -> None:
    passes(run(rot_and_restart().schedule("rot")))
    with planted(*edits):
        result = run(rot_and_restart().schedule("rot"))
    assert result.invariant == "scl-has-no-gap"
    assert "restarts as a witness" in result.finding
