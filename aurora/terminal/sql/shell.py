"""One person's, or one script's, database: the transaction that is open, the moment that is read.

Statements by themselves go to the database as they are; BEGIN opens a block of `transaction`, which
stays open until COMMIT or ROLLBACK; `.at` opens a snapshot. The database ends with its writer, and
is opened anew on the writer that follows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from aurora.engine import Engine
from aurora.sqlite.opening import open_database
from aurora.terminal.language import Misuse
from aurora.terminal.screen import Screen
from aurora.terminal.session import Session
from aurora.terminal.sql.results import Results
from aurora.terminal.sql.statements import Control, control_of, keywords
from aurora.terminal.sql.words import quoted
from aurora.terminal.text import counted
from segments.protocol.errors import AuroraError, SqlInvalid, SqlReadOnly, TransactionEnded

if TYPE_CHECKING:
    from aurora.sqlite.database import Database
    from aurora.sqlite.moments import Moment
    from aurora.sqlite.outcome import Outcome
    from aurora.sqlite.rows import Rows
    from aurora.sqlite.snapshot import Snapshot
    from aurora.sqlite.transaction import Transaction

_READING: Final = frozenset({"SELECT", "VALUES", "WITH", "EXPLAIN"})
"""What begins a statement that only reads, mostly: it need not wait for whoever writes."""

_TEMPORARY: Final = frozenset({"TEMP", "TEMPORARY", "ATTACH"})
"""Words of a statement that makes what ends with its connection."""


class _GivenUp(Exception):
    """Leaves a transaction's block without a commit."""


