"""Connections of SQLite on a volume: how they are set up, and those kept for readers.

A connection has one user at a time. What is called here may have to wait for pages, so it runs in
`aurora.sqlite.bridge.run`, apart from what says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from random import Random
from typing import Any, Final, TypeAlias, TypeVar

import apsw
import trio

from aurora.sqlite.bridge import run, wait
from aurora.sqlite.functions import add_chance
from aurora.sqlite.pragmas import SETTINGS, check_foreign_keys, check_pragma
from aurora.sqlite.sql_errors import (
    MISTAKES,
    Sets,
    check_bindings,
    check_statement,
    mistake,
    our_errors,
)
from aurora.sqlite.undo import Undo
from aurora.sqlite.vfs import AuroraVfs, FixedFile, ReaderFile, VolumeFile, WriterFile
from aurora.sqlite.volume import Volume
from segments.protocol.errors import Closed, Invalid, SqlRefused
from segments.protocol.ids import Lsn
from segments.protocol.record import PAGE_SIZE

T = TypeVar("T")

Bindings: TypeAlias = Sequence[Any] | Mapping[str, Any] | None
"""Values for a statement's parameters, by position or by name."""
Row: TypeAlias = tuple[Any, ...]
Columns: TypeAlias = tuple[str, ...]

FAIR_STEPS: Final = 5_000
"""Operations of SQLite's machine after which others have their turn, and cancellation counts."""
_FREE_TIMES: Final = 4
"""How often a call may go on all the same. A transaction that gives way has all wait that would
run in the same turn of the scheduler; and SQLite counts the operations of a statement that is
prepared once over all of its runs, so that short ones come to `FAIR_STEPS`, too."""
_WRITER_CACHE_KIB: Final = 16_384
_READER_CACHE_KIB: Final = 4_096
_STATEMENTS: Final = 128
"""Prepared statements that each connection keeps."""
_IDLE_READERS: Final = 16
"""Connections kept for readers to come; the last one used is used first."""
_OWN: Final = apsw.SQLITE_PREPARE_PERSISTENT
"""Marks this project's own statements: a caller's never have the flag, nor share their cache."""
_TEMPORARY: Final = frozenset(
    {
        apsw.SQLITE_CREATE_TEMP_TABLE,
        apsw.SQLITE_CREATE_TEMP_VIEW,
        apsw.SQLITE_CREATE_TEMP_TRIGGER,
        apsw.SQLITE_CREATE_TEMP_INDEX,
        apsw.SQLITE_ATTACH,
        apsw.SQLITE_DETACH,
    }
)
_VACUUM: Final = re.compile(r"(\s|--[^\n]*\n|/\*.*?\*/)*VACUUM\b", re.IGNORECASE | re.DOTALL)
"""A statement that begins and ends a transaction of its own, by statements of its own."""
_vfs_numbers = count(1)


