"""Several sources of sorted rows as one: what folding, merging and collecting have in common.

Each source is sorted by (page, LSN), and of one page an older source has the lower LSNs. So rows
that are gathered by age, and sorted by page alone with a stable sort, are in order. What is
gathered at once is cut at a (page, LSN) up to which every source has been read: neither all keys
nor one page's whole history need to be in memory. A source that begins behind it is not read yet:
where pages come to be one after the other, as in an import, few layers have the same ones.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import compress, count, pairwise
from operator import ne
from typing import Final, Protocol

from segments.layers.block import NO_ROW, Block, read_blocks, sorted_block
from segments.layers.job import PAUSE, Job
from segments.layers.layer import Layer
from segments.protocol.ids import Lsn, PageId
from segments.protocol.run import ROW, Rows

_ROW_BYTES: Final = ROW.size
_STEP_ROWS: Final = 1024
_STEP_BYTES: Final = 256 << 10
"""Most rows, and about most bytes, that are gathered at once: some 3 ms of work."""

_READ_BYTES: Final = 64 << 10
"""Of a layer, what is read and checked at once; a block at least."""


class Source(Protocol):
    """Rows sorted by (page, LSN), in blocks."""

    def next_block(self) -> Job[Block | None]:
        """The block that follows, or None behind the last."""


class Located(Source, Protocol):
    """A source that says where it goes on before that is read."""

    @property
    def first_page(self) -> PageId:
        """No row of a page below it follows; the next one may be of a page far above."""


class LayerSource:
    """The rows of a layer, each block read once; raises `DamagedLayer`.

    Those that it stands for: what its file has beyond, at either end, is another layer's, or is no
    part of this volume.
    """

    def __init__(self, layer: Layer, first_page: PageId = 0) -> None:
        """From the rows of ``first_page`` on, or a few before."""
        self._layer = layer
        self._next = max(0, bisect_left(layer.first_pages, first_page) - 1)

    @property
    def first_page(self) -> PageId:
        """As of `Located`."""
        pages = self._layer.first_pages
        return pages[self._next] if self._next < len(pages) else 0

    def next_block(self) -> Job[Block | None]:
        """As of `Source`."""
        while (block := (yield from self._read_more())) is not None:
            start, end = self._layer.start, self._layer.end
            if min(block.lsns) > start and max(block.lsns) <= end:
                return block
            kept = block.only([start < lsn <= end for lsn in block.lsns])
            if kept is not None:
                return kept
            yield PAUSE
        return None

    def _read_more(self) -> Job[Block | None]:
        """Some blocks as one; None if there are none left."""
        offsets, first = self._layer.offsets, self._next
        if first == len(offsets) - 1:
            return None
        origin = offsets[first]
        end = max(first + 1, bisect_right(offsets, origin + _READ_BYTES, first) - 1)
        data = yield self._layer.read_blocks(first, end - first)
        self._next = end
        stored = [
            (data[at - origin : stop - origin], at)
            for at, stop in pairwise(offsets[first : end + 1])
        ]
        return read_blocks(stored, self._layer.number)


class BlocksSource:
    """Blocks in memory, each of which is let go when it has been taken."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = deque(blocks)

    @property
    def first_page(self) -> PageId:
        """As of `Located`."""
        return self._blocks[0].pages[0] if self._blocks else 0

    def next_block(self) -> Job[Block | None]:
        """As of `Source`."""
        return self._blocks.popleft() if self._blocks else None
        yield


