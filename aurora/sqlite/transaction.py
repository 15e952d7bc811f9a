"""Several statements as one transaction, with whatever a caller does in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from aurora.sqlite.connections import Bindings, Row, SqlConnection
from aurora.sqlite.outcome import Outcome
from aurora.sqlite.rows import Rows, RowSource
from aurora.sqlite.writer import Writer
from segments.protocol.errors import TransactionEnded
from segments.protocol.ids import Lsn


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
        self._source = RowSource(self._take, self._give_back, "a transaction")

    async def execute(self, statement: str, bindings: Bindings = None) -> Outcome:
        """Run one or more statements; raises as `Database.execute`.

        An error ends the statement alone, unless SQLite has rolled back the whole transaction, as
        ON CONFLICT ROLLBACK or a cancellation make it: later calls then raise `TransactionEnded`.
        """
        fetch = self._writer.connection.fetch_all
        return await self._run(lambda: fetch(statement, bindings))

    async def execute_many(self, statement: str, sets: Iterable[Bindings]) -> Outcome:
        """Run a statement once for each set of values."""
        fetch = self._writer.connection.execute_many
        return await self._run(lambda: fetch(statement, sets))

    def query(self, statement: str, bindings: Bindings = None) -> Rows:
        """As `Database.query`, within the transaction; closed when that ends."""
        self._check()
        return Rows(self._source, statement, bindings)

    async def _run(self, call: Callable[[], list[Row]]) -> Outcome:
        await trio.lowlevel.checkpoint()
        connection = await self._take()
        return await connection.run(self._writer.counted, call)

    async def _take(self) -> SqlConnection:
        self._check()
        return self._writer.connection

    def _give_back(self, connection: SqlConnection) -> None:
        """The connection is the transaction's until its end."""

    def _check(self) -> None:
        # SQLite may have ended it by itself: what came next would be committed by itself, too.
        if self._ended or not self._writer.connection.in_transaction:
            why = "its block has ended" if self._ended else "SQLite has rolled it back"
            raise TransactionEnded(f"a transaction, but {why}: expected one under way")

    def check(self) -> None:
        """Raise `TransactionEnded` unless it can still be committed."""
        self._check()

    def end(self) -> None:
        """Close what is open; never waits."""
        self._ended = True
        self._source.end()
