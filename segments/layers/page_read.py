"""A page out of layers: which blocks a read needs next, or what the page is made of.

A read goes from new to old. Nothing is known of the page at first: layers are asked one after the
other, by their Bloom filters, for its newest record. From there on each record names the one before
it on the page, and that LSN tells the layer; no other is looked at. The way ends at an image, at a
record that writes the whole page, at a version that somebody has kept, or where the page begins.

What a read has found so far are facts of the log, whatever layers hold them: it goes on in those
that there are by then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import attrs

from segments.layers.block import Block
from segments.layers.layer import Layer
from segments.layers.layer_map import LayerMap
from segments.layers.page_cache import Version
from segments.protocol.errors import Corrupt
from segments.protocol.ids import Lsn, PageId
from segments.protocol.record import PAGE_SIZE, Change, RedoRecord
from segments.protocol.run import LENGTH_MASK, OFFSET_MASK, OFFSET_SHIFT, ROW


class BlockRef(NamedTuple):
    """One block of a layer, and where it lies."""

    layer: int
    block: int
    name: str
    """The layer's file."""
    offset: int
    length: int


class Need(NamedTuple):
    """The blocks that a read needs next, to be read at once."""

    blocks: tuple[BlockRef, ...]


class Span(NamedTuple):
    """Records of one page, one behind the other: rows ``start <= row < stop``, at least one."""

    block: Block
    start: int
    stop: int


class Found(NamedTuple):
    """What a page is made of: an image, and what is to be applied on it, in this order."""

    image_lsn: Lsn
    """0: the page begins empty."""
    image: bytes
    """The page as of ``image_lsn``, maybe without the zeros that end it."""
    spans: list[Span]
    """From layers, ascending."""
    records: list[RedoRecord]
    """From above the layers, ascending."""

    @property
    def folded_lsn(self) -> Lsn:
        """The newest of it that is an image or from a layer; 0 for none."""
        if not self.spans:
            return self.image_lsn
        block, _, stop = self.spans[-1]
        return block.lsns[stop - 1]

    @property
    def page_lsn(self) -> Lsn:
        """The newest record in it; 0 for a page that has none."""
        return self.records[-1].lsn if self.records else self.folded_lsn

    def changes(self) -> list[Change]:
        """What is applied on the image, ascending."""
        folded = [
            Change(
                block.lsns[row], block.metas[row] >> OFFSET_SHIFT & OFFSET_MASK, block.payload(row)
            )
            for block, start, stop in self.spans
            for row in range(start, stop)
        ]
        return folded + [Change(record[0], record[2], record[3]) for record in self.records]


HeldBlocks: TypeAlias = Callable[[int, int], Block | None]
"""The block with these numbers of layer and block, if it is at hand."""


