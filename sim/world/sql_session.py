"""One call in SQL under way: what it says to its database, and hears, is written down in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from aurora.engine import Engine
from segments.protocol.errors import SqlError
from segments.protocol.ids import Lsn
from sim.plan.schedule import SECOND
from sim.world import sql_ways
from sim.world.history import Call
from sim.world.sql_history import Reading, Statement

if TYPE_CHECKING:
    from aurora.sqlite.database import Database
    from aurora.sqlite.snapshot import Snapshot
    from aurora.sqlite.transaction import Statements, Transaction

Say: TypeAlias = Callable[[Statement], Awaitable[list[Any]]]
"""Runs one statement of a transaction, and gives its rows."""


@contextmanager
def _noted(statement: Statement) -> Iterator[None]:
    """Write down SQLite's error, if it ends with one."""
    try:
        yield
    except SqlError as error:
        statement.error = type(error)
        raise


class Session:
    """One call on a database."""

    def __init__(self, database: Database, engine: Engine, call: Call) -> None:
        self.database = database
        self.call = call
        self.engine = engine

    @property
    def head(self) -> Lsn:
        """The newest LSN of the log."""
        core = self.engine.core
        assert core is not None
        return core.last_allocated_lsn

    @property
    def vdl(self) -> Lsn:
        core = self.engine.core
        assert core is not None
        return core.vdl

    async def hold(self) -> None:
        """Let time pass amid whatever is held."""
        await trio.sleep(self.call.operation.hold_ns / SECOND)

    # ---- at the head -----------------------------------------------------------------------------

    async def alone(self, statement: Statement) -> None:
        """Run a statement as a transaction of its own."""
        call, database = self.call, self.database
        call.sql.script = [statement]
        call.sql.low = self.head
        try:
            if statement.sets is None:
                outcome = await database.execute(statement.text, statement.bindings or None)
            else:
                outcome = await database.execute_many(statement.text, statement.sets)
        except SqlError as error:
            statement.error = type(error)
            raise
        finally:
            call.sql.high = self.head
        statement.rows, statement.changes = outcome.rows, outcome.changes
        call.lsn = outcome.lsn or 0

    async def function(self, script: Sequence[Statement]) -> None:
        """Run statements as one transaction, which is a function."""
        call = self.call
        call.sql.script = []
        call.sql.low = self.head

        def run_all(statements: Statements) -> None:
            for statement in script:
                call.sql.script.append(statement)
                with _noted(statement):
                    outcome = statements.execute(statement.text, statement.bindings or None)
                statement.rows, statement.changes = outcome.rows, outcome.changes

        try:
            await self.database.run(run_all)
        finally:
            call.sql.high = self.head
        call.lsn = call.lsns[-1] if call.lsns else 0  # of which its caller is not told

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Say]:
        """Several statements as one transaction; gives what runs one of them."""
        call = self.call
        async with self.database.transaction() as transaction:
            call.sql.low = call.sql.high = self.head

            async def say(statement: Statement) -> list[Any]:
                return await self._say(transaction, statement)

            yield say
        call.lsn = transaction.lsn or 0

    async def _say(self, transaction: Transaction, statement: Statement) -> list[Any]:
        self.call.sql.script.append(statement)
        try:
            if statement.sets is None:
                outcome = await transaction.execute(statement.text, statement.bindings or None)
            else:
                outcome = await transaction.execute_many(statement.text, statement.sets)
        except SqlError as error:
            statement.error = type(error)
            raise
        statement.rows, statement.changes = outcome.rows, outcome.changes
        if len(self.database._writer.file._buffer):
            self.call.sql.spilled = True
        return outcome.rows

    # ---- of what is durable ----------------------------------------------------------------------

    async def query(self, text: str, *, first: bool = False) -> None:
        """Read as of the newest durable commit."""
        low, statement = self.vdl, Statement(text)
        rows = self.database.query(text)
        found = [await rows.first()] if first else await rows.all()
        statement.rows = [each for each in found if each is not None]
        self.call.sql.readings.append(Reading(statement, low, self.vdl, first))

    async def read_in(self, snapshot: Snapshot, text: str) -> list[Any]:
        """Read in a snapshot."""
        outcome = await snapshot.execute(text)
        if text != sql_ways.SOUND:
            reading = Reading(Statement(text, rows=outcome.rows), snapshot.lsn, snapshot.lsn)
            self.call.sql.readings.append(reading)
        return outcome.rows

    @asynccontextmanager
    async def snapshot(self, when: Lsn | None = None) -> AsyncIterator[Snapshot]:
        """The database as of an LSN, by default as of the newest durable commit."""
        call, asked = self.call, self.vdl if when is None else when
        made = self.database.snapshot() if when is None else self.database.at(when)
        async with made as snapshot:
            if when is not None or asked == self.vdl:
                call.sql.moments.append((asked, snapshot.lsn))
            call.held = snapshot.lsn
            try:
                yield snapshot
            finally:
                call.held = 0

    async def audit(self) -> None:
        """Everything that can be said of the database as it is now."""
        async with self.snapshot() as snapshot:
            if snapshot.lsn:
                self.call.sql.unsound = await self.read_in(snapshot, sql_ways.SOUND)
                await self.read_in(snapshot, sql_ways.CONTENTS)
                await self.read_in(snapshot, sql_ways.SUMS)
