"""The space that segments may take (23).

As in `sim.check.invariants`: predicates, which raise `Broken`.
"""

from __future__ import annotations

from collections.abc import Mapping

from segments.protocol.ids import Address, PgId, SegmentId
from sim.check.invariants import WRITE_QUORUM, Broken, holds


@holds("bounds-are-kept")
def tells_its_space(segment: SegmentId, told: tuple[int, int], size: int, limit: int) -> None:
    """23: what a segment says to need is at least what its files take; and it names its limit."""
    if told[0] < size or told[1] != limit:
        raise Broken(
            f"{segment} says that it needs {told[0]} of {told[1]} bytes: expected {size} at least, "
            f"which its files take, of {limit}"
        )


@holds("bounds-are-kept")
def begins_nothing_when_full(
    writer: Address, pg_id: PgId, said: Mapping[SegmentId, tuple[int, int]]
) -> None:
    """23: a mini-transaction is begun only while a write quorum of each group has room."""
    roomy = [each for each, (needed, limit) in said.items() if not 0 < limit <= needed]
    if len(roomy) < WRITE_QUORUM:
        raise Broken(
            f"{writer} has begun a mini-transaction while only {roomy} of group {pg_id} have room: "
            f"expected {WRITE_QUORUM} at least"
        )
