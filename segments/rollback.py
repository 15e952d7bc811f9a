"""What a message tells its receiver of its own past: protocol §8, a disk that was rolled back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from segments.protocol.heard import Mark, mark_in
from segments.protocol.ids import SegmentId
from segments.protocol.messages import (
    GossipLayer,
    GossipRecords,
    GossipStatus,
    InstallTable,
    Message,
    Seal,
)


def heard_of(segment: SegmentId, message: Message) -> Mark:
    """The highest mark of ``segment``, the receiver, that ``message``, of a kind in `TELLING`, has.

    A settled table is one that all members have adopted, whoever receives this among them.
    """
    return TELLING[type(message)](segment, message)


def _by_seal(_: SegmentId, message: Seal) -> Mark:
    return message.heard


def _with_table(_: SegmentId, message: InstallTable) -> Mark:
    return max(message.heard, Mark(message.table.settled, 0))


def _by_status(segment: SegmentId, message: GossipStatus) -> Mark:
    return max(mark_in(message.heard, segment), Mark(message.table.settled, 0))


def _by_peer(_: SegmentId, message: GossipRecords | GossipLayer) -> Mark:
    return Mark(message.table.settled, 0)


TELLING: Final[dict[type, Callable[[SegmentId, Any], Mark]]] = {
    Seal: _by_seal,
    InstallTable: _with_table,
    GossipStatus: _by_status,
    GossipRecords: _by_peer,
    GossipLayer: _by_peer,
}
"""What tells its receiver of its past. A batch does so too, but only who has its writer's table
takes it: there nothing but an SCL is compared."""
