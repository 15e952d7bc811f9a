"""The command line of ``python -m aurora``.

(More than 400 lines: most of them are the help of its commands.)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

import aurora
from aurora.sqlite.moments import Moment, moment
from aurora.terminal import demo as scripts
from aurora.terminal.cloning import clone as clone_volume
from aurora.terminal.converting import convert as convert_volume
from aurora.terminal.finishing import finish, invoke
from aurora.terminal.integers import Integer
from aurora.terminal.language import Misuse
from aurora.terminal.opening import Options, run
from aurora.terminal.reading_lines import at_a_terminal
from aurora.terminal.repl import converse
from aurora.terminal.session import Session, real_pause
from aurora.terminal.sql import words
from aurora.terminal.sql.files import check_source
from aurora.terminal.sql.results import error_line
from aurora.terminal.sql.talk import Wanted
from aurora.terminal.sql.talk import use as use_sql
from aurora.terminal.walking import MAX_DELAY_MS
from segments.protocol.errors import AuroraError, Invalid, Unavailable

_DELAY_MS: Final = 100
"""Pause after each line of a walk-through that a person watches; the demo has some 250."""
_MAX_GROUPS: Final = 4
_NOT_OPENED: Final = 3
"""The exit status when the volume is there, or could be made, and cannot be opened now."""
_INTERRUPTED: Final = 130

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _writable_file(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file that cannot be made, before anything runs."""
    if path is not None:
        folder = path.absolute().parent
        if not folder.is_dir():
            raise click.BadParameter(f"{str(folder)!r} is no directory")
        if not path.exists() and not os.access(folder, os.W_OK):
            raise click.BadParameter(f"{str(folder)!r} is not writable")
    return path


def _moment(_: click.Context, __: click.Parameter, text: str | None) -> Moment | None:
    """A moment, or None for the present; refuse what is none, before anything is opened."""
    try:
        when = None if text is None else words.moment([text])
        if when is not None:
            moment(when, 0)
    except (Invalid, Misuse):
        raise click.BadParameter(
            f"{text!r}: expected an LSN, a time as '2026-05-01 12:00' (UTC), or '5 minutes ago'"
        ) from None
    return when


_COLOR: Final[_Decorator] = click.option(
    "--no-color",
    "plain",
    is_flag=True,
    help="No colours. With NO_COLOR set, on a dumb terminal and in a pipe there is no escape code "
    "of any kind, so that a prompt has no completion and no history either.",
)
_TRACE: Final[_Decorator] = click.option(
    "--trace",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_writable_file,
    metavar="FILE",
    help="Write every internal step to FILE, as JSON lines.",
)
_DELAY: Final[_Decorator] = click.option(
    "--delay",
    type=Integer(0, MAX_DELAY_MS),
    metavar="MS",
    help=f"Pause after each line shown: {_DELAY_MS} ms on a terminal unless told, 0 for none.",
)
_DATA: Final[_Decorator] = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the volume in DIR, synced to disk; made if it is not there. Default: in memory.",
)
_GROUPS: Final[_Decorator] = click.option(
    "--groups",
    type=Integer(1, _MAX_GROUPS),
    metavar="N",
    help="Protection groups of a new volume, six segments each: 1 unless told. An existing volume "
    "keeps its own, and another number is refused.",
)


_READ_ONLY: Final[_Decorator] = click.option(
    "--read-only",
    is_flag=True,
    help="Read a copy of the volume in DIR: any three of six segments are enough, and nothing is "
    "written.",
)


