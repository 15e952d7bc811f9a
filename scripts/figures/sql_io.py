"""What SQL transactions cost of disks, as the 2017 paper's table 1 has it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import trio

import aurora
from scripts.figures.figure import Bound, Figure, Sizes, judge
from scripts.figures.life import scratch
from scripts.figures.sql_work import connect, fill, mix, plain_fill, plain_transact, sessions
from segments import file_storage
from segments.io_ring import IoRing
from segments.open_file import OpenFile

_COPIES: Final = 6
_PAPER: Final = 7.7
"""How many times fewer I/Os Aurora had than mirrored MySQL (2017, table 1)."""


class Io(NamedTuple):
    """Of one transaction, for six copies."""

    operations: float
    size_bytes: float

    def __str__(self) -> str:
        return f"{self.operations:.2f} I/Os and {self.size_bytes:,.0f} bytes"


class Counted(NamedTuple):
    """Calls of the system by segments: the bytes of each; lists, which threads may append to."""

    log: list[int]
    """Writes that sync: before these a commit is not acknowledged."""
    rest: list[int]
    """Writes and syncs of layers, and of new files."""

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count while the block runs."""

        def counted(call: Callable[..., Any], sizes: list[int], *, writes: bool) -> Any:
            def wrapper(*arguments: Any) -> Any:
                sizes.append(len(arguments[1]) if writes else 0)
                return call(*arguments)

            return wrapper

        sync = file_storage._sync
        with (
            patch.object(
                OpenFile, "write_durably", counted(OpenFile.write_durably, self.log, writes=True)
            ),
            patch.object(IoRing, "begin_write", counted(IoRing.begin_write, self.log, writes=True)),
            patch.object(OpenFile, "write", counted(OpenFile.write, self.rest, writes=True)),
            patch.object(file_storage, "_sync", counted(sync, self.rest, writes=False)),
            patch.object(os, "fsync", counted(os.fsync, self.rest, writes=False)),
        ):
            yield


async def _ours(directory: Path, writers: int, each: int) -> tuple[Io, Io]:
    """Of the log, and of the rest."""
    counted = Counted([], [])
    async with aurora.open_cluster(directory) as cluster, aurora.open_database(cluster) as db:
        await fill(db)
        with counted.counting():
            await sessions(db, mix, writers, each)
            await trio.sleep(1.0)  # what was acknowledged before all six had it comes to its end
    done = writers * each
    log, rest = (Io(len(sizes) / done, sum(sizes) / done) for sizes in counted)
    return log, rest


def _wal_shipped(path: Path, transactions: int) -> Io:
    """One I/O for a commit, whatever frames it has, and the bytes of these, six times."""
    wal = path.with_name(f"{path.name}-wal")
    with closing(connect(path)) as connection:
        plain_fill(connection)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        random = Random(0)
        for _ in range(transactions):
            plain_transact(connection, mix(random))
        return Io(_COPIES, _COPIES * wal.stat().st_size / transactions)


_FOUND: dict[Sizes, tuple[Io, Io, Io]] = {}


def _measured(sizes: Sizes) -> tuple[Io, Io, Io]:
    if sizes not in _FOUND:
        each = sizes.sql_mixes // sizes.writers
        with scratch() as name:
            log, rest = trio.run(_ours, name(), sizes.writers, each)
            _FOUND[sizes] = log, rest, _wal_shipped(name(), sizes.writers * each)
    return _FOUND[sizes]


def io(sizes: Sizes) -> Figure:
    """Writes of the log, each of which syncs."""
    log, rest, wal = _measured(sizes)
    return judge(
        "sql-io", f"writes of the log, six copies, read-write mix, {sizes.writers} sessions",
        "I/Os each", log.operations, "one for each commit of SQLite's WAL, six times",
        wal.operations, Bound(1 / _PAPER, at_least=False),
        f"{wal.operations / log.operations:.1f} x fewer; the 2017 paper, table 1: {_PAPER} x; "
        f"besides {rest} in the background, as SQLite has its checkpoints",
    )  # fmt: skip


def io_bytes(sizes: Sizes) -> Figure:
    """Bytes of these."""
    log, _, wal = _measured(sizes)
    return judge(
        "sql-io-bytes", f"bytes of the log, six copies, read-write mix, {sizes.writers} sessions",
        "bytes each", log.size_bytes, "SQLite's WAL, six times", wal.size_bytes,
        Bound(1 / _PAPER, at_least=False), f"{wal.size_bytes / log.size_bytes:.1f} x fewer",
    )  # fmt: skip
