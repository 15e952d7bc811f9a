"""The compute engine: the public, asynchronous face of a volume.

A thin trio shell around `aurora.core`: one task receives, one sends, one lets time pass; callers
run in tasks of their own and wait for the VDL, for pages, or for room. All that is decided is
decided in the cores.

(More than 400 lines: the calls and the tasks that serve them share one state, and half of the text
is what callers need to know.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from math import inf
from reprlib import repr as shown
from typing import NamedTuple

import attrs
import trio

from aurora import events
from aurora.arguments import check_flag
from aurora.buffer_pool import PoolStatistics
from aurora.commit_queue import Commit, CommitQueue
from aurora.config import EngineConfig
from aurora.core import WriterCore
from aurora.diagnosis import WaitSnapshot
from aurora.health import WaitKind
from aurora.mtr import MiniTransaction, PageWrite
from aurora.page_list import PageIds, checked_range
from aurora.quorum import QuorumModel
from aurora.read_router import Answer, PendingRead
from aurora.recovery import Recovery
from aurora.recovery_plan import RecoveryPlan
from aurora.trio_run import check_run
from segments.protocol import codec
from segments.protocol.errors import (
    AuroraError,
    Closed,
    Fenced,
    InvalidWrite,
    MalformedMessage,
    PageNotFound,
    Unavailable,
)
from segments.protocol.events import Tracer
from segments.protocol.ids import (
    Address,
    Lsn,
    PageId,
    PgId,
    SegmentId,
    VolumeEpoch,
    name_writers,
)
from segments.protocol.messages import PageImage, PageReply, PagesListed
from segments.protocol.record import BytesLike, checked_page_id
from segments.protocol.transport import Endpoint


@attrs.frozen
class EngineStatistics:
    """A writer at one moment."""

    epoch: VolumeEpoch
    last_allocated_lsn: Lsn
    vcl: Lsn
    vdl: Lsn
    floor: Lsn
    lsn_limit: Lsn
    pgcl: Mapping[PgId, Lsn]
    scl: Mapping[SegmentId, Lsn]
    """The SCL of each segment, as last heard of in this epoch."""
    commits: int
    """Mini-transactions that have become durable."""
    commits_waiting: int
    """Those that are part of the log and not durable yet."""
    resends: int
    pool: PoolStatistics


class PageRead(NamedTuple):
    """A page, and the LSN as of which it was read."""

    read_point: Lsn
    page: PageImage
    """Its contents, and the LSN of its newest change at the read point."""


class ReadView:
    """Reads at one read point, whose versions are kept while the view is open."""

    def __init__(self, engine: Engine, lsn: Lsn) -> None:
        self.lsn = lsn
        self._engine = engine

    async def get(self, page_id: PageId) -> bytes:
        """The page at the view's LSN, 8,192 bytes; raises `PageNotFound`."""
        return await self._engine.get_at(page_id, self.lsn)

    def pages(self, start: PageId = 0, end: PageId | None = None) -> PageIds:
        """The ids of all pages in the half-open ``[start, end)`` at the view's LSN, ascending.

        As `Engine.pages`, and safe from collection as long as the view is open.
        """
        return self._engine.pages(start, end, lsn=self.lsn)


