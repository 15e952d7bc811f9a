"""Looks for the moment at which a failure became inevitable, and tells how far it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import attrs
import trio

from sim.commands.case import Case
from sim.commands.futures import Failure, run_futures, run_to_failure, told_between
from sim.plan.moments import Moments, Point
from sim.story import inevitable as told

MOST_MOMENTS: Final = 20


def failure_of(case: Case) -> Failure | None:
    """The case's failure, without its calls, which nobody needs elsewhere; None if it passes."""
    failure = run_to_failure(case)
    if not isinstance(failure, Failure):
        return None
    return attrs.evolve(failure, result=attrs.evolve(failure.result, calls=()))


async def search(
    case: Case,
    futures: int,
    work: Callable[..., Awaitable[Any]],
    jobs: int,
    tell: Callable[[Mapping[str, Any]], object],
) -> None:
    """Run ``futures`` from each of some moments, and ``tell`` of each as it ends.

    ``work`` calls a function in another process, the futures themselves are run in ``jobs``.
    """
    tell({"state": "running", "points": [], "last_safe_ns": None})
    failure: Failure | None = await work(failure_of, case)
    if failure is None:
        tell({"state": "failed", "error": "the run has not failed again"})
        return
    moments = Moments(failure.times, until_ns=failure.until_ns, futures=futures, most=MOST_MOMENTS)

    def run_all() -> None:
        running = run_futures(failure, moments, jobs, lambda: False)
        try:
            for point in running:
                trio.from_thread.check_cancelled()
                if point is not None:
                    trio.from_thread.run_sync(tell, {"state": "running", **_found(moments)})
        finally:
            running.close()

    await trio.to_thread.run_sync(run_all)
    words = told.conclusion(moments, case.bug)
    safe, after = moments.last_safe, moments.first_after
    if safe is not None and after is not None:
        around = told.Around(*await work(told_between, case, safe.at_ns, after.at_ns))
        words += told.told_around(around)
    tell({"state": "done", **_found(moments), "words": words})


def _found(moments: Moments) -> dict[str, Any]:
    safe = moments.last_safe
    return {
        "runs": sum(each.of for each in moments.points),
        "most_runs": moments.most * moments.futures,
        "points": [_point(each) for each in moments.points],
        "last_safe_ns": None if safe is None else safe.at_ns,
    }


def _point(point: Point) -> dict[str, Any]:
    low, high = point.bounds
    found = {"t": point.at_ns, "failed": point.failed, "later": point.later, "of": point.of}
    return {**found, "low": low, "high": high}
