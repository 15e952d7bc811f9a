"""The way of a mini-transaction into the log (protocol §2), decided purely; see `aurora.pending`.

It goes through five stations, of which the first four wait for as long as it takes:

1. Its pages are pinned in the buffer pool, which may be full of others; who has to wait for places
   stands in line for them.
2. Those that are not there are brought in: a record links to its page's newest change.
3. It stands in line for room below the LAL and in the outgoing logs: first come, first served, so
   that a long one is not starved by short ones.
4. It is submitted: LSNs, chains, logs and pages in one step of the core.
5. It is durable when the VDL passes it; that is `aurora.commit_queue`'s.

Until the fourth nothing is written, and whoever gives up has changed nothing. Nor has who is
refused, as the segments have no space for anything new (`aurora.volume_space`). Who need not wait
at any of them, as is usual, goes through all at once (`CommitIntake.at_once`).

What is too large for one step goes in parts (`aurora.parts`): it waits until all of it fits below
the LAL, and keeps its turn from the first part to the last, so that nobody else's records come in
between. Only the last part ends with a CPL, so nothing of it counts before. From the first part on
it cannot be given up. It waits for nobody who waits for it: it has places in the pool of its own,
its earlier pages make room for later ones, and its records leave the outgoing logs as a write
quorum has them, whatever the VDL.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeVar

from aurora import events
from aurora.buffer_pool import Places
from aurora.core import WriterCore
from aurora.health import WaitKind
from aurora.many_pages import ManyPages
from aurora.mtr import PageWrite
from aurora.parts import Part, in_parts
from aurora.pending import AT_ONCE, WHEN_WOKEN
from aurora.way import Line, Stations, WaitingRoom, Way
from segments.protocol.errors import Unavailable
from segments.protocol.events import Tracer
from segments.protocol.ids import Lsn, PageId

_T = TypeVar("_T")


class CommitIntake(WaitingRoom):
    """A writer's commits on their way into the log."""

    def __init__(self, core: WriterCore, trace: Tracer | None = None) -> None:
        super().__init__(core)
        self.trace = trace
        self.places = Line(self)
        """Who wants places in the buffer pool."""
        self.line = Line(self)
        """Who wants room below the LAL and in the outgoing logs."""
        self.running: PendingParts | None = None
        """Who is in the log in part; the first in line."""

    def at_once(self, writes: Sequence[PageWrite]) -> Lsn | None:
        """The commit LSN of an MTR that need not wait, which is in the log then.

        None if it must `begin`, as also what goes in parts must. Its pages are there and stay for
        this one step, so none is pinned; and as nothing is unpinned, there is nobody to wake.
        Raises `InvalidWrite`, `VolumeFull`.
        """
        core = self.core
        core.check_mtr(writes)
        if not core.is_one_part(writes):
            return None
        core.space.check(core.floor_held_by)
        if self.line or not self._has_pages(writes) or not core.has_room(len(writes)):
            return None
        return core.submit(writes)

    def _has_pages(self, writes: Sequence[PageWrite]) -> bool:
        """Whether all pages that are written are in the buffer pool, or one new page is by now.

        Of several, unpinned, the one that is brought in could take the place of another.
        """
        page_ids = [write[0] for write in writes]
        return self.core.pool.holds_all(page_ids) or (
            len(page_ids) == 1 and not self.core.bring_in_absent(page_ids)
        )

    def begin(self, writes: Sequence[PageWrite], now: float) -> PendingCommit:
        """Start an MTR on its way; `PendingCommit.end` must follow. Raises `InvalidWrite`."""
        self.core.check_mtr(writes)
        kind = PendingCommit if self.core.is_one_part(writes) else PendingParts
        return kind(self, writes, now)

    def is_running(self, pending: object) -> bool:
        """Whether it is in the log in part, and must go on whatever its caller wants."""
        return pending is self.running

    def is_behind(self, pending: object) -> bool:
        """Whether it stands in a line behind another, and goes on when that one has left."""
        return self.places.is_behind(pending) or self.line.is_behind(pending)


