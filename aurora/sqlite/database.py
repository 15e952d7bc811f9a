"""SQLite on a volume: the public face. See `aurora.sqlite.opening` for how it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from os import PathLike
from typing import Final, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import trio

from aurora.arguments import check_kind
from aurora.cluster import Cluster
from aurora.engine import Engine
from aurora.sqlite.backtrack import restore
from aurora.sqlite.commit_page import COMMIT_PAGE, is_commit_page
from aurora.sqlite.connections import Bindings, Connections, SqlConnection
from aurora.sqlite.exporting import export_file
from aurora.sqlite.header import HEADER_PAGE, has_header
from aurora.sqlite.history import CommitInfo, commit_at, commit_of, commits
from aurora.sqlite.importing import import_file
from aurora.sqlite.moments import Moment
from aurora.sqlite.outcome import Outcome
from aurora.sqlite.rows import Rows, RowSource
from aurora.sqlite.snapshot import Snapshot
from aurora.sqlite.source_file import Progress
from aurora.sqlite.transaction import Statements, Transaction
from aurora.sqlite.volume import Volume
from aurora.sqlite.writer import Writer
from segments.protocol.errors import Closed, Invalid, NotADatabase
from segments.protocol.ids import Lsn
from segments.protocol.record import whole_number
from segments.protocol.showing import shown

T = TypeVar("T")

_open_on: Final[WeakSet[Engine]] = WeakSet()
"""The writers that databases are open on."""
_closed_on: Final[WeakKeyDictionary[Engine, trio.Event]] = WeakKeyDictionary()
"""By writer: when the last statement has ended of the database that was closed there."""


class Database:
    """A SQLite database that is a volume; calls may be made from any number of tasks.

    They raise SQLite's errors as `SqlError`, each of a kind; `Fenced` or `Closed` for a commit that
    was under way when the writer ended, and may survive or not; and `DatabaseEnded` ever after.
    Cancelled before its commit is part of the log a transaction is rolled back; cancelled while it
    waits to be durable, it stands.
    """

    def __init__(self, volume: Volume, connections: Connections, writer: SqlConnection) -> None:
        self._volume = volume
        self._connections = connections
        self._writer = Writer(volume, writer)
        volume.engine.waits_above = self._writer.turns.waits
        volume.engine.when_ended(self._writer.turns.end)
        self._source = RowSource(
            volume, self._take_reader, connections.give_back, "a database", Closed
        )
        self._closed = False

    @classmethod
    async def open(cls, cluster: Cluster) -> Database:
        """The database of a cluster's volume; `close` must follow.

        Nothing is written before the first transaction is. Raises `NotADatabase` for a volume with
        other pages, before anything has changed.
        """
        volume = Volume(cluster)
        if volume.engine in _open_on:
            raise Invalid(
                f"a database on {volume.engine.name} that is open already: expected to share that "
                "one; each keeps what it knows of the newest pages to itself"
            )
        _open_on.add(volume.engine)
        connections = Connections(volume)
        try:
            # Of one that was closed beneath a statement: its commit is to come, or not durable yet.
            if volume.engine in _closed_on:
                await _closed_on[volume.engine].wait()
            await volume.settle()
            await _check_pages(volume)
            return cls(volume, connections, await connections.open_writer())
        except BaseException:
            connections.close_all()
            _open_on.discard(volume.engine)
            raise

    def close(self) -> None:
        """End every query, transaction and snapshot; later calls raise `Closed`. Never waits."""
        self._volume.check_caller()
        self.end()

    def end(self) -> None:
        """As `close`, also once the trio run is over."""
        self._closed = True
        self._source.end()
        self._connections.close_all()
        self._writer.turns.end()
        _closed_on[self._volume.engine] = self._writer.connection.ended
        _open_on.discard(self._volume.engine)

    # ---- writing ---------------------------------------------------------------------------------

    async def execute(self, statement: str, bindings: Bindings = None) -> Outcome:
        """Run a statement, or several, as one transaction; returns when that is durable.

        ``bindings`` are the values of its parameters, a sequence or a mapping. The rows that it
        returns are in the outcome; `query` serves for what only reads.
        """
        self._check(statement)
        return await self._writer.execute(statement, bindings)

    async def execute_many(self, statement: str, sets: Iterable[Bindings]) -> Outcome:
        """Run a statement once for each of ``sets``, as one transaction; otherwise as `execute`."""
        self._check(statement)
        return await self._writer.execute_many(statement, sets)

    async def run(self, call: Callable[[Statements], T]) -> T:
        """Run a function as one transaction, and return what it returns once that is durable.

        It is an ordinary function, called in this task with what runs statements for it, and must
        not take long. If it raises, all is rolled back. This is the fastest way to read, decide and
        write: many such transactions run in one turn of the scheduler, where each `transaction`
        block takes one or more.
        """
        self._check("")
        if not callable(call):
            raise Invalid(f"call is {shown(call)}: expected a function of one argument")
        statements = Statements(self._writer)

        def whole() -> T:
            try:
                return call(statements)
            finally:
                statements.end()

        result, _ = await self._writer.alone(whole, whole=True)
        return result

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Several statements as one transaction, committed when the block ends.

        No other transaction runs meanwhile, so blocks should be short: those of other tasks wait,
        and one in this task raises `Invalid`, as it would wait for itself. The block is left when
        the commit is durable; if it raises, all is rolled back. What it has read may be newer than
        anything durable: it is left, in whatever way, only when that is durable, too, unless it is
        cancelled.
        """
        self._check("")
        self._volume.check_writable()
        writer = self._writer
        await trio.lowlevel.checkpoint_if_cancelled()
        await writer.turns.take(short=False)
        failure: Exception | None = None
        head = writer.file.last_commit
        try:
            await writer.connection.run(writer.begin)
            transaction = Transaction(writer)
            try:
                yield transaction
                transaction.check()
                transaction.end()
                await writer.connection.run(writer.commit)
            except Exception as error:  # noqa: BLE001 - the block's own, raised below
                failure = error
            finally:
                transaction.end()
                with trio.CancelScope(shield=True):  # for a statement of another task's, at most
                    await writer.connection.free()
                if not writer.connection.closed:
                    await writer.connection.run(writer.roll_back)
            commit = writer.file.last_commit
        finally:
            writer.turns.give()
        if commit is not None and commit is not head:
            transaction.lsn = commit.lsn
        await writer.settle(commit)
        if failure is not None:
            raise failure

    async def backtrack(self, when: Moment) -> CommitInfo:
        """Make the database what it was at a moment; returns that commit, the newest one now.

        This is one more commit: everything since stays readable, and backtracking to it, by its
        LSN, undoes this one. ``when`` is as in `at`, and so is what is raised.
        """
        self._check("")
        self._volume.check_writable()
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._writer.turns.take(short=False)
        try:
            await restore(self._volume, self._writer, when)
            commit = self._writer.file.last_commit
        finally:
            self._writer.turns.give()
        with self._volume.held():  # so that nothing above it falls below the floor meanwhile
            await self._writer.settle(commit)
            lsn = self._volume.vdl if commit is None else commit.lsn
            found = await commit_at(self._volume, lsn)
        assert found is not None, "a database without a commit cannot be backtracked"
        return found

    # ---- reading ---------------------------------------------------------------------------------

    def query(self, statement: str, bindings: Bindings = None) -> Rows:
        """The rows of a statement that reads, as of the newest durable commit.

        All of them are of one moment: that of the first row. Any number of queries may be under
        way, and none waits for a transaction, nor has one wait.
        """
        self._check(statement)
        return Rows(self._source, statement, bindings)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """The database as of the newest durable commit, kept as that while the block runs."""
        self._check("")
        await trio.lowlevel.checkpoint()
        with self._volume.held() as lsn:
            commit = await commit_at(self._volume, lsn)
            # At `lsn`, not at the commit's: above it may be what an import has left, and the floor.
            async with self._snapshot_at(commit, lsn) as snapshot:
                yield snapshot

    @asynccontextmanager
    async def at(self, when: Moment) -> AsyncIterator[Snapshot]:
        """The database as of the newest commit at or before a moment.

        ``when`` is an LSN, a datetime with its time zone, a timedelta of how long ago, or a text:
        ISO 8601, in UTC unless it says otherwise, or as in "5 minutes ago". Raises `Invalid` for
        anything else, and for a time to come, `ReadPointAboveVdl`, `ReadPointBelowFloor` for what
        is no longer kept (see `EngineConfig.retention_lsns` and `retention_s`), `NoSuchCommit`
        before the first commit.
        """
        self._check("")
        await trio.lowlevel.checkpoint()
        commit = await commit_of(self._volume, when)
        with self._volume.held(commit.lsn):
            async with self._snapshot_at(commit, commit.lsn) as snapshot:
                yield snapshot

    @asynccontextmanager
    async def _snapshot_at(self, commit: CommitInfo | None, lsn: Lsn) -> AsyncIterator[Snapshot]:
        snapshot = Snapshot(self._connections, None if commit is None else lsn, commit)
        try:
            yield snapshot
        finally:
            snapshot.end()

    # ---- files -----------------------------------------------------------------------------------

    async def export(
        self,
        path: str | PathLike[str],
        *,
        at: Moment | None = None,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> CommitInfo | None:
        """Write a plain SQLite file; returns the commit that it shows, or None before the first.

        ``at`` is as in `at`, by default the newest durable commit; later commits do not wait. The
        file appears whole under its name, or not at all. Raises `FileInTheWay` if it is there
        already, unless ``replace``; `UnmergedJournal` if a log of a former one is beside it, which
        SQLite would apply to this one; `OSError` if it cannot be written; and as `at`.
        """
        self._check("")
        await trio.lowlevel.checkpoint()
        return await export_file(self._volume, path, at=at, replace=replace, progress=progress)

    async def import_file(
        self, path: str | PathLike[str], *, progress: Progress | None = None
    ) -> CommitInfo:
        """Make a SQLite file of any page size the content of an empty database; returns its commit.

        A file with pages of 8,192 bytes is taken as it is, and an export gives the same bytes;
        others are first copied, by SQLite, into its directory for temporary files. Nobody else
        writes to the database meanwhile, and readers find it empty. Failed, or cancelled, it stays
        empty; cancelled when it only waits to be durable, it stands.

        Raises `NotSqlite`, `SqlCorrupt` if it is damaged, or ends too early, `UnmergedJournal` for
        a log beside it, `DatabaseNotEmpty`, and `OSError` if the file cannot be read.
        """
        self._check("")
        await trio.lowlevel.checkpoint()
        return await import_file(self._volume, self._writer, path, progress)

    async def history(self, limit: int = 20) -> list[CommitInfo]:
        """The newest commits that can still be read, at most ``limit``, the newest first."""
        self._check("")
        number = whole_number(limit)
        if number is None or number < 0:
            raise Invalid(f"limit is {limit!r}: expected an integer >= 0")
        await trio.lowlevel.checkpoint()
        return await commits(self._volume, number)

    @property
    def lsn(self) -> Lsn:
        """The VDL: what queries read."""
        self._check("")
        return self._volume.vdl

    @property
    def settings(self) -> dict[str, str]:
        """What PRAGMA has set of the connection that writes, by name: another one has none of it.

        Can be asked for as long as the database is not closed, also when its writer has ended.
        """
        return dict(self._writer.connection.settings)

    async def _take_reader(self) -> SqlConnection:
        return await self._connections.take_reader()

    def _check(self, statement: object) -> None:
        self._volume.check_caller()
        if self._closed:
            raise Closed("the database has been closed: expected one whose block is running")
        check_kind("statement", statement, str, "a text in SQL")
        self._volume.check()


async def _check_pages(volume: Volume) -> None:
    """Raise `NotADatabase` unless the volume is empty or a database."""
    first = await volume.first_page()
    if first is None:
        return
    with volume.held() as vdl:
        pages = [await volume.page(each, vdl) for each in (COMMIT_PAGE, HEADER_PAGE)]
    if not is_commit_page(pages[0].image) or not has_header(pages[1].image):
        raise NotADatabase(
            f"the volume has pages, the first is {first}, and they are no database: expected an "
            "empty volume, or one that only open_database has written to"
        )
