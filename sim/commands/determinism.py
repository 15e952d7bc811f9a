"""The command ``check-determinism``: the same run in two processes, event by event.

Both have a hash seed of their own, so that whatever depends on the order of a set, on `hash` or on
addresses in memory differs between them. Each writes down every event of its trace; the first that
is not the same is named, as it is in both.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import attrs
import click

from sim.commands.case import case_options, open_case
from sim.commands.exit_codes import HELP, VIOLATION
from sim.run import Run
from sim.story.difference import Difference, first_difference
from sim.wording import counted, say

HASH_SEEDS: Final = ("1", "2")
_KEPT: Final = 1 << 16
"""Of an event that is longer, so many bytes and a hash are compared."""
_DIGEST_BYTES: Final = 8
_HEAD: Final = struct.Struct(f">I{_DIGEST_BYTES}s")
_CHILD: Final = "from sim.commands.determinism import run_child; run_child()"


@attrs.frozen
class Comparison:
    """What two processes did."""

    events: int
    """Those that are the same in both."""
    difference: Difference | None
    """The first event that differs; None if there is none."""
    digest: str


def compare(arguments: Sequence[str], *, prelude: str = "") -> Comparison:
    """Run a case in two processes.

    ``arguments`` are seed, name and bug, each of which may be empty, and knobs to be turned.
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
    events = 0

    def counted_events(path: Path) -> Iterator[bytes]:
        nonlocal events
        for event in _events_of(path):
            events += 1
            yield event

    found = first_difference(counted_events(paths[0]), _events_of(paths[1]))
    return Comparison(events if found is None else found.events, found, digest)


def _events_of(path: Path) -> Iterator[bytes]:
    """The events in a file of `run_child`; what was cut off an event is compared by its hash."""
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            length, digest = _HEAD.unpack(head)
            event = file.read(length)
            yield event if length < _KEPT else event + digest


def run_child() -> None:
    """Run one case; write every event to a file: a length, a hash, and its beginning."""
    path, seed, name, bug, *knobs = sys.argv[1:]
    case = open_case(int(seed) if seed else None, name or None, bug or None, knobs)
    with Path(path).open("wb") as file:

        def write(event: bytes) -> None:
            kept = event[:_KEPT]
            file.write(_HEAD.pack(len(kept), blake2b(event, digest_size=_DIGEST_BYTES).digest()))
            file.write(kept)

        def listen(run: Run) -> None:
            run.world.trace.sink = write

        click.echo(case.run(listen).digest)


@click.command("check-determinism", epilog=HELP)
@case_options
def command(seed: int | None, name: str | None, bug: str | None, knobs: tuple[str, ...]) -> None:
    """Run a seed in two processes with different hash seeds, and compare every event.

    The seed is 0 if nothing else is said. The first event that differs is named; exit code 1 then.
    """
    if seed is None and name is None:
        seed = 0
    case = open_case(seed, name, bug, knobs)
    say(f"{case.source}: two processes, PYTHONHASHSEED {' and '.join(HASH_SEEDS)}")
    found = compare(["" if seed is None else str(seed), name or "", bug or "", *knobs])
    if found.difference is None:
        say(f"the same {counted(found.events, 'event')} in both, digest {found.digest}")
        return
    one, other = (f"PYTHONHASHSEED={each}" for each in HASH_SEEDS)
    say("\n".join(found.difference.lines((one, other))))
    sys.exit(VIOLATION)
