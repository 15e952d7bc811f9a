"""The materializer against a replay of everything ever written."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segments.materializer import Materializer

from segments.chain_index import ChainIndex
from segments.protocol.errors import Corrupt, ReadPointBelowFloor
from segments.protocol.ids import Lsn, VolumeEpoch
from segments.protocol.messages import PageImage
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.truncation import TruncationTable
from tests.oracles import chained, insert, naive_page

PAGES = range(4)


def history(count: int, *, pages: int = 1) -> list[RedoRecord]:
    """Records whose payloads overlap, so that applying them in a wrong order shows."""
    return chained([(n, n % pages, n % 5, b"%06d" % n) for n in range(1, count + 1)])


def segment(
    records: list[RedoRecord], *, interval: int = 4, cache_bytes: int = 100 * PAGE_SIZE
) -> tuple[ChainIndex, Materializer]:
    index = ChainIndex(max_unlinked=10_000)
    insert(index, records)
    return index, Materializer(index, image_interval=interval, image_cache_bytes=cache_bytes)


def kept_images(materializer: Materializer) -> list[tuple[int, Lsn, bytes]]:
    return [
        (page_id, lsn, image)
        for page_id, versions in materializer._images._pages.items()
        for lsn, image in zip(versions.lsns, versions.images, strict=True)
    ]


class Story:
    """A random life of one segment, and all that was ever written to it."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        cache_bytes = draw.choice([0, 2, 1000]) * PAGE_SIZE
        self.index, self.pages = segment([], interval=draw.randint(1, 5), cache_bytes=cache_bytes)
        self.written: list[RedoRecord] = []
        self.next_lsn, self.vdl, self.floor = 1, 0, 0
        self.cache_limit = cache_bytes // PAGE_SIZE

    def write(self) -> None:
        draw, writes = self.draw, []
        for _ in range(draw.randint(1, 20)):
            self.next_lsn += draw.choice([0, 0, 5])
            payload = bytes([draw.randrange(256)]) * draw.randint(1, 9)
            offset = draw.choice([0, 3, PAGE_SIZE - len(payload)])
            writes.append((self.next_lsn, draw.choice(PAGES), offset, payload))
            self.next_lsn += 1
        self.written += chained(writes, after=self.written)

    def deliver(self) -> None:
        if self.written:
            start = self.draw.randrange(len(self.written))
            batch = self.written[start : start + self.draw.randint(1, 20)]
            self.draw.shuffle(batch)
            insert(self.index, batch)

    def catch_up(self) -> None:
        insert(self.index, self.written)

    def announce(self) -> None:
        self.vdl = max(self.vdl, self.draw.choice([0, *(each.lsn for each in self.written)]))
        self.pages.announce(self.vdl)

    def coalesce(self) -> None:
        budget = self.draw.choice([1, 7, 1000])
        work = self.pages.coalesce(self.vdl, budget)
        assert work <= max(budget, self.pages._interval + 1)

    def collect(self) -> None:
        self.floor = self.draw.randint(self.floor, self.vdl)
        folded = self.pages.fold(self.floor, self.draw.choice([1, 5, None]))
        assert folded <= self.floor
        self.index.collect(self.draw.choice([folded, 0]))

    def truncate(self) -> None:
        end = self.next_lsn + self.draw.choice([0, 10_000_000])
        self.index.truncate(TruncationTable().extended(VolumeEpoch(2, 1), self.vdl, end))
        self.pages.drop_above(min(self.vdl, self.index.scl))
        self.written = [record for record in self.written if record.lsn <= self.vdl]
        self.next_lsn = end + 1

    def restart(self) -> None:
        """From a checkpoint; the images that were coalesced are gone."""
        held, base_lsn, bases = self.index.held(), self.index.base_lsn, self.pages.base_images()
        index, pages = segment([], interval=self.pages._interval)
        index.reset(base_lsn)
        pages.install(bases)
        insert(index, held)
        self.index, self.pages, self.cache_limit = index, pages, 100

    def check(self) -> None:
        draw, scl = self.draw, self.index.scl
        for page_id, lsn, image in kept_images(self.pages):
            assert lsn <= self.vdl
            assert PageImage(page_id, lsn, image) == naive_page(self.written, page_id, lsn)
        points = [self.floor, scl, *(each.lsn for each in self.written)]
        points = [point for point in points if self.floor <= point <= scl]
        for read_point in draw.sample(points, min(len(points), 8)):
            for page_id in PAGES:
                expected = naive_page(self.written, page_id, read_point)
                assert self.pages.materialize(page_id, read_point) == expected
            self.check_list(read_point)
        newest_and_base = 2 * len(self.pages._images._pages)
        assert len(kept_images(self.pages)) <= newest_and_base + self.cache_limit
        assert len(self.pages._images._evictable) <= self.cache_limit

    def check_list(self, read_point: Lsn) -> None:
        """In parts, in any range: the pages with a record at or below the read point."""
        first, last, limit = (
            self.draw.randint(0, 3),
            self.draw.randint(0, 5),
            self.draw.randint(1, 5),
        )
        written = {each.page_id for each in self.written if each.lsn <= read_point}
        listed, at = list[int](), first
        while at <= last:
            found, through = self.pages.existing_pages(at, last, read_point, limit)
            assert at <= through <= last
            listed += found
            at = through + 1
        assert listed == sorted(page for page in written if first <= page <= last)


