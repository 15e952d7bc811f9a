"""Canaries: bugs that a fleet plants on purpose now and then, so that its silence means something.

A fleet that finds nothing has shown something only if it would have found a mistake. So beside
every so many seeds one of a few deliberate bugs is planted, all of them among those that random
seeds find quickly, and tried on the seeds from there on until one of them fails. If none of `TRIES`
does, then checks or faults are not what they were, or the world is not one in which anything shows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import attrs

from segments.protocol.errors import Invalid
from sim.bugs import planted
from sim.files.knob_edits import with_knobs
from sim.plan.generate import generate
from sim.run import Verdict, run
from sim.show.tally import Canary

CANARIES: Final = ("third-highest-scl", "short-range", "serve-below-required")
"""In turn: a commit too early, a recovery that annuls too little, a read that is too old."""
TRIES: Final = 12
"""More seeds than any of them needed in a row, of all that were tried, and by far."""
EVERY: Final = 200
"""Seeds of a fleet to one canary, which costs about as much as one or two of them."""
LEAST_BUDGET_S: Final = 60.0
"""A fleet that is bounded by time alone has canaries from here on."""
_FAILED: Final = (Verdict.VIOLATION, Verdict.LIVENESS)


@attrs.frozen
class Canaries:
    """Which seeds of a fleet have a canary beside them, and what is done there."""

    start: int
    """The first seed of the fleet; it has one."""
    every: int = EVERY
    knobs: tuple[str, ...] = ()
    """Turned as in the rest of the fleet."""

    def beside(self, seed: int) -> Canary | None:
        """What became of the canary beside ``seed``; None if there is none."""
        turn, rest = divmod(seed - self.start, self.every)
        return None if rest else self._sing(CANARIES[turn % len(CANARIES)], seed)

    def _sing(self, bug: str, first_seed: int) -> Canary:
        started = time.process_time()
        for seed in range(first_seed, first_seed + TRIES):
            try:
                schedule = with_knobs(generate(seed), self.knobs)
            except Invalid:
                continue  # this seed does not fit into such a world
            with planted(bug):
                result = run(schedule)
            if result.verdict in _FAILED:
                cpu_s = time.process_time() - started
                return Canary(bug, first_seed, seed, result.invariant, cpu_s)
        return Canary(bug, first_seed, None, "", time.process_time() - started)


def canaries_for(
    wanted: bool | None,
    *,
    seeds: int | None,
    start: int,
    budget_s: float | None,
    knobs: Sequence[str] = (),
) -> Canaries | None:
    """The canaries of a fleet; None if it has none.

    Unless somebody has ``wanted`` them or not, a fleet has some if it is large: `EVERY` seeds or
    more, or, without a number of seeds, `LEAST_BUDGET_S` or more, or no end.
    """
    if wanted is None:
        by_time = budget_s is None or budget_s >= LEAST_BUDGET_S
        wanted = by_time if seeds is None else seeds >= EVERY
    return Canaries(start, knobs=tuple(knobs)) if wanted else None
