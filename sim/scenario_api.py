"""Scenarios in Python: start a cluster, break it, say what must happen, with all checkers on.

::

    async def scenario(s: Scenario) -> None:
        await s.put(1, b"before")
        s.crash("az1")
        await s.writes_go_on(within_s=0.1)
        s.crash("C")
        waiting = await s.writes_wait(for_s=5)
        s.restart("C")
        await waiting.done(within_s=3)


    run_scenario(scenario, seed=7)

Time is virtual: waiting costs nothing. When the scenario ends, the world heals, everything pending
has to finish, all segments have to agree, and the history of all calls is checked. Whatever happens
is told in a story, line by line. What the script itself does wrong is a `ScriptError`, no finding.

(More than 400 lines: whatever a script may ask for is a method of one class.)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypeAlias

import attrs
import trio

from aurora.engine import Engine
from aurora.targets import Target
from segments.protocol.errors import AuroraError
from segments.protocol.ids import Lsn, PageId, SegmentId
from sim import faults
from sim.durations import length, moment_column
from sim.exit_codes import EXIT_CODES, INTERRUPTED, USAGE
from sim.expectations import UNMET
from sim.history import Call, Outcome
from sim.knob_tables import check_ranges
from sim.no_effect import without_effect
from sim.schedule import SECOND, Action, Knobs, Operation, Schedule
from sim.script_errors import Body, blames_the_script, script_error
from sim.wording import counted, wrapped
from sim.workload import make_call
from sim.world import RunResult, Verdict, World

_LONG_NS: Final = 100_000 * SECOND
_PROBE_PAGE: Final = 1_000_000
"""From here on lie the pages that expectations write to."""

_EPILOG: Final = (
    "Exit codes: 0 all as expected, 1 violation, 2 usage error or an error of the script, "
    "3 liveness failure, 4 undecided, 130 interrupted."
)

Teller: TypeAlias = Callable[[str], object]
"""Called with each line of the story."""


@attrs.frozen
class ScenarioResult:
    """What a scenario has shown."""

    run: RunResult
    story: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether every expectation was met and every invariant held."""
        return self.run.verdict is Verdict.PASSED


class ExpectationFailed(Exception):
    """An expectation was not met; it ends the scenario, and is its finding."""


class Pending:
    """A write that waits for a quorum."""

    def __init__(self, scenario: Scenario, call: Call, finished: trio.Event) -> None:
        self._scenario = scenario
        self._call = call
        self._finished = finished

    @property
    def call(self) -> Call:
        """The call as it stands."""
        return self._call

    async def done(self, *, within_s: float) -> Lsn:
        """Expect it to be acknowledged within so many seconds; returns its commit LSN."""
        scenario, started = self._scenario, trio.current_time()
        with trio.move_on_after(within_s):
            await self._finished.wait()
        if self._call.outcome is not Outcome.OK:
            scenario.fail(
                f"the waiting write is {self._call.outcome.value} after {within_s:g} s: "
                f"expected it to be acknowledged"
            )
        scenario.say(f"the waiting write is acknowledged after {_since(started)}")
        return self._call.lsn


