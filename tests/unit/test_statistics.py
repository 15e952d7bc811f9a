"""`Cluster.statistics`: every figure against what is on the disks, and what was told of it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aurora.cluster import Cluster, open_cluster
from aurora.config import ClusterConfig, EngineConfig
from aurora.floor import FloorHold, FloorHolder
from aurora.retention import Kept
from segments.config import SegmentConfig
from segments.protocol.events import Event, LayerPublished
from segments.statistics import SegmentStatistics

CLOCK = 8
ROW = 10 + CLOCK
"""What `fill` writes in one mini-transaction, and its clock."""
SMALL = SegmentConfig(fold_bytes=2048, wal_file_bytes=2048, block_bytes=256, fan_out=2)


def config(segment: SegmentConfig = SMALL, *, retention: int | None = None) -> ClusterConfig:
    return ClusterConfig(segment=segment, engine=EngineConfig(retention_lsns=retention))


def disk_of(cluster: Cluster, segment: str = "A0") -> Any:
    return cluster.hosts[segment].disk.storage  # type: ignore[attr-defined]


def bytes_of(cluster: Cluster, kind: str) -> int:
    """What files named so take on the disk of A0."""
    files = disk_of(cluster).files
    return sum(len(data) for name, data in files.items() if name.startswith(kind))


def of_a(cluster: Cluster) -> SegmentStatistics:
    return cluster.statistics().segments["A0"]


async def fill(cluster: Cluster, count: int, data: bytes = b"0123456789") -> None:
    for number in range(count):
        await cluster.engine.put(number % 16, number % 100, data)
    await trio.sleep(3.0)


def count_written(cluster: Cluster, segment: str = "A0") -> list[tuple[str, int]]:
    """Every piece that the disk of a segment takes from now on, with the name of its file."""
    storage, taken = disk_of(cluster, segment), []

    append, extend = storage._append, storage.extend

    def appended(name: str, data: bytes) -> None:
        append(name, data)
        taken.append((name, len(data)))

    async def extended(name: str, data: bytes) -> None:
        await extend(name, data)
        taken.append((name, len(data)))

    storage._append, storage.extend = appended, extended
    return taken


async def test_bytes_are_those_on_the_disk_and_those_that_went_there(
    autojump_clock: MockClock,
) -> None:
    published: list[LayerPublished] = []

    def trace(source: str, event: Event) -> None:
        if source == "A0" and isinstance(event, LayerPublished):
            published.append(event)

    async with open_cluster(config=config(), trace=trace) as cluster:
        written = count_written(cluster)
        before = of_a(cluster)
        await fill(cluster, 900)
        found = of_a(cluster)
        assert found.log_bytes == bytes_of(cluster, "wal-")
        assert found.layer_bytes == bytes_of(cluster, "layer-")
        to_log = sum(size for name, size in written if name.startswith("wal-"))
        assert found.log_bytes_written - before.log_bytes_written == to_log
        to_layers = sum(size for name, size in written if name.startswith("layer-"))
        assert found.layer_bytes_written == to_layers == sum(each.file_bytes for each in published)
        assert any(each.replaced for each in published)  # merges are counted, too
        assert found.user_bytes_taken == found.user_bytes_held == 900 * ROW
        assert found.write_amplification == (found.log_bytes_written + to_layers) / (900 * ROW)
        assert found.space_amplification == (found.log_bytes + found.layer_bytes) / (900 * ROW)
        state = cluster.hosts["A0"].core.state  # type: ignore[union-attr]
        assert (found.folded, found.open_records) == (state.folded, 900 - state.folded)
        assert found.layers == len(state.layers) == sum(each.layers for each in found.tiers)


async def test_a_segment_that_comes_up_counts_from_there(autojump_clock: MockClock) -> None:
    async with open_cluster(config=config()) as cluster:
        await fill(cluster, 100)
        before = of_a(cluster)
        cluster.crash("A")
        assert "A0" not in cluster.statistics().segments
        await cluster.restart("A")
        found = of_a(cluster)
        assert (found.user_bytes_taken, found.layer_bytes_written) == (0, 0)
        assert found.write_amplification is None
        assert found.user_bytes_held == before.user_bytes_held == 100 * ROW
        assert (found.log_bytes, found.tiers) == (before.log_bytes, before.tiers)
        await fill(cluster, 3)
        assert of_a(cluster).user_bytes_taken == 3 * ROW


async def test_what_a_recovery_annuls_was_not_taken_in(autojump_clock: MockClock) -> None:
    async with open_cluster(config=config()) as cluster, trio.open_nursery() as nursery:
        await fill(cluster, 10)
        cluster.crash("az3 B")
        with trio.move_on_after(2.0):
            await cluster.engine.put(1, 0, b"never durable")
        assert of_a(cluster).user_bytes_taken == 10 * ROW + len(b"never durable") + CLOCK
        cluster.pause("A C D")
        await cluster.restart("az3 B")
        nursery.start_soon(cluster.recover)
        await trio.sleep(2.0)  # the others have sealed, and none of them has it
        cluster.resume("A C D")
        await trio.sleep(3.0)
        assert cluster.statistics().writer is not None
        for each in cluster.statistics().segments.values():
            assert each.user_bytes_held == 10 * ROW
        assert of_a(cluster).user_bytes_taken == 10 * ROW


async def test_collected_records_leave_the_pages_that_they_made(autojump_clock: MockClock) -> None:
    """Each page is written in full: so its image is what is left of a user's bytes."""
    async with open_cluster(config=config(retention=0)) as cluster:
        for _ in range(6):
            for page in range(4):
                await cluster.engine.put(page, 0, bytes([page + 1]) * 8192)
            await trio.sleep(2.0)
        found = of_a(cluster)
        assert found.tiers[0].tier is None
        assert found.base_lsn > 0
        kept = found.user_bytes_held // 8192  # each page once, and what is above the base
        assert found.user_bytes_held == kept * 8192 + (kept - 4) * CLOCK
        assert 4 <= kept < 24
        assert found.user_bytes_taken == 24 * (8192 + CLOCK)


