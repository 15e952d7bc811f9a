"""A database's public API: what it does, what it refuses, and the traps that SQLite lays.

(More than 400 lines: each trap of the design has its test, and they share the rig.)
"""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

import aurora
from aurora.config import EngineConfig
from aurora.sqlite import vfs
from aurora.sqlite.bridge import run
from aurora.sqlite.database import Database
from aurora.sqlite.opening import open_database
from aurora.sqlite.rows import Rows
from aurora.sqlite.transaction import Statements, Transaction
from aurora.sqlite.vfs import FixedFile, WriterFile
from aurora.sqlite.volume import Volume
from segments.protocol.errors import (
    AuroraError,
    Closed,
    DatabaseEnded,
    Invalid,
    InvalidLsn,
    NoSuchCommit,
    NotADatabase,
    ReadOnly,
    ReadPointAboveVdl,
    ReadPointBelowFloor,
    SqlBusy,
    SqlConstraint,
    SqlCorrupt,
    SqlInvalid,
    SqlReadOnly,
    SqlRefused,
    TransactionEnded,
    Unavailable,
)
from tests.database_rig import check_nothing_held, check_whole, run_database
from tests.worlds import World, run_world

Main = Callable[[Database, World], Awaitable[None]]
KEEPING = EngineConfig(retention_lsns=None)


async def table(database: Database, rows: int = 0) -> None:
    await database.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
    if rows:
        await database.execute_many("INSERT INTO t VALUES (?, ?)", ((n, n) for n in range(rows)))


async def count(database: Database) -> int:
    value = await database.query("SELECT count(*) FROM t").value()
    assert isinstance(value, int)
    return value


# ---- statements ----------------------------------------------------------------------------------


def test_a_statement_returns_what_it_did_once_that_is_durable() -> None:
    async def main(database: Database, world: World) -> None:
        made = await database.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
        assert (made.rows, made.changes, made.last_insert_rowid) == ([], 0, None)
        assert made.lsn == world.engine.vdl == database.lsn
        put = await database.execute("INSERT INTO t (b) VALUES (?), (:two) RETURNING a, b", (7, 8))
        assert (put.rows, put.columns) == ([(1, 7), (2, 8)], ("a", "b"))
        assert (put.changes, put.last_insert_rowid, put.lsn) == (2, 2, world.engine.vdl)
        none = await database.execute("UPDATE t SET b = 1 WHERE a = :a", {"a": 99})
        assert (none.changes, none.last_insert_rowid, none.lsn) == (0, None, None)
        read = await database.execute("SELECT b FROM t ORDER BY b")
        assert (read.rows, read.lsn) == ([(7,), (8,)], None)
        many = await database.execute_many("INSERT INTO t (b) VALUES (?)", [(n,) for n in range(9)])
        assert many.changes == 9
        assert [commit.lsn for commit in await database.history()] == [many.lsn, put.lsn, made.lsn]

    run_database(main)


def test_several_statements_in_one_text_are_one_transaction() -> None:
    async def main(database: Database, world: World) -> None:
        await database.execute("CREATE TABLE t (a UNIQUE); CREATE TABLE u (a);")
        assert len(await database.history()) == 1
        with pytest.raises(SqlConstraint):
            await database.execute("INSERT INTO t VALUES (1); INSERT INTO t VALUES (1)")
        assert await count(database) == 0
        with pytest.raises(SqlConstraint):
            await database.execute_many("INSERT INTO t VALUES (?)", [(1,), (2,), (1,)])
        assert await count(database) == 0

    run_database(main)


@pytest.mark.parametrize(
    ("statement", "error", "says"),
    [
        ("SELEC 1", SqlInvalid, 'near "SELEC": syntax error'),
        ("SELECT * FROM missing", SqlInvalid, "no such table: missing"),
        ("INSERT INTO t VALUES (1, 1)", SqlConstraint, "UNIQUE constraint failed: t.a"),
        ("INSERT INTO t VALUES (?, ?)", SqlInvalid, "bindings"),
        ("BEGIN", SqlRefused, "transaction"),
        ("COMMIT", SqlRefused, "transaction"),
        ("/* see */ ROLLBACK", SqlRefused, "transaction"),
        ("SAVEPOINT s", SqlRefused, "transaction"),
        ("PRAGMA journal_mode = WAL", SqlRefused, "expected memory"),
        ("PRAGMA locking_mode = EXCLUSIVE", SqlRefused, "change counter"),
        ("PRAGMA page_size = 4096", SqlRefused, "8192"),
        ("PRAGMA auto_vacuum = FULL", SqlRefused, "VACUUM"),
        ("ATTACH 'other.db' AS other", SqlRefused, "other.db"),
        ("ATTACH 'file:other.db?vfs=unix' AS other", SqlRefused, "other.db"),
        ("VACUUM INTO 'other.db'", SqlRefused, "other.db"),
    ],
)
def test_a_statement_that_cannot_be_is_refused_and_changes_nothing(
    statement: str, error: type[AuroraError], says: str
) -> None:
    async def main(database: Database, world: World) -> None:
        await table(database, 2)
        before = world.engine.statistics().last_allocated_lsn
        with pytest.raises(error, match=says):
            await database.execute(statement)
        async with database.transaction() as transaction:
            if not statement.startswith(("SAVEPOINT", "VACUUM")):
                with pytest.raises(error):
                    await transaction.execute(statement)
            assert await transaction.query("SELECT count(*) FROM t").value() == 2
        assert world.engine.statistics().last_allocated_lsn == before

    run_database(main)


