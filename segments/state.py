"""What a segment durably holds, and how each entry of its log changes it.

The same functions serve a running segment, which applies an entry once it is on disk, and a
restart, which applies all of them again: there is one meaning of the log.

(More than 400 lines: all that changes this state is in one place.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from segments.chain_index import ChainIndex
from segments.config import SegmentConfig
from segments.layers.layer_map import NO_LAYERS, LayerMap
from segments.layers.materializer import Materializer
from segments.protocol.errors import SpoiltRun
from segments.protocol.heard import Heard, HeardMarks, Mark, is_rolled_back
from segments.protocol.ids import MAX_INTEGER, NO_EPOCH, Lsn, SegmentId, VolumeEpoch
from segments.protocol.messages import SealReply
from segments.protocol.run import Run, last_lsn_of, read_run
from segments.protocol.truncation import TruncationRange, TruncationTable
from segments.steps import Pace, Steps
from segments.wal import (
    Entry,
    Frame,
    FrameBody,
    HeadEntry,
    HeldEntry,
    LostEntry,
    MarksEntry,
    Promise,
    RecordsEntry,
    SealEntry,
    SettledEntry,
    TableEntry,
    encode_body,
)
from segments.wal_scan import LogScan, highest_ever_held

T = TypeVar("T")

_RUN_RECORDS: Final = 1_024
"""Most records in one frame of a log that is written anew."""

_LEARNED_AT_ONCE: Final = 4_096
"""Records whose pages are learned in a step."""
_MOST_TICKS: Final = 8
"""For so long those that come wait for others."""


class SegmentState:
    """One segment's epoch, truncation table, records and pages."""

    def __init__(self, config: SegmentConfig, layers: LayerMap = NO_LAYERS) -> None:
        """Nothing but what is in ``layers``.

        What lies above gaps of the log has no bound before the core begins to run: a log that was
        written anew has records in another order than they came in, and what it drops for want of
        room may be what was acknowledged later.
        """
        self._config = config
        self.index = ChainIndex()
        self.materializer = Materializer(
            self.index,
            page_cache_bytes=config.image_cache_bytes, block_cache_bytes=config.block_cache_bytes,
        )  # fmt: skip
        self.materializer.set_layers(layers)
        self.materializer.announce(layers.folded)
        self.index.reset(layers.folded)
        self.epoch = NO_EPOCH
        """Highest epoch sealed or taken over; never goes down."""
        self.table = TruncationTable()
        """The adopted table; its epoch is at most ``epoch``."""
        self.vdl: Lsn = layers.folded
        """Highest VDL a writer has announced. What is in layers never lies above one."""
        self.announced_floor: Lsn = 0
        """Highest PGMRPL that the writer of the adopted table has announced; 0: none yet."""
        self.heard = HeardMarks()
        """What was heard of the other members; what is not written down yet is no less true."""
        self.lost: str | None = None
        """Why this is an older copy of the disk, as the segment had found out once."""
        self.left_out = False
        """Whether its restart has left out what the log has of records that were let go."""
        self._promised_table = NO_EPOCH
        self._repair_lsn: Lsn = 0
        self._scl_before: Lsn | None = None  # at the last tick
        self._waited = 0  # ticks since pages were learned
        self._gave_up = False  # whether records that may have been acknowledged

    @property
    def layers(self) -> LayerMap:
        """The layers that are live."""
        return self.materializer.layers

    @property
    def folded(self) -> Lsn:
        """Everything of the chain up to here, inclusive, is in layers and not in the log (F)."""
        return self.layers.folded

    @property
    def floor(self) -> Lsn:
        """Oldest read point that is served: what was below it has been collected.

        Readers of a later writer may be below it, and are served by others: no peer is told of it.
        """
        return self.layers.base_lsn

    # ---- restart ---------------------------------------------------------------------------------

    @classmethod
    def restore_steps(
        cls, config: SegmentConfig, layers: LayerMap, scan: LogScan, promise: Promise
    ) -> Steps[SegmentState]:
        """The state that layers, a log with a sound frame and the promise beside it stand for.

        After damage in the middle of the log the segment is not `whole`: records, or a table, that
        it once acknowledged may be missing.
        """
        state = cls(config, layers)
        state.promised(promise)
        pace = Pace()
        for _, _, frame in scan.frames:
            state.raise_epoch(frame.epoch)
            for entry in frame.entries:
                state.apply(entry)
                if pace.ends_step(len(entry.records) if type(entry) is RecordsEntry else 1):
                    yield
        # Only now: layers that came from a peer may be newer than tables that the log has adopted.
        state._check_folds()
        held = highest_ever_held(scan)
        state._leave_let_go(held)
        if scan.damage:
            state.lost_up_to(held)
        if state._gave_up:
            state._repair_lsn = state.highest_lsn
        state.heard.take_unwritten()  # all of it comes from there
        return state

    def _leave_let_go(self, held: Lsn) -> None:
        """Drop what the log has above ``held``: it was let go for want of room, never acknowledged.

        The gap below it may have been filled since. But if it counted now, and were acknowledged,
        no frame would tell of that once these records are spoilt.
        """
        if self.index.highest_lsn > held:
            self.left_out = True
            beyond = TruncationRange(held + 1, MAX_INTEGER, NO_EPOCH)
            self.mended(lambda: self.index.truncate(TruncationTable(NO_EPOCH, (beyond,))))
            self.materializer.drop_above(self.index.scl)

    def promised(self, promise: Promise) -> None:
        """Begin with what stands beside the log."""
        self.epoch = promise.epoch
        self._promised_table = promise.table_epoch

    def lost_up_to(self, highest: Lsn) -> None:
        """Some of what was ever held may be lost, of which ``highest`` was the highest LSN."""
        self._repair_lsn = self.table.survivor(highest)

    @property
    def scl(self) -> Lsn:
        """Highest LSN, inclusive, up to which every record of the chain is held."""
        return self.index.scl

    @property
    def whole(self) -> bool:
        """Whether everything this segment ever acknowledged is here; else it is no witness (§8)."""
        return not (self.lacks_records or self.lacks_table or self.layers.damaged)

    @property
    def lacks_records(self) -> bool:
        """Whether records that were acknowledged here are gone from the log, by damage."""
        return self.index.scl < self._repair_lsn

    @property
    def lacks_table(self) -> bool:
        """Whether a table that was adopted here is gone with a spoilt frame.

        Then no record can be judged, ours or a peer's, until that table or a later one is here:
        none is taken from a peer, and none is given.
        """
        return self.table.epoch < self._promised_table

    @property
    def highest_lsn(self) -> Lsn:
        """No record above this was ever held and not annulled since."""
        return max(self.index.highest_lsn, self._repair_lsn)

    @property
    def promise(self) -> Promise:
        """What is kept in the second place, beside the log."""
        return Promise(self.epoch, max(self.table.epoch, self._promised_table))

    @property
    def mark(self) -> Mark:
        """How far it has the log, and under which table."""
        return Mark(self.table.epoch, self.index.scl)

    def contradicts(self, heard: Mark) -> bool:
        """Whether somebody has heard more of this segment than it has: its disk was rolled back."""
        return is_rolled_back(self.mark, heard) and self.whole

    def seal_reply(self, segment: SegmentId, epoch: VolumeEpoch, request_id: int) -> SealReply:
        """What a `whole` segment in this state brings to the recovery that seals ``epoch`` (§7)."""
        assert self.whole, f"{segment} is no witness"
        floor = max(self.floor, self.announced_floor)
        return SealReply(
            epoch, segment, request_id, self.scl, self.vdl, floor, self.table, self.heard.all
        )  # fmt: skip

    # ---- one entry -------------------------------------------------------------------------------

    def apply_frame(self, frame: Frame) -> None:
        """Take in all that one durable frame says."""
        self.raise_epoch(frame.epoch)
        for entry in frame.entries:
            self.apply(entry)
        self._check_folds()

    def _check_folds(self) -> None:
        """Nothing is folded that the table annuls, unless that is an older one than ours was."""
        assert self.lacks_table or not self.table.annuls(self.folded), (self.folded, self.table)

    def raise_epoch(self, epoch: VolumeEpoch) -> None:
        """Accept nothing below ``epoch`` any more; a lower one changes nothing."""
        if epoch > self.epoch:
            self.epoch = epoch

    def apply(self, entry: Entry, run: Run | None = None) -> None:
        """Take in one durable entry.

        ``run`` is what a `RecordsEntry` carries, if the caller has found it sound already.
        """
        match entry:
            case RecordsEntry():
                self.announced(entry.vdl, entry.floor)
                self.add_run(read_run(entry.records) if run is None else run)
            case SealEntry():
                self.raise_epoch(entry.epoch)
            case TableEntry():
                self.announced(entry.vdl, 0)
                self.adopt_table(entry.table)
            case SettledEntry():
                self.table = self.table.with_settled(entry.epoch)
            case HeadEntry():
                self.raise_epoch(entry.epoch)
                self.adopt_table(entry.table)
                self.table = self.table.with_settled(entry.table.settled)
                self.announced(entry.vdl, entry.floor)
            case MarksEntry(epoch, scls):
                self.heard.hear_all((Heard(epoch, scls),), scls)
            case LostEntry(why):
                self.lost = why
            case HeldEntry():
                pass  # only `restore` asks, after damage

    def announced(self, vdl: Lsn, floor: Lsn) -> None:
        """Remember what a writer said; neither ever goes back."""
        if vdl > self.vdl:
            self.vdl = vdl
            self.materializer.announce(vdl)
        if floor > self.announced_floor:
            self.announced_floor = floor

    def ends_at(self, tail_lsn: Lsn, vdl: Lsn) -> None:
        """Its table's writer says: no record of this group lies in ``(tail_lsn, vdl]``.

        So none in there is missing. What damage has taken and the table annuls leaves a bound at
        the VDL of that recovery, and that may be a record of another group.
        """
        if tail_lsn < self._repair_lsn <= vdl:
            self._repair_lsn = tail_lsn

    def add_run(self, run: Run) -> None:
        """Take in records that are durable here; what the adopted table annuls is left out."""
        if run.lsns[0] > self.table.last_annulled_lsn:
            self.index.insert_run(run)
        else:
            self.index.insert_survivors(run, self.table)

    def adopt_table(self, table: TruncationTable) -> None:
        """Replace the table by one of a higher epoch, and drop what it annuls (§8).

        What the writer before announced as its floor is forgotten: its successor may have readers
        below that, as it knows only what three segments had collected. So is what was collected
        here for it, which would spread by gossip. And an older copy that adopts a table was
        accepted as it is.
        """
        if table.epoch <= self.table.epoch:
            return
        self.lost = None
        if table.settled > self.table.epoch:
            self._drop_doubtful()
        self.table = table.with_settled(self.table.settled)
        self.announced_floor = 0
        self.raise_epoch(table.epoch)
        before = self.index.scl
        self.mended(lambda: self.index.truncate(table))
        if self.index.scl < before:
            self.materializer.drop_above(self.index.scl)
        self._repair_lsn = table.survivor(self._repair_lsn)

    def _drop_doubtful(self) -> None:
        """Drop all records that are in no page image yet: peers have to bring them again.

        A table that was adopted here is gone with a spoilt frame. What it annulled may be here
        still, and a later table does not name it any more if that one was settled.
        """
        self._repair_lsn = self.highest_lsn
        self.index.drop_records()
        self.materializer.drop_above(self.index.scl)

    def damaged(self, layer: int) -> None:
        """The layer with this number is not what was written: what it holds must not be used."""
        self.mended(lambda: self.materializer.set_layers(self.layers.with_damage(layer)))

    def use_layers(self, layers: LayerMap) -> None:
        """``layers`` are live from now on: what they hold leaves the log.

        They reach as far up as those before, or further: to a record of the chain at or below the
        announced VDL, which was folded here or, above the SCL, at a peer.
        """
        assert self.folded <= layers.folded <= self.vdl, (self.folded, layers.folded, self.vdl)
        self.mended(lambda: self.materializer.set_layers(layers))  # before the index lets go
        if layers.folded > self.scl:
            self.index.reset(layers.folded)
        elif layers.folded > self.index.base_lsn:
            self.index.collect(layers.folded)

    # ---- pages of records that came in -----------------------------------------------------------

    def is_behind(self, through: Lsn) -> bool:
        """Whether it takes long to learn the pages of all records up to ``through``.

        So it is after a restart from a long log: it is read, and looked into when there is time.
        """
        return self.index.unseen(through) > 2 * _LEARNED_AT_ONCE

    def learn_more(self) -> bool:
        """Learn the pages of some records: a step of some milliseconds; False if none are left."""
        return self.mended(
            lambda: (
                self.index.look_into_more() > 0
                or self.materializer.list_new_pages(_LEARNED_AT_ONCE)
            )
        )

    def learn_in_time(self) -> None:
        """At each tick: learn the pages of some records, ahead of the reads that need it.

        While more keep coming it waits a little for a good many, as each batch moves those before.
        """
        quiet = self._scl_before in (None, self.scl)
        self._scl_before = self.scl
        self._waited += 1
        many = self.index.unseen(self.scl) >= _LEARNED_AT_ONCE
        if quiet or many or self._waited >= _MOST_TICKS:
            self._waited = 0
            self.learn_more()

    # ---- runs that no writer makes ---------------------------------------------------------------

    @property
    def spoilt_runs(self) -> int:
        """How many runs were left out or dropped because of impossible rows."""
        return self.index.spoilt_runs

    def mended(self, action: Callable[[], T]) -> T:
        """What ``action`` returns, which changes nothing as long as it meets a spoilt run."""
        while True:
            try:
                return action()
            except SpoiltRun as spoilt:
                self.give_up(spoilt)

    def give_up(self, spoilt: SpoiltRun) -> None:
        """Drop a run whose rows are impossible, as if the disk had spoilt it.

        It was acknowledged unseen. So this segment is not `whole` until peers have brought what
        stood there, and all that was linked behind it.
        """
        before = self.scl
        if self.index.drop_run(spoilt):
            self._repair_lsn = max(self._repair_lsn, before)
            self._gave_up = True
            self.materializer.drop_above(self.scl)

    def pages_at_most(self) -> int:
        """So many pages are known here, and a few more may be in records that came just now."""
        return self.materializer.page_count() + len(self.index)

    # ---- the log ---------------------------------------------------------------------------------

    def head(self) -> HeadEntry:
        """What a file of the log begins with, so that those before it may go."""
        return HeadEntry(self.epoch, self.table, self.vdl, self.announced_floor)

    def head_frame(self) -> FrameBody:
        """The first frame of a file of the log."""
        return self._first_frame([MarksEntry(*each) for each in self.heard.all])

    def _first_frame(self, marks: list[MarksEntry]) -> FrameBody:
        lost = [] if self.lost is None else [LostEntry(self.lost)]  # behind the table it is under
        return encode_body(self.epoch, [HeldEntry(self.highest_lsn), *marks, self.head(), *lost])

    def log_frames(self) -> Iterator[tuple[FrameBody, Lsn]]:
        """Frames of a log that, with the layers, restores this state; with the highest LSN in each.

        Each is made when it is asked for: what is folded or comes in meanwhile may be among them or
        not. If a table is adopted meanwhile, they are of no use. However much comes, they end.

        What was heard is not in them. They stand before a file that begins with all of that, and
        go before it: news in them would be there at one restart, and gone at the next.
        """
        limit, after, last = self._config.gossip_bytes, self.folded, self.highest_lsn
        yield self._first_frame([]), 0
        while after < last and (run := self.index.runs_after(max(after, self.folded), limit)):
            after = last_lsn_of(run)
            yield self._records_frame(run), after
        for run in self.index.waiting_runs(limit):
            yield self._records_frame(run), last_lsn_of(run)

    def _records_frame(self, run: bytes) -> FrameBody:
        held = HeldEntry(self.highest_lsn)
        return encode_body(self.epoch, [held, RecordsEntry(self.vdl, 0, run)])

    def live_bytes(self) -> int:
        """About how large the log would be if it were written anew: two files with a head each."""
        return self.index.encoded_bytes() + 2 * self.head_frame().frame_bytes + 4096
