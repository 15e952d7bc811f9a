"""One segment at work: the thin trio shell around `segments.core`.

It moves messages and bytes and decides nothing. Four loops share the core: one receives, steps and
sends; one writes, syncs and tells the core (`segments.write_cycle`); one lets time pass; one does
the work in the background, job by job. So a read is answered while a sync is under way, and
whatever arrives during a sync shares the next one. Questions that need the disk are answered by
tasks of their own.

**What is short takes no turn of a loop.** While they all sleep, a message is dealt with in the step
that delivers it, and what it has to be written for is given to the disk in that step, too.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

import trio

from segments.config import SegmentConfig
from segments.core import SegmentCore
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
from segments.protocol.errors import MalformedMessage, StorageBroken, StorageFailed
from segments.protocol.events import Event, Tracer
from segments.protocol.ids import Lsn, PgId, SegmentId
from segments.protocol.refusal import Refusal
from segments.protocol.transport import Endpoint, Envelope
from segments.restart import restart_job
from segments.steps import STEP_BYTES, Pace
from segments.storage import Storage
from segments.write_cycle import WriteCycle

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
        self.cycle: WriteCycle | None = None
        """What it writes, and how; None until the log has been read."""
        self.background_refusal: Refusal | None = None
        """Why and since when it does not let layers be written; it may still take writes."""
        self._other_failures = 0
        self._peers = peers
        self._storage = storage
        self._log: HotLog | None = None
        self.endpoint = endpoint
        self._config = config
        self._random = random
        self._accepts_rollback = accepts_rollback
        self._trace = trace
        self._turn = trio.Event()
        """Set when there may be something to do in the background."""
        self._job_ended = trio.Event()

    @property
    def storage(self) -> Storage:
        """Its disk."""
        return self._storage

    @property
    def refusal(self) -> Refusal | None:
        """Why and since when its disk takes no writes; None if it took the last one."""
        return self.cycle.refusal if self.cycle is not None else None

    @property
    def storage_failures(self) -> int:
        """How often its disk has refused something."""
        return self._other_failures + (self.cycle.failures if self.cycle is not None else 0)

    @property
    def writing_since_s(self) -> float | None:
        """When the write under way began; None if there is none."""
        return self.cycle.writing_since_s if self.cycle is not None else None

    async def settled(self) -> None:
        """Return at a moment when no write has taken effect only in part."""
        if self.cycle is not None:
            await self.cycle.until_applied()

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
        cycle = self.cycle = WriteCycle(
            core, log, self._storage, self._config.storage_retry_s, lambda: self._send(core),
            None if self._trace is None else self._note,
        )  # fmt: skip
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, core, nursery, name=f"{self.segment} receive")
            nursery.start_soon(cycle.run, name=f"{self.segment} persist")
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
            self._other_failures += 1

    def _note(self, event: Event) -> None:
        if self._trace is not None:
            self._trace(self.segment, event)

    @trio.lowlevel.enable_ki_protection
    async def _receive(self, core: SegmentCore, nursery: trio.Nursery) -> None:
        def take(envelope: Envelope) -> bool:
            if core.applying or len(envelope.payload) > STEP_BYTES:
                return False
            self._step(core, envelope, trio.current_time())
            self._stepped(core, nursery)
            return True

        limit = self._config.receive_limit
        while True:
            envelopes = await self.endpoint.receive(limit, take)
            await self.settled()
            now = trio.current_time()
            pace = Pace()
            for envelope in envelopes:
                self._step(core, envelope, now)
                if pace.ends_step(len(envelope.payload)):
                    self._send(core)
                    await trio.lowlevel.checkpoint()
                    await self.settled()
            self._stepped(core, nursery)

    def _step(self, core: SegmentCore, envelope: Envelope, now: float) -> None:
        try:
            message = codec.decode(envelope.payload)
        except MalformedMessage:
            core.dropped_messages += 1
        else:
            core.step(envelope.source, message, now)

    def _stepped(self, core: SegmentCore, nursery: trio.Nursery) -> None:
        for query in core.take_queries():
            self._begin_to_answer(core, query, nursery)
        self._send(core)
        if core.gossip.transfer is not None:
            self._turn.set()

    def _begin_to_answer(self, core: SegmentCore, query: Job[None], nursery: trio.Nursery) -> None:
        """Answer a question in this step, if a few bytes that are at hand will do; or in a task."""
        pace = Pace()
        data: bytes | None = None
        while True:
            try:
                op = query.send(data)
            except StopIteration:
                return
            if not isinstance(op, Read) or pace.ends_step(op.length):
                break
            if (data := self._at_hand(op)) is None:
                break
        nursery.start_soon(self._answer, core, query, op, name=f"{self.segment} answer")

    async def _answer(self, core: SegmentCore, query: Job[None], op: Op | None) -> None:
        await self._go_on(query, op, core)
        self._send(core)

    @trio.lowlevel.enable_ki_protection
    async def _housekeep(self, core: SegmentCore, log: HotLog) -> None:
        while True:
            await trio.sleep(self._config.tick_interval_s)
            await self.settled()
            now = trio.current_time()
            core.tick(now)
            try:
                await self._scrub(core, log, now)
            except StorageBroken:
                raise
            except StorageFailed:  # a disk that cannot be read may still take writes
                self._other_failures += 1
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
            await self.settled()
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
                self._other_failures += 1
            else:
                self.background_refusal = None
            self._job_ended.set()
            self._job_ended = trio.Event()
            self._send(core)

    async def _perform(self, job: Job[T], core: SegmentCore | None = None) -> T:
        """The result of a job, whose operations are done here, with a turn for others after each.

        But for reads of a few bytes that are at hand. What the disk refuses is thrown into the job.
        Amid the effects of a write it waits.
        """
        try:
            op = next(job)
        except StopIteration as end:
            result: T = end.value
            return result
        return await self._go_on(job, op, core)

    async def _go_on(self, job: Job[T], op: Op | None, core: SegmentCore | None) -> T:
        """As `_perform`, of a job that has been begun and wants ``op``."""
        pace = Pace()
        while True:
            if core is not None:
                self._send(core)
            step: Callable[[Any], Op | None] = job.send
            answer: object = None
            try:
                answer = await self._operate(op, pace)
            except StorageBroken:
                job.close()
                raise
            except StorageFailed as error:
                step, answer = job.throw, error
            if core is not None:
                await self.settled()
            try:
                op = step(answer)
            except StopIteration as end:
                result: T = end.value
                return result

    async def _operate(self, op: Op | None, pace: Pace) -> bytes | None:
        storage = self._storage
        match op:
            case None:
                await trio.lowlevel.checkpoint()
            case Read(name, offset, length):
                if (data := self._at_hand(op)) is None:
                    return await storage.read(name, offset, length)
                if pace.ends_step(length):
                    await trio.lowlevel.checkpoint()
                return data
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

    def _at_hand(self, read: Read) -> bytes | None:
        """What need not be waited for."""
        name, offset, length, will_do = read
        return self._storage.at_hand(name, offset, length) if will_do else None

    def _send(self, core: SegmentCore) -> None:
        """Hand over what may leave, and have written what is to be written."""
        for destination, message in core.take_sends():
            self.endpoint.send(destination, codec.encode(message))
        if self.cycle is not None:
            self.cycle.look()
