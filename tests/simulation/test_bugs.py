"""Each deliberate bug is found, by the rule that it breaks; without it all is well.

The schedules are those made for the bugs. What random seeds find, and how soon, is measured by
``python -m aurora.sim bugs run`` (docs/bugs.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner

from aurora import quorum
from aurora.quorum import QuorumModel
from segments.protocol.errors import Invalid
from sim.bugs import BUGS, PLANS, PROTOCOL, Bug, DoesNotApply, Edit, planted, require_bug
from sim.bugs.plan import Plan
from sim.bugs.registry import find_function
from sim.commands.bug_suite import BugReport, DirectedReport, try_bug
from sim.commands.bugs_command import command, summary, table
from sim.files.scenario import loads
from sim.run import Verdict, run

EXPECTED = {
    "write-quorum-3": "pgcl-is-backed",
    "read-quorum-2": "any-read-quorum-recovers",
    "ack-before-persist": "ack-after-sync",
    "vdl-not-cpl": "vdl-is-a-cpl",
    "no-fencing": "epochs-only-rise",
    "scl-before-seal": "epochs-only-rise",
    "queue-survives-seal": "a-seal-is-final",
    "no-truncation": "any-read-quorum-recovers",
    "short-range": "any-read-quorum-recovers",
    "tables-unioned": "any-read-quorum-recovers",
    "tables-ignored": "any-read-quorum-recovers",
    "third-highest-scl": "pgcl-is-backed",
    "open-before-rereplication": "any-read-quorum-recovers",
    "open-after-one-install": "any-read-quorum-recovers",
    "gossip-resurrects": "epochs-only-rise",
    "count-per-record": "pgcl-is-backed",
    "vcl-max-pgcl": "vdl-is-a-cpl",
    "vcl-min-pgcl": "vdl-is-a-cpl",
    "gc-above-pgmrpl": "floor-below-readers",
    "evict-above-vdl": "evicted-is-durable",
    "serve-below-required": "needless-unavailability",
    "lal-ignored": "lal-bounds-the-log",
    "coalesce-above-vdl": "images-match-replay",
    "retransmit-not-idempotent": "one-lsn-one-record",
    "torn-tail-kept": "ack-after-sync",
    "wiped-rejoins": "scl-has-no-gap",
    "amnesiac-votes": "epochs-only-rise",
    "newer-for-older": "reads-match-the-model",
    "same-mtr-chain": "one-lsn-one-record",
    "never-resends": "needless-unavailability",
    "pgcl-follows-scls": "watermarks-only-rise",
    "resends-all-but-the-first": "needless-unavailability",
    "ack-settles-by-number": "needless-unavailability",
    "vcl-by-whole-mtrs": "vdl-is-a-cpl",
    "room-for-one": "lal-bounds-the-log",
    "fenced-commits-succeed": "reported-once-when-durable",
    "deaf-to-refusals": "heals-and-converges",
    "heartbeat-announces-vcl": "vdl-is-a-cpl",
    "plan-announced-as-durable": "vdl-is-a-cpl",
    "seal-reply-before-settled": "a-seal-is-final",
    "admits-by-durable-epoch": "a-seal-is-final",
    "installed-before-durable": "ack-after-sync",
    "range-starts-late": "any-read-quorum-recovers",
    "range-starts-early": "any-read-quorum-recovers",
    "adopts-and-keeps-the-linked": "annulled-is-gone",
    "adopts-and-keeps-the-unlinked": "annulled-is-gone",
    "restart-forgets-promises": "epochs-only-rise",
    "promise-before-log": "scl-has-no-gap",
    "seal-replies-counted-twice": "any-read-quorum-recovers",
    "part-of-a-log-believed": "any-read-quorum-recovers",
    "lowest-vdl-announced": "any-read-quorum-recovers",
    "first-group-rereplicated": "any-read-quorum-recovers",
    "range-forgotten": "tables-settle",
    "damage-remembers": "annulled-is-gone",
    "never-settles": "tables-settle",
    "gossip-skips-what-is-folded": "needless-unavailability",
    "whole-before-the-last-part": "layers-hold-the-log",
    "rewrite-stops-at-a-gap": "ack-after-sync",
    "head-forgets-ranges": "annuls-above-the-vdl",
    "torn-tail-cut-too-far": "scl-has-no-gap",
    "log-file-dropped-early": "scl-has-no-gap",
    "file-without-a-head": "scl-has-no-gap",
    "fold-above-vdl": "layers-hold-the-log",
    "heartbeat-vdl-trusted": "images-match-replay",
    "image-stale-after-fold": "images-match-replay",
    "bloom-denies": "reads-match-the-model",
    "merge-loses-a-boundary": "layers-hold-the-log",
    "source-left-out": "layers-hold-the-log",
    "collect-forgets-the-floor-of-a-page": "images-match-replay",
    "failed-sync-forgiven": "ack-after-sync",
    "failed-promise-forgiven": "epochs-only-rise",
    "full-disk-is-lost": "no-needless-loss",
    "whole-at-the-vdl": "scl-has-no-gap",
    "rewrites-before-it-is-whole": "scl-has-no-gap",
    "damaged-votes": "a-seal-is-final",
    "waits-for-what-was-annulled": "annulled-is-gone",
    "rollback-unseen": "rollback-is-seen",
    "head-forgets-marks": "rollback-is-seen",
    "strict-by-two": "history",
    "confirms-any-epoch": "history",
    "confirmed-in-advance": "history",
    "floor-follows-the-newest-reader": "floor-below-readers",
    "holds-are-not-counted": "floor-below-readers",
    "old-floor-outlives-its-writer": "floor-below-readers",
    "stale-page-cached": "one-lsn-one-record",
    "half-an-mtr-cached": "reads-match-the-model",
    "list-of-the-newest": "reads-match-the-model",
    "equals-answer-each-other": "livelock",
    "write-quorum-5": "needless-unavailability",
    "opens-when-all-have-installed": "needless-unavailability",
    "recovery-asks-once": "heals-and-converges",
    "recovery-seals-all": "needless-unavailability",
    "full-disk-is-given-up": "needless-unavailability",
    "recovery-stays-with-its-source": "heals-and-converges",
    "hydration-waits-for-its-peer": "needless-unavailability",
    "recovery-fetches-once": "heals-and-converges",
    "sql-journal-off": "sql-reads-match-a-commit",
    "sql-fails-after-submit": "sql-reads-match-a-commit",
    "sql-change-counter-ignored": "sql-reads-match-a-commit",
    "sql-reads-inside-an-mtr": "sql-reads-match-a-commit",
    "sql-dependents-do-not-fail": "reported-once-when-durable",
    "sql-failed-commit-is-cached": "typed errors",
    "sql-exclusive-locking": "sql-reads-match-a-commit",
    "sql-read-before-durable": "sql-gives-out-the-durable",
    "sql-constraint-before-durable": "sql-gives-out-the-durable",
    "sql-rolled-back-is-committed": "reported-once-when-durable",
    "sql-stamp-first": "sql-one-mtr",
    "sql-snapshot-not-held": "floor-below-readers",
    "sql-backtrack-keeps-the-counter": "sql-reads-match-a-commit",
    "sql-differs-from-what-spilled": "sql-reads-match-a-commit",
}
"""Every bug that has a schedule of its own, and the invariant that gives it away there.

