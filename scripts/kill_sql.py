"""SIGKILL to a process with a database in files, again and again: is anything lost, or there twice?

Eight sessions insert rows, and transfer euros, in commits of one part and of many; each commit is
reported once it is acknowledged. At a random moment the process is killed, and the next one looks:
``PRAGMA integrity_check``, each acknowledged row is there once, of the others at most what was
under way, accounts have what their entries say, and the past can be read. Then imports are killed:
each leaves an empty database, into which the next import goes, or a whole one.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import trio

from tests.process.sql_kills import Imports, Victim, make_file


def main() -> int:
    """Kill as often as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="default: 200")
    parser.add_argument("--imports", type=int, default=20, metavar="N", help="default: 20")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--directory", type=Path, help="for the volumes, and kept; default: none")
    options = parser.parse_args()
    if options.kills < 0 or options.imports < 0:
        parser.error("expected no kills or more")
    logging.getLogger("aurora").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        if options.kills:
            kill_sessions(directory, Random(options.seed), options.kills)
        if options.imports:
            kill_imports(directory, Random(options.seed), options.imports)
    return 0


def kill_sessions(directory: Path, random: Random, kills: int) -> None:
    """Kill amid commits; raises `AssertionError` for what does not hold."""
    victim = Victim(directory / "volume", random)
    started = time.monotonic()
    while victim.rounds < kills:
        victim.live_and_die()
        if victim.rounds % 20 == 0:
            print(f"{victim.rounds} kills, {len(victim.acknowledged):,} commits", flush=True)
    trio.run(victim.check)
    print(
        f"{kills} kills in {time.monotonic() - started:.0f} s, {victim.openings} of them after the "
        f"opening; {len(victim.acknowledged):,} commits acknowledged, none lost, none twice"
    )


def kill_imports(directory: Path, random: Random, kills: int) -> None:
    """Kill amid imports; raises `AssertionError` for what does not hold."""
    imports = Imports(directory, make_file(directory / "source.db", megabytes=12), random)
    imports.measure()
    for _ in range(kills):
        imports.kill_one()
    print(
        f"{kills} imports killed: {imports.empty} left an empty database ({imports.amid} of them "
        f"with pages of the file in the volume), {imports.whole} were whole"
    )


if __name__ == "__main__":
    sys.exit(main())
