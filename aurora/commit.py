"""The way of a mini-transaction into the log (protocol §2), decided purely; see `aurora.pending`.

It goes through five stations, of which the first four wait for as long as it takes:

1. Its pages are pinned in the buffer pool, which may be full of others.
2. Those that are not there are brought in: a record links to its page's newest change.
3. It stands in line for room below the LAL and in the outgoing logs: first come, first served, so
   that a long one is not starved by short ones.
4. It is submitted: LSNs, chains, logs and pages in one step of the core.
5. It is durable when the VDL passes it; that is `aurora.commit_queue`'s.

Until the fourth nothing is written, and whoever gives up has changed nothing. Nor has who is
refused, as the segments have no space for anything new (`aurora.volume_space`). Who need not wait
at any of them, as is usual, goes through all at once (`CommitIntake.at_once`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterable, Sequence
from typing import TypeAlias

from aurora import events
from aurora.core import WriterCore
from aurora.health import WaitKind
from aurora.mtr import PageWrite
from aurora.pending import AT_ONCE, WHEN_WOKEN, WaitSnapshot
from aurora.reading import SegmentRead
from segments.protocol.errors import AuroraError, Unavailable
from segments.protocol.events import Tracer
from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import PageReply

_Way: TypeAlias = Generator[float, float, None]
"""Yields timers, as `Pending.next_timer` gives them, and is sent the time when it may go on."""


class CommitIntake:
    """A writer's commits on their way into the log."""

    def __init__(self, core: WriterCore, trace: Tracer | None = None) -> None:
        self.core = core
        self.trace = trace
        self.line: OrderedDict[PendingCommit, None] = OrderedDict()
        """Who wants room, first come first; only the first looks for it."""
        self.stuck: dict[PendingCommit, None] = {}
        """Who goes on when more is durable, unpinned, or gone from the outgoing logs."""
        self._woken: list[PendingCommit] = []

    def at_once(self, writes: Sequence[PageWrite]) -> Lsn | None:
        """The commit LSN of an MTR that need not wait, which is in the log then.

        None if it must `begin`. Its pages are there and stay for this one step, so none is pinned;
        and as nothing is unpinned, there is nobody to wake. Raises `InvalidWrite`, `VolumeFull`.
        """
        core = self.core
        core.check_mtr(writes)
        core.space.check(core.floor_held_by)
        if self.line or not self._has_pages(writes) or not core.has_room(len(writes)):
            return None
        return core.submit(writes)

    def _has_pages(self, writes: Sequence[PageWrite]) -> bool:
        """Whether all pages that are written are in the buffer pool, or one new page is by now.

        Of several, unpinned, the one that is brought in could take the place of another.
        """
        page_ids = [write[0] for write in writes]
        return self.core.pool.holds(page_ids) or (
            len(page_ids) == 1 and not self.core.bring_in_absent(page_ids)
        )

    def begin(self, writes: Sequence[PageWrite], now: float) -> PendingCommit:
        """Start an MTR on its way; `PendingCommit.end` must follow. Raises `InvalidWrite`."""
        self.core.check_mtr(writes)
        return PendingCommit(self, writes, now)

    def is_behind(self, pending: object) -> bool:
        """Whether it stands in line behind another, and goes on when that one has left."""
        return pending in self.line and next(iter(self.line)) is not pending

    def progress(self) -> None:
        """Something has changed that commits may wait for."""
        if self.stuck:
            self._woken.extend(self.stuck)
            self.stuck.clear()

    def leave_line(self, pending: PendingCommit) -> None:
        """Its turn is over, or it has given up: the next one's turn, if it was the first."""
        was_first = not self.is_behind(pending)
        del self.line[pending]
        if was_first and self.line:
            self._woken.append(next(iter(self.line)))

    def take_woken(self) -> list[PendingCommit]:
        """Who is to be looked at again, in order."""
        woken = self._woken
        if woken:
            self._woken = []
        return woken


