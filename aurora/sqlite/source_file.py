"""A plain SQLite file to be imported: looked at, checked, and read page by page.

What takes long is called in `aurora.sqlite.bridge.run`: it gives way to others now and then, and a
cancellation ends it. Threads would have no place in virtual time, and take much address space.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import quote

import apsw

from aurora.sqlite.connections import FAIR_STEPS, give_way
from aurora.sqlite.header import MAGIC, size_pages
from aurora.sqlite.sql_errors import our_errors
from segments.protocol.errors import NotSqlite, SqlCorrupt, UnmergedJournal
from segments.protocol.record import PAGE_SIZE

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many pages of it are done, and of how many; 0 if not known."""

_HEADER_BYTES: Final = 100
_PAGE_SIZE_AT: Final = slice(16, 18)
_VERSIONS_AT: Final = slice(18, 20)
CHANGE_COUNTER: Final = slice(24, 28)
SCHEMA_COOKIE: Final = slice(40, 44)
_VALID_FOR: Final = slice(92, 96)
_ROLLBACK_JOURNAL: Final = b"\1\1"


def check_no_journal(path: Path) -> None:
    """Raise `UnmergedJournal` if a log, or a journal, beside a file belongs to it."""
    for ending, what in (("-wal", "a write-ahead log"), ("-journal", "a journal")):
        beside = path.with_name(path.name + ending)
        if beside.exists() and beside.stat().st_size:
            raise UnmergedJournal(
                f"{beside} is {what} of {path.name}, whose changes are not in the file: expected "
                "none, as SQLite leaves it when the last connection has been closed"
            )


def new_database() -> bytes:
    """The one page of a database without any table."""
    connection = apsw.Connection(":memory:")
    for _ in connection.execute(f"PRAGMA page_size={PAGE_SIZE}; PRAGMA user_version=0"):
        pass
    return bytes(connection.serialize("main"))


class SourceFile:
    """One file; a context. While it is open nobody else may write to it."""

    def __init__(self, path: Path) -> None:
        """Raises `NotSqlite` and `UnmergedJournal`, and `OSError` if it cannot be read."""
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
        if len(head) < _HEADER_BYTES or head[: len(MAGIC)] != MAGIC:
            begin = f"begins with {head[:16]!r}" if head else "is empty"
            raise NotSqlite(f"{path} {begin}: expected a SQLite database, {MAGIC!r}")
        check_no_journal(path)
        self.path = path
        # As the volume has it: pages of that size, no write-ahead log, and a size that holds.
        self._fits = (
            int.from_bytes(head[_PAGE_SIZE_AT]) == PAGE_SIZE
            and head[_VERSIONS_AT] == _ROLLBACK_JOURNAL
            and head[CHANGE_COUNTER] == head[_VALID_FOR]
            and size_pages(head) * PAGE_SIZE == path.stat().st_size
        )
        # A file that was in WAL mode needs files beside it even to be read, unless nobody writes.
        immutable = "" if head[_VERSIONS_AT] == _ROLLBACK_JOURNAL else "&immutable=1"
        name = f"file:{quote(str(path.absolute()))}?mode=ro{immutable}"
        with our_errors():
            self._connection = apsw.Connection(
                name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            )
        self._connection.set_progress_handler(give_way, FAIR_STEPS)
        self._folder: Path | None = None

    def __enter__(self) -> SourceFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._connection.close(True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def check(self) -> None:
        """Raise `SqlCorrupt` if SQLite finds anything wrong, apart from rows and their indexes."""
        try:
            with our_errors():
                found = [row[0] for row in self._connection.execute("PRAGMA quick_check(1)")]
        except SqlCorrupt as error:
            found = [str(error)]
        if found != ["ok"]:
            raise SqlCorrupt(f"{self.path}: {found[0]}; expected a database without damage")

    def converted(self) -> Path:
        """The file with pages as the volume has them: itself, or a copy that goes with this.

        From now on SQLite lets nobody write to the file.
        """
        with our_errors():
            if self._fits:
                for _ in self._connection.execute("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1"):
                    pass
                return self.path
            self._folder = Path(tempfile.mkdtemp(prefix="aurora-import-"))
            copy = self._vacuum_into(self._connection, "copy.db")
            if _page_size(copy) != PAGE_SIZE:  # in WAL mode the page size stays; the copy is not
                between, first = apsw.Connection(str(copy)), copy
                between.set_progress_handler(give_way, FAIR_STEPS)
                try:
                    copy = self._vacuum_into(between, "second.db")
                finally:
                    between.close(True)
                first.unlink()
        return copy

    def _vacuum_into(self, connection: apsw.Connection, name: str) -> Path:
        assert self._folder is not None
        path = self._folder / name
        for _ in connection.execute(f"PRAGMA page_size={PAGE_SIZE}"):
            pass
        connection.execute("VACUUM INTO ?", (str(path),))
        return path


def _page_size(path: Path) -> int:
    with path.open("rb") as file:
        return int.from_bytes(file.read(_HEADER_BYTES)[_PAGE_SIZE_AT])


def pages_of(path: Path) -> int:
    """The size of a database of the volume's page size; raises `SqlCorrupt` if it is shorter."""
    with path.open("rb") as file:
        pages = size_pages(file.read(_HEADER_BYTES))
    size = path.stat().st_size
    if not 1 <= pages <= size // PAGE_SIZE:
        raise SqlCorrupt(
            f"{path}: {size} bytes, and its header says {pages} pages of {PAGE_SIZE}: expected "
            "all of them"
        )
    return pages


def read_pages(path: Path, first: int, count: int) -> list[bytes]:
    """Pages of such a file, from ``first`` on, which is 1 for the first one."""
    with path.open("rb") as file:
        file.seek((first - 1) * PAGE_SIZE)
        data = file.read(count * PAGE_SIZE)
    if len(data) != count * PAGE_SIZE:
        raise SqlCorrupt(f"{path}: ends before page {first + count}: expected all its pages")
    return [data[at : at + PAGE_SIZE] for at in range(0, len(data), PAGE_SIZE)]
