"""From SQLite's transactions to mini-transactions, and from the engine's pages back to the file.

One SQLite page is one page of the engine: page n of the database is page n of the volume, in its
first ``page_size`` bytes; the rest stays zero. Page 0, which SQLite does not have, says how large
the database is:

======  =====  ==================================================
offset  bytes  page 0
======  =====  ==================================================
0       4      page size of the database, big-endian
4       4      pages in the database, big-endian
======  =====  ==================================================

The file that SQLite makes at a checkpoint is the old file, overlaid with the last committed image
of every page, then cut or extended with zeros to the last commit's size. So a commit that shrinks
the database erases nothing: it changes the size on page 0, and should the database grow over those
pages again, what SQLite does not rewrite is as it was before. The same is done here, and makes the
rebuilt file equal to SQLite's byte for byte.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

import attrs

from segments.protocol.errors import Corrupt, NotFound, PageNotFound
from segments.protocol.ids import PageId
from segments.protocol.record import EMPTY_PAGE, PAGE_SIZE
from sim.files.sqlite_wal import (
    MAX_FILE_BYTES,
    DamagedFile,
    Frame,
    SqliteBase,
    SqliteWal,
    Transaction,
    UnsupportedFile,
    read_base,
    read_wal,
)

SIZE_PAGE_ID: Final[PageId] = 0
"""The page that holds the database's size."""

BASE_PAGES_PER_MTR: Final = 64
"""The base is loaded in mini-transactions of at most this many pages."""

MERGE_GAP: Final = 16
"""Changed runs with fewer equal bytes than this between them become one write: an own redo record
would cost more than the bytes it saves."""

_SIZE: Final = Struct(">II")
# The first byte stands alone, since a search for a single set skips the zeros twice as fast.
_CHANGED_RUNS: Final = re.compile(rb"[^\0][^\0]*+(?:\0{1,%d}[^\0]++)*+" % (MERGE_GAP - 1))


class PageWrite(NamedTuple):
    """A change within one page, as ``put_many`` takes it."""

    page_id: PageId
    offset: int
    data: bytes


@attrs.frozen
class MtrWrites:
    """One mini-transaction: writes in order of page and offset, none overlapping.

    **It may be empty**: a transaction that wrote only what was there already. Then there is
    nothing to log, no LSN and nothing to wait for, and it must not be given to the engine.
    """

    writes: tuple[PageWrite, ...]

    @property
    def is_empty(self) -> bool:
        return not self.writes


@attrs.frozen
class SqliteWorkload:
    """A log and the database it belongs to, of one page size (else `UnsupportedFile`)."""

    base: SqliteBase
    wal: SqliteWal

    def __attrs_post_init__(self) -> None:
        if self.base.page_size != self.wal.page_size:
            raise UnsupportedFile(
                f"{self.wal.name}: page size {self.wal.page_size}: expected "
                f"{self.base.page_size}, as in {self.base.name}"
            )

    @property
    def db_pages(self) -> int:
        """Pages in the database after the last transaction."""
        transactions = self.wal.transactions
        return transactions[-1].db_pages_after if transactions else len(self.base.pages)

    def mtrs(self) -> Iterator[MtrWrites]:
        """Yield what loads the base, then one for each transaction, computed when asked for."""
        differ = TransactionDiffer(self.wal.page_size)
        yield from differ.load_base(self.base)
        for transaction in self.wal.transactions:
            yield differ.commit(transaction)


class TransactionDiffer:
    """Turns whole pages into byte ranges, by comparing each with the page's last version.

    It keeps one view per page, into the bytes of the base and the log.
    """

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._versions: dict[int, memoryview] = {}
        self._unwritten = memoryview(EMPTY_PAGE)[:page_size]
        self._db_pages = 0

    @property
    def db_pages(self) -> int:
        """Pages in the database as of the last mini-transaction."""
        return self._db_pages

    def load_base(self, base: SqliteBase) -> Iterator[MtrWrites]:
        """Yield the mini-transactions that write the base; take all of them before any commit.

        The last one writes the size, so that a base loaded by half is not taken for a database.
        """
        count = len(base.pages)
        for start in range(0, count, BASE_PAGES_PER_MTR):
            pages = enumerate(base.pages[start : start + BASE_PAGES_PER_MTR], start + 1)
            loaded = start + BASE_PAGES_PER_MTR >= count
            yield self._mtr((Frame(*page) for page in pages), count if loaded else self._db_pages)

    def commit(self, transaction: Transaction) -> MtrWrites:
        """Return the difference that one transaction makes, which may be empty."""
        last = {frame.page_number: frame for frame in transaction.frames}
        frames = (last[page_number] for page_number in sorted(last))
        return self._mtr(frames, transaction.db_pages_after)

    def _mtr(self, frames: Iterable[Frame], db_pages: int) -> MtrWrites:
        writes: list[PageWrite] = []
        if db_pages != self._db_pages:
            self._db_pages = db_pages
            writes.append(PageWrite(SIZE_PAGE_ID, 0, _SIZE.pack(self._page_size, db_pages)))
        for page_number, image in frames:
            old = self._versions.get(page_number, self._unwritten)
            self._versions[page_number] = image
            writes.extend(
                PageWrite(page_number, start, bytes(image[start:end]))
                for start, end in changed_runs(old, image)
            )
        return MtrWrites(tuple(writes))