def test_errors_keep_sqlites_code_and_say_what_can_be_done() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database, 1)
        with pytest.raises(SqlConstraint) as caught:
            await database.execute("INSERT INTO t VALUES (0, 0)")
        assert caught.value.code == apsw.SQLITE_CONSTRAINT_PRIMARYKEY
        assert str(type(caught.value)(*caught.value.args)) == "UNIQUE constraint failed: t.a"
        with pytest.raises(SqlReadOnly, match="readonly"):
            await database.query("DELETE FROM t").all()
        with pytest.raises(SqlRefused, match="temporary"):
            await database.query("CREATE TEMP TABLE x (a)").all()
        with pytest.raises(SqlInvalid, match="type"):
            await database.execute("SELECT ?", (object(),))
        with pytest.raises(SqlInvalid, match="type"):
            await database.query("SELECT ?", (object(),)).all()
        with pytest.raises(Invalid, match="statement is 7"):
            await database.execute(7)  # type: ignore[arg-type]
        async with database.transaction() as transaction:
            rows = transaction.query("SELECT * FROM t")
            await anext(rows)
            async for _ in transaction.query("SELECT 1 UNION SELECT 2"):
                pass
            await rows.aclose()

    run_database(main)


def test_a_table_that_is_read_is_not_dropped() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database, 600)
        async with database.transaction() as transaction:
            rows = transaction.query("SELECT * FROM t")
            await anext(rows)
            with pytest.raises(SqlBusy, match="locked"):
                await transaction.execute("DROP TABLE t")
            rows.close()
            await transaction.execute("DROP TABLE t")

    run_database(main)


def test_a_text_that_attaches_memory_passes() -> None:
    async def main(database: Database, world: World) -> None:
        await database.execute("ATTACH ':memory:' AS scratch")
        await database.execute("CREATE TABLE scratch.s AS SELECT 5 AS five")
        assert (await database.execute("SELECT five FROM s")).rows == [(5,)]
        assert await database.history() == []
        await database.execute("DETACH scratch")

    run_database(main)


# ---- transactions --------------------------------------------------------------------------------


def test_a_transaction_is_one_commit_or_none() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database)
        async with database.transaction() as transaction:
            await transaction.execute_many("INSERT INTO t (b) VALUES (?)", [(1,), (2,)])
            assert await count(database) == 0, "others do not see it yet"
            assert await transaction.query("SELECT count(*) FROM t").value() == 2
            assert transaction.lsn is None
        assert transaction.lsn == world.engine.vdl
        assert await count(database) == 2

        async def give_up() -> None:
            async with database.transaction() as transaction:
                await transaction.execute("DELETE FROM t")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await give_up()
        async with database.transaction() as idle:
            pass
        assert idle.lsn is None
        assert await count(database) == 2
        assert len(await database.history()) == 2
        with pytest.raises(TransactionEnded, match="whose block has ended"):
            await idle.execute("SELECT 1")
        with pytest.raises(TransactionEnded, match="whose block has ended"):
            idle.query("SELECT 1")

    run_database(main)


def test_a_function_can_be_a_transaction() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database, 3)
        kept: list[Statements] = []

        def double(statements: Statements) -> int:
            kept.append(statements)
            (row,) = statements.execute("SELECT sum(b) FROM t").rows
            statements.execute("UPDATE t SET b = b * 2")
            statements.execute_many("INSERT INTO t (b) VALUES (?)", [(0,), (0,)])
            assert isinstance(row[0], int)
            return row[0] * 2

        assert await database.run(double) == 6
        assert await database.query("SELECT sum(b), count(*) FROM t").first() == (6, 5)
        assert len(await database.history()) == 3

        def fail(statements: Statements) -> None:
            statements.execute("DELETE FROM t")
            raise ZeroDivisionError

        def go_on(statements: Statements) -> None:
            with pytest.raises(SqlConstraint):
                statements.execute("INSERT OR ROLLBACK INTO t VALUES (0, 0)")
            statements.execute("DELETE FROM t")

        with pytest.raises(ZeroDivisionError):
            await database.run(fail)
        with pytest.raises(TransactionEnded, match="has rolled back"):
            await database.run(go_on)
        with pytest.raises(TransactionEnded, match="has returned"):
            kept[0].execute("SELECT 1")
        assert await count(database) == 5

    run_database(main)


def test_rolling_back_to_a_savepoint_takes_back_what_came_after_it() -> None:
    """With journal_mode=OFF, SQLite says that it did and does not."""

    async def main(database: Database, world: World) -> None:
        await table(database, 3)
        async with database.transaction() as transaction:
            await transaction.execute("SAVEPOINT s")
            await transaction.execute("DELETE FROM t")
            await transaction.execute("ROLLBACK TO s")
            await transaction.execute("INSERT INTO t (b) VALUES (9)")
        assert await count(database) == 4

    run_database(main)


