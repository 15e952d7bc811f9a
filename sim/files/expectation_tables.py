"""Expectations as tables of a scenario file, there and back.

A recording keeps the same tables in its header, as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aurora.targets import resolve
from segments.protocol.errors import Invalid
from segments.protocol.volume import ProtectionGroup
from sim.check.findings import OTHER_FINDINGS
from sim.check.invariants import INVARIANTS
from sim.check.marks import MARKS
from sim.files.expectations import (
    COUNTED,
    DEFAULT_MAX_STALL_NS,
    GOES_ON,
    MAY_WAIT,
    UNMET,
    WAITS,
    AtLeast,
    Ends,
    Expectation,
    Flow,
    Lost,
    Reaches,
)
from sim.files.toml_reader import Table, format_time
from sim.plan.schedule import Knobs
from sim.run import Verdict

_MINIMA: Final = {f"min_{what.replace(' ', '_')}": what for what in COUNTED}
_NEVER_EXPECTED: Final = (UNMET, Verdict.INTERNAL.value)
_SUBJECTS: Final = ("writes", "reads", *_MINIMA, "lost", "reaches", "verdict")


def read_expectation(table: Table, groups: Sequence[ProtectionGroup], knobs: Knobs) -> Expectation:
    """The expectation that a table holds; raises `ScenarioError`."""
    given = [each for each in _SUBJECTS if table.has(each)]
    if len(given) != 1:
        raise table.error(
            None,
            f"found {' and '.join(given) or 'no subject'}: expected one of {', '.join(_SUBJECTS)}",
        )
    expectation = _about(given[0], table, groups, knobs)
    for each in _SUBJECTS:
        table.get(each)
    table.finish()
    return expectation


def _about(key: str, table: Table, groups: Sequence[ProtectionGroup], knobs: Knobs) -> Expectation:
    if key in ("writes", "reads"):
        how = table.choice(key, (GOES_ON, MAY_WAIT, WAITS))
        flow = Flow(
            writes=key == "writes",
            how=how,
            from_ns=table.time("from", 0),
            until_ns=table.time("until", knobs.duration_ns),
            max_stall_ns=table.time("max_stall", DEFAULT_MAX_STALL_NS) if how != WAITS else 0,
            cached=table.boolean("cached", False) if key == "reads" else False,
        )
        if flow.from_ns >= flow.until_ns:
            found = f"{format_time(flow.from_ns)} to {format_time(flow.until_ns)}"
            raise table.error("until", f"found {found}: expected a later end")
        return flow
    if key in _MINIMA:
        cached = table.boolean("cached", False) if key == "min_reads" else False
        return AtLeast(_MINIMA[key], table.integer(key, least=1), cached)
    if key == "lost":
        target = table.names(key)
        try:
            return Lost(resolve(target, groups).segments if target else ())
        except Invalid as error:
            raise table.error(key, str(error)) from None
    if key == "reaches":
        return Reaches(table.choice(key, MARKS), table.integer("times", 1, least=1))
    verdict = table.choice(key, [each.value for each in Verdict if each is not Verdict.INTERNAL])
    known = [*INVARIANTS, *(each for each in OTHER_FINDINGS if each not in _NEVER_EXPECTED)]
    invariant = table.choice("invariant", known) if table.has("invariant") else ""
    return Ends(Verdict(verdict), invariant)


def expectation_row(expectation: Expectation) -> dict[str, Any]:
    """The table that `read_expectation` reads back as ``expectation``."""
    match expectation:
        case Flow():
            row = {
                "writes" if expectation.writes else "reads": expectation.how,
                "from": format_time(expectation.from_ns),
                "until": format_time(expectation.until_ns),
            }
            if expectation.how != WAITS:
                row["max_stall"] = format_time(expectation.max_stall_ns)
            return row | ({"cached": True} if expectation.cached else {})
        case AtLeast():
            key = next(key for key, what in _MINIMA.items() if what == expectation.what)
            return {key: expectation.least} | ({"cached": True} if expectation.cached else {})
        case Lost():
            return {"lost": list(expectation.segments)}
        case Reaches():
            return {"reaches": expectation.mark, "times": expectation.least}
        case Ends():
            ends = {"verdict": expectation.verdict.value}
            return ends | ({"invariant": expectation.invariant} if expectation.invariant else {})
    raise AssertionError(expectation)
