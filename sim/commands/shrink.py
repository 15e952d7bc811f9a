"""The command ``shrink``: cut a failing schedule down to what it takes to fail. Delta debugging.

Whatever a schedule says is taken away in ever smaller pieces, or made simpler, and stays so if the
run still breaks the same invariant, or misses the same expectation: first what comes after the
failure, then whole clients, faults and calls, then the details. Messages draw from a stream per
link, so a smaller schedule still meets mostly the network that the larger one met.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import click

from aurora.terminal.finishing import writing
from aurora.terminal.integers import Integer
from segments.protocol.errors import InvalidConfig
from segments.protocol.volume import VolumeGeometry
from sim.commands.case import Case, case_options, input_paths, open_case
from sim.commands.exit_codes import EXIT_CODES, HELP, INTERRUPTED
from sim.durations import duration_option, format_seconds
from sim.files import scenario
from sim.files.expectations import NOTHING_HAPPENED, UNMET, Expectation
from sim.files.outputs import OUTPUT, begins_with, check_output, force_option, writable_path
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.schedule import MS, READS, Action, Knobs, Operation, Schedule
from sim.run import RunResult, Verdict
from sim.wording import command_line, counted, say
from sim.world import faults

_T = TypeVar("_T")
Event: TypeAlias = Action | Operation

_DEFAULT_BUDGET_S: Final = 120.0
_SMALLEST_LENGTH: Final = 8
_MARK: Final = "# Written by `shrink`, which may replace it.\n"


# ---- variants ------------------------------------------------------------------------------------


def events_of(schedule: Schedule) -> list[Event]:
    """Faults and calls in the order of their times."""
    return sorted([*schedule.actions, *schedule.operations], key=lambda each: each.at_ns)


def with_events(schedule: Schedule, events: Sequence[Event]) -> Schedule:
    """The same world with other faults and calls."""
    ordered = sorted(events, key=lambda each: each.at_ns)
    return attrs.evolve(
        schedule,
        actions=tuple(each for each in ordered if isinstance(each, Action)),
        operations=tuple(each for each in ordered if isinstance(each, Operation)),
    )


def simpler_events(event: Event) -> Iterator[Event]:
    """Simpler versions of one event, the simplest first."""
    if isinstance(event, Action):
        yield from _simpler_actions(event)
        return
    if len(event.pages) > 1:
        yield attrs.evolve(event, pages=event.pages[:1])
        yield attrs.evolve(event, pages=event.pages[1:])
    plain: dict[str, object] = {
        "offset": 0,
        "length": _SMALLEST_LENGTH,
        "cached": True,
        "sticky": False,
        "early": False,
        "way": "put_many",
        "patience_ns": None,
        "hold_ns": 0,
        "age": 0.0,
    }
    for name, value in plain.items():
        if getattr(event, name) != value:
            yield _evolved(event, name, value)
    if event.kind in READS and event.kind != "get":
        yield attrs.evolve(event, kind="get", age=0.0)


def _simpler_actions(action: Action) -> Iterator[Action]:
    words = action.target.split(",")
    if len(words) > 1:
        for left_out in range(len(words)):
            rest = [word for at, word in enumerate(words) if at != left_out]
            yield attrs.evolve(action, target=",".join(rest))
    letters = {"az1": "A,B", "az2": "C,D", "az3": "E,F"}.get(action.target)
    for letter in letters.split(",") if letters else ():
        yield attrs.evolve(action, target=letter)
    if len(action.target) == 1 and action.target.isalpha():
        yield attrs.evolve(action, target=f"{action.target}0")
    for name in action.params:
        rest_of = {key: value for key, value in action.params.items() if key != name}
        yield attrs.evolve(action, params=rest_of)


def without_idle_actions(schedule: Schedule) -> Schedule:
    """Without the faults between a side and nobody: drawn at times, they do nothing."""
    groups = VolumeGeometry(schedule.knobs.pg_count).groups()
    acting = tuple(each for each in schedule.actions if not faults.is_idle(each, groups))
    return attrs.evolve(schedule, actions=acting)


def simpler_knobs(knobs: Knobs) -> Iterator[Knobs]:
    """One step to a simpler world each; what settings demand of each other is kept."""
    return filter(_can_be, _nearer_to_plain(knobs))


def _can_be(knobs: Knobs) -> bool:
    try:
        knobs.cluster_config()
    except InvalidConfig:
        return False
    return True


def _nearer_to_plain(knobs: Knobs) -> Iterator[Knobs]:
    plain = Knobs()
    same = ("duration_ns", "liveness_ns", "link", "disk")
    for field in attrs.fields(Knobs):
        if field.name not in same and getattr(knobs, field.name) != getattr(plain, field.name):
            yield _evolved(knobs, field.name, getattr(plain, field.name))
    for name, reference in (("link", LinkProfile()), ("disk", DiskProfile())):
        profile: LinkProfile | DiskProfile = getattr(knobs, name)
        for part in attrs.fields(type(profile)):
            value = getattr(reference, part.name)
            if getattr(profile, part.name) != value:
                simpler = _evolved(profile, part.name, value)
                yield _evolved(knobs, name, simpler)


def _evolved(instance: _T, name: str, value: object) -> _T:
    changes: dict[str, Any] = {name: value}
    return attrs.evolve(instance, **changes)  # type: ignore[misc]


# ---- the search ----------------------------------------------------------------------------------


@attrs.define(eq=False)
class Shrinker:
    """A search under way. Whenever it is stopped, `best` fails as the original did."""

    best: Schedule
    result: RunResult
    """Of `best`."""
    run: Callable[[Schedule], RunResult]
    over: Callable[[], bool]
    """Whether the budget is spent."""
    tests: int = 0

    def shrink(self) -> None:
        """Make it as small as can be within the budget."""
        self._cut_the_end()
        self._drop_redraws()
        self._drop_clients()
        before: Schedule | None = None
        while not self.over() and before is not self.best:
            before = self.best
            self._drop_events()
            self._simplify_events()
            self._simplify_knobs()
            self._hurry()

    def _try(self, candidate: Schedule) -> bool:
        """Keep a candidate if it breaks the same invariant."""
        if self.over() or candidate == self.best or without_idle_actions(candidate) != candidate:
            return False
        self.tests += 1
        result = self.run(candidate)
        if (result.verdict, result.invariant) != (self.result.verdict, self.result.invariant):
            return False
        self.best, self.result = candidate, result
        return True

    def _cut_the_end(self) -> None:
        """Nothing that was to come after the failure can have caused it."""
        failed_ns = self.result.virtual_ns
        kept = [each for each in events_of(self.best) if each.at_ns <= failed_ns]
        self._try(with_events(self.best, kept))
        self._shorten(failed_ns + MS)

    def _shorten(self, duration_ns: int) -> bool:
        knobs = self.best.knobs
        if duration_ns >= knobs.duration_ns:
            return False
        kept = [each for each in events_of(self.best) if each.at_ns < duration_ns]
        world = attrs.evolve(self.best, knobs=attrs.evolve(knobs, duration_ns=duration_ns))
        return self._try(with_events(world, kept))

    def _drop_redraws(self) -> None:
        """Other chances from a moment on are harder to follow than those of the seed."""
        for redraw in self.best.redraws:
            rest = tuple(each for each in self.best.redraws if each != redraw)
            self._try(attrs.evolve(self.best, redraws=rest))

    def _drop_clients(self) -> None:
        for client in sorted({each.client for each in self.best.operations}):
            kept = [
                each
                for each in events_of(self.best)
                if isinstance(each, Action) or each.client != client
            ]
            self._try(with_events(self.best, kept))

    def _drop_events(self) -> None:
        """Take away pieces: halves first, single events last."""
        piece = max(1, len(events_of(self.best)) // 2)
        while not self.over():
            start, shrunk = 0, False
            while start < len(events := events_of(self.best)) and not self.over():
                rest = events[:start] + events[start + piece :]
                if self._try(with_events(self.best, rest)):
                    shrunk = True
                else:
                    start += piece
            if piece == 1 and not shrunk:
                return
            piece = max(1, piece // 2)

    def _simplify_events(self) -> None:
        at = 0
        while at < len(events := events_of(self.best)) and not self.over():
            for simpler in simpler_events(events[at]):
                if self._try(with_events(self.best, [*events[:at], simpler, *events[at + 1 :]])):
                    break
            else:
                at += 1

    def _simplify_knobs(self) -> None:
        again = True
        while again and not self.over():
            again = any(
                self._try(attrs.evolve(self.best, knobs=knobs))
                for knobs in simpler_knobs(self.best.knobs)
            )

    def _hurry(self) -> None:
        """Less waiting: shorter gaps between events, whole milliseconds, an earlier end."""
        for at in range(len(events_of(self.best))):
            events = events_of(self.best)
            gap = events[at].at_ns - (events[at - 1].at_ns if at else 0)
            for shorter in (0, 10 * MS, gap // 2, gap // MS * MS):
                earlier = [*events[:at], *_earlier(events[at:], gap - shorter)]
                if shorter < gap and self._try(with_events(self.best, earlier)):
                    break
        while self._shorten(max(MS, self.best.knobs.duration_ns // 2)):
            pass


def _earlier(events: Sequence[Event], by_ns: int) -> list[Event]:
    return [attrs.evolve(each, at_ns=each.at_ns - by_ns) for each in events]


# ---- the command ---------------------------------------------------------------------------------


@click.command("shrink", epilog=HELP)
@case_options
@click.option(
    "-o", "--output", type=OUTPUT, metavar="FILE",
    callback=writable_path, default=Path("shrunk.toml"), show_default=True,
    help="Where to write the scenario. One that this command wrote is replaced.",
)  # fmt: skip
@force_option("Replace any other file.")
@click.option(
    "--budget", callback=duration_option, default=f"{_DEFAULT_BUDGET_S:.0f}s", show_default=True,
    metavar="TIME", help="Stop after this long with the smallest so far.",
)  # fmt: skip
@click.option(
    "--runs", type=Integer(min=1), metavar="N",
    help="Stop after this many runs: the same result on every machine.",
)  # fmt: skip
def command(
    seed: int | None,
    name: str | None,
    bug: str | None,
    knobs: tuple[str, ...],
    output: Path,
    force: bool,
    budget: float,
    runs: int | None,
) -> None:
    """Cut a failing run down, and write what is left as a scenario.

    Faults, calls, clients, time and the world's knobs are taken away or made simpler as long as the
    run breaks the same invariant, or misses the same expectation, which the scenario keeps. It runs
    by itself and brings its bug along. Ctrl-C ends it with the smallest so far, and code 130.
    """
    case = open_case(seed, name, bug, knobs)
    written_before = begins_with(_MARK.encode())
    check_output("-o", output, inputs=input_paths(name), force=force, written_before=written_before)
    result = case.run()
    if result.verdict is Verdict.PASSED or result.finding == NOTHING_HAPPENED:
        found = result.finding or result.verdict.value
        say(f"{case.source}: {found}; there is nothing to shrink")
        sys.exit(EXIT_CODES[result.verdict])
    say(f"{case.source}: {result.verdict.value}, {result.invariant}")
    case = attrs.evolve(case, expectations=missed(case, result))
    shrinker, interrupted = shrink_case(case, result, budget, runs)
    _conclude(case, shrinker, result, output)
    sys.exit(INTERRUPTED if interrupted else EXIT_CODES[result.verdict])


def _conclude(case: Case, shrinker: Shrinker, result: RunResult, output: Path) -> None:
    """Write what is left, and say what it is; exits if it does not fail by itself."""
    best = shrinker.best
    found = of_its_own(case, best).run()
    if found.invariant != result.invariant:
        click.echo("it does not fail again with the messages that its seed draws", err=True)
        sys.exit(EXIT_CODES[Verdict.UNDECIDED])
    text = f"{found.invariant}: {found.finding.splitlines()[0]}"
    scenario_text = scenario.dump(
        best, description=text, bug=case.bug or "", expectations=case.expectations
    )
    with writing(output):
        output.write_text(_MARK + scenario_text, encoding="utf-8")
    before = counted(len(events_of(case.schedule)), "event")
    runs = counted(shrinker.tests, "run")
    say(f"{before} down to {len(events_of(best))}, in {runs}:")
    for event in events_of(best):
        say(f"{event}")
    say(text)
    say(f"run it:     {command_line('run', str(output))}")
    say(f"explain it: {command_line('explain', str(output))}")


def missed(case: Case, result: RunResult) -> tuple[Expectation, ...]:
    """The expectation to go on missing: the first; none if an invariant broke."""
    if result.invariant != UNMET:
        return ()
    return next((each,) for each in case.expectations if not each.judge(result).met)


def ways_missed(case: Case, result: RunResult) -> list[str]:
    """In which way each of the case's expectations was missed."""
    return [each.judge(result).way for each in case.expectations]


