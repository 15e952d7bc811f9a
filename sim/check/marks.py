"""Coverage marks: what a run reached, so that a fleet can tell what it never did.

They follow from the cores' trace events, here and, for networks and writers in a row, in
`sim.check.storm_marks`. A mark is counted each time it is reached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

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
from segments.protocol.events import (
    BatchReceived,
    Event,
    GossipReceived,
    Hydrated,
    LogCollected,
    PageMaterialized,
    ReadDeclined,
    RecordsApplied,
    RequestRefused,
    Restored,
    ScrubFoundDamage,
    TableAdopted,
    TableGossiped,
    WriteFailed,
    WriteStarted,
    WriteSynced,
)
from segments.protocol.ids import Lsn, SegmentId, VolumeEpoch
from segments.protocol.messages import PageReply, ReadRefused
from sim.check.mark import Mark
from sim.check.reference_model import Reference
from sim.check.storm_marks import STORM_MARKS, StormCoverage
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
        Mark("read below the floor", "a segment had collected the version that a read asked for"),
        Mark("strict read confirmed", "a segment confirmed the epoch of a strict read"),
        Mark("old version materialized", "a segment served a page at a read point below its VDL"),
        Mark("gossip filled a gap", "records from a peer moved a segment's SCL"),
        Mark("table adopted by gossip", "a segment took over a truncation table from a peer"),
        Mark("segment hydrated by pages", "a segment so far behind that it got pages, not records"),
        Mark("log collected", "records below the floor were folded into pages"),
        Mark("compaction under load", "a log was written anew while batches arrived"),
        Mark("torn tail cut", "a restart cut off an unfinished write"),
        Mark("damaged frame healed", "a segment with a spoilt log was whole again after gossip"),
        Mark("rot scrubbed away", "the scrub found damage, and the log was written anew"),
        Mark("disk refused a write", "a write failed, and was made again"),
        Mark("commit waited out an AZ + 1", "a commit came through after three of six were away"),
        Mark("commit spans groups", "one mini-transaction wrote to several protection groups"),
        Mark("LAL back-pressure", "a commit waited for room below the LSN allocation limit"),
        *STORM_MARKS,
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
        self._compacting: set[SegmentId] = set()
        self._waiting: dict[str, Lsn] = {}
        self._table_met: dict[str, VolumeEpoch] = {}
        self._storms = StormCoverage(world, reference, self._count)

    def on_step(self, source: str, event: Event) -> None:
        handler = _ON_EVENT.get(type(event))
        if handler is not None:
            handler(self, source, event)
        self._storms.on_step(source, event)

    def _count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    # ---- writers ---------------------------------------------------------------------------------

    def _on_sealing(self, source: str, _: SealingStarted) -> None:
        if self._recovering - {source}:
            self._count("recovery overtaken")
        self._recovering = {source}

    def _on_seal_reply(self, source: str, event: SealAnswered) -> None:
        known = self._table_met.setdefault(source, event.table_epoch)
        if event.table_epoch != known:
            self._count("recovery met an old table")

    def _on_writer_started(self, _: str, event: WriterStarted) -> None:
        plan = event.plan
        end = plan.table.last_annulled_lsn
        if not event.fresh and self._reference.between(plan.vdl, end):
            self._count("recovery truncated above VDL")

    def _on_opened(self, source: str, _: VolumeOpened) -> None:
        self._recovering.discard(source)
        self._count("recovery completed")

    def _on_fenced(self, source: str, _: WriterFenced) -> None:
        self._recovering.discard(source)
        self._count("writer fenced")

    def _on_allocated(self, source: str, event: MtrAllocated) -> None:
        pg_ids = event.pg_ids
        if len(set(pg_ids)) > 1:
            self._count("commit spans groups")
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
        if self._waiting and event.vdl >= self._waiting.get(source, 1 << 63):
            del self._waiting[source]
            self._count("commit waited out an AZ + 1")

    def _on_room(self, _: str, event: RoomWaitStarted) -> None:
        self._count("LAL back-pressure")

    def _on_answer(self, _: str, event: ReadAnswered) -> None:
        answer = event.answer
        if isinstance(answer, ReadRefused):
            self._count("read refused and rerouted")
        elif isinstance(answer, PageReply) and event.hedge:
            self._count("hedged read won")

    def _on_confirmed(self, _: str, event: EpochVouched) -> None:
        self._count("strict read confirmed")

    # ---- segments --------------------------------------------------------------------------------

    def _on_refused(self, _: str, event: RequestRefused) -> None:
        self._count("zombie refused")

    def _on_read_refused(self, _: str, event: ReadDeclined) -> None:
        if event.read_point < event.floor:
            self._count("read below the floor")

    def _on_page(self, source: str, event: PageMaterialized) -> None:
        core = self._world.cluster.hosts[source].core
        if core is not None and event.read_point < core.state.vdl:
            self._count("old version materialized")

    def _on_gossip(self, source: str, event: GossipReceived) -> None:
        self._offered[source] = event.lsns[1]

    def _on_applied(self, source: str, event: RecordsApplied) -> None:
        if source in self._offered and event.scl > event.before:
            if event.scl >= self._offered[source]:
                self._count("gossip filled a gap")
            del self._offered[source]
        self._look_whether_healed(source)

    def _on_hydrated(self, source: str, event: Hydrated) -> None:
        self._count("segment hydrated by pages")
        self._look_whether_healed(source)

    def _look_whether_healed(self, source: SegmentId) -> None:
        if source in self._damaged:
            core = self._world.cluster.hosts[source].core
            if core is not None and core.state.whole:
                self._damaged.discard(source)
                self._count("damaged frame healed")

    def _on_table(self, source: str, _: TableAdopted) -> None:
        self._look_whether_healed(source)

    def _on_table_gossiped(self, _: str, event: TableGossiped) -> None:
        self._count("table adopted by gossip")

    def _on_collected(self, _: str, event: LogCollected) -> None:
        self._count("log collected")

    def _on_restored(self, source: str, event: Restored) -> None:
        self._compacting.discard(source)
        if event.torn_bytes:
            self._count("torn tail cut")
        if not event.whole:
            self._damaged.add(source)

    def _on_write_started(self, source: str, event: WriteStarted) -> None:
        if event.compaction:
            self._compacting.add(source)

    def _on_write_synced(self, source: str, _: WriteSynced) -> None:
        self._compacting.discard(source)

    def _on_batch(self, source: str, event: BatchReceived) -> None:
        if source in self._compacting and event.lsns:
            self._compacting.discard(source)
            self._count("compaction under load")

    def _on_write_failed(self, source: str, _: WriteFailed) -> None:
        self._compacting.discard(source)
        self._count("disk refused a write")

    def _on_scrub(self, _: str, event: ScrubFoundDamage) -> None:
        self._count("rot scrubbed away")


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
    LogCollected: Coverage._on_collected,
    Restored: Coverage._on_restored,
    WriteStarted: Coverage._on_write_started,
    WriteSynced: Coverage._on_write_synced,
    BatchReceived: Coverage._on_batch,
    WriteFailed: Coverage._on_write_failed,
    ScrubFoundDamage: Coverage._on_scrub,
}
