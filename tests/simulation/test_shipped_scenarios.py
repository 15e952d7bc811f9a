"""Every scenario that is shipped runs, keeps what it promises, and could have failed to."""

from __future__ import annotations

from functools import cache

import attrs
import pytest

from sim.commands.run_command import execute, make_plan
from sim.files import scenario
from sim.plan.schedule import Action
from sim.run import Verdict
from sim.show.report import Report

NAMES = list(scenario.shipped())
REQUIRED = (
    "default", "quiet", "one-dead-segment", "az-outage", "az-plus-one", "gray-segment",
    "rolling-restart", "writer-crash", "writer-crash-at-every-point", "zombie-writer",
    "zombie-after-two-takeovers", "partition-two-sided", "partition-one-way",
    "duplication-and-reordering", "disk-lost", "bit-rot", "torn-writes", "failing-and-full-disks",
    "recovery-during-az-outage", "three-recoveries-each-crashing", "disk-lost-during-az-outage",
    "damaged-frame-healed-while-az-away", "replay", "bank-during-az-outage",
)  # fmt: skip

WITHOUT_FAULTS = {
    "az-plus-one", "bit-rot", "damaged-frame-healed-while-az-away", "default",
    "disk-lost-during-az-outage", "failing-and-full-disks", "partition-one-way",
    "partition-two-sided", "three-recoveries-each-crashing", "torn-writes", "zombie-writer",
    "zombie-after-two-takeovers", "disk-lost", "gray-segment", "recovery-during-az-outage",
    "replay", "writer-crash", "writer-crash-at-every-point", "bank-during-az-outage",
}  # fmt: skip
"""These miss their faults when nothing goes wrong; the others, a quorum that is taken away."""


@cache
def report_of(name: str) -> Report:
    return execute(make_plan(name, None, None))


def test_all_are_there() -> None:
    assert sorted(NAMES) == sorted(REQUIRED)


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_keeps_its_promises(name: str) -> None:
    report = report_of(name)
    assert report.verdict is Verdict.PASSED, report.finding
    assert report.result.schedule.name == name
    assert len(report.judgements) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_its_expectations_can_fail(name: str) -> None:
    plan = make_plan(name, None, None)
    schedule = plan.schedule
    actions: tuple[Action, ...] = ()
    if name not in WITHOUT_FAULTS:
        at_ns = schedule.knobs.duration_ns * 45 // 100
        actions = (Action(at_ns=at_ns, kind="crash", target="A,B,C,D"),)
    knobs = attrs.evolve(schedule.knobs, check_every=4096)
    schedule = attrs.evolve(schedule, actions=actions, knobs=knobs)
    report = execute(attrs.evolve(plan, schedule=schedule))
    assert (report.verdict, report.invariant) == (Verdict.VIOLATION, "expectation"), report.finding


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_says_what_it_is_in_one_line(name: str) -> None:
    found = scenario.load(scenario.shipped()[name])
    assert found.name == name
    assert 20 < len(found.description.split(". ")[0]) <= 80
