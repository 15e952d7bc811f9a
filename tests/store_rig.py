"""A segment core on files in memory, driven by hand: no tasks, no clock, no network.

What a shell does with a `Write` and with the operations of a job is done here in the dumbest way,
one at a time, and so can end at each of them; and `MemoryDisk.crashed` is what a crash leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, TypeVar

from segments.config import SegmentConfig
from segments.core import Outgoing, SegmentCore, Write
from segments.layers.job import (
    Create,
    Delete,
    Extend,
    Job,
    Op,
    Read,
    Republish,
    SyncFile,
    SyncNames,
    Wait,
)
from segments.live_files import LiveFiles
from segments.manifest import MANIFEST, PROMISE, Manifest, encode_manifest, filled, log_in
from segments.protocol import codec
from segments.protocol.errors import StorageFailed
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
from segments.restart import RestartPlan, format_files, plan_restart
from segments.state import SegmentState
from segments.wal import FrameBody
from tests.files_on_disks import scanned

MEMBERS = tuple(f"{letter}0" for letter in "ABCDEF")
FIRST = VolumeEpoch(1, 7)
SECOND = VolumeEpoch(2, 9)
THIRD = VolumeEpoch(3, 8)
TINY = SegmentConfig(
    wal_file_bytes=1 << 10, fold_bytes=1 << 10, block_bytes=1 << 8, fan_out=2, image_interval=4,
    collect_ratio=0.05, compact_bytes=1 << 40, gossip_bytes=1 << 10, scrub_bytes=4 << 10,
    scrub_interval_s=0.1,
)  # fmt: skip
"""Every boundary is met by a few dozen records; the log is never too long."""

M = TypeVar("M", bound=Message)


def records(
    lsns: Iterable[Lsn],
    *,
    prev: Lsn = 0,
    pages: int = 3,
    after: Iterable[RedoRecord] = (),
    size: int = 0,
) -> list[RedoRecord]:
    """A chain of one-record MTRs at ``lsns``, on ``pages`` pages in turn, after ``prev``.

    A payload is the LSN in digits, and dots up to ``size`` bytes.
    """
    heads = {record.page_id: record.lsn for record in after}
    made = []
    for lsn in lsns:
        page_id = lsn % pages
        payload = (b"%d" % lsn).ljust(size, b".")
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
    """What the writer of ``epoch`` sends."""
    return WriteBatch(epoch, seq, vdl, floor, tail, settled, encode_run(list(run)))


class MemoryDisk:
    """Files, which of them are durable, and what was done to them."""

    def __init__(self, files: Mapping[str, bytes | bytearray]) -> None:
        self.files = {name: bytearray(data) for name, data in files.items()}
        self.asked: list[str] = []
        """Operations, as words, in their order."""
        self.refuse: Callable[[str], bool] = lambda _: False
        """Whether an operation is refused."""
        self._unsynced: set[str] = set()
        self._unnamed: set[str] = set()
        self._deleted: dict[str, bytearray] = {}

    def _take(self, operation: str, *about: str) -> None:
        words = " ".join([operation, *about])
        self.asked.append(words)
        if self.refuse(words):
            raise StorageFailed(f"{words}: no")

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Bytes of a file as it is now."""
        return bytes(self.files.get(name, b"")[offset : offset + length])

    def append(self, name: str, data: bytes) -> None:
        """Durable at once."""
        assert name not in self._unsynced
        self._take("append", name)
        self.files[name] += data

    def create(self, name: str) -> None:
        """A name that is not durable, of a file that is not."""
        self._take("create", name)
        assert name not in self.files and name not in self._deleted, f"{name} comes again"
        self.files[name] = bytearray()
        self._unsynced.add(name)
        self._unnamed.add(name)

    def extend(self, name: str, data: bytes) -> None:
        """At the end of a file that is not synced."""
        assert name in self._unsynced, f"{name} is extended, and was synced"
        try:
            self._take("extend", name)
        except StorageFailed:
            self.delete([name], told=False)
            raise
        self.files[name] += data

    def sync_file(self, name: str) -> None:
        """Its bytes are durable."""
        try:
            self._take("sync", name)
        except StorageFailed:
            self.delete([name], told=False)
            raise
        self._unsynced.discard(name)

    def sync_names(self) -> None:
        """All names are durable, and all deletions."""
        self._take("sync names")
        self._unnamed.clear()
        self._deleted.clear()

    def publish(self, name: str, data: bytes) -> None:
        """Replaced, durably; other names are as durable as they were."""
        self._take("publish", name)
        self.files[name] = bytearray(data)

    def delete(self, names: Iterable[str], *, told: bool = True) -> None:
        """Gone, perhaps."""
        names = list(names)
        if told:
            self.asked.append(" ".join(["delete", *names]))
        for name in names:
            if name in self.files:
                self._deleted[name] = self.files.pop(name)

    def crashed(self, random: Random) -> dict[str, bytes]:
        """What a crash leaves now: any part of what was not durable."""
        left = {name: bytes(data) for name, data in self.files.items()}
        for name in sorted(self._unsynced & left.keys()):
            data = left[name]
            cut = data[: random.randint(0, len(data))]
            hole = random.randint(0, len(cut))
            left[name] = bytes(hole) + cut[hole:] if random.random() < 0.5 else cut
        for name in sorted(self._unnamed & left.keys()):
            if random.random() < 0.5:
                del left[name]
        for name, gone in self._deleted.items():
            if random.random() < 0.5:
                left[name] = bytes(gone)
        return left


