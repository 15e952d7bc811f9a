"""Each deliberate bug of protocol §12 is found, by the rule that it breaks; without it all is well.

The schedules are those made for the bugs. What random seeds find, and how soon, is measured by
``python -m aurora.sim bugs run`` (docs/bugs.md).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from aurora import quorum
from aurora.quorum import QuorumModel
from segments.protocol.errors import Invalid
from sim.bugs import BUGS, Bug, DoesNotApply, Edit, planted, require_bug
from sim.bugs.directed import PLANS
from sim.commands.bug_suite import BugReport, try_bug
from sim.commands.bugs_command import command, table
from sim.files.scenario import loads
from sim.run import Verdict, run

EXPECTED = {
    "write-quorum-3": "pgcl-is-backed",
    "read-quorum-2": "any-read-quorum-recovers",
    "ack-before-persist": "ack-after-sync",
    "vdl-not-cpl": "vdl-is-a-cpl",
    "no-fencing": "epochs-only-rise",
    "scl-before-seal": "any-read-quorum-recovers",
    "queue-survives-seal": "sealed-means-over",
    "no-truncation": "any-read-quorum-recovers",
    "short-range": "any-read-quorum-recovers",
    "tables-unioned": "any-read-quorum-recovers",
    "tables-ignored": "reads-match-the-model",
    "third-highest-scl": "pgcl-is-backed",
    "open-before-rereplication": "any-read-quorum-recovers",
    "open-after-one-install": "any-read-quorum-recovers",
    "gossip-resurrects": "epochs-only-rise",
    "count-per-record": "pgcl-is-backed",
    "vcl-max-pgcl": "vdl-is-a-cpl",
    "vcl-min-pgcl": "needless-unavailability",
    "gc-above-pgmrpl": "floor-below-readers",
    "evict-above-vdl": "evicted-is-durable",
    "serve-below-required": "reads-match-the-model",
    "lal-ignored": "lal-bounds-the-log",
    "coalesce-above-vdl": "images-match-replay",
    "retransmit-not-idempotent": "one-lsn-one-record",
    "torn-tail-kept": "scl-has-no-gap",
    "wiped-rejoins": "epochs-only-rise",
    "amnesiac-votes": "epochs-only-rise",
    "newer-for-older": "reads-match-the-model",
    "same-mtr-chain": "reads-match-the-model",
}
"""Every bug of protocol §12, in its order, and the invariant that gives it away."""

MODEL = QuorumModel(("A", "B", "C", "D", "E", "F"))
SCLS = dict(zip(MODEL.members, (1, 2, 3, 4, 5, 6), strict=True))


def test_every_bug_of_the_protocol_is_there() -> None:
    assert list(BUGS) == list(EXPECTED)
    assert all(bug.directed is not None for bug in BUGS.values())


@pytest.mark.parametrize("name", EXPECTED)
def test_its_schedule_exposes_the_bug(name: str) -> None:
    directed = BUGS[name].directed
    assert directed is not None
    with planted(name):
        result = run(directed())
    assert result.invariant == EXPECTED[name], result.finding
    liveness = name == "vcl-min-pgcl"
    assert result.verdict is (Verdict.LIVENESS if liveness else Verdict.VIOLATION)


@pytest.mark.parametrize("plan", dict.fromkeys(PLANS.values()), ids=lambda plan: plan.__name__)
def test_without_the_bug_the_same_schedule_passes(plan: object) -> None:
    name = next(name for name, each in PLANS.items() if each is plan)
    directed = BUGS[name].directed
    assert directed is not None
    result = run(directed())
    assert (result.verdict, result.finding) == (Verdict.PASSED, "")


# ---- planting ------------------------------------------------------------------------------------


def test_a_bug_is_in_the_code_for_the_length_of_the_block() -> None:
    assert MODEL.complete_lsn(SCLS) == 3
    with planted("third-highest-scl"):
        assert MODEL.complete_lsn(SCLS) == 4
    assert MODEL.complete_lsn(SCLS) == 3


def test_a_bug_leaves_the_code_even_when_the_block_raises() -> None:
    with pytest.raises(ValueError, match="any"), planted("third-highest-scl"):
        raise ValueError("any")
    assert MODEL.complete_lsn(SCLS) == 3


def test_a_bug_reaches_whoever_holds_the_function_already() -> None:
    held = QuorumModel.complete_lsn
    with planted("third-highest-scl"):
        assert held(MODEL, SCLS) == 4


def test_no_bug_is_no_change() -> None:
    with planted(None):
        assert MODEL.complete_lsn(SCLS) == 3


def test_an_unknown_bug_is_refused_by_name() -> None:
    with pytest.raises(Invalid, match=r"bug 'no-such': expected one of write-quorum-3"):
        require_bug("no-such")


@pytest.mark.parametrize(
    ("target", "old", "message"),
    [
        ("aurora.quorum:QuorumModel.no_such", "x", "no_such does not exist"),
        ("aurora.quorum:NoSuch.complete_lsn", "x", "NoSuch does not exist"),
        ("aurora.quorum:QuorumModel", "x", "expected a plain function"),
        ("aurora.quorum:QuorumModel.complete_lsn", "gone", "'gone' 0 times: expected once"),
        ("aurora.quorum:QuorumModel.complete_lsn", "ranked", "'ranked' 2 times: expected once"),
    ],
)
def test_a_bug_whose_code_has_changed_says_so(target: str, old: str, message: str) -> None:
    bug = Bug(name="x", summary="", section="", edits=(Edit(target, old, "y"),))
    with pytest.raises(DoesNotApply, match=message), bug.apply():
        pytest.fail("the block ran")
    assert MODEL.complete_lsn(SCLS) == 3


def test_several_edits_of_one_function_build_on_each_other() -> None:
    target = "aurora.quorum:QuorumModel.complete_lsn"
    edits = (Edit(target, "-self.write", "-4"), Edit(target, "[-4]", "[-1]"))
    with Bug(name="x", summary="", section="", edits=edits).apply():
        assert MODEL.complete_lsn(SCLS) == 6
    assert MODEL.complete_lsn(SCLS) == 3


def test_nothing_in_the_product_knows_of_the_bugs() -> None:
    for package in ("aurora", "segments"):
        for path in Path(quorum.__file__).parents[1].joinpath(package).rglob("*.py"):
            assert "sim.bugs" not in path.read_text()


# ---- the suite -----------------------------------------------------------------------------------


def report(**changed: object) -> BugReport:
    values: dict[str, object] = {
        "name": "a-bug", "directed": "", "directed_passes": True, "random": {}, "needed": (),
        "seeds": 9, "elapsed_s": 1.0,
    }  # fmt: skip
    return BugReport(**(values | changed))  # type: ignore[arg-type]


def test_a_bug_that_nothing_exposes_has_survived() -> None:
    assert not report().found
    assert report().how == "survived"
    assert report(directed="one").found
    assert report(random={"two": 1}, needed=(4,)).found
    assert not report(directed="one", directed_passes=False).found


def test_the_table_names_ways_invariants_and_the_median() -> None:
    lines = table(
        [
            report(directed="one", random={"two": 3}, needed=(1, 7, 2)),
            report(name="another-bug", directed="one"),
        ]
    )
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]] == [
        ["a-bug", "directed and random", "two, one", "2", "9"],
        ["another-bug", "directed", "one", "> 9", "9"],
    ]


def test_trying_a_bug_runs_its_schedule_even_without_a_budget() -> None:
    tried = try_bug("third-highest-scl", first_seed=0, wanted=1, budget_s=0.0)
    assert (tried.directed, tried.directed_passes, tried.seeds) == ("pgcl-is-backed", True, 0)


def test_the_command_lists_shows_and_refuses() -> None:
    runner = CliRunner()
    listed = runner.invoke(command, [])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in EXPECTED)
    shown = runner.invoke(command, ["show", "third-highest-scl"])
    assert "- ranked[-self.write]" in shown.output
    assert "+ ranked[-3]" in shown.output
    assert runner.invoke(command, ["show", "no-such"]).exit_code == 2
    assert runner.invoke(command, ["run", "no-such"]).exit_code == 2


@pytest.mark.parametrize("name", EXPECTED)
def test_its_schedule_can_be_had_as_a_scenario_that_plants_the_bug(name: str) -> None:
    printed = CliRunner().invoke(command, ["scenario", name])
    assert printed.exit_code == 0, printed.output
    read, directed = loads(printed.output), BUGS[name].directed
    assert directed is not None
    assert (read.bug, read.schedule()) == (name, directed())


def test_the_command_runs_the_suite() -> None:
    arguments = ["run", "third-highest-scl", "--budget", "0", "--jobs", "1"]
    ran = CliRunner().invoke(command, arguments)
    assert ran.exit_code == 0, ran.output
    assert "| third-highest-scl | directed | pgcl-is-backed |" in ran.output
    assert "none survived" in ran.output


@pytest.mark.parametrize("budget", ["0", "0.5", "1s", "1m"])
def test_a_budget_is_a_time_as_for_a_fleet(budget: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sim.commands.bugs_command.run_suite", lambda *_, **__: (n for n in range(0))
    )
    assert CliRunner().invoke(command, ["run", "no-fencing", "--budget", budget]).exit_code == 0
    for wrong in ("nan", "-1", "5x", "inf"):
        ran = CliRunner().invoke(command, ["run", "no-fencing", "--budget", wrong])
        assert ran.exit_code == 2 and "expected seconds, or a number" in ran.output


def test_what_show_says_to_type_can_be_typed() -> None:
    shown = CliRunner().invoke(command, ["show", "third-highest-scl"]).output
    made, ran = (line.strip() for line in shown.splitlines() if "python -m" in line)
    start = "python -m aurora.sim "
    assert made == f"{start}bugs scenario third-highest-scl > third-highest-scl.toml"
    assert ran == f"{start}run third-highest-scl.toml"
