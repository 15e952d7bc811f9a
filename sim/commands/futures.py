"""Runs the futures of a failing run, in many processes, as `sim.plan.moments` asks for them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Final

import attrs

from segments.protocol.errors import Invalid
from sim.commands.case import Case
from sim.crews.crew import spread
from sim.crews.processes import Hand, LocalCrew
from sim.plan.moments import Future, Moments, Outcome, Point
from sim.plan.schedule import MS
from sim.run import Run, RunResult, Verdict
from sim.story.trace_words import Teller, Told

_MOST_EVENTS: Final = 2_000_000
_SLACK: Final = 4
"""A failure may come later by this part of the time that the first one took, and a millisecond."""


@attrs.frozen
class Failure:
    """A run that has failed, and when something happened in it."""

    case: Case
    result: RunResult
    times: tuple[int, ...]
    """Of all its events, ascending, each once."""

    @property
    def until_ns(self) -> int:
        """By then at the latest the world has healed: what is decided mostly is by then."""
        return min(self.result.virtual_ns, self.case.schedule.knobs.duration_ns)

    @property
    def horizon_ns(self) -> int:
        """Up to here the same failure is the same story, with other delays; later it is another."""
        return self.result.virtual_ns + self.result.virtual_ns // _SLACK + MS

    def outcome_of(self, result: RunResult) -> Outcome:
        """How a future of this run has ended."""
        if result.verdict is Verdict.PASSED:
            return Outcome.PASSED
        if (result.verdict, result.invariant) != (self.result.verdict, self.result.invariant):
            return Outcome.OTHER
        return Outcome.FAILED if result.virtual_ns <= self.horizon_ns else Outcome.LATER


def run_to_failure(case: Case) -> Failure | RunResult:
    """Run a case; its result alone if it has not failed."""
    times: dict[int, None] = {}

    def keep(line: bytes) -> None:
        if len(times) < _MOST_EVENTS:
            times[int(line[: line.index(b" ")])] = None

    def listen(run: Run) -> None:
        run.world.trace.sink = keep

    result = case.run(listen)
    if result.verdict not in (Verdict.VIOLATION, Verdict.LIVENESS) or not times:
        return result
    return Failure(case, result, tuple(times))


def run_future(failure: Failure, future: Future) -> Outcome:
    """What one future comes to."""
    return failure.outcome_of(failure.case.fork(future.at_ns, salt=future.salt).run())


def run_futures(
    failure: Failure, moments: Moments, jobs: int, over: Callable[[], bool]
) -> Generator[Point | None, None, None]:
    """Run all futures that ``moments`` asks for, in ``jobs`` processes; in this one if it is 0.

    Yields how a moment stands after each, and None now and then while there is none. Begins no
    future once ``over`` says so. A future that ends the very process that runs it is an *other*.
    """
    if jobs < 0:
        raise Invalid(f"{jobs} jobs: expected 0 or more")
    if jobs == 0:
        while round_ := moments.next_round():
            for future in round_:
                if over():
                    return
                yield moments.add(future, run_future(failure, future))
        return
    work, idle = FutureWork.of(failure), list[Hand]()
    try:
        while round_ := moments.next_round():
            running = spread(iter(round_), work, LocalCrew(jobs, work, idle), over)
            with closing(running):
                for done in running:
                    yield None if done is None else moments.add(done.item, done.result)
            if over():
                return
    finally:
        for hand in idle:
            hand.close()


@attrs.frozen
class FutureWork:
    """What is done with each future of a failure."""

    failure: Failure

    @classmethod
    def of(cls, failure: Failure) -> FutureWork:
        """Without what is the same for all futures and none of them needs."""
        bare = attrs.evolve(failure.result, calls=())
        return cls(attrs.evolve(failure, times=(), result=bare))

    def __call__(self, future: Future) -> Outcome:
        return run_future(self.failure, future)

    def given_up(self, future: Future, why: str) -> Outcome:
        """One that ends the process that runs it fails in another way."""
        return Outcome.OTHER


def told_between(case: Case, start_ns: int, end_ns: int) -> tuple[Told | None, list[Told]]:
    """The last event of a run before ``start_ns``, and those from then to before ``end_ns``."""
    teller = Teller(case.schedule)
    before: list[bytes] = []
    found: list[Told] = []

    def keep(line: bytes) -> None:
        at_ns = int(line[: line.index(b" ")])
        if at_ns < start_ns:
            before[:] = [line]
        elif at_ns < end_ns:
            found.append(teller.tell(line))
        teller.see(line)

    def listen(run: Run) -> None:
        run.world.trace.sink = keep

    case.run(listen)
    return (teller.tell(before[0]) if before else None), found