class StoreRig:
    """One segment: what is sent to it, what its disk does, what it says."""

    def __init__(
        self,
        segment: str = "A0",
        config: SegmentConfig = TINY,
        files: Mapping[str, bytes | bytearray] | None = None,
        *,
        accepts_rollback: bool = False,
    ) -> None:
        """A new segment, or one that restarts from ``files``."""
        self.segment = segment
        self.config = config
        self.accepts_rollback = accepts_rollback
        self.events: list[object] = []
        self.random = Random(1)
        self.disk = MemoryDisk(format_files(FIRST, 7) if files is None else files)
        self.core = self._start()

    # ---- its life --------------------------------------------------------------------------------

    def _start(self) -> SegmentCore:
        plan: RestartPlan = plan_restart(
            self.segment, self.disk.files, self.config, accepts_rollback=self.accepts_rollback
        )
        self.plan = plan
        last = plan.files.last_log
        del self.disk.files[last.name][last.length :]
        if plan.promise is not None:
            self.disk.files[PROMISE] = bytearray(plan.promise * 2)
        for name in plan.leftovers:
            del self.disk.files[name]
        group = self.segment[1:]
        members = [member[0] + group for member in MEMBERS]
        peers = tuple(each for each in members if each != self.segment)
        self.job: Job[None] | None = None
        self._answer: object = None
        return SegmentCore(
            self.segment, int(group), peers, plan.state, plan.files, self.config, self.random,
            accepts_rollback=self.accepts_rollback,
            trace=lambda _, event: self.events.append(event),
        )  # fmt: skip

    def restart(self, files: Mapping[str, bytes | bytearray] | None = None) -> None:
        """Crash, and come back with what the disk holds: all there is, or ``files``."""
        self.disk = MemoryDisk(self.disk.files if files is None else files)
        self.core = self._start()

    # ---- writes ----------------------------------------------------------------------------------

    def store(self, write: Write, *, promise: bool = True, torn: int | None = None) -> None:
        """What a shell and a disk make of a write.

        ``torn`` bytes of a frame, or all of it and no promise, if it crashes then.
        """
        if write.new_file:
            self._begin_file([self.state.head_frame()], 0)
        if write.append is not None:
            last, size = self.files.last_log, write.append.frame_bytes
            if last.length + size > self.config.wal_file_bytes:
                if torn is not None:
                    self.disk.create(f"wal-{self.files.take_number()}")  # nobody knows of it
                    return
                self._begin_file([self.state.head_frame(), write.append], write.top)
            else:
                self.disk.append(last.name, write.append.at(last.salt, last.length)[:torn])
                if torn is not None:
                    return
                self.files.appended(size, write.top)
        if write.promise is not None and promise:
            self.disk.files[PROMISE] = bytearray(write.promise * 2)

    def _begin_file(self, bodies: list[FrameBody], top: Lsn) -> None:
        file, frames = filled(self.files.new_log(self.random), bodies)
        self.disk.create(file.name)
        for frame in frames:
            self.disk.extend(file.name, frame)
        self.disk.sync_file(file.name)
        self.disk.sync_names()
        self._republish(
            lambda manifest: manifest._replace(logs=(*manifest.logs, file)), {file.number: top}
        )

    def _republish(self, edit: Callable[[Manifest], Manifest], tops: Mapping[int, Lsn]) -> None:
        self.disk.publish(MANIFEST, encode_manifest(self.files.edited(edit)))
        self.files.republished(edit, tops)

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

    # ---- jobs ------------------------------------------------------------------------------------

    def operate(self, op: Op | None) -> bytes | None:
        """One operation of a job, as a shell does it."""
        match op:
            case Read(name, offset, length):
                return self.disk.read(name, offset, length)
            case Create(name):
                self.disk.create(name)
            case Extend(name, data):
                self.disk.extend(name, data)
            case SyncFile(name):
                self.disk.sync_file(name)
            case SyncNames():
                self.disk.sync_names()
            case Republish(edit, tops):
                self._republish(edit, tops)
            case Delete(names):
                self.disk.delete(names)
            case Wait() | None:
                pass
        return None

    def take_job(self, now: float = 0.0) -> bool:
        """Begin the job that is due; returns whether there is one under way."""
        if self.job is None:
            self.job, self._answer = self.core.background.take_job(now), None
        return self.job is not None

    def step_job(self) -> Op | None:
        """One operation of the job under way, done; None of a pause, and at its end.

        Raises `StorageFailed` if the job ends with it.
        """
        assert self.job is not None
        try:
            op: Op | None = (
                self.job.throw(self._answer)
                if isinstance(self._answer, Exception)
                else self.job.send(self._answer)
            )
        except StopIteration:
            self.job = None
            return None
        except BaseException:
            self.job = None
            raise
        try:
            self._answer = self.operate(op)
        except StorageFailed as error:
            self._answer = error
        return op

    def work(self, now: float = 0.0, *, jobs: int = 1_000) -> int:
        """Do what is due in the background, writes as well, until nothing is; how many jobs."""
        done = 0
        while done < jobs and self.take_job(now):
            while self.job is not None:
                if isinstance(self.step_job(), Wait):
                    assert self.write(), "a job waits for ever"
            done += 1
        self.job = None
        return done

    def work_on(self, now: float = 0.0) -> None:
        """Do what is due in the background, writes as well, until nothing is or a peer must act."""
        while self.take_job(now):
            while self.job is not None:
                if isinstance(self.step_job(), Wait) and not self.write():
                    return

    def some_steps(self, random: Random, now: float) -> None:
        """Do a few steps of the job that is due or under way, and perhaps not all."""
        self.take_job(now)
        for _ in range(random.randint(1, 12)):
            if self.job is not None:
                self.step_job()

    def answers(self) -> list[Outgoing]:
        """What is said, questions that need the disk among it."""
        for query in self.core.take_queries():
            self.run(query)
        return self.core.take_sends()

    def run(self, job: Job[Any]) -> Any:
        """The result of a job, whose operations are done."""
        answer: object = None
        while True:
            try:
                op = job.send(answer)
            except StopIteration as end:
                return end.value
            answer = self.operate(op)

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
        sends = [*self.settle(), *self.answers()]
        return [each.message for each in sends if isinstance(each.message, kind)]

    def take(
        self, run: Iterable[RedoRecord], epoch: VolumeEpoch = FIRST, vdl: Lsn = 0, floor: Lsn = 0
    ) -> Lsn:
        """Have the segment store records; returns the SCL it acknowledges."""
        [ack] = self.ask(batch(run, epoch=epoch, vdl=vdl, floor=floor), WriteAck)
        return ack.scl

    def seal(self, epoch: VolumeEpoch) -> SealReply | None:
        """Its reply, if it is a witness."""
        replies = self.ask(Seal(epoch, 1), SealReply)
        return replies[0] if replies else None

    def install(self, table: TruncationTable) -> TableInstalled:
        """Have it adopt a table."""
        [installed] = self.ask(InstallTable(table.epoch, 1, table), TableInstalled)
        return installed

    # ---- what it is ------------------------------------------------------------------------------

    @property
    def state(self) -> SegmentState:
        """What it durably holds."""
        return self.core.state

    @property
    def files(self) -> LiveFiles:
        """Its live files."""
        return self.core.files

    @property
    def log(self) -> bytes:
        """All files of its log, one after the other."""
        return log_in(self.disk.files).log

    def rot(self, at: int) -> None:
        """Flip a bit of byte ``at`` of `log`, on the disk."""
        for name, length in ((each.name, each.length) for each in log_in(self.disk.files).files):
            if at < length:
                self.disk.files[name][at] ^= 1
                return
            at -= length
        raise AssertionError("the log ends before that")

    def rot_frame(self, nth: int) -> None:
        """Flip a bit of the body of a frame of `log`, counted from 0."""
        self.rot(scanned(self.disk.files).frames[nth].start + 30)

    @property
    def names(self) -> list[str]:
        """The files with numbers that are there."""
        return sorted(each for each in self.disk.files if each not in (MANIFEST, PROMISE))

    def page(self, page_id: int, read_point: Lsn) -> PageImage:
        """A page as the files and the log say."""
        return self.state.materializer.read_now(page_id, read_point, self.disk.read)

    def read(self, page_id: int, read_point: Lsn) -> bytes:
        """A page as reads see it, by all caches, without the zeros that end it."""
        image: bytes = self.run(self.state.materializer.read_job(page_id, read_point))
        return image