async def test_layers_are_counted_by_tier(autojump_clock: MockClock) -> None:
    async with open_cluster(config=config()) as cluster:
        await fill(cluster, 700)
        await fill(cluster, 30)
        found, core = of_a(cluster), cluster.hosts["A0"].core
        assert core is not None
        expected = [core.background.tiers.tier_of(each.length) for each in core.state.layers]
        tiers = [each.tier for each in found.tiers for _ in range(each.layers)]
        assert tiers == sorted(expected, reverse=True)
        assert len(set(tiers)) > 1


async def test_reads_are_hits_and_misses_of_the_caches(autojump_clock: MockClock) -> None:
    engine = EngineConfig(retention_lsns=None, buffer_pool_pages=4, old_versions=0)
    async with open_cluster(config=ClusterConfig(segment=SMALL, engine=engine)) as cluster:
        await fill(cluster, 200)
        cluster.crash("az1 az2 az3")
        await cluster.restart("A")  # with empty caches
        await trio.sleep(1.0)
        before = of_a(cluster)
        await cluster.engine.get_at(3, 20)
        first = of_a(cluster)
        assert first.page_cache.misses > before.page_cache.misses
        assert first.block_cache.misses > before.block_cache.misses
        assert first.block_cache.entries > 0
        await cluster.engine.get_at(3, 20)
        again = of_a(cluster)
        assert again.page_cache.hits == first.page_cache.hits + 1
        assert again.block_cache.misses == first.block_cache.misses


async def test_damage_and_what_waits_to_be_collected_are_counted(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(config=config(retention=0)) as cluster:
        await fill(cluster, 200, b"x")  # little of each page: its image would take more
        async with cluster.engine.read_view(200):
            await fill(cluster, 200, b"x")
            found, core = of_a(cluster), cluster.hosts["A0"].core
            assert core is not None
            layers = core.state.layers
            assert found.announced_floor == 200
            below = [each for each in layers if each.end <= 200 and not each.base]
            assert found.collectable_bytes == sum(each.length for each in below) > 0
            assert found.collectable_bytes < found.layer_bytes
        core.state.materializer.set_layers(layers.with_damage(layers.layers[0].number))
        assert of_a(cluster).damaged_layers == 1


# ---- what holds the floor back -------------------------------------------------------------------


async def test_who_holds_the_floor_back(autojump_clock: MockClock) -> None:
    async with open_cluster(config=config(retention=5)) as cluster:
        await fill(cluster, 20)

        def hold() -> FloorHold:
            return cluster.statistics().floor_held_by

        assert hold() == FloorHold(FloorHolder.RETENTION, 15, "5 LSNs behind the VDL stay readable")
        async with cluster.engine.read_view(17):
            await fill(cluster, 20)
            assert hold() == FloorHold(FloorHolder.READER, 17, "a reader holds version 17")
            assert cluster.engine.statistics().floor == 17
        assert hold().holder is FloorHolder.RETENTION
        cluster.crash_writer()
        await trio.sleep(1.0)
        found = cluster.statistics()
        assert found.writer is None
        assert found.floor_held_by.holder is FloorHolder.WRITER
        assert found.floor_held_by.text == "writer-1 has ended: nobody may raise it"
        cluster.crash("az1 az2")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.open_writer)
            await trio.sleep(1.0)
            assert hold().text == "writer-2 is opening the volume: nobody may raise it"
            await cluster.restart("az1 az2")
        assert hold().holder is FloorHolder.RETENTION


@pytest.mark.parametrize(
    ("kept", "oldest", "holder", "lsn"),
    [
        (None, 12, FloorHolder.EVERYTHING, 10),
        (Kept(20, False, ""), None, FloorHolder.RETENTION, 20),
        (Kept(20, False, ""), 20, FloorHolder.RETENTION, 20),
        (Kept(20, False, ""), 19, FloorHolder.READER, 19),
        (Kept(9, False, ""), None, FloorHolder.EARLIER, 10),
        (Kept(9, False, ""), 11, FloorHolder.EARLIER, 10),
        (Kept(10, False, ""), 11, FloorHolder.RETENTION, 10),
        (Kept(20, True, ""), None, FloorHolder.AGE, 20),
        (Kept(20, True, ""), 19, FloorHolder.READER, 19),
        (Kept(0, True, ""), None, FloorHolder.AGE, 10),
    ],
)
def test_what_allows_least_is_named(
    kept: Kept | None, oldest: int | None, holder: FloorHolder, lsn: int
) -> None:
    found = FloorHold.of(10, kept, oldest)
    assert (found.holder, found.lsn) == (holder, lsn)
