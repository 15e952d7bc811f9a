"""What SQLite cannot take, or give: each an error of ours, which names the value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from aurora.sqlite.database import Database
from segments.protocol.errors import SqlInvalid
from tests.database_rig import run_database
from tests.worlds import World

NO_TEXT = "cast(x'ff' as text)"


@pytest.mark.parametrize(
    ("statement", "bindings", "says"),
    [
        (f"SELECT {NO_TEXT}", None, r"no UTF-8: b'\\xff'.*CAST"),
        ("SELECT :a", {"b": 1}, r"no value for :a in bindings \{'b': 1\}"),
        ("SELECT :a", {"a": 1 << 63}, "9223372036854775808: expected an integer of 64 bits"),
        ("SELECT ?, ?", (1, -(1 << 63) - 1), "-9223372036854775809: expected an integer"),
        ("SELECT ?", ("\udcff",), r"'\\udcff' with '\\udcff' at character 1: .*UTF-8"),
        ("SELECT '\udcff'", None, r"a statement with '\\udcff' at character 9"),
        ("SELECT 'a\0b'", None, "a statement with a NUL at character 10"),
        ("SELECT ?", "x", r"bindings 'x': expected a sequence of values, as in \('x',\)"),
        ("SELECT ?", b"x", "bindings b'x': expected a sequence"),
        ("SELECT ?1, :a", None, "parameters: 2, and no bindings for them"),
        ("SELECT ?", (10**5000,), "an integer of 16610 bits: expected an integer of 64 bits"),
        ("SELECT ?", (memoryview(b"abc")[::2],), r"bindings \(<memory.*C-contiguous; expected byt"),
        ("SELECT ?", (1, 2), "bindings: 2 values, and 1 parameters"),
    ],
)
def test_what_sqlite_cannot_take(statement: str, bindings: Any, says: str) -> None:
    async def main(database: Database, world: World) -> None:
        with pytest.raises(SqlInvalid, match=says):
            await database.query(statement, bindings).value()
        with pytest.raises(SqlInvalid, match=says):
            await database.execute(statement, bindings)
        async with database.transaction() as transaction:
            with pytest.raises(SqlInvalid, match=says):
                await transaction.execute(statement, bindings)
            with pytest.raises(SqlInvalid, match=says):
                await transaction.query(statement, bindings).value()
        assert await database.query("SELECT 7").value() == 7
        assert (await database.execute("SELECT 8")).rows == [(8,)]

    run_database(main)


@pytest.mark.parametrize("sets", ["ab", ["ab"], [(1 << 63,)], [("\udcff",)], [(1,), "x"]])
def test_sets_of_what_sqlite_cannot_take_change_nothing(sets: Any) -> None:
    async def main(database: Database, world: World) -> None:
        await database.execute("CREATE TABLE t(a)")
        with pytest.raises(SqlInvalid):
            await database.execute_many("INSERT INTO t VALUES(?)", sets)
        assert await database.query("SELECT count(*) FROM t").value() == 0

    run_database(main)


@pytest.mark.parametrize("error", [KeyError("k"), ValueError("v"), OverflowError("o")])
def test_an_error_of_the_callers_own_sets_is_raised_as_it_is(error: Exception) -> None:
    def sets() -> Iterator[tuple[int]]:
        yield (1,)
        raise error

    async def main(database: Database, world: World) -> None:
        await database.execute("CREATE TABLE t(a)")
        with pytest.raises(type(error)) as caught:
            await database.execute_many("INSERT INTO t VALUES(?)", sets())
        assert caught.value is error
        assert await database.query("SELECT count(*) FROM t").value() == 0

    run_database(main)


def test_a_change_whose_rows_cannot_be_told_is_none() -> None:
    async def main(database: Database, world: World) -> None:
        await database.execute("CREATE TABLE t(a)")
        with pytest.raises(SqlInvalid, match="no UTF-8"):
            await database.execute(f"INSERT INTO t VALUES(1), (2) RETURNING {NO_TEXT}")
        assert await database.query("SELECT count(*) FROM t").value() == 0
        put = await database.execute("INSERT INTO t VALUES(3) RETURNING a")
        assert put.rows == [(3,)]

    run_database(main)
