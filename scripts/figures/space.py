"""What history takes of a disk, and how often it is written."""

from __future__ import annotations

from scripts.figures.figure import Bound, Figure, Sizes, judge
from scripts.figures.life import LIVES


def _space(name: str, records: int, factor: float, sizes: Sizes) -> Figure:
    lived = LIVES.get(records, sizes)
    return judge(
        name, f"files of a segment with {records:,} records, nothing collected", "MiB",
        (lived.log_bytes + lived.layer_bytes) / (1 << 20),
        "what was written to pages", lived.user_bytes / (1 << 20), Bound(factor, at_least=False),
    )  # fmt: skip


def space(sizes: Sizes) -> Figure:
    """After a history."""
    return _space("space", sizes.history, 1.6, sizes)


def space_long(sizes: Sizes) -> Figure:
    """After a long one, in which a page has more images."""
    return _space("space-long", sizes.long_history, 2.3, sizes)


def _layer_writes(name: str, records: int, factor: float, sizes: Sizes) -> Figure:
    lived = LIVES.get(records, sizes)
    return judge(
        name, f"layers written for {records:,} records", "MiB",
        lived.layer_bytes_written / (1 << 20),
        "what was written to pages", lived.user_bytes / (1 << 20), Bound(factor, at_least=False),
    )  # fmt: skip


def layer_writes(sizes: Sizes) -> Figure:
    """What folds and merges write."""
    return _layer_writes("layer-writes", sizes.history, 4.5, sizes)


def layer_writes_long(sizes: Sizes) -> Figure:
    """The same over a long history, whose layers have another tier."""
    return _layer_writes("layer-writes-long", sizes.long_history, 6.0, sizes)
