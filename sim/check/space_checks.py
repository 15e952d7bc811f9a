"""The space that segments may take, during a run: told in time, and nothing new when it is short.

What files take is taken from the disk, and what a segment has said of it from its messages.
"""

from __future__ import annotations

from aurora.core import WriterCore
from segments.protocol.ids import Address, SegmentId
from sim.check import rules_of_space
from sim.check.findings import Findings
from sim.world.world import World


class SpaceChecks:
    """The space of one run."""

    def __init__(self, world: World, findings: Findings) -> None:
        self._world = world
        self._hold = findings.hold
        self._limit = world.schedule.knobs.disk_bytes

    def told(self, segment: SegmentId, needed_bytes: int, limit_bytes: int) -> None:
        """A segment says in a message what it needs, and may."""
        if self._limit is not None:
            disk = self._world.disks[segment]
            size = disk.log_bytes + sum(each.length for each in disk.layer_files)
            self._hold(
                rules_of_space.tells_its_space,
                segment, (needed_bytes, limit_bytes), size, self._limit,
            )  # fmt: skip

    def allocated(self, writer: Address, core: WriterCore) -> None:
        """A writer has made a mini-transaction part of the log."""
        if self._limit is not None:
            for pg_id in core.pg_ids:
                said = {each: core.streams[each].space for each in core.members(pg_id)}
                self._hold(rules_of_space.begins_nothing_when_full, writer, pg_id, said)
