"""The one connection that writes, and whose turn it is (SQL design, decisions 4 and 7).

A commit is part of the log when SQLite returns, and the next transaction builds on it at once; only
what callers are told waits until the VDL has passed it. If the writer ends before that, all of
these fail together, as each builds on those before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import attrs
import trio

from aurora.commit_queue import Commit
from aurora.sqlite.connections import Bindings, Row, SqlConnection
from aurora.sqlite.outcome import Outcome
from aurora.sqlite.turns import Turns
from aurora.sqlite.vfs import WriterFile
from aurora.sqlite.volume import Volume
from segments.protocol.errors import SqlError, SqlRefused
from segments.protocol.ids import PageId
from segments.protocol.record import PAGE_SIZE

_BEGIN: Final = "BEGIN IMMEDIATE"


class Writer:
    """A database's writing half."""

    def __init__(self, volume: Volume, connection: SqlConnection) -> None:
        assert isinstance(connection.file, WriterFile)
        self.connection = connection
        self.file: WriterFile = connection.file
        self.turns = Turns()
        self._volume = volume

    # ---- statements by themselves ----------------------------------------------------------------

    async def execute(self, statement: str, bindings: Bindings) -> Outcome:
        """Run a statement as a transaction of its own; returns when that is durable.

        Several statements in one text are one transaction, too.
        """
        # A semicolon in a literal makes a transaction where none was needed, and nothing worse.
        whole = ";" in statement.rstrip("; \t\r\n")
        fetch = self.connection.fetch_all
        return await self._alone(lambda: fetch(statement, bindings), whole)

    async def execute_many(self, statement: str, sets: Iterable[Bindings]) -> Outcome:
        """As `execute`, once for each set of values, all in one transaction."""
        fetch = self.connection.execute_many
        return await self._alone(lambda: fetch(statement, sets), True)

    async def _alone(self, call: Callable[[], list[Row]], whole: bool) -> Outcome:
        await trio.lowlevel.checkpoint_if_cancelled()
        await self.turns.take(short=True)
        failure: SqlError | None = None
        outcome = None
        try:
            self._volume.check_writable()
            outcome = await self.connection.run(self._transact, call, whole)
        except SqlError as error:
            failure = error
        finally:
            self.turns.give()
        await self.settle()
        if failure is not None:
            raise failure
        assert outcome is not None
        return outcome

    def _transact(self, call: Callable[[], list[Row]], whole: bool) -> Outcome:
        """Run ``call`` in a transaction; SQLite's own unless ``whole``."""
        head = self.file.last_commit
        with self._rolled_back_on_error():
            if whole:
                self.connection.control(_BEGIN)
            outcome = self.counted(call)
            if whole:
                self.connection.control("COMMIT")
            elif self.connection.in_transaction:
                raise SqlRefused(
                    "SAVEPOINT: expected it within `async with db.transaction()`, as it begins one"
                )
        assert not self.file.locked, "SQLite has not ended a statement"
        commit = self.file.last_commit
        if commit is None or commit is head:
            return outcome
        return attrs.evolve(outcome, lsn=commit.lsn)

    def counted(self, call: Callable[[], list[Row]]) -> Outcome:
        """What ``call`` returns and changes; in a greenlet, with the connection."""
        connection, sqlite = self.connection, self.connection.sqlite
        before = sqlite.total_changes()
        sqlite.set_last_insert_rowid(0)
        rows = call()
        return Outcome(
            rows=rows,
            columns=connection.columns,
            changes=sqlite.total_changes() - before,
            last_insert_rowid=sqlite.last_insert_rowid() or None,
        )

    async def settle(self, commit: Commit | None = None) -> None:
        """Wait until the head, or ``commit``, is durable: only then may anybody be told of it.

        Raises `Fenced` or `Closed` if the writer ended before that.
        """
        commit = commit or self.file.last_commit
        if commit is None:
            await trio.lowlevel.checkpoint()
        else:
            await commit.durable()

    # ---- transactions, statement by statement; with the connection -------------------------------

    def begin(self) -> None:
        """In a greenlet."""
        with self._rolled_back_on_error():
            self.connection.control(_BEGIN)

    def commit(self) -> None:
        """In a greenlet."""
        with self._rolled_back_on_error():
            self.connection.control("COMMIT")

    def roll_back(self) -> None:
        """End a transaction that is given up, if SQLite has not done so; in a greenlet.

        Whoever gives it up has been cancelled, perhaps: this needs no page, and waits for none.
        """
        connection = self.connection
        if not connection.in_transaction and not self.file.locked:
            return
        with trio.CancelScope(shield=True):  # noqa: ASYNC100 - in `run`
            if connection.in_transaction:
                with suppress(SqlError):
                    connection.control("ROLLBACK")
            if self.file.locked:
                # ON CONFLICT ROLLBACK leaves the lock behind if an R-tree was changed before, and
                # with it pages that SQLite would not look at again; any other statement frees it.
                connection.control("SELECT 1 FROM sqlite_schema LIMIT 1")
        assert not connection.in_transaction, "SQLite has not ended a transaction"
        assert not self.file.locked, "SQLite has not ended a statement"

    @contextmanager
    def _rolled_back_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.roll_back()
            raise

    # ---- pages, past SQLite ----------------------------------------------------------------------

    def replace(self, pages: Iterable[tuple[PageId, bytes]], size_pages: int) -> None:
        """Commit pages as they are given, as a database of a size; in a greenlet, with the turn.

        SQLite sees by the change counter that the pages which it has are old.
        """
        file = self.file
        file.xTruncate(size_pages * PAGE_SIZE)
        try:
            for page_id, image in pages:
                file.put(page_id, image)
            file.commit()
        finally:
            file.forget()