def changed_runs(old: memoryview, new: memoryview) -> Iterator[tuple[int, int]]:
    """Yield the half-open ranges, `MERGE_GAP` apart or more, in which two pages differ.

    The exclusive or of two pages is zero where they agree: two conversions and one pass of a
    regular expression, instead of a loop over bytes.
    """
    difference = int.from_bytes(old, "little") ^ int.from_bytes(new, "little")
    if difference:
        changes = difference.to_bytes(len(new), "little")
        for run in _CHANGED_RUNS.finditer(changes):
            yield run.span()


def read_size(page: bytes) -> tuple[int, int]:
    """Return (page size, pages) of the database from the image of page `SIZE_PAGE_ID`."""
    page_size, db_pages = _SIZE.unpack_from(page)
    return page_size, db_pages


def rebuild(read_page: Callable[[PageId], bytes], page_size: int, db_pages: int) -> bytes:
    """Return the database file, asking for pages 1 to ``db_pages``, inclusive.

    A page that ``read_page`` does not have (`PageNotFound`) was never written, and is zeros as in
    SQLite's own file. Raises `Corrupt` if an image is not a page with zeros above ``page_size``.
    """
    file = bytearray(page_size * db_pages)
    padding = EMPTY_PAGE[page_size:]
    for page_number in range(1, db_pages + 1):
        try:
            image = read_page(page_number)
        except PageNotFound:
            continue
        if len(image) != PAGE_SIZE or image[page_size:] != padding:
            raise Corrupt(
                f"page {page_number} is {len(image)} bytes, {len(image.rstrip(bytes(1)))} of them "
                f"up to its last non-zero one: expected {PAGE_SIZE}, at most {page_size}"
            )
        file[(page_number - 1) * page_size : page_number * page_size] = image[:page_size]
    return bytes(file)


def load_workload(wal_path: Path) -> SqliteWorkload:
    """Read ``FILE.db-wal`` and, beside it, ``FILE.db``.

    Raises `NotFound` if one is not there, and what `read_wal` and `read_base` raise.
    """
    base_path = base_path_of(wal_path)
    wal = read_wal(_read_file(wal_path, "write-ahead log"), wal_path.name)
    base = read_base(_read_file(base_path, f"database of {wal_path.name}"), base_path.name)
    return SqliteWorkload(base, wal)


def base_path_of(wal_path: Path) -> Path:
    """Return the path of the database that a log belongs to: the log's without ``-wal``."""
    base_name = wal_path.name.removesuffix("-wal")
    if base_name in ("", wal_path.name):
        raise UnsupportedFile(
            f"{wal_path.name}: a write-ahead log is named after its database: expected FILE-wal"
        )
    return wal_path.with_name(base_name)


def sqlite_checkpointed(base_path: Path, wal_path: Path, directory: Path) -> bytes:
    """Return the database file that SQLite itself makes from a base and its log.

    Works on copies in a directory of its own within ``directory``. Raises `DamagedFile` if SQLite
    cannot read them.
    """
    with tempfile.TemporaryDirectory(dir=directory) as own:
        copy = Path(own, "copy.db")
        shutil.copyfile(base_path, copy)
        shutil.copyfile(wal_path, copy.with_name("copy.db-wal"))
        try:
            with contextlib.closing(sqlite3.connect(copy)) as connection:
                # A connection looks at the log only when it first reads the database.
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                assert busy == 0, "nobody else has the copy open"
        except sqlite3.DatabaseError as error:
            raise DamagedFile(f"{base_path.name}: SQLite says: {error}") from error
        return copy.read_bytes()


def integrity_check(path: Path) -> str:
    """Return SQLite's verdict on a database file without a log: ``ok``, or what is wrong, by line.

    What SQLite cannot read at all is a verdict too. Leaves no file beside it.
    """
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            lines = connection.execute("PRAGMA integrity_check").fetchall()
    except sqlite3.DatabaseError as error:
        return str(error)
    return "\n".join(line for (line,) in lines)


def _read_file(path: Path, kind: str) -> bytes:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise UnsupportedFile(
                    f"{path}: {size} bytes long: expected at most {MAX_FILE_BYTES}"
                )
            return file.read(MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise NotFound(f"{path}: there is no such file: expected the {kind}") from error
    except OSError as error:
        raise UnsupportedFile(f"{path}: cannot read the {kind}: {error.strerror}") from error
