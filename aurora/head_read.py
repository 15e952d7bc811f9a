"""The read of a page's head: its newest version, with redo that is not durable yet.

The head is in the buffer pool, or else it is durable, as a page stays there until then: a segment
has it at the VDL. While that is asked, others may bring the page in, write it, and have it leave
again: the pool knows (`BufferPool.watching`), and it is asked for again.

What a mini-transaction in parts has written is nobody's to read before the last part is in the log;
and if the page has left the pool by then, its head cannot be had before the VDL has reached it.
"""

from __future__ import annotations

from aurora.health import WaitKind
from aurora.way import Stations, WaitingRoom, Way
from segments.protocol.ids import PageId
from segments.protocol.messages import PageImage, PageReply


class PendingHead(Way):
    """One read of a head; unlike a commit it gives up, as any read does, with `Unavailable`."""

    __slots__ = ("_page", "_page_id")

    def __init__(self, room: WaitingRoom, page_id: PageId, now: float) -> None:
        """Begin; `end` must follow."""
        super().__init__(room)
        self._page_id = page_id
        self._page: PageImage | None = None
        self._begin(self._go(now))

    def result(self) -> PageImage:
        """The page; LSN 0 and an empty image if it was never written. Raises `Unavailable`."""
        if self.error is not None:
            raise self.error
        assert self._page is not None, "the read of a head is still pending"
        return self._page

    def _go(self, now: float) -> Stations:
        core, page_id = self._room.core, self._page_id
        with core.pool.watching(page_id):
            self._page = core.pool.read_head(page_id)
            while self._page is None:
                if core.pool.is_in_parts(page_id) or core.pool.is_stolen(page_id, core.vdl):
                    self._waits_for(WaitKind.COMMITS, now)
                    now = yield from self._progress()
                    self._page = core.pool.read_head(page_id)
                    continue
                self._waits_for(WaitKind.READS, now, [page_id])
                read = core.reading.read_page(page_id, core.vdl, now, asker=self)
                try:
                    now = yield from self._answered(read, now)
                    answer = read.result()
                finally:
                    read.end()
                assert isinstance(answer, PageReply)
                core.cached.take_in(answer.page, read.read_point, core.vdl)
                self._page = core.pool.read_head(page_id)
                if self._page is None and core.pool.is_head(page_id, read.read_point):
                    self._page = answer.page  # there is no room for it
