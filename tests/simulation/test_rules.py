"""The rules of logs, floors, bounds, the wire and the end, each at its edge.

And that no setting is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from aurora.config import ClusterConfig, EngineConfig, RouterConfig
from aurora.recovery_plan import RecoveryPlan
from segments.config import SegmentConfig, settings_of
from segments.core import Pending
from segments.manifest import PROMISE, LogFile, filled
from segments.protocol import codec
from segments.protocol.ids import NO_EPOCH, Lsn, VolumeEpoch
from segments.protocol.messages import (
    LogReply,
    NeedTable,
    PagesListed,
    SealReply,
)
from segments.protocol.run import encode_run, read_run
from segments.protocol.truncation import TruncationRange, TruncationTable
from segments.restart import plan_restart
from segments.state import SegmentState
from segments.wal import Promise, RecordsEntry, encode_body, encode_promise
from segments.wal_scan import LogPart
from sim.check import (
    rules_of_bounds,
    rules_of_disks,
    rules_of_floors,
    rules_of_logs,
    rules_of_the_end,
    rules_of_wire,
)
from sim.check.invariants import Broken
from sim.check.log_checks import DurableLog
from sim.check.reference_model import Reference, WriterView, ranges_after
from sim.world.history import Call
from tests.store_rig import FIRST, SECOND, THIRD, TINY, StoreRig, batch, records

SIX = tuple("ABCDEF")


def reference_of_ten(lal: int = 5) -> tuple[Reference, WriterView]:
    """LSNs 1 to 5 of a first writer, of which 4 and 5 are annulled, and 9 to 13 of the second."""
    reference = Reference(1)
    reference.begin_writer("W1", RecoveryPlan.fresh(FIRST, [0]), 0)
    reference.allocated("W1", records(range(1, 6)))
    table = TruncationTable(FIRST).extended(SECOND, 3, 3 + lal)
    plan = RecoveryPlan(SECOND, table, 3, 3, {0: 3}, {0: ()})
    view = reference.begin_writer("W2", plan, 0)
    reference.allocated("W2", records(range(9, 14), prev=3))
    return reference, view


EARLIER = (TruncationRange(2, 4, FIRST),)


def plan_of(*ranges: tuple[Lsn, Lsn]) -> RecoveryPlan:
    """A plan that opens at VDL 9 with this table."""
    table = TruncationTable(SECOND, tuple(TruncationRange(*each, SECOND) for each in ranges))
    return RecoveryPlan(SECOND, table, 9, 9, {0: 9}, {0: ()})


def pages_as_of(base_lsn: Lsn, *, vdl: Lsn) -> SegmentState:
    """A segment that has pages in place of its log up to ``base_lsn``."""
    state: SegmentState = state_at(base_lsn)
    state.index.reset(base_lsn)
    state.vdl = vdl
    return state


def promised(*epochs: VolumeEpoch) -> bytes:
    """Two slots, each with a promise of an epoch and its table."""
    return b"".join(encode_promise(Promise(each, each)) for each in epochs)


def run_of(count: int) -> bytes:
    return encode_run(records(range(1, count + 1)))


def log_reply(count: int) -> LogReply:
    return LogReply(FIRST, "A0", 1, 0, count, count, run_of(count))


def seal_reply(epoch: VolumeEpoch, scl: int, table: VolumeEpoch = FIRST) -> SealReply:
    return SealReply(epoch, "A0", 1, scl, 0, 0, TruncationTable(table))


def listed(count: int) -> PagesListed:
    return PagesListed(FIRST, "A0", 1, 9, 0, 99, tuple(range(count)))


def waiting(*counts: int) -> list[Pending]:
    return [Pending(RecordsEntry(0, 0, b"x" * count), FIRST) for count in counts]


def lacking(through: int) -> list[Pending]:
    run = run_of(through)
    return [Pending(RecordsEntry(0, 0, run), FIRST, run=read_run(run))]


def log_of(count: int, frames: int = 1) -> LogPart:
    """A file of a log, with so many records in each of its frames."""
    body = encode_body(FIRST, [RecordsEntry(0, 0, run_of(count))])
    _, data = filled(LogFile(1, 0, 5), [body] * frames)
    return LogPart(5, b"".join(data))


def state_at(scl: int) -> Any:
    rig = StoreRig()
    rig.take(records(range(1, scl + 1)))
    return rig.state


def call_of(ns: int, writer: str = "") -> Any:
    return SimpleNamespace(number=1, operation=SimpleNamespace(kind="get"), invoked_ns=5,
                           returned_ns=5 + ns, writer=writer)  # fmt: skip


NAMES = ("VCL", "VDL")
TEN, VIEW = reference_of_ten()


@pytest.mark.parametrize(
    ("predicate", "good", "bad"),
    [
        (rules_of_logs.writers_marks_rise, ("W", NAMES, (4, 3), (4, 4)),
         ("W", NAMES, (4, 3), (5, 2))),
        (rules_of_logs.segments_marks_rise, ("A0", NAMES, (4, 3), (4, 3)),
         ("A0", NAMES, (4, 3), (3, 3))),
        (rules_of_logs.vdl_is_backed, ("W", 4, 4), ("W", 5, 4)),
        (rules_of_logs.commit_is_on_disks, (4, 4), (5, 4)),
        (rules_of_logs.left_the_pool_durable, ("W", 1, 4, 4), ("W", 1, 5, 4)),
        (rules_of_logs.annuls_exactly, ("", plan_of((2, 4), (10, 15)), EARLIER, 5, NO_EPOCH),
         ("", plan_of((2, 4), (11, 15)), EARLIER, 5, NO_EPOCH)),
        (rules_of_logs.annuls_exactly, ("", plan_of((2, 4), (10, 15)), EARLIER, 5, NO_EPOCH),
         ("", plan_of((10, 15)), EARLIER, 5, NO_EPOCH)),
        (rules_of_logs.annuls_exactly, ("", plan_of((10, 15)), EARLIER, 5, FIRST),
         ("", plan_of((2, 4), (10, 15)), EARLIER, 5, FIRST)),
        (rules_of_logs.settled_is_adopted, ("A0", FIRST, {"A0", "B0"}, ("A0", "B0")),
         ("A0", FIRST, {"A0"}, ("A0", "B0"))),
        (rules_of_logs.knows_it_is_settled, ("A0", TruncationTable(FIRST, settled=FIRST)),
         ("A0", TruncationTable(SECOND, settled=FIRST))),
        (rules_of_logs.table_as_made, ("A0", VIEW.table, VIEW),
         ("A0", TruncationTable(SECOND), VIEW)),
        (rules_of_floors.keeps_what_is_retained, (TEN, VIEW, 2, 12, 5), (TEN, VIEW, 3, 12, 5)),
        (rules_of_floors.keeps_what_is_retained, (TEN, VIEW, 0, 12, None),
         (TEN, VIEW, 1, 12, None)),
        (rules_of_floors.floor_is_raised, (TEN, VIEW, 2, 12, 5, 99), (TEN, VIEW, 1, 12, 5, 99)),
        (rules_of_floors.floor_is_raised, (TEN, VIEW, 1, 12, 5, 1), (TEN, VIEW, 1, 12, 5, 2)),
        (rules_of_wire.acknowledges_no_more_than_sealed, ("A0", FIRST, 7, [(SECOND, 7)]),
         ("A0", FIRST, 8, [(SECOND, 7)])),
        (rules_of_wire.acknowledges_no_more_than_sealed, ("A0", SECOND, 8, [(SECOND, 7)]),
         ("A0", SECOND, 8, [(THIRD, 7)])),
        (rules_of_wire.answers_alike, ("A0", None, seal_reply(SECOND, 3)),
         ("A0", seal_reply(THIRD, 3), seal_reply(SECOND, 3))),
        (rules_of_wire.answers_alike, ("A0", seal_reply(SECOND, 3), seal_reply(SECOND, 2, SECOND)),
         ("A0", seal_reply(SECOND, 3), seal_reply(SECOND, 2))),
        (rules_of_wire.said_is_on_disk, ("A0", "it", FIRST, FIRST, 3, state_at(3)),
         ("A0", "it", FIRST, FIRST, 4, state_at(3))),
        (rules_of_wire.said_is_on_disk, ("A0", "it", FIRST, FIRST, 3, state_at(3)),
         ("A0", "it", SECOND, FIRST, 3, state_at(3))),
        (rules_of_wire.brings_what_it_acknowledged, (FIRST, 3, seal_reply(SECOND, 3, FIRST)),
         (FIRST, 4, seal_reply(SECOND, 3, FIRST))),
        (rules_of_wire.brings_what_it_acknowledged, (FIRST, 4, seal_reply(THIRD, 3, SECOND)),
         (SECOND, 3, seal_reply(THIRD, 3, FIRST))),
        (rules_of_disks.knows_its_log, ("A0", 9, 9), ("A0", 10, 9)),
        (rules_of_disks.restores_its_promise, ("A0", state_at(1), promised(FIRST, NO_EPOCH)),
         ("A0", state_at(1), promised(NO_EPOCH, SECOND))),
        (rules_of_disks.restores_its_vdl, ("A0", pages_as_of(3, vdl=3)),
         ("A0", pages_as_of(3, vdl=2))),
        (rules_of_disks.is_promised_twice,
         ("A0", "it", SECOND, FIRST, promised(SECOND, SECOND)),
         ("A0", "it", SECOND, FIRST, promised(FIRST, SECOND))),
        (rules_of_wire.window_kept, ("W", "A0", 6, 4, 25, 20), ("W", "A0", 7, 4, 25, 20)),
        (rules_of_wire.sends_again_in_time, ("W", "A0", 0, 20, 20, 30, 30),
         ("W", "A0", 0, 19, 20, 30, 30)),
        (rules_of_wire.sends_again_in_time, ("W", "A0", 0, 20, 20, 30, 30),
         ("W", "A0", 0, 20, 20, 31, 30)),
        (rules_of_wire.beats_no_sooner, ("W", "A0", 20, 20), ("W", "A0", 19, 20)),
        (rules_of_wire.is_passed_on_at_once, (call_of(9, "W"), 14), (call_of(9, "W"), 13)),
        (rules_of_wire.is_passed_on_at_once, (call_of(0, "W"), 2), (call_of(1, "W"), 2)),
        (rules_of_wire.records_fit, ("W", log_reply(1), 1), ("W", log_reply(9), 1)),
        (rules_of_wire.list_fits, ("A0", listed(3), 3), ("A0", listed(4), 3)),
        (rules_of_wire.can_be_read, ("A0", codec.encode(NeedTable(FIRST, "A0"))),
         ("A0", codec.encode(NeedTable(FIRST, "A0")) + b"x")),
        (rules_of_wire.records_can_be_read, ("A0", log_reply(2)),
         ("A0", log_reply(2)._replace(records=b"x"))),
        (rules_of_bounds.mtr_fits, ("W", 2, 2, 2, 2), ("W", 2, 2, 2, 1)),
        (rules_of_bounds.mtr_fits, ("W", 2, 2, 2, 9), ("W", 3, 2, 2, 9)),
        (rules_of_bounds.part_fits, ("W", 2, 2, 2, 2), ("W", 2, 2, 2, 1)),
        (rules_of_bounds.part_fits, ("W", 2, 2, 2, 9), ("W", 3, 2, 2, 9)),
        (rules_of_bounds.old_versions_fit, ("W", 2, 2), ("W", 3, 2)),
        (rules_of_bounds.reads_fit, ("W", 2, 2), ("W", 3, 2)),
        (rules_of_logs.came_in_newest, ("W", 1, 7, 7), ("W", 1, 6, 7)),
        (rules_of_bounds.pool_fits, ("W", 8, 8, 8), ("W", 9, 0, 8)),
        (rules_of_bounds.pool_fits, ("W", 8, 8, 8), ("W", 0, 9, 8)),
        (rules_of_bounds.outgoing_fits, ("W", 0, 25, 10, 0, 5), ("W", 0, 26, 10, 0, 5)),
        (rules_of_bounds.outgoing_fits, ("W", 0, 35, 10, 30, 5), ("W", 0, 36, 10, 30, 5)),
        (rules_of_bounds.durable_log_is_let_go, ("W", 0, 11, 10, 7, 7), ("W", 0, 11, 10, 6, 7)),
        (rules_of_bounds.queue_fits, ("A0", waiting(900, 0), 73), ("A0", waiting(900, 1), 73)),
        (rules_of_bounds.queue_fits, ("A0", waiting(9, 64), 137), ("A0", waiting(9, 65), 137)),
        (rules_of_bounds.write_fits, ("A0", 9_999, 1, 999), ("A0", 9_999, 2, 999)),
        (rules_of_bounds.unlinked_fits, ("A0", 4, 4), ("A0", 5, 4)),
        (rules_of_bounds.fetched_once, ("W", "0", 3, [4, 5]), ("W", "0", 3, [4, 4])),
        (rules_of_bounds.gives_way, ("W", 5, 4), ("W", 6, 4)),
        (
            rules_of_bounds.gives_way_once_sealed,
            ("W", FIRST, False, SECOND), ("W", FIRST, True, SECOND),
        ),
        (rules_of_bounds.redo_is_let_go, ("W", 3, 8, 7), ("W", 3, 7, 7)),
        (rules_of_bounds.holds_back_little, ("A0", [99, 4], 2, 4), ("A0", [99, 5], 2, 4)),
        (rules_of_bounds.holds_back_little, ("A0", [1, 1], 2, 4), ("A0", [1, 1, 1], 2, 4)),
        (rules_of_bounds.few_ended_writers, (2, 2), (3, 2)),
        (rules_of_bounds.knows_its_queue, ("A0", 0, []), ("A0", 1, [])),
        (rules_of_bounds.writes_what_it_lacks, ("A0", lacking(2), 1), ("A0", lacking(2), 2)),
        (rules_of_bounds.promises_with_reason, ("A0", promised(FIRST, SECOND), False),
         ("A0", promised(FIRST, FIRST), False)),
        (rules_of_bounds.promises_with_reason, ("A0", promised(FIRST, FIRST), True),
         ("A0", promised(FIRST, FIRST), False)),
        (rules_of_bounds.file_fits, ("A0", "wal-1", log_of(1, frames=2), 9),
         ("A0", "wal-1", log_of(1, frames=3), 9)),
        (rules_of_bounds.runs_fit, ("A0", log_of(1), 1), ("A0", log_of(9), 1)),
        (rules_of_bounds.answered_in_time, (call_of(9), 9), (call_of(10), 9)),
        (rules_of_the_end.is_lost_rightly, ("A0", "gone", True), ("A0", "gone", False)),
        (rules_of_the_end.all_is_durable, ("W", 4, 4), ("W", 3, 4)),
        (rules_of_the_end.is_heard_of, ("W", "A0", 4, 4), ("W", "A0", 3, 4)),
        (rules_of_the_end.floor_is_known, ("A0", state_at(3), 0, 0), ("A0", state_at(3), 3, 0)),
        (rules_of_the_end.log_is_held, ("A0", 0, None, state_at(3)),
         ("A0", 0, 2, state_at(3))),
    ],
)  # fmt: skip
def test_a_rule_tells_the_last_value_that_is_right_from_the_first_that_is_wrong(
    predicate: Callable[..., object], good: tuple[object, ...], bad: tuple[object, ...]
) -> None:
    predicate(*good)
    with pytest.raises(Broken):
        predicate(*bad)


# ---- what a disk holds, what is left -------------------------------------------------------------


def test_a_disk_that_does_not_restore_its_segment_is_told() -> None:
    rig = StoreRig()
    rig.take(records(range(1, 4)))
    log, slots = rig.log, bytes(rig.disk.files[PROMISE])

    def hold(log: bytes, promises: bytes) -> None:
        files: dict[str, bytes | bytearray] = dict(rig.disk.files)
        files |= {"wal-1": log, PROMISE: promises}
        plan = plan_restart("A0", files, rig.config)
        rules_of_the_end.disk_is_whole("A0", rig.state, plan, len(log))

    hold(log, slots)
    first = len(StoreRig().log)
    rotten = log[: first // 2] + bytes([log[first // 2] ^ 1]) + log[first // 2 + 1 :]
    torn_slot = slots[:-1] + bytes([slots[-1] ^ 1])
    for spoilt, promises, told in (
        (log + b"x", slots, "can be read up to byte"),
        (rotten, slots, "with damage at bytes 0 to"),
        (log, torn_slot, "the promise slots of A0"),
        (log[:first], slots, r"says SCL, epoch, table, whole, folded, floor \(3,"),
    ):
        with pytest.raises(Broken, match=told):
            hold(spoilt, promises)


def test_a_disk_that_restores_other_layers_is_told() -> None:
    rig = StoreRig(config=attrs.evolve(TINY, fold_bytes=1))
    rig.take(records(range(1, 4)), vdl=3)
    before = dict(rig.disk.files)
    assert rig.work()
    plan = plan_restart("A0", before, rig.config)
    with pytest.raises(Broken, match=r"folded, floor \(3, .*, 3, 0\); its disk .*, 0, 0\)"):
        rules_of_the_end.disk_is_whole("A0", rig.state, plan, plan.files.log_bytes)


def test_a_segment_that_has_not_come_to_rest_is_told() -> None:
    rig = StoreRig()
    rules_of_the_end.segment_is_idle("A0", rig.core)
    rig.core.step("writer", batch(records([1])), 0.0)
    with pytest.raises(Broken, match="A0 waits for its disk, though"):
        rules_of_the_end.segment_is_idle("A0", rig.core)
    rig.settle()
    rig.core._promised = SECOND
    with pytest.raises(Broken, match=r"A0 has promised epoch .*, beyond "):
        rules_of_the_end.segment_is_idle("A0", rig.core)


# ---- the model's own computations ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "vdl", "after"),
    [
        ((), 0, ((1, 6),)),
        (((4, 9),), 3, ((4, 14),)),  # nothing was made durable in between
        (((4, 9),), 10, ((4, 9), (11, 16))),
        (((2, 4), (6, 9)), 5, ((2, 4), (6, 14))),
        (((2, 4), (4, 9)), 12, ((2, 9), (13, 18))),
    ],
)
def test_what_a_recovery_annuls(before: Any, vdl: int, after: Any) -> None:
    ranges = [TruncationRange(start, end, FIRST) for start, end in before]
    assert ranges_after(ranges, vdl, 5, NO_EPOCH) == after


def test_what_a_recovery_annuls_when_part_of_it_is_settled() -> None:
    """The settled ranges are left out, and still nobody is given their LSNs."""
    ranges = [TruncationRange(2, 4, FIRST), TruncationRange(6, 9, SECOND)]
    assert ranges_after(ranges, 10, 5, FIRST) == ((6, 9), (11, 16))
    assert ranges_after(ranges, 10, 5, SECOND) == ((11, 16),)
    assert ranges_after(ranges, 5, 5, SECOND) == ((6, 14),)


def test_what_four_of_six_disks_hold_is_durable() -> None:
    reference, view = reference_of_ten()
    durable = DurableLog(reference, {0: SIX})
    scls = dict(zip(SIX, (13, 13, 12, 11, 3, 0), strict=True))
    held = {(SECOND, 0): scls}
    assert durable.vdl(view, held) == 11
    scls["E"] = 12
    assert durable.vdl(view, held) == 12
    assert durable.vdl(view, {}) == 12  # it never goes back
    assert DurableLog(reference, {0: SIX}).vdl(view, {(FIRST, 0): scls}) == 3


def test_annulled_records_do_not_count() -> None:
    reference, view = reference_of_ten()
    assert [reference.live_count(view, each, 12) for each in (0, 2, 3, 5, 9, 12)] == [
        7, 5, 4, 4, 3, 0,
    ]  # fmt: skip
    assert (reference.last_live(view), reference.newest_of(view, 1)) == (13, 13)


# ---- settings ------------------------------------------------------------------------------------


def test_each_setting_is_held_by_a_rule_or_it_is_said_why_not() -> None:
    classes = {
        "cluster": ClusterConfig, "engine": EngineConfig, "router": RouterConfig,
        "segment": SegmentConfig,
    }  # fmt: skip
    settings = {
        f"{part}.{each.name}" for part, kind in classes.items() for each in settings_of(kind)
    }
    held, not_held = set(rules_of_bounds.HELD_BY), set(rules_of_bounds.NOT_HELD)
    assert held | not_held == settings
    assert not held & not_held
    assert all(hasattr(each, "rule") for each in rules_of_bounds.HELD_BY.values())
    assert all(rules_of_bounds.NOT_HELD.values())


def test_a_call_stands_for_what_clients_make() -> None:
    """What `call_of` makes up has the names of the real one."""
    names = {each.name for each in Call.__attrs_attrs__}
    assert {"number", "operation", "invoked_ns", "returned_ns", "writer"} <= names
