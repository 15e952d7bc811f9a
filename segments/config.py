"""Limits and intervals of a segment. Everything a segment keeps or repeats is bounded here."""

from __future__ import annotations

from typing import Any

import attrs

from segments.protocol.errors import InvalidConfig


def at_least(minimum: float) -> Any:
    """An attrs validator: a number that is not below ``minimum``; raises `InvalidConfig`."""

    def check(_: object, attribute: attrs.Attribute[float], value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= minimum:
            raise InvalidConfig(f"{attribute.name} is {value!r}: expected a number >= {minimum}")

    return check


def whole_number(minimum: int) -> Any:
    """An attrs validator: an integer that is not below ``minimum``; raises `InvalidConfig`."""

    def check(_: object, attribute: attrs.Attribute[int], value: object) -> None:
        if type(value) is not int or value < minimum:
            raise InvalidConfig(f"{attribute.name} is {value!r}: expected an integer >= {minimum}")

    return check


@attrs.frozen(kw_only=True)
class SegmentConfig:
    """One segment's settings; sizes in bytes, times in seconds."""

    receive_limit: int = attrs.field(default=64, validator=whole_number(1))
    """Messages handled before their replies are sent."""
    queue_bytes: int = attrs.field(default=32 << 20, validator=whole_number(64 << 10))
    """Input that may wait for the disk; more is dropped and comes again."""
    write_bytes: int = attrs.field(default=4 << 20, validator=whole_number(64 << 10))
    """Most that one write and sync carries."""
    unlinked_limit: int = attrs.field(default=65_536, validator=whole_number(1))
    """Records kept above a gap; the others come again."""
    image_interval: int = attrs.field(default=64, validator=whole_number(1))
    """Records of a page between two images that are kept of it."""
    image_cache_bytes: int = attrs.field(default=64 << 20, validator=whole_number(0))
    """Images beyond each page's newest and its base."""
    coalesce_records: int = attrs.field(default=500, validator=whole_number(1))
    """Records folded into images in one turn of background work. Turns follow each other without a
    pause, other work in between, until it has caught up."""
    tick_interval_s: float = attrs.field(default=0.05, validator=at_least(0.001))
    """Time between two rounds of background work."""
    gossip_interval_s: float = attrs.field(default=0.25, validator=at_least(0.001))
    """Mean time between two messages to a peer; each interval is drawn from half to one and a
    half."""
    gossip_bytes: int = attrs.field(default=256 << 10, validator=whole_number(16 << 10))
    """Records or pages in one gossip message, and in one answer to a recovering writer."""
    hydration_timeout_s: float = attrs.field(default=5.0, validator=at_least(0.001))
    """Time after which a transfer of pages that stopped is given up, to start with another peer."""
    list_pages: int = attrs.field(default=4_096, validator=whole_number(1))
    """Pages looked at for one part of a list of the pages that exist."""
    collect_records: int = attrs.field(default=1_024, validator=whole_number(1))
    """Records that must be collectable before a turn of collection is worth its cost."""
    compact_bytes: int = attrs.field(default=4 << 20, validator=whole_number(4 << 10))
    """Size of the log below which it is never rewritten."""
    compact_records: int = attrs.field(default=100_000, validator=whole_number(1))
    """The log is rewritten when it holds this many records that have been collected ..."""
    compact_ratio: float = attrs.field(default=2.0, validator=at_least(1.1))
    """... or when it is this many times as large as what it must hold."""
    scrub_interval_s: float = attrs.field(default=1.0, validator=at_least(0.001))
    """Time between two pieces of the log that are read again and checked."""
    scrub_bytes: int = attrs.field(default=1 << 20, validator=whole_number(4 << 10))
    """Size of such a piece; a larger frame is read whole."""
    storage_retry_s: float = attrs.field(default=0.1, validator=at_least(0.001))
    """Pause after the disk refused a write."""
