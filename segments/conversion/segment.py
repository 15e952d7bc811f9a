"""One segment of format 3 becomes a base layer and a hot log. Pure, but for the job's operations.

The entries of the old log change a state as they always did, and the new log is what that state
would be written anew as. The page images of its checkpoint become the base layer.

What the old log has lost, the new one says that it has lost: it begins with bytes that are no
frame. So a restart finds damage there, as it would have found it in the old one; the segment is no
witness until its peers have healed it. Promises are kept in the same file, in the same form.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

import attrs

from segments.config import SegmentConfig
from segments.conversion.old_log import (
    CheckpointEntry,
    ImagesEntry,
    OldEntry,
    OldFrame,
    OldLog,
    RunEntry,
    read_old_log,
)
from segments.layers.block import Block, image_row, join, sorted_block
from segments.layers.job import PAUSE, Create, Extend, Job, SyncFile
from segments.layers.layer import unreadable
from segments.layers.layer_map import LayerMap
from segments.layers.layer_writer import LayerWriter
from segments.layers.writing import write_job
from segments.manifest import LayerFile, LogFile, Manifest, encode_manifest, filled
from segments.protocol.errors import SegmentLost
from segments.protocol.ids import Lsn, PageId, SegmentId
from segments.protocol.messages import PageImage
from segments.restart import promise_in
from segments.state import SegmentState
from segments.wal import HeldEntry, Promise, TableEntry

_LAYER: Final = 1
_LOG: Final = 2
_SPOILT: Final = bytes(16)
"""Stands for what an old log has lost."""
_BLOCK_PAGES: Final = 32


@attrs.frozen
class ConvertedSegment:
    """What has become of one segment."""

    segment: SegmentId
    pages: int
    """Images in its base layer."""
    records: int
    """In its log."""
    scl: Lsn
    whole: bool
    """Whether all that it ever acknowledged is here; else its peers have to heal it."""
    damaged_bytes: int
    """Of the old log."""
    torn_bytes: int
    """At the end of the old log, which a crash had left unfinished."""


@attrs.frozen
class Outcome:
    """The manifest that makes new files the segment's, which are durable but for their names."""

    converted: ConvertedSegment
    manifest: bytes


def convert_job(segment: SegmentId, log: bytes, promises: bytes, salt: int) -> Job[Outcome]:
    """Write the new files of a segment with this old log and these promise slots.

    ``salt`` is that of the new log. Raises `SegmentLost` if the log or the promises are lost.
    """
    old = read_old_log(log)
    if not old.frames:
        raise SegmentLost(
            f"segment {segment} has lost its log: no sound frame in {len(log)} bytes, "
            "expected one at least"
        )
    state, images = _replayed(old, promise_in(segment, promises))
    layers = yield from _write_base(state.folded, images)
    log_file = yield from _write_log(state, salt, spoilt=old.damaged_bytes > 0)
    converted = ConvertedSegment(
        segment, len(images), len(state.index), state.scl,
        state.whole, old.damaged_bytes, old.torn_bytes,
    )  # fmt: skip
    return Outcome(converted, encode_manifest(Manifest((log_file,), layers, _LOG + 1)))


# ---- what the old log says -----------------------------------------------------------------------


class _Checkpoint:
    """Gathers the parts of a checkpoint, so that a damaged one is never taken for a whole one."""

    def __init__(self, head: CheckpointEntry) -> None:
        self.head = head
        self.pages: dict[PageId, PageImage] = {}
        self.missing = head.parts

    def add(self, entry: ImagesEntry) -> None:
        if entry.base_lsn == self.head.base_lsn:
            self.pages.update((page.page_id, page) for page in entry.pages)
            self.missing -= 1


