"""Opening again: what a restart and a recovery take."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

import trio

import aurora
from aurora.config import ClusterConfig, EngineConfig
from aurora.transport import InProcessNetwork
from scripts.figures.figure import PAYLOAD, Figure, Sizes, judge
from scripts.figures.life import IDENTITY, LIVES, SEGMENT, Lived, live, scratch
from segments.config import SegmentConfig
from segments.file_storage import FileStorage
from segments.server import SegmentServer

_COPIES: Final = 6
_OPEN_MS: Final = 500.0
_LOG_MS: Final = 300.0
"""For each 64 MiB of hot log."""
_BATCH: Final = 500


async def _open(directories: list[Path]) -> tuple[float, float]:
    """Milliseconds until a segment on each of these directories serves, and those of computing."""
    network, config = InProcessNetwork(64), SegmentConfig()
    started, computed = time.perf_counter(), time.process_time()
    storages = [FileStorage.open(each, IDENTITY) for each in directories]
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as opening:
            for at, storage in enumerate(storages):
                endpoint = network.attach(f"{SEGMENT}-{at}")
                server = SegmentServer(SEGMENT, 0, (), storage, endpoint, config, Random(3))
                opening.start_soon(partial(nursery.start, server.run))
        taken = time.perf_counter() - started, time.process_time() - computed
        nursery.cancel_scope.cancel()
    for storage in storages:
        storage.close()
    return 1_000 * taken[0], 1_000 * taken[1]


def _copied(source: Path, directory: Path) -> Path:
    """A segment with the same files, which a restart does not change."""
    directory.mkdir()
    for path in source.iterdir():
        os.link(path, directory / path.name)
    return directory


def _opening_ms(lived: Lived, turns: int) -> tuple[float, float]:
    """Milliseconds to open six copies of a segment, at best, and those of computing in there."""
    with scratch() as name:
        copies = [_copied(lived.directory, name()) for _ in range(_COPIES)]
        return min(trio.run(_open, copies) for _ in range(turns))


def _opening(name: str, records: int, sizes: Sizes) -> Figure:
    lived = LIVES.get(records, sizes)
    taken, computed = _opening_ms(lived, sizes.turns)
    return judge(
        name, f"opening of six segments with {records:,} records each", "ms", taken,
        "as long as it may take", _OPEN_MS,
        note=f"{computed:.0f} ms of it computing; {lived.log_bytes >> 20} MiB of log and "
        f"{lived.layer_bytes >> 20} MiB of layers each",
    )  # fmt: skip


def opening(sizes: Sizes) -> Figure:
    """Six segments after a history."""
    return _opening("opening", sizes.history, sizes)


def opening_long(sizes: Sizes) -> Figure:
    """Six segments after a long history: no longer than that."""
    return _opening("opening-long", sizes.long_history, sizes)


def opening_log(sizes: Sizes) -> Figure:
    """One segment whose log could not be folded, for each 64 MiB of it."""
    records = sizes.log_bytes // (len(PAYLOAD) + 40)
    with scratch() as name:
        lived = live(name(), records, sizes.live_pages, announces=False)
        taken = min(trio.run(_open, [lived.directory]) for _ in range(sizes.turns))
    value, computed = (each * (64 << 20) / lived.log_bytes for each in taken)
    return judge(
        "opening-log", "opening of a segment, for each 64 MiB of hot log", "ms", value,
        "as long as it may take", _LOG_MS,
        note=f"{computed:.0f} ms of it computing; measured with {lived.log_bytes >> 20} MiB",
    )  # fmt: skip


async def _recover(records: int) -> float:
    """Microseconds per retained record until a second writer has opened the volume."""
    config = ClusterConfig(engine=EngineConfig(retention_lsns=None))
    async with aurora.open_cluster(config=config) as cluster:
        for start in range(0, records, _BATCH):
            count = min(_BATCH, records - start)
            writes = [((start + at) % 4_000, at * 16, PAYLOAD) for at in range(count)]
            await cluster.engine.put_many(writes)
        started = time.perf_counter()
        await cluster.recover()
        return 1e6 * (time.perf_counter() - started) / records


def writer_recovery(sizes: Sizes) -> Figure:
    """A writer's recovery from six segments that keep their whole log."""
    records = sizes.retained_records
    value = median(trio.run(_recover, records) for _ in range(sizes.turns))
    return Figure(
        "writer-recovery", f"recovery of the writer, {records:,} records retained", "us/record",
        value, note=f"{value * records / 1e6:.2f} s in all",
    )  # fmt: skip
