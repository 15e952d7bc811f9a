"""Many pages in one call, and a page's newest version: values, errors, rounds, what is left."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from aurora.config import EngineConfig
from segments.protocol import codec
from segments.protocol.errors import (
    Fenced,
    Invalid,
    InvalidLsn,
    InvalidPage,
    ReadPointAboveVdl,
    ReadPointBelowFloor,
    Unavailable,
)
from segments.protocol.ids import MAX_INTEGER
from segments.protocol.messages import PageImage, ReadPage
from segments.protocol.record import PAGE_SIZE
from sim.world.network import NetworkEvent
from tests.worlds import World, run_world

FEW = EngineConfig(buffer_pool_pages=4, reads_in_flight=3, read_timeout_s=5, old_versions=8)


class Questions:
    """The pages that were asked of segments, and the most at a time."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, event: NetworkEvent) -> None:
        if event.kind == "sent" and event.destination != "writer":
            message = codec.decode(event.payload)
            if isinstance(message, ReadPage):
                self.asked.append(message.page_id)


async def fill(world: World, pages: int = 12) -> int:
    lsn = 0
    for page in range(pages):
        lsn = await world.engine.put(page, 0, bytes([page + 1]) * 4)
    return lsn


def left_in(world: World) -> object:
    core = world.engine.core
    assert core is not None
    return (
        core.reading._reads, core.reading._read_points, world.engine._shell._waiting,
        core.pool._watched, core.pool.statistics.pinned_pages,
    )  # fmt: skip


NOTHING: object = ({}, {}, {}, {}, 0)


@pytest.mark.parametrize("pg_count", [1, 3])
def test_many_pages_come_in_the_order_asked_at_one_read_point(pg_count: int) -> None:
    async def main(world: World) -> None:
        vdl = await fill(world)
        asked = [11, 3, 99, 0, 3, MAX_INTEGER, 7]
        pages = await world.engine.get_many(asked)
        assert [page.page_id for page in pages] == asked
        for page in pages:
            written = page.page_id < 12
            assert page.image[:1] == (bytes([page.page_id + 1]) if written else b"")
            assert (0 < page.page_lsn <= vdl) == written
        assert await world.engine.get_many([]) == []
        await world.engine.put(3, 0, b"zz")
        (older,) = await world.engine.get_many(iter([3]), vdl)
        assert older.image[:2] == b"\x04\x04"
        (newer,) = await world.engine.get_many([3])
        assert newer.image[:2] == b"zz"
        assert left_in(world) == NOTHING

    run_world(main, pg_count=pg_count, engine=FEW)


def test_what_is_not_cached_is_asked_for_side_by_side_and_once() -> None:
    questions = Questions()

    async def main(world: World) -> None:
        vdl = await fill(world)
        started = trio.current_time()
        await world.engine.get_at(0, vdl, cached=False)
        one = trio.current_time() - started
        questions.asked.clear()
        started = trio.current_time()
        first = await world.engine.get_many(range(6))
        assert trio.current_time() - started < 4 * one, "three at a time"
        asked = len(questions.asked)
        assert asked > 0
        assert await world.engine.get_many([5, 5, 4]) == [first[5], first[5], first[4]]

    run_world(main, engine=FEW, observer=questions)


def test_older_versions_are_asked_for_once() -> None:
    questions = Questions()

    async def main(world: World) -> None:
        vdl = await fill(world, 6)
        for page in range(6):
            await world.engine.put(page, 0, b"new!")
        before = await world.engine.get_many(range(6), vdl)
        questions.asked.clear()
        assert await world.engine.get_many(range(6), vdl) == before
        assert await world.engine.get_at(3, vdl) == before[3].image
        async with world.engine.read_view(vdl) as view:
            assert await view.get_many([2]) == [before[2]]
            assert await view.get(1) == before[1].image
        assert questions.asked == []
        await world.engine.get_at(3, vdl, cached=False)
        assert questions.asked == [3]
        with pytest.raises(Invalid, match="has ended"):
            await view.get_many([2])

    run_world(main, engine=FEW, observer=questions)


@pytest.mark.parametrize(
    ("pages", "problem"),
    [
        (None, "page_ids is None"),
        ([1, -1], "page_id is -1"),
        (["a"], "page_id is 'a'"),
        (7, "is 7"),
    ],
)
def test_what_are_no_pages_is_refused_before_anything_is_asked(pages: Any, problem: str) -> None:
    async def main(world: World) -> None:
        with pytest.raises(InvalidPage, match=problem):
            await world.engine.get_many(pages)
        assert left_in(world) == NOTHING

    run_world(main)