@settings(max_examples=120)
@given(st.integers(0, 2**32))
def test_every_version_is_the_replay_of_the_log(seed: int) -> None:
    """2017 §3.2: a page is what the log says, at any read point: the log is the database."""
    draw = random.Random(seed)
    story = Story(draw)
    actions = [story.write, story.deliver, story.deliver, story.catch_up, story.announce]
    actions += [story.coalesce, story.coalesce, story.collect, story.truncate, story.restart]
    for _ in range(draw.randint(5, 25)):
        draw.choice(actions)()
        story.check()


def test_pages_whose_records_have_all_left_the_log_are_still_listed() -> None:
    index, pages = segment(history(20, pages=4))
    pages.announce(20)
    index.collect(pages.fold(20))
    assert index.pages() == []
    assert pages.existing_pages(0, 9, 20, 100) == ([0, 1, 2, 3], 9)
    restored, again = segment([])
    restored.reset(20)
    again.install(pages.base_images())
    assert again.existing_pages(1, 9, 20, 2) == ([1, 2], 2)
    with pytest.raises(ReadPointBelowFloor):
        again.existing_pages(0, 9, 19, 100)


def test_a_page_never_written_has_no_lsn_and_no_bytes() -> None:
    _, pages = segment(history(5))
    assert pages.materialize(7, 5) == PageImage(7, 0, b"")
    assert pages.materialize(0, 0) == PageImage(0, 0, b"")


def test_records_of_one_page_apply_in_order_and_to_their_places() -> None:
    writes = [(1, 0, 0, b"aaaa"), (2, 0, 2, b"bbbb"), (3, 0, PAGE_SIZE - 1, b"z")]
    _, pages = segment(chained(writes))
    image = pages.materialize(0, 3).image
    assert (len(image), image[:7], image[-2:]) == (PAGE_SIZE, b"aabbbb\0", b"\0z")


def test_a_read_costs_at_most_an_interval_once_coalesced() -> None:
    """2017 §3.3: segments coalesce in the background, so that no read applies a long history."""
    records = history(1000)
    _, pages = segment(records, interval=32)
    while pages.coalesce(1000, 100):
        pass
    for read_point in range(1, 1001):
        assert len(pages.chain(0, read_point)) - 1 < 32
    assert pages.chain(0, 70) == (64, 65, 66, 67, 68, 69, 70)


def test_a_long_replay_is_paid_once() -> None:
    _, pages = segment(history(1000), interval=10)
    assert len(pages.chain(0, 1000)) == 1001
    pages.materialize(0, 1000)
    assert len(pages.chain(0, 1000)) == 1001  # nothing is announced: nothing may be kept
    pages.announce(955)
    pages.materialize(0, 1000)
    assert pages.chain(0, 1000)[0] == 950
    assert pages.chain(0, 123) == (120, 121, 122, 123)


