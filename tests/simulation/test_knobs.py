"""Knobs turned by hand: what may be said, what is refused, and that every command says it again."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from segments.protocol.errors import Invalid
from sim.commands.case import open_case
from sim.commands.cli import cli
from sim.commands.fleet import run_seed
from sim.commands.run_command import make_plan
from sim.files.knob_edits import edited, known_knobs, with_knobs
from sim.plan.generate import generate
from sim.plan.knob_words import KNOB_WORDS, SHORT_NAMES
from sim.plan.profiles import LinkProfile
from sim.plan.schedule import MS, Knobs
from sim.run import Verdict
from tests.busy import BUSY
from tests.repo.sources import text

TURNED = ("latency=5ms", "lal=50000")
SMALL = """
seed = 5
[knobs]
duration = "300ms"
[workload]
operations = 20
[[action]]
at = "50ms"
fault = "crash"
target = "A"
"""


def test_every_knob_can_be_said_as_it_is_by_default_and_has_its_words() -> None:
    known = known_knobs()
    same = [f"{name}={value}" for name, value in known.items() if "cross_az_link." not in name]
    assert edited(Knobs(), same) == Knobs()
    assert {name for name in known if "cross_az_link." not in name} == {*KNOB_WORDS}
    assert {name for meant in SHORT_NAMES.values() for name in meant} < {*known}
    page = text(Path("docs/scenarios.md"))
    assert [each for each in KNOB_WORDS if each.rpartition(".")[2] not in page] == []


def test_a_short_name_turns_all_links_that_there_are() -> None:
    one = edited(Knobs(), ["latency=5ms", "jitter=0s", "loss=0.25"])
    assert one == Knobs(link=LinkProfile(minimum_ns=5 * MS, extra_mean_ns=0, loss=0.25))
    across = Knobs(cross_az_link=LinkProfile(minimum_ns=MS, loss=0.5))
    both = edited(across, ["latency=5ms"])
    assert both.cross_az_link == LinkProfile(minimum_ns=5 * MS, loss=0.5)
    assert edited(across, ["cross_az_link=none"]) == Knobs()
    assert edited(Knobs(), ["cross_az_link.minimum=1ms"]).cross_az_link is not None
    assert edited(Knobs(retention_lsns=7), ["retention_lsns=none"]) == Knobs()
    assert edited(Knobs(), ["duration=1s", "duration=2s"]) == Knobs()


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("latency", "expected NAME=VALUE"),
        ("latncy=5ms", "did you mean 'latency'"),
        ("latency=5", 'a time such as "500ms"'),
        ("link=1ms", "did you mean 'link.loss'"),
        ("cross_az_link=1ms", "expected none, or a part"),
        ("lal=many", "found 'many': expected an integer"),
        ("lal=none", "found 'none'"),
        ("lal=0", "lal: found 0"),
        ("loss=1", "less than 1"),
        ("collect_ratio=x", "found 'x': expected a number"),
        ("duration=1us", "1ms to 86400s"),
        ("duration=800ms", "bit_rot at 880ms: expected all faults before"),
        ("pg_count=1", "'B1'"),
        ("max_mtr_writes=1", "expected at least 2"),
    ],
)
def test_what_cannot_be_is_refused(said: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        with_knobs(BUSY, [said])


def test_every_command_says_the_knobs_again(tmp_path: Path) -> None:
    """And a scenario's calls follow them, as if the file had said so."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    case = open_case(None, str(path), None, TURNED)
    assert case.source == f"{path} --knob latency=5ms --knob lal=50000"
    assert make_plan(str(path), None, None, TURNED).command.endswith(
        "--seed 5 --knob latency=5ms --knob lal=50000"
    )
    assert case.schedule.knobs.link.minimum_ns == 5 * MS
    longer = open_case(None, str(path), None, ["duration=600ms"]).schedule
    assert max(each.at_ns for each in longer.operations) > 300 * MS
    assert open_case(7, None, None, TURNED).source == "--seed 7 --knob latency=5ms --knob lal=50000"
    shown = CliRunner().invoke(cli, ["explain", str(path), "--knob", "latency=5ms"])
    assert shown.exit_code == 0, shown.output
    assert "python -m aurora.sim run" in shown.output
    assert shown.output.rstrip().endswith("--knob latency=5ms")
    refused = CliRunner().invoke(cli, ["run", str(path), "--knob", "duration=40ms"])
    assert isinstance(refused.exception, Invalid) and "line 8" in str(refused.exception)


def test_a_fleet_with_knobs_runs_the_seeds_that_can_be_so() -> None:
    wrong = CliRunner().invoke(cli, ["fleet", "--seeds", "1", "--knob", "latncy=5ms"])
    assert isinstance(wrong.exception, Invalid) and "did you mean" in str(wrong.exception)
    short = run_seed(2, knobs=["duration=1ms"])
    assert short.verdict is Verdict.UNDECIDED and "cannot be with these knobs" in short.finding
    turned = run_seed(2, knobs=["check_every=100000"])
    assert turned.verdict is Verdict.PASSED
    assert turned.checks["any-read-quorum-recovers"] < 10
    assert generate(2).knobs.check_every < 100
