"""Runs the futures of a failing run, in many processes, as `sim.plan.moments` asks for them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures import Future as Submitted
from concurrent.futures.process import BrokenProcessPool
from typing import Final

import attrs

from segments.protocol.errors import Invalid
from sim.commands.case import Case
from sim.commands.worker_pool import close_pool, worker_pool
from sim.plan.moments import Future, Moments, Outcome, Point
from sim.plan.schedule import MS
from sim.run import Run, RunResult, Verdict
from sim.story.trace_words import Teller, Told

_POLL_S: Final = 0.2
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
    # What is the same for all of them need not be sent each time.
    bare = attrs.evolve(failure, times=(), result=attrs.evolve(failure.result, calls=()))
    pool = worker_pool(jobs)
    running: dict[Submitted[Outcome], Future] = {}
    try:
        while round_ := moments.next_round():
            waiting = list(reversed(round_))
            while waiting or running:
                while waiting and len(running) < 2 * jobs and not over():
                    future = waiting.pop()
                    running[pool.submit(run_future, bare, future)] = future
                if not running:
                    return
                done, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                broken: list[Future] = []
                for each in sorted(done, key=lambda one: running[one]):
                    future = running.pop(each)
                    try:
                        yield moments.add(future, each.result())
                    except BrokenProcessPool:
                        broken.append(future)
                if broken:
                    broken += running.values()
                    close_pool(pool, list(running))
                    running.clear()
                    for future in sorted(broken):
                        yield moments.add(future, _alone(bare, future))
                    pool = worker_pool(jobs)
                if not done:
                    yield None
    finally:
        close_pool(pool, list(running))


def _alone(failure: Failure, future: Future) -> Outcome:
    """Run a future in a process of its own, which it may end."""
    pool = worker_pool(1)
    submitted = pool.submit(run_future, failure, future)
    try:
        return submitted.result()
    except BrokenProcessPool:
        return Outcome.OTHER
    finally:
        close_pool(pool, [submitted])


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
