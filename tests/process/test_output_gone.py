"""Programs whose output has nowhere to go: its reader has left, or the disk is full."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from sim.commands import exit_codes
from tests import in_process
from tests.patience import PATIENCE_S
from tests.repo.sources import ROOT

FULL = Path("/dev/full")
"""A device on which every write fails as on a full disk."""

Way = Callable[[Iterable[str | Path], int], tuple[int, str]]

SCENARIO = """
[knobs]
duration = "50ms"
[workload]
operations = 9
write_share = 1
"""


TYPED = 'put 1 0 "x"\n'


def ended(program: Iterable[str | Path], stdout: int) -> tuple[int, str]:
    """Exit status and standard error of a program of ours, called in this process."""
    module, *arguments = map(str, program)
    done = in_process.run(
        module, *arguments, cwd=ROOT, env=os.environ.copy(), typed=TYPED.encode(), stdout=stdout
    )  # fmt: skip
    return done.returncode, done.stderr.decode()


def ended_as_process(program: Iterable[str | Path], stdout: int) -> tuple[int, str]:
    """The same of a process of its own, which looks at its buffers once more when it ends."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, program)],
        cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, input=TYPED,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=PATIENCE_S,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO)
    return path


PROGRAMS: dict[str, tuple[str | Path, ...]] = {
    "run": ("aurora.sim", "run", "SCENARIO"),
    "list": ("aurora.sim", "list", "--json"),
    "fleet": ("aurora.sim", "fleet", "--seeds", "1", "--jobs", "1"),
    "explain": ("aurora.sim", "explain", "SCENARIO", "--bug", "ack-before-persist"),
    "help of the simulator": ("aurora.sim", "--help"),
    "walk": ("aurora", "viz-demo", "--delay", "0"),
    "prompt": ("aurora", "repl"),
    "help": ("aurora", "--help"),
}
WAYS = [(ended, each) for each in PROGRAMS] + [
    (ended_as_process, each) for each in ("run", "prompt")
]
"""Each program, and one of either kind as a process, too."""


def given(program: Iterable[str | Path], scenario: Path) -> list[str | Path]:
    return [scenario if each == "SCENARIO" else each for each in program]


@pytest.mark.parametrize(("way", "name"), WAYS)
def test_a_reader_that_has_left_ends_it_without_a_word(scenario: Path, way: Way, name: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        status, errors = way(given(PROGRAMS[name], scenario), writing)
    finally:
        os.close(writing)
    assert status == exit_codes.BROKEN_PIPE
    assert not re.search("Error|Traceback|Broken", errors), errors


@pytest.mark.parametrize(("way", "name"), WAYS)
def test_a_full_disk_is_said_and_is_no_pass(scenario: Path, way: Way, name: str) -> None:
    with FULL.open("w") as full:
        status, errors = way(given(PROGRAMS[name], scenario), full.fileno())
    assert status == exit_codes.OUTPUT_FAILED
    problem = "Error: the output was not written to its end: No space left on device"
    assert errors.splitlines()[-1] == problem
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("aurora.sim", "run", "SCENARIO", "--trace", FULL),
        ("aurora.sim", "record", "SCENARIO", "-o", FULL),
        ("aurora.sim", "shrink", "SCENARIO", "--bug", "ack-before-persist", "-o", FULL),
        ("aurora", "demo", "--trace", FULL),
    ],
)
def test_a_file_that_is_not_written_to_its_end_is_named(
    scenario: Path, arguments: tuple[str | Path, ...]
) -> None:
    with Path(os.devnull).open("w") as nowhere:
        status, errors = ended(given(arguments, scenario), nowhere.fileno())
    assert status == exit_codes.OUTPUT_FAILED
    last = errors.splitlines()[-1]
    assert last == f"Error: {FULL}: not written to its end: No space left on device"
    assert "Traceback" not in errors


@pytest.mark.parametrize("program", ["aurora.sim list", "aurora demo"])
def test_what_is_started_with_its_output_closed_says_so_and_is_no_pass(program: str) -> None:
    for closed, complaint in ((">&-", "standard output is closed"), (">&- 2>&-", "")):
        done = subprocess.run(
            ["sh", "-c", f'"{sys.executable}" -m {program} {closed}'],
            cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 74 and complaint in done.stderr
        assert "Traceback" not in done.stderr
