"""The command ``fork``: a run taken from a moment on, with other chances or other faults."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from aurora.terminal.finishing import writing
from aurora.terminal.integers import Integer
from segments.protocol.errors import Invalid
from segments.protocol.volume import VolumeGeometry
from sim.commands.case import Case, case_options, input_paths, open_case
from sim.commands.exit_codes import EXIT_CODES, HELP
from sim.durations import moment
from sim.files.outputs import OUTPUT, begins_with, check_output, force_option, writable_path
from sim.files.scenario import read_actions
from sim.files.toml_reader import Table, format_time, parse_time
from sim.plan.episodes import ending_only, planned_episodes, titled
from sim.plan.redraws import MAX_SALT
from sim.plan.schedule import Action
from sim.run import Run, RunResult
from sim.story.difference import first_difference
from sim.wording import command_line, say

_MARK: Final = "# Written by `fork`, which may replace it.\n"
_NUMBER: Final = re.compile(r"-?\d+")
_FRACTION: Final = re.compile(r"-?\d*\.\d+")


def _moment(_context: click.Context, _option: click.Parameter, value: str) -> int:
    """A click callback for a point in virtual time."""
    ns = parse_time(value)
    if ns is None:
        raise click.BadParameter(f"{value!r}: expected a time such as 500ms (s, ms, us or ns)")
    return ns


@click.command("fork", epilog=HELP)
@case_options
@click.option(
    "--at", "at_ns", callback=_moment, required=True, metavar="TIME",
    help="Until when it is the same run: 120ms (s, ms, us or ns).",
)  # fmt: skip
@click.option(
    "--redraw", "salt", type=Integer(0, MAX_SALT), metavar="SALT",
    help="Draw all later chances anew; another number, other chances.",
)  # fmt: skip
@click.option(
    "--add", multiple=True, metavar="'TIME FAULT [TARGET] [NAME=VALUE]...'",
    help="Another fault from then on, such as '130ms crash C0,D0'; `list faults` has them all.",
)  # fmt: skip
@click.option(
    "--remove", multiple=True, type=Integer(min=0), metavar="N",
    help="Leave out the action with this number, counted from 0 in the order of time; one that "
    "there is not lists them.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=OUTPUT, metavar="FILE", callback=writable_path,
    default=Path("fork.toml"), show_default=True,
    help="Where to write the scenario. One that this command wrote is replaced.",
)  # fmt: skip
@force_option("Replace any other file.")
def command(
    seed: int | None,
    name: str | None,
    bug: str | None,
    knobs: tuple[str, ...],
    at_ns: int,
    salt: int | None,
    add: tuple[str, ...],
    remove: tuple[int, ...],
    output: Path,
    force: bool,
) -> None:
    """Take a run from a moment on, and write that as a scenario.

    Before the moment it is the same run, event for event. From then on chances are drawn anew, or
    faults are added or left out; with none of these it goes on as it was. Both are run, and their
    first difference is told.
    """
    case = open_case(seed, name, bug, knobs)
    written_before = begins_with(_MARK.encode())
    check_output("-o", output, inputs=input_paths(name), force=force, written_before=written_before)
    try:
        forked = case.fork(at_ns, salt=salt, add=_faults(case, add), remove=remove)
        forked = forked.saved_as(output)
    except Invalid as error:
        raise click.UsageError(str(error)) from None
    original, one = _traced(case)
    if at_ns > original.virtual_ns:
        raise click.UsageError(
            f"--at {format_time(at_ns)}: {case.source} ends at {moment(original.virtual_ns)}: "
            f"expected a moment before that"
        )
    description = f"From {moment(at_ns)} on another run than {case.source}."
    with writing(output):
        output.write_text(_MARK + forked.scenario_text(description), encoding="utf-8")
    result, other = _traced(forked)
    found = first_difference(one, other, (case.schedule, forked.schedule))
    if found is None:
        say(f"the same {len(one):,} lines of the trace in both: nothing was changed")
    else:
        say("\n".join(found.lines((case.source, str(output)))))
    say(f"{output}: {result.verdict.value} after {moment(result.virtual_ns)}")
    if result.finding:
        say(f"{result.invariant}: {result.finding.splitlines()[0]}")
    for left in _ends_left(case, remove):
        say(f"still there: {left}")
    say(f"run it:     {command_line('run', str(output))}")
    say(f"explain it: {command_line('explain', str(output))}")
    sys.exit(EXIT_CODES[result.verdict])


def _ends_left(case: Case, removed: Sequence[int]) -> list[str]:
    """What ends faults that were left out, and no other, and stays in the schedule."""
    actions = case.schedule.actions
    left = ending_only(planned_episodes(case.schedule), removed) - set(removed)
    return [
        f"{titled(actions[number])} at {format_time(actions[number].at_ns)}: "
        f"--remove {number} leaves it out too"
        for number in sorted(left)
    ]


def _traced(case: Case) -> tuple[RunResult, list[bytes]]:
    lines: list[bytes] = []

    def listen(run: Run) -> None:
        run.world.trace.sink = lines.append

    return case.run(listen), lines


def _faults(case: Case, texts: Sequence[str]) -> list[Action]:
    """The faults that ``--add`` asks for; raises `Invalid`."""
    knobs = case.schedule.knobs
    groups = VolumeGeometry(knobs.pg_count).groups()
    found: list[Action] = []
    for text in texts:
        at, *words = text.split() or [""]
        targets = [word for word in words[1:] if "=" not in word]
        values: dict[str, Any] = {"at": at, "fault": words[0] if words else ""}
        if targets:
            values["target"] = " ".join(targets)
        for word in words[1:]:
            name, equals, value = word.partition("=")
            if equals:
                values[name] = _value(value)
        found += read_actions(Table(values, (), f"--add {text!r}", {}), groups, knobs)
    return found


def _value(text: str) -> int | float | str:
    if _NUMBER.fullmatch(text):
        return int(text)
    return float(text) if _FRACTION.fullmatch(text) else text
