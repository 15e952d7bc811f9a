"""How commands word what they say: numbers with their nouns, lines that fit."""

from __future__ import annotations

import textwrap
from typing import Final

WIDTH: Final = 80


def counted(count: int, noun: str) -> str:
    """``1 seed``, ``1,200 seeds``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def wrapped(text: str, indent: str = "  ") -> str:
    """Every line of ``text`` at most `WIDTH` wide, if its words allow it."""
    return "\n".join(
        textwrap.fill(
            line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        if len(line) > WIDTH
        else line
        for line in text.splitlines()
    )
