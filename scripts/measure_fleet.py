#!/usr/bin/env python3
"""Measure a fleet on Dask workers against one in processes of this machine, and kill a worker.

    python scripts/measure_fleet.py                        # five turns of 40 seeds
    python scripts/measure_fleet.py --turns 9 --seeds 100

A scheduler and two workers of one process each, beside two local jobs: the same seeds, in turns,
since machines are noisy. What is judged is the median of the ratios, turn by turn: at least 0.9.
Then one of the workers is killed midway, and every seed must still count once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
BOUND: Final = 0.9
_DASK: Final = (sys.executable, "-m", "dask")
_QUIET: Final = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--host", "127.0.0.1")


def started(directory: str, until: str, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """Start one of Dask's commands; returns it and the line in which it says ``until``."""
    child = subprocess.Popen(
        [*_DASK, *arguments, *_QUIET], cwd=directory, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DASK_TEMPORARY_DIRECTORY": directory},
    )  # fmt: skip
    assert child.stderr is not None
    line = next((line for line in child.stderr if until in line), "")
    if not line:
        raise SystemExit(f"dask {' '.join(arguments)} has ended with {child.wait()}")
    return child, line


@contextmanager
def cluster() -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """A scheduler's address and its two workers."""
    with tempfile.TemporaryDirectory() as directory:
        children: list[subprocess.Popen[str]] = []
        try:
            scheduler, line = started(directory, "Scheduler at:", "scheduler", "--port", "0")
            children.append(scheduler)
            address = line.split()[-1]
            for _ in range(2):
                arguments = ("worker", address, "--nthreads", "1", "--no-nanny")
                children.append(started(directory, "Registered to:", *arguments)[0])
            yield address, children[1:]
        finally:
            for child in reversed(children):
                child.terminate()
                child.communicate()


def begin_fleet(seeds: int, *more: str) -> subprocess.Popen[str]:
    """Begin a fleet that reports as JSON."""
    fleet = ("-m", "aurora.sim", "fleet", "--json", "--seeds", str(seeds))
    return subprocess.Popen(
        [sys.executable, *fleet, *more], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def fleet(seeds: int, *more: str) -> dict[str, Any]:
    """What a fleet reports."""
    output, errors = begin_fleet(seeds, *more).communicate()
    if not output:
        raise SystemExit(errors)
    found: dict[str, Any] = json.loads(output)
    return found


def pace(found: dict[str, Any]) -> float:
    """Seeds a second, from the command's begin to its last result."""
    return float(found["seeds"] / found["wall_s"])


def measured(turns: int, seeds: int, address: str) -> tuple[list[tuple[float, float]], str]:
    """The paces of Dask and of local processes, turn by turn; and the digest of all seeds."""
    pairs, digests = [], set()
    for turn in range(turns):
        wheres = [("--scheduler", address), ("--jobs", "2")]
        found = {where[0]: fleet(seeds, *where) for where in (wheres if turn % 2 else wheres[::-1])}
        digests |= {each["digest"] for each in found.values()}
        pair = (pace(found["--scheduler"]), pace(found["--jobs"]))
        pairs.append(pair)
        print(
            f"turn {turn + 1}: {pair[0]:.2f} seeds/s on two Dask workers, "
            f"{pair[1]:.2f} in two local jobs: {pair[0] / pair[1]:.3f}",
            flush=True,
        )
    if len(digests) != 1:
        raise SystemExit(f"the same seeds came to different ends: {digests}")
    return pairs, digests.pop()


def killed_midway(seeds: int, address: str, worker: subprocess.Popen[str]) -> dict[str, Any]:
    """What a fleet reports that has lost a worker after some of its seeds."""
    running = begin_fleet(seeds, "--scheduler", address)
    assert running.stderr is not None
    for line in running.stderr:  # a line now and then, with how many seeds are done
        if int(line.split("/")[0]) > 0:
            break
    os.kill(worker.pid, signal.SIGKILL)
    output, _ = running.communicate()
    found: dict[str, Any] = json.loads(output)
    return found


def main() -> int:
    """Measure as the command line asks; 0 if what must hold holds."""
    parser = argparse.ArgumentParser(description="Measure a fleet on Dask workers.")
    parser.add_argument("--turns", type=int, default=5, help="how often each is measured")
    parser.add_argument("--seeds", type=int, default=40, help="seeds of one turn")
    asked = parser.parse_args()
    with cluster() as (address, workers):
        fleet(4, "--scheduler", address)  # whose processes are there afterwards, as in any fleet
        pairs, digest = measured(asked.turns, asked.seeds, address)
        ratio = median(dask / local for dask, local in pairs)
        fast = ratio >= BOUND
        print(f"median of the ratios {ratio:.3f}, must be >= {BOUND}: {'ok' if fast else 'MISSED'}")
        found = killed_midway(asked.seeds, address, workers[1])
    once = found["seeds"] == asked.seeds and found["digest"] == digest
    print(
        f"a worker killed midway: {found['seeds']} of {asked.seeds} seeds counted, "
        f"{'each once, with the same digest' if once else 'NOT each once'}"
    )
    return 0 if fast and once else 1


if __name__ == "__main__":
    sys.exit(main())
