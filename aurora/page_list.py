"""Which pages exist: a volume's pages in order, though each group knows only its own."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final, TypeAlias, cast

from segments.protocol.errors import InvalidLsn, InvalidPage
from segments.protocol.ids import MAX_INTEGER, Lsn, PageId, PgId
from segments.protocol.messages import PageImage, PagesListed
from segments.protocol.record import checked_page_id, whole_number
from segments.protocol.showing import shown

AskGroup: TypeAlias = Callable[[PgId, PageId, PageId], Awaitable[PagesListed]]
"""Asks one group for its pages from the first to the last, inclusive; it may answer for fewer."""
ReadMany: TypeAlias = Callable[[list[PageId]], Awaitable[list[PageImage]]]
"""Reads pages at the read point."""
_PAGES_A_READ: Final = 256
"""Pages read at a time, to see when they have changed."""


def checked_range(start: object, end: object) -> tuple[PageId, PageId]:
    """The first and the last page of the half-open ``[start, end)``; ``end`` None is no end.

    Raises `InvalidPage`.
    """
    first = checked_page_id(start)
    beyond = MAX_INTEGER + 1 if end is None else whole_number(end)
    if beyond is None or not 0 <= beyond <= MAX_INTEGER + 1:
        raise InvalidPage(
            f"end is {shown(end)}: expected None, or an integer from 0 to {MAX_INTEGER + 1}"
        )
    return first, beyond - 1


def checked_page_ids(page_ids: object) -> list[PageId]:
    """Any number of page ids, as plain integers; raises `InvalidPage`."""
    try:
        each_of = iter(cast("Iterable[object]", page_ids))
    except TypeError:
        raise InvalidPage(f"page_ids is {shown(page_ids)}: expected page ids") from None
    return [checked_page_id(page_id) for page_id in each_of]


def checked_after(after_lsn: object) -> Lsn:
    """An LSN after which something may have changed; raises `InvalidLsn`."""
    lsn = whole_number(after_lsn)
    if lsn is None or not 0 <= lsn <= MAX_INTEGER:
        raise InvalidLsn(f"after_lsn is {shown(after_lsn)}: expected an LSN from 0 on")
    return lsn


class ChangedPages(AsyncIterator[PageId]):
    """The ids of the pages that have changed after an LSN, up to a read point, ascending.

    Segments name those that may have, out of what they have in memory; whether a page has is seen
    from the page at the read point, as its LSN is that of its newest change. So it does not matter
    whether the versions before that are still there. To be gone through once.
    """

    def __init__(self, candidates: PageIds, after_lsn: Lsn, read: ReadMany) -> None:
        self.lsn = candidates.lsn
        """The read point."""
        self.after_lsn = after_lsn
        self._candidates = candidates
        self._read = read
        self._ready: deque[PageId] = deque()

    def __aiter__(self) -> ChangedPages:
        return self

    async def __anext__(self) -> PageId:
        """The next id; raises as `PageIds`."""
        while not self._ready:
            some = await self._candidates.some(_PAGES_A_READ)
            if not some:
                raise StopAsyncIteration
            pages = await self._read(some)
            changed = [page.page_id for page in pages if page.page_lsn > self.after_lsn]
            self._ready.extend(changed)
        return self._ready.popleft()


class PageIds(AsyncIterator[PageId]):
    """The ids of the pages that exist at one read point, ascending; to be gone through once.

    They come in parts of bounded size, each asked of one group when it is needed: going through
    them waits at each part, not at each page. Between two parts nothing is held.
    """

    def __init__(
        self, ask: AskGroup, pg_ids: Iterable[PgId], first: PageId, last: PageId, read_point: Lsn
    ) -> None:
        self.lsn = read_point
        """The read point."""
        self._ask = ask
        self._last = last
        # Per group, up to where it has answered; all of them have up to the lowest of these.
        self._through = dict.fromkeys(pg_ids, first - 1)
        self._found: list[PageId] = []  # ascending, beyond that: a group may have some in between
        self._ready: deque[PageId] = deque()
        self._done = first > last

    def __aiter__(self) -> PageIds:
        return self

    async def __anext__(self) -> PageId:
        """The next id; raises `Unavailable`, `ReadPointBelowFloor`, `Fenced`, `Closed`."""
        while not self._ready:
            if self._done:
                raise StopAsyncIteration
            await self._ask_for_more()
        return self._ready.popleft()

    async def some(self, most: int) -> list[PageId]:
        """The next ids, at most so many; none when there are no more. Raises as `__anext__`."""
        while not self._ready and not self._done:
            await self._ask_for_more()
        return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]

    async def _ask_for_more(self) -> None:
        """Ask the group whose answers reach least far for its next part."""
        through = self._through
        pg_id = min(through, key=through.__getitem__)
        part = await self._ask(pg_id, through[pg_id] + 1, self._last)
        through[pg_id] = part.through_page
        self._found.extend(part.page_ids)
        self._found.sort()
        settled = min(through.values())
        count = bisect_right(self._found, settled)
        self._ready.extend(self._found[:count])
        del self._found[:count]
        self._done = settled >= self._last
