"""The compute engine: the public, asynchronous face of a volume.

What can be called, and what callers need to know of it. The tasks that serve the calls, and the
loop that they wait in, are in `aurora.writer_shell`; all that is decided is decided in the cores.

(More than 400 lines: most of them tell callers what each call promises and raises.)
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import NamedTuple

import attrs
import trio

from aurora.arguments import check_flag
from aurora.buffer_pool import PoolStatistics
from aurora.commit_queue import Commit
from aurora.config import EngineConfig
from aurora.core import WriterCore
from aurora.floor import FloorHold
from aurora.many_pages import ManyPages
from aurora.mtr import MiniTransaction, PageWrite, gathered
from aurora.page_list import (
    ChangedPages,
    PageIds,
    checked_after,
    checked_page_ids,
    checked_range,
)
from aurora.pending import WaitSnapshot
from aurora.quorum import QuorumModel
from aurora.read_router import Answer
from aurora.reading import SegmentRead
from aurora.recovery import Recovery
from aurora.recovery_plan import RecoveryPlan
from aurora.writer_clock import no_clock
from aurora.writer_shell import WriterShell
from segments.protocol.errors import (
    AuroraError,
    Invalid,
    PageNotFound,
)
from segments.protocol.events import Tracer
from segments.protocol.ids import (
    MAX_INTEGER,
    Address,
    Lsn,
    PageId,
    PgId,
    SegmentId,
    VolumeEpoch,
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
    """The oldest version that may still be read; segments drop what is older."""
    floor_held_by: FloorHold
    """Why it is not higher."""
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
    """Reads at one read point, whose versions are kept while the view is open.

    Once its block has ended calls raise `Invalid`: nothing keeps those versions any more.
    """

    def __init__(self, engine: Engine, lsn: Lsn) -> None:
        self.lsn = lsn
        self._engine = engine
        self._ended = False

    def _end(self) -> None:
        self._ended = True

    def _check_open(self) -> None:
        if self._ended:
            raise Invalid(f"the read view at {self.lsn} has ended: expected one that is open")

    async def get(self, page_id: PageId) -> bytes:
        """The page at the view's LSN, 8,192 bytes; raises `PageNotFound`."""
        self._check_open()
        return await self._engine.get_at(page_id, self.lsn)

    async def get_many(self, page_ids: Iterable[PageId]) -> list[PageImage]:
        """Many pages at the view's LSN, in their order, as `Engine.get_many`."""
        self._check_open()
        return await self._engine.get_many(page_ids, self.lsn)

    def pages(self, start: PageId = 0, end: PageId | None = None) -> PageIds:
        """The ids of all pages in the half-open ``[start, end)`` at the view's LSN, ascending.

        As `Engine.pages`, and safe from collection as long as the view is open.
        """
        self._check_open()
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
        read_only: bool = False,
        counter: int = 2,
        clock: Callable[[], int] = no_clock,
        known_vdl: Lsn = 0,
        accepts_rollback: bool = False,
        lost: Callable[[], Collection[SegmentId]] = tuple,
        trace: Tracer | None = None,
        names: Callable[[], Mapping[int, Address]] = dict,
    ) -> None:
        """``groups`` and ``lal`` are the volume's.

        ``fresh`` is the plan of a volume formatted a moment ago; without it `run` recovers.
        ``read_only`` says that the segments are copies: they are recovered, and then only read.

        ``counter`` is a guess at an epoch that nobody has sealed yet; segments correct it.
        ``clock`` gives nanoseconds since the epoch of Unix, for the commits.
        ``known_vdl`` is one that the volume has surely reached, ``lost`` are the segments that
        nobody need wait for; ``accepts_rollback`` opens what is there, whatever is known of it.
        ``names`` knows writers by their ids, for the epochs in errors.
        """
        self.name = endpoint.address
        self.waits_above: Callable[[], Collection[WaitSnapshot]] = tuple
        """What is waited for in front of this writer, by what is built on it."""
        self.writer_id = writer_id
        self._groups = groups
        self._config = config
        self._shell = WriterShell(
            endpoint, groups, lal, config, writer_id,
            fresh=fresh, read_only=read_only, counter=counter, clock=clock, known_vdl=known_vdl,
            accepts_rollback=accepts_rollback, lost=lost, trace=trace, names=names,
        )  # fmt: skip
        self._usable = self._shell.usable

    # ---- writing ---------------------------------------------------------------------------------

    async def put(self, page_id: PageId, offset: int, data: BytesLike) -> Lsn:
        """Write ``data`` at ``offset`` of a page, and return its commit LSN once it is durable.

        Durable means VDL >= LSN: a write quorum (4 of 6) holds it and everything before it (2017
        §4.2.2). ``data`` is bytes, a bytearray, a memoryview or the like, and is copied before the
        call first waits. Raises `InvalidPage`, `InvalidWrite` or `VolumeFull` before anything
        changes; `Fenced`
        or `Closed` if this writer ended before the commit was acknowledged, which may then survive
        or not.
        """
        commit = await self._shell.commit([PageWrite.checked(page_id, offset, data)])
        return await commit.durable()

    async def put_many(self, writes: Iterable[tuple[PageId, int, BytesLike]]) -> Lsn:
        """Write ``(page_id, offset, data)`` in order as one mini-transaction: all of it or nothing.

        Returns and raises as `put`; `InvalidWrite` also for no writes, or more than one MTR holds
        (`EngineConfig.max_mtr_writes`, `max_mtr_bytes`, and the LAL).

        A large one (`EngineConfig.part_writes`) becomes part of the log in several steps, and
        counts from the last: other writes wait meanwhile. Its writes may then stand in another
        order in the log: those to a page together, where the last of them was. From the first step
        on cancelling the call only takes effect at the end of the last.
        """
        commit = await self._shell.commit(self._gathered(writes))
        return await commit.durable()

    def _gathered(self, writes: Iterable[tuple[PageId, int, BytesLike]]) -> list[PageWrite]:
        return gathered(writes, self._config.max_mtr_writes, self._config.max_mtr_bytes)

    async def submit(self, writes: Iterable[tuple[PageId, int, BytesLike]]) -> Commit:
        """As `put_many`, but return as soon as the writes are part of the log.

        ``await commit.durable()`` is what `put_many` would have waited for, now, later or never.
        Calls of one task get their LSNs in the order of the calls. How much can be under way is
        bounded: a call waits while the LSN allocation limit or the outgoing log is exhausted. If it
        is cancelled or raises, nothing was written; but a large one (`put_many`) of which a part is
        in the log may not survive a writer that ends, which raises `Fenced` or `Closed`.
        """
        checked = self._gathered(writes)
        await trio.lowlevel.checkpoint()  # the log takes them at once, if it has room
        return await self._shell.commit(checked)

    async def submit_inline(self, writes: Iterable[tuple[PageId, int, BytesLike]]) -> Commit:
        """As `submit`, but others get no turn before the log takes them, unless it has no room.

        For who submits many in one turn of the scheduler, and lets others run between turns.
        """
        return await self._shell.commit(self._gathered(writes))

    @asynccontextmanager
    async def mini_transaction(self, *, wait: bool = True) -> AsyncIterator[MiniTransaction]:
        """Gather writes with ``mtr.write(page_id, offset, data)``; commit them when the block ends.

        ``await mtr.read(page_id)`` sees them before. The block ends when they are durable, or, with
        ``wait`` False, when they are part of the log, as `submit`: ``await mtr.commit.durable()``
        then waits for the rest. ``mtr.commit`` and ``mtr.commit_lsn`` are None if nothing was
        written. If the block raises, nothing is written.
        """
        self._shell.writable()
        check_flag("wait", wait)
        with self._snapshot() as read_page:
            mtr = MiniTransaction(
                self._config.max_mtr_writes, self._config.max_mtr_bytes, read_page
            )
            try:
                yield mtr
            except BaseException:
                if not mtr.ended:
                    mtr.end()
                raise
            writes = mtr.end()
        if writes:
            mtr.commit = await self._shell.commit(writes)
            if wait:
                await mtr.commit.durable()

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
            self._shell.writable()
            # A read point that was given is kept meanwhile: it was not too old when it was asked.
            with nullcontext() if lsn is None else self._kept(core, lsn):
                confirmation = core.reading.confirm(page_id, trio.current_time())
                await self._shell.see_through(confirmation)
                confirmation.result()
                return await self._read(core, page_id, lsn, cached)
        return await self._read(core, page_id, lsn, cached)

    async def _read(
        self, core: WriterCore, page_id: PageId, lsn: Lsn | None, cached: bool
    ) -> PageRead:
        read_point = core.vdl if lsn is None else lsn
        return PageRead(read_point, await self._get(core, page_id, read_point, cached))

    @staticmethod
    @contextmanager
    def _kept(core: WriterCore, read_point: Lsn) -> Iterator[None]:
        """Keep the versions at a read point while the block runs."""
        core.reading.hold(read_point)
        try:
            yield
        finally:
            core.reading.release(read_point)

    @asynccontextmanager
    async def read_view(self, lsn: Lsn | None = None) -> AsyncIterator[ReadView]:
        """Pin a read point, the VDL by default: its versions are kept until the block ends."""
        core = self._usable()
        read_point = core.vdl if lsn is None else core.reading.checked_read_point(lsn)
        view = ReadView(self, read_point)
        with self._kept(core, read_point):
            try:
                yield view
            finally:
                view._end()

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
        page = core.cached.look_up(page_id, read_point, core.vdl) if cached else None
        if page is None:
            read = core.reading.read_page(page_id, read_point, trio.current_time())
            answer = await self._answer(read)
            assert isinstance(answer, PageReply)
            page = answer.page
            core.cached.take_in(page, read_point, core.vdl)
        else:
            await trio.lowlevel.checkpoint()
            self._usable()
        return page

    async def read_head(self, page_id: PageId) -> PageImage:
        """The newest version of a page, whether it is durable yet or not.

        For who builds a next change on it, of whoever the last one is: what it shows may be lost
        if this writer ends before the VDL has reached ``page_lsn``, so nothing may leave the
        process that rests on it until then. A page never written has LSN 0 and an empty image.
        Usually answered by the buffer pool; raises `InvalidPage`, and as `get`.
        """
        page_id = checked_page_id(page_id)
        self._usable()
        await trio.lowlevel.checkpoint()
        page = self._usable().pool.read_head(page_id)  # after the others had their turn
        return await self._shell.read_head(page_id) if page is None else page

    async def get_many(self, page_ids: Iterable[PageId], lsn: Lsn | None = None) -> list[PageImage]:
        """Many pages as of one LSN, by default the VDL of the moment of the call; in their order.

        What the writer has not cached is asked of segments side by side, up to
        `EngineConfig.reads_in_flight` pages at a time. A page that was not written by then has LSN
        0 and an empty image. Raises `InvalidPage`, and as `get_at`, for all of them together.
        """
        wanted = checked_page_ids(page_ids)
        core = self._usable()
        read_point = core.vdl if lsn is None else core.reading.checked_read_point(lsn)
        many = ManyPages(core.reading, core.cached, wanted, read_point, trio.current_time())
        if many.done:
            many.end()  # all of it is here
            await trio.lowlevel.checkpoint()
            self._usable()
        else:
            await self._shell.see_through(many)
        return many.result()

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
        return self._listed(first, last, self._read_point(lsn))

    def changed_pages(self, after_lsn: Lsn, lsn: Lsn | None = None) -> ChangedPages:
        """The ids of all pages with a change above ``after_lsn``, up to ``lsn``, ascending.

        ``lsn`` is by default the VDL of the moment of the call; ``after_lsn`` may be as old as one
        likes, and from 0 on all pages that exist have changed. As `pages` in all else. Segments
        leave out what they know not to have changed; the rest is read, a bounded number of pages at
        a time.

        Raises `InvalidLsn` and as `get_at` at once; as `pages` while it goes on.
        """
        after = checked_after(after_lsn)
        read_point = self._read_point(lsn)
        candidates = self._listed(0, MAX_INTEGER, read_point, after)

        async def read(page_ids: list[PageId]) -> list[PageImage]:
            return await self.get_many(page_ids, read_point)

        return ChangedPages(candidates, after, read)

    def _read_point(self, lsn: Lsn | None) -> Lsn:
        core = self._usable()
        return core.vdl if lsn is None else core.reading.checked_read_point(lsn)

    def _listed(
        self, first: PageId, last: PageId, read_point: Lsn, changed_after: Lsn = 0
    ) -> PageIds:
        async def ask(pg_id: PgId, first: PageId, last: PageId) -> PagesListed:
            core = self._usable()
            core.reading.checked_read_point(read_point)
            read = core.reading.list_pages(
                pg_id, first, last, read_point, trio.current_time(), changed_after=changed_after
            )
            answer = await self._answer(read)
            assert isinstance(answer, PagesListed)
            return answer

        return PageIds(ask, self._groups, first, last, read_point)

    async def _answer(self, read: SegmentRead) -> Answer:
        await self._shell.see_through(read)
        return read.result()

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
        return self._shell.error

    def when_ended(self, call: Callable[[], None]) -> None:
        """Have something built on this writer called when that has ended; the latest one is."""
        self._shell.when_ended = call

    @property
    def core(self) -> WriterCore | None:
        """None until the volume has been recovered."""
        return self._shell.core

    @property
    def recovery(self) -> Recovery | None:
        """The latest conversation with segments about opening the volume; None for a new one."""
        return self._shell.recovery

    @property
    def epoch(self) -> VolumeEpoch | None:
        """What it has opened the volume in, or tries to; None before it begins to."""
        if self.core is not None:
            return self.core.epoch
        return None if self.recovery is None else self.recovery.epoch

    @property
    def rolled_back(self) -> Mapping[SegmentId, str]:
        """Segments that its recovery knows to be older copies of themselves, and how."""
        return {} if self.recovery is None else self.recovery.rolled_back

    @property
    def opening_since_s(self) -> float:
        """When it began to open the volume, in trio's time; infinite before."""
        return self._shell.opening_since_s

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
            floor_held_by=core.floor_held_by(),
            lsn_limit=core.lsn_limit,
            pgcl={pg_id: core.pgcl(pg_id) for pg_id in self._groups},
            scl=scl,
            commits=self._shell.committed,
            commits_waiting=len(self._shell.commits),
            resends=sum(stream.resends for stream in core.streams.values()),
            pool=core.pool.statistics,
        )

    def waits(self) -> list[WaitSnapshot]:
        """What calls wait for at the moment: of each kind and group, what has waited longest."""
        return [*self._shell.waits(), *self.waits_above()]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open the volume, then serve until cancelled or fenced.

        ``task_status`` is told when the volume is open. Raises `Fenced` if another writer takes
        over before that, `VolumeRolledBack` if less is left than the volume once had.
        """
        await self._shell.run(task_status=task_status)
