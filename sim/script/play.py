"""Runs a scenario in Python: twice, and in a world in which it says what happens."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from time import perf_counter
from typing import Final

import attrs
import trio

from aurora.engine import Engine
from segments.protocol.errors import Invalid, PageNotFound
from sim.files.expectations import UNMET, conclude
from sim.files.knob_tables import check_ranges
from sim.plan.schedule import SECOND, Action, Knobs, Schedule
from sim.run import Run, RunResult, Verdict
from sim.script import real_world, unawaited
from sim.script.direct_writes import DirectWrites
from sim.script.errors import (
    Body,
    ScriptError,
    blames_the_script,
    file_of,
    raised_by,
    script_error,
)
from sim.script.scenario import Scenario, Teller
from sim.script.watch import ScriptWatch
from sim.show.report import Report, make_report
from sim.show.watch import Watch
from sim.world.scheduler import Undecided
from sim.world.world import World

DEFAULT_LIMIT_S: Final = 600.0
"""Seconds of virtual time in which a scenario has to come to its end, unless it says otherwise."""
_MAX_LIMIT_S: Final = 86_400.0


@attrs.frozen
class ScenarioResult:
    """What a scenario has shown."""

    report: Report
    story: Sequence[str]

    @property
    def run(self) -> RunResult:
        """The run, with the verdict of the whole."""
        return self.report.result

    @property
    def passed(self) -> bool:
        """Whether something was acknowledged, every expectation met, and every invariant held."""
        return self.run.verdict is Verdict.PASSED


class _ScriptedWorld(World):
    """A world in which calls are made at once: also in the moment in which a writer crashes."""

    _crashed: Engine | None = None

    def crash_writer(self) -> None:
        """Stop the latest writer; from now on nobody takes it for usable."""
        self._crashed = self.cluster.engine
        super().crash_writer()

    async def usable_engine(self) -> Engine:
        while self._crashed is not None and self._crashed.error is None:
            await trio.lowlevel.checkpoint()  # it ends as soon as its tasks have their turn
        return await super().usable_engine()


class _ScriptRun(Run):
    """A run in which a script says what happens."""

    raises = (ScriptError, OSError)

    def __init__(self, schedule: Schedule, scenario: Body, tell: Teller) -> None:
        super().__init__(_ScriptedWorld(schedule))
        self.checker.ending.clients_only = False
        self._scenario = scenario
        self._tell = tell
        self.world.listen(DirectWrites(self.world))
        self._script_watch = ScriptWatch(self, schedule.knobs.duration_ns)
        self._actions: list[Action] = []
        self._healed_ns = 0

    def run(self) -> RunResult:
        """Run to the end; the result's schedule has the faults. Raises `ScriptError`."""
        result = super().run()
        end_ns = self._healed_ns or result.virtual_ns
        knobs = attrs.evolve(result.schedule.knobs, duration_ns=end_ns)
        schedule = attrs.evolve(result.schedule, actions=tuple(self._actions), knobs=knobs)
        return attrs.evolve(result, schedule=schedule)

    async def _play(self) -> None:
        world = self.world
        async with trio.open_nursery() as calling:
            s = Scenario(self, calling, self._tell)
            self._actions = s.actions
            async with trio.open_nursery() as scripting:
                scripting.start_soon(self._script, s, name="scenario")
            s.say("the world heals, and everything pending has to finish")
            self._healed_ns = world.scheduler.now_ns
            world.heal()
            bound_s = world.schedule.knobs.liveness_ns / SECOND
            calling.cancel_scope.deadline = trio.current_time() + bound_s
            await self._converge()
        if calling.cancel_scope.cancelled_caught:
            self.checker.ending.not_finished()

    async def _script(self, s: Scenario) -> None:
        """Run the script; returns only if nothing speaks against it."""
        scheduler = self.world.scheduler
        self._script_watch.begin(trio.lowlevel.current_task())
        try:
            await self._scenario(s)
        except BaseException as error:
            raised = [each for each, _ in raised_by(error)]
            if not all(blames_the_script(each, self._scenario) for each in raised):
                raise
            if raised:
                scheduler.fail(_ended_by(raised, error, self._scenario))
            if not scheduler.failed:
                raise  # cancelled, and not by us
        finally:
            self._script_watch.end()
        if scheduler.failed:
            await trio.sleep_forever()


