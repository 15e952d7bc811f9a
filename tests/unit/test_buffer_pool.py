"""The buffer pool (2017 §3.1, §4.2.3; invariants 13, 15 and 16)."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aurora.buffer_pool import BufferPool
from aurora.mtr import PageWrite, VolumeChains
from segments.protocol.errors import InvalidConfig
from segments.protocol.messages import PageImage
from segments.protocol.record import PAGE_SIZE, RedoRecord
from tests.compute_oracles import page_by_replay

IMAGE = b"\x07" * PAGE_SIZE


def redo(lsn: int, page_id: int, prev_page_lsn: int, payload: bytes = b"") -> RedoRecord:
    payload = payload or b"%d" % lsn
    return RedoRecord(lsn, page_id, 0, payload, lsn, True, lsn - 1, lsn - 1, prev_page_lsn)


def pool_with(capacity: int, *page_ids: int) -> BufferPool:
    """A pool of a fresh volume that knows these pages as never written."""
    pool = BufferPool(capacity, vdl=0)
    for page_id in page_ids:
        assert pool.install(PageImage(page_id, 0, b""), 0, 0)
    return pool


def test_a_page_not_cached_is_a_miss() -> None:
    pool = BufferPool(2, vdl=0)
    assert pool.read(1, 0, 0) is None
    assert pool.head(1) is None
    assert pool.missing([1, 2, 1]) == [1, 2]
    assert pool.statistics.misses == 1


def test_a_page_never_written_is_known_as_such() -> None:
    pool = pool_with(2, 1)
    assert pool.read(1, 0, 0) == PageImage(1, 0, b"")
    assert pool.head(1) == 0


def test_redo_above_the_read_point_is_not_seen() -> None:
    pool = pool_with(2, 1)
    pool.apply([redo(1, 1, 0, b"one")], vdl=0)
    assert pool.head(1) == 1
    assert pool.read(1, 0, 0) == PageImage(1, 0, b"")
    page = pool.read(1, 1, 1)
    assert page is not None
    assert (page.page_lsn, page.image[:4]) == (1, b"one\0")


def test_a_newer_version_never_answers_an_older_read_point() -> None:
    pool = pool_with(2, 1)
    pool.apply([redo(1, 1, 0, b"a"), redo(2, 1, 1, b"b")], vdl=0)
    newer = pool.read(1, 2, 2)
    assert newer is not None
    assert newer.image[:1] == b"b"
    assert pool.read(1, 1, 2) is None  # folded: the segments still have it
    assert pool.read(1, 2, 2) == newer


def test_an_older_version_is_served_while_its_redo_is_unfolded() -> None:
    pool = pool_with(2, 1)
    pool.apply([redo(1, 1, 0, b"a"), redo(2, 1, 1, b"b")], vdl=0)
    older = pool.read(1, 1, 2)
    assert older is not None
    assert (older.page_lsn, older.image[:1]) == (1, b"a")


def test_images_are_immutable_and_not_copied_again() -> None:
    pool = pool_with(2, 1)
    assert pool.install(PageImage(2, 0, b""), 0, 0)
    pool.apply([redo(1, 1, 0)], vdl=0)
    one, two = pool.read(1, 1, 1), pool.read(1, 1, 1)
    assert one is not None
    assert two is not None
    assert type(one.image) is bytes
    assert len(one.image) == PAGE_SIZE
    assert one.image is two.image
    pool.apply([redo(2, 1, 1, b"later")], vdl=1)
    pool.read(1, 2, 2)
    assert one.image[:5] == b"1\0\0\0\0"


def test_two_changes_of_one_mtr_are_both_applied() -> None:
    pool = pool_with(2, 1)
    first = RedoRecord(1, 1, 0, b"ab", 1, False, 0, 0, 0)
    second = RedoRecord(2, 1, 1, b"c", 1, True, 1, 1, 1)
    pool.apply([first, second], vdl=0)
    page = pool.read(1, 2, 2)
    assert page is not None
    assert page.image[:3] == b"ac\0"


def test_redo_that_does_not_follow_the_head_is_our_mistake() -> None:
    pool = pool_with(2, 1)
    pool.apply([redo(1, 1, 0)], vdl=0)
    with pytest.raises(AssertionError):
        pool.apply([redo(2, 1, 0)], vdl=0)
    assert pool.head(1) == 1


def test_a_long_hot_page_folds_unasked_but_never_above_the_vdl() -> None:
    pool = pool_with(1, 1)
    for lsn in range(1, 101):
        pool.apply([redo(lsn, 1, lsn - 1)], vdl=max(0, lsn - 20))
        entry = pool._entries[1]
        assert len(entry.pending) < 40
        assert entry.page_lsn <= max(0, lsn - 20)
    page = pool.read(1, 100, 100)
    assert page is not None
    assert page.image[:4] == b"100\0"


def test_an_install_keeps_what_is_newer() -> None:
    pool = pool_with(2, 1)
    pool.apply([redo(1, 1, 0, b"new")], vdl=0)
    assert pool.install(PageImage(1, 0, b""), 0, 1)
    page = pool.read(1, 1, 1)
    assert page is not None
    assert page.image[:3] == b"new"
    assert pool.head(1) == 1


def test_a_stale_image_is_not_taken_in() -> None:
    # Asked for at 0; then the page is changed, made durable, evicted; then comes the answer.
    pool = pool_with(1, 1)
    pool.apply([redo(1, 1, 0)], vdl=0)
    assert pool.make_room(1, 1)
    assert not pool.install(PageImage(1, 0, b""), 0, 1)
    assert pool.head(1) is None
    assert pool.install(PageImage(1, 1, IMAGE), 1, 1)
    assert pool.head(1) == 1


def test_staleness_is_judged_by_the_newest_change_ever_evicted() -> None:
    pool = pool_with(2, 1, 2)
    pool.apply([redo(1, 1, 0), redo(2, 2, 0)], vdl=0)
    pool.read(1, 1, 2)
    assert pool.make_room(2, 2)  # page 2 leaves before page 1
    assert not pool.install(PageImage(2, 0, b""), 1, 2)


def test_what_came_after_a_search_in_vain_can_be_evicted() -> None:
    pool = pool_with(2, 1)
    assert pool.pin([1])
    assert not pool.make_room(2, 0)
    assert pool.install(PageImage(2, 0, b""), 0, 0)
    assert pool.make_room(1, 0)
    assert pool.missing([1, 2]) == [2]


def test_an_image_older_than_the_opening_is_not_taken_in() -> None:
    pool = BufferPool(2, vdl=100)
    assert not pool.install(PageImage(1, 40, IMAGE), 50, 100)
    assert pool.install(PageImage(1, 90, IMAGE), 100, 100)
    assert pool.read(1, 95, 100) == PageImage(1, 90, IMAGE)
    assert pool.read(1, 89, 100) is None


def test_the_least_recently_used_page_leaves_first() -> None:
    pool = pool_with(3, 1, 2, 3)
    pool.read(1, 0, 0)
    assert pool.install(PageImage(4, 0, b""), 0, 0)
    assert [page_id in pool for page_id in (1, 2, 3, 4)] == [True, False, True, True]
    pool.apply([redo(1, 3, 0)], vdl=0)
    assert pool.make_room(2, 1)
    assert [page_id in pool for page_id in (1, 3, 4)] == [False, True, False]
    assert pool.statistics.evictions == 3


def test_nothing_above_the_vdl_is_ever_evicted() -> None:
    """2017 §4.2.3: a page leaves the cache only when its newest change is durable."""
    pool = pool_with(2, 1, 2)
    pool.apply([redo(1, 1, 0), redo(2, 2, 0)], vdl=0)
    assert not pool.make_room(1, 0)
    assert not pool.install(PageImage(3, 0, b""), 0, 0)
    assert len(pool) == 2
    assert pool.make_room(1, 1)  # page 1 is durable now
    assert pool.missing([1, 2]) == [1]
    assert not pool.make_room(2, 1)
    assert pool.make_room(2, 2)


def test_what_is_pinned_stays() -> None:
    pool = pool_with(2, 1, 2)
    assert pool.pin([1, 2])
    assert pool.pin([2])
    assert not pool.make_room(1, 0)
    pool.unpin([2, 1])
    assert pool.make_room(1, 0)
    assert pool.missing([1, 2]) == [1]
    assert not pool.make_room(2, 0)
    pool.unpin([2])
    assert pool.make_room(2, 0)
    assert pool.statistics.pinned_pages == 0


def test_pins_never_promise_more_than_there_is() -> None:
    pool = BufferPool(3, vdl=0)
    assert pool.pin([1, 2, 2])
    assert not pool.pin([3, 4])
    assert pool.pin([2, 3])
    assert not pool.pin([4])
    pool.unpin([1, 2])
    assert pool.pin([4])


def test_whoever_holds_a_pin_gets_its_page_in_whatever_others_evict() -> None:
    # A page that is pinned and absent cannot change: an answer as of the pinning stays good, even
    # when newer changes of other pages have been evicted meanwhile.
    pool = pool_with(2, 1)
    assert pool.pin([2])
    pool.apply([redo(1, 1, 0)], vdl=0)
    assert pool.make_room(2, 1)
    assert not pool.install(PageImage(3, 0, b""), 0, 1)
    assert pool.install(PageImage(2, 0, b""), 0, 1)


def test_a_head_shows_what_is_not_durable_and_disturbs_no_read_at_the_vdl() -> None:
    pool = pool_with(2, 1)
    assert pool.read_head(1) == PageImage(1, 0, b"")
    assert pool.read_head(2) is None
    pool.apply([redo(1, 1, 0, b"abc"), redo(2, 1, 1, b"x")], vdl=0)
    head = pool.read_head(1)
    assert head is not None
    assert (head.page_lsn, head.image[:4]) == (2, b"xbc\0")
    assert pool.read(1, 0, 0) == PageImage(1, 0, b"")
    assert pool.read_head(1) == head
    again = pool.read_head(1)
    assert again is not None
    assert again.image is head.image, "made once"
    older = pool.read(1, 1, 1)
    assert older is not None
    assert (older.page_lsn, older.image[:3]) == (1, b"abc")
    pool.apply([redo(3, 1, 2, b"y")], vdl=2)
    newer = pool.read_head(1)
    assert newer is not None
    assert (newer.page_lsn, newer.image[:4]) == (3, b"ybc\0")
    assert pool.read(1, 2, 2) == head


def test_the_image_of_a_head_goes_when_the_page_is_folded_up_to_it() -> None:
    pool = pool_with(1, 1)
    pool.apply([redo(1, 1, 0)], vdl=0)
    pool.read_head(1)
    assert pool._entries[1].newest is not None
    pool.read(1, 1, 1)
    assert pool._entries[1].newest is None
    assert pool.read_head(1) == pool.read(1, 1, 1)


def test_who_watches_a_page_learns_that_it_has_come_changed_and_gone() -> None:
    pool = BufferPool(1, vdl=0)
    with pool.watching(1), pool.watching(1):
        assert pool.is_head(1, 0)
        assert pool.install(PageImage(1, 0, b""), 0, 0)
        pool.apply([redo(1, 1, 0)], vdl=0)
        assert pool.make_room(1, 1)
        assert not pool.is_head(1, 0)
        assert pool.is_head(1, 1)
    assert not pool._watched


def test_a_place_of_a_part_is_a_pin_too() -> None:
    pool = pool_with(3, 1)
    places = pool.reserve(2)
    assert places is not None
    places.pin([2])
    pool.apply([redo(1, 1, 0)], vdl=0)
    assert pool.make_room(3, 1)
    assert not pool.install(PageImage(3, 0, b""), 0, 1)
    assert pool.install(PageImage(2, 0, b""), 0, 1)


def test_only_what_a_mini_transaction_in_parts_has_changed_is_stolen_or_hidden() -> None:
    pool = pool_with(2, 1, 2)
    pool.apply([redo(1, 1, 0)], vdl=0)
    pool.steal_from(2)
    pool.apply([redo(2, 2, 0)], vdl=0)
    assert pool.read_head(2) is None
    assert pool.read_head(1) is not None
    assert pool.make_room(1, 0)
    assert (1 in pool, 2 in pool) == (True, False)
    assert pool.is_stolen(2, 1)
    assert not pool.make_room(2, 0), "page 1 was written by another"


def test_a_head_that_was_hidden_is_there_when_the_last_part_is() -> None:
    pool = pool_with(2, 1)
    pool.steal_from(1)
    pool.apply([redo(1, 1, 0)], vdl=0)
    assert pool.read_head(1) is None
    pool.steal_from(None)
    head = pool.read_head(1)
    assert head is not None
    assert head.page_lsn == 1
    assert not pool.make_room(2, 0), "nothing is stolen any more"


def test_what_was_stolen_later_stays_so_when_the_vdl_has_passed_what_was_stolen_before() -> None:
    pool = pool_with(2)
    for lsn, page_id in ((1, 1), (2, 2)):
        assert pool.install(PageImage(page_id, 0, b""), 0, 0)
        pool.steal_from(lsn)
        pool.apply([redo(lsn, page_id, 0)], vdl=0)
        assert pool.make_room(2, 0)
        pool.steal_from(None)
    assert pool.make_room(2, 1)
    assert not pool.is_stolen(1, 1)
    assert pool.is_stolen(2, 1)
    assert not pool.install(PageImage(2, 0, b""), 1, 1)
    assert pool.make_room(2, 2)
    assert not pool.is_stolen(2, 2)
    assert not pool.install(PageImage(3, 0, b""), 1, 2), "it may have changed since"


def test_a_pool_without_room_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="capacity_pages is 0"):
        BufferPool(0, vdl=0)


PAGES = 5


class PoolMachine(RuleBasedStateMachine):
    """A writer with a pool of three pages, against the replay of everything it ever wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BufferPool(3, vdl=0)
        self.chains = VolumeChains(0, {0: 0})
        self.records: list[RedoRecord] = []
        self.vdl = 0
        self.in_flight: list[tuple[PageImage, int]] = []
        self.pinned: list[list[int]] = []
        self.watched: dict[int, tuple[PageImage, int, AbstractContextManager[None]]] = {}

    def fetch(self, page_id: int, read_point: int) -> PageImage:
        return page_by_replay(self.records, page_id, read_point)

    @rule(page_ids=st.lists(st.integers(0, PAGES - 1), min_size=1, max_size=4))
    def begin(self, page_ids: list[int]) -> None:
        if len(set(page_ids)) <= 3 and self.pool.pin(page_ids):
            self.pinned.append(page_ids)

    @precondition(lambda self: self.pinned)
    @rule()
    def finish(self) -> None:
        page_ids = self.pinned[0]
        for page_id in self.pool.missing(page_ids):
            if not self.pool.make_room(1, self.vdl):
                return  # waits for the VDL
            assert self.pool.install(self.fetch(page_id, self.vdl), self.vdl, self.vdl)
        lsn = self.chains.last_volume_lsn + 1
        writes = [
            PageWrite(page_id, index, b"%d" % (lsn + index))
            for index, page_id in enumerate(page_ids)
        ]
        records = self.chains.chain(lsn, writes, [0] * len(writes), self.pool.head)
        self.records += records
        self.pool.apply(records, self.vdl)
        self.pool.unpin(page_ids)
        del self.pinned[0]

    @precondition(lambda self: self.pinned)
    @rule()
    def give_up(self) -> None:
        self.pool.unpin(self.pinned.pop())

    @rule(part=st.floats(0, 1))
    def advance_vdl(self, part: float) -> None:
        cpls = [each.lsn for each in self.records if each.is_cpl and each.lsn > self.vdl]
        if cpls:
            self.vdl = cpls[int(part * (len(cpls) - 1))]

    @rule(page_id=st.integers(0, PAGES - 1), part=st.floats(0, 1))
    def ask_a_segment(self, page_id: int, part: float) -> None:
        read_point = int(part * self.vdl)
        self.in_flight.append((self.fetch(page_id, read_point), read_point))

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def answer_arrives(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.in_flight) - 1))
        page, read_point = self.in_flight.pop(index)
        self.pool.install(page, read_point, self.vdl)

    @rule(page_id=st.integers(0, PAGES - 1), part=st.floats(0, 1))
    def read(self, page_id: int, part: float) -> None:
        read_point = int(part * self.vdl)
        page = self.pool.read(page_id, read_point, self.vdl)
        assert page is None or page == self.fetch(page_id, read_point)

    @rule(page_id=st.integers(0, PAGES - 1))
    def read_at_the_vdl(self, page_id: int) -> None:
        page = self.pool.read(page_id, self.vdl, self.vdl)
        assert (page is None) == bool(self.pool.missing([page_id]))
        assert page is None or page == self.fetch(page_id, self.vdl)

    @rule(page_id=st.integers(0, PAGES - 1))
    def read_head(self, page_id: int) -> None:
        page = self.pool.read_head(page_id)
        assert (page is None) == bool(self.pool.missing([page_id]))
        assert page is None or page == self.fetch(page_id, self.chains.last_volume_lsn)

    @rule(page_id=st.integers(0, PAGES - 1))
    def watch(self, page_id: int) -> None:
        if page_id not in self.watched:
            watching = self.pool.watching(page_id)
            watching.__enter__()
            self.watched[page_id] = (self.fetch(page_id, self.vdl), self.vdl, watching)

    @precondition(lambda self: self.watched)
    @rule(data=st.data())
    def a_watched_head_arrives(self, data: st.DataObject) -> None:
        page_id = data.draw(st.sampled_from(sorted(self.watched)))
        page, read_point, watching = self.watched.pop(page_id)
        if page_id not in self.pool and self.pool.is_head(page_id, read_point):
            assert page == self.fetch(page_id, self.chains.last_volume_lsn)
        watching.__exit__(None, None, None)

    @rule(count=st.integers(1, 3))
    def make_room(self, count: int) -> None:
        before = {page_id: self.pool.head(page_id) or 0 for page_id in range(PAGES)}
        pinned = {page_id for page_ids in self.pinned for page_id in page_ids}
        cached = {page_id for page_id in range(PAGES) if page_id in self.pool}
        stuck = {page for page in cached if before[page] > self.vdl or page in pinned}
        assert self.pool.make_room(count, self.vdl) == (len(stuck) + count <= 3)
        assert stuck <= {page_id for page_id in range(PAGES) if page_id in self.pool}

    @invariant()
    def nothing_undurable_is_missing_and_heads_are_right(self) -> None:
        assert len(self.pool) <= 3
        for page_id in range(PAGES):
            newest = self.fetch(page_id, self.chains.last_volume_lsn).page_lsn
            head = self.pool.head(page_id)
            assert head == newest or (head is None and newest <= self.vdl)


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestPool = PoolMachine.TestCase
