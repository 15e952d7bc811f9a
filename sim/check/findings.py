"""What a run's checkers share: they count what they hold, and the first finding ends the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from segments.protocol.errors import AuroraError
from sim.check.invariants import Broken, rule_of
from sim.world.scheduler import VirtualScheduler

OTHER_FINDINGS: Final[Mapping[str, str]] = {
    "expectation": "the scenario's own expectations are met",
    "same-file-as-sqlite": "a replayed log gives, byte for byte, the file that SQLite makes of it",
    "typed errors": "a call raises nothing but the errors that it documents",
    "wrong calls": "a wrong call raises the one error documented for it, and changes nothing",
    "system error": "nothing but documented errors leaves the code; no assertion of its own fails",
    "deadlock": "while anything is pending, something can run or is scheduled",
    "livelock": "no work goes on and on while hardly any time passes, or for its own sake",
    "scenario ends": "a scenario in Python comes to its end",
    "undecided": "a run ends within its limits, and something was acknowledged",
    "internal error": "the simulator itself does not fail",
}
"""What ends a run beside the invariants, by the name that stands in their place: the rule."""


class Violation(AuroraError):
    """An invariant is broken: the finding of a run."""

    def __init__(self, invariant: str, text: str, *, liveness: bool = False) -> None:
        super().__init__(text)
        self.invariant = invariant
        self.liveness = liveness


class Findings:
    """The counts of all checks, and the first that failed."""

    def __init__(self, scheduler: VirtualScheduler) -> None:
        self.counts: Counter[str] = Counter()
        self.failed = False
        self._scheduler = scheduler
        self._names: dict[Callable[..., object], str] = {}

    def fail(self, invariant: str, text: str, *, liveness: bool = False) -> None:
        """End the run with a finding."""
        if not self.failed:
            self.failed = True
            self._scheduler.fail(Violation(invariant, text, liveness=liveness))

    def hold(self, predicate: Callable[..., object], *args: Any, liveness: bool = False) -> None:
        """Hold one predicate of an invariant against the run; ``liveness``: of what must happen."""
        invariant = self._names.get(predicate)
        if invariant is None:
            invariant = self._names[predicate] = rule_of(predicate).name
        self.counts[invariant] += 1
        try:
            predicate(*args)
        except Broken as broken:
            self.fail(invariant, str(broken), liveness=liveness)
