"""The write cycle of one segment: what its core has to write, one write after the other.

The usual write, a frame for the end of the log, takes no turn of anybody's: it is begun in the step
that finds it due, and in the step that hears of its end it takes effect, the next one is begun, and
what was held back for it leaves. The task, `WriteCycle.run`, rests meanwhile. It does all else:
writes of several operations, refusals, effects that take long. While it does nothing is begun.
"""

from __future__ import annotations

from collections.abc import Callable

import outcome
import trio

from segments.core import SegmentCore, Write
from segments.hot_log import HotLog
from segments.protocol import events
from segments.protocol.errors import SegmentRolledBack, StorageBroken, StorageFailed
from segments.protocol.events import Event
from segments.protocol.refusal import Refusal
from segments.storage import Storage


class WriteCycle:
    """One write at a time, so that a crash spoils one frame at most."""

    def __init__(
        self,
        core: SegmentCore,
        log: HotLog,
        storage: Storage,
        retry_s: float,
        send: Callable[[], object],
        trace: Callable[[Event], object] | None,
    ) -> None:
        """``send`` hands over what the core has to say; ``retry_s`` lies between two tries."""
        self.failures = 0
        """How often the disk has refused a write."""
        self.refusal: Refusal | None = None
        """Why and since when it takes none; None if it took the last one."""
        self.writing_since_s: float | None = None
        """When the write under way began; None if there is none."""
        self._core = core
        self._log = log
        self._storage = storage
        self._retry_s = retry_s
        self._send = send
        self._trace = trace
        self._write: Write | None = None
        """What was taken from the core and has not taken effect."""
        self._written = False
        """Whether it is durable."""
        self._error: Exception | None = None
        """Why it is not."""
        self._rests = self._beginning = self._under_way = False
        self._task: trio.lowlevel.Task | None = None  # while it sleeps
        self._runs = True  # or is about to
        self._over = trio.Event()
        self._applied = trio.Event()

    # ---- in whatever step finds that something is to be done -------------------------------------

    def look(self) -> None:
        """Begin what is due, unless something is under way."""
        if not self._rests or self._beginning or self._write is not None:
            return
        self._beginning = True
        try:
            while self._write is None and (write := self._core.take_write()) is not None:
                self._started(write)
                if not self._begin(write):
                    self._wake()
        finally:
            self._beginning = False

    def _begin(self, write: Write) -> bool:
        """Whether the storage has taken it, and all that is left is to hear of its end."""
        if write.append is None or write.promise is not None or write.new_file:
            return False
        self._under_way, begun = True, False
        try:
            begun = self._log.begin_append(write.append, write.top, self._ended)
        finally:
            self._under_way &= begun  # it may have ended already
        return begun

    def _ended(self, error: Exception | None) -> None:
        self._under_way, self._written, self._error = False, error is None, error
        self._over.set()
        if not self._rests:
            return
        try:
            if error is None:
                self._take_effect()
            if error is not None or self._core.applying or self._core.lost is not None:
                self._wake()
            else:
                self._write = None
                self.look()
                self._send()
        except BaseException as mistake:  # noqa: BLE001 - it is this segment's, whoever calls
            self._wake(outcome.Error(mistake))

    def _started(self, write: Write) -> None:
        self._write, self._written, self._error = write, False, None
        self.writing_since_s = trio.current_time()
        if self._trace is not None:
            started = events.WriteStarted(
                0 if write.append is None else write.append.frame_bytes,
                promise=write.promise is not None,
                new_file=write.new_file,
            )
            self._trace(started)

    def _take_effect(self) -> None:
        """What is durable counts; the rest of what that means may be left to be applied."""
        self.writing_since_s = self.refusal = None
        if self._trace is not None:
            self._trace(events.WriteSynced(self._core.files.log_bytes))
        self._core.wrote()
        if self._core.applying:
            self._applied = trio.Event()  # before anybody can wait for it

    # ---- in the task -----------------------------------------------------------------------------

    async def until_applied(self) -> None:
        """Wait as long as a write has taken effect only in part, and has not been given up."""
        while self._core.applying and self._runs:
            await self._applied.wait()
        if not self._runs:
            await trio.lowlevel.checkpoint_if_cancelled()  # as all of this segment is by now

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Write until cancelled, and then until the write under way is over.

        Raises `StorageBroken`, and `SegmentRolledBack` once that is written down.
        """
        try:
            while True:
                await self._rest()
                assert self._write is not None, "woken for nothing"
                await self._go_on(self._write)
        finally:
            self._rests = self._runs = False
            self._applied.set()
            while self._under_way:
                self._over = trio.Event()
                with trio.CancelScope(shield=True):
                    await self._over.wait()

    async def _rest(self) -> None:
        """Sleep while writes come and go by themselves, until one is for this task."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._rests = True
        self.look()
        if self._rests:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._rests, self._task = False, None
        return trio.lowlevel.Abort.SUCCEEDED

    def _wake(self, result: outcome.Outcome[None] | None = None) -> None:
        self._rests = False
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task, result or outcome.Value(None))
        elif isinstance(result, outcome.Error):
            raise result.error

    async def _go_on(self, write: Write) -> None:
        """Bring a write to its end, whatever has become of it so far."""
        if not self._written:
            try:
                if self._error is not None:
                    raise self._error
                await self._store(write)
            except StorageBroken:
                raise
            except StorageFailed as error:
                self._core.write_failed(str(error))
                self._refused(error)
                if self._core.lost is not None:
                    raise SegmentRolledBack(self._core.lost) from error
                await trio.sleep(self._retry_s)
                return
            finally:
                self._write = self.writing_since_s = None
            self._take_effect()
        self._write = None
        if self._core.applying:
            await self._apply_rest()
        if self._core.state.lost is not None and self._core.lost is not None:
            raise SegmentRolledBack(self._core.lost)  # which its log says, too
        self._send()

    async def _apply_rest(self) -> None:
        while self._core.applying:
            await trio.lowlevel.checkpoint()
            self._core.apply_more()
        self._applied.set()

    async def _store(self, write: Write) -> None:
        log, head = self._log, self._core.state.head_frame
        if write.new_file:
            await log.new_file(head())
        if write.append is not None:
            await log.append(write.append, write.top, head)
        if write.promise is not None:
            await self._keep_promise(write.promise)

    async def _keep_promise(self, promise: bytes) -> None:
        """Write a promise that the log holds already, and so cannot be taken back: until it is."""
        while True:
            try:
                await self._storage.write_promise(promise)
            except StorageBroken:
                raise
            except StorageFailed as error:
                if self._trace is not None:
                    self._trace(events.PromiseFailed(str(error)))
                self._refused(error)
                await trio.sleep(self._retry_s)
            else:
                return

    def _refused(self, error: StorageFailed) -> None:
        self.refusal = Refusal.of(error, trio.current_time(), self.refusal)
        self.failures += 1
