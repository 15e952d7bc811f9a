"""The words of the prompt: a line becomes a command and checked arguments, or an error that helps.

Nothing here does anything; so bad input cannot change anything.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from segments.protocol.ids import MAX_INTEGER, Lsn, PageId
from segments.protocol.record import PAGE_SIZE


class Misuse(Exception):
    """Input that is not a command, or not what the command takes; the message names the word."""


def split(line: str) -> list[str]:
    """The words of a line; quotes keep spaces together."""
    try:
        return shlex.split(line)
    except ValueError as error:
        raise Misuse(f"{line.strip()!r}: {str(error).lower()}") from None


def integer(word: str, what: str, low: int, high: int) -> int:
    """A decimal number from ``low`` to ``high``, both inclusive."""
    digits = word.replace(",", "").replace("_", "")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 25):
        raise Misuse(f"{word!r} is not {what}: expected a number from {low} to {high}")
    number = int(digits)
    if not low <= number <= high:
        raise Misuse(f"{word!r} is out of range: expected {what} from {low} to {high}")
    return number


def page(word: str) -> PageId:
    """A page number."""
    return integer(word, "a page", 0, MAX_INTEGER)


def lsn(word: str) -> Lsn:
    """An LSN, written ``@12``."""
    if not word.startswith("@"):
        raise Misuse(f"{word!r} is not a read point: expected @LSN, such as @12")
    return integer(word[1:], "an LSN", 0, MAX_INTEGER)


def data(word: str) -> bytes:
    """Text as UTF-8, or bytes in hexadecimal after ``0x``."""
    if word.startswith("0x"):
        try:
            return bytes.fromhex(word[2:])
        except ValueError:
            raise Misuse(f"{word!r} is not hexadecimal: expected pairs of 0-9, a-f") from None
    return word.encode("utf-8", errors="surrogateescape")


def write(words: Sequence[str]) -> tuple[PageId, int, bytes]:
    """PAGE OFFSET DATA."""
    return page(words[0]), integer(words[1], "an offset", 0, PAGE_SIZE - 1), data(words[2])


def on_off(word: str) -> bool:
    """``on`` or ``off``."""
    if word.lower() not in ("on", "off"):
        raise Misuse(f"{word!r} is neither on nor off")
    return word.lower() == "on"


def at_most(words: Sequence[str], count: int, advice: str = "") -> None:
    """Refuse the first word too many."""
    if len(words) > count:
        raise Misuse(f"{words[count]!r} is one word too many{advice}")


def at_least(words: Sequence[str], count: int, *names: str) -> None:
    """Refuse a command without all that it needs."""
    if len(words) < count:
        raise Misuse(f"{names[len(words)]} is missing")