def test_a_rollback_of_what_has_spilled_needs_no_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite writes back all pages then; what they were may be neither cached nor to be had."""
    monkeypatch.setattr(vfs, "_HEADS", 8)

    async def main(database: Database, world: World) -> None:
        await table(database)
        rows = ((n, "0123456789" * 80) for n in range(3_000))
        await database.execute_many("INSERT INTO t VALUES (?, ?)", rows)
        await trio.sleep(1)
        before = world.engine.statistics().last_allocated_lsn
        await database.execute("PRAGMA cache_size = 200")

        async def give_up() -> None:
            async with database.transaction() as transaction:
                await transaction.execute("UPDATE t SET b = 'q' || b WHERE a % 10 = 0")
                assert len(database._writer.file._buffer) > 10, "it has not spilled"
                world.crash("az1, az2, az3")
                raise ZeroDivisionError

        with world.stall_below(0.1), pytest.raises(ZeroDivisionError):
            await give_up()
        await world.restart("az1, az2, az3")
        assert world.engine.statistics().last_allocated_lsn == before
        await database.execute("UPDATE t SET b = 'q' || b WHERE a % 10 = 0")
        assert await database.query("SELECT count(*) FROM t WHERE b GLOB 'q*'").value() == 300

    run_database(main, engine=EngineConfig(buffer_pool_pages=32))


def test_a_transaction_that_spilled_and_was_rolled_back_writes_nothing() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database, 3)
        await database.execute("PRAGMA cache_size = 2")
        file = database._writer.file
        before = world.engine.statistics().last_allocated_lsn, file.pages()

        async def give_up() -> None:
            async with database.transaction() as transaction:
                for _ in range(40):
                    await transaction.execute("INSERT INTO t (b) VALUES (zeroblob(6000))")
                assert len(file._buffer) > 10, "it has not spilled"
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await give_up()
        assert len(file._buffer) == 0
        assert (world.engine.statistics().last_allocated_lsn, file.pages()) == before
        async with database.transaction() as transaction:
            await transaction.execute("SAVEPOINT s")
            for _ in range(40):
                await transaction.execute("INSERT INTO t (b) VALUES (zeroblob(6000))")
            await transaction.execute("ROLLBACK TO s")
            await transaction.execute("INSERT INTO t (b) VALUES (1)")
        assert await count(database) == 4
        (commit,) = await database.history(1)
        assert commit.pages == 2
        assert commit.bytes < 100

    run_database(main)


def test_what_comes_after_a_statement_that_rolled_back_all_is_not_committed_by_itself() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database, 3)

        async def transact(*, goes_on: bool) -> None:
            async with database.transaction() as transaction:
                await transaction.execute("DELETE FROM t WHERE a = 1")
                with pytest.raises(SqlConstraint):
                    await transaction.execute("INSERT OR ROLLBACK INTO t VALUES (0, 0)")
                if goes_on:
                    await transaction.execute("DELETE FROM t")

        for goes_on in (True, False):
            with pytest.raises(TransactionEnded, match="has rolled back"):
                await transact(goes_on=goes_on)
            assert await count(database) == 3

    run_database(main)


ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "


def test_a_statement_cancelled_in_a_transaction_takes_all_of_it_along() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database, 3)

        async def transact() -> None:
            async with database.transaction() as transaction:
                await transaction.execute("DELETE FROM t WHERE a = 1")
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(cancelling, scope)
                        await transaction.execute(f"INSERT INTO t (b) {ENDLESS} SELECT x FROM n")
                assert scope.cancelled_caught
                await transaction.execute("DELETE FROM t")

        with pytest.raises(TransactionEnded, match="has rolled back"):
            await transact()
        assert await count(database) == 3

    run_database(main)


async def cancelling(scope: trio.CancelScope) -> None:
    for _ in range(20):
        await trio.lowlevel.checkpoint()
    scope.cancel()


def test_long_queries_let_others_have_their_turn_and_can_be_cancelled() -> None:
    async def main(database: Database, world: World) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancelling, scope)
                await database.query(f"{ENDLESS} SELECT count(*) FROM n").value()
        assert scope.cancelled_caught
        assert await database.query("SELECT 5").value() == 5

    run_database(main)


def test_a_transaction_is_for_one_task_at_a_time() -> None:
    async def main(database: Database, world: World) -> None:
        async with database.transaction() as transaction, trio.open_nursery() as nursery:
            nursery.start_soon(transaction.execute, f"{ENDLESS} SELECT x FROM n LIMIT 20000")
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            with pytest.raises(Invalid, match="one task at a time"):
                await transaction.execute("SELECT 1")
            with pytest.raises(Invalid, match="one task at a time"):
                await transaction.query("SELECT 1").value()

    run_database(main)


def test_a_block_that_ends_beneath_a_statement_waits_for_it_and_leaves_nothing() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database, 3)
        failures: list[AuroraError] = []

        async def late(transaction: Transaction) -> None:
            try:
                await transaction.execute(f"INSERT INTO t (b) {ENDLESS} SELECT x FROM n LIMIT 9999")
                await transaction.execute("DELETE FROM t")
            except AuroraError as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                async with database.transaction() as transaction:
                    nursery.start_soon(late, transaction)
                    for _ in range(3):
                        await trio.lowlevel.checkpoint()
                    assert database._writer.connection._busy
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
        assert [type(error) for error in failures] == [TransactionEnded]
        assert await count(database) == 3

    run_database(main)


def test_what_is_closed_beneath_a_query_ends_it() -> None:
    async def main(world: World) -> None:
        results: list[object] = []

        async def late(rows: Rows) -> None:
            try:
                results.append(await rows.value())
            except AuroraError as error:
                results.append(type(error))

        slow = f"SELECT count(*) FROM ({ENDLESS} SELECT x FROM n LIMIT 99999)"
        async with trio.open_nursery() as nursery, open_database(world.cluster) as database:
            await table(database, 3)
            async with database.snapshot() as snapshot:
                for source in (database, snapshot):
                    nursery.start_soon(late, source.query(slow))
                for _ in range(3):
                    await trio.lowlevel.checkpoint()
        assert len(results) == 2 and set(results) == {Closed, Invalid}
        assert database._connections._open == {}
        await check_nothing_held(world)

    run_world(main)


# ---- queries -------------------------------------------------------------------------------------


def test_a_query_keeps_its_moment_until_it_ends() -> None:
    async def main(database: Database, world: World) -> None:
        core = world.engine.core
        assert core is not None
        await table(database, 1_000)
        rows = database.query("SELECT a, b AS c FROM t ORDER BY a")
        assert (await anext(rows), rows.columns) == ((0, 0), ("a", "c"))
        held = core.reading.oldest_read_point
        await database.execute("DELETE FROM t WHERE a > 500")
        assert len(await rows.all()) == 999
        assert held is not None
        assert core.reading.oldest_read_point is None
        assert await count(database) == 501
        for leave in ("close", "forget", "first"):
            rows = database.query("SELECT a FROM t, (SELECT 1 UNION SELECT 2)")
            await anext(rows)
            assert core.reading.oldest_read_point is not None
            if leave == "close":
                await rows.aclose()
            elif leave == "first":
                assert await rows.first() is not None
            del rows
            gc.collect()
            assert core.reading.oldest_read_point is None

    run_database(main)


def test_a_query_can_be_asked_in_several_ways() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database, 3)
        assert [row async for row in database.query("SELECT a FROM t")] == [(0,), (1,), (2,)]
        assert await database.query("SELECT a FROM t WHERE a > ?", (0,)).first() == (1,)
        assert await database.query("SELECT a FROM t WHERE a > 9").first() is None
        assert await database.query("SELECT a FROM t WHERE a > 9").value() is None
        empty = database.query("SELECT a, b FROM t WHERE a > 9")
        assert (await empty.all(), await empty.all(), empty.columns) == ([], [], ("a", "b"))
        with pytest.raises(StopAsyncIteration):
            await anext(empty)

    run_database(main)


def test_readers_see_each_commit_whatever_they_have_cached() -> None:
    """With locking_mode=EXCLUSIVE the change counter stops, and readers saw 1, 1, 1, 1."""

    async def main(database: Database, world: World) -> None:
        await table(database)
        for number in range(1, 5):
            await database.execute("INSERT INTO t (b) VALUES (1)")
            assert await count(database) == number

    run_database(main)


def test_a_scan_asks_for_pages_together() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database)
        await database.execute(
            f"INSERT INTO t (b) {ENDLESS} SELECT zeroblob(3000) FROM n LIMIT 400"
        )
        await world.cluster.recover()
        async with open_database(world.cluster) as again:
            started = trio.current_time()
            assert await again.query("SELECT sum(length(b)) FROM t").value() == 1_200_000
            pages = world.engine.statistics().pool.pages
            round_trip_s = 0.0005
            assert pages > 200
            assert trio.current_time() - started < pages * round_trip_s / 2

    run_database(main)


def test_pages_asked_for_ahead_are_of_the_query_that_asked() -> None:
    """A scan that was left early had the next pages, which have changed when they are read."""

    async def main(database: Database, world: World) -> None:
        await table(database)
        await database.execute(
            f"INSERT INTO t (b) {ENDLESS} SELECT zeroblob(3000) FROM n LIMIT 600"
        )
        rows = database.query("SELECT a, b FROM t")
        for _ in range(256):
            last, _ = await anext(rows)
        await rows.aclose()
        await database.execute("UPDATE t SET b = printf('%03000d', a)")
        await world.engine.get_many([1, 2], database.lsn)  # what leads to the row is at hand
        query = database.query("SELECT b FROM t WHERE a = ?", (last + 9,))
        assert await query.value() == f"{last + 9:03000d}"

    run_database(main, engine=EngineConfig(buffer_pool_pages=16))


# ---- snapshots and time travel -------------------------------------------------------------------


def test_a_snapshot_stays_what_it_is() -> None:
    async def main(database: Database, world: World) -> None:
        async with database.snapshot() as empty:
            assert (empty.lsn, empty.commit) == (0, None)
            await table(database, 5)
            assert await empty.query("SELECT count(*) FROM sqlite_schema").value() == 0
        async with database.snapshot() as then:
            assert then.lsn == database.lsn
            first, second = then.query("SELECT a FROM t"), then.query("SELECT b FROM t")
            assert (await anext(first), await anext(second)) == ((0,), (0,))
            await database.execute("DELETE FROM t")
            assert len(await first.all()) == len(await second.all()) == 4
            assert (await then.execute("SELECT count(*) AS c FROM t")).rows == [(5,)]
            with pytest.raises(SqlReadOnly):
                await then.execute("DELETE FROM t")
            open_query = then.query("SELECT 1 FROM t, t, t, t")
            await anext(open_query)
        with pytest.raises(Invalid, match="a snapshot that has ended"):
            then.query("SELECT 1")
        with pytest.raises(Invalid, match="a snapshot that has ended"):
            await open_query.all()

    run_database(main)


def test_any_lsn_is_rounded_down_to_a_commit() -> None:
    """A read point within a mini-transaction is "malformed database schema" to SQLite."""

    async def main(database: Database, world: World) -> None:
        commits = []
        for number in range(4):
            await database.execute(
                f"CREATE TABLE t{number} (a); CREATE INDEX i{number} ON t{number} (a)"
            )
            commits.append(database.lsn)
        for lsn in range(commits[0], commits[-1] + 1):
            async with database.at(lsn) as then:
                assert then.lsn == max(each for each in commits if each <= lsn)
                tables = await then.query("SELECT count(*) FROM sqlite_schema").value()
                assert tables == 2 * (1 + commits.index(then.lsn))
        for lsn in range(commits[0]):
            with pytest.raises(NoSuchCommit):
                async with database.at(lsn):
                    pass
        with pytest.raises(ReadPointAboveVdl):
            async with database.at(commits[-1] + 1):
                pass

    run_database(main, engine=KEEPING)


def test_a_time_is_rounded_down_to_a_commit() -> None:
    async def main(database: Database, world: World) -> None:
        with pytest.raises(NoSuchCommit):
            async with database.at(timedelta()):
                pass
        await table(database)
        for number in range(20):
            await trio.sleep(2)
            await database.execute("INSERT INTO t VALUES (?, datetime('now'))", (number,))
        await trio.sleep(2)
        history = await database.history(100)
        assert len(history) == 21
        for number, commit in enumerate(reversed(history)):
            for when in (
                commit.time,
                commit.time + timedelta(seconds=1.9),
                commit.time.isoformat(),
            ):
                async with database.at(when) as then:
                    assert then.commit == commit
                    assert await then.query("SELECT count(*) FROM t").value() == number
        async with database.at("5 seconds ago") as then:
            assert await then.query("SELECT max(a) FROM t").value() == 17
        with pytest.raises(NoSuchCommit):
            async with database.at(history[-1].time - timedelta(microseconds=1)):
                pass
        made = await database.query("SELECT b FROM t WHERE a = 7").value()
        assert made == history[-9].time.strftime("%Y-%m-%d %H:%M:%S")

    run_database(main, engine=KEEPING)


def test_what_is_to_come_or_no_lsn_is_refused_wherever_a_moment_is_named(tmp_path: Path) -> None:
    async def main(database: Database, world: World) -> None:
        await table(database)
        (newest,) = await database.history()
        calls: list[Callable[[Any], Awaitable[object]]] = [
            lambda when: database.at(when).__aenter__(),
            lambda when: database.export(tmp_path / "new.db", at=when),
            database.backtrack,
        ]
        for call in calls:
            for when in (timedelta(seconds=-1), newest.time + timedelta(days=9)):
                with pytest.raises(
                    Invalid, match=f"is to come.* newest commit is LSN {newest.lsn},"
                ):
                    await call(when)
            for wrong in (-1, 1 << 63, 10**5000):
                with pytest.raises(InvalidLsn, match="expected an integer from 0 to"):
                    await call(wrong)
        with pytest.raises(Invalid, match="call is None: expected a function"):
            await database.run(None)  # type: ignore[arg-type]
        assert await database.history() == [newest]

    run_database(main)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_longer_kept_is_refused() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database)
        (first,) = await database.history()
        for _ in range(100):
            await trio.sleep(1)
            await database.execute("INSERT INTO t (b) VALUES (1)")
        await trio.sleep(1)
        for when in (first.lsn, first.time):
            with pytest.raises(ReadPointBelowFloor):
                async with database.at(when):
                    pass
        history = await database.history(1_000)
        assert 5 < len(history) < 30
        async with database.at(history[-1].time) as then:
            assert then.commit == history[-1]

    run_database(main, engine=EngineConfig(retention_lsns=64))


def test_history_tells_what_each_commit_changed_and_its_clock_never_goes_back() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database)
        await database.execute("INSERT INTO t (b) VALUES (zeroblob(20000))")
        clock = database._volume.clock
        database._volume.clock = lambda: clock() - 3_600 * 10**9
        await database.execute("INSERT INTO t (b) VALUES (1)")
        newest, large, made = await database.history()
        assert newest.time == large.time >= made.time
        assert (made.pages, large.pages, newest.pages) == (2, 3, 2)
        assert 0 < newest.bytes < 100
        assert await database.history(1) == [newest]
        assert await database.history(0) == []
        with pytest.raises(Invalid, match="limit is -1"):
            await database.history(-1)

    run_database(main, engine=KEEPING)


def test_backtracking_is_one_more_commit_and_can_be_undone() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database, 300)
        before = database.lsn
        await database.execute("DELETE FROM t WHERE a > 10; CREATE TABLE u (a)")
        after = database.lsn
        back = await database.backtrack(before)
        assert back.lsn == database.lsn > after
        assert await count(database) == 300
        assert await database.query("SELECT count(*) FROM sqlite_schema").value() == 1
        await database.backtrack(after)
        assert await count(database) == 11
        assert len(await database.history()) == 5
        with pytest.raises(NoSuchCommit):
            await database.backtrack(0)
        assert len(await database.history()) == 5

    run_database(main, engine=KEEPING)


def test_after_a_backtrack_nobody_takes_old_pages_or_statements_for_new_ones() -> None:
    """Its change counter and schema cookie are new: the old ones would come a second time."""

    async def main(database: Database, world: World) -> None:
        await table(database, 1)
        before = database.lsn
        await database.execute("INSERT INTO t VALUES (5, 'lost')")
        assert await database.query("SELECT b FROM t WHERE a = 5").value() == "lost"
        await database.backtrack(before)
        await database.execute("INSERT INTO t VALUES (5, 'kept')")
        assert await database.query("SELECT b FROM t WHERE a = 5").value() == "kept"
        before = database.lsn
        await database.execute("CREATE TABLE u (x, y)")
        assert await database.query("SELECT * FROM u").all() == []
        await database.backtrack(before)
        await database.execute("CREATE TABLE u (x, y, z)")
        await database.execute("INSERT INTO u VALUES (1, 2, 3)")
        assert await database.query("SELECT * FROM u").all() == [(1, 2, 3)]

    run_database(main, engine=KEEPING)


def test_a_backtrack_that_fails_leaves_the_database_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(database: Database, _: World) -> None:
        await table(database)
        (small,) = await database.history(1)
        await database.execute(f"INSERT INTO t (b) {ENDLESS} SELECT zeroblob(3000) FROM n LIMIT 60")
        pages = database._writer.file.pages()

        async def refused(*_: object) -> None:
            raise Unavailable("no")

        with monkeypatch.context() as patched:
            patched.setattr(Volume, "submit", refused)
            with pytest.raises(Unavailable):
                await database.backtrack(small.lsn)
        assert database._writer.file.pages() == pages
        await database.execute("UPDATE t SET b = 1")
        assert await count(database) == 60

    run_database(main, engine=KEEPING)


def test_a_commit_at_the_floor_is_still_part_of_history() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database, 3)
        await trio.sleep(1)
        (newest,) = await database.history()
        assert newest.lsn == world.engine.statistics().floor

    run_database(main, engine=EngineConfig(retention_lsns=0))


def test_backtracking_takes_along_what_is_not_durable_yet() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database, 3)
        lsn = database.lsn
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.execute, "DELETE FROM t; CREATE TABLE u (a)")
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            commit = database._writer.file.last_commit
            assert commit is not None
            assert commit.lsn > world.engine.vdl
            await database.backtrack(lsn)
        assert await count(database) == 3
        assert await database.query("SELECT count(*) FROM sqlite_schema").value() == 1

    run_database(main, engine=KEEPING)


def test_pages_of_old_versions_are_asked_for_once() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database)
        await database.execute(
            f"INSERT INTO t (b) {ENDLESS} SELECT hex(zeroblob(900)) FROM n LIMIT 99"
        )
        lsn = database.lsn
        await database.execute("UPDATE t SET b = hex(zeroblob(901))")
        await database.query("SELECT sum(length(b)) FROM t").value()
        async with database.at(lsn) as then:
            took_s, under_way = [], []
            for _ in range(2):
                started = trio.current_time()
                rows = then.query("SELECT length(t.b) FROM t, t AS u, t AS v")
                assert await anext(rows) == (1_800,)
                under_way.append(rows)  # so the next one has a new connection
                await then.query("SELECT sum(length(b)) FROM t").value()
                took_s.append(trio.current_time() - started)
        assert took_s[0] > 0.0001
        assert took_s[1] == 0

    run_database(main, engine=KEEPING)


def test_vacuum_is_one_commit_and_makes_the_database_smaller() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database)
        for _ in range(30):
            await database.execute("INSERT INTO t (b) VALUES (zeroblob(9000))")
        await database.execute("DELETE FROM t WHERE a > 3")
        pages, commits = database._writer.file.pages(), len(await database.history(99))
        await database.execute("-- smaller\n VACUUM;")
        assert database._writer.file.pages() < pages / 4
        assert len(await database.history(99)) == commits + 1
        for _ in range(30):
            await database.execute("INSERT INTO t (b) VALUES (zeroblob(9000))")
        assert await count(database) == 33

    run_database(main)


# ---- repeatable ----------------------------------------------------------------------------------


def test_time_and_chance_come_from_the_volume() -> None:
    async def main(database: Database, world: World) -> tuple[object, ...]:
        text = "SELECT datetime('now'), random(), hex(randomblob(4))"
        row = await database.query(text).first()
        assert row is not None
        assert row[0] == "1970-01-01 00:00:00"
        drawn = (await database.execute("SELECT random()")).rows
        await database.execute("CREATE TABLE t (a DEFAULT (random()), b)")
        await database.execute("INSERT INTO t (b) VALUES (1)")
        assert -(2**63) <= row[1] < 2**63
        return (*row, *drawn, await database.query("SELECT a FROM t").value())

    assert run_database(main, seed=3) == run_database(main, seed=3) != run_database(main, seed=4)


def test_a_seed_gives_the_same_run_twice() -> None:
    """Every step of writers and segments, while sessions get in each other's way."""

    def trace_of(seed: int) -> list[str]:
        steps: list[str] = []

        async def main(database: Database, world: World) -> None:
            await table(database, 30)

            async def session(number: int) -> None:
                for turn in range(4):
                    async with database.transaction() as transaction:
                        await transaction.execute(
                            "UPDATE t SET b = random() WHERE a % 9 = ?", (number,)
                        )
                    await database.execute("INSERT INTO t (b) VALUES (datetime('now'))")
                    with trio.move_on_after(0.0004 * turn):
                        await database.query("SELECT * FROM t ORDER BY b").all()
                        await database.execute("DELETE FROM t WHERE a = ?", (number,))

            async with trio.open_nursery() as nursery:
                for number in range(6):
                    nursery.start_soon(session, number)

        def note(name: str, event: object) -> None:
            steps.append(f"{name} {event!r}")

        run_database(main, seed=seed, trace=note)
        return steps

    first = trace_of(5)
    assert len(first) > 500
    assert first == trace_of(5)
    assert first != trace_of(6)