def collected(rig: StoreRig, run: Sequence[RedoRecord], floor: Lsn) -> None:
    """Have ``run``, all announced, from its start on: up to ``floor`` in a base, above in the log.

    What is to be in the base must be enough for a fold and a collection, and the rest too little.
    """
    for upto, floor_then in ((floor, 0), (run[-1].lsn, floor)):
        lacking = [each for each in run if rig.state.scl < each.lsn <= upto]
        rig.ask(batch(lacking, vdl=floor, floor=floor_then), WriteAck)
        rig.work()
    rig.ask(batch([], vdl=run[-1].lsn), WriteAck)
    state = rig.state
    assert (state.floor, state.folded, state.scl) == (floor, floor, run[-1].lsn)


def durable(rig: StoreRig) -> tuple[object, ...]:
    """All that must be the same after a restart: promises, table, records, pages at the SCL."""
    state = rig.state
    pages, _ = state.materializer.existing_pages(0, 1 << 60, state.scl, 1 << 30)
    held = [each.lsn for each in state.index.held() if each.lsn > state.scl]
    return (
        state.epoch, state.table, state.whole, state.scl, state.highest_lsn, held, pages,
        [rig.page(each, state.scl) for each in pages],
    )  # fmt: skip


def crashes(rig: StoreRig, seeds: int = 4) -> Iterator[StoreRig]:
    """Segments that come back with what crashes leave of the disk as it is now."""
    for seed in range(seeds):
        yield StoreRig(rig.segment, rig.config, rig.disk.crashed(Random(seed)))
