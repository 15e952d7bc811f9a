"""Programs whose output has nowhere to go: its reader has left, or the disk is full."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sim.commands import exit_codes
from tests.patience import PATIENCE_S
from tests.repo.sources import ROOT

FULL = Path("/dev/full")
"""A device on which every write fails as on a full disk."""

SCENARIO = """
[knobs]
duration = "50ms"
[workload]
operations = 9
write_share = 1
"""


def ended(*arguments: str | Path, stdout: int, typed: str = "") -> tuple[int, str]:
    """Exit status and standard error of a program of ours."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, input=typed,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=PATIENCE_S,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO)
    return path


def programs(scenario: Path) -> list[tuple[str | Path, ...]]:
    simulator = ("-m", "aurora.sim")
    return [
        (*simulator, "run", scenario),
        (*simulator, "list", "--json"),
        (*simulator, "fleet", "--seeds", "1", "--jobs", "1"),
        (*simulator, "explain", scenario, "--bug", "ack-before-persist"),
        (*simulator, "--help"),
        ("-m", "aurora", "viz-demo", "--delay", "0"),
        ("-m", "aurora", "repl"),
        ("-m", "aurora", "--help"),
    ]


COUNT = len(programs(Path()))


@pytest.mark.parametrize("which", range(COUNT))
def test_a_reader_that_has_left_ends_it_without_a_word(scenario: Path, which: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        status, errors = ended(*programs(scenario)[which], stdout=writing, typed='put 1 0 "x"\n')
    finally:
        os.close(writing)
    assert status == exit_codes.BROKEN_PIPE
    assert not re.search("Error|Traceback|Broken", errors), errors


@pytest.mark.parametrize("which", range(COUNT))
def test_a_full_disk_is_said_and_is_no_pass(scenario: Path, which: int) -> None:
    with FULL.open("w") as full:
        program = programs(scenario)[which]
        status, errors = ended(*program, stdout=full.fileno(), typed='put 1 0 "x"\n')
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
    given = [scenario if each == "SCENARIO" else each for each in arguments]
    status, errors = ended("-m", *given, stdout=subprocess.DEVNULL)
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
