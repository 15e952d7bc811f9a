"""What callers call a moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo

import pytest

from aurora.sqlite.moments import AtTime, as_datetime, moment
from segments.protocol.errors import Invalid

NOW = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 1_000_000_000


def at(time: datetime) -> AtTime:
    return AtTime(int(time.timestamp()) * 1_000_000_000)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (0, 0),
        (77, 77),
        (NOW, at(NOW)),
        (
            datetime(2026, 5, 1, 14, 0, tzinfo=timezone(timedelta(hours=2))),
            at(NOW.replace(minute=0)),
        ),
        (timedelta(minutes=30), at(NOW.replace(minute=0))),
        (timedelta(microseconds=1), AtTime(NOW_NS - 1_000)),
        ("30 minutes ago", at(NOW.replace(minute=0))),
        (" 1 Minute ago ", at(NOW.replace(minute=29))),
        ("a day ago", at(NOW - timedelta(days=1))),
        ("an hour ago", at(NOW - timedelta(hours=1))),
        ("2 weeks ago", at(NOW - timedelta(weeks=2))),
        ("1.5 seconds ago", AtTime(NOW_NS - 1_500_000_000)),
        ("2026-05-01 12:00", at(NOW.replace(minute=0))),
        ("2026-05-01T12:00:00+02:00", at(NOW.replace(hour=10, minute=0))),
        ("Yesterday", at(NOW - timedelta(days=1))),
        ("now", at(NOW)),
        ("2026-05-01", at(NOW.replace(hour=0, minute=0))),
    ],
)
def test_a_moment_is_an_lsn_or_a_time(when: object, expected: object) -> None:
    assert moment(when, NOW_NS) == expected


NAIVE = NOW.replace(tzinfo=None)


class Nowhere(tzinfo):
    """A time zone that does not know its offset."""

    def utcoffset(self, _: datetime | None) -> None:
        return None

    dst = utcoffset

    def tzname(self, _: datetime | None) -> str:
        return "nowhere"


NOWHERE = NOW.replace(tzinfo=Nowhere())
FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong",
    [True, None, 1.5, "", "banana", "5", "5 ago", "-5 minutes ago", NAIVE, NOWHERE, b"1"],
)
def test_what_is_no_moment_is_refused_by_its_value(wrong: object) -> None:
    with pytest.raises(Invalid, match="expected"):
        moment(wrong, NOW_NS)


def test_the_error_names_what_can_be_typed() -> None:
    with pytest.raises(Invalid, match="'banana': expected a time such as") as caught:
        moment("banana", NOW_NS)
    assert "'5 minutes ago', 'yesterday' or 'now', or an LSN, as an integer" in str(caught.value)
    assert "datetime" not in str(caught.value)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (timedelta.max, FIRST),
        (timedelta.min, LAST),
        ("999999999 weeks ago", FIRST),
        (f"{'9' * 400} seconds ago", FIRST),
        ("0001-01-01T00:00+05:00", FIRST),
    ],
)
def test_a_time_before_or_after_all_others_is_the_first_or_the_last_one(
    when: object, expected: datetime
) -> None:
    found = moment(when, NOW_NS)
    assert isinstance(found, AtTime)
    assert as_datetime(found.time_ns) == expected


def test_a_time_is_shown_in_utc() -> None:
    assert as_datetime(NOW_NS + 1_999) == NOW + timedelta(microseconds=1)
