"""What a segment durably holds, and how each entry of its log changes it.

The same functions serve a running segment, which applies an entry once it is on disk, and a
restart, which applies all of them again: there is one meaning of the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from segments.chain_index import ChainIndex
from segments.config import SegmentConfig
from segments.materializer import Materializer
from segments.protocol.heard import Heard, HeardMarks, Mark, is_rolled_back
from segments.protocol.ids import NO_EPOCH, Lsn, SegmentId, VolumeEpoch
from segments.protocol.messages import PageImage, SealReply
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import encode_run, read_records, read_run
from segments.protocol.truncation import TruncationTable
from segments.steps import Pace, Steps, finished
from segments.wal import (
    CheckpointEntry,
    Entry,
    Frame,
    HeldEntry,
    ImagesEntry,
    LogScan,
    LostEntry,
    MarksEntry,
    Promise,
    RecordsEntry,
    SealEntry,
    SettledEntry,
    TableEntry,
    encode_frame,
    encode_promise,
)

_RUN_RECORDS: Final = 1_024
"""Most records in one frame of a checkpoint."""
_STEP_PAGES: Final = 256
"""Page images installed in one step."""


def format_log(epoch: VolumeEpoch) -> tuple[bytes, bytes]:
    """Log and promise of a segment of a new volume, whose first writer has ``epoch``."""
    table = TruncationTable(epoch)
    promise = encode_promise(Promise(epoch, table.epoch))
    return encode_frame(epoch, [TableEntry(0, table)]), promise


class SegmentState:
    """One segment's epoch, truncation table, records and pages."""

    def __init__(self, config: SegmentConfig) -> None:
        self._config = config
        self.index = ChainIndex(max_unlinked=config.unlinked_limit)
        self.materializer = Materializer(
            self.index,
            image_interval=config.image_interval,
            image_cache_bytes=config.image_cache_bytes,
        )
        self.epoch = NO_EPOCH
        """Highest epoch sealed or taken over; never goes down."""
        self.table = TruncationTable()
        """The adopted table; its epoch is at most ``epoch``."""
        self.vdl: Lsn = 0
        """Highest VDL a writer has announced."""
        self.announced_floor: Lsn = 0
        """Highest PGMRPL that the writer of the adopted table has announced; 0: none yet."""
        self.floor: Lsn = 0
        """Oldest read point that is served: the announced floor of the last collection. Readers of
        a later writer may be below it, and are served by others: no peer is told of it."""
        self.heard = HeardMarks()
        """What was heard of the other members; what is not written down yet is no less true."""
        self.lost: str | None = None
        """Why this is an older copy of the disk, as the segment had found out once."""
        self._promised_table = NO_EPOCH
        self._repair_lsn: Lsn = 0
        self._checkpoint: _CheckpointReader | None = None

    # ---- restart ---------------------------------------------------------------------------------

    @classmethod
    def restore_steps(
        cls, config: SegmentConfig, scan: LogScan, promise: Promise
    ) -> Steps[SegmentState]:
        """The state that a log with a sound frame and the promise beside it stand for.

        After damage in the middle of the log the segment is not `whole`: records, or a table, that
        it once acknowledged may be missing.
        """
        state = cls(config)
        state.epoch = promise.epoch
        state._promised_table = promise.table_epoch
        pace = Pace()
        end = 0
        for start, next_end, frame in scan.frames:
            if start != end:
                state._checkpoint = None  # its next parts may be those of another one
            end = next_end
            state.raise_epoch(frame.epoch)
            for entry in frame.entries:
                yield from state.apply_steps(entry)
                if pace.ends_step(len(entry.records) if type(entry) is RecordsEntry else 1):
                    yield
        if scan.damage:
            highest = yield from _highest_ever_held(scan)
            state._repair_lsn = state.table.survivor(highest)
        state._checkpoint = None
        state.heard.take_unwritten()  # all of it comes from there
        return state

    @property
    def scl(self) -> Lsn:
        """Highest LSN, inclusive, up to which every record of the chain is held."""
        return self.index.scl

    @property
    def whole(self) -> bool:
        """Whether everything this segment ever acknowledged is here; else it is no witness (§8)."""
        return self.index.scl >= self._repair_lsn and not self.lacks_table

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
            epoch,
            segment,
            request_id,
            self.scl,
            self.vdl,
            floor,
            self.table,
            self.heard.all,
        )

    # ---- one entry -------------------------------------------------------------------------------

    def apply_frame(self, frame: Frame) -> None:
        """Take in all that one durable frame says, at once."""
        self.raise_epoch(frame.epoch)
        for entry in frame.entries:
            finished(self.apply_steps(entry))

    def raise_epoch(self, epoch: VolumeEpoch) -> None:
        """Accept nothing below ``epoch`` any more; a lower one changes nothing."""
        if epoch > self.epoch:
            self.epoch = epoch

    def apply_steps(self, entry: Entry, records: Sequence[RedoRecord] | None = None) -> Steps[None]:
        """Take in one durable entry; a checkpoint once all its parts are there.

        ``records`` is what a `RecordsEntry` encodes, if the caller has it decoded already. Between
        two steps nothing else may change the state, or read more of it than its watermarks.
        """
        match entry:
            case RecordsEntry():
                self.announced(entry.vdl, entry.floor)
                if records is None:
                    records = read_records(entry.records)
                self.add_records(records)
            case SealEntry():
                self.raise_epoch(entry.epoch)
            case TableEntry():
                self.announced(entry.vdl, 0)
                self.adopt_table(entry.table)
            case SettledEntry():
                self.table = self.table.with_settled(entry.epoch)
            case CheckpointEntry():
                self._checkpoint = _CheckpointReader(entry)
            case ImagesEntry():
                self._apply_images(entry)
            case MarksEntry(epoch, scls):
                self.heard.hear_all((Heard(epoch, scls),), scls)
            case LostEntry(why):
                self.lost = why
            case HeldEntry():
                pass  # only `restore` asks, after damage
        if self._checkpoint is not None and self._checkpoint.complete:
            head, pages = self._checkpoint.head, self._checkpoint.pages
            self._checkpoint = None
            self.raise_epoch(head.epoch)
            self.adopt_table(head.table)
            self.announced(head.vdl, 0)
            if head.base_lsn >= self.scl:
                yield from self._hydrate(head.base_lsn, pages, head.floor)

    def _apply_images(self, entry: ImagesEntry) -> None:
        if self._checkpoint is not None and self._checkpoint.head.base_lsn == entry.base_lsn:
            self._checkpoint.add(entry)

    def announced(self, vdl: Lsn, floor: Lsn) -> None:
        """Remember what a writer said; neither ever goes back."""
        if vdl > self.vdl:
            self.vdl = vdl
        if floor > self.announced_floor:
            self.announced_floor = floor

    def ends_at(self, tail_lsn: Lsn, vdl: Lsn) -> None:
        """Its table's writer says: no record of this group lies in ``(tail_lsn, vdl]``.

        So none in there is missing. What damage has taken and the table annuls leaves a bound at
        the VDL of that recovery, and that may be a record of another group.
        """
        if tail_lsn < self._repair_lsn <= vdl:
            self._repair_lsn = tail_lsn

    def add_records(self, records: Sequence[RedoRecord]) -> None:
        """Take in records that are durable here; what the adopted table annuls is left out."""
        if records and records[0].lsn <= self.table.last_annulled_lsn:
            annuls = self.table.annuls
            records = [each for each in records if not annuls(each.lsn)]
        self.index.insert(records)

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
        self.index.truncate(table)
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

    def _hydrate(self, base_lsn: Lsn, pages: Sequence[PageImage], floor: Lsn) -> Steps[None]:
        """Start over from page images as of ``base_lsn``; records above it stay."""
        for at in range(0, len(pages), _STEP_PAGES):
            if at:
                yield
            self.materializer.install(pages[at : at + _STEP_PAGES])
        self.index.reset(base_lsn)
        self.floor = max(self.floor, floor, base_lsn)

    def collect(self, up_to: Lsn) -> int:
        """Fold records <= ``up_to`` into page images and drop them; returns how many went.

        ``up_to`` is at most the announced VDL and the announced floor: the newest version at or
        below it stays readable.
        """
        assert up_to <= min(self.vdl, self.announced_floor), (up_to, self.vdl, self.announced_floor)
        self.materializer.fold(up_to)
        removed = self.index.collect(up_to)
        self.floor = max(self.floor, up_to)
        return len(removed)

    # ---- the log, written anew -------------------------------------------------------------------

    def checkpoint_frames(self) -> Iterator[bytes]:
        """The shortest log that restores this state, as of the call, frame by frame.

        Each is made when it is asked for, so that a large checkpoint neither takes its size in
        memory nor holds anyone up. Meanwhile no entry may be applied, and nothing collected.
        """
        held, limit = HeldEntry(self.highest_lsn), self._config.gossip_bytes
        per_part = max(1, limit // PAGE_SIZE)
        parts = -(-self.materializer.base_count // per_part)
        head = CheckpointEntry(
            self.epoch, self.table, self.vdl, self.floor, self.index.base_lsn, parts
        )
        marks = [MarksEntry(*each) for each in self.heard.all]
        yield encode_frame(head.epoch, [held, *marks, head])
        pages = self.materializer.base_images()
        while part := tuple(islice(pages, per_part)):
            yield encode_frame(head.epoch, [held, ImagesEntry(head.base_lsn, part)])
        for records in self.index.held_in_runs(_RUN_RECORDS, limit):
            run = RecordsEntry(head.vdl, 0, encode_run(records))
            yield encode_frame(head.epoch, [held, run])
        assert (head.base_lsn, held.highest_lsn) == (self.index.base_lsn, self.highest_lsn)

    def live_bytes(self) -> int:
        """About how large the log would be if it were written anew."""
        return self.materializer.base_bytes() + self.index.encoded_bytes() + 4096


def _highest_ever_held(scan: LogScan) -> Steps[Lsn]:
    """The highest LSN that a segment can have acknowledged whose log is spoilt in places.

    Every frame says what was held before it, and its own entries may have added to that.
    """
    highest = 0
    pace = Pace()
    for scanned in scan.frames:
        for entry in scanned.frame.entries:
            match entry:
                case HeldEntry():
                    highest = entry.highest_lsn
                case RecordsEntry():
                    highest = max(highest, read_run(entry.records).last_lsn)
                    if pace.ends_step(len(entry.records)):
                        yield
                case TableEntry():
                    highest = entry.table.survivor(highest)
                case ImagesEntry():
                    highest = max(highest, entry.base_lsn)
    return highest


class _CheckpointReader:
    """Gathers the parts of a checkpoint, so that a damaged one is never taken for a whole one."""

    def __init__(self, head: CheckpointEntry) -> None:
        self.head = head
        self.pages: list[PageImage] = []
        self._missing = head.parts

    @property
    def complete(self) -> bool:
        return self._missing == 0

    def add(self, entry: ImagesEntry) -> None:
        self.pages.extend(entry.pages)
        self._missing -= 1
