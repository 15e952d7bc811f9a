"""The database as of one commit, to be read by any number of tasks."""

from __future__ import annotations

from aurora.sqlite.connections import Bindings, Connections, SqlConnection
from aurora.sqlite.history import CommitInfo
from aurora.sqlite.outcome import Outcome
from aurora.sqlite.rows import Rows, RowSource
from segments.protocol.ids import Lsn


class Snapshot:
    """Reads at one read point, whose versions are kept while the block runs."""

    def __init__(
        self, connections: Connections, lsn: Lsn | None, commit: CommitInfo | None
    ) -> None:
        self.commit = commit
        """The newest commit that it shows; None if there was none yet."""
        self._lsn = lsn
        self._connections = connections
        self._idle: list[SqlConnection] = []
        self._made: list[SqlConnection] = []
        self._source = RowSource(connections.volume, self._take, self._idle.append, "a snapshot")

    @property
    def lsn(self) -> Lsn:
        """The LSN of `commit`; 0 if there was none yet."""
        return 0 if self.commit is None else self.commit.lsn

    def query(self, statement: str, bindings: Bindings = None) -> Rows:
        """As `Database.query`, on this snapshot."""
        self._source.check()
        return Rows(self._source, statement, bindings)

    async def execute(self, statement: str, bindings: Bindings = None) -> Outcome:
        """Run a statement that reads, and return all its rows; raises `SqlReadOnly` for others."""
        rows = self.query(statement, bindings)
        return Outcome(rows=await rows.all(), columns=rows.columns)

    async def _take(self) -> SqlConnection:
        if self._idle:
            return self._idle.pop()
        connection = await self._connections.open_fixed(self._lsn)
        self._made.append(connection)
        return connection

    def end(self) -> None:
        """Close all that is open; never waits."""
        self._source.end()
        for connection in self._made:
            self._connections.close(connection)
