"""Reads without read quorums: one segment that is complete enough, chosen well (2018 §3.1).

`ReadRouter` remembers how fast each segment has answered lately and puts the candidates for a read
in order. `PendingRead` is the life of one read, of a page or of a list of pages, without I/O: whom
to ask now, whom next, and until when. Neither has a clock: callers give the time, in seconds.

A read asks the best candidate. If no answer comes within the hedge delay, it asks the next one as
well, and takes the first answer (2018 §3.1: this bounds the latency of a slow segment). When all
candidates have been asked and have refused or stayed silent, it waits and starts over, since
segments come back and catch up, until its deadline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import attrs

from aurora.config import RouterConfig
from segments.protocol.errors import (
    AuroraError,
    ReadPointBelowFloor,
    Unavailable,
)
from segments.protocol.ids import MAX_INTEGER, Lsn, SegmentId
from segments.protocol.messages import ListPages, PageReply, PagesListed, ReadPage, ReadRefused

Question: TypeAlias = ReadPage | ListPages
Answer: TypeAlias = PageReply | PagesListed
Requests: TypeAlias = list[tuple[SegmentId, Question]]
"""What to send now, and to whom."""

_MAX_BACKOFF_DOUBLINGS = 16


def _backoff(low: float, high: float, failures: int) -> float:
    """``low`` seconds, doubled with each failure after the first, at most ``high``."""
    return min(high, low * 2.0 ** min(failures - 1, _MAX_BACKOFF_DOUBLINGS))


@attrs.define
class SegmentHealth:
    """How one segment has been answering."""

    latency_s: float | None = None
    """Moving average of its latencies; None before the first."""
    failures: int = 0
    """Failures in a row."""
    avoid_until_s: float = 0.0
    """Before this time it is asked last."""
    asked_at_read: int = 0
    """Number of the latest read that began with it."""


class ReadRouter:
    """Orders the segments that could answer a read, by what it has seen of them."""

    def __init__(self, config: RouterConfig) -> None:
        self.config = config
        self._health: dict[SegmentId, SegmentHealth] = {}
        self._reads = 0

    def health(self, segment: SegmentId) -> SegmentHealth:
        """What is known of a segment; a live object, not to be changed."""
        health = self._health.get(segment)
        if health is None:
            health = self._health[segment] = SegmentHealth()
        return health

    def candidates(
        self,
        members: Sequence[SegmentId],
        scls: Mapping[SegmentId, Lsn],
        required_scl: Lsn,
        now: float,
    ) -> list[SegmentId]:
        """The members with SCL >= ``required_scl``, in the order in which to ask them.

        Sound ones come before those that failed lately, then the lowest latency; one that was never
        asked counts as fast, so that it gets asked. Counts as one read.
        """
        self._reads += 1
        complete = [member for member in members if scls.get(member, 0) >= required_scl]
        if not complete:
            return complete
        ordered = sorted(complete, key=lambda member: self._rank(member, now))
        if self._reads % self.config.explore_every == 0:
            self._explore(ordered, now)
        self.health(ordered[0]).asked_at_read = self._reads
        return ordered

    def observe_latency(self, segment: SegmentId, latency_s: float) -> None:
        """The segment answered a request after ``latency_s``."""
        health = self.health(segment)
        health.failures = 0
        health.avoid_until_s = 0.0
        known = health.latency_s
        weight = self.config.smoothing
        health.latency_s = latency_s if known is None else known + weight * (latency_s - known)

    def observe_silence(self, segment: SegmentId, waited_s: float) -> None:
        """The segment has not answered for ``waited_s``, and is not waited for any longer."""
        health = self.health(segment)
        known = health.latency_s
        if known is None:
            health.latency_s = waited_s
        elif waited_s > known:
            health.latency_s = known + self.config.smoothing * (waited_s - known)

    def observe_failure(self, segment: SegmentId, now: float) -> None:
        """The segment refused or timed out: ask it last for a while, longer each time."""
        health = self.health(segment)
        health.failures += 1
        config = self.config
        low, high = config.failure_backoff_min_s, config.failure_backoff_max_s
        health.avoid_until_s = now + _backoff(low, high, health.failures)

    def hedge_delay(self, segment: SegmentId) -> float:
        """How long to wait for a segment before asking another, in seconds."""
        config = self.config
        latency = self.health(segment).latency_s
        if latency is None:
            return config.hedge_min_s
        return min(config.hedge_max_s, max(config.hedge_min_s, config.hedge_multiple * latency))

    def _rank(self, segment: SegmentId, now: float) -> tuple[float, float]:
        health = self.health(segment)
        return (max(0.0, health.avoid_until_s - now), health.latency_s or 0.0)

    def _explore(self, ordered: list[SegmentId], now: float) -> None:
        """Move the sound candidate that was asked least recently to the front."""
        sound = [each for each in ordered if self.health(each).avoid_until_s <= now]
        if sound:
            chosen = min(sound, key=lambda each: self.health(each).asked_at_read)
            ordered.remove(chosen)
            ordered.insert(0, chosen)


@attrs.define
class _Attempt:
    segment: SegmentId
    asked_at_s: float


@attrs.frozen
class ReadTarget:
    """What is read, and who may hold it."""

    question: Question
    """Sent to each segment that is asked, with a request id of its own."""
    members: Sequence[SegmentId]
    scls: Mapping[SegmentId, Lsn]
    """The writer's live view; each new round looks at it again."""

    def __str__(self) -> str:
        """What is read, in words."""
        match self.question:
            case ReadPage(page_id=page_id):
                return f"page {page_id}"
            case ListPages(from_page=first, through_page=last):
                return f"the list of pages from {first}" + (
                    f" to {last}" if last < MAX_INTEGER else ""
                )

    def fits(self, answer: Answer) -> bool:
        """Whether this is an answer to the question at all."""
        question = self.question
        if answer.read_point != question.read_point:
            return False
        match question, answer:
            case ReadPage(page_id=page_id), PageReply(page=page):
                return page.page_id == page_id and page.page_lsn <= question.read_point
            case ListPages(from_page=first, through_page=last), PagesListed(page_ids=found):
                through = answer.through_page
                inside = not found or first <= found[0] <= found[-1] <= through
                return answer.from_page == first <= through <= last and inside
        return False


