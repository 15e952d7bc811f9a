"""Calls in SQL, held against the rules of `sim.check.rules_of_sql` as they return."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from aurora.engine import Engine
from aurora.events import MtrAllocated
from segments.protocol.errors import Fenced, SqlError, Unavailable
from segments.protocol.record import RedoRecord
from sim.check import rules_of_sql
from sim.check.findings import Findings
from sim.check.reference_model import Reference, WriterView
from sim.check.sql_oracle import SqlOracle
from sim.world import sql_ways
from sim.world.history import Call, Outcome
from sim.world.sql_history import SqlRow
from sim.world.world import World

_ENDED: Final = (Fenced, Unavailable)
"""What any call may end with, whatever is wrong with it."""


class SqlChecks:
    """The calls in SQL of one run."""

    def __init__(self, world: World, reference: Reference, findings: Findings) -> None:
        self._world = world
        self._reference = reference
        self._hold = findings.hold
        self._fail = findings.fail
        self._oracle = SqlOracle(reference)
        self._any = world.schedule.has_sql
        self._calls: list[Call] = []
        self._unplaced: dict[int, Call] = {}
        """Calls that may become part of the log, by number, until they have or have returned."""
        self._parts: dict[str, list[RedoRecord]] = {}
        """What each writer has made of an MTR that is not whole yet."""

    def allocated(self, writer: str, event: MtrAllocated) -> None:
        """A writer has made an MTR, or a part of one."""
        if not self._any:
            return
        parts = self._parts.setdefault(writer, [])
        parts.extend(event.records)
        if parts[-1].is_cpl:
            self._hold(rules_of_sql.ends_with_a_stamp, writer, parts)
            parts.clear()

    def invoked(self, call: Call) -> None:
        """A client has made a call."""
        if call.is_sql:
            self._calls.append(call)
            self._unplaced[call.number] = call

    def returned(self, call: Call, engine: Engine) -> None:
        """A client has been answered."""
        if not call.is_sql:
            return
        self._place()
        self._unplaced.pop(call.number, None)
        view = self._reference.writers[engine.name]
        self._told(call, engine)
        self._script(call, view)
        for asked, found in call.sql.moments:
            expected = self._oracle.commit_at(view, asked)
            self._hold(rules_of_sql.moment_is_a_commit, call.number, asked, found, expected)
        for reading in call.sql.readings:
            self._hold(rules_of_sql.reading_matches, self._oracle, view, call.number, reading)
            if reading.statement.text == sql_ways.CONTENTS:
                self._contents(call, reading.statement.rows or ())
        self._history(call, view)
        if call.sql.unsound is not None:
            self._hold(rules_of_sql.is_sound, call.number, call.sql.unsound)
        if call.operation.way == "refused":
            self._refused(call)

    def _place(self) -> None:
        for number, call in list(self._unplaced.items()):
            if call.lsns and self._reference.records[call.lsns[-1]].is_cpl:  # all its parts
                self._oracle.committed(call)
                del self._unplaced[number]

    # ---- at the head -----------------------------------------------------------------------------

    def _told(self, call: Call, engine: Engine) -> None:
        """What the caller has learnt is durable: its own commit, and the head that it has seen."""
        said = call.outcome is Outcome.OK
        refused = call.raised is not None and issubclass(call.raised, SqlError)
        if engine.core is None or not (said or refused):
            return
        if said:
            lsns = call.lsns
            self._hold(rules_of_sql.is_its_mtr, call.number, call.lsn, lsns, call.mtrs)
        view = self._reference.writers[engine.name]
        seen = self._oracle.commit_at(view, (call.lsns[-1] - 1) if call.lsns else call.sql.low)
        self._hold(rules_of_sql.was_durable, call.number, seen, engine.core.vdl)

    def _script(self, call: Call, view: WriterView) -> None:
        if not call.sql.script:
            return
        if call.lsns:
            commits = [self._oracle.before(call)]
        else:
            commits = self._oracle.commits_between(view, call.sql.low, call.sql.high)
        self._hold(rules_of_sql.script_matches, self._oracle, call, commits)

    # ---- what is durable -------------------------------------------------------------------------

    def _history(self, call: Call, view: WriterView) -> None:
        if call.sql.commits is None:
            return
        low, high, found = call.sql.commits
        newest = self._oracle.commits_between(view, low, high)
        limit = call.sql.limit
        candidates = [self._oracle.newest(view, each, limit) for each in newest]
        self._hold(rules_of_sql.history_matches, call.number, found, candidates, limit)

    def _contents(self, call: Call, rows: Sequence[SqlRow]) -> None:
        self._hold(rules_of_sql.money_is_conserved, call.number, rows)
        if call.operation.way != "audit" or self._backtracked(call):
            return
        ledger = Counter(row[1] for row in rows if row[0] == "ledger")
        owed: dict[int, str] = {}
        never: dict[int, str] = {}
        for each in self._calls:
            if each.returned_ns is None or each.returned_ns > call.invoked_ns:
                continue
            first, (there, absent) = (
                sql_ways.STRIDE * (each.number + 1),
                sql_ways.parts_of(each.operation),
            )
            who = f"call {each.number} ({each.operation.way})"
            if each.outcome is Outcome.OK:
                owed.update((first + part, f"{who} was acknowledged") for part in there)
                never.update((first + part, f"{who} has rolled it back") for part in absent)
            elif each.outcome is Outcome.REFUSED:
                why = f"{who} was refused: {each.error}"
                never.update((first + part, why) for part in (*there, *absent))
        self._hold(rules_of_sql.transfers_are_there, call.number, ledger, owed, never)

    def _backtracked(self, call: Call) -> bool:
        return any(each.sql.back_to is not None and each.lsns for each in self._calls)

    def _refused(self, call: Call) -> None:
        text, expected, _ = sql_ways.refusal(call.operation)
        if call.outcome is Outcome.OK or call.lsns:
            self._fail("wrong calls", f"call {call.number}: {text} was run")
        elif call.raised is not None and not issubclass(call.raised, (expected, *_ENDED)):
            self._fail(
                "wrong calls",
                f"call {call.number}, {text}: {call.raised.__name__} ({call.error}), expected "
                f"{expected.__name__}",
            )
