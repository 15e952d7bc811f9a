"""A disk in virtual time that crashes, tears, rots, fills up, fails and gets lost.

What is synced stays, whatever happens to the process; what is being written when it crashes is
drawn (`sim.world.torn`).

(More than 400 lines: all that can become of one disk, over one state.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Final

import attrs
import trio

from segments.protocol.errors import (
    Invalid,
    SegmentLost,
    StorageBroken,
    StorageFailed,
)
from segments.storage import Identity, Stored, check_extent, check_length
from segments.wal import NO_PROMISE, PROMISE_BYTES, encode_promise
from sim.plan.profiles import DiskProfile, exponential
from sim.world import torn
from sim.world.ambush import ANY, APPEND, COMPACTION, CUT, PROMISE, Ambush, is_of
from sim.world.refusals import Refusals
from sim.world.rewriting import RewritingBound
from sim.world.scheduler import Handle, VirtualScheduler

_SLOTS: Final = 2
_CHUNKS: Final = 8  # of a new log are made in the time of a write


@attrs.define(eq=False)
class _Write:
    """One operation that is not durable yet."""

    kind: str
    apply: Callable[[], object]
    """Makes it so."""
    interrupt: Callable[[], object]
    """Leaves what a crash in the middle leaves."""
    failure: StorageFailed | None
    task: trio.lowlevel.Task
    event: Handle = attrs.field(factory=list)


class SimulatedStorage:
    """A `Storage` in virtual time, and the platter itself: a restarted segment gets the same one.

    One write at a time. A write cannot be cancelled, as one that has been handed to an operating
    system cannot: whoever waits is cancelled when it is over. After `crash` nothing works until
    `load`, which is how a restart begins; nor after a refused sync, which leaves unknown what the
    system believes to be on the disk (`StorageBroken`).
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
        self._log = bytearray()
        self._promises = encode_promise(NO_PROMISE) * _SLOTS
        self._write: _Write | None = None
        self._crashed = self._broken = False
        self._slowness = 1.0
        self._refusals = Refusals(self._random)
        self._ambush: Ambush | None = None
        self._crashes = 0
        self.refusals = 0
        """Operations refused with `StorageFailed`, a crash aside."""
        self._rewriting = RewritingBound(scheduler, identity.segment)
        self._reading_until_ns = 0
        self.set_capacity(capacity_bytes)

    # What a segment sees.

    @property
    def identity(self) -> Identity | None:
        """Whom this disk belongs to; None once it was wiped."""
        return self._identity

    async def load(self) -> Stored:
        """What is there, torn and rotten as it may be; what crashed or broke works again."""
        if self._write is not None:
            raise Invalid("load in the middle of a write: expected the process to have crashed")
        self._crashed = self._broken = False
        return Stored(bytes(self._log), self._promises)

    def peek(self) -> Stored:
        """What is durable at this moment, whoever is using the disk."""
        return Stored(bytes(self._log), self._promises)

    async def append(self, data: bytes) -> None:
        """Write and sync ``data`` at the end of the log; raises `StorageFailed`, `SegmentLost`."""
        self._rewriting.appended(len(self._log) + len(data))
        await self._perform(
            APPEND,
            len(self._log) + len(data),
            lambda: self._log.extend(data),
            lambda: self._log.extend(torn.torn_append(self._random, data)),
        )

    async def write_promise(self, data: bytes) -> None:
        """Write and sync ``data`` to the first slot, then to the second."""
        if len(data) * _SLOTS != len(self._promises) and self._identity is not None:
            size = len(self._promises) // _SLOTS
            raise Invalid(f"a promise of {len(data)} bytes: expected {size}, as in its slot")
        await self._perform(
            PROMISE,
            len(self._log),
            lambda: self._set_promises(data * _SLOTS),
            lambda: self._set_promises(torn.torn_promises(self._random, self._promises, data)),
        )

    async def replace(self, chunks: Iterable[bytes]) -> None:
        """Make the log consist of ``chunks``; until it is durable, old and new both take space.

        The chunks are made one by one, as on a file: others run in between.
        """
        self._check_ready()
        crashes, log = self._crashes, bytearray()
        for chunk in chunks:
            log += chunk
            await self._scheduler.sleep_ns(self._delay_ns() // _CHUNKS)
            self._check_uncrashed(crashes)
        self._rewriting.rewrites(len(log))
        await self._perform(
            COMPACTION,
            len(self._log) + len(log),
            lambda: self._set_log(log),
            lambda: self._set_log(log if self._below(2) else self._log),
        )

    async def truncate(self, length: int) -> None:
        """Keep the first ``length`` bytes of the log, durably; `Invalid` if it is shorter."""
        check_length(length, len(self._log))
        await self._perform(
            CUT,
            0,
            lambda: self._set_log(self._log[:length]),
            lambda: self._set_log(self._log[:length] if self._below(2) else self._log),
        )

    async def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes of the log as they are on disk now; fewer where the log ends."""
        check_extent(offset, length)
        crashes = self._crashes
        self._check_alive()
        delay_ns = self._delay_ns()
        self._reading_until_ns = max(self._reading_until_ns, self._scheduler.now_ns + delay_ns)
        await self._scheduler.sleep_ns(delay_ns)
        self._check_uncrashed(crashes)
        return bytes(self._log[offset : offset + length])

    async def read_promises(self) -> bytes:
        """Both promise slots as they are on disk now."""
        await self.read(0, 0)
        return self._promises

    def size(self) -> int:
        """Bytes in the log that are durable."""
        return len(self._log)

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
        write, self._write = self._write, None
        if write is not None:
            self._scheduler.cancel(write.event)
            write.interrupt()
            trio.lowlevel.reschedule(write.task)

    def wipe(self) -> None:
        """Lose everything, the identity too: for good, since a new disk is a new segment."""
        self.crash()
        self._identity = None
        self._log = bytearray()
        self._promises = b""

    def put_back(self, copy: Stored) -> None:
        """Hold what it held when `peek` returned this; whoever uses it must have crashed."""
        if not self._crashed and self._write is not None:
            raise Invalid("an older copy under a running segment: expected it to have crashed")
        self._log, self._promises = bytearray(copy.log), copy.promises

    def replace_disk(self) -> None:
        """A blank disk in the place of a wiped one, under the same name: never to be done (§8)."""
        self._identity = self._formatted_for
        self._promises = encode_promise(NO_PROMISE) * _SLOTS

    def rot(self, offset: int | None = None, bits: int = 1) -> tuple[int, ...]:
        """Flip ``bits`` bits of the log, at byte ``offset`` or anywhere; return where (bytes).

        Of an empty log nothing can rot. Raises `Invalid` for an offset outside of it.
        """
        size = len(self._log)
        if offset is not None and not 0 <= offset < size:
            raise Invalid(f"rot at byte {offset}: expected 0 to {size - 1}")
        if not size:
            return ()
        start, end = (0, size) if offset is None else (offset, offset + 1)
        return torn.flip(self._random, self._log, start, end, bits)

    def rot_promise(self, slot: int, bits: int = 1) -> tuple[int, ...]:
        """Flip bits of the promise in a slot, 0 or 1; return where (bytes of both slots).

        Of a wiped disk nothing can rot.
        """
        promises = bytearray(self._promises)
        start = slot * len(promises) // _SLOTS
        if not promises:
            return ()
        offsets = torn.flip(self._random, promises, start, start + PROMISE_BYTES, bits)
        self._promises = bytes(promises)
        return offsets

    def set_capacity(self, capacity_bytes: int | None) -> None:
        """Let the disk be full at ``capacity_bytes`` of log; None: never. What is there stays."""
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
        write_ns: int = 0 if self._write is None else self._write.event[0]
        return max(write_ns, self._reading_until_ns)

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
    ) -> None:
        self._check_ready()
        task, crashes = trio.lowlevel.current_task(), self._crashes
        try:
            failure = self._refusals.next(kind, needed_bytes, self.profile)
            write = self._write = _Write(kind, apply, interrupt, failure, task)
            delay_ns = self._delay_ns()
            write.event = self._scheduler.call_after(delay_ns, self._finish, write)
            if self._awaits(write, after=False):
                self._scheduler.call_after(int(delay_ns * self._random()), self._pounce, write)
        except Exception as error:
            self._scheduler.fail(error)  # it is not the writer's, who may catch it
            raise
        await trio.lowlevel.wait_task_rescheduled(self._hold_on)
        if write.failure is not None or self._crashes != crashes:
            await trio.lowlevel.checkpoint_if_cancelled()
        self._check_uncrashed(crashes)
        if write.failure is not None:
            self.refusals += 1
            raise write.failure

    def _finish(self, write: _Write) -> None:
        self._write = None
        self._broken = isinstance(write.failure, StorageBroken)
        if write.failure is None:
            write.apply()
        trio.lowlevel.reschedule(write.task)
        if write.failure is None and self._awaits(write, after=True):
            self._crash_process()

    def _awaits(self, write: _Write, *, after: bool) -> bool:
        ambush = self._ambush
        return ambush is not None and ambush.after is after and is_of(ambush.kind, write.kind)

    def _pounce(self, write: _Write) -> None:
        if self._write is write and self._awaits(write, after=False):
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

    def _set_log(self, log: bytearray) -> None:
        self._log = log

    def _set_promises(self, promises: bytes) -> None:
        self._promises = promises

    def _check_ready(self) -> None:
        self._check_alive()
        if self._write is not None:
            raise Invalid("a second write at the same time: expected one after the other")

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
