"""What a read out of layers costs, what misleads it, and what it refuses; case by case."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import attrs
import pytest

from segments.chain_index import ChainIndex
from segments.layers.bloom import Bloom
from segments.layers.job import Read, finished
from segments.layers.layer import Layer, unreadable
from segments.layers.layer_map import LayerMap
from segments.layers.materializer import Materializer, Reading
from segments.layers.page_read import Need
from segments.protocol.errors import Corrupt, DamagedLayer, ReadPointBelowFloor, ReadUnfinished
from segments.protocol.ids import Lsn, PageId, VolumeEpoch
from segments.protocol.messages import PageImage
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.truncation import TruncationTable
from tests.layer_rig import Shelf
from tests.oracles import chained, insert, naive_page

ALL_ONES = Bloom(b"\xff" * 8)
ALL_ZEROS = Bloom(bytes(8))
CACHE = 1 << 20


class Segment:
    """One segment: its records, which of them are in layers, and its pages."""

    def __init__(
        self,
        written: Iterable[RedoRecord],
        *ends: Lsn,
        shelf: Shelf | None = None,
        page_cache_bytes: int = CACHE,
        block_cache_bytes: int = CACHE,
        seen: Callable[[Layer], Layer] = lambda layer: layer,
    ) -> None:
        """Holds what is ``written``, all announced, in layers that end at ``ends``, else open.

        ``seen`` changes what is kept in memory of each layer.
        """
        self.written = list(written)
        self.shelf = Shelf() if shelf is None else shelf
        self.seen = seen
        self.index = ChainIndex(max_unlinked=10_000)
        insert(self.index, self.written)
        self.pages = Materializer(
            self.index, page_cache_bytes=page_cache_bytes, block_cache_bytes=block_cache_bytes
        )
        self.pages.announce(self.index.scl)
        for end in ends:
            self.fold(end)

    def write(self, *writes: tuple[Lsn, PageId, int, bytes]) -> None:
        self.written += chained(writes, after=self.written)
        insert(self.index, self.written)

    def fold(self, end: Lsn) -> None:
        layers = self.pages.layers
        layer = self.seen(self.shelf.delta(self.written, layers.folded, end))
        self.pages.set_layers(layers.with_layer(layer))
        self.index.collect(end)

    def collect(self, end: Lsn) -> None:
        layers = self.pages.layers
        base = self.seen(self.shelf.base(self.written, end))
        self.pages.set_layers(layers.with_layer(base))

    def merge(self) -> None:
        layers = self.pages.layers
        merged = self.seen(self.shelf.delta(self.written, 0, layers.folded))
        self.pages.set_layers(layers.with_layer(merged))

    def rounds(self, page: PageId, read_point: Lsn) -> list[int]:
        """How many blocks each round of a read takes; that it reads the right page is asserted."""
        reading = Reading(page, read_point)
        rounds = list(self.needs(reading))
        assert self.pages.read(reading) == naive_page(self.written, page, read_point)
        return rounds

    def needs(self, reading: Reading) -> Iterable[int]:
        while isinstance(answer := self.pages.read(reading), Need):
            yield len(answer.blocks)
            self.give(reading, answer)

    def give(self, reading: Reading, need: Need) -> None:
        for ref in need.blocks:
            data = self.shelf.read(ref.name, ref.offset, ref.length)
            self.pages.blocks_read(reading, ref, data)


def history(count: int, *, pages: int = 1, size: int = 6) -> list[RedoRecord]:
    """A record of ``size`` bytes at each LSN, on ``pages`` pages in turn, at changing offsets."""
    draw = random.Random(count)
    return chained([(n, n % pages, n % 5, draw.randbytes(size)) for n in range(1, count + 1)])


# ---- what a read gives ---------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [(), (3,), (2, 3)])
def test_a_page_never_written_has_no_lsn_and_no_bytes(ends: tuple[Lsn, ...]) -> None:
    segment = Segment(history(3), *ends)
    assert segment.pages.read(Reading(7, 3)) == PageImage(7, 0, b"")
    assert segment.rounds(0, 0) == []


@pytest.mark.parametrize("ends", [(), (3,), (1, 2)])
def test_records_of_one_page_apply_in_order_and_to_their_places(ends: tuple[Lsn, ...]) -> None:
    writes = [(1, 0, 0, b"aaaa"), (2, 0, 2, b"bbbb"), (3, 0, PAGE_SIZE - 1, b"z")]
    segment = Segment(chained(writes), *ends)
    segment.rounds(0, 3)
    page = segment.pages.read(Reading(0, 3))
    assert isinstance(page, PageImage)
    assert (len(page.image), page.image[:7], page.image[-2:]) == (PAGE_SIZE, b"aabbbb\0", b"\0z")


# ---- what a read costs ---------------------------------------------------------------------------


@pytest.mark.parametrize("before", [10, 10_000])
def test_a_cold_read_takes_one_block_however_long_the_history_is(before: int) -> None:
    """2017 §3.3: a page's images keep every read short."""
    draw = random.Random(7)
    writes = [(n, 0, draw.randrange(8_000), draw.randbytes(100)) for n in range(1, before + 1)]
    written: list[RedoRecord] = []
    for lsn, page, offset, payload in writes:  # `chained` looks at all that came before
        last = written[-1].lsn if written else 0
        written.append(RedoRecord(lsn, page, offset, payload, lsn, True, last, last, last))
    segment = Segment(written, before, page_cache_bytes=0, block_cache_bytes=0)
    for read_point in {before, before // 2, before - 1}:
        rounds = segment.rounds(0, read_point)
        assert len(rounds) <= 3
        assert sum(rounds) <= 2


def test_a_chain_through_layers_asks_only_those_that_have_a_part_of_it() -> None:
    """Records of page 0 in layers 1, 3 and 9 of ten: three blocks, by what the records name."""
    has = {1: 5, 3: 25, 9: 85}
    writes = [
        (lsn, 0 if lsn in has.values() else 1 + lsn % 7, 0, b"%d" % lsn) for lsn in range(1, 101)
    ]
    segment = Segment(chained(writes), *range(10, 101, 10), page_cache_bytes=0)
    assert segment.rounds(0, 100) == [1, 1, 1]
    assert segment.rounds(0, 100) == []  # from cached blocks
    assert segment.rounds(0, 84) == []


def test_once_the_newest_record_is_known_no_filter_is_asked() -> None:
    """Filters that deny everything mislead only who knows no record of the page yet."""
    written = history(30, pages=3)
    segment = Segment(written, 10, 20, seen=lambda each: attrs.evolve(each, bloom=ALL_ZEROS))
    assert segment.rounds(0, 30) == [1, 1]


def test_filters_that_err_cost_a_block_each_and_no_page() -> None:
    written = history(30, pages=3) + chained([(31, 9, 0, b"new")], after=history(30, pages=3))
    ends = (10, 20, 30, 31)
    honest, erring = (
        Segment(written, *ends, page_cache_bytes=0, block_cache_bytes=0, seen=seen)
        for seen in (lambda each: each, lambda each: attrs.evolve(each, bloom=ALL_ONES))
    )
    for page in (0, 1, 2, 7, 9):
        for read_point in range(32):
            honest.rounds(page, read_point)
            assert sum(erring.rounds(page, read_point)) <= len(ends)
    assert honest.rounds(7, 31) == []
    # Below what its index begins with, a layer cannot hold a page, whatever its filter says.
    assert erring.rounds(9, 31) == [1]
    assert erring.rounds(7, 31) == [1, 1, 1]


def test_far_from_an_image_each_round_asks_for_as_much_as_all_before_it() -> None:
    shelf = Shelf(block_bytes=1, interval=64)  # a record a block
    segment = Segment(history(63), 63, shelf=shelf, page_cache_bytes=0, block_cache_bytes=0)
    assert segment.rounds(0, 63) == [1, 1, 2, 4, 8, 16, 31]
    assert segment.rounds(0, 3) == [1, 1, 1]


def test_blocks_at_hand_are_not_asked_for_again() -> None:
    shelf = Shelf(block_bytes=1, interval=64)
    segment = Segment(history(40), 40, shelf=shelf, page_cache_bytes=0)
    segment.rounds(0, 10)
    assert sum(segment.rounds(0, 40)) == 30


def test_a_record_that_writes_the_whole_page_ends_the_way() -> None:
    writes = [
        (lsn, 0, 0, bytes([lsn]) * (PAGE_SIZE if lsn % 5 == 0 else 7)) for lsn in range(1, 31)
    ]
    shelf = Shelf(block_bytes=1, interval=1000)
    for ends in [(), (20,), (10, 20, 30)]:
        segment = Segment(
            chained(writes), *ends, shelf=shelf, page_cache_bytes=0, block_cache_bytes=0
        )
        for read_point in range(31):
            back = read_point % 5 + 1  # blocks: one for each record on the way
            assert sum(segment.rounds(0, read_point)) <= 2 * back


def test_the_base_has_the_image_of_whatever_lies_below_it() -> None:
    segment = Segment(history(60, pages=3), 20, 40, page_cache_bytes=0)
    segment.collect(40)
    assert segment.rounds(0, 60) == [1]
    assert segment.rounds(0, 40) == []
    assert segment.rounds(7, 50) == []
    with pytest.raises(ReadPointBelowFloor, match="39: expected >= 40"):
        segment.pages.read(Reading(0, 39))
    with pytest.raises(ReadPointBelowFloor, match="39: expected >= 40"):
        segment.pages.existing_pages(0, 9, 39, 10)


# ---- versions that are kept ----------------------------------------------------------------------


def test_a_version_kept_before_a_fold_does_not_hide_what_was_folded() -> None:
    """A version kept up to 10 says nothing of 11, where that is no longer in the open index."""
    segment = Segment(chained([(1, 0, 0, b"old"), (10, 1, 0, b"x")]))
    assert segment.rounds(0, 10) == []
    segment.write((11, 0, 0, b"new"), (12, 1, 0, b"x"))
    segment.pages.announce(12)
    segment.fold(12)
    assert segment.index.held() == []
    assert [version.through for _, version in segment.pages.page_cache.versions()] == [10]
    assert segment.rounds(0, 12) == [1]
    assert segment.rounds(0, 12) == []


def test_a_version_kept_answers_above_layers_that_have_nothing_of_the_page() -> None:
    segment = Segment(chained([(lsn, lsn % 2, 0, b"%d" % lsn) for lsn in range(1, 11)]), 10)
    assert segment.rounds(0, 10) == [1]
    segment.write(*[(lsn, 1, 0, b"other") for lsn in range(11, 31)])
    segment.pages.announce(30)
    segment.fold(20)
    assert segment.rounds(0, 30) == []
    (_, (lsn, _, through)) = segment.pages.page_cache.versions()[0]
    assert (lsn, through) == (10, 30)


def test_a_version_kept_is_where_newer_records_begin() -> None:
    """Also within a layer that a merge has made of what lay below and above it."""
    segment = Segment(history(10), 10, block_cache_bytes=0)
    segment.rounds(0, 10)
    segment.write(*[(lsn, 0, 1, b"%d" % lsn) for lsn in range(11, 21)])
    segment.pages.announce(20)
    segment.fold(20)
    segment.merge()
    reading = Reading(0, 20)
    assert list(segment.needs(reading)) == [1]
    assert segment.pages.read(reading) == naive_page(segment.written, 0, 20)
    assert reading.found is not None
    assert reading.found.image_lsn == 10


def test_nothing_above_the_vdl_is_kept() -> None:
    segment = Segment(history(5), 5)
    segment.write(*[(lsn, 0, 0, b"%d" % lsn) for lsn in range(6, 11)])
    segment.pages.announce(8)
    segment.rounds(0, 10)
    (_, version) = segment.pages.page_cache.versions()[0]
    assert (version.lsn, version.through) == (8, 8)


def test_nothing_above_the_scl_is_vouched_for() -> None:
    """What lies there may be records that have not come yet."""
    segment = Segment(history(5), 5)
    segment.pages.announce(100)
    segment.rounds(0, 50)
    segment.write((40, 0, 0, b"late"))
    segment.rounds(0, 50)


def test_a_version_at_an_old_read_point_does_not_replace_a_newer_one() -> None:
    segment = Segment(history(10), 10)
    segment.rounds(0, 10)
    segment.rounds(0, 5)
    assert [version.lsn for _, version in segment.pages.page_cache.versions()] == [10]


# ---- while a read is under way -------------------------------------------------------------------


def test_a_read_that_a_truncation_overtakes_starts_over() -> None:
    """What it has found above the VDL is annulled meanwhile (2017 §4.3)."""
    segment = Segment(history(3), 3)
    segment.write((4, 0, 0, b"lost"), (5, 0, 2, b"lost"))
    reading = Reading(0, 5)
    need = segment.pages.read(reading)
    assert isinstance(need, Need)
    segment.index.truncate(TruncationTable().extended(VolumeEpoch(2, 1), 3, 100))
    segment.pages.drop_above(3)
    segment.written = segment.written[:3]
    segment.write((101, 0, 0, b"kept"))
    segment.give(reading, need)
    assert segment.pages.read(reading) == naive_page(segment.written, 0, 5)


def test_a_read_that_a_collection_overtakes_ends_at_the_base() -> None:
    """The record whose predecessor it looks for is part of the base's image by then."""
    for opened in (False, True):
        segment = Segment(history(9), 3, 6, page_cache_bytes=0, block_cache_bytes=0)
        reading = Reading(0, 9)
        need = segment.pages.read(reading)
        assert isinstance(need, Need)
        if not opened:
            segment.give(reading, need)
            need = segment.pages.read(reading)
            assert isinstance(need, Need)
        segment.fold(9)
        end = 9 if opened else 6
        segment.collect(end)
        segment.give(reading, need)
        assert list(segment.needs(reading)) == [1]
        assert segment.pages.read(reading) == naive_page(segment.written, 0, 9)
        assert reading.found is not None
        assert reading.found.image_lsn == end


def test_a_read_whose_version_is_collected_meanwhile_is_refused() -> None:
    segment = Segment(history(9), 3, 6)
    reading = Reading(0, 5)
    need = segment.pages.read(reading)
    assert isinstance(need, Need)
    segment.collect(6)
    segment.give(reading, need)
    with pytest.raises(ReadPointBelowFloor, match="5: expected >= 6"):
        segment.pages.read(reading)


def test_a_read_whose_layers_are_replaced_each_time_gives_up() -> None:
    segment = Segment(history(9), 9)
    reading = Reading(0, 9)
    for _ in range(48):
        assert isinstance(segment.pages.read(reading), Need)
        segment.merge()
    with pytest.raises(ReadUnfinished, match="asked 49 times: expected at most 48"):
        segment.pages.read(reading)
    assert segment.rounds(0, 9) == [1]


def test_a_block_of_a_layer_that_is_gone_is_used_but_not_kept() -> None:
    segment = Segment(history(9), 9)
    reading = Reading(0, 9)
    need = segment.pages.read(reading)
    assert isinstance(need, Need)
    segment.merge()
    segment.give(reading, need)
    assert len(segment.pages.block_cache) == 0


# ---- background work and checkers ----------------------------------------------------------------


def test_work_in_the_background_leaves_no_trace_in_the_caches() -> None:
    segment = Segment(history(30, pages=3), 10, 20)
    job = segment.pages.read_job(1, 30)
    reads = list[Read]()
    content = finished(job, lambda op: reads.append(op) or segment.shelf.execute(op))  # type: ignore[func-returns-value, arg-type]
    expected = naive_page(segment.written, 1, 30)
    assert content == expected.image.rstrip(b"\0")
    assert len(reads) == 2
    assert segment.pages.read_now(1, 30, segment.shelf.read) == expected
    for cache in (segment.pages.page_cache, segment.pages.block_cache):
        assert (len(cache), cache.hits, cache.misses) == (0, 0, 0)
    segment.rounds(1, 30)
    reads.clear()
    finished(segment.pages.read_job(1, 30), segment.shelf.execute)
    assert reads == []  # but it takes what is there


def test_a_checker_reads_the_files_whatever_is_cached() -> None:
    segment = Segment(history(30, pages=3), 30)
    segment.rounds(0, 30)
    names = list[str]()

    def read(name: str, offset: int, length: int) -> bytes:
        names.append(name)
        return segment.shelf.read(name, offset, length)

    assert segment.pages.read_now(0, 30, read) == naive_page(segment.written, 0, 30)
    assert names == ["layer-1"]


# ---- what contradicts itself ---------------------------------------------------------------------


def without_page(segment: Segment, page: PageId, at: int) -> None:
    """Make layer ``at`` one that has nothing of ``page``."""
    layers = segment.pages.layers.layers
    others = [each for each in segment.written if each.page_id != page]
    layer = segment.shelf.delta(others, layers[at].start, layers[at].end)
    segment.pages.set_layers(LayerMap((*layers[:at], layer, *layers[at + 1 :])))


def test_a_record_that_is_missing_is_named() -> None:
    segment = Segment(history(30, pages=3), 10, 20)
    without_page(segment, 0, 0)
    reading = Reading(0, 20)
    with pytest.raises(Corrupt, match="page 0: record 12 follows 9, which is missing"):
        list(segment.needs(reading))
    without_page(segment, 0, 1)
    with pytest.raises(Corrupt, match="page 0: record 21 follows 18, which is missing"):
        segment.pages.read(Reading(0, 30))


def test_a_base_without_the_page_it_should_have_is_told_of() -> None:
    segment = Segment(history(30, pages=3), 10, 20)
    segment.collect(20)
    others = [each for each in segment.written if each.page_id]
    base = segment.shelf.base(others, 20)
    segment.pages.set_layers(LayerMap((base,)))
    with pytest.raises(Corrupt, match="page 0: record 21 follows 18, which is missing"):
        segment.pages.read(Reading(0, 30))


def test_an_image_that_no_record_stands_for_is_told_of() -> None:
    segment = Segment(history(30, pages=3), 10, 20)
    segment.collect(20)
    forged = [each for each in segment.written if (each.page_id, each.lsn) != (0, 18)]
    base = segment.shelf.base(forged, 20)
    segment.pages.set_layers(LayerMap((base,)))
    with pytest.raises(Corrupt, match="page 0: record 21 follows 18, which is missing"):
        list(segment.needs(Reading(0, 30)))


def test_open_records_that_do_not_follow_each_other_are_told_of() -> None:
    records = history(4)
    records[2] = records[2]._replace(prev_page_lsn=1)
    segment = Segment(records)
    with pytest.raises(Corrupt, match="page 0: record 3 follows 1, which is missing"):
        segment.pages.read(Reading(0, 4))


def test_a_kept_version_that_a_record_does_not_follow_is_told_of() -> None:
    segment = Segment(history(4))
    segment.rounds(0, 4)
    last = segment.written[-1]
    insert(segment.index, [RedoRecord(5, 0, 0, b"x", 5, True, 4, last.lsn, 3)])
    with pytest.raises(Corrupt, match="page 0: record 5 follows 3: expected 4"):
        segment.pages.read(Reading(0, 5))


def test_a_filter_that_denies_a_page_is_told_of() -> None:
    segment = Segment(history(3), 3, seen=lambda each: attrs.evolve(each, bloom=ALL_ZEROS))
    with pytest.raises(Corrupt, match="page 0: nothing is found at or below 3"):
        segment.pages.read(Reading(0, 3))
    assert segment.pages.read(Reading(7, 3)) == PageImage(7, 0, b"")
    assert segment.pages.read(Reading(0, 0)) == PageImage(0, 0, b"")


def test_damage_is_found_and_not_kept() -> None:
    segment = Segment(history(9), 9)
    reading = Reading(0, 9)
    need = segment.pages.read(reading)
    assert isinstance(need, Need)
    (ref,) = need.blocks
    data = bytearray(segment.shelf.read(ref.name, ref.offset, ref.length))
    data[-1] ^= 1
    with pytest.raises(DamagedLayer, match="layer-1"):
        segment.pages.blocks_read(reading, ref, bytes(data))
    assert len(segment.pages.block_cache) == 0
    with pytest.raises(DamagedLayer):
        segment.pages.read_now(0, 9, lambda name, offset, length: bytes(length))
    with pytest.raises(DamagedLayer):
        finished(segment.pages.read_job(0, 9), lambda op: b"")
    assert segment.rounds(0, 9) == [1]


@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("left", [None, b"", bytes(1000)])
def test_a_layer_of_which_nothing_is_known_lets_nobody_pass(base: bool, left: bytes | None) -> None:
    """What it had, or had not, of any page; what lies above it is read."""
    written = history(30, pages=3) + chained(
        [(31, 0, 0, b"x" * PAGE_SIZE)], after=history(30, pages=3)
    )
    segment = Segment(written, 10, 20, 31, page_cache_bytes=0, block_cache_bytes=0)
    if base:
        segment.collect(20)
    number = segment.pages.layers.layers[0].number
    lost = segment.pages.layers.layers[0]
    dark = unreadable(number, lost.start, lost.end, lost.base, lost.length)
    others = segment.pages.layers.layers[1:]
    segment.pages.set_layers(LayerMap((dark, *others), frozenset({number})))
    segment.shelf.data[lost.name] = left or b""
    for page in (1, 2, 7):
        with pytest.raises(DamagedLayer, match=lost.name):
            list(segment.needs(Reading(page, 31)))
    assert segment.rounds(0, 31) == [1]


# ---- which pages there are -----------------------------------------------------------------------


def test_pages_are_listed_wherever_their_records_are() -> None:
    segment = Segment(history(40, pages=4), 10)
    assert segment.pages.existing_pages(0, 9, 40, 100) == ([0, 1, 2, 3], 9)
    assert segment.pages.existing_pages(0, 9, 2, 100) == ([1, 2], 9)
    assert segment.pages.existing_pages(1, 9, 40, 2) == ([1, 2], 2)


def test_pages_are_listed_from_the_floor_on_also_when_they_are_in_the_base_alone() -> None:
    segment = Segment(history(20, pages=4), 20)
    segment.collect(20)
    assert segment.pages.existing_pages(0, 9, 20, 100) == ([0, 1, 2, 3], 9)
    with pytest.raises(ReadPointBelowFloor, match="19: expected >= 20"):
        segment.pages.existing_pages(0, 9, 19, 100)


def test_pages_that_are_folded_before_anybody_lists_them_are_listed() -> None:
    segment = Segment(history(40, pages=4), 20, 40)
    assert segment.pages.existing_pages(0, 9, 40, 100) == ([0, 1, 2, 3], 9)


def test_a_page_whose_first_record_is_annulled_is_not_listed() -> None:
    segment = Segment(history(10), 10)
    segment.write((11, 5, 0, b"lost"), (12, 6, 0, b"lost"))
    assert segment.pages.existing_pages(0, 9, 12, 100) == ([0, 5, 6], 9)
    segment.index.truncate(TruncationTable().extended(VolumeEpoch(2, 1), 11, 100))
    segment.pages.drop_above(11)
    segment.written.pop()
    segment.write((101, 7, 0, b"new"))
    assert segment.pages.existing_pages(0, 9, 101, 100) == ([0, 5, 7], 9)


def test_what_is_in_layers_is_never_annulled() -> None:
    segment = Segment(history(10), 10)
    with pytest.raises(AssertionError):
        segment.pages.drop_above(9)
