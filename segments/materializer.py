"""Pages out of redo: the version at a read point (2017 §3.2).

A page at a read point is the nearest image at or below it plus the page's records from there on.
So that a read costs the same however long the page's history is, an image of a page is kept every
``image_interval`` of its records. Two images of a page are live data, and always kept: its base,
which stands for records that have left the log, and its newest. All others can be made again, and
live in a cache of bounded size.

No image is ever kept above the announced VDL, since a recovery may annul what is above it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import attrs

from segments.chain_index import ChainIndex
from segments.protocol.errors import Corrupt, ReadPointBelowFloor
from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import PageImage
from segments.protocol.record import EMPTY_PAGE, PAGE_SIZE, RedoRecord


class Materializer:
    """The pages of one segment, over the records in its chain index."""

    def __init__(self, index: ChainIndex, *, image_interval: int, image_cache_bytes: int) -> None:
        self._index = index
        self._interval = image_interval
        self._images = _Images(image_cache_bytes)
        self._vdl: Lsn = 0
        self._floor: Lsn = 0  # oldest read point still answered, as far as folding has gone
        self._folded: Lsn = 0  # every linked record up to here is in a base image
        self._coalesced: Lsn = 0  # every linked record up to here has been counted for an image
        self._since_image: dict[PageId, int] = {}

    # ---- reading ---------------------------------------------------------------------------------

    def materialize(self, page_id: PageId, read_point: Lsn) -> PageImage:
        """The page as of ``read_point``, inclusive; LSN 0 and no bytes if it was not yet written.

        Raises `ReadPointBelowFloor` if that version may have been collected, and `Corrupt` if a
        record that the page's chain names is missing.
        """
        self._check(read_point)
        return self._version(page_id, read_point)

    def chain(self, page_id: PageId, read_point: Lsn) -> tuple[Lsn, ...]:
        """What a read would do: LSN of the image (0: an empty page), then of the records applied.

        Raises as `materialize` does.
        """
        self._check(read_point)
        image_lsn, _ = self._images.nearest(page_id, read_point)
        records = self._records_between(page_id, image_lsn, read_point)
        return (image_lsn, *(record.lsn for record in records))

    def existing_pages(
        self, first: PageId, last: PageId, read_point: Lsn, limit: int
    ) -> tuple[list[PageId], PageId]:
        """The pages from ``first`` on that had been written at ``read_point``, ascending.

        Looks at ``limit`` pages that are known, 1 or more, whenever they were written, and returns
        how far that went, inclusive: to ``last``, or less far. Raises `ReadPointBelowFloor`.
        """
        self._check(read_point)
        known = list(islice(self._index.directory.between(first, last), limit + 1))
        through = known.pop() - 1 if len(known) > limit else last
        base_lsn, head = self._images.base_lsn, self._index.page_head
        return [each for each in known if base_lsn(each) or head(each, read_point)], through

    def _check(self, read_point: Lsn) -> None:
        oldest = max(self._floor, self._index.base_lsn)
        if read_point < oldest:
            raise ReadPointBelowFloor(f"read point {read_point}: expected >= {oldest}")

    def _version(self, page_id: PageId, read_point: Lsn) -> PageImage:
        image_lsn, image = self._images.nearest(page_id, read_point)
        records = self._records_between(page_id, image_lsn, read_point)
        if records:
            image = self._replay(page_id, image, records)
            return PageImage(page_id, records[-1].lsn, image)
        return PageImage(page_id, image_lsn, image if image_lsn else b"")

    def _records_between(
        self, page_id: PageId, image_lsn: Lsn, read_point: Lsn
    ) -> list[RedoRecord]:
        """The page's records in ``(image_lsn, read_point]``, ascending, along their backlinks."""
        held = self._index.page_records(page_id, image_lsn, read_point)
        found: list[RedoRecord] = []
        newer: Lsn = 0
        lsn = held[-1][0] if held else image_lsn
        for record in reversed(held):
            if record[0] == lsn:
                found.append(record)
                newer, lsn = lsn, record[8]
        if lsn > image_lsn:
            raise Corrupt(f"page {page_id}: record {newer} follows {lsn}, which is missing")
        if lsn < image_lsn:
            raise Corrupt(f"page {page_id}: record {newer} follows {lsn}: expected {image_lsn}")
        found.reverse()
        return found

    def _replay(self, page_id: PageId, image: bytes, records: Sequence[RedoRecord]) -> bytes:
        """``image`` with ``records`` applied. A long way leaves images, so it is gone only once."""
        page = bytearray(image)
        interval = self._interval
        for start in range(0, len(records), interval):
            if start and records[start - 1].lsn <= self._vdl:
                self._images.keep(page_id, records[start - 1].lsn, bytes(page))
            for record in records[start : start + interval]:
                offset, payload = record[2], record[3]
                page[offset : offset + len(payload)] = payload
        return bytes(page)

    # ---- background work -------------------------------------------------------------------------

    def announce(self, vdl: Lsn) -> None:
        """A writer has announced this VDL; images may be kept at or below it."""
        self._vdl = max(self._vdl, vdl)

    def coalesce(self, vdl: Lsn, budget: int) -> int:
        """Keep images of pages with ``image_interval`` records since their newest (2017 §3.3).

        Goes on where the last call stopped, up to ``vdl``, inclusive. Returns the work done, in
        records seen plus records applied: at most ``budget``, or what one image takes if that is
        more; 0 when there is nothing to do.
        """
        self.announce(vdl)
        end = min(self._vdl, self._index.scl)
        done = max(self._coalesced, self._floor, self._index.base_lsn)
        interval, counts = self._interval, self._since_image
        work = 0
        for record in self._index.linked_after(done):
            lsn, page_id = record[0], record[1]
            count = counts.get(page_id, 0) + 1
            cost = 1 if count < interval else 1 + interval
            if lsn > end or (work + cost > budget and work):
                break
            if count < interval:
                counts[page_id] = count
            else:
                work += self._keep_image(page_id, lsn)
                counts.pop(page_id, None)
            work += 1
            done = lsn
        self._coalesced = done
        return work

    def _keep_image(self, page_id: PageId, lsn: Lsn) -> int:
        """Keep the version at ``lsn``, unless a newer one is kept; returns the records applied."""
        if self._images.newest_lsn(page_id) >= lsn:
            return 0
        image_lsn, image = self._images.nearest(page_id, lsn)
        records = self._records_between(page_id, image_lsn, lsn)
        self._images.keep(page_id, lsn, self._replay(page_id, image, records))
        return len(records)

    def fold(self, floor: Lsn, budget: int | None = None) -> Lsn:
        """Make base images of all pages with records at or below ``floor``, for collection.

        ``floor`` is at most the announced VDL. Returns the LSN up to which `ChainIndex.collect`
        may follow: that of the last linked record at or below the floor, or a lower one if about
        ``budget`` records of work were not enough and the next call is to go on. Versions older
        than the newest at the floor are no longer served from here on.
        """
        self.announce(floor)
        self._floor = max(self._floor, min(floor, self._index.scl))
        done = max(self._folded, self._index.base_lsn)
        work = 0
        for record in self._index.linked_after(done):
            if record.lsn > self._floor or (budget is not None and work >= budget):
                break
            if self._images.base_lsn(record.page_id) < record.lsn:
                page = self._version(record.page_id, self._floor)
                self._images.set_base(page)
                work += self._interval
            work += 1
            done = record.lsn
        self._folded = done
        return done

    # ---- images from elsewhere -------------------------------------------------------------------

    def install(self, pages: Iterable[PageImage]) -> None:
        """Take over base images, from a checkpoint or a peer; older images of the pages go."""
        for page in pages:
            if page.image:
                self._images.set_base(page)
                self._index.directory.add(page.page_id)

    def drop_above(self, lsn: Lsn) -> None:
        """Forget what a truncation annulled: everything above ``lsn``, which no base image is."""
        self._images.drop_above(lsn)

    def base_images(self) -> Iterator[PageImage]:
        """The image of each page that stands for what has left the log, by page id.

        One by one; nothing may be folded or installed meanwhile.
        """
        return self._images.base_images()

    def base_images_from(self, page_id: PageId, count: int) -> list[PageImage]:
        """The first ``count`` base images of pages with ids >= ``page_id``, by page id."""
        return list(islice(self._images.base_images(page_id), count))

    @property
    def base_count(self) -> int:
        """How many pages have a base image."""
        return len(self._images.base_ids)

    def kept_images(self) -> list[PageImage]:
        """Every image that is kept, by page id and LSN: what must equal a replay of the log."""
        return self._images.all()

    def base_bytes(self) -> int:
        """Size of all base images without the zeros that end them, which the log leaves out."""
        return self._images.base_bytes


