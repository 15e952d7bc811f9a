"""What the SQL shell says when something cannot be, or is so already: what to do instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
        (".at banana", "'banana': expected an LSN, or a time such as '2026-05-01 12:00'"),
        (".at '2000-01-01'", r"at or after the first commit, LSN \d+, 20\d\d-"),
        (".at 0", r"at or above the first commit, LSN \d+, 20\d\d-"),
        (".backtrack 2999-01-01", "2999-01-01 00:00:00.* is to come: expected a time that has"),
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
