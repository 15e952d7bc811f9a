"""Random statements on a database and on plain SQLite: the same answers, now and of every commit.

What the engine and SQLite keep of pages is little, so that transactions spill, come in many parts,
and meet the end of what is cached in the middle of everything.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple

from aurora.config import EngineConfig
from aurora.sqlite.database import Database
from aurora.sqlite.transaction import Transaction
from segments.protocol.errors import SqlConstraint, SqlError, TransactionEnded
from tests.database_rig import check_whole, contents, contents_of, run_database
from tests.worlds import World

SCHEMA: Final = (
    "CREATE TABLE plain (id INTEGER PRIMARY KEY, name TEXT UNIQUE, size CHECK (size < 90), body)",
    "CREATE TABLE pairs (left TEXT, right INTEGER, PRIMARY KEY (left, right)) WITHOUT ROWID",
    "CREATE TABLE told (id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT)",
    """CREATE TRIGGER tell AFTER DELETE ON plain BEGIN
        INSERT INTO told (what) VALUES (old.name);
        DELETE FROM pairs WHERE left = old.name;
    END""",
    "CREATE VIRTUAL TABLE words USING fts5 (title, text)",
    "CREATE VIRTUAL TABLE boxes USING rtree (id, left, right)",
)
QUERIES: Final = (
    "SELECT count(*), total(size), max(length(body)) FROM plain",
    "SELECT name, size FROM plain WHERE size > 30 ORDER BY name LIMIT 9",
    "SELECT left, sum(right) FROM pairs GROUP BY left ORDER BY left",
    "SELECT title FROM words WHERE words MATCH 'red OR blue' ORDER BY rowid",
    "SELECT id FROM boxes WHERE left > 10 AND right < 60 ORDER BY id",
    "SELECT p.name, t.what FROM plain p LEFT JOIN told t ON t.id = p.id ORDER BY p.id, t.id",
)
CONFLICTS: Final = ("", "OR ABORT ", "OR FAIL ", "OR IGNORE ", "OR REPLACE ", "OR ROLLBACK ")


class Statement(NamedTuple):
    text: str
    values: tuple[Any, ...] = ()


class Drawn:
    """Statements, drawn from a seed."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.indexes = 0

    def name(self) -> str:
        return f"n{self.random.randrange(40)}"

    def body(self) -> bytes | str:
        """Now and then longer than a page, or several."""
        size = self.random.choice((3, 30, 300, 3_000, 9_000, 40_000))
        return self.random.randbytes(4).hex() * (size // 8)

    def change(self) -> Statement:
        kinds: list[Callable[[], Statement]] = [
            self._insert, self._insert, self._insert_many, self._update, self._delete, self._pair,
            self._word, self._box, self._index, self._bulk,
        ]  # fmt: skip
        return self.random.choice(kinds)()

    def _insert(self) -> Statement:
        text = f"INSERT {self.random.choice(CONFLICTS)}INTO plain (name, size, body) VALUES (?,?,?)"
        return Statement(text, (self.name(), self.random.randrange(99), self.body()))

    def _insert_many(self) -> Statement:
        """Of which one in the middle may fail."""
        count = self.random.randrange(2, 60)
        values = ", ".join(
            f"('m{self.random.randrange(90)}', {self.random.randrange(93)})" for _ in range(count)
        )
        conflict = self.random.choice(CONFLICTS)
        return Statement(f"INSERT {conflict}INTO plain (name, size) VALUES {values}")

    def _bulk(self) -> Statement:
        """More pages than the engine takes in one part, or keeps."""
        if self.random.random() < 0.7:
            return self._insert()
        rows, size = self.random.randrange(20, 150), self.random.choice((100, 2_000, 5_000))
        text = (
            "INSERT OR IGNORE INTO plain (name, size, body) "
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?) "
            "SELECT 'b' || (i * 7919 % 500), i % 89, ? || i FROM n"
        )
        return Statement(text, (rows, self.random.randbytes(4).hex() * (size // 8)))

    def _update(self) -> Statement:
        text = f"UPDATE {self.random.choice(CONFLICTS)}plain SET size = size + ?, body = ?"
        where = self.random.choice((" WHERE id % 7 = 3", " WHERE name > 'n3'", ""))
        return Statement(text + where, (self.random.randrange(-9, 9), self.body()[:3_000]))

    def _delete(self) -> Statement:
        modulus = self.random.choice((2, 5, 11))
        return Statement("DELETE FROM plain WHERE id % ? = 1", (modulus,))

    def _pair(self) -> Statement:
        text = f"INSERT {self.random.choice(CONFLICTS)}INTO pairs VALUES (?, ?)"
        return Statement(text, (self.name(), self.random.randrange(9)))

    def _word(self) -> Statement:
        if self.random.random() < 0.3:
            return Statement("DELETE FROM words WHERE rowid % 5 = ?", (self.random.randrange(5),))
        words = " ".join(self.random.choice(("red", "blue", "green", "old")) for _ in range(50))
        return Statement("INSERT INTO words VALUES (?, ?)", (self.name(), words))

    def _box(self) -> Statement:
        left = self.random.randrange(60)
        box = (self.random.randrange(200), left, left + self.random.randrange(-1, 30))
        return Statement("INSERT OR REPLACE INTO boxes VALUES (?, ?, ?)", box)

    def _index(self) -> Statement:
        if self.random.random() < 0.7:
            return self._insert()
        name = f"i{self.random.randrange(3)}"
        return self.random.choice(
            (Statement(f"CREATE INDEX {name} ON plain (size, name)"),
             Statement(f"DROP INDEX {name}"),
             Statement("REINDEX"), Statement("ANALYZE"))
        )  # fmt: skip


class Differ:
    """A database and its oracle, told the same."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database = database
        self.random = Random(seed)
        self.drawn = Drawn(self.random)
        self.oracle = sqlite3.connect(":memory:", isolation_level=None)
        self.commits: dict[int, dict[str, list[Any]]] = {}
        self.failures = 0

    def expected(self, statement: Statement) -> list[Any] | type[Exception]:
        try:
            return self.oracle.execute(*statement).fetchall()
        except sqlite3.Error as error:
            self.failures += 1
            return type(error)

    async def play(self, turns: int) -> None:
        for statement in SCHEMA:
            self.oracle.execute(statement)
            await self.database.execute(statement)
        await self.database.execute("PRAGMA cache_size = 5")
        for _ in range(turns):
            await self.turn()
            query = Statement(self.random.choice(QUERIES))
            assert await self.database.query(query.text).all() == self.expected(query)
        self.remember()
        assert await contents_of(self.database) == contents(self.oracle)

    def remember(self) -> None:
        self.commits[self.database.lsn] = contents(self.oracle)

    async def turn(self) -> None:
        kind = self.random.random()
        if kind < 0.35:
            await self.compared(self.drawn.change(), self.database)
        elif kind < 0.38:
            await self.compared(Statement("VACUUM"), self.database)
        elif kind < 0.45:
            await self.look_back()
        else:
            await self.transaction()
        if self.random.random() < 0.3:
            self.remember()

    async def compared(self, statement: Statement, where: Database | Transaction) -> None:
        """Run one statement; whether it fails, and what it returns, is what plain SQLite does."""
        expected = self.expected(statement)
        try:
            outcome = await where.execute(*statement)
        except SqlConstraint:
            found: object = sqlite3.IntegrityError
        except SqlError:
            found = sqlite3.OperationalError
        else:
            found = outcome.rows
        assert found == expected, statement

    async def transaction(self) -> None:
        """A few statements with savepoints among them, committed or given up."""
        self.oracle.execute("BEGIN IMMEDIATE")
        open_savepoints: list[str] = []
        gives_up = self.random.random() < 0.3
        try:
            async with self.database.transaction() as transaction:
                for number in range(self.random.randrange(1, 9)):
                    statement = self._savepoint(open_savepoints, number) or self.drawn.change()
                    await self.compared(statement, transaction)
                    if not self.oracle.in_transaction:
                        break  # ON CONFLICT ROLLBACK
                    query = Statement(self.random.choice(QUERIES))
                    assert await transaction.query(query.text).all() == self.expected(query)
                if gives_up and self.oracle.in_transaction:
                    raise Given
        except Given:
            self.oracle.execute("ROLLBACK")
        except TransactionEnded:
            assert not self.oracle.in_transaction
        else:
            assert self.oracle.in_transaction
            self.oracle.execute("COMMIT")

    def _savepoint(self, savepoints: list[str], number: int) -> Statement | None:
        kind = self.random.random()
        if kind < 0.2:
            savepoints.append(f"s{number}")
            return Statement(f"SAVEPOINT s{number}")
        if kind < 0.35 and savepoints:
            at = self.random.randrange(len(savepoints))
            name, verb = savepoints[at], self.random.choice(("ROLLBACK TO", "RELEASE"))
            del savepoints[at + (verb == "ROLLBACK TO") :]
            return Statement(f"{verb} {name}")
        return None

    async def look_back(self) -> None:
        """What the database was at some commit is what plain SQLite was then."""
        if self.commits:
            lsn = self.random.choice(list(self.commits))
            async with self.database.at(lsn) as then:
                assert await contents_of(then) == self.commits[lsn]
            if self.random.random() < 0.2:
                await self.backtrack(lsn)

    async def backtrack(self, lsn: int) -> None:
        """Go back, look, and undo it: plain SQLite cannot go back."""
        (newest,) = await self.database.history(1)
        await self.database.backtrack(lsn)
        await check_whole(self.database)
        assert await contents_of(self.database) == self.commits[lsn]
        await self.database.backtrack(newest.lsn)
        assert await contents_of(self.database) == contents(self.oracle)


class Given(Exception):
    """A transaction is given up."""


ENGINES: Final = (
    EngineConfig(buffer_pool_pages=160, retention_lsns=None),
    EngineConfig(buffer_pool_pages=8, part_writes=7, part_bytes=8_192, retention_lsns=None),
    EngineConfig(
        buffer_pool_pages=1, part_writes=1, part_bytes=8_192, old_versions=0, reads_in_flight=2,
        retention_lsns=None,
    ),
)  # fmt: skip
"""Engines that keep little: a transaction is in one part at most, in many, or in one a record."""


def differ_of(seed: int, engine: EngineConfig, turns: int = 60) -> Differ:
    """Play a seed on a new volume; what came of it, after every commit has been looked at again."""

    async def main(database: Database, world: World) -> Differ:
        differ = Differ(database, seed)
        await differ.play(turns)
        await check_whole(database)
        for lsn, rows in differ.commits.items():
            async with database.at(lsn) as then:
                assert await contents_of(then) == rows, lsn
        return differ

    return run_database(main, engine=engine, seed=seed + 1)
