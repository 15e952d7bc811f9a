"""The scenario API, and the scripts in ``scripts/`` that are written against it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import sim
from aurora import cluster
from segments.protocol.errors import Invalid
from sim.bugs import planted
from sim.plan.schedule import SECOND, Knobs
from sim.run import Verdict
from sim.script.api import Scenario, run_scenario
from sim.script.errors import ScriptError
from tests import in_process

ROOT = Path(sim.__file__).parents[1]
SCRIPTS = (
    "az_outage",
    "az_plus_one",
    "gray_segment",
    "lost_disk",
    "recover_under_partition",
    "zombie_writer",
)


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_script_comes_out_as_it_says(name: str, seed: int) -> None:
    module = importlib.import_module(f"scripts.{name}")
    result = run_scenario(module.scenario, seed=seed)
    assert result.passed, result.run.finding
    assert result.run.commits >= 2
    assert len(result.story) >= 5


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_a_dozen_readable_lines(name: str) -> None:
    lines = (ROOT / "scripts" / f"{name}.py").read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("async def scenario"))
    end = lines.index('if __name__ == "__main__":')
    assert len([line for line in lines[start:end] if line]) <= 14


def test_a_script_has_help_and_refuses_what_it_does_not_know() -> None:
    zombie_writer = partial(
        in_process.run, "scripts/zombie_writer.py", cwd=ROOT, env=os.environ.copy()
    )  # fmt: skip
    ran = zombie_writer("--help")
    assert ran.returncode == 0 and b"A writer that was cut off and replaced" in ran.stdout
    for wrong in ("--sed", "-1", "x"):
        ran = zombie_writer(wrong)
        assert (ran.returncode, ran.stdout) == (2, b"") and b"Usage:" in ran.stderr


def test_a_script_tells_its_story_and_exits_with_the_verdict() -> None:
    command = [sys.executable, "-m", "scripts.az_plus_one", "--seed", "7"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("seed 7: A zone and one more segment fail")
    assert any("writes wait: one is pending for 30 s" in line for line in lines)
    assert lines[-1].startswith("passed: 4 commits")


# ---- the API -------------------------------------------------------------------------------------


def test_a_write_that_goes_on_is_no_write_that_waits() -> None:
    async def scenario(s: Scenario) -> None:
        s.crash("az1")
        await s.writes_wait(for_s=1)

    result = run_scenario(scenario)
    assert (result.run.verdict, result.run.invariant) == (Verdict.VIOLATION, "expectation")
    assert result.run.finding == "a write is ok: expected it to wait 1 s"
    assert "NOT AS EXPECTED" in result.story[-1]


def test_a_write_that_waits_is_no_write_that_goes_on() -> None:
    async def scenario(s: Scenario) -> None:
        s.crash("az1,C")
        await s.writes_go_on(within_s=5)

    result = run_scenario(scenario)
    assert result.run.finding == "a write is pending after 5 s: expected writes to go on"


def test_a_waiting_write_must_finish_when_it_is_said_to() -> None:
    async def scenario(s: Scenario) -> None:
        s.crash("az1,C")
        waiting = await s.writes_wait(for_s=1)
        await waiting.done(within_s=1)

    result = run_scenario(scenario)
    assert "the waiting write is pending after 1 s" in result.run.finding


def test_a_page_must_hold_what_is_expected() -> None:
    async def scenario(s: Scenario) -> None:
        await s.put(1, b"this")
        await s.reads_go_on(1, b"that", within_s=1)

    result = run_scenario(scenario)
    assert result.run.finding == "page 1 begins with b'this': expected b'that'"


def test_a_page_that_was_never_written_is_no_read_that_goes_on() -> None:
    async def scenario(s: Scenario) -> None:
        await s.reads_go_on(1, b"x", within_s=1)

    assert "a read of page 1 is not found" in run_scenario(scenario).run.finding


def test_a_writer_that_is_not_deposed_is_not_fenced() -> None:
    async def scenario(s: Scenario) -> None:
        await s.is_fenced(s.engine)

    assert run_scenario(scenario).run.finding == "a write through writer-1 is ok"


def test_a_volume_that_cannot_be_opened_in_time_is_a_finding() -> None:
    async def scenario(s: Scenario) -> None:
        s.crash("az1,az2")
        await s.open_writer(within_s=3)

    assert run_scenario(scenario).run.finding == "the volume is not open after 3 s"


def test_what_is_still_pending_after_the_world_has_healed_is_a_liveness_failure() -> None:
    async def scenario(s: Scenario) -> None:
        s.wipe("A,B,C")
        await s.writes_wait(for_s=1)

    result = run_scenario(scenario, knobs=Knobs(liveness_ns=5 * SECOND))
    assert result.run.verdict is Verdict.LIVENESS
    assert "1 call pending" in result.run.finding


def test_all_checkers_are_on() -> None:
    async def scenario(s: Scenario) -> None:
        s.crash("az1,C")
        await s.sleep(1)
        await s.put(1, b"on three")

    with planted("third-highest-scl"):
        result = run_scenario(scenario)
    assert result.run.invariant == "pgcl-is-backed"


def test_a_seed_gives_the_same_run_and_another_seed_another() -> None:
    async def scenario(s: Scenario) -> None:
        await s.put(1, b"x")
        s.crash("az2")
        await s.writes_go_on(within_s=1)

    digests = [run_scenario(scenario, seed=seed).run.digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_a_recovery_installs_its_table_without_waiting_for_a_tick() -> None:
    async def scenario(s: Scenario) -> None:
        await s.put(1, b"x")
        s.crash_writer()
        await s.open_writer(within_s=0.01)  # a tick comes every 0.02 s

    result = run_scenario(scenario)
    assert result.passed, result.run.finding


# ---- scripts that are wrong ----------------------------------------------------------------------


WRONG = """
def wrong(s):
    {line}

