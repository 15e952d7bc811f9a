"""What a command is about: a schedule, the deliberate bug that is planted, and who decides."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import click

from segments.protocol.errors import AuroraError
from sim import recording, scenario
from sim.bugs import BUGS, planted
from sim.generate import generate
from sim.network_policy import Decision, ReplayingPolicy
from sim.schedule import Schedule
from sim.toml_reader import suggestion
from sim.world import RunResult, World

_F = TypeVar("_F", bound=Callable[..., Any])

SEED: Final = click.IntRange(min=0)
"""What an option for a seed takes."""


@attrs.frozen(kw_only=True)
class Case:
    """One run that can be repeated."""

    schedule: Schedule
    bug: str | None = None
    decisions: Mapping[int, Decision] | None = None
    """Of a recording: what became of each message. Without it the seed draws that."""
    source: str = ""
    """How to name it on a command line: ``--seed 7 --bug no-fencing``, or a path."""

    def run(self, prepare: Callable[[World], object] | None = None) -> RunResult:
        """Run it; ``prepare`` is given the world before it starts, to listen to it."""
        policy = None if self.decisions is None else ReplayingPolicy(self.decisions)
        with planted(self.bug):
            world = World(self.schedule, policy=policy)
            if prepare is not None:
                prepare(world)
            return world.run()


def check_bug(name: str | None) -> None:
    """Raise `click.BadParameter` unless there is a deliberate bug of this name."""
    if name is not None and name not in BUGS:
        raise click.BadParameter(f"{name!r}: {suggestion(name, BUGS)}", param_hint="--bug")


def writable_path(
    _context: click.Context, _option: click.Parameter, path: Path | None
) -> Path | None:
    """A click callback for a file to be written at the end: refuses at once what cannot be."""
    if path is None:
        return None
    if not path.parent.is_dir():
        raise click.BadParameter(f"{path}: there is no directory {str(path.parent)!r}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.BadParameter(f"{path}: cannot be written")
    return path


def open_case(seed: int | None, name: str | None, bug: str | None) -> Case:
    """The case that a command line names; raises `click.UsageError`.

    ``name`` is a recording, a scenario file or a shipped scenario's name; the first two bring their
    bug along. With a scenario, ``seed`` takes the place of its own.
    """
    check_bug(bug)
    if name is None:
        if seed is None:
            raise click.UsageError("expected --seed N, or a file")
        source = f"--seed {seed}" if bug is None else f"--seed {seed} --bug {bug}"
        return Case(schedule=generate(seed), bug=bug, source=source)
    try:
        return _open_file(seed, name, bug)
    except (AuroraError, OSError, UnicodeDecodeError) as error:
        raise click.UsageError(str(error)) from None


def _open_file(seed: int | None, name: str, bug: str | None) -> Case:
    if Path(name).is_file() and recording.is_recording(Path(name)):
        if seed is not None:
            raise click.UsageError("a recording has its seed: expected no --seed")
        found = recording.load(Path(name))
        check_bug(found.bug)
        return Case(
            schedule=found.schedule,
            bug=bug or found.bug,
            decisions=found.decisions,
            source=name if bug is None else f"{name} --bug {bug}",
        )
    read = scenario.load(scenario.find(name))
    own = read.bug or None
    check_bug(own)
    source = name if seed is None else f"{name} --seed {seed}"
    if bug is not None:
        source = f"{source} --bug {bug}"
    return Case(schedule=read.schedule(seed), bug=bug or own, source=source)


def case_options(command: _F) -> _F:
    """The arguments of a command that looks at one case: ``--seed``, ``FILE`` and ``--bug``."""
    for option in (
        click.option("--bug", metavar="NAME", help="Plant one of the deliberate bugs first."),
        click.option("--seed", type=SEED, metavar="N", help="The schedule drawn from this seed."),
        click.argument("name", metavar="[FILE]", required=False),
    ):
        command = option(command)
    return command
