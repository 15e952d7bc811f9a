"""Functions that are the volume's own, and texts that are looked at before SQLite does."""

from __future__ import annotations

import sqlite3
from random import Random

import apsw
import pytest

from aurora.sqlite.functions import add_chance
from aurora.sqlite.texts import is_single

SIZES = (
    "'x'", "'3 apples'", "' \t\n+12'", "'-7'", "'1e3'", "'0x10'", "'000000000000000000000005'",
    "''", "x'ff'", "x'3135'", "NULL", "2.9", "-2.9", "1e30", "-1e30", "9e999", "-9e999",
    "1000000001", "0", "'99999999999999999999999'", "9223372036854775807", "'٣'",
)  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_random_blobs_have_the_size_that_sqlite_gives_them(size: str) -> None:
    query = f"SELECT length(randomblob({size}))"
    ours = apsw.Connection(":memory:")
    add_chance(ours, Random(1))
    try:
        expected = sqlite3.connect(":memory:").execute(query).fetchone()
    except sqlite3.DataError:
        with pytest.raises(apsw.TooBigError):
            ours.execute(query)
    else:
        assert ours.execute(query).fetchone() == expected


@pytest.mark.parametrize(
    ("text", "single"),
    [
        ("SELECT 1", True),
        (" SELECT 1 ;; -- a; comment\n ; /* another; */ /* without an end;", True),
        ("SELECT ';', \"a;b\", [c;d], `e;f`, 'it''s; fine' /*;*/ -- ;\n, 1 - 2 / 3", True),
        ("VACUUM /*;*/;", True),
        ("SELECT 'no end; SELECT 2", True),
        ("SELECT 1; SELECT 2", False),
        ("/*;*/ SELECT ';'; -- ;\nSELECT 2", False),
        ("CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t; END", False),
        ("SELECT ']'; SELECT 2", False),
        (f"SELECT {'(' * 9999}';';;", True),
    ],
)
def test_several_statements_are_told_from_one(text: str, single: bool) -> None:
    assert is_single(text) is single
