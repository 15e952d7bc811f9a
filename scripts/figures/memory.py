"""What a process takes that runs six segments on files: each measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import trio

import aurora
from scripts.figures.figure import PAYLOAD, Figure, Sizes, judge
from scripts.figures.process_memory import held_bytes, peak_bytes
from segments.protocol.record import PAGE_SIZE

_ROOT: Final = Path(__file__).parents[2]
_COPIES: Final = 6
_MTR: Final = 64
"""Records in a mini-transaction."""
_MIB: Final = 1 << 20
_MOST_MIB: Final = 120.0
_MOST_LONG_MIB: Final = 512.0


class Memory(NamedTuple):
    """A process at its end; sizes in bytes."""

    fifth: int
    """What it held when a fifth of the records had been written."""
    end: int
    """What it held after the last one."""
    peak: int
    """The most that it ever held."""
    writing_s: float
    opening_s: float
    """What it took to open the volume again."""


async def _write(directory: Path, records: int, pages: int) -> Memory:
    random, fifth = Random(1), 0
    started = time.perf_counter()
    async with aurora.open_cluster(directory) as cluster:
        for at in range(0, records, _MTR):
            count = min(_MTR, records - at)
            await cluster.engine.put_many(
                [
                    (random.randrange(pages), random.randrange(PAGE_SIZE - len(PAYLOAD)), PAYLOAD)
                    for _ in range(count)
                ]
            )
            if not fifth and at >= records // 5:
                fifth = held_bytes()
        end = held_bytes()
    writing_s = time.perf_counter() - started
    started = time.perf_counter()
    async with aurora.open_cluster(directory) as cluster:
        opening_s = time.perf_counter() - started
        assert cluster.engine.vdl == records, f"VDL {cluster.engine.vdl}: expected {records}"
    return Memory(fifth, end, peak_bytes(), writing_s, opening_s)


def write_here(records: int, pages: int) -> None:
    """What the child process does: prints a `Memory`."""
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(trio.run(_write, Path(directory, "volume"), records, pages)))


def _in_a_process(records: int, pages: int) -> Memory:
    code = f"from scripts.figures.memory import write_here; write_here({records}, {pages})"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, check=True, stdout=subprocess.PIPE
    )
    return Memory(*json.loads(found.stdout))


def memory(sizes: Sizes) -> Figure:
    """After twenty megabytes of changes to a few pages."""
    pages = 2_000
    found = _in_a_process(sizes.memory_records, pages)
    return judge(
        "memory", f"six segments, {sizes.memory_records:,} records on {pages:,} pages", "MiB",
        found.peak / _MIB, "the most a process may take", _MOST_MIB,
        note=f"{found.end / _MIB:.0f} MiB at the end; opened again in {found.opening_s:.2f} s",
    )  # fmt: skip


def memory_long(sizes: Sizes) -> Figure:
    """After a long history: what that adds is almost nothing."""
    records = sizes.long_history
    found = _in_a_process(records, sizes.live_pages)
    each = (found.end - found.fifth) / (_COPIES * records * 4 / 5)
    return judge(
        "memory-long", f"six segments, {records:,} records on {sizes.live_pages:,} pages", "MiB",
        found.peak / _MIB, "the most a process may take", _MOST_LONG_MIB,
        note=f"from {records // 5:,} records on {each:.2f} bytes a record and segment (at most 1); "
        f"{records / found.writing_s:,.0f} records/s; opened again in {found.opening_s:.2f} s",
    )  # fmt: skip
