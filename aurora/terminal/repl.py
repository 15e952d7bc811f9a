"""The prompt: read a line, run it, say what came of it; until the end of input, or Ctrl-D."""

from __future__ import annotations

import sys

import trio

from aurora.terminal.commands import execute
from aurora.terminal.console import takes_escapes
from aurora.terminal.reading_lines import Lines, PipedLines, PlainTypedLines, at_a_terminal
from aurora.terminal.session import Session
from aurora.terminal.signals import Signals


class Repl:
    """One person's or one script's way through a session."""

    def __init__(self, session: Session, lines: Lines, *, echo: bool) -> None:
        """``echo`` repeats each line, as a terminal would have shown it."""
        self._session = session
        self._lines = lines
        self._echo = echo
        self._signals = Signals(lines, script=echo)

    async def run(self) -> int:
        """The exit status: 0, 1 if a command of a script failed, 128 + n after signal n."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._signals.heed, nursery.cancel_scope)
            await self._loop()
            nursery.cancel_scope.cancel()
        if self._signals.exit_status:
            return self._signals.exit_status
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
            with self._signals.interruptible() as scope:
                if not await execute(session, line):
                    session.failures += 1
            if scope.cancelled_caught:
                session.failures += 1
                session.screen.say("interrupted: what it has begun may take effect, or not", "warn")


async def converse(session: Session, *, color: bool) -> int:
    """Talk to the person or the script at standard input."""
    typed = at_a_terminal()
    lines: Lines = PipedLines(descriptor=0)
    if typed and not takes_escapes(sys.stdout):
        lines = PlainTypedLines(descriptor=0)
    elif typed:
        from aurora.terminal.typing_lines import TypedLines, WordCompleter

        lines = TypedLines(WordCompleter(session.cluster.hosts), color=color)
    if typed:
        session.screen.say(
            "A volume of six segments in three zones. `help` lists commands.", "note"
        )
    return await Repl(session, lines, echo=not typed).run()