def test_read_points_are_checked_as_for_one_page() -> None:
    async def main(world: World) -> None:
        vdl = await fill(world)
        await world.until(lambda: world.engine.statistics().floor > 1, within_s=5)
        with pytest.raises(ReadPointAboveVdl):
            await world.engine.get_many([1], vdl + 1)
        with pytest.raises(ReadPointBelowFloor):
            await world.engine.get_many([1], 0)
        with pytest.raises(InvalidLsn):
            await world.engine.get_many([1], -1)

    run_world(main, engine=EngineConfig(retention_lsns=0))


def test_when_nobody_can_answer_all_of_it_fails_and_nothing_is_left() -> None:
    async def main(world: World) -> None:
        await fill(world)
        world.crash("A0 B0 C0 D0 E0 F0")
        with pytest.raises(Unavailable, match="no answer"):
            await world.engine.get_many(range(9))
        with pytest.raises(Unavailable, match="no answer"):
            await world.engine.read_head(0)
        assert left_in(world) == NOTHING

    run_world(main, engine=FEW)


@pytest.mark.parametrize("patience_s", [0.0, 0.0002, 0.0005, 0.001])
def test_a_call_that_is_given_up_leaves_nothing(patience_s: float) -> None:
    async def main(world: World) -> None:
        await fill(world)
        with trio.move_on_after(patience_s):
            await world.engine.get_many(range(9))
        with trio.move_on_after(patience_s):
            await world.engine.read_head(0)
        assert left_in(world) == NOTHING

    run_world(main, engine=FEW)


# ---- heads ---------------------------------------------------------------------------------------


def test_the_head_has_what_is_not_durable_yet() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        assert await engine.read_head(5) == PageImage(5, 0, b"")
        first = await engine.put(5, 0, b"durable")
        world.crash("A0 B0 C0")
        commit = await engine.submit([(5, 0, b"D"), (6, 0, b"new")])
        head = await engine.read_head(5)
        assert (head.page_lsn, head.image[:7]) == (commit.lsn - 1, b"Durable")
        assert (await engine.read_head(6)).page_lsn == commit.lsn
        assert (await engine.get(5))[:7] == b"durable"
        assert engine.vdl == first

    run_world(main)


def test_a_head_that_has_left_the_pool_comes_from_a_segment() -> None:
    async def main(world: World) -> None:
        await fill(world)
        for page in [*range(12), 3, 4, 5]:
            head = await world.engine.read_head(page)
            assert head.image == (await world.engine.get(page)).ljust(PAGE_SIZE, b"\0")
            assert 0 < head.page_lsn <= world.engine.vdl
        assert left_in(world) == NOTHING

    run_world(main, engine=FEW)


def test_a_head_comes_although_the_pool_has_no_room_for_it() -> None:
    async def main(world: World) -> None:
        await fill(world)
        world.crash("A0 B0 C0")
        for page in range(4):
            await world.engine.submit([(page, 0, b"held")])
        head = await world.engine.read_head(9)
        assert head.image[:4] == b"\x0a" * 4
        core = world.engine.core
        assert core is not None
        assert 9 not in core.pool

    run_world(main, engine=FEW)


def test_reading_heads_while_all_pages_are_written_and_evicted_gives_no_older_one() -> None:
    async def main(world: World) -> None:
        written = dict.fromkeys(range(10), 0)

        async def write(client: int) -> None:
            for turn in range(40):
                page = (turn * 7 + client) % 10
                commit = await world.engine.submit([(page, 0, b"%d" % turn)])
                written[page] = max(written[page], commit.lsn)

        async def read(client: int) -> None:
            for turn in range(60):
                page = (turn * 3 + client) % 10
                least = written[page]
                assert (await world.engine.read_head(page)).page_lsn >= least

        async with trio.open_nursery() as nursery:
            for client in range(4):
                nursery.start_soon(write, client)
                nursery.start_soon(read, client)
        assert left_in(world) == NOTHING

    run_world(main, engine=FEW)


def test_an_ended_writer_gives_no_head() -> None:
    async def main(world: World) -> None:
        await fill(world, 2)
        engine = world.engine
        await world.cluster.open_writer()
        await world.until(lambda: engine.error is not None, within_s=5)
        with pytest.raises(Fenced):
            await engine.read_head(1)
        with pytest.raises(Fenced):
            await engine.get_many([1])

    run_world(main)
