"""A whole cluster in virtual time, from a seed: the real code on a simulated network and disks.

For tests of what a cluster promises. It checks nothing by itself, unlike the simulator.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import attrs
import trio

from aurora.cluster import Cluster, new_volume
from aurora.config import ClusterConfig, EngineConfig
from aurora.engine import Engine
from segments.config import SegmentConfig
from segments.protocol.events import Tracer
from segments.protocol.ids import SegmentId, VolumeEpoch
from segments.storage import Identity
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.seeds import Seeds
from sim.world.disk import SimulatedStorage
from sim.world.network import Observer, SimulatedNetwork
from sim.world.network_policy import RandomPolicy
from sim.world.scheduler import NS_PER_S, VirtualScheduler
from sim.world.world import SimulatedDiskHandle

T = TypeVar("T")

FIRST_EPOCH: Final = VolumeEpoch(1, 7)


@attrs.define(eq=False)
class World:
    """One cluster under test."""

    scheduler: VirtualScheduler
    seeds: Seeds
    network: SimulatedNetwork
    disks: dict[SegmentId, SimulatedStorage]
    cluster: Cluster

    @property
    def engine(self) -> Engine:
        return self.cluster.engine

    def crash(self, names: str) -> None:
        """Power off segments, named as in `Cluster.targets`, or nobody."""
        for segment in self.targets(names):
            self.cluster.crash(segment)
            self.disks[segment].crash()

    async def restart(self, names: str) -> None:
        for segment in self.targets(names):
            await self.cluster.restart(segment)

    def targets(self, names: str) -> list[SegmentId]:
        return self.cluster.targets(names) if names else []

    async def until(self, holds: Callable[[], bool], *, within_s: float) -> None:
        """Wait for ``holds()``; fail if it takes longer than ``within_s`` of virtual time."""
        deadline = trio.current_time() + within_s
        while not holds():
            assert trio.current_time() < deadline, f"not within {within_s} s"
            await trio.sleep(0.01)

    @contextmanager
    def stall_below(self, seconds: float) -> Iterator[None]:
        """Fail if the block takes longer in virtual time."""
        started = trio.current_time()
        with trio.fail_after(seconds):
            yield
        assert trio.current_time() - started <= seconds


def run_world(
    main: Callable[[World], Awaitable[T]],
    *,
    seed: int = 1,
    pg_count: int = 1,
    lal: int | None = None,
    engine: EngineConfig | None = None,
    segment: SegmentConfig | None = None,
    link: LinkProfile | None = None,
    disk: DiskProfile | None = None,
    trace: Tracer | None = None,
    observer: Observer | None = None,
    deadline_s: int = 3_600,
) -> T:
    """Run ``main`` against a fresh volume with its first writer open; return what it returns."""
    scheduler, seeds = VirtualScheduler(), Seeds(seed)
    config = ClusterConfig(
        pg_count=pg_count,
        lal=lal,
        engine=engine or EngineConfig(),
        segment=segment or SegmentConfig(),
    )
    geometry = config.new_geometry()
    network = SimulatedNetwork(
        scheduler, RandomPolicy(seeds.within("network")), link, observer=observer
    )
    disks = {
        segment_id: SimulatedStorage(
            scheduler, seeds.stream(f"disk {segment_id}"), Identity("test", segment_id), disk
        )
        for group in geometry.groups()
        for segment_id in group.members
    }

    async def whole() -> T:
        async with trio.open_nursery() as nursery:
            handles = {segment_id: SimulatedDiskHandle(each) for segment_id, each in disks.items()}
            cluster, fresh = await new_volume(
                nursery, network, geometry, handles, FIRST_EPOCH, config,
                seeds.stream("cluster"), clock=lambda: scheduler.now_ns, trace=trace,
            )  # fmt: skip
            await cluster.start_segments()
            await cluster.open_writer(fresh=fresh)
            result = await main(World(scheduler, seeds, network, disks, cluster))
            nursery.cancel_scope.cancel()
        return result

    return scheduler.run(
        whole, seed=seeds.number("tasks") & 0xFFFF_FFFF, deadline_ns=deadline_s * NS_PER_S
    )
