"""The writer core: the one writer of a volume, as a pure state machine.

It owns the log's front: LSNs, the three chains, what is on its way to which segment, and what the
acknowledgements prove. Shells call `submit`, `step` and `tick`, then send what `take_sends` gives
and look at `vdl`, `opened` and `fenced`.

A writer starts from a `RecoveryPlan`. Until a write quorum of every protection group has its
truncation table and every record at or below its VDL, it is not `opened`: nobody reads or writes
through it (protocol §7, step 7). A refusal that names a higher epoch ends it (`fenced`).

(More than 400 lines: what is written, sent and heard moves the same watermarks in one step each,
and what has a state of its own is in modules of its own already.)
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, Final

from aurora import events
from aurora.buffer_pool import BufferPool
from aurora.cached_pages import CachedPages
from aurora.config import EngineConfig
from aurora.consistency import VolumeConsistency
from aurora.floor import FloorHold
from aurora.lsn_allocator import LsnAllocator
from aurora.mtr import PageWrite, VolumeChains
from aurora.old_versions import OldVersions
from aurora.outgoing_log import OutgoingLog
from aurora.parts import PartLimits
from aurora.quorum import QuorumModel, QuorumTracker
from aurora.reading import ReadAnswer, Reading
from aurora.recovery_plan import RecoveryPlan
from aurora.retention import Retention
from aurora.segment_stream import Announcement, SegmentStream
from aurora.volume_space import VolumeSpace
from aurora.writer_clock import WriterClock, no_clock
from segments.protocol.events import Tracer
from segments.protocol.heard import NO_MARK
from segments.protocol.ids import Lsn, PageId, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import (
    EpochConfirmed,
    EpochRefused,
    Message,
    NeedTable,
    PageImage,
    PageReply,
    PagesListed,
    ReadRefused,
    TableInstalled,
    WriteAck,
)
from segments.protocol.record import PAGE_SIZE, RECORD_OVERHEAD_BYTES
from segments.protocol.volume import pg_of_page


class WriterCore:
    """One writer incarnation, from its plan to its end."""

    def __init__(
        self,
        plan: RecoveryPlan,
        groups: Mapping[PgId, QuorumModel],
        lal: int,
        config: EngineConfig,
        *,
        fresh: bool = False,
        clock: Callable[[], int] = no_clock,
        trace: Tracer | None = None,
        name: str = "writer",
    ) -> None:
        """``lal`` is the volume's LSN allocation limit.

        ``fresh`` says that the segments were formatted with this plan's table already. ``clock``
        gives nanoseconds since the epoch of Unix.
        """
        self.name = name
        self.epoch = plan.epoch
        self.fenced: VolumeEpoch | None = None
        """The higher epoch that deposed this writer."""
        self.opened = fresh
        """Whether anyone may observe this writer's VDL."""
        self.table = plan.table
        """What is annulled, as this writer's recovery left it."""
        self.last_annulled_lsn = plan.table.last_annulled_lsn
        self.pool = BufferPool(config.buffer_pool_pages, plan.vdl)
        old = OldVersions(config.old_versions)
        self.cached = CachedPages(self.pool, old, trace=trace, name=name)
        self._config = config
        self._full_bytes = 2 * config.outgoing_bytes  # from here on writers wait
        self._trace = trace
        self._groups = groups
        self.pg_ids, self.pg_count = (*groups,), len(groups)
        self._plan_tails = plan.tails
        self._allocator = LsnAllocator(plan.next_lsn, lal, self.last_annulled_lsn)
        self._chains = VolumeChains(plan.vdl, plan.tails)
        self._clock = WriterClock(clock, plan.clock_us)
        self._retention = Retention(config)
        self._consistency = VolumeConsistency(plan.vdl, plan.tails)
        self._logs = {pg: OutgoingLog.holding(plan.records[pg], plan.tails[pg]) for pg in groups}
        self._trackers = {pg: QuorumTracker(model, plan.epoch) for pg, model in groups.items()}
        self.streams: dict[SegmentId, SegmentStream] = {
            segment: SegmentStream(
                segment, pg_id, self._logs[pg_id], self._trackers[pg_id].scls, config,
                installed=fresh, heard=plan.heard.get(segment, NO_MARK),
            )
            for pg_id, model in groups.items()
            for segment in model.members
        }  # fmt: skip
        self._streams_of = {
            pg: [self.streams[each] for each in model.members] for pg, model in groups.items()
        }
        self.space = VolumeSpace(groups, self._streams_of)
        self.reading = Reading(self, self.send, config, plan.floor, trace=trace, name=name)
        self._ready: dict[SegmentStream, None] = dict.fromkeys(self.streams.values())
        self._grown: dict[PgId, None] = {}
        """Groups whose logs have grown since the last sends."""
        self._rolled_back = plan.rolled_back
        self._sends: list[tuple[SegmentId, Message]] = []
        self._announcement: Announcement | None = None
        self._settled = False
        """Whether all members have been heard to have the table: all of them at the same time."""
        self.outstanding: tuple[Lsn, PgId] | None = None
        """The first record that is not known to be at a write quorum, and its group, at the last
        tick; None if there was none."""
        self.outstanding_since_s = 0.0
        if trace is not None:
            trace(name, events.WriterStarted(plan, fresh))

    # ---- watermarks ------------------------------------------------------------------------------

    @property
    def vdl(self) -> Lsn:
        """Volume durable LSN: the highest CPL <= VCL; commits at or below it are acknowledged."""
        return self._consistency.vdl

    @property
    def vcl(self) -> Lsn:
        """Volume complete LSN: every record up to it is at or below its group's PGCL."""
        return self._consistency.vcl

    @property
    def last_allocated_lsn(self) -> Lsn:
        return self._allocator.last_allocated

    @property
    def lsn_limit(self) -> Lsn:
        """The highest LSN that may be allocated now (LAL)."""
        return self._allocator.limit(self.vdl)

    def pgcl(self, pg_id: PgId) -> Lsn:
        """Protection group complete LSN: the 4th highest of six SCLs."""
        return self._trackers[pg_id].pgcl

    def tail_lsn(self, pg_id: PgId) -> Lsn:
        """The newest record of a protection group, durable or not."""
        return self._logs[pg_id].tail_lsn

    def scls(self, pg_id: PgId) -> Mapping[SegmentId, Lsn]:
        """The SCL of each member, as last heard in this epoch."""
        return self._trackers[pg_id].scls

    def members(self, pg_id: PgId) -> tuple[SegmentId, ...]:
        """The segments of a protection group."""
        return self._groups[pg_id].members

    def is_current(self, segment: SegmentId) -> bool:
        """Whether a segment is known to hold all that is durable in its group."""
        stream = self.streams[segment]
        return stream.acked_lsn >= self._consistency.durable_tail(stream.pg_id)

    def has_read_quorum(self, pg_id: PgId, segments: Container[SegmentId]) -> bool:
        """Whether ``segments`` contain a read quorum of the group."""
        return self._groups[pg_id].has_read(segments)

    def pg_of(self, page_id: PageId) -> PgId:
        """The protection group that holds a page."""
        return pg_of_page(page_id, self.pg_count)

    def required_scl(self, pg_id: PgId, read_point: Lsn) -> Lsn:
        """What a segment must have to answer at ``read_point`` (2018 §3.1)."""
        return self._consistency.required_scl(pg_id, read_point)

    # ---- writing ---------------------------------------------------------------------------------

    def check_mtr(self, writes: Sequence[PageWrite]) -> None:
        """Raise `InvalidWrite` for an MTR that could never be written, for want of LSNs.

        How much there may be was looked at when it was gathered (`aurora.mtr`).
        """
        self._allocator.check_mtr(len(writes))

    def is_one_part(self, writes: Sequence[PageWrite]) -> bool:
        """Whether an MTR can be made in one step, with all of its pages in the pool."""
        config, count = self._config, len(writes)
        if (  # as nearly always: no write is longer than a page, or changes more than one
            count <= config.part_writes
            and count <= config.buffer_pool_pages
            and count * PAGE_SIZE <= config.part_bytes
        ):
            return True
        limits = PartLimits(config.part_writes, config.part_bytes, config.buffer_pool_pages)
        return limits.hold(writes)

    @property
    def part_limits(self) -> PartLimits:
        """The most that a part of a larger one has: half of the pool is left to others."""
        config = self._config
        pages = max(1, config.buffer_pool_pages // 2)
        return PartLimits(config.part_writes, config.part_bytes, pages)

    def log_bytes(self, writes: Iterable[PageWrite]) -> dict[PgId, int]:
        """What the records of an MTR will take in the log of each group."""
        sizes = dict.fromkeys(self.pg_ids, 0)
        for page_id, _, data in writes:
            sizes[self.pg_of(page_id)] += len(data) + RECORD_OVERHEAD_BYTES
        return sizes

    def has_room(self, count: int) -> bool:
        """Whether ``count`` records fit below the LAL, and any into outgoing logs; else wait."""
        if not self._allocator.can_allocate(count, self.vdl):
            return False
        limit = self._full_bytes
        for log in self._logs.values():  # noqa: SIM110 - a generator would cost as much as the rest
            if log.size_bytes >= limit:
                return False
        return True

    def bring_in_absent(self, page_ids: Iterable[PageId]) -> list[PageId]:
        """The pages that must be fetched before they are written.

        Those that are known never to have been written, as in a new volume, need not be.
        """
        pool = self.pool
        missing = pool.missing(page_ids)
        if not missing:
            return missing
        vdl = self.vdl
        return [
            page_id for page_id in missing if not pool.install(PageImage(page_id, 0, b""), 0, vdl)
        ]

    def submit(
        self, writes: Sequence[PageWrite], *, mtr_id: Lsn | None = None, ends: bool = True
    ) -> Lsn:
        """Make one MTR part of the log: LSNs, chains, outgoing logs and pages, in one step.

        Or a part of it, as `VolumeChains.chain`; nobody else submits before the last one.
        All its pages are in the buffer pool and `has_room` holds. Returns the last LSN.
        """
        pool, pg_count, vdl = self.pool, self.pg_count, self._consistency.vdl
        first_lsn = self._allocator.allocate(len(writes), vdl)
        clock_us = self._clock.now_us()
        pg_ids = [pg_of_page(write[0], pg_count) for write in writes]
        records = self._chains.chain(
            first_lsn, writes, pg_ids, pool.head, clock_us, mtr_id=mtr_id, ends=ends
        )
        self._consistency.allocated(records, pg_ids)
        pool.apply(records, vdl)
        groups = dict.fromkeys(pg_ids)
        for pg_id in groups:
            pairs = zip(records, pg_ids, strict=True)
            alone = len(groups) == 1  # as nearly always
            ours = records if alone else [each for each, of in pairs if of == pg_id]
            log = self._logs[pg_id]
            log.append(ours)
            if log.size_bytes >= self._full_bytes:  # what is durable takes no room from the next
                self._release(pg_id, log)
            self._grown[pg_id] = None
        if self._trace is not None:
            self._trace(self.name, events.MtrAllocated(records, pg_ids))
            self._trace(self.name, events.PoolApplied([each.page_id for each in records]))
        return records[-1].lsn

    # ---- messages and time -----------------------------------------------------------------------

    def step(self, message: Message, now: float) -> None:
        """Take one message from a segment at time ``now`` (seconds)."""
        handler = _HANDLERS.get(type(message))
        if handler is None or self.fenced is not None:
            return
        if self._rolled_back and getattr(message, "segment", "") in self._rolled_back:
            return  # what it says of its log no longer holds
        handler(self, message, now)

    def tick(self, now: float) -> None:
        """Resend what was lost, announce watermarks, let go of what nobody needs."""
        if self.fenced is not None:
            return
        if self.opened:  # as for the VDL: what it has planned, a next recovery may not find
            self._update_floor(now)
        announcement = self._announce()
        for stream in self.streams.values():
            if stream.on_timer(now):
                self._ready[stream] = None
            beat = stream.heartbeat(announcement, now)
            if beat is not None:
                self._sends.append((stream.segment, beat))
        for pg_id, log in self._logs.items():
            self._release(pg_id, log)
            for stream in self._streams_of[pg_id]:
                stream.note_delay(self.pgcl(pg_id), now)
        outstanding = self._consistency.first_outstanding
        if outstanding != self.outstanding:
            self.outstanding, self.outstanding_since_s = outstanding, now

    def _update_floor(self, now: float) -> None:
        self._retention.tick(self.vdl, now)
        kept = self._retention.kept(self.table, self.vdl)
        if kept is not None:
            self.reading.update_floor(kept.lsn)

    def floor_held_by(self) -> FloorHold:
        """What keeps the floor from rising."""
        kept = self._retention.kept(self.table, self.vdl)
        return FloorHold.of(self.reading.floor, kept, self.reading.oldest_read_point)

    def take_sends(self, now: float) -> list[tuple[SegmentId, Message]]:
        """The messages to send now: batches for every stream that has something to send."""
        if self.fenced is not None:
            self._sends.clear()
            return []
        for pg_id in self._grown:
            self._ready.update(dict.fromkeys(self._streams_of[pg_id]))
        self._grown.clear()
        if self._ready:
            announcement = self._announce()
            for stream in self._ready:
                while (message := stream.next_message(announcement, now)) is not None:
                    self._sends.append((stream.segment, message))
                    if self._trace is not None:
                        self._trace(self.name, events.Sent(stream.segment, message))
            self._ready.clear()
        sends, self._sends = self._sends, []
        return sends

    @property
    def sends_due(self) -> bool:
        """Whether `take_sends` may have something to give."""
        return bool(self._sends or self._ready or self._grown)

    def send(self, segment: SegmentId, message: Message) -> None:
        """Send a read or a question."""
        self._sends.append((segment, message))

    def _announce(self) -> Announcement:
        floor, vdl = self.reading.floor, self.vdl if self.opened else 0
        known = self._announcement
        if known is None or (known.vdl, known.floor, known.settled) != (vdl, floor, self._settled):
            known = Announcement(self.epoch, vdl, floor, self.table, self._settled)
            self._announcement = known
        return known

    def _release(self, pg_id: PgId, log: OutgoingLog) -> None:
        everyone = min(stream.acked_lsn for stream in self._streams_of[pg_id])
        log.release(everyone)
        if log.size_bytes > self._config.outgoing_bytes:
            log.release(self._trackers[pg_id].pgcl)

    # ---- handlers --------------------------------------------------------------------------------

    def _on_ack(self, ack: WriteAck, now: float) -> None:
        stream = self.streams.get(ack.segment)
        if stream is None or ack.epoch != self.epoch:
            return
        stream.on_ack(ack, now)
        self.space.heard(stream, ack)
        if stream.lacks:
            self._ready[stream] = None
        self._observe(stream, ack.scl)

    def _on_table_installed(self, message: TableInstalled, now: float) -> None:
        stream = self.streams.get(message.segment)
        if stream is None or message.epoch != self.epoch or stream.installed:
            return
        stream.on_installed(message.scl)
        self.space.heard(stream, message)
        self._ready[stream] = None
        if self._trace is not None:
            self._trace(self.name, events.TableAcknowledged(message.segment, message.scl))
        self._observe(stream, message.scl)
        self._settle_if_installed(now)

    def _observe(self, stream: SegmentStream, scl: Lsn) -> None:
        """Count an SCL of this epoch; the watermarks follow (protocol §3)."""
        pg_id, tracker = stream.pg_id, self._trackers[stream.pg_id]
        before = tracker.pgcl
        pgcl = tracker.observe_scl(stream.segment, self.epoch, scl)
        old_vdl = self.vdl
        if pgcl > before:
            self._consistency.advance(pg_id, pgcl)
            log = self._logs[pg_id]
            if log.size_bytes >= self._full_bytes:  # who wants room waits for this
                self._release(pg_id, log)
        if self._trace is not None:
            acknowledged = events.Acknowledged(
                stream.segment, scl, pg_id,
                pgcl=(before, pgcl), vdl=(old_vdl, self.vdl), vcl=self.vcl,
            )  # fmt: skip
            self._trace(self.name, acknowledged)
        if not self.opened:
            self._open_if_replicated()

    def _open_if_replicated(self) -> None:
        """Step 7: open only when every group's write quorum has the table and every record."""
        for pg_id, model in self._groups.items():
            installed = [s.segment for s in self._streams_of[pg_id] if s.installed]
            if not model.has_write(installed) or self.pgcl(pg_id) < self._plan_tails[pg_id]:
                return
        self._open()

    def _open(self) -> None:
        self.opened = True
        if self._trace is not None:
            self._trace(self.name, events.VolumeOpened(self.epoch, self.vdl))

    def _settle_if_installed(self, now: float) -> None:
        """Once every member has the table, say so: the next recovery may leave its ranges out (§8).

        At once, since that may come any moment.
        """
        if self._settled or not self.table.ranges:
            return  # that of a new volume annuls nothing
        if not all(stream.installed for stream in self.streams.values()):
            return
        self._settled = True
        announcement = self._announce()
        for stream in self.streams.values():
            self._sends.append((stream.segment, stream.announce(announcement, now)))

    def _on_need_table(self, message: NeedTable, _: float) -> None:
        stream = self.streams.get(message.segment)
        if stream is not None and message.epoch == self.epoch:
            stream.on_need_table()
            self._ready[stream] = None

    def _on_refused(self, message: EpochRefused, _: float) -> None:
        if message.epoch == self.epoch and message.sealed > self.epoch:
            self.fenced = message.sealed
            if self._trace is not None:
                self._trace(self.name, events.WriterFenced(message.sealed, message.segment))

    def _on_read_answer(self, message: ReadAnswer, now: float) -> None:
        if message.epoch == self.epoch:
            self.reading.step(message, now)


_HANDLERS: Final[dict[type, Callable[[WriterCore, Any, float], None]]] = {
    WriteAck: WriterCore._on_ack,
    TableInstalled: WriterCore._on_table_installed,
    NeedTable: WriterCore._on_need_table,
    EpochRefused: WriterCore._on_refused,
    PageReply: WriterCore._on_read_answer,
    PagesListed: WriterCore._on_read_answer,
    ReadRefused: WriterCore._on_read_answer,
    EpochConfirmed: WriterCore._on_read_answer,
}
