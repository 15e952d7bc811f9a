"""Write-ahead logs to test with: real ones by SQLite, and synthetic ones byte by byte."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sqlite3
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from segments.protocol.errors import PageNotFound
from segments.protocol.record import PAGE_SIZE, checked_write
from sim.files.sqlite_rebuild import MtrWrites
from sim.files.sqlite_wal import SqliteBase, SqliteWal

SCRIPT = Path(__file__).parent.parent / "scripts" / "make_sqlite_workload.py"
SALTS = (0x01020304, 0xA0B0C0D0)


def script() -> ModuleType:
    """The module of ``scripts/make_sqlite_workload.py``, which is no package."""
    spec = importlib.util.spec_from_file_location("make_sqlite_workload", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_shop(directory: Path, page_size: int, transactions: int, seed: int = 1) -> Path:
    """The log of a small shop; the database lies beside it."""
    log_path = script().make_workload(directory / "shop.db", page_size, transactions, seed)
    assert isinstance(log_path, Path)
    return log_path


class LiveDatabase:
    """A database in WAL mode, without automatic checkpoints, to be copied while it is open."""

    def __init__(self, path: Path, page_size: int, *pragmas: str) -> None:
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None)
        self.run(f"PRAGMA page_size = {page_size}", *(f"PRAGMA {pragma}" for pragma in pragmas))
        self.run("PRAGMA journal_mode = WAL", "PRAGMA wal_autocheckpoint = 0")
        self.run("PRAGMA synchronous = OFF")

    def run(self, *statements: str) -> None:
        for statement in statements:
            self._db.execute(statement).fetchall()

    def step_through(self, statement: str) -> None:
        """Run a statement to its end though it returns no rows; ``execute`` takes one step only."""
        self._db.executescript(statement)

    def insert(self, rows: int, size: int) -> None:
        """Rows of ``size`` bytes that are the same in every run, in one transaction."""
        self.run(
            "BEGIN",
            f"INSERT INTO t(b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
            f"LIMIT {rows}) SELECT substr(hex(zeroblob({size})) || i, -{size}) FROM n",
            "COMMIT",
        )

    def snapshot(self, name: str) -> Path:
        """Copy database and log; return the path of the log's copy."""
        copy = self.path.with_name(name)
        log_copy = copy.with_name(f"{name}-wal")
        shutil.copyfile(self.path, copy)
        shutil.copyfile(self.path.with_name(f"{self.path.name}-wal"), log_copy)
        return log_copy

    def close(self) -> None:
        self._db.close()


@contextlib.contextmanager
def live_database(directory: Path, page_size: int, *pragmas: str) -> Iterator[LiveDatabase]:
    """A database with an empty table ``t``, all of it in the file and nothing in the log."""
    database = LiveDatabase(directory / "live.db", page_size, *pragmas)
    try:
        database.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b)", "CREATE INDEX i ON t(b)")
        database.run("PRAGMA wal_checkpoint(TRUNCATE)")
        yield database
    finally:
        database.close()


class SyntheticLog:
    """A log written frame by frame; each method returns the log, and ``data`` is the file."""

    def __init__(
        self,
        page_size: int = 512,
        *,
        big_endian: bool = False,
        version: int = 3007000,
        salts: tuple[int, int] = SALTS,
    ) -> None:
        self._order = ">" if big_endian else "<"
        self._salts = salts
        fields = (0x377F0682 + big_endian, version, page_size, 7, *salts)
        header = struct.pack(">6I", *fields)
        self._sums = (0, 0)
        self._continue(header)
        self.data = header + struct.pack(">2I", *self._sums)

    def frame(self, page_number: int, image: bytes, db_pages: int = 0) -> SyntheticLog:
        """Append a valid frame; a commit if ``db_pages`` is given."""
        start = struct.pack(">2I", page_number, db_pages)
        self._continue(start)
        self._continue(image)
        self.data += start + struct.pack(">4I", *self._salts, *self._sums) + image
        return self

    def raw(self, data: bytes) -> SyntheticLog:
        """Append anything."""
        self.data += data
        return self

    def _continue(self, data: bytes) -> None:
        first, second = self._sums
        for at in range(0, len(data), 8):
            x, y = struct.unpack(self._order + "2I", data[at : at + 8])
            first = (first + x + second) % 2**32
            second = (second + y + first) % 2**32
        self._sums = first, second


def rewritten(wal: SqliteWal, *, big_endian: bool) -> bytes:
    """The same transactions as a synthetic log with the other byte order of checksums."""
    log = SyntheticLog(wal.page_size, big_endian=big_endian)
    for transaction in wal.transactions:
        *others, last = transaction.frames
        for frame in others:
            log.frame(frame.page_number, bytes(frame.image))
        log.frame(last.page_number, bytes(last.image), transaction.db_pages_after)
    return log.data


def overlaid(base: SqliteBase, wal: SqliteWal) -> bytes:
    """The dumb oracle of a checkpoint: the file as it was, with every frame written over it."""
    pages = {number: bytes(page) for number, page in enumerate(base.pages, 1)}
    db_pages = len(pages)
    for transaction in wal.transactions:
        pages.update((number, bytes(image)) for number, image in transaction.frames)
        db_pages = transaction.db_pages_after
    empty = bytes(wal.page_size)
    return b"".join(pages.get(number, empty) for number in range(1, db_pages + 1))


class PageStore:
    """The dumbest engine: pages, to which writes are applied."""

    def __init__(self, mtrs: Iterable[MtrWrites] = ()) -> None:
        self.pages: dict[int, bytearray] = {}
        for mtr in mtrs:
            self.apply(mtr)

    def apply(self, mtr: MtrWrites) -> None:
        for page_id, offset, data in mtr.writes:
            checked_write(page_id, offset, data)
            page = self.pages.setdefault(page_id, bytearray(PAGE_SIZE))
            page[offset : offset + len(data)] = data

    def read(self, page_id: int) -> bytes:
        if page_id not in self.pages:
            raise PageNotFound(f"page {page_id} was never written")
        return bytes(self.pages[page_id])
