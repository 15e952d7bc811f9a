"""Coverage marks: what a run reached, so that a fleet can tell what it never did.

All of them follow from the cores' trace events, here and nowhere else. A mark is counted each time
it is reached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from segments.protocol.ids import Lsn, SegmentId, VolumeEpoch
from segments.protocol.messages import PageReply, ReadRefused
from sim.check.reference_model import Reference
from sim.world.listener import Listener
from sim.world.world import World


@attrs.frozen
class Mark:
    """Something worth reaching."""

    name: str
    summary: str


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

    def on_step(self, source: str, event: str, values: Mapping[str, Any]) -> None:
        handler = _ON_EVENT.get(event)
        if handler is not None:
            handler(self, source, values)

    def _count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    # ---- writers ---------------------------------------------------------------------------------

    def _on_sealing(self, source: str, _: Mapping[str, Any]) -> None:
        if self._recovering - {source}:
            self._count("recovery overtaken")
        self._recovering = {source}

    def _on_seal_reply(self, source: str, values: Mapping[str, Any]) -> None:
        known = self._table_met.setdefault(source, values["table_epoch"])
        if values["table_epoch"] != known:
            self._count("recovery met an old table")

    def _on_writer_started(self, _: str, values: Mapping[str, Any]) -> None:
        plan = values["plan"]
        end = plan.table.last_annulled_lsn
        if not values["fresh"] and self._reference.between(plan.vdl, end):
            self._count("recovery truncated above VDL")

    def _on_opened(self, source: str, _: Mapping[str, Any]) -> None:
        self._recovering.discard(source)
        self._count("recovery completed")

    def _on_fenced(self, source: str, _: Mapping[str, Any]) -> None:
        self._recovering.discard(source)
        self._count("writer fenced")

    def _on_allocated(self, source: str, values: Mapping[str, Any]) -> None:
        pg_ids = values["pg_ids"]
        if len(set(pg_ids)) > 1:
            self._count("commit spans groups")
        if source not in self._waiting and any(map(self._az_plus_one, pg_ids)):
            self._waiting[source] = values["records"][-1].lsn

    def _az_plus_one(self, pg_id: int) -> bool:
        """Whether a whole AZ and one segment more of a group are down, paused or lost."""
        group = self._world.cluster.groups[pg_id]
        hosts = [self._world.cluster.hosts[segment] for segment in group.members]
        away = Counter(
            host.az
            for host in hosts
            if not host.up or (host.server is not None and host.server.paused)
        )
        whole = [az for az, count in away.items() if count == group.zones.count(az)]
        return bool(whole) and len(away) > 1

    def _on_commits(self, source: str, values: Mapping[str, Any]) -> None:
        if self._waiting and values["vdl"] >= self._waiting.get(source, 1 << 63):
            del self._waiting[source]
            self._count("commit waited out an AZ + 1")

    def _on_room(self, _: str, values: Mapping[str, Any]) -> None:
        self._count("LAL back-pressure")

    def _on_answer(self, _: str, values: Mapping[str, Any]) -> None:
        answer = values["answer"]
        if isinstance(answer, ReadRefused):
            self._count("read refused and rerouted")
        elif isinstance(answer, PageReply) and values["hedge"]:
            self._count("hedged read won")

    def _on_confirmed(self, _: str, values: Mapping[str, Any]) -> None:
        self._count("strict read confirmed")

    # ---- segments --------------------------------------------------------------------------------

    def _on_refused(self, _: str, values: Mapping[str, Any]) -> None:
        self._count("zombie refused")

    def _on_read_refused(self, _: str, values: Mapping[str, Any]) -> None:
        if values["read_point"] < values["floor"]:
            self._count("read below the floor")

    def _on_page(self, source: str, values: Mapping[str, Any]) -> None:
        core = self._world.cluster.hosts[source].core
        if core is not None and values["read_point"] < core.state.vdl:
            self._count("old version materialized")

    def _on_gossip(self, source: str, values: Mapping[str, Any]) -> None:
        self._offered[source] = values["lsns"][1]

    def _on_applied(self, source: str, values: Mapping[str, Any]) -> None:
        if source in self._offered and values["scl"] > values["before"]:
            if values["scl"] >= self._offered[source]:
                self._count("gossip filled a gap")
            del self._offered[source]
        self._look_whether_healed(source)

    def _on_hydrated(self, source: str, values: Mapping[str, Any]) -> None:
        if "scl" in values:
            self._count("segment hydrated by pages")
        self._look_whether_healed(source)

    def _look_whether_healed(self, source: SegmentId) -> None:
        if source in self._damaged:
            core = self._world.cluster.hosts[source].core
            if core is not None and core.state.whole:
                self._damaged.discard(source)
                self._count("damaged frame healed")

    def _on_table(self, source: str, _: Mapping[str, Any]) -> None:
        self._look_whether_healed(source)

    def _on_table_gossiped(self, _: str, values: Mapping[str, Any]) -> None:
        self._count("table adopted by gossip")

    def _on_collected(self, _: str, values: Mapping[str, Any]) -> None:
        self._count("log collected")

    def _on_restored(self, source: str, values: Mapping[str, Any]) -> None:
        self._compacting.discard(source)
        if values["torn_bytes"]:
            self._count("torn tail cut")
        if not values["whole"]:
            self._damaged.add(source)

    def _on_write_started(self, source: str, values: Mapping[str, Any]) -> None:
        if values["compaction"]:
            self._compacting.add(source)

    def _on_write_synced(self, source: str, _: Mapping[str, Any]) -> None:
        self._compacting.discard(source)

    def _on_batch(self, source: str, values: Mapping[str, Any]) -> None:
        if source in self._compacting and values["lsns"]:
            self._compacting.discard(source)
            self._count("compaction under load")

    def _on_write_failed(self, source: str, _: Mapping[str, Any]) -> None:
        self._compacting.discard(source)
        self._count("disk refused a write")

    def _on_scrub(self, _: str, values: Mapping[str, Any]) -> None:
        self._count("rot scrubbed away")


_ON_EVENT: Final[Mapping[str, Callable[[Coverage, str, Mapping[str, Any]], None]]] = {
    "sealing": Coverage._on_sealing,
    "seal_reply": Coverage._on_seal_reply,
    "writer_started": Coverage._on_writer_started,
    "opened": Coverage._on_opened,
    "fenced": Coverage._on_fenced,
    "mtr_allocated": Coverage._on_allocated,
    "commits_acknowledged": Coverage._on_commits,
    "waiting_for_room": Coverage._on_room,
    "read_answered": Coverage._on_answer,
    "epoch_confirmed": Coverage._on_confirmed,
    "refused": Coverage._on_refused,
    "read_refused": Coverage._on_read_refused,
    "page_materialized": Coverage._on_page,
    "gossip_received": Coverage._on_gossip,
    "records_applied": Coverage._on_applied,
    "hydrated": Coverage._on_hydrated,
    "table_adopted": Coverage._on_table,
    "table_gossiped": Coverage._on_table_gossiped,
    "collected": Coverage._on_collected,
    "restored": Coverage._on_restored,
    "write_started": Coverage._on_write_started,
    "write_synced": Coverage._on_write_synced,
    "batch_received": Coverage._on_batch,
    "write_failed": Coverage._on_write_failed,
    "scrub_found_damage": Coverage._on_scrub,
}
