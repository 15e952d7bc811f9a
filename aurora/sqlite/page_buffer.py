"""The pages that a transaction has changed, until they are one mini-transaction. Pure.

SQLite writes whole pages: when its cache is full, and all the rest at the commit. They are kept
here beside the images that they had before the transaction, so that what is logged is the
difference to what is there, whatever was written and overwritten in between: a transaction that
spilled pages and was rolled back has none (SQL design, decisions 2 and 3).
"""

from __future__ import annotations

from collections.abc import Mapping

from aurora.mtr import PageWrite
from aurora.sqlite.commit_page import COMMIT_PAGE, MAGIC, CommitStamp
from aurora.sqlite.header import HEADER_PAGE
from aurora.sqlite.page_diff import changed_ranges
from segments.protocol.ids import PageId


class PageBuffer:
    """One transaction's pages."""

    __slots__ = ("_bases", "_images")

    def __init__(self) -> None:
        self._images: dict[PageId, bytes] = {}
        self._bases: dict[PageId, bytes] = {}

    def __len__(self) -> int:
        return len(self._images)

    def __contains__(self, page_id: PageId) -> bool:
        return page_id in self._images

    def get(self, page_id: PageId) -> bytes | None:
        """The page as the transaction has written it; None if it has not."""
        return self._images.get(page_id)

    def put(self, page_id: PageId, image: bytes, base: bytes | None) -> None:
        """Take in a page; ``base`` is what it was before, and only the first one counts.

        None if that is not at hand: `know_base` must come before `writes`.
        """
        assert page_id != COMMIT_PAGE, "the commit page is not SQLite's"
        self._images[page_id] = image
        if base is not None:
            self.know_base(page_id, base)

    def know_base(self, page_id: PageId, base: bytes) -> None:
        """What a page was before."""
        self._bases.setdefault(page_id, base)

    def without_base(self) -> list[PageId]:
        """The pages of which it is not known what they were before."""
        return [page_id for page_id in self._images if page_id not in self._bases]

    def overwrite(self, page_id: PageId, image: bytes) -> None:
        """Take in a page that was put before."""
        assert page_id in self._images, page_id
        self._images[page_id] = image

    def truncate(self, pages: int) -> None:
        """Forget the pages beyond a size."""
        for page_id in [each for each in self._images if each > pages]:
            del self._images[page_id]
            self._bases.pop(page_id, None)

    @property
    def images(self) -> Mapping[PageId, bytes]:
        """All pages, as written."""
        return self._images

    def writes(self, time_ns: int, *, first: bool) -> list[PageWrite]:
        """What has changed, as the writes of one mini-transaction; empty if nothing has.

        A commit always changes page 1, whose change counter it raises. What does not is none:
        SQLite also syncs when it has written back what a rolled back transaction had spilled.

        The stamp on the commit page is the last of them. ``first`` says that this is the
        database's first commit, which also makes the volume a database.
        """
        writes: list[PageWrite] = []
        pages = size = 0
        bases = self._bases
        if self._images.get(HEADER_PAGE) == bases.get(HEADER_PAGE):
            return writes
        for page_id, image in self._images.items():
            ranges = changed_ranges(bases[page_id], image)
            pages += bool(ranges)
            for start, end in ranges:
                writes.append(PageWrite(page_id, start, image[start:end]))
                size += end - start
        stamp = CommitStamp(time_ns, pages, size).encode()
        writes.append(PageWrite(COMMIT_PAGE, 0, stamp + MAGIC if first else stamp))
        return writes

    def clear(self) -> None:
        """Forget all of it: it was committed, or given up."""
        self._images.clear()
        self._bases.clear()
