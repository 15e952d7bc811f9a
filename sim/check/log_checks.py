"""Logs, step by step: watermarks, what backs them on disks, and what recoveries annul."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aurora.core import WriterCore
from aurora.recovery_plan import RecoveryPlan
from segments.protocol.ids import NO_EPOCH, Lsn, PageId, PgId, SegmentId, VolumeEpoch
from segments.protocol.record import RedoRecord
from segments.state import SegmentState
from sim.check import invariants, rules_of_logs
from sim.check.findings import Findings
from sim.check.invariants import WRITE_QUORUM
from sim.check.reference_model import Reference, WriterView
from sim.world.world import World

_OF_SEGMENTS: Final = ("SCL", "the floor served", "the announced VDL")

Held = Mapping[tuple[VolumeEpoch, PgId], Mapping[SegmentId, Lsn]]


class DurableLog:
    """How far the log of each writer is durable, as its segments' disks say, and not its acks."""

    def __init__(self, reference: Reference, groups: Mapping[PgId, Sequence[SegmentId]]) -> None:
        self._reference = reference
        self._members = groups
        self._reached: dict[str, tuple[Lsn, Lsn]] = {}

    def vdl(self, view: WriterView, held: Held) -> Lsn:
        """The highest CPL up to which a write quorum of each group has every record.

        ``held`` has the highest SCL that each member has had on its disk, by table and group.
        """
        reference = self._reference
        done, vdl = self._reached.get(view.name, (view.vdl, view.vdl))
        backed: dict[PgId, Lsn] = {}
        for lsn in reference.between(done, reference.last_live(view)):
            if not reference.is_live(view, lsn):
                continue
            pg_id = reference.pg_of(lsn)
            if pg_id not in backed:
                backed[pg_id] = self._backed(held.get((view.epoch, pg_id), {}), pg_id)
            if lsn > backed[pg_id]:
                break
            done = lsn
            if reference.records[lsn].is_cpl:
                vdl = lsn
        self._reached[view.name] = done, vdl
        return vdl

    def _backed(self, scls: Mapping[SegmentId, Lsn], pg_id: PgId) -> Lsn:
        ranked = sorted(scls.get(each, 0) for each in self._members[pg_id])
        return ranked[-WRITE_QUORUM]


