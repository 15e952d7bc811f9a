"""How far long work is: one line on the standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

import click

_POLL_S: Final = 0.2
_PLAIN_EVERY_S: Final = 10.0
_PLAIN_FIRST_S: Final = 2.0


class ProgressLine:
    """The line: rewritten on a terminal, printed now and then elsewhere."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._next = self._started + (_POLL_S if self._terminal else _PLAIN_FIRST_S)

    @property
    def elapsed_s(self) -> float:
        """Real time since the work began."""
        return time.monotonic() - self._started

    def show(self, line: Callable[[], str]) -> None:
        """Show what ``line`` says, if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (_POLL_S if self._terminal else _PLAIN_EVERY_S)
        text = line()
        click.echo(f"\r{text:<79}" if self._terminal else text, err=True, nl=not self._terminal)

    def clear(self) -> None:
        """Take the line away."""
        if self._terminal:
            click.echo(f"\r{'':<79}\r", err=True, nl=False)