class Shell:
    """Runs statements."""

    def __init__(self, session: Session, results: Results, *, tells_changes: bool) -> None:
        """``tells_changes`` says after each statement what has become of it."""
        self.session = session
        self.answers: Screen | None = None
        """Where answers of commands go; None for where the session tells all."""
        self.results = results
        self.tells_changes = tells_changes
        self.transaction: Transaction | None = None
        self.snapshot: Snapshot | None = None
        self.left = ""
        """What a call that was interrupted has left, if it is known; told once."""
        self._db: Database | None = None
        self._engine: Engine | None = None
        self._database_block = AsyncExitStack()
        self._transaction_block = AsyncExitStack()
        self._snapshot_block = AsyncExitStack()
        self._has_temporary = False
        self.files: list[Path] = []
        """Those that `.read` is in, each from the one before."""

    # ---- the database ----------------------------------------------------------------------------

    async def open(self) -> Database:
        """The database of the latest writer, opened if it is not open on that."""
        engine = self.session.cluster.engine
        if self._db is None or engine is not self._engine:
            settings = {} if self._db is None else self._db.settings
            if self._db is not None:
                await self._leave_ended()
            db = await self._database_block.enter_async_context(open_database(self.session.cluster))
            self._db, self._engine = db, engine
            for name, value in settings.items():
                await db.execute(f"PRAGMA {name}={quoted(value)}")
        return self._db

    async def close(self) -> None:
        """End all that is open; what is not committed is rolled back."""
        await self._drop_transaction()
        await self._snapshot_block.aclose()
        await self._database_block.aclose()
        self._db = self.snapshot = None

    async def _leave_ended(self) -> None:
        lost = self.transaction is not None
        past = self.snapshot
        temporary, self._has_temporary = self._has_temporary, False
        await self.close()
        if temporary:
            self.note("temporary tables, and what was attached, ended with the writer", "warn")
        if lost:
            self.note("the transaction was lost with its writer: nothing of it is left", "warn")
        if past is not None:
            self.note("back in the present: the moment that was read ended with its writer", "warn")

    @property
    def screen(self) -> Screen:
        """Where the answers of commands go that are results."""
        return self.answers or self.session.screen

    @property
    def aside(self) -> Screen:
        """Where all is said that is no result."""
        return self.session.log_screen or self.session.screen

    def note(self, text: str, kind: str = "note") -> None:
        """Say something beside the results."""
        self.aside.say(text, kind)

    def tell(self, text: str, **fields: int | str) -> None:
        """Say what a command has done, which is its result."""
        if self.results.json_lines:
            self.results.print_object(fields)
        elif self.screen.console.is_terminal:
            self.screen.say(text, "good")
        else:
            self.results.print_text(text)  # a script reads lines: none is folded

    def prompt(self) -> str:
        """What stands before the cursor."""
        if self.snapshot is not None:
            return f"sql@{self.snapshot.lsn}> "
        return "sql*> " if self.transaction is not None else "sql> "

    # ---- statements ------------------------------------------------------------------------------

    async def run(self, statement: str) -> None:
        """Run one statement and print what it returns; raises `AuroraError` and `Misuse`."""
        await self.open()
        control = control_of(statement)
        if self.transaction is not None:
            await self._run_within(self.transaction, statement, control)
        elif self.snapshot is not None:
            await self._run_in_the_past(self.snapshot, statement, control)
        elif control is Control.BEGIN:
            await self._begin()
        elif control is not Control.NONE:
            word = next(keywords(statement))
            raise Misuse(f"{word} outside of a transaction: expected BEGIN before it")
        else:
            await self._run_alone(statement)

    async def _run_alone(self, statement: str) -> None:
        db = await self.open()
        words = list(keywords(statement))
        if words and words[0] in _READING:
            try:
                await self._print_query(db.query(statement))
            except SqlReadOnly:  # WITH … INSERT, for one
                pass
            except SqlInvalid:
                if not self._has_temporary:  # only the writer's connection has those
                    raise
            else:
                return
        self._print_outcome(await self._execute(db, statement))

    async def _execute(self, target: Database | Transaction, statement: str) -> Outcome:
        outcome = await target.execute(statement)
        words = set(islice(keywords(statement), 2))
        self._has_temporary = self._has_temporary or bool(_TEMPORARY & words)
        return outcome

    async def _run_in_the_past(self, snapshot: Snapshot, statement: str, control: Control) -> None:
        if control is not Control.NONE:
            word = next(keywords(statement))
            raise Misuse(f"{word} in the past: expected `.at now` before it, which ends that")
        try:
            await self._print_query(snapshot.query(statement))
        except SqlReadOnly as error:
            raise Misuse(
                f"a statement that writes, at LSN {snapshot.lsn}: expected one that reads; "
                "`.at now` leads back to the present"
            ) from error

    async def _run_within(self, transaction: Transaction, statement: str, control: Control) -> None:
        match control:
            case Control.BEGIN:
                raise Misuse("BEGIN within a transaction: expected COMMIT or ROLLBACK before it")
            case Control.COMMIT:
                await self._commit(transaction)
                return
            case Control.ROLLBACK:
                await self._end_transaction(_GivenUp())
                self._tell("rolled back")
                return
        async with self._rollback_noticed():
            if next(keywords(statement), "") in _READING:
                await self._print_query(transaction.query(statement))
            else:
                self._print_outcome(await self._execute(transaction, statement))

    async def _print_query(self, rows: Rows) -> None:
        try:
            await self.results.print_query(rows)
        finally:
            rows.close()

    def _print_outcome(self, outcome: Outcome) -> None:
        self.results.print_rows(
            outcome.columns,
            outcome.rows,
            changes=outcome.changes,
            last_insert_rowid=outcome.last_insert_rowid,
            lsn=outcome.lsn,
        )
        told = [counted(outcome.changes, "row") + " changed"] if outcome.changes else []
        if outcome.lsn is not None:
            told.append(f"durable at LSN {outcome.lsn}")
        if told:
            self._note_change(", ".join(told))

    def _tell(self, text: str, **fields: int | None) -> None:
        """What has become of a transaction."""
        self.results.print_rows((), (), **({"transaction": text} | fields))
        self._note_change(" ".join([text, *(f"at LSN {each}" for each in fields.values() if each)]))

    def _note_change(self, text: str) -> None:
        if self.tells_changes:
            self.note(text)

    # ---- transactions ----------------------------------------------------------------------------

    async def _begin(self) -> None:
        db = await self.open()
        self.transaction = await self._transaction_block.enter_async_context(db.transaction())
        self._tell("begun")

    async def _commit(self, transaction: Transaction) -> None:
        await self._end_transaction(None)
        self._tell("committed", lsn=transaction.lsn)

    async def _end_transaction(self, error: Exception | None) -> None:
        """Leave the block, with an error or without."""
        block, self._transaction_block = self._transaction_block, AsyncExitStack()
        self.transaction = None
        kind = None if error is None else type(error)
        with suppress(_GivenUp):
            await block.__aexit__(kind, error, None)

    async def _drop_transaction(self) -> None:
        """Leave the block at once: nobody waits until what was read is durable."""
        if self.transaction is not None:
            with trio.CancelScope() as scope:
                scope.cancel()
                await self._end_transaction(_GivenUp())

    @asynccontextmanager
    async def _rollback_noticed(self) -> AsyncIterator[None]:
        """`leave_rolled_back` once the block has failed; one that is cancelled cannot tell."""
        try:
            yield
        except AuroraError:
            await self.leave_rolled_back()
            raise

    async def leave_rolled_back(self) -> None:
        """Leave the transaction's block if SQLite has rolled the transaction back by itself."""
        if self.transaction is None:
            return
        try:
            self.transaction.check()
        except TransactionEnded:
            await self._drop_transaction()
            self.note("the whole transaction was rolled back", "warn")

    # ---- the past --------------------------------------------------------------------------------

    async def travel(self, when: Moment | None) -> None:
        """Read as of a moment from now on; None leads back to the present."""
        if self.transaction is not None:
            raise Misuse("`.at` within a transaction: expected COMMIT or ROLLBACK before it")
        db = await self.open()
        block = AsyncExitStack()
        snapshot = None if when is None else await block.enter_async_context(db.at(when))
        await self._snapshot_block.aclose()
        self._snapshot_block, self.snapshot = block, snapshot

    # ---- for commands ----------------------------------------------------------------------------

    async def write(self, statement: str) -> None:
        """Run a statement in the transaction that is open, or by itself."""
        target = self.transaction or await self.open()
        async with self._rollback_noticed():
            await target.execute(statement)

    async def write_many(self, statement: str, sets: Sequence[Sequence[str]]) -> None:
        """The same for each set of values."""
        target = self.transaction or await self.open()
        async with self._rollback_noticed():
            await target.execute_many(statement, sets)

    async def source(self) -> Database | Snapshot | Transaction:
        """What a command reads from, at the moment that the prompt shows."""
        db = await self.open()
        return self.transaction or self.snapshot or db
