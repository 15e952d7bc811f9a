"""What it takes to read a page that nobody keeps."""

from __future__ import annotations

import time
from functools import partial
from random import Random
from statistics import median

import trio

import aurora
from aurora.config import ClusterConfig, EngineConfig
from scripts.figures.figure import PAYLOAD, Bound, Figure, Sizes, compare, judge
from scripts.figures.life import LIVES, SEGMENT, Lived
from segments.config import SegmentConfig
from segments.layers.job import Op, Read, finished
from segments.protocol.record import PAGE_SIZE
from segments.restart import restart_job
from segments.segment_directory import IDENTITY as IDENTITY_FILE


async def _cold_reads(sizes: Sizes) -> tuple[float, float]:
    """Median milliseconds to read a page after a long and after a short history, from layers."""
    config = ClusterConfig(
        engine=EngineConfig(buffer_pool_pages=1),  # so each read evicts the last
        segment=SegmentConfig(fold_bytes=64 << 10, image_cache_bytes=0, block_cache_bytes=0),
    )
    short_page, long_page, other_page = 1, 2, 3
    taken: dict[int, list[float]] = {short_page: [], long_page: []}
    async with aurora.open_cluster(config=config) as cluster:
        engine = cluster.engine
        for page_id, count in (
            (short_page, sizes.short_page_history),
            (long_page, sizes.long_page_history),
            (other_page, 1_000),  # more than stays in the log when the others are folded
        ):
            writes = [(page_id, at * 101 % (PAGE_SIZE - 100), PAYLOAD) for at in range(count)]
            for at in range(0, count, 100):
                await engine.put_many(writes[at : at + 100])
        await trio.sleep(1.0)  # until they are
        before = engine.statistics().pool.misses
        for _ in range(sizes.cold_reads):
            for page_id, durations in taken.items():
                started = time.perf_counter()
                await engine.get(page_id)
                durations.append(time.perf_counter() - started)
        misses = engine.statistics().pool.misses - before
    assert misses == 2 * sizes.cold_reads, f"{misses} misses: expected every read to be one"
    return 1_000 * median(taken[long_page]), 1_000 * median(taken[short_page])


def cold_read(sizes: Sizes) -> Figure:
    """A page read from a segment's layers, whose cost is not to grow with the page's history."""
    turns = [trio.run(_cold_reads, sizes) for _ in range(sizes.turns)]
    long_reads, short_reads = (iter(column) for column in zip(*turns, strict=True))
    return compare(
        "cold-read", f"cold read of a page after {sizes.long_page_history:,} records", "ms",
        f"after {sizes.short_page_history:,} records", Bound(1.5, at_least=False), sizes.turns,
        partial(next, long_reads), partial(next, short_reads),
    )  # fmt: skip


class _Files:
    """The files of a history, and how often something was read of them."""

    def __init__(self, lived: Lived) -> None:
        self.reads = 0
        self._directory = lived.directory

    def names(self) -> list[str]:
        """Those of the segment."""
        return sorted(each.name for each in self._directory.iterdir() if each.name != IDENTITY_FILE)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """A part of a file."""
        self.reads += 1
        path = self._directory / name
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(min(length, path.stat().st_size))

    def execute(self, op: Op) -> bytes:
        """Answer a job that only reads."""
        assert isinstance(op, Read), f"{op}: expected a read"
        return self.read(*op[:3])


def _blocks_read(lived: Lived, reads: int) -> float:
    """Blocks that a read of the newest version of a random page asks for, without any cache."""
    files = _Files(lived)
    state = finished(restart_job(SEGMENT, files.names(), lived.config), files.execute).state
    random, before = Random(1), files.reads
    for _ in range(reads):
        state.materializer.read_now(random.randrange(lived.pages), state.scl, files.read)
    return (files.reads - before) / reads


def _cold_blocks(name: str, factor: float, sizes: Sizes, *, collects: bool) -> Figure:
    value, limit = (
        _blocks_read(LIVES.get(records, sizes, collects=collects), sizes.cold_reads)
        for records in (sizes.long_history, sizes.history)
    )
    collected = ", collected" if collects else ""
    return judge(
        name, f"blocks of a cold read at {sizes.long_history:,} records{collected}", "blocks",
        value, f"at {sizes.history:,} records{collected}", limit, Bound(factor, at_least=False),
    )  # fmt: skip


def cold_blocks(sizes: Sizes) -> Figure:
    """How many blocks a read of a random page touches as history grows."""
    return _cold_blocks("cold-blocks", 2.0, sizes, collects=False)


def cold_blocks_collected(sizes: Sizes) -> Figure:
    """The same when what nobody can read any more is collected."""
    return _cold_blocks("cold-blocks-collected", 1.2, sizes, collects=True)