# ---- opening and ending --------------------------------------------------------------------------


@pytest.mark.parametrize("page_id", [0, 1, 7])
def test_a_volume_with_other_pages_is_refused_and_not_changed(page_id: int) -> None:
    async def main(world: World) -> None:
        await world.engine.put(page_id, 0, b"something else")
        before = world.engine.statistics().last_allocated_lsn
        with pytest.raises(NotADatabase, match=f"the first is {page_id}"):
            async with open_database(world.cluster):
                pass
        assert world.engine.statistics().last_allocated_lsn == before

    run_world(main)


def test_a_database_is_open_once_at_a_time_and_not_after_its_block() -> None:
    async def main(world: World) -> None:
        for _ in range(2):
            async with open_database(world.cluster) as database:
                with pytest.raises(Invalid, match="open already"):
                    async with open_database(world.cluster):
                        pass
                rows = database.query("SELECT 1 UNION SELECT 2")
                await anext(rows)
        for call in (database.execute("SELECT 1"), database.history()):
            with pytest.raises(Closed):
                await call
        with pytest.raises(Closed):
            database.query("SELECT 1")
        core = world.engine.core
        assert core is not None
        assert core.reading.oldest_read_point is None

    run_world(main)


def test_what_is_under_way_when_a_database_is_closed_ends_as_closed() -> None:
    async def main(world: World) -> None:
        database = await Database.open(world.cluster)
        await table(database, 3)
        rows = database.query("SELECT a FROM t")

        async def beneath() -> None:
            async with database.transaction() as transaction:
                await transaction.execute("DELETE FROM t")
                database.close()
                with pytest.raises(Closed, match="has been closed"):
                    await transaction.execute("DELETE FROM t")

        with pytest.raises(Closed, match="has been closed"):
            await beneath()
        with pytest.raises(Closed, match="of a database that has ended"):
            await rows.all()
        async with open_database(world.cluster) as again:
            assert await count(again) == 3
            await check_whole(again)

    run_world(main)


