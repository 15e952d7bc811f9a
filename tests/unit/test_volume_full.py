"""A limit on disk: new mini-transactions are refused in time, and go on when space is freed."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import aurora
from aurora.cluster import Cluster, open_cluster
from aurora.config import ClusterConfig, EngineConfig
from aurora.health import SegmentStatus
from segments.config import SegmentConfig
from segments.protocol.errors import InvalidConfig, InvalidWrite, VolumeFull
from segments.protocol.messages import WriteAck

pytestmark = pytest.mark.usefixtures("no_syncs")

LIMIT = 512 << 10


def config(**engine: object) -> ClusterConfig:
    return ClusterConfig(
        segment=SegmentConfig(
            disk_bytes=LIMIT, fold_bytes=16 << 10, wal_file_bytes=16 << 10, block_bytes=1 << 10,
            fan_out=2, compact_bytes=32 << 10,
        ),
        engine=EngineConfig(**{"retention_lsns": 0, **engine}),  # type: ignore[arg-type]
    )  # fmt: skip


async def fill(
    cluster: Cluster, most: int = 2_000, *, pages: int = 8, size: int = 1_000
) -> VolumeFull:
    """Write until the volume is full, and stays so; return how it said so."""
    found_room = True
    for number in range(most):
        try:
            await cluster.engine.put(number % pages, 0, bytes([1 + number % 255]) * size)
            found_room = True
        except VolumeFull as full:
            if not found_room:
                return full
            found_room = False
            await trio.sleep(1.0)  # layers may take less than the log that they are made of
    raise AssertionError(f"{most} writes found room")


async def finds_room(cluster: Cluster) -> bool:
    try:
        await cluster.engine.put(1, 0, b"nothing old is kept any more")
    except VolumeFull:
        return False
    return True


def sizes_in(volume: Path) -> list[int]:
    """What the files of each segment take."""
    return [
        sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
        for directory in volume.iterdir()
        if directory.is_dir()
    ]


def largest(cluster: Cluster) -> int:
    found = cluster.statistics().segments.values()
    return max(each.log_bytes + each.layer_bytes for each in found)


async def test_a_reader_fills_the_volume_and_its_end_empties_it(autojump_clock: MockClock) -> None:
    async with open_cluster(config=config()) as cluster:
        await cluster.engine.put(0, 0, b"first")
        async with cluster.engine.read_view() as view:
            full = await fill(cluster)
            assert len(full.segments) >= 3
            for needed, limit in full.segments.values():
                assert needed >= limit == LIMIT
            assert f"a reader holds version {view.lsn}" in full.kept_for
            assert full.kept_for in str(full)
            before = cluster.engine.core
            assert before is not None
            last = before.last_allocated_lsn
            for _ in range(3):
                with pytest.raises(VolumeFull, match="expected less, at 4 segments"):
                    await cluster.engine.put(1, 0, b"refused")
                await trio.sleep(1.0)
            assert cluster.engine.vdl == before.last_allocated_lsn == last, "what is in goes on"
            assert (await view.get(0))[:5] == b"first"
            assert LIMIT // 4 < largest(cluster) < LIMIT
            health = cluster.health()
            assert health.writes.refused and "a reader holds" in health.writes.missing
            assert health.segments["A0"].status is SegmentStatus.SHORT
            assert health.segments["A0"].takes_writes
        await trio.sleep(5.0)
        await cluster.engine.put(1, 0, b"there is room again")
        assert largest(cluster) < LIMIT // 2


async def test_pages_that_find_no_room_stay_readable(autojump_clock: MockClock) -> None:
    """Nothing is left to be collected: the pages themselves take what there is."""
    async with open_cluster(config=config()) as cluster:
        await fill(cluster, 200, pages=200, size=8_000)
        await trio.sleep(5.0)
        with pytest.raises(VolumeFull, match="0 LSNs behind the VDL stay readable"):
            await cluster.engine.put(1, 0, b"refused")
        assert (await cluster.engine.get(3, cached=False))[:1] == b"\x04"


async def test_a_full_volume_is_recovered_and_still_full(tmp_path: Path) -> None:
    settings = config(retention_lsns=None)
    async with open_cluster(tmp_path, config=settings) as cluster:
        assert "no retention is set" in (await fill(cluster, size=8_000)).kept_for
        await cluster.recover()
        await fill(cluster, 20, size=8_000)  # what was folded meanwhile may take a little less
    assert LIMIT // 4 < max(sizes_in(tmp_path)) < LIMIT
    async with open_cluster(tmp_path, config=config()) as cluster:
        for _ in range(400):
            if await finds_room(cluster):
                return
            await trio.sleep(0.05)
        raise AssertionError("nothing old is kept, and there is no room")


async def test_two_segments_short_of_space_are_not_enough(autojump_clock: MockClock) -> None:
    settings = ClusterConfig(pg_count=2, engine=EngineConfig(max_mtr_writes=4))
    async with open_cluster(config=settings) as cluster:
        core = cluster.engine.core
        assert core is not None

        def hear(name: str, needed_bytes: int) -> None:
            ack = WriteAck(core.epoch, name, 0, 0, needed_bytes, LIMIT)
            core.step(ack, 0.0)

        for name in ("A0", "B0", "A1", "B1", "C1"):
            hear(name, LIMIT - 1)
        hear("A0", LIMIT)
        hear("B0", LIMIT + 1)
        hear("A1", LIMIT)
        assert not core.space.full
        hear("C0", LIMIT)
        assert [*core.space.full] == [0]
        with pytest.raises(VolumeFull) as caught:
            core.space.check(core.floor_held_by)
        assert caught.value.segments == {
            "A0": (LIMIT, LIMIT), "B0": (LIMIT + 1, LIMIT), "C0": (LIMIT, LIMIT),
        }  # fmt: skip
        with pytest.raises(InvalidWrite, match="write 5 of a mini-transaction"):
            await cluster.engine.put_many([(page_id, 0, b"x") for page_id in range(5)])
        hear("B0", LIMIT - 1)
        assert not core.space.full
        core.space.check(core.floor_held_by)
        await cluster.engine.put(1, 0, b"x")


def test_a_limit_is_many_times_what_waits_in_the_log() -> None:
    with pytest.raises(InvalidConfig, match="disk_bytes"):
        SegmentConfig(disk_bytes=16 * (1 << 20) - 1, fold_bytes=1 << 20)


def test_it_is_an_error_of_the_package() -> None:
    assert issubclass(aurora.VolumeFull, aurora.Unavailable)
