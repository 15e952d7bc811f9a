"""What is told about a run: stalls, percentiles, verdicts, and how it looks."""

from __future__ import annotations

import io
import json
import re
from functools import cache

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from aurora.events import Acknowledged, VolumeOpened
from segments.protocol.events import Event
from sim.commands.run_command import execute, make_plan
from sim.durations import length, moment, moment_column
from sim.files import scenario
from sim.files.expectations import (
    Span,
    answers_between,
    conclude,
    is_write,
    longest_stall,
    spans_of,
)
from sim.files.knob_tables import knob_values
from sim.plan.episodes import Episode, segments_of
from sim.plan.schedule import MS, Action, Operation, Schedule
from sim.run import Run, RunResult, Verdict, run
from sim.show.live import LiveView
from sim.show.report import Report, as_json, make_report, on_account_of, percentile
from sim.show.report_text import header, report_text, show
from sim.show.returns import Returns
from sim.show.watch import Watch
from sim.world.history import Call, Outcome
from sim.world.listener import Listener
from sim.world.world import World

# ---- stalls --------------------------------------------------------------------------------------

SPANS = st.builds(
    lambda since, lasted, answered: Span(since, since + lasted, answered),
    st.integers(0, 25),
    st.integers(1, 12),
    st.booleans(),
)


def stall_by_the_nanosecond(spans: list[Span], start: int, end: int) -> int:
    """The dumb oracle: walks through time, and counts how long all have been waiting in vain."""
    longest = waited = 0
    for now in range(start, end):
        if any(each.answered and each.until_ns == now for each in spans):
            waited = 0
        if any(each.since_ns <= now < each.until_ns for each in spans):
            waited += 1
        else:
            waited = 0
        longest = max(longest, waited)
    return longest


@settings(max_examples=300)
@given(st.lists(SPANS, max_size=6), st.integers(0, 20), st.integers(1, 30))
def test_stalls_are_those_of_the_oracle(spans: list[Span], start: int, length: int) -> None:
    end = start + length
    assert longest_stall(spans, start, end) == stall_by_the_nanosecond(spans, start, end)


def test_a_client_waits_while_there_is_no_writer_to_call() -> None:
    operation = Operation(at_ns=10, client=1, kind="put", pages=(1,))
    first = Call(0, operation, 10, "writer-1", returned_ns=30, outcome=Outcome.UNKNOWN)
    late = Call(1, attrs.evolve(operation, at_ns=20), 80, "writer-2", returned_ns=85)
    late.outcome = Outcome.OK
    assert spans_of([first, late], writes=True) == [Span(10, 30, False), Span(30, 85, True)]
    assert longest_stall(spans_of([first, late], writes=True), 0, 100) == 75
    assert answers_between([Span(0, 5, True), Span(0, 9, True), Span(0, 6, False)], 5, 9) == 1


@given(st.lists(st.integers(0, 50), min_size=1), st.floats(0.01, 1))
def test_percentiles_by_their_definition(values: list[int], share: float) -> None:
    found = percentile(sorted(values), share)
    needed = share * len(values)
    assert found in values
    assert sum(value <= found for value in values) >= needed - 1e-9
    assert sum(value < found for value in values) < needed


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_500, "1.50 us"),
        (12_340_000, "12.3 ms"),
        (123 * 10**9, "123 s"),
    ],
)
def test_a_length_of_time_has_three_digits(ns: int, text: str) -> None:
    assert length(ns) == text


def test_a_moment_has_four_decimals_and_its_place_in_a_column() -> None:
    assert moment(300_000_000) == "0.3000 s"
    day_ns = 86_400 * 10**9
    columns = [moment_column(each) for each in (0, 49_999, 50_001, 1_234_567_890, day_ns)]
    assert columns == ["   0.0000 s", "   0.0000 s", "   0.0001 s", "   1.2346 s", "86400.0000 s"]


# ---- verdicts ------------------------------------------------------------------------------------

SMALL = """
name = "small"
seed = 3
[knobs]
duration = "200ms"
[workload]
clients = 2
operations = 30
write_share = {share}
[[action]]
at = "50ms"
fault = "crash"
target = "{target}"
{expect}
"""


