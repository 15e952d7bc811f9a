"""What happens inside, step by step, for those who watch: the steps of a storage node.

The cores report their steps to one callable, a `Tracer`, and make no event when nobody listens.
Events are frozen values in the past tense; their fields are the plain ids, LSNs and records of the
protocol. Those of the writer are in `aurora.events`. docs/trace-events.md lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs

from segments.protocol.heard import Mark
from segments.protocol.ids import Address, Lsn, PageId, SegmentId, VolumeEpoch
from segments.protocol.record import Change
from segments.protocol.truncation import TruncationTable


@attrs.frozen
class Event:
    """A step that somebody has taken."""


Tracer: TypeAlias = Callable[[str, Event], object]
"""Called with who took the step, a segment's identity or a writer's name, and the step."""


# ---- a segment starts, and ends ------------------------------------------------------------------


@attrs.frozen
class Restored(Event):
    """The segment has read its log; the torn tail is cut off."""

    scl: Lsn
    epoch: VolumeEpoch
    torn_bytes: int
    damage: Sequence[tuple[int, int]]
    """Ranges of bytes, half-open, that are no frame."""
    whole: bool
    """Whether nothing is missing that it had promised to hold."""
    lacks_table: bool
    """Whether a table is missing that it had adopted."""


@attrs.frozen
class StorageRefused(Event):
    """Its disk refuses to be opened, read or synced; it is opened anew after a pause."""

    reason: str


@attrs.frozen
class SegmentFailed(Event):
    """A mistake of its own took the segment down; the others go on."""

    reason: str


@attrs.frozen
class RolledBack(Event):
    """It has less than somebody has heard of it: its disk is an older copy, and it is lost."""

    told_by: Address
    heard: Mark
    has: Mark


# ---- writes --------------------------------------------------------------------------------------


@attrs.frozen
class BatchReceived(Event):
    """Redo has come; ``lsns`` is the first and the last, None for a heartbeat."""

    writer: Address
    seq: int
    lsns: tuple[Lsn, Lsn] | None
    vdl: Lsn


@attrs.frozen
class WriteStarted(Event):
    """A frame goes to the disk; the promise slots too, or the beginning of a new file."""

    frame_bytes: int
    promise: bool
    new_file: bool


@attrs.frozen
class WriteSynced(Event):
    """What was being written is durable; how long the log is now."""

    log_bytes: int


@attrs.frozen
class WriteFailed(Event):
    """The disk refused what was being written: nothing of it counts."""

    reason: str


@attrs.frozen
class PromiseFailed(Event):
    """The disk refused the promise that follows a frame; it is written again until it is there."""

    reason: str


@attrs.frozen
class RecordsApplied(Event):
    """Durable records joined the chain; the SCL before and after."""

    count: int
    before: Lsn
    scl: Lsn


@attrs.frozen
class AckSent(Event):
    """An acknowledgement is on its way; how much of the log is durable."""

    writer: Address
    seq: int
    scl: Lsn
    log_bytes: int


# ---- reads ---------------------------------------------------------------------------------------


@attrs.frozen
class PageMaterialized(Event):
    """A page was made of an image, or of nothing (LSN 0), and the changes after it, ascending."""

    page_id: PageId
    read_point: Lsn
    page_lsn: Lsn
    image_lsn: Lsn
    changes: Sequence[Change]


@attrs.frozen
class PagesFound(Event):
    """So many pages with ids in that range, both ends inclusive, exist at the read point."""

    read_point: Lsn
    from_page: PageId
    through_page: PageId
    pages: int


@attrs.frozen
class ReadDeclined(Event):
    """The segment has too little, or has collected that version; for a list without ``page_id``."""

    page_id: PageId | None
    read_point: Lsn
    required_scl: Lsn
    scl: Lsn
    floor: Lsn


# ---- epochs --------------------------------------------------------------------------------------


@attrs.frozen
class Sealed(Event):
    """The promise to take nothing below this epoch is durable."""

    epoch: VolumeEpoch
    scl: Lsn


@attrs.frozen
class TableAdopted(Event):
    """A truncation table took effect."""

    epoch: VolumeEpoch
    table: TruncationTable
    scl: Lsn


@attrs.frozen
class TableSettled(Event):
    """All members of the volume are known, durably, to have adopted the table of this epoch."""

    epoch: VolumeEpoch


@attrs.frozen
class RequestRefused(Event):
    """A request of a lower epoch was turned away."""

    epoch: VolumeEpoch
    sealed: VolumeEpoch


# ---- gossip --------------------------------------------------------------------------------------


@attrs.frozen
class GossipReceived(Event):
    """A peer of these epochs sent records that were missing; first and last."""

    peer: SegmentId
    epoch: VolumeEpoch
    table_epoch: VolumeEpoch
    lsns: tuple[Lsn, Lsn]


@attrs.frozen
class LayerReceived(Event):
    """A peer sent the last part of a layer, for records that it has in layers alone, or damage."""

    peer: SegmentId
    epoch: VolumeEpoch
    table_epoch: VolumeEpoch
    start_lsn: Lsn
    end_lsn: Lsn
    base: bool


@attrs.frozen
class Hydrated(Event):
    """A layer that came from a peer is live; the SCL before and after."""

    before: Lsn
    scl: Lsn


@attrs.frozen
class TableGossiped(Event):
    """A peer's gossip brought a higher truncation table; it will be adopted."""

    peer: SegmentId
    epoch: VolumeEpoch


# ---- background work -----------------------------------------------------------------------------


@attrs.frozen
class LayerPublished(Event):
    """A layer is live, durably; what it holds has left the log, or the layers it has replaced."""

    number: int
    start_lsn: Lsn
    end_lsn: Lsn
    base: bool
    rows: int
    file_bytes: int
    replaced: tuple[int, ...]
    """The numbers of those layers."""


@attrs.frozen
class LogCollected(Event):
    """What is below the floor was reduced to the newest version of each page.

    Up to which LSN, how many rows of layers that was, and the floor that was announced.
    """

    floor: Lsn
    rows: int
    announced: Lsn


@attrs.frozen
class RewriteStarted(Event):
    """The log is to be written anew; what comes meanwhile goes to a new file."""


@attrs.frozen
class LogRewritten(Event):
    """The log was written anew, but for what came meanwhile; how long that part is."""

    log_bytes: int


@attrs.frozen
class SpaceLookedAt(Event):
    """The segment has become short of space, or is so no longer; what its files need, and may."""

    needed_bytes: int
    limit_bytes: int
    short: bool


@attrs.frozen
class JobFailed(Event):
    """A job in the background met damage, or a refusal of the disk: nothing of it counts."""

    reason: str


@attrs.frozen
class LayerDamaged(Event):
    """A part of a layer is not what was written: what it holds has to come from a peer."""

    number: int
    by: str
    """What has met it: a read, a peer, a job, the scrub, a restart or a clone, with its article."""
    what: str


@attrs.frozen
class ScrubFoundBadManifest(Event):
    """The manifest is not what was written, and will be written again."""


@attrs.frozen
class ScrubFoundBadPromise(Event):
    """A promise slot is spoilt; both will be written again."""


@attrs.frozen
class ScrubFoundDamage(Event):
    """What was read again is spoilt; the log will be written anew."""

    offset: int
