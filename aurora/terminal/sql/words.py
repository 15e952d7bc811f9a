"""What the words of a command mean. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aurora.terminal import language
from aurora.terminal.language import Misuse
from segments.protocol.errors import SqlError
from segments.protocol.ids import MAX_INTEGER

if TYPE_CHECKING:
    from aurora.sqlite.moments import Moment

Words = Sequence[str]
PRESENT: Final = "now"


def moment(words: Words) -> Moment | None:
    """A moment as it is typed: an LSN, a time, how long ago; None for the present."""
    text = " ".join(words).strip()
    if text.lower() == PRESENT:
        return None
    digits = text.removeprefix("@").replace(",", "")
    if digits.isascii() and digits.isdigit():
        return language.integer(digits, "an LSN", 0, MAX_INTEGER)
    return text


def file_of(word: str) -> Path:
    """A path as it is typed."""
    if "\0" in word:
        raise Misuse(f"{word!r} has a NUL: expected the name of a file")
    return Path(word).expanduser()


def with_text(error: Misuse | SqlError, text: str) -> Misuse | SqlError:
    """The same error with another text."""
    return type(error)(text, error.code) if isinstance(error, SqlError) else Misuse(text)


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'
