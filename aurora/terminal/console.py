"""What is written to: a terminal that takes escape codes, or anything else, which gets none at all.

One rule for every command of ``python -m aurora`` and ``python -m aurora.sim``. A pipe and a file
never get any, whatever the environment says (``FORCE_COLOR``): their readers are mostly programs.
"""

from __future__ import annotations

import os
import sys
from typing import Final, TextIO

from rich.console import Console

_DUMB: Final = ("dumb", "unknown")


def takes_escapes(stream: TextIO) -> bool:
    """Whether escape codes may be written to ``stream``; with ``NO_COLOR`` none are."""
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM", "").lower() in _DUMB
    return stream.isatty() and not plain


class _Console(Console):
    """Where nobody reads any more, `BrokenPipeError`: rich would end the process with status 1."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - called while the error is handled; `aurora.terminal.finishing` ends


def new_console(*, stderr: bool = False, color: bool = True) -> Console:
    """A console on standard output, or on standard error; without ``color`` it is plain too.

    A plain one is no terminal to `rich`: nothing on it moves, and nothing is drawn again.
    """
    escapes = color and takes_escapes(sys.stderr if stderr else sys.stdout)
    return _Console(
        stderr=stderr,
        color_system="auto" if escapes else None,
        force_terminal=escapes,
        highlight=False,
        soft_wrap=False,
        emoji=False,
        markup=False,
    )
