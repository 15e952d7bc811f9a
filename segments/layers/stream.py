"""A part of a layer that does not exist here as such: what a peer lacks, row by row.

Its rows are those of all layers that have a part of its range, and of the open log if the range
reaches into that, put in one order as a merge does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from segments.layers.block import Block, join
from segments.layers.collect import Newest
from segments.layers.job import PAUSE, Job
from segments.layers.layer import Layer
from segments.layers.ordered import BlocksSource, LayerSource, Located, Ordered, Source
from segments.protocol.ids import Lsn, PageId
from segments.protocol.run import Rows

NO_ROWS = Rows(b"", b"")


class Part(NamedTuple):
    """Rows of a layer, and where the next part begins: page and LSN of its first row."""

    rows: Rows
    """Sorted by (page, LSN); may be empty."""
    following: tuple[PageId, Lsn] | None
    """None: this was the last one."""


def part_job(
    layers: Sequence[Layer],
    open_blocks: Sequence[Block],
    start: Lsn,
    end: Lsn,
    *,
    base: bool,
    first: tuple[PageId, Lsn],
    limit_bytes: int,
) -> Job[Part]:
    """Rows of ``(start, end]`` from page and LSN ``first`` on, inclusive.

    At most about ``limit_bytes``, and at least one if there are any. ``base``: the newest version
    at ``end`` of each page instead, and ``start`` is 0. ``layers`` have all of the range that is
    folded, oldest first; ``open_blocks`` the rest, sorted, older ones first. Raises `DamagedLayer`,
    and `Corrupt` if a record is missing.
    """
    sources: list[Located] = [LayerSource(each, first[0]) for each in layers]
    sources += [BlocksSource([block]) for block in open_blocks]
    within = [_Within(each, first[0], end) for each in sources]
    ordered: Source = Ordered(within, layers[0].start if layers else start)
    source = Newest(ordered) if base else ordered
    out = Gathered(limit_bytes)
    while (block := (yield from source.next_block())) is not None:
        for row, stop in _runs(block, start, first):
            for cut in _cuts(block, row, stop, out.room):
                if not out.add(block, row, cut):
                    return Part(out.rows, (block.pages[row], block.lsns[row]))
                row = cut
        yield PAUSE
    return Part(out.rows, None)


class Gathered:
    """What goes into a part: about so many bytes, and no record without its image."""

    def __init__(self, limit_bytes: int) -> None:
        self.room = limit_bytes
        self._pieces: list[tuple[Block, int, int]] = []

    @property
    def rows(self) -> Rows:
        return join([block.cut(row, stop) for block, row, stop in self._pieces] or [NO_ROWS])

    def add(self, block: Block, row: int, stop: int) -> bool:
        """Add the rows from ``row`` to ``stop``; False if the part is to end before them.

        If they begin with the image of the last record here, as one block may end and the next one
        begin, that record leaves with them.
        """
        size = block.stored_bytes(row, stop)
        if size > self.room and self._pieces and self._ends_before(block, row):
            return False
        self._pieces.append((block, row, stop))
        self.room -= size
        return True

    def _ends_before(self, block: Block, row: int) -> bool:
        last, first, end = self._pieces[-1]
        if (last.pages[end - 1], last.lsns[end - 1]) != (block.pages[row], block.lsns[row]):
            return True
        if end - 1 > first:
            self._pieces[-1] = last, first, end - 1
        elif len(self._pieces) > 1:
            self._pieces.pop()
        else:
            return False  # record and image are more than there is ever room for
        return True


def _runs(block: Block, start: Lsn, first: tuple[PageId, Lsn]) -> list[tuple[int, int]]:
    """The rows above ``start`` from ``first`` on: from one, inclusive, to another."""
    wanted = [
        lsn > start and (page, lsn) >= first
        for page, lsn in zip(block.pages, block.lsns, strict=True)
    ]
    runs, row = [], 0
    while row < len(wanted):
        if wanted[row]:
            stop = wanted.index(False, row) if False in wanted[row:] else len(wanted)
            runs.append((row, stop))
            row = stop
        row += 1
    return runs


def _cuts(block: Block, row: int, stop: int, room: int) -> list[int]:
    """Where to cut rows so that what there is room for can be taken: no image off its record."""
    if block.stored_bytes(row, stop) <= room:
        return [stop]
    images, pages, lsns = set(block.images), block.pages, block.lsns

    def goes_on(at: int) -> bool:
        """Whether a row is the image of the record before it."""
        return at in images and (pages[at], lsns[at]) == (pages[at - 1], lsns[at - 1])

    return [at for at in range(row + 1, stop) if not goes_on(at)] + [stop]


class _Within:
    """The rows of a source from a page on, and up to an LSN, inclusive."""

    def __init__(self, source: Located, first_page: PageId, end: Lsn) -> None:
        self._source = source
        self._first_page, self._end = first_page, end

    @property
    def first_page(self) -> PageId:
        """As of `Located`."""
        return max(self._first_page, self._source.first_page)

    def next_block(self) -> Job[Block | None]:
        """As of `Source`."""
        while (block := (yield from self._source.next_block())) is not None:
            if block.pages[0] >= self._first_page and max(block.lsns) <= self._end:
                return block
            kept = block.only(
                [
                    page >= self._first_page and lsn <= self._end
                    for page, lsn in zip(block.pages, block.lsns, strict=True)
                ]
            )
            if kept is not None:
                return kept
        return None
