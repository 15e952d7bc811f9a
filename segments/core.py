"""The segment core: messages and time in, writes and messages out. No I/O, no clock, no tasks.

(More than 400 lines: admission, the write cycle and the handlers are one state machine, and
splitting them would hide which step a message is in.)

Theory of operation
-------------------
Everything a segment says rests on what is durable. So there are two halves:

* *Admission.* `step` checks a message against the promised epoch and the adopted table. What
  changes durable state is queued; reads and status are answered at once, from durable state.
* *The write cycle.* The shell takes the queue as one `Write` (`take_write`), one frame for one
  sync, and reports `wrote` or `write_failed`. Only `wrote` applies the entries to the state, as a
  restart would (`SegmentState.apply_steps`), and releases their answers, in the order of the queue.
  An acknowledgement cannot leave before its sync. What takes long is done in steps (`apply_more`);
  until the last, no message is handled.

A seal moves the promise when it is *queued*, and throws out queued input of older epochs: what is
not yet on its way to the disk may not get there after the seal (§7, step 2). The durable epoch
follows when the seal is written; until then an older writer is left without an answer rather than
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any, Final, NamedTuple, ParamSpec

import attrs

from segments.config import SegmentConfig
from segments.gossip import Gossip, GossipMessage, TakePages, TakeRecords, TakeTable
from segments.maintenance import Maintenance
from segments.protocol import events
from segments.protocol.errors import MalformedMessage
from segments.protocol.events import Event, Tracer
from segments.protocol.heard import LOST, Mark
from segments.protocol.ids import NO_EPOCH, Address, Lsn, PageId, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import (
    ConfirmEpoch,
    EpochConfirmed,
    EpochRefused,
    FetchLog,
    FetchPages,
    GossipPages,
    GossipRecords,
    GossipStatus,
    InstallTable,
    ListPages,
    LogReply,
    Message,
    NeedTable,
    PageImage,
    PageReply,
    PagesListed,
    ReadPage,
    ReadRefused,
    Seal,
    TableInstalled,
    WriteAck,
    WriteBatch,
)
from segments.protocol.record import RedoRecord
from segments.protocol.run import encode_run, read_records
from segments.protocol.truncation import TruncationTable
from segments.rollback import TELLING, heard_of
from segments.state import SegmentState
from segments.steps import Pace
from segments.wal import (
    CheckpointEntry,
    Entry,
    HeldEntry,
    ImagesEntry,
    LostEntry,
    MarksEntry,
    RecordsEntry,
    SealEntry,
    SettledEntry,
    TableEntry,
    encode_frame,
    encode_promise,
)

P = ParamSpec("P")


class Outgoing(NamedTuple):
    """A message that may leave now."""

    destination: Address
    message: Message


@attrs.frozen
class Write:
    """What the shell is to make durable before it calls `SegmentCore.wrote`: first the log.

    The promise follows what it promises. Once a promise names a truncation table that the log
    lacks, the table was here and has been spoilt; a crash between the two must not look like it.
    """

    promise: bytes | None
    """New contents of both promise slots, once the log is durable."""
    append: bytes
    """One frame for the end of the log; may be empty."""
    replace: Iterable[bytes] | None
    """The whole log, written anew; nothing is appended then."""


@attrs.define
class Pending:
    """An entry that is admitted and waits for the disk."""

    entry: Entry
    epoch: VolumeEpoch
    size: int = 64
    records: list[RedoRecord] | None = None
    """What a `RecordsEntry` encodes: it has been decoded once, and need not be again."""
    ack: tuple[Address, int] | None = None
    """Writer and batch to acknowledge; a write acknowledges only its last batch of each writer."""
    answer: Callable[[], None] | None = None


class SegmentCore:
    """One segment's protocol; `take_sends` and `take_write` follow every call."""

    def __init__(
        self,
        segment: SegmentId,
        pg_id: PgId,
        peers: tuple[SegmentId, ...],
        state: SegmentState,
        config: SegmentConfig,
        random: Random,
        *,
        log_bytes: int = 0,
        accepts_rollback: bool = False,
        trace: Tracer | None = None,
    ) -> None:
        """``accepts_rollback``: an older copy of its disk may serve as if it were the disk."""
        self.segment = segment
        self.pg_id = pg_id
        self.state = state
        self.dropped_messages = 0
        """Input not taken: malformed, or more than the queue may hold."""
        self.lost: str | None = None
        """Why this segment must not go on: its disk was rolled back. It says nothing more, and
        ends once that is written down (`take_write`)."""
        self._peers = peers
        self._accepts_rollback = accepts_rollback
        self._config = config
        self._trace = trace
        self._promised = state.epoch
        self._queue: list[Pending] = []
        self._queue_bytes = 0
        self._in_flight: list[Pending] | None = None
        self._applying: Iterator[None] | None = None
        self._sends: list[Outgoing] = []
        self.gossip = Gossip(segment, state, peers, config, random, trace)
        self.maintenance = Maintenance(segment, state, config, log_bytes, random.random(), trace)

    # ---- input -----------------------------------------------------------------------------------

    def step(self, source: Address, message: Message, now: float) -> None:
        """Take one message from ``source`` at time ``now`` (seconds of any clock)."""
        assert not self.applying, "a message amid the effects of a write"
        handler = _HANDLERS.get(type(message))
        if handler is None or self.lost is not None:
            return
        if type(message) in TELLING and self._is_rolled_back(
            source, heard_of(self.segment, message)
        ):
            return
        if not self._admit(source, message):
            return
        try:
            handler(self, source, message, now)
        except MalformedMessage:
            self.dropped_messages += 1

    def tick(self, now: float) -> None:
        """Let background work have its turn; another one at once if `Maintenance.behind`."""
        assert not self.applying, "background work amid the effects of a write"
        peer = self.gossip.tick(now)
        if peer is not None:
            self._send(peer, self.gossip.status(reply_wanted=True))
        asked = self.gossip.ask_again(now)
        if asked is not None:
            self._send(*asked)
        self.maintenance.tick(now, sends_pages=self.gossip.sends_pages(now))

    # ---- output ----------------------------------------------------------------------------------

    def take_sends(self) -> list[Outgoing]:
        """The messages that may leave now; each is given once."""
        sends, self._sends = self._sends, []
        return sends if self.lost is None else []

    @property
    def has_input(self) -> bool:
        """Whether anything waits for the disk."""
        return bool(self._queue) or self.lost is not None

    def take_write(self) -> Write | None:
        """The next write, or None when there is none or one is under way."""
        if self._in_flight is not None:
            return None
        if self.lost is not None:
            return None if self.state.lost is not None else self._last_write(self.lost)
        if self.maintenance.promise_due:
            self._in_flight = []
            self.maintenance.writing_promise()
            return Write(encode_promise(self.state.promise), b"", None)
        if self.maintenance.compaction_due and not self._hydrating:
            self._in_flight = []
            return Write(None, b"", self.maintenance.start_compaction())
        if not self._queue:
            return None
        batch = self._take_queue()
        self._in_flight = batch
        held = HeldEntry(self.state.highest_lsn)
        epoch = max(*(each.epoch for each in batch), self.state.epoch)
        promises = epoch > self.state.epoch or any(
            not isinstance(each.entry, RecordsEntry | SettledEntry) for each in batch
        )
        marks = [MarksEntry(*each) for each in self.state.heard.take_unwritten()]
        frame = encode_frame(epoch, [held, *marks, *(each.entry for each in batch)])
        self.maintenance.appending(len(frame))
        if promises:
            self.maintenance.writing_promise()
        return Write(self._encoded_promise(batch) if promises else None, frame, None)

    def _last_write(self, lost: str) -> Write:
        """So that it is known after a restart, too, whoever is there then."""
        self._in_flight = []
        self.state.lost = lost
        frame = encode_frame(self.state.epoch, [HeldEntry(self.state.highest_lsn), LostEntry(lost)])
        self.maintenance.appending(len(frame))
        return Write(None, frame, None)

    def wrote(self) -> None:
        """The write last taken is durable: what it carried takes effect, and may be answered.

        As that may take long, it is only begun here: as long as the core is `applying`, the shell
        calls `apply_more`, lets others run in between, and gives the core nothing else to do.
        """
        assert self._in_flight is not None, "no write was under way"
        self.maintenance.wrote()
        self._applying = self._apply(self._in_flight)
        self.apply_more()

    @property
    def applying(self) -> bool:
        """Whether a durable write has taken effect only in part."""
        return self._applying is not None

    def apply_more(self) -> None:
        """One more step of what `wrote` has begun."""
        assert self._applying is not None, "no write takes effect"
        try:
            next(self._applying)
        except StopIteration:
            self._applying = self._in_flight = None

    def _apply(self, batch: list[Pending]) -> Iterator[None]:
        pace = Pace()
        acks: dict[Address, tuple[int, VolumeEpoch]] = {}
        self.state.raise_epoch(max((each.epoch for each in batch), default=NO_EPOCH))
        for pending in batch:
            before = self.state.scl
            yield from self.state.apply_steps(pending.entry, pending.records)
            if self._trace is not None:
                self._note_applied(pending, before)
            if pending.ack is not None:
                writer, seq = pending.ack
                acks[writer] = (max(seq, acks.get(writer, (0, pending.epoch))[0]), pending.epoch)
            if pending.answer is not None:
                pending.answer()
            if pace.ends_step(pending.size if pending.records is not None else 1):
                yield  # the pages of a checkpoint take their steps when its last part is applied
        for writer, seq, epoch in self._drop_durable():
            acks[writer] = (max(seq, acks.get(writer, (0, epoch))[0]), epoch)
        for writer, (seq, epoch) in acks.items():
            self._acknowledge(writer, epoch, seq)

    def _drop_durable(self) -> list[tuple[Address, int, VolumeEpoch]]:
        """Drop what waits and became durable meanwhile; returns the batches to acknowledge.

        What is sent again and gossiped while the disk is busy waits several times over. If all of
        it were written, a slow disk would fall behind by its own answers being late.
        """
        scl, kept, acks = self.state.scl, [], []
        for pending in self._queue:
            if not pending.records or pending.records[-1].lsn > scl:
                kept.append(pending)
            elif pending.ack is not None:
                acks.append((*pending.ack, pending.epoch))
        if len(kept) < len(self._queue):
            self._requeue(kept)
        return acks

    def _note_applied(self, pending: Pending, before: Lsn) -> None:
        scl = self.state.scl
        match pending.entry:
            case RecordsEntry():
                count = len(pending.records or ())
                self.note(events.RecordsApplied, count, before, scl)
            case SealEntry(epoch):
                self.note(events.Sealed, epoch, scl)
            case TableEntry(_, table):
                self.note(events.TableAdopted, pending.epoch, table, scl)
            case SettledEntry(epoch):
                self.note(events.TableSettled, epoch)
            case CheckpointEntry() | ImagesEntry() if scl != before:
                self.note(events.Hydrated, before, scl)

    def write_failed(self, reason: str = "the disk refused") -> None:
        """The disk refused the write last taken: what it carried was never received.

        Nor is the rest of a checkpoint, of which a part may now be missing.
        """
        self._in_flight = None
        self.note(events.WriteFailed, reason)
        self.state.heard.unwritten = True
        self.maintenance.write_failed()
        self._requeue(
            each
            for each in self._queue
            if not isinstance(each.entry, CheckpointEntry | ImagesEntry)
        )
        self._promised = max([self.state.epoch, *(each.epoch for each in self._queue)])

    # ---- what is admitted, and what may leave ----------------------------------------------------

    def _send(self, destination: Address, message: Message) -> None:
        """Send something that is true of the durable state."""
        self._sends.append(Outgoing(destination, message))

    def _queue_records(
        self, entry: RecordsEntry, records: list[RedoRecord], *, ack: tuple[Address, int] | None,
        answer: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        """Queue records of the promised epoch."""
        size = len(entry.records) + 64
        if self._queue and self._queue_bytes + size > self._config.queue_bytes:
            self.dropped_messages += 1  # one message of any size fits an empty queue
            return

        self._push(Pending(entry, self._promised, size, records, ack, answer))

    def _take_over(
        self, epoch: VolumeEpoch, table: TruncationTable | None, answer: Callable[[], None] | None
    ) -> None:
        """Promise ``epoch`` and adopt ``table``, if it is higher than the adopted one (§8)."""
        if epoch > self._promised:
            self._requeue(
                each for each in self._queue if each.records is None or each.epoch >= epoch
            )
        if self._queue_bytes > self._config.queue_bytes:
            self.dropped_messages += 1
            return
        self._promised = max(self._promised, epoch)
        entry: Entry = SealEntry(epoch)
        if table is not None and table.epoch > self.state.table.epoch:
            entry = TableEntry(self.state.vdl, table)
        self._push(Pending(entry, epoch, answer=answer))

    def _settle(self, epoch: VolumeEpoch) -> None:
        """Remember that all members have adopted the table of ``epoch``, as we have."""
        if epoch <= self.state.table.settled or any(
            isinstance(each.entry, SettledEntry)
            for each in (*(self._in_flight or ()), *self._queue)
        ):
            return
        self._push(Pending(SettledEntry(epoch), self._promised))

    def _queue_checkpoint(self, entries: Iterable[CheckpointEntry | ImagesEntry]) -> None:
        """Queue a checkpoint within the log, in effect when all its parts are durable."""
        for entry in entries:
            pages = entry.pages if isinstance(entry, ImagesEntry) else ()
            size = sum(len(each.image) for each in pages) + 64
            self._push(Pending(entry, self._promised, size))

    @property
    def _awaited_base_lsn(self) -> Lsn:
        """The highest base of the checkpoints that wait for the disk; 0 if none does."""
        waiting = (each.entry for each in (*(self._in_flight or ()), *self._queue))
        kinds = (CheckpointEntry, ImagesEntry)
        return max((each.base_lsn for each in waiting if isinstance(each, kinds)), default=0)

    # ---- what others have heard ------------------------------------------------------------------

    def _is_rolled_back(self, source: Address, heard: Mark) -> bool:
        """Whether this segment is lost: ``source`` knows that it once had more than it has (§8).

        Before anything else in the message: under a higher table it could not be told any more.
        """
        if self._accepts_rollback or not self.state.contradicts(heard):
            return False
        has = self.state.mark
        known = "has found that out" if heard == LOST else f"has heard of {heard}"
        self.lost = f"the disk of {self.segment} was rolled back to {has}: {source} {known}"
        self.note(events.RolledBack, source, heard, has)
        return True

    # ---- admission -------------------------------------------------------------------------------

    def _admit(self, source: Address, message: Message) -> bool:
        """Fencing, for every message alike (§8): a lower epoch is refused, a higher taken over."""
        epoch = message.epoch
        if epoch == self._promised:
            return True
        if epoch < self._promised:
            if epoch < self.state.epoch:
                self._refuse(source, message)
            return False
        if isinstance(message, Seal | InstallTable):
            return True  # their handlers take the epoch over, and answer when that is durable
        table = getattr(message, "table", None)
        ask: Callable[[], None] | None = None
        if isinstance(message, WriteBatch | ReadPage | ListPages | FetchLog | ConfirmEpoch):
            ask = lambda: self._send(source, NeedTable(epoch, self.segment))  # noqa: E731
        if table is not None:
            self.note(events.TableGossiped, source, epoch)
        self._take_over(epoch, table, ask)
        return False

    def _refuse(self, source: Address, message: Message) -> None:
        if isinstance(message, GossipStatus | GossipRecords | GossipPages | FetchPages):
            self._send(source, self.gossip.status(reply_wanted=False))
        else:
            self._send(source, EpochRefused(message.epoch, self.segment, self.state.epoch))
            self.note(events.RequestRefused, message.epoch, self.state.epoch)

    def _has_table(self, source: Address, epoch: VolumeEpoch) -> bool:
        """Whether the table of ``epoch`` is adopted; if not, its writer is asked for it."""
        if self.state.table.epoch == epoch:
            return True
        self._send(source, NeedTable(epoch, self.segment))
        return False

    # ---- handlers --------------------------------------------------------------------------------

    def _on_write_batch(self, source: Address, message: WriteBatch, _: float) -> None:
        if not self._has_table(source, message.epoch):
            return
        told = message.heard.get(self.segment, 0)
        if told > self.state.scl and self._is_rolled_back(source, Mark(message.epoch, told)):
            return
        self.state.announced(message.vdl, message.floor)
        self.state.ends_at(message.tail_lsn, message.vdl)
        self.state.heard.hear_scls(message.epoch, message.heard, self._peers)
        if message.settled:
            self._settle(message.epoch)
        records = read_records(message.records)
        if self._trace is not None:
            lsns = (records[0].lsn, records[-1].lsn) if records else None
            received = events.BatchReceived(source, message.seq, lsns, message.vdl)
            self._trace(self.segment, received)
        if not records or records[-1].lsn <= self.state.scl:
            self._acknowledge(source, message.epoch, message.seq)
            return
        entry = RecordsEntry(message.vdl, message.floor, message.records)
        self._queue_records(entry, records, ack=(source, message.seq))

    def _acknowledge(self, writer: Address, epoch: VolumeEpoch, seq: int) -> None:
        self._send(writer, WriteAck(epoch, self.segment, seq, self.state.scl))
        if self._trace is not None:
            sent = events.AckSent(writer, seq, self.state.scl, self.maintenance.log_bytes)
            self._trace(self.segment, sent)

    def _on_read_page(self, source: Address, message: ReadPage, _: float) -> None:
        if not self._can_answer(source, message, message.page_id):
            return
        epoch, request_id, page_id, read_point, _scl = message
        page = self.state.materializer.materialize(page_id, read_point)
        if self._trace is not None:
            self._trace_read(page, read_point)
        self._send(source, PageReply(epoch, self.segment, request_id, read_point, page))

    def _on_list_pages(self, source: Address, message: ListPages, _: float) -> None:
        first, last, read_point = message.from_page, message.through_page, message.read_point
        if first > last:
            raise MalformedMessage(f"pages {first} to {last}: expected ascending")
        if not self._can_answer(source, message, None):
            return
        limit = max(1, min(message.limit, self._config.list_pages))
        found, through = self.state.materializer.existing_pages(first, last, read_point, limit)
        reply = PagesListed(
            message.epoch, self.segment, message.request_id, read_point, first, through,
            tuple(found),
        )  # fmt: skip
        self._send(source, reply)
        self.note(events.PagesFound, read_point, first, through, len(found))

    def _can_answer(
        self, source: Address, message: ReadPage | ListPages, page_id: PageId | None
    ) -> bool:
        """Whether what is asked of a read point is all here; if not, the asker is told (§5)."""
        if not self._has_table(source, message.epoch):
            return False
        state, read_point, required_scl = self.state, message.read_point, message.required_scl
        if required_scl <= state.scl and read_point >= state.floor:
            return True
        self._send(
            source,
            ReadRefused(message.epoch, self.segment, message.request_id, state.scl, state.floor),
        )
        self.note(events.ReadDeclined, page_id, read_point, required_scl, state.scl, state.floor)
        return False

    def _on_seal(self, source: Address, message: Seal, _: float) -> None:
        def answer() -> None:
            if self.state.whole:
                self._send(
                    source,
                    self.state.seal_reply(self.segment, message.epoch, message.request_id),
                )

        if message.epoch == self.state.epoch:
            answer()
        else:
            self._take_over(message.epoch, None, answer)

    def _on_install_table(self, source: Address, message: InstallTable, _: float) -> None:
        def answer() -> None:
            reply = TableInstalled(message.epoch, self.segment, message.request_id, self.state.scl)
            self._send(source, reply)

        if message.table.epoch != message.epoch:
            raise MalformedMessage(f"table of epoch {message.table.epoch} in epoch {message.epoch}")
        if self.state.table.epoch == message.epoch:
            answer()
        else:
            self._take_over(message.epoch, message.table, answer)

    def _on_fetch_log(self, source: Address, message: FetchLog, _: float) -> None:
        state = self.state
        if state.lacks_table or message.after_lsn < state.index.base_lsn:
            refusal = ReadRefused(
                message.epoch, self.segment, message.request_id, state.scl, state.floor
            )
            self._send(source, refusal)
            return
        limit = min(message.limit_bytes, self._config.gossip_bytes)
        records = state.index.records_after(message.after_lsn, limit)
        through = records[-1].lsn if records else max(message.after_lsn, state.scl)
        reply = LogReply(
            message.epoch, self.segment, message.request_id, message.after_lsn, through,
            state.scl, encode_run(records),
        )  # fmt: skip
        self._send(source, reply)

    def _on_confirm_epoch(self, source: Address, message: ConfirmEpoch, _: float) -> None:
        if message.epoch == self.state.epoch:
            self._send(source, EpochConfirmed(message.epoch, self.segment, message.request_id))

    def _on_gossip(self, source: Address, message: GossipMessage, now: float) -> None:
        if isinstance(message, GossipStatus) and message.table.epoch == self.state.table.epoch:
            self._settle(message.table.settled)
        if isinstance(message, GossipStatus) and source in self._peers:
            self._hear(source, message)
        match self.gossip.step(source, message, now, self._awaited_base_lsn):
            case None:
                pass
            case TakeTable(table):
                self._take_over(message.epoch, table, None)
            case TakeRecords(entry, records):
                self._take_gossiped(source, entry, records)
            case TakePages(head, parts):
                self._queue_checkpoint([head, *parts])
            case answer if self.state.epoch == self._promised:
                self._send(source, answer)
            case _:
                pass  # it would name an epoch below the one promised, and be refused, and so on

    def _hear(self, peer: SegmentId, status: GossipStatus) -> None:
        """Remember where a peer stands, by its own words, and what it has heard of others."""
        self.state.heard.hear_all(status.heard, self._peers)
        # What it says between a seal and its table may be younger than its seal reply.
        if status.epoch == status.table.epoch:
            self.state.heard.hear(peer, Mark(status.table.epoch, status.scl))

    def _take_gossiped(
        self, source: Address, entry: RecordsEntry, records: list[RedoRecord]
    ) -> None:
        before = self.state.scl

        def ask_for_more() -> None:
            if self.state.scl > before:  # else the same would come again
                self._send(source, self.gossip.status(reply_wanted=False))

        self._queue_records(entry, records, ack=None, answer=ask_for_more)

    # ---- details ---------------------------------------------------------------------------------

    def _push(self, pending: Pending) -> None:
        self._queue.append(pending)
        self._queue_bytes += pending.size

    @property
    def _hydrating(self) -> bool:
        """Whether parts of a checkpoint wait whose head may stand in the log already."""
        return any(isinstance(each.entry, ImagesEntry) for each in self._queue)

    def _requeue(self, kept: Iterable[Pending]) -> None:
        self._queue = list(kept)
        self._queue_bytes = sum(each.size for each in self._queue)

    def _take_queue(self) -> list[Pending]:
        """The front of the queue, as much as one write carries."""
        size, count = 0, 0
        for pending in self._queue:
            size += pending.size
            if count and size > self._config.write_bytes:
                break
            count += 1
        batch, self._queue = self._queue[:count], self._queue[count:]
        self._queue_bytes = sum(each.size for each in self._queue)
        return batch

    def _encoded_promise(self, batch: list[Pending]) -> bytes:
        promise = self.state.promise
        for pending in batch:
            promise = promise.raised(pending.epoch, NO_EPOCH)
            if isinstance(pending.entry, TableEntry):
                promise = promise.raised(pending.epoch, pending.entry.table.epoch)
        return encode_promise(promise)

    def note(self, event: Callable[P, Event], *values: P.args, **named: P.kwargs) -> None:
        """Report a step that is not on the hot path; the event is made if anybody listens."""
        if self._trace is not None:
            self._trace(self.segment, event(*values, **named))

    def _trace_read(self, page: PageImage, read_point: int) -> None:
        image_lsn, *lsns = self.state.materializer.chain(page.page_id, read_point)
        found = (self.state.index.get(lsn) for lsn in lsns)
        records = [record for record in found if record is not None]
        self.note(
            events.PageMaterialized, page.page_id, read_point, page.page_lsn, image_lsn, records
        )


_HANDLERS: Final[dict[type, Any]] = {
    WriteBatch: SegmentCore._on_write_batch,
    ReadPage: SegmentCore._on_read_page,
    ListPages: SegmentCore._on_list_pages,
    Seal: SegmentCore._on_seal,
    InstallTable: SegmentCore._on_install_table,
    FetchLog: SegmentCore._on_fetch_log,
    ConfirmEpoch: SegmentCore._on_confirm_epoch,
    GossipStatus: SegmentCore._on_gossip,
    GossipRecords: SegmentCore._on_gossip,
    FetchPages: SegmentCore._on_gossip,
    GossipPages: SegmentCore._on_gossip,
}
