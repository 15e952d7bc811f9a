"""The rows of a query, as they are asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from itertools import islice
from typing import Any, Final
from weakref import WeakKeyDictionary

import apsw
import trio

from aurora.sqlite.connections import Bindings, Columns, Row, SqlConnection
from aurora.sqlite.sql_errors import MISTAKES, check_bindings, check_statement, mistake
from aurora.sqlite.undo import Undo
from aurora.sqlite.volume import Volume
from segments.protocol.errors import AuroraError, Closed, Invalid

BATCH: Final = 256
"""Rows fetched at a time: a query passes a checkpoint for each batch, not for each row."""


class RowSource:
    """Where queries get their connection from, and what becomes of them when that ends.

    A query that is under way has the connection until it is through, or closed.
    """

    def __init__(
        self,
        volume: Volume,
        take: Callable[[], Awaitable[SqlConnection]],
        give_back: Callable[[SqlConnection], None],
        what: str,
        error: type[AuroraError] = Invalid,
    ) -> None:
        self._volume = volume
        self.take = take
        self.give_back = give_back
        self.what = what
        """What has ended when it has, for the error."""
        self.error = error
        """What is raised then."""
        self.ended = False
        self.under_way: WeakKeyDictionary[Rows, None] = WeakKeyDictionary()

    def end(self) -> None:
        """End all queries; what is asked of them later raises."""
        self.ended = True
        for rows in list(self.under_way):
            rows.end()

    def check(self) -> None:
        """Raise `error` if it has ended, and `OutsideTrio`."""
        self._volume.check_caller()
        if self.ended:
            raise self.error(f"a query of {self.what} that has ended: expected one that is open")


class Rows(AsyncIterator[Row]):
    """The rows of one query, to be gone through once: ``async for row in db.query(…)``.

    Nothing happens before the first row is asked for. As long as a query is neither at its end nor
    closed it keeps its read point: `aclose` one that is left early, or let it go out of scope.
    """

    def __init__(self, source: RowSource, statement: str, bindings: Bindings) -> None:
        self.columns: Columns = ()
        """The names of the columns, once rows have been asked for."""
        self._source = source
        self._statement = statement
        self._bindings = bindings
        self._connection: SqlConnection | None = None
        self._cursor: apsw.Cursor | None = None
        self._rows: list[Row] = []  # the last comes first
        self._done = False
        self._busy = False

    def __aiter__(self) -> Rows:
        return self

    async def __anext__(self) -> Row:
        """The next row; raises as `Database.query`."""
        if not self._rows:
            if not self._done:
                await self._fetch(BATCH)
            if not self._rows:
                raise StopAsyncIteration
        return self._rows.pop()

    async def all(self) -> list[Row]:
        """All rows that are left."""
        rows = self._rows[::-1]
        self._rows = []
        while not self._done:
            await self._fetch(BATCH)
            rows += self._rows[::-1]
            self._rows = []
        return rows

    async def first(self) -> Row | None:
        """The next row, or None if there is none; the query is closed."""
        if not self._rows and not self._done:
            await self._fetch(1)
        row = self._rows.pop() if self._rows else None
        self.close()
        return row

    async def value(self) -> Any:
        """The first value of the next row, or None if there is none; the query is closed."""
        row = await self.first()
        return None if row is None else row[0]

    def close(self) -> None:
        """End the query where it is; rows that were fetched and not asked for are gone."""
        self._rows = []
        self._done = True
        self._let_go()

    def end(self) -> None:
        """The source has ended: whoever asks for more rows is told."""
        self._rows = []
        self._let_go()

    async def aclose(self) -> None:
        """As `close`, and a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    def __del__(self) -> None:
        if self._cursor is not None:
            self.close()

    async def _fetch(self, most: int) -> None:
        self._source.check()
        if self._busy:
            raise Invalid("a query that another task is waiting for: expected one task at a time")
        self._busy = True
        try:
            await trio.lowlevel.checkpoint()
            self._source.check()
            if self._connection is None:
                self._connection = await self._source.take()
            rows = await self._connection.run(self._step, self._connection, most)
        except BaseException as error:
            self._done = True
            self._let_go()
            if isinstance(error, Closed):  # beneath the query: it is the source that has ended
                self._source.check()
            raise
        finally:
            self._busy = False
        rows.reverse()
        self._rows = rows
        if self._done:
            self._let_go()

    def _step(self, connection: SqlConnection, most: int) -> list[Row]:
        undo = connection.undo
        try:
            cursor = self._cursor
            if cursor is None:
                check_statement(self._statement)
                check_bindings(self._bindings)
                cursor = self._cursor = connection.sqlite.cursor()
                self._source.under_way[self] = None
                cursor.exec_trace = partial(self._before, undo)
                cursor.execute(self._statement, self._bindings)
            rows = list(islice(cursor, most))
            self._done = len(rows) < most
            if undo.open:  # it writes, so that nothing may come before its last row
                rows += cursor
                self._done = True
                undo.keep()
        except BaseException as error:
            if self._cursor is not None:
                self._cursor.close(True)
            undo.take_back()
            if isinstance(error, MISTAKES):
                raise mistake(error, self._statement, self._bindings) from error
            raise
        return rows

    def _before(self, undo: Undo, cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
        self.columns = tuple([each[0] for each in cursor.get_description()])
        return undo.before(cursor, statement, bindings)

    def _let_go(self) -> None:
        cursor, self._cursor = self._cursor, None
        connection, self._connection = self._connection, None
        if cursor is not None:
            self._source.under_way.pop(self, None)
            assert connection is not None
            connection.drop(cursor)
        if connection is not None:
            self._source.give_back(connection)