class LogChecks:
    """The watermarks of one run, and its truncation tables."""

    def __init__(self, world: World, reference: Reference, findings: Findings, held: Held) -> None:
        self._reference = reference
        self._hold = findings.hold
        self._held = held
        self._lal = world.schedule.knobs.lal
        self.durable = DurableLog(reference, {each.pg_id: each.members for each in world.groups})
        self._writers: dict[str, tuple[Lsn, ...]] = {}
        self._segments: dict[SegmentId, tuple[VolumeEpoch, tuple[Lsn, ...]]] = {}
        self._cached: dict[str, set[PageId]] = {}
        self._in_parts: set[Lsn] = set()
        """The records of MTRs that have come in parts."""
        self._answers: dict[str, dict[SegmentId, tuple[VolumeEpoch, VolumeEpoch]]] = {}
        """Of each recovery the seal replies that count: the epochs of a table, and of one that is
        settled."""
        self._members = [*world.disks]
        self._adopted: dict[VolumeEpoch, set[SegmentId]] = {}
        """Who has ever had the table of an epoch on its disk."""

    # ---- watermarks ------------------------------------------------------------------------------

    def writer_stepped(self, writer: str, core: WriterCore) -> None:
        """A writer's core has taken some step."""
        now = (core.vcl, core.vdl, *map(core.pgcl, core.pg_ids))
        before = self._writers.get(writer)
        if now == before:
            return
        view = self._reference.writers[writer]
        if before is None:
            before = (view.vdl, view.vdl, *(0 for _ in core.pg_ids))
        names = ("VCL", "VDL", *(f"the PGCL of group {each}" for each in core.pg_ids))
        self._writers[writer] = now
        self._hold(rules_of_logs.writers_marks_rise, writer, names, before, now)
        if now[1] > before[1]:
            backed = self.durable.vdl(view, self._held)
            self._hold(rules_of_logs.vdl_is_backed, writer, now[1], backed)

    def segment_stepped(self, segment: SegmentId, state: SegmentState) -> None:
        """A running segment has taken some step."""
        now = (state.scl, state.floor, state.vdl)
        epoch, before = self._segments.get(segment, (NO_EPOCH, now))
        if epoch == state.table.epoch and now != before:
            self._hold(rules_of_logs.segments_marks_rise, segment, _OF_SEGMENTS, before, now)
        self._segments[segment] = state.table.epoch, now

    def restarted(self, segment: SegmentId) -> None:
        """A segment starts over with what its disk holds: damage may have taken some of it."""
        self._segments.pop(segment, None)

    def commit_reported(self, writer: str, lsn: Lsn) -> None:
        """A client was told that its commit is durable."""
        backed = self.durable.vdl(self._reference.writers[writer], self._held)
        self._hold(rules_of_logs.commit_is_on_disks, lsn, backed)

    def pool_changed(self, writer: str, core: WriterCore) -> None:
        """A page may have come into the buffer pool, or left it."""
        now = set(core.pool._entries)
        before = self._cached.get(writer, set())
        self._cached[writer] = now
        view = self._reference.writers[writer]
        for page_id in sorted(before - now):
            newest = self._reference.newest_of(view, page_id)
            if newest not in self._in_parts:
                self._hold(rules_of_logs.left_the_pool_durable, writer, page_id, newest, core.vdl)
        for page_id in sorted(now - before):
            newest = self._reference.newest_of(view, page_id)
            self._hold(
                rules_of_logs.came_in_newest, writer, page_id, core.pool.head(page_id), newest
            )

    def made(self, records: Sequence[RedoRecord]) -> None:
        """A writer has made an MTR, or a part of one."""
        if not records[-1].is_cpl or records[0].lsn != records[0].mtr_id:
            self._in_parts.update([each.lsn for each in records])

    # ---- truncation tables -----------------------------------------------------------------------

    def sealing(self, writer: str) -> None:
        """A round of sealing begins: earlier answers no longer count."""
        self._answers[writer] = {}

    def answered(
        self, writer: str, segment: SegmentId, table_epoch: VolumeEpoch, settled: VolumeEpoch
    ) -> None:
        """A segment has answered it, with a table."""
        self._answers[writer][segment] = table_epoch, settled

    def not_counted(self, writer: str, segment: SegmentId) -> None:
        """A segment's answer does not count: its disk was rolled back."""
        self._answers[writer].pop(segment, None)

    def table_of(self, writer: str) -> VolumeEpoch:
        """The epoch of the table that a recovery has to adopt, as far as it was answered."""
        answers = self._answers.get(writer, {}).values()
        return max((table for table, _ in answers), default=NO_EPOCH)

    def planned(self, name: str, plan: RecoveryPlan) -> None:
        """A recovery has ended with a plan."""
        answers = self._answers.get(name, {}).values()
        settled = max((each for _, each in answers), default=NO_EPOCH)
        before = self._reference.view_of(self.table_of(name))
        ranges = before.table.ranges if before is not None else ()
        self._hold(rules_of_logs.annuls_exactly, f"{name} ", plan, ranges, self._lal, settled)

    def adopted(self, segment: SegmentId, state: SegmentState) -> None:
        """A segment has taken over a table, or restarts with one, or knows that it is settled."""
        self._adopted.setdefault(state.table.epoch, set()).add(segment)
        settled = state.table.settled
        if settled != NO_EPOCH:
            self._hold(
                rules_of_logs.settled_is_adopted,
                segment, settled, self._adopted.get(settled, ()), self._members,
            )  # fmt: skip
        view = invariants.newest_view(self._reference, state.table)
        if view is not None:
            self._hold(rules_of_logs.table_as_made, segment, state.table, view)
