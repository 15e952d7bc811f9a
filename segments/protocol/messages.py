"""What compute and storage say to each other, and segments among themselves.

Every message carries the volume epoch of its sender. Requests carry a ``request_id`` that the
answer repeats; ids are chosen by the asker and mean nothing to others. Refusals are messages too:
nothing is ever raised across a channel.

Messages are named tuples, not attrs classes: they are made for every delivery, and a frozen attrs
class takes several times as long to make.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from segments.protocol.heard import NO_MARK, Heard, Mark, Scls
from segments.protocol.ids import Lsn, PageId, SegmentId, VolumeEpoch
from segments.protocol.truncation import TruncationTable

_NOTHING: Final[Scls] = {}


class PageImage(NamedTuple):
    """A page as of its newest change at or below some read point."""

    page_id: PageId
    page_lsn: Lsn
    image: bytes
    """8,192 bytes; empty when the page had never been written (``page_lsn`` is then 0)."""


# ---- compute to segment --------------------------------------------------------------------------


class WriteBatch(NamedTuple):
    """Redo records for the segment's protection group, in chain order; none is a heartbeat."""

    epoch: VolumeEpoch
    seq: int
    """Number of this batch in its stream, repeated by the acknowledgement."""
    vdl: Lsn
    """The writer's VDL: nothing above it may be folded into pages."""
    floor: Lsn
    """PGMRPL: no reader will ask for a version older than the newest at or below it."""
    tail_lsn: Lsn
    """The newest record of the group, also of those in no batch yet: none is in
    ``(tail_lsn, vdl]``."""
    settled: bool
    """Whether every member of the volume has adopted the truncation table of this epoch."""
    records: bytes
    """Encoded once by the writer, see `segments.protocol.run`; persisted as it came."""
    heard: Scls = _NOTHING
    """The highest SCL that each member of the group, the receiver too, has told this writer; 0 if
    it has told none."""


class ReadPage(NamedTuple):
    """Ask for a page as of ``read_point``, of a segment whose SCL is ``required_scl`` or more."""

    epoch: VolumeEpoch
    request_id: int
    page_id: PageId
    read_point: Lsn
    required_scl: Lsn


class ListPages(NamedTuple):
    """Ask which pages of the group exist as of ``read_point``, as `ReadPage` asks for one.

    Of those with ids from ``from_page`` to ``through_page``, both inclusive, the segment looks at
    no more than ``limit``, the lowest, and says how far it has come. Above a ``changed_after`` of 0
    it leaves out those that surely have no record in ``(changed_after, read_point]``.
    """

    epoch: VolumeEpoch
    request_id: int
    from_page: PageId
    through_page: PageId
    read_point: Lsn
    required_scl: Lsn
    limit: int
    changed_after: Lsn = 0


class Seal(NamedTuple):
    """Accept nothing from epochs below this one any more, and say what you hold (2017 §4.3)."""

    epoch: VolumeEpoch
    request_id: int
    heard: Mark = NO_MARK
    """The highest mark of the receiver that its peers have told of."""


class FetchLog(NamedTuple):
    """Ask for the records after ``after_lsn`` (exclusive), in chain order, up to the SCL."""

    epoch: VolumeEpoch
    request_id: int
    after_lsn: Lsn
    limit_bytes: int


class InstallTable(NamedTuple):
    """Adopt this truncation table, made by the recovery of ``epoch``.

    It does not tell the VDL that recovery will open at: until a write quorum of every PG has the
    table and the records, nobody may take that VDL for announced.
    """

    epoch: VolumeEpoch
    request_id: int
    table: TruncationTable
    heard: Mark = NO_MARK
    """As in `Seal`: under the new table the receiver could not tell any more."""


class ConfirmEpoch(NamedTuple):
    """Ask whether ``epoch`` is still the highest this segment has sealed (strict reads)."""

    epoch: VolumeEpoch
    request_id: int


# ---- segment to compute --------------------------------------------------------------------------


class WriteAck(NamedTuple):
    """Every record of the segment's chain up to ``scl`` (inclusive) is durable here."""

    epoch: VolumeEpoch
    segment: SegmentId
    seq: int
    scl: Lsn
    needed_bytes: int = 0
    """Space that its files need (`segments.space`)."""
    limit_bytes: int = 0
    """Space that they may take; 0: no limit."""


class PageReply(NamedTuple):
    epoch: VolumeEpoch
    segment: SegmentId
    request_id: int
    read_point: Lsn
    page: PageImage


class PagesListed(NamedTuple):
    """The pages that exist as of ``read_point`` with ids from ``from_page`` to ``through_page``."""

    epoch: VolumeEpoch
    segment: SegmentId
    request_id: int
    read_point: Lsn
    from_page: PageId
    through_page: PageId
    """Inclusive; below the one asked for if there is more to look at."""
    page_ids: tuple[PageId, ...]
    """Ascending, each once."""


