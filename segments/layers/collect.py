"""Collecting: the base layer and what follows it become the new base, the newest of each page."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise

from segments.layers.block import Block, image_row, join
from segments.layers.images import applied
from segments.layers.job import Job
from segments.layers.layer import Layer
from segments.layers.layer_writer import LayerWriter
from segments.layers.ordered import LayerSource, Ordered, Source
from segments.layers.writing import write_job
from segments.protocol.ids import Lsn, PageId
from segments.protocol.run import Rows


def collect_job(number: int, layers: Sequence[Layer], *, block_bytes: int) -> Job[Layer]:
    """Base layer ``number`` of each page's newest version in ``layers``.

    These follow each other from LSN 0 on, oldest first; none ends above the floor. Each block is
    read once. Raises `DamagedLayer`, and `Corrupt` if a record is missing in its page's chain.
    """
    assert layers[0].start == 0, layers
    assert all(older.end == newer.start for older, newer in pairwise(layers)), layers
    assert not any(layer.base for layer in layers[1:]), layers
    writer = LayerWriter(
        number,
        0,
        layers[-1].end,
        base=True,
        block_bytes=block_bytes,
        most_pages=sum(layer.page_count for layer in layers),
    )
    ordered = Ordered([LayerSource(layer) for layer in layers], 0)
    return (yield from write_job(writer, _Newest(ordered, writer.checked)))


class _Newest:
    """An image of each page of a source: its last image there, with the records behind that."""

    def __init__(self, source: Source, checked: Callable[[Rows], Block]) -> None:
        self._source, self._checked = source, checked
        self._page: PageId = -1
        self._lsn: Lsn = 0
        self._image = b""

    def next_block(self) -> Job[Block | None]:
        """As of `Source`."""
        while (block := (yield from self._source.next_block())) is not None:
            pages = block.pages
            borders = [row for row, (a, b) in enumerate(pairwise(pages), 1) if a != b]
            out: list[Rows] = []
            for start, stop in pairwise((0, *borders, len(block))):
                if pages[start] != self._page:
                    self._end_page(out)
                    self._page, self._image = pages[start], b""  # no record: the chain is checked
                self._see(block, start, stop)
            if out:
                return self._checked(join(out))
        out = []
        self._end_page(out)
        self._page = -1
        return self._checked(out[0]) if out else None

    def _see(self, block: Block, start: int, stop: int) -> None:
        """The rows ``start <= row < stop``, all of one page."""
        at = bisect_left(block.images, stop) - 1
        if at >= 0 and block.images[at] >= start:
            row = block.images[at]
            self._image = block.payload(row)
            start = row + 1
        if start < stop:
            self._image = applied(self._image, [(block, start, stop)])
        self._lsn = block.lsns[stop - 1]

    def _end_page(self, out: list[Rows]) -> None:
        if self._page >= 0:
            out.append(image_row(self._page, self._lsn, self._image))
