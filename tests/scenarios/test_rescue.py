"""What three disks of six held at one moment, read alone, in virtual time and from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest
import trio

from aurora.cluster import Cluster
from aurora.config import ClusterConfig, EngineConfig
from aurora.transport import InProcessNetwork
from segments.config import SegmentConfig
from segments.disks import MemoryDisk
from segments.protocol.ids import SegmentId
from segments.storage import Identity, MemoryStorage
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.world.disk import SimulatedStorage
from tests.worlds import World, run_world

PAGES = 6
CONFIG = ClusterConfig(
    pg_count=2,
    lal=50,
    engine=EngineConfig(retention_lsns=6),
    segment=SegmentConfig(
        wal_file_bytes=2 << 10,
        fold_bytes=1 << 10,
        block_bytes=256,
        fan_out=2,
        collect_ratio=0.05,
        compact_bytes=4_096,
    ),
)
SLOW = DiskProfile(minimum_ns=200_000, extra_mean_ns=2_000_000)
LOSSY = LinkProfile(extra_mean_ns=2_000_000, loss=0.1, duplication=0.1, reordering=0.2)


class History:
    """What was asked for and what was acknowledged, oldest first."""

    def __init__(self) -> None:
        self.submitted = 0
        self.acknowledged = 0
        self.lsn = 0

    async def write(self, world: World) -> None:
        """All pages in one mini-transaction."""
        self.submitted += 1
        number = self.submitted
        data = number.to_bytes(2)
        lsn = await world.engine.put_many([(page, 0, data) for page in range(PAGES)])
        self.acknowledged, self.lsn = number, lsn


def files_on(disk: SimulatedStorage) -> Mapping[str, bytes]:
    """What is durable."""
    return {name: bytes(data) for name, data in disk.peek().items()}


async def check_rescued(
    kept: dict[SegmentId, Mapping[str, bytes]],
    world: World,
    acknowledged: int,
    submitted: int,
    lsn: int,
) -> None:
    """A reader of what is ``kept`` finds one state of all pages, none older than was promised."""
    disks: dict[SegmentId, MemoryDisk] = {}
    for segment in world.disks:
        disks[segment] = disk = MemoryDisk(Identity("test", segment))
        if segment in kept:
            disk.storage = MemoryStorage.holding(Identity("test", segment), kept[segment])
        else:
            disk.wipe()
    network = InProcessNetwork(CONFIG.inbox_messages, CONFIG.inbox_bytes)
    async with trio.open_nursery() as nursery:
        reader = Cluster(
            nursery, network, world.cluster.geometry, disks, CONFIG, Random(1), read_only=True
        )
        await reader.start_segments()
        engine = await reader.open_writer()
        assert engine.vdl >= lsn
        found = {int.from_bytes((await engine.get(page))[:2]) for page in range(PAGES)}
        assert len(found) == 1, f"a torn mini-transaction: {found}"
        assert acknowledged <= found.pop() <= submitted
        assert [page async for page in engine.pages()] == list(range(PAGES))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(1, 9))
def test_whatever_three_disks_hold_of_each_group_is_read(seed: int) -> None:
    """2017 §2.1: writes are under way, segments are down, one recovery has not opened yet."""
    random = Random(seed)
    history = History()
    rescued = 0

    async def rescue(world: World) -> None:
        nonlocal rescued
        kept = {
            segment: files_on(world.disks[segment])
            for group in world.cluster.groups
            for segment in random.sample(group.members, 3)
        }
        await check_rescued(kept, world, history.acknowledged, history.submitted, history.lsn)
        rescued += 1

    async def main(world: World) -> None:
        await history.write(world)
        for round_number in range(10):
            down = random.choice(["", "A", "B", "AZ3", "C0 D1", "E"])
            world.crash(down)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(history.write, world)
                await trio.sleep(random.random() * 0.02)
                await rescue(world)
            await world.restart(down)
            if round_number % 3 == 2:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(world.cluster.recover)
                    await trio.sleep(random.random() * 0.02)
                    await rescue(world)

    run_world(
        main, seed=seed, pg_count=2, lal=CONFIG.lal, engine=CONFIG.engine, segment=CONFIG.segment,
        disk=SLOW, link=LOSSY,
    )  # fmt: skip
    assert rescued == 13
