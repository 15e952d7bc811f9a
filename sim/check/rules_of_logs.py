"""What must hold of watermarks and of what recoveries annul, step by step (3, 17, 20, 26).

As in `sim.check.invariants`: predicates, which raise `Broken`. `sim.check.log_checks` holds them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from aurora.recovery_plan import RecoveryPlan
from segments.protocol.ids import Lsn, SegmentId, VolumeEpoch
from segments.protocol.truncation import TruncationRange, TruncationTable
from sim.check.invariants import Broken, holds
from sim.check.reference_model import WriterView, ranges_after


@holds("watermarks-only-rise")
def writers_marks_rise(
    writer: str, names: Sequence[str], before: Sequence[Lsn], now: Sequence[Lsn]
) -> None:
    """20, for the watermarks of one writer, whatever step it has taken."""
    for name, old, new in zip(names, before, now, strict=True):
        if new < old:
            raise Broken(f"{writer}: {name} went back from {old} to {new}")


@holds("watermarks-only-rise")
def segments_marks_rise(
    segment: SegmentId, names: Sequence[str], before: Sequence[Lsn], now: Sequence[Lsn]
) -> None:
    """20, for a segment that runs on under the same truncation table."""
    for name, old, new in zip(names, before, now, strict=True):
        if new < old:
            raise Broken(f"{segment}: {name} went back from {old} to {new} under one table")


@holds("vdl-is-a-cpl")
def vdl_is_backed(writer: str, vdl: Lsn, backed: Lsn) -> None:
    """3, of the disks: ``backed`` is the VDL that 4 of 6 disks of each group make, or made."""
    if vdl > backed:
        raise Broken(f"{writer} has VDL {vdl}; disks of a write quorum back {backed}")


@holds("reported-once-when-durable")
def commit_is_on_disks(lsn: Lsn, backed: Lsn) -> None:
    """17, of the disks, for a commit that a client was told of."""
    if lsn > backed:
        raise Broken(f"commit {lsn} reported while disks of a write quorum back VDL {backed} only")


@holds("evicted-is-durable")
def left_the_pool_durable(writer: str, page_id: int, newest: Lsn, vdl: Lsn) -> None:
    """15, of the pool's contents: a page that was there, and is gone, has no change above VDL.

    But for what comes in parts: that may leave before it is durable.
    """
    if newest > vdl:
        raise Broken(
            f"{writer} has let go of page {page_id}, whose newest change is {newest}, at VDL {vdl}"
        )


@holds("reads-match-the-model")
def came_in_newest(writer: str, page_id: int, head: Lsn, newest: Lsn) -> None:
    """13, of the pool's contents: a page that comes in has its newest change."""
    if head != newest:
        raise Broken(
            f"{writer} takes page {page_id} in with {head} as its newest change: expected {newest}"
        )


@holds("annuls-above-the-vdl")
def annuls_exactly(
    who: str, plan: RecoveryPlan, before: Sequence[TruncationRange], lal: int, settled: VolumeEpoch
) -> None:
    """26: the ranges are those ``before``, of the adopted table, and all above the VDL.

    Of the former those are left out that the ``settled`` table had.
    That is, up to LAL above the VDL, or above the last that was annulled before. A range that
    begins later leaves a record alive that nobody acknowledged and another recovery may not find;
    one that begins earlier annuls what is durable.
    """
    ranges = [each[:2] for each in plan.table.ranges]
    expected = ranges_after(before, plan.vdl, lal, settled)
    if tuple(ranges) != expected:
        raise Broken(
            f"{who}opens at VDL {plan.vdl} and annuls {_listed(ranges)}: "
            f"expected {_listed(expected)}"
        )


@holds("annuls-above-the-vdl")
def table_as_made(segment: SegmentId, table: TruncationTable, view: WriterView) -> None:
    """26: the table that a segment has adopted is the one that its writer's recovery has made."""
    if table.ranges != view.table.ranges:
        raise Broken(
            f"{segment} has the table of {view.name} and annuls {_listed(table.ranges)}: expected "
            f"{_listed(view.table.ranges)}"
        )


@holds("tables-settle")
def settled_is_adopted(
    segment: SegmentId, settled: VolumeEpoch, adopted: Collection[SegmentId],
    members: Iterable[SegmentId],
) -> None:  # fmt: skip
    """29: ``adopted`` are those who had that table on disk by now; all ``members`` must be."""
    missing = [each for each in members if each not in adopted]
    if missing:
        raise Broken(
            f"{segment} takes the table of epoch {settled} for settled, which "
            f"{', '.join(missing)} had not adopted"
        )


@holds("tables-settle")
def knows_it_is_settled(segment: SegmentId, table: TruncationTable) -> None:
    """29: once all has healed and no member is lost, everybody knows that all have the table."""
    if table.settled != table.epoch:
        raise Broken(
            f"{segment} knows of the table of epoch {table.settled} that it is settled: expected "
            f"{table.epoch}, the one it has"
        )


def _listed(ranges: Sequence[tuple[Any, ...]]) -> str:
    """LSNs, both ends inclusive, as a recovery's story has them."""
    return ", ".join(f"{each[0]}–{each[1] - 1}" for each in ranges) or "nothing"
