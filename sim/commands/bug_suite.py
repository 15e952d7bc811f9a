"""The suite: plants each deliberate bug and shows that the simulator finds it.

Each bug is tried twice over: by the schedule made for it, if there is one, and by random seeds one
after the other until enough of them have found it or the budget of CPU time is spent. A bug that no
random seed exposes has survived: then a check is missing, or the generator never goes there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from statistics import median

import attrs

from sim.bugs import BUGS, Bug
from sim.bugs.registry import planted
from sim.plan.generate import generate
from sim.run import Verdict, run

_FAILED = (Verdict.VIOLATION, Verdict.LIVENESS)


@attrs.frozen(kw_only=True)
class DirectedReport:
    """What the schedule made for a bug has shown."""

    invariant: str
    """What broke with the bug; empty if nothing did."""
    passes: bool
    """Whether the same schedule passes without the bug."""

    @property
    def ok(self) -> bool:
        """Whether it exposes the bug and nothing else."""
        return self.passes and bool(self.invariant)


@attrs.frozen(kw_only=True)
class BugReport:
    """How one bug was found."""

    name: str
    directed: DirectedReport | None
    """None if there is no schedule made for it."""
    random: dict[str, int]
    """How many random seeds broke which invariant."""
    needed_seeds: Sequence[int]
    """For each of those, how many seeds it took since the one before."""
    needed_cpu_s: Sequence[float]
    """And how many seconds of CPU time."""
    internal_errors: Sequence[int]
    """Seeds under which the simulator itself failed: they show nothing of the bug."""
    seeds: int
    """Random seeds tried."""
    cpu_s: float
    """CPU time of all random seeds together, in seconds."""

    @property
    def found_by_random(self) -> bool:
        """Whether a random seed has exposed it."""
        return bool(self.random)

    @property
    def found(self) -> bool:
        """Whether random seeds have exposed it, and its own schedule too, if it has one."""
        return self.found_by_random and (self.directed is None or self.directed.ok)

    @property
    def invariants(self) -> str:
        """What broke, the most frequent first."""
        counts = Counter(self.random)
        if self.directed is not None and self.directed.invariant:
            counts[self.directed.invariant] += 1
        return ", ".join(name for name, _ in counts.most_common())

    @property
    def median_seeds(self) -> float | None:
        """Random seeds needed to find it, as the median; None if none did."""
        return median(self.needed_seeds) if self.needed_seeds else None

    @property
    def median_cpu_s(self) -> float | None:
        """CPU time needed to find it, as the median, in seconds; None if no seed did."""
        return median(self.needed_cpu_s) if self.needed_cpu_s else None


def try_bug(name: str, first_seed: int, wanted: int, budget_s: float) -> BugReport:
    """Run the directed schedule, then seeds from ``first_seed`` on.

    Ends when ``wanted`` seeds have found the bug, or begins no seed after ``budget_s`` of CPU time
    of random seeds.
    """
    directed = _directed(BUGS[name])
    broken: Counter[str] = Counter()
    seeds: list[int] = []
    times: list[float] = []
    internal: list[int] = []
    seed, last_seed = first_seed, first_seed - 1
    started = last = time.process_time()
    with planted(name):
        while len(seeds) < wanted and time.process_time() - started < budget_s:
            result = run(generate(seed))
            if result.verdict in _FAILED:
                now = time.process_time()
                broken[result.invariant] += 1
                seeds.append(seed - last_seed)
                times.append(now - last)
                last_seed, last = seed, now
            elif result.verdict is Verdict.INTERNAL:
                internal.append(seed)
            seed += 1
    return BugReport(
        name=name, directed=directed, random=dict(broken), needed_seeds=seeds, needed_cpu_s=times,
        internal_errors=internal, seeds=seed - first_seed, cpu_s=time.process_time() - started,
    )  # fmt: skip


def _directed(bug: Bug) -> DirectedReport | None:
    if bug.directed is None:
        return None
    schedule = bug.directed()
    passes = run(schedule).verdict is Verdict.PASSED
    with bug.apply():
        result = run(schedule)
    invariant = result.invariant if result.verdict in _FAILED else ""
    return DirectedReport(invariant=invariant, passes=passes)


@attrs.frozen(kw_only=True)
class BugWork:
    """What the suite does with each bug."""

    first_seed: int
    wanted: int
    budget_s: float

    def __call__(self, name: str) -> BugReport:
        return try_bug(name, self.first_seed, self.wanted, self.budget_s)

    def given_up(self, name: str, why: str) -> BugReport:
        """A bug may do that; but then nobody knows whether a seed has found it."""
        raise RuntimeError(f"bug {name} {why}")
