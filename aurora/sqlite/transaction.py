"""Several statements as one transaction, with whatever a caller does in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import trio

from aurora.sqlite.connections import Bindings, SqlConnection
from aurora.sqlite.outcome import Outcome
from aurora.sqlite.rows import Rows, RowSource
from aurora.sqlite.turns import MOST
from aurora.sqlite.writer import Writer
from segments.protocol.errors import TransactionEnded
from segments.protocol.ids import Lsn

FAIR_STATEMENTS: Final = MOST
"""Statements of a block after which others have their turn; a cancellation counts at each. Nobody
else may write meanwhile, so that turns in between make each transaction a batch of its own."""


class Transaction:
    """What `Database.transaction` gives to its block, for one task at a time.

    It sees its own changes, and those of all transactions before, durable or not: the block is only
    left when they are.
    """

    def __init__(self, writer: Writer) -> None:
        self.lsn: Lsn | None = None
        """Its commit, once the block has ended; None if it changed nothing."""
        self._writer = writer
        self._ended = False
        self._statements = 0
        self._source = RowSource(writer.volume, self._take, self._give_back, "a transaction")

    async def execute(self, statement: str, bindings: Bindings = None) -> Outcome:
        """Run one or more statements; raises as `Database.execute`.

        An error ends the statement alone, unless SQLite has rolled back the whole transaction, as
        ON CONFLICT ROLLBACK or a cancellation make it: later calls then raise `TransactionEnded`.
        """
        return await self._run(self._writer.fetched, statement, bindings)

    async def execute_many(self, statement: str, sets: Iterable[Bindings]) -> Outcome:
        """Run a statement once for each set of values."""
        return await self._run(self._writer.fetched_many, statement, sets)

    def query(self, statement: str, bindings: Bindings = None) -> Rows:
        """As `Database.query`, within the transaction; closed when that ends."""
        self.check()
        return Rows(self._source, statement, bindings)

    async def _run(self, call: Callable[..., Outcome], *arguments: object) -> Outcome:
        self._writer.volume.check_caller()
        self._statements += 1
        if self._statements % FAIR_STATEMENTS:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
        connection = await self._take()
        return await connection.run(call, *arguments)

    async def _take(self) -> SqlConnection:
        self.check()
        return self._writer.connection

    def _give_back(self, connection: SqlConnection) -> None:
        """The connection is the transaction's until its end."""

    def check(self) -> None:
        """Raise `TransactionEnded` unless it is under way."""
        if self._ended:
            raise TransactionEnded(
                "a transaction whose block has ended: expected one whose block is running"
            )
        self._writer.check_under_way()

    def end(self) -> None:
        """Close what is open; never waits."""
        self._ended = True
        self._source.end()


class Statements:
    """What `Database.run` gives to its function: statements that are awaited behind its back."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._ended = False

    def execute(self, statement: str, bindings: Bindings = None) -> Outcome:
        """As `Transaction.execute`."""
        self._check()
        return self._writer.fetched(statement, bindings)

    def execute_many(self, statement: str, sets: Iterable[Bindings]) -> Outcome:
        """As `Transaction.execute_many`."""
        self._check()
        return self._writer.fetched_many(statement, sets)

    def end(self) -> None:
        """The function has returned."""
        self._ended = True

    def _check(self) -> None:
        if self._ended:
            raise TransactionEnded(
                "a statement of a function that has returned: expected one that runs"
            )
        self._writer.check_under_way()
