"""Points in the life of a database, as callers name them: by LSN or by time. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, TypeAlias

from segments.protocol.errors import Invalid
from segments.protocol.ids import Lsn
from segments.protocol.showing import shown

Moment: TypeAlias = "Lsn | datetime | timedelta | str"
"""An LSN; a time with its zone; how long ago; or a text: ISO 8601, in UTC unless it says otherwise,
as in "5 minutes ago", "yesterday", which is a day ago, or "now"."""

_UNITS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_AGO: Final = re.compile(r"(\d+(?:\.\d+)?|an?)\s+(second|minute|hour|day|week)s?\s+ago")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
_FIRST_NS: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _US * 1_000
_LAST_NS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _US * 1_000
_MOST: Final = 1e12
"""Of any unit ago: before all times that there are."""
_NAMED: Final = {"yesterday": "1 day ago", "now": "0 seconds ago"}
_TYPED: Final = "'2026-05-01 12:00' (UTC), '5 minutes ago', 'yesterday' or 'now'"
EXPECTED: Final = (
    "an LSN, a datetime with its time zone, a timedelta of how long ago, or a text such as "
    f"{_TYPED}"
)


class AtTime(NamedTuple):
    """The newest commit at or before a time."""

    time_ns: int
    """Nanoseconds since the epoch of Unix."""


def moment(when: object, now_ns: int) -> Lsn | AtTime:
    """What ``when`` means, at the time ``now_ns``; raises `Invalid`. LSNs are not looked at."""
    if isinstance(when, int) and not isinstance(when, bool):
        return when
    if isinstance(when, str):
        return _of_text(when, now_ns)
    if isinstance(when, timedelta):
        return _at(now_ns - when // _US * 1_000)
    if isinstance(when, datetime):
        if when.utcoffset() is None:
            raise Invalid(f"{when!r} has no time zone: expected one that has")
        return _at((when - _EPOCH) // _US * 1_000)
    raise Invalid(f"{shown(when)}: expected {EXPECTED}")


def _of_text(text: str, now_ns: int) -> AtTime:
    typed = text.strip().lower()
    ago = _AGO.fullmatch(_NAMED.get(typed, typed))
    if ago is not None:
        count = 1.0 if ago[1] in ("a", "an") else min(float(ago[1]), _MOST)
        return _at(now_ns - round(count * _UNITS[ago[2]] * 1_000_000_000))
    try:
        parsed = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Invalid(
            f"{text!r}: expected a time such as {_TYPED}, or an LSN, as an integer"
        ) from None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return _at((parsed - _EPOCH) // _US * 1_000)


def _at(time_ns: int) -> AtTime:
    """A time, or the first or the last one that can be told, if it is beyond."""
    return AtTime(max(_FIRST_NS, min(time_ns, _LAST_NS)))


def as_datetime(time_ns: int) -> datetime:
    """A time in UTC, in whole microseconds."""
    return _EPOCH + timedelta(microseconds=time_ns // 1_000)
