"""The walk: each trace event of the engine and the segments, told in a line or two.

It only puts into words what the events say. What it remembers is what it needs for that: who has
acknowledged what, so that it can count to four.

(More than 400 lines: each kind of event has a few of its own.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

import attrs
from rich.text import Text

from aurora.events import (
    Acknowledged,
    CommitsAcknowledged,
    EpochVouched,
    LogFetched,
    MtrAllocated,
    PageCached,
    PoolApplied,
    PoolLookedUp,
    ReadAnswered,
    ReadSent,
    ReadStarted,
    RecoveryPlanned,
    RollbackFound,
    RoomWaitStarted,
    SealAnswered,
    SealingStarted,
    Sent,
    TableAcknowledged,
    VolumeOpened,
    WriterFenced,
    WriterStarted,
)
from aurora.terminal.text import (
    counted,
    joined,
    show_change,
    show_lsns,
    show_record,
    show_size,
    styled,
)
from segments.protocol.events import (
    AckSent,
    BatchReceived,
    Event,
    GossipReceived,
    Hydrated,
    JobFailed,
    LayerDamaged,
    LayerPublished,
    LayerReceived,
    LogCollected,
    LogRewritten,
    PageMaterialized,
    PagesFound,
    PromiseFailed,
    ReadDeclined,
    RecordsApplied,
    RequestRefused,
    Restored,
    RewriteStarted,
    RolledBack,
    ScrubFoundBadManifest,
    ScrubFoundBadPromise,
    ScrubFoundDamage,
    Sealed,
    SegmentFailed,
    SpaceLookedAt,
    StorageRefused,
    TableAdopted,
    TableGossiped,
    TableSettled,
    WriteFailed,
    WriteStarted,
    WriteSynced,
)
from segments.protocol.ids import Address, Lsn, PgId, SegmentId, VolumeEpoch, name_writers
from segments.protocol.messages import (
    InstallTable,
    ListPages,
    PageReply,
    PagesListed,
    ReadPage,
    WriteBatch,
)
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import read_records
from segments.protocol.truncation import TruncationRange

_SOURCE_WIDTH: Final = 10
_EVENT_LIMIT: Final = 50_000
"""Events kept for telling; the oldest are forgotten."""
_WRITER_LIMIT: Final = 1_000


class Narrator:
    """A listener that gathers events, and tells those it has gathered."""

    def __init__(self) -> None:
        self.listening = True
        self._events: list[tuple[str, Event]] = []
        self._scls: dict[PgId, dict[SegmentId, Lsn]] = {}
        self._heartbeat: dict[SegmentId, bool] = {}
        self._writers: dict[int, Address] = {}
        """Names of the writers by their ids."""

    def __call__(self, source: str, event: Event) -> None:
        match event:
            case SealingStarted():
                self._meet(source, event.epoch)
            case WriterStarted():
                self._meet(source, event.plan.epoch)
        if self.listening:
            self._events.append((source, event))
            del self._events[:-_EVENT_LIMIT]

    def _meet(self, name: Address, epoch: VolumeEpoch) -> None:
        self._writers[epoch.writer_id] = name
        while len(self._writers) > _WRITER_LIMIT:
            del self._writers[next(iter(self._writers))]

    def _epoch(self, epoch: VolumeEpoch) -> str:
        return name_writers(f"epoch {epoch}", self._writers)

    def tell(self, *, by_party: bool = True) -> list[tuple[Text, Text]]:
        """The steps since the last call: who, and what.

        By party, in the order of names, unless in the order in which they happened to be taken.
        """
        events, self._events = self._events, []
        if by_party:
            events.sort(key=lambda each: each[0])
        lines: list[tuple[Text, Text]] = []
        for source, event in _sends_together(events):
            teller = _TELLERS.get(type(event))
            if teller is not None:
                said = teller(self, source, event)
                lines.extend(
                    (_head(source if at == 0 else ""), each) for at, each in enumerate(said)
                )
        return lines

    @staticmethod
    def events() -> tuple[type[Event], ...]:
        """The events it has words for."""
        return tuple(_TELLERS)

    # ---- the writer ------------------------------------------------------------------------------

    def _mtr_allocated(self, _: str, event: MtrAllocated) -> list[Text]:
        records: Sequence[RedoRecord] = event.records
        first, last = records[0].lsn, records[-1].lsn
        whole = records[-1].is_cpl and records[0].mtr_id == first
        what = "mini-transaction" if whole else "part of a mini-transaction"
        told = [styled(f"{what} of {counted(len(records), 'record')}: {show_lsns(first, last)}")]
        for record, pg_id in zip(records, event.pg_ids, strict=True):
            cpl = ", CPL: the mini-transaction ends here" if record.is_cpl else ""
            told.append(styled(f"LSN {record.lsn}: {show_record(record)}{cpl}"))
            links = (
                f"{record.prev_volume_lsn} in the volume, {record.prev_segment_lsn} in group "
                f"{pg_id}, {record.prev_page_lsn} on the page"
            )
            told.append(styled(f"  follows {links}", "note"))
        return told

    def _pool_applied(self, _: str, event: PoolApplied) -> list[Text]:
        pages = ", ".join(str(each) for each in dict.fromkeys(event.page_ids))
        return [styled(f"buffer pool: the redo is added to page {pages}, for reads once durable")]

    def _sent(self, _: str, event: Sent) -> list[Text]:
        message, to = event.message, event.segment
        if isinstance(message, InstallTable):
            ranges = _ranges(message.table.ranges)
            return [styled(f"→ {to}: truncation table of epoch {message.epoch.counter}: {ranges}")]
        assert isinstance(message, WriteBatch)
        records = read_records(message.records)
        if not records:
            return []
        lsns = show_lsns(records[0].lsn, records[-1].lsn)
        return [styled(f"→ {to}: {lsns}, the VDL is {message.vdl}")]

    def _acknowledged(self, _: str, event: Acknowledged) -> list[Text]:
        segment, scl, pg_id = event.segment, event.scl, event.pg_id
        group = self._scls.setdefault(pg_id, {})
        known = group.get(segment)
        group[segment] = scl
        before, pgcl = event.pgcl
        if known == scl and before == pgcl:
            return []
        reached = [each for each, its in sorted(group.items()) if its >= scl]
        quorum = f"{len(reached)} of 6 have LSN {scl}"
        told = [styled(f"← {segment}: its SCL is {scl}; {quorum} ({joined(reached)})")]
        if pgcl > before:
            told.append(styled(f"a write quorum of 4: PGCL {before} → {pgcl}", "mark"))
            old, vdl = event.vdl
            moved = f"VDL {old} → {vdl}" if vdl > old else f"VDL stays {vdl}"
            told.append(styled(f"VCL {event.vcl}, {moved}", "mark"))
        return told

    def _commits_acknowledged(self, _: str, event: CommitsAcknowledged) -> list[Text]:
        if not event.commits:
            return []
        commits, vdl = counted(event.commits, "commit"), event.vdl
        return [styled(f"{commits} acknowledged: LSN ≤ {vdl}, the VDL", "good")]

    def _pool_looked_up(self, _: str, event: PoolLookedUp) -> list[Text]:
        page, point, lsn = event.page_id, event.read_point, event.page_lsn
        if lsn is None:
            return [styled(f"buffer pool: page {page} at {point} is not here")]
        return [styled(f"buffer pool: has page {page} at {point}, its newest change is LSN {lsn}")]

    def _read_started(self, _: str, event: ReadStarted) -> list[Text]:
        required, scls = event.required_scl, event.scls
        able = [each for each, scl in sorted(scls.items()) if scl >= required]
        who = joined(able) if able else "nobody yet"
        return [
            styled(f"read point {event.read_point} needs a segment with SCL ≥ {required}: {who}")
        ]

    def _read_sent(self, _: str, event: ReadSent) -> list[Text]:
        request: ReadPage | ListPages = event.request
        if isinstance(request, ListPages):
            what = f"which pages are there from {request.from_page} on?"
        else:
            what = f"page {request.page_id}?"
        never = event.latency_s is None
        why = "never asked before, so tried now" if never else "the fastest of late, or its turn"
        return [styled(f"→ {event.segment}: {what} ({why})")]

    def _read_answered(self, _: str, event: ReadAnswered) -> list[Text]:
        answer, segment = event.answer, event.segment
        if isinstance(answer, PageReply):
            return [
                styled(f"← {segment}: the page, {PAGE_SIZE:,} bytes as of {answer.page.page_lsn}")
            ]
        if isinstance(answer, PagesListed):
            return [styled(f"← {segment}: {counted(len(answer.page_ids), 'page')}")]
        return [styled(f"← {segment}: refuses, SCL {answer.scl}, floor {answer.floor}", "warn")]

    def _page_cached(self, _: str, event: PageCached) -> list[Text]:
        page, lsn = event.page_id, event.page_lsn
        if event.cached:
            return [styled(f"buffer pool: keeps page {page} as of LSN {lsn}")]
        return [styled(f"buffer pool: page {page} has changed since, or may have: not kept")]

    def _volume_opened(self, _: str, event: VolumeOpened) -> list[Text]:
        return [styled(f"the volume is open: epoch {event.epoch.counter}, VDL {event.vdl}", "good")]

    def _writer_fenced(self, _: str, event: WriterFenced) -> list[Text]:
        return [styled(f"fenced: {event.by} has sealed a higher epoch; this was the end", "bad")]

    def _epoch_vouched(self, _: str, event: EpochVouched) -> list[Text]:
        return [styled(f"← {event.segment}: no other writer has taken over")]

    # ---- recovery --------------------------------------------------------------------------------

    def _sealing_started(self, _: str, event: SealingStarted) -> list[Text]:
        self._scls.clear()
        return [styled(f"recovery: seals epoch {event.epoch.counter} at every segment", "mark")]

    def _seal_answered(self, _: str, event: SealAnswered) -> list[Text]:
        return [styled(f"← {event.segment}: sealed; SCL {event.scl}, VDL {event.vdl}")]

    def _rollback_found(self, _: str, event: RollbackFound) -> list[Text]:
        return [
            styled(
                f"does not count {event.segment}: {name_writers(event.why, self._writers)}", "bad"
            )
        ]

    def _log_fetched(self, _: str, event: LogFetched) -> list[Text]:
        records = event.records
        lsns = f", {show_lsns(records[0].lsn, records[-1].lsn)}" if records else ""
        return [styled(f"← {event.segment}: {counted(len(records), 'record')}{lsns}")]

    def _recovery_planned(self, _: str, event: RecoveryPlanned) -> list[Text]:
        plan = event.plan
        count = sum(len(records) for records in plan.records.values())
        return [
            styled(f"a read quorum answered: VCL {plan.vcl}, VDL {plan.vdl}", "mark"),
            styled(f"annulled for ever: {_ranges(plan.table.ranges)}", "mark"),
            styled(f"to be copied to a write quorum: {counted(count, 'record')}"),
        ]

    def _writer_started(self, _: str, __: WriterStarted) -> list[Text]:
        return []  # the plan has been told

    def _table_acknowledged(self, _: str, event: TableAcknowledged) -> list[Text]:
        return [styled(f"← {event.segment}: has the table")]

    # ---- segments --------------------------------------------------------------------------------

    def _restored(self, _: str, event: Restored) -> list[Text]:
        torn = f", cut {event.torn_bytes} torn bytes" if event.torn_bytes else ""
        whole = "" if event.whole else ", damaged: no witness until repaired"
        return [styled(f"reads its log: {self._epoch(event.epoch)}, SCL {event.scl}{torn}{whole}")]

    def _rolled_back(self, _: str, event: RolledBack) -> list[Text]:
        has, heard = event.has.scl, event.heard.scl
        known = f"has heard of SCL {heard}" if heard > has else "knows that it had more"
        return [styled(f"is lost: its disk was rolled back to SCL {has}; {event.told_by} {known}",
                       "bad")]  # fmt: skip

    def _storage_refused(self, _: str, event: StorageRefused) -> list[Text]:
        return [styled(f"does not serve: {event.reason}; opens its disk anew soon", "bad")]

    def _segment_failed(self, _: str, event: SegmentFailed) -> list[Text]:
        return [styled(f"is down by a mistake of its own: {event.reason}", "bad")]

    def _batch_received(self, source: str, event: BatchReceived) -> list[Text]:
        lsns = event.lsns
        self._heartbeat[source] = lsns is None
        if lsns is None:
            return []
        return [styled(f"receives {show_lsns(*lsns)} from {event.writer}")]

    def _write_started(self, _: str, event: WriteStarted) -> list[Text]:
        if event.new_file:
            return [styled("WAL: a new file is begun")]
        promise = "the promise, then " if event.promise else ""
        return [styled(f"WAL: {promise}a frame of {event.frame_bytes} bytes, appended")]

    def _write_synced(self, _: str, event: WriteSynced) -> list[Text]:
        return [styled(f"WAL: synced, {show_size(event.log_bytes)} long")]

    def _write_failed(self, _: str, event: WriteFailed) -> list[Text]:
        return [styled(f"WAL: not written, nothing of it counts: {event.reason}", "bad")]

    def _promise_failed(self, _: str, event: PromiseFailed) -> list[Text]:
        return [styled(f"WAL: the promise is not written yet: {event.reason}", "bad")]

    def _room_wait_started(self, _: str, event: RoomWaitStarted) -> list[Text]:
        wanted = counted(event.count, "record")
        return [styled(f"{wanted}: waiting for room; LSN limit {event.limit}", "bad")]

    def _layer_published(self, _: str, event: LayerPublished) -> list[Text]:
        name = _layer(event.number) + (", a base," if event.base else "")
        lsns = show_lsns(event.start_lsn + 1, event.end_lsn)
        size = f"{counted(event.rows, 'row')}, {show_size(event.file_bytes)}"
        if event.replaced:
            old = joined([_layer(each) for each in event.replaced])
            told = f"in place of {old}"
        else:
            told = "which leave the log"
        return [styled(f"{name} is live: {lsns}, {told}; {size}")]

    def _log_collected(self, _: str, event: LogCollected) -> list[Text]:
        rows = counted(event.rows, "row")
        newest = f"of {rows} only the newest version of each page is left"
        return [
            styled(f"collected up to LSN {event.floor}, the floor is {event.announced}: {newest}")
        ]

    def _rewrite_started(self, _: str, __: RewriteStarted) -> list[Text]:
        return [styled("WAL: is to be written anew, and goes on in a new file")]

    def _log_rewritten(self, _: str, event: LogRewritten) -> list[Text]:
        size = show_size(event.log_bytes)
        return [styled(f"WAL: written anew, {size}; what came meanwhile follows that")]

    def _job_failed(self, _: str, event: JobFailed) -> list[Text]:
        return [styled(f"background: not done, nothing of it counts: {event.reason}", "bad")]

    def _space_looked_at(self, _: str, event: SpaceLookedAt) -> list[Text]:
        of = f"needs {show_size(event.needed_bytes)} of {show_size(event.limit_bytes)}"
        if event.short:
            return [styled(f"short of space: {of}; writers are to begin nothing new", "warn")]
        return [styled(f"has space again: {of}")]

    def _layer_damaged(self, _: str, event: LayerDamaged) -> list[Text]:
        return [
            styled(
                f"{event.by} meets damage: {event.what}; what it holds has to come from a peer",
                "bad",
            )
        ]

    def _layer_received(self, _: str, event: LayerReceived) -> list[Text]:
        kind = "a base layer" if event.base else "a layer"
        lsns = show_lsns(event.start_lsn + 1, event.end_lsn)
        return [styled(f"gossip: {event.peer} has sent all of {kind}, {lsns}")]

    def _scrub_found_bad_manifest(self, _: str, __: ScrubFoundBadManifest) -> list[Text]:
        return [styled("scrub: the manifest is spoilt; it will be written again", "bad")]

    def _scrub_found_bad_promise(self, _: str, __: ScrubFoundBadPromise) -> list[Text]:
        return [styled("scrub: a promise slot is spoilt; both will be written again", "bad")]

    def _scrub_found_damage(self, _: str, event: ScrubFoundDamage) -> list[Text]:
        where = f"from byte {event.offset} on"
        return [styled(f"scrub: damage {where}; the log will be written anew", "bad")]

    def _table_gossiped(self, _: str, event: TableGossiped) -> list[Text]:
        return [styled(f"gossip: a higher truncation table from {event.peer}")]

    def _records_applied(self, _: str, event: RecordsApplied) -> list[Text]:
        before, scl = event.before, event.scl
        if scl > before:
            return [styled(f"chain: complete further on, SCL {before} → {scl}")]
        return [styled(f"chain: something is missing in between, SCL stays {scl}", "warn")]

    def _ack_sent(self, source: str, event: AckSent) -> list[Text]:
        if self._heartbeat.get(source, False):
            return []
        return [styled(f"acknowledges with its SCL, {event.scl}")]

    def _sealed(self, _: str, event: Sealed) -> list[Text]:
        return [styled(f"sealed: takes nothing below {self._epoch(event.epoch)} any more")]

    def _table_adopted(self, _: str, event: TableAdopted) -> list[Text]:
        table = event.table
        return [styled(f"adopts: {_ranges(table.ranges)} annulled, SCL {event.scl}")]

    def _table_settled(self, _: str, event: TableSettled) -> list[Text]:
        return [styled(f"all segments have the table of {self._epoch(event.epoch)}", "note")]

    def _request_refused(self, _: str, event: RequestRefused) -> list[Text]:
        epoch, sealed = self._epoch(event.epoch), self._epoch(event.sealed)
        return [styled(f"refuses {epoch}: {sealed} is sealed here", "warn")]

    def _page_materialized(self, _: str, event: PageMaterialized) -> list[Text]:
        page, changes, base = event.page_id, event.changes, event.image_lsn
        start = f"the image at LSN {base}" if base else "an empty page"
        if not event.page_lsn:
            return [styled(f"page {page}: never written at {event.read_point}", "warn")]
        told = [styled(f"page {page} at {event.read_point}: walks its chain back")]
        lsns = [base, *(each.lsn for each in changes)]
        told.extend(
            styled(f"  LSN {lsn} follows {before or 'nothing'}", "note")
            for before, lsn in reversed([*pairwise(lsns)])
        )
        told.append(styled(f"materializes: {start}, {counted(len(changes), 'record')} on top"))
        told.extend(
            styled(f"  + LSN {lsn}: {show_change(page, offset, payload)}", "note")
            for lsn, offset, payload in changes
        )
        return told

    def _pages_found(self, _: str, event: PagesFound) -> list[Text]:
        found, first = counted(event.pages, "page"), event.from_page
        return [styled(f"looks through its pages from {first} on: {found} at {event.read_point}")]

    def _read_declined(self, _: str, event: ReadDeclined) -> list[Text]:
        if event.scl >= event.required_scl and event.floor <= event.read_point:
            return [styled("cannot answer: a layer that it needs is damaged, or not read", "warn")]
        needs = f"SCL ≥ {event.required_scl} and a floor ≤ {event.read_point}"
        return [styled(f"cannot answer: that needs {needs}", "warn")]

    def _gossip_received(self, _: str, event: GossipReceived) -> list[Text]:
        return [styled(f"gossip: {event.peer} sends {show_lsns(*event.lsns)}")]

    def _hydrated(self, _: str, event: Hydrated) -> list[Text]:
        before, scl = event.before, event.scl
        if scl == before:
            return [styled(f"the peer's layer is live, SCL stays {scl}")]
        return [styled(f"starts over from the peer's layer: SCL {before} → {scl}")]


_TELLERS: Final[dict[type[Event], Callable[[Narrator, str, Any], list[Text]]]] = {
    MtrAllocated: Narrator._mtr_allocated,
    PoolApplied: Narrator._pool_applied,
    Sent: Narrator._sent,
    Acknowledged: Narrator._acknowledged,
    CommitsAcknowledged: Narrator._commits_acknowledged,
    PoolLookedUp: Narrator._pool_looked_up,
    ReadStarted: Narrator._read_started,
    ReadSent: Narrator._read_sent,
    ReadAnswered: Narrator._read_answered,
    PageCached: Narrator._page_cached,
    VolumeOpened: Narrator._volume_opened,
    WriterFenced: Narrator._writer_fenced,
    EpochVouched: Narrator._epoch_vouched,
    SealingStarted: Narrator._sealing_started,
    SealAnswered: Narrator._seal_answered,
    RollbackFound: Narrator._rollback_found,
    LogFetched: Narrator._log_fetched,
    RecoveryPlanned: Narrator._recovery_planned,
    WriterStarted: Narrator._writer_started,
    TableAcknowledged: Narrator._table_acknowledged,
    Restored: Narrator._restored,
    RolledBack: Narrator._rolled_back,
    BatchReceived: Narrator._batch_received,
    WriteStarted: Narrator._write_started,
    WriteSynced: Narrator._write_synced,
    PromiseFailed: Narrator._promise_failed,
    WriteFailed: Narrator._write_failed,
    RecordsApplied: Narrator._records_applied,
    AckSent: Narrator._ack_sent,
    Sealed: Narrator._sealed,
    TableAdopted: Narrator._table_adopted,
    TableSettled: Narrator._table_settled,
    RequestRefused: Narrator._request_refused,
    PageMaterialized: Narrator._page_materialized,
    PagesFound: Narrator._pages_found,
    ReadDeclined: Narrator._read_declined,
    GossipReceived: Narrator._gossip_received,
    LayerReceived: Narrator._layer_received,
    Hydrated: Narrator._hydrated,
    RoomWaitStarted: Narrator._room_wait_started,
    LayerPublished: Narrator._layer_published,
    LogCollected: Narrator._log_collected,
    RewriteStarted: Narrator._rewrite_started,
    LogRewritten: Narrator._log_rewritten,
    JobFailed: Narrator._job_failed,
    LayerDamaged: Narrator._layer_damaged,
    SpaceLookedAt: Narrator._space_looked_at,
    ScrubFoundDamage: Narrator._scrub_found_damage,
    TableGossiped: Narrator._table_gossiped,
    StorageRefused: Narrator._storage_refused,
    SegmentFailed: Narrator._segment_failed,
    ScrubFoundBadManifest: Narrator._scrub_found_bad_manifest,
    ScrubFoundBadPromise: Narrator._scrub_found_bad_promise,
}


def _layer(number: int) -> str:
    """As its file is called."""
    return f"layer-{number}"


def _head(source: str) -> Text:
    kind = "compute" if source.startswith("writer") else "segment"
    return styled(f"  {source.ljust(_SOURCE_WIDTH)}", kind)


def _sends_together(events: Sequence[tuple[str, Event]]) -> list[tuple[str, Event]]:
    """The same message to several segments as one step."""
    merged: list[tuple[str, Event]] = []
    for source, event in events:
        before = merged[-1][1] if merged else None
        if isinstance(event, Sent) and isinstance(before, Sent) and _alike(before, event):
            both = attrs.evolve(before, segment=f"{before.segment} {event.segment}")
            merged[-1] = (source, both)
        else:
            merged.append((source, event))
    return merged


def _alike(one: Sent, other: Sent) -> bool:
    return _unnumbered(one.message) == _unnumbered(other.message)


def _unnumbered(message: WriteBatch | InstallTable) -> WriteBatch | InstallTable:
    return message._replace(seq=0) if isinstance(message, WriteBatch) else message


def _ranges(ranges: Sequence[TruncationRange]) -> str:
    """The newest annulled ranges."""
    if not ranges:
        return "nothing"
    start, end, _ = ranges[-1]
    return f"LSN {start}–{end - 1}" + (f" and {len(ranges) - 1} earlier" if ranges[1:] else "")