class PendingRead:
    """One read from its start to an answer or an error; then `done`, and deaf to what still comes.

    Each call returns the requests to send now. Between calls, wait for answers until `next_timer`.
    """

    def __init__(
        self,
        router: ReadRouter,
        target: ReadTarget,
        deadline_s: float,
        next_request_id: Callable[[], int],
    ) -> None:
        """``deadline_s`` is a point in time; ``next_request_id`` never gives an id again."""
        self.target = target
        self.answer: Answer | None = None
        self.error: AuroraError | None = None
        self._router = router
        self._deadline_s = deadline_s
        self._next_request_id = next_request_id
        self._sent: dict[int, _Attempt] = {}  # all requests: a late answer is still an answer
        self._open: dict[int, _Attempt] = {}  # those neither refused nor timed out
        self._queue: list[SegmentId] = []
        self._refusals: dict[SegmentId, ReadRefused] = {}  # the latest of each
        self._collected: dict[SegmentId, Lsn] = {}  # whose floor is above the read point
        self._hedge_at_s = math.inf  # meaningful while there is a queue
        self._restart_at_s = math.inf  # and this, once a request of an exhausted round has failed
        self._rounds = 0

    @property
    def done(self) -> bool:
        """Whether there is an answer or an error."""
        return self.answer is not None or self.error is not None

    @property
    def request_ids(self) -> list[int]:
        """Every request made, for the caller's table of them."""
        return list(self._sent)

    def is_hedge(self, request_id: int) -> bool:
        """Whether this request was made while an earlier one was open, which it still is."""
        return next(iter(self._open), request_id) != request_id and request_id in self._open

    def result(self) -> Answer:
        """The answer; a page that had never been written has LSN 0 and an empty image.

        Raises `Unavailable` after the deadline, or `ReadPointBelowFloor` for a version that every
        member has collected: one that was not heard may have it still.
        """
        if self.error is not None:
            raise self.error
        assert self.answer is not None, "the read is still pending"
        return self.answer

    def start(self, now: float) -> Requests:
        """Begin; to be called once."""
        assert not self._rounds, "a read starts once"
        return self._start_round(now)

    def on_reply(self, reply: Answer, now: float) -> Requests:
        """The first answer wins. One that does not fit its request counts as a refusal."""
        attempt = self._answered(reply)
        if attempt is None:
            return []
        was_open = self._open.pop(reply.request_id, None) is not None
        if not self.target.fits(reply):
            return self._failed(attempt, now) if was_open else []
        self.answer = reply
        self._router.observe_latency(attempt.segment, now - attempt.asked_at_s)
        for slower in self._open.values():
            self._router.observe_silence(slower.segment, now - slower.asked_at_s)
        return []

    def on_refused(self, refusal: ReadRefused, now: float) -> Requests:
        """Go elsewhere at once; a segment that has collected the version is not asked again."""
        attempt = self._answered(refusal)
        if attempt is None or self._open.pop(refusal.request_id, None) is None:
            return []  # a refusal repeated, or of a request already given up: nothing new
        target = self.target
        self._refusals[attempt.segment] = refusal
        if refusal.floor <= target.question.read_point:
            return self._failed(attempt, now)
        self._collected[attempt.segment] = refusal.floor
        if all(member in self._collected for member in target.members):
            self.error = self._below_floor()
            return []
        return self._ask_next(now)

    def on_timer(self, now: float) -> Requests:
        """Time has passed, perhaps to `next_timer`: hedge, give up on the silent, or start over."""
        if self.done:
            return []
        if now >= self._deadline_s:
            self.error = self._unavailable()
            return []
        timeout_s = self._router.config.attempt_timeout_s
        for request_id, attempt in list(self._open.items()):
            if now >= attempt.asked_at_s + timeout_s:
                del self._open[request_id]
                self._router.observe_failure(attempt.segment, now)
                self._plan_restart(now)
        if self._queue:
            return self._ask_next(now) if not self._open or now >= self._hedge_at_s else []
        return self._start_round(now) if now >= self._restart_at_s else []

    def next_timer(self) -> float | None:
        """When to call `on_timer`, at the latest; None when done."""
        if self.done:
            return None
        step_s = self._hedge_at_s if self._queue else self._restart_at_s
        if self._open:
            oldest = next(iter(self._open.values()))
            step_s = min(step_s, oldest.asked_at_s + self._router.config.attempt_timeout_s)
        return min(self._deadline_s, step_s)

    def _start_round(self, now: float) -> Requests:
        target = self.target
        self._rounds += 1
        self._restart_at_s = math.inf
        required_scl = target.question.required_scl
        ordered = self._router.candidates(target.members, target.scls, required_scl, now)
        skipped = {attempt.segment for attempt in self._open.values()} | self._collected.keys()
        self._queue = [segment for segment in ordered if segment not in skipped]
        return self._ask_next(now)

    def _ask_next(self, now: float) -> Requests:
        if not self._queue:
            self._plan_restart(now)
            return []
        segment = self._queue.pop(0)
        request_id = self._next_request_id()
        self._sent[request_id] = self._open[request_id] = _Attempt(segment, now)
        self._hedge_at_s = now + self._router.hedge_delay(segment)
        self._restart_at_s = math.inf
        return [(segment, self.target.question._replace(request_id=request_id))]

    def _answered(self, answer: Answer | ReadRefused) -> _Attempt | None:
        """The attempt that this answers; None if there is none, or the read is done."""
        attempt = self._sent.get(answer.request_id)
        if self.done or attempt is None:
            return None
        ours = answer.epoch == self.target.question.epoch and answer.segment == attempt.segment
        return attempt if ours else None

    def _failed(self, attempt: _Attempt, now: float) -> Requests:
        self._router.observe_failure(attempt.segment, now)
        return self._ask_next(now)

    def _plan_restart(self, now: float) -> None:
        config = self._router.config
        pause = _backoff(config.retry_min_s, config.retry_max_s, self._rounds)
        self._restart_at_s = min(self._restart_at_s, now + pause)

    def _below_floor(self) -> ReadPointBelowFloor:
        floor = min(self._collected.values())
        return ReadPointBelowFloor(
            f"read point {self.target.question.read_point} of {self.target}: "
            f"expected >= {floor}, the floor"
        )

    def _unavailable(self) -> Unavailable:
        target = self.target
        said: dict[str, list[SegmentId]] = {}
        for member in target.members:
            said.setdefault(self._heard_of(member), []).append(member)
        heard = "; ".join(f"{', '.join(members)}: {what}" for what, members in said.items())
        return Unavailable(
            f"{target} at {target.question.read_point}: no answer to {len(self._sent)} "
            f"requests in {self._rounds} rounds; "
            f"expected a segment with SCL >= {target.question.required_scl} ({heard})"
        )

    def _heard_of(self, member: SegmentId) -> str:
        """What is known of a member, in the words of an error."""
        if member in self._collected:
            return f"collected, its floor is {self._collected[member]}"
        if member in self._refusals:
            return f"refused at SCL {self._refusals[member].scl}"
        if any(attempt.segment == member for attempt in self._sent.values()):
            return "silent"
        scl = self.target.scls.get(member, 0)
        return "not asked" if scl >= self.target.question.required_scl else f"behind, at SCL {scl}"