def test_coalescing_stops_at_the_vdl_and_goes_on_from_there() -> None:
    _, pages = segment(history(100), interval=10)
    assert pages.coalesce(39, 1000) == 39 + 30
    assert [lsn for _, lsn, _ in kept_images(pages)] == [10, 20, 30]
    assert pages.coalesce(39, 1000) == 0
    assert pages.coalesce(40, 1000) == 1 + 10
    assert pages.chain(0, 45)[0] == 40


def test_coalescing_keeps_to_its_budget() -> None:
    _, pages = segment(history(300, pages=3), interval=10)
    turns = 0
    while work := pages.coalesce(300, 25):
        assert work <= 25
        turns += 1
    assert turns >= 600 // 25
    tenths = sorted(lsn for _, lsn, _ in kept_images(pages))
    assert tenths == [at + last for at in range(0, 300, 30) for last in (28, 29, 30)]


def test_the_cache_is_bounded_but_the_newest_image_and_the_base_stay() -> None:
    index, pages = segment(history(100), interval=10, cache_bytes=2 * PAGE_SIZE)
    pages.coalesce(100, 1000)
    assert [lsn for _, lsn, _ in kept_images(pages)] == [80, 90, 100]
    index.collect(pages.fold(5))
    pages.materialize(0, 50)
    assert [lsn for _, lsn, _ in kept_images(pages)] == [5, 35, 45, 100]


def test_the_image_that_is_used_outlives_the_one_that_is_not() -> None:
    _, pages = segment(history(40), interval=10, cache_bytes=2 * PAGE_SIZE)
    pages.coalesce(30, 1000)
    pages.materialize(0, 15)
    pages.coalesce(40, 1000)
    assert [lsn for _, lsn, _ in kept_images(pages)] == [10, 30, 40]


def test_folding_makes_way_for_collection() -> None:
    records = history(50, pages=3)
    index, pages = segment(records)
    assert pages.fold(20) == 20
    index.collect(20)
    assert [page[:2] for page in pages.base_images()] == [(0, 18), (1, 19), (2, 20)]
    assert [pages.materialize(0, point) for point in range(20, 51)] == [
        naive_page(records, 0, point) for point in range(20, 51)
    ]
    with pytest.raises(ReadPointBelowFloor, match="19: expected >= 20"):
        pages.materialize(0, 19)
    with pytest.raises(ReadPointBelowFloor, match="19: expected >= 20"):
        pages.chain(0, 19)


def test_folding_by_turns_frees_what_is_done_and_serves_only_what_is_left() -> None:
    records = history(60, pages=3)
    index, pages = segment(records)
    folded = [pages.fold(40, 10)]
    with pytest.raises(ReadPointBelowFloor, match="39: expected >= 40"):
        pages.materialize(2, 39)
    while folded[-1] < 40:
        assert index.collect(folded[-1]) > 0
        assert pages.materialize(2, 40) == naive_page(records, 2, 40)
        folded.append(pages.fold(40, 10))
    assert len(folded) > 3
    assert pages.fold(40, 10) == 40


def test_a_lagging_segment_folds_only_what_it_holds() -> None:
    records = history(50)
    index, pages = segment(records[:30])
    assert pages.fold(45) == 30
    index.collect(45)
    insert(index, records[30:])
    for read_point in (31, 45, 47):
        assert pages.materialize(0, read_point) == naive_page(records, 0, read_point)


def test_a_version_older_than_an_installed_base_is_refused() -> None:
    _, pages = segment([])
    pages.install([PageImage(1, 9, bytes(PAGE_SIZE))])
    with pytest.raises(ReadPointBelowFloor, match="8 of page 1: expected >= 9"):
        pages.materialize(1, 8)
    assert pages.materialize(1, 9) == PageImage(1, 9, bytes(PAGE_SIZE))


