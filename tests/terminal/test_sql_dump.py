"""``.dump``: what it prints makes the same database again, or it says what it leaves out."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from random import Random

import apsw
import pytest

from aurora.terminal.sql.dumping import literal
from tests.terminal.playing import aurora


def dumped(tmp_path: Path, *script: str) -> tuple[sqlite3.Connection, str, str]:
    """A plain database made of a dump, the dump, and what was said beside it."""
    done = aurora("sql", typed="\n".join([*script, ".dump", ""]))
    assert done.returncode == 0, done.stderr
    plain = sqlite3.connect(tmp_path / "plain.db")
    plain.executescript(done.stdout)
    return plain, done.stdout, done.stderr


def test_values_that_a_literal_cannot_hold(tmp_path: Path) -> None:
    plain, _, _ = dumped(
        tmp_path,
        "CREATE TABLE t(v);",
        "INSERT INTO t VALUES('a' || char(0) || 'b'), (cast(x'ff41' AS TEXT)), (-0.0), (9e999),"
        " (-9e999), ('it''s'), (x'00'), (NULL), (-9223372036854775808), (0.1), ('');",
        "PRAGMA user_version=7; PRAGMA application_id=-5;",
    )
    found = plain.execute("SELECT typeof(v), hex(v) FROM t").fetchall()
    assert found[:2] == [("text", "610062"), ("text", "FF41")]
    rest = [value for (value,) in plain.execute("SELECT v FROM t LIMIT -1 OFFSET 2")]
    assert math.copysign(1, rest[0]) == -1
    infinity = float("inf")
    assert rest == [
        0.0, infinity, -infinity, "it's", b"\0", None, -9223372036854775808, 0.1, "",
    ]  # fmt: skip
    assert plain.execute("PRAGMA user_version").fetchone() == (7,)
    assert plain.execute("PRAGMA application_id").fetchone() == (-5,)
    plain.close()


def test_a_trigger_on_a_view_comes_after_it(tmp_path: Path) -> None:
    plain, _, _ = dumped(
        tmp_path,
        "CREATE TABLE t(a); CREATE INDEX i ON t(a); CREATE VIEW v AS SELECT a FROM t;",
        "CREATE TRIGGER g INSTEAD OF INSERT ON v BEGIN INSERT INTO t VALUES(new.a); END;",
    )
    plain.execute("INSERT INTO v VALUES(7)")
    assert plain.execute("SELECT a FROM t").fetchall() == [(7,)]
    plain.close()


def test_a_table_may_have_as_many_columns_as_sqlite_allows(tmp_path: Path) -> None:
    columns = ",".join(f"c{number}" for number in range(2_000))
    plain, _, _ = dumped(
        tmp_path,
        f"CREATE TABLE wide({columns});",
        "INSERT INTO wide(c0, c1, c1999) VALUES('a', x'61', 1);",
    )
    found = plain.execute("SELECT c0, c1, c2, c1999 FROM wide").fetchall()
    assert found == [("a", b"a", None, 1)]
    plain.close()


def test_full_text_keeps_its_rowids_and_says_what_it_cannot_keep(tmp_path: Path) -> None:
    plain, text, said = dumped(
        tmp_path,
        "CREATE TABLE doc(id INTEGER PRIMARY KEY, body);",
        "INSERT INTO doc VALUES(5, 'five alive');",
        "CREATE VIRTUAL TABLE f USING fts5(a, b);",
        "INSERT INTO f(rowid, a) VALUES(77, 'seven');",
        "CREATE VIRTUAL TABLE o USING fts4(a);",
        "INSERT INTO o(rowid, a) VALUES(88, 'eight');",
        "CREATE VIRTUAL TABLE e USING fts5(body, content='doc', content_rowid='id');",
        "INSERT INTO e(e) VALUES('rebuild');",
        "CREATE VIRTUAL TABLE n USING fts5(a, content='');",
        "INSERT INTO n(rowid, a) VALUES(99, 'nine');",
        "CREATE VIRTUAL TABLE words USING fts5vocab(f, row);",
        "CREATE VIRTUAL TABLE r USING rtree(id, low, high);",
        "INSERT INTO r VALUES(3, 1, 2);",
    )
    for table, word, rowid in (("f", "seven", 77), ("o", "eight", 88), ("e", "alive", 5)):
        query = f"SELECT rowid FROM {table} WHERE {table} MATCH ?"
        assert plain.execute(query, (word,)).fetchall() == [(rowid,)]
    assert plain.execute("SELECT * FROM r").fetchall() == [(3, 1, 2)]
    assert plain.execute("SELECT term FROM words").fetchall() == [("seven",)]
    assert plain.execute("SELECT count(*) FROM n").fetchone() == (0,)
    plain.close()
    assert "'n' keeps no content: its rows cannot be told" in said
    assert "-- 'n' keeps no content" in text


def test_a_dump_in_a_transaction_says_what_it_shows() -> None:
    done = aurora("sql", typed="CREATE TABLE t(a);\nBEGIN;\nINSERT INTO t VALUES(1);\n.dump\nEND;")
    assert done.stdout.startswith("-- within the transaction, so with what it has not committed")
    assert "within the transaction, so with" in done.stderr
    assert "VALUES(1)" in done.stdout


@pytest.mark.parametrize("seed", range(3))
def test_numbers_come_back_as_they_were(seed: int) -> None:
    random = Random(seed)
    connection = apsw.Connection(":memory:")
    for _ in range(2_000):
        value = random.uniform(-1, 1) * 10.0 ** random.randint(-300, 300)
        text = literal(value)
        assert connection.execute(f"SELECT {text}").fetchone() == (value,)
