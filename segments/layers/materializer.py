"""A page at a read point, out of open index, kept versions and layers (2017 §3.2).

A page at a read point is the nearest image at or below it plus the page's records from there on.
What the open index holds is at hand; what lies in layers has to be asked for, block by block:

    reading = Reading(page_id, read_point)
    while isinstance(answer := materializer.read(reading), Need):
        for ref in answer.blocks:  # all at once
            materializer.blocks_read(reading, ref, <what the file holds there>)

Between two rounds the layers may be folded, merged and collected, and records may come in.
Versions are kept up to the announced VDL, as a recovery may annul what is above it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Final, NamedTuple, Protocol

import attrs

from segments.layers.block import Block, read_block
from segments.layers.block_cache import BlockCache
from segments.layers.images import applied
from segments.layers.job import Job, Read
from segments.layers.layer_map import NO_LAYERS, LayerMap
from segments.layers.page_cache import PageCache, Version
from segments.layers.page_read import BlockRef, Found, HeldBlocks, Need, Search, plan_read
from segments.layers.pages import PageDirectory
from segments.protocol.errors import Corrupt, ReadPointBelowFloor, ReadUnfinished
from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import PageImage
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import Rows

_ROUNDS_A_LAYER: Final = 24
"""Most rounds that a read takes for each layer: each is of as many blocks as all before it."""

_lsn_of = itemgetter(0)


class OpenRecords(Protocol):
    """What is asked of the index of records above those in layers."""

    @property
    def scl(self) -> Lsn:
        """Everything up to here is held, here or in layers."""

    def page_records(
        self, page_id: PageId, after_lsn: Lsn, through_lsn: Lsn, /
    ) -> list[RedoRecord]:
        """The page's linked records in ``(after_lsn, through_lsn]``, ascending."""

    def pieces(self, after_lsn: Lsn, through_lsn: Lsn, /) -> Iterator[Rows]:
        """All linked records in ``(after_lsn, through_lsn]``, ascending, encoded."""

    def count_through(self, lsn: Lsn) -> int:
        """How many linked records lie at or below ``lsn``."""

    def linked_lsn(self, position: int) -> Lsn:
        """The LSN of a linked record, counted from 0 at the oldest."""


@attrs.define(eq=False)
class Reading:
    """One read under way. What it has been given stays with it, however small the caches are."""

    page_id: PageId
    read_point: Lsn
    """Inclusive."""
    found: Found | None = None
    """What the page was made of, once it has been read."""
    _search: Search | None = None
    _blocks: dict[tuple[int, int], Block] = attrs.field(factory=dict)
    _rounds: int = 0


class _Round(NamedTuple):
    """What a read is planned with."""

    kept: Callable[[PageId, Lsn], Version | None]
    held: HeldBlocks


