"""The command ``record``: run once, and keep everything that was decided."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sim.bugs import planted
from sim.commands.case import case_options, input_paths, open_case
from sim.commands.exit_codes import HELP, PASSED
from sim.files.outputs import OUTPUT, check_output, force_option, writable_path
from sim.files.recording import is_recording, record, save
from sim.wording import command_line, counted, say


@click.command("record", epilog=HELP)
@case_options
@click.option(
    "-o", "--output", required=True, type=OUTPUT, callback=writable_path, metavar="FILE",
    help="Where to write the recording, as lines of JSON. An older recording is replaced.",
)  # fmt: skip
@force_option("Replace a file that is no recording.")
def command(
    seed: int | None,
    name: str | None,
    bug: str | None,
    knobs: tuple[str, ...],
    output: Path,
    force: bool,
) -> None:
    """Run a seed or a scenario, and write down every decision.

    The file has one numbered record for each fault, each operation and each message; `replay` runs
    it again, message by message, and holds it to the same expectations.
    """
    case = open_case(seed, name, bug, knobs)
    check_output("-o", output, inputs=input_paths(name), force=force, written_before=is_recording)
    with planted(case.bug):
        recording, result = record(
            case.schedule, bug=case.bug, expectations=case.expectations, policy=case.policy
        )
    save(recording, output)
    amounts = (
        (len(recording.schedule.actions), "action"),
        (len(recording.schedule.operations), "operation"),
        (len(recording.decisions), "message"),
    )
    say(f"{output}: {', '.join(counted(number, noun) for number, noun in amounts)}")
    say(f"{result.verdict.value}, digest {result.digest}")
    if result.finding:
        say(f"{result.invariant}: {result.finding}")
        if case.exit_code(result) == PASSED:
            say("the scenario expects that")
    say(f"again: {command_line('replay', str(output))}")
    sys.exit(case.exit_code(result))
