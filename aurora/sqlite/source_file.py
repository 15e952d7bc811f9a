"""A plain SQLite file to be imported: looked at, checked, and read page by page.

What takes long is called in `aurora.sqlite.bridge.run`: it gives way to others now and then, and a
cancellation ends it. Threads would have no place in virtual time, and take much address space.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import quote

import apsw

from aurora.sqlite.connections import FAIR_STEPS, give_way
from aurora.sqlite.header import MAGIC, size_pages
from aurora.sqlite.import_vfs import ROLLBACK_JOURNAL, ImportVfs
from aurora.sqlite.sql_errors import our_errors
from segments.protocol.errors import Invalid, NotSqlite, SqlCorrupt, UnmergedJournal
from segments.protocol.record import PAGE_SIZE

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many pages of it are done, and of how many; 0 if not known."""

_HEADER_BYTES: Final = 100
_PAGE_SIZE_AT: Final = slice(16, 18)
_LARGEST_PAGE: Final = 65_536
"""A page size that its two bytes cannot hold: they are 1 then."""
_VERSIONS_AT: Final = slice(18, 20)
CHANGE_COUNTER: Final = slice(24, 28)
SCHEMA_COOKIE: Final = slice(40, 44)
_VALID_FOR: Final = slice(92, 96)
_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_no_journal(path: Path) -> None:
    """Raise `UnmergedJournal` if a log, or a journal, beside a file belongs to it."""
    for ending, what in (("-wal", "a write-ahead log"), ("-journal", "a journal")):
        beside = path.with_name(path.name + ending)
        if _bytes_in(beside):
            raise UnmergedJournal(
                f"{beside} is {what} of {path.name}, whose changes are not in the file: expected "
                "none, as SQLite leaves it when the last connection has been closed"
            )


def _bytes_in(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it is not there, or its name is longer than there can be
        return 0


def new_database() -> bytes:
    """The one page of a database without any table."""
    connection = apsw.Connection(":memory:")
    for _ in connection.execute(f"PRAGMA page_size={PAGE_SIZE}; PRAGMA user_version=0"):
        pass
    return bytes(connection.serialize("main"))


def _quoted(name: str) -> str:
    try:
        return quote(name)
    except UnicodeEncodeError:
        raise Invalid(f"the file {name!r}: expected a name in UTF-8, to import it") from None


class SourceFile:
    """One file; a context. While it is open nobody else may write to it."""

    def __init__(self, path: Path) -> None:
        """Raises `NotSqlite` and `UnmergedJournal`, and `OSError` if it cannot be read."""
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # to open a pipe would wait for who writes to it
            kind = _KINDS.get(stat.S_IFMT(mode), "no file")
            raise NotSqlite(f"{path} is {kind}: expected a SQLite database, which is a file")
        self.path = path
        # Kept open: closing any descriptor of a file ends the locks that SQLite has on it.
        self._file = path.open("rb", buffering=0)
        self._vfs = ImportVfs()
        try:
            self._head = self._file.read(_HEADER_BYTES)
            self._check_head()
            actual = os.path.realpath(path)  # SQLite has a log beside the file, not beside a link
            check_no_journal(Path(actual))
            with our_errors():
                self._connection = apsw.Connection(
                    f"file:{_quoted(actual)}",
                    flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
                    vfs=self._vfs.name,
                )
        except BaseException:
            self._file.close()
            raise
        self._connection.set_progress_handler(give_way, FAIR_STEPS)

    def __enter__(self) -> SourceFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._connection.close(True)
        self._file.close()
        if self._vfs.copy is not None:
            self._vfs.copy.end()

    def check(self) -> None:
        """Raise `SqlCorrupt` if SQLite finds anything wrong, apart from rows and their indexes."""
        self._check_size()
        try:
            with our_errors():
                found = [row[0] for row in self._connection.execute("PRAGMA quick_check(1)")]
        except SqlCorrupt as error:
            found = [str(error)]
        if found != ["ok"]:
            raise SqlCorrupt(f"{self.path}: {found[0]}; expected a database without damage")

    def convert(self) -> None:
        """Have pages as the volume has them, in a copy if need be; they can be read after this.

        From now on SQLite lets nobody write to the file that is read.
        """
        with our_errors():
            for _ in self._connection.execute("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1"):
                pass
            self._head = os.pread(self._file.fileno(), _HEADER_BYTES, 0)
            if self._fits():
                return
            for _ in self._connection.execute(f"ROLLBACK; PRAGMA page_size={PAGE_SIZE}"):
                pass
            self._connection.execute("VACUUM INTO ?", (f"file:/copy?vfs={self._vfs.name}",))
            assert self._vfs.copy is not None
            self._head = self._vfs.copy.xRead(_HEADER_BYTES, 0)

    def pages(self) -> int:
        """The size of what has been converted."""
        return size_pages(self._head)

    def read(self, first: int, count: int) -> list[bytes]:
        """Pages of what has been converted, from ``first`` on, which is 1 for the first one."""
        size, offset = count * PAGE_SIZE, (first - 1) * PAGE_SIZE
        if self._vfs.copy is not None:
            data = self._vfs.copy.xRead(size, offset)
        else:
            data = os.pread(self._file.fileno(), size, offset)
        if len(data) != size:
            end = first + count
            raise SqlCorrupt(f"{self.path}: ends before page {end}: expected all its pages")
        return [data[at : at + PAGE_SIZE] for at in range(0, len(data), PAGE_SIZE)]

    # ---- the header ------------------------------------------------------------------------------

    def _check_head(self) -> None:
        head = self._head
        if len(head) < _HEADER_BYTES or head[: len(MAGIC)] != MAGIC:
            begin = f"begins with {head[:16]!r}" if head else "is empty"
            raise NotSqlite(f"{self.path} {begin}: expected a SQLite database, {MAGIC!r}")

    def _check_size(self) -> None:
        """Raise `SqlCorrupt` if the file ends within its pages, which SQLite takes for zeros."""
        size, page_size = self._size(), self._page_size()
        if self._says_size():
            if size < size_pages(self._head) * page_size:
                raise SqlCorrupt(
                    f"{self.path}: {size:,} bytes, and its header says {size_pages(self._head):,} "
                    f"pages of {page_size:,}: expected all of them"
                )
        elif page_size and size % page_size:
            raise SqlCorrupt(
                f"{self.path}: {size:,} bytes: expected whole pages of {page_size:,}, as its "
                "header says"
            )

    def _says_size(self) -> bool:
        """Whether the size in the header holds: what wrote the file last may not know of it."""
        head = self._head
        return size_pages(head) > 0 and head[CHANGE_COUNTER] == head[_VALID_FOR]

    def _fits(self) -> bool:
        """Whether it is as on the volume: such pages, no write-ahead log, a size that holds."""
        return (
            self._page_size() == PAGE_SIZE
            and self._head[_VERSIONS_AT] == ROLLBACK_JOURNAL
            and self._says_size()
            and size_pages(self._head) * PAGE_SIZE == self._size()
        )

    def _page_size(self) -> int:
        number = int.from_bytes(self._head[_PAGE_SIZE_AT])
        return _LARGEST_PAGE if number == 1 else number

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size