async def scenario(s):
    await s.put(1, b"x")
    wrong(s)
"""


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("s.crash('Z9')", "fault crash: target: 'Z9' names no segment: expected A0 to"),
        ("s.crash('')", "fault crash: target: target is '': expected A0 to F0"),
        ("s.crash(7)", "target is 7: expected names such as 'az1, C0'"),
        ("s.slow('A', -3)", "factor: found -3: expected a number from 0.01 to 100,000"),
        ("s.slow('A', float('nan'))", "factor: found nan"),
        ("s.partition('A', 'A0')", "others: found 'A0': expected somebody on the other side"),
        ("s.fault('crsh', 'A')", "found 'crsh': did you mean 'crash'?"),
        ("s.fault('recover', factor=2)", "factor: unknown: expected no parameter"),
        ("s.crsh('A')", "AttributeError: 'Scenario' object has no attribute 'crsh'"),
        ("s.crash()", "TypeError: "),
        ("int('x')", "ValueError: invalid literal"),
        (
            "raise ExceptionGroup('two', [ValueError('x'), KeyError('y')])",
            "ValueError: x; line 3: KeyError: 'y'",
        ),
    ],
)
def test_an_error_of_the_script_is_no_finding(line: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    names: dict[str, Any] = {}
    exec(compile(WRONG.format(line=line), str(path), "exec"), names)
    with pytest.raises(ScriptError) as raised:
        run_scenario(names["scenario"])
    found = str(raised.value)
    assert found.startswith(f"{path}, line 3: ") and problem in found
    assert raised.value.__cause__ is not None


def test_a_script_with_an_error_exits_with_2(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    header = "from sim.script.api import Scenario, main\n"
    path.write_text(header + WRONG.format(line="s.crash('Z9')") + "main(scenario)\n")
    ran = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2, ran.stderr
    assert "line 4: fault crash: target: 'Z9' names no segment" in " ".join(ran.stderr.split())
    assert "Traceback" not in ran.stderr


def test_an_assertion_of_the_code_under_test_stays_a_finding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(s: Scenario) -> None:
        await s.put(1, b"x")
        s.crash("A")

    code = compile("def crash(*_): raise AssertionError('of ours')", cluster.__file__, "exec")
    names: dict[str, Any] = {}
    exec(code, names)
    monkeypatch.setattr(cluster.Cluster, "crash", names["crash"])
    result = run_scenario(scenario)
    assert (result.run.verdict, result.run.invariant) == (Verdict.VIOLATION, "system error")


def test_knobs_that_cannot_be_are_refused() -> None:
    async def scenario(s: Scenario) -> None:
        await s.put(1, b"x")

    with pytest.raises(Invalid, match="check_every: found 0: expected 1 to"):
        run_scenario(scenario, knobs=Knobs(check_every=0))