class SqlConnection:
    """One connection of SQLite with its file.

    While a call is under way, and perhaps waits, nothing may be ended beneath it: what is to be
    closed then is closed when it returns.
    """

    sqlite: apsw.Connection
    cursor: apsw.Cursor
    """For statements that are run to their end at once."""
    undo: Undo

    def __init__(
        self, file: VolumeFile, connect: Callable[[], apsw.Connection], random: Random
    ) -> None:
        """``connect`` opens the file."""
        self.file = file
        self.settings: dict[str, str] = {}
        """What pragmas have set, by name."""
        self.stale = False
        """Whether SQLite must look at the file as at a new one, before it does anything else."""
        self._connect = connect
        self._random = random
        self.columns: Columns = ()
        """The columns of the latest statement of `fetch_all`."""
        self.ended = trio.Event()
        """Whether it is closed: whatever transaction it was in has been rolled back."""
        self._busy = False
        self._freed: trio.Event | None = None
        self._left: list[apsw.Cursor] = []
        self._closing = False
        self._controls = False
        self._free_times = 0
        self._set_up()

    def _set_up(self) -> None:
        sqlite = self.sqlite = self._connect()
        self.cursor = sqlite.cursor()
        self._control_cursor = sqlite.cursor()
        self.undo = Undo(sqlite, self.control)
        add_chance(sqlite, self._random)
        for name, value in self.settings.items():
            self.cursor.execute(f"PRAGMA {name}={apsw.format_sql_value(value)}")
        sqlite.authorizer = self._authorize
        sqlite.set_progress_handler(self._go_on, FAIR_STEPS)

    def _renew(self) -> None:
        """Close SQLite's part and open it again: settings stay, and temporary tables do not."""
        self.sqlite.close(True)
        with our_errors():
            self._set_up()
        self.stale = False

    async def run(self, call: Callable[..., T], *arguments: object) -> T:
        """`bridge.run`, unless another task does so; SQLite would mix up the two.

        Raises `Closed` once it is closed.
        """
        self.check()
        if self._busy:
            raise Invalid(
                "a transaction, or a query, that another task is waiting for: expected one task "
                "at a time"
            )
        self._busy = True
        self._free_times = _FREE_TIMES
        try:
            if self.stale:
                await run(self._renew)
            return await run(call, *arguments)
        finally:
            self._busy = False
            if self._freed is not None:
                self._freed.set()
            while self._left:
                self._left.pop().close(True)
            if self._closing:
                self.close()

    async def free(self) -> None:
        """Wait until no call is under way."""
        while self._busy:
            self._freed = self._freed or trio.Event()
            await self._freed.wait()
            self._freed = None

    def drop(self, cursor: apsw.Cursor) -> None:
        """End a statement; never waits."""
        if self._busy:
            self._left.append(cursor)
        else:
            cursor.close(True)

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self.ended.is_set()

    @property
    def in_transaction(self) -> bool:
        return not self.closed and self.sqlite.in_transaction

    def check(self) -> None:
        """Raise `Closed` if it is, or is about to be."""
        if self.closed or self._closing:
            raise Closed("the database has been closed: expected one whose block is running")

    def control(self, statement: str) -> None:
        """Run BEGIN, COMMIT or ROLLBACK, which callers' statements cannot, or what savepoints need.

        These are a few operations each, and must come to their end: `_go_on` does not stop them.
        """
        self._controls = True
        free_times, self._free_times = self._free_times, _FREE_TIMES
        try:
            with our_errors():
                for _ in self._control_cursor.execute(statement, prepare_flags=_OWN):
                    pass
        finally:
            self._free_times = free_times
            self._controls = False

    def fetch_all(self, statement: str, bindings: Bindings) -> list[Row]:
        """Run a statement, or several, to the end; sets `columns` if there are rows."""
        check_statement(statement)
        check_bindings(bindings)
        cursor = self._cursor_for(statement)
        self._controls = _VACUUM.match(statement) is not None
        try:
            cursor.execute(statement, bindings)
            return self._rest(cursor)
        except MISTAKES as error:
            self._end_statement(error)
            raise mistake(error, statement, bindings) from error
        except BaseException as error:
            self._end_statement(error)
            raise
        finally:
            self._controls = False

    def execute_many(self, statement: str, sets: Iterable[Bindings]) -> list[Row]:
        """Run a statement once for each set of values."""
        check_statement(statement)
        cursor = self._cursor_for(statement)
        given = Sets(sets)
        try:
            cursor.executemany(statement, iter(given))
            return self._rest(cursor)
        except MISTAKES as error:
            self._end_statement(error)
            if given.failed and not isinstance(error, TypeError | apsw.Error):
                raise  # the caller's own
            raise mistake(error, statement, given.latest) from error
        except BaseException as error:
            self._end_statement(error)
            raise

    def _cursor_for(self, statement: str) -> apsw.Cursor:
        cursor = self.cursor
        # A word elsewhere than in the clause costs a call, and most statements have none.
        cursor.exec_trace = self.undo.before if "returning" in statement.lower() else None
        return cursor

    def _rest(self, cursor: apsw.Cursor) -> list[Row]:
        self.columns = ()
        rows: list[Row] = []
        for row in cursor:  # there is a description only while there are rows
            self.columns = tuple([each[0] for each in cursor.get_description()])
            rows = [row, *cursor]
        if self.undo.open:
            self.undo.keep()
        return rows

    def _end_statement(self, error: BaseException) -> None:
        """Nothing may be left of a statement that has failed, whatever became of it in SQLite."""
        if not isinstance(error, apsw.Error):  # the next one has a cursor without one
            self.cursor.close(True)
            self.cursor = self.sqlite.cursor()
        self.undo.take_back()

    def close(self) -> None:
        """End it; never waits."""
        self._closing = self._busy
        if not self._busy:
            self.ended.set()
            self.sqlite.close(True)

    def _go_on(self) -> bool:
        """Give way, unless the call has not taken long yet.

        Raises, which ends the statement, if the database or its writer has ended meanwhile.
        """
        if self._free_times:
            self._free_times -= 1
            return False
        give_way()
        self.check()
        self.file.volume.check()
        return False

    def _authorize(self, operation: int, first: Any, second: Any, schema: Any, _: Any) -> int:
        """Judge a statement as it is prepared (SQL design, decisions 7 and 9)."""
        if operation == apsw.SQLITE_TRANSACTION:
            if not self._controls:
                raise SqlRefused(
                    f"{first}: expected no transaction control in a statement; "
                    "`async with db.transaction()` begins one and ends it, savepoints may be in it"
                )
        elif operation in _TEMPORARY and not isinstance(self.file, WriterFile):
            raise SqlRefused(
                "VACUUM, ATTACH or a temporary table, in a query: expected it in `execute`; "
                "queries share connections"
            )
        elif operation == apsw.SQLITE_PRAGMA and second is not None:
            self._judge_pragma(first.lower(), second, schema)
        return apsw.SQLITE_OK

    def _judge_pragma(self, name: str, value: str, schema: str | None) -> None:
        check_pragma(name, value, in_query=not isinstance(self.file, WriterFile))
        if name == "foreign_keys" and self.sqlite.in_transaction:
            enabled = self.sqlite.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, -1)
            check_foreign_keys(value, enabled=bool(enabled))
        if name in SETTINGS and schema in (None, "main"):
            self.settings[name] = value