def of_its_own(case: Case, schedule: Schedule) -> Case:
    """Another schedule in the same case; its own seed decides its messages."""
    return attrs.evolve(case, schedule=schedule, decided=None)


def shrink_case(
    case: Case, result: RunResult, budget_s: float, runs: int | None = None
) -> tuple[Shrinker, bool]:
    """Look for the smallest schedule that fails as ``result`` does; and whether Ctrl-C ended it.

    The search ends after ``budget_s`` of real time, or after ``runs`` runs if that comes first.
    """
    started = time.monotonic()
    shown = started
    # Who takes all calls away makes any expectation of calls fail: that would explain nothing.
    ways = ways_missed(case, result)

    def run(schedule: Schedule) -> RunResult:
        nonlocal shown
        now = time.monotonic()
        if sys.stderr.isatty() and now - shown > 0.2:
            shown = now
            left = format_seconds(max(0.0, started + budget_s - now))
            events = counted(len(events_of(shrinker.best)), "event")
            line = f"{events}, {counted(shrinker.tests, 'run')}, at most {left} left"
            click.echo(f"\r{line:<79}", err=True, nl=False)
        found = of_its_own(case, schedule).run()
        if ways_missed(case, found) != ways:
            return attrs.evolve(found, verdict=Verdict.UNDECIDED, invariant="undecided")
        return found

    def over() -> bool:
        if runs is not None and shrinker.tests >= runs:
            return True
        return time.monotonic() - started >= budget_s

    shrinker = Shrinker(without_idle_actions(case.schedule), result, run, over)
    interrupted = False
    try:
        shrinker.shrink()
    except KeyboardInterrupt:
        interrupted = True
        click.echo("\nstopped by Ctrl-C: the smallest so far", err=True)
    if sys.stderr.isatty():
        click.echo(f"\r{'':<79}\r", err=True, nl=False)
    return shrinker, interrupted
