"""What callers pass to the public API: what cannot be is refused by name, before anything happens.

Pages, LSNs, payloads and targets have checks of their own, where they are defined.
"""

from __future__ import annotations

from contextlib import suppress
from os import PathLike, fsencode, fspath
from pathlib import Path
from typing import Final

from segments.protocol.errors import Invalid
from segments.protocol.showing import shown

_MOST_SECONDS: Final = 1_000_000_000


def check_flag(name: str, value: object) -> None:
    """Raise `Invalid` unless ``value`` is True or False: a word would be true, whatever it says."""
    if type(value) is not bool:
        raise Invalid(f"{name} is {shown(value)}: expected True or False")


def check_kind(name: str, value: object, kind: type, expected: str) -> None:
    """Raise `Invalid` unless ``value`` is a ``kind``."""
    if not isinstance(value, kind):
        raise Invalid(f"{name} is {shown(value)}: expected {expected}")


def path_of(name: str, value: object, expected: str = "a path") -> Path:
    """``value`` as a path; raises `Invalid` unless a file system can have it."""
    path = fspath(value) if isinstance(value, str | PathLike) else None
    if isinstance(path, str) and "\0" not in path:
        with suppress(UnicodeEncodeError):
            fsencode(path)
            return Path(path)
    raise Invalid(f"{name} is {shown(value)}: expected {expected}")


def check_seconds(name: str, value: object) -> None:
    """Raise `Invalid` unless ``value`` is a number of seconds from 0 to some 30 years."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= _MOST_SECONDS:  # type: ignore[operator]
        raise Invalid(f"{name} is {shown(value)}: expected seconds >= 0, at most {_MOST_SECONDS:,}")