def plan_of(text: str) -> Schedule:
    return scenario.loads(text).schedule()


@cache
def run_of(text: str) -> RunResult:
    """One run for all that is expected of it."""
    return run(plan_of(text))


@cache
def report_of(share: float = 0.7, target: str = "A", expect: str = "") -> Report:
    found = scenario.loads(SMALL.format(share=share, target=target, expect=expect))
    plan = attrs.evolve(
        make_plan("quiet", None, None),
        schedule=found.schedule(),
        expectations=found.expectations,
        arguments=("small.toml", "--seed", "3"),
    )
    return execute(plan)


def test_a_good_run_passes() -> None:
    report = report_of()
    assert (report.verdict, report.finding) == (Verdict.PASSED, "")
    assert report.commits.count == report.result.commits > 10
    assert 0 < report.commits.p50_ns <= report.commits.p99_ns <= report.commits.max_ns
    (effect,) = report.effects
    assert effect.episode.title == "crash A"
    assert effect.lost_messages > 0
    assert 0 < effect.commits < report.commits.count


def test_an_expectation_that_is_not_met_fails_the_run() -> None:
    expect = '[[expect]]\nwrites = "go on"\nmax_stall = "20ms"\n'
    assert report_of(expect=expect).verdict is Verdict.PASSED
    report = report_of(target="A,B,C", expect=expect)
    assert (report.verdict, report.invariant) == (Verdict.VIOLATION, "expectation")
    assert "expected writes go on, 0.0000 s to 0.2000 s, stalls up to 20.0 ms" in report.finding


@pytest.mark.parametrize(
    ("target", "expect", "met"),
    [
        ("A,B,C", '[[expect]]\nwrites = "wait"\nfrom = "60ms"', True),
        ("A", '[[expect]]\nwrites = "wait"\nfrom = "60ms"', False),
        ("A,B,C", '[[expect]]\nwrites = "may wait"\nmax_stall = "1s"', True),
        ("A,B,C", '[[expect]]\nwrites = "may wait"\nmax_stall = "10ms"', False),
        ("A", '[[expect]]\nreads = "go on"', True),
        ("A,B,C,D,E,F", '[[expect]]\nreads = "go on"\nfrom = "60ms"\nmax_stall = "20ms"', False),
        ("A", '[[expect]]\nreads = "may wait"\nfrom = "199ms"', False),  # there are none
        ("A", "[[expect]]\nmin_commits = 5", True),
        ("A", "[[expect]]\nmin_commits = 500", False),
        ("A", "[[expect]]\nmin_reads = 2", True),
        ("A", "[[expect]]\nmin_unknown_writes = 1", False),
        ("A", "[[expect]]\nlost = []", True),
        ("A", '[[expect]]\nlost = ["A0"]', False),
        ("A", '[[expect]]\nreaches = "writer fenced"', False),
        ("A", '[[expect]]\nverdict = "passed"', True),
        ("A", '[[expect]]\nverdict = "violation"', False),
    ],
)
def test_every_kind_of_expectation_can_be_met_and_not(target: str, expect: str, met: bool) -> None:
    small = SMALL.format(share=0.7, target=target, expect="")
    (expectation,) = scenario.loads(small + expect).expectations
    judgement = expectation.judge(run_of(small))
    assert judgement.met is met, judgement


ALL_DOWN = """
name = "all down"
seed = 3
[knobs]
duration = "400ms"
[[workload]]
rate = 300
until = "100ms"
[[workload]]
rate = 300
write_share = 0
from = "150ms"
[[action]]
at = "120ms"
fault = "crash"
target = "az1, az2, az3"
[[expect]]
{expect}
"""


