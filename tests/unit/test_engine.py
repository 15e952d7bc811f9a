"""The public API of a writer: what it refuses, how it ends, what cancelling leaves behind.

(More than 400 lines: they share one fixture, and each call is tried in each of these ways.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from aurora.config import EngineConfig
from aurora.engine import Engine
from segments.config import SegmentConfig
from segments.layers.materializer import Reading
from segments.protocol import codec
from segments.protocol.errors import (
    AuroraError,
    Closed,
    Fenced,
    Invalid,
    InvalidLsn,
    InvalidPage,
    InvalidWrite,
    PageNotFound,
    ReadPointAboveVdl,
    ReadPointBelowFloor,
    Unavailable,
)
from segments.protocol.ids import MAX_INTEGER
from segments.protocol.messages import Message, PageImage, ReadPage, WriteBatch
from segments.protocol.record import PAGE_SIZE
from segments.protocol.run import read_records
from sim.world.network import NetworkEvent
from tests.cancelling import cancelled_at
from tests.worlds import World, run_world

COLLECTING = SegmentConfig(fold_bytes=1024, block_bytes=256, fan_out=8, collect_ratio=0.01)
"""Folds and collects every few records."""
SMALL = EngineConfig(buffer_pool_pages=4, max_mtr_writes=6, max_mtr_bytes=8_192, retention_lsns=0)


async def fill(engine: Engine, pages: int = 10) -> None:
    for page in range(pages):
        await engine.put(page, 0, bytes([page + 1]) * 4)


def quiet_state(world: World) -> object:
    """All of a writer that a refused call might have changed."""
    statistics = world.engine.statistics()
    pool = attrs.evolve(statistics.pool, hits=0, misses=0)
    return attrs.evolve(statistics, pool=pool), world.engine.vcl, world.engine.vdl


async def in_a_block(engine: Engine, *writes: Any, error: Exception | None = None) -> None:
    """Write in a `mini_transaction` block, and raise at its end if asked to."""
    async with engine.mini_transaction() as mtr:
        for write in writes:
            mtr.write(*write)
        if error is not None:
            raise error


# ---- what is refused -----------------------------------------------------------------------------

BAD_WRITES: list[tuple[Any, str]] = [
    ((-1, 0, b"x"), "page_id is -1: expected an integer from 0"),
    ((MAX_INTEGER + 1, 0, b"x"), f"page_id is {MAX_INTEGER + 1}"),
    ((True, 0, b"x"), "page_id is True"),
    (("1", 0, b"x"), "page_id is '1'"),
    ((1, -1, b"x"), "offset is -1: expected an integer >= 0"),
    ((1, 1.0, b"x"), r"offset is 1\.0"),
    ((1, 0, b""), "data for page 1 is empty: expected at least one byte"),
    ((1, 0, "x"), "data is the text 'x': expected bytes"),
    ((1, 0, None), "data is of type NoneType"),
    ((1, PAGE_SIZE, b"x"), "8192 .* is 8193: expected to end within"),
    ((1, PAGE_SIZE - 1, b"xy"), "8191 .* is 8193"),
    ((1, 1, bytes(PAGE_SIZE)), "is 8193"),
]


@pytest.mark.parametrize(("write", "message"), BAD_WRITES)
def test_a_bad_write_names_value_and_expectation_and_changes_nothing(
    write: tuple[Any, Any, Any], message: str
) -> None:
    async def main(world: World) -> None:
        engine = world.engine
        await fill(engine)
        before = quiet_state(world)
        error = InvalidPage if message.startswith("page_id") else InvalidWrite
        with pytest.raises(error, match=message):
            await engine.put(*write)
        with pytest.raises(error, match=message):
            await engine.put_many([(1, 0, b"good"), write, (2, 0, b"good")])
        with pytest.raises(error, match=message):
            await in_a_block(engine, (1, 0, b"good"), write)
        assert quiet_state(world) == before
        assert (await engine.get(1))[:4] == b"\x02" * 4

    run_world(main, lal=20, engine=SMALL)


@pytest.mark.parametrize(
    ("writes", "message"),
    [
        ([], "an MTR of 0 records: expected 1 to 20"),
        ([(page, 0, b"x") for page in range(4)] * 2, "write 7 of a mini-transaction: .* most 6"),
        ([(1, 0, bytes(5_000)), (2, 0, bytes(5_000))], "10000 bytes: expected at most 8192"),
        (None, "writes is None: expected"),
        (7, "writes is 7: expected"),
        ([(1, 0)], r"a write is \(1, 0\): expected \(page_id, offset, data\)"),
        ([5], "a write is 5: expected"),
        ("ab", "a write is 'a': expected"),
    ],
)
def test_an_impossible_mini_transaction_is_refused_whole(writes: Any, message: str) -> None:
    async def main(world: World) -> None:
        await fill(world.engine)
        before = quiet_state(world)
        with pytest.raises(InvalidWrite, match=message):
            await world.engine.put_many(writes)
        assert quiet_state(world) == before

    run_world(main, lal=20, engine=SMALL)


def test_an_mtr_longer_than_the_lal_is_an_error_not_a_wait() -> None:
    async def main(world: World) -> None:
        with pytest.raises(InvalidWrite, match="an MTR of 6 records: expected 1 to 5, the LAL"):
            await world.engine.put_many([(1, 0, b"x")] * 6)
        assert await world.engine.put_many([(1, 0, b"x")] * 5) == 5

    run_world(main, lal=5)


@pytest.mark.parametrize("page", [-1, MAX_INTEGER + 1, True, None, "1", 1.0])
def test_a_bad_page_is_refused_by_every_read(page: Any) -> None:
    async def main(world: World) -> None:
        await fill(world.engine)
        before = quiet_state(world)
        with pytest.raises(InvalidPage, match="page_id is"):
            await world.engine.get(page)
        with pytest.raises(InvalidPage, match="page_id is"):
            await world.engine.get(page, strict=True)
        with pytest.raises(InvalidPage, match="page_id is"):
            await world.engine.get_at(page, 1)
        async with world.engine.read_view() as view:
            with pytest.raises(InvalidPage, match="page_id is"):
                await view.get(page)
        assert quiet_state(world) == before

    run_world(main)


def test_read_points_out_of_range_name_the_limits() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        await fill(engine)
        bad: list[tuple[Any, type[Invalid]]] = [
            *((lsn, ReadPointAboveVdl) for lsn in (11, MAX_INTEGER, 10**30)),
            *((lsn, InvalidLsn) for lsn in ("10", None, 9.0, True, -1)),
        ]
        for lsn, error in bad:
            with pytest.raises(error, match="expected an LSN <= 10, the VDL"):
                await engine.get_at(1, lsn)
            if lsn is not None:  # the VDL of the moment
                with pytest.raises(error, match="<= 10, the VDL"):
                    async with engine.read_view(lsn):
                        pytest.fail("opened")
        with pytest.raises(PageNotFound, match="page 1 at 0: expected a page that was written"):
            await engine.get_at(1, 0)
        with pytest.raises(PageNotFound, match="page 99 at 10"):
            await engine.get(99)
        with pytest.raises(PageNotFound, match="page 5 at 5"):
            await engine.get_at(5, 5)
        assert (await engine.get_at(5, 6))[:1] == b"\x06"

    run_world(main)


# ---- mini-transactions ---------------------------------------------------------------------------


def test_a_block_that_raises_writes_nothing() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        with pytest.raises(KeyError):
            await in_a_block(engine, (1, 0, b"x"), error=KeyError("mine"))
        assert engine.statistics().last_allocated_lsn == 0
        async with engine.mini_transaction() as mtr:
            pass
        assert mtr.commit_lsn is None
        with pytest.raises(Invalid, match="has ended"):
            mtr.write(1, 0, b"x")
        async with engine.mini_transaction() as mtr:
            mtr.write(1, 0, b"xx")
            mtr.write(1, 1, b"y")
        assert mtr.commit_lsn == 2
        assert (await engine.get(1))[:2] == b"xy"

    run_world(main)


def test_regression_two_writes_to_one_page_in_one_mini_transaction_both_stay() -> None:
    """A fault of an earlier engine: both linked to the record before, so the first was lost."""

    async def main(world: World) -> None:
        engine = world.engine
        await engine.put(1, 0, b"aaaa")
        await engine.put_many([(1, 0, b"b"), (2, 0, b"c"), (1, 2, b"d"), (1, 3, b"e")])
        await fill_pool(engine)
        assert (await engine.get(1))[:4] == b"bade"
        for segment in world.cluster.hosts.values():
            assert segment.core is not None
            page = segment.core.state.materializer.read(Reading(1, engine.vdl))
            assert isinstance(page, PageImage), "nothing is folded"
            assert page.image[:4] == b"bade"

    run_world(main, engine=EngineConfig(buffer_pool_pages=4))


def test_regression_a_newer_cached_version_never_answers_an_older_read_point() -> None:
    """A fault of an earlier engine: whatever was cached was returned, whatever was asked for."""

    async def main(world: World) -> None:
        engine = world.engine
        lsns = [await engine.put(1, 0, bytes([version])) for version in range(1, 60)]
        for _ in range(2):
            assert (await engine.get(1))[0] == 59
            for version, lsn in enumerate(lsns, 1):
                assert (await engine.get_at(1, lsn))[0] == version

    run_world(main)


def test_a_read_that_is_not_to_be_cached_is_answered_by_a_segment() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        old = await engine.put(1, 0, b"old")
        await engine.put(1, 0, b"new")
        world.crash("az1,az2,az3")
        assert (await engine.get(1)).startswith(b"new")
        for asked in (
            lambda: engine.get(1, cached=False),
            lambda: engine.get_at(1, old, cached=False),
            lambda: engine.read(1, cached=False),
        ):
            with pytest.raises(Unavailable):
                await asked()
        await world.restart("A")
        assert (await engine.get(1, cached=False)).startswith(b"new")
        assert (await engine.get_at(1, old, cached=False)).startswith(b"old")

    run_world(main)


async def fill_pool(engine: Engine) -> None:
    """Push every other page out of a pool of four."""
    for page in range(1_000, 1_005):
        await engine.put(page, 0, b"x")


# ---- limits --------------------------------------------------------------------------------------


def test_a_pool_smaller_than_the_working_set_gives_every_version() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        lsns: dict[int, list[int]] = {page: [] for page in range(20)}
        for turn in range(5):
            async with trio.open_nursery() as nursery:

                async def write(page: int, turn: int = turn) -> None:
                    lsns[page].append(await engine.put(page, turn, bytes([page + turn + 1])))

                for page in range(20):
                    nursery.start_soon(write, page)
        for page, written in lsns.items():
            for turn, lsn in enumerate(written):
                expected = bytes(page + each + 1 for each in range(turn + 1)) + bytes(4 - turn)
                assert (await engine.get_at(page, lsn))[:5] == expected
        assert engine.statistics().pool.pages <= 3
        assert engine.statistics().pool.evictions > 50

    run_world(main, engine=EngineConfig(buffer_pool_pages=3))


def test_redo_is_all_that_a_writer_sends_to_be_kept() -> None:
    """2017 §3.2: no page is written by the engine, neither when it is evicted nor at any time."""
    sent: list[Message] = []

    def observe(event: NetworkEvent) -> None:
        if event.kind == "sent" and event.source == "writer-1":
            sent.append(codec.decode(event.payload))

    async def main(world: World) -> None:
        for turn in range(3):
            for page in range(12):
                await world.engine.put(page, turn, b"x")
        assert world.engine.statistics().pool.evictions > 20

    run_world(main, engine=SMALL, observer=observe)
    assert {type(each) for each in sent} == {WriteBatch, ReadPage}
    runs = [read_records(each.records) for each in sent if isinstance(each, WriteBatch)]
    assert all(record.payload == b"x" for run in runs for record in run)


def test_the_lal_holds_writers_back_and_lets_them_go_on() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        done: list[int] = []

        async def write(number: int) -> None:
            done.append(await engine.put_many([(number, at, b"x") for at in range(3)]))

        world.crash("A B C")
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(write, number)
            await trio.sleep(10)
            statistics = engine.statistics()
            assert statistics.last_allocated_lsn == 18, "3 more would be above the limit of 20"
            assert statistics.lsn_limit == 20
            assert not done
            await world.restart("B")
            await world.until(lambda: len(done) == 40, within_s=5)
        assert engine.vdl == 120
        assert sorted(done) == list(range(3, 121, 3))

    run_world(main, lal=20)


def test_a_full_outgoing_log_holds_writers_back_and_lets_them_go_on() -> None:
    """Room comes with the release of the log, a moment after the last advance of the VDL."""

    async def main(world: World) -> None:
        engine = world.engine
        done: list[int] = []

        async def write(number: int) -> None:
            done.append(await engine.put(number % 300, 0, bytes(8_000)))

        world.crash("D E F")
        async with trio.open_nursery() as nursery:
            for number in range(600):
                nursery.start_soon(write, number)
            await trio.sleep(5)
            allocated = engine.statistics().last_allocated_lsn
            assert 250 < allocated < 280, "twice the megabyte that may be kept"
            assert engine.core is not None
            log = engine.core._logs[0]
            assert log.size_bytes < 2 * (1 << 20) + 9_000
            await world.restart("E")
            await world.until(lambda: len(done) == 600, within_s=20)
            await trio.sleep(1)
            assert log.size_bytes <= 1 << 20
        assert engine.vdl == 600

    run_world(main, engine=EngineConfig(outgoing_bytes=1 << 20, part_bytes=1 << 20))


def test_memory_stays_bounded_while_one_segment_is_away() -> None:
    config = EngineConfig(outgoing_bytes=1 << 20, part_bytes=1 << 20, retention_lsns=100)
    segment = SegmentConfig(unlinked_limit=64, fold_bytes=64 << 10, wal_file_bytes=64 << 10)

    async def main(world: World) -> None:
        engine = world.engine
        world.crash("A")
        world.cluster.pause("B")
        for number in range(500):
            await engine.put(number % 5, 0, number.to_bytes(4, "big") * 1_000)
        await trio.sleep(1)
        assert engine.core is not None
        assert engine.core._logs[0].size_bytes <= 1 << 20
        for host in world.cluster.hosts.values():
            if host.up and host.segment != "B0":
                assert host.core is not None
                assert len(host.core.state.index) < 100
                assert world.disks[host.segment].size() < 2 << 20
        inbox = world.network._endpoints["B0"]._inbox
        assert sum(len(each.payload) for each in inbox) < 4 << 20
        world.cluster.resume("B")
        await world.restart("A")

        def level() -> bool:
            cores = [host.core for host in world.cluster.hosts.values()]
            return all(core is not None and core.state.scl == 500 for core in cores)

        await world.until(level, within_s=20)

    run_world(main, engine=config, segment=segment)


# ---- retention and views -------------------------------------------------------------------------


def test_the_floor_moves_with_retention_and_the_newest_version_stays() -> None:
    """2017 §4.2.3: what is below the floor (PGMRPL) may be collected."""

    async def main(world: World) -> None:
        engine = world.engine
        await engine.put(7, 0, b"once, long ago")
        for number in range(100):
            await engine.put(1, 0, bytes([number]))
            await trio.sleep(0.02)
        await trio.sleep(2)
        assert engine.statistics().floor == 101 - 10
        with pytest.raises(ReadPointBelowFloor, match="read point 90: expected >= 91, the floor"):
            await engine.get_at(1, 90)
        with pytest.raises(ReadPointBelowFloor, match="expected >= 91"):
            async with engine.read_view(90):
                pytest.fail("opened")
        for lsn in range(91, 102):
            assert (await engine.get_at(1, lsn))[0] == lsn - 2
        await engine.put_many([(page, 0, b"x") for page in range(20, 24)])
        assert (await engine.get(7))[:4] == b"once"
        for host in world.cluster.hosts.values():
            assert host.core is not None
            assert host.core.state.floor > 50, "collected, not only announced"

    run_world(
        main,
        engine=EngineConfig(retention_lsns=10, buffer_pool_pages=4),
        segment=COLLECTING,
    )


def test_a_recovery_takes_no_history_away() -> None:
    """It annuls as many LSNs as the LAL; those were never written, and count for nothing."""

    async def main(world: World) -> None:
        for number in range(20):
            await world.engine.put(1, 0, bytes([number]))
        for _ in range(3):
            engine = await world.cluster.recover()
            await engine.put(2, 0, b"x")
        await trio.sleep(2)
        assert engine.statistics().floor == 20 + 3 - 10
        for lsn in range(13, 21):
            assert (await engine.get_at(1, lsn))[0] == lsn - 1
        with pytest.raises(ReadPointBelowFloor, match="expected >= 13, the floor"):
            await engine.get_at(1, 12)

    run_world(
        main,
        engine=EngineConfig(retention_lsns=10, buffer_pool_pages=4),
        lal=1_000,
        segment=COLLECTING,
    )


def test_by_default_history_is_bounded_whatever_is_written() -> None:
    retained = EngineConfig().retention_lsns
    assert retained is not None

    async def main(world: World) -> None:
        engine = world.engine
        for number in range(retained // 1_000 + 5):
            await engine.put_many([(page, number, b"x") for page in range(1_000)])
            await trio.sleep(0.2)
        await trio.sleep(2)
        assert engine.statistics().floor == engine.vdl - retained > 3_000
        for host in world.cluster.hosts.values():
            assert host.core is not None
            state = host.core.state
            assert 0 < state.floor <= engine.statistics().floor, "collected, not only announced"
            assert state.index.encoded_bytes() < 2 * segment.fold_bytes

    segment = SegmentConfig(fold_bytes=64 << 10, fan_out=64, collect_ratio=0.01)
    run_world(main, segment=segment)


def test_a_view_pins_its_read_point_until_it_ends() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        pinned = await engine.put(1, 0, b"pinned")
        async with engine.read_view() as view, engine.read_view(pinned) as second:
            assert view.lsn == second.lsn == pinned
            for number in range(100):
                await engine.put(1 + number % 8, 0, b"newer!")
            await trio.sleep(2)
            assert engine.statistics().floor == pinned
            assert (await view.get(1))[:6] == (await second.get(1))[:6] == b"pinned"
            with pytest.raises(PageNotFound):
                await view.get(2)
        await trio.sleep(1)
        assert engine.statistics().floor == engine.vdl
        with pytest.raises(ReadPointBelowFloor):
            await engine.get_at(1, pinned)

    run_world(main, lal=20, engine=SMALL, segment=COLLECTING)


def test_regression_a_strict_read_keeps_the_read_point_that_it_was_given() -> None:
    """It may wait long for its confirmation: what was not too old then must not become so."""

    async def main(world: World) -> None:
        engine = world.engine
        old = await engine.put(1, 0, b"old")
        found: list[bytes] = []

        async def read_strictly() -> None:
            found.append((await engine.read(1, old, strict=True, cached=False)).page.image[:3])

        async with trio.open_nursery() as nursery:
            async with engine.read_view(old):
                for number in range(20):
                    await engine.put(1, 0, bytes([number]) * 3)
                world.crash("A B C D")
                nursery.start_soon(read_strictly)
                await trio.sleep(0.1)
            await trio.sleep(0.3)
            assert not found, "two of six confirm nothing"
            assert engine.statistics().floor == old
            await world.restart("A B C D")
        assert found == [b"old"]
        await check_rest(world)

    run_world(main, lal=50, engine=SMALL, segment=COLLECTING)


# ---- the end -------------------------------------------------------------------------------------


def test_whatever_waits_when_the_writer_ends_is_told_so() -> None:
    """Also those who queue for room in the log behind others: they slept on for ever once."""

    async def main(world: World) -> None:
        engine = world.engine
        await fill(engine)
        endings: list[str] = []

        async def expect_end(name: str, call: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(Closed, match="writer-1 has been closed"):
                await call()
            endings.append(name)

        world.crash("A B C D E F")
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(expect_end, "put", lambda n=number: engine.put(n + 50, 0, b"x"))
            for number in range(12):
                writes = [(number % 3 + 70, at, b"x") for at in range(5)]
                nursery.start_soon(expect_end, "many", lambda w=writes: engine.put_many(w))
            nursery.start_soon(expect_end, "get", lambda: engine.get(1))
            nursery.start_soon(expect_end, "strict", lambda: engine.get(1, strict=True))
            nursery.start_soon(expect_end, "get_at", lambda: engine.get_at(1, 3))
            await trio.sleep(3)
            assert not endings
            world.cluster.crash_writer()
            await world.until(lambda: len(endings) == 27, within_s=0.1)
        for call in [engine.put(1, 0, b"x"), engine.get(1), engine.get_at(1, 1)]:
            with pytest.raises(Closed):
                await call
        with pytest.raises(Closed):
            _ = engine.vdl
        with pytest.raises(Closed):
            engine.statistics()
        assert isinstance(engine.error, Closed)

    run_world(main, lal=20, engine=attrs.evolve(SMALL, retention_lsns=None))


def test_each_caller_gets_an_error_of_its_own() -> None:
    async def main(world: World) -> None:
        errors: list[AuroraError] = []

        async def write(page: int) -> None:
            try:
                await world.engine.put(page, 0, b"x")
            except Closed as error:
                errors.append(error)

        world.crash("A B C")
        async with trio.open_nursery() as nursery:
            for page in range(5):
                nursery.start_soon(write, page)
            await trio.sleep(1)
            world.cluster.crash_writer()
        assert len({id(error) for error in errors}) == 5

    run_world(main)


# ---- cancelling ----------------------------------------------------------------------------------


@asynccontextmanager
async def crowd(engine: Engine, turns: int) -> AsyncIterator[None]:
    """Others at work meanwhile, on a pool and a log that are too small for all."""

    async def work(number: int) -> None:
        for turn in range(turns):
            await engine.put_many([(number, 8, bytes([turn + 1])), (30 + turn % 5, 8, b"x")])
            await engine.get(number)

    async with trio.open_nursery() as nursery:
        for number in range(100, 104):
            nursery.start_soon(work, number)
        yield


Call = Callable[[Engine], Awaitable[object]]


async def _mini_transaction(engine: Engine) -> None:
    async with engine.mini_transaction() as mtr:
        await trio.lowlevel.checkpoint()
        mtr.write(1, 0, b"AA")
        mtr.write(2, 0, b"AA")
        await trio.lowlevel.checkpoint()


async def _read_view(engine: Engine) -> None:
    async with engine.read_view() as view:
        await view.get(3)
        await view.get(4)


CALLS: dict[str, Call] = {
    "put": lambda engine: engine.put(1, 0, b"AA"),
    "put_many": lambda engine: engine.put_many([(1, 0, b"AA"), (2, 0, b"AA"), (6, 0, b"AA")]),
    "mini_transaction": _mini_transaction,
    "get": lambda engine: engine.get(3 + engine.vdl % 5),
    "strict": lambda engine: engine.get(3 + engine.vdl % 5, strict=True),
    "get_at": lambda engine: engine.get_at(3 + engine.vdl % 5, engine.vdl),
    "read_view": _read_view,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_cancelled_at_any_step_leaves_everything_consistent(name: str) -> None:
    async def main(world: World) -> None:
        engine = world.engine
        await fill(engine)
        step, reached = 0, True
        while reached:
            step += 1
            value = step.to_bytes(2, "big")
            async with crowd(engine, 2):
                await engine.put_many([(1, 0, value), (2, 0, value)])
                reached = await cancelled_at(step, lambda: CALLS[name](engine))
            pages = [(await engine.get(page))[:2] for page in (1, 2)]
            assert pages in ([value, value], [b"AA", b"AA"], [b"AA", value])
            if name != "put":
                assert pages[0] == pages[1], "half a mini-transaction"
            await check_rest(world)
        assert step >= 2, "cancelled nowhere"

    run_world(main, lal=20, engine=SMALL)


async def check_rest(world: World) -> None:
    """Nothing is held, pinned or waited for any more."""
    engine = world.engine
    await engine.put(9, 0, b"go on")
    await trio.sleep(0.3)
    statistics = engine.statistics()
    assert statistics.pool.pinned_pages == 0
    assert statistics.commits_waiting == 0
    assert statistics.vdl == statistics.vcl == statistics.last_allocated_lsn
    assert statistics.floor == statistics.vdl, "somebody's read point is still held"
    assert engine.waits() == []
    intake = engine._shell._intake
    assert intake is not None
    assert not intake.line
    assert not intake.stuck


def test_a_call_cancelled_while_it_waits_for_a_quorum_is_whole_or_not_at_all() -> None:
    async def main(world: World) -> None:
        engine = world.engine
        await fill(engine)
        world.crash("A B C")
        for number in range(40):  # more than the LAL lets through
            with trio.move_on_after(0.01 * (number % 3)):
                await engine.put_many([(1, 0, bytes([number + 1])), (2, 0, bytes([number + 1]))])
                pytest.fail("acknowledged by three of six")
        await world.restart("A B C")
        await trio.sleep(3)
        await check_rest(world)
        assert (await engine.get(1))[0] == (await engine.get(2))[0]

    run_world(main, lal=20, engine=SMALL)


def test_a_recovery_cancelled_at_any_moment_can_be_repeated() -> None:
    async def main(world: World) -> None:
        acknowledged: dict[int, int] = {}
        delay_s = 0.0
        while True:
            for page in range(3):
                acknowledged[page] = await world.engine.put(page, 0, delay_s.hex().encode())
            finished = False
            with trio.move_on_after(delay_s):
                await world.cluster.recover()
                finished = True
            if finished:
                break
            with pytest.raises((Unavailable, Fenced)):
                await world.engine.put(1, 0, b"x")
            engine = await world.cluster.recover()
            assert engine.vdl >= max(acknowledged.values())
            for page, lsn in acknowledged.items():
                assert (await engine.get_at(page, lsn)).startswith(delay_s.hex().encode())
            delay_s += 0.0002
        assert delay_s > 0.0006

    run_world(main, lal=50, pg_count=2)
