"""What faults have done to each segment: the one place that knows which of them keep one away.

It looks at the simulated world alone: at disks, links and processes as the faults have left them,
never at what the system believes of itself.
"""

from __future__ import annotations

from typing import Final

from segments.protocol.ids import Address, SegmentId
from sim.plan.episodes import segments_of
from sim.plan.schedule import Action
from sim.world.world import World

KNOWN: Final = frozenset(
    {
        "crash", "restart", "pause", "resume", "slow", "slow_disk", "wipe", "bit_rot", "disk_full",
        "disk_free", "fail_writes", "fail_syncs", "rot_promise", "rot_manifest", "rot_layer",
        "crash_amid_write", "crash_after_write", "partition", "cut", "clog", "heal_network",
        "crash_writer", "recover", "take_over", "heal", "copy_disk", "roll_back",
    }
)  # fmt: skip
"""The faults whose effects `Soundness.trouble` sees. Whoever is hit by another one counts as away
until the world heals: a fault that is new here judges nobody wrongly, and nothing either."""

SLOW: Final = "slow"


class Soundness:
    """Who is away, and why, at this moment."""

    def __init__(self, world: World, disk_ns: int) -> None:
        """``disk_ns``: no operation of a disk at its normal speed takes longer."""
        self._world = world
        self._disk_ns = disk_ns
        self._hit: dict[SegmentId, str] = {}

    def acting(self, action: Action) -> None:
        """An action is about to happen."""
        if action.kind in KNOWN:
            return
        hit = segments_of(action.target, self._world.schedule.knobs.pg_count)
        for segment in hit or self._world.disks:
            self._hit[segment] = action.kind

    def trouble(self, segment: SegmentId, writer: Address) -> str:
        """What keeps a segment from serving this writer; empty if it is sound.

        A segment whose disk refuses nothing any more is sound, whatever it makes of that; so is one
        whose log was damaged: that others repair it is the system's business.
        """
        world = self._world
        disk, host = world.disks[segment], world.cluster.hosts[segment]
        if host.lost is not None or disk.identity is None:
            return "lost"
        if segment in world.rolled_back:
            return "rolled back"
        if disk.crashed:
            return "down"
        endpoint = host.endpoint
        if endpoint is not None and endpoint.paused_since_s is not None:
            return "paused"
        network = world.network
        slow = disk.slowness > 1 or network.slowness_of(segment) > 1
        if slow or disk.busy_until_ns > world.scheduler.now_ns + self._disk_ns:
            return SLOW
        if endpoint is not None and endpoint.delay_s > 0:
            return SLOW
        if disk.capacity_bytes is not None:
            return "disk full"
        if disk.failing:
            return "disk failing"
        if self._hit and segment in self._hit and not world.healed:
            return f"hit by {self._hit[segment]}"
        return self.between(segment, writer)

    def between(self, one: Address, other: Address) -> str:
        """What keeps these two from speaking to each other; empty if nothing does."""
        network = self._world.network
        for link in (network.link(one, other), network.link(other, one)):
            if link.cut:
                return "cut off"
            if link.clogged:
                return "held back"
            if link.slowness > 1:
                return SLOW
        return ""
