"""What lost disks have taken for good: more than the protocol survives is nobody's failure. Pure.

Of six copies a commit has four, and it can be shown to be there while any three can be asked: with
a third disk lost writes wait for ever, with a fourth whatever was acknowledged may be gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from aurora.quorum import QuorumModel
from segments.protocol.ids import SegmentId
from segments.protocol.volume import ProtectionGroup


def beyond_recovery(groups: Iterable[ProtectionGroup], lost: Collection[SegmentId]) -> str:
    """Why no recovery of the volume is possible any more; empty if one is.

    A recovery asks a read quorum of every group.
    """
    for group in groups:
        left = [each for each in group.members if each not in lost]
        if not QuorumModel(group.members).has_read(left):
            return (
                f"acknowledged commits are beyond any recovery: {_gone(group, lost)} are lost for "
                f"good, and no read quorum is left; the faults took more than the protocol survives"
            )
    return ""


def without_writes(groups: Iterable[ProtectionGroup], lost: Collection[SegmentId]) -> str:
    """Why no write can be acknowledged any more; empty if one can."""
    for group in groups:
        left = [each for each in group.members if each not in lost]
        if not QuorumModel(group.members).has_write(left):
            return f"{_gone(group, lost)} are lost for good, so no write quorum can form any more"
    return ""


def quorum_without(group: ProtectionGroup, having: Collection[SegmentId]) -> tuple[SegmentId, ...]:
    """The first read quorum of which nobody is among ``having``; empty if each one meets them.

    A recovery that hears those alone cannot know of what only ``having`` have.
    """
    model = QuorumModel(group.members)
    others = tuple(each for each in group.members if each not in having)
    return others[: model.read] if model.has_read(others) else ()


def _gone(group: ProtectionGroup, lost: Collection[SegmentId]) -> str:
    return ", ".join(each for each in group.members if each in lost)
