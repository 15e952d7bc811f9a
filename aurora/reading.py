"""The reading half of the writer core: who is asked, what is pinned, how old a version may be.

No read asks a quorum: the writer knows every SCL, and asks one segment that must have the answer
(2018 §3.1). Only a strict read also has its epoch confirmed by a read quorum.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Protocol, TypeAlias

from aurora import events
from aurora.config import EngineConfig
from aurora.health import WaitKind
from aurora.pending import Pending, WaitSnapshot
from aurora.read_router import Answer, PendingRead, Question, ReadRouter, ReadTarget, Requests
from segments.protocol.errors import (
    InvalidLsn,
    ReadPointAboveVdl,
    ReadPointBelowFloor,
    Unavailable,
)
from segments.protocol.events import Tracer
from segments.protocol.ids import Lsn, PageId, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import (
    ConfirmEpoch,
    EpochConfirmed,
    ListPages,
    Message,
    PageReply,
    PagesListed,
    ReadPage,
    ReadRefused,
)
from segments.protocol.record import whole_number
from segments.protocol.showing import shown

ReadAnswer: TypeAlias = PageReply | PagesListed | ReadRefused | EpochConfirmed


class Watermarks(Protocol):
    """What reads must know of the volume: a writer's own watermarks, or those that it was told."""

    @property
    def epoch(self) -> VolumeEpoch:
        """The volume epoch that questions are asked in."""
        ...

    @property
    def vdl(self) -> Lsn:
        """The newest read point."""
        ...

    @property
    def pg_count(self) -> int:
        """How many protection groups there are."""
        ...

    def pg_of(self, page_id: PageId) -> PgId:
        """The protection group that holds a page."""
        ...

    def members(self, pg_id: PgId) -> tuple[SegmentId, ...]:
        """The segments of a protection group."""
        ...

    def scls(self, pg_id: PgId) -> Mapping[SegmentId, Lsn]:
        """The SCL of each member, as last heard: a live view."""
        ...

    def required_scl(self, pg_id: PgId, read_point: Lsn) -> Lsn:
        """The SCL that a segment needs to answer at ``read_point`` (2018 §3.1)."""
        ...

    def has_read_quorum(self, pg_id: PgId, segments: Container[SegmentId]) -> bool:
        """Whether ``segments`` contain a read quorum of the group."""
        ...


class SegmentRead:
    """A question to a group's segments, from its start to an answer; see `aurora.pending`."""

    __slots__ = ("_pending", "_reading", "asker", "read_point", "wait")

    def __init__(
        self,
        reading: Reading,
        pending: PendingRead,
        wait: WaitSnapshot,
        asker: Pending | None,
    ) -> None:
        self.wait = wait
        self.read_point = pending.target.question.read_point
        self.asker: Pending = self if asker is None else asker
        """Who is to be looked at again when something has been heard."""
        self._reading = reading
        self._pending = pending

    @property
    def pending(self) -> PendingRead:
        """Whom to ask and until when."""
        return self._pending

    @property
    def done(self) -> bool:
        return self._pending.done

    def next_timer(self) -> float | None:
        return self._pending.next_timer()

    def on_timer(self, now: float) -> None:
        """Hedge, retry or give up."""
        self._reading.send_requests(self, self._pending.on_timer(now))

    def end(self) -> None:
        """Forget it, done or given up, and release its read point."""
        self._reading.forget(self)

    def result(self) -> Answer:
        """The answer; raises as `PendingRead.result`."""
        return self._pending.result()


