"""A disk in virtual time that crashes, tears, rots, fills up, fails and gets lost.

What is synced stays, whatever happens to the process; what is being written when it crashes, and
which names are there then, is drawn (`sim.world.torn`, `sim.world.platter`).

(More than 400 lines: all that can become of one disk, over one state.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Final, TypeAlias

import attrs
import trio

from segments.manifest import (
    MANIFEST,
    PROMISE,
    LayerFile,
    LogFile,
    Manifest,
    decode_manifest,
    encode_manifest,
    with_length,
)
from segments.protocol.errors import (
    Invalid,
    SegmentLost,
    StorageBroken,
    StorageFailed,
)
from segments.storage import (
    Ended,
    Identity,
    absent,
    check_extent,
    check_length,
    check_new,
    check_synced,
)
from segments.wal import NO_PROMISE, PROMISE_BYTES, encode_promise
from sim.plan.profiles import DiskProfile, exponential
from sim.world import ambush as kinds
from sim.world import torn
from sim.world.ambush import ANY, Ambush, is_of
from sim.world.platter import Platter
from sim.world.refusals import Refusals
from sim.world.rewriting import RewritingBound
from sim.world.scheduler import Handle, VirtualScheduler

_SLOTS: Final = 2
_CHUNKS: Final = 8  # of a new file are made in the time of a write
_Plan: TypeAlias = tuple[str, int, Callable[[], object], Callable[[], object]]
"""Of a write: its kind, the bytes it needs, what makes it so, what a crash amid it leaves."""


@attrs.define(eq=False)
class _Write:
    """One operation that is not durable yet."""

    kind: str
    apply: Callable[[], object]
    """Makes it so."""
    interrupt: Callable[[], object]
    """Leaves what a crash in the middle leaves."""
    failure: StorageFailed | None
    ended: Callable[[], object]
    """Tells who waits for it."""
    event: Handle = attrs.field(factory=list)


@attrs.frozen(eq=False)
class _Turn:
    """The background of a disk, for one operation at a time."""

    disk: SimulatedStorage
    refused: str
    crashes: int

    async def __aenter__(self) -> None:
        disk = self.disk
        await disk._background.acquire()
        try:
            disk._check_uncrashed(self.crashes)
            disk._check_alive()
        except BaseException:
            disk._background.release()
            raise

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        disk = self.disk
        refused = isinstance(error, StorageFailed) and disk._crashes == self.crashes
        if refused and self.refused:
            disk._platter.remove([self.refused])
        disk._background.release()


class SimulatedStorage:
    """A `Storage` in virtual time, and the platter itself: a restarted segment gets the same one.

    One write at a time in the foreground, where a second one is somebody's mistake, and one in the
    background, where others wait. A write cannot be cancelled, as one that has been handed to an
    operating system cannot: whoever waits is cancelled when it is over. After `crash` nothing works
    until `names`, which is how a restart begins; nor after a refused sync, which leaves unknown
    what the system believes to be on the disk (`StorageBroken`).
    """

    def __init__(
        self,
        scheduler: VirtualScheduler,
        rng: Random,
        identity: Identity,
        profile: DiskProfile | None = None,
        *,
        capacity_bytes: int | None = None,
    ) -> None:
        """A disk freshly formatted for ``identity``; without a capacity it is never full."""
        self.profile = DiskProfile() if profile is None else profile
        self._scheduler = scheduler
        self._random = rng.random
        self._identity: Identity | None = identity
        self._formatted_for = identity
        self._platter = Platter(self._random)
        self._platter.put(PROMISE, encode_promise(NO_PROMISE) * _SLOTS)
        self._writes: list[_Write] = []
        """At most two: of the foreground, and of the background."""
        self._background = trio.Lock()
        self._decoded = b""
        self._said: Manifest | None = None
        self._names: tuple[str, ...] = ()
        self._last_log = ""
        self._logs: tuple[LogFile, ...] = ()
        self._crashed = self._broken = False
        self._slowness = 1.0
        self._refusals = Refusals(self._random)
        self._ambush: Ambush | None = None
        self._crashes = 0
        self.interrupted_files = False
        """Whether the last crash came amid an operation on a file that was made or let go."""
        self.refusals = 0
        """Operations refused with `StorageFailed`, a crash aside."""
        self._rewriting = RewritingBound(scheduler, identity.segment)
        self._reading_until_ns = 0
        self._restarted_ns = -1
        self.set_capacity(capacity_bytes)

    # What a segment sees.

    @property
    def identity(self) -> Identity | None:
        """Whom this disk belongs to; None once it was wiped."""
        return self._identity

    async def names(self) -> tuple[str, ...]:
        """The files that are there, torn and rotten as they may be; the disk works again."""
        if self._writes:
            raise Invalid("a restart in the middle of a write: expected the process to be gone")
        self._crashed = self._broken = False
        self._restarted_ns = self._scheduler.now_ns
        return tuple(sorted(self._platter.files))

    def peek(self) -> Mapping[str, bytearray]:
        """The files that are durable now, whoever uses the disk: what a restart would find."""
        return self._platter.durable

    def content(self, name: str) -> bytes:
        """What is durable of a file."""
        return bytes(self._platter.durable.get(name, b""))

    def file_names(self) -> tuple[str, ...]:
        """The files that the process sees."""
        return tuple(sorted(self._platter.files))

    def at_risk(self) -> list[str]:
        """Files that the durable manifest names, and that a crash could take, or has taken."""
        files, durable = self._platter.files, self._platter.durable
        names = self._names if self.manifest is not None else ()
        return [each for each in names if each not in files or files[each] is not durable.get(each)]

    @property
    def log_files(self) -> tuple[LogFile, ...]:
        """The files of the log that are durable, by the durable manifest."""
        manifest, durable = self.manifest, self._platter.durable
        last = durable.get(self._last_log)
        if manifest is None or last is None:
            return ()
        if not self._logs or self._logs[-1].length != len(last):
            self._logs = with_length(manifest.logs, durable)
        return self._logs

    @property
    def layer_files(self) -> tuple[LayerFile, ...]:
        """The layers that are live, by the durable manifest, ascending."""
        manifest = self.manifest
        return manifest.layers if manifest is not None else ()

    @property
    def manifest(self) -> Manifest | None:
        """The durable manifest, decoded once: checkers ask at each step."""
        manifest = self._platter.durable.get(MANIFEST, bytearray())
        if manifest != self._decoded:
            self._decoded = bytes(manifest)
            self._said = decode_manifest(self._decoded)
            said, self._logs = self._said, ()
            self._names = () if said is None else tuple(sorted(said.names))
            self._last_log = "" if said is None else said.logs[-1].name
        return self._said

    @property
    def log_bytes(self) -> int:
        """Bytes in the log that are durable."""
        return sum([each.length for each in self.log_files])

    async def append(self, name: str, data: bytes) -> None:
        """Write and sync ``data`` at the end of a file; raises `StorageFailed`, `SegmentLost`."""
        await self._perform(*self._append(name, data))

    def begin_append(self, name: str, data: bytes, ended: Ended) -> bool:
        """As `append`, for whom events call back."""
        if not self._alive:
            return False

        def over() -> None:
            try:
                self._check_over(write, crashes)
            except StorageFailed as error:
                ended(error)
            else:
                ended(None)

        crashes = self._crashes
        write = self._begin(*self._append(name, data), over)
        return True

    def _append(self, name: str, data: bytes) -> _Plan:
        file = self._file(name)
        check_synced(name, synced=self._platter.is_synced(file))
        needed = self.size() + len(data)
        self._rewriting.appended(needed)
        return (
            kinds.APPEND,
            needed,
            lambda: file.extend(data),
            lambda: file.extend(torn.torn_append(self._random, data)),
        )

    async def create(self, name: str) -> None:
        """Make a new file, which takes no time: all of it is in memory."""
        async with self._in_background():
            check_new(name, self._platter.files)
            self._platter.create(name)

    async def extend(self, name: str, data: bytes) -> None:
        """Write ``data`` at the end of a new file: into memory, while others run."""
        async with self._in_background(refused=name):
            file, crashes = self._file(name), self._crashes
            if full := self._refusals.full(self.size() + len(data)):
                self.refusals += 1
                raise full
            self._platter.extend(file, data)
            await self._scheduler.sleep_ns(self._delay_ns() // _CHUNKS)
            self._check_uncrashed(crashes)

    async def sync_file(self, name: str) -> None:
        """Make durable what is in a file."""
        async with self._in_background(refused=name):
            file = self._file(name)
            self._rewriting.made(len(file), self.size())
            await self._perform(kinds.FILE, 0, lambda: self._platter.sync(file), lambda: None)

    async def sync_names(self) -> None:
        """Make durable which files there are."""
        async with self._in_background():
            await self._perform(kinds.NAMES, 0, self._platter.sync_names, lambda: None)

    async def publish(self, name: str, data: bytes) -> None:
        """Put a file in the place of the one before; what else has changed its name stays so."""
        async with self._in_background():
            self._rewriting.named()
            await self._perform(
                kinds.MANIFEST,
                self.size() + len(data),
                lambda: self._platter.put(name, data),
                lambda: self._platter.put(name, data) if self._below(2) else None,
            )

    async def delete(self, names: Sequence[str]) -> None:
        """Let go of files, which takes its time and is never refused; a crash may undo it."""
        async with self._in_background():
            self._rewriting.deleted()
            await self._perform(
                kinds.DELETION, 0, lambda: self._platter.remove(names),
                lambda: self._platter.remove(names), refusable=False,
            )  # fmt: skip

    def _in_background(self, refused: str = "") -> _Turn:
        """When it is its turn; the file ``refused`` goes if the disk refuses what is done to it."""
        return _Turn(self, refused, self._crashes)

    async def truncate(self, name: str, length: int) -> None:
        """Keep the first ``length`` bytes of a file, durably; `Invalid` if it is shorter."""
        file = self._file(name)
        check_length(name, length, len(file))

        def cut() -> None:
            del file[length:]

        await self._perform(kinds.CUT, 0, cut, lambda: cut() if self._below(2) else None)

    async def write_promise(self, data: bytes) -> None:
        """Write and sync ``data`` to the first slot, then to the second."""
        slots = self._file(PROMISE)
        if len(data) * _SLOTS != len(slots):
            size = len(slots) // _SLOTS
            raise Invalid(f"a promise of {len(data)} bytes: expected {size}, as in its slot")

        def put(written: bytes) -> None:
            slots[:] = written

        await self._perform(
            kinds.PROMISE,
            0,
            lambda: put(data * _SLOTS),
            lambda: put(torn.torn_promises(self._random, bytes(slots), data)),
        )

    async def read(self, name: str, offset: int, length: int) -> bytes:
        """``length`` bytes of a file as they are on disk now; fewer where it ends.

        What a restart reads right after it has asked for the names takes no time, as they do not.
        """
        check_extent(name, offset, length)
        crashes = self._crashes
        self._check_alive()
        if self._scheduler.now_ns != self._restarted_ns:
            delay_ns = self._delay_ns()
            self._reading_until_ns = max(self._reading_until_ns, self._scheduler.now_ns + delay_ns)
            await self._scheduler.sleep_ns(delay_ns)
            self._check_uncrashed(crashes)
        return bytes(self._platter.files.get(name, b"")[offset : offset + length])

    def at_hand(self, name: str, offset: int, length: int) -> bytes | None:
        """The same without waiting, every second time: who knows what a system has in memory."""
        check_extent(name, offset, length)
        if not self._alive or self._below(2):
            return None
        data = self._platter.files.get(name, b"")[offset : offset + length]
        return bytes(data) if len(data) == length else None

    def size(self) -> int:
        """Bytes in all files."""
        return self._platter.size()

    def close(self) -> None:
        """Nothing to give back: the next segment loads the same bytes."""

    # What happens to it.

    def crash(self) -> None:
        """The process is gone: a write in progress is lost, torn, or done without a word.

        Whoever waits for it gets `StorageFailed`, even if it was over but not yet reported.
        """
        self._crashes += 1
        self._crashed = True
        self._reading_until_ns = 0
        writes, self._writes = self._writes, []
        self.interrupted_files = any(each.kind in kinds.OF_FILES for each in writes)
        for write in writes:
            self._scheduler.cancel(write.event)
            write.interrupt()
        self._platter.crash()
        for write in writes:
            write.ended()

    def wipe(self) -> None:
        """Lose everything, the identity too: for good, since a new disk is a new segment."""
        self.crash()
        self._identity = None
        self._platter.wipe()

    def put_back(self, copy: Mapping[str, bytes]) -> None:
        """Hold the files of a copy; whoever uses it must have crashed."""
        if self._writes:
            raise Invalid("an older copy under a running segment: expected it to have crashed")
        self._platter.put_back(copy)

    def replace_disk(self) -> None:
        """A blank disk in the place of a wiped one, under the same name: never to be done (§8)."""
        self._identity, blank = self._formatted_for, LogFile(1, 0, 0)
        self._platter.put(PROMISE, encode_promise(NO_PROMISE) * _SLOTS)
        self._platter.put(MANIFEST, encode_manifest(Manifest((blank,), (), 2)))
        self._platter.put(blank.name, b"")

    def rot(self, name: str, offset: int | None = None, bits: int = 1) -> tuple[int, ...]:
        """Flip ``bits`` bits of a file, at byte ``offset`` or anywhere; return where (bytes).

        Of a file that is empty, or not there, nothing can rot. Raises `Invalid` for an offset
        outside of it.
        """
        file = self._platter.files.get(name, bytearray())
        if offset is not None and not 0 <= offset < len(file):
            raise Invalid(f"rot at byte {offset} of {name}: expected 0 to {len(file) - 1}")
        if not file:
            return ()
        start, end = (0, len(file)) if offset is None else (offset, offset + 1)
        return torn.flip(self._random, file, start, end, bits)

    def rot_promise(self, slot: int, bits: int = 1) -> tuple[int, ...]:
        """Flip bits of the promise in a slot, 0 or 1; return where (bytes of both slots).

        Of a wiped disk nothing can rot.
        """
        promises = self._platter.files.get(PROMISE)
        if not promises:
            return ()
        start = slot * len(promises) // _SLOTS
        return torn.flip(self._random, promises, start, start + PROMISE_BYTES, bits)

    def rot_manifest(self, half: int, bits: int = 1) -> tuple[int, ...]:
        """Flip bits of what half 0 or 1 of the manifest says; return where, if there is one.

        Not while the other half is spoilt: nothing would be left that names the files.
        """
        manifest = self._platter.durable.get(MANIFEST, bytearray())
        said = decode_manifest(bytes(manifest))
        if said is None:
            return ()
        start, before = half * len(manifest) // 2, bytes(manifest)
        places = torn.flip(self._random, manifest, start, start + said.bytes_said, bits)
        if decode_manifest(bytes(manifest)) is None:
            manifest[:] = before
            return ()
        return places

    def set_capacity(self, capacity_bytes: int | None) -> None:
        """Let the disk be full at ``capacity_bytes``; None: never. What is there stays."""
        if capacity_bytes is not None and capacity_bytes < 0:
            raise Invalid(f"capacity of {capacity_bytes} bytes: expected at least 0")
        self._refusals.capacity_bytes = capacity_bytes

    @property
    def broken(self) -> bool:
        """Whether it takes nothing until it is loaded again, after a refused sync."""
        return self._broken

    @property
    def capacity_bytes(self) -> int | None:
        """What was set last with `set_capacity`."""
        return self._refusals.capacity_bytes

    @property
    def crashed(self) -> bool:
        """Whether the process that used it is gone, and none has loaded it since."""
        return self._crashed

    @property
    def failing(self) -> bool:
        """Whether operations are still to be refused, by `fail_writes` or `fail_syncs`."""
        return self._refusals.due

    @property
    def busy_until_ns(self) -> int:
        """When the operations that have begun will be over, however slow; the past if none is."""
        writes_ns: list[int] = [each.event[0] for each in self._writes]
        return max([self._reading_until_ns, *writes_ns])

    @property
    def slowness(self) -> float:
        """The factor that was set last."""
        return self._slowness

    def set_slowness(self, factor: float) -> None:
        """Multiply the time of every operation that begins from now on; 1 is the normal speed."""
        if not 0.0 < factor < float("inf"):
            raise Invalid(f"slowness {factor!r} of a disk: expected a finite factor > 0")
        self._slowness = factor

    def fail_writes(self, count: int, kind: str = ANY) -> None:
        """Let the writes of the next ``count`` operations of a kind fail; 0 ends it."""
        self._refusals.writes, self._refusals.writes_of = count, kind

    def fail_syncs(self, count: int, kind: str = ANY) -> None:
        """Let the next ``count`` syncs fail, each until the disk is loaded again; 0 ends it."""
        self._refusals.syncs, self._refusals.syncs_of = count, kind

    def lie_in_wait(self, ambush: Ambush | None) -> None:
        """Have the next write of a kind end in a crash, once; None: have none any more."""
        self._ambush = ambush

    @property
    def troubled(self) -> bool:
        """Whether it is slow or full, or a failure or a crash is still to come."""
        return (
            self._slowness != 1.0
            or self.capacity_bytes is not None
            or self.failing
            or self._ambush is not None
        )

    def heal(self) -> None:
        """End all of that; what has rotted stays rotten, and what is lost stays lost."""
        self.set_slowness(1.0)
        self.set_capacity(None)
        self.fail_writes(0)
        self.fail_syncs(0)
        self.lie_in_wait(None)

    # The way of a write.

    async def _perform(
        self,
        kind: str,
        needed_bytes: int,
        apply: Callable[[], object],
        interrupt: Callable[[], object],
        *,
        refusable: bool = True,
    ) -> None:
        crashes = self._crashes
        wake = partial(trio.lowlevel.reschedule, trio.lowlevel.current_task())
        write = self._begin(kind, needed_bytes, apply, interrupt, wake, refusable=refusable)
        await trio.lowlevel.wait_task_rescheduled(self._hold_on)
        if write.failure is not None or self._crashes != crashes:
            await trio.lowlevel.checkpoint_if_cancelled()
        self._check_over(write, crashes)

    def _begin(
        self,
        kind: str,
        needed_bytes: int,
        apply: Callable[[], object],
        interrupt: Callable[[], object],
        ended: Callable[[], object],
        *,
        refusable: bool = True,
    ) -> _Write:
        self._check_ready(kind)
        try:
            failure = None
            if refusable:
                failure = self._refusals.next(kind, needed_bytes, self.profile)
            write = _Write(kind, apply, interrupt, failure, ended)
            self._writes.append(write)
            delay_ns = self._delay_ns()
            write.event = self._scheduler.call_after(delay_ns, self._finish, write)
            if self._awaits(write, after=False):
                self._scheduler.call_after(int(delay_ns * self._random()), self._pounce, write)
        except Exception as error:
            self._scheduler.fail(error)  # it is not the writer's, who may catch it
            raise
        return write

    def _finish(self, write: _Write) -> None:
        self._writes.remove(write)
        self._broken |= isinstance(write.failure, StorageBroken)
        if write.failure is None:
            write.apply()
            if self._awaits(write, after=True):
                self._crash_process()
        write.ended()

    def _check_over(self, write: _Write, crashes: int) -> None:
        """Raise what became of a write that has ended, unless it went well."""
        self._check_uncrashed(crashes)
        if write.failure is not None:
            self.refusals += 1
            raise write.failure

    def _awaits(self, write: _Write, *, after: bool) -> bool:
        ambush = self._ambush
        return ambush is not None and ambush.after is after and is_of(ambush.kind, write.kind)

    def _pounce(self, write: _Write) -> None:
        if write in self._writes and self._awaits(write, after=False):
            self._crash_process()

    def _crash_process(self) -> None:
        ambush, self._ambush = self._ambush, None
        assert ambush is not None
        ambush.crash()

    def _hold_on(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        """A write under way is not cancelled, no more than the kernel's: a crash interrupts it."""
        over = self._scheduler.failed
        return trio.lowlevel.Abort.SUCCEEDED if over else trio.lowlevel.Abort.FAILED

    def _delay_ns(self) -> int:
        profile = self.profile
        delay = profile.minimum_ns + exponential(self._random(), profile.extra_mean_ns)
        return int(delay * self._slowness)

    def _below(self, end: int) -> int:
        """A number drawn from 0 to ``end``, exclusive."""
        return int(self._random() * end)

    def _file(self, name: str) -> bytearray:
        """The bytes of a file that is to be changed."""
        self._check_alive()
        if name not in self._platter.files:
            raise absent(name)
        return self._platter.files[name]

    def _check_ready(self, kind: str) -> None:
        self._check_alive()
        background = kind in kinds.OF_FILES
        if any((each.kind in kinds.OF_FILES) is background for each in self._writes):
            raise Invalid("a second write at the same time: expected one after the other")

    @property
    def _alive(self) -> bool:
        return self._identity is not None and not self._crashed and not self._broken

    def _check_alive(self) -> None:
        if self._identity is None:
            raise SegmentLost("a wiped disk: expected one formatted for a segment")
        if self._crashed:
            raise StorageFailed("the process has crashed: expected a restart, which loads")
        if self._broken:
            raise StorageBroken("a sync was refused: expected the disk to be loaded again first")

    def _check_uncrashed(self, crashes: int) -> None:
        if self._crashes != crashes:
            raise StorageFailed("the process crashed before the disk had answered")