class Scenario:
    """A cluster under the hands of a scenario. Targets are those of `aurora.targets`."""

    def __init__(self, world: World, nursery: trio.Nursery, tell: Teller) -> None:
        self.world = world
        self._nursery = nursery
        self._tell = tell
        self._probes = 0

    # ---- calls -----------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """The latest writer."""
        return self.world.cluster.engine

    async def put(
        self, page_id: PageId, data: bytes, offset: int = 0, *, by: Engine | None = None
    ) -> Lsn:
        """Write ``data`` and return the commit LSN; fails the scenario if it is refused.

        ``by`` is the writer to use, by default the latest that has opened the volume.
        """
        engine = by or await self.world.usable_engine()
        call = self._write_call(engine, page_id, data, offset)
        await make_call(self.world, engine, call)
        if call.outcome is not Outcome.OK:
            self.fail(f"the write to page {page_id} is {call.outcome.value}: {call.error}")
        return call.lsn

    async def get(
        self, page_id: PageId, *, strict: bool = False, by: Engine | None = None
    ) -> bytes:
        """The page, 8,192 bytes; fails the scenario if nobody can say what is in it."""
        call = await self._read(page_id, strict=strict, by=by)
        if call.page is None:
            self.fail(f"the read of page {page_id} is {call.outcome.value}: {call.error}")
        return call.page

    async def _read(self, page_id: PageId, *, strict: bool, by: Engine | None) -> Call:
        engine = by or await self.world.usable_engine()
        call = self._call(engine, "strict_get" if strict else "get", page_id)
        await make_call(self.world, engine, call)
        return call

    # ---- expectations ----------------------------------------------------------------------------

    async def writes_go_on(self, *, within_s: float, by: Engine | None = None) -> Lsn:
        """Expect a write to be acknowledged within so many seconds."""
        started = trio.current_time()
        pending = await self._start_write(by)
        with trio.move_on_after(within_s):
            await pending._finished.wait()
        if pending.call.outcome is not Outcome.OK:
            self.fail(
                f"a write is {pending.call.outcome.value} after {within_s:g} s: "
                f"expected writes to go on"
            )
        self.say(f"writes go on: one took {_since(started)}")
        return pending.call.lsn

    async def writes_wait(self, *, for_s: float) -> Pending:
        """Expect a write not to be answered for so many seconds; it goes on waiting."""
        pending = await self._start_write(None)
        with trio.move_on_after(for_s):
            await pending._finished.wait()
        if pending.call.outcome is not Outcome.PENDING:
            self.fail(f"a write is {pending.call.outcome.value}: expected it to wait {for_s:g} s")
        self.say(f"writes wait: one is pending for {for_s:g} s")
        return pending

    async def reads_go_on(self, page_id: PageId, expected: bytes, *, within_s: float) -> None:
        """Expect a page to begin with ``expected``, and to be read within so many seconds."""
        started, call = trio.current_time(), None
        with trio.move_on_after(within_s):
            call = await self._read(page_id, strict=False, by=None)
        if call is None or call.page is None:
            why = "pending" if call is None else f"{call.outcome.value}: {call.error}"
            self.fail(f"a read of page {page_id} is {why}, expected within {within_s:g} s")
        if not call.page.startswith(expected):
            found = call.page[: len(expected)]
            self.fail(f"page {page_id} begins with {found!r}: expected {expected!r}")
        self.say(f"reads go on: page {page_id} took {_since(started)}")

    async def is_fenced(self, writer: Engine) -> None:
        """Expect a write through ``writer`` to be refused because another has taken over."""
        pending = await self._start_write(writer)
        with trio.move_on_after(30):
            await pending._finished.wait()
        if pending.call.outcome is not Outcome.UNKNOWN:
            self.fail(f"a write through {writer.name} is {pending.call.outcome.value}")
        self.say(f"{writer.name} is fenced: {pending.call.error}")

    def expect(self, truth: bool, text: str) -> None:
        """Expect anything else."""
        if not truth:
            self.fail(f"expected: {text}")
        self.say(text)

    def fail(self, text: str) -> NoReturn:
        """End the scenario: an expectation was not met."""
        raise ExpectationFailed(text)

    # ---- faults ----------------------------------------------------------------------------------

    def crash(self, target: Target) -> None:
        """Segments lose power: what is not synced is lost."""
        self.fault("crash", target)

    def restart(self, target: Target) -> None:
        """Segments that are down come back."""
        self.fault("restart", target)

    def pause(self, target: Target) -> None:
        """Segments handle nothing."""
        self.fault("pause", target)

    def resume(self, target: Target) -> None:
        """Paused segments go on."""
        self.fault("resume", target)

    def slow(self, target: Target, factor: float) -> None:
        """Network and disk of segments take ``factor`` times as long; 1 ends it."""
        self.fault("slow", target, factor=factor)

    def wipe(self, target: Target) -> None:
        """Disks are lost for good."""
        self.fault("wipe", target)

    def partition(self, target: Target, others: Target | None = None) -> None:
        """Nothing passes between the target (``writer`` too) and the others, or everybody else."""
        self.fault("partition", target, **({} if others is None else {"others": others}))

    def heal_network(self) -> None:
        """Every partition ends."""
        self.fault("heal_network")

    def heal(self) -> None:
        """Every fault ends; whatever is not lost comes back."""
        self.fault("heal")

    def crash_writer(self) -> None:
        """The writer stops at once."""
        self.fault("crash_writer")

    def fault(self, kind: str, target: Target = "", **params: Any) -> None:
        """Any fault of `sim.faults.FAULTS`, now; raises `sim.faults.WrongAction`."""
        action = Action(at_ns=self.world.scheduler.now_ns, kind=kind, target=target, params=params)
        groups = self.world.cluster.groups
        faults.check(action, groups)
        faults.check_sides(action, groups)
        values = "".join(f" {name}={value}" for name, value in action.params.items())
        idle = without_effect(self.world, action)
        self.say(f"fault: {kind} {action.target}{values}".rstrip())
        if idle is not None:
            self.say(f"note: {idle}")
        faults.apply(self.world, action)

    async def open_writer(self, *, within_s: float) -> Engine:
        """Another writer opens the volume, whether the old one runs or not; expect it in time."""
        started, engine = trio.current_time(), None
        self.say("another writer opens the volume")
        with trio.move_on_after(within_s):
            engine = await self.world.cluster.open_writer()
        if engine is None:
            self.fail(f"the volume is not open after {within_s:g} s")
        self.say(f"{engine.name} has opened at VDL {engine.vdl}, after {_since(started)}")
        return engine

    # ---- time, and telling -----------------------------------------------------------------------

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await trio.sleep(seconds)

    def say(self, text: str) -> None:
        """Add a line to the story."""
        self._tell(f"{moment_column(self.world.scheduler.now_ns)}  {text}")

    @property
    def lost(self) -> list[SegmentId]:
        """The segments whose disks are lost."""
        return list(self.world.cluster.lost_segments())

    # ---- details ---------------------------------------------------------------------------------

    def _call(self, engine: Engine, kind: str, page_id: PageId, **values: Any) -> Call:
        now_ns = self.world.scheduler.now_ns
        operation = Operation(at_ns=now_ns, client=0, kind=kind, pages=(page_id,), **values)
        return Call(len(self.world.calls), operation, now_ns, engine.name)

    def _write_call(self, engine: Engine, page_id: PageId, data: bytes, offset: int) -> Call:
        call = self._call(engine, "put", page_id, offset=offset, length=len(data))
        call.writes = [(page_id, offset, data)]
        return call

    async def _start_write(self, by: Engine | None) -> Pending:
        """Begin a write that goes on by itself, to a page that nobody has written."""
        engine = by or await self.world.usable_engine()
        self._probes += 1
        data = self._probes.to_bytes(8, "big")
        call = self._write_call(engine, _PROBE_PAGE + self._probes, data, 0)
        finished = trio.Event()

        async def write() -> None:
            await make_call(self.world, engine, call)
            finished.set()

        self._nursery.start_soon(write, name=f"write {self._probes}")
        return Pending(self, call, finished)


