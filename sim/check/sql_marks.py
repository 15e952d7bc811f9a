"""Marks of SQL: what its clients, its transactions and its snapshots went through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from segments.protocol.errors import Closed, Fenced, InvalidWrite, SqlConstraint
from segments.protocol.ids import Lsn, SegmentId
from sim.check.mark import Mark
from sim.check.reference_model import Reference
from sim.world.history import Call, Outcome
from sim.world.sql_ways import CONTENTS

SQL_MARKS: Final = (
    Mark("transfer in SQL", "a transaction in SQL was acknowledged"),
    Mark("transfer outcome unknown", "nobody was told what came of a SQL commit in the log"),
    Mark("unknown transfer survived", "a SQL commit of unknown outcome is there in the end"),
    Mark("unknown transfer lost", "a SQL commit of unknown outcome was annulled"),
    Mark(
        "dependents failed with their writer",
        "SQL commits that build on one another failed at once",
    ),
    Mark("database opened on the next writer", "a database was opened anew, and looked at in full"),
    Mark(
        "statement aborted in a transaction", "a SQL transaction went on after a failed statement"
    ),
    Mark("transaction aborted", "a constraint rolled back a whole SQL transaction"),
    Mark("rolled back to a savepoint", "part of a SQL transaction was undone, and the rest stayed"),
    Mark("SQL transaction spilled", "SQLite gave out pages before the commit"),
    Mark("spilled and rolled back", "SQLite gave out pages of a transaction that came to nothing"),
    Mark("SQL transaction too large", "a transaction had more changes than one may have"),
    Mark("SQL transaction cancelled", "a caller gave up amid a SQL transaction: nothing is left"),
    Mark("snapshot held across commits", "a snapshot was read before and after a commit"),
    Mark("snapshot held through a crash", "a segment crashed while a snapshot was held"),
    Mark("old commit read in SQL", "SQL read a commit that others had followed"),
    Mark("backtracked", "a database was made what it was at an earlier commit"),
    Mark("vacuumed", "VACUUM wrote a database anew"),
    Mark("large SQL commit", "one SQL transaction changed 100 KiB or more"),
    Mark("SQL read the head", "a SQL transaction that wrote nothing saw the head"),
    Mark("SQL refused a statement", "a statement was refused that a volume cannot let SQLite run"),
)
_LARGE_BYTES: Final = 100 << 10


class SqlCoverage:
    """Counts the marks of SQL of one run."""

    def __init__(self, reference: Reference, count: Callable[[str], None]) -> None:
        self._reference = reference
        self._count = count
        self._under_way: dict[int, int] = {}
        """How many segments had crashed when a call in SQL began."""
        self._crashes = 0
        self._failed: dict[str, tuple[int, int]] = {}
        """When commits of a writer failed last, and how many then."""
        self._unknown: list[Lsn] = []

    def on_crashed(self, _: SegmentId) -> None:
        """A segment has stopped at once."""
        self._crashes += 1

    def on_invoked(self, call: Call) -> None:
        """A client has made a call."""
        if call.is_sql:
            self._under_way[call.number] = self._crashes

    def on_opened(self, writer: str) -> None:
        """A writer has opened the volume: what it has of those commits is there for good."""
        view = self._reference.writers[writer]
        for lsn in self._unknown:
            live = self._reference.is_live(view, lsn)
            self._count("unknown transfer survived" if live else "unknown transfer lost")
        self._unknown.clear()

    def on_returned(self, call: Call) -> None:
        """A client has been answered."""
        crashes = self._under_way.pop(call.number, self._crashes)
        if not call.is_sql:
            return
        if call.sql.opened and call.sql.readings and call.writer != "writer-1":
            self._count("database opened on the next writer")
        if call.may_write:
            self._write(call)
        elif call.outcome is Outcome.OK:
            self._read(call, crashed=crashes < self._crashes)
        elif call.operation.way == "refused" and not call.cancelled:
            self._count("SQL refused a statement")

    def _write(self, call: Call) -> None:
        way = call.operation.way
        if call.outcome is Outcome.OK:
            self._acknowledged(call)
        elif call.lsns:
            self._count("transfer outcome unknown")
            self._unknown.append(call.lsns[-1])
            if call.raised in (Fenced, Closed):
                self._failed_with_writer(call)
        elif call.raised is SqlConstraint:
            self._count("transaction aborted")
        elif call.raised is InvalidWrite:
            self._count("SQL transaction too large")
        elif call.cancelled and call.sql.script:
            self._count("SQL transaction cancelled")
        if call.sql.spilled:
            self._count("SQL transaction spilled")
            if not call.lsns and way == "unbulk":
                self._count("spilled and rolled back")

    def _acknowledged(self, call: Call) -> None:
        if not call.lsns:
            return
        way = call.operation.way
        if way == "backtrack":
            self._count("backtracked")
        elif way == "vacuum":
            self._count("vacuumed")
        else:
            self._count("transfer in SQL")
        if way == "savepoint":
            self._count("rolled back to a savepoint")
        if any(each.error is not None for each in call.sql.script):
            self._count("statement aborted in a transaction")
        if sum(len(data) for _, _, data in call.writes) >= _LARGE_BYTES:
            self._count("large SQL commit")

    def _failed_with_writer(self, call: Call) -> None:
        assert call.returned_ns is not None
        at_ns, count = self._failed.get(call.writer, (-1, 0))
        count = count + 1 if at_ns == call.returned_ns else 1
        self._failed[call.writer] = call.returned_ns, count
        if count == 2:
            self._count("dependents failed with their writer")

    def _read(self, call: Call, *, crashed: bool) -> None:
        way, reads = call.operation.way, call.sql.readings
        if way == "head":
            self._count("SQL read the head")
        elif way == "at" and call.sql.moments[0][1] and call.operation.age:
            self._count("old commit read in SQL")
        elif way == "snapshot" and sum(each.statement.text == CONTENTS for each in reads) > 1:
            if crashed and call.operation.hold_ns:
                self._count("snapshot held through a crash")
            if self._reference.newest_lsn > reads[-1].high:
                self._count("snapshot held across commits")
