"""The writer's buffer pool: pages as they are, plus the redo that is not durable yet (2017 §4.2.3).

Theory of operation. An entry holds an image of its page at some LSN <= VDL and, in order, the
page's later redo. Redo at or below the VDL is folded into the image when somebody reads, or when
much has gathered; what is above the VDL never is, because a recovery may annul it. So an entry
always knows the page's newest change (its head, what the next record links to), and every version
from its image on, until it folds further. The page at its head, with what is above the VDL, is an
image of its own beside that: made when somebody asks for it, and brought up to date when asked for
again.

A page is changed only while it is in the pool. That is how an image that was asked for long ago is
recognised as stale: the pool remembers the newest change among all the pages that it has evicted.

Pins are promises of room. A caller that is about to change pages pins all of them at once, cached
or not, then brings in those that are missing, and unpins when its records are allocated. As no more
pages can be pinned than there is room for, and the VDL does not depend on the pool, two such
callers never wait for each other for ever. Who is about to read a page's head, and has to ask a
segment for it, watches it: no place is promised, but what leaves the pool meanwhile is remembered.

A mini-transaction in parts may change more pages than there is room for. It reserves places for the
largest part before it stands in line, and pins one part's pages after the other within them, so
that it never waits for who stands behind it. As long as it goes on the VDL cannot reach its pages:
those of earlier parts may leave all the same (they are *stolen*). The pool remembers their heads,
and takes none of these pages in again as of a read point below them: whoever wants to write one, or
to read its head, waits for the VDL.

(More than 400 lines: pins, places, what is stolen and what is watched all bear on what may leave.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Final

import attrs

from segments.protocol.errors import InvalidConfig
from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import PageImage
from segments.protocol.record import EMPTY_PAGE, PAGE_SIZE, RedoRecord

_FOLD_BATCH: Final = 16
"""Redo records at or below the VDL that an entry gathers before they are folded unasked."""

_lsn_of = itemgetter(0)


@attrs.frozen
class PoolStatistics:
    """Counts since the pool was made, and what is in it now."""

    hits: int
    misses: int
    evictions: int
    pages: int
    pinned_pages: int
    stolen: int
    """Evictions of pages that were above the VDL, as a mini-transaction in parts needed room."""


@attrs.define(eq=False)
class _Entry:
    image: bytes | bytearray
    """The page at ``page_lsn``; empty if it had never been written. Mutable only between a fold
    and the next read, so that neither a run of folds nor a run of reads copies the page."""
    page_lsn: Lsn
    head_lsn: Lsn
    """The page's newest change, durable or not."""
    pending: list[RedoRecord] = attrs.Factory(list)
    """The page's redo after ``page_lsn``, up to ``head_lsn``."""
    newest: bytes | None = None
    """The page at ``newest_lsn``, above ``page_lsn``, for who reads its head; None: not made."""
    newest_lsn: Lsn = 0

    def at_head(self) -> bytes:
        """The page at ``head_lsn``; empty if it had never been written."""
        pending = self.pending
        if not pending:
            return self.frozen()
        if self.newest is None or self.newest_lsn < self.head_lsn:
            known = self.page_lsn if self.newest is None else self.newest_lsn
            image = bytearray(self.newest or self.image or EMPTY_PAGE)
            for record in pending[bisect_right(pending, known, key=_lsn_of) :]:
                offset, payload = record.offset, record.payload
                image[offset : offset + len(payload)] = payload
            self.newest, self.newest_lsn = bytes(image), self.head_lsn
        return self.newest

    def frozen(self) -> bytes:
        """The page at ``page_lsn``, as what nothing changes any more."""
        image = self.image
        if isinstance(image, bytearray):
            self.image = image = bytes(image)
        return image

    def fold(self, through_lsn: Lsn) -> None:
        """Apply the redo at or below ``through_lsn`` (inclusive) to the image."""
        pending = self.pending
        if not pending or pending[0].lsn > through_lsn:
            return
        held = self.image
        image = held if isinstance(held, bytearray) else bytearray(held or EMPTY_PAGE)
        self.image = image
        count = 0
        for record in pending:
            if record.lsn > through_lsn:
                break
            offset, payload = record.offset, record.payload
            image[offset : offset + len(payload)] = payload
            self.page_lsn = record.lsn
            count += 1
        del pending[:count]
        if self.newest_lsn <= self.page_lsn:
            self.newest = None


