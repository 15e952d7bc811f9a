#!/usr/bin/env python3
"""Measure the engine, each figure beside a limit that is measured in the same run.

    python scripts/bench.py                           # all figures
    python scripts/bench.py memory-commits cold-read  # some
    python scripts/bench.py --quick --json            # smaller sizes, as JSON
    python scripts/bench.py small-records --records 1000000
    python scripts/bench.py sql-import --mib 2048

Limits that are numbers are those of a machine that does nothing else. All sizes together take tens
of minutes: a history of five million records is written three times.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Final

import attrs
from rich.console import Console
from rich.table import Table

from scripts.figures.cloning import clone_space, clone_time
from scripts.figures.commits import file_commits, file_latency, memory_commits, sustained_commits
from scripts.figures.figure import FULL, QUICK, Figure, Sizes
from scripts.figures.foreground import background_steps, foreground_1, foreground_64
from scripts.figures.life import LIVES
from scripts.figures.memory import memory, memory_long
from scripts.figures.opening import opening, opening_log, opening_long, writer_recovery
from scripts.figures.reads import cold_blocks, cold_blocks_collected, cold_read
from scripts.figures.simulated import simulated_messages
from scripts.figures.small_records import small_records
from scripts.figures.space import layer_writes, layer_writes_long, space, space_long
from scripts.figures.sql import inserts_1, inserts_64, mix_1, mix_64, scan_old, select
from scripts.figures.sql_import import imported
from scripts.figures.sql_io import io, io_bytes

FIGURES: Final[dict[str, Callable[[Sizes], Figure]]] = {
    "foreground-64": foreground_64,
    "foreground-1": foreground_1,
    "memory-commits": memory_commits,
    "sustained-commits": sustained_commits,
    "file-commits": file_commits,
    "file-latency": file_latency,
    "memory": memory,
    "memory-long": memory_long,
    "opening": opening,
    "opening-long": opening_long,
    "opening-log": opening_log,
    "writer-recovery": writer_recovery,
    "cold-read": cold_read,
    "cold-blocks": cold_blocks,
    "cold-blocks-collected": cold_blocks_collected,
    "space": space,
    "space-long": space_long,
    "layer-writes": layer_writes,
    "layer-writes-long": layer_writes_long,
    "background-step": background_steps,
    "clone-time": clone_time,
    "clone-space": clone_space,
    "small-records": small_records,
    "simulator": simulated_messages,
    "sql-inserts-64": inserts_64,
    "sql-inserts-1": inserts_1,
    "sql-mix-64": mix_64,
    "sql-mix-1": mix_1,
    "sql-select": select,
    "sql-scan-old": scan_old,
    "sql-io": io,
    "sql-io-bytes": io_bytes,
    "sql-import": imported,
}

_CHOICES: Final = (
    ("--records", "small_records", "for small-records: how many"),
    ("--mib", "sql_import_mib", "for sql-import: of how many MiB"),
)
"""Options that choose a size, by its name."""
_COLUMNS: Final = ("name", "figure", "measured", "limit", "measured", "ratio", "must be", "verdict")
_ABOUT_RATIOS: Final = (
    "ratio: the median of the ratios turn by turn, not that of the two medians shown"
)


def _cells(figure: Figure) -> tuple[str, ...]:
    """The figure as a row of `_COLUMNS`."""
    verdict = {True: "ok", False: "FALLS SHORT", None: "reported"}[figure.holds]
    return (
        figure.name,
        figure.what,
        _amount(figure.value, figure.unit) or "-",
        figure.limit_what,
        _amount(figure.limit, figure.unit),
        "" if figure.ratio is None else f"{figure.ratio:.2f} x",
        figure.bound,
        f"{verdict}; {figure.note}" if figure.note else verdict,
    )


def _amount(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:,.{0 if value >= 100 else 2}f} {unit}"


def report(figures: Sequence[Figure], console: Console) -> None:
    """Print the figures: a table on a terminal, else plain lines."""
    if not console.is_terminal:
        print("; ".join(_COLUMNS))
        for figure in figures:
            print("; ".join(cell or "-" for cell in _cells(figure)))
        print(_ABOUT_RATIOS)
        return
    table = Table(caption=_ABOUT_RATIOS, caption_justify="left")
    for column in _COLUMNS:
        table.add_column(column, no_wrap=column == "name")
    for figure in figures:
        style = "red" if figure.holds is False else ""
        table.add_row(*_cells(figure), style=style)
    console.print(table)


def as_json(figures: Sequence[Figure]) -> str:
    """The figures as a JSON document."""
    values = [attrs.asdict(figure) for figure in figures]
    return json.dumps({"figures": values}, indent=2)


def main(arguments: Sequence[str] | None = None, sizes: Sizes | None = None) -> int:
    """Measure what the command line names. Falling short is reported, and is no failure."""
    parser = argparse.ArgumentParser(description="Measure the engine beside its limits.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(FIGURES)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    for option, name, what in _CHOICES:
        parser.add_argument(option, dest=name, type=int, metavar="N", help=what)
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in FIGURES]
    if unknown:
        parser.error(f"no figure {unknown[0]!r}: expected any of {', '.join(FIGURES)}")
    sizes = sizes or (QUICK if options.quick else FULL)
    for option, name, _ in _CHOICES:
        chosen = getattr(options, name)
        if chosen is not None and chosen < 1:
            parser.error(f"{option} is {chosen}: expected at least 1")
        if chosen is not None:
            sizes = attrs.evolve(sizes, **{name: chosen})
    progress = Console(stderr=True)
    figures = []
    try:
        for name in options.names or FIGURES:
            with progress.status(f"measuring {name}"):
                figures.append(FIGURES[name](sizes))
            line = "; ".join(_cells(figures[-1]))  # of a long run, in case it does not end
            progress.print(line, soft_wrap=True, markup=False, highlight=False)
    finally:
        LIVES.close()
    if options.json:
        print(as_json(figures))
    else:
        report(figures, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