_ACCEPT_ROLLBACK: Final[_Decorator] = click.option(
    "--accept-rollback",
    is_flag=True,
    help="Open what is there, though disks were put back as older copies of themselves. What they "
    "lack, and nobody else has, is then gone for good.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 90})
@click.version_option(aurora.__version__, message=f"aurora-py {aurora.__version__}")
def cli() -> None:
    """An executable Amazon Aurora: the log is the database.

    One writer, six segments in three availability zones, a write quorum of four. Watch it work,
    or work with it, and break what you like: segments, zones, disks, the network, the writer.
    """


@cli.command()
@click.option(
    "--delay",
    type=click.FloatRange(0, MAX_DELAY_MS / 1000),
    default=0,
    metavar="SECONDS",
    help="Pause between two acts, to read along. Without it all is printed at once.",
)
@_COLOR
@_TRACE
def demo(delay: float, plain: bool, trace: Path | None) -> None:
    """A scripted scenario, from a first write to a recovery.

    Writes, reads, an atomic write to several pages, versioned reads, what is durable; then a dead
    zone, one segment more, and a writer that crashes in the middle of a write. Prints the same
    text each time.
    """
    options = Options(color=not plain, trace=trace)
    pause = partial(real_pause, delay) if delay else None
    _finish(options, partial(scripts.perform, acts=scripts.DEMO, pause=pause), repeatable=True)


@cli.command("viz-demo")
@_DELAY
@_COLOR
@_TRACE
def viz_demo(delay: int | None, plain: bool, trace: Path | None) -> None:
    """A walk through every internal step of a few commands.

    Each step is one the engine itself has taken, held until you have seen it; after each command
    comes what has changed, in a picture of the system, and at the end the whole picture with all
    that has changed.

    On a terminal the walk takes about half a minute; `--delay 0` prints it at once, and Ctrl-C
    ends it.
    """
    options = Options(color=not plain, trace=trace, viz=True, delay_ms=_delay(delay))
    _finish(options, partial(scripts.perform, acts=scripts.VIZ_DEMO), repeatable=True)


@cli.command()
@_DATA
@_READ_ONLY
@_ACCEPT_ROLLBACK
@_GROUPS
@_COLOR
@_TRACE
def repl(
    data_dir: Path | None, read_only: bool, accept_rollback: bool, groups: int | None, plain: bool,
    trace: Path | None,
) -> None:  # fmt: skip
    """A prompt for a volume: write, read, break, recover.

    `help` lists the commands, Tab completes, `step on` holds every message until you let it
    arrive. Reads commands from a pipe, too, and then ends with status 1 if any of them failed;
    for a volume in memory, time then passes only within commands, and the same commands print
    the same text each time.

    A volume that cannot be opened now says what it waits for, and is given up after a minute with
    status 3; after five seconds, if it may not be written.
    """
    options = Options(
        data_dir=data_dir, read_only=_checked(read_only, data_dir),
        accept_rollback=accept_rollback, groups=groups, color=not plain, trace=trace,
    )  # fmt: skip
    _talk(options)


@cli.command("viz-repl")
@_DATA
@_READ_ONLY
@_ACCEPT_ROLLBACK
@_GROUPS
@_DELAY
@_COLOR
@_TRACE
def viz_repl(
    data_dir: Path | None, read_only: bool, accept_rollback: bool, groups: int | None,
    delay: int | None, plain: bool, trace: Path | None,
) -> None:  # fmt: skip
    """The prompt, with every internal step shown.

    The same as `repl` after `viz on`; `viz off` and `delay MS` work at the prompt.
    """
    options = Options(
        data_dir=data_dir, read_only=_checked(read_only, data_dir),
        accept_rollback=accept_rollback, groups=groups, color=not plain, trace=trace,
        viz=True, delay_ms=_delay(delay),
    )  # fmt: skip
    _talk(options)


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="[DIR]", required=False)
@click.option(
    "--export",
    "export_path",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_writable_file,
    metavar="FILE",
    help="Write the database to FILE, a plain SQLite file.",
)
@click.option("--at", metavar="LSN|TIME", help="The moment to export, such as '5 minutes ago'.")
@click.option("--force", is_flag=True, help="Let --export replace FILE.")
@click.option(
    "--import",
    "import_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Make FILE, a SQLite file, the database, which must be empty.",
)
@click.option("--json", "json_lines", is_flag=True, help="Print each result as a line of JSON.")
@_READ_ONLY
@_ACCEPT_ROLLBACK
@_GROUPS
@_COLOR
def sql(
    directory: Path | None, export_path: Path | None, at: str | None, force: bool,
    import_path: Path | None, json_lines: bool, read_only: bool, accept_rollback: bool,
    groups: int | None, plain: bool,
) -> None:  # fmt: skip
    """A shell for the SQLite database in the volume in DIR; in memory without DIR.

    A volume is made if DIR is not there, or empty. Statements end with a semicolon, `.help` lists
    the shell's own commands: switch off a zone in the middle of a transaction, read as of five
    minutes ago. Reads statements from a pipe, too, and stops at the first that fails.

    Exit status: 0 if all went well; 1 if a statement, a command or a file failed, or the volume is
    no database; 2 for a wrong call; 3 if the volume cannot be opened now; 128 + n after signal n,
    so 130 after Ctrl-C.
    """
    _check_files(directory, export_path, import_path, at=at, force=force)
    options = Options(
        data_dir=directory, read_only=_checked(read_only, directory, "DIR"),
        accept_rollback=accept_rollback, groups=groups, color=not plain, small_lal=False,
    )  # fmt: skip
    wanted = Wanted(
        color=not plain, json_lines=json_lines, import_path=import_path, export_path=export_path,
        at=at, force=force,
    )  # fmt: skip

    def use() -> int:
        if import_path is not None and directory is not None and not any(_inside(directory)):
            check_source(import_path)  # before a volume is made for it
        return run(options, partial(use_sql, wanted=wanted), repeatable=False)

    _end_with(use, json_lines=json_lines)


