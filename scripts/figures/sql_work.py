"""What SQL figures have done: by sessions of ours, and by SQLite on a plain file.

The plain file is in WAL mode with synchronous=FULL, so that both sync each commit. Several sessions
of it are as many threads with a connection each, or one connection that does all the work: the
faster of the two counts.

The mix is that of sysbench's oltp_read_write: ten point selects, four ranges of a hundred rows, two
updates, one delete and one insert.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final, NamedTuple, TypeAlias

import trio

import aurora
from aurora.sqlite.database import Database
from aurora.sqlite.transaction import Statements

Statement: TypeAlias = tuple[str, tuple[object, ...]]
Draw: TypeAlias = Callable[[Random], list[Statement]]
"""The statements of one transaction."""
Run: TypeAlias = Callable[[Database, list[Statement]], Awaitable[None]]

ROWS: Final = 10_000
RANGE: Final = 100
SCHEMA: Final = (
    "CREATE TABLE entry(id INTEGER PRIMARY KEY, session INTEGER, text TEXT)",
    "CREATE TABLE mix(id INTEGER PRIMARY KEY, k INT NOT NULL, c TEXT NOT NULL, pad TEXT NOT NULL)",
    "CREATE INDEX mix_k ON mix(k)",
)
FILL: Final = "INSERT INTO mix VALUES(?, ?, ?, ?)"
POINT: Final = "SELECT c FROM mix WHERE id = ?"
_RANGES: Final = (
    "SELECT c FROM mix WHERE id BETWEEN ? AND ?",
    "SELECT sum(k) FROM mix WHERE id BETWEEN ? AND ?",
    "SELECT c FROM mix WHERE id BETWEEN ? AND ? ORDER BY c",
    "SELECT DISTINCT c FROM mix WHERE id BETWEEN ? AND ? ORDER BY c",
)
_C: Final = "c" * 119
_PAD: Final = "p" * 59


class Rate(NamedTuple):
    """How fast something was done."""

    per_s: float
    cpu_us: float
    """Computing for each transaction, of the whole process: of the system, too."""
    how: str = ""


def row(number: int) -> tuple[object, ...]:
    """A row of the table `mix`."""
    return number, number * 7_919 % ROWS, f"{number:0119}", _PAD


def insert(random: Random) -> list[Statement]:
    """One row of about a hundred bytes."""
    text = f"{random.randrange(1 << 30):0100}"
    return [("INSERT INTO entry(session, text) VALUES(?, ?)", (random.randrange(64), text))]


def mix(random: Random) -> list[Statement]:
    """The mix, on one table."""
    draw = random.randrange
    statements: list[Statement] = [(POINT, (draw(ROWS),)) for _ in range(10)]
    for text in _RANGES:
        start = draw(ROWS - RANGE)
        statements.append((text, (start, start + RANGE - 1)))
    again = draw(ROWS)
    text = f"{draw(1 << 60):0119}"
    statements += [
        ("UPDATE mix SET k = k + 1 WHERE id = ?", (draw(ROWS),)),
        ("UPDATE mix SET c = ? WHERE id = ?", (text, draw(ROWS))),
        ("DELETE FROM mix WHERE id = ?", (again,)),
        (FILL, (again, draw(ROWS), text, _PAD)),
    ]
    return statements


class _Watch:
    """Time since it was made, on the wall and of the process."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def rate(self, count: int, how: str = "") -> Rate:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Rate(count / wall, 1e6 * cpu / count, how)


# ---- ours ----------------------------------------------------------------------------------------


async def fill(db: Database) -> None:
    """Make the tables."""
    await db.execute("; ".join(SCHEMA))
    await db.execute_many(FILL, map(row, range(ROWS)))


async def transact(db: Database, statements: list[Statement]) -> None:
    """Run a transaction in the fastest way there is."""

    def call(running: Statements) -> None:
        for statement, bindings in statements:
            running.execute(statement, bindings)

    if len(statements) == 1:
        await db.execute(*statements[0])
    else:
        await db.run(call)


async def in_block(db: Database, statements: list[Statement]) -> None:
    """Run a transaction as a block, whose statements take a turn of the scheduler each."""
    async with db.transaction() as tx:
        for statement, bindings in statements:
            await tx.execute(statement, bindings)


async def sessions(db: Database, draw: Draw, count: int, each: int, run: Run = transact) -> Rate:
    """Have sessions run transactions side by side."""

    async def session(number: int) -> None:
        random = Random(number)
        for _ in range(each):
            await run(db, draw(random))

    watch = _Watch()
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(session, number)
    return watch.rate(count * each)


async def ours(directory: Path, draw: Draw, count: int, each: int, run: Run = transact) -> Rate:
    """The same in a new database."""
    async with aurora.open_cluster(directory) as cluster, aurora.open_database(cluster) as db:
        await fill(db)
        return await sessions(db, draw, count, each, run)


# ---- SQLite on a plain file ----------------------------------------------------------------------


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a plain file, in WAL mode, that syncs each commit."""
    connection = sqlite3.connect(
        path, timeout=600, isolation_level=None, check_same_thread=False, cached_statements=128
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def plain_fill(connection: sqlite3.Connection) -> None:
    """As `fill`."""
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute("BEGIN")
    connection.executemany(FILL, map(row, range(ROWS)))
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def plain_transact(connection: sqlite3.Connection, statements: list[Statement]) -> None:
    """Run a transaction."""
    if len(statements) > 1:
        connection.execute("BEGIN IMMEDIATE")
    for statement, bindings in statements:
        connection.execute(statement, bindings).fetchall()
    if len(statements) > 1:
        connection.execute("COMMIT")


def _one_connection(path: Path, draw: Draw, count: int) -> Rate:
    with closing(connect(path)) as connection:
        plain_fill(connection)
        random, watch = Random(0), _Watch()
        for _ in range(count):
            plain_transact(connection, draw(random))
        return watch.rate(count, "one connection")


def _threads(path: Path, draw: Draw, count: int, each: int) -> Rate:
    with closing(connect(path)) as connection:
        plain_fill(connection)
    connections = [connect(path) for _ in range(count)]

    def session(connection: sqlite3.Connection, random: Random) -> None:
        for _ in range(each):
            plain_transact(connection, draw(random))

    threads = [
        threading.Thread(target=session, args=(connection, Random(number)))
        for number, connection in enumerate(connections)
    ]
    watch = _Watch()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = watch.rate(count * each, f"{count} threads")
    for connection in connections:
        connection.close()
    return rate


def plain(paths: Iterator[Path], draw: Draw, count: int, each: int) -> Rate:
    """The faster of one connection and one for each session."""
    one = _one_connection(next(paths), draw, count * each)
    if count == 1:
        return one
    return max(one, _threads(next(paths), draw, count, each))