@pytest.mark.parametrize(
    ("expect", "met"),
    [
        ('reads = "go on"\nfrom = "130ms"\nmax_stall = "400ms"', False),
        ('reads = "go on"\nfrom = "130ms"\nmax_stall = "400ms"\ncached = true', True),
        ('reads = "wait"\nfrom = "130ms"', True),
        ('reads = "wait"\nfrom = "130ms"\ncached = true', False),
        ("min_reads = 40", False),
        ("min_reads = 40\ncached = true", True),
    ],
)
def test_reads_that_only_the_buffer_pool_answers_do_not_count(expect: str, met: bool) -> None:
    found = scenario.loads(ALL_DOWN.format(expect=expect))
    schedule = found.schedule()
    result = run_of(ALL_DOWN.partition("[[expect]]")[0])
    (judgement,) = [each.judge(result) for each in found.expectations]
    assert judgement.met is met, judgement
    again = scenario.loads(scenario.dump(schedule, expectations=found.expectations))
    assert again.expectations == found.expectations


def test_a_workload_that_goes_past_the_buffer_pool_reads_from_segments() -> None:
    text = ALL_DOWN.format(expect="min_commits = 1").replace("write_share = 0", "cached = false")
    schedule = scenario.loads(text).schedule()
    reads = [each for each in run(schedule).calls if not is_write(each)]
    mine = [each for each in reads if each.operation.client >= 4]
    assert mine and all(each.from_segment for each in mine)
    assert not all(each.from_segment for each in reads)
    assert scenario.loads(scenario.dump(schedule)).operations == schedule.operations


def test_a_run_without_any_commit_proves_nothing() -> None:
    report = report_of(share=0)
    assert report.verdict is Verdict.UNDECIDED
    assert "nothing was acknowledged" in report.finding


WIPED = """
[knobs]
pg_count = 2
duration = "900ms"
liveness = "2s"
[[workload]]
operations = 9
until = "300ms"
[[action]]
at = "600ms"
fault = "wipe"
target = "{target}"
"""


@pytest.mark.parametrize(
    ("target", "expect", "verdict", "finding"),
    [
        ("az1 C0", "", Verdict.PASSED, ""),  # three of six: nobody writes any more, all is there
        (
            "az1 C1 D1", "", Verdict.UNDECIDED,
            "acknowledged commits are beyond any recovery: A1, B1, C1, D1 are lost for good",
        ),
        ("az1 az2 az3", 'verdict = "undecided"', Verdict.PASSED, ""),
        ("az1", 'verdict = "undecided"', Verdict.VIOLATION, "expected ends as undecided"),
    ],
)  # fmt: skip
def test_a_run_that_loses_every_proof_of_its_commits_does_not_pass(
    target: str, expect: str, verdict: Verdict, finding: str
) -> None:
    expect = f"[[expect]]\n{expect}" if expect else ""
    found = scenario.loads(WIPED.format(target=target) + expect)
    concluded = conclude(run(found.schedule()), found.expectations)
    assert concluded.verdict is verdict
    assert concluded.finding.startswith(finding) and bool(concluded.finding) is bool(finding)


def test_that_nothing_is_acknowledged_can_be_expected() -> None:
    expect = '[[expect]]\nverdict = "undecided"'
    report = report_of(share=0, expect=expect)
    assert report.verdict is Verdict.PASSED
    assert [each.met for each in report.judgements] == [True]


def test_calls_that_no_disks_are_left_for_are_told_so() -> None:
    """Three lost disks, and a write is made: a liveness failure that names its cause."""
    late = WIPED.replace('until = "300ms"', 'from = "700ms"').format(target="A1 C1 E1")
    result = run(scenario.loads(late).schedule())
    assert result.verdict is Verdict.LIVENESS
    assert "A1, C1, E1 are lost for good, so no write quorum can form" in result.finding


def test_an_expected_violation_passes() -> None:
    result = attrs.evolve(report_of().result, verdict=Verdict.VIOLATION, invariant="history")
    for text, verdict in (("history", Verdict.PASSED), ("vdl-is-a-cpl", Verdict.VIOLATION)):
        expect = f'[[expect]]\nverdict = "violation"\ninvariant = "{text}"'
        found = scenario.loads(SMALL.format(share=1, target="A", expect=expect)).expectations
        assert conclude(result, found).verdict is verdict


# ---- who was back when ---------------------------------------------------------------------------

