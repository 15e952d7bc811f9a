"""Many pages at one read point, asked of segments side by side; see `aurora.pending`.

What the writer has is taken from there; the rest is asked for, a bounded number of questions at a
time, and kept as the answer to any read is. The read point is held from the first page to the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from aurora.cached_pages import CachedPages
from aurora.health import WaitKind
from aurora.pending import AT_ONCE, Pending, WaitSnapshot
from aurora.reading import Reading, SegmentRead
from segments.protocol.errors import AuroraError
from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import PageImage, PageReply

_LOOKS_A_TURN: Final = 256
"""Pages looked up before others have their turn."""


class ManyPages:
    """The pages asked for; `done` when all of them are there, or one has failed."""

    def __init__(
        self, reading: Reading, cached: CachedPages, page_ids: Sequence[PageId], read_point: Lsn,
        now: float, *, asker: Pending | None = None,
    ) -> None:  # fmt: skip
        """Begin; `end` must follow. ``asker`` is who waits for it, by default itself."""
        self.wait = WaitSnapshot(kind=WaitKind.READS, since_s=now, pg_ids=())
        self.error: AuroraError | None = None
        self._asker: Pending = self if asker is None else asker
        self._reading = reading
        self._cached = cached
        self._asked = page_ids
        self._read_point = read_point
        self._left = iter(dict.fromkeys(page_ids))
        self._all_looked_up = False
        self._pages: dict[PageId, PageImage] = {}
        self._open: dict[PageId, SegmentRead] = {}
        reading.hold(read_point)
        self._go_on(now)

    @property
    def done(self) -> bool:
        return self.error is not None or (self._all_looked_up and not self._open)

    def next_timer(self) -> float | None:
        if self.done:
            return None
        if not self._all_looked_up and len(self._open) < self._reading.config.reads_in_flight:
            return AT_ONCE
        timers = [read.next_timer() for read in self._open.values()]
        return min(AT_ONCE if each is None else each for each in timers)

    def on_timer(self, now: float) -> None:
        """Take what has come, see to what has not, and ask for more."""
        for page_id, read in list(self._open.items()):
            timer = read.next_timer()
            if timer is not None and now >= timer:
                read.on_timer(now)
            if read.done:
                self._close(page_id)
                try:
                    self._take(read)
                except AuroraError as error:
                    self.error = error
                    return
        self._go_on(now)

    def end(self) -> None:
        """Forget what is still asked for, and let go of the read point."""
        for page_id in list(self._open):
            self._close(page_id)
        self._reading.release(self._read_point)

    def result(self) -> list[PageImage]:
        """The pages in the order asked for; raises as `PendingRead.result`."""
        if self.error is not None:
            raise self.error
        return [self._pages[page_id] for page_id in self._asked]

    def _go_on(self, now: float) -> None:
        reading, vdl = self._reading, self._reading.watermarks.vdl
        for _ in range(_LOOKS_A_TURN):
            if len(self._open) >= reading.config.reads_in_flight:
                break
            page_id = next(self._left, None)
            if page_id is None:
                self._all_looked_up = True
                break
            page = self._cached.look_up(page_id, self._read_point, vdl)
            if page is not None:
                self._pages[page_id] = page
            else:
                read = reading.read_page(page_id, self._read_point, now, asker=self._asker)
                self._open[page_id] = read
        since_s = min([read.wait.since_s for read in self._open.values()], default=now)
        self.wait = WaitSnapshot(
            kind=WaitKind.READS, since_s=since_s, pg_ids=_groups(reading, self._open)
        )

    def _take(self, read: SegmentRead) -> None:
        answer = read.result()
        assert isinstance(answer, PageReply)
        self._pages[answer.page.page_id] = answer.page
        self._cached.take_in(answer.page, self._read_point, self._reading.watermarks.vdl)

    def _close(self, page_id: PageId) -> None:
        self._open.pop(page_id).end()


def _groups(reading: Reading, page_ids: Iterable[PageId]) -> tuple[int, ...]:
    """The protection groups that pages are asked of."""
    return tuple(sorted({reading.watermarks.pg_of(page_id) for page_id in page_ids}))
