"""SQLite's functions of chance, with the volume's own: a seed gives the same run twice."""

from __future__ import annotations

import re
from random import Random
from typing import Any, Final

import apsw

_HALF: Final = 1 << 63
_INTEGER: Final = re.compile(r"[ \t-\r]*([+-]?)0*([0-9]{0,20})")
"""What SQLite reads of a text as an integer; with more digits it is too large, whatever it is."""


def add_chance(connection: apsw.Connection, random: Random) -> None:
    """Have a connection's random numbers and bytes come from a stream of their own."""
    most = connection.limit(apsw.SQLITE_LIMIT_LENGTH)

    def number(*_: Any) -> int:
        return random.getrandbits(64) - _HALF

    def blob(*sizes: Any) -> bytes:
        count = max(1, as_integer(*sizes))
        if count > most:
            raise apsw.exception_for(apsw.SQLITE_TOOBIG)
        return random.randbytes(count)

    # Innocuous: they may stand wherever SQLite's own may, as in a column's DEFAULT.
    flags = apsw.SQLITE_INNOCUOUS
    connection.create_scalar_function("random", number, 0, flags=flags)
    connection.create_scalar_function("randomblob", blob, 1, flags=flags)


def as_integer(value: Any) -> int:
    """What a value is where SQLite expects an integer: it takes any, and knows no mistake."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        found = _INTEGER.match(value)
        value = int(f"{found[1]}{found[2] or 0}") if found is not None else 0
    elif isinstance(value, float):
        value = max(-_HALF, min(value, _HALF))  # infinity, too
    return int(value or 0)
