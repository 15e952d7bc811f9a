"""One segment at work: the thin trio shell around `segments.core`.

It moves messages and bytes and decides nothing. Three loops share the core: one receives, steps and
sends; one writes, syncs and tells the core; one lets time pass. So a read is answered while a sync
is under way, and whatever arrives during a sync shares the next one.
"""

from __future__ import annotations

from random import Random
from typing import TypeVar

import trio

from segments.config import SegmentConfig
from segments.core import SegmentCore, Write
from segments.protocol import codec, events
from segments.protocol.errors import (
    MalformedMessage,
    SegmentLost,
    StorageBroken,
    StorageFailed,
)
from segments.protocol.events import Tracer
from segments.protocol.ids import PgId, SegmentId
from segments.protocol.refusal import Refusal
from segments.protocol.transport import Endpoint
from segments.restart import plan_restart_steps
from segments.steps import Pace, Steps
from segments.storage import Storage

T = TypeVar("T")


class SegmentServer:
    """Runs one segment from its storage until cancelled, which is how it crashes."""

    def __init__(
        self,
        segment: SegmentId,
        pg_id: PgId,
        peers: tuple[SegmentId, ...],
        storage: Storage,
        endpoint: Endpoint,
        config: SegmentConfig,
        random: Random,
        *,
        accepts_rollback: bool = False,
        trace: Tracer | None = None,
    ) -> None:
        self.segment = segment
        self.pg_id = pg_id
        self.core: SegmentCore | None = None
        """None until the log has been read."""
        self.syncs = 0
        self.storage_failures = 0
        self.refusal: Refusal | None = None
        """Why and since when its disk takes no writes; None if it took the last one."""
        self.compaction_refusal: Refusal | None = None
        """Why and since when it does not let its log be written anew; it may still take writes."""
        self.writing_since_s: float | None = None
        """When the write under way began; None if there is none, or only a compaction."""
        self._peers = peers
        self._storage = storage
        self.endpoint = endpoint
        self._config = config
        self._random = random
        self._accepts_rollback = accepts_rollback
        self._trace = trace
        self._work = trio.Event()
        self._applied = trio.Event()

    # Ctrl-C is the caller's: amid a step here it would leave it neither done nor undone.
    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Restore from the storage, then serve.

        Raises `SegmentLost` if the disk was lost or, as soon as that is known, rolled back;
        `StorageFailed` if it cannot be read or written now, `StorageBroken` later: open the storage
        anew, for another server.
        """
        self.core = await self._restart()
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, self.core, name=f"{self.segment} receive")
            nursery.start_soon(self._persist, self.core, name=f"{self.segment} persist")
            nursery.start_soon(self._housekeep, self.core, name=f"{self.segment} housekeep")

    async def _restart(self) -> SegmentCore:
        storage = self._storage
        stored = await storage.load()
        steps = plan_restart_steps(
            self.segment, stored, self._config, accepts_rollback=self._accepts_rollback
        )
        plan = await self._in_steps(steps)
        if plan.torn_bytes:
            await storage.truncate(plan.log_bytes)
        if plan.promise is not None:
            await storage.write_promise(plan.promise)
        state = plan.state
        if self._trace is not None:
            restored = events.Restored(
                state.scl, state.epoch, plan.torn_bytes, plan.damage, state.whole,
                state.lacks_table,
            )  # fmt: skip
            self._trace(self.segment, restored)
        return SegmentCore(
            self.segment, self.pg_id, self._peers, state, self._config, self._random,
            log_bytes=plan.log_bytes, accepts_rollback=self._accepts_rollback, trace=self._trace,
        )  # fmt: skip

    async def _in_steps(self, steps: Steps[T]) -> T:
        """The result of ``steps``, with a turn for everybody else after each."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            await trio.lowlevel.checkpoint()

    @trio.lowlevel.enable_ki_protection
    async def _receive(self, core: SegmentCore) -> None:
        limit = self._config.receive_limit
        while True:
            envelopes = await self.endpoint.receive(limit)
            await self._until_applied(core)
            now = trio.current_time()
            pace = Pace()
            for source, payload in envelopes:
                try:
                    message = codec.decode(payload)
                except MalformedMessage:
                    core.dropped_messages += 1
                    continue
                core.step(source, message, now)
                if pace.ends_step(len(payload)):
                    self._send(core)
                    await trio.lowlevel.checkpoint()
                    await self._until_applied(core)
            self._send(core)

    @trio.lowlevel.enable_ki_protection
    async def _persist(self, core: SegmentCore) -> None:
        while True:
            write = core.take_write()
            if write is None:
                self._work = trio.Event()
                await self._work.wait()
                continue
            if write.replace is None:
                self.writing_since_s = trio.current_time()
            try:
                await self._store(write)
            except StorageBroken:
                raise
            except StorageFailed as error:
                core.write_failed(str(error))
                self._refused(error, compaction=write.replace is not None)
                self.storage_failures += 1
                if core.lost is not None:
                    raise SegmentLost(core.lost) from error
                await trio.sleep(self._config.storage_retry_s)
                continue
            finally:
                self.writing_since_s = None
            self.syncs += 1
            self.refusal = None
            if write.replace is not None:
                self.compaction_refusal = None
            if self._trace is not None:
                self._trace(self.segment, events.WriteSynced(self._storage.size()))
            core.wrote()
            if core.applying:
                await self._apply_rest(core)
            if core.state.lost is not None and core.lost is not None:
                raise SegmentLost(core.lost)  # which its log says, too
            self._send(core)

    async def _until_applied(self, core: SegmentCore) -> None:
        """Wait as long as a write has taken effect only in part."""
        while core.applying:
            await self._applied.wait()

    async def _apply_rest(self, core: SegmentCore) -> None:
        self._applied = trio.Event()
        while core.applying:
            await trio.lowlevel.checkpoint()
            core.apply_more()
        self._applied.set()

    async def _store(self, write: Write) -> None:
        if self._trace is not None:
            started = events.WriteStarted(
                len(write.append),
                promise=write.promise is not None, compaction=write.replace is not None,
            )  # fmt: skip
            self._trace(self.segment, started)
        if write.replace is not None:
            await self._storage.replace(write.replace)
            return
        if write.append:
            await self._storage.append(write.append)
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
                    self._trace(self.segment, events.PromiseFailed(str(error)))
                self._refused(error)
                self.storage_failures += 1
                await trio.sleep(self._config.storage_retry_s)
            else:
                return

    def _refused(self, error: StorageFailed, *, compaction: bool = False) -> None:
        now = trio.current_time()
        if compaction:
            self.compaction_refusal = Refusal.of(error, now, self.compaction_refusal)
        else:
            self.refusal = Refusal.of(error, now, self.refusal)

    @trio.lowlevel.enable_ki_protection
    async def _housekeep(self, core: SegmentCore) -> None:
        while True:
            await trio.sleep(self._config.tick_interval_s)
            await self._until_applied(core)
            now = trio.current_time()
            core.tick(now)
            while core.maintenance.behind:
                await trio.lowlevel.checkpoint()
                await self._until_applied(core)
                core.tick(now)
            scrub = core.maintenance.take_scrub(now)
            if scrub is not None:
                generation, offset, length = scrub
                try:
                    data = await self._storage.read(offset, length)
                except StorageBroken:
                    raise
                except StorageFailed:  # a disk that cannot be read may still take writes
                    self.storage_failures += 1
                else:
                    core.maintenance.scrubbed(generation, offset, data)
            if core.maintenance.promises_to_scrub:
                try:
                    slots = await self._storage.read_promises()
                except StorageBroken:
                    raise
                except StorageFailed:
                    self.storage_failures += 1
                else:
                    core.maintenance.promises_scrubbed(slots)
            self._send(core)

    def _send(self, core: SegmentCore) -> None:
        """Hand over what may leave, and wake the writer if there is something to write."""
        for destination, message in core.take_sends():
            self.endpoint.send(destination, codec.encode(message))
        if core.has_input or core.maintenance.write_due:
            self._work.set()
