"""What a command is about: a schedule, the deliberate bug that is planted, and who decides."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import click

from aurora.terminal.integers import Integer
from segments.protocol.errors import AuroraError, Invalid
from segments.protocol.volume import VolumeGeometry
from sim.bugs import BUGS, planted
from sim.commands.exit_codes import EXIT_CODES
from sim.files import recording, scenario
from sim.files.expectations import Expectation, conclude, failure_of
from sim.files.knob_edits import OPTION, with_knobs
from sim.plan.fork import forked
from sim.plan.generate import generate
from sim.plan.schedule import Action, Schedule
from sim.run import Run, RunResult
from sim.wording import suggestion
from sim.world import faults
from sim.world.network_policy import Decided, PolicyMaker
from sim.world.world import World

_F = TypeVar("_F", bound=Callable[..., Any])


SEED: Final = Integer(min=0)
"""What an option for a seed takes."""


@attrs.frozen(kw_only=True)
class Case:
    """One run that can be repeated."""

    schedule: Schedule
    bug: str | None = None
    decided: Decided | None = None
    """Of a recording: what became of each message. Without it the seed draws that."""
    expectations: tuple[Expectation, ...] = ()
    """Of a scenario: what must be so beyond the invariants."""
    source: str = ""
    """How to name it on a command line: ``--seed 7 --bug no-fencing``, or a path."""

    def run(self, prepare: Callable[[Run], object] | None = None) -> RunResult:
        """Run it; ``prepare`` is given the run before it starts, to listen to its world.

        The expectations are judged, but a failure that they ask for is still a failure here.
        """
        with planted(self.bug):
            run = Run(World(self.schedule, policy=self.policy))
            if prepare is not None:
                prepare(run)
            return failure_of(run.run(), self.expectations)

    @property
    def is_recording(self) -> bool:
        """Whether it is a recorded run, of which every message is decided."""
        return self.decided is not None and self.decided.until_ns is None

    @property
    def policy(self) -> PolicyMaker | None:
        """Who decides what becomes of messages, for a world; None: the seed does."""
        return None if self.decided is None else self.decided.policy

    def fork(
        self,
        at_ns: int,
        *,
        salt: int | None = None,
        add: Sequence[Action] = (),
        remove: Collection[int] = (),
    ) -> Case:
        """The same run before ``at_ns``, and another one from then on: see `forked`.

        Raises `Invalid` for a fault that cannot be, too. With other faults, expectations are left
        out: they are about those that were planned. It is not named yet: see `saved_as`.
        """
        schedule = forked(self.schedule, at_ns, salt=salt, add=add, remove=remove)
        groups = VolumeGeometry(schedule.knobs.pg_count).groups()
        for action in add:
            faults.check(action, groups)
            faults.check_sides(action, groups)
        decided = self.decided
        if decided is not None:
            until_ns = at_ns if decided.until_ns is None else min(at_ns, decided.until_ns)
            decided = attrs.evolve(decided, until_ns=until_ns)
        expectations = () if add or remove else self.expectations
        return attrs.evolve(
            self, schedule=schedule, decided=decided, expectations=expectations, source=""
        )

    def saved_as(self, path: Path) -> Case:
        """The same as the scenario that a file of this name has."""
        named = attrs.evolve(self.schedule, name=path.stem)
        return attrs.evolve(self, schedule=named, source=str(path))

    def scenario_text(self, description: str = "") -> str:
        """A scenario file that is this run, and brings its bug along; see `scenario.dump`."""
        return scenario.dump(
            self.schedule,
            description=description,
            bug=self.bug or "",
            expectations=self.expectations,
            decided=self.decided,
        )

    def exit_code(self, result: RunResult) -> int:
        """Of a command that runs it and no more, as ``run`` does: an expected failure passes."""
        return EXIT_CODES[conclude(result, self.expectations).verdict]


def check_bug(name: str | None) -> None:
    """Raise `click.BadParameter` unless there is a deliberate bug of this name."""
    if name is not None and name not in BUGS:
        raise click.BadParameter(f"{name!r}: {suggestion(name, BUGS)}", param_hint="--bug")


def input_paths(name: str | None) -> dict[Path, str]:
    """The file that a command line's ``name`` stands for, for `sim.files.outputs.check_output`."""
    if name is None:
        return {}
    return {Path(name) if Path(name).is_file() else scenario.find(name): "the input"}


