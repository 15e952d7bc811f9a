"""SQL: transactions, selects and scans, beside SQLite on a plain file."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

import attrs
import trio

import aurora
from aurora.config import ClusterConfig, EngineConfig
from aurora.sqlite.database import Database
from scripts.figures.figure import Bound, Figure, Sizes, compare, judge
from scripts.figures.life import scratch
from scripts.figures.sql_work import (
    FILL,
    POINT,
    ROWS,
    Draw,
    Rate,
    fill,
    in_block,
    insert,
    mix,
    ours,
    plain,
    row,
)  # fmt: skip

_SELECT_US: Final = 60.0


def _against_plain(
    name: str, what: str, draw: Draw, count: int, each: int, factor: float, sizes: Sizes,
) -> Figure:  # fmt: skip
    """Transactions a second of so many sessions, in turns with plain SQLite."""
    rates: dict[bool, list[Rate]] = {True: [], False: []}

    def measure(run: Callable[[Path], Rate], *, is_ours: bool, path: Path) -> float:
        rates[is_ours].append(run(path))
        return rates[is_ours][-1].per_s

    with scratch() as name_of:
        paths = iter(name_of, None)
        figure = compare(
            name, f"{what}, {count} session{'s' * (count > 1)}", "transactions/s",
            "SQLite, WAL, synchronous=FULL", Bound(factor, at_least=True), sizes.turns,
            lambda: measure(
                lambda path: trio.run(ours, path, draw, count, each), is_ours=True, path=name_of()
            ),
            lambda: measure(
                lambda _: plain(paths, draw, count, each), is_ours=False, path=name_of()
            ),
        )  # fmt: skip
        cpu, plain_cpu = (
            median(rate.cpu_us for rate in rates[is_ours]) for is_ours in (True, False)
        )
        faster = " or ".join(sorted({rate.how for rate in rates[False]}))
        note = f"CPU {cpu:.0f} us each, SQLite's {plain_cpu:.0f}, {faster}"
        if draw is mix:
            block = trio.run(ours, name_of(), draw, count, each, in_block)
            note += f"; as blocks {block.per_s:,.0f} transactions/s, CPU {block.cpu_us:.0f} us"
    return attrs.evolve(figure, note=note)


def inserts_64(sizes: Sizes) -> Figure:
    """Inserts of many sessions: what one sync carries."""
    count, each = sizes.writers, sizes.sql_inserts // sizes.writers
    return _against_plain("sql-inserts-64", "inserts on files", insert, count, each, 1.5, sizes)


def mix_64(sizes: Sizes) -> Figure:
    """Sysbench's mix of many sessions."""
    count, each = sizes.writers, sizes.sql_mixes // sizes.writers
    return _against_plain("sql-mix-64", "read-write mix on files", mix, count, each, 1.0, sizes)


def inserts_1(sizes: Sizes) -> Figure:
    """Inserts of one session: each waits for the fourth of six syncs."""
    each = sizes.single_commits
    return _against_plain("sql-inserts-1", "inserts on files", insert, 1, each, 0.4, sizes)


def mix_1(sizes: Sizes) -> Figure:
    """Sysbench's mix of one session."""
    each = sizes.single_commits
    return _against_plain("sql-mix-1", "read-write mix on files", mix, 1, each, 0.3, sizes)


async def _selects(selects: int, turns: int) -> list[Rate]:
    async with aurora.open_cluster(directory=None) as cluster, aurora.open_database(cluster) as db:
        await fill(db)
        await _select(db, ROWS // 10)
        return [await _select(db, selects) for _ in range(turns)]


async def _select(db: Database, selects: int) -> Rate:
    wall, cpu = time.perf_counter(), time.thread_time()
    for number in range(selects):
        await db.query(POINT, (number * 7_919 % ROWS,)).value()
    cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
    return Rate(selects / wall, 1e6 * cpu / selects)


def select(sizes: Sizes) -> Figure:
    """A point select by its key, of pages that are there."""
    rates = trio.run(_selects, sizes.sql_selects, sizes.turns)
    return judge(
        "sql-select", "computing for a point select from a warm cache", "us",
        min(rate.cpu_us for rate in rates), "as long as one may take", _SELECT_US,
        note=f"{1e6 / median(rate.per_s for rate in rates):.0f} us as measured, with what others "
        "took of the machine",
    )  # fmt: skip


_SCAN: Final = "SELECT count(*), sum(length(c) + k) FROM mix"


async def _scans(directory: Path, rows: int, turns: int) -> tuple[float, list[tuple[float, float]]]:
    """Seconds for an old scan the first time, and later ones of both kinds, once warm.

    A new connection reads each time, so that nothing is left of SQLite's own cache.
    """
    config = ClusterConfig(engine=EngineConfig(retention_lsns=None))  # an update has many LSNs
    async with (
        aurora.open_cluster(directory, config=config) as cluster,
        aurora.open_database(cluster) as db,
    ):
        await fill(db)
        for start in range(ROWS, rows, ROWS):
            await db.execute_many(FILL, map(row, range(start, min(start + ROWS, rows))))
        old = db.lsn
        await db.execute("UPDATE mix SET k = k + 1")
        first = await _scan_at(db, old)
        pairs = []
        for _ in range(turns):
            await _scan_at(db, old)
            value = await _scan_at(db, old)
            await _scan_at(db, db.lsn)
            pairs.append((value, await _scan_at(db, db.lsn)))
        return first, pairs


async def _scan_at(db: Database, lsn: int) -> float:
    async with db.at(lsn) as then:
        started = time.thread_time()
        await then.query(_SCAN).all()
        return time.thread_time() - started


def scan_old(sizes: Sizes) -> Figure:
    """A scan in the past beside one of the present."""
    with scratch() as name:
        first, pairs = trio.run(_scans, name(), sizes.sql_scan_rows, sizes.turns)
    values, limits = (iter(column) for column in zip(*pairs, strict=True))
    rows = max(ROWS, sizes.sql_scan_rows)
    return compare(
        "sql-scan-old", f"computing for a scan of {rows:,} rows at an old LSN", "ms",
        "the same at the VDL", Bound(3.0, at_least=False), sizes.turns,
        lambda: 1_000 * next(values), lambda: 1_000 * next(limits),
        note=f"{1_000 * first:.0f} ms the first time",
    )  # fmt: skip