AWAY = """
name = "away"
[knobs]
duration = "900ms"
[workload]
clients = 2
rate = 200
[[action]]
at = "100ms"
fault = "crash"
target = "az1,C"
[[action]]
at = "300ms"
fault = "restart"
target = "C"
[[action]]
at = "500ms"
fault = "wipe"
target = "F"
[[action]]
at = "600ms"
fault = "recover"
"""


@cache
def away() -> tuple[Report, dict[str, list[int]]]:
    """The run, and each moment at which its writer heard that a segment has what is complete."""
    heard: dict[str, list[int]] = {}
    world = World(plan_of(AWAY))
    watch = Watch(world)

    class Hearing(Listener):
        def on_step(self, source: str, event: Event) -> None:
            if isinstance(event, Acknowledged) and event.scl >= event.pgcl[1]:
                heard.setdefault(event.segment, []).append(world.scheduler.now_ns)
            if isinstance(event, VolumeOpened):
                heard.setdefault("writer", []).append(world.scheduler.now_ns)

    world.listen(Hearing())
    result = Run(world).run()
    return make_report(world, result, watch, real_s=1.0, command=""), heard


def test_each_victim_is_back_when_the_writer_has_heard_that_it_has_caught_up() -> None:
    report, heard = away()
    crash, wipe, recover = report.effects
    ends = {"A0": 900, "B0": 900, "C0": 300}
    assert crash.back_ns == {
        name: next(at for at in heard[name] if at >= end * MS) for name, end in ends.items()
    }
    assert wipe.back_ns == {"F0": None}
    assert list(wipe.lost) == ["F0"]
    assert recover.back_ns == {"writer": heard["writer"][0]}
    assert [each["back_ns"] for each in as_json(report)["faults"]] == [
        each.back_ns for each in report.effects
    ]


def test_an_answer_that_is_behind_or_too_early_brings_nobody_back() -> None:
    action = Action(at_ns=0, kind="crash", target="A")
    returns = Returns([Episode(0, action, 0, 10, ("A0",), {"A0": 10})])

    def heard(at_ns: int, scl: int) -> dict[tuple[int, str], int]:
        returns.acknowledged(at_ns, Acknowledged("A0", scl, 0, pgcl=(8, 9), vdl=(8, 9), vcl=9))
        return returns.found

    assert heard(5, 9) == {}, "before the fault has ended"
    assert heard(12, 8) == {}, "behind the PGCL"
    assert heard(13, 9) == heard(14, 9) == {(0, "A0"): 13}


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_of_faults_says_who_was_back_when(width: int) -> None:
    report, _ = away()
    section = shown(report, width).split("\nFaults, and what happened meanwhile\n")[1]
    table = section.split("\n\n")[0]
    back = {name: at for name, at in report.effects[0].back_ns.items() if at is not None}
    assert f"{moment(back['C0'])} C0" in table
    last = max(back["A0"], back["B0"])
    assert f"{moment(last)} " in table
    assert re.search(r"wipe F +\S+ \S+ +lost ", table)
    assert "back: the victim has told the writer" in table


def test_a_victim_of_a_run_that_ended_before_is_not_back_yet() -> None:
    report, _ = away()
    crash = report.effects[0]
    effect = attrs.evolve(crash, back_ns={**crash.back_ns, "A0": None})
    text = shown(attrs.evolve(report, effects=[effect]), 100)
    assert "not yet A0" in text
    many = shown(attrs.evolve(report, effects=[effect] * 13), 100)
    assert re.search(r"crash +13 +not yet", many)


# ---- how it looks --------------------------------------------------------------------------------


