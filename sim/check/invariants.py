"""The invariants of the protocol (§11), each a predicate with a name; 2 is in `sim.check.what_if`.

A predicate raises `Broken` with the values that show it, and returns otherwise. It looks at the
system from outside: at what cores and disks hold, and at the reference model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import attrs

from aurora.core import WriterCore
from aurora.quorum import QuorumModel
from segments.protocol.errors import MalformedFrame
from segments.protocol.ids import NO_EPOCH, Lsn, SegmentId, VolumeEpoch
from segments.protocol.record import EMPTY_PAGE, RedoRecord
from segments.protocol.truncation import TruncationTable
from segments.state import SegmentState
from segments.wal import decode_promises
from sim.check.reference_model import Reference, WriterView


class Broken(Exception):
    """An invariant does not hold; the text shows the values."""


@attrs.frozen
class Invariant:
    """One rule that must hold."""

    number: int
    name: str
    text: str


INVARIANTS: Final = {
    each.name: each
    for each in (
        Invariant(1, "one-lsn-one-record", "an LSN names one record; none is in an annulled range"),
        Invariant(2, "any-read-quorum-recovers", "every 3 of 6 recover every acknowledged commit"),
        Invariant(3, "vdl-is-a-cpl", "VDL is a CPL <= VCL; all up to VCL is at its group's PGCL"),
        Invariant(4, "vdl-never-goes-back", "no VDL that anyone observed is ever taken back"),
        Invariant(5, "pgcl-is-backed", "4 of 6 members durably hold everything up to the PGCL"),
        Invariant(
            6, "scl-has-no-gap", "everything up to an SCL is held, on disk, also after restart"
        ),
        Invariant(7, "ack-after-sync", "no acknowledgement leaves before its bytes are durable"),
        Invariant(8, "epochs-only-rise", "a segment's epoch never falls; lower ones are refused"),
        Invariant(
            9, "sealed-means-over", "after a sealed read quorum no lower epoch gains a quorum"
        ),
        Invariant(10, "annulled-is-gone", "no record lies inside its segment's truncation table"),
        Invariant(
            11, "range-covers-the-past", "all LSNs of the past are <= the range's end, or VDL"
        ),
        Invariant(12, "lal-bounds-the-log", "LSN <= max(VDL, end) + LAL; an MTR's are contiguous"),
        Invariant(13, "reads-match-the-model", "a page read at an LSN is the model's page there"),
        Invariant(14, "floor-below-readers", "no floor is above the read point of a reader"),
        Invariant(15, "evicted-is-durable", "an evicted page's LSN is <= the VDL"),
        Invariant(16, "images-match-replay", "every kept image equals the replay of the log"),
        Invariant(
            17, "reported-once-when-durable", "a commit is reported once, when VDL >= its LSN"
        ),
        Invariant(18, "heals-and-converges", "after faults heal all finishes, and segments agree"),
        Invariant(19, "history", "what clients were told fits one order of all their calls"),
    )
}


WRITE_QUORUM: Final = 4
READ_QUORUM: Final = 3
"""Of six members, whatever the code under test believes.