def give_way() -> bool:
    """Let others have their turn; a cancellation ends the statement."""
    wait(trio.lowlevel.checkpoint())  # noqa: ASYNC105 - `run` awaits it
    return False


class Connections:
    """Opens the connections of one database, and keeps those of its readers."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        # A name of its own: SQLite keeps file systems by name, for the whole process.
        self._vfs = AuroraVfs(f"aurora-{next(_vfs_numbers)}", volume.clock)
        self._idle: list[SqlConnection] = []
        self._open: dict[SqlConnection, None] = {}
        self._closed = False
        self._writer_file: WriterFile | None = None

    async def open_writer(self) -> SqlConnection:
        """The connection at the head; there must be no other."""
        file = WriterFile(self.volume)
        await file.open()
        self._writer_file = file
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        pragmas = (
            f"page_size={PAGE_SIZE}",
            "journal_mode=MEMORY",
            "synchronous=OFF",
            f"cache_size=-{_WRITER_CACHE_KIB}",
        )
        return await run(self._connect, file, flags, pragmas)

    async def take_reader(self) -> SqlConnection:
        """A connection that reads at the VDL; `give_back` must follow."""
        while self._idle:
            connection = self._idle.pop()
            if not self._is_stale(connection):
                return connection
            self.close(connection)
        file = ReaderFile(self.volume)
        return await run(
            self._connect, file, apsw.SQLITE_OPEN_READONLY, (f"cache_size=-{_READER_CACHE_KIB}",)
        )

    def _is_stale(self, connection: SqlConnection) -> bool:
        """Whether it has texts in another encoding than what it would read now."""
        assert self._writer_file is not None
        assert isinstance(connection.file, ReaderFile)
        return connection.file.opened_at < self._writer_file.encoded_at <= self.volume.vdl

    def give_back(self, connection: SqlConnection) -> None:
        """A reader's connection is free again, its statements ended; never waits."""
        file = connection.file
        still_reads = isinstance(file, ReaderFile) and file.read_point is not None
        if self._closed or still_reads or len(self._idle) >= _IDLE_READERS:
            self.close(connection)
        else:
            self._idle.append(connection)

    async def open_fixed(self, read_point: Lsn | None) -> SqlConnection:
        """A connection at an LSN, which the caller holds; None for an empty database."""
        file = FixedFile(self.volume, read_point)
        return await run(
            self._connect, file, apsw.SQLITE_OPEN_READONLY, (f"cache_size=-{_READER_CACHE_KIB}",)
        )

    def _connect(self, file: VolumeFile, flags: int, pragmas: Sequence[str]) -> SqlConnection:
        def connect() -> apsw.Connection:
            self._vfs.offer(file)
            sqlite = apsw.Connection(
                "database", flags=flags, vfs=self._vfs.name, statementcachesize=_STATEMENTS
            )
            try:
                for pragma in ("temp_store=MEMORY", *pragmas):
                    sqlite.execute(f"PRAGMA {pragma}")
            except BaseException:  # else it would end at any time, with the file of the next one
                sqlite.close(True)
                raise
            return sqlite

        with our_errors():
            made = SqlConnection(file, connect, self.volume.new_random())
        self._open[made] = None
        return made

    def close(self, connection: SqlConnection) -> None:
        """End one; never waits."""
        if connection in self._open:
            del self._open[connection]
            connection.close()

    def close_all(self) -> None:
        """End all of them, in use or not."""
        self._closed = True
        self._idle.clear()
        for connection in list(self._open):
            self.close(connection)
        self._vfs.unregister()