class ReadRefused(NamedTuple):
    """The segment cannot answer: its SCL is too low, or the version has been collected."""

    epoch: VolumeEpoch
    segment: SegmentId
    request_id: int
    scl: Lsn
    floor: Lsn
    """Oldest read point served. The read failed for this reason if it is above the read point."""


class SealReply(NamedTuple):
    """``epoch`` is sealed here, durably; the rest is what this segment held at that moment."""

    epoch: VolumeEpoch
    segment: SegmentId
    request_id: int
    scl: Lsn
    vdl: Lsn
    """Highest VDL any writer has announced to this segment."""
    floor: Lsn
    table: TruncationTable
    heard: tuple[Heard, ...] = ()
    """What it has heard of the other members."""


class LogReply(NamedTuple):
    """Records of the chain after ``after_lsn``; all up to ``through_lsn`` (inclusive)."""

    epoch: VolumeEpoch
    segment: SegmentId
    request_id: int
    after_lsn: Lsn
    through_lsn: Lsn
    scl: Lsn
    records: bytes


class TableInstalled(NamedTuple):
    epoch: VolumeEpoch
    segment: SegmentId
    request_id: int
    scl: Lsn
    needed_bytes: int = 0
    limit_bytes: int = 0
    """As in `WriteAck`."""


class EpochConfirmed(NamedTuple):
    epoch: VolumeEpoch
    segment: SegmentId
    request_id: int


class EpochRefused(NamedTuple):
    """A request of a lower epoch than the one sealed here: its sender has been deposed."""

    epoch: VolumeEpoch
    """The epoch of the refused request."""
    segment: SegmentId
    sealed: VolumeEpoch


class NeedTable(NamedTuple):
    """The segment has not adopted the truncation table of ``epoch``: send it before any record."""

    epoch: VolumeEpoch
    segment: SegmentId


# ---- segment to segment --------------------------------------------------------------------------


class GossipStatus(NamedTuple):
    """Where a segment stands, sent to a peer at intervals (2017 §3.3, step 4)."""

    epoch: VolumeEpoch
    segment: SegmentId
    table: TruncationTable
    scl: Lsn
    vdl: Lsn
    floor: Lsn
    base_lsn: Lsn
    """Up to here, inclusive, only the newest version of each page is left."""
    folded: Lsn
    """Up to here, inclusive, its records are in layers: it gives those away as layers alone."""
    reply_wanted: bool
    whole: bool = True
    """Whether it has all that it ever acknowledged; damage may have taken some of it."""
    heard: tuple[Heard, ...] = ()
    """What it has heard of all members, from them or from others; the receiver is one of them."""


class GossipRecords(NamedTuple):
    """Records of the chain after the receiver's SCL, judged by the receiver's own table."""

    epoch: VolumeEpoch
    segment: SegmentId
    table: TruncationTable
    vdl: Lsn
    records: bytes


class FetchLayer(NamedTuple):
    """Ask a peer for all that a layer of ``(start_lsn, end_lsn]`` holds, in order.

    From the rows of ``from_page`` at LSN ``from_lsn`` on, inclusive.
    """

    epoch: VolumeEpoch
    segment: SegmentId
    start_lsn: Lsn
    end_lsn: Lsn
    base: bool
    """Whether the newest version of each page at ``end_lsn`` is wanted, and ``start_lsn`` 0."""
    from_page: PageId
    from_lsn: Lsn


class GossipLayer(NamedTuple):
    """A part of a layer: the rows before ``next_page`` at ``next_lsn``; both are 0 after the last.

    The receiver asks for the next part, so that nobody is flooded.
    """

    epoch: VolumeEpoch
    segment: SegmentId
    table: TruncationTable
    vdl: Lsn
    start_lsn: Lsn
    end_lsn: Lsn
    base: bool
    from_page: PageId
    from_lsn: Lsn
    next_page: PageId
    next_lsn: Lsn
    pages: int
    """At most so many pages are in the whole layer."""
    rows: bytes
    """A block of rows, sorted by page and LSN, as in a layer; empty if there are none."""


Message: TypeAlias = (
    WriteBatch
    | ReadPage
    | ListPages
    | Seal
    | FetchLog
    | InstallTable
    | ConfirmEpoch
    | WriteAck
    | PageReply
    | PagesListed
    | ReadRefused
    | SealReply
    | LogReply
    | TableInstalled
    | EpochConfirmed
    | EpochRefused
    | NeedTable
    | GossipStatus
    | GossipRecords
    | FetchLayer
    | GossipLayer
)
