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


class _CancelAtStep(trio.abc.Instrument):
    """Cancels a scope as a task is about to be run for the n-th time."""

    def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope, step: int) -> None:
        self._task, self._scope, self._left = task, scope, step

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if not self._left:
                self._scope.cancel()


async def cancelled_at(step: int, call: Callable[[], Awaitable[object]]) -> bool:
    """Make the call, cancelled once it has paused ``step`` times; whether it came that far."""
    with trio.CancelScope() as scope:
        instrument = _CancelAtStep(trio.lowlevel.current_task(), scope, step)
        trio.lowlevel.add_instrument(instrument)
        try:
            await call()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancel_called