`aurora.quorum.QuorumModel` counts votes for everyone else; this is the oracle that would notice if
it counted wrongly.
"""


# ---- allocation (1, 11, 12) ----------------------------------------------------------------------


def new_records(reference: Reference, view: WriterView, records: Sequence[RedoRecord]) -> None:
    """1, for the records of one MTR."""
    for record in records:
        if record.lsn in reference.records:
            raise Broken(f"{view.name} allocates LSN {record.lsn} again")
        if view.table.annuls(record.lsn):
            raise Broken(f"{view.name} allocates LSN {record.lsn} in an annulled range")


def within_lal(view: WriterView, core: WriterCore, lal: int, records: Sequence[RedoRecord]) -> None:
    """12, for the records of one MTR."""
    first = records[0].lsn
    limit = max(core.vdl, view.table.last_annulled_lsn) + lal
    for position, record in enumerate(records):
        if record.lsn != first + position or record.is_cpl != (position == len(records) - 1):
            raise Broken(f"{view.name}: LSN {record.lsn} is number {position} after {first}")
    if records[-1].lsn > limit:
        raise Broken(f"{view.name} allocates LSN {records[-1].lsn}: limit {limit}")


def within_ranges(reference: Reference, epoch: VolumeEpoch, highest: Lsn) -> None:
    """11, for an LSN that a writer of ``epoch`` has allocated: every successor has covered it."""
    for other in reference.writers.values():
        if other.opened and other.epoch > epoch:
            covered = max(other.table.last_annulled_lsn, other.vdl)
            if highest > covered:
                raise Broken(f"LSN {highest} of epoch {epoch}: {other.name} covers up to {covered}")


# ---- watermarks (3, 5, 9) ------------------------------------------------------------------------


def watermarks(
    reference: Reference, core: WriterCore, view: WriterView, fresh: Sequence[Lsn]
) -> None:
    """3: ``fresh`` are the live LSNs that the VCL has newly passed."""
    vdl, vcl = core.vdl, core.vcl
    if vdl > vcl:
        raise Broken(f"VDL {vdl} is above VCL {vcl}")
    if vdl != view.vdl and not (vdl in reference.records and reference.records[vdl].is_cpl):
        raise Broken(f"VDL {vdl} is not a CPL")
    for lsn in fresh:
        pg_id = reference.pg_of(lsn)
        if lsn > core.pgcl(pg_id):
            raise Broken(f"LSN {lsn} <= VCL {vcl} is above PGCL {core.pgcl(pg_id)} of PG {pg_id}")


def pgcl_backed(
    model: QuorumModel, pgcl: Lsn, held: Mapping[SegmentId, Lsn], epoch: VolumeEpoch
) -> None:
    """5: ``held`` is the highest SCL each member has durably had with the writer's table."""
    backing = [member for member in model.members if held.get(member, 0) >= pgcl]
    if len(backing) < WRITE_QUORUM:
        scls = ", ".join(f"{member} {held.get(member, 0)}" for member in model.members)
        raise Broken(
            f"PGCL {pgcl} of epoch {epoch} is backed by {' '.join(backing) or 'nobody'} only; "
            f"durable SCLs: {scls}"
        )


# ---- segments (6, 8, 10) -------------------------------------------------------------------------


def chain_complete(
    reference: Reference, segment: SegmentId, state: SegmentState, before: Lsn
) -> None:
    """6: every record from ``before`` (exclusive) up to the SCL is held."""
    index = state.index
    for lsn in reference.chain_down(state.scl, max(before, index.base_lsn)):
        if lsn not in index:
            raise Broken(f"{segment} says SCL {state.scl} and does not hold LSN {lsn}")


def disk_backs(segment: SegmentId, state: SegmentState, restored: SegmentState) -> None:
    """6 and 7: what the running segment says is what its disk would restore."""
    if restored.table.epoch > state.table.epoch:
        return  # a truncation has this moment become durable, and is about to be applied
    if restored.scl < state.scl:
        raise Broken(f"{segment} says SCL {state.scl}; its disk holds up to {restored.scl}")
    if restored.epoch < state.epoch or restored.table.epoch < state.table.epoch:
        raise Broken(
            f"{segment} is in epoch {state.epoch} with the table of epoch {state.table.epoch}; "
            f"its disk says epoch {restored.epoch} and the table of epoch {restored.table.epoch}"
        )


def promise_kept(segment: SegmentId, state: SegmentState, slots: bytes) -> None:
    """8: what the running segment answers by stands in the promise slots, before it answers."""
    try:
        kept = decode_promises(slots)
    except MalformedFrame as error:
        raise Broken(f"{segment} has lost its promise: {error}") from error
    promise = state.promise
    if kept.epoch < promise.epoch or kept.table_epoch < promise.table_epoch:
        raise Broken(
            f"{segment} answers by its promise of epoch {promise.epoch} and of the table of epoch "
            f"{promise.table_epoch}; its disk promises epoch {kept.epoch} and the table of epoch "
            f"{kept.table_epoch} only"
        )


