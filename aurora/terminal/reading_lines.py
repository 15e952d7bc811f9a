"""Where lines come from: a pipe, or a person at a terminal, as it gives them.

Where a terminal takes escape codes they are edited, see `aurora.terminal.typing_lines`.
"""

from __future__ import annotations

import os
import sys
from typing import Final, Protocol

import trio

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


class PlainTypedLines(PipedLines):
    """Lines from a person at a terminal that is to get no escape code: it edits them itself."""

    async def next_line(self, prompt: str) -> str | None:
        sys.stdout.write(prompt)
        sys.stdout.flush()
        line = await super().next_line(prompt)
        if line is None:
            sys.stdout.write("\n")  # Ctrl-D has left the cursor behind the prompt
        return line


def at_a_terminal() -> bool:
    """Whether a person types and reads."""
    return sys.stdin.isatty() and sys.stdout.isatty()
