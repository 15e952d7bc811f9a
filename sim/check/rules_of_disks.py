"""What must hold of disks while a run goes on (6, 7, 8, 16), beside `sim.check.invariants`.

As there: predicates, which raise `Broken`. `sim.check.disk_checks` and `sim.check.wire_checks` hold
them. Promises are read here slot by slot, whatever a restart would make of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from segments.protocol.errors import MalformedFrame
from segments.protocol.ids import SegmentId, VolumeEpoch
from segments.state import SegmentState
from segments.wal import PROMISE_SLOT_BYTES, Promise, decode_promises
from sim.check.invariants import Broken, holds


@holds("scl-has-no-gap")
def restores_a_witness(segment: SegmentId, restored: SegmentState) -> None:
    """6: a disk on which nothing has rotted restores all that its segment ever acknowledged."""
    if not restored.whole:
        raise Broken(
            f"the disk of {segment} restores SCL {restored.scl} and the table of epoch "
            f"{restored.table.epoch}, and misses something; nothing rotted there"
        )


@holds("images-match-replay")
def restores_its_vdl(segment: SegmentId, restored: SegmentState) -> None:
    """16: pages stand for the log up to where it was known to be durable, and the disk says so.

    A recovery fetches what is above the highest VDL that it hears of: nobody must have less.
    """
    if restored.vdl < restored.index.base_lsn:
        raise Broken(
            f"the disk of {segment} restores pages as of {restored.index.base_lsn}, and only the "
            f"announced VDL {restored.vdl}"
        )


@holds("scl-has-no-gap")
def named_files_are_safe(segment: SegmentId, at_risk: Sequence[str]) -> None:
    """6: at no moment can a crash take a file that the manifest names; ``at_risk``: it could."""
    if at_risk:
        raise Broken(
            f"a crash of {segment} could take {', '.join(at_risk)}, which its manifest names"
        )


@holds("epochs-only-rise")
def restores_its_promise(segment: SegmentId, restored: SegmentState, slots: bytes) -> None:
    """8: whatever befell its log, a segment comes back with what either slot promises."""
    for promise in _sound(slots):
        kept = restored.promise
        if kept.epoch < promise.epoch or kept.table_epoch < promise.table_epoch:
            raise Broken(
                f"{segment} comes back with epoch {kept.epoch} and the table of epoch "
                f"{kept.table_epoch}; it has promised epoch {promise.epoch} and the table of epoch "
                f"{promise.table_epoch}"
            )


@holds("epochs-only-rise")
def is_promised_twice(
    segment: SegmentId, what: str, epoch: VolumeEpoch, table: VolumeEpoch, slots: bytes
) -> None:
    """8: what a segment answers a writer that opens stands in both slots when it leaves."""
    promises = _sound(slots)
    kept = [each for each in promises if each.epoch >= epoch and each.table_epoch >= table]
    if len(kept) < 2:
        said = ", ".join(
            f"epoch {each.epoch} and the table of epoch {each.table_epoch}" for each in promises
        )
        raise Broken(
            f"{segment} sends {what} of epoch {epoch} with the table of epoch {table}; its promise "
            f"slots say {said or 'nothing'}"
        )


@holds("ack-after-sync")
def knows_its_log(segment: SegmentId, believed: int, durable: int) -> None:
    """7: with no write under way a segment knows how long its log is, and so what to scrub."""
    if believed != durable:
        raise Broken(
            f"{segment} takes its log for {believed} bytes long: expected {durable}, as on its disk"
        )


def _sound(slots: bytes) -> list[Promise]:
    """What stands in the slots that can be read."""
    found = []
    for slot in (slots[:PROMISE_SLOT_BYTES], slots[PROMISE_SLOT_BYTES:]):
        try:
            found.append(decode_promises(slot))
        except MalformedFrame:
            continue
    return found