def case_of_recording(found: recording.Recording, source: str = "", bug: str | None = None) -> Case:
    """The recorded run, with another deliberate bug if one is named."""
    return Case(
        schedule=found.schedule,
        bug=bug or found.bug,
        decided=Decided(found.decisions),
        expectations=found.expectations,
        source=source,
    )


def open_case(
    seed: int | None, name: str | None, bug: str | None, knobs: Sequence[str] = ()
) -> Case:
    """The case that a command line names; raises `click.UsageError`.

    ``name`` is a recording, a scenario file or a shipped scenario's name; the first two bring their
    bug along. With a scenario, ``seed`` takes the place of its own. ``knobs`` are turned besides:
    ``latency=5ms``.
    """
    check_bug(bug)
    if name in BUGS and not Path(name).is_file():
        raise click.UsageError(
            f"{name} is a deliberate bug: expected --bug {name} with a seed or a scenario; "
            f"`python -m aurora.sim bugs scenario {name} > bug.toml` writes its own scenario"
        )
    if name is None:
        if seed is None:
            raise click.UsageError("expected --seed N, the name of a scenario, or a file")
        try:
            schedule = with_knobs(generate(seed), knobs)
        except Invalid as error:
            raise click.UsageError(str(error)) from None
        return Case(schedule=schedule, bug=bug, source=_source(f"--seed {seed}", bug, knobs))
    try:
        return _open_file(seed, name, bug, knobs)
    except (AuroraError, OSError, UnicodeDecodeError) as error:
        raise click.UsageError(str(error)) from None


def _source(what: str, bug: str | None, knobs: Sequence[str]) -> str:
    """A case as a command line names it."""
    bugs = [] if bug is None else ["--bug", bug]
    return " ".join([what, *bugs, *map(shlex.quote, knob_arguments(knobs))])


def knob_arguments(knobs: Sequence[str]) -> list[str]:
    """The options that turn these knobs."""
    return [word for each in knobs for word in (OPTION, each)]


def _open_file(seed: int | None, name: str, bug: str | None, knobs: Sequence[str]) -> Case:
    quoted = shlex.quote(name)
    if Path(name).is_file() and recording.is_recording(Path(name)):
        if seed is not None:
            raise click.UsageError("a recording has its seed: expected no --seed")
        if knobs:
            raise click.UsageError(f"a recording has its knobs: expected no {OPTION}")
        return case_of_recording(recording.load(Path(name)), _source(quoted, bug, ()), bug)
    read = scenario.load(scenario.find(name), knobs)
    if seed is not None and read.decided is not None:
        raise click.UsageError("the fork of a recording has its seed: expected no --seed")
    source = quoted if seed is None else f"{quoted} --seed {seed}"
    return Case(
        schedule=read.schedule(seed),
        bug=bug or read.bug or None,
        decided=read.decided,
        expectations=read.expectations,
        source=_source(source, bug, knobs),
    )


def knob_option(command: _F) -> _F:
    """The option ``--knob NAME=VALUE``, any number of times: the argument ``knobs``."""
    option = click.option(
        OPTION, "knobs", multiple=True, metavar="NAME=VALUE",
        help="Turn a knob of the world, such as latency=5ms or loss=0.01; see `list knobs`.",
    )  # fmt: skip
    return option(command)


def case_options(command: _F) -> _F:
    """The arguments of a command that looks at one case.

    ``--seed``, ``FILE``, ``--bug`` and ``--knob``, for `open_case`.
    """
    for option in (
        knob_option,
        click.option("--bug", metavar="NAME", help="Plant one of the deliberate bugs first."),
        click.option("--seed", type=SEED, metavar="N", help="The schedule drawn from this seed."),
        click.argument("name", metavar="[SCENARIO|FILE]", required=False),
    ):
        command = option(command)
    return command
