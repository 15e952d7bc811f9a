"""What must hold of layers (16, 30), beside `sim.check.invariants`.

As there: predicates, which raise `Broken`. `sim.check.layer_checks` holds them when a layer becomes
live, of the bytes that are on the disk then.
"""

from __future__ import annotations

from collections.abc import Sequence

from segments.protocol.ids import Lsn, SegmentId
from segments.protocol.record import Change, RedoRecord
from sim.check.invariants import Broken, holds


@holds("layers-hold-the-log")
def folds_what_is_durable(segment: SegmentId, name: str, end: Lsn, vdl: Lsn) -> None:
    """30: a layer has nothing above ``vdl``, the highest that any writer has had."""
    if end > vdl:
        raise Broken(f"{segment} has {name} with the log up to {end}: the VDL never was above {vdl}")


@holds("layers-hold-the-log")
def has_the_records(
    segment: SegmentId, name: str, found: Sequence[Lsn], expected: Sequence[Lsn]
) -> None:
    """30: a layer has each record of its group between its ends, once, and no other."""
    if sorted(found) != list(expected):
        missing = sorted(set(expected) - set(found))
        surplus = sorted(set(found) - set(expected)) or "none"
        raise Broken(
            f"{segment} has {name} with {len(found)} records: expected {len(expected)}; LSNs "
            f"missing {missing or 'none'}, not its own {surplus}"
        )


@holds("layers-hold-the-log")
def has_the_change(
    segment: SegmentId, name: str, page_id: int, found: Change, record: RedoRecord
) -> None:
    """30: what a layer says of a record is what its writer wrote."""
    expected = Change(record.lsn, record.offset, record.payload)
    if page_id != record.page_id or found != expected:
        raise Broken(
            f"{segment} has {name} with LSN {found.lsn} of page {page_id}, {found.offset} and "
            f"{found.payload[:20]!r}: expected page {record.page_id}, {expected.offset} and "
            f"{expected.payload[:20]!r}"
        )


@holds("layers-hold-the-log")
def has_the_pages(
    segment: SegmentId, name: str, found: Sequence[int], expected: Sequence[int]
) -> None:
    """30: a base layer has each page that was written up to its end, once."""
    if list(found) != list(expected):
        raise Broken(f"{segment} has {name} with pages {found}: expected {expected}")


@holds("layers-hold-the-log")
def tiles_the_log(segment: SegmentId, ends: Sequence[tuple[Lsn, Lsn]]) -> None:
    """30: layers follow each other from the beginning of the log on."""
    last = 0
    for start, end in ends:
        if start != last or end <= start:
            raise Broken(f"{segment} has layers of {ends}: expected each to begin where one ends")
        last = end
