"""What mutants came to: each by itself, and all together for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from statistics import median
from typing import Any, Final

import attrs

from sim.mutants.cores import ROOT, source_path
from sim.mutants.equivalents import Equivalent
from sim.mutants.operators import OPERATORS
from sim.mutants.sites import Mutant
from sim.wording import counted


class Outcome(Enum):
    """What became of a mutant."""

    FOUND = "found"
    """A seed broke an invariant, or never finished."""
    HUNG = "hung"
    """Work without end within one seed: anybody notices."""
    CRASHED = "crashed"
    """It cannot be imported, or takes the process down: anybody notices."""
    SIMULATOR = "simulator failed"
    """The simulator itself failed under it, and no seed found it otherwise: not noticed."""
    SURVIVED = "survived"
    """The changed code was executed, and no seed found it."""
    UNREACHED = "never reached"
    """No seed executed the changed code."""


NOTICED: Final = (Outcome.FOUND, Outcome.HUNG, Outcome.CRASHED)


@attrs.frozen(kw_only=True)
class Trial:
    """What one mutant came to."""

    id: str
    outcome: Outcome
    invariant: str = ""
    """What broke first, if it was found."""
    finding: str = ""
    seed: int | None = None
    """The seed that found it."""
    seeds: int = 0
    """Seeds that were run."""
    undecided: int = 0
    """How many of them showed nothing."""
    reached: bool | None = None
    """None if the process was ended before it could say."""
    cpu_s: float | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Trial:
        return cls(**{**values, "outcome": Outcome(values["outcome"])})

    def to_json(self) -> dict[str, Any]:
        return attrs.asdict(self) | {"outcome": self.outcome.value}


@attrs.define
class Part:
    """The sum over some mutants: those of a module, or all."""

    outcomes: Counter[Outcome] = attrs.field(factory=Counter)
    equivalent: int = 0

    @property
    def mutants(self) -> int:
        return self.outcomes.total() + self.equivalent

    @property
    def share(self) -> float | None:
        """Of those that are not equivalent, how many are noticed; None if there are none."""
        total = self.outcomes.total()
        return sum(self.outcomes[each] for each in NOTICED) / total if total else None


@attrs.frozen(kw_only=True)
class MutantReport:
    """A sample of mutants and what is known of them so far."""

    mutants: Sequence[Mutant]
    trials: Mapping[str, Trial]
    """By the mutant's id; one that has not been tried yet is missing."""
    equivalents: Mapping[str, Equivalent]
    """By the mutant's key."""

    def is_equivalent(self, mutant: Mutant) -> bool:
        return mutant.key in self.equivalents

    def modules(self) -> dict[str, Part]:
        """The sum over each module, in the order of the sample."""
        return self._parts(lambda mutant: mutant.module)

    def operators(self) -> dict[str, Part]:
        """The sum over each mutation operator."""
        found = self._parts(lambda mutant: mutant.operator)
        return {each: found[each] for each in OPERATORS if each in found}

    def _parts(self, name_of: Callable[[Mutant], str]) -> dict[str, Part]:
        found: dict[str, Part] = {}
        for mutant in self.mutants:
            self._count(mutant, found.setdefault(name_of(mutant), Part()))
        return found

    def total(self) -> Part:
        total = Part()
        for mutant in self.mutants:
            self._count(mutant, total)
        return total

    def _count(self, mutant: Mutant, part: Part) -> None:
        trial = self.trials.get(mutant.id)
        if self.is_equivalent(mutant):
            part.equivalent += 1
        elif trial is not None:
            part.outcomes[trial.outcome] += 1

    def with_outcome(self, outcome: Outcome) -> list[tuple[Mutant, Trial]]:
        """Those that came to this, in the order of the sample."""
        return [
            (mutant, trial)
            for mutant in self.mutants
            if (trial := self.trials.get(mutant.id)) is not None
            and trial.outcome is outcome
            and not self.is_equivalent(mutant)
        ]

    def invariants(self) -> Counter[str]:
        """How many were found by each."""
        return Counter(trial.invariant for _, trial in self.with_outcome(Outcome.FOUND))

    def median_seeds(self) -> float | None:
        """Seeds that it took to find one, as the median."""
        needed = [trial.seeds for _, trial in self.with_outcome(Outcome.FOUND)]
        return median(needed) if needed else None


# ---- as text -------------------------------------------------------------------------------------

_COLUMNS: Final = {
    Outcome.FOUND: " found",
    Outcome.HUNG: " hung",
    Outcome.CRASHED: " crash",
    Outcome.SIMULATOR: " sim",
    Outcome.SURVIVED: " surv",
    Outcome.UNREACHED: " never",
}
_LISTED: Final = {
    Outcome.SURVIVED: "survived though reached",
    Outcome.UNREACHED: "never reached",
    Outcome.SIMULATOR: "the simulator itself failed",
}
_NAME: Final = 28
_FEW: Final = 5
"""Of so many mutants, those that were noticed are listed as well."""


