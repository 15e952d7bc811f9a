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

from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

import attrs

from segments.background import Background
from segments.config import SegmentConfig
from segments.gossip import GiveLayer, Gossip, GossipMessage, TakeLayer, TakeRecords, TakeTable
from segments.layer_scrub import LayerScrub
from segments.layers.block import encode_block
from segments.layers.fold import sorted_blocks
from segments.layers.job import PAUSE, Job, Read
from segments.layers.materializer import Reading
from segments.layers.page_read import Need
from segments.layers.stream import part_job
from segments.live_files import LiveFiles
from segments.protocol import events
from segments.protocol.errors import DamagedLayer, MalformedMessage, SpoiltRun, StorageFailed
from segments.protocol.events import Event, Tracer
from segments.protocol.heard import LOST, Mark
from segments.protocol.ids import NO_EPOCH, Address, Lsn, PageId, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import (
    ConfirmEpoch,
    EpochConfirmed,
    EpochRefused,
    FetchLayer,
    FetchLog,
    GossipLayer,
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
from segments.protocol.run import Run, last_lsn_of, read_run
from segments.protocol.truncation import TruncationTable
from segments.rollback import TELLING, heard_of
from segments.scrub import Scrub
from segments.state import SegmentState
from segments.steps import Pace
from segments.transfer import Transfer
from segments.wal import (
    Entry,
    FrameBody,
    HeldEntry,
    LostEntry,
    MarksEntry,
    RecordsEntry,
    SealEntry,
    SettledEntry,
    TableEntry,
    encode_body,
    encode_promise,
)

P = ParamSpec("P")
M = TypeVar("M", ReadPage, ListPages)

_CHANGES_A_PAGE: Final = 8
"""How much more it takes to see whether a page has changed than that it is there."""


class Outgoing(NamedTuple):
    """A message that may leave now."""

    destination: Address
    message: Message


class Write(NamedTuple):
    """What the shell is to make durable before it calls `SegmentCore.wrote`: first the log.

    The promise follows what it promises. Once a promise names a truncation table that the log
    lacks, the table was here and has been spoilt; a crash between the two must not look like it.
    """

    promise: bytes | None
    """New contents of both promise slots, once the log is durable."""
    append: FrameBody | None = None
    """One frame for the end of the log."""
    top: Lsn = 0
    """The highest LSN of a record in that frame; 0 if there is none."""
    new_file: bool = False
    """Whether the log goes on in a new file, whatever the length of the last one."""


@attrs.define
class Pending:
    """An entry that is admitted and waits for the disk."""

    entry: Entry
    epoch: VolumeEpoch
    size: int = 64
    run: Run | None = None
    """What a `RecordsEntry` carries: it was found sound once, and need not be again."""
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
        files: LiveFiles,
        config: SegmentConfig,
        random: Random,
        *,
        accepts_rollback: bool = False,
        trace: Tracer | None = None,
    ) -> None:
        """``accepts_rollback``: an older copy of its disk may serve as if it were the disk."""
        self.segment = segment
        self.pg_id = pg_id
        self.state = state
        state.index.limit_unlinked(config.unlinked_limit)
        self.files = files
        self.dropped_messages = 0
        """Input not taken: malformed, or more than the queue may hold."""
        self._taken_before = state.index.payload_bytes_taken
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
        self._being_given: set[tuple[Address, FetchLayer]] = set()
        """Parts of layers that are being put together for peers."""
        self._in_flight: list[Pending] | None = None
        self._applying: Iterator[None] | None = None
        self._sends: list[Outgoing] = []
        self._queries: list[Job[None]] = []
        self.querying = 0
        """Questions that wait for the disk."""
        self.gossip = Gossip(segment, state, peers, config, random, trace)
        self.scrub = Scrub(segment, state, files, config, trace)
        self.background = Background(
            segment, state, files, self.gossip, self.scrub, config, random,
            self._ask_for_part, self._layers_have_raised_scl, trace,
        )  # fmt: skip
        self.layer_scrub = LayerScrub(
            state, config, lambda damage: self.background.found_damage(damage, "the scrub")
        )

    @property
    def user_bytes_taken(self) -> int:
        """Payload bytes of the records that have joined the chain since this core was made."""
        return max(0, self.state.index.payload_bytes_taken - self._taken_before)

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
        except SpoiltRun as spoilt:
            self.state.give_up(spoilt)
            self.dropped_messages += 1
        except MalformedMessage:
            self.dropped_messages += 1

    def tick(self, now: float) -> None:
        """Look at the time: gossip that is due, and what was asked and not answered."""
        assert not self.applying, "background work amid the effects of a write"
        peer = self.gossip.tick(now)
        if peer is not None:
            self._send(peer, self.gossip.status(reply_wanted=True))
        asked = self.gossip.ask_again(now)
        if asked is not None:
            self._send(*asked)
        self.state.learn_in_time()
        self.scrub.tick(now)
        self.background.look_at_space()
        self.layer_scrub.tick(now)

    # ---- output ----------------------------------------------------------------------------------

    def take_sends(self) -> list[Outgoing]:
        """The messages that may leave now; each is given once."""
        sends, self._sends = self._sends, []
        return sends if self.lost is None else []

    def take_write(self) -> Write | None:
        """The next write, or None when there is none or one is under way."""
        if self._in_flight is not None:
            return None
        if self.lost is not None:
            return None if self.state.lost is not None else self._last_write(self.lost)
        if self.scrub.promise_due:
            self._in_flight = []
            self.scrub.writing_promise()
            return Write(encode_promise(self.state.promise))
        if self.background.new_file_due:
            self._in_flight = []
            self.background.taken_new_file()
            return Write(None, new_file=True)
        if not self._queue or not (batch := self._take_queue()):
            return None
        self._in_flight = batch
        epoch, top, promises = self.state.epoch, 0, False
        entries: list[Entry] = [HeldEntry(self.state.highest_lsn)]
        if self.state.heard.unwritten:
            entries += [MarksEntry(*each) for each in self.state.heard.take_unwritten()]
        for pending in batch:
            entries.append(pending.entry)
            if pending.epoch > epoch:
                epoch, promises = pending.epoch, True
            if pending.run is not None:
                top = max(top, pending.run.last_lsn)
            elif type(pending.entry) is not SettledEntry:
                promises = True
        if promises:
            self.scrub.writing_promise()
        frame = encode_body(epoch, entries)
        return Write(self._encoded_promise(batch) if promises else None, frame, top)

    def _last_write(self, lost: str) -> Write:
        """So that it is known after a restart, too, whoever is there then."""
        self._in_flight = []
        self.state.lost = lost
        held = HeldEntry(self.state.highest_lsn)
        return Write(None, encode_body(self.state.epoch, [held, LostEntry(lost)]))

    def wrote(self) -> None:
        """The write last taken is durable: what it carried takes effect, and may be answered.

        As that may take long, it is only begun here: as long as the core is `applying`, the shell
        calls `apply_more`, lets others run in between, and gives the core nothing else to do.
        """
        assert self._in_flight is not None, "no write was under way"
        self.scrub.wrote()
        self.background.wrote()
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
        acks: list[tuple[Address, int, VolumeEpoch]] = []
        for pending in batch:
            self.state.raise_epoch(pending.epoch)
        for pending in batch:
            before = self.state.scl
            self.state.apply(pending.entry, pending.run)
            if self._trace is not None:
                self._note_applied(pending, before)
            if pending.ack is not None:
                acks.append((*pending.ack, pending.epoch))
            if pending.answer is not None:
                pending.answer()
            if pace.ends_step(pending.size if pending.run is not None else 1):
                yield
        if self._queue:
            acks += self._drop_durable()
        self._acknowledge_last(acks)

    def _acknowledge_last(self, batches: Sequence[tuple[Address, int, VolumeEpoch]]) -> None:
        """Acknowledge the last batch of each writer."""
        if len(batches) == 1:  # as nearly always
            ((writer, seq, epoch),) = batches
            self._acknowledge(writer, epoch, seq)
            return
        last: dict[Address, tuple[int, VolumeEpoch]] = {}
        for writer, seq, epoch in batches:
            known = last.get(writer)
            last[writer] = (seq if known is None else max(seq, known[0]), epoch)
        for writer, (seq, epoch) in last.items():
            self._acknowledge(writer, epoch, seq)

    def _layers_have_raised_scl(self) -> None:
        self._acknowledge_last(self._drop_durable())

    def _drop_durable(self) -> list[tuple[Address, int, VolumeEpoch]]:
        """Drop what waits and became durable meanwhile; returns the batches to acknowledge.

        What is sent again and gossiped while the disk is busy waits several times over. If all of
        it were written, a slow disk would fall behind by its own answers being late.
        """
        scl, kept, acks = self.state.scl, [], []
        for pending in self._queue:
            if pending.run is None or pending.run.last_lsn > scl:
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
                count = len(pending.run.lsns) if pending.run is not None else 0
                self.note(events.RecordsApplied, count, before, scl)
            case SealEntry(epoch):
                self.note(events.Sealed, epoch, scl)
            case TableEntry(_, table):
                self.note(events.TableAdopted, pending.epoch, table, scl)
            case SettledEntry(epoch):
                self.note(events.TableSettled, epoch)

    def write_failed(self, reason: str = "the disk refused") -> None:
        """The disk refused the write last taken: what it carried was never received."""
        self._in_flight = None
        self.state.heard.unwritten = True
        self.scrub.write_failed()
        self.background.write_failed()
        self._promised = max([self.state.epoch, *(each.epoch for each in self._queue)])
        self.note(events.WriteFailed, reason)

    # ---- what is admitted, and what may leave ----------------------------------------------------

    def _send(self, destination: Address, message: Message) -> None:
        """Send something that is true of the durable state."""
        self._sends.append(Outgoing(destination, message))

    def _queue_records(
        self, entry: RecordsEntry, run: Run, *, ack: tuple[Address, int] | None,
        answer: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        """Queue records of the promised epoch."""
        size = len(entry.records) + 64
        if self._queue and self._queue_bytes + size > self._config.queue_bytes:
            self.dropped_messages += 1  # one message of any size fits an empty queue
            return
        if self._queue and self.background.records_wait and self._waits_already(entry, ack):
            return
        self._push(Pending(entry, self._promised, size, run, ack, answer))

    def _waits_already(self, entry: RecordsEntry, ack: tuple[Address, int] | None) -> bool:
        """Whether the same records wait for a fold: its writer sends them again meanwhile."""
        for each in self._queue:
            if type(each.entry) is RecordsEntry and each.entry.records == entry.records:
                each.ack = ack or each.ack
                return True
        return False

    def _take_over(
        self, epoch: VolumeEpoch, table: TruncationTable | None, answer: Callable[[], None] | None
    ) -> None:
        """Promise ``epoch`` and adopt ``table``, if it is higher than the adopted one (§8)."""
        if epoch > self._promised:
            self._requeue(each for each in self._queue if each.run is None or each.epoch >= epoch)
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
        if isinstance(message, GossipStatus | GossipRecords | GossipLayer | FetchLayer):
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
        run = read_run(message.records) if message.records else None
        if self._trace is not None:
            lsns = (run.lsns[0], run.last_lsn) if run is not None else None
            received = events.BatchReceived(source, message.seq, lsns, message.vdl)
            self._trace(self.segment, received)
        if run is None or run.last_lsn <= self.state.scl:
            self._acknowledge(source, message.epoch, message.seq)
            return
        entry = RecordsEntry(message.vdl, message.floor, message.records)
        self._queue_records(entry, run, ack=(source, message.seq))

    def _acknowledge(self, writer: Address, epoch: VolumeEpoch, seq: int) -> None:
        ack = WriteAck(epoch, self.segment, seq, self.state.scl, *self.background.watch.space)
        self._send(writer, ack)
        if self._trace is not None:
            sent = events.AckSent(writer, seq, self.state.scl, self.files.log_bytes)
            self._trace(self.segment, sent)

    def _on_read_page(self, source: Address, message: ReadPage, _: float) -> None:
        if self.state.is_behind(message.read_point):
            self._query(self._later(source, message, self._read_page))
        elif (job := self._read_page(source, message)) is not None:
            self._query(job)

    def _later(
        self, source: Address, message: M, answer: Callable[[Address, M], Job[None] | None]
    ) -> Job[None]:
        """Answer once the pages of the records are known that a restart has found."""
        while self.state.is_behind(message.read_point) and self.state.learn_more():
            yield PAUSE
        if message.epoch == self._promised and (job := answer(source, message)) is not None:
            yield from job

    def _read_page(self, source: Address, message: ReadPage) -> Job[None] | None:
        """Answer now, or return what answers when blocks have been read."""
        if not self._can_answer(source, message, message.page_id):
            return None
        reading = Reading(message.page_id, message.read_point)
        found = self.state.materializer.read(reading)
        if isinstance(found, PageImage):
            self._reply_page(source, message, reading, found)
            return None
        return self._read_blocks(source, message, reading, found)

    def _read_blocks(
        self, source: Address, message: ReadPage, reading: Reading, need: Need
    ) -> Job[None]:
        """Answer when what is needed of layers has been read; whatever has changed meanwhile."""
        found: PageImage | Need = need
        try:
            while isinstance(found, Need):
                for ref in found.blocks:
                    data = yield Read(ref.name, ref.offset, ref.length, at_hand=True)
                    self.state.materializer.blocks_read(reading, ref, data)
                if message.epoch != self._promised or not self._can_answer(
                    source, message, message.page_id
                ):
                    return
                found = self.state.materializer.read(reading)
        except (DamagedLayer, StorageFailed) as error:
            if isinstance(error, DamagedLayer):
                self.background.found_damage(error, "a read")
            if message.epoch == self._promised:
                self._refuse_read(source, message, message.page_id)
        else:
            self._reply_page(source, message, reading, found)

    def _reply_page(
        self, source: Address, message: ReadPage, reading: Reading, page: PageImage
    ) -> None:
        if self._trace is not None:
            assert reading.found is not None
            read = events.PageMaterialized(
                page.page_id, message.read_point, page.page_lsn, reading.found.image_lsn,
                reading.found.changes(),
            )  # fmt: skip
            self._trace(self.segment, read)
        reply = PageReply(message.epoch, self.segment, message.request_id, message.read_point, page)
        self._send(source, reply)

    def _query(self, job: Job[None]) -> None:
        """Have a question answered by who can read the disk; beyond the limit it is dropped."""
        if self.querying >= self._config.queries:
            job.close()
            self.dropped_messages += 1
            return
        self.querying += 1
        self._queries.append(self._counted(job))

    def _counted(self, job: Job[None]) -> Job[None]:
        try:
            yield from job
        except SpoiltRun as spoilt:
            self.state.give_up(spoilt)
        finally:
            self.querying -= 1

    def take_queries(self) -> list[Job[None]]:
        """Questions that need the disk, to be run side by side; each is given once."""
        queries, self._queries = self._queries, []
        return queries

    def _on_list_pages(self, source: Address, message: ListPages, _: float) -> None:
        if message.from_page > message.through_page:
            raise MalformedMessage(
                f"pages {message.from_page} to {message.through_page}: expected ascending"
            )
        if self.state.is_behind(message.read_point):
            self._query(self._later(source, message, self._list_pages))
        else:
            self._list_pages(source, message)

    def _list_pages(self, source: Address, message: ListPages) -> None:
        first, last, read_point = message.from_page, message.through_page, message.read_point
        if not self._can_answer(source, message, None):
            return
        if self.state.layers.damaged:  # which pages begin in one that cannot be opened is unknown
            self._refuse_read(source, message, None)
            return
        limit = max(1, min(message.limit, self._config.list_pages))
        after, pages = message.changed_after, self.state.materializer
        if after:
            limit = max(1, limit // _CHANGES_A_PAGE)  # each is looked up
        found, through = pages.existing_pages(first, last, read_point, limit)
        if after:
            found = pages.may_have_changed(found, after, read_point)
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
        self._refuse_read(source, message, page_id)
        return False

    def _refuse_read(
        self, source: Address, message: ReadPage | ListPages, page_id: PageId | None
    ) -> None:
        state, read_point = self.state, message.read_point
        refusal = ReadRefused(
            message.epoch, self.segment, message.request_id, state.scl, state.floor
        )
        self._send(source, refusal)
        self.note(
            events.ReadDeclined, page_id, read_point, message.required_scl, state.scl, state.floor
        )

    def _on_seal(self, source: Address, message: Seal, _: float) -> None:
        def answer() -> None:
            if self.state.whole:
                self.gossip.seal_replied(message.epoch)
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
            reply = TableInstalled(
                message.epoch, self.segment, message.request_id, self.state.scl,
                *self.background.watch.space,
            )  # fmt: skip
            self._send(source, reply)

        if message.table.epoch != message.epoch:
            raise MalformedMessage(f"table of epoch {message.table.epoch} in epoch {message.epoch}")
        if self.state.table.epoch == message.epoch:
            answer()
        else:
            self._take_over(message.epoch, message.table, answer)

    def _on_fetch_log(self, source: Address, message: FetchLog, _: float) -> None:
        state = self.state
        if state.lacks_table or message.after_lsn < state.folded:
            refusal = ReadRefused(
                message.epoch, self.segment, message.request_id, state.scl, state.floor
            )
            self._send(source, refusal)
            return
        limit = min(message.limit_bytes, self._config.gossip_bytes)
        run = state.index.runs_after(message.after_lsn, limit)
        through = last_lsn_of(run) if run else max(message.after_lsn, state.scl)
        reply = LogReply(
            message.epoch, self.segment, message.request_id, message.after_lsn, through,
            state.scl, run,
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
        match self.gossip.step(source, message, now):
            case None:
                pass
            case TakeTable(table):
                self._take_over(message.epoch, table, None)
            case TakeRecords(entry, run):
                self._take_gossiped(source, entry, run)
            case TakeLayer():
                pass  # it is the next job
            case GiveLayer(request):
                if (source, request) not in self._being_given:  # else it is asked for again
                    self._query(self._give_layer(source, request))
            case answer if self.state.epoch == self._promised:
                self._send(source, answer)
            case _:
                pass  # it would name an epoch below the one promised, and be refused, and so on

    def _give_layer(self, source: Address, request: FetchLayer) -> Job[None]:
        """Send the part of a layer that was asked for."""
        state, (_, _, start, end, base, page_id, lsn) = self.state, request
        folded = state.folded
        open_rows = state.index.pieces(max(start, folded), end) if end > folded else []
        self._being_given.add((source, request))
        try:
            rows, following = yield from part_job(
                state.layers.between(start, end), [*sorted_blocks(open_rows)], start, end,
                base=base, first=(page_id, lsn), limit_bytes=self._config.gossip_bytes,
            )  # fmt: skip
        except DamagedLayer as error:
            self.background.found_damage(error, "a peer")
            return
        except StorageFailed:
            return
        finally:
            self._being_given.discard((source, request))
        if state.epoch != self._promised or request.epoch != state.epoch:
            return
        next_page, next_lsn = following or (0, 0)
        part = GossipLayer(
            state.epoch, self.segment, state.table, state.vdl, start, end, base,
            page_id, lsn, next_page, next_lsn, state.pages_at_most(),
            encode_block(rows, 0) if rows.rows else b"",
        )  # fmt: skip
        self._send(source, part)

    def _ask_for_part(self, transfer: Transfer) -> None:
        self._send(transfer.peer, self.gossip.fetch(transfer))

    def _hear(self, peer: SegmentId, status: GossipStatus) -> None:
        """Remember where a peer stands, by its own words, and what it has heard of others."""
        self.state.heard.hear_all(status.heard, self._peers)
        # What it says between a seal and its table may be younger than its seal reply.
        if status.epoch == status.table.epoch:
            self.state.heard.hear(peer, Mark(status.table.epoch, status.scl))

    def _take_gossiped(self, source: Address, entry: RecordsEntry, run: Run) -> None:
        before = self.state.scl

        def ask_for_more() -> None:
            if self.state.scl > before:  # else the same would come again
                self._send(source, self.gossip.status(reply_wanted=False))

        self._queue_records(entry, run, ack=None, answer=ask_for_more)

    # ---- details ---------------------------------------------------------------------------------

    def _push(self, pending: Pending) -> None:
        self._queue.append(pending)
        self._queue_bytes += pending.size

    def _requeue(self, kept: Iterable[Pending]) -> None:
        self._queue = list(kept)
        self._queue_bytes = sum(each.size for each in self._queue)

    def _take_queue(self) -> list[Pending]:
        """The front of the queue, as much as one write carries; no records if they are to wait."""
        if self.background.records_wait:
            batch = [each for each in self._queue if each.run is None]
            if batch:
                self._requeue([each for each in self._queue if each.run is not None])
            return batch
        if self._queue_bytes <= self._config.write_bytes:
            batch, self._queue, self._queue_bytes = self._queue, [], 0
            return batch
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
    FetchLayer: SegmentCore._on_gossip,
    GossipLayer: SegmentCore._on_gossip,
}