First those of protocol §12, in its order.
"""

OF_WHAT_MUST_HAPPEN = (
    "heals-and-converges",
    "needless-unavailability",
    "tables-settle",
    "livelock",
)

RANDOM_ONLY = (
    "promise-written-once",
    "scrub-mends-nothing",
    "bad-promise-stays",
    "tail-annulled",
    "laggard-never-asked",
    "strict-read-not-kept",
    "refusal-at-floor",
    "unpin-wakes-nobody",
    "floor-never-rises",
    "retention-counts-annulled",
    "retention-counts-forgotten",
    "cancelled-commit-stays-in-line",
    "cancelled-commit-gives-up-the-first",
    "mtr-that-fails-stays",
    "cancelled-read-stays",
    "cancelled-read-is-still-known",
    "cancelled-strict-read-stays",
    "cancelled-commit-keeps-its-pages",
    "cancelled-first-wakes-nobody",
    "cancelled-commit-is-written",
    "cancelled-commit-leaves-a-hole",
    "cancelled-waiter-takes-all-along",
    "long-mtr-cut-short",
    "read-above-vdl",
    "read-below-floor",
    "data-over-the-end",
    "data-not-copied",
    "ended-view-reads",
    "own-writes-half-seen",
    "serves-before-it-is-open",
    "pool-without-bound",
    "queue-without-bound",
    "log-without-bound",
    "log-waits-for-the-last",
    "window-without-bound",
    "unlinked-without-bound",
    "images-without-bound",
    "blocks-without-bound",
    "log-never-rewritten",
    "patience-without-bound",
    "strict-by-all",
    "reads-ask-the-first",
    "refused-at-once",
    "gives-up-after-one-round",
    "publish-before-sync",
    "delete-before-publish",
    "manifest-not-synced",
    "wal-files-out-of-order",
    "layer-read-after-delete",
    "damaged-layer-stays",
    "lists-without-a-layer",
    "retention-by-the-wrong-clock",
    "what-is-found-counts-as-old",
    "space-is-not-told",
    "writes-into-a-full-volume",
    "full-for-ever",
    "old-version-cache-stale",
    "head-stops-at-the-vdl",
    "many-pages-all-at-once",
    "changed-pages-misses-one",
    "chain-visible-early",
    "others-between-parts",
    "stolen-page-read-stale",
    "steals-what-is-not-its-own",
    "part-can-be-given-up",
    "parts-allocate-one-by-one",
)
"""Bugs that no schedule was made for."""

MODEL = QuorumModel(("A", "B", "C", "D", "E", "F"))
SCLS = dict(zip(MODEL.members, (1, 2, 3, 4, 5, 6), strict=True))


def test_every_bug_is_there() -> None:
    assert list(PROTOCOL) == list(EXPECTED)[: len(PROTOCOL)] == list(BUGS)[: len(PROTOCOL)]
    assert {name for name, bug in BUGS.items() if bug.directed is not None} == set(EXPECTED)
    assert set(BUGS) - set(EXPECTED) == set(RANDOM_ONLY)


def test_the_document_has_a_row_for_every_bug() -> None:
    document = Path(quorum.__file__).parents[1].joinpath("docs/bugs.md").read_text()
    rows = re.findall(r"^\| ([a-z0-9-]+) \| (.+) \| (protocol .+) \|$", document, re.MULTILINE)
    assert rows == [(bug.name, bug.summary, bug.section) for bug in BUGS.values()]
    assert f"there are {len(BUGS)} bugs: {len(PROTOCOL)} for the ways known" in document
    assert f"and {len(BUGS) - len(PROTOCOL)} for mistakes that are easily made" in document


def test_no_two_bugs_are_called_the_same() -> None:
    assert [bug.name for bug in BUGS.values()] == list(BUGS)


@pytest.mark.parametrize("name", RANDOM_ONLY)
def test_a_bug_without_a_schedule_applies_to_the_code(name: str) -> None:
    before = [find_function(edit.target).__code__ for edit in BUGS[name].edits]
    with planted(name):
        during = [find_function(edit.target).__code__ for edit in BUGS[name].edits]
    assert all(old is not new for old, new in zip(before, during, strict=True))


@pytest.mark.parametrize("name", EXPECTED)
def test_its_schedule_exposes_the_bug(name: str) -> None:
    directed = BUGS[name].directed
    assert directed is not None
    with planted(name):
        result = run(directed())
    assert result.invariant == EXPECTED[name], result.finding
    assert result.verdict in (Verdict.VIOLATION, Verdict.LIVENESS)
    assert (result.verdict is Verdict.LIVENESS) <= (result.invariant in OF_WHAT_MUST_HAPPEN)


@pytest.mark.parametrize("plan", dict.fromkeys(PLANS.values()), ids=lambda plan: plan.__name__)
def test_without_the_bug_the_same_schedule_passes(plan: Callable[[], Plan]) -> None:
    result = run(plan().schedule("without a bug"))
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

SHOWN = DirectedReport(invariant="one", passes=True)


def report(**changed: object) -> BugReport:
    values: dict[str, object] = {
        "name": "a-bug", "directed": None, "random": {}, "needed_seeds": (), "needed_cpu_s": (),
        "internal_errors": (), "seeds": 9, "cpu_s": 60.2,
    }  # fmt: skip
    return BugReport(**(values | changed))  # type: ignore[arg-type]


def by_random(**changed: object) -> BugReport:
    return report(
        random={"two": 3}, needed_seeds=(1, 7, 2), needed_cpu_s=(2.0, 1.0, 9.0), **changed
    )


def test_a_bug_must_be_found_by_random_seeds_and_by_its_own_schedule() -> None:
    assert not report().found
    assert not report(directed=SHOWN).found
    assert by_random().found
    assert by_random(directed=SHOWN).found
    assert not by_random(directed=attrs.evolve(SHOWN, invariant="")).found
    assert not by_random(directed=attrs.evolve(SHOWN, passes=False)).found


def test_an_internal_error_of_the_simulator_finds_nothing() -> None:
    failed = report(internal_errors=(3, 5))
    assert not failed.found
    assert summary([failed])[-1] == "internal error of the simulator under a-bug: seed 3, 5"


def test_the_table_names_invariants_and_the_medians() -> None:
    lines = table(
        [by_random(directed=SHOWN), report(name="b", directed=attrs.evolve(SHOWN, passes=False))]
    )
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]] == [
        ["a-bug", "two, one", "2", "2.0", "9", "ok"],
        ["b", "one", "> 9", "> 60", "9", "missed"],
    ]
    assert table([report()])[-1].split("|")[-2].strip() == "-"


def test_the_summary_counts_what_random_seeds_have_found() -> None:
    missed = by_random(name="c", directed=attrs.evolve(SHOWN, invariant=""))
    assert summary([by_random(), report(name="b", directed=SHOWN), missed]) == [
        "2 of 3 bugs by random seeds within the budget, in 181 s of CPU time",
        "survived: b",
        "not shown by the schedule made for it: c",
    ]


def test_trying_a_bug_runs_its_schedule_even_without_a_budget() -> None:
    tried = try_bug("third-highest-scl", first_seed=0, wanted=1, budget_s=0.0)
    assert tried.directed == DirectedReport(invariant="pgcl-is-backed", passes=True)
    assert (tried.seeds, tried.found) == (0, False)


def test_trying_a_bug_counts_seeds_and_their_cpu_time() -> None:
    tried = try_bug("third-highest-scl", first_seed=0, wanted=2, budget_s=600.0)
    assert tried.found and len(tried.needed_seeds) == len(tried.needed_cpu_s) == 2
    assert sum(tried.needed_seeds) == tried.seeds
    assert sum(tried.needed_cpu_s) <= tried.cpu_s


def test_a_run_in_which_the_simulator_fails_is_singled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = attrs.evolve(run(Plan(end_ms=1).schedule("empty")), verdict=Verdict.INTERNAL)
    monkeypatch.setattr("sim.commands.bug_suite.run", lambda _: ended)
    clock = iter(range(100))
    monkeypatch.setattr("time.process_time", lambda: float(next(clock)))
    tried = try_bug("third-highest-scl", first_seed=7, wanted=1, budget_s=2.5)
    assert (tried.internal_errors, tried.random, tried.found) == ([7, 8], {}, False)


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
    arguments = ["run", "third-highest-scl", "--wanted", "1", "--jobs", "1"]
    ran = CliRunner().invoke(command, arguments)
    assert ran.exit_code == 0, ran.output
    assert "| third-highest-scl | pgcl-is-backed |" in ran.output
    assert "1 of 1 bug by random seeds within the budget" in ran.output


def test_a_bug_that_only_its_schedule_finds_has_survived() -> None:
    arguments = ["run", "third-highest-scl", "--budget", "0", "--jobs", "1"]
    ran = CliRunner().invoke(command, arguments)
    assert ran.exit_code == 1, ran.output
    assert "0 of 1 bug by random seeds" in ran.output
    assert "survived: third-highest-scl" in ran.output


def test_json_says_all_that_the_table_says() -> None:
    arguments = ["run", "third-highest-scl", "--budget", "0", "--jobs", "1", "--json"]
    printed = json.loads(CliRunner().invoke(command, arguments).stdout)
    assert printed["name"] == "third-highest-scl"
    assert printed["directed"] == {"invariant": "pgcl-is-backed", "passes": True}
    assert (printed["found"], printed["median_seeds"], printed["median_cpu_s"]) == (
        False, None, None,
    )  # fmt: skip


@pytest.mark.parametrize("budget", ["0", "0.5", "1s", "1m"])
def test_a_budget_is_a_time_as_for_a_fleet(budget: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.commands.bugs_command.spread", lambda *_, **__: (n for n in range(0)))
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
