"""One case under every command: expectations are judged alike, and files are not overwritten."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from sim.commands.case import open_case
from sim.commands.cli import cli
from sim.files import recording, scenario
from sim.files.expectations import AtLeast, Ends, Flow
from sim.run import Verdict

OUTAGE = """
seed = 5
[knobs]
duration = "300ms"
liveness = "20s"
[workload]
clients = 3
operations = 60
[[action]]
at = "50ms"
fault = "crash"
target = "az1,C"
[[action]]
at = "60ms"
fault = "slow"
target = "F"
{more}
"""
GOES_ON = '[[expect]]\nmin_commits = 2\n[[expect]]\nwrites = "go on"\nmax_stall = "20ms"\n'


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments], standalone_mode=False)


def code_of(result: Result) -> int:
    """A command exits, or returns its code."""
    if isinstance(result.exception, SystemExit):
        return int(result.exception.code or 0)
    assert result.exception is None, result.exception
    return result.return_value or 0


@pytest.fixture
def outage(tmp_path: Path) -> Path:
    return write(tmp_path, GOES_ON)


def write(directory: Path, more: str, name: str = "outage.toml") -> Path:
    path = directory / name
    path.write_text(OUTAGE.format(more=more))
    return path


# ---- expectations --------------------------------------------------------------------------------


def test_a_missed_expectation_is_a_violation_whoever_runs_it(tmp_path: Path, outage: Path) -> None:
    path = tmp_path / "outage.jsonl"
    result = open_case(None, str(outage), None).run()
    assert (result.verdict, result.invariant) == (Verdict.VIOLATION, "expectation")
    assert result.finding.startswith(
        "expected writes go on, 0.0000 s to 0.3000 s, stalls up to 20.0 ms"
    )
    for command in (["run", outage], ["record", outage, "-o", path], ["replay", path]):
        ran = invoke(*command)
        assert code_of(ran) == 1, command
        assert "expectation" in ran.output, command
    assert recording.load(path).expectations == open_case(None, str(outage), None).expectations


def test_a_run_that_acknowledged_nothing_is_undecided_whoever_runs_it(tmp_path: Path) -> None:
    path = tmp_path / "reads.toml"
    path.write_text(OUTAGE.format(more="").replace("[workload]", "[workload]\nwrite_share = 0"))
    for command in (["run", path], ["record", path, "-o", tmp_path / "r"], ["shrink", path]):
        ran = invoke(*command)
        assert code_of(ran) == 4 and "nothing was acknowledged" in ran.output, command


@pytest.mark.parametrize("dump", [{}, {"indent": None, "separators": (" , ", " : ")}])
def test_a_recording_whose_header_was_reformatted_is_still_one(
    tmp_path: Path, outage: Path, dump: dict[str, object]
) -> None:
    path = tmp_path / "spaced.jsonl"
    invoke("record", outage, "-o", path)
    lines = path.read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]), **dump)  # type: ignore[arg-type]
    path.write_text("\n".join(lines))
    assert recording.is_recording(path)
    assert code_of(invoke("replay", path)) == 1


def test_what_shrink_writes_misses_the_same_expectation(tmp_path: Path, outage: Path) -> None:
    small = tmp_path / "small.toml"
    ran = invoke("shrink", outage, "-o", small, "--runs", 120)
    assert code_of(ran) == 1, ran.output
    found = scenario.load(small)
    flow = Flow(writes=True, how="go on", from_ns=0, until_ns=300_000_000, max_stall_ns=20_000_000)
    assert found.expectations == (flow,)
    schedule = found.schedule()
    # The crash is to blame, and somebody has to wait for it to show.
    assert schedule.operations and "crash" in {each.kind for each in schedule.actions}
    assert len(schedule.operations) + len(schedule.actions) < 30
    # And it misses it in the same way, by a stall, though not to be answered would do as well.
    assert flow.judge(open_case(None, str(small), None).run()).way == "stalled"
    again = invoke("run", small)
    assert code_of(again) == 1 and "VIOLATION  expectation" in again.output


def test_calls_are_not_taken_away_from_an_expectation_that_counts_them(tmp_path: Path) -> None:
    recover = '[[action]]\nat = "100ms"\nfault = "recover"\n'
    result = open_case(None, str(write(tmp_path, recover)), None).run()
    more = result.commits + 1
    assert sum(each.operation.kind == "put" for each in result.calls) >= more
    path = write(tmp_path, f"{recover}[[expect]]\nmin_commits = {more}\n")
    small = tmp_path / "small.toml"
    assert code_of(invoke("shrink", path, "-o", small, "--runs", 10)) == 1
    left = scenario.load(small)
    assert left.expectations == (AtLeast("commits", more),)
    assert sum(each.kind == "put" for each in left.operations) >= more


def test_a_failure_that_is_expected_passes_but_can_be_looked_into(tmp_path: Path) -> None:
    ends = '[[expect]]\nverdict = "violation"\ninvariant = "ack-after-sync"\n'
    path = write(tmp_path, ends)
    bug, recorded = ("--bug", "ack-before-persist"), tmp_path / "r.jsonl"
    assert code_of(invoke("run", path, *bug)) == 0
    assert code_of(invoke("record", path, *bug, "-o", recorded)) == 0
    replayed = invoke("replay", recorded)
    assert code_of(replayed) == 0 and "the scenario expects that" in replayed.output
    result = open_case(None, str(path), bug[1]).run()
    assert (result.verdict, result.invariant) == (Verdict.VIOLATION, "ack-after-sync")
    small = tmp_path / "small.toml"
    assert code_of(invoke("shrink", path, *bug, "-o", small, "--runs", 60)) == 1
    assert scenario.load(small).expectations == ()
    # Without the bug the failure does not come, and that is one.
    result = open_case(None, str(path), None).run()
    assert (result.verdict, result.invariant) == (Verdict.VIOLATION, "expectation")
    assert result.finding == "expected ends as violation of ack-after-sync: found passed"
    assert not Ends(Verdict.VIOLATION).judge(result).met


# ---- files ---------------------------------------------------------------------------------------


@pytest.fixture
def passing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write(tmp_path, "", "passing.toml")


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        ("run passing.toml --trace T", "notes.md"),
        ("record passing.toml -o T", "notes.md"),
        ("shrink passing.toml -o T", "notes.md"),
        ("run passing.toml --trace T --force", "passing.toml"),
        ("record passing.toml -o T --force", "passing.toml"),
        ("shrink passing.toml -o T --force", "./passing.toml"),
        ("shrink passing.toml -o T --force", "link.toml"),
    ],
)
def test_a_file_is_not_overwritten(passing: Path, arguments: str, target: str) -> None:
    Path("notes.md").write_text("of worth")
    Path("link.toml").symlink_to(passing)
    before = Path(target).read_text()
    ran = invoke(*arguments.replace("T", target).split())
    assert isinstance(ran.exception, click.UsageError)
    expected = "--force to replace it" if target == "notes.md" else "is the input"
    assert expected in ran.exception.message
    assert Path(target).read_text() == before


def test_the_same_line_can_be_typed_twice(tmp_path: Path, outage: Path) -> None:
    for command in (
        ["run", outage, "--trace", tmp_path / "t.jsonl"],
        ["record", outage, "-o", tmp_path / "r.jsonl"],
        ["shrink", outage, "-o", tmp_path / "s.toml", "--runs", 3],
    ):
        for _ in range(2):
            assert code_of(invoke(*command)) == 1


def test_force_replaces_and_a_device_needs_none(passing: Path) -> None:
    Path("notes.md").write_text("of no worth")
    assert code_of(invoke("record", passing, "-o", "notes.md", "--force")) == 0
    assert recording.is_recording(Path("notes.md"))
    assert code_of(invoke("run", passing, "--trace", "/dev/null")) == 0


def test_a_path_with_blanks_is_quoted_in_the_commands_to_type(tmp_path: Path) -> None:
    path = write(tmp_path, GOES_ON, "an outage.toml")
    small = tmp_path / "a small one.toml"
    ran = invoke("shrink", path, "-o", small, "--runs", 20)
    typed = [line for line in ran.output.splitlines() if "python -m" in line]
    assert [shlex.split(line)[-1] for line in typed] == [str(small)] * 2
    assert shlex.split(open_case(3, str(path), None).source) == [str(path), "--seed", "3"]
    assert "'" in invoke("record", path, "-o", tmp_path / "r w").output.splitlines()[-1]
