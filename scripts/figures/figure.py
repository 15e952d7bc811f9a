"""What a figure is, and how much is measured for it.

Machines are noisy, so a figure and its limit are measured in turns, several times. What is shown is
the median of each, and the median of their ratios, turn by turn; only the ratio is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Final, TypeAlias

import attrs

from segments.config import SegmentConfig

PAYLOAD: Final = b"x" * 100


@attrs.frozen(kw_only=True)
class Sizes:
    """How much is measured."""

    turns: int = 5
    writers: int = 64
    memory_commits: int = 6_400
    sustained_records: int = 1_000_000
    file_commits: int = 3_200
    single_commits: int = 150
    cold_reads: int = 200
    short_page_history: int = 10
    long_page_history: int = 10_000
    batches: int = 2_000
    live_pages: int = 10_000
    fold_bytes: int = SegmentConfig().fold_bytes
    history: int = 1_000_000
    long_history: int = 5_000_000
    log_bytes: int = 64 << 20
    memory_records: int = 204_800
    retained_records: int = 200_000
    small_records: int = 200_000
    simulated_seeds: int = 20
    sql_inserts: int = 6_400
    sql_mixes: int = 3_200
    sql_selects: int = 5_000
    sql_scan_rows: int = 40_000
    sql_import_mib: int = 200


FULL: Final = Sizes()
QUICK: Final = Sizes(
    turns=3, memory_commits=1_920, sustained_records=50_000, file_commits=1_280, single_commits=50,
    cold_reads=50, batches=500, live_pages=2_000, history=100_000, long_history=500_000,
    log_bytes=16 << 20, retained_records=20_000, small_records=40_000, simulated_seeds=5,
    sql_inserts=2_560, sql_mixes=1_280, sql_selects=2_000, sql_scan_rows=20_000, sql_import_mib=40,
)  # fmt: skip


@attrs.frozen
class Bound:
    """What the ratio of a figure to its limit must be."""

    factor: float
    at_least: bool

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.factor:g} x"

    def holds(self, ratio: float) -> bool:
        return ratio >= self.factor if self.at_least else ratio <= self.factor


@attrs.frozen
class Figure:
    """One measurement; without a limit it is only reported, without a value it could not be made.

    ``name``, ``what``  what was measured, shortly and in words
    ``unit``            of ``value`` and ``limit``
    ``limit_what``      what the limit is, in words
    ``bound``           what ``ratio`` must be, such as ``>= 1.0 x``
    ``ratio``           median of ``value / limit``, turn by turn
    """

    name: str
    what: str
    unit: str
    value: float | None
    limit_what: str = ""
    limit: float | None = None
    bound: str = ""
    ratio: float | None = None
    holds: bool | None = None
    note: str = ""


Measure: TypeAlias = Callable[[], float]


def compare(
    name: str, what: str, unit: str, limit_what: str, bound: Bound,
    turns: int, engine: Measure, limit: Measure, note: str = "",
) -> Figure:  # fmt: skip
    """Measure the engine and its limit in turns."""
    pairs = [(engine(), limit()) for _ in range(turns)]
    ratio = median(value / against for value, against in pairs)
    value, against = (median(column) for column in zip(*pairs, strict=True))
    return Figure(
        name, what, unit, value, limit_what, against, str(bound), ratio, bound.holds(ratio), note
    )


def judge(
    name: str, what: str, unit: str, value: float, limit_what: str, limit: float,
    bound: Bound | None = None, note: str = "",
) -> Figure:  # fmt: skip
    """A figure beside a limit that is a number: by default it may not be above it."""
    ratio, bound = value / limit, bound or Bound(1.0, at_least=False)
    return Figure(
        name, what, unit, value, limit_what, limit, str(bound), ratio, bound.holds(ratio), note
    )
