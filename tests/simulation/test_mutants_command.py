"""The command `mutants`: processes, verdicts, the journal, the report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

import attrs
import pytest
from click.testing import CliRunner

from segments.protocol.errors import Invalid
from sim.commands.mutant_journal import Header, Journal
from sim.commands.mutant_runner import MutantName, MutantWork, outcome_of, trials
from sim.commands.mutants_command import command
from sim.mutants.equivalents import Equivalent
from sim.mutants.population import population
from sim.mutants.sites import Mutant
from sim.show.mutant_tally import MutantReport, Outcome, Trial, as_json, percent, report
from sim.wording import wrapped
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]


@cache
def mutants_in(module: str) -> list[Mutant]:
    return population([module])[module]


def mutant(where: str, change: str) -> Mutant:
    module = where.partition(":")[0]
    return next(each for each in mutants_in(module) if (each.where, each.change) == (where, change))


ENDLESS: Final = mutant(
    "aurora.commit_queue:CommitQueue.advance", "commits.popleft().settle() => pass"
)
OF_WHAT_MUST_HAPPEN: Final = ("heals-and-converges", "needless-unavailability")
"""By which of them it is found that nothing is ever acknowledged."""
DEAF: Final = mutant("aurora.quorum:QuorumTracker.observe_scl", "scl <= known => scl > known")
RARE: Final = mutant(
    "segments.core:SegmentCore._on_fetch_log",
    "max(message.after_lsn, state.scl) => min(message.after_lsn, state.scl)",
)
UNHEARD: Final = mutant(
    "aurora.quorum:QuorumTracker.observe_scl", "known is None => known is not None"
)


def tried(mutant: Mutant, budget_s: float, hang_s: int = 20) -> Trial:
    (found,) = [
        each
        for each in trials(iter([mutant]), jobs=1, first_seed=5, budget_s=budget_s, hang_s=hang_s)
        if each
    ]
    return found


# ---- in processes of their own -------------------------------------------------------------------


def test_a_mutant_is_found_by_a_seed() -> None:
    found = tried(DEAF, 20.0)
    assert found.outcome is Outcome.FOUND and found.invariant in OF_WHAT_MUST_HAPPEN
    assert (found.seed, found.seeds, found.reached) == (5, 1, True)
    assert found.finding and found.cpu_s is not None and 0 < found.cpu_s < 20


def test_a_mutant_that_works_without_end_is_ended() -> None:
    found = tried(ENDLESS, 20.0, hang_s=1)
    assert (found.id, found.outcome) == (ENDLESS.id, Outcome.HUNG)


def test_what_no_seed_executes_is_never_reached() -> None:
    work = MutantWork(first_seed=5, budget_s=0.01)  # gone with the import
    found = work(MutantName(RARE.module, RARE.id))  # as another machine tries it
    assert found is not None
    assert (found.outcome, found.seeds, found.reached) == (Outcome.UNREACHED, 0, False)


@pytest.mark.parametrize(
    ("code", "given_up", "expected"),
    [
        (-signal.SIGXCPU, False, Outcome.HUNG),
        (-signal.SIGKILL, True, Outcome.HUNG),
        (-signal.SIGSEGV, False, Outcome.CRASHED),
        (1, False, Outcome.CRASHED),
        (-signal.SIGTERM, False, None),  # somebody wants the machine: it shows nothing
    ],
)
def test_a_process_that_says_nothing_is_told_by_its_end(
    code: int, given_up: bool, expected: Outcome | None
) -> None:
    found = outcome_of(DEAF, code, b'{"outco', given_up)
    assert (found.outcome if found else None) == expected


def test_ctrl_c_stops_it_and_still_reports() -> None:
    arguments = ("mutants", "--module", "quorum", "--jobs", "1", "--json")
    child = subprocess.Popen(
        [sys.executable, "-m", "aurora.sim", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert child.stderr is not None
    assert any(
        "not noticed" in line for line in child.stderr
    )  # it has begun, and is busy for a day
    os.killpg(child.pid, signal.SIGINT)
    output, errors = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 130, errors
    assert json.loads(output)["interrupted"] is True
    assert "Traceback" not in errors


def test_one_mutant_as_json(tmp_path: Path) -> None:
    state = tmp_path / "journal.jsonl"
    only = ["--module", "quorum", "--only", DEAF.id]  # all others need not be made for it
    asked = [*only, "--first-seed", "5", "--budget", "20s", "--json"]
    done = CliRunner().invoke(command, [*asked, "--state", str(state)])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["mutants"], found["share"], found["median_seeds"]) == (1, 1.0, 1)
    assert [found["invariants"].get(each, 0) for each in OF_WHAT_MUST_HAPPEN] in ([1, 0], [0, 1])
    assert set(found["outcomes"]) == {each.value for each in Outcome}
    assert list(found["modules"]) == ["aurora.quorum"]
    (trial,) = found["trials"]
    assert trial["id"] == DEAF.id and trial["outcome"] == "found" and trial["seed"] == 5
    assert trial["at"].startswith("aurora/quorum.py:") and trial["change"] == DEAF.change
    again = CliRunner().invoke(command, [*asked, "--state", str(state)])
    assert again.stdout == done.stdout and len(state.read_text().splitlines()) == 2
    other = CliRunner().invoke(command, [*only, "--state", str(state)])
    assert other.exit_code == 2 and "budget_s 20.0" in other.output and "30.0" in other.output


# ---- the journal ---------------------------------------------------------------------------------

HEADER: Final = Header(code="c0de", budget_s=3.0, first_seed=0)
FOUND: Final = Trial(
    id=DEAF.id, outcome=Outcome.FOUND, invariant="history", finding="what\nmore", seed=3, seeds=4
)
SURVIVED: Final = Trial(id=RARE.id, outcome=Outcome.SURVIVED, seeds=7, undecided=2)


def journal(path: Path, *some: Trial) -> None:
    opened = Journal(path, HEADER)
    for each in some:
        opened.add(each)
    opened.close()


def test_a_journal_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal(path, FOUND)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"id": "torn')
    opened = Journal(path, HEADER)
    assert opened.trials == {FOUND.id: FOUND}
    opened.add(SURVIVED)
    opened.close()
    assert path.read_bytes().startswith(whole)
    again = Journal(path, HEADER)
    again.close()
    assert again.trials == {FOUND.id: FOUND, SURVIVED.id: SURVIVED}


@pytest.mark.parametrize(
    "other",
    [
        attrs.evolve(HEADER, code="0ther"),
        attrs.evolve(HEADER, budget_s=4.0),
        attrs.evolve(HEADER, first_seed=1),
    ],
)
def test_a_journal_of_something_else_is_refused(other: Header, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal(path, FOUND)
    before = path.read_bytes()
    with pytest.raises(Invalid, match="journal of") as refused:
        Journal(path, other)
    for value in (*attrs.astuple(HEADER), *attrs.astuple(other)):
        assert str(value) in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["# notes\n", "[1]\n", '{"seed": 7}\n'])
def test_no_other_file_is_taken_for_a_journal(text: str, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Invalid, match="journal"):
        Journal(path, HEADER)
    assert path.read_text(encoding="utf-8") == text


def test_without_a_path_nothing_is_kept() -> None:
    opened = Journal(None, HEADER)
    opened.add(FOUND)
    opened.close()
    assert opened.trials == {FOUND.id: FOUND}


# ---- the report ----------------------------------------------------------------------------------


def sample_report() -> MutantReport:
    entry = Equivalent(where=UNHEARD.where, change=UNHEARD.change, nth=1, why="nobody asks")
    found = {each.id: each for each in (FOUND, SURVIVED)}
    hung = Trial(id=ENDLESS.id, outcome=Outcome.HUNG)
    return MutantReport(
        mutants=[DEAF, RARE, UNHEARD, ENDLESS],
        trials={**found, hung.id: hung},
        equivalents={entry.key: entry},
    )


def test_shares_leave_out_what_is_equivalent() -> None:
    parts, total = sample_report().modules(), sample_report().total()
    assert (parts["aurora.quorum"].mutants, parts["aurora.quorum"].share) == (2, 1.0)
    assert (parts["segments.core"].share, parts["aurora.commit_queue"].share) == (0.0, 1.0)
    assert (total.mutants, total.equivalent, total.share) == (4, 1, 2 / 3)
    assert {name: part.mutants for name, part in sample_report().operators().items()} == {
        "comparison": 2, "min-max": 1, "statement": 1,
    }  # fmt: skip
    assert [percent(each) for each in (None, 0.999, 1.0)] == ["-", "99 %", "100 %"]


def test_the_report_names_survivors_with_their_lines_and_fits() -> None:
    text = report(sample_report())
    assert (
        "noticed 2 of 3 mutants that are not equivalent: 66 % (1 found, 1 hung, 0 crashed)" in text
    )
    assert "found after 4 seeds (median), by: history 1" in text
    assert f"segments/core.py:{RARE.line}  SegmentCore._on_fetch_log  [{RARE.id}]" in text
    assert "4 seeds, by history in seed 3" in text
    assert "7 seeds, 2 undecided" in text and RARE.change in text
    assert "never reached (" not in text
    assert max(map(len, wrapped(text).splitlines())) <= 80
    assert all(len(line) <= 80 for line in text.splitlines()[:5])


def test_the_same_for_programs() -> None:
    found = as_json(sample_report())
    assert found["share"] == 2 / 3 and found["outcomes"]["hung"] == 1
    kinds = {each["id"]: each["outcome"] for each in found["trials"]}
    assert kinds == {
        DEAF.id: "found", RARE.id: "survived", UNHEARD.id: "equivalent", ENDLESS.id: "hung",
    }  # fmt: skip
    assert json.loads(json.dumps(found)) == found


# ---- list and show -------------------------------------------------------------------------------


def test_list_names_every_mutant_and_what_is_left_alone() -> None:
    done = CliRunner().invoke(command, ["list", "--module", "quorum"])
    assert done.exit_code == 0 and f"{DEAF.id}  aurora/quorum.py:{DEAF.line}" in done.output
    assert (
        f"{len(mutants_in('aurora.quorum'))} mutants in 1 module." in done.output
        and "telling onlookers" in done.output
    )
    rows = json.loads(CliRunner().invoke(command, ["list", "--module", "quorum", "--json"]).output)
    assert [each["id"] for each in rows] == [each.id for each in mutants_in("aurora.quorum")]


def test_show_has_the_diff_and_what_to_type_next() -> None:
    done = CliRunner().invoke(command, ["show", DEAF.id])
    assert done.exit_code == 0, done.output
    assert "-        if known is None or scl <= known" in done.output
    assert f"python -m aurora.sim mutants --only {DEAF.id}" in done.output
    assert 'in = "aurora.quorum:QuorumTracker.observe_scl"' in done.output


@pytest.mark.parametrize(
    "arguments", [["show", "nothing"], ["--only", "nothing"], ["--module", "nothing"]], ids=str
)
def test_what_does_not_exist_is_a_usage_error(arguments: list[str]) -> None:
    assert CliRunner().invoke(command, arguments).exit_code == 2
