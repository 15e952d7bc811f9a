"""What a step speaks of: pages and LSNs, and the message that it sends or has taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

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
    SealAnswered,
    Sent,
    TableAcknowledged,
    VolumeOpened,
)
from segments.protocol.events import (
    AckSent,
    BatchReceived,
    Event,
    GossipReceived,
    Hydrated,
    LayerPublished,
    LayerReceived,
    LogCollected,
    PageMaterialized,
    ReadDeclined,
    RecordsApplied,
    TableAdopted,
    TableGossiped,
)
from segments.protocol.ids import Address, Lsn, PageId
from segments.protocol.messages import PageReply, PagesListed, ReadPage, WriteBatch
from segments.protocol.run import read_records
from segments.protocol.truncation import TruncationTable
from sim.view.mail import Key

Subject: TypeAlias = tuple[Sequence[PageId], tuple[Lsn, Lsn] | None]
"""Pages, and the first and the last LSN, both inclusive."""


class Subjects:
    """What each step of a run speaks of."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], Lsn] = {}

    def of(self, source: str, event: Event) -> Subject:
        """Its subject; of watermarks only what is new since the same was said last."""
        match event:
            case MtrAllocated(records=records) | LogFetched(records=records):
                return _of_records(records)
            case Sent(message=WriteBatch() as batch):
                return _of_records(read_records(batch.records))
            case PoolApplied(page_ids=page_ids):
                return list(dict.fromkeys(page_ids)), None
            case PoolLookedUp() | PageCached() | PageMaterialized():
                return [event.page_id], _at(event.page_lsn)
            case ReadStarted() | ReadDeclined():
                return [] if event.page_id is None else [event.page_id], _at(event.read_point)
            case ReadSent(request=ReadPage() as request):
                return [request.page_id], _at(request.read_point)
            case ReadAnswered(answer=PageReply() as answer):
                return [answer.page.page_id], _at(answer.page.page_lsn)
            case BatchReceived(lsns=lsns) | GossipReceived(lsns=lsns):
                return [], lsns
            case RecordsApplied(before=before, scl=scl) | Hydrated(before=before, scl=scl):
                return [], _span(before, scl)
            case AckSent(scl=scl, writer=writer):
                return [], self._newly(f"{source} {writer}", "sent", scl)
            case Acknowledged(scl=scl, segment=segment):
                return [], self._newly(f"{source} {segment}", "heard", scl)
            case CommitsAcknowledged(vdl=vdl) | VolumeOpened(vdl=vdl):
                return [], self._newly("", "vdl", vdl)
            case LayerPublished() | LayerReceived():
                return [], _span(event.start_lsn, event.end_lsn)
            case LogCollected(floor=floor):
                return [], _span(0, floor)
            case TableAdopted(table=table):
                return [], _annulled(table)
            case RecoveryPlanned(plan=plan):
                return [], _annulled(plan.table)
        return [], None

    def _newly(self, who: str, what: str, lsn: Lsn) -> tuple[Lsn, Lsn] | None:
        """What is above the last LSN of which somebody said the same."""
        known = self._said.get((who, what), 0)
        self._said[who, what] = max(known, lsn)
        return _span(known, lsn)


Question: TypeAlias = tuple[PageId | None, Lsn]
"""A page, None for a list of pages, and the read point."""


def question_of(event: Event) -> Question | None:
    """Which question a step of a read asks or answers, if it does."""
    match event:
        case ReadStarted(page_id=page_id, read_point=point):
            return page_id, point
        case ReadSent(request=ReadPage() as request):
            return request.page_id, request.read_point
        case ReadSent(request=request):
            return None, request.read_point
        case ReadAnswered(answer=PageReply() as answer):
            return answer.page.page_id, answer.read_point
        case ReadAnswered(answer=PagesListed() as answer):
            return None, answer.read_point
    return None


# ---- messages ------------------------------------------------------------------------------------


def sent_by(source: Address, event: Event) -> Key | None:
    """The message that a step is about to send; None for none."""
    match event:
        case Sent(segment=to, message=WriteBatch(seq=seq)):
            return "WriteBatch", source, to, seq
        case Sent(segment=to, message=message):
            return "InstallTable", source, to, message.epoch
        case AckSent(writer=to, seq=seq):
            return "WriteAck", source, to, seq
        case ReadSent(segment=to, request=request):
            return type(request).__name__, source, to, request.request_id
    return None


def taken_by(source: Address, event: Event, writers: Iterable[Address]) -> list[Key]:
    """The messages of which one has led to a step, as far as the step says."""
    match event:
        case BatchReceived(writer=writer, seq=seq):
            return [("WriteBatch", writer, source, seq)]
        case Acknowledged(segment=peer, scl=scl):
            return [("WriteAck", peer, source, scl), ("TableInstalled", peer, source, scl)]
        case ReadAnswered(segment=peer, answer=answer):
            return [(type(answer).__name__, peer, source, answer.request_id)]
        case SealAnswered(segment=peer, epoch=epoch):
            return [("SealReply", peer, source, epoch)]
        case LogFetched(segment=peer):
            return [("LogReply", peer, source, None)]
        case TableAcknowledged(segment=peer, scl=scl):
            return [("TableInstalled", peer, source, scl)]
        case EpochVouched(segment=peer):
            return [("EpochConfirmed", peer, source, None)]
        case GossipReceived(peer=peer):
            return [("GossipRecords", peer, source, None)]
        case LayerReceived(peer=peer):
            return [("GossipLayer", peer, source, None)]
        case TableGossiped(peer=peer):
            return [(kind, peer, source, None) for kind in ("GossipStatus", "GossipRecords")]
        case PageMaterialized(page_id=page_id, read_point=point):
            return [("ReadPage", each, source, (page_id, point)) for each in writers]
    return []


def _of_records(records: Sequence[Any]) -> Subject:
    if not records:
        return [], None
    pages = list(dict.fromkeys(record.page_id for record in records))
    return pages, (records[0].lsn, records[-1].lsn)


def _annulled(table: TruncationTable) -> tuple[Lsn, Lsn] | None:
    """The newest range of a table."""
    ranges = table.ranges
    return (ranges[-1].start_lsn, ranges[-1].end_lsn - 1) if ranges else None


def _at(lsn: Lsn | None) -> tuple[Lsn, Lsn] | None:
    return (lsn, lsn) if lsn else None


def _span(before: Lsn, last: Lsn) -> tuple[Lsn, Lsn] | None:
    """The LSNs in ``(before, last]``."""
    return (before + 1, last) if last > before else None
