"""Fleets: the same results however they are spread, summed up, stopped in time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner

from segments.protocol.errors import Invalid
from sim.check.marks import MARKS
from sim.commands.canaries import CANARIES, Canaries, canaries_for
from sim.commands.exit_codes import EXIT_CODES
from sim.commands.fleet import SeedWork, command, run_seed
from sim.crews.crew import spread
from sim.crews.processes import LocalCrew
from sim.durations import parse_duration
from sim.run import Verdict
from sim.show.tally import SeedResult, Tally, as_json, report
from sim.wording import say, wrapped
from tests.patience import PATIENCE_S
from tests.seeds import first_seed_that_finds

ROOT = Path(__file__).parents[2]


def passed(seed: int) -> SeedResult:
    return SeedResult(
        seed=seed, verdict=Verdict.PASSED, invariant="", finding="", digest=f"{seed:016x}",
        messages=100, commits=10, virtual_ns=10**9, cpu_s=0.5,
        marks={"writer fenced": 2}, checks={"history": 5},
    )  # fmt: skip


def test_processes_change_nothing_but_the_time() -> None:
    work = SeedWork()
    spread_out = [each for each in spread(iter([2, 9]), work, LocalCrew(2, work)) if each]
    assert sorted(each.item for each in spread_out) == [2, 9]
    by_seed = {each.item: each.result for each in spread_out}
    for seed in (2, 9):
        alone = run_seed(seed)
        assert attrs.evolve(by_seed[seed], cpu_s=0.0) == attrs.evolve(alone, cpu_s=0.0)
        assert alone.verdict is Verdict.PASSED and alone.commits


class DiesAtThree(SeedWork):
    """Ends its process with seed 3."""

    def __call__(self, seed: int) -> SeedResult:
        if seed == 3:
            os._exit(9)
        return passed(seed)


def test_a_process_that_dies_takes_its_own_seed_along_only() -> None:
    work = DiesAtThree()
    found = [each.result for each in spread(iter(range(6)), work, LocalCrew(2, work)) if each]
    assert sorted(each.seed for each in found) == list(range(6))
    dead = [each for each in found if each.verdict is not Verdict.PASSED]
    assert [(each.seed, each.verdict) for each in dead] == [(3, Verdict.INTERNAL)]
    assert dead[0].finding == "seed 3 has ended the process that ran it"


def test_a_tally_sums_up_and_names_what_no_seed_reached() -> None:
    tally = Tally()
    for seed in (3, 1):
        tally.add(passed(seed))
    assert (tally.seeds, tally.commits, tally.messages) == (2, 20, 200)
    assert tally.marks["writer fenced"] == 4 and tally.seeds_with["writer fenced"] == 2
    assert tally.unreached() == [name for name in MARKS if name != "writer fenced"]
    assert EXIT_CODES[tally.verdict] == 0
    other = Tally()
    for seed in (1, 3):
        other.add(passed(seed))
    assert other.digest == tally.digest
    text = report(tally, 60.0, None)
    assert "200 messages/s and core" in text and "2.00 to 1" in text and "no findings" in text
    lost = attrs.evolve(
        passed(8),
        verdict=Verdict.LIVENESS,
        invariant="deadlock",
        finding="deadlock at 5 ns\n and so on",
    )
    tally.add(lost)
    assert EXIT_CODES[tally.verdict] == 3
    tally.add(attrs.evolve(lost, seed=9, verdict=Verdict.VIOLATION, invariant="history"))
    assert EXIT_CODES[tally.verdict] == 1
    text = report(tally, 60.0, "no-fencing")
    assert "python -m aurora.sim explain --seed 8 --bug no-fencing" in text
    assert "python -m aurora.sim shrink --seed 9 --bug no-fencing -o seed-9.toml" in text
    assert "deadlock at 5 ns" in text and "and so on" not in text


def test_the_report_counts_in_words_and_fits() -> None:
    tally = Tally()
    tally.add(attrs.evolve(passed(1), virtual_ns=1_234_567_890, cpu_s=0.37))
    text = report(tally, 1.0, "lal-ignored")
    assert text.startswith("1 seed in 1 s: 1 passed\n")
    assert "1.23 s simulated in 0.37 s: 3.34 to 1" in text
    assert text.endswith("run lal-ignored.toml") and "bugs scenario lal-ignored >" in text
    for seed in range(20, 32):
        tally.add(attrs.evolve(passed(seed), verdict=Verdict.VIOLATION, invariant="history"))
    text = report(tally, 1.0, None)
    assert "1 passed, 12 violations" in text and "12 findings:" in text
    numbers = ", ".join(map(str, range(20, 32)))
    assert f"\n  violation, history: seeds {numbers}\n" in text
    for seed in range(40, 100):
        tally.add(attrs.evolve(passed(seed), verdict=Verdict.VIOLATION, invariant="history"))
    assert ", 77 and 22 more\n" in report(tally, 1.0, None)
    assert text.count("aurora.sim explain") == text.count("aurora.sim shrink") == 1
    lines = wrapped(text).splitlines()
    assert max(len(line) for line in lines if "python -m" not in line) <= 80


def test_the_report_is_json_for_programs() -> None:
    done = CliRunner().invoke(command, ["--seeds", "1", "--start", "2", "--jobs", "1", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["seeds"] == 1 and found["verdicts"] == {"passed": 1} and found["findings"] == []
    assert found["digest"] and set(found["marks"]) | set(found["unreached_marks"]) == set(MARKS)


def test_a_fleet_that_ran_nothing_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert EXIT_CODES[Tally().verdict] == 4
    assert "no seed was run" in report(Tally(), 1.0, None)
    monkeypatch.setattr("sim.commands.fleet.spread", lambda *_: (n for n in range(0)))
    assert CliRunner().invoke(command, ["--seeds", "3"]).exit_code == 4


def test_findings_of_one_kind_stand_together_and_wrap_at_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally()
    long = "page 4 at 17 is durable at a write quorum of four and not to be found " * 3
    for seed, invariant in ((1, "history"), (2, "deadlock"), (3, "history")):
        violation = attrs.evolve(passed(seed), verdict=Verdict.VIOLATION, invariant=invariant)
        tally.add(attrs.evolve(violation, finding=f"{long}{seed}"))
    text = report(tally, 1.0, None)
    assert "violation, history: seeds 1, 3\n" in text
    assert "violation, deadlock: seed 2\n" in text
    assert f"{long}1" in text and f"{long}3" not in text
    say(text)
    assert capsys.readouterr().out == text + "\n"  # as it is in a pipe
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    say(text)
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines() if "python -m" not in line) <= 60
    assert shown.split() == text.split()


def test_a_planted_bug_is_reported_with_what_to_type_next() -> None:
    seed = first_seed_that_finds("third-highest-scl")
    found = run_seed(seed, "third-highest-scl")
    assert (found.verdict, found.invariant) == (Verdict.VIOLATION, "pgcl-is-backed")
    assert run_seed(seed).verdict is Verdict.PASSED


def test_the_fastest_seed_of_each_kind_is_the_one_to_look_at() -> None:
    tally = Tally()
    for seed, messages, virtual_ns in ((1, 50, 7), (2, 40, 9), (3, 40, 8), (4, 40, 8)):
        found = attrs.evolve(passed(seed), messages=messages, virtual_ns=virtual_ns)
        tally.add(attrs.evolve(found, verdict=Verdict.VIOLATION, invariant="history"))
    text = report(tally, 1.0, None, ["--knob", "latency=5ms"])
    assert "the fastest: seed 3, after 40 messages and 8 ns" in text
    assert "explain --seed 3 --knob latency=5ms\n" in text
    assert as_json(tally, 1.0, None)["fastest"] == [3]


def test_a_canary_is_found_or_the_silence_of_a_fleet_means_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    canary = run_seed(2, canaries=Canaries(start=2)).canary
    assert canary is not None and (canary.bug, canary.invariant) == (CANARIES[0], "pgcl-is-backed")
    assert Canaries(start=1, every=2).beside(2) is None
    monkeypatch.setattr("sim.commands.canaries.TRIES", 1)
    monkeypatch.setattr("sim.commands.canaries.CANARIES", ("lal-ignored",))
    silent = Canaries(start=2).beside(2)
    tally = Tally()
    for seed in (2, 202):
        tally.add(attrs.evolve(passed(seed), canary=attrs.evolve(canary, first_seed=seed)))
    assert EXIT_CODES[tally.verdict] == 0
    text = report(tally, 1.0, None)
    assert f"canary {CANARIES[0]}: found at seed {canary.found_by} by pgcl-is-backed" in text
    assert "2 times of 2" in text and "CANARY" not in text
    tally.add(attrs.evolve(passed(9), canary=silent))
    assert EXIT_CODES[tally.verdict] == 4
    assert "CANARY NOT FOUND: lal-ignored" in report(tally, 1.0, None)
    assert as_json(tally, 1.0, None)["canaries_missed"] == 1


@pytest.mark.parametrize(
    ("wanted", "seeds", "budget_s", "some"),
    [
        (None, 199, None, False), (None, 200, None, True), (None, 200, 1.0, True),
        (None, None, 59.0, False), (None, None, 60.0, True), (None, None, None, True),
        (True, 1, None, True), (False, 10**6, None, False),
    ],
)  # fmt: skip
def test_large_fleets_have_canaries_and_small_ones_if_asked(
    wanted: bool | None, seeds: int | None, budget_s: float | None, some: bool
) -> None:
    found = canaries_for(wanted, seeds=seeds, start=0, budget_s=budget_s)
    assert (found is not None) is some


def test_ctrl_c_stops_it_and_still_reports() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "aurora.sim", "fleet", "--seeds", "100000", "--jobs", "1", "--json"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert child.stderr is not None
    assert "/100,000 seeds" in child.stderr.readline()  # it would run for hours
    os.killpg(child.pid, signal.SIGINT)
    output, errors = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 130, errors
    assert json.loads(output)["interrupted"] is True
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("60s", 60), ("5m", 300), ("0.5h", 1800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "0", "5 minutes", "nan", "inf", "1e99h"])
def test_no_durations(text: str) -> None:
    with pytest.raises(Invalid, match="expected seconds"):
        parse_duration(text)