class _Replay:
    """The state of a segment, and the images that its first layer is to have."""

    def __init__(self, promise: Promise) -> None:
        self.state = SegmentState(SegmentConfig())
        self.state.promised(promise)
        self.images: dict[PageId, PageImage] = {}
        self._checkpoint: _Checkpoint | None = None

    def interrupted(self) -> None:
        """Frames are missing here: the next parts may be those of another checkpoint."""
        self._checkpoint = None

    def apply(self, frame: OldFrame) -> None:
        """Take in all that one frame says."""
        self.state.raise_epoch(frame.epoch)
        for entry in frame.entries:
            self._apply(entry)

    def _apply(self, entry: OldEntry) -> None:
        match entry:
            case RunEntry():
                self.state.announced(entry.vdl, entry.floor)
                self.state.add_run(entry.run)
            case CheckpointEntry():
                self._checkpoint = _Checkpoint(entry)
            case ImagesEntry():
                if self._checkpoint is not None:
                    self._checkpoint.add(entry)
            case _:
                self.state.apply(entry)
        if self._checkpoint is not None and self._checkpoint.missing == 0:
            self._take_over(self._checkpoint)
            self._checkpoint = None

    def _take_over(self, checkpoint: _Checkpoint) -> None:
        state, head = self.state, checkpoint.head
        state.raise_epoch(head.epoch)
        state.adopt_table(head.table)
        # What was collected, here or at a peer, lay at or below a VDL that was announced there.
        state.announced(max(head.vdl, head.base_lsn), 0)
        if head.base_lsn >= state.scl:
            # The layer that is to be written: nothing is read from it here.
            layer = unreadable(_LAYER, 0, head.base_lsn, base=True, length=0)
            state.use_layers(LayerMap((layer,)))
            self.images = checkpoint.pages


def _replayed(old: OldLog, promise: Promise) -> tuple[SegmentState, list[PageImage]]:
    """The state that a log stands for, and the images of its pages as of its base, by page."""
    replay = _Replay(promise)
    end = 0
    for frame in old.frames:
        if frame.start != end:
            replay.interrupted()
        end = frame.end
        replay.apply(frame)
    if old.damaged_bytes:
        replay.state.lost_up_to(_highest_ever_held(old))
    return replay.state, [replay.images[page] for page in sorted(replay.images)]


def _highest_ever_held(old: OldLog) -> Lsn:
    """The highest LSN that a segment can have acknowledged whose log is spoilt in places."""
    highest = 0
    for frame in old.frames:
        for entry in frame.entries:
            match entry:
                case HeldEntry():
                    highest = entry.highest_lsn
                case RunEntry():
                    highest = max(highest, entry.run.last_lsn)
                case TableEntry():
                    highest = entry.table.survivor(highest)
                case ImagesEntry():
                    highest = max(highest, entry.base_lsn)
    return highest


# ---- what is written -----------------------------------------------------------------------------


class _Images:
    """The rows of page images; a `segments.layers.ordered.Source`."""

    def __init__(self, images: list[PageImage]) -> None:
        self._rows = (image_row(*image) for image in images)
        self._last: tuple[PageId, Lsn] = (-1, 0)

    def next_block(self) -> Job[Block | None]:
        """As of `Source`."""
        yield PAUSE
        rows = list(islice(self._rows, _BLOCK_PAGES))
        if not rows:
            return None
        block = sorted_block(join(rows), self._last)
        self._last = block.pages[-1], block.lsns[-1]
        return block


def _write_base(end: Lsn, images: list[PageImage]) -> Job[tuple[LayerFile, ...]]:
    """The layer of all up to ``end``, inclusive; none if that is 0."""
    if not end:
        return ()
    block_bytes = SegmentConfig().block_bytes
    writer = LayerWriter(_LAYER, 0, end, base=True, block_bytes=block_bytes, most_pages=len(images))
    layer = yield from write_job(writer, _Images(images))
    return (LayerFile(_LAYER, layer.length, 0, end, True),)


def _write_log(state: SegmentState, salt: int, *, spoilt: bool) -> Job[LogFile]:
    """The log of all that is left, as one file, however long: folding makes layers of it."""
    file = LogFile(_LOG, 0, salt)
    yield Create(file.name)
    if spoilt:
        yield Extend(file.name, _SPOILT)
        file = file._replace(length=len(_SPOILT))
    for body, _ in state.log_frames():
        file, [frame] = filled(file, [body])
        yield Extend(file.name, frame)
    yield SyncFile(file.name)
    return file
