"""Disks that become older copies of themselves, in the simulated world."""

from __future__ import annotations

from random import Random

import pytest

from segments.protocol.heard import Mark
from segments.protocol.ids import VolumeEpoch
from sim.bugs.damage import rolled_back_witness
from sim.bugs.plan import Plan
from sim.check import rules_of_rollback as rules
from sim.check.invariants import Broken
from sim.plan.generate import generate
from sim.plan.roll_backs import with_roll_backs
from sim.plan.schedule import Action, Knobs
from sim.run import RunResult, Verdict, run

HAS, HEARD = Mark(VolumeEpoch(1, 1), 3), Mark(VolumeEpoch(1, 1), 4)


def result_of(plan: Plan) -> RunResult:
    return run(plan.schedule("rolled back"))


def test_a_segment_hears_of_it_from_its_writer() -> None:
    plan = Plan()
    plan.put(6, 0)
    plan.fault(9, "copy_disk", "A")
    plan.put(10, 0)
    plan.put(15, 1)
    plan.fault(20, "roll_back", "A", down_ms=1.0)
    plan.put(30, 0)
    result = result_of(plan)
    assert (result.verdict, result.finding, result.lost) == (Verdict.PASSED, "", ("A0",))
    assert result.marks["rolled back and told so"] == 1


def test_a_recovery_leaves_it_out_and_waits_for_another() -> None:
    result = run(rolled_back_witness().schedule("rolled back"))
    assert (result.verdict, result.lost) == (Verdict.PASSED, ("A0",))
    assert result.marks["rolled back and left out"] == 1


def test_without_a_copy_it_is_as_it_was_made() -> None:
    plan = Plan()
    plan.put(6, 0)
    plan.put(7, 0)
    plan.fault(20, "roll_back", "A", down_ms=1.0)
    plan.put(30, 0)
    assert result_of(plan).lost == ("A0",)


def test_one_that_is_down_stays_down_and_is_told_when_it_is_back() -> None:
    plan = Plan()
    plan.put(6, 0)
    plan.put(7, 0)
    plan.fault(19, "crash", "A")
    plan.fault(20, "roll_back", "A", down_ms=1.0)
    plan.fault(40, "restart", "A")
    result = result_of(plan)
    assert result.lost == ("A0",) and result.verdict is Verdict.PASSED


def test_harmless_means_that_four_others_have_it_all() -> None:
    for cut, lost in (("", ("A0",)), ("E,F", ())):
        plan = Plan(end_ms=40)
        plan.put(6, 0)
        plan.keep_apart(8)
        if cut:
            plan.part(9, cut, "writer-1")
        plan.put(10, 0)
        plan.put(12, 0)
        plan.fault(20, "roll_back", "A", harmless=1, down_ms=1.0)
        plan.put(25, 0)
        result = result_of(plan)
        assert result.lost == lost and result.verdict is Verdict.PASSED
        noted = [str(each) for each in result.without_effect if each.action.kind == "roll_back"]
        assert [each.partition(": ")[2] for each in noted] == (
            ["A0 was needed for what it holds"] if cut else []
        )


def test_drawn_ones_are_harmless_and_count_among_the_lost() -> None:
    taken = [
        Action(at_ns=1, kind="wipe", target="A0", params={}),
        Action(at_ns=1, kind="rot_promise", target="B0", params={}),
    ]
    drawn = 0
    for seed in range(100):
        for faults in ([], taken):
            found = with_roll_backs(Random(seed), Knobs(), faults)
            rolled = [each for each in found if each.kind == "roll_back"]
            assert all(each.params["harmless"] for each in rolled)
            assert len({each.target for each in rolled} | {each.target for each in faults}) <= 2
            drawn += len(rolled)
    assert drawn > 20
    kinds = {each.kind for seed in range(100) for each in generate(seed).actions}
    assert {"copy_disk", "roll_back"} <= kinds


def test_who_is_contradicted_may_neither_count_nor_take_a_batch() -> None:
    rules.counts_no_older_copy("writer-2", "A0", HEARD, "B0", HEARD)
    rules.takes_nothing_from_who_knows("A0", HEARD, "writer-2", HEARD)
    with pytest.raises(Broken, match="writer-2 counts the seal reply of A0"):
        rules.counts_no_older_copy("writer-2", "A0", HAS, "B0", HEARD)
    with pytest.raises(Broken, match="expected it to be lost"):
        rules.takes_nothing_from_who_knows("A0", HAS, "writer-2", HEARD)


def test_what_was_heard_and_written_must_be_on_the_disk() -> None:
    rules.restores_what_it_heard("A0", {"B0": HAS}, {"B0": HEARD})
    for restored in ({}, {"B0": HAS}):
        with pytest.raises(Broken, match="A0 has heard of SCL 4 under"):
            rules.restores_what_it_heard("A0", {"B0": HEARD}, restored)
