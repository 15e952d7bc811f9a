"""The command ``check-determinism``: the same run in two processes, event by event.

Both have a hash seed of their own, so that whatever depends on the order of a set, on `hash` or on
addresses in memory differs between them. Each writes down every event of its trace; the first that
is not the same is named.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import attrs
import click

from sim.commands.case import case_options, open_case
from sim.commands.exit_codes import HELP, VIOLATION
from sim.run import Run
from sim.wording import counted, say

HASH_SEEDS: Final = ("1", "2")
_SHOWN: Final = 160
_CHILD: Final = "from sim.commands.determinism import run_child; run_child()"


@attrs.frozen
class Comparison:
    """What two processes did."""

    events: int
    """Those that are the same in both."""
    before: str
    """The last of those."""
    diverging: tuple[str, str] | None
    """The first event that differs, in each process; None if there is none."""
    digest: str


def compare(arguments: Sequence[str], *, prelude: str = "") -> Comparison:
    """Run the case of ``arguments`` (seed, name and bug, each may be empty) in two processes.

    ``prelude`` is Python that each of them executes first. Raises `subprocess.CalledProcessError`
    if one fails.
    """
    with TemporaryDirectory() as directory:
        paths = [Path(directory) / seed for seed in HASH_SEEDS]
        children = [
            _start(seed, path, arguments, prelude)
            for seed, path in zip(HASH_SEEDS, paths, strict=True)
        ]
        outputs = [child.communicate() for child in children]
        for child, (_, errors) in zip(children, outputs, strict=True):
            if child.returncode:
                raise subprocess.CalledProcessError(child.returncode, child.args, stderr=errors)
        return _compare_files(paths, outputs[0][0].strip())


def _start(seed: str, path: Path, arguments: Sequence[str], prelude: str) -> subprocess.Popen[str]:
    source = str(Path(__file__).resolve().parents[2])
    known = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": source if not known else f"{source}{os.pathsep}{known}",
    }
    return subprocess.Popen(
        [sys.executable, "-c", f"{prelude}\n{_CHILD}", str(path), *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _compare_files(paths: Sequence[Path], digest: str) -> Comparison:
    events, before = 0, ""
    with paths[0].open() as one, paths[1].open() as other:
        for left, right in zip_longest(one, other, fillvalue="nothing more\n"):
            if left != right:
                return Comparison(events, before, (left.strip(), right.strip()), digest)
            events, before = events + 1, left.strip()
    return Comparison(events, before, None, digest)


def run_child() -> None:
    """Run one case; write every event to a file, one to a line: its beginning and its hash."""
    path, seed, name, bug = sys.argv[1:]
    case = open_case(int(seed) if seed else None, name or None, bug or None)
    with Path(path).open("w", encoding="ascii") as file:

        def write(event: bytes) -> None:
            shown = repr(event[:_SHOWN])[2:-1]
            file.write(f"{shown} #{blake2b(event, digest_size=8).hexdigest()}\n")

        def listen(run: Run) -> None:
            run.world.trace.sink = write

        click.echo(case.run(listen).digest)


@click.command("check-determinism", epilog=HELP)
@case_options
def command(seed: int | None, name: str | None, bug: str | None) -> None:
    """Run a seed in two processes with different hash seeds, and compare every event.

    The seed is 0 if nothing else is said. The first event that differs is named; exit code 1 then.
    """
    if seed is None and name is None:
        seed = 0
    case = open_case(seed, name, bug)
    say(f"{case.source}: two processes, PYTHONHASHSEED {' and '.join(HASH_SEEDS)}")
    found = compare(["" if seed is None else str(seed), name or "", bug or ""])
    if found.diverging is None:
        say(f"the same {counted(found.events, 'event')} in both, digest {found.digest}")
        return
    say(f"the same so far: {counted(found.events, 'event')}; the last of them:")
    say(f"  {found.before}")
    say("the first that differs:")
    for hash_seed, line in zip(HASH_SEEDS, found.diverging, strict=True):
        say(f"  PYTHONHASHSEED={hash_seed}: {line}")
    sys.exit(VIOLATION)
