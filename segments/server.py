"""One segment at work: the thin trio shell around `segments.core`.

It moves messages and bytes and decides nothing. Four loops share the core: one receives, steps and
sends; one writes, syncs and tells the core; one lets time pass; one does the work in the
background, job by job. So a read is answered while a sync is under way, and whatever arrives during
a sync shares the next one. Questions that need the disk are answered by tasks of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

import trio

from segments.config import SegmentConfig
from segments.core import SegmentCore, Write
from segments.hot_log import HotLog
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
from segments.manifest import PROMISE, WHOLE
from segments.protocol import codec, events
from segments.protocol.errors import (
    MalformedMessage,
    SegmentRolledBack,
    StorageBroken,
    StorageFailed,
)
from segments.protocol.events import Tracer
from segments.protocol.ids import Lsn, PgId, SegmentId
from segments.protocol.refusal import Refusal
from segments.protocol.transport import Endpoint
from segments.restart import restart_job
from segments.steps import Pace
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
        self.background_refusal: Refusal | None = None
        """Why and since when it does not let layers be written; it may still take writes."""
        self.writing_since_s: float | None = None
        """When the write under way began; None if there is none."""
        self._peers = peers
        self._storage = storage
        self._log: HotLog | None = None
        self.endpoint = endpoint
        self._config = config
        self._random = random
        self._accepts_rollback = accepts_rollback
        self._trace = trace
        self._work = trio.Event()
        self._applied = trio.Event()
        self._turn = trio.Event()
        """Set when there may be something to do in the background."""
        self._job_ended = trio.Event()

    @property
    def storage(self) -> Storage:
        """Its disk."""
        return self._storage

    async def settled(self, core: SegmentCore) -> None:
        """Return at a moment when no write has taken effect only in part."""
        await self._until_applied(core)

    async def work(self, core: SegmentCore, job: Job[T]) -> T:
        """Do a job of somebody else's that only reads."""
        return await self._perform(job, core)

    async def fold(self, core: SegmentCore, through: Lsn, most_s: float) -> None:
        """Fold the log up to ``through``, or what can be folded of that within ``most_s``."""
        background = core.background
        background.fold_rule.asked = through
        self._turn.set()
        try:
            with trio.move_on_after(most_s):
                while background.fold_rule.through() > core.state.folded < through:
                    await self._job_ended.wait()
        finally:
            background.fold_rule.asked = 0

    # Ctrl-C is the caller's: amid a step here it would leave it neither done nor undone.
    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Restore from the storage, then serve.

        Raises `SegmentLost` if the disk was lost, `SegmentRolledBack` as soon as that is known;
        `StorageFailed` if it cannot be read or written now, `StorageBroken` later: open the storage
        anew, for another server.
        """
        core, log = await self._restart()
        self.core, self._log = core, log
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, core, nursery, name=f"{self.segment} receive")
            nursery.start_soon(self._persist, core, log, name=f"{self.segment} persist")
            nursery.start_soon(self._housekeep, core, log, name=f"{self.segment} housekeep")
            nursery.start_soon(self._work_on, core, name=f"{self.segment} background")

    async def _restart(self) -> tuple[SegmentCore, HotLog]:
        storage, config = self._storage, self._config
        names = await storage.names()
        job = restart_job(self.segment, names, config, accepts_rollback=self._accepts_rollback)
        plan = await self._perform(job)
        files, state = plan.files, plan.state
        if plan.torn_bytes:
            await storage.truncate(files.last_log.name, files.last_log.length)
        if plan.promise is not None:
            await storage.write_promise(plan.promise)
        log = HotLog(storage, files, plan.manifest, self._random, file_bytes=config.wal_file_bytes)
        if plan.manifest_is_spoilt:
            await self._mend_manifest(log)
        if plan.leftovers:
            await storage.delete(plan.leftovers)
        if self._trace is not None:
            restored = events.Restored(
                state.scl, state.epoch, plan.torn_bytes, plan.damage, state.whole,
                state.lacks_table,
            )  # fmt: skip
            self._trace(self.segment, restored)
            for each in plan.damaged_layers:
                damaged = events.LayerDamaged(each.layer, "a restart", str(each))
                self._trace(self.segment, damaged)
        core = SegmentCore(
            self.segment, self.pg_id, self._peers, state, files, config, self._random,
            accepts_rollback=self._accepts_rollback, trace=self._trace,
        )  # fmt: skip
        return core, log

    async def _mend_manifest(self, log: HotLog) -> None:
        """Write it again. Without room for it the segment serves: the scrub finds it again."""
        try:
            await log.republish(lambda manifest: manifest)
        except StorageBroken:
            raise
        except StorageFailed:
            self.storage_failures += 1

    @trio.lowlevel.enable_ki_protection
    async def _receive(self, core: SegmentCore, nursery: trio.Nursery) -> None:
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
            for query in core.take_queries():
                nursery.start_soon(self._answer, core, query, name=f"{self.segment} answer")
            if core.gossip.transfer is not None:
                self._turn.set()

    async def _answer(self, core: SegmentCore, query: Job[None]) -> None:
        await self._perform(query, core)
        self._send(core)

    @trio.lowlevel.enable_ki_protection
    async def _persist(self, core: SegmentCore, log: HotLog) -> None:
        while True:
            write = core.take_write()
            if write is None:
                self._work = trio.Event()
                await self._work.wait()
                continue
            self.writing_since_s = trio.current_time()
            try:
                await self._store(core, log, write)
            except StorageBroken:
                raise
            except StorageFailed as error:
                core.write_failed(str(error))
                self._refused(error)
                if core.lost is not None:
                    raise SegmentRolledBack(core.lost) from error
                await trio.sleep(self._config.storage_retry_s)
                continue
            finally:
                self.writing_since_s = None
            self.syncs += 1
            self.refusal = None
            if self._trace is not None:
                self._trace(self.segment, events.WriteSynced(core.files.log_bytes))
            core.wrote()
            if core.applying:
                await self._apply_rest(core)
            if core.state.lost is not None and core.lost is not None:
                raise SegmentRolledBack(core.lost)  # which its log says, too
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

    async def _store(self, core: SegmentCore, log: HotLog, write: Write) -> None:
        if self._trace is not None:
            started = events.WriteStarted(
                0 if write.append is None else write.append.frame_bytes,
                promise=write.promise is not None,
                new_file=write.new_file,
            )
            self._trace(self.segment, started)
        if write.new_file:
            await log.new_file(core.state.head_frame())
        if write.append is not None:
            await log.append(write.append, write.top, core.state.head_frame)
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
                await trio.sleep(self._config.storage_retry_s)
            else:
                return

    def _refused(self, error: StorageFailed) -> None:
        self.refusal = Refusal.of(error, trio.current_time(), self.refusal)
        self.storage_failures += 1

    @trio.lowlevel.enable_ki_protection
    async def _housekeep(self, core: SegmentCore, log: HotLog) -> None:
        while True:
            await trio.sleep(self._config.tick_interval_s)
            await self._until_applied(core)
            now = trio.current_time()
            core.tick(now)
            try:
                await self._scrub(core, log, now)
            except StorageBroken:
                raise
            except StorageFailed:  # a disk that cannot be read may still take writes
                self.storage_failures += 1
            self._send(core)
            self._turn.set()

    async def _scrub(self, core: SegmentCore, log: HotLog, now: float) -> None:
        """Read again what it is time for."""
        scrub = core.scrub
        piece = scrub.take_piece(now)
        if piece is not None:
            scrub.checked(piece, await self._storage.read(*piece[:3]))
        if scrub.promises_to_read:
            scrub.promises_checked(await self._storage.read(PROMISE, 0, WHOLE))
        if scrub.manifest_to_read:
            scrub.manifest_checked(sound=await log.manifest_is_sound())
        layers = core.layer_scrub.take_piece(now)
        if layers is not None:
            await self._perform(layers, core)

    # ---- jobs ------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def _work_on(self, core: SegmentCore) -> None:
        """Do what is due in the background, one job after the other."""
        while True:
            await self._until_applied(core)
            job = core.background.take_job(trio.current_time())
            if job is None:
                self._turn = trio.Event()
                await self._turn.wait()
                continue
            try:
                await self._perform(job, core)
            except StorageBroken:
                raise
            except StorageFailed as error:
                now = trio.current_time()
                core.background.failed(str(error), now)
                self.background_refusal = Refusal.of(error, now, self.background_refusal)
                self.storage_failures += 1
            else:
                self.background_refusal = None
            self._job_ended.set()
            self._job_ended = trio.Event()
            self._send(core)

    async def _perform(self, job: Job[T], core: SegmentCore | None = None) -> T:
        """The result of a job, whose operations are done here, with a turn for others after each.

        What the disk refuses is thrown into the job. Amid the effects of a write it waits.
        """
        step: Callable[[Any], Op | None] = job.send
        answer: object = None
        while True:
            try:
                op = step(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            if core is not None:
                self._send(core)
            step = job.send
            try:
                answer = await self._operate(op)
            except StorageBroken:
                job.close()
                raise
            except StorageFailed as error:
                step, answer = job.throw, error
            if core is not None:
                await self._until_applied(core)

    async def _operate(self, op: Op | None) -> bytes | None:
        storage = self._storage
        match op:
            case None:
                await trio.lowlevel.checkpoint()
            case Read(name, offset, length):
                return await storage.read(name, offset, length)
            case Create(name):
                await storage.create(name)
            case Extend(name, data):
                await storage.extend(name, data)
            case SyncFile(name):
                await storage.sync_file(name)
            case SyncNames():
                await storage.sync_names()
            case Republish(edit, tops):
                assert self._log is not None
                await self._log.republish(edit, tops)
            case Delete(names):
                await storage.delete(names)
            case Wait():
                self._turn = trio.Event()
                await self._turn.wait()
        return None

    def _send(self, core: SegmentCore) -> None:
        """Hand over what may leave, and wake the writer if there is something to write."""
        for destination, message in core.take_sends():
            self.endpoint.send(destination, codec.encode(message))
        if core.write_due:
            self._work.set()
