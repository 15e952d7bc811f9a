"""Databases to and from plain SQLite files: the same bytes, all of it or nothing, typed errors."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import trio

from aurora.config import EngineConfig
from aurora.sqlite.bridge import run
from aurora.sqlite.database import Database
from aurora.sqlite.opening import open_database
from aurora.sqlite.source_file import SourceFile
from segments.locked_directory import LockedDirectory
from segments.protocol.errors import (
    Closed,
    DatabaseNotEmpty,
    FileInTheWay,
    Invalid,
    NotSqlite,
    SqlCorrupt,
    UnmergedJournal,
)
from segments.protocol.record import PAGE_SIZE
from tests.cancelling import cancelled_at
from tests.database_rig import check_whole, run_database
from tests.worlds import World, run_world

pytestmark = pytest.mark.usefixtures("no_syncs")

ROWS = 3_000


def make(path: Path, page_size: int = PAGE_SIZE, *pragmas: str, rows: int = ROWS) -> Path:
    """A file with a table, an index, and pages that are free."""
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA page_size={page_size}")
        for pragma in pragmas:
            db.execute(f"PRAGMA {pragma}")
        db.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
        db.execute("CREATE INDEX i ON t(b)")
        db.executemany(
            "INSERT INTO t VALUES(?, ?)", ((n, f"{n * 7919 % 1000}-" * 9) for n in range(rows))
        )
        db.execute(f"DELETE FROM t WHERE a > {rows // 2}")
    db.close()
    return path


def rows_of(path: Path) -> list[tuple[int, str]]:
    db = sqlite3.connect(path)
    try:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return db.execute("SELECT * FROM t ORDER BY a").fetchall()
    finally:
        db.close()


def test_what_was_imported_is_exported_byte_for_byte(tmp_path: Path) -> None:
    source, copy = make(tmp_path / "source.db"), tmp_path / "copy.db"

    async def main(db: Database, _: World) -> None:
        told: list[tuple[str, int, int]] = []
        commit = await db.import_file(source, progress=lambda *each: told.append(each))
        assert told[0] == ("checking", 0, 0)
        assert told[-1] == ("writing", told[-1][2], source.stat().st_size // PAGE_SIZE)
        assert await db.export(copy) == commit
        assert (await db.history(1))[0] == commit

    run_database(main)
    assert copy.read_bytes() == source.read_bytes()
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("page_size", "pragmas"),
    [
        (512, ()),
        (1_024, ("auto_vacuum=FULL",)),
        (4_096, ("journal_mode=WAL",)),
        (8_192, ("journal_mode=WAL",)),
        (65_536, ("encoding='UTF-16be'",)),
    ],
)
def test_any_file_is_imported(page_size: int, pragmas: Iterable[str], tmp_path: Path) -> None:
    source, copy = make(tmp_path / "source.db", page_size, *pragmas), tmp_path / "copy.db"

    async def main(db: Database, _: World) -> None:
        await db.import_file(source)
        await db.execute("INSERT INTO t VALUES(-1, 'new')")
        await db.export(copy)

    run_database(main)
    assert rows_of(copy) == [(-1, "new"), *rows_of(source)]


def test_readers_find_nothing_until_all_is_there(tmp_path: Path) -> None:
    source = make(tmp_path / "source.db")

    async def main(db: Database, world: World) -> None:
        seen: list[int] = []

        async def look() -> None:
            while not seen or not seen[-1]:
                seen.append(await db.query("SELECT count(*) FROM sqlite_schema").value())
                await trio.sleep(0.0005)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await db.import_file(source)
        assert seen[0] == 0 and seen[-1] == 2 and set(seen) == {0, 2}
        assert await db.query("SELECT count(*) FROM t").value() == ROWS // 2 + 1

    run_database(main)


def test_a_crash_in_between_leaves_an_empty_database_for_the_next_import(tmp_path: Path) -> None:
    source, copy = make(tmp_path / "source.db", rows=60_000), tmp_path / "copy.db"

    async def main(db: Database, world: World) -> None:
        def tell(what: str, done: int, _: int) -> None:
            if what == "writing" and done > 400:
                world.cluster.crash_writer()

        with pytest.raises(Exception, match=r"closed|ended"):
            await db.import_file(source, progress=tell)
        db.close()
        await world.cluster.recover()
        async with open_database(world.cluster) as again:
            assert await again.query("SELECT count(*) FROM sqlite_schema").value() == 0
            existing = [each async for each in world.cluster.engine.pages(2)]
            assert len(existing) > 64
            await again.import_file(source)
            await again.export(copy)

    run_database(main)
    assert copy.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("beside", ["real.db-wal", "real.db-journal"])
def test_a_log_is_found_beside_the_file_that_a_link_leads_to(beside: str, tmp_path: Path) -> None:
    make(tmp_path / "real.db")
    (tmp_path / beside).write_bytes(b"changes")
    link = tmp_path / "link.db"
    link.symlink_to("real.db")
    (tmp_path / "link.db-wal").write_bytes(b"not of the file")

    async def main(db: Database, _: World) -> None:
        with pytest.raises(UnmergedJournal, match=beside):
            await db.import_file(link)
        (tmp_path / beside).unlink()
        await db.import_file(link)

    run_database(main)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.db"
    os.mkfifo(pipe)

    async def main(db: Database, _: World) -> None:
        with pytest.raises(NotSqlite, match=r"pipe\.db is a pipe: expected a SQLite database"):
            await db.import_file(pipe)
        with pytest.raises(NotSqlite, match="is a directory: expected"):
            await db.import_file(tmp_path)

    run_database(main)


@pytest.mark.parametrize("page_size", [512, PAGE_SIZE, 65_536])
def test_a_file_that_ends_within_a_page_is_damaged(page_size: int, tmp_path: Path) -> None:
    """SQLite itself takes what is missing for zeros."""
    cut, stale = make(tmp_path / "cut.db", page_size), make(tmp_path / "stale.db", page_size)
    whole = stale.read_bytes()
    other_counter = (int.from_bytes(whole[92:96]) - 1).to_bytes(4)
    stale.write_bytes(whole[:28] + (1).to_bytes(4) + whole[32:92] + other_counter + whole[96:])

    async def main(db: Database, _: World) -> None:
        for path in (cut, stale):
            os.truncate(path, len(whole) - 100)
            with pytest.raises(SqlCorrupt, match=rf"{path.name}: {len(whole) - 100:,} bytes"):
                await db.import_file(path)
        stale.write_bytes(stale.read_bytes() + whole[-100:])
        await db.import_file(stale)  # its size is not what its header says, and need not be
        assert await db.query("SELECT count(*) FROM t").value() == ROWS // 2 + 1

    run_database(main)


def test_nobody_else_writes_to_a_file_amid_its_import(tmp_path: Path) -> None:
    source = make(tmp_path / "source.db")
    attempt = (
        f"import sqlite3\nwith sqlite3.connect({str(source)!r}, timeout=0) as db:\n"
        "    db.execute('DELETE FROM t')"
    )
    said: list[str] = []

    async def main(db: Database, _: World) -> None:
        def tell(what: str, done: int, total: int) -> None:
            if what == "writing" and 0 < done == total:
                ended = subprocess.run(
                    [sys.executable, "-c", attempt], capture_output=True, text=True, check=False
                )
                said.append(ended.stderr)

        await db.import_file(source, progress=tell)
        assert await db.query("SELECT count(*) FROM t").value() == ROWS // 2 + 1

    run_database(main)
    assert len(said) == 1 and "database is locked" in said[0]


@pytest.mark.parametrize("pragmas", [(), ("journal_mode=WAL",)])
async def test_a_copy_has_no_name_that_a_killed_import_could_leave(
    pragmas: Iterable[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("SQLITE_TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with SourceFile(make(tmp_path / "source.db", 4_096, *pragmas)) as source:
        await run(source.convert)
        assert source.pages() > 10 and len(source.read(2, 9)) == 9
        assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("wrong", [None, 5, b"x.db", "a\0", "\ud800"])
def test_what_is_no_path_is_refused(wrong: Any) -> None:
    async def main(db: Database, _: World) -> None:
        for call in (db.import_file, db.export):
            with pytest.raises(Invalid, match=r"path is .*: expected a path"):
                await call(wrong)

    run_database(main)


class Stopped(Exception):
    """An import that is given up on the way."""


async def half_imported(db: Database, source: Path) -> None:
    """Import a file up to somewhere."""

    def tell(what: str, done: int, _: int) -> None:
        if what == "writing" and done > 200:
            raise Stopped

    with pytest.raises(Stopped):
        await db.import_file(source, progress=tell)


def test_what_follows_on_an_import_that_was_given_up_is_sound(tmp_path: Path) -> None:
    """The writer knows pages that the import has overwritten, and so has a moment before."""
    source = make(tmp_path / "source.db", rows=60_000)

    async def fill(db: Database) -> None:
        await db.execute("CREATE TABLE x(a INTEGER PRIMARY KEY, b)")
        await db.execute_many(
            "INSERT INTO x VALUES(?, ?)", ((n, f"{n}-" * 9) for n in range(3_000))
        )

    async def main(db: Database, _: World) -> None:
        await fill(db)
        (filled,) = await db.history(1)
        await db.execute("DROP TABLE x")
        await half_imported(db, source)
        await fill(db)
        await check_whole(db)
        await db.execute("DROP TABLE x")
        await half_imported(db, source)
        await db.backtrack(filled.lsn)
        assert await db.query("SELECT count(*), min(b) FROM x").all() == [(3_000, "0-" * 9)]

    run_database(main, engine=EngineConfig(retention_lsns=None))


def test_what_an_import_has_left_is_overwritten_though_it_was_not_durable(tmp_path: Path) -> None:
    source = make(tmp_path / "source.db", rows=60_000)
    other, copy = make(tmp_path / "other.db", rows=20_000), tmp_path / "copy.db"

    async def main(db: Database, world: World) -> None:
        await db.execute("PRAGMA user_version = 1")
        world.crash("A0, B0, C0")
        await half_imported(db, source)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(db.import_file, other)
            await trio.sleep(1)
            await world.restart("A0, B0, C0")
        await db.export(copy)

    run_database(main)
    assert copy.read_bytes() == other.read_bytes()


def test_an_import_beneath_which_the_database_is_closed_writes_no_more(tmp_path: Path) -> None:
    source = make(tmp_path / "source.db", rows=150_000)

    async def main(world: World) -> None:
        begun = trio.Event()

        def tell(what: str, done: int, _: int) -> None:
            if what == "writing" and done > 200:
                begun.set()

        async def import_into(db: Database) -> None:
            with pytest.raises(Closed):
                await db.import_file(source, progress=tell)

        async with trio.open_nursery() as nursery:
            async with open_database(world.cluster) as db:
                nursery.start_soon(import_into, db)
                await begun.wait()
            async with open_database(world.cluster) as again:
                core = world.engine.core
                assert core is not None
                last = core.last_allocated_lsn
                await trio.sleep(1)
                assert core.last_allocated_lsn == last
                await check_whole(again)

    run_world(main)


def test_what_an_import_writes_puts_no_commit_out_of_reach(tmp_path: Path) -> None:
    """The newest commit may be below the floor, and is what there is all the same."""
    source, copy = make(tmp_path / "source.db", rows=60_000), tmp_path / "copy.db"
    engine = EngineConfig(retention_lsns=0, buffer_pool_pages=8, old_versions=0)

    async def main(db: Database, world: World) -> None:
        await db.execute("PRAGMA user_version = 3")
        await half_imported(db, source)
        await trio.sleep(1)
        async with db.snapshot() as snapshot:
            assert snapshot.lsn < world.engine.statistics().floor
            assert await snapshot.query("PRAGMA user_version").value() == 3
        await world.engine.get_many(range(2, 66))  # the header leaves the pool
        async with db.snapshot() as snapshot:
            assert await snapshot.query("PRAGMA user_version").value() == 3
        await world.engine.get_many(range(2, 66))
        await db.export(copy)

    run_database(main, engine=engine)
    assert copy.stat().st_size == PAGE_SIZE


def test_cancelled_anywhere_it_is_all_or_nothing(tmp_path: Path) -> None:
    source = make(tmp_path / "source.db")

    async def main(db: Database, _: World) -> None:
        step, cancelled = 0, True
        while cancelled:
            step += 1
            try:
                cancelled = await cancelled_at(step, lambda: db.import_file(source))
            except DatabaseNotEmpty:  # the one before was part of the log already
                break
        assert step >= 3
        assert await db.query("SELECT count(*) FROM t").value() == ROWS // 2 + 1

    run_database(main)


def test_connections_notice_although_the_counters_of_the_file_are_low(tmp_path: Path) -> None:
    """SQLite tells by two counters in page 1 whether what it has cached still holds."""
    source = make(tmp_path / "source.db")

    async def main(db: Database, _: World) -> None:
        for number in range(12):
            await db.execute(f"CREATE TABLE t(c{number}, x DEFAULT (hex(zeroblob(9000))))")
            await db.execute(f"INSERT INTO t(c{number}) VALUES(1), (2)")
            assert await db.query("SELECT count(*) FROM t").value() == 2
            await db.execute("DROP TABLE t")
        assert await db.query("SELECT count(*) FROM sqlite_schema").value() == 0
        await db.import_file(source)
        assert await db.query("SELECT count(*) FROM t").value() == ROWS // 2 + 1
        assert (await db.execute("SELECT count(b) FROM t")).rows == [(ROWS // 2 + 1,)]

    run_database(main)


def test_an_export_of_an_earlier_moment(tmp_path: Path) -> None:
    before, empty = tmp_path / "before.db", tmp_path / "empty.db"

    async def main(db: Database, _: World) -> None:
        assert await db.export(empty) is None
        await db.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
        first = await db.execute("INSERT INTO t VALUES(1, 'one')")
        await db.execute("UPDATE t SET b = 'two'")
        assert first.lsn is not None
        commit = await db.export(before, at=first.lsn)
        assert commit is not None and commit.lsn == first.lsn

    run_database(main)
    assert rows_of(before) == [(1, "one")]
    assert empty.stat().st_size == PAGE_SIZE
    with sqlite3.connect(empty) as plain:
        assert plain.execute("SELECT count(*) FROM sqlite_schema").fetchall() == [(0,)]
    plain.close()


def test_a_file_is_only_replaced_if_that_is_wanted(tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    target.write_bytes(b"mine")

    async def main(db: Database, _: World) -> None:
        await db.execute("CREATE TABLE t(a, b)")
        with pytest.raises(FileInTheWay, match=r"target\.db is there already"):
            await db.export(target)
        assert target.read_bytes() == b"mine"
        log = tmp_path / "target.db-wal"
        log.write_bytes(b"of another database")
        with pytest.raises(UnmergedJournal, match=r"target\.db-wal"):
            await db.export(target, replace=True)
        log.unlink()
        await db.export(target, replace=True)
        with pytest.raises(FileInTheWay):  # a directory is never replaced
            await db.export(tmp_path, replace=True)

    run_database(main)
    assert rows_of(target) == []


def test_an_export_takes_every_name_that_the_system_takes(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)

    async def main(db: Database, _: World) -> None:
        await db.export(target)
        await db.export(target, replace=True)

    run_database(main)
    assert [each.name for each in tmp_path.iterdir()] == [target.name]


def test_an_export_removes_what_killed_ones_have_left_and_nothing_else(tmp_path: Path) -> None:
    left, in_use, not_ours = (tmp_path / f".aurora-export-{each}" for each in ("a", "b", "c"))
    elsewhere, link = tmp_path / "elsewhere", tmp_path / ".aurora-export-d"
    for folder in (left, in_use, not_ours, elsewhere):
        folder.mkdir()
        (folder / "part").write_bytes(b"half")
    (not_ours / "notes").write_bytes(b"mine")
    link.symlink_to(elsewhere)
    other = LockedDirectory(in_use)

    async def main(db: Database, _: World) -> None:
        await db.export(tmp_path / "x.db")

    run_database(main)
    other.close()
    assert not left.exists()
    assert (in_use / "part").exists() and (elsewhere / "part").exists() and link.is_symlink()
    assert (not_ours / "notes").exists()
    assert len(list(tmp_path.glob(".aurora-export-*"))) == 3  # and none of its own


def test_an_export_that_cannot_be_written_names_what_was_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "none" / "x.db"

    async def main(db: Database, _: World) -> None:
        with pytest.raises(FileNotFoundError) as raised:
            await db.export(target)
        assert raised.value.filename == str(target)

    run_database(main)


def test_an_export_replaces_a_link_and_not_what_that_leads_to(tmp_path: Path) -> None:
    real, link = make(tmp_path / "real.db"), tmp_path / "link.db"
    link.symlink_to("real.db")
    before = real.read_bytes()
    (tmp_path / "real.db-wal").write_bytes(b"changes")

    async def main(db: Database, _: World) -> None:
        await db.export(link, replace=True)

    run_database(main)
    assert real.read_bytes() == before and not link.is_symlink()


def test_what_cannot_be_imported_is_told_by_its_kind(tmp_path: Path) -> None:
    good = make(tmp_path / "good.db")
    text = tmp_path / "text.db"
    text.write_text("no database, although its name says so" * 9, encoding="utf-8")
    empty = tmp_path / "empty.db"
    empty.touch()
    damaged = make(tmp_path / "damaged.db")
    data = bytearray(damaged.read_bytes())
    data[PAGE_SIZE * 2 : PAGE_SIZE * 2 + 64] = bytes(range(64))
    damaged.write_bytes(data)
    cut = make(tmp_path / "cut.db")
    cut.write_bytes(cut.read_bytes()[: -3 * PAGE_SIZE])
    logged = make(tmp_path / "logged.db")
    logged.with_name("logged.db-wal").write_bytes(b"x")

    async def main(db: Database, _: World) -> None:
        for path, kind in (
            (text, NotSqlite), (empty, NotSqlite), (damaged, SqlCorrupt), (cut, SqlCorrupt),
            (logged, UnmergedJournal), (tmp_path / "none.db", FileNotFoundError),
        ):  # fmt: skip
            with pytest.raises(kind, match=path.name):
                await db.import_file(path)
        await db.execute("CREATE TABLE u(a)")
        with pytest.raises(DatabaseNotEmpty, match="'u'"):
            await db.import_file(good)

    run_database(main)
