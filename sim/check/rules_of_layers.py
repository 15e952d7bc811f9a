"""What must hold of layers (16, 22, 23, 30), beside `sim.check.invariants`.

As there: predicates, which raise `Broken`. `sim.check.layer_checks` holds them when a layer becomes
live, of the bytes that are on the disk then, and `sim.check.ending` those of how much there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aurora.terminal.text import show_lsns
from segments.layers.layer import Layer
from segments.protocol.errors import DamagedLayer
from segments.protocol.ids import Lsn, SegmentId
from segments.protocol.record import PAGE_SIZE, Change, RedoRecord
from segments.state import SegmentState
from sim.check.invariants import Broken, holds
from sim.check.sizes import record_bytes

_IMAGE_BYTES: Final = 2 * PAGE_SIZE
"""An image of a page stands where so many bytes of it lie without one, and no sooner."""


@holds("layers-hold-the-log")
def folds_what_is_durable(segment: SegmentId, name: str, end: Lsn, vdl: Lsn) -> None:
    """30: a layer has nothing above ``vdl``, the highest that any writer has had."""
    if end > vdl:
        raise Broken(f"{segment} has {name} with the log up to {end}: no VDL was above {vdl}")


@holds("layers-hold-the-log")
def has_the_records(
    segment: SegmentId, name: str, found: Sequence[Lsn], expected: Sequence[Lsn]
) -> None:
    """30: a layer has each record of its group between its ends, once, and no other."""
    if sorted(found) != list(expected):
        missing = sorted(set(expected) - set(found))
        surplus = sorted(set(found) - set(expected))
        raise Broken(
            f"{segment} has {name} with {len(found)} records: expected {len(expected)}; missing: "
            f"{_shown(missing)}; not its own: {_shown(surplus)}"
        )


def _shown(lsns: Sequence[Lsn]) -> str:
    """``LSN 1–3, LSN 7``."""
    ranges: list[tuple[Lsn, Lsn]] = []
    for lsn in lsns:
        follows = bool(ranges) and ranges[-1][1] + 1 == lsn
        ranges.append((ranges.pop()[0] if follows else lsn, lsn))
    return ", ".join(show_lsns(*each) for each in ranges) or "none"


@holds("layers-hold-the-log")
def has_the_change(
    segment: SegmentId, name: str, page_id: int, found: Change, clock_us: int, record: RedoRecord
) -> None:
    """30: what a layer says of a record is what its writer wrote."""
    expected = Change(record.lsn, record.offset, record.payload)
    if (page_id, clock_us) != (record.page_id, record.clock_us) or found != expected:
        raise Broken(
            f"{segment} has {name} with LSN {found.lsn} of page {page_id}, {found.offset}, "
            f"{found.payload[:20]!r} and clock {clock_us}: expected page {record.page_id}, "
            f"{expected.offset}, {expected.payload[:20]!r} and {record.clock_us}"
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


@holds("disks-are-whole")
def layers_are_whole(segment: SegmentId, damage: Sequence[DamagedLayer]) -> None:
    """22: in the end all layers are what was written: what had rotted was found, and has gone."""
    if damage:
        found = "; ".join(map(str, damage))
        raise Broken(f"the disk of {segment} has damage in layers that nobody has healed: {found}")


# ---- how much there is (23) ----------------------------------------------------------------------


@holds("bounds-are-kept")
def block_fits(segment: SegmentId, name: str, sizes: Sequence[int], limit: int) -> None:
    """23: a block of a layer, with rows of so many bytes, but for an image that leads it.

    The last of them fills it.
    """
    if sum(sizes[:-1]) >= limit:
        raise Broken(
            f"{segment} has {name} with a block of {sum(sizes)} bytes in {len(sizes)} rows: "
            f"expected the last of them to reach {limit}"
        )


@holds("bounds-are-kept")
def log_is_folded(segment: SegmentId, sizes: Sequence[int], limit: int) -> None:
    """23, in the end: what is durable leaves the log; records of so many bytes have not.

    A segment counts with the mean size of a record, and leaves the fraction of a byte out.
    """
    if sum(sizes) - len(sizes) >= limit:
        raise Broken(
            f"{segment} has {sum(sizes)} bytes in its log that are durable: expected less than "
            f"{limit}, and the rest in layers"
        )


@holds("bounds-are-kept")
def layers_are_few(
    segment: SegmentId, layers: Sequence[Layer], unit_bytes: int, fan_out: int
) -> None:
    """23, in the end: few layers are left, on either side of the floor.

    One more than half of what could be if there were ``fan_out - 1`` of each tier, and as of four
    tiers at least. A tier is ``fan_out`` times as large as the one below it.
    """
    sizes = [each.length for each in layers if not each.base]
    tiers = 4
    while unit_bytes * fan_out ** (tiers + 1) <= sum(sizes):
        tiers += 1
    most = 2 * (1 + (fan_out - 1) * tiers // 2)
    if len(sizes) > most:
        raise Broken(
            f"{segment} has {len(sizes)} layers of {sizes} bytes: expected them merged to {most}"
        )


@holds("bounds-are-kept")
def replays_little(
    segment: SegmentId, page_id: int, layer: str, sizes: Sequence[int], interval: int
) -> None:
    """23, in the end: records of a layer, each of so many bytes, that a read of a page applies.

    They lie behind an image, or there is none of the page before them in that layer.
    """
    if len(sizes) >= interval and sum(sizes) >= _IMAGE_BYTES:
        raise Broken(
            f"{segment} replays {len(sizes)} records of {sum(sizes)} bytes for page {page_id}, all "
            f"of {layer}: expected an image behind {interval} of them"
        )


def open_sizes(state: SegmentState, through: Lsn) -> list[int]:
    """What each record takes that is in a log and not in a layer, at or below an LSN."""
    held = (each for each in state.index.held() if each.lsn <= through)
    return [record_bytes(each) for each in held]