class Confirmation:
    """Whether a read quorum still knows this writer as the last one to have opened the volume.

    Asked after a strict read began. A successor opens only when a write quorum of every group has
    taken its epoch over, and that meets every read quorum. See `aurora.pending`.
    """

    __slots__ = (
        "_ask_at_s", "_deadline_s", "_page_id", "_pg_id", "_reading", "confirmed_by", "error",
        "request_id", "wait", "whole",
    )  # fmt: skip

    def __init__(
        self, reading: Reading, page_id: PageId, pg_id: PgId, request_id: int, now: float
    ) -> None:
        self.wait = WaitSnapshot(kind=WaitKind.STRICT_READS, since_s=now, pg_ids=(pg_id,))
        self.request_id = request_id
        self.confirmed_by: dict[SegmentId, None] = {}
        self.whole = False
        """Whether a read quorum has confirmed it."""
        self.error: Unavailable | None = None
        self._reading = reading
        self._page_id = page_id
        self._pg_id = pg_id
        self._deadline_s = now + reading.config.read_timeout_s
        self._ask(now)

    @property
    def done(self) -> bool:
        return self.whole or self.error is not None

    def next_timer(self) -> float | None:
        return None if self.done else min(self._deadline_s, self._ask_at_s)

    def on_timer(self, now: float) -> None:
        """Ask those again that are silent, or give up."""
        if self.done:
            return
        self._ask(now)
        if now >= self._deadline_s:
            watermarks = self._reading.watermarks
            heard = ", ".join(sorted(self.confirmed_by)) or "no segment"
            self.error = Unavailable(
                f"a strict read of page {self._page_id}: epoch "
                f"{watermarks.epoch.of(self._reading.name)} was confirmed by {heard} alone: "
                f"expected a read quorum of {', '.join(watermarks.members(self._pg_id))}"
            )

    def on_confirmed(self, segment: SegmentId) -> bool:
        """Count a segment's answer; False if it is none of the group."""
        watermarks = self._reading.watermarks
        if segment not in watermarks.members(self._pg_id):
            return False
        self.confirmed_by[segment] = None
        self.whole = watermarks.has_read_quorum(self._pg_id, self.confirmed_by)
        return True

    def end(self) -> None:
        """Forget it."""
        self._reading.end_confirmation(self)

    def result(self) -> None:
        """Raises `Unavailable` if too few have confirmed it by the deadline."""
        if self.error is not None:
            raise self.error

    def _ask(self, now: float) -> None:
        """Send the question to the members that have not answered it."""
        watermarks = self._reading.watermarks
        request = ConfirmEpoch(watermarks.epoch, self.request_id)
        for segment in watermarks.members(self._pg_id):
            if segment not in self.confirmed_by:
                self._reading.send(segment, request)
        self._ask_at_s = now + self._reading.config.resend_max_s