def test_an_older_base_never_replaces_a_newer_one() -> None:
    _, pages = segment([])
    newer, older = PageImage(1, 9, b"n" * PAGE_SIZE), PageImage(1, 5, b"o" * PAGE_SIZE)
    pages.install([newer, older, PageImage(2, 0, b"")])
    assert list(pages.base_images()) == [newer]
    assert pages.base_bytes() == PAGE_SIZE
    pages.install([PageImage(1, 10, b"x" * 10 + bytes(PAGE_SIZE - 10))])
    assert pages.base_bytes() == 10


def test_truncation_takes_the_images_with_it() -> None:
    records = history(40)
    index, pages = segment(records, interval=10)
    pages.coalesce(40, 1000)
    index.truncate(TruncationTable().extended(VolumeEpoch(2, 1), 25, 100))
    pages.drop_above(25)
    anew = chained([(101, 0, 0, b"other")], after=records[:25])
    insert(index, anew)
    assert [lsn for _, lsn, _ in kept_images(pages)] == [10, 20]
    assert pages.materialize(0, 101) == naive_page(records[:25] + anew, 0, 101)


def test_what_becomes_the_newest_image_is_no_longer_evicted() -> None:
    records = history(40, pages=2)
    index, pages = segment(records, interval=10, cache_bytes=2 * PAGE_SIZE)
    pages.coalesce(40, 1000)
    index.truncate(TruncationTable().extended(VolumeEpoch(2, 1), 39, 40))
    pages.drop_above(39)
    insert(index, chained([(n, 1, 0, b"other") for n in range(41, 91)], after=records[:39]))
    pages.coalesce(90, 1000)
    assert [lsn for page_id, lsn, _ in kept_images(pages) if page_id == 0] == [20]
    assert [lsn for page_id, lsn, _ in kept_images(pages) if page_id == 1] == [70, 80, 90]


def test_images_below_a_new_base_leave_the_cache() -> None:
    _, pages = segment(history(60), interval=10, cache_bytes=2 * PAGE_SIZE)
    pages.coalesce(30, 1000)
    pages.fold(25)
    assert [lsn for _, lsn, _ in kept_images(pages)] == [25, 30]
    pages.coalesce(60, 1000)
    assert [lsn for _, lsn, _ in kept_images(pages)] == [25, 40, 50, 60]


def test_coalescing_does_not_go_over_what_is_folded_or_has_images() -> None:
    _, pages = segment(history(60), interval=10)
    pages.fold(30)
    assert pages.coalesce(39, 1000) == 9
    pages.announce(50)
    pages.materialize(0, 60)
    kept = [lsn for _, lsn, _ in kept_images(pages)]
    assert kept == [30, 40, 50]
    assert pages.coalesce(50, 1000) == 11
    assert [lsn for _, lsn, _ in kept_images(pages)] == kept


def test_coalescing_passes_by_a_base_that_is_ahead_of_the_log() -> None:
    """As after a restart from a checkpoint taken between folding and collecting."""
    records = history(40)
    _, pages = segment(records, interval=10)
    pages.install([naive_page(records, 0, 35)])
    assert pages.coalesce(39, 1000) == 39
    assert pages.coalesce(40, 1000) == 1 + 5


def test_a_broken_page_chain_is_corrupt_and_names_both_records() -> None:
    records = history(5)
    _, pages = segment([*records[:3], records[3]._replace(prev_page_lsn=0)])
    pages.install([PageImage(0, 2, bytes(PAGE_SIZE))])
    with pytest.raises(Corrupt, match="record 4 follows 0: expected 2"):
        pages.materialize(0, 4)
    _, pages = segment([*records[:2], records[2]._replace(page_id=1), *records[3:]])
    with pytest.raises(Corrupt, match="record 4 follows 3, which is missing"):
        pages.materialize(0, 5)
    index, pages = segment(records)
    index.collect(2)  # without images
    with pytest.raises(Corrupt, match="record 3 follows 2, which is missing"):
        pages.materialize(0, 5)