def _since(started: float) -> str:
    return length(round((trio.current_time() - started) * SECOND))


class _ScenarioWorld(World):
    """A world in which a scenario says what happens."""

    def __init__(self, schedule: Schedule, scenario: Body, tell: Teller) -> None:
        super().__init__(schedule)
        self._scenario = scenario
        self._tell = tell

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            await self._build(nursery)
            async with trio.open_nursery() as calling:
                s = Scenario(self, calling, self._tell)
                try:
                    await self._scenario(s)
                except ExpectationFailed as failed:
                    s.say(f"NOT AS EXPECTED: {failed}")
                    self.checker.fail(UNMET, str(failed))
                    await trio.sleep_forever()
                except Exception as error:
                    if not blames_the_script(error, self._scenario):
                        raise
                    self.scheduler.fail(script_error(error, self._scenario))
                    await trio.sleep_forever()
                s.say("the world heals, and everything pending has to finish")
                self.heal()
                bound_s = self.schedule.knobs.liveness_ns / SECOND
                calling.cancel_scope.deadline = trio.current_time() + bound_s
                await self._converge()
            if calling.cancel_scope.cancelled_caught:
                self.checker.ending.not_finished()
            self.checker.at_the_end()
            nursery.cancel_scope.cancel()


def run_scenario(
    scenario: Body,
    *,
    seed: int = 1,
    knobs: Knobs | None = None,
    tell: Teller | None = None,
) -> ScenarioResult:
    """Run a scenario in a world of its own; ``tell`` is called with each line of the story.

    Raises `ScriptError`, and `Invalid` for knobs that cannot be.
    """
    story: list[str] = []

    def both(line: str) -> None:
        story.append(line)
        if tell is not None:
            tell(line)

    check_ranges(knobs or Knobs())
    knobs = attrs.evolve(knobs or Knobs(), duration_ns=_LONG_NS)
    schedule = Schedule(seed=seed, knobs=knobs, name=_name_of(scenario))
    result = _ScenarioWorld(schedule, scenario, both).run()
    return ScenarioResult(result, story)


def main(scenario: Body, *, knobs: Knobs | None = None) -> NoReturn:
    """A script's whole `main`: run with the seed on the command line (1 without), tell, exit."""
    about = (sys.modules[scenario.__module__].__doc__ or _name_of(scenario)).strip()
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_EPILOG
    )
    parser.add_argument("seed", nargs="?", type=_seed, default=1, metavar="SEED", help="default: 1")
    seed = parser.parse_args().seed
    tell_line(f"seed {seed}: {about.splitlines()[0]}")
    try:
        result = run_scenario(scenario, seed=seed, knobs=knobs, tell=tell_line)
    except AuroraError as error:
        sys.exit(_refused(str(error)))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
    run = result.run
    tell_line(
        f"{run.verdict.value}: {counted(run.commits, 'commit')}, "
        f"{counted(run.messages, 'message')}, {counted(sum(run.checks.values()), 'check')}, "
        f"digest {run.digest}"
    )
    if run.finding:
        tell_line(f"{run.invariant}: {run.finding}")
    sys.exit(EXIT_CODES[run.verdict])


def _refused(problem: str) -> int:
    sys.stderr.write(wrapped(f"Error: {problem}") + "\n")
    return USAGE


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected an integer, 0 or more")
    return int(text)


def _name_of(scenario: Body) -> str:
    return str(getattr(scenario, "__name__", "scenario"))


def tell_line(line: str) -> None:
    """Write one line to standard output at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
