"""What ends, or changes, beneath those who use a database: its encoding, its writer, itself."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import aurora
from aurora.sqlite.database import Database
from aurora.sqlite.opening import open_database
from segments.protocol.errors import (
    AuroraError,
    Closed,
    DatabaseEnded,
    OutsideTrio,
    SqlConstraint,
    SqlInvalid,
)
from tests.database_rig import check_nothing_held, check_whole, run_database
from tests.worlds import World, run_world

LONG = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 200000)"
NO_TEXT = "CAST(x'ff' AS TEXT)"


# ---- another encoding ----------------------------------------------------------------------------


@pytest.fixture
def utf16(tmp_path: Path) -> Path:
    path = tmp_path / "utf16.db"
    with sqlite3.connect(path) as plain:
        plain.executescript(
            "PRAGMA encoding='UTF-16le'; CREATE TABLE t(a); INSERT INTO t VALUES('é')"
        )
    plain.close()
    return path


def test_connections_follow_where_the_encoding_changes(utf16: Path) -> None:
    async def main(database: Database, world: World) -> None:
        old = await database.execute("CREATE TABLE t(a)")
        assert old.lsn is not None
        await database.execute("PRAGMA foreign_keys=ON")
        await database.execute("INSERT INTO t VALUES('8')")
        reading = [database.query("SELECT a FROM t") for _ in range(2)]
        assert [await each.value() for each in reading] == ["8", "8"]
        await database.execute("DROP TABLE t")
        new = await database.import_file(utf16)
        for text in ("16", "ü"):
            assert await database.query("SELECT a FROM t ORDER BY rowid").value() == "é"
            await database.execute("INSERT INTO t VALUES(?)", (text,))
        assert await database.query("PRAGMA encoding").value() == "UTF-16le"
        assert (await database.execute("PRAGMA foreign_keys")).rows == [(1,)]
        await check_whole(database)
        await database.backtrack(old.lsn)
        assert (await database.execute("PRAGMA encoding")).rows == [("UTF-8",)]
        assert await database.query("SELECT count(*) FROM t").value() == 0
        await database.execute("INSERT INTO t VALUES('ä')")
        await database.backtrack(new.lsn)
        assert await database.query("SELECT hex(a), a FROM t").all() == [("E900", "é")]

    run_database(main)


def test_readers_keep_to_what_is_durable_though_the_encoding_has_changed(utf16: Path) -> None:
    async def main(database: Database, world: World) -> None:
        await database.execute("CREATE TABLE t(a)")
        await database.execute("DROP TABLE t")
        await database.query("SELECT * FROM sqlite_schema").all()
        file = database._writer.file
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.import_file, utf16)
            while not file.encoded_at:  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.00001)
            assert database.lsn < file.encoded_at
            assert await database.query("PRAGMA encoding").value() == "UTF-8"
            assert await database.query("SELECT count(*) FROM sqlite_schema").value() == 0
        assert await database.query("SELECT a FROM t").value() == "é"

    run_database(main)


# ---- statements whose rows cannot be told --------------------------------------------------------


def test_a_statement_that_raises_is_undone_and_nothing_else_is() -> None:
    async def main(database: Database, world: World) -> None:
        await database.execute("CREATE TABLE t(a UNIQUE)")
        both = f"INSERT INTO t VALUES(7), ({NO_TEXT}) RETURNING a"
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO t VALUES(1)")
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: transaction.execute(both),
                lambda: transaction.execute(f"SAVEPOINT s; RELEASE s; {both}; SELECT 1"),
                lambda: transaction.execute_many(f"{both} || ?", [("",)]),
                lambda: transaction.query(both).all(),
                lambda: transaction.query(both).first(),
            ]
            for call in calls:
                with pytest.raises(SqlInvalid, match="no UTF-8"):
                    await call()
                assert await transaction.query("SELECT a FROM t").all() == [(1,)]
            rows = transaction.query("SELECT a FROM t UNION ALL SELECT 0")
            assert await anext(rows) == (1,)
            with pytest.raises(SqlInvalid, match="no UTF-8"):
                await transaction.execute(both)
            assert await anext(rows) == (0,)
            with pytest.raises(SqlConstraint):
                await transaction.execute("INSERT INTO t VALUES(8), (1) RETURNING a")
            got = await transaction.execute("SAVEPOINT s; INSERT INTO t VALUES(2) RETURNING a")
            assert got.rows == [(2,)]
            await transaction.execute("INSERT INTO t VALUES(3) RETURNING a; ROLLBACK TO s")
            assert await transaction.query("INSERT INTO t VALUES(4), (5) RETURNING a").value() == 4
        assert await database.query("SELECT a FROM t").all() == [(1,), (4,), (5,)]

        def caught(statements: Any) -> None:
            with pytest.raises(SqlInvalid):
                statements.execute(both)
            statements.execute("DELETE FROM t WHERE a = 4 RETURNING a")

        await database.run(caught)
        with pytest.raises(SqlInvalid):
            await database.execute(both)
        assert (await database.execute("INSERT INTO t VALUES(6) RETURNING a")).lsn == database.lsn
        assert await database.query("SELECT a FROM t").all() == [(1,), (5,), (6,)]

    run_database(main)


# ---- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends_by", ["close", "crash"])
def test_who_runs_or_waits_is_told_at_once_that_all_has_ended(ends_by: str) -> None:
    async def main(world: World) -> None:
        database = await Database.open(world.cluster)
        await database.execute("CREATE TABLE t(a)")
        ended: dict[str, type[AuroraError]] = {}

        async def see(name: str, call: Awaitable[object]) -> None:
            with pytest.raises((Closed, DatabaseEnded)) as caught:
                await call
            ended[name] = type(caught.value)

        async def block() -> None:
            async with database.transaction() as transaction:
                await transaction.execute(f"INSERT INTO t {LONG} SELECT x FROM n")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(see, "block", block())
            await trio.lowlevel.checkpoint()
            nursery.start_soon(
                see, "query", database.query(f"{LONG} SELECT count(*) FROM n AS a, n").all()
            )
            nursery.start_soon(see, "short", database.execute("INSERT INTO t VALUES(1)"))
            nursery.start_soon(see, "backtrack", database.backtrack(0))
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            assert ended == {} and database._writer.turns.waiting == 2
            with trio.fail_after(0.001):
                if ends_by == "close":
                    database.close()
                else:
                    world.cluster.crash_writer()
                while len(ended) < 4:
                    await trio.lowlevel.checkpoint()
        assert set(ended.values()) == {Closed if ends_by == "close" else DatabaseEnded}
        if ends_by == "close":
            async with open_database(world.cluster) as again:
                assert await again.query("SELECT count(*) FROM t").value() == 0
            await check_nothing_held(world)
        else:
            database.close()

    run_world(main)


def test_who_waits_behind_an_open_block_is_told_that_its_writer_has_died() -> None:
    async def main(database: Database, world: World) -> None:
        await database.execute("CREATE TABLE t(a)")
        told = trio.Event()

        async def block() -> None:
            async with database.transaction():
                await told.wait()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends, block)
            await trio.sleep(0.1)
            nursery.start_soon(ends, database.execute, "INSERT INTO t VALUES(1)")
            await trio.sleep(0.1)
            world.cluster.crash_writer()
            with trio.fail_after(0.001):
                while database._writer.turns.waiting:
                    await trio.lowlevel.checkpoint()
            told.set()

    async def ends(call: Callable[..., Awaitable[object]], *arguments: str) -> None:
        with pytest.raises(DatabaseEnded):
            await call(*arguments)

    run_database(main)


# ---- from elsewhere ------------------------------------------------------------------------------


async def test_calls_from_another_run_or_loop_are_refused_before_anything_happens() -> None:
    async with aurora.open_cluster(None) as cluster, aurora.open_database(cluster) as database:
        await database.execute("CREATE TABLE t(a)")
        async with database.snapshot() as snapshot, database.transaction() as transaction:
            rows = database.query("SELECT 1")
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: database.execute("INSERT INTO t VALUES(1)"),
                lambda: database.query("SELECT 1").all(),
                rows.first,
                lambda: snapshot.query("SELECT 1").all(),
                lambda: transaction.execute("INSERT INTO t VALUES(1)"),
                lambda: database.run(lambda tx: tx.execute("INSERT INTO t VALUES(1)")),
            ]

            async def refused() -> None:
                for call in calls:
                    with pytest.raises(OutsideTrio):
                        await call()
                with pytest.raises(OutsideTrio):
                    database.close()

            await trio.to_thread.run_sync(lambda: asyncio.run(refused()))
            await trio.to_thread.run_sync(lambda: trio.run(refused))
        assert await database.query("SELECT count(*) FROM t").value() == 0
