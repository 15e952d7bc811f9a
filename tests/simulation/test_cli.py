"""The command line: what it prints, and with which code it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sim.commands import cli, exit_codes, run_command
from sim.files import scenario
from tests.repo.sources import ROOT

QUICK = """
name = "quick"
seed = 5
[knobs]
duration = "100ms"
liveness = "{liveness}"
pg_count = {groups}
[workload]
clients = 2
operations = 12
write_share = {share}
pages = {pages}
{more}
"""


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    return write(tmp_path)


def write(
    directory: Path,
    *,
    liveness: str = "20s",
    groups: int = 1,
    share: float = 0.8,
    pages: int = 6,
    more: str = "",
) -> Path:
    path = directory / "quick.toml"
    path.write_text(
        QUICK.format(liveness=liveness, groups=groups, share=share, pages=pages, more=more)
    )
    return path


def end_of(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["sim", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_run_that_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quick: Path
) -> None:
    assert end_of(monkeypatch, "run", quick) == exit_codes.PASSED
    shown = capsys.readouterr().out
    assert shown.startswith("seed 5   scenario quick\n")
    assert "\x1b" not in shown
    assert shown.endswith(f"python -m aurora.sim run {quick} --seed 5\n")


def test_the_command_in_the_report_comes_to_the_same_digest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quick: Path
) -> None:
    assert end_of(monkeypatch, "run", quick, "--seed", "9", "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert first["seed"] == 9
    again = first["command"].split()[3:]
    assert again[0] == "run"
    assert end_of(monkeypatch, *again, "--json") == 0
    second = json.loads(capsys.readouterr().out)
    assert (second["digest"], second["knobs"]) == (first["digest"], first["knobs"])


def test_an_unmet_expectation_and_a_planted_bug_are_violations(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = write(tmp_path, more="[[expect]]\nmin_commits = 100")
    assert end_of(monkeypatch, "run", path) == exit_codes.VIOLATION
    assert "VIOLATION  expectation" in capsys.readouterr().out
    path = write(tmp_path)
    assert end_of(monkeypatch, "run", path, "--bug", "ack-before-persist") == exit_codes.VIOLATION
    shown = capsys.readouterr().out
    assert "VIOLATION  ack-after-sync: no acknowledgement" in shown
    assert shown.endswith("--bug ack-before-persist\n")


def test_a_scenario_brings_its_bug_along(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "bug.toml"
    path.write_text('bug = "ack-before-persist"\n' + write(tmp_path).read_text())
    assert end_of(monkeypatch, "run", path, "--json") == exit_codes.VIOLATION
    assert json.loads(capsys.readouterr().out)["bug"] == "ack-before-persist"


def test_json_has_no_time_where_nothing_was_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert end_of(monkeypatch, "run", write(tmp_path, share=0), "--json") == exit_codes.UNDECIDED
    found = json.loads(capsys.readouterr().out)
    assert found["bug"] is None and found["reads"]["p50_ns"] == 0  # answered at once
    assert found["commits"] == {
        "count": 0, "p50_ns": None, "p90_ns": None, "p99_ns": None, "max_ns": None,
    }  # fmt: skip


def test_what_never_comes_right_is_a_liveness_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recover = "[[action]]\nat = '20ms'\nfault = 'recover'\n"
    path = write(tmp_path, liveness="1s", groups=2, pages=1, share=1, more=recover)
    assert end_of(monkeypatch, "run", path, "--bug", "never-settles") == exit_codes.LIVENESS


def test_a_run_that_acknowledged_nothing_is_undecided(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert end_of(monkeypatch, "run", write(tmp_path, share=0)) == exit_codes.UNDECIDED
    assert "nothing was acknowledged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["rum"], "No such command 'rum'"),
        (["run", "--sed", "1"], "No such option '--sed'. Did you mean '--seed'?"),
        (["run", "--seed", "x"], "'x' is not a valid integer."),
        (["run", "quite"], "scenario 'quite': did you mean 'quiet'?"),
        (["run", "none.toml"], "none.toml: cannot be read: No such file or directory"),
        (["run", "--seed", "-1"], "-1 is not in the range x>=0"),
        (["explain", "--seed", "-1"], "-1 is not in the range x>=0"),
        (["bugs", "run", "--seed", "-1"], "-1 is not in the range x>=0"),
        (["fleet", "--bug", "gc-above-pgmrp"], "did you mean 'gc-above-pgmrpl'?"),
        (["bugs", "show", "no-fensing"], "did you mean 'no-fencing'?"),
        (["shrink", "quiet", "-o", "/none/x"], "/none/x: there is no directory '/none'"),
        (["record", "quiet", "-o", "/none/x"], "/none/x: there is no directory '/none'"),
        (["replay", __file__], "not a recording; expected what `record` writes"),
        (["run", "quiet", "--bug", "no"], "Invalid value for --bug: 'no': expected one of"),
        (["run", "--output", "x.db"], "--output: expected together with --workload"),
        (["run", "--workload", "none.db-wal"], "none.db-wal: there is no such file"),
        (["list", "bogs"], "'bogs' is not one of"),
    ],
)
def test_wrong_usage_says_why_and_runs_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    error: str,
) -> None:
    assert end_of(monkeypatch, *arguments) == exit_codes.USAGE
    captured = capsys.readouterr()
    assert error in " ".join(captured.err.split())
    assert captured.out == ""
    assert max(map(len, captured.err.splitlines())) <= max(80, len(__file__) + 8)


def test_a_failure_of_the_simulator_is_not_taken_for_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quick: Path
) -> None:
    monkeypatch.setattr(run_command, "execute", lambda *_: 1 // 0)
    assert end_of(monkeypatch, "run", quick) == exit_codes.INTERNAL
    assert "ZeroDivisionError" in capsys.readouterr().err

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_command, "execute", interrupted)
    assert end_of(monkeypatch, "run", quick) == exit_codes.INTERRUPTED


def test_codes_are_distinct_and_documented() -> None:
    codes = [*exit_codes.EXIT_CODES.values(), *exit_codes.OTHER_CODES]
    assert len(set(codes)) == len(codes)
    assert all(f"{code} " in exit_codes.HELP for code in codes)


def test_without_arguments_the_default_scenario_is_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quick: Path
) -> None:
    monkeypatch.setattr(run_command, "DEFAULT", str(quick))
    assert end_of(monkeypatch) == 0
    assert "scenario quick" in capsys.readouterr().out
    assert "default" in scenario.shipped()


def test_a_seed_alone_runs_what_it_draws(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command.make_plan(None, 4, None).command == "python -m aurora.sim run --seed 4"
    assert run_command.make_plan("quiet", 4, "no-fencing").command.endswith(
        "run quiet --seed 4 --bug no-fencing"
    )
    assert end_of(monkeypatch, "run", "--seed", "0") == 0
    assert capsys.readouterr().out.startswith("seed 0   shape ")


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("scenarios", 15), ("shapes", 2), ("faults", 15), ("invariants", 15), ("marks", 15),
        ("bugs", 15),
    ],
)  # fmt: skip
def test_list_shows_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str, least: int
) -> None:
    assert end_of(monkeypatch, "list", kind, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [kind]
    assert len(found[kind]) >= least
    assert all(found[kind].values())
    assert end_of(monkeypatch, "list", kind) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in found[kind])
    assert max(map(len, shown.splitlines())) <= 80
    assert not shown.endswith("\n\n")


def test_a_name_comes_before_those_that_go_on_from_it() -> None:
    names = list(scenario.shipped())
    assert names == sorted(names)
    assert names.index("writer-crash") < names.index("writer-crash-at-every-point")


def test_every_command_has_help_that_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_of(monkeypatch, "--help") == 0
    overview = capsys.readouterr().out
    context = click.Context(cli.cli)
    for name in cli.cli.list_commands(context):
        assert name in overview
        assert end_of(monkeypatch, name, "--help") == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"Usage: python -m aurora.sim {name}")
        assert max(map(len, shown.splitlines())) <= 80
        assert "..." not in shown.replace("]...", "")
    assert "..." not in overview.replace("]...", "").replace("[ARGS]", "")


def test_as_a_program_piped_and_with_its_reader_gone(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "aurora.sim"]
    done = subprocess.run(
        [*program, "run", write(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    shell = f"{' '.join(program)} list | head -n 1"
    piped = subprocess.run(["sh", "-c", shell], cwd=ROOT, capture_output=True, check=False)
    assert piped.stdout.startswith(b"Scenarios")
    assert piped.stderr == b""


def test_list_tells_what_a_faults_parameters_have_to_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_of(monkeypatch, "list", "faults", "--json") == 0
    found = json.loads(capsys.readouterr().out)["faults"]
    assert found["slow"].endswith("; factor: a number from 0.01 to 100,000 (10)")
    assert found["cut"].endswith("writers, also of one to come (everybody)")
