"""Many sessions at a time, and calls that are cancelled wherever they wait."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from random import Random
from typing import Final

import pytest
import trio

from aurora.config import EngineConfig
from aurora.health import WaitKind
from aurora.health_watch import HealthWatch
from aurora.sqlite.bridge import run, wait
from aurora.sqlite.database import Database
from aurora.sqlite.opening import open_database
from aurora.sqlite.turns import MOST, Turns
from segments.protocol.errors import Invalid
from tests.cancelling import cancelled_at
from tests.database_rig import check_nothing_held, check_whole, run_database
from tests.worlds import World, run_world

ACCOUNTS: Final = 12
EACH: Final = 1_000
TOTAL: Final = ACCOUNTS * EACH


# ---- money ---------------------------------------------------------------------------------------


class Poor(Exception):
    """There is not enough on the account."""


async def transfer(database: Database, random: Random) -> None:
    """Read, decide and write, all in one transaction; a fifth of them are given up."""
    giver, taker = random.sample(range(ACCOUNTS), 2)
    amount = random.randrange(1, 400)
    async with database.transaction() as transaction:
        balance = await transaction.query("SELECT cash FROM t WHERE id = ?", (giver,)).value()
        await transaction.execute("UPDATE t SET cash = cash + ? WHERE id = ?", (amount, taker))
        if random.random() < 0.3:
            await trio.sleep(random.random() / 1_000)
        if balance < amount or random.random() < 0.1:
            raise Poor
        await transaction.execute("UPDATE t SET cash = cash - ? WHERE id = ?", (amount, giver))
        await transaction.execute("INSERT INTO log VALUES (?, ?, ?)", (giver, taker, amount))


@pytest.mark.parametrize("seed", [1, 2])
def test_money_is_neither_made_nor_lost_at_any_moment(seed: int) -> None:
    async def main(database: Database, world: World) -> None:
        await database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, cash CHECK (cash >= 0))")
        await database.execute("CREATE TABLE log (giver, taker, amount)")
        opening = [(number, EACH) for number in range(ACCOUNTS)]
        opened = await database.execute_many("INSERT INTO t VALUES (?, ?)", opening)
        assert opened.lsn is not None
        kept, working = 0, 12

        async def session(number: int) -> None:
            nonlocal kept, working
            random = Random(seed * 100 + number)
            for _ in range(25):
                with trio.move_on_after(random.choice((0.001, 0.004, 1))):
                    try:
                        await transfer(database, random)
                        kept += 1
                    except Poor:
                        pass
            working -= 1

        async def audit() -> None:
            random = Random(seed)
            looked = 0
            while working:
                looked += 1
                total = "SELECT sum(cash) FROM t"
                assert await database.query(total).value() == TOTAL
                async with database.snapshot() as then:
                    assert await then.query(total).value() == TOTAL
                    await trio.sleep(0.002)
                    assert await then.query(total).value() == TOTAL
                async with database.at(random.randrange(opened.lsn or 0, database.lsn + 1)) as then:
                    assert await then.query(total).value() == TOTAL
            assert looked > 10

        async with trio.open_nursery() as nursery:
            nursery.start_soon(audit)
            for number in range(working):
                nursery.start_soon(session, number)
        assert await database.query("SELECT sum(cash) FROM t").value() == TOTAL
        assert kept > 30
        assert await database.query("SELECT count(*) FROM log").value() >= kept

    run_database(main, seed=seed, engine=EngineConfig(retention_lsns=None, buffer_pool_pages=16))


# ---- cancelling ----------------------------------------------------------------------------------

Call = Callable[[Database, int], Awaitable[object]]


async def insert(database: Database, number: int) -> None:
    await database.execute("INSERT INTO t VALUES (?, zeroblob(20000)), (-?1, 5)", (number,))


async def script(database: Database, number: int) -> None:
    await database.execute(
        f"INSERT INTO t VALUES ({number}, 1); INSERT INTO t VALUES (-{number}, 2)"
    )


async def block(database: Database, number: int) -> None:
    async with database.transaction() as transaction:
        await transaction.execute("INSERT INTO t VALUES (?, zeroblob(20000))", (number,))
        await transaction.query("SELECT max(length(b)) FROM t").value()
        await transaction.execute("INSERT INTO t VALUES (?, 1)", (-number,))


async def scan(database: Database, number: int) -> None:
    assert await database.query("SELECT count(*) FROM t").value() is not None


async def old_scan(database: Database, number: int) -> None:
    async with database.at(database.lsn - 5) as then:
        assert len(await then.query("SELECT * FROM t ORDER BY b").all()) >= 0


async def vacuum(database: Database, number: int) -> None:
    await database.execute("VACUUM")


CALLS: Final[dict[str, Call]] = {
    each.__name__: each for each in (insert, script, block, scan, old_scan, vacuum)
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_cancelled_at_any_step_leaves_all_of_it_or_nothing(name: str) -> None:
    """On a writer that has just opened the volume: each page has to be asked for."""

    async def main(world: World) -> None:
        async with open_database(world.cluster) as database:
            await database.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
            filler = [(-1_000 - number, bytes(3_000)) for number in range(60)]
            await database.execute_many("INSERT INTO t VALUES (?, ?)", filler)
        step, reached = 0, True
        while reached:
            step += 1
            await world.cluster.recover()
            async with open_database(world.cluster) as database:
                await database.execute("PRAGMA cache_size = 3")
                reached = await cancelled_at(step, partial(CALLS[name], database, step))
                found = "SELECT count(*) FROM t WHERE a IN (?1, -?1)"
                assert await database.query(found, (step,)).value() in (0, 2), step
                await database.execute("DELETE FROM t WHERE a > -1000")
                await check_whole(database)
                assert not database._writer.turns.taken
                assert database._writer.turns.waiting == 0
            await check_nothing_held(world)
        assert step > 3, "cancelled nowhere"

    run_world(main, engine=EngineConfig(retention_lsns=None))


def test_a_backtrack_cancelled_at_any_step_is_done_or_not() -> None:
    async def main(database: Database, world: World) -> None:
        await database.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
        await database.execute("INSERT INTO t VALUES (1, 'old')")
        old = database.lsn
        step, reached = 0, True
        while reached:
            step += 1
            await database.execute(
                "UPDATE t SET b = 'new'; INSERT INTO t VALUES (2, zeroblob(30000))"
            )
            reached = await cancelled_at(step, lambda: database.backtrack(old))
            rows = await database.query("SELECT a, length(b) FROM t").all()
            assert rows in ([(1, 3)], [(1, 3), (2, 30_000)])
            await check_whole(database)
            await database.execute("DELETE FROM t WHERE a = 2")
        assert step > 3, "cancelled nowhere"

    run_database(main, engine=EngineConfig(retention_lsns=None))


def test_a_commit_stands_that_is_cancelled_while_it_becomes_durable() -> None:
    async def main(database: Database, world: World) -> None:
        await database.execute("CREATE TABLE t (a)")
        world.crash("A B C")
        with trio.move_on_after(1) as scope:
            await database.execute("INSERT INTO t VALUES (1)")
        assert scope.cancelled_caught
        assert await database.query("SELECT count(*) FROM t").value() == 0
        await world.restart("A B C")
        await database.execute("INSERT INTO t VALUES (2)")
        assert await database.query("SELECT a FROM t ORDER BY a").all() == [(1,), (2,)]

    run_database(main)


def test_a_transaction_within_one_of_the_same_task_is_refused_at_once() -> None:
    async def main(database: Database, world: World) -> None:
        await database.execute("CREATE TABLE t (a)")
        insert = "INSERT INTO t VALUES (1)"
        calls: list[Callable[[], Awaitable[object]]] = [
            partial(database.execute, insert),
            partial(database.execute_many, insert, [()]),
            partial(database.run, lambda tx: tx.execute(insert)),
            partial(database.backtrack, "0 seconds ago"),
            partial(database.import_file, "missing"),
            database.transaction().__aenter__,
        ]
        async with database.transaction() as tx:
            await tx.execute(insert)
            for call in calls:
                with trio.fail_after(1), pytest.raises(Invalid, match="has one open already"):
                    await call()
            await tx.execute(insert)
            assert await database.query("SELECT count(*) FROM t").value() == 0
        await database.execute(insert)
        assert await database.query("SELECT count(*) FROM t").value() == 3

    run_database(main)


def test_what_waits_for_its_turn_is_part_of_health_and_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "aurora")

    async def main(database: Database, world: World) -> None:
        await database.execute("CREATE TABLE t (a)")
        watch = HealthWatch(world.cluster.health)
        async with trio.open_nursery() as nursery, database.transaction() as tx:
            await tx.execute("INSERT INTO t VALUES (1)")
            assert world.cluster.health().waits == ()
            nursery.start_soon(database.execute, "INSERT INTO t VALUES (2)")
            await trio.sleep(1.5)
            (wait,) = world.cluster.health().waits
            assert wait.kind is WaitKind.TURN and wait.for_s == pytest.approx(1.5)
            task = trio.lowlevel.current_task().name
            assert wait.text == f"transactions wait for their turn: the block of {task} is open"
            assert wait.text in " ".join(str(world.cluster.health()).split())
            watch.look()
        assert world.cluster.health().waits == ()
        watch.look()
        assert [each.getMessage() for each in caplog.records] == [
            f"{wait.text} (for 1.5 s so far)",
            "transactions no longer wait for their turn, after 1.5 s",
        ]

    run_database(main)


# ---- turns ---------------------------------------------------------------------------------------


async def test_short_turns_share_a_turn_of_the_scheduler_and_long_ones_come_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    turns, order = Turns(), list[object]()

    async def take(name: object, *, short: bool, hold: bool = False) -> None:
        await turns.take(short=short)
        order.append(name)
        if hold:
            await trio.sleep(1)
        turns.give()

    async with trio.open_nursery() as nursery:
        await nursery.start(_holding, turns)
        for number in range(5):
            nursery.start_soon(_named(take, number, short=True))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(_named(take, "long", short=False, hold=True))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(_named(take, "late", short=True))
        await trio.testing.wait_all_tasks_blocked()
        assert (turns.waiting, turns.taken, order) == (7, True, [])
        await trio.sleep(1.5)
        assert {*order[:5]} == {0, 1, 2, 3, 4}
        assert order[5:] == ["long"]
        await trio.sleep(1)
        assert order[6:] == ["late"]
    assert (turns.waiting, turns.taken) == (0, False)


async def test_fewer_are_woken_as_long_as_they_are_woken_for_nothing() -> None:
    """Each turn that waits in its middle would else wake all of the line, twice."""
    turns, tries = Turns(), list[int]()
    sleep = turns._sleep

    async def counted(ticket: int, short: bool) -> None:
        tries.append(ticket)
        await sleep(ticket, short)

    turns._sleep = counted  # type: ignore[method-assign]

    async def take() -> None:
        await turns.take(short=True)
        await trio.lowlevel.checkpoint()
        turns.give()

    async with trio.open_nursery() as nursery:
        for _ in range(MOST):
            nursery.start_soon(take)
    assert (turns.waiting, turns.taken) == (0, False)
    assert len(tries) < 5 * MOST  # MOST * MOST / 2, if all were woken each time


def test_short_statements_do_not_give_way_however_often_they_were_run() -> None:
    """SQLite counts the steps of a statement that is prepared once over all of its runs."""

    async def main(db: Database, _: World) -> None:
        await db.execute("CREATE TABLE t(a)")
        await db.execute_many("INSERT INTO t VALUES(?)", [(each,) for each in range(400)])
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            for _once in range(20):
                turns = 0
                await db.run(lambda tx: tx.execute("SELECT sum(a) FROM t"))
                assert turns <= 3
            turns = 0
            await db.run(lambda tx: [tx.execute("SELECT sum(a) FROM t") for _more in range(200)])
            assert turns >= 10
            nursery.cancel_scope.cancel()

    run_database(main)


def _named(
    take: Callable[..., Awaitable[None]], name: object, **options: bool
) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        await take(name, **options)

    return call


async def _holding(turns: Turns, *, task_status: trio.TaskStatus[None]) -> None:
    await turns.take(short=False)
    task_status.started()
    await trio.sleep(1)
    turns.give()


async def test_who_gives_up_waiting_keeps_nobody_else_waiting(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for cancelled in range(4):
        turns, done = Turns(), list[int]()
        scopes = [trio.CancelScope() for _ in range(4)]

        async def take(
            number: int, turns: Turns = turns, done: list[int] = done,
            scopes: list[trio.CancelScope] = scopes,
        ) -> None:  # fmt: skip
            with scopes[number]:
                await turns.take(short=bool(number % 2))
                done.append(number)
                turns.give()

        async with trio.open_nursery() as nursery:
            await nursery.start(_holding, turns)
            for number in range(4):
                nursery.start_soon(take, number)
                await trio.testing.wait_all_tasks_blocked()
            scopes[cancelled].cancel()
        assert sorted(done) == [number for number in range(4) if number != cancelled]
        assert (turns.waiting, turns.taken) == (0, False)


async def test_who_is_cancelled_as_the_turn_ends_is_not_woken_twice() -> None:
    for short in (True, False):
        turns, done = Turns(), list[int]()
        await turns.take(short=False)
        scopes = [trio.CancelScope() for _ in range(3)]

        async def take(
            number: int, turns: Turns = turns, done: list[int] = done, short: bool = short,
            scopes: list[trio.CancelScope] = scopes,
        ) -> None:  # fmt: skip
            with scopes[number]:
                await turns.take(short=short)
                done.append(number)
                turns.give()

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(take, number)
                await trio.testing.wait_all_tasks_blocked()
            scopes[0].cancel()
            turns.give()
            scopes[1].cancel()
        assert done in ([1, 2], [2, 1], [2])
        assert (turns.waiting, turns.taken) == (0, False)


async def test_who_gives_up_after_64_in_a_row_lets_the_next_one_go() -> None:
    for _ in range(20):  # trio starts tasks in any order
        turns, done = Turns(), list[int]()
        for _ in range(MOST):
            await turns.take(short=True)
            turns.give()

        async def take(
            number: int, scope: trio.CancelScope, turns: Turns = turns, done: list[int] = done
        ) -> None:
            with scope:
                await turns.take(short=True)
                done.append(number)
                turns.give()

        scopes = [trio.CancelScope(), trio.CancelScope()]
        async with trio.open_nursery() as nursery:
            for number, scope in enumerate(scopes):
                nursery.start_soon(take, number, scope)
            await trio.lowlevel.checkpoint()
            scopes[0].cancel()
        assert 1 in done
        assert (turns.waiting, turns.taken) == (0, False)


async def test_no_more_than_64_transactions_run_before_others_have_their_turn() -> None:
    turns, ran = Turns(), 0
    most = last = 0

    async def transact() -> None:
        nonlocal ran
        await turns.take(short=True)
        ran += 1
        turns.give()

    class Ticks(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            nonlocal most, last
            most, last = max(most, ran - last), ran

    ticks = Ticks()
    trio.lowlevel.add_instrument(ticks)
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(1_000):
                nursery.start_soon(transact)
    finally:
        trio.lowlevel.remove_instrument(ticks)
    assert ran == 1_000
    assert most <= MOST


# ---- the bridge ----------------------------------------------------------------------------------


variable: ContextVar[str] = ContextVar("variable", default="nobody's")


async def test_what_is_awaited_runs_in_the_callers_task_and_under_its_scopes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    task = trio.lowlevel.current_task()
    seen: list[object] = []

    async def pause(seconds: float) -> float:
        seen.append(trio.lowlevel.current_task() is task)
        await trio.sleep(seconds)
        return seconds

    async def at_once() -> str:
        return "at once"

    def call(seconds: float) -> object:
        try:
            return wait(pause(seconds)), wait(at_once()), wait(pause(1))
        except trio.Cancelled:
            seen.append("cancelled")
            raise

    assert await run(call, 2) == (2, "at once", 1)
    variable.set("the caller's")
    assert await run(variable.get) == "the caller's"
    with trio.move_on_after(3) as scope:
        await run(call, 5)
    assert scope.cancelled_caught
    assert seen == [True, True, True, "cancelled"]


async def test_an_error_of_what_is_awaited_is_raised_where_it_is_waited_for() -> None:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("inside")

    def call() -> str:
        with pytest.raises(KeyError, match="inside"):
            wait(fail())
        raise IndexError("outside")

    with pytest.raises(IndexError, match="outside"):
        await run(call)


async def test_outside_of_a_call_there_is_nothing_to_wait_in() -> None:
    async def pause() -> None:
        await trio.lowlevel.checkpoint()

    with pytest.raises(RuntimeError, match=r"expected to be within bridge\.run"):
        wait(pause())
