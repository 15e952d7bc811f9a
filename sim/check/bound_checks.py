"""Everything that a setting bounds, for whoever has taken a step (23).

What can only grow in a step is looked at in that step; what is held of paused parties, images that
are kept and writers that have ended, now and then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from aurora.core import WriterCore
from aurora.events import (
    Acknowledged,
    LogFetched,
    MtrAllocated,
    PageCached,
    ReadSent,
    RollbackFound,
    SealAnswered,
    SealingStarted,
    WriterStarted,
)
from aurora.many_pages import ManyPages
from aurora.outgoing_log import OutgoingLog
from segments.core import SegmentCore
from segments.layers.materializer import Materializer
from segments.manifest import PROMISE, log_part
from segments.protocol.events import (
    BatchReceived,
    Event,
    GossipReceived,
    LayerReceived,
    LogRewritten,
    PageMaterialized,
    ReadDeclined,
    RecordsApplied,
    Restored,
    RewriteStarted,
    SpaceLookedAt,
    WriteStarted,
    WriteSynced,
)
from segments.protocol.ids import MAX_LSN, Lsn, PgId, SegmentId, VolumeEpoch
from segments.protocol.record import RECORD_OVERHEAD_BYTES
from segments.state import SegmentState
from sim.check import rules_of_bounds, rules_of_layers
from sim.check.findings import Findings
from sim.check.invariants import READ_QUORUM
from sim.check.sizes import CLOCK_BYTES, ROW_BYTES, record_bytes
from sim.plan.schedule import SECOND
from sim.world.history import Call
from sim.world.world import World

_TICKS: Final = 4
_SLACK_NS: Final = SECOND // 20
_READS: Final = {"get": 1, "get_at": 1, "strict_get": 2, "strict_get_at": 2, "view": 1, "many": 1}
"""Questions to segments that a call asks one after the other for each of its pages, each with a
limit of its own."""


@attrs.define(eq=False)
class _Outgoing:
    """The outgoing log of a group."""

    at_start: int
    """How many bytes the recovery has left to be copied."""
    looked_ns: int = 0
    """When it was last looked at."""
    size: int = 0
    """What its size was then, and the PGCL."""
    pgcl: Lsn = 0


class BoundChecks:
    """The bounds of one run."""

    def __init__(self, world: World, findings: Findings) -> None:
        config = world.config
        self._world = world
        self._hold = findings.hold
        self._cluster, self._engine, self._segment = config, config.engine, config.segment
        self._made: dict[str, tuple[int, int]] = {}
        """Records and bytes of each writer's last MTR, so far."""
        self._mtr_bytes = (
            self._engine.part_bytes + ROW_BYTES * self._engine.part_writes + CLOCK_BYTES
        )
        self._ticks_ns = int(_TICKS * self._engine.tick_interval_s * SECOND)
        self._outgoing: dict[tuple[str, PgId], _Outgoing] = {}
        self._epochs: dict[str, dict[VolumeEpoch, None]] = {}
        self._answered: dict[str, dict[SegmentId, None]] = {}
        """Who has answered each writer's seal."""
        self._fetched: dict[tuple[str, PgId], Lsn] = {}
        self._turn = 0
        self._spoilt: set[SegmentId] = set()
        """Whose disks have rotted since their logs were last written anew."""
        self._mending: set[SegmentId] = set()
        """Those of them whose logs are being written anew, and that have not rotted since."""
        self._promise_spoilt: set[SegmentId] = set()
        """Whose promise slots have ever rotted."""
        self._short: set[SegmentId] = set()
        """Who is short of space."""
        self._pg_of = {each: group.pg_id for group in world.groups for each in group.members}

    # ---- steps -----------------------------------------------------------------------------------

    def writer_stepped(self, writer: str, core: WriterCore | None, event: Event) -> None:
        """A writer has taken a step; its core is there once it has a plan."""
        handler = _ON_WRITER.get(type(event))
        if handler is not None:
            handler(self, writer, event, core)
        if core is not None:
            pool, most = core.pool, self._engine.buffer_pool_pages
            if len(pool) >= most or len(pool._pins) >= most:
                self._hold(rules_of_bounds.pool_fits, writer, len(pool), len(pool._pins), most)

    def segment_stepped(self, segment: SegmentId, core: SegmentCore | None, event: Event) -> None:
        """A segment has taken a step; its core is there once it has read its disk."""
        handler = _ON_SEGMENT.get(type(event))
        if handler is not None:
            handler(self, segment, event, core)

    def rotted(self, segment: SegmentId) -> None:
        """What is on a segment's disk has changed: its log may be written anew for that."""
        self._spoilt.add(segment)
        self._mending.discard(segment)

    def promise_rotted(self, segment: SegmentId) -> None:
        """A promise slot has changed on a segment's disk: it may be written for that."""
        self._promise_spoilt.add(segment)

    # ---- writers ---------------------------------------------------------------------------------

    def _on_sealing(self, writer: str, event: SealingStarted, _: WriterCore | None) -> None:
        epochs = self._epochs.setdefault(writer, {})
        if epochs:
            self._hold(
                rules_of_bounds.gives_way_once_sealed,
                writer, next(reversed(epochs)), self._has_sealed(writer), event.epoch,
            )  # fmt: skip
        epochs[event.epoch] = None
        self._answered[writer] = {}
        self._hold(rules_of_bounds.gives_way, writer, len(epochs), self._engine.seal_attempts)
        for pg_id in self._world.cluster.geometry.pg_ids:
            self._fetched[writer, pg_id] = 0

    def _on_seal_answered(self, writer: str, event: SealAnswered, _: WriterCore | None) -> None:
        self._answered[writer][event.segment] = None

    def _on_rollback_found(self, writer: str, event: RollbackFound, _: WriterCore | None) -> None:
        self._answered[writer].pop(event.segment, None)

    def _has_sealed(self, writer: str) -> bool:
        """Whether a read quorum of every group has answered in the round that is under way."""
        votes = Counter(self._pg_of[each] for each in self._answered[writer])
        return all(votes[group.pg_id] >= READ_QUORUM for group in self._world.groups)

    def _on_fetched(self, writer: str, event: LogFetched, _: WriterCore | None) -> None:
        lsns = [each.lsn for each in event.records]
        key = writer, self._pg_of[event.segment]
        self._hold(rules_of_bounds.fetched_once, writer, str(key[1]), self._fetched[key], lsns)
        if lsns:
            self._fetched[key] = lsns[-1]

    def _on_started(self, writer: str, event: WriterStarted, _: WriterCore | None) -> None:
        for pg_id, records in event.plan.records.items():
            size = sum(map(record_bytes, records))
            self._outgoing[writer, pg_id] = _Outgoing(size)

    def _on_allocated(self, writer: str, event: MtrAllocated, core: WriterCore) -> None:
        config, records = self._engine, event.records
        size = sum(len(each.payload) for each in records)
        self._hold(
            rules_of_bounds.part_fits,
            writer, len(records), size, config.part_writes, config.part_bytes,
        )  # fmt: skip
        begins = records[0].lsn == records[0].mtr_id
        before = (0, 0) if begins else self._made.get(writer, (0, 0))
        count, size = self._made[writer] = before[0] + len(records), before[1] + size
        self._hold(
            rules_of_bounds.mtr_fits,
            writer, count, size, config.max_mtr_writes, config.max_mtr_bytes,
        )  # fmt: skip
        for record in records:
            page = core.pool._entries[record.page_id]
            if page.pending and page.pending[0].lsn <= page.page_lsn:
                self._hold(
                    rules_of_bounds.redo_is_let_go,
                    writer, record.page_id, page.pending[0].lsn, page.page_lsn,
                )  # fmt: skip
        for pg_id in dict.fromkeys(event.pg_ids):
            known, size = self._outgoing[writer, pg_id], core._logs[pg_id].size_bytes
            self._hold(
                rules_of_bounds.outgoing_fits,
                writer, pg_id, size, config.outgoing_bytes, known.at_start, self._mtr_bytes,
            )  # fmt: skip

    def _on_page_cached(self, writer: str, _: PageCached, core: WriterCore) -> None:
        self._hold(
            rules_of_bounds.old_versions_fit, writer, len(core.cached.old),
            self._engine.old_versions,
        )  # fmt: skip

    def _on_read_sent(self, writer: str, _: ReadSent, core: WriterCore) -> None:
        """Before the next call asks, all that one asks for is here."""
        asked = Counter(
            id(each.asker)
            for each in dict.fromkeys(core.reading._reads.values())
            if isinstance(each.asker, ManyPages)
        )
        most = max(asked.values(), default=0)
        self._hold(rules_of_bounds.reads_fit, writer, most, self._engine.reads_in_flight)

    def _on_acknowledged(self, writer: str, event: Acknowledged, core: WriterCore) -> None:
        """What a write quorum has had for some ticks has left a log that is too long."""
        known, now_ns = self._outgoing[writer, event.pg_id], self._world.scheduler.now_ns
        if now_ns >= known.looked_ns + self._ticks_ns:
            log = core._logs[event.pg_id]
            size, limit = _held_by(log), self._engine.outgoing_bytes
            if known.size > limit:
                self._hold(
                    rules_of_bounds.durable_log_is_let_go,
                    writer, event.pg_id, size, limit, log.base_lsn, known.pgcl,
                )  # fmt: skip
            known.looked_ns, known.size, known.pgcl = now_ns, size, event.pgcl[1]

    # ---- segments --------------------------------------------------------------------------------

    def _on_write(self, segment: SegmentId, event: WriteStarted, core: SegmentCore) -> None:
        entries = len(core._in_flight or ())
        limit = self._segment.write_bytes
        if event.frame_bytes > limit:
            self._hold(rules_of_bounds.write_fits, segment, event.frame_bytes, entries, limit)
        if core._in_flight:
            self._hold(
                rules_of_bounds.writes_what_it_lacks, segment, core._in_flight, core.state.scl
            )
        elif event.promise:
            slots = self._world.disks[segment].content(PROMISE)
            rotted = segment in self._promise_spoilt
            self._hold(rules_of_bounds.promises_with_reason, segment, slots, rotted)

    def _on_synced(self, segment: SegmentId, _: WriteSynced, __: SegmentCore) -> None:
        disk, limit = self._world.disks[segment], self._segment.wal_file_bytes
        for file in disk.log_files[-1:]:  # those before it were looked at, or written anew
            if file.length > limit:
                part = log_part(file, disk.content(file.name))
                self._hold(rules_of_bounds.file_fits, segment, file.name, part, limit)

    def _begins_anew(self, segment: SegmentId, _: RewriteStarted, core: SegmentCore) -> None:
        """All of the log up to here is to be written anew."""
        if segment in self._spoilt:
            self._mending.add(segment)
            return
        size, needed = self._world.disks[segment].log_bytes, _needed_by(core.state)
        self._hold(
            rules_of_bounds.is_written_anew_with_reason,
            segment, size, needed, self._segment, segment in self._short,
        )  # fmt: skip

    def _on_rewritten(self, segment: SegmentId, _: LogRewritten, core: SegmentCore) -> None:
        if segment in self._mending and not core.scrub.log_is_damaged:
            self._spoilt.discard(segment)
        self._mending.discard(segment)
        disk = self._world.disks[segment]
        file = disk.log_files[0]
        part = log_part(file, disk.content(file.name))
        self._hold(rules_of_bounds.runs_fit, segment, part, self._segment.gossip_bytes)

    def _on_restored(self, segment: SegmentId, _: Restored, __: SegmentCore | None) -> None:
        self._mending.discard(segment)
        self._short.discard(segment)

    def _on_space(self, segment: SegmentId, event: SpaceLookedAt, _: SegmentCore) -> None:
        (self._short.add if event.short else self._short.discard)(segment)

    def _on_input(self, segment: SegmentId, _: Event, core: SegmentCore) -> None:
        """Before it is queued: what waits already is held against the bound."""
        self._hold(rules_of_bounds.knows_its_queue, segment, core._queue_bytes, core._queue)
        if core._queue:
            limit = self._segment.queue_bytes
            self._hold(rules_of_bounds.queue_fits, segment, core._queue, limit)

    def _on_applied(self, segment: SegmentId, _: RecordsApplied, core: SegmentCore) -> None:
        unlinked = core.state.index.unlinked
        if unlinked:
            limit = self._segment.unlinked_limit
            self._hold(rules_of_bounds.unlinked_fits, segment, unlinked, limit)

    def _on_question(self, segment: SegmentId, _: Event, core: SegmentCore) -> None:
        limit = self._segment.queries
        self._hold(rules_of_bounds.queries_fit, segment, core.querying, limit)

    # ---- now and then ----------------------------------------------------------------------------

    def look(self) -> None:
        """What does not show in a step."""
        cluster, config = self._world.cluster, self._cluster
        for segment, host in cluster.hosts.items():
            if host.endpoint is not None and host.endpoint._held:
                sizes = [len(payload) for _, payload in host.endpoint._held]
                self._hold(
                    rules_of_bounds.holds_back_little,
                    segment, sizes, config.inbox_messages, config.inbox_bytes,
                )  # fmt: skip
        ended = sum(1 for each in cluster.engines[:-1] if each not in cluster._writer_scopes)
        self._hold(rules_of_bounds.few_ended_writers, ended, config.ended_writers)
        hosts = [*cluster.hosts.values()]
        core = hosts[self._turn % len(hosts)].core
        if core is not None:
            pages, blocks = _kept_by(core.state.materializer)
            self._hold(
                rules_of_bounds.cache_fits,
                core.segment, "versions of pages", pages, self._segment.image_cache_bytes,
            )  # fmt: skip
            self._hold(
                rules_of_bounds.cache_fits,
                core.segment, "blocks", blocks, self._segment.block_cache_bytes,
            )  # fmt: skip
        self._turn += 1

    def returned(self, call: Call) -> None:
        """A client has been answered."""
        reads = _READS.get(call.operation.kind)
        if reads is not None:
            timeout_ns = int(self._engine.read_timeout_s * SECOND)
            most_ns = (
                reads * len(call.operation.pages) * timeout_ns + call.operation.hold_ns + _SLACK_NS
            )
            self._hold(rules_of_bounds.answered_in_time, call, most_ns)

    # ---- in the end ------------------------------------------------------------------------------

    def at_rest(
        self, segment: SegmentId, state: SegmentState
    ) -> list[tuple[Callable[..., object], *tuple[Any, ...]]]:
        """What is to be held of a segment that has come to rest, with the values."""
        config, size = self._segment, self._world.disks[segment].log_bytes
        short = segment in self._short
        durable = rules_of_layers.open_sizes(state, min(state.vdl, state.scl))
        needed = _needed_by(state)
        layers = state.layers.layers
        return [
            (rules_of_bounds.log_is_compacted, segment, size, needed, config, short),
            (rules_of_layers.log_is_folded, segment, durable, config.fold_bytes),
            (rules_of_layers.layers_are_few, segment, layers, config.fold_bytes, config.fan_out),
        ]


