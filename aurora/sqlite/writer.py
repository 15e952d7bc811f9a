"""The one connection that writes, and whose turn it is (SQL design, decisions 4 and 7).

A commit is part of the log when SQLite returns, and the next transaction builds on it at once; only
what callers are told waits until the VDL has passed it. If the writer ends before that, all of
these fail together, as each builds on those before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import attrs
import trio

from aurora.commit_queue import Commit
from aurora.mtr import PageWrite
from aurora.sqlite.bridge import wait
from aurora.sqlite.connections import Bindings, Row, SqlConnection
from aurora.sqlite.outcome import Outcome
from aurora.sqlite.texts import is_single
from aurora.sqlite.turns import Turns
from aurora.sqlite.vfs import WriterFile
from aurora.sqlite.volume import Volume
from segments.protocol.errors import SqlError, SqlRefused, TransactionEnded
from segments.protocol.ids import Lsn, PageId
from segments.protocol.record import PAGE_SIZE

T = TypeVar("T")
_BEGIN: Final = "BEGIN IMMEDIATE"


class Writer:
    """A database's writing half."""

    def __init__(self, volume: Volume, connection: SqlConnection) -> None:
        assert isinstance(connection.file, WriterFile)
        self.connection = connection
        self.file: WriterFile = connection.file
        self.turns = Turns(self.check)
        self.volume = volume

    def check(self) -> None:
        """Raise `DatabaseEnded` or `Closed` if nothing could be committed any more."""
        self.volume.check()
        self.connection.check()

    # ---- transactions that wait for nobody but the volume ----------------------------------------

    async def execute(self, statement: str, bindings: Bindings) -> Outcome:
        """Run a statement as a transaction of its own; returns when that is durable.

        Several statements in one text are one transaction, too.
        """
        whole = not is_single(statement)
        outcome, lsn = await self.alone(lambda: self.fetched(statement, bindings), whole=whole)
        return attrs.evolve(outcome, lsn=lsn) if lsn else outcome

    async def execute_many(self, statement: str, sets: Iterable[Bindings]) -> Outcome:
        """As `execute`, once for each set of values, all in one transaction."""
        outcome, lsn = await self.alone(lambda: self.fetched_many(statement, sets), whole=True)
        return attrs.evolve(outcome, lsn=lsn)

    async def alone(self, call: Callable[[], T], *, whole: bool) -> tuple[T, Lsn | None]:
        """What ``call`` returns, and its commit, if it changed anything.

        It runs in a transaction, or, unless ``whole``, in one that SQLite makes by itself.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        await self.turns.take(short=True)
        failure: Exception | None = None
        try:
            self.volume.check_writable()
            done = await self.connection.run(self._transact, call, whole)
        except Exception as error:  # noqa: BLE001 - raised below
            failure = error
        finally:
            self.turns.give()
        await self.settle()
        if failure is not None:
            raise failure
        return done

    def _transact(self, call: Callable[[], T], whole: bool) -> tuple[T, Lsn | None]:
        """Run ``call`` in a transaction; SQLite's own unless ``whole``. In a greenlet."""
        connection, file = self.connection, self.file
        head = file.last_commit
        try:
            if whole:
                connection.control(_BEGIN)
            result = call()
            if whole:
                self.check_under_way()
                connection.control("COMMIT")
            elif connection.in_transaction:
                raise SqlRefused(
                    "SAVEPOINT: expected it within `async with db.transaction()`, as it begins one"
                )
        except BaseException:
            self.roll_back()
            raise
        assert not file.locked, "SQLite has not ended a statement"
        commit = file.last_commit
        return result, None if commit is None or commit is head else commit.lsn

    def check_under_way(self) -> None:
        """Raise `TransactionEnded` if SQLite has ended the transaction by itself.

        What came next would be committed by itself, too (SQL design, decision 11). Raises
        `DatabaseEnded` or `Closed` if it could not be committed at all.
        """
        self.check()
        if not self.connection.in_transaction:
            raise TransactionEnded(
                "a transaction that SQLite has rolled back, as ON CONFLICT ROLLBACK or a "
                "cancellation make it: expected one under way"
            )

    def fetched(self, statement: str, bindings: Bindings) -> Outcome:
        """Run one or more statements; in a greenlet, with the connection."""
        return self._counted(self.connection.fetch_all, statement, bindings)

    def fetched_many(self, statement: str, sets: Iterable[Bindings]) -> Outcome:
        """Run a statement once for each set of values; as `fetched`."""
        return self._counted(self.connection.execute_many, statement, sets)

    def _counted(self, call: Callable[..., list[Row]], *arguments: object) -> Outcome:
        connection, sqlite = self.connection, self.connection.sqlite
        before = sqlite.total_changes()
        sqlite.set_last_insert_rowid(0)
        rows = call(*arguments)
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

    # ---- transactions, statement by statement; in a greenlet, with the connection ----------------

    def begin(self) -> None:
        """Begin one; if it raises, there is none."""
        try:
            self.connection.control(_BEGIN)
        except BaseException:
            self.roll_back()
            raise

    def commit(self) -> None:
        """Commit it; if it raises, it has been rolled back."""
        try:
            self.connection.control("COMMIT")
        except BaseException:
            self.roll_back()
            raise

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

    # ---- pages, past SQLite ----------------------------------------------------------------------

    def replace(self, pages: Iterable[tuple[PageId, bytes]], size_pages: int) -> None:
        """Commit pages as they are given, as a database of a size; in a greenlet, with the turn.

        SQLite sees by the change counter that the pages which it has are old, and nothing else.
        """
        file = self.file
        encoded_at = file.encoded_at
        file.xTruncate(size_pages * PAGE_SIZE)
        try:
            for page_id, image in pages:
                file.put(page_id, image)
            file.commit()
        finally:
            file.forget()
            self.connection.stale = file.encoded_at != encoded_at

    def write_beyond(self, writes: Sequence[PageWrite]) -> Commit:
        """Make pages beyond the database's end part of the log; in a greenlet, with the turn.

        While it waits nobody takes the database for closed, and opens another on its pages.
        """
        self.file.drop_heads(write.page_id for write in writes)
        return wait(self.volume.submit(writes))
