"""Older versions of pages, for reads below the head: bounded, and the least recently used go first.

A version is what a segment gave for a read point, and it is known to be right for every read point
from the page's newest change in it up to that one: `OldVersions` keeps both ends. It never answers
beyond. What a recovery may still annul cannot get in, as no read point is above the VDL; and a
later writer begins with an empty cache.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict
from typing import Final, TypeAlias

import attrs

from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import PageImage

_Key: TypeAlias = tuple[PageId, Lsn]


@attrs.define(eq=False)
class _Version:
    page: PageImage
    through: Lsn
    """Read points from the page's LSN to this one, inclusive, are answered by it."""


class OldVersions:
    """At most ``capacity`` versions of pages, of 8,192 bytes each; 0 keeps none."""

    def __init__(self, capacity: int) -> None:
        self._capacity: Final = capacity
        self._versions: OrderedDict[_Key, _Version] = OrderedDict()
        self._lsns: dict[PageId, list[Lsn]] = {}
        """The LSNs of the versions of each page, ascending."""

    def __len__(self) -> int:
        return len(self._versions)

    def read(self, page_id: PageId, read_point: Lsn) -> PageImage | None:
        """The page as of ``read_point``, which is not below the floor; None if it is not here.

        LSN 0 and an empty image for one that was not yet written.
        """
        lsns = self._lsns.get(page_id)
        at = bisect_right(lsns, read_point) if lsns else 0
        if lsns is None or not at:
            return None
        key = (page_id, lsns[at - 1])
        version = self._versions[key]
        if read_point > version.through:
            return None
        self._versions.move_to_end(key)
        return version.page

    def add(self, page: PageImage, read_point: Lsn) -> None:
        """Keep what a segment gave for ``read_point``: nothing lies between that and its LSN."""
        assert page.page_lsn <= read_point, (page.page_lsn, read_point)
        key = (page.page_id, page.page_lsn)
        version = self._versions.get(key)
        if version is not None:
            version.through = max(version.through, read_point)
            self._versions.move_to_end(key)
        elif self._capacity:
            if len(self._versions) >= self._capacity:
                self._drop_oldest()
            self._versions[key] = _Version(page, read_point)
            insort(self._lsns.setdefault(page.page_id, []), page.page_lsn)

    def _drop_oldest(self) -> None:
        (page_id, page_lsn), _ = self._versions.popitem(last=False)
        lsns = self._lsns[page_id]
        lsns.remove(page_lsn)
        if not lsns:
            del self._lsns[page_id]
