"""The shell's loop: read, run what is complete, say what came of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import attrs
import trio

from aurora.terminal import language
from aurora.terminal.console import new_console, takes_escapes
from aurora.terminal.language import Misuse
from aurora.terminal.reading_lines import Lines, PipedLines, PlainTypedLines, at_a_terminal
from aurora.terminal.session import Session
from aurora.terminal.signals import Signals
from aurora.terminal.sql.commands import find
from aurora.terminal.sql.results import Results
from aurora.terminal.sql.shell import Shell
from aurora.terminal.sql.statements import Input, is_ended, take_apart
from segments.protocol.errors import AuroraError, Closed, DatabaseEnded, SqlError

if TYPE_CHECKING:
    from aurora.terminal.sql.completing import SqlCompleter

CONTINUED: Final = "...> "
_INTERRUPTED: Final = 130
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

    async def run(self) -> int:
        """The exit status: 0, 1 if an input of a script failed, 128 + n after signal n."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._signals.heed, nursery.cancel_scope)
            try:
                await self._loop()
            finally:
                await self._shell.close()
            nursery.cancel_scope.cancel()
        return self._signals.exit_status or self._status

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
        """Run one input; False if it failed, after saying why."""
        failure: Failure | None = None
        with self._signals.interruptible() as scope:
            try:
                if each.is_command:
                    words = language.split(each.text)
                    await find(words[0]).run(self._shell, words[1:])
                else:
                    await self._shell.run(each.text)
            except (AuroraError, Misuse) as error:
                failure = self._failure(error)
            except OSError as error:
                if error.filename is None:
                    raise
                failure = Failure(type(error).__name__, str(error))
        if scope.cancelled_caught:
            await self._shell.leave_rolled_back()
            failure = Failure("Interrupted", self._after_interrupt())
        if failure is not None:
            self._fail(failure, each.line, interrupted=scope.cancelled_caught)
        return failure is None

    def _after_interrupt(self) -> str:
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

    def _fail(self, failure: Failure, line: int = 0, *, interrupted: bool = False) -> None:
        if self._script:
            self._status = _INTERRUPTED if interrupted else 1
        if self._shell.results.json_lines:
            fields = {"kind": failure.kind, "message": failure.text, "code": failure.code}
            self._shell.results.print_object({"error": fields | {"line": self._line + line}})
            return
        where = f"line {self._line + line}: " if self._script else ""
        if interrupted:
            self._session.screen.say(f"{where}{failure.text}", "warn")
            return
        self._session.screen.say(f"{where}error: {failure.text}", "bad")

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


async def converse(session: Session, *, color: bool, json_lines: bool) -> int:
    """Talk to the person or the script at standard input."""
    typed = at_a_terminal() and not json_lines
    results = Results(new_console(color=color), json_lines=json_lines)
    shell = Shell(session, results, tells_changes=typed)
    await shell.open()
    lines: Lines = PipedLines(descriptor=0)
    completer = None
    if typed and not takes_escapes(sys.stdout):
        lines = PlainTypedLines(descriptor=0)
    elif typed:
        from aurora.terminal.sql.completing import SqlCompleter
        from aurora.terminal.typing_lines import TypedLines

        completer = SqlCompleter(session.cluster.hosts)
        lines = TypedLines(
            completer, color=color, history="sql-history", is_ended=is_ended,
            continuation=CONTINUED,
        )  # fmt: skip
    if typed:
        session.screen.say(
            "SQLite on a volume of six segments in three zones. `.help` lists commands.", "note"
        )
    return await Talk(shell, lines, completer, script=not typed).run()