class Engine:
    """One writer incarnation. Made, run and closed by a cluster.

    Calls may be made from any number of tasks, and cancelled at any moment. A commit that is
    cancelled while it waits may become durable or not, but whole, like any that was never reported.
    From outside of the trio run that opened the volume, calls raise `OutsideTrio`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        groups: Mapping[PgId, QuorumModel],
        lal: int,
        config: EngineConfig,
        writer_id: int,
        *,
        fresh: RecoveryPlan | None = None,
        counter: int = 2,
        trace: Tracer | None = None,
        names: Callable[[], Mapping[int, Address]] = dict,
    ) -> None:
        """``groups`` and ``lal`` are the volume's.

        ``fresh`` is the plan of a volume formatted a moment ago; without it `run` recovers.

        ``counter`` is a guess at an epoch that nobody has sealed yet; segments correct it.
        ``names`` knows writers by their ids, for the epochs in errors.
        """
        self.name = endpoint.address
        self.writer_id = writer_id
        self.core: WriterCore | None = None
        """None until the volume has been recovered."""
        self.recovery: Recovery | None = None
        self._endpoint = endpoint
        self._groups = groups
        self._lal = lal
        self._config = config
        self._fresh = fresh
        self._counter = counter
        self._trace = trace
        self._names = names
        self._run: trio.lowlevel.TrioToken | None = None
        self._error: AuroraError | None = None
        self._commits = CommitQueue()
        self._committed = 0
        self._observed_vdl: Lsn = 0
        self._changed = trio.lowlevel.ParkingLot()
        self._room = trio.StrictFIFOLock()
        self._to_send = trio.Event()
        self._waiting: dict[object, trio.Event] = {}
        self._held_up: dict[object, WaitSnapshot] = {}
        self.opening_since_s = inf
        """When it began to open the volume, in trio's time; infinite before."""

    # ---- writing ---------------------------------------------------------------------------------

    async def put(self, page_id: PageId, offset: int, data: BytesLike) -> Lsn:
        """Write ``data`` at ``offset`` of a page, and return its commit LSN once it is durable.

        Durable means VDL >= LSN: a write quorum (4 of 6) holds it and everything before it (2017
        §4.2.2). ``data`` is bytes, a bytearray, a memoryview or the like, and is copied before the
        call first waits. Raises `InvalidPage` or `InvalidWrite` before anything changes; `Fenced`
        or `Closed` if this writer ended before the commit was acknowledged, which may then survive
        or not.
        """
        commit = await self._submit([PageWrite.checked(page_id, offset, data)])
        return await commit.durable()

    async def put_many(self, writes: Iterable[tuple[PageId, int, BytesLike]]) -> Lsn:
        """Write ``(page_id, offset, data)`` in order as one mini-transaction: all of it or nothing.

        Returns and raises as `put`; `InvalidWrite` also for no writes, or more than one MTR holds.
        """
        commit = await self._submit(self._gathered(writes))
        return await commit.durable()

    async def submit(self, writes: Iterable[tuple[PageId, int, BytesLike]]) -> Commit:
        """As `put_many`, but return as soon as the writes are part of the log.

        ``await commit.durable()`` is what `put_many` would have waited for, now, later or never.
        Calls of one task get their LSNs in the order of the calls. How much can be under way is
        bounded: a call waits while the LSN allocation limit or the outgoing log is exhausted. If it
        is cancelled or raises, nothing was written.
        """
        gathered = self._gathered(writes)
        await trio.lowlevel.checkpoint()  # the log takes them at once, if it has room
        return await self._submit(gathered)

    @asynccontextmanager
    async def mini_transaction(self, *, wait: bool = True) -> AsyncIterator[MiniTransaction]:
        """Gather writes with ``mtr.write(page_id, offset, data)``; commit them when the block ends.

        ``await mtr.read(page_id)`` sees them before. The block ends when they are durable, or, with
        ``wait`` False, when they are part of the log, as `submit`: ``await mtr.commit.durable()``
        then waits for the rest. ``mtr.commit`` and ``mtr.commit_lsn`` are None if nothing was
        written. If the block raises, nothing is written.
        """
        self._usable()
        check_flag("wait", wait)
        with self._snapshot() as read_page:
            mtr = MiniTransaction(self._config.max_mtr_writes, read_page)
            try:
                yield mtr
            except BaseException:
                if not mtr.ended:
                    mtr.end()
                raise
            writes = mtr.end()
        if writes:
            mtr.commit = await self._submit(writes)
            if wait:
                await mtr.commit.durable()

    def _gathered(self, writes: Iterable[tuple[PageId, int, BytesLike]]) -> list[PageWrite]:
        """The writes of one MTR, checked and copied."""
        mtr = MiniTransaction(self._config.max_mtr_writes)
        for page_id, offset, data in _triples(writes):
            mtr.write(page_id, offset, data)
        return mtr.end()

    @contextmanager
    def _snapshot(self) -> Iterator[Callable[[PageId], Awaitable[PageImage]]]:
        """Reads at one read point, the VDL at the first of them, kept until the block ends."""
        held: list[tuple[WriterCore, Lsn]] = []

        async def read_page(page_id: PageId) -> PageImage:
            core = self._usable()
            if not held:
                core.reading.hold(core.vdl)
                held.append((core, core.vdl))
            return await self._version(core, page_id, held[0][1])

        try:
            yield read_page
        finally:
            for core, read_point in held:
                core.reading.release(read_point)

    async def _submit(self, writes: list[PageWrite]) -> Commit:
        """Make the writes part of the log, as soon as it has room for them."""
        core = self._usable()
        core.check_mtr(writes)
        page_ids = dict.fromkeys([write.page_id for write in writes])
        if not core.pool.pin(page_ids):
            with self._held_up_for(WaitKind.POOL):
                while not core.pool.pin(page_ids):
                    await self._progress()
        try:
            if missing := core.bring_in_absent(page_ids):
                with self._held_up_for(WaitKind.PAGES, map(core.pg_of, missing)):
                    while missing:
                        await self._bring_in(core, missing)
                        missing = core.bring_in_absent(page_ids)
            if self._room.locked() or not core.has_room(len(writes)):
                with self._held_up_for(WaitKind.ROOM):
                    await self._wait_for_room(core, len(writes))
            commit = self._commits.add(core.submit(writes))
        finally:
            core.pool.unpin(page_ids)
            if self._changed:
                self._changed.unpark_all()
        self._to_send.set()
        return commit

    async def _bring_in(self, core: WriterCore, missing: Iterable[PageId]) -> None:
        """Fetch pages into the buffer pool: a record links to its page's newest change."""
        for page_id in missing:
            try:
                page, read_point = await self._fetch(core, page_id, core.vdl)
            except Unavailable:
                self._usable()  # unlike a read, a write waits for as long as it takes (§9)
                return
            while not core.pool.install(page, read_point, core.vdl):
                if core.pool.make_room(1, core.vdl):
                    break  # the page may have changed since: ask again
                await self._progress()

    async def _wait_for_room(self, core: WriterCore, count: int) -> None:
        async with self._room:  # first come, first served: a long MTR is not starved by short ones
            self._usable()  # it may have ended while we queued, and nothing will wake us then
            if self._trace is not None:
                self._trace(self.name, events.RoomWaitStarted(count, core.lsn_limit))
            while not core.has_room(count):
                await self._progress()

    async def _progress(self) -> None:
        """Sleep until there may be room: more is durable, or unpinned, or has left the log."""
        self._usable()
        await self._changed.park()
        self._usable()

    # ---- reading ---------------------------------------------------------------------------------

    async def get(self, page_id: PageId, *, strict: bool = False, cached: bool = True) -> bytes:
        """The page at the VDL of the moment of the call: 8,192 bytes.

        With ``strict`` the read is linearizable whatever happens: a read quorum first confirms that
        no other writer has taken over; a deposed writer raises `Fenced` (protocol §5). Without
        ``cached`` the buffer pool is not asked: a segment answers. Raises `PageNotFound` for a page
        never written, `Unavailable` when nobody can answer.
        """
        return (await self.read(page_id, strict=strict, cached=cached)).page.image

    async def get_at(self, page_id: PageId, lsn: Lsn, *, cached: bool = True) -> bytes:
        """The page as of ``lsn`` (inclusive), any LSN from the floor to the VDL.

        Raises `ReadPointAboveVdl`, `ReadPointBelowFloor`, and as `get`.
        """
        page_id = checked_page_id(page_id)
        lsn = self._usable().reading.checked_read_point(lsn)  # for `read`, None would mean the VDL
        return (await self.read(page_id, lsn, cached=cached)).page.image

    async def read(
        self,
        page_id: PageId,
        lsn: Lsn | None = None,
        *,
        strict: bool = False,
        cached: bool = True,
    ) -> PageRead:
        """As `get`, or with an ``lsn`` as `get_at`, and say as of which LSN the page was read."""
        page_id = checked_page_id(page_id)
        check_flag("strict", strict)
        check_flag("cached", cached)
        core = self._usable()
        if lsn is not None:
            lsn = core.reading.checked_read_point(lsn)
        if strict:
            with self._held_up_for(WaitKind.READS, [core.pg_of(page_id)]):
                await self._confirm(core, page_id)
        read_point = core.vdl if lsn is None else lsn
        return PageRead(read_point, await self._get(core, page_id, read_point, cached))

    @asynccontextmanager
    async def read_view(self, lsn: Lsn | None = None) -> AsyncIterator[ReadView]:
        """Pin a read point, the VDL by default: its versions are kept until the block ends."""
        core = self._usable()
        read_point = core.vdl if lsn is None else core.reading.checked_read_point(lsn)
        core.reading.hold(read_point)
        try:
            yield ReadView(self, read_point)
        finally:
            core.reading.release(read_point)

    async def _get(
        self, core: WriterCore, page_id: PageId, read_point: Lsn, cached: bool
    ) -> PageImage:
        page = await self._version(core, page_id, read_point, cached)
        if page.page_lsn == 0:
            raise PageNotFound(f"page {page_id} at {read_point}: expected a page that was written")
        return page

    async def _version(
        self, core: WriterCore, page_id: PageId, read_point: Lsn, cached: bool = True
    ) -> PageImage:
        """The page from the pool or a segment; LSN 0 and no bytes if it was not yet written."""
        page = core.pool.read(page_id, read_point, core.vdl) if cached else None
        if cached and self._trace is not None:
            page_lsn = None if page is None else page.page_lsn
            self._trace(self.name, events.PoolLookedUp(page_id, read_point, page_lsn))
        if page is None:
            with self._held_up_for(WaitKind.READS, [core.pg_of(page_id)]):
                page, _ = await self._fetch(core, page_id, read_point)
            known = page_id in core.pool
            kept = core.pool.install(page, read_point, core.vdl) and not known
            if self._trace is not None:
                cached_page = events.PageCached(page_id, read_point, page.page_lsn, kept)
                self._trace(self.name, cached_page)
        else:
            await trio.lowlevel.checkpoint()
            self._usable()
        return page

    def pages(
        self, start: PageId = 0, end: PageId | None = None, *, lsn: Lsn | None = None
    ) -> PageIds:
        """The ids of all pages in the half-open ``[start, end)`` that exist, ascending.

        As of ``lsn``, by default the VDL of the moment of the call; a page exists from its first
        write on. Go through them with ``async for page_id in engine.pages()``; they come in parts
        of bounded size (`EngineConfig.list_pages`), each asked of segments as a page is. Between
        parts nothing keeps the read point from falling below the floor, which then raises
        `ReadPointBelowFloor`: take `ReadView.pages` where that matters.

        Raises `InvalidPage` and as `get_at` at once; `Unavailable` when nobody can answer.
        """
        first, last = checked_range(start, end)
        core = self._usable()
        read_point = core.vdl if lsn is None else core.reading.checked_read_point(lsn)

        async def ask(pg_id: PgId, first: PageId, last: PageId) -> PagesListed:
            core = self._usable()
            core.reading.checked_read_point(read_point)
            read = core.reading.list_pages(pg_id, first, last, read_point, trio.current_time())
            with self._held_up_for(WaitKind.READS, [pg_id]):
                answer = await self._answer(core, read, read_point)
            assert isinstance(answer, PagesListed)
            return answer

        return PageIds(ask, self._groups, first, last, read_point)

    async def _fetch(
        self, core: WriterCore, page_id: PageId, read_point: Lsn
    ) -> tuple[PageImage, Lsn]:
        """Have one segment materialize the page."""
        read = core.reading.read_page(page_id, read_point, trio.current_time())
        answer = await self._answer(core, read, read_point)
        assert isinstance(answer, PageReply)
        return answer.page, read_point

    async def _answer(self, core: WriterCore, read: PendingRead, read_point: Lsn) -> Answer:
        """See a read through to its end; the floor stays at or below the read point meanwhile."""
        core.reading.hold(read_point)
        try:
            while (timer := read.next_timer()) is not None:
                await self._wait(read, timer)
                if not read.done:
                    core.reading.on_timer(read, trio.current_time())
            return read.result()
        finally:
            core.reading.finish(read)
            core.reading.release(read_point)

    async def _confirm(self, core: WriterCore, page_id: PageId) -> None:
        confirmation = core.reading.confirm(page_id)
        deadline = trio.current_time() + self._config.read_timeout_s
        try:
            while not confirmation.done:
                now = trio.current_time()
                if now >= deadline:
                    heard = sorted(confirmation.confirmed_by)
                    raise Unavailable(
                        f"a strict read of page {page_id}: epoch {core.epoch.of(self.name)} was "
                        f"confirmed by {', '.join(heard) or 'no segment'} alone: expected a read "
                        f"quorum of {', '.join(core.members(confirmation.pg_id))}"
                    )
                await self._wait(confirmation, min(deadline, now + self._config.resend_max_s))
                if not confirmation.done:
                    core.reading.ask_again(confirmation)
        finally:
            core.reading.end_confirmation(confirmation)

    async def _wait(self, question: object, until: float) -> None:
        """Sleep until the question is answered or the time has come; raises if the writer ends."""
        answered = self._waiting[question] = trio.Event()
        self._to_send.set()
        try:
            with trio.move_on_at(until):
                await answered.wait()
        finally:
            del self._waiting[question]
        self._usable()

    # ---- state -----------------------------------------------------------------------------------

    @property
    def vcl(self) -> Lsn:
        """Volume complete LSN."""
        return self._usable().vcl

    @property
    def vdl(self) -> Lsn:
        """Volume durable LSN: what is read by default, and what commits wait for."""
        return self._usable().vdl

    @property
    def error(self) -> AuroraError | None:
        """Why this writer has ended; None while it runs."""
        return self._error

    def statistics(self) -> EngineStatistics:
        """Watermarks, segments, and counts since this writer opened the volume."""
        core = self._usable()
        scl: dict[SegmentId, Lsn] = {}
        for pg_id in self._groups:
            scl.update(core.scls(pg_id))
        return EngineStatistics(
            epoch=core.epoch,
            last_allocated_lsn=core.last_allocated_lsn,
            vcl=core.vcl,
            vdl=core.vdl,
            floor=core.reading.floor,
            lsn_limit=core.lsn_limit,
            pgcl={pg_id: core.pgcl(pg_id) for pg_id in self._groups},
            scl=scl,
            commits=self._committed,
            commits_waiting=len(self._commits),
            resends=sum(stream.resends for stream in core.streams.values()),
            pool=core.pool.statistics,
        )

    def waits(self) -> list[WaitSnapshot]:
        """What calls wait for at the moment: of each kind and group, what has waited longest."""
        waits = list(self._held_up.values())
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

    @contextmanager
    def _held_up_for(self, kind: WaitKind, pg_ids: Iterable[PgId] = ()) -> Iterator[None]:
        """Say in `waits` what the block waits for, in these groups or else in all."""
        groups = tuple(sorted({*pg_ids})) or (*self._groups,)
        wait, token = WaitSnapshot(kind=kind, since_s=trio.current_time(), pg_ids=groups), object()
        self._held_up[token] = wait
        try:
            yield
        finally:
            del self._held_up[token]

    def _usable(self) -> WriterCore:
        """The core, if this writer has opened the volume and not ended."""
        if self._error is not None:
            raise type(self._error)(*self._error.args)
        if self.core is None or not self.core.opened:
            raise Unavailable(f"{self.name} has not opened the volume yet")
        check_run(self._run)
        return self.core

    def _end(self, error: AuroraError) -> None:
        """Fail every pending and later call."""
        if self._error is None:
            self._error = error
        self._commits.fail_all(self._error)
        self._changed.unpark_all()
        for answered in list(self._waiting.values()):
            answered.set()

    # ---- running ---------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open the volume, then serve until cancelled or fenced.

        ``task_status`` is told when the volume is open. Raises `Fenced` if another writer takes
        over before that.
        """
        self._run = trio.lowlevel.current_trio_token()
        self.opening_since_s = trio.current_time()
        try:
            plan = self._fresh or await self._recover()
            self.core = WriterCore(
                plan, self._groups, self._lal, self._config,
                fresh=self._fresh is not None, trace=self._trace, name=self.name,
            )  # fmt: skip
            self._observed_vdl = self.core.vdl
            self._to_send.set()  # a truncation table waits to be installed
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._receive, self.core, nursery, name=f"{self.name} receive")
                nursery.start_soon(self._pump, self.core, name=f"{self.name} send")
                nursery.start_soon(self._keep_time, self.core, name=f"{self.name} time")
                while not self.core.opened and self._error is None:
                    await self._changed.park()
                if self.core.opened:
                    task_status.started()
            if not self.core.opened and self._error is not None:
                raise type(self._error)(*self._error.args)
        finally:
            self._end(Closed(f"{self.name} has been closed"))
            self._endpoint.close()

    async def _recover(self) -> RecoveryPlan:
        """Hold the conversation of `Recovery`; waits as long as a read quorum is missing."""
        recovery = self.recovery = Recovery(
            self.writer_id, self._groups, self._lal, self._config,
            counter=self._counter, trace=self._trace, name=self.name,
        )  # fmt: skip
        while not recovery.done:
            recovery.tick(trio.current_time())
            for segment, message in recovery.take_sends():
                self._endpoint.send(segment, codec.encode(message))
            with trio.move_on_after(self._config.seal_retry_s):
                envelopes = await self._endpoint.receive(self._config.receive_limit)
                for _, payload in envelopes:
                    with suppress(MalformedMessage):
                        recovery.step(codec.decode(payload), trio.current_time())
        if recovery.plan is None:
            assert recovery.error is not None
            error = self._fenced(str(recovery.error))
            self._end(error)
            raise error
        return recovery.plan

    def _fenced(self, text: str) -> Fenced:
        return Fenced(name_writers(text, self._names()))

    async def _receive(self, core: WriterCore, nursery: trio.Nursery) -> None:
        limit = self._config.receive_limit
        while core.fenced is None:
            envelopes = await self._endpoint.receive(limit)
            now = trio.current_time()
            opened = core.opened
            for _, payload in envelopes:
                try:
                    core.step(codec.decode(payload), now)
                except MalformedMessage:
                    continue
            if core.opened and (core.vdl > self._observed_vdl or not opened):
                self._observed_vdl = core.vdl
                commits = self._commits.advance(core.vdl)
                self._committed += commits
                if self._trace is not None:
                    self._trace(self.name, events.CommitsAcknowledged(core.vdl, commits))
                self._changed.unpark_all()
            for question in core.reading.take_finished():
                answered = self._waiting.get(question)
                if answered is not None:
                    answered.set()
            self._to_send.set()
        own = core.epoch.of(self.name)
        self._end(self._fenced(f"epoch {own}: epoch {core.fenced} has been sealed"))
        nursery.cancel_scope.cancel()

    async def _pump(self, core: WriterCore) -> None:
        """Send what there is; whatever comes up meanwhile goes into the next messages together."""
        endpoint = self._endpoint
        while True:
            await self._to_send.wait()
            self._to_send = trio.Event()
            for segment, message in core.take_sends(trio.current_time()):
                endpoint.send(segment, codec.encode(message))

    async def _keep_time(self, core: WriterCore) -> None:
        while True:
            await trio.sleep(self._config.tick_interval_s)
            core.tick(trio.current_time())
            self._to_send.set()
            if self._room.locked():  # what has left the outgoing logs makes room, too
                self._changed.unpark_all()


def _triples(
    writes: Iterable[tuple[PageId, int, BytesLike]],
) -> Iterator[tuple[PageId, int, BytesLike]]:
    """The writes, one by one; raises `InvalidWrite` for what is not made of three values."""
    try:
        iterator = iter(writes)
    except TypeError:
        raise InvalidWrite(
            f"writes is {shown(writes)}: expected (page_id, offset, data), any number of them"
        ) from None
    for write in iterator:
        try:
            page_id, offset, data = write
        except (TypeError, ValueError):
            raise InvalidWrite(
                f"a write is {shown(write)}: expected (page_id, offset, data)"
            ) from None
        yield page_id, offset, data
