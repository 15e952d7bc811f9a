"""A segment core on a disk of two byte strings, driven by hand: no tasks, no clock, no network."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import TypeVar

from segments.config import SegmentConfig
from segments.core import Outgoing, SegmentCore, Write
from segments.manifest import Stored
from segments.protocol import codec
from segments.protocol.ids import MAX_LSN, Lsn, VolumeEpoch
from segments.protocol.messages import (
    InstallTable,
    Message,
    PageImage,
    Seal,
    SealReply,
    TableInstalled,
    WriteAck,
    WriteBatch,
)
from segments.protocol.record import RedoRecord
from segments.protocol.run import encode_run
from segments.protocol.truncation import TruncationTable
from segments.restart import plan_restart
from segments.state import SegmentState, format_log

MEMBERS = tuple(f"{letter}0" for letter in "ABCDEF")
FIRST = VolumeEpoch(1, 7)
SECOND = VolumeEpoch(2, 9)
THIRD = VolumeEpoch(3, 8)

M = TypeVar("M", bound=Message)


def records(
    lsns: Iterable[Lsn], *, prev: Lsn = 0, pages: int = 3, after: Iterable[RedoRecord] = ()
) -> list[RedoRecord]:
    """A chain of one-record MTRs at ``lsns``, on ``pages`` pages in turn, after ``prev``."""
    heads = {record.page_id: record.lsn for record in after}
    made = []
    for lsn in lsns:
        page_id = lsn % pages
        payload = b"%d" % lsn
        head = heads.get(page_id, 0)
        made.append(RedoRecord(lsn, page_id, 0, payload, lsn, True, prev, prev, head))
        prev = heads[page_id] = lsn
    return made


def batch(
    run: Iterable[RedoRecord],
    *,
    epoch: VolumeEpoch = FIRST,
    seq: int = 1,
    vdl: Lsn = 0,
    floor: Lsn = 0,
    tail: Lsn = MAX_LSN,
    settled: bool = False,
) -> WriteBatch:
    return WriteBatch(epoch, seq, vdl, floor, tail, settled, encode_run(list(run)))


class SegmentRig:
    """One segment: what is sent to it, what its disk does, what it says."""

    def __init__(self, segment: str = "A0", config: SegmentConfig | None = None) -> None:
        self.segment = segment
        self.config = config or SegmentConfig()
        log, promise = format_log(FIRST)
        self.log = bytearray(log)
        self.promises = promise * 2
        self.core = self._start()

    # ---- its life --------------------------------------------------------------------------------

    def _start(self) -> SegmentCore:
        stored = Stored(bytes(self.log), self.promises)
        plan = plan_restart(self.segment, stored, self.config)
        del self.log[plan.log_bytes :]
        group = self.segment[1:]
        members = [member[0] + group for member in MEMBERS]
        peers = tuple(each for each in members if each != self.segment)
        return SegmentCore(
            self.segment, int(group), peers, plan.state, self.config, Random(1),
            log_bytes=plan.log_bytes,
        )  # fmt: skip

    def restart(self) -> None:
        """Crash, and come back with what the disk holds."""
        self.core = self._start()

    def store(self, write: Write, *, promise: bool = True, torn: int | None = None) -> None:
        """What a disk makes of a write; ``torn`` bytes of a frame, or no promise, if it crashes."""
        if write.replace is not None:
            self.log = bytearray(b"".join(write.replace))
            return
        self.log += write.append[:torn]
        if write.promise is not None and promise and torn is None:
            self.promises = write.promise * 2

    def write(self) -> bool:
        """One write cycle; returns whether there was anything to write."""
        write = self.core.take_write()
        if write is None:
            return False
        self.store(write)
        self.core.wrote()
        while self.core.applying:
            self.core.apply_more()
        return True

    def settle(self) -> list[Outgoing]:
        """Write all there is; returns all that was said meanwhile."""
        while self.write():
            pass
        return self.core.take_sends()

    # ---- talking to it ---------------------------------------------------------------------------

    def step(self, message: Message, source: str = "writer", now: float = 0.0) -> None:
        """One message, as it is after a network: encoded and decoded."""
        self.core.step(source, codec.decode(codec.encode(message)), now)

    def said(self, kind: type[M]) -> list[M]:
        """The messages of a kind that have left since the last call; others are forgotten."""
        return [each.message for each in self.core.take_sends() if isinstance(each.message, kind)]

    def ask(self, message: Message, kind: type[M], source: str = "writer") -> list[M]:
        """Send, let the disk work, and return the answers of a kind."""
        self.step(message, source)
        sends = self.settle()
        return [each.message for each in sends if isinstance(each.message, kind)]

    def take(self, run: Iterable[RedoRecord], epoch: VolumeEpoch = FIRST, vdl: Lsn = 0) -> Lsn:
        """Have the segment store records; returns the SCL it acknowledges."""
        [ack] = self.ask(batch(run, epoch=epoch, vdl=vdl), WriteAck)
        return ack.scl

    def seal(self, epoch: VolumeEpoch) -> SealReply | None:
        replies = self.ask(Seal(epoch, 1), SealReply)
        return replies[0] if replies else None

    def install(self, table: TruncationTable) -> TableInstalled:
        [installed] = self.ask(InstallTable(table.epoch, 1, table), TableInstalled)
        return installed

    # ---- what it is ------------------------------------------------------------------------------

    @property
    def state(self) -> SegmentState:
        return self.core.state


def durable(state: SegmentState) -> tuple[object, ...]:
    """All that must be the same after a restart: promises, table, records, pages at the SCL."""
    pages = {record.page_id for record in state.index.held()}
    pages.update(page.page_id for page in state.materializer.base_images())
    return (state.epoch, state.table, state.scl, state.index.highest_lsn, _pages(state, pages))


def _pages(state: SegmentState, page_ids: Iterable[int]) -> list[PageImage]:
    return [state.materializer.materialize(each, state.scl) for each in sorted(page_ids)]