def gossip_of_our_epoch(
    segment: SegmentId,
    state: SegmentState,
    known: VolumeEpoch,
    epoch: VolumeEpoch,
    table_epoch: VolumeEpoch,
) -> None:
    """8, for what a peer has sent: it must not be of an epoch below the ``known`` one.

    Nor of another table, since then the same LSN may name another record.
    """
    if epoch < known:
        raise Broken(f"{segment} in epoch {known} takes gossip of epoch {epoch}")
    if table_epoch != state.table.epoch:
        raise Broken(
            f"{segment} with the table of epoch {state.table.epoch} takes gossip of a segment with "
            f"the table of epoch {table_epoch}"
        )


def held_once(segment: SegmentId, state: SegmentState) -> None:
    """1, for what a segment holds."""
    lsns = [record.lsn for record in state.index.held()]
    for before, lsn in pairwise(lsns):
        if lsn <= before:
            raise Broken(f"{segment} holds LSN {lsn} after {before}")


def nothing_annulled(segment: SegmentId, state: SegmentState) -> None:
    """10."""
    for record in state.index.held():
        if state.table.annuls(record.lsn):
            raise Broken(f"{segment} holds LSN {record.lsn}, which its table annuls")


# ---- pages (13, 16) ------------------------------------------------------------------------------


def read_matches(
    reference: Reference, view: WriterView, page_id: int, read_point: Lsn, page: bytes | None
) -> None:
    """13: ``page`` is what the read returned, None for "not written"."""
    lsn, expected = reference.page_at(view, page_id, read_point)
    if page is None:
        if lsn:
            raise Broken(f"page {page_id} at {read_point}: not found, but written at {lsn}")
    elif not lsn:
        raise Broken(f"page {page_id} at {read_point}: found, but never written by then")
    elif page != expected:
        at = next(i for i, (one, two) in enumerate(zip(page, expected, strict=True)) if one != two)
        raise Broken(
            f"page {page_id} at {read_point}: byte {at} is {page[at]}, the model has "
            f"{expected[at]} (its newest change is LSN {lsn})"
        )


def list_matches(
    reference: Reference, view: WriterView, first: int, read_point: Lsn, listed: Sequence[int]
) -> None:
    """13: ``listed`` are the pages from ``first`` on that a writer says exist at the read point."""
    known = (each for each in reference.pages() if each >= first)
    expected = [each for each in known if reference.exists(view, each, read_point)]
    if list(listed) != expected:
        missing = sorted(set(expected) - set(listed))
        raise Broken(
            f"the list of pages from {first} on at {read_point}: lacks {missing}, has "
            f"{sorted(set(listed) - set(expected))} too many, of {len(expected)} in the model"
        )


def image_matches(
    reference: Reference,
    view: WriterView,
    where: str,
    vdl: Lsn,
    page_id: int,
    lsn: Lsn,
    image: bytes,
) -> None:
    """16: an image kept anywhere is the replay of the log at its LSN, <= the announced VDL."""
    if lsn > vdl:
        raise Broken(f"{where} keeps an image of page {page_id} at {lsn}: announced VDL {vdl}")
    found, expected = reference.page_at(view, page_id, lsn)
    if found != lsn or (image or EMPTY_PAGE) != expected:
        raise Broken(f"{where} keeps an image of page {page_id} at {lsn} that no replay gives")


def newest_view(reference: Reference, table: TruncationTable) -> WriterView | None:
    """The writer whose table this is: who can say what its log must look like."""
    for view in reference.writers.values():
        if view.table.epoch == table.epoch != NO_EPOCH:
            return view
    return None
