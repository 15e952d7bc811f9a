"""The same part of a layer has rotted in all six segments, so that no peer can heal it.

What is left of the volume is served as it was written; what that part holds is an error of a kind
that callers know, and the segments name the layer. Nothing that was not written is ever served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aurora.cluster import Cluster, open_cluster
from aurora.config import ClusterConfig, EngineConfig
from segments.config import SegmentConfig
from segments.layers.job import finished, reader_of
from segments.layers.layer import FOOTER_BYTES, Layer, layer_name, open_layer
from segments.protocol.errors import Unavailable
from segments.protocol.events import Event, LayerDamaged
from segments.protocol.record import PAGE_SIZE

PAGES, WRITES = 3, 150
SEGMENTS = [f"{az}0" for az in "ABCDEF"]
CONFIG = ClusterConfig(
    segment=SegmentConfig(
        fold_bytes=2 << 10, block_bytes=1 << 10, block_cache_bytes=0, image_cache_bytes=0,
        scrub_interval_s=0.5,
    ),
    engine=EngineConfig(retention_lsns=None, buffer_pool_pages=1, read_timeout_s=2.0),
)  # fmt: skip


def written(lsn: int, page_id: int) -> bytes:
    """A page at a read point: each write is of one byte, at the place of its number."""
    page = bytearray(PAGE_SIZE)
    for number in range(1, lsn + 1):
        if number % PAGES == page_id:
            page[number] = number
    return bytes(page)


def files_of(cluster: Cluster, segment: str) -> dict[str, bytearray]:
    found: dict[str, bytearray] = cluster.hosts[segment].disk.storage.files  # type: ignore[attr-defined]
    return found


def opened(files: dict[str, bytearray], name: str) -> Layer:
    job = open_layer(int(name.removeprefix("layer-")), len(files[name]))
    return finished(job, reader_of(files))[0]


PARTS: dict[str, Callable[[Layer], int]] = {
    "header": lambda _: 20,
    "first block": lambda layer: layer.offsets[0] + 50,
    "last block": lambda layer: layer.offsets[-2] + 50,
    "index": lambda layer: layer.offsets[-1] + 1,
    "filter": lambda layer: layer.offsets[-1] + 24 * (len(layer.offsets) - 1) + 1,
    "footer": lambda layer: layer.length - FOOTER_BYTES + 30,
}


def spoil(files: dict[str, bytearray], part: Callable[[Layer], int]) -> set[str]:
    """Flip a bit in a part of the oldest layer; returns that layer's name."""
    names = [name for name in files if name.startswith("layer-")]
    oldest = min((opened(files, name) for name in names), key=lambda layer: layer.start)
    files[layer_name(oldest.number)][part(oldest)] ^= 4
    return {layer_name(oldest.number)}


@contextmanager
def heard() -> Iterator[tuple[dict[str, set[str]], Callable[[str, Event], None]]]:
    """The layers that each segment says are damaged, and who is told of it."""
    named: dict[str, set[str]] = {segment: set() for segment in SEGMENTS}

    def trace(source: str, event: Event) -> None:
        if isinstance(event, LayerDamaged):
            named[source].add(layer_name(event.number))

    yield named, trace


async def served(cluster: Cluster) -> tuple[int, int]:
    """How many versions are read as they were written, and how many are refused."""
    found = refused = 0

    async def read(page_id: int, lsn: int) -> None:
        nonlocal found, refused
        try:
            page = await cluster.engine.get_at(page_id, lsn)
        except Unavailable:
            refused += 1
        else:
            found += 1
            assert page == written(lsn, page_id), (page_id, lsn)

    async with trio.open_nursery() as nursery:
        for lsn in range(PAGES, WRITES + 1, 21):
            for page_id in range(PAGES):
                nursery.start_soon(read, page_id, lsn)
    return found, refused


async def fill(cluster: Cluster) -> None:
    for number in range(1, WRITES + 1):
        await cluster.engine.put(number % PAGES, number, bytes([number]))
    await trio.sleep(3.0)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("found_by", ["the scrub", "a read", "a restart"])
async def test_what_has_rotted_everywhere_is_refused_and_all_else_is_served(
    autojump_clock: MockClock, part: str, found_by: str
) -> None:
    with heard() as (named, trace):
        async with open_cluster(config=CONFIG, trace=trace) as cluster:
            await fill(cluster)
            expected: dict[str, Any] = {}
            if found_by == "a restart":
                cluster.crash(" ".join("ABCDEF"))
            for segment in SEGMENTS:
                expected[segment] = spoil(files_of(cluster, segment), PARTS[part])
            if found_by == "the scrub":
                await trio.sleep(10.0)
            if found_by == "a restart":
                with trio.move_on_after(60.0):
                    await cluster.restart(" ".join("ABCDEF"))
            found, refused = await served(cluster)
            assert found and (refused or part != "first block")
            await trio.sleep(10.0)
            assert named == expected, "each has found it, and said where"
            for each in cluster.health().segments.values():
                assert "a layer is lost" in each.why
