"""Forks: the same run before a moment, event for event, and another one from then on."""

from __future__ import annotations

import re
from functools import cache
from itertools import count
from pathlib import Path
from random import Random

import attrs
import pytest
from click.testing import CliRunner

from segments.protocol.errors import Invalid
from sim.commands.case import Case, open_case
from sim.commands.cli import cli
from sim.files import scenario
from sim.files.recording import record
from sim.plan.generate import generate
from sim.plan.profiles import LinkProfile
from sim.plan.redraws import Redraw
from sim.plan.schedule import MS, Action, Schedule
from sim.plan.seeds import Seeds
from sim.run import Run
from sim.story.difference import first_difference
from sim.story.trace_words import Teller, Told
from sim.world.network_policy import Decided, Decision, Link
from tests.busy import BUSY

SHORT = attrs.evolve(
    BUSY,
    knobs=attrs.evolve(BUSY.knobs, duration_ns=200 * MS),
    actions=(
        Action(at_ns=20 * MS, kind="crash", target="A0,B1"),
        Action(at_ns=60 * MS, kind="crash_writer"),
        Action(at_ns=65 * MS, kind="recover"),
        Action(at_ns=120 * MS, kind="clog", target="writers", params={"others": "az2"}),
    ),
    operations=BUSY.operations[:80],
)
CRASH = Action(at_ns=105 * MS, kind="crash", target="C0,D0")


def trace_of(case: Case) -> list[bytes]:
    """Every event of a run."""
    lines: list[bytes] = []

    def listen(run: Run) -> None:
        run.world.trace.sink = lines.append

    case.run(listen)
    return lines


@cache
def trace_of_short() -> list[bytes]:
    """Of `SHORT`, which several tests start from; nobody changes it."""
    return trace_of(Case(schedule=SHORT))


def split(lines: list[bytes], at_ns: int) -> tuple[list[bytes], list[bytes]]:
    """What happened before a moment, and what from then on."""
    before = [each for each in lines if int(each.split(b" ", 1)[0]) < at_ns]
    return before, lines[len(before) :]


def first_in_sql() -> Schedule:
    """A drawn run in SQL."""
    seeds = (generate(seed) for seed in count())
    return next(each for each in seeds if each.shape == "losses, in SQL")


def recorded(schedule: Schedule) -> Case:
    """A recording in which messages take longer than any seed would have them take."""
    recording, _ = record(schedule)
    late = {number: tuple(each + 7_777 for each in d) for number, d in recording.decisions.items()}
    return Case(schedule=schedule, decided=Decided(late))


