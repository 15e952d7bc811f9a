"""Disks that were rolled back: who counts on them though somebody present knows better (32)."""

from __future__ import annotations

from collections.abc import Mapping

from segments.protocol.heard import Mark, mark_in
from segments.protocol.ids import Address, Lsn, SegmentId, VolumeEpoch
from segments.protocol.messages import SealReply
from segments.state import SegmentState
from sim.check import rules_of_rollback
from sim.check.findings import Findings
from sim.world.world import World


class RollbackChecks:
    """What becomes of the disks of one run that were rolled back."""

    def __init__(self, world: World, findings: Findings) -> None:
        self._world = world
        self._hold = findings.hold
        self._replies: dict[tuple[Address, SegmentId, VolumeEpoch], SealReply] = {}
        """The last of each segment that has come to each recovery."""
        self._counted: dict[Address, dict[SegmentId, None]] = {}
        """Whose replies count for a writer, as far as is known."""
        self._told: dict[tuple[Address, SegmentId, int], Lsn] = {}
        """What batches on their way tell of a segment that was rolled back."""

    # ---- recoveries ------------------------------------------------------------------------------

    def replied(self, writer: Address, reply: SealReply) -> None:
        """A seal reply has come to a writer."""
        self._replies[writer, reply.segment, reply.epoch] = reply

    def sealing(self, writer: Address) -> None:
        """A round of sealing begins."""
        self._counted[writer] = {}

    def answered(self, writer: Address, segment: SegmentId) -> None:
        """A seal reply has come, and counts."""
        self._counted[writer][segment] = None

    def found(self, writer: Address, segment: SegmentId) -> None:
        """A segment's reply counts no longer."""
        self._counted[writer].pop(segment, None)

    def planned(self, writer: Address, epoch: VolumeEpoch) -> None:
        """A recovery has ended with a plan."""
        counted = self._counted.get(writer, {})
        replies = [self._replies[writer, each, epoch] for each in counted]
        for reply in replies:
            if reply.segment in self._world.rolled_back:
                has = Mark(reply.table.epoch, reply.scl)
                for other in replies:
                    heard = mark_in(other.heard, reply.segment)
                    self._hold(
                        rules_of_rollback.counts_no_older_copy,
                        writer, reply.segment, has, other.segment, heard,
                    )  # fmt: skip

    # ---- batches ---------------------------------------------------------------------------------

    def batch(
        self, writer: Address, segment: SegmentId, seq: int, heard: Mapping[SegmentId, Lsn]
    ) -> None:
        """A writer sends a batch."""
        if segment in self._world.rolled_back:
            self._told[writer, segment, seq] = heard.get(segment, 0)

    def received(
        self, segment: SegmentId, state: SegmentState, writer: Address, epoch: VolumeEpoch, seq: int
    ) -> None:
        """A segment takes a batch."""
        scl = self._told.pop((writer, segment, seq), 0)
        if scl and state.whole:
            has, told = Mark(state.table.epoch, state.scl), Mark(epoch, scl)
            self._hold(rules_of_rollback.takes_nothing_from_who_knows, segment, has, writer, told)