class PendingCommit(Way):
    """One mini-transaction on its way into the log; `done` when it is part of it, or failed."""

    __slots__ = ("_intake", "_lsn", "_writes")

    def __init__(self, intake: CommitIntake, writes: Sequence[PageWrite], now: float) -> None:
        super().__init__(intake)
        self._intake = intake
        self._writes = writes
        self._lsn: Lsn | None = None
        self._begin(self._go(now))

    def result(self) -> Lsn:
        """Its commit LSN; raises what stood in the way, such as `VolumeFull`."""
        if self.error is not None:
            raise self.error
        assert self._lsn is not None, "the commit is still pending"
        return self._lsn

    # ---- the stations ----------------------------------------------------------------------------

    def _go(self, now: float) -> Stations:
        intake, core, writes = self._intake, self._intake.core, self._writes
        page_ids = dict.fromkeys([write.page_id for write in writes])
        core.space.check(core.floor_held_by)
        if intake.places or not core.pool.pin(page_ids):
            _, now = yield from self._find_places(lambda: core.pool.pin(page_ids), now)
        try:
            now = yield from self._bring_in(page_ids, now)
            if intake.line or not core.has_room(len(writes)):
                self._waits_for(WaitKind.ROOM, now)
                yield from self._stand_in_line()
            core.space.check(core.floor_held_by)
            self._lsn = core.submit(writes)
        finally:
            core.pool.unpin(page_ids)
            intake.progress()

    def _find_places(
        self, take: Callable[[], _T], now: float
    ) -> Generator[float, float, tuple[_T, float]]:
        """What ``take`` returns as soon as that is true, once all have it who came before."""
        places = self._intake.places
        self._waits_for(WaitKind.POOL, now)
        places.join(self)
        try:
            while places.is_behind(self):
                now = yield WHEN_WOKEN
            while not (taken := take()):
                now = yield from self._progress()
        finally:
            places.leave(self)
        return taken, now

    def _bring_in(self, page_ids: Iterable[PageId], now: float) -> Generator[float, float, float]:
        """Have pinned pages in the buffer pool, for as long as it takes; returns the time."""
        core = self._intake.core
        if missing := core.bring_in_absent(page_ids):
            self._waits_for(WaitKind.PAGES, now, missing)
        while missing:
            while any(core.pool.is_stolen(each, core.vdl) for each in missing):
                now = yield from self._progress()
            now = yield from self._fetch(missing, now)
            missing = core.bring_in_absent(page_ids)
        return now

    def _fetch(self, missing: Sequence[PageId], now: float) -> Generator[float, float, float]:
        """Ask for pages side by side, at the VDL of the moment; returns the time."""
        core = self._intake.core
        read_point = core.vdl
        many = ManyPages(core.reading, core.cached, missing, read_point, now, asker=self)
        try:
            while (timer := many.next_timer()) is not None:
                now = yield timer
                if not many.done:
                    many.on_timer(now)
            pages = many.result()
        except Unavailable:
            return now  # unlike a read, a write waits for as long as it takes (§9)
        finally:
            many.end()
        for page in pages:
            while not core.pool.install(page, read_point, core.vdl):
                if core.pool.make_room(1, core.vdl):
                    break  # the page may have changed since: ask again
                now = yield from self._progress()
        return now

    def _stand_in_line(self) -> Stations:
        """Wait for the turn, and then for room."""
        intake, core, count = self._intake, self._intake.core, len(self._writes)
        intake.line.join(self)
        try:
            yield WHEN_WOKEN if intake.line.is_behind(self) else AT_ONCE
            while intake.line.is_behind(self):
                yield WHEN_WOKEN
            if intake.trace is not None:
                intake.trace(core.name, events.RoomWaitStarted(count, core.lsn_limit))
            while not core.has_room(count):
                yield from self._progress()
        finally:
            intake.line.leave(self)


class PendingParts(PendingCommit):
    """A mini-transaction that is too large for one step, on its way into the log."""

    __slots__ = ()

    def _go(self, now: float) -> Stations:
        intake, core = self._intake, self._intake.core
        added = core.log_bytes(self._writes) if core.space.is_limited else None
        core.space.check(core.floor_held_by, added)
        self._waits_for(WaitKind.POOL, now)
        parts = yield from in_parts(self._writes, core.part_limits)
        most = max(len(_pages_of(part)) for part in parts)
        places, now = yield from self._find_places(lambda: core.pool.reserve(most), now)
        assert places is not None
        try:
            now = yield from self._take_in(places, parts[0], now)
            self._waits_for(WaitKind.ROOM, now)
            intake.line.join(self)
            yield from self._take_its_turn()
            core.space.check(core.floor_held_by, added)
            yield from self._write(parts, places, now)
        finally:
            if intake.is_running(self):
                intake.running = None
                core.pool.steal_from(None)
            if self in intake.line:
                intake.line.leave(self)
            places.release()
            intake.progress()

    def _take_its_turn(self) -> Stations:
        """Wait for the turn, and then for room for all of it below the LAL."""
        intake, core, count = self._intake, self._intake.core, len(self._writes)
        yield WHEN_WOKEN if intake.line.is_behind(self) else AT_ONCE
        while intake.line.is_behind(self):
            yield WHEN_WOKEN
        if intake.trace is not None:
            intake.trace(core.name, events.RoomWaitStarted(count, core.lsn_limit))
        while not core.has_room(count):
            yield from self._progress()

    def _write(self, parts: Sequence[Part], places: Places, now: float) -> Stations:
        """Make one part after the other, each as soon as its pages and room for it are there."""
        intake, core = self._intake, self._intake.core
        first_lsn = core.last_allocated_lsn + 1
        intake.running = self
        core.pool.steal_from(first_lsn)
        core.submit(parts[0], mtr_id=first_lsn, ends=False)
        for part in parts[1:]:
            now = yield AT_ONCE  # what there is so far is sent, and others have their turn
            now = yield from self._take_in(places, part, now)
            self._waits_for(WaitKind.ROOM, now)
            while not core.has_room(len(part)):
                now = yield from self._progress()
            lsn = core.submit(part, mtr_id=first_lsn, ends=part is parts[-1])
        self._lsn = lsn

    def _take_in(self, places: Places, part: Part, now: float) -> Generator[float, float, float]:
        """Bring in a part's pages, all at a time; returns the time."""
        page_ids = _pages_of(part)
        places.pin(page_ids)
        return (yield from self._bring_in(page_ids, now))


def _pages_of(part: Part) -> dict[PageId, None]:
    return dict.fromkeys([write.page_id for write in part])
