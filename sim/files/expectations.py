"""What a scenario expects of its run, beyond the invariants, and whether it came so.

`conclude` is the one rule by which a missed expectation makes a run a violation.

Whether calls went on is judged by *stalls*: a stall is a time in which calls of a kind were pending
all along and none was answered. Times in which nobody asked for anything are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import attrs

from segments.protocol.volume import VolumeGeometry
from sim.check.lost_quorums import beyond_recovery
from sim.durations import length, moment
from sim.plan.schedule import MS, READS
from sim.run import RunResult, Verdict
from sim.wording import counted
from sim.world.history import Call, Outcome

GOES_ON: Final = "go on"
MAY_WAIT: Final = "may wait"
WAITS: Final = "wait"
DEFAULT_MAX_STALL_NS: Final = 100 * MS

_ANSWERED: Final = (Outcome.OK, Outcome.NOT_FOUND)
_NEVER: Final = 1 << 62

UNMET: Final = "expectation"
"""Stands for the invariant where a scenario's own expectation was not met."""
NOTHING_HAPPENED: Final = "nothing was acknowledged, so this run proves nothing"


@attrs.frozen
class Judgement:
    """One expectation, held against a run."""

    expected: str
    met: bool
    found: str
    way: str = ""
    """If it can be missed in several ways, the one in which it was; empty if it was met."""


class Expectation(Protocol):
    """Something that must be so at the end of a run."""

    def judge(self, result: RunResult) -> Judgement:
        """Hold it against what happened."""


def conclude(result: RunResult, expectations: Sequence[Expectation]) -> RunResult:
    """What a run has come to, after its scenario's own expectations.

    A run that passed and misses one is a violation of `UNMET`; one that proves nothing (see
    `shown`) is undecided; one that ended just as an `Ends` says, and missed nothing, has passed.
    """
    ended = shown(result)
    unmet = [each for each in (each.judge(ended) for each in expectations) if not each.met]
    if result.verdict is Verdict.PASSED and unmet:
        text = "; ".join(f"expected {each.expected}: found {each.found}" for each in unmet)
        return attrs.evolve(result, verdict=Verdict.VIOLATION, invariant=UNMET, finding=text)
    if not unmet and any(isinstance(each, Ends) for each in expectations):
        return attrs.evolve(result, verdict=Verdict.PASSED, invariant="", finding="")
    return ended


def shown(result: RunResult) -> RunResult:
    """What a run has come to by itself: undecided if it passed, and that proves nothing.

    So it is when nothing was acknowledged, and when nobody could tell whether what was is there.
    """
    if result.verdict is not Verdict.PASSED:
        return result
    groups = VolumeGeometry(result.schedule.knobs.pg_count).groups()
    why = beyond_recovery(groups, result.lost) if result.commits else NOTHING_HAPPENED
    if not why:
        return result
    return attrs.evolve(result, verdict=Verdict.UNDECIDED, invariant="undecided", finding=why)


def failure_of(result: RunResult, expectations: Sequence[Expectation]) -> RunResult:
    """The same for those who look into failures: one that was expected is still a failure."""
    concluded = conclude(result, expectations)
    return shown(result) if concluded.verdict is Verdict.PASSED else concluded


@attrs.frozen(kw_only=True)
class Flow:
    """Whether writes or reads go on in the half-open ``[from_ns, until_ns)``.

    Reads from the buffer pool do not count: they are answered whatever happens to the segments.
    """

    writes: bool
    how: str
    """`GOES_ON`, `MAY_WAIT` or `WAITS`."""
    from_ns: int
    until_ns: int
    max_stall_ns: int = DEFAULT_MAX_STALL_NS
    """The longest stall, inclusive, that still counts as going on."""
    cached: bool = False
    """Whether reads that the buffer pool has answered count, too."""

    def judge(self, result: RunResult) -> Judgement:
        spans = spans_of(result.calls, writes=self.writes, cached=self.cached)
        start, end = self.from_ns, min(self.until_ns, result.virtual_ns)
        answered = answers_between(spans, start, end)
        stall = longest_stall(spans, start, end)
        pending = sum(each.since_ns < end <= each.until_ns for each in spans)
        called = any(each.since_ns < end and each.until_ns >= start for each in spans)
        if self.how == WAITS:
            met = answered == 0 and pending > 0
        else:
            least = 0 if self.how == MAY_WAIT else 1
            met = stall <= self.max_stall_ns and called and answered >= least
        found = f"{answered} answered, longest stall {length(stall)}"
        return Judgement(
            self._text(),
            met,
            f"{found}, {pending} pending" if pending else found,
            way="" if met else self._way(answered, stall, called),
        )

    def _way(self, answered: int, stall_ns: int, called: bool) -> str:
        if self.how == WAITS:
            return "answered" if answered else "not called"
        if stall_ns > self.max_stall_ns:
            return "stalled"
        return "not answered" if called else "not called"

    def _text(self) -> str:
        what = "writes" if self.writes else "cached reads" if self.cached else "reads"
        window = f"{what} {self.how}, {moment(self.from_ns)} to {moment(self.until_ns)}"
        if self.how == WAITS:
            return window
        return f"{window}, stalls up to {length(self.max_stall_ns)}"


