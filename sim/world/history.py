"""What clients called and what they were told, with the times of both."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import attrs

from segments.protocol.ids import Lsn, PageId
from sim.plan.schedule import Operation


class Outcome(Enum):
    """How a call ended, as its caller sees it."""

    OK = "ok"
    NOT_FOUND = "not found"
    """A read of a page that was not written at its read point."""
    REFUSED = "refused"
    """It certainly had no effect."""
    TOO_OLD = "too old"
    """A read of a version that has been collected."""
    UNKNOWN = "unknown"
    """A write whose writer ended first: it may survive, whole, or not."""
    PENDING = "pending"


@attrs.define(eq=False)
class Call:
    """One operation of one client."""

    number: int
    """Index of its operation in the schedule."""
    operation: Operation
    invoked_ns: int
    writer: str
    """The writer it was made through."""
    returned_ns: int | None = None
    outcome: Outcome = Outcome.PENDING
    lsn: Lsn = 0
    """Commit LSN of a write; read point of a read."""
    page: bytes | None = None
    """What a read of a page returned."""
    listed: Sequence[PageId] = ()
    """What a list of pages returned."""
    from_segment: bool = False
    """Whether a read was put to a segment, and not answered from the buffer pool."""
    error: str = ""
    writes: Sequence[tuple[PageId, int, bytes]] = ()
    """What a write writes, in order: page, offset and bytes."""
    lsns: Sequence[Lsn] = ()
    """Of a write that has become part of the log: the LSN of each part."""