def shown(report: Report, width: int) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False)
    show(console, header(report.result.schedule, "A description. " * 20, "no-fencing"))
    show(console, report_text(report))
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 100])
def test_the_report_fits_and_is_plain(width: int) -> None:
    report = report_of(expect="[[expect]]\nmin_commits = 500")
    text = shown(report, width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert not any(line.endswith(" ") for line in text.splitlines())
    assert text.startswith("seed 3   scenario small   bug no-fencing\n")
    for needed in ("VIOLATION", "NO  at least 500 commits", "crash A", report.result.digest):
        assert needed in text, needed
    assert text.endswith("python -m aurora.sim run small.toml --seed 3\n")
    head = text[: text.index("VIOLATION")]
    drawn = knob_values(report.result.schedule.knobs)
    for knob in knob_values(report.result.schedule.knobs, all_of_them=True):
        assert (f"{knob}=" in head or f"  {knob} " in head) is (knob in drawn), knob


def test_the_json_says_the_same() -> None:
    report = report_of()
    found = json.loads(json.dumps(as_json(report)))
    assert (found["seed"], found["verdict"], found["digest"]) == (3, "passed", report.result.digest)
    assert found["commits"]["count"] == report.commits.count
    assert found["faults"][0]["fault"] == "crash"
    assert found["knobs"]["duration"] == "200ms"
    assert found["command"] == report.command


# ---- looking on ----------------------------------------------------------------------------------


def test_whoever_looks_on_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = report_of().result.schedule
    plain = run(schedule)
    monkeypatch.setattr("sim.show.live._EVERY_S", 0.0)
    world, file = World(schedule), io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, height=40)
    with LiveView(world, console) as live:
        Watch(world, trace_file=io.StringIO(), on_event=live.on_event)
        watched = Run(world).run()
    assert watched.digest == plain.digest == report_of().result.digest
    screen = file.getvalue()
    for needed in (
        "AZ1",
        "AZ3",
        "A0",
        "F0",
        "VCL",
        "VDL",
        "PGCL 0",
        "crash A",
        "down",
        "in flight",
    ):
        assert needed in screen, needed


def test_the_trace_file_has_every_event() -> None:
    schedule, file = report_of().result.schedule, io.StringIO()
    world = World(schedule)
    Watch(world, trace_file=file)
    result = Run(world).run()
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert len(lines) == world.trace.events
    assert sum(line.get("event") == "sent" for line in lines) == result.messages
    assert [line["t_ns"] for line in lines] == sorted(line["t_ns"] for line in lines)
    assert any(line.get("type") == "WriteBatch" for line in lines)
    assert any(line.get("event") == "action" for line in lines)


@pytest.mark.parametrize("name", ["zombie-after-two-takeovers", "recovery-during-az-outage"])
def test_the_faults_are_told_whole_in_sixty_columns(name: str) -> None:
    shown = io.StringIO()
    show(Console(file=shown, width=60), report_text(execute(make_plan(name, None, None))))
    section = shown.getvalue().split("\nFaults, and what happened meanwhile\n")[1].split("\n\n")[0]
    assert "\u2026" not in section
    assert max(map(len, section.splitlines())) <= 60


LOST = {
    # fault, target, others: messages that are its doing, and messages that are not
    ("partition", "A", None): ([("A0", "B0"), ("writer-1", "A0")], [("B0", "C0")]),
    ("partition", "az1", "writer"): ([("writer-2", "B0"), ("A0", "writer-1")], [("A0", "C0")]),
    ("cut", "writer-1", "A"): ([("writer-1", "A0")], [("A0", "writer-1"), ("writer-2", "A0")]),
    ("cut", "A,B", None): ([("A0", "writer-1"), ("B0", "C0")], [("A0", "B0"), ("C0", "A0")]),
    ("clog", "E", None): ([], [("E0", "writer-1"), ("writer-1", "A0")]),
}


@pytest.mark.parametrize(("kind", "target", "others"), LOST)
def test_a_lost_message_is_put_down_to_the_fault_that_cut_its_way(
    kind: str, target: str, others: str | None
) -> None:
    action = Action(at_ns=0, kind=kind, target=target, params={"others": others} if others else {})
    episode = Episode(0, action, 0, 10, segments_of(target, 1))
    its_own, not_its_own = LOST[kind, target, others]
    for way in its_own:
        assert on_account_of(episode, (5, *way, "cut"), 1)
    for way in not_its_own:
        assert not on_account_of(episode, (5, *way, "cut"), 1)
