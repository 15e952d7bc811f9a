"""The prompt: read a line, run it, say what came of it; until the end of input, or Ctrl-D."""

from __future__ import annotations

import signal
import sys
from typing import Final

import trio

from aurora.terminal.commands import execute
from aurora.terminal.console import takes_escapes
from aurora.terminal.reading_lines import Lines, PipedLines, PlainTypedLines, at_a_terminal
from aurora.terminal.session import Session

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_EXIT_BY_SIGNAL: Final = 128


class Repl:
    """One person's or one script's way through a session."""

    def __init__(self, session: Session, lines: Lines, *, echo: bool) -> None:
        """``echo`` repeats each line, as a terminal would have shown it."""
        self._session = session
        self._lines = lines
        self._echo = echo
        self._command_scope: trio.CancelScope | None = None
        self._signal = 0

    async def run(self) -> int:
        """The exit status: 0, 1 if a command of a script failed, 128 + n after signal n."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._heed_signals, nursery.cancel_scope)
            await self._loop()
            nursery.cancel_scope.cancel()
        if self._signal:
            return _EXIT_BY_SIGNAL + self._signal
        session = self._session
        session.tell_finished()
        for operation in session.pending:
            session.screen.say(f"{operation.title}: still not finished at the end", "bad")
        return 1 if self._echo and (session.failures or session.pending) else 0

    async def _loop(self) -> None:
        session = self._session
        while not session.ended:
            session.tell_finished()
            prompt = session.prompt()
            line = await self._lines.next_line(prompt)
            if line is None:
                return
            if self._echo and (line.strip() or session.stepping):
                session.screen.say(f"{prompt}{line}".rstrip(), "compute")
            with trio.CancelScope() as self._command_scope:
                if not await execute(session, line):
                    session.failures += 1
            if self._command_scope.cancelled_caught:
                session.failures += 1
                session.screen.say("interrupted: what it has begun may take effect, or not", "warn")
            self._command_scope = None

    async def _heed_signals(
        self, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Ctrl-C ends the command that runs; a script, also between two commands.

        A person's Ctrl-C at the prompt is a key like others, and no signal.
        """
        with trio.open_signal_receiver(*_SIGNALS) as received:
            task_status.started()
            async for number in received:
                scope = self._command_scope
                if number == signal.SIGINT and (scope is not None or not self._echo):
                    if scope is not None:
                        scope.cancel()
                    continue
                self._signal = number
                await self._lines.stop()
                everything.cancel()


async def converse(session: Session, *, color: bool) -> int:
    """Talk to the person or the script at standard input."""
    typed = at_a_terminal()
    lines: Lines = PipedLines(descriptor=0)
    if typed and not takes_escapes(sys.stdout):
        lines = PlainTypedLines(descriptor=0)
    elif typed:
        from aurora.terminal.typing_lines import TypedLines

        lines = TypedLines(session.cluster.hosts, color=color)
    if typed:
        session.screen.say(
            "A volume of six segments in three zones. `help` lists commands.", "note"
        )
    return await Repl(session, lines, echo=not typed).run()
