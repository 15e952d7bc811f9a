"""What must hold of the volume as a SQLite database (33 to 38).

As in `sim.check.invariants`: predicates, which raise `Broken`. `sim.check.sql_checks` holds them,
with what `sim.check.sql_oracle` makes of the same statements.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence

from segments.protocol.ids import Lsn
from segments.protocol.record import RedoRecord
from sim.check.invariants import Broken, holds
from sim.check.reference_model import WriterView
from sim.check.sql_oracle import Replayed, SqlOracle
from sim.plan.sql_calls import ACCOUNTS
from sim.world.history import Call
from sim.world.sql_history import Reading, SqlRow, Statement
from sim.world.sql_ways import MONEY

_COMMIT_PAGE = 0
_SHOWN = 200

# ---- what is read (33) ---------------------------------------------------------------------------


@holds("sql-reads-match-a-commit")
def reading_matches(oracle: SqlOracle, view: WriterView, call: int, reading: Reading) -> None:
    """33, for a statement that reads what is durable: all of it is of one commit of that time."""
    statement = reading.statement
    found: list[SqlRow] | str = []
    commits = oracle.commits_between(view, reading.low, reading.high)
    for commit in commits:
        try:
            found = oracle.query(commit, statement.text)
        except sqlite3.Error as error:
            found = str(error)
        if statement.rows == (found[:1] if reading.first else found):
            return
    raise Broken(
        f"call {call}: {_short(statement.text)} as of LSN {reading.low} to {reading.high} read "
        f"{_difference(statement.rows, found)} (commits {commits})"
    )


@holds("sql-reads-match-a-commit")
def script_matches(oracle: SqlOracle, call: Call, commits: Sequence[Lsn]) -> None:
    """33, for what a transaction has seen: the head it was built on, and its own changes."""
    script, why = call.sql.script, ""
    for commit in commits:
        why = _mismatch(script, oracle.replay(commit, script))
        if not why:
            return
    raise Broken(f"call {call.number}, built on one of the commits {[*commits]}: {why}")


def _mismatch(script: Sequence[Statement], replayed: Sequence[Replayed]) -> str:
    """How the first statement that differs does; empty if none does."""
    for statement, expected in zip(script, replayed, strict=True):
        if statement.error is None and statement.rows is None:
            return ""  # nobody was told what came of it
        if statement.error is not expected.error:
            found = "no error" if statement.error is None else statement.error.__name__
            wanted = "none" if expected.error is None else expected.error.__name__
            return f"{_short(statement.text)}: {found}, expected {wanted}"
        if statement.error is not None:
            continue
        if list(statement.rows or ()) != list(expected.rows):
            return f"{_short(statement.text)} read {_difference(statement.rows, [*expected.rows])}"
        if statement.text != "VACUUM" and statement.changes != expected.changes:
            return (
                f"{_short(statement.text)} changed {statement.changes} rows: "
                f"expected {expected.changes}"
            )
    return ""


@holds("sql-reads-match-a-commit")
def moment_is_a_commit(call: int, asked: Lsn, found: Lsn, expected: Lsn) -> None:
    """33: an LSN means the newest commit at or below it."""
    if found != expected:
        raise Broken(f"call {call}: LSN {asked} was taken for the commit {found}, not {expected}")


@holds("sql-reads-match-a-commit")
def history_matches(
    call: int, found: Sequence[Lsn], candidates: Sequence[Sequence[Lsn]], limit: int
) -> None:
    """33: the list of commits has the newest ones, down to the floor, which may have risen."""
    for expected in candidates:
        if list(found) == list(expected[: len(found)]):
            return
    raise Broken(
        f"call {call}: the {limit} newest commits are {[*found]}: expected one of "
        f"{[[*each] for each in candidates]}"
    )


# ---- money (34, 35) ------------------------------------------------------------------------------


@holds("sql-money-is-conserved")
def money_is_conserved(call: int, contents: Sequence[SqlRow]) -> None:
    """34: each account has what the ledger leaves to it, so all of them what they had at first."""
    accounts = {row[1]: row[2] for row in contents if row[0] == "account"}
    if not accounts:
        return
    expected = dict.fromkeys(range(ACCOUNTS), MONEY)
    for kind, _, source, target, amount, _ in contents:
        if kind == "ledger":
            expected[source] -= amount
            expected[target] += amount
    if accounts != expected:
        wrong = {each: (accounts.get(each), expected[each]) for each in expected}
        text = ", ".join(f"{k}: {a} for {b}" for k, (a, b) in wrong.items() if a != b)
        raise Broken(f"call {call}: accounts disagree with the ledger: {text}")


@holds("sql-transfers-once")
def transfers_are_there(
    call: int, ledger: Mapping[int, int], owed: Mapping[int, str], never: Mapping[int, str]
) -> None:
    """35: ``ledger`` counts each transfer by its id; those owed are there once, others never."""
    for transfer, why in owed.items():
        if ledger.get(transfer, 0) != 1:
            raise Broken(
                f"call {call} finds transfer {transfer} {ledger.get(transfer, 0)} times in the "
                f"ledger: expected 1, {why}"
            )
    for transfer in ledger:
        if transfer in never:
            raise Broken(f"call {call} finds transfer {transfer} in the ledger; {never[transfer]}")


# ---- the log (36, 37) ----------------------------------------------------------------------------


@holds("sql-one-mtr")
def ends_with_a_stamp(writer: str, records: Sequence[RedoRecord]) -> None:
    """36: the last record of each MTR, and it alone, is the stamp on the commit page."""
    stamps = [each.lsn for each in records if each.page_id == _COMMIT_PAGE]
    if stamps != [records[-1].lsn] or records[-1].offset:
        raise Broken(
            f"{writer}: the MTR {records[0].lsn} to {records[-1].lsn} has stamps at {stamps}: "
            f"expected one, at its end"
        )


@holds("sql-one-mtr")
def is_its_mtr(call: int, lsn: Lsn, lsns: Sequence[Lsn], mtrs: int) -> None:
    """36: a transaction that is acknowledged was one MTR, and is told of that one's end."""
    if mtrs > 1 or lsn != (lsns[-1] if lsns else 0):
        raise Broken(f"call {call} was told of LSN {lsn}; it made {mtrs} MTRs, the last {[*lsns]}")


@holds("sql-gives-out-the-durable")
def was_durable(call: int, head: Lsn, vdl: Lsn) -> None:
    """37: of the head that a call has seen nobody is told before it is durable."""
    if head > vdl:
        raise Broken(f"call {call} has seen the head at {head}, and returns at VDL {vdl}")


# ---- soundness (38) ------------------------------------------------------------------------------


@holds("sql-database-is-sound")
def is_sound(call: int, said: Sequence[SqlRow]) -> None:
    """38: SQLite's own check of all pages, indexes and constraints finds nothing."""
    if list(said) != [("ok",)]:
        raise Broken(f"call {call}: integrity_check says {[*said][:5]}")


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _difference(found: Sequence[SqlRow] | None, expected: Sequence[SqlRow] | str) -> str:
    """Where two results part, shortened."""
    if isinstance(expected, str):
        return f"{len(found or ())} rows: expected the error {expected!r}"
    have, want = Counter(found or ()), Counter(expected)
    extra, missing = [*(have - want).elements()], [*(want - have).elements()]
    return f"{extra} too many, {missing} missing"[:_SHOWN] if extra or missing else "another order"
