"""How many pages to ask for at a time: scans ask for the next ones before they need them. Pure.

Only what had to be asked for is told here. Each request that follows on the one before doubles what
is asked for together, so a scan of n pages waits some n / 64 times, and a lookup asks for one page.
"""

from __future__ import annotations

from typing import Final

from segments.protocol.ids import PageId

MOST: Final = 64
"""Pages asked for together, at most."""
_STRIDE: Final = 4
"""Pages that may lie between two requests that follow on each other: inner pages of a tree."""


class ReadAhead:
    """One file's recent requests."""

    __slots__ = ("_next", "_window")

    def __init__(self) -> None:
        self._next: PageId = 0
        self._window = 1

    def window(self, page_id: PageId, end: PageId) -> range:
        """The pages to ask for, as ``page_id`` is needed; those at ``end`` and beyond are not."""
        follows = self._next <= page_id < self._next + _STRIDE
        self._window = min(2 * self._window, MOST) if follows else 1
        pages = range(page_id, max(page_id + 1, min(page_id + self._window, end)))
        self._next = pages.stop
        return pages
