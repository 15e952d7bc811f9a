"""Ctrl-C and SIGTERM at a prompt: which of them end a command, and which all of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from aurora.terminal.reading_lines import Lines

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_EXIT_BY_SIGNAL: Final = 128


class Signals:
    """What signals do to one person's or one script's way through a session."""

    def __init__(self, lines: Lines, *, script: bool) -> None:
        self._lines = lines
        self._script = script
        self._scope: trio.CancelScope | None = None
        self.exit_status = 0
        """128 + n once signal n has ended the session."""

    @contextmanager
    def interruptible(self) -> Iterator[trio.CancelScope]:
        """A command, which Ctrl-C ends."""
        with trio.CancelScope() as scope:
            self._scope = scope
            try:
                yield scope
            finally:
                self._scope = None

    async def heed(
        self, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Ctrl-C ends the command that runs; a script, also between two commands.

        A person's Ctrl-C at the prompt is a key like others, and no signal.
        """
        with trio.open_signal_receiver(*_SIGNALS) as received:
            task_status.started()
            async for number in received:
                scope = self._scope
                if number == signal.SIGINT and (scope is not None or not self._script):
                    if scope is not None:
                        scope.cancel()
                    continue
                self.exit_status = _EXIT_BY_SIGNAL + number
                await self._lines.stop()
                everything.cancel()
