"""What the SQL shell says when something cannot be, or is so already: what to do instead."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from aurora.terminal import session
from tests.terminal.playing import aurora


def said(*lines: str, arguments: tuple[str, ...] = (), status: int = 1) -> str:
    """What is said beside the results, on one line."""
    done = aurora("sql", *arguments, typed="\n".join(lines) + "\n")
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


MADE = "CREATE TABLE t(a); INSERT INTO t VALUES(1);"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("VACUUM INTO 'copy.db';", r"`\.export FILE`"),
        (".at banana", "'banana': expected a time such as '2026-05-01 12:00'"),
        (".at '2000-01-01'", r"at or after the first commit, LSN \d+, 20\d\d-"),
        (".at 0", r"at or above the first commit, LSN \d+, 20\d\d-"),
        (".backtrack 2999-01-01", "2999-01-01 00:00:00.* is to come: expected a time that has"),
        (".health", "'.health' is no command: `.status` says"),
        (".headers on", "'.headers' is no command: `.mode` table, csv"),
        (".backtrack yesterday", "at or after the first commit, LSN"),
    ],
)
def test_an_error_names_a_remedy(line: str, says: str) -> None:
    text = said(MADE, line)
    assert re.search(says, text), text


def test_at_an_lsn_before_the_first_commit_of_none() -> None:
    assert "the first commit, which is to come" in said(".at 0")


def test_a_backtrack_to_the_present_is_no_commit() -> None:
    text = said(MADE, ".backtrack '0 seconds ago'", ".backtrack '0 seconds ago'", status=0)
    first, second = re.findall(r"nothing to change: it is as of LSN (\d+) already", text)
    assert first == second


def test_an_export_in_the_way(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    text = said(MADE, f".export {copy}", f".export {copy}")
    assert "expected a name that is free, or --force" in text
    volume = str(tmp_path / "volume")
    said(MADE, arguments=(volume,), status=0)
    text = said(arguments=(volume, "--import", str(copy)))
    assert "a database that has tables already, 't' among them" in text


def test_a_file_is_read_with_its_own_lines(tmp_path: Path) -> None:
    script, bad, own = tmp_path / "a.sql", tmp_path / "bad.sql", tmp_path / "own.sql"
    script.write_text(".mode list\nCREATE TABLE t(a);\n\nINSERT INTO t VALUES(7)", encoding="utf-8")
    bad.write_text("SELECT 1;\n\nSELECT missing;\n", encoding="utf-8")
    own.write_text(f"SELECT 1;\n.read {own}\n", encoding="utf-8")
    typed = f".read {script}\nSELECT a FROM t;\nCREATE INDEX i ON t(a);\n.indexes\n"
    done = aurora("sql", typed=typed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\ni|t\n", "")
    assert f"line 1: error: {bad}, line 3: no such column: missing" in said(f".read {bad}")
    assert "expected a file that does not read itself" in said(f".read {own}")
    assert "No such file" in said(".read nowhere.sql")


@pytest.mark.parametrize("word", ["quit", "EXIT;", "exit "])
def test_leaving_needs_no_dot(word: str) -> None:
    done = aurora("sql", typed=f".mode list\nSELECT 1;\n{word}\nSELECT 2;\n")
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_answers_that_are_results_stay_on_standard_output() -> None:
    done = aurora("sql", typed=".status\n.pause A0\n.help quit\n")
    assert "paused: A0" in done.stderr and "paused: A0" not in done.stdout
    assert ".quit" in done.stdout and "writes" in done.stdout


def test_a_recovery_in_place_of_one_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PATIENCE_S", 0.2)  # the prompt comes back sooner
    text = said(
        MADE, ".crash az1 C0", ".recover", ".recover", ".restart az1", ".recover", "SELECT 1;",
        status=0,
    )  # fmt: skip
    assert text.index("superseded") < text.index("up: A0 B0")
    assert text.index("up: A0 B0") < text.index("has opened the volume")
    assert "error" not in text


def test_read_only_asks_for_its_argument() -> None:
    assert "give DIR, too" in said(arguments=("--read-only",), status=2)


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 100])
def test_an_import_that_cannot_be_leaves_no_volume(content: bytes, tmp_path: Path) -> None:
    file, volume = tmp_path / "file.db", tmp_path / "volume"
    file.write_bytes(content)
    said(arguments=(str(volume), "--import", str(file)))
    assert not volume.exists()
    done = aurora("sql", str(volume), "--import", str(file), "--json")
    assert json.loads(done.stdout)["error"]["kind"] in ("NotSqlite", "SqlCorrupt")
    assert (done.returncode, done.stderr) == (1, "")
    assert not volume.exists()


def test_a_volume_that_cannot_be_opened_is_told_in_json(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("no volume", encoding="utf-8")
    done = aurora("sql", str(tmp_path), "--json", typed="SELECT 1;\n")
    assert done.returncode in (1, 3)
    assert json.loads(done.stdout)["error"]["message"]
    assert "Error" not in done.stderr