class _Cursor:
    """What has been taken in of a source, and not yet gathered."""

    def __init__(self, source: Located) -> None:
        self._source = source
        self._blocks: deque[Block] = deque()
        self._rows = self._bytes = 0  # of all these blocks
        self._at = 0  # first row of the first block that is not gathered
        self._ended = False

    @property
    def first_page(self) -> PageId:
        """No row of a page below it is left."""
        return self._blocks[0].pages[self._at] if self._blocks else self._source.first_page

    @property
    def ended(self) -> bool:
        """Whether all rows of the source have been gathered."""
        return self._ended and not self._blocks

    def fill(self, rows: int, size: int) -> Job[None]:
        """Take in ``rows`` rows, or those of ``size`` bytes, or all that are left."""
        while not self._ended and not self._has(rows, size):
            block = yield from self._source.next_block()
            if block is None:
                self._ended = True
            else:
                self._blocks.append(block)
                self._rows += len(block)
                self._bytes += len(block.payloads)

    def _has(self, rows: int, size: int) -> bool:
        return self._rows - self._at >= rows or self._bytes >= size

    def reach(self, rows: int, size: int) -> tuple[PageId, Lsn]:
        """Page and LSN of the last of so many rows, or of less if there are no more, or larger."""
        at = self._at
        for block in self._blocks:
            stop = min(at + rows, len(block))
            stop = max(at + 1, min(stop, bisect_right(block.starts, block.starts[at] + size) - 1))
            rows -= stop - at
            size -= block.starts[stop] - block.starts[at]
            if stop < len(block) or rows <= 0 or size <= 0:
                break
            at = 0
        return block.pages[stop - 1], block.lsns[stop - 1]

    def take(self, page: PageId, lsn: Lsn) -> list[tuple[Block, int, int]]:
        """Everything up to (``page``, ``lsn``), inclusive: rows from one, inclusive, to another."""
        taken = []
        while self._blocks:
            block, at = self._blocks[0], self._at
            whole = (block.pages[-1], block.lsns[-1]) <= (page, lsn)
            stop = len(block) if whole else block.behind(page, lsn, at)
            if stop > at:
                taken.append((block, at, stop))
            if not whole:
                self._at = stop
                break
            self._blocks.popleft()
            self._rows -= len(block)
            self._bytes -= len(block.payloads)
            self._at = 0
        return taken


class Ordered:
    """The rows of all sources, oldest source first, in one order and without a gap."""

    def __init__(self, sources: Sequence[Located], start: Lsn) -> None:
        """Sources that have all records above ``start``."""
        self._cursors = [_Cursor(source) for source in sources]
        self._start = start
        self._last = NO_ROW

    def next_block(self) -> Job[Block | None]:
        """The rows that follow, as many as make a step; raises `Corrupt` if they cannot follow."""
        while live := [cursor for cursor in self._cursors if not cursor.ended]:
            self._cursors = live
            page = min(cursor.first_page for cursor in live)
            near, reached = yield from self._read(page)
            while reached is not None and not set(self._near(reached[0])) <= set(near):
                near, reached = yield from self._read(reached[0])
            if reached is None:
                continue
            yield PAUSE
            parts = [part for cursor in near for part in cursor.take(*reached)]
            block = sorted_block(_gathered(parts), self._last, self._start)
            self._last = reached
            return block
        return None

    def _near(self, page: PageId) -> list[_Cursor]:
        """Those that may have rows up to ``page``."""
        return [each for each in self._cursors if not each.ended and each.first_page <= page]

    def _read(self, page: PageId) -> Job[tuple[list[_Cursor], tuple[PageId, Lsn] | None]]:
        """Read on in those that may have rows up to ``page``, about as many rows as make a step.

        Returns those that have rows, and up to which page and LSN all of them have been read.
        """
        near = self._near(page)
        rows, size = max(1, _STEP_ROWS // len(near)), max(1, _STEP_BYTES // len(near))
        for cursor in near:
            yield from cursor.fill(rows, size)
        near = [cursor for cursor in near if not cursor.ended]
        return near, min((cursor.reach(rows, size) for cursor in near), default=None)


def by_page(pages: array[int], rows: Sequence[bytes], payloads: Sequence[bytes]) -> Rows:
    """Rows and payloads of pages, one each for every entry of ``pages``, in the order of these."""
    order = sorted(range(len(pages)), key=pages.__getitem__)
    return Rows(b"".join([rows[k] for k in order]), b"".join([payloads[k] for k in order]))


def _gathered(parts: Sequence[tuple[Block, int, int]]) -> Rows:
    if len(parts) == 1:
        block, start, stop = parts[0]
        return block.cut(start, stop)
    firsts = array("Q")
    rows: list[bytes] = []
    payloads: list[bytes] = []
    for block, start, stop in parts:
        pages = block.pages[start:stop]
        borders = array("I", [start, *compress(count(start + 1), map(ne, pages, pages[1:]))])
        firsts.extend(map(block.pages.__getitem__, borders))
        borders.append(stop)
        for first, end in pairwise(borders):  # all of one page, which stay together
            rows.append(block.rows[first * _ROW_BYTES : end * _ROW_BYTES])
            payloads.append(block.payloads[block.starts[first] : block.starts[end]])
    return by_page(firsts, rows, payloads)


def split_rows(rows: bytes, start: int, stop: int) -> list[bytes]:
    """The rows ``start <= row < stop``, each by itself."""
    size = _ROW_BYTES
    return [rows[at : at + size] for at in range(start * size, stop * size, size)]


def split_payloads(payloads: bytes, starts: Sequence[int]) -> list[bytes]:
    """The payloads that start at each of ``starts``, the last of which ends them."""
    return [payloads[at:end] for at, end in pairwise(starts)]
