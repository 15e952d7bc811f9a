"""Where lines come from: a person at a terminal, with completion and history, or a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import trio
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.output import ColorDepth

from aurora.terminal.commands import COMMANDS

_LINE_LIMIT: Final = 1 << 20
"""Bytes in a line of piped input; a longer one is read in parts."""


class Lines(Protocol):
    """Gives one line after the other."""

    async def next_line(self, prompt: str) -> str | None:
        """The next line; None when there is no more. An interrupted line is empty."""

    async def stop(self) -> None:
        """Give the terminal back, even in the middle of a line."""


class PipedLines:
    """Lines from a file descriptor, read without a lock that an abandoned thread could keep."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = b""
        self._ended = False

    async def next_line(self, prompt: str) -> str | None:
        while b"\n" not in self._buffer and not self._ended and len(self._buffer) < _LINE_LIMIT:
            read = await trio.to_thread.run_sync(
                os.read, self._descriptor, 65_536, abandon_on_cancel=True
            )
            self._ended = not read
            self._buffer += read
        if not self._buffer:
            return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", errors="surrogateescape").rstrip("\r")

    async def stop(self) -> None:
        """There is nothing to give back."""


class TypedLines:
    """Lines from a person."""

    def __init__(self, segments: Iterable[str], *, color: bool) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=_history(),
            completer=WordCompleter(segments),
            complete_while_typing=False,
            color_depth=None if color else ColorDepth.DEPTH_1_BIT,
        )

    async def next_line(self, prompt: str) -> str | None:
        return await trio.to_thread.run_sync(self._ask, prompt)

    def _ask(self, prompt: str) -> str | None:
        try:
            return self._session.prompt(prompt)
        except KeyboardInterrupt:
            return ""
        except EOFError:
            return None

    async def stop(self) -> None:
        loop = self._session.app.loop
        if loop is not None:
            loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        application = self._session.app
        if application.future is not None and not application.future.done():
            application.exit(exception=EOFError())


class WordCompleter(Completer):
    """Offers commands, then what each takes."""

    def __init__(self, segments: Iterable[str]) -> None:
        names = list(segments)
        letters = dict.fromkeys(name[0] for name in names)
        self._segments = (*letters, *names, "az1", "az2", "az3")

    def get_completions(self, document: Document, _: CompleteEvent) -> Iterator[Completion]:
        """The words that continue the one before the cursor."""
        before = document.text_before_cursor.lstrip().split(" ")
        word = before[-1]
        for each in self._choices(before[:-1]):
            if each.lower().startswith(word.lower()):
                yield Completion(each, start_position=-len(word))

    def _choices(self, words: Sequence[str]) -> list[str]:
        if not words:
            return list(COMMANDS)
        command = COMMANDS.get(words[0])
        if command is None:
            return []
        known = {"segments": self._segments, "commands": tuple(COMMANDS)}
        offered = [each for word in command.takes for each in known.get(word, (word,))]
        return [each for each in offered if each not in words]


def _history() -> History:
    """Kept between sessions where the system keeps such things, if that can be written."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    path = Path(base) / "aurora" / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def at_a_terminal() -> bool:
    """Whether a person types and reads."""
    return sys.stdin.isatty() and sys.stdout.isatty()
