"""Pages out of layers, whatever is folded, merged, collected and truncated, against a replay."""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.chain_index import ChainIndex
from segments.layers.job import finished
from segments.layers.layer_map import LayerMap
from segments.layers.materializer import Materializer, Reading
from segments.layers.page_read import BlockRef, Need
from segments.protocol.errors import ReadPointBelowFloor
from segments.protocol.ids import Lsn, PageId, VolumeEpoch
from segments.protocol.messages import PageImage
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.truncation import TruncationTable
from tests.layer_rig import Shelf
from tests.oracles import chained, insert, naive_page

PAGES = range(5)


class Story:
    """A random life of one segment, and all that was ever written to it."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.shelf = Shelf(block_bytes=draw.choice([1, 200, 2000]), interval=draw.randint(2, 6))
        self.caches = {
            "page_cache_bytes": draw.choice([0, 2000, 1 << 20]),
            "block_cache_bytes": draw.choice([0, 500, 1 << 20]),
        }
        self.index = ChainIndex(max_unlinked=10_000)
        self.pages = Materializer(self.index, **self.caches)
        self.written: list[RedoRecord] = []
        self.next_lsn, self.vdl = 1, 0
        self.between: list[Callable[[], None]] = []
        self.epoch = 1

    # ---- what happens ----------------------------------------------------------------------------

    def write(self) -> None:
        draw, writes = self.draw, []
        for _ in range(draw.randint(1, 20)):
            self.next_lsn += draw.choice([0, 0, 5])
            payload = bytes([draw.randrange(256)]) * draw.choice([1, 3, 9, 9, 9, 300, PAGE_SIZE])
            offset = draw.choice([0, min(3, PAGE_SIZE - len(payload)), PAGE_SIZE - len(payload)])
            writes.append((self.next_lsn, draw.choice(PAGES), offset, payload))
            self.next_lsn += 1
        self.written += chained(writes, after=self.written)

    def deliver(self) -> None:
        if self.written:
            start = self.draw.randrange(len(self.written))
            insert(self.index, self.written[start : start + self.draw.randint(1, 20)])

    def catch_up(self) -> None:
        insert(self.index, self.written)

    def announce(self) -> None:
        self.vdl = max(self.vdl, self.draw.choice([0, *(each.lsn for each in self.written)]))
        self.pages.announce(self.vdl)

    def fold(self) -> None:
        layers = self.pages.layers
        lsns = [each.lsn for each in self.written]
        highest = min(self.vdl, self.index.scl)
        ends = [lsn for lsn in lsns if layers.folded < lsn <= highest]
        if ends:
            end = self.draw.choice(ends)
            layer = self.shelf.delta(self.written, layers.folded, end)
            self.pages.set_layers(layers.with_layer(layer))
            self.index.collect(end)

    def merge(self) -> None:
        deltas = [layer for layer in self.pages.layers if not layer.base]
        if len(deltas) > 1:
            at = self.draw.randrange(len(deltas) - 1)
            old = deltas[at : at + self.draw.randint(2, 4)]
            layer = self.shelf.delta(self.written, old[0].start, old[-1].end)
            self.pages.set_layers(self.pages.layers.with_layer(layer))

    def collect(self) -> None:
        """Up to where a layer ends, or amid one, as where a base comes from a peer."""
        layers = self.pages.layers
        ends = [each.end for each in layers]
        if self.draw.random() < 0.3:
            ends = [each.lsn for each in self.written if each.lsn <= layers.folded]
        ends = [end for end in ends if end >= layers.base_lsn]
        if ends:
            base = self.shelf.base(self.written, self.draw.choice(ends))
            self.pages.set_layers(layers.with_layer(base))

    def truncate(self) -> None:
        self.epoch += 1
        end = self.next_lsn + self.draw.choice([0, 10_000_000])
        self.index.truncate(TruncationTable().extended(VolumeEpoch(self.epoch, 1), self.vdl, end))
        self.pages.drop_above(min(self.vdl, self.index.scl))
        self.written = [record for record in self.written if record.lsn <= self.vdl]
        self.next_lsn = end + 1

    def restart(self) -> None:
        """From the files of the layers, and from what the hot log still has."""
        held, layers = self.index.held(), self.pages.layers
        opened = [self.shelf.opened(layer.number) for layer in layers]
        self.index = ChainIndex(max_unlinked=10_000)
        self.pages = Materializer(self.index, **self.caches)
        starts = [layer.start for layer in layers]
        assert all(layer.start <= start for (layer, _), start in zip(opened, starts, strict=True))
        clipped = [
            attrs.evolve(layer, start=start)
            for (layer, _), start in zip(opened, starts, strict=True)
        ]
        self.pages.set_layers(LayerMap(tuple(clipped)))
        self.index.reset(layers.folded)
        for _, (page_ids, lsns) in opened:
            self.pages.load_pages(page_ids, lsns)
        insert(self.index, held)
        self.pages.announce(self.vdl)

    def list_pages(self) -> None:
        self.pages.list_new_pages()

    # ---- what must hold --------------------------------------------------------------------------

    def read(self, page: PageId, read_point: Lsn) -> PageImage | None:
        """The page, or None if its version was collected while it was read."""
        reading, asked = Reading(page, read_point), set[BlockRef]()
        try:
            while isinstance(answer := self.pages.read(reading), Need):
                refs = answer.blocks
                assert refs
                assert asked.isdisjoint(refs)  # each block is read once, however small the cache
                asked |= {*refs}
                for ref in refs:
                    data = self.shelf.read(ref.name, ref.offset, ref.length)
                    self.pages.blocks_read(reading, ref, data)
                if self.between and self.draw.random() < 0.3:
                    self.draw.choice(self.between)()
        except ReadPointBelowFloor:
            assert read_point < self.pages.layers.base_lsn
            return None
        return answer

    def check(self) -> None:
        draw, scl = self.draw, self.index.scl
        for page, version in self.pages.page_cache.versions():
            assert version.through <= self.vdl
            expected = naive_page(self.written, page, version.through)
            assert (version.lsn, version.image) == (
                expected.page_lsn, expected.image.rstrip(b"\0"),
            )  # fmt: skip
        oldest = self.pages.layers.base_lsn
        points = [oldest, scl, self.vdl, *(each.lsn for each in self.written)]
        points = [point for point in points if oldest <= point <= scl]
        for read_point in draw.sample(points, min(len(points), 6)):
            if read_point >= self.pages.layers.base_lsn:  # while others were read it was collected
                self.check_list(read_point)
            self.check_pages(read_point)

    def check_pages(self, read_point: Lsn) -> None:
        for page in PAGES:
            if read_point < self.pages.layers.base_lsn:
                return
            expected = naive_page(self.written, page, read_point)
            found = self.pages.read_now(page, read_point, self.shelf.read)
            assert found == expected
            content = finished(self.pages.read_job(page, read_point), self.shelf.execute)
            assert content == expected.image.rstrip(b"\0")
            if read_point <= self.vdl:
                assert self.read(page, read_point) in (expected, None)
        for cache in (self.pages.page_cache, self.pages.block_cache):
            assert cache.size <= cache._limit_bytes

    def check_list(self, read_point: Lsn) -> None:
        """In parts, in any range: the pages with a record at or below the read point."""
        draw = self.draw
        first, last, limit = draw.randint(0, 3), draw.randint(0, 5), draw.randint(1, 5)
        written = {each.page_id for each in self.written if each.lsn <= read_point}
        listed, at = list[int](), first
        while at <= last:
            found, through = self.pages.existing_pages(at, last, read_point, limit)
            assert at <= through <= last
            listed += found
            at = through + 1
        assert listed == sorted(page for page in written if first <= page <= last)


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_every_version_is_the_replay_of_the_log(seed: int) -> None:
    """2017 §3.2: a page is what the log says, wherever a segment has put its records by then."""
    draw = random.Random(seed)
    story = Story(draw)
    story.between = [story.fold, story.merge, story.collect, story.catch_up]
    actions = [story.write, story.deliver, story.catch_up, story.catch_up, story.announce]
    actions += [story.fold, story.fold, story.merge, story.list_pages]
    if draw.random() < 0.7:
        actions += [story.collect, story.truncate, story.restart]
    for _ in range(draw.randint(5, 30)):
        draw.choice(actions)()
        story.check()