@attrs.define
class _Versions:
    """Images of one page, ascending; the first one is the base if ``base_lsn`` is not 0."""

    lsns: list[Lsn] = attrs.field(factory=list)
    images: list[bytes] = attrs.field(factory=list)
    base_lsn: Lsn = 0


class _Images:
    """All images of all pages. Those that are neither base nor newest go by least recent use."""

    def __init__(self, cache_bytes: int) -> None:
        self.base_bytes = 0
        self.base_ids: list[PageId] = []  # of the pages that have a base, ascending
        self._cache_limit = cache_bytes // PAGE_SIZE
        self._pages: dict[PageId, _Versions] = {}
        self._evictable: OrderedDict[tuple[PageId, Lsn], None] = OrderedDict()

    def nearest(self, page_id: PageId, lsn: Lsn) -> tuple[Lsn, bytes]:
        """The newest image at or below ``lsn``; LSN 0 and an empty page if there is none."""
        versions = self._pages.get(page_id)
        if versions is None:
            return 0, EMPTY_PAGE
        at = bisect_right(versions.lsns, lsn) - 1
        if at < 0:
            if versions.base_lsn:
                raise ReadPointBelowFloor(
                    f"read point {lsn} of page {page_id}: expected >= {versions.base_lsn}"
                )
            return 0, EMPTY_PAGE
        key = (page_id, versions.lsns[at])
        if key in self._evictable:
            self._evictable.move_to_end(key)
        return key[1], versions.images[at]

    def newest_lsn(self, page_id: PageId) -> Lsn:
        versions = self._pages.get(page_id)
        return versions.lsns[-1] if versions else 0

    def base_lsn(self, page_id: PageId) -> Lsn:
        versions = self._pages.get(page_id)
        return versions.base_lsn if versions else 0

    def keep(self, page_id: PageId, lsn: Lsn, image: bytes) -> None:
        """Add an image above the page's base; it, or another, may be evicted for it at once."""
        versions = self._pages.setdefault(page_id, _Versions())
        at = bisect_left(versions.lsns, lsn)
        if at < len(versions.lsns):
            if versions.lsns[at] == lsn:
                return
            self._evictable[page_id, lsn] = None
        elif at and versions.lsns[-1] != versions.base_lsn:
            self._evictable[page_id, versions.lsns[-1]] = None
        versions.lsns.insert(at, lsn)
        versions.images.insert(at, image)
        while len(self._evictable) > self._cache_limit:
            (page_id, lsn), _ = self._evictable.popitem(last=False)
            versions = self._pages[page_id]
            at = bisect_left(versions.lsns, lsn)
            del versions.lsns[at], versions.images[at]

    def set_base(self, page: PageImage) -> None:
        """Make ``page`` the base unless it has a newer one; older images of the page go."""
        page_id, lsn, image = page
        versions = self._pages.setdefault(page_id, _Versions())
        if versions.base_lsn >= lsn:
            return
        if versions.base_lsn:
            self.base_bytes -= _size(versions.images[0])
        else:
            insort(self.base_ids, page_id)
        self.base_bytes += _size(image)
        self._cut(page_id, versions, 0, bisect_right(versions.lsns, lsn))
        versions.lsns.insert(0, lsn)
        versions.images.insert(0, image)
        versions.base_lsn = lsn

    def drop_above(self, lsn: Lsn) -> None:
        for page_id, versions in list(self._pages.items()):
            assert versions.base_lsn <= lsn, (page_id, versions.base_lsn, lsn)
            self._cut(page_id, versions, bisect_right(versions.lsns, lsn), len(versions.lsns))
            if versions.lsns:
                self._evictable.pop((page_id, versions.lsns[-1]), None)
            else:
                del self._pages[page_id]

    def _cut(self, page_id: PageId, versions: _Versions, start: int, end: int) -> None:
        for lsn in versions.lsns[start:end]:
            self._evictable.pop((page_id, lsn), None)
        del versions.lsns[start:end], versions.images[start:end]

    def all(self) -> list[PageImage]:
        return [
            PageImage(page_id, lsn, image)
            for page_id in sorted(self._pages)
            for lsn, image in zip(
                self._pages[page_id].lsns, self._pages[page_id].images, strict=True
            )
        ]

    def base_images(self, from_page: PageId = 0) -> Iterator[PageImage]:
        ids = self.base_ids
        for at in range(bisect_left(ids, from_page), len(ids)):
            versions = self._pages[ids[at]]
            yield PageImage(ids[at], versions.base_lsn, versions.images[0])


def _size(image: bytes) -> int:
    return len(image.rstrip(b"\0"))
