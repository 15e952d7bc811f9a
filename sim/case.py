"""What a command is about: a schedule, the deliberate bug that is planted, and who decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import click

from segments.protocol.errors import AuroraError
from sim import recording
from sim.generate import generate
from sim.network_policy import Decision, ReplayingPolicy
from sim.schedule import Schedule
from sim.world import RunResult, World

_F = TypeVar("_F", bound=Callable[..., Any])
_BUGS: Final = "sim.bugs"


@attrs.frozen(kw_only=True)
class Case:
    """One run that can be repeated."""

    schedule: Schedule
    bug: str | None = None
    decisions: Mapping[int, Decision] | None = None
    """Of a recording: what became of each message. Without it the seed draws that."""
    source: str = ""
    """How to name it on a command line: ``--seed 7``, or a path."""

    @property
    def arguments(self) -> str:
        """What follows a command that is to look at the same run."""
        return f"{self.source} --bug {self.bug}" if self.bug else self.source

    def run(self, prepare: Callable[[World], object] | None = None) -> RunResult:
        """Run it; ``prepare`` is given the world before it starts, to listen to it."""
        policy = None if self.decisions is None else ReplayingPolicy(self.decisions)
        with planted(self.bug):
            world = World(self.schedule, policy=policy)
            if prepare is not None:
                prepare(world)
            return world.run()


@contextmanager
def planted(bug: str | None) -> Iterator[None]:
    """The deliberate bug ``bug``, in the real code until the block ends; None plants nothing."""
    if bug is None:
        yield
    else:
        with import_module(_BUGS).planted(bug):
            yield


def check_bug(name: str | None) -> None:
    """Raise `click.BadParameter` unless there is a deliberate bug of this name."""
    if name is None:
        return
    known = import_module(_BUGS).BUGS if find_spec(_BUGS) else {}
    if name not in known:
        raise click.BadParameter(
            f"{name!r}: expected one of {', '.join(known)}", param_hint="--bug"
        )


def open_case(seed: int | None, path: Path | None, bug: str | None) -> Case:
    """The case that a command line names; raises `click.UsageError`.

    A file is a recording or a scenario. A recording brings its bug along.
    """
    if (seed is None) == (path is None):
        raise click.UsageError("expected either --seed or a file, one of the two")
    check_bug(bug)
    if path is None:
        assert seed is not None
        return Case(schedule=generate(seed), bug=bug, source=f"--seed {seed}")
    try:
        if recording.is_recording(path):
            found = recording.load(path)
            check_bug(found.bug)
            return Case(
                schedule=found.schedule,
                bug=bug or found.bug,
                decisions=found.decisions,
                source=str(path),
            )
        scenario = import_module("sim.scenario").load(path)
    except (AuroraError, OSError, UnicodeDecodeError) as error:
        raise click.UsageError(str(error)) from None
    return Case(schedule=scenario.schedule, bug=bug, source=str(path))


def case_options(command: _F) -> _F:
    """The arguments of a command that looks at one case: ``--seed``, ``FILE`` and ``--bug``."""
    for option in (
        click.option("--bug", metavar="NAME", help="Plant one of the deliberate bugs first."),
        click.option("--seed", type=int, metavar="N", help="The schedule drawn from this seed."),
        click.argument(
            "path", metavar="[FILE]", required=False,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
        ),
    ):  # fmt: skip
        command = option(command)
    return command
