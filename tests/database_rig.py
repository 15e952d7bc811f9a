"""A database on a whole cluster in virtual time, and the oracle beside it: plain SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import trio

from aurora.sqlite.database import Database
from aurora.sqlite.opening import open_database
from aurora.sqlite.rows import Rows
from aurora.sqlite.snapshot import Snapshot
from tests.worlds import World, run_world

T = TypeVar("T")
NOTHING: Final[list[Any]] = []


def run_database(main: Callable[[Database, World], Awaitable[T]], **options: Any) -> T:
    """Run ``main`` on a new database; what it leaves behind is whole, and holds nothing."""

    async def whole(world: World) -> T:
        async with open_database(world.cluster) as database:
            result = await main(database, world)
            if world.cluster.engines[0].error is None:
                await check_whole(database)
        if world.cluster.engines[0].error is None:
            await check_nothing_held(world)
        return result

    return run_world(whole, **options)


async def check_whole(database: Database) -> None:
    """SQLite finds nothing wrong, neither at the head nor at the VDL.

    A connection that has read an FTS5 table before may find something that is not there: there,
    this check looks at what FTS5 has cached. So it is a new one, at a snapshot.
    """
    assert (await database.execute("PRAGMA integrity_check")).rows == [("ok",)]
    async with database.snapshot() as snapshot:
        assert await snapshot.query("PRAGMA integrity_check").all() == [("ok",)]


async def check_nothing_held(world: World) -> None:
    """No read point is kept, no page pinned, and no call waits."""
    engine = world.engine
    await trio.sleep(0.1)  # the next tick sees that nothing waits
    core = engine.core
    assert core is not None
    assert core.reading.oldest_read_point is None
    assert engine.statistics().pool.pinned_pages == 0
    assert engine.waits() == []


def sync_tables(connection: sqlite3.Connection) -> list[str]:
    """All tables of the oracle that hold rows of their own."""
    names = connection.execute(TABLES).fetchall()
    return [name for (name,) in names]


TABLES: Final = (
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_stat%' "
    "AND name NOT LIKE 'words\\_%' ESCAPE '\\' ORDER BY name"
)
"""Statistics, and how the index of words is stored, differ between versions of SQLite."""


def contents(connection: sqlite3.Connection) -> dict[str, list[Any]]:
    """Every row of every table of the oracle."""
    return {
        name: sorted(connection.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr)
        for name in sync_tables(connection)
    }


async def contents_of(source: Database | Snapshot) -> dict[str, list[Any]]:
    """Every row of every table of a database, or of what it was."""
    names = [name for (name,) in await source.query(TABLES).all()]
    rows: dict[str, Rows] = {name: source.query(f'SELECT * FROM "{name}"') for name in names}
    return {name: sorted(await each.all(), key=repr) for name, each in rows.items()}