def _check_files(
    directory: Path | None, export_path: Path | None, import_path: Path | None, *,
    at: str | None, force: bool,
) -> None:  # fmt: skip
    """Refuse what does not go together, before a volume is made."""
    if export_path is None and (at is not None or force):
        raise click.UsageError(f"{'--at' if at is not None else '--force'} goes with --export")
    if export_path is not None and import_path is not None:
        raise click.UsageError("--export and --import: expected one of the two")
    if (export_path is not None or import_path is not None) and directory is None:
        raise click.UsageError("a volume in memory is gone at the end: give DIR, too")
    if export_path is not None and directory is not None and not any(_inside(directory)):
        raise click.BadParameter(f"{str(directory)!r} is no volume", param_hint="DIR")


def _inside(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@_COLOR
def convert(directory: Path, plain: bool) -> None:
    """Convert the volume in DIR, of an earlier version, to this one's format.

    In place, and in one step: until the last moment the volume is what it was, whatever comes in
    between, and the command can be run again. It takes as much space once more as the volume has.
    Nobody may have the volume open. What it says of a segment that is lost or damaged, the earlier
    version would have said, too.

    Exit status: 0 if the volume is of this version's format now, or was already; 1 if it cannot be
    converted, 2 for a wrong call, 3 if it is open elsewhere or the disk refuses now.
    """
    _end_with(partial(convert_volume, directory, color=not plain))


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("to", type=click.Path(path_type=Path), metavar="TO")
@click.option(
    "--at",
    callback=_moment,
    metavar="MOMENT",
    help="The volume as of this LSN, or of the end of a mini-transaction before: any that it still "
    "keeps. If it carries a database, a time or '5 minutes ago' do, too. Default: as it is now.",
)
@click.option(
    "--copy",
    is_flag=True,
    help="Copy all files, where TO is on another file system. It takes as long and as much room as "
    "the volume has.",
)
@_COLOR
def clone(directory: Path, to: Path, at: Moment | None, copy: bool, plain: bool) -> None:
    """Make the volume in DIR, as of a moment, a volume of its own in TO.

    In a moment, whatever its size, as both share the files that never change; each goes on by
    itself, and either can be deleted. TO is missing, an empty directory, or holds an unfinished
    clone, which is cleared. Until the last moment nothing there can be opened. Nobody may have the
    volume open; a program that has it open can call `Cluster.clone`.

    Exit status: 0 if TO is a volume now, 1 if it cannot be cloned, 2 for a wrong call, 3 if the
    volume cannot be opened now, too few segments have all of it, or the disk refuses.
    """
    _end_with(partial(clone_volume, directory, to, at, copy=copy, color=not plain))


def _talk(options: Options) -> None:
    """Converse; a script for a volume that nobody else ever sees has its time to itself, too."""
    repeatable = options.data_dir is None and not at_a_terminal()
    _finish(options, partial(converse, color=options.color), repeatable=repeatable)


def _checked(read_only: bool, data_dir: Path | None, name: str = "--data-dir") -> bool:
    if read_only and data_dir is None:
        raise click.UsageError(f"--read-only is for a volume that is there: give {name}, too")
    return read_only


def _delay(asked: int | None) -> int:
    if asked is not None:
        return asked
    return _DELAY_MS if sys.stdout.isatty() else 0


def _finish(
    options: Options, use: Callable[[Session], Awaitable[int]], *, repeatable: bool
) -> None:
    _end_with(partial(run, options, use, repeatable=repeatable))


def _end_with(use: Callable[[], int], *, json_lines: bool = False) -> None:
    """Run, and end the process with the exit status; an error is told in text, or in JSON."""
    try:
        status = use()
    except KeyboardInterrupt:
        click.echo("\ninterrupted", err=True)
        status = _INTERRUPTED
    except OSError as error:
        if error.filename is None:
            raise  # of the output, which has no name
        status = 1
        _tell_error(error, json_lines)
    except AuroraError as error:
        status = _NOT_OPENED if isinstance(error, Unavailable) else 1
        _tell_error(error, json_lines)
    sys.exit(status)


def _tell_error(error: Exception, json_lines: bool) -> None:
    text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
    if json_lines:
        click.echo(error_line(type(error).__name__, text))
    else:
        click.echo(f"Error: {text}", err=True)


def main() -> None:
    """Run the command line; ends the process with its exit status."""
    finish(_run)


def _run() -> int:
    try:
        return invoke(cli, "python -m aurora")
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("\ninterrupted", err=True)
        return _INTERRUPTED
