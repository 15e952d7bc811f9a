"""A real database's log through the engine, under faults, and back into the same file."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from segments.protocol.errors import Invalid
from sim.commands import cli, exit_codes, replay_sqlite
from sim.commands.run_command import Plan, make_plan, replay
from sim.files.sqlite_rebuild import MtrWrites, PageWrite, base_path_of, rebuild
from sim.plan.schedule import MS, Action, Knobs, Schedule
from sim.run import Verdict
from sim.show.report import Report
from tests.sqlite_fixtures import make_shop


def run_workload(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["sim", "run", "--workload", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("page_size", [4096, 8192])
def test_the_rebuilt_file_is_that_of_sqlite(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    page_size: int,
) -> None:
    log, output = make_shop(tmp_path, page_size, 25), tmp_path / "rebuilt.db"
    before = log.read_bytes(), base_path_of(log).read_bytes()
    assert run_workload(monkeypatch, log, "--output", output, "--json") == exit_codes.PASSED
    found = json.loads(capsys.readouterr().out)
    assert found["identical"] is True
    assert found["integrity_check"] == "ok"
    assert found["transactions"].startswith("25")
    assert found["commits"]["count"] >= 25
    assert "byte for byte the one of SQLite" in found["rebuilt_file"]
    assert found["marks"]["recovery completed"] >= 1
    assert (log.read_bytes(), base_path_of(log).read_bytes()) == before, "the input is left alone"
    with (
        closing(sqlite3.connect(output)) as rebuilt,
        closing(sqlite3.connect(base_path_of(log))) as db,
    ):
        for table in ("orders", "order_lines", "customers", "products"):
            query = f"SELECT * FROM {table}"
            assert rebuilt.execute(query).fetchall() == db.execute(query).fetchall()


def test_the_rebuilt_file_takes_no_other_files_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = make_shop(tmp_path, 4096, 2)
    base, there = base_path_of(log), tmp_path / "there.db"
    there.write_bytes(b"precious")
    (tmp_path / "link.db").symlink_to(base)
    os.link(base, tmp_path / "hard.db")
    before = log.read_bytes(), base.read_bytes()
    for output, error in (
        (base, "is the database that is replayed"),
        (tmp_path / "link.db", "is the database that is replayed"),
        (tmp_path / "hard.db", "is the database that is replayed"),
        (log, "is the log that is replayed"),
    ):
        for more in ((), ("--force",)):
            assert run_workload(monkeypatch, log, "--output", output, *more) == exit_codes.USAGE
            assert error in " ".join(capsys.readouterr().err.split())
    assert run_workload(monkeypatch, log, "--output", there) == exit_codes.USAGE
    assert "--force to replace it" in " ".join(capsys.readouterr().err.split())
    assert (log.read_bytes(), base.read_bytes(), there.read_bytes()) == (*before, b"precious")
    arguments = ("--output", there, "--force", "--json")
    assert run_workload(monkeypatch, log, *arguments) == exit_codes.PASSED
    assert there.read_bytes().startswith(b"SQLite")
    assert json.loads(capsys.readouterr().out)["command"].endswith(f"{there} --force")


def test_a_commit_of_a_writer_that_crashed_is_made_again(tmp_path: Path) -> None:
    log = make_shop(tmp_path, 4096, 10)
    plan = make_plan("replay", None, None)
    # Crashed every few milliseconds: many a transaction is under way just then.
    crashes = tuple(Action(at_ns=20 * MS + n * 7_300_000, kind="recover") for n in range(60))
    knobs = attrs.evolve(plan.schedule.knobs, duration_ns=500 * MS)
    schedule = attrs.evolve(plan.schedule, actions=crashes, knobs=knobs)
    report = replay(attrs.evolve(plan, schedule=schedule, expectations=()), log)
    assert report.verdict is Verdict.PASSED, report.finding
    assert report.facts["identical"]
    assert "commits made again" in report.facts["transactions"]


def test_a_wrong_byte_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    real = rebuild

    def wrong(*arguments: object) -> bytes:
        file = bytearray(real(*arguments))  # type: ignore[arg-type]
        file[5000] ^= 1
        return bytes(file)

    monkeypatch.setattr(replay_sqlite, "rebuild", wrong)
    log = make_shop(tmp_path, 4096, 3)
    assert run_workload(monkeypatch, log) == exit_codes.VIOLATION
    shown = capsys.readouterr().out
    assert "same-file-as-sqlite" in shown
    assert "byte 5000 (page 2) is" in shown


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda log, db: log.unlink(), "there is no such file: expected the write-ahead log"),
        (lambda log, db: db.unlink(), "there is no such file: expected the database of"),
        (lambda log, db: log.write_bytes(b""), "the log is empty"),
        (lambda log, db: log.write_bytes(db.read_bytes()), "not a SQLite write-ahead log: found a"),
        (lambda log, db: db.write_bytes(b"PK\3\4" * 99), "not an unencrypted SQLite database"),
        (lambda log, db: db.write_bytes(db.read_bytes()[:-1]), "expected a multiple of the page"),
        (lambda log, db: spoil(log, 32 + 24 + 100), "carries a commit"),
        (lambda log, db: spoil(log, 20), "the log header's checksum"),
        (lambda log, db: log.rename(log.with_name("log")), "there is no such file"),
    ],
)
def test_damaged_and_foreign_files_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    damage: object,
    error: str,
) -> None:
    log = make_shop(tmp_path, 4096, 3)
    assert callable(damage)
    damage(log, base_path_of(log))
    assert run_workload(monkeypatch, log) == exit_codes.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert error in " ".join(captured.err.split())


def spoil(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def test_a_long_log_stretches_the_schedule() -> None:
    schedule = make_plan("replay", None, None).schedule
    longer = replay_sqlite.stretched(schedule, 2000)
    assert longer.knobs.duration_ns == 2000 * replay_sqlite.SPACING_NS
    assert [each.at_ns for each in longer.actions] == [each.at_ns * 3 for each in schedule.actions]
    assert longer.operations == ()
    assert replay_sqlite.stretched(schedule, 5).actions == schedule.actions


@pytest.mark.parametrize(
    ("rebuilt", "expected", "text"),
    [
        (b"ab", b"ab", ""),
        (b"ab", b"abc", "2 bytes rebuilt: expected 3"),
        (b"abcd", b"abXd", "byte 2 (page 2) is 0x63: expected 0x58"),
    ],
)
def test_the_first_difference_is_named(rebuilt: bytes, expected: bytes, text: str) -> None:
    assert replay_sqlite.difference_of(rebuilt, expected, 2) == text


# ---- what the input needs, and what it brings along ---------------------------------------------


def database(directory: Path, fill: Callable[[sqlite3.Connection], object]) -> tuple[Path, Any]:
    """A database of 4 KiB pages in WAL mode, filled and moved out of its log; kept open."""
    path = directory / "made.db"
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("page_size=4096", "journal_mode=wal", "wal_autocheckpoint=0"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE t(b)")
    fill(connection)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return path, connection


def taken(path: Path, connection: Any) -> Path:
    """Copy both files while the log is there; returns the copied log."""
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    shutil.copy(f"{path}-wal", f"{copy}-wal")
    connection.close()
    return copy.with_name("copy.db-wal")


def report_of(log: Path) -> Report:
    """Replayed in a world in which nothing goes wrong."""
    knobs = Knobs(duration_ns=50 * MS, check_every=1000)
    return replay(Plan(schedule=Schedule(seed=1, knobs=knobs), arguments=()), log)


def test_a_transaction_of_more_pages_than_the_pool_makes_it_larger(tmp_path: Path) -> None:
    path, connection = database(tmp_path, lambda _: None)
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES (zeroblob(3500))", [()] * 70)
    connection.execute("COMMIT")
    report = report_of(taken(path, connection))
    assert report.verdict is Verdict.PASSED, report.finding
    assert report.facts["identical"]
    assert report.facts["raised"].startswith("buffer_pool_pages 64 to 7")


@pytest.mark.parametrize("pages", [64, 128])
def test_a_base_of_any_number_of_pages_is_loaded(tmp_path: Path, pages: int) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        while connection.execute("PRAGMA page_count").fetchone()[0] < pages:
            connection.execute("INSERT INTO t VALUES (randomblob(3900))")

    path, connection = database(tmp_path, fill)
    connection.execute("PRAGMA user_version=1")
    report = report_of(taken(path, connection))
    assert report.verdict is Verdict.PASSED, report.finding
    assert report.facts["rebuilt_file"].startswith(f"{pages} pages of ")


def test_pages_of_many_short_runs_need_more_records(tmp_path: Path) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES (zeroblob(20))", [()] * 5000)
        connection.execute("COMMIT")

    path, connection = database(tmp_path, fill)
    connection.execute("PRAGMA user_version=1")
    report = report_of(taken(path, connection))
    assert report.verdict is Verdict.PASSED, report.finding
    assert "max_mtr_writes 4,096 to 5,0" in report.facts["raised"], report.facts


def test_what_can_never_fit_is_refused_with_the_numbers() -> None:
    writes = tuple(PageWrite(page, 0, b"x") for page in range(9))
    with pytest.raises(Invalid, match="lal is 8: expected at least 9, the records of the log's"):
        replay_sqlite.sized(Knobs(lal=8), [MtrWrites(writes)])
    same = Knobs()
    assert replay_sqlite.sized(same, [MtrWrites(writes)]) == same


def test_a_collation_that_only_the_application_knows_is_not_the_engines_fault(
    tmp_path: Path,
) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.create_collation("own", lambda one, other: (one > other) - (one < other))
        connection.execute("CREATE TABLE named(a TEXT COLLATE own)")
        connection.execute("CREATE INDEX by_name ON named(a)")

    path, connection = database(tmp_path, fill)
    connection.execute("INSERT INTO named VALUES ('x')")
    report = report_of(taken(path, connection))
    assert report.verdict is Verdict.PASSED, report.finding
    assert report.facts["identical"]
    said = report.facts["integrity_check"]
    assert said.startswith("no such collation sequence: own (of the file that SQLite itself makes")


def test_a_column_that_was_added_not_null_is_not_either(tmp_path: Path) -> None:
    path, connection = database(tmp_path, lambda made: made.execute("INSERT INTO t VALUES (1)"))
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_schema SET sql = 'CREATE TABLE t(b, c NOT NULL)'")
    report = report_of(taken(path, connection))
    assert report.verdict is Verdict.PASSED, report.finding
    assert "NULL value in t.c" in report.facts["integrity_check"]


def test_a_limit_below_the_largest_transaction_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "narrow.toml"
    path.write_text("[knobs]\nlal = 2\n")
    assert run_workload(monkeypatch, make_shop(tmp_path, 4096, 2), path) == exit_codes.USAGE
    assert "lal is 2: expected at least" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["az-plus-one", "zombie-writer", "quiet"])
def test_a_scenario_is_not_held_to_the_calls_of_clients_that_the_log_replaces(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    log = make_shop(tmp_path, 4096, 10)
    assert run_workload(monkeypatch, log, name) == exit_codes.PASSED
    text = " ".join(capsys.readouterr().out.split())
    assert "of the scenario's own clients" in text
