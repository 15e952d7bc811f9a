"""Random statements on a volume and on plain SQLite, seed after seed: the same answers?

Each seed is played on an engine of its own in the simulator's virtual time, with FTS5, R-tree,
savepoints, VACUUM, transactions of many parts, and looks back at earlier commits. A seed that
differs is told with how it ended, and the next one is played; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from tests.sqlite_differ import ENGINES, differ_of


class Played(NamedTuple):
    """What came of one seed."""

    seed: int
    commits: int
    refused: int
    problem: str


def play(seed: int) -> Played:
    """One seed, on the engine that it falls to."""
    try:
        differ = differ_of(seed, ENGINES[seed % len(ENGINES)])
    except Exception:  # noqa: BLE001 - told, with the seed
        return Played(seed, 0, 0, traceback.format_exc())
    return Played(seed, len(differ.commits), differ.failures, "")


def main() -> int:
    """Play the seeds that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=300, metavar="N", help="default: 300")
    parser.add_argument("--first", type=int, default=6, metavar="N", help="default: 6")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; default: 1")
    options = parser.parse_args()
    if options.seeds < 1 or options.first < 0 or options.jobs < 1:
        parser.error("expected one seed and one process or more, and a first seed from 0 on")
    started = time.perf_counter()
    done: list[Played] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for played in pool.map(play, range(options.first, options.first + options.seeds)):
            done.append(played)
            if played.problem:
                print(f"seed {played.seed}:\n{played.problem}", flush=True)
            elif len(done) % 20 == 0:
                print(f"{len(done)} of {options.seeds} seeds", flush=True)
    bad = [each.seed for each in done if each.problem]
    print(
        f"{len(done)} seeds in {time.perf_counter() - started:.0f} s: "
        f"{sum(each.commits for each in done):,} commits looked back at, "
        f"{sum(each.refused for each in done):,} statements that both refused; "
        + (f"DIFFERENT: {', '.join(map(str, bad))}" if bad else "no difference")
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
