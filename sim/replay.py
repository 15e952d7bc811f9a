"""The command ``replay``: run a recording again, message by message."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from segments.protocol.errors import AuroraError
from sim import recording
from sim.case import Case, check_bug
from sim.exit_codes import EXIT_CODES, HELP, VIOLATION


@click.command("replay", epilog=HELP)
@click.argument(
    "path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
def command(path: Path) -> None:
    """Run a recording again; it must come to the same digest.

    A file that was edited, or recorded by another version, may come to another one: that is said,
    and the exit code is 1 if nothing else was found.
    """
    try:
        if not recording.is_recording(path):
            raise click.UsageError(f"{path}: not a recording; expected what `record` writes")
        found = recording.load(path)
    except (AuroraError, OSError, UnicodeDecodeError) as error:
        raise click.UsageError(str(error)) from None
    check_bug(found.bug)
    case = Case(schedule=found.schedule, bug=found.bug, decisions=found.decisions)
    result = case.run()
    click.echo(f"{path}: {result.verdict.value}, digest {result.digest}")
    if result.finding:
        click.echo(f"{result.invariant}: {result.finding}")
        click.echo(f"explain: python -m aurora.sim explain {path}")
    code = EXIT_CODES[result.verdict]
    if result.digest != found.digest:
        click.echo(f"not the recorded run: that was {found.verdict}, digest {found.digest}")
        code = code or VIOLATION
    sys.exit(code)
