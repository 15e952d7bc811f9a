"""When an older copy of a disk does no harm: drawn runs ask that before they put it back.

No protocol notices every disk that was rolled back: those present may have heard nothing of what it
held. So a drawn run rolls a disk back only if four others have all that it loses, records and
promises. Then it is as if that segment had never had them, and nothing may break, whether anybody
notices or not; that it is noticed wherever somebody could is held as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aurora.cluster import Cluster
from segments.config import SegmentConfig
from segments.host import SegmentHost
from segments.protocol.errors import SegmentLost
from segments.protocol.ids import SegmentId
from segments.restart import plan_restart
from segments.state import SegmentState
from sim.world.disk import SimulatedStorage

_WRITE_QUORUM: Final = 4


class DiskCopies:
    """What disks held when they were last copied, or made."""

    def __init__(self, disks: Mapping[SegmentId, SimulatedStorage]) -> None:
        self._disks = disks
        self._copies: dict[SegmentId, dict[str, bytes]] = {}

    def keep(self, segment: SegmentId) -> None:
        """Copy what is durable on a segment's disk."""
        files = self._disks[segment].peek()
        self._copies[segment] = {name: bytes(data) for name, data in files.items()}

    def is_same(self, segment: SegmentId) -> bool:
        """Whether a segment's disk holds just what its copy does."""
        return self._disks[segment].peek() == self._copies[segment]

    def put_back(self, segment: SegmentId) -> None:
        """Have a segment's disk be its copy; the segment must be down."""
        self._disks[segment].put_back(self._copies[segment])

    def why_harmful(self, segment: SegmentId, cluster: Cluster) -> str:
        """Why others may need what a segment's disk would lose; empty if none do."""
        disks, hosts, config = self._disks, cluster.hosts, cluster.config.segment
        now = _durable(segment, disks[segment].peek(), config)
        if now is None or _durable(segment, self._copies[segment], config) is None:
            return "damaged"
        others = [
            _state(hosts[each], disks[each], config)
            for each in hosts[segment].group.members
            if each != segment and hosts[each].lost is None and disks[each].identity is not None
        ]
        states = [each for each in others if each is not None]
        if len(states) < len(others) or any(each.epoch < now.epoch for each in states):
            return "the only one to keep its promise"
        held = [
            each for each in states if each.table.epoch >= now.table.epoch and each.scl >= now.scl
        ]
        return "" if len(held) >= _WRITE_QUORUM else "needed for what it holds"


def _state(host: SegmentHost, disk: SimulatedStorage, config: SegmentConfig) -> SegmentState | None:
    """What a segment stands for: what it says while it runs, or else its disk."""
    if host.up and host.core is not None:
        return host.core.state
    return _durable(host.segment, disk.peek(), config)


def _durable(
    segment: SegmentId, files: Mapping[str, bytes | bytearray], config: SegmentConfig
) -> SegmentState | None:
    """What a disk stands for; None if it is damaged."""
    try:
        plan = plan_restart(segment, files, config)
    except SegmentLost:
        return None
    return plan.state if plan.state.whole and not plan.damage else None
