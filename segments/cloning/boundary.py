"""Where mini-transactions end, in what a segment holds. Pure, but for the job's reads.

A clone holds no part of one without the rest. Their LSNs are consecutive, and each record names the
first of its own; so the record behind an LSN tells whether one of them goes across. If there is no
record, one ends there: what is annulled begins behind the end of one.

A layer is sorted by page, so a record in it is looked for in all of it: as eight bytes, which takes
about as long as reading the file. Only one that holds the LSN is read, of one segment of a group.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from segments.layers.block import read_block
from segments.layers.job import PAUSE, Job
from segments.layers.layer import Layer
from segments.protocol.ids import Lsn
from segments.protocol.run import MTR_SHIFT
from segments.state import SegmentState

_READ_BYTES: Final = 1 << 20


def mtr_of_job(state: SegmentState, lsn: Lsn) -> Job[Lsn | None]:
    """The first LSN of the mini-transaction that the record at ``lsn`` belongs to.

    None if there is no such record; the segment has all of its group up to there, and no base layer
    reaches so far. Raises `DamagedLayer`, and `SpoiltRun` for a record that no writer makes.
    """
    layer = state.layers.at(lsn)
    if layer is not None:
        return (yield from _mtr_in(layer, lsn))
    record = state.index.get(lsn)
    return None if record is None else record.mtr_id


def _mtr_in(layer: Layer, lsn: Lsn) -> Job[Lsn | None]:
    offsets, first = layer.offsets, 0
    sought = lsn.to_bytes(8, "little")
    while first < len(offsets) - 1:
        start = offsets[first]
        stop = max(first + 1, bisect_right(offsets, start + _READ_BYTES, first) - 1)
        data = yield layer.read_blocks(first, stop - first)
        at = data.find(sought)
        while at >= 0:
            number = bisect_right(offsets, start + at) - 1
            block_at, block_end = offsets[number], offsets[number + 1]
            block = read_block(data[block_at - start : block_end - start], block_at, layer.number)
            if lsn in block.lsns:  # the record stands before its image
                return lsn - (block.metas[block.lsns.index(lsn)] >> MTR_SHIFT)
            at = data.find(sought, block_end - start)
            yield PAUSE
        first = stop
    return None
