"""Which pages there are, and since when: what a list of pages at a read point is made of.

Packed, as there is an entry for every page ever written: 16 bytes of it, and less than one more of
what holds them. The entries are in chunks, so that a new page moves one chunk's and not all.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import chain
from typing import Final

from segments.protocol.ids import Lsn, PageId
from segments.protocol.run import WORDS, words_of

_CHUNK_PAGES: Final = 1024


class PageDirectory:
    """Every page that has records here, or images that stand for them, with its first LSN."""

    def __init__(self, *, chunk_pages: int = _CHUNK_PAGES) -> None:
        """``chunk_pages``: most pages in a chunk, 2 or more."""
        self._chunk_pages = chunk_pages
        # A chunk is a place in each of these; no chunk is empty. They ascend by page.
        self._pages: list[array[int]] = []
        self._lsns: list[array[int]] = []
        self._first: array[int] = array("Q")  # page of each chunk
        self._newest: array[int] = array("Q")  # highest LSN of each chunk
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[PageId, Lsn]]:
        """Each page with its first LSN, by page; nothing may be added or dropped meanwhile."""
        return zip(chain.from_iterable(self._pages), chain.from_iterable(self._lsns), strict=True)

    # ---- pages come in ---------------------------------------------------------------------------

    def load(self, pages: array[int], lsns: array[int]) -> None:
        """Take in ``pages``, ascending, with the first LSN of each in ``lsns``.

        Those behind all that are known, as are all of the first call, cost next to nothing.
        """
        known = bisect_right(pages, self._pages[-1][-1]) if self._count else 0
        for at in range(known):
            self.add(pages[at], lsns[at])
        size = self._chunk_pages
        for at in range(known, len(pages), size):
            self._new_chunk(len(self._pages), pages[at : at + size], lsns[at : at + size])
        self._count += len(pages) - known

    def add_first_records(self, rows: bytes) -> None:
        """Take in the pages that begin in ``rows`` (`segments.protocol.run.Rows`)."""
        words = words_of(rows)
        lsns, pages, prev_pages = (words[number::WORDS] for number in range(3))
        if 0 not in prev_pages:
            return
        for lsn, page, prev_page in zip(lsns, pages, prev_pages, strict=True):
            if not prev_page:
                self.add(page, lsn)

    def add(self, page: PageId, lsn: Lsn) -> None:
        """Take in a page whose first record is at ``lsn``; of one that is known the lower stays."""
        number = max(0, bisect_right(self._first, page) - 1)
        if not self._pages:
            self._new_chunk(0, array("Q"), array("Q"))
        pages, lsns = self._pages[number], self._lsns[number]
        at = bisect_left(pages, page)
        if at < len(pages) and pages[at] == page:
            lsns[at] = min(lsns[at], lsn)
            return
        self._count += 1
        if (
            at == self._chunk_pages and number == len(self._pages) - 1
        ):  # pages in order leave full chunks
            self._new_chunk(number + 1, array("Q", (page,)), array("Q", (lsn,)))
            return
        pages.insert(at, page)
        lsns.insert(at, lsn)
        self._first[number] = pages[0]
        self._newest[number] = max(self._newest[number], lsn)
        if len(pages) > self._chunk_pages:
            self._split(number)

    def _new_chunk(self, number: int, pages: array[int], lsns: array[int]) -> None:
        self._pages.insert(number, pages)
        self._lsns.insert(number, lsns)
        self._first.insert(number, pages[0] if pages else 0)
        self._newest.insert(number, max(lsns, default=0))

    def _split(self, number: int) -> None:
        pages, lsns = self._pages[number], self._lsns[number]
        half = len(pages) // 2
        self._set_chunk(number, pages[:half], lsns[:half])
        self._new_chunk(number + 1, pages[half:], lsns[half:])

    def _set_chunk(self, number: int, pages: array[int], lsns: array[int]) -> None:
        self._pages[number], self._lsns[number] = pages, lsns
        self._first[number], self._newest[number] = pages[0], max(lsns)

    # ---- pages go --------------------------------------------------------------------------------

    def drop_above(self, lsn: Lsn) -> int:
        """Forget the pages whose first record is above ``lsn``; returns how many."""
        before = self._count
        touched = [number for number, newest in enumerate(self._newest) if newest > lsn]
        for number in reversed(touched):
            pages, lsns = self._pages[number], self._lsns[number]
            kept = [at for at, first_lsn in enumerate(lsns) if first_lsn <= lsn]
            self._count -= len(pages) - len(kept)
            if kept:
                left = array("Q", [pages[at] for at in kept])
                self._set_chunk(number, left, array("Q", [lsns[at] for at in kept]))
            else:
                del self._pages[number], self._lsns[number]
                del self._first[number], self._newest[number]
        return before - self._count

    # ---- what there is ---------------------------------------------------------------------------

    def first_lsn(self, page: PageId) -> Lsn:
        """The LSN of the page's first record; 0 if none is known."""
        number = bisect_right(self._first, page) - 1
        if number < 0:
            return 0
        pages = self._pages[number]
        at = bisect_left(pages, page)
        return self._lsns[number][at] if at < len(pages) and pages[at] == page else 0

    def existing(
        self, first: PageId, last: PageId, read_point: Lsn, limit: int
    ) -> tuple[list[PageId], PageId]:
        """The pages from ``first`` to ``last``, inclusive, that had records at ``read_point``.

        Looks at ``limit`` known pages, 1 or more, whenever they were written, and returns how far
        that went, inclusive: to ``last``, or less far.
        """
        found: list[PageId] = []
        number = max(0, bisect_right(self._first, first) - 1)
        while number < len(self._pages):
            pages, lsns = self._pages[number], self._lsns[number]
            at, end = bisect_left(pages, first), bisect_right(pages, last)
            through = min(end, at + limit)
            found += [pages[k] for k in range(at, through) if lsns[k] <= read_point]
            limit -= max(0, through - at)
            if through < end:
                return found, pages[through] - 1
            if end < len(pages):
                break
            number += 1
        return found, last
