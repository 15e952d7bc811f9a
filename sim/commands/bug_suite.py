"""The suite: plants each deliberate bug and shows that the simulator finds it.

Each bug is tried twice over: by the schedule made for it, and by random seeds one after the other
until some have found it or the budget is spent. A bug that neither exposes has survived: then
a check or a fault is missing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import as_completed
from statistics import median

import attrs

from sim.bugs import BUGS
from sim.bugs.registry import planted
from sim.commands.worker_pool import close_pool, worker_pool
from sim.plan.generate import generate
from sim.run import Verdict, run

_FAILED = (Verdict.VIOLATION, Verdict.LIVENESS)


@attrs.frozen(kw_only=True)
class BugReport:
    """How one bug was found."""

    name: str
    directed: str
    """The invariant that broke under the schedule made for it; empty if none did."""
    directed_passes: bool
    """Whether the same schedule passes without the bug."""
    random: dict[str, int]
    """How many random seeds broke which invariant."""
    needed: Sequence[int]
    """For each of those, how many seeds it took since the one before."""
    seeds: int
    """Random seeds tried."""
    elapsed_s: float

    @property
    def found(self) -> bool:
        """Whether anything exposed it, and the schedule for it is not to blame."""
        return self.directed_passes and bool(self.directed or self.random)

    @property
    def how(self) -> str:
        """``directed``, ``random``, both, or ``survived``."""
        ways = [way for way, hit in (("directed", self.directed), ("random", self.random)) if hit]
        return " and ".join(ways) or "survived"

    @property
    def invariants(self) -> str:
        """What broke, the most frequent first."""
        counts = Counter(self.random)
        if self.directed:
            counts[self.directed] += 1
        return ", ".join(name for name, _ in counts.most_common())

    @property
    def median_seeds(self) -> float | None:
        """Random seeds needed to find it, as the median; None if none did."""
        return median(self.needed) if self.needed else None


def try_bug(name: str, first_seed: int, wanted: int, budget_s: float) -> BugReport:
    """Run the directed schedule, then seeds from ``first_seed`` on.

    Ends when ``wanted`` seeds have found the bug, or after ``budget_s`` of real time.
    """
    started = time.monotonic()
    bug = BUGS[name]
    directed, passes = "", True
    if bug.directed is not None:
        schedule = bug.directed()
        passes = run(schedule).verdict is Verdict.PASSED
        with planted(name):
            result = run(schedule)
        directed = result.invariant if result.verdict in _FAILED else ""
    broken: Counter[str] = Counter()
    needed: list[int] = []
    seed, since = first_seed, 0
    with planted(name):
        while len(needed) < wanted and time.monotonic() - started < budget_s:
            result = run(generate(seed))
            seed, since = seed + 1, since + 1
            if result.verdict in _FAILED:
                broken[result.invariant] += 1
                needed.append(since)
                since = 0
    return BugReport(
        name=name, directed=directed, directed_passes=passes, random=dict(broken), needed=needed,
        seeds=seed - first_seed, elapsed_s=time.monotonic() - started,
    )  # fmt: skip


def run_suite(
    names: Sequence[str], *, first_seed: int, wanted: int, budget_s: float, jobs: int
) -> Generator[BugReport, None, None]:
    """Try the bugs, ``budget_s`` each, in ``jobs`` processes; reports come as they are done.

    Closing the iterator, or leaving it by Ctrl-C, ends what is under way.
    """
    pool = worker_pool(jobs)
    submitted = [pool.submit(try_bug, name, first_seed, wanted, budget_s) for name in names]
    try:
        for done in as_completed(submitted):
            yield done.result()
    finally:
        close_pool(pool, submitted)
