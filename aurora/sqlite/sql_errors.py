"""SQLite's errors as this project's: by what the caller can do, with SQLite's own words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import apsw

from segments.protocol.errors import (
    SqlBusy,
    SqlConstraint,
    SqlCorrupt,
    SqlError,
    SqlFailed,
    SqlInterrupted,
    SqlInvalid,
    SqlReadOnly,
)
from segments.protocol.showing import shown

_KINDS: Final[dict[int, type[SqlError]]] = {
    apsw.SQLITE_CONSTRAINT: SqlConstraint,
    apsw.SQLITE_READONLY: SqlReadOnly,
    apsw.SQLITE_BUSY: SqlBusy,
    apsw.SQLITE_LOCKED: SqlBusy,
    apsw.SQLITE_INTERRUPT: SqlInterrupted,
    apsw.SQLITE_ABORT: SqlInterrupted,
    apsw.SQLITE_CORRUPT: SqlCorrupt,
    apsw.SQLITE_NOTADB: SqlCorrupt,
    apsw.SQLITE_NOMEM: SqlFailed,
    apsw.SQLITE_FULL: SqlFailed,
    apsw.SQLITE_IOERR: SqlFailed,
}
"""By primary result code; all others are mistakes in a statement."""
_PRIMARY: Final = 0xFF


def translated(error: apsw.Error) -> SqlError:
    """The error of ours for one of apsw's; those that apsw alone raises have SQLite's code 1."""
    code = getattr(error, "extendedresult", None) or apsw.SQLITE_ERROR
    text = str(error).removeprefix(f"{type(error).__name__}: ")
    return _KINDS.get(code & _PRIMARY, SqlInvalid)(text, code)


MISTAKES: Final = (apsw.Error, KeyError, TypeError, OverflowError, ValueError, BufferError)
"""What apsw raises for a call that is wrong; `mistake` tells the callers' own from them."""
_COUNTS: Final = re.compile(r"uses (\d+) and there are (\d+) supplied")
_UNBOUND: Final = re.compile(r"has (\d+) bindings but you didn't supply any")


def check_statement(statement: str) -> None:
    """Refuse a statement that SQLite would read only the beginning of."""
    if "\0" in statement:
        at = statement.index("\0") + 1
        raise SqlInvalid(
            f"a statement with a NUL at character {at}: expected none; char(0) makes one"
        )


def check_bindings(bindings: object) -> None:
    """Refuse what is a sequence, and none of values."""
    if isinstance(bindings, str | bytes | bytearray | memoryview):
        raise SqlInvalid(
            f"bindings {shown(bindings)}: expected a sequence of values, as in "
            f"({shown(bindings)},), or a mapping of names to them"
        )


def mistake(error: Exception, statement: str, bindings: object) -> Exception:
    """The error of ours for one that came of running a statement; itself if it is none of apsw's.

    Names the value, or the place in the statement, that SQLite cannot take.
    """
    if isinstance(error, apsw.BindingsError):
        return SqlInvalid(_of_bindings(str(error)))
    if isinstance(error, apsw.Error):
        return translated(error)
    text: str | None = None
    if isinstance(error, UnicodeDecodeError):
        text = (
            f"text that is no UTF-8: {shown(error.object)}; expected valid text, or "
            "CAST(… AS BLOB), which gives its bytes"
        )
    elif isinstance(error, UnicodeEncodeError):
        what = "a statement with" if error.object == statement else f"{shown(error.object)} with"
        text = (
            f"{what} {error.object[error.start]!r} at character {error.start + 1}: "
            "expected text that UTF-8 can hold"
        )
    elif isinstance(error, KeyError):
        if isinstance(bindings, Mapping) and error.args and error.args[0] not in bindings:
            text = f"no value for :{error.args[0]} in bindings {shown(bindings)}: expected one"
    elif isinstance(error, OverflowError):
        values = bindings.values() if isinstance(bindings, Mapping) else bindings
        text = _too_large(values)
    elif isinstance(error, BufferError):
        text = f"bindings {shown(bindings)}: {error}; expected bytes, as bytes(...) copies them"
    elif isinstance(error, TypeError):
        text = str(error)
    return error if text is None else SqlInvalid(text)


def _of_bindings(text: str) -> str:
    unbound, counts = _UNBOUND.search(text), _COUNTS.search(text)
    if unbound is not None:
        return (
            f"parameters: {unbound[1]}, and no bindings for them: expected as many values; "
            "a shell has none, so a literal in place of each"
        )
    if counts is not None:
        return f"bindings: {counts[2]} values, and {counts[1]} parameters: expected as many"
    return text


def _too_large(values: object) -> str | None:
    for value in values if isinstance(values, Iterable) else ():
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            return f"{shown(value)}: expected an integer of 64 bits, from -2**63 to 2**63 - 1"
    return None


class Sets:
    """Sets of bindings, as a caller gives them one by one."""

    def __init__(self, sets: Iterable[Any]) -> None:
        self._sets = sets
        self.latest: object = None
        """The one that is bound."""
        self.failed = False
        """Whether it is the caller's own iterator that has raised."""

    def __iter__(self) -> Iterator[Any]:
        check_bindings(self._sets)
        self.failed = True
        for each in self._sets:
            self.failed = False
            self.latest = each
            check_bindings(each)
            yield each
            self.failed = True


@contextmanager
def our_errors() -> Iterator[None]:
    """Raise SQLite's errors as ours; those of the volume and of callers pass as they are."""
    try:
        yield
    except apsw.Error as error:
        raise translated(error) from error