def report(found: MutantReport) -> str:
    """All that they have shown, as text."""
    total = found.total()
    lines = [
        *_table("module", found.modules()),
        _part("all", total),
        "",
        *_table("operator", found.operators()),
        *_summary(found, total),
    ]
    noticed = {each: each.value for each in NOTICED} if len(found.mutants) <= _FEW else {}
    for outcome, title in {**noticed, **_LISTED}.items():
        some = found.with_outcome(outcome)
        if some:
            lines += ["", f"{title} ({len(some)}):"]
            lines += [line for mutant, trial in some for line in _detail(mutant, trial)]
    return "\n".join(lines)


def _table(what: str, parts: Mapping[str, Part]) -> list[str]:
    head = _row(what, "all", list(_COLUMNS.values()), "equiv", "share")
    return [head, *(_part(name, part) for name, part in parts.items())]


def _part(name: str, part: Part) -> str:
    counts = [str(part.outcomes[outcome] or ".") for outcome in _COLUMNS]
    return _row(name, str(part.mutants), counts, str(part.equivalent or "."), percent(part.share))


def _row(name: str, mutants: str, counts: Sequence[str], equivalent: str, share: str) -> str:
    cells = "".join(map(str.rjust, counts, map(len, _COLUMNS.values())))
    return f"{name:<{_NAME}}{mutants:>5}{cells}{equivalent:>6}{share:>6}".rstrip()


def percent(share: float | None) -> str:
    """``87 %``, rounded down, so that only all of them are 100 %; ``-`` of nothing."""
    return "-" if share is None else f"{int(share * 100)} %"


def _summary(found: MutantReport, total: Part) -> list[str]:
    noticed = {each: total.outcomes[each] for each in NOTICED}
    tried = total.outcomes.total()
    lines = [
        "",
        f"noticed {sum(noticed.values())} of {counted(tried, 'mutant')} that are not equivalent: "
        f"{percent(total.share)} ("
        + ", ".join(f"{number} {each.value}" for each, number in noticed.items())
        + "). To hang or crash counts as noticed: anybody sees it.",
    ]
    needed = found.median_seeds()
    if needed is not None:
        by = ", ".join(f"{name} {number}" for name, number in found.invariants().most_common())
        lines += [f"found after {needed:g} seeds (median), by: {by}"]
    return lines


def location(mutant: Mutant) -> str:
    """``aurora/quorum.py:87``."""
    return f"{source_path(mutant.module).relative_to(ROOT).as_posix()}:{mutant.line}"


def _detail(mutant: Mutant, trial: Trial) -> list[str]:
    nothing = f", {trial.undecided} undecided" if trial.undecided else ""
    by = f", by {trial.invariant} in seed {trial.seed}" if trial.invariant else ""
    seeds = f"{counted(trial.seeds, 'seed')}{nothing}{by}"
    return [
        f"  {location(mutant)}  {mutant.function}  [{mutant.id}]  {seeds}",
        f"    {mutant.change}",
        *([f"    {trial.finding.partition(chr(10))[0]}"] if trial.finding else []),
    ]


# ---- for programs --------------------------------------------------------------------------------


def as_json(found: MutantReport) -> dict[str, Any]:
    """The same for programs."""
    return {
        **_part_json(found.total()),
        "median_seeds": found.median_seeds(),
        "invariants": dict(found.invariants().most_common()),
        "modules": {name: _part_json(part) for name, part in found.modules().items()},
        "operators": {name: _part_json(part) for name, part in found.operators().items()},
        "trials": [_mutant_json(found, mutant) for mutant in found.mutants],
    }


def _part_json(part: Part) -> dict[str, Any]:
    return {
        "mutants": part.mutants,
        "outcomes": {each.value: part.outcomes[each] for each in Outcome},
        "equivalent": part.equivalent,
        "share": part.share,
    }


def _mutant_json(found: MutantReport, mutant: Mutant) -> dict[str, Any]:
    trial = found.trials.get(mutant.id)
    equivalent = found.equivalents.get(mutant.key)
    tried = {} if trial is None else trial.to_json()
    return {
        "id": mutant.id,
        "in": mutant.where,
        "operator": mutant.operator,
        "change": mutant.change,
        "nth": mutant.nth,
        "at": location(mutant),
        **tried,
        "outcome": "equivalent" if equivalent else tried.get("outcome", "not tried"),
        **({"why": equivalent.why} if equivalent else {}),
    }
