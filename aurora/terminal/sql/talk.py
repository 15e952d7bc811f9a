"""The shell's loop: read, run what is complete, say what came of it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from aurora.terminal.console import new_console, takes_escapes
from aurora.terminal.language import Misuse
from aurora.terminal.reading_lines import Lines, PipedLines, PlainTypedLines, at_a_terminal
from aurora.terminal.screen import Screen
from aurora.terminal.session import Session
from aurora.terminal.signals import Signals
from aurora.terminal.sql.commands import run_command
from aurora.terminal.sql.files import export_to, import_from
from aurora.terminal.sql.results import Results, error_line
from aurora.terminal.sql.shell import Shell
from aurora.terminal.sql.statements import Input, is_ended, take_apart
from aurora.terminal.sql.words import moment
from segments.protocol.errors import AuroraError, Closed, DatabaseEnded, SqlError

if TYPE_CHECKING:
    from aurora.terminal.sql.completing import SqlCompleter

CONTINUED: Final = "...> "
_INTERRUPTED_STATUS: Final = 130
INTERRUPTED: Final = "Interrupted"
_UNFOLDED: Final = 100_000
"""Columns of what is no terminal: its readers are programs."""
_NAMES_S: Final = 0.5
"""How long completion's names are waited for: a volume that cannot be read has none."""
_NAMES: Final = """
SELECT m.name, p.name FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS p
WHERE m.type IN ('table', 'view') ORDER BY m.name, p.cid
"""


@attrs.frozen
class Failure:
    """Why an input was refused, or failed."""

    kind: str
    text: str
    code: int | None = None
    """SQLite's own, if it was SQLite that refused it."""