class Reading:
    """Reads under way, read views, and the floor that follows from both."""

    def __init__(
        self,
        watermarks: Watermarks,
        send: Callable[[SegmentId, Message], None],
        config: EngineConfig,
        floor: Lsn,
        *,
        trace: Tracer | None = None,
        name: str = "reader",
    ) -> None:
        """``send`` takes the messages for segments; ``name`` is whose reads they are."""
        self.router = ReadRouter(config.router)
        self.floor = floor
        """PGMRPL of the volume: no reader will ever ask for an older read point (2017 §4.2.3)."""
        self.watermarks = watermarks
        self.send = send
        self.config = config
        self.name = name
        self._trace = trace
        self._request_id = 0
        self._reads: dict[int, SegmentRead] = {}
        self._confirmations: dict[int, Confirmation] = {}
        self._read_points: dict[Lsn, int] = {}
        self._finished: list[Pending] = []

    # ---- read points and the floor ---------------------------------------------------------------

    def checked_read_point(self, read_point: object) -> Lsn:
        """``read_point`` as a plain integer; raises unless ``floor <= read_point <= VDL``."""
        vdl, lsn = self.watermarks.vdl, whole_number(read_point)
        if lsn is None or lsn < 0:
            raise InvalidLsn(f"read point {shown(read_point)}: expected an LSN <= {vdl}, the VDL")
        if lsn > vdl:
            raise ReadPointAboveVdl(f"read point {shown(lsn)}: expected an LSN <= {vdl}, the VDL")
        if lsn < self.floor:
            raise ReadPointBelowFloor(f"read point {lsn}: expected >= {self.floor}, the floor")
        return lsn

    def hold(self, read_point: Lsn) -> None:
        """Keep the floor at or below ``read_point`` until `release`."""
        self._read_points[read_point] = self._read_points.get(read_point, 0) + 1

    def release(self, read_point: Lsn) -> None:
        """Undo one `hold`."""
        self._read_points[read_point] -= 1
        if not self._read_points[read_point]:
            del self._read_points[read_point]

    @property
    def oldest_read_point(self) -> Lsn | None:
        """The lowest read point that is held; None if nobody reads."""
        return min(self._read_points, default=None)

    def update_floor(self, kept_from: Lsn) -> None:
        """Raise the floor as far as readers allow, at most to ``kept_from``; it never goes back."""
        oldest = min([kept_from, *self._read_points])
        self.floor = max(self.floor, oldest)

    # ---- pages, and lists of them ----------------------------------------------------------------

    def read_page(
        self, page_id: PageId, read_point: Lsn, now: float, *, asker: Pending | None = None
    ) -> SegmentRead:
        """Begin to read a page from a segment; `SegmentRead.end` must follow.

        The floor stays at or below the read point until then. ``asker`` is who waits for it, by
        default the read itself.
        """
        pg_id = self.watermarks.pg_of(page_id)
        required_scl = self.watermarks.required_scl(pg_id, read_point)
        question = ReadPage(self.watermarks.epoch, 0, page_id, read_point, required_scl)
        return self._start(pg_id, question, now, asker)

    def list_pages(
        self, pg_id: PgId, first: PageId, last: PageId, read_point: Lsn, now: float,
        *, changed_after: Lsn = 0,
    ) -> SegmentRead:  # fmt: skip
        """Begin to ask a segment of a group which pages exist; otherwise as `read_page`.

        Or which of them may have changed after an LSN above 0.

        All groups share the limit, as a list of a volume's pages is asked of each of them.
        """
        watermarks = self.watermarks
        required_scl = watermarks.required_scl(pg_id, read_point)
        limit = max(1, self.config.list_pages // watermarks.pg_count)
        question = ListPages(
            watermarks.epoch, 0, first, last, read_point, required_scl, limit, changed_after
        )
        return self._start(pg_id, question, now)

    def _start(
        self, pg_id: PgId, question: Question, now: float, asker: Pending | None = None
    ) -> SegmentRead:
        watermarks = self.watermarks
        target = ReadTarget(question, watermarks.members(pg_id), watermarks.scls(pg_id))
        deadline = now + self.config.read_timeout_s
        pending = PendingRead(self.router, target, deadline, self._next_request_id)
        wait = WaitSnapshot(kind=WaitKind.READS, since_s=now, pg_ids=(pg_id,))
        read = SegmentRead(self, pending, wait, asker)
        if self._trace is not None:
            page_id = question.page_id if isinstance(question, ReadPage) else None
            started = events.ReadStarted(
                page_id, question.read_point, pg_id, question.required_scl, dict(target.scls)
            )
            self._trace(self.name, started)
        self.send_requests(read, pending.start(now))
        self.hold(read.read_point)
        return read

    def forget(self, read: SegmentRead) -> None:
        """A read is over, done or given up."""
        for request_id in read.pending.request_ids:
            self._reads.pop(request_id, None)
        self.release(read.read_point)

    def send_requests(self, read: SegmentRead, requests: Requests) -> None:
        """Send what a read asks, and know whose answers they will be."""
        for segment, request in requests:
            self._reads[request.request_id] = read
            self.send(segment, request)
            if self._trace is not None:
                latency_s = self.router.health(segment).latency_s
                self._trace(self.name, events.ReadSent(segment, request, latency_s))

    def _next_request_id(self) -> int:
        self._request_id += 1
        return self._request_id

    # ---- strict reads ----------------------------------------------------------------------------

    def confirm(self, page_id: PageId, now: float) -> Confirmation:
        """Ask the page's group whether this writer was deposed; `Confirmation.end` must follow."""
        pg_id = self.watermarks.pg_of(page_id)
        confirmation = Confirmation(self, page_id, pg_id, self._next_request_id(), now)
        self._confirmations[confirmation.request_id] = confirmation
        return confirmation

    def end_confirmation(self, confirmation: Confirmation) -> None:
        """A confirmation is over, done or given up."""
        self._confirmations.pop(confirmation.request_id, None)

    # ---- answers ---------------------------------------------------------------------------------

    def step(self, message: ReadAnswer, now: float) -> None:
        """Take one answer; those that nobody waits for are dropped."""
        if isinstance(message, EpochConfirmed):
            self._on_confirmed(message)
            return
        read = self._reads.get(message.request_id)
        if read is None:
            return
        pending = read.pending
        if self._trace is not None:
            hedge = pending.is_hedge(message.request_id)
            self._trace(self.name, events.ReadAnswered(message.segment, message, hedge))
        if isinstance(message, ReadRefused):
            self.send_requests(read, pending.on_refused(message, now))
        else:
            self.send_requests(read, pending.on_reply(message, now))
        # Anything but silence may have changed when the read wants to be looked at again.
        self._finished.append(read.asker)

    def _on_confirmed(self, message: EpochConfirmed) -> None:
        confirmation = self._confirmations.get(message.request_id)
        if confirmation is None or not confirmation.on_confirmed(message.segment):
            return
        if self._trace is not None:
            self._trace(self.name, events.EpochVouched(message.segment))
        if confirmation.done:
            self._finished.append(confirmation)

    def take_finished(self) -> list[Pending]:
        """Who waits for reads and confirmations that have heard something since the last call."""
        finished = self._finished
        if finished:
            self._finished = []
        return finished
