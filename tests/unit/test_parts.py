"""Mini-transactions that are too large for one step: their parts, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora.config import ClusterConfig, EngineConfig
from aurora.events import MtrAllocated
from aurora.mtr import PageWrite
from aurora.parts import PartLimits, in_parts
from segments.config import SegmentConfig
from segments.protocol.errors import Closed, Fenced, InvalidWrite, PageNotFound, VolumeFull
from segments.protocol.events import Event
from segments.protocol.record import PAGE_SIZE, RedoRecord
from tests.worlds import World, run_world

TINY = EngineConfig(buffer_pool_pages=4, part_writes=3, part_bytes=8_192, old_versions=2)


def parted(writes: Sequence[PageWrite], limits: PartLimits) -> list[list[PageWrite]]:
    steps = in_parts(writes, limits)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def in_log_order(writes: Sequence[PageWrite]) -> list[PageWrite]:
    """Again and again: the page whose last write is the first of all that are left."""
    left, found = list(writes), list[PageWrite]()
    while left:
        pages = [each.page_id for each in left]
        page = next(p for at, p in enumerate(pages) if p not in pages[at + 1 :])
        found += [each for each in left if each.page_id == page]
        left = [each for each in left if each.page_id != page]
    return found


# ---- the parts by themselves ---------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9)), min_size=1, max_size=40),
    st.integers(1, 6),
    st.integers(9, 30),
    st.integers(1, 4),
)
def test_parts_fit_and_hold_all_writes_each_page_together(
    drawn: list[tuple[int, int]], most: int, most_bytes: int, pages: int
) -> None:
    writes = [PageWrite(page, at, bytes(size)) for at, (page, size) in enumerate(drawn)]
    limits = PartLimits(most, most_bytes, pages)
    parts = parted(writes, limits)
    assert all(part and limits.hold(part) for part in parts)
    assert [each for part in parts for each in part] == in_log_order(writes)
    assert parts[-1][-1] == writes[-1], "the last is the last"
    of_page: dict[int, list[int]] = {}
    for number, part in enumerate(parts):
        for page in {each.page_id for each in part}:
            of_page.setdefault(page, []).append(number)
    for numbers in of_page.values():
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
    for page, numbers in of_page.items():
        ours = [each for each in writes if each.page_id == page]
        if limits.hold(ours):
            assert len(numbers) == 1, "what fits into one part is in one"


# ---- in a volume ---------------------------------------------------------------------------------


class Made:
    """The records of each step of writers."""

    def __init__(self) -> None:
        self.parts: list[list[RedoRecord]] = []

    def __call__(self, source: str, event: Event) -> None:
        if isinstance(event, MtrAllocated):
            self.parts.append(list(event.records))


def large(pages: int, times: int = 2, text: bytes = b"") -> list[tuple[int, int, bytes]]:
    """Writes to pages in turn, each page several times."""
    return [
        (page, 10 * turn, text or b"%d-%d" % (page, turn))
        for turn in range(times)
        for page in range(pages)
    ]


@pytest.mark.parametrize("pg_count", [1, 3])
def test_all_of_it_is_there_with_one_cpl_at_the_end(pg_count: int) -> None:
    made = Made()

    async def main(world: World) -> None:
        engine = world.engine
        before = await engine.put(3, 100, b"before")
        lsn = await engine.put_many(large(20))
        parts = made.parts[1:]
        assert len(parts) > 6
        records = [each for part in parts for each in part]
        assert [each.lsn for each in records] == list(range(before + 1, lsn + 1))
        assert [each.lsn for each in records if each.is_cpl] == [lsn]
        assert {each.mtr_id for each in records} == {before + 1}
        assert [each.lsn for each in records if each.clock_us] == [lsn]
        for page in range(20):
            found = await engine.get(page)
            assert found[:3] == (b"%d-0\0" % page)[:3]
            assert found[10:13] == (b"%d-1\0" % page)[:3]
        with pytest.raises(PageNotFound):
            await engine.get_at(4, before)
        with pytest.raises(PageNotFound):
            await engine.get_at(99, lsn)
        assert (await engine.get_at(3, before))[100:106] == b"before"
        assert len(engine.core.pool) <= 4  # type: ignore[union-attr]

    run_world(main, pg_count=pg_count, engine=TINY, trace=made)


def test_nobody_sees_a_part_and_nobody_writes_between() -> None:
    made = Made()

    async def main(world: World) -> None:
        engine = world.engine
        await engine.put_many([(page, 0, b"old") for page in range(3)])
        seen: list[set[bytes]] = []
        done = trio.Event()

        async def write() -> None:
            await engine.put_many([(page, 0, b"new") for page in range(30)])
            done.set()

        async def beside(page: int) -> None:
            while not done.is_set():
                await engine.put(50 + page, 0, b"other")

        async def read() -> None:
            while not done.is_set():
                pages = await engine.get_many([0, 1, 2, 29])
                seen.append({bytes(page.image[:3]) for page in pages})
                head = await engine.read_head(0)
                last = await engine.read_head(29)
                assert head.image[:3] == b"old" or last.image[:3] == b"new"

        async with trio.open_nursery() as nursery:
            for page in range(3):
                nursery.start_soon(beside, page)
            nursery.start_soon(read)
            nursery.start_soon(write)
        assert all(each in ({b"old", b""}, {b"new"}) for each in seen), seen
        records = [each for part in made.parts for each in part]
        inside = [each.mtr_id for each in records]
        assert inside == sorted(inside)

    run_world(main, engine=attrs.evolve(TINY, buffer_pool_pages=12), trace=made)


@pytest.mark.parametrize("way", ["crash", "take over"])
def test_a_writer_that_ends_midway_leaves_nothing_of_it(way: str) -> None:
    made = Made()

    async def main(world: World) -> None:
        engine = world.engine
        await engine.put_many([(page, 0, b"old") for page in range(20)])
        count = len(made.parts)
        error: list[Exception] = []

        async def write() -> None:
            try:
                await engine.put_many([(page, 0, b"new") for page in range(20)])
            except (Fenced, Closed) as problem:
                error.append(problem)

        async with trio.open_nursery() as nursery:
            world.crash("A0 B0 C0")
            nursery.start_soon(write)
            await world.until(lambda: len(made.parts) >= count + 2, within_s=5)
            if way == "crash":
                world.cluster.crash_writer()
            await world.restart("A0 B0 C0")
            await world.cluster.open_writer()
        for page in await world.engine.get_many(range(20)):
            assert page.image[:3] == (b"new" if not error else b"old")

    run_world(main, engine=attrs.evolve(TINY, outgoing_bytes=16 << 10), trace=made)


def test_cancelled_before_its_first_part_it_is_not_written_and_after_it_is_whole() -> None:
    made = Made()

    async def main(world: World) -> None:
        engine = world.engine
        world.crash("A0 B0 C0")
        first = await engine.submit([(page, 0, b"x") for page in range(3)])
        with trio.move_on_after(1.0) as waited:  # for room: the LAL
            await engine.put_many(large(10))
        assert waited.cancelled_caught
        assert len(made.parts) == 1
        await world.restart("A0 B0 C0")
        await first.durable()
        with trio.CancelScope() as scope:
            scope.cancel()
            await engine.put_many(large(10))
        assert len(made.parts) == 1
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                await engine.put_many(large(10))

            nursery.start_soon(write)
            while len(made.parts) < 3:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        records = [each for part in made.parts[1:] for each in part]
        assert len(records) == 20
        assert records[-1].is_cpl
        await world.until(lambda: engine.vdl == records[-1].lsn, within_s=5)

    run_world(main, lal=22, engine=TINY, trace=made)


def test_more_than_it_may_have_is_refused_by_name_and_changes_nothing() -> None:
    config = attrs.evolve(TINY, max_mtr_writes=30, max_mtr_bytes=16_384)

    async def main(world: World) -> None:
        for writes, problem in (
            (large(31, 1), "write 31 .*: expected at most 30"),
            ([(1, 0, bytes(PAGE_SIZE))] * 3, "24576 bytes: expected at most 16384"),
            (large(26, 1), "an MTR of 26 records: expected 1 to 25, the LAL"),
        ):
            with pytest.raises(InvalidWrite, match=problem):
                await world.engine.put_many(writes)
        assert world.engine.statistics().last_allocated_lsn == 0

    run_world(main, lal=25, engine=config)


def test_many_of_them_and_small_ones_all_come_through_a_pool_that_is_too_small() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        lsns: list[int] = []

        async def write(client: int) -> None:
            for turn in range(4):
                size = 14 if client % 2 else 2
                writes = [((client + 3 * at) % 17, 8 * client, b"%d" % turn) for at in range(size)]
                lsns.append(await engine.put_many(writes))
                await engine.read_head(client)

        async with trio.open_nursery() as nursery:
            for client in range(6):
                nursery.start_soon(write, client)
        assert len(set(lsns)) == 24
        core = engine.core
        assert core is not None
        assert core.pool.statistics.pinned_pages == 0
        assert not core.pool._pins_of_parts

    run_world(main, lal=16, engine=attrs.evolve(TINY, buffer_pool_pages=2, outgoing_bytes=16 << 10))


def test_space_is_looked_at_for_all_of_it_before_its_first_part() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        await engine.put(0, 0, b"x")
        last = engine.statistics().last_allocated_lsn
        with pytest.raises(VolumeFull):
            await engine.put_many([(page, 0, bytes(PAGE_SIZE)) for page in range(200)])
        assert engine.statistics().last_allocated_lsn == last
        await engine.put_many(large(10))

    run_world(
        main,
        engine=attrs.evolve(TINY, retention_lsns=0),
        segment=SegmentConfig(disk_bytes=1 << 20, fold_bytes=4 << 10, wal_file_bytes=16 << 10),
    )


def test_by_default_a_gigabyte_may_come_in_parts() -> None:
    config = ClusterConfig().engine
    assert config.max_mtr_bytes == 1 << 30
    assert config.part_bytes <= config.outgoing_bytes
