"""The command line of ``python -m aurora.sim``.

Each command is a module with a `click.Command` called ``command``, imported when it is asked for,
so that a mistyped option costs nobody the import of everything.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import shlex
import sys
import traceback
from collections.abc import Mapping
from typing import Final, NoReturn

import click

import aurora
from aurora.terminal.finishing import OutputFailed, finish, invoke
from segments.protocol.errors import AuroraError
from sim.commands import exit_codes
from sim.commands.command_groups import CommandGroup
from sim.wording import PROGRAM, wrapped

COMMANDS: Final[Mapping[str, str]] = {
    "run": "sim.commands.run_command",
    "list": "sim.commands.list_command",
    "fleet": "sim.commands.fleet",
    "record": "sim.commands.record",
    "replay": "sim.commands.replay",
    "shrink": "sim.commands.shrink",
    "explain": "sim.commands.explain",
    "view": "sim.view.command",
    "fork": "sim.commands.fork",
    "inevitable": "sim.commands.inevitable",
    "check-determinism": "sim.commands.determinism",
    "bugs": "sim.commands.bugs_command",
    "mutants": "sim.commands.mutants_command",
}
"""Where each command lives."""


class LazyGroup(CommandGroup):
    """The commands of `COMMANDS`, in their order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, module in COMMANDS.items() if _exists(module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None or not _exists(module):
            return None
        command: click.Command = importlib.import_module(module).command
        return command


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its package is not there
        return False


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=exit_codes.HELP,
)
@click.version_option(aurora.__version__, message=f"aurora-py {aurora.__version__}")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Break a quorum-replicated storage engine on purpose, and check every promise it makes.

    The engine's own code runs in virtual time on a simulated network and simulated disks; one
    seed decides everything. Without a command, the default scenario is run.
    """
    if ctx.invoked_subcommand is None:
        run = importlib.import_module(COMMANDS["run"]).command
        ctx.exit(ctx.invoke(run))


def main() -> NoReturn:
    """Run the command line and end the process with an exit code of `sim.commands.exit_codes`."""
    end_with(cli, PROGRAM)


def end_with(command: click.Command, program: str) -> NoReturn:
    """Run a command as the process's arguments say, and end the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    finish(lambda: _run(command, program))


def _run(command: click.Command, program: str) -> int:
    try:
        return invoke(command, program)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return exit_codes.INTERRUPTED
    except click.ClickException as error:
        _show(error)
        return exit_codes.USAGE
    except (OSError, OutputFailed):
        raise  # `finish` tells what became of the output
    except AuroraError as error:
        click.echo(wrapped(f"Error: {error}"), err=True)
        return exit_codes.USAGE
    except Exception:  # noqa: BLE001 (any failure of the simulator must not look like a finding)
        traceback.print_exc()
        click.echo("internal error: the simulator itself has failed; run it again with", err=True)
        click.echo(f"  {program} {shlex.join(sys.argv[1:])}".rstrip(), err=True)
        return exit_codes.INTERNAL


def _show(error: click.ClickException) -> None:
    """What click says, in lines that fit."""
    shown = io.StringIO()
    error.show(shown)
    click.echo(wrapped(shown.getvalue()), err=True)
