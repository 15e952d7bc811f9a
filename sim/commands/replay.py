"""The command ``replay``: run a recording again, message by message."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from segments.protocol.errors import AuroraError
from sim.commands.case import case_of_recording
from sim.commands.exit_codes import HELP, PASSED, VIOLATION
from sim.files import recording
from sim.wording import command_line, say


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
    case = case_of_recording(found)
    result = case.run()
    say(f"{path}: {result.verdict.value}, digest {result.digest}")
    if result.finding:
        say(f"{result.invariant}: {result.finding}")
        if case.exit_code(result) == PASSED:
            say("the scenario expects that")
        say(f"explain: {command_line('explain', str(path))}")
    code = case.exit_code(result)
    if result.digest != found.digest:
        say(f"not the recorded run: that was {found.verdict}, digest {found.digest}")
        code = code or VIOLATION
    sys.exit(code)
