"""A writer incarnation at work: the tasks that serve it, and the one loop that callers wait in.

A thin trio shell around `aurora.core`: one task receives, one sends, one lets time pass; callers
run in tasks of their own and go through `WriterShell.see_through`. All that is decided is decided
in the cores and in what is pending (`aurora.pending`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from math import inf, isfinite

import trio

from aurora import events
from aurora.commit import CommitIntake
from aurora.commit_queue import Commit, CommitQueue
from aurora.config import EngineConfig
from aurora.core import WriterCore
from aurora.head_read import PendingHead
from aurora.health import WaitKind
from aurora.mtr import PageWrite
from aurora.pending import Pending, WaitSnapshot
from aurora.quorum import QuorumModel
from aurora.reader_core import ReaderCore
from aurora.recovery import Recovery
from aurora.recovery_plan import RecoveryPlan
from aurora.trio_run import check_run
from aurora.writer_clock import no_clock
from segments.protocol import codec
from segments.protocol.errors import (
    AuroraError,
    Closed,
    Fenced,
    MalformedMessage,
    ReadOnly,
    Unavailable,
)
from segments.protocol.events import Tracer
from segments.protocol.ids import Address, Lsn, PageId, PgId, SegmentId, name_writers
from segments.protocol.messages import PageImage
from segments.protocol.transport import Endpoint, Envelope


class WriterShell:
    """What runs one writer, from its opening of the volume to its end."""

    def __init__(
        self,
        endpoint: Endpoint,
        groups: Mapping[PgId, QuorumModel],
        lal: int,
        config: EngineConfig,
        writer_id: int,
        *,
        fresh: RecoveryPlan | None = None,
        read_only: bool = False,
        counter: int = 2,
        clock: Callable[[], int] = no_clock,
        known_vdl: Lsn = 0,
        accepts_rollback: bool = False,
        lost: Callable[[], Collection[SegmentId]] = tuple,
        trace: Tracer | None = None,
        names: Callable[[], Mapping[int, Address]] = dict,
    ) -> None:
        """As `aurora.engine.Engine`."""
        self.name = endpoint.address
        self.writer_id = writer_id
        self.groups = groups
        self.config = config
        self.trace = trace
        self.core: WriterCore | None = None
        self.recovery: Recovery | None = None
        self.error: AuroraError | None = None
        self.commits = CommitQueue()
        self.committed = 0
        self.opening_since_s = inf
        self._endpoint = endpoint
        self._lal = lal
        self._fresh = fresh
        self._read_only = read_only
        self._counter = counter
        self._clock = clock
        self._known_vdl = known_vdl
        self._accepts_rollback = accepts_rollback
        self._lost = lost
        self._names = names
        self._run: trio.lowlevel.TrioToken | None = None
        self._intake: CommitIntake | None = None
        self._observed_vdl = 0
        self._alone = False
        """Whether the VDL last reached one commit alone: nobody else is about to commit."""
        self._opened_or_ended = trio.Event()
        self._to_send = trio.Event()
        self._waiting: dict[Pending, trio.Event] = {}
        self.when_ended: Callable[[], None] | None = None
        """Called when this writer has ended, by what is built on it."""

    # ---- for callers -----------------------------------------------------------------------------

    def usable(self) -> WriterCore:
        """The core, if this writer has opened the volume and not ended."""
        if self.error is not None:
            raise type(self.error)(*self.error.args)
        if self.core is None or not self.core.opened:
            raise Unavailable(f"{self.name} has not opened the volume yet")
        check_run(self._run)
        return self.core

    def writable(self) -> WriterCore:
        """The core, as `usable`, for a call that changes something, or vouches for the latest."""
        core = self.usable()
        if self._read_only:
            raise ReadOnly(
                f"{self.name} has a copy of the volume, for reading alone: expected one that was "
                "opened to be written"
            )
        return core

    # These run in the caller's task; Ctrl-C reaches it where they wait, not amid a step.
    @trio.lowlevel.enable_ki_protection
    async def commit(self, writes: Sequence[PageWrite]) -> Commit:
        """Make the writes part of the log, as soon as it has room for them."""
        core = self.writable()
        assert self._intake is not None
        lsn = self._intake.at_once(writes)
        if lsn is None:
            pending = self._intake.begin(writes, trio.current_time())
            await self.see_through(pending)
            lsn = pending.result()
        commit = self.commits.add(lsn)
        if self._alone and len(self.commits) == 1:
            self._send(core)
        else:
            self._to_send.set()  # so that what others have to commit goes along
        return commit

    async def read_head(self, page_id: PageId) -> PageImage:
        """A page's newest version, durable or not, which the buffer pool does not have."""
        self.usable()
        assert self._intake is not None
        pending = PendingHead(self._intake, page_id, trio.current_time())
        await self.see_through(pending)
        return pending.result()

    @trio.lowlevel.enable_ki_protection
    async def see_through(self, pending: Pending) -> None:
        """Sleep until it is done; raises only if this writer ends before that, or as cancelled.

        What is in the log in part cannot be cancelled: the caller is, once it is done.
        """
        try:
            while (timer := pending.next_timer()) is not None:
                running = self._intake is not None and self._intake.is_running(pending)
                if running or isfinite(timer):
                    self._to_send.set()
                await self._sleep(pending, timer, shield=running)
                self.usable()
                if not pending.done:
                    pending.on_timer(trio.current_time())
        finally:
            pending.end()
            self._wake()

    async def _sleep(self, pending: Pending, until: float, *, shield: bool) -> None:
        woken = self._waiting[pending] = trio.Event()
        try:
            with trio.move_on_at(until) as scope:
                scope.shield = shield
                await woken.wait()
        finally:
            del self._waiting[pending]

    def _wake(self) -> None:
        """Have those looked at again for whom something has happened, in order."""
        if self._intake is None or self.core is None:
            return
        for some in (self._intake.take_woken(), self.core.reading.take_finished()):
            for pending in some:
                woken = self._waiting.get(pending)
                if woken is not None:
                    woken.set()

    def waits(self) -> list[WaitSnapshot]:
        """What calls wait for at the moment: of each kind and group, what has waited longest."""
        waits = [pending.wait for pending in self._waiting]
        core = self.core
        if core is not None and core.outstanding is not None:
            pg_ids = (core.outstanding[1],)
            waits.append(
                WaitSnapshot(kind=WaitKind.COMMITS, since_s=core.outstanding_since_s, pg_ids=pg_ids)
            )
        oldest: dict[object, WaitSnapshot] = {}
        for each in sorted(waits, key=lambda wait: wait.since_s):
            oldest.setdefault((each.kind, each.pg_ids), each)
        return list(oldest.values())

    # ---- running ---------------------------------------------------------------------------------

    # Ctrl-C is the caller's: amid a step here it would leave it neither done nor undone.
    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open the volume, then serve until cancelled or fenced.

        ``task_status`` is told when the volume is open. Raises `Fenced` if another writer takes
        over before that, `VolumeRolledBack` if less is left than the volume once had.
        """
        self._run = trio.lowlevel.current_trio_token()
        self.opening_since_s = trio.current_time()
        try:
            plan = self._fresh or await self._recover()
            core = self.core = (ReaderCore if self._read_only else WriterCore)(
                plan, self.groups, self._lal, self.config,
                fresh=self._fresh is not None, clock=self._clock,
                trace=self.trace, name=self.name,
            )  # fmt: skip
            intake = self._intake = CommitIntake(core, self.trace)
            self._observed_vdl = core.vdl
            self._to_send.set()  # a truncation table waits to be installed
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    self._receive, core, intake, nursery, name=f"{self.name} receive"
                )
                nursery.start_soon(self._pump, core, name=f"{self.name} send")
                nursery.start_soon(self._keep_time, core, intake, name=f"{self.name} time")
                if not core.opened and self.error is None:
                    await self._opened_or_ended.wait()
                if core.opened:
                    task_status.started()
            if not core.opened and self.error is not None:
                raise type(self.error)(*self.error.args)
        finally:
            self._end(Closed(f"{self.name} has been closed"))
            self._endpoint.close()

    async def _recover(self) -> RecoveryPlan:
        """Hold the conversation of `Recovery`; waits as long as a read quorum is missing."""
        recovery = self.recovery = Recovery(
            self.writer_id, self.groups, self._lal, self.config,
            counter=self._counter, read_only=self._read_only, known_vdl=self._known_vdl,
            accepts_rollback=self._accepts_rollback, lost=self._lost,
            trace=self.trace, name=self.name,
        )  # fmt: skip
        while not recovery.done:
            recovery.tick(trio.current_time())
            for segment, message in recovery.take_sends():
                self._endpoint.send(segment, codec.encode(message))
            with trio.move_on_after(self.config.seal_retry_s):
                envelopes = await self._endpoint.receive(self.config.receive_limit)
                for _, payload in envelopes:
                    with suppress(MalformedMessage):
                        recovery.step(codec.decode(payload), trio.current_time())
        if recovery.plan is None:
            assert recovery.error is not None
            error = type(recovery.error)(name_writers(str(recovery.error), self._names()))
            self._end(error)
            raise error
        return recovery.plan

    def _fenced(self, text: str) -> Fenced:
        return Fenced(name_writers(text, self._names()))

    @trio.lowlevel.enable_ki_protection
    async def _receive(self, core: WriterCore, intake: CommitIntake, nursery: trio.Nursery) -> None:
        def take(envelope: Envelope) -> bool:
            self._hear(core, intake, nursery, (envelope,))
            return True

        limit = self.config.receive_limit
        while core.fenced is None:
            envelopes = await self._endpoint.receive(limit, take)
            self._hear(core, intake, nursery, envelopes)

    def _hear(
        self,
        core: WriterCore,
        intake: CommitIntake,
        nursery: trio.Nursery,
        envelopes: Sequence[Envelope],
    ) -> None:
        """Take messages, and wake whoever has waited for what they prove."""
        now, opened = trio.current_time(), core.opened
        for _, payload in envelopes:
            try:
                core.step(codec.decode(payload), now)
            except MalformedMessage:
                continue
        if core.opened and (core.vdl > self._observed_vdl or not opened):
            self._observed_vdl = core.vdl
            commits = self.commits.advance(core.vdl)
            self.committed += commits
            self._alone = commits == 1
            if self.trace is not None:
                self.trace(self.name, events.CommitsAcknowledged(core.vdl, commits))
            self._opened_or_ended.set()
            intake.progress()
        elif intake.line:  # what has left the outgoing logs makes room, too
            intake.progress()
        self._wake()
        if core.sends_due:
            self._to_send.set()
        if core.fenced is not None:
            own = core.epoch.of(self.name)
            self._end(self._fenced(f"epoch {own}: epoch {core.fenced} has been sealed"))
            nursery.cancel_scope.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _pump(self, core: WriterCore) -> None:
        """Send what there is; whatever comes up meanwhile goes into the next messages together."""
        while True:
            await self._to_send.wait()
            self._to_send = trio.Event()
            self._send(core)

    def _send(self, core: WriterCore) -> None:
        for segment, message in core.take_sends(trio.current_time()):
            self._endpoint.send(segment, codec.encode(message))

    @trio.lowlevel.enable_ki_protection
    async def _keep_time(self, core: WriterCore, intake: CommitIntake) -> None:
        while True:
            await trio.sleep(self.config.tick_interval_s)
            core.tick(trio.current_time())
            self._to_send.set()
            if intake.line:  # what has left the outgoing logs makes room, too
                intake.progress()
                self._wake()

    def _end(self, error: AuroraError) -> None:
        """Fail every pending and later call."""
        if self.error is None:
            self.error = error
        self.commits.fail_all(self.error)
        self._opened_or_ended.set()
        if self._intake is None:
            return
        self._intake.progress()
        self._wake()
        for pending, woken in list(self._waiting.items()):
            if not self._intake.is_behind(pending):  # those follow as the first leaves the line
                woken.set()
        if self.when_ended is not None:
            self.when_ended()
