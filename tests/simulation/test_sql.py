"""Runs whose clients call in SQL: what they do, and that the rules for them can break."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import cache

import attrs
import pytest

from segments.protocol.errors import ExtraMissing, SqlConstraint, SqlInvalid
from segments.protocol.record import RedoRecord
from sim import run as running
from sim.bugs.sql import PLANS
from sim.check import rules_of_sql
from sim.check.invariants import Broken, rule_of
from sim.check.reference_model import WriterView
from sim.check.sql_oracle import SqlOracle
from sim.files.scenario import dump, loads
from sim.files.toml_reader import ScenarioError
from sim.plan.generate import generate
from sim.plan.schedule import SQL, SQL_READS, SQL_WAYS, SQL_WRITES, Operation, Schedule
from sim.plan.shapes import SHAPES
from sim.run import Run, Verdict, run
from sim.world import sql_clients, sql_ways
from sim.world.history import Call, Outcome
from sim.world.sql_history import Reading, SqlRow, Statement
from sim.world.world import World

BANK = PLANS["sql-journal-off"]


@cache
def seeds_in_sql() -> list[int]:
    """Of a hundred; drawn when a test asks for them, and not by whoever only lists the tests."""
    return [seed for seed in range(100) if generate(seed).has_sql]


@pytest.fixture(scope="module")
def bank() -> Run:
    """A day of a bank, played to its end."""
    done = Run(World(BANK().schedule("a bank")))
    assert done.run().verdict is Verdict.PASSED
    return done


def sql_of(schedule: Schedule) -> list[Operation]:
    return [each for each in schedule.operations if each.kind == SQL]


# ---- what is drawn -------------------------------------------------------------------------------


def test_one_seed_in_ten_or_more_calls_in_sql() -> None:
    assert len(seeds_in_sql()) >= 10


def test_whoever_calls_in_sql_is_the_only_one_to_write() -> None:
    for seed in seeds_in_sql():
        schedule = generate(seed)
        kinds = {each.kind for each in schedule.operations}
        assert "put" not in kinds
        assert schedule.shape.endswith(", in SQL")
        assert [each.way for each in schedule.operations[-3:]] == ["setup", "auto", "audit"]


def test_a_shape_of_ones_own_is_left_alone() -> None:
    assert not any(generate(seed, SHAPES[0]).has_sql for seed in seeds_in_sql())


def test_every_way_is_drawn_and_can_be_made() -> None:
    drawn = {each.way for seed in seeds_in_sql() for each in sql_of(generate(seed))}
    assert drawn == set(SQL_WAYS) == {*sql_clients._WAYS, "close"}
    assert not set(SQL_WRITES) & set(SQL_READS)


@pytest.mark.parametrize("nth", [0, 1])
def test_a_seed_passes_and_is_the_same_twice(nth: int) -> None:
    seed = seeds_in_sql()[nth]
    first, second = run(generate(seed)), run(generate(seed))
    assert (first.verdict, first.finding) == (Verdict.PASSED, "")
    assert first.digest == second.digest
    assert first.commits
    assert {"sql-one-mtr", "sql-reads-match-a-commit"} <= set(first.checks)


def test_a_scenario_says_the_same_as_a_schedule() -> None:
    schedule = attrs.evolve(generate(seeds_in_sql()[0]), shape="")
    assert loads(dump(schedule)).schedule() == schedule


def test_a_scenario_with_writers_of_pages_beside_sql_is_refused() -> None:
    text = 'name = "x"\n[[workload]]\nsql = true\n[[workload]]\nclients = 2\n'
    with pytest.raises(ScenarioError, match="expected nobody else to write"):
        loads(text)


def test_a_workload_in_sql_begins_with_its_tables() -> None:
    text = 'name = "x"\n[[workload]]\nsql = true\noperations = 40\nways = ["auto", "vacuum"]\n'
    found = sql_of(loads(text).schedule())
    assert (found[0].way, len(found)) == ("setup", 41)
    assert {each.way for each in found if each.way in SQL_WRITES} == {"setup", "auto", "vacuum"}


def test_without_the_extra_a_run_in_sql_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ExtraMissing("apsw is not installed")

    monkeypatch.setattr(running, "check_extra", missing)
    result = run(generate(seeds_in_sql()[0]))
    assert (result.verdict, result.finding) == (Verdict.UNDECIDED, "apsw is not installed")
    other = next(seed for seed in range(100) if seed not in seeds_in_sql())
    assert run(generate(other)).verdict is Verdict.PASSED


# ---- what clients are told -----------------------------------------------------------------------


def calls_of(run: Run, way: str) -> list[Call]:
    return [each for each in run.world.calls if each.operation.way == way]


def test_a_transfer_is_one_mini_transaction_and_says_which(bank: Run) -> None:
    for call in calls_of(bank, "transfer"):
        assert (call.outcome, call.mtrs, call.lsn) == (Outcome.OK, 1, call.lsns[-1])


def test_a_commit_whose_writer_ends_is_of_unknown_outcome_and_gone(bank: Run) -> None:
    lost = [each for each in calls_of(bank, "auto") if each.error.endswith("has been closed")]
    assert [each.outcome for each in lost] == [Outcome.UNKNOWN] * 2
    (audit,) = calls_of(bank, "audit")
    ledger = {row[1] for row in (audit.sql.readings[0].statement.rows or ()) if row[0] == "ledger"}
    assert not ledger & {sql_ways.STRIDE * (each.number + 1) for each in lost}


def test_a_bank_reaches_what_its_hours_are_for(bank: Run) -> None:
    assert {
        "SQL transaction spilled", "spilled and rolled back", "SQL transaction too large",
        "transaction aborted", "statement aborted in a transaction", "rolled back to a savepoint",
        "dependents failed with their writer", "unknown transfer lost", "backtracked",
        "database opened on the next writer", "old commit read in SQL", "SQL read the head",
    } <= set(bank.coverage.counts)  # fmt: skip


# ---- the other SQLite ----------------------------------------------------------------------------


def oracle_of(run: Run) -> tuple[SqlOracle, WriterView]:
    engine = run.world.cluster.engine
    return run.checker.sql._oracle, run.checker.reference.writers[engine.name]


def test_the_newest_commit_of_an_lsn_is_the_end_of_a_transaction(bank: Run) -> None:
    oracle, view = oracle_of(bank)
    assert [oracle.commit_at(view, lsn) for lsn in (0, 7, 8, 14, 15, 16)] == [0, 0, 8, 8, 15, 15]
    assert oracle.commits_between(view, 9, 23) == [8, 15, 22]
    assert oracle.newest(view, 23, 2) == [22, 15]


def test_what_was_annulled_is_no_commit(bank: Run) -> None:
    oracle, view = oracle_of(bank)
    lost = [each.lsns[-1] for each in calls_of(bank, "auto") if each.outcome is Outcome.UNKNOWN]
    assert oracle.commit_at(view, lost[-1]) < lost[-2]


def test_any_database_can_be_asked_anything(bank: Run) -> None:
    oracle, _ = oracle_of(bank)
    assert oracle.query(8, "SELECT count(*) FROM ledger") == [(0,)]
    assert oracle.query(15, "SELECT amount FROM ledger") == [(10,)]
    with pytest.raises(sqlite3.Error, match="no such table"):
        oracle.query(0, "SELECT count(*) FROM ledger")


def test_what_is_replayed_leaves_nothing(bank: Run) -> None:
    oracle, _ = oracle_of(bank)
    row = (1, 0, 1, 5, "auto")
    script = [Statement(sql_ways.NOTE, row), Statement(sql_ways.NOTE, row), Statement("SELEKT")]
    first, second, third = oracle.replay(15, script)
    assert (first.error, first.changes) == (None, 3)
    assert (second.error, third.error) == (SqlConstraint, SqlInvalid)
    assert oracle.query(15, "SELECT count(*) FROM ledger") == [(1,)]


def test_a_backtrack_is_what_was_there_at_its_moment(bank: Run) -> None:
    oracle, view = oracle_of(bank)
    (call,) = calls_of(bank, "backtrack")
    assert call.sql.back_to is not None
    then = oracle.commit_at(view, call.sql.back_to)
    contents = oracle.query(call.lsns[-1], sql_ways.CONTENTS)
    assert contents == oracle.query(then, sql_ways.CONTENTS)
    assert contents != oracle.query(oracle.before(call), sql_ways.CONTENTS)


# ---- the rules -----------------------------------------------------------------------------------


def breaks(predicate: Callable[..., None], *arguments: object) -> str:
    with pytest.raises(Broken) as caught:
        predicate(*arguments)
    assert 33 <= rule_of(predicate).number <= 38
    return str(caught.value)


def reading(rows: list[SqlRow], low: int, high: int, *, first: bool = False) -> Reading:
    return Reading(Statement("SELECT id FROM ledger ORDER BY id", rows=rows), low, high, first)


def test_a_query_shows_one_commit_of_its_time(bank: Run) -> None:
    oracle, view = oracle_of(bank)
    rows = oracle.query(22, "SELECT id FROM ledger ORDER BY id")
    assert len(rows) == 2
    matches = rules_of_sql.reading_matches
    matches(oracle, view, 1, reading(rows, 22, 22))
    matches(oracle, view, 1, reading(rows, 15, 40))
    matches(oracle, view, 1, reading(rows[:1], 22, 22, first=True))
    assert "1 missing" not in breaks(matches, oracle, view, 1, reading(rows, 8, 21))
    breaks(matches, oracle, view, 1, reading(rows[:1], 22, 22))
    breaks(matches, oracle, view, 1, reading(rows[::-1], 22, 22))
    assert "no such table" in breaks(matches, oracle, view, 1, reading(rows, 0, 3))


def scripted(*statements: Statement) -> Call:
    call = Call(1, Operation(at_ns=0, client=0, kind=SQL, way="head", pages=(0, 1)), 0, "writer-1")
    call.sql.script = list(statements)
    return call


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (Statement(sql_ways.BALANCE, (0,), rows=[(91,)], changes=0), "read [(91,)] too many"),
        (Statement(sql_ways.BALANCE, (0,), rows=[(90,)], changes=2), "changed 2 rows"),
        (Statement(sql_ways.BALANCE, (0,), error=SqlInvalid), "SqlInvalid, expected none"),
        (Statement("SELEKT", rows=[], changes=0), "no error, expected SqlInvalid"),
    ],
)
def test_a_transaction_sees_the_head_it_is_built_on(
    bank: Run, statement: Statement, why: str
) -> None:
    oracle, _ = oracle_of(bank)
    right = Statement(sql_ways.BALANCE, (0,), rows=[(90,)], changes=0)
    unknown = Statement("SELEKT")
    rules_of_sql.script_matches(oracle, scripted(right, unknown), [8, 15])
    breaks(rules_of_sql.script_matches, oracle, scripted(right), [8])
    text = breaks(rules_of_sql.script_matches, oracle, scripted(right, statement), [15])
    assert why in text


def test_moments_and_lists_of_commits_are_the_models() -> None:
    rules_of_sql.moment_is_a_commit(1, 20, 15, 15)
    breaks(rules_of_sql.moment_is_a_commit, 1, 20, 20, 15)
    rules_of_sql.history_matches(1, [15, 8], [[22, 15], [15, 8]], 2)
    rules_of_sql.history_matches(1, [15], [[15, 8]], 2)  # the floor has passed the other
    breaks(rules_of_sql.history_matches, 1, [22, 8], [[22, 15], [15, 8]], 2)


def test_money_is_neither_made_nor_lost() -> None:
    accounts: list[SqlRow] = [("account", at, 100, None, None, None) for at in range(8)]
    transfer: SqlRow = ("ledger", 1000, 0, 1, 30, "call")
    rules_of_sql.money_is_conserved(1, [])
    rules_of_sql.money_is_conserved(1, accounts)
    moved = [("account", 0, 70, None, None, None), ("account", 1, 130, None, None, None)]
    rules_of_sql.money_is_conserved(1, [*moved, *accounts[2:], transfer])
    assert "0: 100 for 70" in breaks(rules_of_sql.money_is_conserved, 1, [*accounts, transfer])
    breaks(rules_of_sql.money_is_conserved, 1, [*moved, *accounts[2:]])
    breaks(rules_of_sql.money_is_conserved, 1, accounts[1:])


def test_transfers_are_there_once_or_never() -> None:
    there = rules_of_sql.transfers_are_there
    there(1, {1000: 1, 2000: 1}, {1000: "acknowledged"}, {3000: "refused"})
    breaks(there, 1, {2000: 1}, {1000: "acknowledged"}, {})
    breaks(there, 1, {1000: 2}, {1000: "acknowledged"}, {})
    assert "refused" in breaks(there, 1, {3000: 1}, {}, {3000: "refused"})


def test_a_transaction_is_one_mtr_with_its_stamp_at_the_end(bank: Run) -> None:
    records = [bank.checker.reference.records[lsn] for lsn in range(9, 16)]
    assert all(isinstance(each, RedoRecord) for each in records)
    rules_of_sql.ends_with_a_stamp("writer-1", records)
    breaks(rules_of_sql.ends_with_a_stamp, "writer-1", records[:-1])
    breaks(rules_of_sql.ends_with_a_stamp, "writer-1", [*records, *records])
    rules_of_sql.is_its_mtr(1, 15, [14, 15], 1)
    rules_of_sql.is_its_mtr(1, 0, [], 0)
    breaks(rules_of_sql.is_its_mtr, 1, 14, [14, 15], 1)
    breaks(rules_of_sql.is_its_mtr, 1, 15, [14, 15], 2)
    breaks(rules_of_sql.is_its_mtr, 1, 0, [14, 15], 1)


def test_nobody_is_told_of_what_is_not_durable() -> None:
    rules_of_sql.was_durable(1, 15, 15)
    breaks(rules_of_sql.was_durable, 1, 15, 14)


def test_sqlite_finds_nothing_wrong() -> None:
    rules_of_sql.is_sound(1, [("ok",)])
    breaks(rules_of_sql.is_sound, 1, [("row 1 missing from index",)])
    breaks(rules_of_sql.is_sound, 1, [])
