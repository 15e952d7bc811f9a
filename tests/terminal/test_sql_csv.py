"""``.import``: what stays of a file with a mistake in it, and how that is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.terminal.playing import aurora

MADE = "CREATE TABLE t(a INTEGER CHECK(a <> 1500), b);"


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (b"1500,a", "line 1501: CHECK constraint failed"),
        (b"7", "line 1501: 1 value: expected 2"),
        (b"7,\xff", "line 1501: '\\udcff' is no UTF-8"),
        (b'7,"a"b', "line 1501: "),
    ],
)
def test_all_rows_before_a_mistake_stay(mistake: bytes, says: str, tmp_path: Path) -> None:
    rows = [b"%d,x" % number for number in range(1, 1_501)]
    rows[1_499] = b"1501,x"
    file = tmp_path / "rows.csv"
    file.write_bytes(b"\n".join([*rows, mistake, b"9,z"]))
    volume = str(tmp_path / "volume")
    done = aurora("sql", volume, typed=f"{MADE}\n.import {file} t\n")
    assert done.returncode == 1
    error = " ".join(done.stderr.split())
    assert f"line 2: error: {file}, {says}" in error
    assert "1,500 rows before it stay in t" in error
    count = "SELECT count(*) FROM t;"
    assert aurora("sql", volume, typed=f".mode list\n{count}\n").stdout == "1500\n"


def test_in_a_transaction_all_or_nothing_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("1,a\n1500,b\n", encoding="utf-8")
    done = aurora("sql", typed=f"{MADE}\nBEGIN; INSERT INTO t VALUES(7, 7);\n.import {file} t\n")
    assert "none of its rows is part of the transaction" in " ".join(done.stderr.split())
    assert "CHECK constraint failed" in done.stderr