@attrs.frozen
class AtLeast:
    """How many calls must have ended in a certain way."""

    what: str
    """A key of `COUNTED`."""
    least: int
    cached: bool = False
    """Of reads: whether those that the buffer pool has answered count, too."""

    def judge(self, result: RunResult) -> Judgement:
        calls = [each for each in result.calls if counts(each, cached=self.cached)]
        count = COUNTED[self.what](calls)
        made = sum(is_write(each) == (self.what != "reads") for each in calls)
        return Judgement(
            f"at least {self.least} {'cached ' if self.cached else ''}{self.what}",
            count >= self.least,
            str(count),
            way="" if count >= self.least else "ended else" if made >= self.least else "not called",
        )


@attrs.frozen
class Lost:
    """Exactly which segments have lost their disk for good."""

    segments: tuple[str, ...]

    def judge(self, result: RunResult) -> Judgement:
        expected, found = sorted(self.segments), sorted(result.lost)
        return Judgement(
            f"lost for good: {', '.join(expected) or 'none'}",
            expected == found,
            ", ".join(found) or "none",
        )


@attrs.frozen
class Reaches:
    """Something that must have come to pass: a coverage mark."""

    mark: str
    least: int = 1

    def judge(self, result: RunResult) -> Judgement:
        count = result.marks.get(self.mark, 0)
        times = f" {self.least} times" if self.least > 1 else ""
        return Judgement(
            f"reached{times}: {self.mark}", count >= self.least, counted(count, "time")
        )


@attrs.frozen
class Ends:
    """How the run must end, when that is not to pass."""

    verdict: Verdict
    invariant: str = ""
    """The one that must break; any, if empty."""

    def judge(self, result: RunResult) -> Judgement:
        # A run that only missed an expectation, this one perhaps, has ended by passing.
        if result.invariant == UNMET:
            result = attrs.evolve(result, verdict=Verdict.PASSED, invariant="")
        met = result.verdict is self.verdict and self.invariant in ("", result.invariant)
        wanted = f" of {self.invariant}" if self.invariant else ""
        broken = f" of {result.invariant}" if result.invariant else ""
        return Judgement(
            f"ends as {self.verdict.value}{wanted}",
            met,
            f"{result.verdict.value}{broken}",
            way="" if met else "as else" if result.commits else "idle",
        )


# ---- counting ------------------------------------------------------------------------------------


class _Count(Protocol):
    def __call__(self, calls: Sequence[Call], /) -> int: ...


def _commits(calls: Sequence[Call]) -> int:
    return sum(is_write(each) and each.outcome is Outcome.OK for each in calls)


def _reads(calls: Sequence[Call]) -> int:
    return sum(is_read(each) and each.outcome in _ANSWERED for each in calls)


def _unknown(calls: Sequence[Call]) -> int:
    return sum(each.outcome is Outcome.UNKNOWN for each in calls)


COUNTED: Final[Mapping[str, _Count]] = {
    "commits": _commits,
    "reads": _reads,
    "unknown writes": _unknown,
}
"""What `AtLeast` counts: writes acknowledged, reads answered, writes whose fate stayed unknown."""


def is_write(call: Call) -> bool:
    """Whether a call writes."""
    return call.may_write


def is_read(call: Call) -> bool:
    """Whether a call reads pages, or which there are, or in SQL."""
    return call.operation.kind in READS or (call.is_sql and not call.may_write)


def counts(call: Call, *, cached: bool) -> bool:
    """Whether an expectation minds a call: what the buffer pool has answered only if asked to.

    Calls that neither write nor read do not count.
    """
    if is_write(call):
        return True
    return is_read(call) and (cached or call.from_segment or call.outcome not in _ANSWERED)


@attrs.frozen
class Span:
    """The time for which a client waited for one call."""

    since_ns: int
    until_ns: int
    """When it ended; for what never did, later than anything."""
    answered: bool


def spans_of(calls: Sequence[Call], *, writes: bool, cached: bool = True) -> list[Span]:
    """The spans of all writes, or of all reads, in the order of the calls.

    Without ``cached``, reads that the buffer pool has answered are left out.

    A client waits from the time of its operation or the end of its previous one, whatever is later:
    while there is no writer to call, it waits as well.
    """
    found = []
    free_at: dict[int, int] = {}
    for call in calls:
        operation = call.operation
        since = max(operation.at_ns, free_at.get(operation.client, 0))
        until = _NEVER if call.returned_ns is None else call.returned_ns
        free_at[operation.client] = until
        if is_write(call) == writes and counts(call, cached=cached):
            found.append(Span(min(since, call.invoked_ns), until, call.outcome in _ANSWERED))
    return found


def answers_between(spans: Sequence[Span], start: int, end: int) -> int:
    """Calls that were answered in the half-open ``[start, end)``."""
    return sum(each.answered and start <= each.until_ns < end for each in spans)


def longest_stall(spans: Sequence[Span], start: int, end: int) -> int:
    """Nanoseconds of the longest stall, of what of it lies within ``[start, end)``.

    A call that ends without an answer (its writer crashed, say) ends no stall, unless nobody waits
    for anything any more.
    """
    events = []
    for span in spans:
        if span.since_ns < end and span.until_ns >= start:
            events.append((max(span.since_ns, start), 0, False))
            if span.until_ns < end:
                events.append((span.until_ns, 1, span.answered))
    # Beginnings first: a caller that starts at the moment of the last end has waited all along.
    events.sort()
    pending, since, longest = 0, start, 0
    for at, is_end, answered in events:
        if not pending:
            since = at
        pending += -1 if is_end else 1
        if answered or not pending:
            longest = max(longest, at - since)
            since = at
    return max(longest, end - since) if pending else longest
