"""What must hold of disks that were rolled back (32): nobody counts on one that is known to be.

As in `sim.check.invariants`: predicates, which raise `Broken`. `sim.check.rollback_checks` and
`sim.check.disk_checks` hold them.
"""

from __future__ import annotations

from collections.abc import Mapping

from segments.protocol.heard import Mark
from segments.protocol.ids import Address, SegmentId
from sim.check.invariants import Broken, holds


@holds("rollback-is-seen")
def counts_no_older_copy(
    writer: Address, segment: SegmentId, has: Mark, by: SegmentId, heard: Mark
) -> None:
    """32: of two seal replies in one recovery none has heard more of the other than that has."""
    if (heard.epoch, heard.scl) > (has.epoch, has.scl):
        raise Broken(
            f"{writer} counts the seal reply of {segment} with {has}, and that of {by}, which has "
            f"heard of {heard} there"
        )


@holds("rollback-is-seen")
def takes_nothing_from_who_knows(
    segment: SegmentId, has: Mark, writer: Address, told: Mark
) -> None:
    """32: a segment whose writer has heard more of it than it has takes no batch of that writer."""
    if (told.epoch, told.scl) > (has.epoch, has.scl):
        raise Broken(
            f"{segment} has {has}, and takes a batch of {writer}, which has heard of {told}: "
            "expected it to be lost"
        )


@holds("rollback-is-seen")
def restores_what_it_heard(
    segment: SegmentId, written: Mapping[SegmentId, Mark], restored: Mapping[SegmentId, Mark]
) -> None:
    """32: of what a segment has heard, that which it has written down is there after a restart."""
    for peer, mark in written.items():
        kept = restored.get(peer)
        if kept is None or (kept.epoch, kept.scl) < (mark.epoch, mark.scl):
            raise Broken(
                f"{segment} has heard of {mark} at {peer}; its disk restores {kept or 'nothing'}"
            )
