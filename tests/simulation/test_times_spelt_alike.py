"""One moment is spelt alike in run, shrink, explain and a scenario's story; so is a length."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sim.commands.cli import cli
from sim.durations import format_seconds
from sim.script.api import Scenario, run_scenario

FAILING = """
name = "late"
[knobs]
duration = "400ms"
[workload]
clients = 2
operations = 60
write_share = 1
[[action]]
at = "123456us"
fault = "crash"
target = "A,B,C"
[[expect]]
writes = "go on"
max_stall = "20ms"
"""
CRASH = re.compile(r"^ *0\.1235 s  (?:fault: )?crash A,B,C", re.MULTILINE)
OTHERWISE = re.compile(r"\b\d+(?:\.\d+)?(?:s|ms|us|ns)\b")
"""A number and a unit without a space: as in a file, and nowhere else."""


def printed(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli, [str(each) for each in arguments])
    assert done.exit_code in (0, 1), done.output
    return done.output


def test_a_fault_happens_at_the_same_time_in_every_command(tmp_path: Path) -> None:
    path, smaller = tmp_path / "late.toml", tmp_path / "smaller.toml"
    path.write_text(FAILING)
    run, explained = printed("run", path), printed("explain", path)
    shrunk = printed("shrink", path, "-o", smaller, "--runs", "20")
    assert re.search(r"^  0\.1235 s +crash A,B,C ", run, re.MULTILINE)
    assert CRASH.search(explained)
    assert re.search(r"^ *0\.\d{4} s  crash ", shrunk, re.MULTILINE)
    without_knobs = run[run.index("VIOLATION") :]
    for text in (without_knobs, explained, shrunk):
        assert not OTHERWISE.search(text.replace(str(tmp_path), "")), text


def test_a_scenarios_story_spells_it_the_same() -> None:
    async def scenario(s: Scenario) -> None:
        await s.put(1, b"x")
        await s.sleep(0.1)
        s.crash("A")
        await s.writes_go_on(within_s=1)

    story = "\n".join(run_scenario(scenario).story)
    assert re.search(r"^ {3}0\.10\d\d s  fault: crash A$", story, re.MULTILINE)
    assert re.search(
        r"writes go on: one took \d+ (?:us|ms)$|took \d+\.\d+ ms$", story, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (42, "42 s"), (60, "1 min 00 s"), (190, "3 min 10 s"), (7_500, "2 h 05 min")],
)
def test_real_time_is_spelt_with_its_unit_apart(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
