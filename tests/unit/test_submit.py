"""Writing now and waiting later, and mini-transactions that read what they write."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
import trio

from aurora.config import EngineConfig
from segments.protocol.errors import (
    Closed,
    Fenced,
    Invalid,
    InvalidPage,
    InvalidWrite,
    PageNotFound,
)
from segments.protocol.ids import MAX_INTEGER
from segments.protocol.record import PAGE_SIZE, checked_write
from tests.worlds import World, run_world

# ---- payloads ------------------------------------------------------------------------------------


class Text(bytes):
    __slots__ = ()


class Index:
    """What counts as an integer without being one, as a number of numpy."""

    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"abc", b"abc"),
        (Text(b"abc"), b"abc"),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"xabcx")[1:4], b"abc"),
        (memoryview(b"axbxc")[::2], b"abc"),
        (memoryview(b"cba")[::-1], b"abc"),
        (array("H", [1, 2]), array("H", [1, 2]).tobytes()),
        (memoryview(array("I", [1, 2, 3]))[::2], array("I", [1, 3]).tobytes()),
        (bytearray(PAGE_SIZE - 7), bytes(PAGE_SIZE - 7)),
    ],
)
def test_whatever_gives_its_memory_as_bytes_can_be_written(data: Any, expected: bytes) -> None:
    page_id, offset, payload = checked_write(Index(), Index(), data)
    assert (page_id, offset, payload) == (7, 7, expected)
    assert type(page_id) is type(offset) is int
    assert type(payload) is bytes


def _released() -> memoryview:
    view = memoryview(b"x")
    view.release()
    return view


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("grün", r"data is the text 'grün': expected bytes, such as text.encode\(\) gives"),
        (None, "data is of type NoneType: expected bytes"),
        (7, "data is of type int"),
        ([1, 2], "data is of type list"),
        (_released(), "data is of type memoryview"),
        (bytearray(), "data for page 1 is empty"),
        (bytearray(PAGE_SIZE + 1), "offset 0 .* is 8193"),
        (memoryview(bytes(2 << 20)), "offset 0 .* is 2097152"),
    ],
)
def test_what_is_no_bytes_is_refused_by_its_type(data: Any, problem: str) -> None:
    with pytest.raises(InvalidWrite, match=problem):
        checked_write(1, 0, data)


@pytest.mark.parametrize("page_id", [-1, MAX_INTEGER + 1, True, None, "1", 1.0, b"1", (1,)])
def test_what_is_no_page_is_not_called_a_wrong_write(page_id: Any) -> None:
    with pytest.raises(InvalidPage, match=r"page_id is .*: expected an integer from 0"):
        checked_write(page_id, 0, b"x")


def test_bytes_are_copied_at_the_call() -> None:
    async def main(world: World) -> None:
        engine, data = world.engine, bytearray(b"before")
        world.crash("A B C")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.put, 1, 0, data)
            await trio.sleep(0.01)
            data[:] = b"after!"
            commit = await engine.submit([(2, 0, data)])
            data[:] = b"later!"
            async with engine.mini_transaction(wait=False) as mtr:
                mtr.write(3, 0, data)
                data[:] = b"last!!"
            await world.restart("A B C")
            await commit.durable()
        assert mtr.commit is not None
        await mtr.commit.durable()
        found = [(await engine.get(page))[:6] for page in (1, 2, 3)]
        assert found == [b"before", b"after!", b"later!"]

    run_world(main)


# ---- submit now, wait later ----------------------------------------------------------------------


def test_submitting_does_not_wait_and_durable_does() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        world.crash("A B C")  # no write quorum
        commits = [await engine.submit([(page, 0, b"x"), (9, page, b"y")]) for page in range(5)]
        assert [each.lsn for each in commits] == [2, 4, 6, 8, 10]
        assert engine.statistics().commits_waiting == 5
        with trio.move_on_after(1) as waited:
            await commits[0].durable()
        assert waited.cancelled_caught
        assert engine.vdl == 0
        await world.restart("A B C")
        assert await commits[-1].durable() == 10 == engine.vdl
        assert [await each.durable() for each in commits] == [2, 4, 6, 8, 10]
        assert engine.statistics().commits == 5
        assert engine.statistics().commits_waiting == 0

    run_world(main)


def test_what_is_submitted_by_one_task_has_ascending_lsns_among_others() -> None:
    async def main(world: World) -> None:
        lsns: dict[int, list[int]] = {}

        async def write(task: int) -> None:
            commits = [await world.engine.submit([(task, 0, b"x")]) for _ in range(50)]
            lsns[task] = [each.lsn for each in commits]
            await commits[-1].durable()

        async with trio.open_nursery() as nursery:
            for task in range(4):
                nursery.start_soon(write, task)
        assert all(each == sorted(each) for each in lsns.values())
        assert sorted(lsn for each in lsns.values() for lsn in each) == list(range(1, 201))
        assert lsns[0] != list(range(1, 51))  # they take turns: a submit is a checkpoint

    run_world(main)


def test_what_nobody_awaits_is_held_back_by_the_limit_and_becomes_durable() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        world.crash("A B C")
        submitted = 0
        with trio.move_on_after(1) as held_back:
            while True:
                await engine.submit([(submitted, 0, b"x")])
                submitted += 1
        assert held_back.cancelled_caught
        assert submitted == 20 == engine.statistics().last_allocated_lsn  # the LAL
        await world.restart("A B C")
        await world.until(lambda: engine.vdl == 20, within_s=5)
        for page in range(100):
            await engine.submit([(page, 1, b"y")])
        assert await engine.put(0, 2, b"z") == 121
        assert engine.statistics().commits == 121

    run_world(main, lal=20)


def test_a_submit_that_is_refused_or_cancelled_writes_nothing() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        with pytest.raises(InvalidWrite, match="an MTR of 0 records"):
            await engine.submit([])
        with pytest.raises(InvalidPage):
            await engine.submit([(0, 0, b"x"), (-1, 0, b"x")])
        with trio.CancelScope() as scope:
            scope.cancel()
            await engine.submit([(0, 0, b"x")])
        assert scope.cancelled_caught
        assert engine.statistics().last_allocated_lsn == 0

    run_world(main)


@pytest.mark.parametrize(("error", "takes_over"), [(Closed, False), (Fenced, True)])
def test_a_writers_end_fails_what_was_submitted(error: type[Exception], takes_over: bool) -> None:
    async def main(world: World) -> None:
        engine = world.engine
        before = await engine.submit([(1, 0, b"x")])
        await before.durable()
        world.crash("A B C")
        commit = await engine.submit([(2, 0, b"y")])
        async with engine.mini_transaction(wait=False) as mtr:
            mtr.write(3, 0, b"z")
        assert mtr.commit_lsn == 3
        assert mtr.commit is not None
        await world.restart("A B C") if takes_over else world.cluster.crash_writer()
        if takes_over:
            world.network.partition([engine.name], list(world.cluster.hosts))
            await world.cluster.open_writer()
            world.network.heal_all()
        for waited in (commit, mtr.commit, commit):
            with pytest.raises(error):
                await waited.durable()
        assert await before.durable() == 1

    run_world(main)


# ---- mini-transactions that read -----------------------------------------------------------------


def test_a_mini_transaction_reads_its_own_writes_upon_the_page() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        await engine.put(1, 0, b"aaaa")
        async with engine.mini_transaction() as mtr:
            assert (await mtr.read(1))[:5] == b"aaaa\0"
            mtr.write(1, 1, b"bb")
            mtr.write(1, 2, b"c")
            mtr.write(2, 8191, b"z")
            assert (await mtr.read(1))[:5] == b"abca\0"
            assert await mtr.read(2) == bytes(8191) + b"z"  # never written but here
            with pytest.raises(PageNotFound, match="page 3"):
                await mtr.read(3)
            assert (await engine.get(1))[:4] == b"aaaa"  # nobody else sees them
        assert (await engine.get(1))[:5] == b"abca\0"
        with pytest.raises(Invalid, match="has ended"):
            await mtr.read(1)

    run_world(main)


def test_all_reads_of_a_mini_transaction_see_one_state_and_the_last_writer_wins() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        await engine.put_many([(1, 0, b"old"), (2, 0, b"old")])
        async with engine.mini_transaction() as mtr:
            assert (await mtr.read(1))[:3] == b"old"
            await engine.put_many([(1, 0, b"NEW"), (2, 0, b"NEW")])
            for page in range(10, 40):  # the pool of four forgets them, and the floor would move
                await engine.put(page, 0, b"x")
            await trio.sleep(1)
            assert (await mtr.read(2))[:3] == b"old"
            mtr.write(2, 1, b"!")
            assert (await mtr.read(2))[:3] == b"o!d"
        assert (await engine.get(1))[:3] == b"NEW"
        assert (await engine.get(2))[:3] == b"N!W"  # per byte: no isolation
        await trio.sleep(1)
        assert engine.statistics().floor == engine.vdl  # nothing is held any more

    run_world(main, engine=EngineConfig(buffer_pool_pages=4, retention_lsns=0))


def test_a_block_that_raises_lets_go_of_what_it_read() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        await engine.put(1, 0, b"x")
        assert engine.core is not None

        async def read_and_fail() -> None:
            async with engine.mini_transaction() as mtr:
                await mtr.read(1)
                mtr.write(1, 0, b"y")
                assert engine.core is not None
                assert engine.core.reading.oldest_read_point == 1
                raise KeyError

        with pytest.raises(KeyError):
            await read_and_fail()
        assert engine.core.reading.oldest_read_point is None
        assert (await engine.get(1))[:1] == b"x"

    run_world(main)