class Materializer:
    """The pages of one segment."""

    def __init__(
        self, index: OpenRecords, *, page_cache_bytes: int, block_cache_bytes: int
    ) -> None:
        self._index = index
        self._layers = NO_LAYERS
        self._directory = PageDirectory()
        self._listed: Lsn = 0  # every linked record up to here has been entered in the directory
        self._truncations = 0
        self._vdl: Lsn = 0
        self.page_cache: Final = PageCache(page_cache_bytes)
        self.block_cache: Final = BlockCache(block_cache_bytes)

    # ---- reading ---------------------------------------------------------------------------------

    def read(self, reading: Reading) -> PageImage | Need:
        """The page, or which blocks to read for it; LSN 0 and no bytes if it was not yet written.

        The caller makes sure, each time, that all records up to the read point are here. Raises
        `ReadPointBelowFloor` if that version may have been collected, `Corrupt` if a record is
        missing that the page's chain names, and `ReadUnfinished` after too many rounds.
        """
        at_hand, cached = reading._blocks, self.block_cache.get

        def held(layer: int, block: int) -> Block | None:
            return at_hand.get((layer, block)) or cached(layer, block)

        answer = self._plan(reading, _Round(self.page_cache.get, held))
        return answer if isinstance(answer, Need) else self._page(reading, answer)

    def blocks_read(self, reading: Reading, ref: BlockRef, data: bytes) -> None:
        """Take what was read for ``ref``; raises `DamagedLayer` if it is not what was written."""
        block = read_block(data, ref.offset, ref.layer)
        reading._blocks[ref.layer, ref.block] = block
        if ref.layer in self._layers.numbers:
            self.block_cache.put(ref.layer, ref.block, block)

    def read_job(self, page_id: PageId, read_point: Lsn) -> Job[bytes]:
        """The page for work in the background, which leaves no trace in the caches.

        Without the zeros that end it, and empty if it was not yet written. Raises as `read` and
        `blocks_read` do.
        """
        reading = Reading(page_id, read_point)
        at_hand, cached = reading._blocks, self.block_cache.peek

        def held(layer: int, block: int) -> Block | None:
            return at_hand.get((layer, block)) or cached(layer, block)

        planned = _Round(self.page_cache.peek, held)
        while isinstance(answer := self._plan(reading, planned), Need):
            for ref in answer.blocks:
                data = yield Read(ref.name, ref.offset, ref.length)
                at_hand[ref.layer, ref.block] = read_block(data, ref.offset, ref.layer)
        return _content(answer).rstrip(b"\0")

    def read_now(
        self, page_id: PageId, read_point: Lsn, read: Callable[[str, int, int], bytes]
    ) -> PageImage:
        """The page as the files say, for checkers: no cache is asked, used or filled.

        ``read(name, offset, length)`` gives a part of a file. Raises as `read_job` does.
        """
        reading = Reading(page_id, read_point)
        at_hand = reading._blocks

        def held(layer: int, block: int) -> Block | None:
            return at_hand.get((layer, block))

        planned = _Round(lambda page, at: None, held)
        while isinstance(answer := self._plan(reading, planned), Need):
            for ref in answer.blocks:
                data = read(ref.name, ref.offset, ref.length)
                at_hand[ref.layer, ref.block] = read_block(data, ref.offset, ref.layer)
        content = _content(answer).ljust(PAGE_SIZE, b"\0") if answer.page_lsn else b""
        return PageImage(page_id, answer.page_lsn, content)

    def _plan(self, reading: Reading, planned: _Round) -> Found | Need:
        self._check(reading.read_point)
        search = reading._search
        if search is None or search.truncations != self._truncations:
            search = reading._search = self._start(reading, planned.kept)
        answer = plan_read(self._layers, planned.held, search)
        reading._blocks.clear()  # the next round's are others
        if isinstance(answer, Found):
            reading.found = answer
            if not answer.page_lsn:
                self._must_be_unwritten(reading)
            return answer
        reading._rounds += 1
        most = _ROUNDS_A_LAYER * (len(self._layers) + 1)
        if reading._rounds > most:
            raise ReadUnfinished(
                f"page {reading.page_id} at {reading.read_point}: layers were asked "
                f"{reading._rounds} times: expected at most {most}"
            )
        return answer

    def _start(
        self, reading: Reading, kept_version: Callable[[PageId, Lsn], Version | None]
    ) -> Search:
        page_id, read_point = reading.page_id, reading.read_point
        kept = kept_version(page_id, read_point)
        folded = self._layers.folded
        search = Search(page_id, min(read_point, folded), self._truncations, kept)
        # A kept version may be older than what is folded: then the layers above it are asked, too.
        above = folded if kept is None else max(folded, kept.through)
        if read_point > above:
            search.take_open(self._index.page_records(page_id, above, read_point))
        return search

    def _check(self, read_point: Lsn) -> None:
        oldest = self._layers.base_lsn
        if read_point < oldest:
            raise ReadPointBelowFloor(f"read point {read_point}: expected >= {oldest}")

    def _must_be_unwritten(self, reading: Reading) -> None:
        self.list_new_pages()
        first = self._directory.first_lsn(reading.page_id)
        if 0 < first <= reading.read_point:
            raise Corrupt(
                f"page {reading.page_id}: nothing is found at or below {reading.read_point}: "
                f"expected its first record at {first}"
            )

    def _page(self, reading: Reading, found: Found) -> PageImage:
        """The page that was found; its version up to the VDL is kept."""
        page_id, page_lsn = reading.page_id, found.page_lsn
        if not page_lsn:
            return PageImage(page_id, 0, b"")
        image = _folded(found)
        through = min(reading.read_point, self._vdl, self._index.scl)
        settled = bisect_right(found.records, through, key=_lsn_of)
        image = _with_records(image, found.records[:settled])
        lsn = found.records[settled - 1].lsn if settled else found.folded_lsn
        if 0 < lsn <= through:
            self.page_cache.put(page_id, Version(lsn, image.rstrip(b"\0"), through))
        image = _with_records(image, found.records[settled:])
        return PageImage(page_id, page_lsn, image.ljust(PAGE_SIZE, b"\0"))

    # ---- which pages there are -------------------------------------------------------------------

    def may_have_changed(
        self, page_ids: Sequence[PageId], after_lsn: Lsn, read_point: Lsn
    ) -> list[PageId]:
        """Those of the pages that may have a record in ``(after_lsn, read_point]``, in their order.

        All that have one, and some of which that is not known without reading from a layer.
        """
        layers, index = self._layers.between(after_lsn, read_point), self._index
        return [
            page_id
            for page_id in page_ids
            if any(layer.bloom.may_hold(page_id) for layer in layers)
            or index.page_records(page_id, after_lsn, read_point)
        ]

    def existing_pages(
        self, first: PageId, last: PageId, read_point: Lsn, limit: int
    ) -> tuple[list[PageId], PageId]:
        """The pages from ``first`` on that had been written at ``read_point``, ascending.

        Looks at ``limit`` pages that are known, 1 or more, whenever they were written, and returns
        how far that went, inclusive: to ``last``, or less far. Raises `ReadPointBelowFloor`.
        """
        self._check(read_point)
        self.list_new_pages()
        return self._directory.existing(first, last, read_point, limit)

    def page_count(self) -> int:
        """How many pages are known."""
        return len(self._directory)

    def load_pages(self, pages: array[int], lsns: array[int]) -> None:
        """Take in what a layer from a disk or a peer says: which pages are new in it, and since."""
        self._directory.load(pages, lsns)

    def list_new_pages(self, most: int | None = None) -> bool:
        """Enter the pages of records that have come in since, of ``most`` at most; False: none."""
        index, done = self._index, max(self._listed, self._layers.folded)
        through = index.scl
        if done >= through:
            return False
        if most is not None:
            before, held = index.count_through(done), index.count_through(through)
            through = index.linked_lsn(min(before + most, held) - 1)
        for piece in index.pieces(done, through):
            self._directory.add_first_records(piece.rows)
        self._listed = through
        return True

    # ---- the log goes on -------------------------------------------------------------------------

    @property
    def layers(self) -> LayerMap:
        """The layers as of now."""
        return self._layers

    def set_layers(self, layers: LayerMap) -> None:
        """Read from ``layers`` from now on; only then may the index let go of what they hold."""
        self.list_new_pages()
        self._layers = layers
        self.block_cache.keep_only(layers.numbers)

    def announce(self, vdl: Lsn) -> None:
        """A writer has announced this VDL; versions may be kept at or below it."""
        self._vdl = max(self._vdl, vdl)

    def drop_above(self, lsn: Lsn) -> None:
        """Forget what a truncation annulled: all that is above ``lsn``, which no layer is."""
        assert lsn >= self._layers.folded, (lsn, self._layers.folded)
        self._truncations += 1
        self.page_cache.drop_above(lsn)
        self._directory.drop_above(lsn)
        self._listed = min(self._listed, lsn)


def _content(found: Found) -> bytes:
    """The page, maybe without the zeros that end it."""
    return _with_records(_folded(found), found.records)


def _folded(found: Found) -> bytes:
    return applied(found.image, found.spans) if found.spans else found.image


def _with_records(image: bytes, records: Sequence[RedoRecord]) -> bytes:
    if not records:
        return image
    page = bytearray(image.ljust(PAGE_SIZE, b"\0"))
    for record in records:
        offset, payload = record[2], record[3]
        page[offset : offset + len(payload)] = payload
    return bytes(page)
