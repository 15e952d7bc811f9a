"""Writes files of sqllogictest, drawn from a seed: the same seed gives the same files.

What a file expects is what plain SQLite, in memory, says to each statement; so these files do not
test SQLite, but whatever carries it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random
from typing import Final

from scripts.sqllogic.draw import Drawing

THRESHOLD: Final = 6
"""Values above which a file has their hash: it stays small."""


def make(directory: Path, seed: int, files: int, records: int) -> list[Path]:
    """Write the files, and return their paths."""
    made: list[Path] = []
    for number in range(files):
        drawing = Drawing(Random(f"{seed} {number}"))
        text = f"hash-threshold {THRESHOLD}\n\n" + drawing.records(records, THRESHOLD)
        path = directory / f"drawn-{seed}-{number}.test"
        path.write_text(text, encoding="utf-8")
        made.append(path)
    return made


def main() -> int:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--files", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument(
        "--records", type=int, default=600, metavar="N", help="of each; default: 600"
    )
    options = parser.parse_args()
    if not options.directory.is_dir():
        parser.error(f"{options.directory}: expected a directory")
    if options.files < 1 or options.records < 1:
        parser.error("expected one file and one record or more")
    made = make(options.directory, options.seed, options.files, options.records)
    print(f"{len(made)} files, {sum(path.stat().st_size for path in made):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
