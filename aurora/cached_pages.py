"""What a writer has of pages at read points: the buffer pool, and older versions beside it."""

from __future__ import annotations

from aurora import events
from aurora.buffer_pool import BufferPool
from aurora.old_versions import OldVersions
from segments.protocol.events import Tracer
from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import PageImage


class CachedPages:
    """Looks into both, and puts what segments give where it is of use."""

    def __init__(
        self, pool: BufferPool, old: OldVersions, *, trace: Tracer | None = None, name: str = ""
    ) -> None:
        self.pool = pool
        self.old = old
        self._trace = trace
        self._name = name

    def look_up(self, page_id: PageId, read_point: Lsn, vdl: Lsn) -> PageImage | None:
        """The page's version at ``read_point``, which is readable; None: ask a segment."""
        page = self.pool.read(page_id, read_point, vdl)
        if page is None:
            page = self.old.read(page_id, read_point)
        if self._trace is not None:
            page_lsn = None if page is None else page.page_lsn
            self._trace(self._name, events.PoolLookedUp(page_id, read_point, page_lsn))
        return page

    def take_in(self, page: PageImage, read_point: Lsn, vdl: Lsn) -> None:
        """Keep a page as a segment has it at ``read_point``: in the pool, if it may be its head."""
        known = page.page_id in self.pool
        kept = self.pool.install(page, read_point, vdl) and not known
        if not kept and not self.pool.holds(page.page_id, read_point):
            self.old.add(page, read_point)
        if self._trace is not None:
            cached = events.PageCached(page.page_id, read_point, page.page_lsn, kept)
            self._trace(self._name, cached)
