"""``python -m aurora sql`` in a pipe: results, JSON, exit codes, and what goes to which output."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE_S
from tests.terminal.playing import ROOT, aurora, environment

pytestmark = pytest.mark.usefixtures("no_syncs")


def sql(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return aurora("sql", *arguments, typed=typed)


def said(*lines: str, arguments: tuple[str, ...] = ()) -> str:
    """What a script without errors prints."""
    done = sql(*arguments, typed="\n".join(lines) + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def objects(*lines: str) -> list[dict[str, Any]]:
    done = sql("--json", typed="\n".join(lines) + "\n")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_statements_over_several_lines_and_several_on_one() -> None:
    assert (
        said(
            "CREATE TABLE t(a INTEGER PRIMARY KEY,",
            "  b DEFAULT 'x;y'); INSERT INTO t(a) VALUES(1); -- a note; no end",
            "INSERT INTO t VALUES(2, 'two",
            "lines');",
            ".mode list",
            "SELECT * FROM t",  # the last one needs no semicolon
        )
        == "1|x;y\n2|two\nlines\n"
    )


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("table", "a  b\n─  ────\n1  NULL\n"),
        ("csv", "a,b\n1,\n"),
        ("json", '[{"a": 1, "b": null}]\n'),
        ("line", "a = 1\nb = NULL\n"),
        ("list", "1|\n"),
    ],
)
def test_modes(mode: str, expected: str) -> None:
    assert said(f".mode {mode}", "SELECT 1 AS a, NULL AS b;") == expected


def test_a_long_result_is_whole_in_every_mode() -> None:
    query = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2500) "
        "SELECT i FROM n;"
    )
    numbers = list(range(1, 2501))
    assert [int(line) for line in said(".mode csv", query).splitlines()[1:]] == numbers
    assert [each["i"] for each in json.loads(said(".mode json", query))] == numbers
    shown = [line.strip() for line in said(query).splitlines()]
    assert [int(line) for line in shown if line.isdigit()] == numbers


def test_a_transaction_is_all_or_nothing() -> None:
    assert (
        said(
            "CREATE TABLE t(a);",
            "BEGIN; INSERT INTO t VALUES(1);",
            "INSERT INTO t VALUES(2); ROLLBACK;",
            "BEGIN IMMEDIATE; INSERT INTO t VALUES(3); SAVEPOINT s; INSERT INTO t VALUES(4);",
            "ROLLBACK TO s; COMMIT;",
            ".mode list",
            "SELECT a FROM t;",
        )
        == "3\n"
    )


def test_a_zone_is_switched_off_within_a_transaction() -> None:
    done = sql(
        typed="CREATE TABLE t(a); BEGIN; INSERT INTO t VALUES(1);\n.crash az1\n"
        "INSERT INTO t VALUES(2); COMMIT;\n.restart az1\n.recover\n.mode list\n"
        "SELECT sum(a) FROM t;\n"
    )
    assert (done.returncode, done.stdout) == (0, "3\n")
    down, up, opened = done.stderr.splitlines()
    assert down.startswith("down: A0 B0") and up == "up: A0 B0"
    assert opened.startswith("writer-2 has opened the volume")


def test_a_crashed_writer_takes_the_transaction_along() -> None:
    done = sql(
        typed="CREATE TABLE t(a);\nBEGIN; INSERT INTO t VALUES(1);\n"
        ".recover\nSELECT count(*) FROM t;\n"
    )
    assert "the transaction was lost with its writer" in done.stderr
    assert done.stdout.splitlines()[-1].strip() == "0"
    assert done.returncode == 0


def test_what_a_writer_takes_along_is_said_and_settings_stay() -> None:
    done = sql(
        typed="PRAGMA foreign_keys=ON;\nCREATE TABLE p(a PRIMARY KEY);\n"
        "CREATE TABLE k(a REFERENCES p(a));\nCREATE TEMP TABLE x(a);\n"
        ".crash writer\n.recover\n.mode list\nPRAGMA foreign_keys;\nINSERT INTO k VALUES(99);\n"
    )
    assert "temporary tables, and what was attached, ended with the writer" in done.stderr
    assert "line 9: error: FOREIGN KEY constraint failed" in done.stderr
    assert (done.returncode, done.stdout) == (1, "1\n")


def test_the_past() -> None:
    text = said(
        "CREATE TABLE t(a);",
        "INSERT INTO t VALUES('old');",
        "UPDATE t SET a = 'new';",
        ".mode list",
        "SELECT a FROM t;",
        ".history 2",
    )
    assert text.splitlines()[0] == "new"
    newest, before = [line.split("|")[0] for line in text.splitlines()[1:]]
    done = sql(
        typed="CREATE TABLE t(a);\nINSERT INTO t VALUES('old');\nUPDATE t SET a = 'new';\n"
        f".mode list\n.at {before}\nSELECT a FROM t;\n.tables\n.dump\n.at now\nSELECT a FROM t;\n"
        f".backtrack {before}\nSELECT a FROM t;\n.backtrack {newest}\nSELECT a FROM t;\n"
        ".at '1 hour ago'\n"
    )
    lines = done.stdout.splitlines()
    assert [line for line in lines if line in ("old", "new")] == ["old", "new", "old", "new"]
    assert 'INSERT INTO "t"("a") VALUES(\'old\');' in lines
    assert done.returncode == 1
    assert "line 15: error: " in done.stderr


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("SELEKT 1;", 'near "SELEKT": syntax error'),
        ("SELECT * FROM nowhere;", "no such table: nowhere"),
        (".nonsense", "'.nonsense' is no command: `.help` lists all"),
        (".tab", "'.tab' is no command: did you mean .tables?"),
        (".mode blue", "'blue' is no mode: expected table, csv, json, line or list; usage: .mode"),
        (".at", "an LSN, a time, or now is missing"),
        (".at whenever", "'whenever': expected a time such as"),
        (".schema nowhere", "'nowhere' is no table or view"),
        (".import nowhere.csv t", "No such file or directory: 'nowhere.csv'"),
        ("COMMIT;", "COMMIT outside of a transaction: expected BEGIN before it"),
        ("SAVEPOINT s;", "SAVEPOINT outside of a transaction: expected BEGIN before it"),
        ("BEGIN; BEGIN;", "BEGIN within a transaction: expected COMMIT or ROLLBACK"),
        ("BEGIN; .at 1", "`.at` within a transaction"),
        ("CREATE TABLE t(a); .at '0 seconds ago'\nDELETE FROM t;", "expected one that reads"),
        ("PRAGMA journal_mode=WAL;", "PRAGMA journal_mode=WAL: expected memory"),
        (".crash A9", "'A9'"),
        ("SELECT 'open", "a statement that is not ended"),
        ("CREATE TABLE t(a); BEGIN; INSERT INTO t VALUES(1);", "open at the end of input"),
    ],
)
def test_a_script_stops_at_its_first_error(line: str, error: str) -> None:
    done = sql(typed=f"{line}\nSELECT 'not reached';\n")
    assert done.returncode == 1
    assert error in " ".join(done.stderr.split())
    if "'open" not in line:
        assert "not reached" not in done.stdout or "end of input" in error


def test_the_line_of_an_error_is_told() -> None:
    done = sql(typed="SELECT 1;\n\nSELECT\n 2;\nSELECT 3; bogus\n;\n")
    assert done.stderr.startswith("line 5: error: ")


def test_json_lines() -> None:
    made, inserted, found, begun, committed, history, error = objects(
        "CREATE TABLE t(a, b);",
        "INSERT INTO t VALUES(1, x'00ff'), (2, NULL);",
        "SELECT * FROM t;",
        "BEGIN;",
        "COMMIT;",
        ".history 1",
        "bogus;",
    )
    assert made["lsn"] > 0 and made["rows"] == []
    assert (inserted["changes"], inserted["last_insert_rowid"]) == (2, 2)
    assert found == {"columns": ["a", "b"], "rows": [[1, {"blob": "00ff"}], [2, None]]}
    assert (begun["transaction"], committed["transaction"]) == ("begun", "committed")
    assert history["rows"][0][0] == inserted["lsn"]
    assert error["error"]["kind"] == "SqlInvalid" and error["error"]["line"] == 7


def test_a_volume_keeps_its_database(tmp_path: Path) -> None:
    volume = str(tmp_path / "volume")
    said("CREATE TABLE t(a);", "INSERT INTO t VALUES(7);", arguments=(volume,))
    assert said(".mode list", "SELECT a FROM t;", arguments=(volume,)) == "7\n"
    assert said(".mode list", "SELECT a FROM t;", arguments=(volume, "--read-only")) == "7\n"
    done = sql(volume, "--read-only", typed="DELETE FROM t;\n")
    assert done.returncode == 1
    assert "opened for reading alone" in " ".join(done.stderr.split())


def test_a_dump_makes_the_same_database(tmp_path: Path) -> None:
    script = (
        "CREATE TABLE a(i INTEGER PRIMARY KEY AUTOINCREMENT, t TEXT, b BLOB, g AS (i * 2));",
        "INSERT INTO a(t, b) VALUES('it''s; fine', x'00ff'), (NULL, 1.5);",
        'CREATE TABLE "odd ""name"("a b");',
        'INSERT INTO "odd ""name" VALUES(\'x\');',
        "CREATE INDEX i ON a(t);",
        "CREATE VIEW v AS SELECT t FROM a;",
        "CREATE TRIGGER r AFTER DELETE ON a BEGIN SELECT 1; END;",
        ".dump",
    )
    dumped = said(*script)
    plain = sqlite3.connect(tmp_path / "plain.db")
    plain.executescript(dumped)
    assert plain.execute("SELECT t, b, g FROM a").fetchall() == [
        ("it's; fine", b"\x00\xff", 2), (None, 1.5, 4),
    ]  # fmt: skip
    assert plain.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (6,)
    plain.close()
    assert said(*dumped.splitlines(), ".dump") == dumped


def test_csv_goes_into_a_table(tmp_path: Path) -> None:
    rows = "".join(f'{number},"name, {number}"\r\n' for number in range(2_500))
    (tmp_path / "people.csv").write_text(f"id,name\r\n{rows}", encoding="utf-8")
    (tmp_path / "short.csv").write_text("1,a\n2\n", encoding="utf-8")
    text = said(
        f".import {tmp_path}/people.csv people",
        "CREATE TABLE known(id INTEGER PRIMARY KEY, name);",
        f"BEGIN; .import {tmp_path}/people.csv known",
        "COMMIT;",
        ".mode list",
        "SELECT count(*), min(name) FROM people; SELECT sum(id) FROM known;",
    )
    assert text == "2,500 rows into people\n2,500 rows into known\n2500|name, 0\n3123750\n"
    done = sql(typed=f"CREATE TABLE t(a, b);\n.import {tmp_path}/short.csv t\n")
    assert done.returncode == 1
    assert "short.csv, line 2: 1 value: expected 2" in " ".join(done.stderr.split())


def test_a_file_goes_in_and_out(tmp_path: Path) -> None:
    source, copy = tmp_path / "source.db", tmp_path / "copy.db"
    with sqlite3.connect(source) as plain:
        plain.execute("PRAGMA page_size=8192")
        plain.execute("CREATE TABLE t(a)")
        plain.execute("INSERT INTO t VALUES(1)")
    plain.close()
    volume = str(tmp_path / "volume")
    assert sql(volume, "--import", str(source)).returncode == 0
    assert sql(volume, "--export", str(copy)).returncode == 0
    assert copy.read_bytes() == source.read_bytes()
    said("UPDATE t SET a = 2;", arguments=(volume,))
    refused = sql(volume, "--export", str(copy))
    assert (refused.returncode, copy.read_bytes()) == (1, source.read_bytes())
    assert "is there already" in refused.stderr
    done = sql(volume, "--export", str(copy), "--force", "--json")
    assert json.loads(done.stdout)["file"] == str(copy)
    with sqlite3.connect(copy) as plain:
        assert plain.execute("SELECT a FROM t").fetchall() == [(2,)]
    plain.close()
    again = sql(volume, "--import", str(source))
    assert again.returncode == 1 and "'t' among them" in again.stderr
    gone = sql(volume, "--export", str(tmp_path / "old.db"), "--at", "5 years ago")
    assert gone.returncode == 1 and not (tmp_path / "old.db").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--at", "1"), 2),
        (("--force",), 2),
        (("--export", "x.db"), 2),
        (("nowhere", "--export", "x.db"), 2),
        (("volume", "--import", "x.db", "--export", "y.db"), 2),
        (("volume", "--import", "nowhere.db"), 2),
        (("--read-only",), 2),
        (("--bogus",), 2),
    ],
)
def test_wrong_calls_make_nothing(arguments: tuple[str, ...], code: int, tmp_path: Path) -> None:
    done = aurora("sql", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert list(tmp_path.iterdir()) == []


def test_a_volume_that_is_no_database(tmp_path: Path) -> None:
    volume = str(tmp_path / "volume")
    assert aurora("repl", "--data-dir", volume, typed="put 9 0 x\n").returncode == 0
    done = sql(volume, typed="SELECT 1;\n")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the volume has pages, the first is 9, and they are no")


def test_a_volume_that_is_open_elsewhere(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    with started("sql", str(volume), "--json") as first:
        assert first.stdin is not None and first.stdout is not None
        first.stdin.write("CREATE TABLE t(a);\n")
        first.stdin.flush()
        assert json.loads(first.stdout.readline())["lsn"] > 0
        second = sql(str(volume), typed="SELECT 1;\n")
        assert second.returncode == 3
        assert second.stderr.startswith(f"Error: {volume} is open already, here or in another pro")


def test_ctrl_c_ends_a_script_with_the_statement_that_waits(tmp_path: Path) -> None:
    with started("sql", str(tmp_path / "volume")) as script:
        assert script.stdin is not None and script.stderr is not None
        script.stdin.write("CREATE TABLE t(a);\n.crash az1 C0\nINSERT INTO t VALUES(1);\nbogus;\n")
        script.stdin.flush()
        assert script.stderr.readline() == "down: A0 B0 C0; what they have synced stays\n"
        assert "commits wait for a write quorum: 3 of 6" in script.stderr.readline()
        script.send_signal(signal.SIGINT)
        output, errors = script.communicate(timeout=PATIENCE_S)
        assert script.returncode == 130
        assert errors.startswith("line 3: interrupted: the commit is part of the log")
        assert output == ""


def test_ctrl_c_in_a_statement_that_takes_the_transaction_along_says_so() -> None:
    with started("sql") as script:
        assert script.stdin is not None and script.stdout is not None
        script.stdin.write(
            "CREATE TABLE t(a); BEGIN; INSERT INTO t VALUES(1); SELECT 'begun';\n"
            "INSERT INTO t WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
            "SELECT x FROM n;\n"
        )
        script.stdin.flush()
        while "begun" not in script.stdout.readline().split():
            pass
        script.send_signal(signal.SIGINT)
        _, errors = script.communicate(timeout=PATIENCE_S)
        assert script.returncode == 130
        assert errors == "the whole transaction was rolled back\nline 2: interrupted\n"


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``python -m aurora``, to talk to while it runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "aurora", *arguments], cwd=ROOT, env=environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()
