"""What must hold of messages, as they stand on the wire (7, 19, 23, 27, 28).

As in `sim.check.invariants`: predicates, which raise `Broken`. `sim.check.wire_checks` holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from segments.layers.block import BLOCK_HEAD_BYTES, Block, read_block
from segments.protocol import codec
from segments.protocol.errors import MalformedMessage
from segments.protocol.ids import Lsn, SegmentId, VolumeEpoch
from segments.protocol.messages import (
    GossipLayer,
    GossipRecords,
    GossipStatus,
    LogReply,
    PagesListed,
    SealReply,
    WriteBatch,
)
from segments.protocol.run import RUN_HEAD_BYTES, read_records
from segments.state import SegmentState
from sim.check.invariants import READ_QUORUM, Broken, holds
from sim.check.reference_model import WriterView
from sim.world.history import Call

_RECORD_AND_IMAGE: Final = 2
_RUN_BYTES = RUN_HEAD_BYTES
"""Of a run of records: what is no record."""


@holds("a-seal-is-final")
def acknowledges_no_more_than_sealed(
    segment: SegmentId, epoch: VolumeEpoch, scl: Lsn, sealed: Iterable[tuple[VolumeEpoch, Lsn]]
) -> None:
    """27, for an acknowledgement of ``epoch``; ``sealed`` are the seal replies sent before it."""
    for seal_epoch, seal_scl in sealed:
        if seal_epoch > epoch and scl > seal_scl:
            raise Broken(
                f"{segment} acknowledges SCL {scl} to epoch {epoch}; it had answered the seal of "
                f"epoch {seal_epoch} with SCL {seal_scl}"
            )


@holds("a-seal-is-final")
def answers_alike(segment: SegmentId, before: SealReply | None, reply: SealReply) -> None:
    """27, for a seal reply; ``before`` is the one sent last, of whatever epoch."""
    if before is None:
        return
    if reply.epoch < before.epoch or reply.table.epoch < before.table.epoch:
        raise Broken(
            f"{segment} answers the seal of epoch {reply.epoch} with the table of epoch "
            f"{reply.table.epoch}, after one of epoch {before.epoch} with that of epoch "
            f"{before.table.epoch}"
        )
    if reply.table.epoch == before.table.epoch and reply.scl < before.scl:
        raise Broken(
            f"{segment} answers the seal of epoch {reply.epoch} with SCL {reply.scl}, after "
            f"SCL {before.scl} under the same table"
        )


@holds("a-seal-is-final")
def brings_what_it_acknowledged(epoch: VolumeEpoch, scl: Lsn, reply: SealReply) -> None:
    """27: who answers a seal has all that it acknowledged last, to ``epoch`` and up to ``scl``.

    Damaged or not: who is not whole is no witness, and does not answer.
    """
    if reply.table.epoch < epoch or (reply.table.epoch == epoch and reply.scl < scl):
        raise Broken(
            f"{reply.segment} answers the seal of epoch {reply.epoch} with SCL {reply.scl} under "
            f"the table of epoch {reply.table.epoch}; it had acknowledged SCL {scl} to epoch "
            f"{epoch}"
        )


@holds("ack-after-sync")
def said_is_on_disk(
    segment: SegmentId, what: str, epoch: VolumeEpoch, table_epoch: VolumeEpoch, scl: Lsn,
    restored: SegmentState,
) -> None:  # fmt: skip
    """7: ``restored`` is what the disk holds at the moment the message leaves."""
    if restored.epoch < epoch or restored.table.epoch < table_epoch:
        raise Broken(
            f"{segment} sends {what} of epoch {epoch} with the table of epoch {table_epoch}; its "
            f"disk says epoch {restored.epoch} and the table of epoch {restored.table.epoch}"
        )
    if restored.table.epoch == table_epoch and restored.scl < scl:
        raise Broken(f"{segment} sends {what} with SCL {scl}; its disk holds up to {restored.scl}")


@holds("history")
def strict_read_was_confirmed(call: Call, confirmed: Sequence[SegmentId]) -> None:
    """19: a read quorum, asked after the read began, has confirmed its writer's epoch."""
    if len(confirmed) < READ_QUORUM:
        raise Broken(
            f"call {call.number}, a strict read by {call.writer}, was answered with the epoch "
            f"confirmed by {', '.join(confirmed) or 'nobody'} since it began: expected "
            f"{READ_QUORUM} of its group"
        )


@holds("needless-unavailability")
def is_passed_on_at_once(call: Call, heard_ns: int) -> None:
    """28: a call returns when what it has waited for is there; ``heard_ns`` is when that came last.

    Or when it was made, if it had to wait for nothing.
    """
    if call.returned_ns not in (call.invoked_ns, heard_ns):
        raise Broken(
            f"call {call.number}, a {call.operation.kind} by {call.writer}, returns at "
            f"{call.returned_ns} ns with what came at {heard_ns} ns: expected it to return then"
        )


@holds("epochs-only-rise")
def says_nothing_more(writer: str, segment: SegmentId, kind: str) -> None:
    """8: a writer that knows that it was deposed sends nothing."""
    raise Broken(f"{writer} sends {segment} a {kind} though it knows that it was deposed")


