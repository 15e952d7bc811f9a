"""Small records, for long."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

import aurora
from scripts.figures.figure import Figure, Sizes, judge
from scripts.figures.life import scratch
from scripts.figures.process_memory import peak_bytes

_MOST_MS: Final = 100.0


class _Pauses:
    """How long trio's loop has kept a task waiting that wants to run every millisecond."""

    _EVERY_S: Final = 0.001

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.cpu_s = 0.0
        """The most that this thread has computed between two turns of that task."""

    async def watch(self) -> None:
        while True:
            started, computed = time.perf_counter(), time.thread_time()
            await trio.sleep(self._EVERY_S)
            self.longest_s = max(self.longest_s, time.perf_counter() - started - self._EVERY_S)
            self.cpu_s = max(self.cpu_s, time.thread_time() - computed)


async def _small_records(records: int, directory: Path, pauses: _Pauses) -> str:
    """Write that many records of eight bytes with default settings, and open the volume again."""
    per_mtr, largest = 50, 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pauses.watch)
        started = time.perf_counter()
        async with aurora.open_cluster(directory) as cluster:
            for start in range(0, records, per_mtr):
                count = min(per_mtr, records - start)
                await cluster.engine.put_many(
                    [(at % 4, 8 * at, b"8 bytes!") for at in range(count)]
                )
                if start % (100 * per_mtr) == 0:
                    largest = max(largest, await trio.to_thread.run_sync(_size_of, directory))
            rate = records / (time.perf_counter() - started)
        started = time.perf_counter()
        async with aurora.open_cluster(directory) as cluster:
            reopened = time.perf_counter() - started
            assert cluster.engine.vdl == records, f"VDL {cluster.engine.vdl}: expected {records}"
        nursery.cancel_scope.cancel()
    peak = peak_bytes() >> 20
    return (
        f"{rate:,.0f} records/s, at most {max(largest, _size_of(directory)) >> 20} MiB on disk, "
        f"reopened in {reopened:.2f} s, peak of the process {peak} MiB; "
        f"at most {1_000 * pauses.cpu_s:.0f} ms of computing at a time"
    )


def _size_of(directory: Path) -> int:
    sizes = []
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # a replacement that has just taken its place
            sizes.append(path.stat().st_size)
    return sum(sizes)


def small_records(sizes: Sizes) -> Figure:
    """The longest pause of trio's loop while many small records are written and read again."""
    pauses = _Pauses()
    with scratch() as name:
        note = trio.run(_small_records, sizes.small_records, name(), pauses)
    return judge(
        "small-records",
        f"longest pause of the loop, {sizes.small_records:,} records of 8 bytes on files", "ms",
        1_000 * pauses.longest_s, "as long as anyone may be kept waiting", _MOST_MS, note=note,
    )  # fmt: skip
