"""A database that is larger than what may be kept of it: imported, queried and updated.

A process of its own does so. Its address space is limited (RLIMIT_AS, with one arena of malloc,
since each thread would reserve one), so that it fails if it asks for more; what is judged is the
most that it held in memory.
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import trio

import aurora
from scripts.figures.figure import Figure, Sizes, judge
from scripts.figures.life import scratch
from scripts.figures.process_memory import peak_bytes

_ROOT: Final = Path(__file__).parents[2]
_MIB: Final = 1 << 20
_ADDRESSES: Final = 1 << 30
"""What the process may ask for, in bytes."""
_MOST_MIB: Final = 512.0
_TEXT: Final = 1_000
_UPDATED: Final = 2_000
_UPDATE: Final = "UPDATE item SET count = count + 1 WHERE id = ?"


class _Imported(NamedTuple):
    """The process at its end."""

    peak: int
    """The most that it held, in bytes."""
    import_s: float
    scan_s: float
    update_s: float


def _make(path: Path, size_mib: int) -> int:
    """A plain file of about a size; returns how many rows it has."""
    rows = size_mib * _MIB // (_TEXT + 50)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, count INTEGER, text TEXT)")
        connection.executemany(
            "INSERT INTO item VALUES(?, 0, ?)", ((each, f"{each:0{_TEXT}}") for each in range(rows))
        )
        connection.commit()
    return rows


async def _work(source: Path, directory: Path, rows: int) -> _Imported:
    times = [time.perf_counter()]
    async with aurora.open_cluster(directory) as cluster, aurora.open_database(cluster) as db:
        await db.import_file(source)
        times.append(time.perf_counter())
        count = await db.query("SELECT count(*) FROM item WHERE length(text) = ?", (_TEXT,)).value()
        assert count == rows, f"{count} rows: expected {rows}"
        times.append(time.perf_counter())
        step = max(1, rows // _UPDATED)
        for start in range(0, rows, 100 * step):
            await db.execute_many(_UPDATE, ((each,) for each in range(start, rows, step)[:100]))
        times.append(time.perf_counter())
        changed = await db.query("SELECT sum(count) FROM item").value()
        assert changed == len(range(0, rows, step)), changed
    return _Imported(peak_bytes(), *(end - start for start, end in pairwise(times)))


def import_here(source: str, directory: str, rows: int) -> None:
    """What the child process does: prints an `_Imported`."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    print(json.dumps(trio.run(_work, Path(source), Path(directory), rows)))


def imported(sizes: Sizes) -> Figure:
    """The most memory that it takes."""
    with scratch() as name:
        source, directory = name(), name()
        rows = _make(source, sizes.sql_import_mib)
        size = source.stat().st_size
        code = (
            "from scripts.figures.sql_import import import_here; "
            f"import_here({str(source)!r}, {str(directory)!r}, {rows})"
        )
        found = subprocess.run(
            [sys.executable, "-c", code], cwd=_ROOT, check=True, stdout=subprocess.PIPE,
            env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        )  # fmt: skip
    done = _Imported(*json.loads(found.stdout))
    return judge(
        "sql-import", f"{size / _MIB:,.0f} MiB imported, scanned and updated, of 1 GiB addresses",
        "MiB", done.peak / _MIB, "the most that it may hold in memory", _MOST_MIB,
        note=f"imported in {done.import_s:.1f} s, {size / _MIB / done.import_s:.1f} MiB/s; scanned "
        f"in {done.scan_s:.1f} s; {_UPDATED:,} rows updated in {done.update_s:.1f} s",
    )  # fmt: skip