@attrs.define(eq=False)
class _Interest:
    """Of those who have pinned a page, or watch it."""

    count: int
    unchanged_since_lsn: Lsn
    """The page has no change above this, unless it is in the pool."""


class BufferPool:
    """At most ``capacity_pages`` pages, the least recently used leaving first (2017 §4.2.3)."""

    def __init__(self, capacity_pages: int, vdl: Lsn) -> None:
        """An empty pool of a volume opened at ``vdl``: no page has a newer change than that."""
        if capacity_pages < 1:
            raise InvalidConfig(f"capacity_pages is {capacity_pages!r}: expected >= 1")
        self.capacity_pages: Final = capacity_pages
        self._entries: OrderedDict[PageId, _Entry] = OrderedDict()
        self._pins: dict[PageId, _Interest] = {}
        self._watched: dict[PageId, _Interest] = {}
        self._reserved = 0
        self._pins_of_parts: dict[PageId, _Interest] = {}
        self._steals_from: Lsn | None = None
        self._stolen: dict[PageId, Lsn] = {}
        """The heads of pages that have left although they were above the VDL; of those that are
        not now, too, until there is none."""
        self._stolen_lsn: Lsn = 0
        """The highest of them."""
        self._unchanged_since_lsn = vdl
        # A search that found nothing to evict is not repeated before something has changed.
        self._stuck_at_vdl: Lsn = -1
        self._hits = self._misses = self._evictions = self._steals = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, page_id: PageId) -> bool:
        return page_id in self._entries

    @property
    def statistics(self) -> PoolStatistics:
        """Counts for display; a hit is a read answered from here."""
        return PoolStatistics(
            self._hits, self._misses, self._evictions, len(self._entries),
            len(self._pins) + self._reserved, self._steals,
        )  # fmt: skip

    @property
    def newest_evicted_lsn(self) -> Lsn:
        """The newest change of any page evicted so far, or the VDL the pool began at."""
        return self._unchanged_since_lsn

    # ---- reading ---------------------------------------------------------------------------------

    def read(self, page_id: PageId, read_point: Lsn, vdl: Lsn) -> PageImage | None:
        """The page's version at ``read_point``, which is at most ``vdl``; None if not held here.

        A page not written at the read point comes with LSN 0 and an empty image.
        """
        assert read_point <= vdl, (read_point, vdl)
        entry = self._entries.get(page_id)
        if entry is None or not self._holds(entry, read_point):
            self._misses += 1
            return None
        self._hits += 1
        self._entries.move_to_end(page_id)
        entry.fold(read_point)
        return PageImage(page_id, entry.page_lsn, entry.frozen())

    def holds(self, page_id: PageId, read_point: Lsn) -> bool:
        """Whether `read` would have the version at ``read_point``."""
        entry = self._entries.get(page_id)
        return entry is not None and self._holds(entry, read_point)

    def read_head(self, page_id: PageId) -> PageImage | None:
        """The page with all its redo, durable or not; None if it is not held here.

        Nor is it given while the mini-transaction that has changed it is in the log in part. Reads
        at the VDL are not disturbed by it. LSN 0 and an empty image: never written.
        """
        entry = self._entries.get(page_id)
        if entry is None or self.is_in_parts(page_id):
            self._misses += 1
            return None
        self._hits += 1
        self._entries.move_to_end(page_id)
        return PageImage(page_id, entry.head_lsn, entry.at_head())

    def head(self, page_id: PageId) -> Lsn | None:
        """The page's newest change, durable or not; 0 if never written, None if not cached."""
        entry = self._entries.get(page_id)
        return None if entry is None else entry.head_lsn

    # ---- writing ---------------------------------------------------------------------------------

    def pin(self, page_ids: Collection[PageId]) -> bool:
        """Keep these pages, once they are here, until `unpin`; all or none.

        False when too many others are pinned, or places reserved: wait until something is unpinned.
        More than the pool's capacity can never be.
        """
        pages = dict.fromkeys(page_ids)
        pins, capacity = self._pins, self.capacity_pages - self._reserved
        most = len(pins) + len(pages)
        if most > capacity and most - len(pins.keys() & pages.keys()) > capacity:
            return False
        self._pin_each(pins, pages)
        return True

    def _pin_each(self, pins: dict[PageId, _Interest], page_ids: Iterable[PageId]) -> None:
        for page_id in page_ids:
            pin = pins.get(page_id)
            if pin is None:
                pins[page_id] = _Interest(1, self._since(page_id))
            else:
                pin.count += 1

    def unpin(self, page_ids: Iterable[PageId]) -> None:
        """Undo one `pin` of the same pages."""
        self._unpin_each(self._pins, dict.fromkeys(page_ids))

    def _unpin_each(self, pins: dict[PageId, _Interest], page_ids: Iterable[PageId]) -> None:
        for page_id in page_ids:
            pin = pins[page_id]
            pin.count -= 1
            if not pin.count:
                del pins[page_id]
        self._stuck_at_vdl = -1

    # ---- mini-transactions in parts --------------------------------------------------------------

    def reserve(self, count: int) -> Places | None:
        """Places for ``count`` pages of a part; None: wait until something is unpinned."""
        assert 0 < count <= self.capacity_pages, (count, self.capacity_pages)
        if len(self._pins) + self._reserved + count > self.capacity_pages:
            return None
        self._reserved += count
        return Places(self, count)

    def steal_from(self, first_lsn: Lsn | None) -> None:
        """Pages may leave whose newest change is at ``first_lsn`` or above; None: none any more.

        It is the first record of the mini-transaction that is in the log in part.
        """
        self._steals_from = first_lsn
        self._stuck_at_vdl = -1

    def is_stolen(self, page_id: PageId, vdl: Lsn) -> bool:
        """Whether the page's head is above the VDL, and not here: it cannot be had before."""
        return page_id not in self._entries and self._stolen.get(page_id, 0) > vdl

    def is_in_parts(self, page_id: PageId) -> bool:
        """Whether the page was changed by the mini-transaction that is in the log in part."""
        first_lsn, entry = self._steals_from, self._entries.get(page_id)
        if first_lsn is None:
            return False
        head_lsn = self._stolen.get(page_id, 0) if entry is None else entry.head_lsn
        return head_lsn >= first_lsn

    def missing(self, page_ids: Iterable[PageId]) -> list[PageId]:
        """Those of the pages that must be brought in before they can be written."""
        entries = self._entries
        return [page_id for page_id in dict.fromkeys(page_ids) if page_id not in entries]

    def holds_all(self, page_ids: Iterable[PageId]) -> bool:
        """Whether all of the pages are here."""
        entries = self._entries
        for page_id in page_ids:  # noqa: SIM110 - for each commit
            if page_id not in entries:
                return False
        return True

    def apply(self, records: Sequence[RedoRecord], vdl: Lsn) -> None:
        """Add an allocated MTR's redo to its pages, all of which are cached."""
        entries = self._entries
        for record in records:
            page_id = record.page_id
            entry = entries[page_id]
            assert record.prev_page_lsn == entry.head_lsn, (record, entry.head_lsn)
            pending = entry.pending
            pending.append(record)
            entry.head_lsn = record.lsn
            if len(pending) >= _FOLD_BATCH and pending[_FOLD_BATCH - 1].lsn <= vdl:
                entry.fold(vdl)
            entries.move_to_end(page_id)

    # ---- watching --------------------------------------------------------------------------------

    @contextmanager
    def watching(self, page_id: PageId) -> Iterator[None]:
        """Know what happens to the page, here or not, while the block runs; for `is_head`."""
        watched = self._watched.setdefault(page_id, _Interest(0, self._since(page_id)))
        watched.count += 1
        try:
            yield
        finally:
            watched.count -= 1
            if not watched.count:
                del self._watched[page_id]

    def is_head(self, page_id: PageId, read_point: Lsn) -> bool:
        """Whether a watched page that is not here has no change above ``read_point``."""
        return read_point >= self._watched[page_id].unchanged_since_lsn

    # ---- filling and evicting --------------------------------------------------------------------

    def install(self, page: PageImage, read_point: Lsn, vdl: Lsn) -> bool:
        """Take in a page as a segment has it at ``read_point``, or know it as never written.

        Returns whether the page is cached now. If it already was, what is here is at least as new
        and stays. It cannot be taken in when the page may have changed since the read point, or
        when there is no room for it: a reader goes on without it; a writer asks again, at the VDL
        of that moment, after `make_room`.
        """
        page_id, page_lsn, image = page
        assert page_lsn <= read_point <= vdl, (page_lsn, read_point, vdl)
        assert len(image) == (PAGE_SIZE if page_lsn else 0), (page_lsn, len(image))
        if page_id in self._entries:
            return True
        pin = self._pins.get(page_id) or self._pins_of_parts.get(page_id)
        since_lsn = self._since(page_id) if pin is None else pin.unchanged_since_lsn
        if read_point < since_lsn or not self.make_room(1, vdl):
            return False
        self._entries[page_id] = _Entry(image, page_lsn, page_lsn)
        self._stuck_at_vdl = -1
        return True

    def make_room(self, count: int, vdl: Lsn) -> bool:
        """Evict until ``count`` more pages fit; False if not that many can be evicted yet.

        Then wait for the VDL to advance, or for an `unpin`.
        """
        assert 0 < count <= self.capacity_pages, (count, self.capacity_pages)
        self._settle_stolen(vdl)
        entries = self._entries
        target = self.capacity_pages - count
        if len(entries) <= target:
            return True
        if self._stuck_at_vdl == vdl:
            return False
        for _ in range(len(entries)):
            page_id, entry = next(iter(entries.items()))
            if self._may_evict(page_id, entry, vdl):
                self._evict(page_id, entry, vdl)
                if len(entries) <= target:
                    return True
            else:  # a second chance, so that the next search does not begin with it
                entries.move_to_end(page_id)
        self._stuck_at_vdl = vdl
        return False

    def _since(self, page_id: PageId) -> Lsn:
        """The page has no change above this, unless it is here."""
        return max(self._unchanged_since_lsn, self._stolen.get(page_id, 0))

    def _settle_stolen(self, vdl: Lsn) -> None:
        """Once the VDL has passed all stolen pages they are like any others."""
        if self._stolen and vdl >= self._stolen_lsn:
            self._unchanged_since_lsn = max(self._unchanged_since_lsn, self._stolen_lsn)
            self._stolen.clear()

    def _evict(self, page_id: PageId, entry: _Entry, vdl: Lsn) -> None:
        del self._entries[page_id]
        self._evictions += 1
        if entry.head_lsn > vdl:
            self._steals += 1
            self._stolen[page_id] = entry.head_lsn
            self._stolen_lsn = max(self._stolen_lsn, entry.head_lsn)
        else:
            self._unchanged_since_lsn = max(self._unchanged_since_lsn, entry.head_lsn)
        watched = self._watched.get(page_id)
        if watched is not None:
            watched.unchanged_since_lsn = max(watched.unchanged_since_lsn, entry.head_lsn)

    def _holds(self, entry: _Entry, read_point: Lsn) -> bool:
        """Whether the entry has the version at ``read_point``, and not only newer ones.

        The entry's redo is complete up to the page's newest change, so nothing is missing between
        its image and the read point.
        """
        return entry.page_lsn <= read_point

    def _may_evict(self, page_id: PageId, entry: _Entry, vdl: Lsn) -> bool:
        """Never above the VDL (invariant 15): the segments could not give that state back.

        But for what a mini-transaction in parts has changed: there is nowhere to keep it.
        """
        if page_id in self._pins or page_id in self._pins_of_parts:
            return False
        return entry.head_lsn <= vdl or (
            self._steals_from is not None and entry.head_lsn >= self._steals_from
        )


class Places:
    """What a mini-transaction in parts has reserved of a pool, until `release`."""

    __slots__ = ("_count", "_page_ids", "_pool")

    def __init__(self, pool: BufferPool, count: int) -> None:
        self._pool = pool
        self._count = count
        self._page_ids: dict[PageId, None] = {}

    def pin(self, page_ids: Iterable[PageId]) -> None:
        """Keep the pages of a part, once they are here, and no longer those of the one before.

        Who is in both has been kept all the time.
        """
        pool, before = self._pool, self._page_ids
        self._page_ids = dict.fromkeys(page_ids)
        assert len(self._page_ids) <= self._count, (len(self._page_ids), self._count)
        pool._pin_each(pool._pins_of_parts, self._page_ids)
        pool._unpin_each(pool._pins_of_parts, before)

    def release(self) -> None:
        """Give the places back."""
        self._pool._unpin_each(self._pool._pins_of_parts, self._page_ids)
        self._pool._reserved -= self._count
