"""What a segment of a clone consists of: a part of a segment's history, up to an LSN. Pure.

Layers never change, so a clone has the same files. They tile history by LSN: so one of them at most
holds records on both sides of the cut, and the clone's manifest lets that end where the cut is
(`segments.layers.layer.narrowed`). What the log has below the cut becomes the clone's log.

**The end of a cut** is the same in all six segments of a group, as the chain goes on from there:
the group's last record at or below the clone's LSN, if any log still tells which that is. If all of
them have folded it, nobody knows without reading a layer, and it is the clone's LSN itself. No
record need be there: nothing of this group lies between the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from segments.held_run import Span, encoded_runs
from segments.layers.job import Job
from segments.layers.layer import Layer, glance_at
from segments.manifest import (
    MANIFEST,
    PROMISE,
    LayerFile,
    LogFile,
    Manifest,
    encode_manifest,
    filled,
)
from segments.protocol.ids import Lsn, VolumeEpoch
from segments.protocol.truncation import TruncationTable
from segments.state import SegmentState
from segments.wal import (
    FrameBody,
    HeadEntry,
    HeldEntry,
    Promise,
    RecordsEntry,
    encode_body,
    encode_promise,
)

_RUN_BYTES: Final = 256 << 10
"""Of records in one frame."""


@attrs.frozen
class Cut:
    """A segment's history up to an LSN."""

    layers: tuple[Layer, ...] = ()
    """Each up to the end of the cut at most, whatever its file holds."""
    spans: Sequence[Span] = ()
    """What its log has above them."""
    scl: Lsn = 0
    """How far it goes without a gap: to the end of the cut, if the segment has as much."""

    @property
    def shared_bytes(self) -> int:
        """Bytes of its layers' files."""
        return sum(each.length for each in self.layers)


NOTHING = Cut()
"""What a segment brings that cannot be cut: its peers have to bring all of it."""


@attrs.frozen
class Genesis:
    """What all segments of a clone begin with."""

    epoch: VolumeEpoch
    table: TruncationTable
    vdl: Lsn

    @classmethod
    def of(cls, table: TruncationTable, vdl: Lsn, writer_id: int) -> Genesis:
        """A clone at ``vdl`` of a volume with this table.

        None of its segments holds what is annulled, so that is settled; retention still has to
        count past it.
        """
        epoch = VolumeEpoch(1, writer_id)
        gaps = table.with_settled(table.epoch).without_settled(vdl, None).gaps
        return cls(epoch, TruncationTable(epoch, gaps=gaps), vdl)


def tail_known_to(state: SegmentState, lsn: Lsn) -> Lsn | None:
    """The group's last record at or below ``lsn``, if this segment's log tells."""
    if not state.folded <= lsn <= state.scl:
        return None
    count = state.index.count_through(lsn)
    return state.index.linked_lsn(count - 1) if count else state.folded


def cut_at(state: SegmentState, end: Lsn) -> Cut:
    """What a segment has up to ``end``, the end of its group's cut; nothing is read for it."""
    layers = [
        attrs.evolve(each, end=min(each.end, end)) for each in state.layers if each.start < end
    ]
    spans = state.index.spans_between(state.folded, end) if end > state.folded else []
    return Cut(tuple(layers), spans, min(end, state.scl))


def glance_job(cut: Cut) -> Job[None]:
    """See that the files of its layers are there; raises `DamagedLayer`."""
    for layer in cut.layers:
        yield from glance_at(layer)


def log_frames(cut: Cut, genesis: Genesis) -> Iterator[FrameBody]:
    """The log of a clone's segment; each frame is made when it is asked for.

    Raises `SpoiltRun` for records that no writer makes.
    """
    held, epoch, vdl = HeldEntry(cut.scl), genesis.epoch, genesis.vdl
    yield encode_body(epoch, [held, HeadEntry(epoch, genesis.table, vdl, 0)])
    for span in cut.spans:
        span.held.check()  # it would be damage there, too, and not be healed
    rows = sum(span.stop - span.start for span in cut.spans)
    for run in encoded_runs(cut.spans, rows, _RUN_BYTES):
        yield encode_body(epoch, [held, RecordsEntry(vdl, 0, run)])


class CutFiles:
    """The files of a clone's segment beside its layers, which keep their numbers."""

    def __init__(self, cut: Cut, genesis: Genesis, salt: int) -> None:
        """``salt`` is that of its log."""
        number = max((each.number for each in cut.layers), default=0) + 1
        self._log = LogFile(number, 0, salt)
        self._cut, self._genesis = cut, genesis

    @property
    def log_name(self) -> str:
        """The one file of its log."""
        return self._log.name

    def log(self) -> Iterator[bytes]:
        """The bytes of that, frame by frame; raises as `log_frames`."""
        file = self._log
        for body in log_frames(self._cut, self._genesis):
            file, [frame] = filled(file, [body])
            yield frame

    def others(self) -> dict[str, bytes]:
        """The promise slots, and the manifest."""
        layers = tuple(
            LayerFile(each.number, each.length, each.start, each.end, each.base)
            for each in self._cut.layers
        )
        manifest = Manifest((self._log,), layers, self._log.number + 1)
        promise = Promise(self._genesis.epoch, self._genesis.table.epoch)
        return {PROMISE: encode_promise(promise) * 2, MANIFEST: encode_manifest(manifest)}