def test_who_opens_a_database_anew_waits_for_what_its_predecessor_has_committed() -> None:
    async def main(world: World) -> None:
        database = await Database.open(world.cluster)
        await table(database)
        vdl = world.engine.vdl
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.execute, "INSERT INTO t VALUES (1, 1)")
            while world.engine.statistics().last_allocated_lsn == vdl:
                await trio.lowlevel.checkpoint()
            database.close()
            assert world.engine.vdl == vdl
            async with open_database(world.cluster) as again:
                assert world.engine.vdl > vdl
                assert await count(again) == 1

    run_world(main)


def test_what_is_given_must_be_a_cluster() -> None:
    async def main() -> None:
        with pytest.raises(Invalid, match="expected what open_cluster gives"):
            async with open_database("volume"):  # type: ignore[arg-type]
                pass

    trio.run(main)


async def test_a_database_on_files_is_there_again_and_can_be_read_alone(tmp_path: Path) -> None:
    async with aurora.open_cluster(tmp_path / "v") as cluster, open_database(cluster) as database:
        await table(database, 50)
        lsn = database.lsn
    async with aurora.open_cluster(tmp_path / "v") as cluster, open_database(cluster) as database:
        assert await count(database) == 50
        await database.execute("DELETE FROM t WHERE a > 9")
        await check_whole(database)
    async with (
        aurora.open_cluster(tmp_path / "v", read_only=True) as cluster,
        open_database(cluster) as database,
    ):
        assert await count(database) == 10
        async with database.at(lsn) as then:
            assert await then.query("SELECT count(*) FROM t").value() == 50
        for call in (database.execute("DELETE FROM t"), database.backtrack(lsn)):
            with pytest.raises(ReadOnly):
                await call
        with pytest.raises(ReadOnly):
            async with database.transaction():
                pass