@holds("needless-unavailability")
def is_asked_of_the_complete(writer: str, segment: SegmentId, required: Lsn, known: Lsn) -> None:
    """28: who is asked for a page has said to be complete up to the ``required`` SCL."""
    if known < required:
        raise Broken(
            f"{writer} asks {segment} for what takes SCL {required}; it has never said to have "
            f"more than SCL {known}"
        )


@holds("bounds-are-kept")
def window_kept(
    writer: str, segment: SegmentId, batches: int, window: int, elapsed_ns: int, resend_ns: int
) -> None:
    """23: so many ``batches`` of records were sent since the segment was last heard of.

    ``elapsed_ns`` since the first of them. Whatever is sent again, one at a time, comes no sooner
    than ``resend_ns`` after it was sent.
    """
    most = window + 1 + elapsed_ns // resend_ns
    if batches > most:
        raise Broken(
            f"{writer} has sent {segment} {batches} batches in {elapsed_ns} ns without an answer: "
            f"expected at most {most}, with {window} in flight"
        )


@holds("bounds-are-kept")
def sends_again_in_time(
    writer: str, segment: SegmentId, silences: int,
    waited_ns: int, least_ns: float, silent_ns: int, most_ns: int,
) -> None:  # fmt: skip
    """23: what was not answered is sent again after a pause that fits the answers before it.

    It has ``waited_ns`` since it was first sent, and the segment was ``silent_ns`` of that.
    """
    if waited_ns < least_ns or silent_ns > most_ns:
        raise Broken(
            f"{writer} sends {segment} something again, {waited_ns} ns after it was sent and "
            f"{silent_ns} ns after anything was heard, with {silences} attempts in between: "
            f"expected {least_ns:.0f} to {most_ns} ns"
        )


@holds("bounds-are-kept")
def beats_no_sooner(writer: str, segment: SegmentId, pause_ns: int, least_ns: int) -> None:
    """23: an empty batch comes only when none has come for a while."""
    if pause_ns < least_ns:
        raise Broken(
            f"{writer} sends {segment} an empty batch {pause_ns} ns after the last batch: expected "
            f"at least {least_ns}"
        )


@holds("vdl-is-a-cpl")
def announces_its_vdl(view: WriterView, segment: SegmentId, announced: Lsn) -> None:
    """3: what segments may fold is durable, as far as an open writer knows; else nothing is."""
    vdl = max(view.vdl, view.last_vdl) if view.opened else 0
    if announced > vdl:
        raise Broken(f"{view.name} announces VDL {announced} to {segment}: expected at most {vdl}")


@holds("bounds-are-kept")
def records_fit(who: str, message: WriteBatch | LogReply | GossipRecords, limit: int) -> None:
    """23: the records of one message take ``limit`` bytes, unless it has a single one."""
    size = len(message.records)
    if size > limit + _RUN_BYTES and len(read_records(message.records)) > 1:
        raise Broken(
            f"{who} sends {size} bytes of records in one {type(message).__name__}: expected at "
            f"most {limit}"
        )


@holds("bounds-are-kept")
def part_fits(who: str, message: GossipLayer, limit: int) -> None:
    """23: the rows of a part of a layer take ``limit`` bytes, unless it has a single one.

    Or a record that is first, with its image.
    """
    size = len(message.rows) - BLOCK_HEAD_BYTES
    if size > limit and not _begins_with(read_block(message.rows, 0, 0)):
        raise Broken(f"{who} sends {size} bytes of a layer at once: expected at most {limit}")


def _begins_with(block: Block) -> bool:
    """Whether there is nothing but a record, with its image if it has one, or an image alone."""
    return len(block) == 1 or (len(block) == _RECORD_AND_IMAGE and list(block.images) == [1])


@holds("layers-hold-the-log")
def gives_what_is_on_disk(message: GossipStatus, base_lsn: Lsn, folded: Lsn) -> None:
    """30: what a segment says to have in layers it has; ``base_lsn`` and ``folded`` are on disk.

    Its disk may say more, for the moment in which it changes.
    """
    if message.base_lsn > base_lsn or message.folded > folded:
        raise Broken(
            f"{message.segment} says to have layers from {message.base_lsn} to {message.folded}: "
            f"its disk has {base_lsn} to {folded}"
        )


@holds("bounds-are-kept")
def list_fits(who: str, message: PagesListed, limit: int) -> None:
    """23: one part of a list of pages."""
    if len(message.page_ids) > limit:
        raise Broken(f"{who} lists {len(message.page_ids)} pages at once: expected at most {limit}")


@holds("bounds-are-kept")
def can_be_read(who: str, payload: bytes) -> None:
    """23: what is sent is a message, and the same one once it has been read."""
    try:
        again = codec.encode(codec.decode(payload))
    except MalformedMessage as error:
        raise Broken(f"{who} sends what nobody can read: {error}") from error
    if again != payload:
        raise Broken(f"{who} sends {len(payload)} bytes that are read as another message")


@holds("bounds-are-kept")
def records_can_be_read(who: str, message: LogReply | GossipRecords) -> None:
    """23: a run of records is one."""
    try:
        read_records(message.records)
    except MalformedMessage as error:
        raise Broken(
            f"{who} sends a {type(message).__name__} that nobody can read: {error}"
        ) from error
