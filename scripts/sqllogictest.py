"""Plays files of sqllogictest on volumes and on plain SQLite, and compares them with each other.

Each file has a new volume, in memory, and plain SQLite of the same version beside it. The exit
code is 1 if the two differ anywhere, or either from what the file expects; 2 for a file that is
none.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import apsw

from scripts.sqllogic.play import Played, played_file
from scripts.sqllogic.records import Malformed

_SHOWN: Final = 5
"""Differences told of each file."""


def files_of(paths: Iterable[Path]) -> list[Path]:
    """The files named, and those in the directories named."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.rglob("*.test")) if path.is_dir() else [path]
    return found


def tell(played: Played) -> None:
    """Say what came of a file."""
    cut = ", not to its end" if played.cut else ""
    print(f"{played.path}: {played.records:,} records{cut}", flush=True)
    for kind, found in (("differ", played.differ), ("unlike the file", played.unlike_file)):
        for each in found[:_SHOWN]:
            print(f"{kind}: {each}")
        if len(found) > _SHOWN:
            print(f"{kind}: {len(found) - _SHOWN} more")


def main() -> int:
    """Play what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", type=Path, nargs="+", metavar="FILE_OR_DIR")
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS", help="begin no record after this long"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; default: 1")
    options = parser.parse_args()
    files = files_of(options.paths)
    if not files or not all(path.is_file() for path in files):
        parser.error("expected files, or directories with files that end in .test")
    if options.jobs < 1:
        parser.error(f"--jobs is {options.jobs}: expected 1 or more")
    started = time.monotonic()
    deadline = started + (float("inf") if options.budget is None else options.budget)
    done: list[Played] = []
    try:
        with ProcessPoolExecutor(options.jobs) as pool:
            for played in pool.map(partial(played_file, deadline=deadline), files):
                if played.records or not played.cut:
                    done.append(played)
                    tell(played)
    except Malformed as error:
        parser.error(str(error))
    differ = sum(len(each.differ) for each in done)
    unlike = sum(len(each.unlike_file) for each in done)
    print(
        f"{sum(each.records for each in done):,} records "
        f"({sum(each.queries for each in done):,} queries) of {len(done):,} files in "
        f"{time.monotonic() - started:.0f} s, SQLite {apsw.sqlite_lib_version()}: "
        f"{differ:,} differ between the volume and plain SQLite, {unlike:,} from the file"
    )
    return 1 if differ or unlike else 0


if __name__ == "__main__":
    sys.exit(main())
