"""The command ``record``: run once, and keep everything that was decided."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sim.bugs import planted
from sim.case import case_options, open_case, writable_path
from sim.exit_codes import EXIT_CODES, HELP
from sim.recording import record, save


@click.command("record", epilog=HELP)
@case_options
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path),
    callback=writable_path, help="Where to write the recording, as lines of JSON.",
)  # fmt: skip
def command(seed: int | None, name: str | None, bug: str | None, output: Path) -> None:
    """Run a seed or a scenario, and write down every decision.

    The file has one numbered record for each fault, each operation and each message; `replay` runs
    it again, message by message.
    """
    case = open_case(seed, name, bug)
    with planted(case.bug):
        recording, result = record(case.schedule, bug=case.bug)
    save(recording, output)
    click.echo(
        f"{output}: {len(recording.schedule.actions)} actions, "
        f"{len(recording.schedule.operations)} operations, {len(recording.decisions)} messages"
    )
    click.echo(f"{result.verdict.value}, digest {result.digest}")
    if result.finding:
        click.echo(f"{result.invariant}: {result.finding}")
    click.echo(f"again: python -m aurora.sim replay {output}")
    sys.exit(EXIT_CODES[result.verdict])
