"""Which pragmas may be used, and what they may set: every one that SQLite has is decided."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import apsw
import pytest

from aurora.sqlite.database import Database
from aurora.sqlite.pragmas import FIXED, PASSING, SETTINGS, check_pragma
from segments.protocol.errors import SqlConstraint, SqlReadOnly, SqlRefused
from tests.database_rig import run_database
from tests.worlds import World

ASKING = {
    "collation_list", "compile_options", "data_version", "database_list",
    "foreign_key_check", "foreign_key_list", "freelist_count", "function_list",
    "incremental_vacuum", "index_info", "index_list", "index_xinfo",
    "integrity_check", "module_list", "optimize", "page_count",
    "pragma_list", "quick_check", "shrink_memory", "table_info",
    "table_list", "table_xinfo", "wal_checkpoint",
}  # fmt: skip
"""Those that ask, or do something once."""
STORED = {"application_id", "user_version"}
"""Part of the database: a query may not set them, as it may not write."""


def test_every_pragma_is_decided() -> None:
    known = {str(name) for (name,) in apsw.Connection(":memory:").execute("PRAGMA pragma_list")}
    decided: list[set[str]] = [set(FIXED), set(SETTINGS), set(PASSING), ASKING, STORED]
    assert known <= set.union(*decided)
    assert sum(map(len, decided)) == len(set.union(*decided))


@pytest.mark.parametrize("name", FIXED)
def test_what_is_fixed_may_be_asked_for_and_not_changed(name: str) -> None:
    for value in FIXED[name][0]:
        check_pragma(name.upper(), value.upper(), in_query=True)
    for in_query in (False, True):
        with pytest.raises(SqlRefused, match=f"PRAGMA {name}=something: expected"):
            check_pragma(name, "something", in_query=in_query)


def test_settings_are_of_the_connection_that_writes() -> None:
    for name in SETTINGS | PASSING:
        check_pragma(name, "7", in_query=False)
        with pytest.raises(SqlRefused, match=f"PRAGMA {name}=7 in a query: expected it in"):
            check_pragma(name, "7", in_query=True)
    for name in ASKING | STORED:
        check_pragma(name, "7", in_query=True)


def test_pragmas_are_judged_in_every_schema_and_way_to_run_them() -> None:
    async def main(database: Database, _: World) -> None:
        await database.execute("CREATE TABLE t(a)")
        await database.execute("ATTACH ':memory:' AS m")
        async with database.snapshot() as snapshot, database.transaction() as transaction:
            for run in (database.query, snapshot.query, transaction.query):
                assert await run("PRAGMA page_size").value() == 8192
                assert (await run("PRAGMA table_info(t)").all())[0][1] == "a"
                with pytest.raises(SqlRefused, match="PRAGMA full_column_names=1"):
                    await run("PRAGMA full_column_names=1").all()
            with pytest.raises(SqlRefused, match="PRAGMA count_changes=1"):
                await transaction.execute("PRAGMA count_changes=1")
        with pytest.raises(SqlReadOnly):
            await database.query("PRAGMA user_version=7").all()
        with pytest.raises(SqlRefused, match="VACUUM, ATTACH or a temporary table, in a query"):
            await database.query("VACUUM").all()
        for schema in ("temp", "m"):
            with pytest.raises(SqlRefused, match="page_size=4096: expected 8192"):
                await database.execute(f"PRAGMA {schema}.page_size=4096")
        await database.execute("VACUUM")

    run_database(main)


def test_foreign_keys_are_switched_on_or_it_raises() -> None:
    async def main(database: Database, _: World) -> None:
        async def switched_on() -> bool:
            return (await database.execute("PRAGMA foreign_keys")).rows == [(1,)]

        on, many = "PRAGMA foreign_keys=ON", "PRAGMA foreign_keys=ON; CREATE TABLE p(a)"
        async with database.transaction() as transaction:
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: transaction.execute(on),
                lambda: transaction.query(on).all(),
            ]
            for call in calls:
                with pytest.raises(SqlRefused, match=r"=ON within a transaction.*does nothing"):
                    await call()
            await transaction.execute("PRAGMA foreign_keys=off")  # as it is
        with pytest.raises(SqlRefused, match=r"=ON within a transaction.*does nothing"):
            await database.execute(many)
        assert not await switched_on()
        await database.execute(f"{on}; -- by itself; a comment is no statement")
        assert await switched_on()
        await database.execute(many)  # now that it changes nothing
        await database.execute("PRAGMA foreign_keys=OFF /*;*/")
        assert not await switched_on()
        await database.execute(on)
        await database.execute("CREATE TABLE k(a REFERENCES q(a)); CREATE TABLE q(a PRIMARY KEY)")
        with pytest.raises(SqlConstraint):
            await database.execute("INSERT INTO k VALUES(99)")
        await database.execute("VACUUM /*;*/")

    run_database(main)
