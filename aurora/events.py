"""What a writer does, step by step: its events, beside those of the segments.

See `segments.protocol.events` for what an event is, and who is told of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from aurora.recovery_plan import RecoveryPlan
from segments.protocol.events import Event
from segments.protocol.ids import Lsn, PageId, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import (
    InstallTable,
    ListPages,
    PageReply,
    PagesListed,
    ReadPage,
    ReadRefused,
    WriteBatch,
)
from segments.protocol.record import RedoRecord

# ---- writes --------------------------------------------------------------------------------------


@attrs.frozen
class MtrAllocated(Event):
    """A mini-transaction has its LSNs and chains; each record's protection group.

    Or a part of a large one, of which the last ends with the CPL.
    """

    records: Sequence[RedoRecord]
    pg_ids: Sequence[PgId]


@attrs.frozen
class RoomWaitStarted(Event):
    """A commit of ``count`` records waits for room, below the LAL or in an outgoing log."""

    count: int
    limit: Lsn


@attrs.frozen
class PoolApplied(Event):
    """A mini-transaction's redo is in the pages in the buffer pool, one for each record."""

    page_ids: Sequence[PageId]


@attrs.frozen
class Sent(Event):
    """A batch of redo, or a truncation table, has been handed to the network."""

    segment: SegmentId
    message: WriteBatch | InstallTable


@attrs.frozen
class Acknowledged(Event):
    """A segment told its SCL; ``pgcl`` and ``vdl`` are pairs: before, after."""

    segment: SegmentId
    scl: Lsn
    pg_id: PgId
    pgcl: tuple[Lsn, Lsn]
    vdl: tuple[Lsn, Lsn]
    vcl: Lsn


@attrs.frozen
class CommitsAcknowledged(Event):
    """The VDL moved, and ``commits`` callers were told that they are durable."""

    vdl: Lsn
    commits: int


# ---- reads ---------------------------------------------------------------------------------------


@attrs.frozen
class PoolLookedUp(Event):
    """A read looked into the buffer pool; ``page_lsn`` is None if that version is not there."""

    page_id: PageId
    read_point: Lsn
    page_lsn: Lsn | None


@attrs.frozen
class ReadStarted(Event):
    """What a segment needs to answer, and what each has; without ``page_id`` for a list."""

    page_id: PageId | None
    read_point: Lsn
    pg_id: PgId
    required_scl: Lsn
    scls: Mapping[SegmentId, Lsn]


@attrs.frozen
class ReadSent(Event):
    """The segment that was asked; its recent latency, None if it never was before."""

    segment: SegmentId
    request: ReadPage | ListPages
    latency_s: float | None


@attrs.frozen
class ReadAnswered(Event):
    """A page, a list of pages, or a refusal; whether this was the second segment asked."""

    segment: SegmentId
    answer: PageReply | PagesListed | ReadRefused
    hedge: bool


@attrs.frozen
class PageCached(Event):
    """Whether the page went into the buffer pool."""

    page_id: PageId
    read_point: Lsn
    page_lsn: Lsn
    cached: bool


@attrs.frozen
class EpochVouched(Event):
    """For a strict read: no later writer is known there."""

    segment: SegmentId


@attrs.frozen
class WriterFenced(Event):
    """The end: a segment has sealed a higher epoch."""

    sealed: VolumeEpoch
    by: SegmentId


# ---- a writer that opens a volume ----------------------------------------------------------------


@attrs.frozen
class SealingStarted(Event):
    """A round of sealing begins."""

    epoch: VolumeEpoch


@attrs.frozen
class RollbackFound(Event):
    """A recovery has found out that a segment's disk was rolled back: its reply does not count."""

    segment: SegmentId
    why: str


@attrs.frozen
class SealAnswered(Event):
    """A segment has sealed the epoch, and says what it holds."""

    epoch: VolumeEpoch
    segment: SegmentId
    scl: Lsn
    vdl: Lsn
    table_epoch: VolumeEpoch
    settled: VolumeEpoch


@attrs.frozen
class LogFetched(Event):
    """A segment sent records above the announced VDL."""

    epoch: VolumeEpoch
    segment: SegmentId
    records: Sequence[RedoRecord]


@attrs.frozen
class RecoveryPlanned(Event):
    """The recovery is decided: VCL, VDL, what is annulled, what is to be copied."""

    epoch: VolumeEpoch
    plan: RecoveryPlan


@attrs.frozen
class WriterStarted(Event):
    """The writer begins, from this plan; ``fresh`` for a volume formatted just now."""

    plan: RecoveryPlan
    fresh: bool


@attrs.frozen
class TableAcknowledged(Event):
    """A segment has adopted the truncation table."""

    segment: SegmentId
    scl: Lsn


@attrs.frozen
class VolumeOpened(Event):
    """A write quorum of every group has table and records."""

    epoch: VolumeEpoch
    vdl: Lsn