@pytest.mark.parametrize("missing", ["apsw", "greenlet"])
def test_without_the_extra_everything_else_works(missing: str) -> None:
    program = f"""
import sys
sys.modules[{missing!r}] = None
import aurora, trio

async def main():
    async with aurora.open_cluster(None) as cluster:
        await cluster.engine.put(1, 0, b"fine")
        try:
            async with aurora.open_database(cluster):
                pass
        except aurora.ExtraMissing as error:
            print(error)

trio.run(main)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert f"{missing} is not installed" in done.stdout
    assert "extra `sql`" in done.stdout


def test_importing_the_project_loads_neither_sqlite_nor_greenlets() -> None:
    program = "import sys, aurora; sys.exit('apsw' in sys.modules or 'greenlet' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# ---- the end of the writer -----------------------------------------------------------------------


def test_what_builds_on_a_commit_that_is_lost_is_lost_with_it() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database)
        world.crash("A B C")
        errors: list[AuroraError] = []
        seen: list[object] = []

        async def insert() -> None:
            try:
                await database.execute("INSERT INTO t (b) VALUES (1)")
            except AuroraError as error:
                errors.append(error)

        async def look() -> None:
            try:
                async with database.transaction() as transaction:
                    seen.append(await transaction.query("SELECT count(*) FROM t").value())
            except AuroraError as error:
                errors.append(error)

        async def fail() -> None:
            try:
                await database.execute("INSERT INTO t VALUES (1, 1)")  # there, but not durable
            except AuroraError as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for call in (insert, insert, look, fail):
                nursery.start_soon(call)
                await trio.sleep(0.1)
            assert seen == [2], "the next transaction builds on a commit that is not durable"
            assert errors == [], "nobody is told before it is"
            assert await count(database) == 0, "readers do not see it"
            world.cluster.crash_writer()
        assert [type(error) for error in errors] == [Closed] * 4
        for later in (database.execute("SELECT 1"), database.history(), count(database)):
            with pytest.raises(DatabaseEnded, match="open the database anew"):
                await later
        await world.restart("A B C")
        await world.cluster.open_writer()
        async with open_database(world.cluster) as again:
            assert await count(again) in (0, 1, 2)
            await again.execute("INSERT INTO t (b) VALUES (1)")
            await check_whole(again)

    run_database(main)


def test_a_writer_that_ends_within_a_transaction_ends_it() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database, 3)

        async def transact() -> None:
            async with database.transaction() as transaction:
                await transaction.execute("DELETE FROM t")
                world.cluster.crash_writer()
                await trio.sleep(0.1)
                with pytest.raises(DatabaseEnded):
                    await transaction.execute("INSERT INTO t VALUES (1, 1)")

        with pytest.raises(DatabaseEnded):
            await transact()
        assert not database._writer.turns.taken
        await world.cluster.open_writer()
        async with open_database(world.cluster) as again:
            assert await count(again) == 3

    run_database(main)


def test_a_block_that_raises_tells_of_what_it_has_read_once_that_is_durable() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database)
        told: list[object] = []

        async def look() -> None:
            try:
                async with database.transaction() as transaction:
                    seen = await transaction.query("SELECT count(*) FROM t").value()
                    raise ZeroDivisionError
            except ZeroDivisionError:
                told.append(seen)

        world.crash("A0, B0, C0")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.execute, "INSERT INTO t VALUES (1, 1)")
            await trio.sleep(0.1)
            nursery.start_soon(look)
            await trio.sleep(1)
            assert told == []
            await world.restart("A0, B0, C0")
        assert told == [1]

    run_database(main)


def test_early_release_lets_many_commits_share_a_round() -> None:
    async def main(database: Database, world: World) -> None:
        await table(database)
        started = trio.current_time()
        await database.execute("INSERT INTO t (b) VALUES (0)")
        alone_s = trio.current_time() - started
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(database.execute, "INSERT INTO t (b) VALUES (?)", (number,))
        assert trio.current_time() - started < 20 * alone_s

    run_database(main)


# ---- files ---------------------------------------------------------------------------------------


def test_a_write_that_is_no_whole_page_is_refused() -> None:
    """A backup with another page size slipped in like this."""

    async def main(world: World) -> None:
        file = WriterFile(Volume(world.cluster))
        for data, offset in ((bytes(4_096), 0), (bytes(8_192), 4_096)):
            with pytest.raises(SqlCorrupt, match="expected 8192"):
                file.xWrite(data, offset)
        await run(file.put, 1, b"SQLite format 3\0\x10\0\1\1".ljust(8_192, b"\0"))
        with pytest.raises(SqlCorrupt, match="pages of 4096 bytes"):
            await run(file.commit)
        assert file.last_commit is None
        assert world.engine.statistics().last_allocated_lsn == 0

    run_world(main)


def test_what_is_read_ahead_fails_nothing_where_another_group_gives_no_answer() -> None:
    """Neighbouring pages belong to different groups, and a lookup may need those of one alone."""

    async def main(world: World) -> None:
        lsn = await world.engine.put_many(
            [(page_id, 0, b"%d" % page_id) for page_id in range(1, 12)]
        )
        file = FixedFile(Volume(world.cluster), lsn)
        file._pages = 11
        with file.volume.held(lsn):
            assert (await run(file.page, 2)).startswith(b"2\0")
            assert list(file._ahead) == [3]
            world.crash("A1, B1, C1, D1, E1, F1")
            assert (await run(file.page, 4)).startswith(b"4\0"), "and 5 in vain"
            with pytest.raises(Unavailable):
                await run(file.page, 5)

    engine = EngineConfig(read_timeout_s=1.0, buffer_pool_pages=1, old_versions=0)
    run_world(main, pg_count=2, engine=engine)


def test_the_newest_commit_can_be_read_though_the_floor_is_above_it() -> None:
    """As behind an import that was given up: it has left pages that no commit knows."""

    async def main(database: Database, world: World) -> None:
        await database.execute("CREATE TABLE t(a)")
        last = await database.execute("INSERT INTO t VALUES(1)")
        for at in range(20):
            await world.engine.put(5_000 + at, 0, b"x")
        await trio.sleep(1.0)
        (commit,) = await database.history()
        assert last.lsn is not None
        assert commit.lsn >= world.engine.statistics().floor > last.lsn
        for moment in (commit.lsn, timedelta(0), commit.time):
            async with database.at(moment) as then:
                assert await then.query("SELECT a FROM t").all() == [(1,)]
        await database.execute("INSERT INTO t VALUES(2)")
        for moment in (last.lsn, commit.time):  # the floor may be amid the newer one
            with pytest.raises(ReadPointBelowFloor):
                async with database.at(moment):
                    pass

    run_database(main, engine=EngineConfig(retention_lsns=4))
