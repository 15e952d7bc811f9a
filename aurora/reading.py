"""The reading half of the writer core: who is asked, what is pinned, how old a version may be.

No read asks a quorum: the writer knows every SCL, and asks one segment that must have the answer
(2018 §3.1). Only a strict read also has its epoch confirmed by a read quorum.
"""

from __future__ import annotations

from reprlib import repr as shown
from typing import TYPE_CHECKING, TypeAlias

import attrs

from aurora import events
from aurora.config import EngineConfig
from aurora.read_router import PendingRead, Question, ReadRouter, ReadTarget, Requests
from segments.protocol.errors import InvalidLsn, ReadPointAboveVdl, ReadPointBelowFloor
from segments.protocol.events import Tracer
from segments.protocol.ids import Lsn, PageId, PgId, SegmentId
from segments.protocol.messages import (
    ConfirmEpoch,
    EpochConfirmed,
    ListPages,
    PageReply,
    PagesListed,
    ReadPage,
    ReadRefused,
)
from segments.protocol.record import whole_number

if TYPE_CHECKING:
    from aurora.core import WriterCore


ReadAnswer: TypeAlias = PageReply | PagesListed | ReadRefused | EpochConfirmed


@attrs.define(eq=False)
class Confirmation:
    """Whether a read quorum still knows this writer as the last one to have opened the volume.

    Asked after a strict read began. A successor opens only when a write quorum of every group has
    taken its epoch over, and that meets every read quorum.
    """

    pg_id: PgId
    request_id: int
    confirmed_by: set[SegmentId] = attrs.field(factory=set)
    done: bool = False