_ON_WRITER: Final[Mapping[type[Event], Callable[[BoundChecks, str, Any, Any], None]]] = {
    SealingStarted: BoundChecks._on_sealing,
    SealAnswered: BoundChecks._on_seal_answered,
    RollbackFound: BoundChecks._on_rollback_found,
    LogFetched: BoundChecks._on_fetched,
    WriterStarted: BoundChecks._on_started,
    MtrAllocated: BoundChecks._on_allocated,
    PageCached: BoundChecks._on_page_cached,
    ReadSent: BoundChecks._on_read_sent,
    Acknowledged: BoundChecks._on_acknowledged,
}
_ON_SEGMENT: Final[Mapping[type[Event], Callable[[BoundChecks, str, Any, Any], None]]] = {
    WriteStarted: BoundChecks._on_write,
    WriteSynced: BoundChecks._on_synced,
    Restored: BoundChecks._on_restored,
    BatchReceived: BoundChecks._on_input,
    GossipReceived: BoundChecks._on_input,
    LayerReceived: BoundChecks._on_input,
    RecordsApplied: BoundChecks._on_applied,
    LogRewritten: BoundChecks._on_rewritten,
    RewriteStarted: BoundChecks._begins_anew,
    SpaceLookedAt: BoundChecks._on_space,
    PageMaterialized: BoundChecks._on_question,
    ReadDeclined: BoundChecks._on_question,
}


def _held_by(log: OutgoingLog) -> int:
    """Encoded bytes that a log holds, but for what it has released and not yet cut off."""
    released = log._start * RECORD_OVERHEAD_BYTES + log._ends[log._start] - log._ends[0]
    return len(log._rows) + len(log._payloads) - released


def _needed_by(state: SegmentState) -> int:
    """What must stand in a log: the records that are in no layer, and the heads of two files."""
    return sum(rules_of_layers.open_sizes(state, MAX_LSN)) + 2 * state.head_frame().frame_bytes


def _kept_by(pages: Materializer) -> tuple[list[int], list[int]]:
    """What each version of a page takes that is kept in memory, and each block of a layer."""
    versions = [len(version.image) for _, version in pages.page_cache.versions()]
    return versions, [block.size for block in pages.block_cache._blocks.values()]
