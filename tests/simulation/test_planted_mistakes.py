"""Mistakes that are no deliberate bugs, each planted and found: what the checkers look at.

All of them run the same schedule, by hand, so that nothing drawn decides what is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import pytest

from sim.bugs.registry import Bug, Edit
from sim.plan.schedule import Schedule
from sim.run import RunResult, Verdict, run
from tests.busy import BUSY


@contextmanager
def planted(*edits: Edit) -> Iterator[None]:
    with Bug(name="mistake", summary="", section="", edits=edits).apply():
        yield


def found_by(*edits: Edit, schedule: Schedule = BUSY) -> RunResult:
    with planted(*edits):
        return run(schedule)


def test_without_a_mistake_nothing_is_found() -> None:
    result = run(BUSY)
    assert result.verdict is Verdict.PASSED, result.finding


@pytest.mark.parametrize(
    ("rule", "target", "old", "new"),
    [
        ("watermarks-only-rise", "aurora.consistency:VolumeConsistency.vcl",
         "return pgcl if pgcl >= first_lsn else self._complete_lsn", "return pgcl"),
        ("disks-are-whole", "segments.scrub:Scrub.checked",
         "if damaged or (", "if False and ("),
        ("bounds-are-kept", "aurora.buffer_pool:BufferPool.make_room",
         "target = self.capacity_pages - count", "target = self.capacity_pages + count"),
        ("bounds-are-kept", "aurora.segment_stream:SegmentStream.next_message",
         "self._config.batches_in_flight", "99"),
        ("bounds-are-kept", "segments.background:Background._rewrite_due",
         "size > config.compact_ratio * state.live_bytes()", "False"),
        ("bounds-are-kept", "segments.layers.page_cache:PageCache.put",
         "while self.size > self._limit_bytes:", "while False:"),
        ("bounds-are-kept", "segments.gossip:Gossip._answer_status",
         "self._config.gossip_bytes)", "self._config.gossip_bytes) + b'x'"),
        ("nothing-is-left", "aurora.reading:Reading.forget",
         "self._reads.pop(request_id, None)", "pass"),
        ("nothing-is-left", "aurora.reading:Reading.release",
         "if not self._read_points[read_point]:", "if self._read_points[read_point] < 0:"),
        ("nothing-is-left", "aurora.reading:Reading.end_confirmation",
         "self._confirmations.pop(confirmation.request_id, None)", "pass"),
        ("floor-follows", "aurora.retention:Retention.kept",
         "(vdl, self._lsns)", "(vdl, self._lsns + 3)"),
        ("floor-follows", "aurora.retention:Retention.kept",
         "(vdl, self._lsns)", "(vdl, self._lsns - 1)"),
        ("floor-follows", "segments.protocol.truncation:TruncationTable.lsn_behind",
         "behind -= end - start - live", "pass"),
        ("floor-follows", "segments.layers.tiers:Tiers._collection",
         "gained < max(", "gained < 4 * max("),
        ("any-read-quorum-recovers", "segments.protocol.truncation:TruncationTable.extended",
         "start = vdl + 1", "start = vdl + 2"),
        ("annuls-above-the-vdl", "segments.state:SegmentState.adopt_table",
         "self.table = table.with_settled(self.table.settled)",
         "self.table = TruncationTable(table.epoch, table.ranges[:-1])"),
        ("no-needless-loss", "segments.core:SegmentCore._acknowledge",
         "seq, self.state.scl, *", "seq, self.state.scl + (self.segment == 'D0'), *"),
        ("history", "aurora.reading:Confirmation.done",
         "self.error is not None", "self.error is None"),
        ("needless-unavailability", "aurora.read_router:PendingRead._start_round",
         "target.scls, required_scl, now", "target.scls, 0, now"),
        ("system error", "segments.write_cycle:WriteCycle._begin",
         "begun = self._log.begin_append(", "raise OSError('odd')  # "),
        ("system error", "aurora.writer_shell:WriterShell._keep_time",
         "await trio.sleep(self.config.tick_interval_s)", "await trio.to_thread.run_sync(int)"),
        ("system error", "segments.core:SegmentCore.tick",
         "peer = self.gossip.tick(now)", "raise SystemExit(3)"),
    ],
)  # fmt: skip
def test_a_planted_mistake_is_found(rule: str, target: str, old: str, new: str) -> None:
    result = found_by(Edit(target, old, new))
    assert result.verdict in (Verdict.VIOLATION, Verdict.LIVENESS), result.verdict
    assert result.invariant == rule, result.finding


def test_an_acknowledgement_of_what_is_not_on_disk_is_found() -> None:
    """The segment that is told so is taken for rolled back; here it does not listen."""
    result = found_by(
        Edit("segments.core:SegmentCore._acknowledge",
             "seq, self.state.scl, *", "seq, self.state.scl + (self.segment == 'D0'), *"),
        Edit("segments.protocol.heard:is_rolled_back", "has < heard", "False"),
    )  # fmt: skip
    assert result.invariant == "ack-after-sync", result.finding


def test_a_pgcl_that_follows_late_acknowledgements_is_found() -> None:
    observe = "aurora.quorum:QuorumTracker.observe_scl"
    result = found_by(
        Edit(observe, "known is None or scl <= known or epoch", "known is None or epoch"),
        Edit(observe, "if known <= self._pgcl < scl:", "if True:"),
    )
    assert result.invariant == "watermarks-only-rise", result.finding
    assert "the PGCL of group" in result.finding


def test_a_range_that_a_recovery_begins_late_is_found() -> None:
    knobs = attrs.evolve(BUSY.knobs, check_every=1_000_000)  # so none is imagined before
    extended = "segments.protocol.truncation:TruncationTable.extended"
    edit = Edit(extended, "start = vdl + 1", "start = vdl + 2")
    result = found_by(edit, schedule=attrs.evolve(BUSY, knobs=knobs))
    assert result.invariant == "annuls-above-the-vdl"
    assert result.finding.startswith("writer-2 opens at VDL ")


def test_a_disk_that_is_given_up_though_nobody_has_taken_it_is_found() -> None:
    """As for one slot that is torn; here for those that hold the promise of a second epoch."""
    edit = Edit(
        "segments.host:SegmentHost._open", "return self.disk.open()",
        "storage = self.disk.open()\n        if self.mistake is None and self.since_s < inf:\n"
        "            raise SegmentLost('odd')\n        return storage",
    )  # fmt: skip
    result = found_by(edit)
    assert result.invariant == "no-needless-loss", result.finding
    assert "nobody has taken its disk" in result.finding