def run_scenario(
    scenario: Body,
    *,
    seed: int = 1,
    knobs: Knobs | None = None,
    limit_s: float = DEFAULT_LIMIT_S,
    tell: Teller | None = None,
) -> ScenarioResult:
    """Run a scenario in a world of its own; ``tell`` is called with each line of the story.

    It has ``limit_s`` seconds of virtual time to come to its end. A scenario that passes is run
    once more, in silence, and has to do the same again: otherwise more than the seed decides.

    Raises `ScriptError`, and `Invalid` for knobs or a limit that cannot be.
    """
    if trio.lowlevel.in_trio_run():
        raise Invalid("run_scenario inside of a trio run: expected to be called from plain code")
    if type(seed) is not int or seed < 0:
        raise Invalid(f"seed is {seed!r}: expected an integer, 0 or more")
    if not isinstance(limit_s, int | float) or not 0 < limit_s <= _MAX_LIMIT_S:
        raise Invalid(f"limit_s is {limit_s!r}: expected more than 0, at most {_MAX_LIMIT_S:g}")
    if knobs is not None and not isinstance(knobs, Knobs):
        raise ScriptError(f"knobs is {knobs!r}: expected sim.plan.schedule.Knobs")
    check_ranges(knobs or Knobs())
    knobs = attrs.evolve(knobs or Knobs(), duration_ns=round(limit_s * SECOND))
    schedule = Schedule(seed=seed, knobs=knobs, name=_name_of(scenario))
    result = _run_once(scenario, schedule, tell)
    if result.passed:
        with contextlib.redirect_stdout(io.StringIO()):
            again = _run_once(scenario, schedule, None)
        _expect_the_same(scenario, result, again)
    return result


def _run_once(scenario: Body, schedule: Schedule, tell: Teller | None) -> ScenarioResult:
    story: list[str] = []

    def both(line: str) -> None:
        story.append(line)
        if tell is not None:
            tell(line)

    scripted = _ScriptRun(schedule, scenario, both)
    watch, started = Watch(scripted.world), perf_counter()
    error: ScriptError | None = None
    with unawaited.noticed() as forgotten, real_world.refused(scenario):
        try:
            result = conclude(scripted.run(), ())
        except ScriptError as raised:
            error = raised
            if raised.__cause__ is not None:  # it may hold what was not awaited
                unawaited.clear_frames(raised.__cause__)
    if forgotten.lines and (error is not None or not _broken(result)):
        raise ScriptError("; ".join(forgotten.lines)) from error
    if error is not None:
        raise error
    report = make_report(
        scripted.world,
        result,
        watch,
        real_s=perf_counter() - started,
        command=f"python {file_of(scenario)} --seed {schedule.seed}",
    )
    return ScenarioResult(report, story)


def _ended_by(raised: Sequence[BaseException], error: BaseException, scenario: Body) -> Exception:
    """What a script's own exceptions have come to: that a page is missing shows nothing at all."""
    found = script_error(error, scenario)
    missing = all(isinstance(each, PageNotFound) for each in raised)
    return Undecided(str(found)) if missing else found


def _broken(result: RunResult) -> bool:
    """Whether the code under test has been found wrong, whatever the script did."""
    return result.verdict is Verdict.VIOLATION and result.invariant != UNMET


def _expect_the_same(scenario: Body, first: ScenarioResult, second: ScenarioResult) -> None:
    """Raise unless both runs were one and the same."""
    if (first.run.digest, first.story) == (second.run.digest, second.story):
        return
    pairs = zip(first.story, second.story, strict=False)
    where = next((f"{one!r}, then {two!r}" for one, two in pairs if one != two), "the trace")
    raise ScriptError(
        f"{file_of(scenario)}: not the same twice with seed {first.run.schedule.seed} ({where}): "
        "expected the seed alone to decide, and neither the real world nor what an earlier run has "
        "left behind"
    )


def _name_of(scenario: Body) -> str:
    return str(getattr(scenario, "__name__", "scenario"))
