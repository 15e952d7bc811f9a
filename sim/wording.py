"""How commands word what they say: numbers with their nouns, lines that fit, commands to paste."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Collection
from difflib import get_close_matches
from itertools import islice
from typing import Final

import click

WIDTH: Final = 80
PROGRAM: Final = "python -m aurora.sim"
_MANY: Final = 40
_FIRST: Final = 8


def counted(count: int, noun: str) -> str:
    """``1 seed``, ``1,200 seeds``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def wrapped(text: str, indent: str = "  ", width: int = WIDTH) -> str:
    """Every line of ``text`` at most ``width`` wide, if its words allow it.

    What a line goes on in is indented by ``indent`` more than the line.
    """
    return "\n".join(
        textwrap.fill(
            line,
            width,
            subsequent_indent=line[: len(line) - len(line.lstrip())] + indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        if len(line) > width and PROGRAM not in line  # whoever copies a command wants one line
        else line
        for line in text.splitlines()
    )


def say(text: str, indent: str = "  ") -> None:
    """Print prose: wrapped on a terminal, as it is elsewhere, where programs may read it."""
    if sys.stdout.isatty():
        text = wrapped(text, indent, shutil.get_terminal_size((WIDTH, 24)).columns)
    click.echo(text)


def command_line(*arguments: str) -> str:
    """What to type, each of the arguments quoted where a shell would take it apart."""
    return f"{PROGRAM} {shlex.join(arguments)}"


def suggestion(word: str, known: Collection[str]) -> str:
    """What may have been meant, and everything that may be said; of very much its beginning."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    meant = f"did you mean {close[0]!r}? " if close else ""
    if len(known) <= _MANY:
        return f"{meant}expected one of {', '.join(known)}"
    first = ", ".join(islice(known, _FIRST))
    return f"{meant}expected one of {first} and {len(known) - _FIRST} more: see `list`"
