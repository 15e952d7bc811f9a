"""Coverage marks: what a run reached, so that a fleet can tell what it never did.

They follow from the cores' trace events and from how calls end, here and, for disks, in
`sim.check.disk_marks`, for layers in `sim.check.layer_marks`, for networks and writers in a row in
`sim.check.storm_marks`, for SQL in `sim.check.sql_marks`; those of the failure table are counted by
`sim.check.availability`. A mark is counted each time it is reached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from aurora.engine import Engine
from aurora.events import (
    CommitsAcknowledged,
    EpochVouched,
    MtrAllocated,
    ReadAnswered,
    RoomWaitStarted,
    SealAnswered,
    SealingStarted,
    VolumeOpened,
    WriterFenced,
    WriterStarted,
)
from segments.protocol.errors import Unavailable, VolumeFull
from segments.protocol.events import (
    Event,
    GossipReceived,
    Hydrated,
    PageMaterialized,
    ReadDeclined,
    RecordsApplied,
    RequestRefused,
    Restored,
    ScrubFoundDamage,
    TableAdopted,
    TableGossiped,
    WriteFailed,
)
from segments.protocol.ids import Lsn, SegmentId, VolumeEpoch
from segments.protocol.messages import PageReply, ReadRefused
from segments.protocol.record import PAGE_SIZE
from sim.check.disk_marks import DISK_MARKS, DiskCoverage
from sim.check.layer_marks import LAYER_MARKS, LayerCoverage
from sim.check.mark import Mark
from sim.check.reference_model import Reference
from sim.check.sql_marks import SQL_MARKS, SqlCoverage
from sim.check.storm_marks import STORM_MARKS, StormCoverage
from sim.plan.schedule import Action
from sim.world.history import Call
from sim.world.listener import Listener
from sim.world.world import World

MARKS: Final = {
    each.name: each
    for each in (
        Mark("recovery completed", "a writer opened a volume that another had left"),
        Mark("recovery overtaken", "a writer began to seal while another's recovery was under way"),
        Mark("recovery truncated above VDL", "a recovery annulled records that had been allocated"),
        Mark("recovery met an old table", "segments of different tables answered one recovery"),
        Mark("writer fenced", "a writer learnt that a higher epoch has been sealed"),
        Mark("zombie refused", "a segment refused a message of a lower epoch"),
        Mark(
            "hedged read won", "a read was answered by the second segment while the first was slow"
        ),
        Mark(
            "read refused and rerouted", "a segment could not answer a read, and another was asked"
        ),
        Mark("volume was full", "a write was refused, as too few segments had space for it"),
        Mark("read below the floor", "a segment had collected the version that a read asked for"),
        Mark("strict read confirmed", "a segment confirmed the epoch of a strict read"),
        Mark("old version materialized", "a segment served a page at a read point below its VDL"),
        Mark("gossip filled a gap", "records from a peer moved a segment's SCL"),
        Mark("table adopted by gossip", "a segment took over a truncation table from a peer"),
        Mark("range forgotten", "a recovery left out of its table what all members had adopted"),
        Mark("adopted table spoilt", "a segment restarted without a table that it had adopted"),
        *LAYER_MARKS,
        Mark("torn tail cut", "a restart cut off an unfinished write"),
        Mark("damaged frame healed", "a segment with a spoilt log was whole again after gossip"),
        Mark("rot scrubbed away", "the scrub found damage in a log, which is then written anew"),
        Mark("disk refused a write", "a write failed, and was made again"),
        Mark("commit waited out an AZ + 1", "a commit came through after three of six were away"),
        Mark("commit spans groups", "one mini-transaction wrote to several protection groups"),
        Mark("LAL back-pressure", "a commit waited for room below the LSN allocation limit"),
        *DISK_MARKS,
        Mark("commit cancelled", "a caller gave up while its commit was pending"),
        Mark("commit survived its caller", "a commit became durable after its caller had given up"),
        Mark("cancelled before the log", "a caller gave up before its write was part of the log"),
        Mark(
            "cancelled in want of room", "a caller gave up on a write for which there was no room"
        ),
        Mark("read cancelled", "a caller gave up on a read that a segment had been asked"),
        Mark("strict read cancelled", "a caller gave up on a strict read"),
        Mark("view cancelled", "a caller gave up in the middle of a read view"),
        Mark("list cancelled", "a caller gave up in the middle of a list of pages"),
        Mark("opening cancelled", "a caller gave up while a writer that it had asked for opened"),
        Mark("wrong call refused", "a call with a mistake in it was refused"),
        Mark("called too early", "a writer was called before it had opened the volume"),
        Mark("mini-transaction read", "a mini-transaction read what it was about to write"),
        Mark("view of several pages", "a view read several pages, the last after some time"),
        Mark("written in parts", "a mini-transaction was too large for one step"),
        Mark("page left above the VDL", "one that was written in parts, for want of room"),
        Mark("largest write", "a mini-transaction had as many writes as one may have"),
        Mark("whole page written", "one write filled its page"),
        # Counted by `sim.check.availability`: a row of the failure table was held against a call.
        Mark("write judged with one or two away", "a commit came through beside one or two away"),
        Mark("write judged with an AZ away", "a commit came through while one AZ was away"),
        Mark("write judged beside a slow segment", "a commit came through beside a slow segment"),
        Mark(
            "commit resumed when a write quorum was back",
            "a commit waited for a write quorum, and came through by itself once it was ready",
        ),
        Mark("read judged beside a slow segment", "a read was answered beside a slow segment"),
        Mark("read judged with three away", "a read was answered while three of six were away"),
        Mark("read judged with four or more away", "one or two that stayed answered a read"),
        Mark("strict read judged with three away", "three segments answered a strict read"),
        Mark(
            "recovery judged with some away", "a writer that opened was timed while some were away"
        ),
        Mark("segment caught up in time", "a segment that was behind had all again, within bounds"),
        *STORM_MARKS,
        *SQL_MARKS,
    )
}
"""Every mark, by name."""


class Coverage(Listener):
    """Counts the marks of one run."""

    def __init__(self, world: World, reference: Reference) -> None:
        self.counts: dict[str, int] = {}
        self._world = world
        self._reference = reference
        self._recovering: set[str] = set()
        self._offered: dict[SegmentId, Lsn] = {}
        self._damaged: set[SegmentId] = set()
        self._waiting: dict[str, Lsn] = {}
        self._table_met: dict[str, VolumeEpoch] = {}
        self._disks = DiskCoverage(world, self.count)
        self._layers = LayerCoverage(world, self.count)
        self._outlived: dict[str, list[Lsn]] = {}
        self._storms = StormCoverage(world, reference, self.count)
        self._handlers: dict[type[Event], list[Callable[[str, Any], None]]] = {}
        self._sql = SqlCoverage(reference, self.count)

    def on_step(self, source: str, event: Event) -> None:
        handlers = self._handlers.get(type(event))
        if handlers is None:
            handlers = self._handlers[type(event)] = self._handlers_of(type(event))
        for handler in handlers:
            handler(source, event)

    def _handlers_of(self, kind: type[Event]) -> list[Callable[[str, Any], None]]:
        """Who counts anything at a step of this kind: of most nobody does."""
        own = partial(_ON_EVENT[kind], self) if kind in _ON_EVENT else None
        others = [each.handler_of(kind) for each in (self._disks, self._layers, self._storms)]
        return [each for each in (own, *others) if each is not None]

    def on_action(self, number: int, action: Action) -> None:
        self._disks.on_action(number, action)

    def on_crashed(self, segment: SegmentId) -> None:
        self._sql.on_crashed(segment)
        self._disks.on_crashed(segment)
        self._layers.on_crashed(segment)

    def on_rotted(self, segment: SegmentId) -> None:
        self._disks.on_rotted(segment)

    def on_rolled_back(self, segment: SegmentId) -> None:
        self._disks.on_rolled_back(segment)

    def on_promise_rotted(self, segment: SegmentId) -> None:
        self._disks.on_promise_rotted(segment)

    def count(self, name: str) -> None:
        """A mark, by name, has been reached."""
        self.counts[name] = self.counts.get(name, 0) + 1

    # ---- writers ---------------------------------------------------------------------------------

    def _on_sealing(self, source: str, _: SealingStarted) -> None:
        if self._recovering - {source}:
            self.count("recovery overtaken")
        self._recovering = {source}

    def _on_seal_reply(self, source: str, event: SealAnswered) -> None:
        known = self._table_met.setdefault(source, event.table_epoch)
        if event.table_epoch != known:
            self.count("recovery met an old table")

    def _on_writer_started(self, _: str, event: WriterStarted) -> None:
        plan = event.plan
        end = plan.table.last_annulled_lsn
        if not event.fresh and self._reference.between(plan.vdl, end):
            self.count("recovery truncated above VDL")

    def _on_opened(self, source: str, _: VolumeOpened) -> None:
        view = self._reference.writers[source]
        if len(view.annulled) > len(view.table.ranges):
            self.count("range forgotten")
        self._recovering.discard(source)
        self._sql.on_opened(source)
        self.count("recovery completed")

    def _on_fenced(self, source: str, _: WriterFenced) -> None:
        self._recovering.discard(source)
        self.count("writer fenced")

    def _on_allocated(self, source: str, event: MtrAllocated) -> None:
        pg_ids = event.pg_ids
        if len(set(pg_ids)) > 1:
            self.count("commit spans groups")
        if source not in self._waiting and any(map(self._az_plus_one, pg_ids)):
            self._waiting[source] = event.records[-1].lsn

    def _az_plus_one(self, pg_id: int) -> bool:
        """Whether a whole AZ and one segment more of a group are down, paused or lost."""
        group = self._world.cluster.groups[pg_id]
        hosts = [self._world.cluster.hosts[segment] for segment in group.members]
        away = Counter(host.az for host in hosts if not host.up or host.paused_since_s is not None)
        whole = [az for az, count in away.items() if count == group.zones.count(az)]
        return bool(whole) and len(away) > 1

    def _on_commits(self, source: str, event: CommitsAcknowledged) -> None:
        if outlived := self._outlived.get(source):
            self._outlived[source] = [lsn for lsn in outlived if lsn > event.vdl]
            for _ in range(len(outlived) - len(self._outlived[source])):
                self.count("commit survived its caller")
        if self._waiting and event.vdl >= self._waiting.get(source, 1 << 63):
            del self._waiting[source]
            self.count("commit waited out an AZ + 1")

    def _on_room(self, _: str, event: RoomWaitStarted) -> None:
        self.count("LAL back-pressure")

    def _on_answer(self, _: str, event: ReadAnswered) -> None:
        answer = event.answer
        if isinstance(answer, ReadRefused):
            self.count("read refused and rerouted")
        elif isinstance(answer, PageReply) and event.hedge:
            self.count("hedged read won")

    def _on_confirmed(self, _: str, event: EpochVouched) -> None:
        self.count("strict read confirmed")

    # ---- clients ---------------------------------------------------------------------------------

    def on_invoked(self, call: Call) -> None:
        self._sql.on_invoked(call)

    def on_returned(self, call: Call, engine: Engine) -> None:
        operation = call.operation
        self._sql.on_returned(call)
        if call.writes_pages:
            self._write_returned(call, engine)
        elif call.cancelled:
            if call.lists:
                self.count("list cancelled")
            elif operation.kind == "view":
                self.count("view cancelled")
            elif operation.kind == "open":
                self.count("opening cancelled")
            elif operation.kind.startswith("strict"):
                self.count("strict read cancelled")
            elif call.from_segment:
                self.count("read cancelled")
        elif operation.wrong:
            self.count("wrong call refused")
        elif operation.kind == "view" and len(call.reads) > 1 and operation.hold_ns:
            self.count("view of several pages")
        if operation.early and call.raised is Unavailable:
            self.count("called too early")

    def _write_returned(self, call: Call, engine: Engine) -> None:
        if call.raised is VolumeFull:
            self.count("volume was full")
        elif call.cancelled:
            self._write_cancelled(call, engine)
        elif call.lsns:
            knobs = self._world.schedule.knobs
            if len(call.lsns) == min(knobs.max_mtr_writes, knobs.lal):
                self.count("largest write")
            if call.in_parts:
                self.count("written in parts")
                core = engine.core
                if core is not None and core.pool.statistics.stolen:
                    self.count("page left above the VDL")
            if any(len(data) == PAGE_SIZE for _, _, data in call.writes):
                self.count("whole page written")
        if call.own is not None:
            self.count("mini-transaction read")

    def _write_cancelled(self, call: Call, engine: Engine) -> None:
        if call.lsns:
            self.count("commit cancelled")
            self._outlived.setdefault(engine.name, []).append(call.lsns[-1])
            return
        self.count("cancelled before the log")
        if engine.core is not None and not engine.core.has_room(len(call.writes)):
            self.count("cancelled in want of room")

    # ---- segments --------------------------------------------------------------------------------

    def _on_refused(self, _: str, event: RequestRefused) -> None:
        self.count("zombie refused")

    def _on_read_refused(self, _: str, event: ReadDeclined) -> None:
        if event.read_point < event.floor:
            self.count("read below the floor")

    def _on_page(self, source: str, event: PageMaterialized) -> None:
        core = self._world.cluster.hosts[source].core
        if core is not None and event.read_point < core.state.vdl:
            self.count("old version materialized")

    def _on_gossip(self, source: str, event: GossipReceived) -> None:
        self._offered[source] = event.lsns[1]

    def _on_applied(self, source: str, event: RecordsApplied) -> None:
        if source in self._offered and event.scl > event.before:
            if event.scl >= self._offered[source]:
                self.count("gossip filled a gap")
            del self._offered[source]
        self._look_whether_healed(source)

    def _on_hydrated(self, source: str, _: Hydrated) -> None:
        self._look_whether_healed(source)

    def _look_whether_healed(self, source: SegmentId) -> None:
        if source in self._damaged:
            core = self._world.cluster.hosts[source].core
            if core is not None and core.state.whole:
                self._damaged.discard(source)
                self.count("damaged frame healed")

    def _on_table(self, source: str, _: TableAdopted) -> None:
        self._look_whether_healed(source)

    def _on_table_gossiped(self, _: str, event: TableGossiped) -> None:
        self.count("table adopted by gossip")

    def _on_restored(self, source: str, event: Restored) -> None:
        if event.torn_bytes:
            self.count("torn tail cut")
        if not event.whole:
            self._damaged.add(source)
        if event.lacks_table:
            self.count("adopted table spoilt")

    def _on_write_failed(self, _: str, __: WriteFailed) -> None:
        self.count("disk refused a write")

    def _on_scrub(self, _: str, event: ScrubFoundDamage) -> None:
        self.count("rot scrubbed away")


_ON_EVENT: Final[Mapping[type[Event], Callable[[Coverage, str, Any], None]]] = {
    SealingStarted: Coverage._on_sealing,
    SealAnswered: Coverage._on_seal_reply,
    WriterStarted: Coverage._on_writer_started,
    VolumeOpened: Coverage._on_opened,
    WriterFenced: Coverage._on_fenced,
    MtrAllocated: Coverage._on_allocated,
    CommitsAcknowledged: Coverage._on_commits,
    RoomWaitStarted: Coverage._on_room,
    ReadAnswered: Coverage._on_answer,
    EpochVouched: Coverage._on_confirmed,
    RequestRefused: Coverage._on_refused,
    ReadDeclined: Coverage._on_read_refused,
    PageMaterialized: Coverage._on_page,
    GossipReceived: Coverage._on_gossip,
    RecordsApplied: Coverage._on_applied,
    Hydrated: Coverage._on_hydrated,
    TableAdopted: Coverage._on_table,
    TableGossiped: Coverage._on_table_gossiped,
    Restored: Coverage._on_restored,
    WriteFailed: Coverage._on_write_failed,
    ScrubFoundDamage: Coverage._on_scrub,
}
