"""``.import``: what stays of a file with a mistake in it, and how that is told."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest
import trio

from aurora.sqlite.bridge import run
from aurora.terminal.sql.csv_file import CsvFile
from aurora.terminal.sql.waiting_file import WaitingFile
from tests.terminal.playing import aurora

pytestmark = pytest.mark.usefixtures("no_syncs")

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


def test_a_pipe_is_read_and_values_may_be_long(tmp_path: Path) -> None:
    pipe = tmp_path / "rows.csv"
    os.mkfifo(pipe)
    rows = f"a,b\n1,{'x' * 200_000}\n2,y\n"
    writer = Thread(target=pipe.write_text, args=(rows, "utf-8"))
    writer.start()
    done = aurora("sql", typed=f".mode list\n.import {pipe} t\nSELECT max(length(b)) FROM t;\n")
    writer.join()
    assert (done.stdout, done.stderr) == ("2 rows into t\n200000\n", "")


async def test_an_empty_pipe_is_waited_for_until_that_is_cancelled(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    pipe = tmp_path / "rows.csv"
    os.mkfifo(pipe)
    with WaitingFile(pipe) as file:
        with trio.move_on_after(9) as scope:
            await run(CsvFile(pipe, file).first_row)
        assert scope.cancelled_caught
    with WaitingFile(pipe) as file, pipe.open("wb", buffering=0) as writer:
        writer.write(b"a,b\n")
        assert await run(CsvFile(pipe, file).first_row) == ["a", "b"]  # before the pipe has ended


def test_a_first_row_with_a_mistake_makes_no_table(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n1\n2,b\n", encoding="utf-8")
    volume = str(tmp_path / "volume")
    done = aurora("sql", volume, typed=f".import {file} t\n")
    assert "line 2: 1 value: expected 2, one for each column; no table t is made" in done.stderr
    assert aurora("sql", volume, typed=".dump\n").stdout.count("\n") == 3


def test_the_script_itself_is_no_file_to_import() -> None:
    done = aurora("sql", typed=".import /dev/stdin t\na,b\n1,2\n")
    assert done.returncode == 1
    assert "/dev/stdin is where the commands come from: expected another file" in done.stderr