class Talk:
    """One person's or one script's way through a database."""

    def __init__(
        self, shell: Shell, lines: Lines, completer: SqlCompleter | None, *, script: bool
    ) -> None:
        """A ``script`` ends with its first failure."""
        self._shell = shell
        self._session = shell.session
        self._lines = lines
        self._completer = completer
        self._script = script
        self._signals = Signals(lines, script=script)
        self._line = 1
        self._status = 0

    async def run(self, only: Callable[[], Awaitable[None]] | None = None) -> int:
        """The exit status: 0, 1 if an input of a script failed, 128 + n after signal n.

        ``only`` is done in place of what would be read.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self._signals.heed, nursery.cancel_scope)
            try:
                await (self._loop() if only is None else self._do(only, line=None))
                self._tell_left()
            finally:
                await self._shell.close()
            nursery.cancel_scope.cancel()
        return self._signals.exit_status or self._status

    def _tell_left(self) -> None:
        """Say what has come to no end."""
        self._session.tell_finished()
        for operation in self._session.pending:
            self._shell.note(f"{operation.title}: still not finished at the end", "bad")
        if self._script and (self._session.failures or self._session.pending):
            self._status = self._status or 1
        if not self._script and self._shell.transaction is not None:
            self._shell.note("the transaction that was open is rolled back", "warn")

    async def _loop(self) -> None:
        pending = ""
        while not self._session.ended:
            self._session.tell_finished()
            await self._learn_names()
            prompt = self._shell.prompt()
            if pending:
                prompt = CONTINUED.rjust(len(prompt))
            line = await self._lines.next_line(prompt)
            if line is None:
                await self._end(pending)
                return
            text = f"{pending}{line}\n"
            if pending and ";" not in line:  # a long literal is not looked through line by line
                pending = text
                continue
            typed = take_apart(text)
            pending = typed.rest
            for each in typed.inputs:
                if not await self._run(each) and self._script:
                    return
                if self._session.ended:
                    return
            if self._script:
                self._line += typed.rest_line

    async def _end(self, pending: str) -> None:
        """The last statement of a script needs no semicolon; a transaction needs its end."""
        if not self._script:
            return
        if pending:
            typed = take_apart(f"{pending.rstrip()}\n;")
            if typed.rest or not typed.inputs:
                self._fail(Failure("Misuse", "a statement that is not ended, at the end of input"))
                return
            for each in typed.inputs:
                if not await self._run(each):
                    return
        if self._shell.transaction is not None:
            why = (
                "a transaction that is open at the end of input: expected COMMIT; it is rolled back"
            )
            self._fail(Failure("Misuse", why))

    async def _run(self, each: Input) -> bool:
        if each.is_command:
            return await self._do(partial(run_command, self._shell, each.text), each.line)
        return await self._do(partial(self._shell.run, each.text), each.line)

    async def _do(self, call: Callable[[], Awaitable[None]], line: int | None) -> bool:
        """Make a call; False if it failed, after saying why."""
        failure: Failure | None = None
        with self._signals.interruptible() as scope:
            try:
                await call()
            except (AuroraError, Misuse) as error:
                failure = self._failure(error)
            except OSError as error:
                if error.filename is None:
                    raise  # of the output, which has no name
                failure = Failure(type(error).__name__, str(error))
        if scope.cancelled_caught:
            await self._shell.leave_rolled_back()
            failure = Failure(INTERRUPTED, self._after_interrupt())
        if failure is not None:
            self._fail(failure, line)
        return failure is None

    def _after_interrupt(self) -> str:
        left, self._shell.left = self._shell.left, ""
        if left:
            return f"interrupted: {left}"
        writer = self._session.cluster.statistics().writer
        if writer is not None and writer.commits_waiting:
            return "interrupted: the commit is part of the log, and durable once a quorum has it"
        return "interrupted"

    def _failure(self, error: AuroraError | Misuse) -> Failure:
        text = self._session.in_words(str(error))
        if isinstance(error, SqlError):
            return Failure(type(error).__name__, text, error.code)
        if isinstance(error, Closed | DatabaseEnded):
            text = f"{text}; `.recover` opens the volume with a new writer"
        return Failure(type(error).__name__, text)

    def _fail(self, failure: Failure, line: int | None = 0) -> None:
        """Say why something failed; ``line`` counts from where the latest text began."""
        interrupted = failure.kind == INTERRUPTED
        if self._script:
            self._status = _INTERRUPTED_STATUS if interrupted else 1
        number = None if line is None else self._line + line
        if self._shell.results.json_lines:
            line_of_json = error_line(failure.kind, failure.text, failure.code, number)
            self._shell.results.print_line(line_of_json)
            return
        where = f"line {number}: " if self._script and number is not None else ""
        error = "" if interrupted else "error: "
        kind = "warn" if interrupted else "bad"
        self._shell.note(f"{where}{error}{failure.text}", kind)

    async def _learn_names(self) -> None:
        if self._completer is None or self._session.cluster.engine.error is not None:
            return
        names: dict[str, list[str]] = {}
        try:
            with trio.move_on_after(_NAMES_S):
                source = await self._shell.source()
                async for table, column in source.query(_NAMES):
                    names.setdefault(table, []).append(column)
                self._completer.names = names
        except AuroraError:
            return  # the next statement says so


@attrs.frozen(kw_only=True)
class Wanted:
    """What the command line asks for."""

    color: bool = True
    json_lines: bool = False
    import_path: Path | None = None
    """Import this file, and nothing else."""
    export_path: Path | None = None
    """Export to this file, and nothing else."""
    at: str | None = None
    """The moment that is exported."""
    force: bool = False
    """Replace the file that is exported to."""


async def use(session: Session, wanted: Wanted) -> int:
    """Do what the command line asks for; returns the exit status."""
    at_prompt = at_a_terminal() and not wanted.json_lines
    answers: Screen | None = None
    if not at_prompt:  # a script's results are alone on standard output
        session.log_screen = Screen(console=new_console(stderr=True, color=wanted.color))
        if not session.log_screen.console.is_terminal:
            session.log_screen.console.width = _UNFOLDED
        answers = session.log_screen if wanted.json_lines else session.screen
        session.screen = session.log_screen
    results = Results(new_console(color=wanted.color), json_lines=wanted.json_lines)
    shell = Shell(session, results, tells_changes=at_prompt)
    shell.answers = answers
    if wanted.import_path is None and wanted.export_path is None:
        return await _converse(shell, at_prompt=at_prompt, color=wanted.color)
    lines = PipedLines(descriptor=0)
    talk = Talk(shell, lines, None, script=True)
    return await talk.run(partial(_move, shell, wanted))


async def _move(shell: Shell, wanted: Wanted) -> None:
    if wanted.import_path is not None:
        await import_from(shell, wanted.import_path)
    elif wanted.export_path is not None:
        when = None if wanted.at is None else moment([wanted.at])
        await export_to(shell, wanted.export_path, when, replace=wanted.force)


async def _converse(shell: Shell, *, at_prompt: bool, color: bool) -> int:
    """Talk to the person or the script at standard input."""
    await shell.open()
    segments = shell.session.cluster.hosts
    lines: Lines = PipedLines(descriptor=0)
    completer = None
    if at_prompt and not takes_escapes(sys.stdout):
        lines = PlainTypedLines(descriptor=0)
    elif at_prompt:
        from aurora.terminal.sql.completing import SqlCompleter
        from aurora.terminal.typing_lines import TypedLines

        completer = SqlCompleter(segments)
        lines = TypedLines(
            completer, color=color, history="sql-history", is_ended=is_ended,
            continuation=CONTINUED,
        )  # fmt: skip
    if at_prompt:
        shell.note("SQLite on a volume of six segments in three zones. `.help` lists commands.")
    return await Talk(shell, lines, completer, script=not at_prompt).run()
