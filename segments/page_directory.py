"""Which pages a segment knows, in the order of their ids, so that a part of them costs a part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from sortedcontainers import SortedList

from segments.protocol.ids import PageId


class PageDirectory:
    """Every page with linked records or a base image, and maybe some whose records were annulled.

    So a page that exists is here; whether one that is here exists is asked of records and images.
    """

    def __init__(self) -> None:
        self._page_ids = SortedList()

    def __len__(self) -> int:
        return len(self._page_ids)

    def add(self, page_id: PageId) -> None:
        """Take in a page; one that is known already changes nothing."""
        if page_id not in self._page_ids:
            self._page_ids.add(page_id)

    def between(self, first: PageId, last: PageId) -> Iterator[PageId]:
        """The pages from ``first`` to ``last``, both inclusive, ascending, one by one."""
        return cast("Iterator[PageId]", self._page_ids.irange(first, last))