@attrs.define
class Search:
    """How far the read of one page has come."""

    page: PageId
    at: Lsn
    """What is still to be found lies at or below this; 0: nothing."""
    truncations: int
    """How many truncations the segment had seen at the start: after one it starts over."""
    kept: Version | None = None
    """A version of the page that is not above the read point."""
    named_by: Lsn = 0
    """The record found last, which says that the one before it is ``at``; 0: none is found yet."""
    records: list[RedoRecord] = attrs.field(factory=list)
    """What was found above the layers, ascending."""
    spans: list[Span] = attrs.field(factory=list)
    """What was found in layers, newest first."""
    found: Found | None = None
    """All of it, once the way has ended."""
    _layer: int = -1
    _walked: int = 0

    def take_open(self, records: list[RedoRecord]) -> None:
        """Take all records of the page above what is folded and kept, ascending."""
        for at in range(len(records) - 1, -1, -1):
            lsn, payload = records[at][0], records[at][3]
            if self.named_by and lsn != self.at:
                raise self._missing()
            if len(payload) == PAGE_SIZE:
                self.records = records[at + 1 :]
                self._end(lsn, payload)
                return
            self.named_by, self.at = lsn, records[at][8]
        self.records = records

    def look(self) -> bool:
        """Whether the way has ended."""
        kept = self.kept
        if self.found is None and kept is not None and self.at <= kept.through:
            if self.named_by and self.at != kept.lsn:
                raise Corrupt(
                    f"page {self.page}: record {self.named_by} follows {self.at}: "
                    f"expected {kept.lsn}"
                )
            self._end(kept.lsn, kept.image)
        elif self.found is None and not self.at:
            self._end(0, b"")
        return self.found is not None

    def pass_layer(self, layer: Layer | None, held: HeldBlocks) -> Need | None:
        """Take what ``layer``, in which ``at`` lies, has of the page, or say which blocks it lacks.

        Raises `Corrupt` if the record that ``named_by`` names is missing.
        """
        if layer is None:
            raise self._missing()
        low = max(layer.start, self.kept.through if self.kept is not None else 0)
        if not self.named_by and not layer.bloom.may_hold(self.page):
            self.at = low
            return None
        if layer.base:
            return self._pass_base(layer, held)
        if layer.number != self._layer:
            self._layer, self._walked = layer.number, 0
        numbers = layer.blocks_of(self.page, low, self.at)
        for number in reversed(numbers):
            block = held(layer.number, number)
            if block is None:
                # How far away the next image is nobody knows: as far again as we have come.
                first = max(numbers.start, number + 1 - max(1, self._walked))
                more = [
                    each
                    for each in range(number - 1, first - 1, -1)
                    if not held(layer.number, each)
                ]
                return _need(layer, [number, *more])
            self._walked += 1
            self._take_rows(block, low)
            if self.found is not None or self.at <= low:
                return None
        if self.named_by:
            raise self._missing()
        self.at = low
        return None

    def _pass_base(self, layer: Layer, held: HeldBlocks) -> Need | None:
        numbers = layer.blocks_of(self.page, 0, layer.end)
        if numbers:
            block = held(layer.number, numbers[-1])
            if block is None:
                return _need(layer, numbers[-1:])
            row, end = block.of_page(self.page)
            if row < end:
                self._end_in_base(block.lsns[row], block.payload(row))
                return None
        if self.named_by:
            raise self._missing()
        self.at = 0
        return None

    def _end_in_base(self, lsn: Lsn, image: bytes) -> None:
        """End at the image that stands for all there is of the page up to the base's end.

        If a collection has overtaken the read, that is as of a record that was found already. To
        make such changes again changes nothing.
        """
        if self.named_by and lsn != self.at and not self._has_found(lsn):
            raise self._missing()
        self._end(lsn, image)

    def _has_found(self, lsn: Lsn) -> bool:
        in_spans = (lsn in span.block.lsns[span.start : span.stop] for span in self.spans)
        return any(in_spans) or any(record.lsn == lsn for record in self.records)

    def _take_rows(self, block: Block, low: Lsn) -> None:
        """Take the page's rows in ``block`` that lie above ``low``, from ``at`` downwards.

        That each of them names the one before it was checked when the block was read.
        """
        first, end = block.of_page(self.page)
        lsns = block.lsns
        stop = bisect_right(lsns, self.at, first, end)
        start = bisect_right(lsns, low, first, stop)
        if self.named_by and (start == stop or lsns[stop - 1] != self.at):
            raise self._missing()
        if start == stop:
            return
        image = _newest_whole(block, start, stop)
        if image is not None:
            start = image + 1
        if start < stop:
            self.spans.append(Span(block, start, stop))
        if image is not None:
            self._end(lsns[image], block.payload(image))
            return
        self.named_by, self.at = lsns[start], _prev_page(block, start)

    def _end(self, image_lsn: Lsn, image: bytes) -> None:
        self.found = Found(image_lsn, image, self.spans[::-1], self.records)

    def _missing(self) -> Corrupt:
        return Corrupt(
            f"page {self.page}: record {self.named_by} follows {self.at}, which is missing"
        )


def _prev_page(block: Block, row: int) -> Lsn:
    prev_page: Lsn = ROW.unpack_from(block.rows, row * ROW.size)[2]
    return prev_page


def _newest_whole(block: Block, start: int, stop: int) -> int | None:
    """The last of the rows ``start <= row < stop`` that says all of its page, if there is one."""
    at = bisect_left(block.images, stop)
    newest = block.images[at - 1] if at and block.images[at - 1] >= start else None
    low, ends = start if newest is None else newest + 1, block.starts
    if ends[stop] - ends[low] >= PAGE_SIZE:
        sizes = [meta & LENGTH_MASK for meta in block.metas[low:stop]]
        if PAGE_SIZE in sizes:
            return stop - 1 - sizes[::-1].index(PAGE_SIZE)
    return newest


def plan_read(layers: LayerMap, held: HeldBlocks, search: Search) -> Found | Need:
    """Go on with ``search`` in ``layers``: what the page is made of, or which blocks are needed.

    They are those that are surely needed, and after many blocks of one layer as many again, as its
    images are at a bounded distance. Raises `Corrupt` if the page's chain contradicts itself.
    """
    while not search.look():
        need = search.pass_layer(layers.at(search.at), held)
        if need is not None:
            return need
    assert search.found is not None
    return search.found


def _need(layer: Layer, numbers: Sequence[int]) -> Need:
    name, offsets = layer.name, layer.offsets
    blocks = [
        BlockRef(layer.number, each, name, offsets[each], offsets[each + 1] - offsets[each])
        for each in numbers
    ]
    return Need(tuple(blocks))
