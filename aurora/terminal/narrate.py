"""The walk: each trace event of the engine and the segments, told in a line or two.

It only puts into words what the events say. What it remembers is what it needs for that: who has
acknowledged what, so that it can count to four.

(More than 400 lines: each kind of event has a few of its own.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rich.text import Text

from aurora.terminal.text import (
    counted,
    joined,
    show_lsns,
    show_record,
    show_size,
    styled,
)
from segments.protocol import codec
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

_SOURCE_WIDTH: Final = 10
_EVENT_LIMIT: Final = 50_000
"""Events kept for telling; the oldest are forgotten."""
_WRITER_LIMIT: Final = 1_000
_WRITERS_STEPS: Final = ("sealing", "writer_started")
"""Who takes them is a writer, and they say in which epoch."""

Values = Mapping[str, Any]


class Narrator:
    """A listener that gathers events, and tells those it has gathered."""

    def __init__(self) -> None:
        self.listening = True
        self._events: list[tuple[str, str, Values]] = []
        self._scls: dict[PgId, dict[SegmentId, Lsn]] = {}
        self._heartbeat: dict[SegmentId, bool] = {}
        self._writers: dict[int, Address] = {}
        """Names of the writers by their ids."""

    def __call__(self, source: str, event: str, /, **values: object) -> None:
        if event in _WRITERS_STEPS:
            self._meet(source, values)
        if self.listening:
            self._events.append((source, event, values))
            del self._events[:-_EVENT_LIMIT]

    def _meet(self, name: Address, values: Values) -> None:
        epoch: VolumeEpoch = values["plan"].epoch if "plan" in values else values["epoch"]
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
        for source, event, values in _sends_together(events):
            teller = _TELLERS.get(event)
            if teller is not None:
                said = teller(self, source, values)
                lines.extend(
                    (_head(source if at == 0 else ""), each) for at, each in enumerate(said)
                )
        return lines

    @staticmethod
    def events() -> tuple[str, ...]:
        """The events it has words for."""
        return _EVENTS

    # ---- the writer ------------------------------------------------------------------------------

    def _mtr_allocated(self, _: str, values: Values) -> list[Text]:
        records: Sequence[RedoRecord] = values["records"]
        first, last = records[0].lsn, records[-1].lsn
        told = [
            styled(
                f"mini-transaction of {counted(len(records), 'record')}: {show_lsns(first, last)}"
            )
        ]
        for record, pg_id in zip(records, values["pg_ids"], strict=True):
            cpl = ", CPL: the mini-transaction ends here" if record.is_cpl else ""
            told.append(styled(f"LSN {record.lsn}: {show_record(record)}{cpl}"))
            links = (
                f"{record.prev_volume_lsn} in the volume, {record.prev_segment_lsn} in group "
                f"{pg_id}, {record.prev_page_lsn} on the page"
            )
            told.append(styled(f"  follows {links}", "note"))
        return told

    def _pool_applied(self, _: str, values: Values) -> list[Text]:
        pages = ", ".join(str(each) for each in dict.fromkeys(values["page_ids"]))
        return [styled(f"buffer pool: the redo is added to page {pages}, for reads once durable")]

    def _sent(self, _: str, values: Values) -> list[Text]:
        message, to = values["message"], values["segment"]
        if isinstance(message, InstallTable):
            ranges = _ranges(message.table.ranges)
            return [styled(f"→ {to}: truncation table of epoch {message.epoch.counter}: {ranges}")]
        assert isinstance(message, WriteBatch)
        records = codec.decode_records(message.records)
        if not records:
            return []
        lsns = show_lsns(records[0].lsn, records[-1].lsn)
        return [styled(f"→ {to}: {lsns}, the VDL is {message.vdl}")]

    def _acknowledged(self, _: str, values: Values) -> list[Text]:
        segment, scl, pg_id = values["segment"], values["scl"], values["pg_id"]
        group = self._scls.setdefault(pg_id, {})
        known = group.get(segment)
        group[segment] = scl
        before, pgcl = values["pgcl"]
        if known == scl and before == pgcl:
            return []
        reached = [each for each, its in sorted(group.items()) if its >= scl]
        quorum = f"{len(reached)} of 6 have LSN {scl}"
        told = [styled(f"← {segment}: its SCL is {scl}; {quorum} ({joined(reached)})")]
        if pgcl > before:
            told.append(styled(f"a write quorum of 4: PGCL {before} → {pgcl}", "mark"))
            old, vdl = values["vdl"]
            moved = f"VDL {old} → {vdl}" if vdl > old else f"VDL stays {vdl}"
            told.append(styled(f"VCL {values['vcl']}, {moved}", "mark"))
        return told

    def _commits_acknowledged(self, _: str, values: Values) -> list[Text]:
        if not values["commits"]:
            return []
        commits, vdl = counted(values["commits"], "commit"), values["vdl"]
        return [styled(f"{commits} acknowledged: LSN ≤ {vdl}, the VDL", "good")]

    def _pool_looked_up(self, _: str, values: Values) -> list[Text]:
        page, point, lsn = values["page_id"], values["read_point"], values["page_lsn"]
        if lsn is None:
            return [styled(f"buffer pool: page {page} at {point} is not here")]
        return [styled(f"buffer pool: has page {page} at {point}, its newest change is LSN {lsn}")]

    def _read_started(self, _: str, values: Values) -> list[Text]:
        required, scls = values["required_scl"], values["scls"]
        able = [each for each, scl in sorted(scls.items()) if scl >= required]
        who = joined(able) if able else "nobody yet"
        return [
            styled(
                f"read point {values['read_point']} needs a segment with SCL ≥ {required}: {who}"
            )
        ]

    def _read_sent(self, _: str, values: Values) -> list[Text]:
        request: ReadPage | ListPages = values["request"]
        if isinstance(request, ListPages):
            what = f"which pages are there from {request.from_page} on?"
        else:
            what = f"page {request.page_id}?"
        never = values["latency_s"] is None
        why = "never asked before, so tried now" if never else "the fastest of late, or its turn"
        return [styled(f"→ {values['segment']}: {what} ({why})")]

    def _read_answered(self, _: str, values: Values) -> list[Text]:
        answer, segment = values["answer"], values["segment"]
        if isinstance(answer, PageReply):
            return [
                styled(f"← {segment}: the page, {PAGE_SIZE:,} bytes as of {answer.page.page_lsn}")
            ]
        if isinstance(answer, PagesListed):
            return [styled(f"← {segment}: {counted(len(answer.page_ids), 'page')}")]
        return [styled(f"← {segment}: refuses, SCL {answer.scl}, floor {answer.floor}", "warn")]

    def _page_cached(self, _: str, values: Values) -> list[Text]:
        page, lsn = values["page_id"], values["page_lsn"]
        if values["cached"]:
            return [styled(f"buffer pool: keeps page {page} as of LSN {lsn}")]
        return [styled(f"buffer pool: page {page} has changed since, or may have: not kept")]

    def _opened(self, _: str, values: Values) -> list[Text]:
        return [
            styled(
                f"the volume is open: epoch {values['epoch'].counter}, VDL {values['vdl']}", "good"
            )
        ]

    def _fenced(self, _: str, values: Values) -> list[Text]:
        return [
            styled(f"fenced: {values['by']} has sealed a higher epoch; this was the end", "bad")
        ]

    def _epoch_confirmed(self, _: str, values: Values) -> list[Text]:
        return [styled(f"← {values['segment']}: no other writer has taken over")]

    # ---- recovery --------------------------------------------------------------------------------

    def _sealing(self, _: str, values: Values) -> list[Text]:
        self._scls.clear()
        return [styled(f"recovery: seals epoch {values['epoch'].counter} at every segment", "mark")]

    def _seal_reply(self, _: str, values: Values) -> list[Text]:
        return [styled(f"← {values['segment']}: sealed; SCL {values['scl']}, VDL {values['vdl']}")]

    def _log_fetched(self, _: str, values: Values) -> list[Text]:
        records = values["records"]
        lsns = f", {show_lsns(records[0].lsn, records[-1].lsn)}" if records else ""
        return [styled(f"← {values['segment']}: {counted(len(records), 'record')}{lsns}")]

    def _recovery_planned(self, _: str, values: Values) -> list[Text]:
        plan = values["plan"]
        count = sum(len(records) for records in plan.records.values())
        return [
            styled(f"a read quorum answered: VCL {plan.vcl}, VDL {plan.vdl}", "mark"),
            styled(f"annulled for ever: {_ranges(plan.table.ranges)}", "mark"),
            styled(f"to be copied to a write quorum: {counted(count, 'record')}"),
        ]

    def _writer_started(self, _: str, __: Values) -> list[Text]:
        return []  # the plan has been told

    def _table_installed(self, _: str, values: Values) -> list[Text]:
        return [styled(f"← {values['segment']}: has the table")]

    # ---- segments --------------------------------------------------------------------------------

    def _restored(self, _: str, values: Values) -> list[Text]:
        torn = f", cut {values['torn_bytes']} torn bytes" if values["torn_bytes"] else ""
        whole = "" if values["whole"] else ", damaged: no witness until repaired"
        return [
            styled(
                f"reads its log: {self._epoch(values['epoch'])}, SCL {values['scl']}{torn}{whole}"
            )
        ]

    def _storage_refused(self, _: str, values: Values) -> list[Text]:
        return [styled(f"does not serve: {values['reason']}; opens its disk anew soon", "bad")]

    def _segment_failed(self, _: str, values: Values) -> list[Text]:
        return [styled(f"is down by a mistake of its own: {values['reason']}", "bad")]

    def _batch_received(self, source: str, values: Values) -> list[Text]:
        lsns = values["lsns"]
        self._heartbeat[source] = lsns is None
        if lsns is None:
            return []
        return [styled(f"receives {show_lsns(*lsns)} from {values['writer']}")]

    def _write_started(self, _: str, values: Values) -> list[Text]:
        if values["compaction"]:
            return [styled("WAL: written anew, shorter")]
        promise = "the promise, then " if values["promise"] else ""
        return [styled(f"WAL: {promise}a frame of {values['bytes']} bytes, appended")]

    def _write_synced(self, _: str, values: Values) -> list[Text]:
        return [styled(f"WAL: synced, {show_size(values['log_bytes'])} long")]

    def _write_failed(self, _: str, values: Values) -> list[Text]:
        return [styled(f"WAL: not written, nothing of it counts: {values['reason']}", "bad")]

    def _promise_failed(self, _: str, values: Values) -> list[Text]:
        return [styled(f"WAL: the promise is not written yet: {values['reason']}", "bad")]

    def _waiting_for_room(self, _: str, values: Values) -> list[Text]:
        wanted = counted(values["count"], "record")
        return [styled(f"{wanted}: waiting for room; LSN limit {values['limit']}", "bad")]

    def _collected(self, _: str, values: Values) -> list[Text]:
        records = counted(values["records"], "record")
        return [styled(f"collected: {records} up to {values['floor']} folded into pages")]

    def _scrub_found_bad_promise(self, _: str, __: Values) -> list[Text]:
        return [styled("scrub: a promise slot is spoilt; both will be written again", "bad")]

    def _scrub_found_damage(self, _: str, values: Values) -> list[Text]:
        where = f"from byte {values['offset']} on"
        return [styled(f"scrub: damage {where}; the log will be written anew", "bad")]

    def _table_gossiped(self, _: str, values: Values) -> list[Text]:
        return [styled(f"gossip: a higher truncation table from {values['peer']}")]

    def _records_applied(self, _: str, values: Values) -> list[Text]:
        before, scl = values["before"], values["scl"]
        if scl > before:
            return [styled(f"chain: complete further on, SCL {before} → {scl}")]
        return [styled(f"chain: something is missing in between, SCL stays {scl}", "warn")]

    def _ack_sent(self, source: str, values: Values) -> list[Text]:
        if self._heartbeat.get(source, False):
            return []
        return [styled(f"acknowledges with its SCL, {values['scl']}")]

    def _sealed(self, _: str, values: Values) -> list[Text]:
        return [styled(f"sealed: takes nothing below {self._epoch(values['epoch'])} any more")]

    def _table_adopted(self, _: str, values: Values) -> list[Text]:
        table = values["table"]
        return [styled(f"adopts: {_ranges(table.ranges)} annulled, SCL {values['scl']}")]

    def _refused(self, _: str, values: Values) -> list[Text]:
        epoch, sealed = self._epoch(values["epoch"]), self._epoch(values["sealed"])
        return [styled(f"refuses {epoch}: {sealed} is sealed here", "warn")]

    def _page_materialized(self, _: str, values: Values) -> list[Text]:
        page, records, base = values["page_id"], values["records"], values["image_lsn"]
        start = f"the image at LSN {base}" if base else "an empty page"
        if not values["page_lsn"]:
            return [styled(f"page {page}: never written at {values['read_point']}", "warn")]
        told = [styled(f"page {page} at {values['read_point']}: walks its chain back")]
        told.extend(
            styled(f"  LSN {each.lsn} follows {each.prev_page_lsn or 'nothing'}", "note")
            for each in reversed(records)
        )
        told.append(styled(f"materializes: {start}, {counted(len(records), 'record')} on top"))
        told.extend(styled(f"  + LSN {each.lsn}: {show_record(each)}", "note") for each in records)
        return told

    def _pages_listed(self, _: str, values: Values) -> list[Text]:
        found, first = counted(values["pages"], "page"), values["from_page"]
        return [
            styled(f"looks through its pages from {first} on: {found} at {values['read_point']}")
        ]

    def _read_refused(self, _: str, values: Values) -> list[Text]:
        needs = f"SCL ≥ {values['required_scl']} and a floor ≤ {values['read_point']}"
        return [styled(f"cannot answer: that needs {needs}", "warn")]

    def _gossip_received(self, _: str, values: Values) -> list[Text]:
        return [styled(f"gossip: {values['peer']} sends {show_lsns(*values['lsns'])}")]

    def _hydrated(self, _: str, values: Values) -> list[Text]:
        return [styled(f"starts over from page images: SCL {values['before']} → {values['scl']}")]

    def _pages_received(self, _: str, values: Values) -> list[Text]:
        pages = counted(values["pages"], "page")
        return [styled(f"gossip: {pages} as of {values['base_lsn']} from {values['peer']}")]


_EVENTS: Final = (
    "mtr_allocated", "pool_applied", "sent", "acknowledged", "commits_acknowledged",
    "pool_looked_up", "read_started", "read_sent", "read_answered", "page_cached", "opened",
    "fenced", "epoch_confirmed", "sealing", "seal_reply", "log_fetched", "recovery_planned",
    "writer_started", "table_installed", "restored", "batch_received", "write_started",
    "write_synced", "promise_failed",
    "write_failed", "records_applied", "ack_sent", "sealed", "table_adopted", "refused",
    "page_materialized", "pages_listed", "read_refused", "gossip_received", "pages_received",
    "hydrated", "waiting_for_room", "collected", "scrub_found_damage", "table_gossiped",
    "storage_refused", "segment_failed", "scrub_found_bad_promise",
)  # fmt: skip
_TELLERS: Final[dict[str, Callable[[Narrator, str, Values], list[Text]]]] = {
    event: getattr(Narrator, f"_{event}") for event in _EVENTS
}


def _head(source: str) -> Text:
    kind = "compute" if source.startswith("writer") else "segment"
    return styled(f"  {source.ljust(_SOURCE_WIDTH)}", kind)


def _sends_together(
    events: Sequence[tuple[str, str, Values]],
) -> list[tuple[str, str, Values]]:
    """The same message to several segments as one step."""
    merged: list[tuple[str, str, Values]] = []
    for source, event, values in events:
        if merged and event == "sent" == merged[-1][1]:
            before = merged[-1][2]
            if _unnumbered(before["message"]) == _unnumbered(values["message"]):
                both = f"{before['segment']} {values['segment']}"
                merged[-1] = (source, event, {**before, "segment": both})
                continue
        merged.append((source, event, values))
    return merged


def _unnumbered(message: WriteBatch | InstallTable) -> WriteBatch | InstallTable:
    return message._replace(seq=0) if isinstance(message, WriteBatch) else message


def _ranges(ranges: Sequence[tuple[Lsn, Lsn]]) -> str:
    """The newest annulled ranges."""
    if not ranges:
        return "nothing"
    start, end = ranges[-1]
    return f"LSN {start}–{end - 1}" + (f" and {len(ranges) - 1} earlier" if ranges[1:] else "")
