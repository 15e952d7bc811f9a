"""sqllogictest: its format is read as its authors have it, and our own files hold on a volume."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.make_sqllogictest import make
from scripts.sqllogic.play import play
from scripts.sqllogic.records import Malformed, Record, agrees, hashed, records, values_of
from tests.patience import PATIENCE_S
from tests.repo.sources import ROOT

CORPUS = ROOT / "tests" / "sqllogictest"
FILES = sorted(CORPUS.glob("*.test"))

SAMPLE = """# a comment
hash-threshold 8

statement ok
CREATE TABLE t(a,
b)

skipif sqlite
statement ok
NOT FOR US

onlyif other
halt

onlyif sqlite # a reason
# and another
statement error
INSERT INTO nowhere VALUES(1)

query IT rowsort x-1
SELECT a, b FROM t
----
1
#one

query R
SELECT 1

halt

statement ok
NEVER
"""


def test_records_are_read() -> None:
    assert list(records(SAMPLE.splitlines(keepends=True))) == [
        Record(4, "CREATE TABLE t(a,\nb)"),
        Record(17, "INSERT INTO nowhere VALUES(1)", fails=True),
        Record(20, "SELECT a, b FROM t", types="IT", sort="rowsort", label="x-1",
               expected=("1", "#one")),
        Record(26, "SELECT 1", types="R"),
    ]  # fmt: skip


def test_files_of_other_systems_end_lines_their_own_way() -> None:
    assert list(records(["statement ok\r\n", "SELECT 1\r\n", "\r\n"])) == [Record(1, "SELECT 1")]


@pytest.mark.parametrize(
    "text", ["statement perhaps\nX", "query Q\nX", "query I some\nX", "new\nX"]
)
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="line 1"):
        list(records(text.splitlines()))


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        (None, "I", "NULL"), (7, "I", "7"), (-7.9, "I", "-7"), ("12 apples", "I", "12"),
        ("apples", "I", "0"), (1, "R", "1.000"), (2 / 3, "R", "0.667"), ("x", "R", "0.000"),
        ("-1.5e1x", "R", "-15.000"), (float(2**63), "R", "9223372036854776000.000"),
        ("", "T", "(empty)"), ("a\tb\n", "T", "a@b@"), (2.0, "T", "2.0"), (1e30, "T", "1e+30"),
        (b"ab", "T", "ab"),
    ],
)  # fmt: skip
def test_values_are_shown_by_the_type_of_their_column(value: object, kind: str, shown: str) -> None:
    assert values_of([(value,)], kind, "nosort") == [shown]


def test_rows_or_values_are_sorted_as_text() -> None:
    rows = [(10, "b"), (9, "c"), (10, "a")]
    assert values_of(rows, "IT", "nosort") == ["10", "b", "9", "c", "10", "a"]
    assert values_of(rows, "IT", "rowsort") == ["10", "a", "10", "b", "9", "c"]
    assert values_of(rows, "IT", "valuesort") == ["10", "10", "9", "a", "b", "c"]


def test_a_hash_stands_for_many_values() -> None:
    values = ["1", "2"]
    assert hashed(values) == "6ddb4095eb719e2a9f0a3f95677d24e0"
    assert agrees([f"2 values hashing to {hashed(values)}"], values)
    assert not agrees([f"3 values hashing to {hashed(values)}"], values)
    assert not agrees([f"2 values hashing to {hashed(values)}"], ["1", "3"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_our_own_records_hold_on_a_volume(path: Path) -> None:
    played = await play(path)
    assert (played.differ, played.unlike_file) == ([], [])
    assert played.records == 600


def test_our_own_records_are_drawn_from_their_seed(tmp_path: Path) -> None:
    made = make(tmp_path, seed=1, files=len(FILES), records=600)
    assert [path.name for path in made] == [path.name for path in FILES]
    for path, kept in zip(made, FILES, strict=True):
        assert path.read_text() == kept.read_text()


def test_the_command_finds_what_is_not_as_expected(tmp_path: Path) -> None:
    good = tmp_path / "good.test"
    good.write_text("statement ok\nCREATE TABLE t(a)\n\nquery I\nSELECT count(*) FROM t\n----\n0\n")
    bad = tmp_path / "bad.test"
    bad.write_text(
        "query I\nSELECT 1\n----\n2\n\nstatement ok\nSELEC\n\nstatement error\nSELECT 1\n\n"
        "query I nosort x\nSELECT 1\n\nquery I nosort x\nSELECT 2\n\nquery II\nSELECT 1\n"
    )
    command = [sys.executable, "scripts/sqllogictest.py"]
    for path, status, summary in (
        (good, 0, "2 records (1 queries) of 1 files"),
        (tmp_path, 1, "0 differ between the volume and plain SQLite, 5 from the file"),
        (tmp_path / "none", 2, "expected files, or directories"),
    ):
        done = subprocess.run(
            [*command, path], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S,
            check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        assert summary in done.stdout + done.stderr


async def test_a_volume_that_says_something_else_is_found(tmp_path: Path) -> None:
    """It has a file, of a kind; the plain one is in memory."""
    path = tmp_path / "other.test"
    path.write_text("query T\nSELECT file <> '' FROM pragma_database_list WHERE name = 'main'\n")
    (found,) = (await play(path)).differ
    assert "other.test:1" in found
    assert "volume: 1 rows: [(1,)]" in found
    assert "plain:  1 rows: [(0,)]" in found
