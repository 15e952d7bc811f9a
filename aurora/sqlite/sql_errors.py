"""SQLite's errors as this project's: by what the caller can do, with SQLite's own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

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


@contextmanager
def our_errors() -> Iterator[None]:
    """Raise SQLite's errors as ours; those of the volume and of callers pass as they are."""
    try:
        yield
    except apsw.Error as error:
        raise translated(error) from error