def test_what_comes_before_a_fork_stays_and_the_rest_is_another(tmp_path: Path) -> None:
    """Also in SQL, of a recording, and written down as a scenario file."""
    in_sql = first_in_sql()
    for original, at_ns in (
        (Case(schedule=SHORT, bug="third-highest-scl"), 100 * MS),
        (Case(schedule=in_sql), in_sql.knobs.duration_ns // 2),
        (recorded(SHORT), 105 * MS),
    ):
        fork = original.fork(at_ns, salt=7)
        path = tmp_path / "fork.toml"
        path.write_text(fork.scenario_text())
        before, after = split(trace_of(original), at_ns)
        found = split(trace_of(open_case(None, str(path), None)), at_ns)
        assert len(before) > 300
        assert found[0] == before
        assert found[1] != after
    assert found == split(trace_of(fork), at_ns)  # of the last, which was also read back


def test_without_other_chances_streams_go_on() -> None:
    drawn = Case(schedule=SHORT)
    assert trace_of(drawn.fork(100 * MS)) == trace_of_short()
    # Also those of a network that a recording has decided so far.
    recording, _ = record(SHORT)
    fork = Case(schedule=SHORT, decided=Decided(recording.decisions)).fork(100 * MS)
    assert trace_of(fork) == trace_of_short()


def test_other_faults_and_other_chances_in_a_fork_of_a_fork() -> None:
    original = Case(schedule=SHORT)
    taken = next(n for n, each in enumerate(SHORT.actions) if each.kind == "clog")
    first = original.fork(100 * MS, salt=1, add=[CRASH], remove=[taken])
    kinds = [each.kind for each in first.schedule.actions]
    assert kinds == ["crash", "crash_writer", "recover", "crash"]
    second = first.fork(130 * MS, salt=2)
    assert second.schedule.redraws == (Redraw(100 * MS, 1), Redraw(130 * MS, 2))
    lines = trace_of(first)
    assert split(trace_of(second), 130 * MS)[0] == split(lines, 130 * MS)[0]
    assert split(lines, 100 * MS)[0] == split(trace_of_short(), 100 * MS)[0]
    # Whoever forks before takes the later chances away, which would be those of no moment.
    for at_ns in (90 * MS, 100 * MS):
        assert first.fork(at_ns, salt=3).schedule.redraws == (Redraw(at_ns, 3),)
    # What happens at the moment itself has not happened by then.
    assert original.fork(120 * MS, remove=[taken]).schedule.actions == SHORT.actions[:taken]
    again = scenario.loads(second.scenario_text()).schedule()
    assert attrs.evolve(again, name=SHORT.name) == second.schedule


def test_every_stream_turns_at_its_moment_and_none_before() -> None:
    now = [0]
    seeds = Seeds(5, redraws=(Redraw(10, 1), Redraw(20, 2)), now=lambda: now[0])
    plain, other = Seeds(5), Seeds(5, redraws=(Redraw(0, 1),))
    parts = [
        (seeds.stream("disk"), plain.stream("disk")),
        (seeds.within("network").stream("A0 to C0"), plain.within("network").stream("A0 to C0")),
        (seeds.begun_from(99), Random(99)),
    ]
    for now[0] in (0, 9):
        for turning, usual in parts:
            assert (turning.random(), turning.getrandbits(70)) == (
                usual.random(), usual.getrandbits(70),
            )  # fmt: skip
    now[0] = 10
    drawn = [turning.random() for turning, _ in parts]
    assert drawn[0] == other.stream("disk").random()
    assert not {*drawn} & {usual.random() for _, usual in parts}
    bits, usual_bits = (each.stream("bits").getrandbits(70) for each in (seeds, plain))
    assert bits == other.stream("bits").getrandbits(70) != usual_bits
    now[0] = 25
    assert not {*drawn} & {turning.random() for turning, _ in parts}
    numbers = [seeds.number("wall", at_ns) for at_ns in (0, 9, 10, 20)]
    assert numbers[0] == numbers[1] == plain.number("wall")
    assert len({*numbers}) == 3


def test_messages_of_the_moment_itself_are_drawn_and_earlier_ones_as_recorded() -> None:
    class Drawn:
        def decide(self, message: int, link: Link) -> Decision:
            asked.append(message)
            return (100 + message,)

    now, asked = [8], list[int]()
    policy = Decided({1: (1,), 2: (), 3: (3,)}, until_ns=10).policy(Drawn(), lambda: now[0])
    link = Link("A0", "B0", LinkProfile())
    found = []
    for number, now[0] in enumerate((8, 9, 10), 1):
        found.append(policy.decide(number, link))
    assert found == [(1,), (), (103,)]
    assert asked == [1, 2, 3], "streams go on as if nothing had been recorded"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"remove": [0]}, "not happened by 0.1000 s"),
        ({"remove": [99]}, r"expected one of 0 \(crash \S+ at 0\.\d{4} s\), 1 "),
        ({"add": [attrs.evolve(CRASH, at_ns=99 * MS)]}, "where the fork begins"),
        ({"add": [attrs.evolve(CRASH, at_ns=200 * MS)]}, "when everything heals"),
        ({"add": [attrs.evolve(CRASH, target="Z")]}, "'Z'"),
        ({"salt": -1}, "salt -1"),
    ],
)
def test_a_fork_that_cannot_be_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        Case(schedule=SHORT).fork(100 * MS, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fork", "--at", "9s"], r"--at 9s: .* ends at 0\.\d{4} s"),
        (["view", "--export", "x.json", "--window", "50s.."], "the run has ended by then, at 0"),
        (["view", "--export", "x.json", "--port", "1"], "expected no --export"),
        (["view", "--knob", "latency=5"], "--knob latency=5: --knob: link.minimum"),
    ],
)
def test_what_cannot_be_is_said_before_a_file_is_written(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(cli, [*words, "--seed", "1", "--bug", "third-highest-scl"])
    assert found.exit_code == 2
    assert re.search(says, " ".join(found.output.split()))
    assert list(tmp_path.iterdir()) == []


def test_a_message_is_told_without_its_bytes_and_reprs() -> None:
    (told,) = [
        each.words
        for line in trace_of(Case(schedule=SHORT))
        if b"sent" in line
        for each in [Teller(SHORT).tell(line)]
        if "PageReply" in each.words
    ][:1]
    assert re.search(r"[\d,]+ bytes", told)
    assert "\\x" not in told and "TruncationTable(" not in told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('redraw = [{ at = "1ms", salt = 1 }, { at = "1ms", salt = 2 }]', "twice"),
        ('redraw = [{ at = "1ms", salt = -1 }]', "salt"),
        ('messages = "1 5"', "messages_until: missing"),
        ('messages_until = "5ms"\nmessages = "2 5\\n1 5"', "a number above 2"),
        ('messages_until = "5ms"\nmessages = "2 x"', "'2 x'"),
    ],
)
def test_a_file_that_says_no_fork_is_refused(text: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        scenario.loads(text)


def test_where_a_fork_parts_is_told_from_both_sides() -> None:
    """Each with its time and who it was; the dumb oracle compares item by item."""
    original = Case(schedule=SHORT)
    fork = original.fork(100 * MS, add=[CRASH])
    one, other = trace_of_short(), trace_of(fork)
    found = first_difference(one, other, (original.schedule, fork.schedule))
    assert found is not None and found.common is not None
    assert one[: found.events] == other[: found.events]
    assert one[found.events] != other[found.events]
    assert str(found.sides[1]) == "0.1050 s  schedule: action 3, crash C0,D0"
    assert found.sides[0] is not None and found.sides[0].at_ns >= 105 * MS
    assert first_difference(one, one) is None
    ended = first_difference(one, one[:-1])
    assert ended is not None and (ended.events, ended.sides[1]) == (len(one) - 1, None)
    assert ended.lines(("a", "b"))[-1] == "  b: nothing more"


def test_events_are_told_in_words() -> None:
    teller = Teller(SHORT)
    told: list[Told] = []
    for line in trace_of_short():
        told.append(teller.tell(line))
        teller.see(line)
    words = {f"{each.source}: {each.words}" for each in told}
    assert "clients: call 0 (client 0 put page 0,0) returns: ok, LSN 2" in words
    assert (
        "E0: RecordsApplied (count 2, before 0, scl 2): Durable records joined the chain" in words
    )
    assert "network: WriteBatch from writer-1 to E0 arrives (message 5)" in words
    assert any(each.startswith("writer-1: sends A0 WriteBatch (epoch 1, seq 1, ") for each in words)
    assert not [each for each in words if "?" in each or "a message" in each]


def test_the_command_writes_a_scenario_and_tells_where_it_parts(tmp_path: Path) -> None:
    path, fork = tmp_path / "short.toml", tmp_path / "fork.toml"
    path.write_text(Case(schedule=SHORT).scenario_text())
    asked = ["fork", str(path), "--at", "100ms", "-o", str(fork)]
    done = CliRunner().invoke(cli, [*asked, "--add", "105ms slow C0 D0 factor=3", "--remove", "3"])
    assert done.exit_code == 0, done.output
    added = Action(at_ns=105 * MS, kind="slow", target="C0,D0", params={"factor": 3})
    assert scenario.load(fork).actions == (*SHORT.actions[:3], added)
    assert scenario.load(fork).name == "fork"  # and not that of another
    lines = done.output.splitlines()
    assert f"  {fork}: 0.1050 s  schedule: action 3, slow C0,D0 factor=3" in lines
    assert f"run it:     python -m aurora.sim run {fork}" in lines
    same = CliRunner().invoke(cli, asked)  # which may replace what it wrote
    assert same.exit_code == 0 and "nothing was changed" in same.output
    for added_text, says in (
        ("", "at: found ''"),
        ("105ms", "fault: found ''"),
        ("105ms crahs C0", "did you mean 'crash'"),
        ("105ms slow C0 factr=3", "did you mean 'factor'"),
        ("5ms crash C0", "where the fork begins"),
    ):
        refused = CliRunner().invoke(cli, [*asked, "--add", added_text])
        assert refused.exit_code == 2, refused.output
        assert says in " ".join(refused.output.split()), refused.output