class PendingCommit:
    """One mini-transaction on its way into the log; `done` when it is part of it, or failed."""

    __slots__ = ("_intake", "_lsn", "_timer", "_way", "_writes", "error", "wait")

    def __init__(self, intake: CommitIntake, writes: Sequence[PageWrite], now: float) -> None:
        self.wait: WaitSnapshot
        self.error: AuroraError | None = None
        self._intake = intake
        self._writes = writes
        self._lsn: Lsn | None = None
        self._way = self._go(now)
        self._timer: float | None = None
        self._advance(None)

    @property
    def done(self) -> bool:
        return self._timer is None

    def next_timer(self) -> float | None:
        return self._timer

    def on_timer(self, now: float) -> None:
        """Go on as far as it gets."""
        if not self.done:
            self._advance(now)

    def end(self) -> None:
        """Give up its place, wherever that is, if it is not part of the log."""
        self._way.close()

    def result(self) -> Lsn:
        """Its commit LSN; raises what stood in the way, such as `VolumeFull`."""
        if self.error is not None:
            raise self.error
        assert self._lsn is not None, "the commit is still pending"
        return self._lsn

    def _advance(self, now: float | None) -> None:
        try:
            self._timer = next(self._way) if now is None else self._way.send(now)
        except StopIteration:
            self._timer = None
        except AuroraError as error:
            self._timer, self.error = None, error

    # ---- the stations ----------------------------------------------------------------------------

    def _go(self, now: float) -> _Way:
        intake, core, writes = self._intake, self._intake.core, self._writes
        page_ids = dict.fromkeys([write.page_id for write in writes])
        core.space.check(core.floor_held_by)
        if not core.pool.pin(page_ids):
            self._waits_for(WaitKind.POOL, now)
            while not core.pool.pin(page_ids):
                now = yield from self._progress()
        try:
            if missing := core.bring_in_absent(page_ids):
                self._waits_for(WaitKind.PAGES, now, missing)
                while missing:
                    now = yield from self._bring_in(missing, now)
                    missing = core.bring_in_absent(page_ids)
            if intake.line or not core.has_room(len(writes)):
                self._waits_for(WaitKind.ROOM, now)
                yield from self._stand_in_line()
            core.space.check(core.floor_held_by)
            self._lsn = core.submit(writes)
        finally:
            core.pool.unpin(page_ids)
            intake.progress()

    def _bring_in(self, missing: Iterable[PageId], now: float) -> Generator[float, float, float]:
        """Fetch pages into the buffer pool, at the VDL of the moment; returns the time."""
        core = self._intake.core
        for page_id in missing:
            read = core.reading.read_page(page_id, core.vdl, now, asker=self)
            try:
                now = yield from self._answered(read, now)
                answer = read.result()
            except Unavailable:
                return now  # unlike a read, a write waits for as long as it takes (§9)
            finally:
                read.end()
            assert isinstance(answer, PageReply)
            while not core.pool.install(answer.page, read.read_point, core.vdl):
                if core.pool.make_room(1, core.vdl):
                    break  # the page may have changed since: ask again
                now = yield from self._progress()
        return now

    @staticmethod
    def _answered(read: SegmentRead, now: float) -> Generator[float, float, float]:
        """See a read through to its end."""
        while (timer := read.next_timer()) is not None:
            now = yield timer
            if not read.done:
                read.on_timer(now)
        return now

    def _stand_in_line(self) -> _Way:
        """Wait for the turn, and then for room."""
        intake, core, count = self._intake, self._intake.core, len(self._writes)
        intake.line[self] = None
        try:
            yield WHEN_WOKEN if intake.is_behind(self) else AT_ONCE
            while intake.is_behind(self):
                yield WHEN_WOKEN
            if intake.trace is not None:
                intake.trace(core.name, events.RoomWaitStarted(count, core.lsn_limit))
            while not core.has_room(count):
                yield from self._progress()
        finally:
            intake.leave_line(self)

    def _progress(self) -> Generator[float, float, float]:
        """Wait until something has changed; returns the time."""
        stuck = self._intake.stuck
        stuck[self] = None
        try:
            return (yield WHEN_WOKEN)
        finally:
            stuck.pop(self, None)

    def _waits_for(self, kind: WaitKind, now: float, page_ids: Iterable[PageId] = ()) -> None:
        """Say what it waits for, in the groups of some pages or else in all."""
        core = self._intake.core
        groups = tuple(sorted({core.pg_of(page_id) for page_id in page_ids}))
        self.wait = WaitSnapshot(kind=kind, since_s=now, pg_ids=groups or core.pg_ids)
