"""Shrinking: ever less that fails for the same reason."""

from __future__ import annotations

from pathlib import Path

import attrs
from click.testing import CliRunner

from sim.commands.case import Case, open_case
from sim.commands.shrink import Shrinker, command, events_of, simpler_events, simpler_knobs
from sim.files.scenario import dump
from sim.plan.generate import generate
from sim.plan.redraws import Redraw
from sim.plan.schedule import MS, Action, Knobs, Operation, Schedule
from sim.plan.shapes.mixed import MIXED
from sim.run import RunResult, Verdict
from tests.busy import BUSY


def result_of(schedule: Schedule, *, fails: bool, at_ns: int) -> RunResult:
    return RunResult(
        schedule=schedule, verdict=Verdict.VIOLATION if fails else Verdict.PASSED,
        finding="it broke" if fails else "", invariant="history" if fails else "", digest="",
        virtual_ns=at_ns, messages=0, calls=(), commits=0, checks={}, marks={},
    )  # fmt: skip


def run_model(schedule: Schedule) -> RunResult:
    """Fails if two faults come in this order, with a call on page 3 between them."""
    wanted = ["crash", "put", "restart"]
    for event in events_of(schedule):
        if wanted and event.kind == wanted[0] and (event.kind != "put" or 3 in event.pages):  # type: ignore[union-attr]
            wanted.pop(0)
            if not wanted:
                return result_of(schedule, fails=True, at_ns=event.at_ns)
    return result_of(schedule, fails=False, at_ns=schedule.knobs.duration_ns)


def shrunk(schedule: Schedule, runs: int = 10_000) -> tuple[Schedule, int]:
    shrinker: Shrinker
    shrinker = Shrinker(schedule, run_model(schedule), run_model, lambda: shrinker.tests >= runs)
    assert shrinker.result.verdict is Verdict.VIOLATION
    shrinker.shrink()
    assert run_model(shrinker.best).verdict is Verdict.VIOLATION
    return shrinker.best, shrinker.tests


def large(seed: int) -> Schedule:
    drawn = generate(seed, MIXED)
    more = (
        Action(at_ns=200 * MS, kind="crash", target="az1,C"),
        Action(at_ns=500 * MS, kind="restart", target="az1,C"),
    )
    put = Operation(at_ns=300 * MS, client=1, kind="put", pages=(1, 3, 5), length=100)
    actions = sorted((*drawn.actions, *more), key=lambda each: each.at_ns)
    operations = sorted((*drawn.operations, put), key=lambda each: each.at_ns)
    turns = (Redraw(MS, 1), Redraw(2 * MS, 2))
    return attrs.evolve(drawn, actions=tuple(actions), operations=tuple(operations), redraws=turns)


def test_what_is_left_is_what_it_takes() -> None:
    for seed in range(6):
        best, tests = shrunk(large(seed))
        assert [each.kind for each in events_of(best)] == ["crash", "put", "restart"]
        assert best.operations[0].pages == (3,) and best.operations[0].length == 8
        assert len(best.actions[0].target) == 2
        assert best.knobs == attrs.evolve(Knobs(), duration_ns=best.knobs.duration_ns)
        assert best.knobs.duration_ns <= 2 * MS and best.redraws == ()
        assert tests < 1500


def test_a_budget_stops_it_with_something_that_still_fails() -> None:
    best, tests = shrunk(large(1), runs=20)
    assert tests == 20
    assert len(events_of(best)) < len(events_of(large(1)))


def test_steps_lead_down_and_end() -> None:
    for seed in range(20):
        knobs, steps = generate(seed).knobs, 0
        while (simpler := next(simpler_knobs(knobs), None)) is not None:
            knobs, steps = simpler, steps + 1
        assert steps < 40
        for event in events_of(generate(seed))[:40]:
            for _ in range(50):
                if (smaller := next(simpler_events(event), None)) is None:
                    break
                event = smaller
            else:
                raise AssertionError(event)


def test_no_step_leads_to_a_world_that_cannot_be() -> None:
    """Small files of a log, as a disk with little room demands."""
    knobs, met = Knobs(disk_bytes=16 << 10, wal_file_bytes=1 << 10, fold_bytes=1 << 10), 0
    for simpler in simpler_knobs(knobs):
        simpler.cluster_config()
        assert simpler.disk_bytes is None or simpler.wal_file_bytes == 1 << 10
        met += 1
    assert met == 1


# ---- a real one ----------------------------------------------------------------------------------


def test_a_bug_in_a_long_run_becomes_a_small_scenario_that_runs_by_itself(tmp_path: Path) -> None:
    path, drawn = tmp_path / "small.toml", tmp_path / "drawn.toml"
    drawn.write_text(dump(BUSY))
    bug = "ack-before-persist"
    options = [str(drawn), "--bug", bug, "-o", str(path), "--runs", "100"]
    done = CliRunner().invoke(command, options)
    assert done.exit_code == 1, done.output
    case = open_case(None, str(path), None)
    assert case.bug == bug
    assert len(events_of(case.schedule)) < 5 < len(events_of(BUSY))
    assert case.run().invariant == "ack-after-sync"
    # Without the bug the same scenario passes: it is the bug that is shown, nothing else.
    assert Case(schedule=case.schedule).run().verdict is Verdict.PASSED


def test_a_run_that_passed_is_not_shrunk() -> None:
    done = CliRunner().invoke(command, ["quiet"])
    assert done.exit_code == 0 and "nothing to shrink" in done.output
