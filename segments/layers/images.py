"""Images in a layer: so that a read of a page touches a bounded part of its history.

An image stands behind a record where as many records of its page lie without one as `Spacing` says.
They are counted within the layer that is being written, and cost no more than a bounded share of
it. Where layers are merged, images that stand are kept where they are useful, and left out where
the one before them is near.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import compress
from operator import eq
from typing import NamedTuple, TypeAlias

from segments.layers.block import Block, image_row, join
from segments.layers.job import Job
from segments.layers.ordered import Source
from segments.protocol.ids import PageId
from segments.protocol.record import PAGE_SIZE
from segments.protocol.run import ROW, Rows

PageBefore: TypeAlias = "Callable[[PageId], Job[bytes]]"
"""Gives a page as of a layer's start, with or without the zeros that end it; empty: not written."""


class Spacing(NamedTuple):
    """How far apart images of a page stand in a layer: both must be reached.

    Bytes, because images must not take more than a share of what there is: an image of 8 KiB every
    64 records of 100 bytes doubles a layer. Records, because of small images.
    """

    records: int = 64
    stored_bytes: int = 2 * PAGE_SIZE


def applied(image: bytes, parts: Sequence[tuple[Block, int, int]]) -> bytes:
    """``image`` with the records of blocks, from row to row, without the zeros that end it."""
    page = bytearray(PAGE_SIZE)
    page[: len(image)] = image
    for block, start, stop in parts:
        block.apply(page, start, stop)
    return bytes(page).rstrip(b"\0")


class WithImages:
    """The rows of a source, of a delta layer, with images where they are useful."""

    def __init__(
        self,
        source: Source,
        checked: Callable[[Rows], Block],
        spacing: Spacing,
        page_before: PageBefore,
    ) -> None:
        self._source, self._checked = source, checked
        self._spacing, self._page_before = spacing, page_before
        self._page: PageId = -1
        self._records = self._bytes = 0  # since the last image of the page that stands
        self._version: bytes | None = None  # the page at some point, if it is known
        self._since: list[tuple[Block, int, int]] = []  # its records from there on
        self._out: list[Rows] = []
        self._copied = 0  # rows of the block that are in what goes out, or are left out

    def next_block(self) -> Job[Block | None]:
        """As of `Source`."""
        while (block := (yield from self._source.next_block())) is not None:
            self._out, self._copied = [], 0
            for page in self._pages_to_see(block):
                start, stop = block.of_page(page)
                yield from self._see(block, start, stop)
            if not self._out and not self._copied:
                return block
            self._copy(block, len(block))
            if self._out:
                return self._checked(join(self._out))
        return None

    def _pages_to_see(self, block: Block) -> list[PageId]:
        """Those where an image may be missing; the first and the last may be in other blocks, too.

        Of all others images that stand are kept: they were far enough apart in their layers.
        """
        pages = block.pages
        many = compress(pages, map(eq, pages, pages[self._spacing.records - 1 :]))
        return sorted({pages[0], pages[-1], *many})

    def _see(self, block: Block, start: int, stop: int) -> Job[None]:
        """The rows ``start <= row < stop``, all of one page."""
        if block.pages[start] != self._page:
            self._page = block.pages[start]
            self._records = self._bytes = 0
            first = ROW.unpack_from(block.rows, start * ROW.size)
            self._version = None if first[2] else b""
            self._since = []
        images = block.images
        at = start
        for row in images[bisect_left(images, start) : bisect_left(images, stop)]:
            yield from self._count(block, at, row, imaged=True)
            self._meet_image(block, row)
            at = row + 1
        yield from self._count(block, at, stop, imaged=False)

    def _meet_image(self, block: Block, row: int) -> None:
        self._version, self._since = block.payload(row), []
        near = (
            self._records * 2 < self._spacing.records
            or self._bytes * 2 < self._spacing.stored_bytes
        )
        if near:
            self._copy(block, row)
            self._copied = row + 1
        else:
            self._records = self._bytes = 0

    def _count(self, block: Block, start: int, stop: int, *, imaged: bool) -> Job[None]:
        """Records ``start <= row < stop``; ``imaged``: there is an image behind the last one."""
        at = start
        while (end := self._due(block, at, stop)) < stop + (not imaged):
            self._since.append((block, at, end))
            version = self._version
            if version is None:
                version = yield from self._page_before(self._page)
            self._version, self._since = applied(version, self._since), []
            self._copy(block, end)
            self._out.append(image_row(self._page, block.lsns[end - 1], self._version))
            self._records = self._bytes = 0
            at = end
        if at < stop:
            self._since.append((block, at, stop))
            self._records += stop - at
            self._bytes += block.stored_bytes(at, stop)

    def _due(self, block: Block, start: int, stop: int) -> int:
        """Behind which record, from ``start`` on, an image is due; ``stop + 1``: none before."""
        first = start + max(1, self._spacing.records - self._records)
        if first > stop:
            return stop + 1
        return bisect_left(
            range(stop + 1),
            self._spacing.stored_bytes - self._bytes,
            first,
            key=lambda end: block.stored_bytes(start, end),
        )

    def _copy(self, block: Block, stop: int) -> None:
        if self._copied < stop:
            self._out.append(block.cut(self._copied, stop))
        self._copied = stop
