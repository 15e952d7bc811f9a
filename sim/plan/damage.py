"""How many disks of a group a run may damage or take: what no protocol could survive is not drawn.

A write quorum must remain of disks that are not lost, and a read quorum of witnesses: a disk that
has rotted is none until its segment has been repaired, which nobody knows when a run is drawn.
"""

from __future__ import annotations

from typing import Final

from aurora.quorum import QuorumModel
from segments.protocol.ids import SegmentId
from segments.protocol.volume import standard_members

_MODEL: Final = QuorumModel(standard_members(0))
_MAX_LOST: Final = len(_MODEL.members) - _MODEL.write
_MAX_DAMAGED: Final = len(_MODEL.members) - _MODEL.read
"""Lost disks among them. Both are of one group: each recovers by itself."""


class DamageBudget:
    """What one run has taken so far."""

    def __init__(self) -> None:
        self._lost: dict[str, set[SegmentId]] = {}
        self._damaged: dict[str, set[SegmentId]] = {}

    def may_rot(self, segment: SegmentId) -> bool:
        """Whether one more disk, this one, can be damaged; counts it if so."""
        return _counted(self._damaged, segment, _MAX_DAMAGED)

    def may_go(self, segment: SegmentId) -> bool:
        """Whether one more disk, this one, can be lost; counts it as damaged and lost if so."""
        lost = self._lost.get(segment[1:], set()) | {segment}
        if len(lost) > _MAX_LOST or not self.may_rot(segment):
            return False
        self._lost[segment[1:]] = lost
        return True


def _counted(taken: dict[str, set[SegmentId]], segment: SegmentId, most: int) -> bool:
    found = taken.get(segment[1:], set()) | {segment}
    if len(found) > most:
        return False
    taken[segment[1:]] = found
    return True
