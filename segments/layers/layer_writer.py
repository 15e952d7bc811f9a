"""Writes a layer: sorted blocks of rows come in, chunks of its file go out."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import pairwise

from segments.layers.block import NO_ROW, Block, encode_block, join, sorted_block
from segments.layers.bloom import Bloom, BloomBuilder
from segments.layers.layer import (
    FOOTER_BYTES,
    HEADER_BYTES,
    Layer,
    NewPages,
    Tail,
    encode_header,
    encode_tail,
)
from segments.protocol.errors import Corrupt
from segments.protocol.ids import Lsn, PageId
from segments.protocol.run import IMAGE_BIT, WORDS, Rows, bytes_of, words_of


class LayerWriter:
    """One layer in the making.

    A block ends when it has ``block_bytes``, not counting an image that it begins with; and before
    an image, if it is half full. So what a read needs where images are close, an image and the
    records from there on, is one block and not two.
    """

    def __init__(
        self, number: int, start: Lsn, end: Lsn, *, base: bool, block_bytes: int, most_pages: int
    ) -> None:
        """For the layer of ``(start, end]``, which has ``most_pages`` at most."""
        self.number, self.start, self.end, self.base = number, start, end, base
        self._block_bytes = block_bytes
        self._bloom = BloomBuilder(most_pages)
        self._first_pages, self._first_lsns = array("Q"), array("Q")
        self._offsets = array("Q")
        self._at = HEADER_BYTES
        self._new_pages, self._new_lsns = array("Q"), array("Q")
        self._count = self._user_bytes = 0
        self._last = NO_ROW  # page and LSN of the last row
        self._open: list[Rows] = []  # rows of the block that has not ended
        self._fill = 0

    @property
    def last(self) -> tuple[PageId, Lsn]:
        """Page and LSN of the row that came last; (-1, 0) before the first."""
        return self._last

    def begin(self) -> bytes:
        """What the file begins with."""
        return encode_header(self.start, self.end, self.base)

    def add(self, rows: Rows) -> list[bytes]:
        """Take in rows behind those that came; returns what is to be written. Raises `Corrupt`."""
        return self.add_block(self.checked(rows))

    def checked(self, rows: Rows) -> Block:
        """``rows``, checked to be what follows the rows that came; raises `Corrupt`."""
        return sorted_block(rows, self._last, self.start)

    def add_block(self, block: Block) -> list[bytes]:
        """As `add`, of rows that `checked` has seen."""
        self._note(block)
        written: list[bytes] = []
        at, count = 0, len(block)
        while at < count:
            if not self._open:
                self._first_pages.append(block.pages[at])
                self._first_lsns.append(block.lsns[at])
                leading = block.metas[at] & IMAGE_BIT
                self._fill = -block.stored_bytes(at, at + 1) if leading else 0
            stop = self._cut(block, at)
            ends = stop <= count
            stop = min(stop, count)
            if stop > at:
                self._open.append(block.cut(at, stop))
                self._fill += block.stored_bytes(at, stop)
            if ends:
                written.append(self._end_block())
            at = stop
        return written

    @property
    def new_pages(self) -> NewPages:
        """The pages whose first record ever came, and of a base all; with the LSNs of those."""
        return NewPages(self._new_pages, self._new_lsns)

    def finish(self) -> tuple[bytes, Layer]:
        """The rest of the file, and what is to be known of it."""
        last = self._end_block() if self._open else b""
        self._offsets.append(self._at)
        bloom = self._bloom.packed()
        tail = Tail(
            _interleaved(self._first_pages, self._first_lsns, self._offsets[:-1]),
            bloom,
            _interleaved(self._new_pages, self._new_lsns),
        )
        length = self._at + sum(map(len, tail)) + FOOTER_BYTES
        layer = Layer(
            self.number, self.start, self.end, self.base, length, self._count, self._user_bytes,
            self._bloom.count, len(self._new_pages),
            self._first_pages, self._first_lsns, self._offsets, Bloom(bloom),
        )  # fmt: skip
        return last + encode_tail(layer, tail), layer

    def _note(self, block: Block) -> None:
        """Count what is said of the whole layer."""
        pages, lsns = block.pages, block.lsns
        low, high = min(lsns), max(lsns)
        if low <= self.start or high > self.end or (self.base and len(block.images) < len(block)):
            raise Corrupt(
                f"rows of LSNs {low} to {high} with {len(block.images)} images of {len(block)}: "
                f"expected what is in {self.start} to {self.end}, and in a base only images"
            )
        distinct = [after for page, after in pairwise(pages) if page != after]
        if pages[0] != self._last[0]:
            distinct.append(pages[0])
        self._bloom.add(distinct)
        if self.base:
            self._new_pages += pages
            self._new_lsns += lsns
        else:
            links = words_of(block.rows)[2::WORDS]
            if 0 in links:
                for row in [row for row, link in enumerate(links) if not link]:
                    if not block.metas[row] & IMAGE_BIT:
                        self._new_pages.append(pages[row])
                        self._new_lsns.append(lsns[row])
        self._count += len(block)
        self._user_bytes += len(block.payloads) - sum(len(block.payload(k)) for k in block.images)
        self._last = pages[-1], lsns[-1]

    def _cut(self, block: Block, at: int) -> int:
        """Where the open block ends, at or behind row ``at``; behind the last row: not in here."""
        count, fill = len(block), self._fill

        def filled(stop: int) -> int:
            return fill + block.stored_bytes(at, stop)

        # count + 1 if no stop is far enough
        stop = bisect_left(range(count + 1), self._block_bytes, at + 1, key=filled)
        images = block.images
        for number in range(bisect_left(images, at), len(images)):
            image = images[number]
            if image >= stop:
                break
            if filled(image) * 2 >= self._block_bytes and (image > at or self._open):
                return image
        return stop

    def _end_block(self) -> bytes:
        encoded = encode_block(join(self._open), self._at)
        self._offsets.append(self._at)
        self._at += len(encoded)
        self._open.clear()
        return encoded


def _interleaved(*columns: array[int]) -> bytes:
    """The columns of a table as its rows."""
    words = array("Q", bytes(8 * len(columns) * len(columns[0])))
    for place, column in enumerate(columns):
        words[place :: len(columns)] = column
    return bytes_of(words)
