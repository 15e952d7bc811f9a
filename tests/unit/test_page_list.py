"""Which pages exist: ranges, read points, groups, and what happens to a volume meanwhile."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora.config import EngineConfig
from aurora.engine import Engine
from aurora.page_list import PageIds, checked_range
from segments.config import SegmentConfig
from segments.protocol import codec
from segments.protocol.errors import (
    Closed,
    InvalidLsn,
    InvalidPage,
    ReadPointAboveVdl,
    ReadPointBelowFloor,
    Unavailable,
)
from segments.protocol.ids import MAX_INTEGER, VolumeEpoch
from segments.protocol.messages import PagesListed, ReadPage
from sim.world.network import NetworkEvent
from tests.worlds import World, run_world

SMALL_PARTS = EngineConfig(list_pages=3)


async def listed(pages: PageIds) -> list[int]:
    return [page_id async for page_id in pages]


# ---- the parts by themselves ---------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    st.sets(st.integers(0, 60)),
    st.integers(1, 4),
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(),
)
def test_groups_that_answer_in_parts_of_any_size_give_one_ascending_list(
    exist: set[int], groups: int, first: int, last: int, seed: int
) -> None:
    random = Random(seed)
    asked = 0

    async def ask(pg_id: int, start: int, end: int) -> PagesListed:
        nonlocal asked
        asked += 1
        assert first <= start <= end == last
        through = random.randint(start, end)
        found = [
            each for each in sorted(exist) if each % groups == pg_id and start <= each <= through
        ]
        return PagesListed(VolumeEpoch(1, 1), "A0", 1, 9, start, through, tuple(found))

    async def main() -> None:
        found = await listed(PageIds(ask, range(groups), first, last, 9))
        assert found == sorted(each for each in exist if first <= each <= last)
        assert asked == 0 or first <= last

    trio.run(main)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, None, (0, MAX_INTEGER)),
        (3, 3, (3, 2)),
        (5, 2, (5, 1)),
        (0, MAX_INTEGER + 1, (0, MAX_INTEGER)),
    ],
)
def test_ranges_are_half_open(start: int, end: int | None, expected: tuple[int, int]) -> None:
    assert checked_range(start, end) == expected


@pytest.mark.parametrize(
    ("start", "end", "problem"),
    [
        (-1, None, "page_id is -1"),
        (None, None, "page_id is None"),
        ("a", None, "page_id is 'a'"),
        (True, None, "page_id is True"),
        (0, -1, "end is -1: expected None, or an integer from 0"),
        (0, 1.5, r"end is 1\.5"),
        (0, "9", "end is '9'"),
        (0, MAX_INTEGER + 2, f"end is {MAX_INTEGER + 2}"),
    ],
)
def test_what_is_no_range_is_refused(start: Any, end: Any, problem: str) -> None:
    with pytest.raises(InvalidPage, match=problem):
        checked_range(start, end)


# ---- a volume ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pg_count", [1, 2, 3])
def test_pages_in_ranges_and_at_old_read_points(pg_count: int) -> None:
    async def main(world: World) -> None:
        engine = world.engine
        assert await listed(engine.pages()) == []
        written = [7, 0, MAX_INTEGER, 3, 12, 4, 1 << 40, 100]
        for page_id in [*written, *written[::2]]:
            await engine.put(page_id, 0, b"x")
        assert await listed(engine.pages()) == sorted(written)
        assert await listed(engine.pages(3, 12)) == [3, 4, 7]
        assert await listed(engine.pages(4, 13)) == [4, 7, 12]
        assert await listed(engine.pages(1 << 40)) == [1 << 40, MAX_INTEGER]
        assert await listed(engine.pages(5, 5)) == await listed(engine.pages(9, 5)) == []
        for lsn in range(len(written) + 1):
            assert await listed(engine.pages(lsn=lsn)) == sorted(written[:lsn])
        async with engine.read_view(3) as view:
            assert await listed(view.pages(1)) == [7, MAX_INTEGER]
            assert view.pages().lsn == 3

    run_world(main, engine=SMALL_PARTS, pg_count=pg_count)


def test_a_list_is_of_the_moment_of_the_call_whatever_is_written_meanwhile() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        await engine.put_many([(page_id, 0, b"x") for page_id in range(0, 40, 2)])
        pages = engine.pages()
        found = []
        async for page_id in pages:
            found.append(page_id)
            await engine.put(page_id + 1, 0, b"y")
        assert found == list(range(0, 40, 2))
        assert await listed(engine.pages()) == list(range(40))

    run_world(main, engine=SMALL_PARTS)


def test_lists_after_recovery_collection_and_hydration() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        for page_id in range(30):
            await engine.put(page_id, 0, b"x")
        world.crash("A B C")  # no write quorum
        lost = await engine.submit([(1_000, 0, b"never durable"), (3, 0, b"nor this")])
        await trio.sleep(1)
        world.cluster.crash_writer()
        await world.restart("A B C")
        world.crash("D")  # stays away while the others go on, collect and forget
        engine = await world.cluster.open_writer()
        kept = list(range(30)) + ([1_000] if engine.vdl >= lost.lsn else [])
        assert await listed(engine.pages()) == kept
        for page_id in range(200, 300):
            await engine.put(page_id, 0, b"y" * 200)
        await trio.sleep(3)
        assert engine.statistics().floor > 40
        kept = sorted([*kept, *range(200, 300)])
        assert await listed(engine.pages()) == kept
        with pytest.raises(ReadPointBelowFloor):
            engine.pages(lsn=20)
        await world.restart("D")
        host = world.cluster.hosts["D0"]
        assert host.core is not None
        core = host.core
        await world.until(lambda: core.state.scl == engine.vdl, within_s=60)
        assert core.state.floor > 40  # by a base layer, not by records
        world.crash("A B C")  # D and two more answer
        await world.until(lambda: True, within_s=1)
        found, _ = core.state.materializer.existing_pages(0, MAX_INTEGER, engine.vdl, 10_000)
        assert found == kept == await listed(engine.pages())

    run_world(
        main,
        engine=EngineConfig(list_pages=7, retention_lsns=0),
        segment=SegmentConfig(fold_bytes=1024, collect_ratio=0.01),
    )


def test_a_list_is_answered_by_any_segment_that_is_up_and_else_says_so() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        await engine.put_many([(page_id, 0, b"x") for page_id in range(9)])
        world.crash("A B C D E")
        assert await listed(engine.pages()) == list(range(9))
        world.crash("F")
        with pytest.raises(Unavailable, match="the list of pages from 2 to 7 at 9: "):
            await listed(engine.pages(2, 8))
        assert engine.core is not None
        assert engine.core.reading.oldest_read_point is None
        pages = engine.pages()
        world.cluster.crash_writer()
        await trio.sleep(0.1)
        with pytest.raises(Closed):
            await listed(pages)

    run_world(main, engine=EngineConfig(list_pages=4, read_timeout_s=5.0))


def test_a_list_that_falls_below_the_floor_on_its_way_says_so_and_a_views_does_not() -> None:
    async def go_through(engine: Engine, pages: PageIds) -> list[int]:
        found = []
        async for page_id in pages:
            found.append(page_id)
            await engine.put(page_id, 0, b"y")
            await trio.sleep(0.2)
        return found

    async def main(world: World) -> None:
        engine = world.engine
        await engine.put_many([(page_id, 0, b"x") for page_id in range(9)])
        with pytest.raises(ReadPointBelowFloor):
            await go_through(engine, engine.pages())
        async with engine.read_view() as view:
            assert await go_through(engine, view.pages()) == list(range(9))

    run_world(main, engine=EngineConfig(list_pages=4, retention_lsns=0))


def test_a_wrong_call_is_refused_at_once() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        with pytest.raises(ReadPointAboveVdl):
            engine.pages(lsn=1)
        with pytest.raises(InvalidLsn):
            engine.pages(lsn="now")  # type: ignore[arg-type]
        with pytest.raises(InvalidPage):
            engine.pages(0, "9")  # type: ignore[arg-type]

    run_world(main)


# ---- pages that have changed ---------------------------------------------------------------------


@pytest.mark.parametrize("pg_count", [1, 2])
@pytest.mark.parametrize("retention", [0, None])
def test_changed_pages_are_those_of_the_log_wherever_it_is_kept(
    pg_count: int, retention: int | None
) -> None:
    """Against all that was ever written, with layers folded, merged and collected meanwhile."""
    random = Random(5)
    segment = SegmentConfig(
        fold_bytes=1_024, block_bytes=256, fan_out=2, collect_ratio=0.01, list_pages=16
    )

    async def main(world: World) -> None:
        engine, log = world.engine, list[tuple[int, int]]()
        for _ in range(150):
            pages = {random.randrange(60) for _ in range(random.randint(1, 3))}
            lsn = await engine.put_many([(page, 0, b"x" * 90) for page in sorted(pages)])
            log += zip(range(lsn - len(pages) + 1, lsn + 1), sorted(pages), strict=True)
            if random.random() < 0.4:
                floor = engine.statistics().floor
                at = random.randint(floor, engine.vdl)
                after = random.choice([0, random.randint(0, engine.vdl), max(0, at - 3)])
                async with engine.read_view(at):
                    found = [page async for page in engine.changed_pages(after, at)]
                assert found == sorted({page for each, page in log if after < each <= at})
        cores = [each.core for each in world.cluster.hosts.values() if each.core is not None]
        assert all(len(core.state.layers) > 0 for core in cores)

    run_world(
        main,
        pg_count=pg_count,
        engine=EngineConfig(list_pages=8, retention_lsns=retention, buffer_pool_pages=8),
        segment=segment,
    )


def test_pages_that_have_not_changed_are_not_read() -> None:
    asked: list[int] = []

    def watch(event: NetworkEvent) -> None:
        if event.kind == "sent" and event.destination != "writer":
            message = codec.decode(event.payload)
            if isinstance(message, ReadPage):
                asked.append(message.page_id)

    async def main(world: World) -> None:
        engine = world.engine
        for page in range(40):
            await engine.put(page, 0, b"x")
        before = engine.vdl
        await engine.put_many([(7, 0, b"y"), (30, 0, b"y")])
        asked.clear()
        assert [page async for page in engine.changed_pages(before)] == [7, 30]
        assert set(asked) <= {7, 30}
        assert [page async for page in engine.changed_pages(engine.vdl)] == []
        assert [page async for page in engine.changed_pages(0)] == list(range(40))

    run_world(main, engine=EngineConfig(buffer_pool_pages=1), observer=watch)


def test_what_is_no_lsn_to_have_changed_after_is_refused() -> None:
    async def main(world: World) -> None:
        await world.engine.put(1, 0, b"x")
        for wrong in (-1, "1", None, True, 1.5):
            with pytest.raises(InvalidLsn, match="after_lsn is"):
                world.engine.changed_pages(wrong)  # type: ignore[arg-type]
        with pytest.raises(ReadPointAboveVdl):
            world.engine.changed_pages(0, 2)

    run_world(main)
