"""What SQL must have seen: another SQLite, in memory, that replays what was committed.

A deliberately dumb one: the statements of each call that has become part of the log are run again
by the SQLite of Python's standard library, in the order of their commit LSNs, and the database is
kept as it was after each. Which commits there are, and which of them a writer's log has, comes from
the reference model, so the database of any LSN can be asked anything.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

from segments.protocol.errors import AuroraError, SqlConstraint, SqlInvalid
from segments.protocol.ids import Lsn
from sim.check.reference_model import Reference, WriterView
from sim.world.history import Call
from sim.world.sql_history import SqlRow, Statement

_ERRORS: Final[tuple[tuple[type[sqlite3.Error], type[AuroraError]], ...]] = (
    (sqlite3.IntegrityError, SqlConstraint),
    (sqlite3.OperationalError, SqlInvalid),
)
_ALONE: Final = ("VACUUM",)
"""Statements that are no part of a transaction."""


class Replayed:
    """A statement as the other SQLite has run it."""

    def __init__(self) -> None:
        self.rows: Sequence[SqlRow] = ()
        self.changes = 0
        self.error: type[AuroraError] | None = None


class SqlOracle:
    """The databases of one run's commits."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._calls: dict[Lsn, Call] = {}
        """Which call has made which commit."""
        self._commits: list[Lsn] = []
        self._databases: dict[Lsn, bytes] = {0: b""}
        """By commit; at LSN 0 there is none yet."""

    def committed(self, call: Call) -> None:
        """A call has become part of the log."""
        lsn = call.lsns[-1]
        if lsn not in self._calls:
            self._calls[lsn] = call
            insort(self._commits, lsn)

    def commit_at(self, view: WriterView, lsn: Lsn) -> Lsn:
        """The newest commit of a writer's log at or below ``lsn``; 0 for none."""
        commits = self._commits
        for at in range(bisect_right(commits, lsn) - 1, -1, -1):
            if self._reference.is_live(view, commits[at]):
                return commits[at]
        return 0

    def commits_between(self, view: WriterView, low: Lsn, high: Lsn) -> list[Lsn]:
        """The commits that are the newest one at some LSN from ``low`` to ``high``; ascending."""
        commits = self._commits
        inside = commits[bisect_left(commits, low + 1) : bisect_right(commits, high)]
        live = [each for each in inside if self._reference.is_live(view, each)]
        return [self.commit_at(view, low), *live]

    def newest(self, view: WriterView, lsn: Lsn, limit: int) -> list[Lsn]:
        """At most so many commits at or below ``lsn``, the newest first."""
        found: list[Lsn] = []
        while len(found) < limit and (lsn := self.commit_at(view, lsn)):
            found.append(lsn)
            lsn -= 1
        return found

    # ---- asking ----------------------------------------------------------------------------------

    def replay(self, commit: Lsn, script: Sequence[Statement]) -> list[Replayed]:
        """What statements must come to as one transaction on the database of a commit."""
        with self._opened(commit) as database:
            return _run(database, script)

    def query(self, commit: Lsn, text: str) -> list[SqlRow]:
        """What a statement must read of the database of a commit; raises sqlite3's errors."""
        with self._opened(commit) as database:
            return list(database.execute(text))

    def before(self, call: Call) -> Lsn:
        """The commit on which a call was built that has become part of the log."""
        lsn = call.lsns[-1]
        return self.commit_at(self._owner(lsn), lsn - 1)

    @contextmanager
    def _opened(self, commit: Lsn) -> Iterator[sqlite3.Connection]:
        image = self._database(commit)
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
            if image:
                database.deserialize(image)
            yield database

    def _database(self, commit: Lsn) -> bytes:
        """The database as of a commit, made from those before it."""
        missing: list[Lsn] = []
        while commit not in self._databases:
            missing.append(commit)
            commit = self.before(self._calls[commit])
        for each in reversed(missing):
            self._databases[each] = self._after(commit, self._calls[each])
            commit = each
        return self._databases[commit]

    def _after(self, before: Lsn, call: Call) -> bytes:
        if call.sql.back_to is not None:
            return self._database(self.commit_at(self._owner(call.lsns[-1]), call.sql.back_to))
        with self._opened(before) as database:
            _run(database, call.sql.script, commits=True)
            return database.serialize()

    def _owner(self, lsn: Lsn) -> WriterView:
        return self._reference.writers[self._reference.owner[lsn]]


def _run(
    database: sqlite3.Connection, script: Sequence[Statement], *, commits: bool = False
) -> list[Replayed]:
    """Run statements as one transaction, which stays if it ``commits``."""
    whole = not any(each.text in _ALONE for each in script)
    if whole:
        database.execute("BEGIN")
    done = [_run_one(database, each) for each in script]
    if whole and database.in_transaction:
        database.execute("COMMIT" if commits else "ROLLBACK")
    return done


def _run_one(database: sqlite3.Connection, statement: Statement) -> Replayed:
    done, before = Replayed(), database.total_changes
    try:
        if statement.sets is not None:
            database.executemany(statement.text, statement.sets)
        else:
            bindings: tuple[Any, ...] = statement.bindings
            done.rows = list(database.execute(statement.text, bindings))
    except sqlite3.Error as error:
        done.error = next(ours for theirs, ours in _ERRORS if isinstance(error, theirs))
    done.changes = database.total_changes - before
    return done
