"""A restart from a long log: it is looked into when there is time, and reads wait for that only."""

from __future__ import annotations

import attrs
import pytest

from segments.layers.job import PAUSE
from segments.protocol.ids import PageId
from segments.protocol.messages import ListPages, PageReply, PagesListed, ReadPage
from tests.oracles import naive_page
from tests.store_rig import FIRST, SECOND, TINY, StoreRig, records

CONFIG = attrs.evolve(
    TINY, wal_file_bytes=1 << 20, fold_bytes=1 << 30, unfolded_bytes=1 << 30, list_pages=100
)
LAST = 14_000
CHAIN = records(range(1, LAST + 1), pages=50)


@pytest.fixture
def restarted() -> StoreRig:
    rig = StoreRig(config=CONFIG)
    for at in range(0, LAST, 500):
        rig.take(CHAIN[at : at + 500])
    rig.restart()
    return rig


def read(page_id: PageId) -> ReadPage:
    return ReadPage(FIRST, 1, page_id, LAST, LAST)


def test_a_restart_does_not_look_into_its_log(restarted: StoreRig) -> None:
    assert restarted.state.index.unseen(LAST) == LAST
    assert restarted.state.is_behind(LAST)
    assert not restarted.state.is_behind(100)


def test_a_read_waits_in_steps_and_is_right(restarted: StoreRig) -> None:
    restarted.step(read(7))
    assert not restarted.said(PageReply)
    [query] = restarted.core.take_queries()
    assert list(query).count(PAUSE) >= 2
    [reply] = restarted.said(PageReply)
    assert reply.page == naive_page(CHAIN, 7, LAST)
    restarted.step(read(8))  # at once from now on
    [reply] = restarted.said(PageReply)
    assert reply.page == naive_page(CHAIN, 8, LAST)


def test_a_list_of_pages_waits_as_well(restarted: StoreRig) -> None:
    restarted.step(ListPages(FIRST, 1, 0, 1_000, LAST, LAST, 100))
    assert not restarted.said(PagesListed)
    [listed] = [each.message for each in restarted.answers()]
    assert isinstance(listed, PagesListed) and listed.page_ids == tuple(range(50))


def test_a_read_that_has_waited_is_not_answered_to_a_fenced_writer(restarted: StoreRig) -> None:
    restarted.step(read(7))
    restarted.seal(SECOND)
    assert not restarted.answers()


def test_a_fold_looks_into_the_log_in_steps(restarted: StoreRig) -> None:
    restarted.config = attrs.evolve(CONFIG, fold_bytes=1 << 16)
    restarted.restart()
    restarted.take([], vdl=LAST)
    assert restarted.take_job()
    steps = 0
    while restarted.state.is_behind(LAST):
        assert restarted.step_job() is PAUSE
        steps += 1
    assert steps >= 2
    restarted.work()
    assert restarted.state.folded > 0 and restarted.state.materializer.page_count() == 50


def test_time_that_passes_is_used(restarted: StoreRig) -> None:
    for _ in range(20):
        restarted.core.tick(0.0)
    assert restarted.state.index.unseen(LAST) == 0
    assert restarted.state.materializer.page_count() == 50


def test_what_was_not_looked_into_is_counted(restarted: StoreRig) -> None:
    index = restarted.state.index
    while index.unseen(LAST):
        before = index.unseen(LAST)
        assert index.look_into_more() == before - index.unseen(LAST)
    assert index.look_into_more() == 0


def test_records_that_keep_coming_are_learned_together_and_soon() -> None:
    rig = StoreRig(config=CONFIG)
    unseen = []
    for at in range(10):
        rig.take(CHAIN[at * 5 : at * 5 + 5])
        rig.core.tick(0.0)
        unseen.append(rig.state.index.unseen(LAST))
    assert unseen == [0, 5, 10, 15, 20, 25, 30, 35, 0, 5]
    rig.core.tick(0.0)  # nothing has come since
    assert rig.state.index.unseen(LAST) == 0
    rig.take(CHAIN[50:8_000])
    rig.core.tick(0.0)
    assert rig.state.index.unseen(LAST) == 0, "a great many do not wait"
