"""The volume's log among what the terminal shows: none of its lines goes anywhere else.

Without a handler Python would print warnings to standard error, in the middle of everything.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aurora.health_watch import LOG
from aurora.terminal.screen import Screen


class ToldLog(logging.Handler):
    """Says each line of the log on a screen."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.INFO)
        self.screen_of: Callable[[], Screen] = lambda: screen
        """The screen of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one line."""
        kind = "warn" if record.levelno >= logging.WARNING else "note"
        self.screen_of().say(record.getMessage(), kind, head="  log       ")

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hear the log while the block runs."""
        level = LOG.level
        LOG.addHandler(self)
        LOG.setLevel(logging.INFO)
        try:
            yield
        finally:
            LOG.removeHandler(self)
            LOG.setLevel(level)