class Reading:
    """Reads under way, read views, and the floor that follows from both."""

    def __init__(
        self, core: WriterCore, config: EngineConfig, floor: Lsn, trace: Tracer | None
    ) -> None:
        self.router = ReadRouter(config.router)
        self.floor = floor
        """PGMRPL of the volume: no reader will ever ask for an older read point (2017 §4.2.3)."""
        self._core = core
        self._config = config
        self._trace = trace
        self._request_id = 0
        self._reads: dict[int, PendingRead] = {}
        self._confirmations: dict[int, Confirmation] = {}
        self._read_points: dict[Lsn, int] = {}
        self._finished: list[object] = []

    # ---- read points and the floor ---------------------------------------------------------------

    def checked_read_point(self, read_point: object) -> Lsn:
        """``read_point`` as a plain integer; raises unless ``floor <= read_point <= VDL``."""
        vdl, lsn = self._core.vdl, whole_number(read_point)
        if lsn is None or lsn < 0:
            raise InvalidLsn(f"read point {shown(read_point)}: expected an LSN <= {vdl}, the VDL")
        if lsn > vdl:
            raise ReadPointAboveVdl(f"read point {lsn}: expected an LSN <= {vdl}, the VDL")
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

    def update_floor(self) -> None:
        """Raise the floor as far as retention and readers allow; it never goes back."""
        retention = self._config.retention_lsns
        if retention is None:
            return
        kept_from = self._core.table.lsn_behind(self._core.vdl, retention)
        oldest = min([kept_from, *self._read_points])
        self.floor = max(self.floor, oldest)

    # ---- pages, and lists of them ----------------------------------------------------------------

    def read_page(self, page_id: PageId, read_point: Lsn, now: float) -> PendingRead:
        """Begin to read a page from a segment; `finish` must follow."""
        pg_id = self._core.pg_of(page_id)
        required_scl = self._core.required_scl(pg_id, read_point)
        question = ReadPage(self._core.epoch, 0, page_id, read_point, required_scl)
        return self._start(pg_id, question, now)

    def list_pages(
        self, pg_id: PgId, first: PageId, last: PageId, read_point: Lsn, now: float
    ) -> PendingRead:
        """Begin to ask a segment of a group which pages exist; `finish` must follow.

        All groups share the limit, as whoever lists a volume's pages asks each of them.
        """
        required_scl = self._core.required_scl(pg_id, read_point)
        limit = max(1, self._config.list_pages // self._core.pg_count)
        question = ListPages(self._core.epoch, 0, first, last, read_point, required_scl, limit)
        return self._start(pg_id, question, now)

    def _start(self, pg_id: PgId, question: Question, now: float) -> PendingRead:
        core = self._core
        target = ReadTarget(question, core.members(pg_id), core.scls(pg_id))
        deadline = now + self._config.read_timeout_s
        read = PendingRead(self.router, target, deadline, self._next_request_id)
        if self._trace is not None:
            page_id = question.page_id if isinstance(question, ReadPage) else None
            started = events.ReadStarted(
                page_id, question.read_point, pg_id, question.required_scl, dict(target.scls)
            )
            self._trace(core.name, started)
        self._send(read, read.start(now))
        return read

    def on_timer(self, read: PendingRead, now: float) -> None:
        """Let a read that has waited until its timer hedge, retry or give up."""
        self._send(read, read.on_timer(now))

    def finish(self, read: PendingRead) -> None:
        """Forget a read, done or given up."""
        for request_id in read.request_ids:
            self._reads.pop(request_id, None)

    def _send(self, read: PendingRead, requests: Requests) -> None:
        for segment, request in requests:
            self._reads[request.request_id] = read
            self._core.send(segment, request)
            if self._trace is not None:
                latency_s = self.router.health(segment).latency_s
                self._trace(self._core.name, events.ReadSent(segment, request, latency_s))

    def _next_request_id(self) -> int:
        self._request_id += 1
        return self._request_id

    # ---- strict reads ----------------------------------------------------------------------------

    def confirm(self, page_id: PageId) -> Confirmation:
        """Ask the page's group whether this writer has been deposed; `end_confirmation` follows."""
        confirmation = Confirmation(self._core.pg_of(page_id), self._next_request_id())
        self._confirmations[confirmation.request_id] = confirmation
        self.ask_again(confirmation)
        return confirmation

    def ask_again(self, confirmation: Confirmation) -> None:
        """Send the question to the members that have not answered it."""
        request = ConfirmEpoch(self._core.epoch, confirmation.request_id)
        for segment in self._core.members(confirmation.pg_id):
            if segment not in confirmation.confirmed_by:
                self._core.send(segment, request)

    def end_confirmation(self, confirmation: Confirmation) -> None:
        """Forget a confirmation."""
        self._confirmations.pop(confirmation.request_id, None)

    # ---- answers ---------------------------------------------------------------------------------

    def step(self, message: ReadAnswer, now: float) -> None:
        """Take one answer; those that nobody waits for are dropped."""
        if isinstance(message, EpochConfirmed):
            confirmation = self._confirmations.get(message.request_id)
            if confirmation is not None and message.segment in self._core.members(
                confirmation.pg_id
            ):
                confirmation.confirmed_by.add(message.segment)
                if self._trace is not None:
                    self._trace(self._core.name, events.EpochVouched(message.segment))
                confirmation.done = self._core.has_read_quorum(
                    confirmation.pg_id, confirmation.confirmed_by
                )
                if confirmation.done:
                    self._finished.append(confirmation)
            return
        read = self._reads.get(message.request_id)
        if read is None:
            return
        if self._trace is not None:
            hedge = read.is_hedge(message.request_id)
            self._trace(self._core.name, events.ReadAnswered(message.segment, message, hedge))
        if isinstance(message, ReadRefused):
            self._send(read, read.on_refused(message, now))
        else:
            self._send(read, read.on_reply(message, now))
        # Anything but silence may have changed when the read wants to be looked at again.
        self._finished.append(read)

    def take_finished(self) -> list[object]:
        """The reads and confirmations that have heard something since the last call."""
        finished, self._finished = self._finished, []
        return finished
