"""What is typed, as statements: where one ends, and whether it begins or ends a transaction. Pure.

Where a statement ends, SQLite knows best (a trigger has semicolons of its own); it is only asked at
semicolons outside of literals and comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from sqlite3 import complete_statement
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$))
    | (?P<quoted>'(?:[^']|'')*(?:'|$)|"(?:[^"]|"")*(?:"|$)|`(?:[^`]|``)*(?:`|$)|\[[^\]]*(?:\]|$))
    | (?P<end>;)
    | (?P<word>\w+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


_LEAVING: Final = re.compile(r"(quit|exit)[ \t]*;?[ \t]*\r?(?:\n|$)", re.IGNORECASE)
"""A line that can be no SQL, and ends the shell as with its dot."""


class Control(Enum):
    """What a statement does to the transaction that the shell has open, or not."""

    NONE = auto()
    BEGIN = auto()
    COMMIT = auto()
    ROLLBACK = auto()
    SAVEPOINT = auto()
    """Begins a transaction, too, if none is open."""


class Input(NamedTuple):
    """One thing to be done."""

    text: str
    """A statement with its semicolon, or a line that begins with a dot."""
    line: int
    """Lines of the text before it."""

    @property
    def is_command(self) -> bool:
        """Whether it is the shell's own."""
        return self.text.startswith(".")


class Typed(NamedTuple):
    """A text, taken apart."""

    inputs: list[Input]
    rest: str
    """What is not ended yet; empty if that is only space and comments."""
    rest_line: int
    """Lines before the rest."""


def take_apart(text: str) -> Typed:
    """All inputs in ``text``, and what is left."""
    inputs: list[Input] = []
    start, line = 0, 0
    while True:
        begin = _skip_space(text, start)
        line += text.count("\n", start, begin)
        if begin == len(text):
            return Typed(inputs, "", line)
        leaving = _LEAVING.match(text, begin)
        if leaving is not None:
            inputs.append(Input(f".{leaving[1].lower()}", line))
            line += text.count("\n", begin, leaving.end())
            start = leaving.end()
            continue
        end = _end_of_command(text, begin) if text[begin] == "." else _end(text, begin)
        if end is None:
            return Typed(inputs, text[begin:], line)
        inputs.append(Input(text[begin:end].strip(), line))
        line += text.count("\n", begin, end)
        start = end


def is_ended(text: str) -> bool:
    """Whether Enter runs the text, or only begins its next line."""
    typed = take_apart(text if text.endswith("\n") else f"{text}\n")
    return not typed.rest


def control_of(statement: str) -> Control:
    """What a statement does to the transaction."""
    words = keywords(statement)
    first, second = next(words, ""), next(words, "")
    if first == "BEGIN":
        return Control.BEGIN
    if first in ("COMMIT", "END"):
        return Control.COMMIT
    if first == "ROLLBACK":
        to = second if second != "TRANSACTION" else next(words, "")
        return Control.NONE if to == "TO" else Control.ROLLBACK
    return Control.SAVEPOINT if first == "SAVEPOINT" else Control.NONE


def keywords(statement: str) -> Iterator[str]:
    """The statement's words outside of literals and comments, in upper case."""
    for token in _TOKEN.finditer(statement):
        if token.lastgroup == "word":
            yield token[0].upper()


def _skip_space(text: str, start: int) -> int:
    """Where something begins that is neither space, nor a comment that ends, nor a semicolon."""
    at = start
    while at < len(text):
        token = _TOKEN.match(text, at)
        assert token is not None
        unended = token[0].startswith("/*") and not token[0].endswith("*/")
        if token.lastgroup not in ("space", "end") or unended:
            break
        at = token.end()
    return at


def _end(text: str, begin: int) -> int | None:
    for token in _TOKEN.finditer(text, begin):
        if token.lastgroup == "end" and complete_statement(_sound(text[begin : token.end()])):
            return token.end()
    return None


def _sound(text: str) -> str:
    """The same for what SQLite can look at: without NUL, and bytes that were no UTF-8."""
    return text.encode("utf-8", errors="replace").decode("utf-8").replace("\0", "?")


def _end_of_command(text: str, begin: int) -> int | None:
    end = text.find("\n", begin)
    return None if end < 0 else end + 1
