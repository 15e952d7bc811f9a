"""Scenario files: read, refused with good reasons, and written so that they read the same."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.protocol.errors import Invalid
from segments.protocol.volume import VolumeGeometry
from sim.commands.shrink import without_idle_actions
from sim.files import scenario
from sim.files.expectations import AtLeast, Ends, Flow, Lost, Reaches
from sim.files.knob_tables import check_ranges
from sim.files.toml_reader import ScenarioError, format_time, line_numbers, parse_time
from sim.plan.drawn_workload import Workload
from sim.plan.episodes import episodes_of
from sim.plan.generate import generate
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.schedule import MS, READS, SECOND, Action, Knobs, Operation, Schedule
from sim.plan.seeds import Seeds
from sim.plan.wrong_calls import WRONG_CALLS
from sim.run import Verdict, run
from sim.world.faults import FAULTS, check

EXAMPLE = """
name = "example"
description = "What all a file can say."
seed = 7
bug = "no-fencing"

[knobs]
pg_count = 2
lal = 500
duration = "1500ms"

[knobs.link]
minimum = "50us"
loss = 0.25

[[workload]]
clients = 2
rate = 100
write_share = 1

[[workload]]
clients = 3
operations = 5
write_share = 0
reads = ["strict_get"]
sticky = true
from = "1s"
until = "1200ms"

[[action]]
at = "20ms"
fault = "slow"
target = "az1, C1"
factor = 5

[[action]]
at = "10ms"
fault = "recover"
repeat = 3
every = "4ms"

[[operation]]
at = "1ms"
client = 4
do = "put"
pages = [1, 2]

[[expect]]
writes = "go on"
from = "10ms"
max_stall = "30ms"

[[expect]]
reads = "wait"

[[expect]]
min_commits = 3

[[expect]]
lost = ["A0"]

[[expect]]
reaches = "writer fenced"
times = 2

[[expect]]
verdict = "violation"
invariant = "history"
"""


def test_a_file_says_everything() -> None:
    found = scenario.loads(EXAMPLE)
    assert (found.name, found.seed, found.bug) == ("example", 7, "no-fencing")
    assert found.knobs == Knobs(
        pg_count=2, lal=500, duration_ns=1500 * MS, link=LinkProfile(50_000, loss=0.25)
    )
    assert [(each.at_ns // MS, each.kind) for each in found.actions] == [
        (10, "recover"),
        (14, "recover"),
        (18, "recover"),
        (20, "slow"),
    ]
    assert found.actions[-1].params == {"factor": 5}
    assert found.expectations == (
        Flow(writes=True, how="go on", from_ns=10 * MS, until_ns=1500 * MS, max_stall_ns=30 * MS),
        Flow(writes=False, how="wait", from_ns=0, until_ns=1500 * MS, max_stall_ns=0),
        AtLeast("commits", 3),
        Lost(("A0",)),
        Reaches("writer fenced", 2),
        Ends(Verdict.VIOLATION, "history"),
    )
    first, second = found.workloads
    assert (first.clients, first.operations, first.until_ns) == (2, 150, 1500 * MS)
    assert (second.from_ns, second.until_ns, second.sticky) == (SECOND, 1200 * MS, True)
    assert second.reads == ("strict_get",)


def test_calls_are_drawn_from_the_seed_and_clients_kept_apart() -> None:
    found = scenario.loads(EXAMPLE)
    schedule = found.schedule()
    assert len(schedule.operations) == 1 + 150 + 5
    drawn = [each for each in schedule.operations if each.client != 4]
    assert {each.client for each in drawn} <= set(range(5, 10))
    late = [each for each in drawn if each.client >= 7]
    assert len(late) == 5
    assert all(SECOND <= each.at_ns < 1200 * MS and each.sticky for each in late)
    assert schedule == found.schedule(7)
    assert schedule.operations != found.schedule(8).operations


@settings(max_examples=20)
@given(st.integers(8, 4096), st.integers(1, 100), st.integers(0, 1000))
def test_drawn_writes_fit_their_pages(length: int, mtr_pages: int, seed: int) -> None:
    workload = Workload(operations=20, length=length, mtr_pages=mtr_pages, write_share=1.0)
    for each in workload.draw(Seeds(seed).stream("w"), 0):
        assert each.offset + 8 * (len(each.pages) - 1) + each.length <= 8192


# ---- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(25))
def test_a_drawn_schedule_is_read_as_it_was_written(seed: int) -> None:
    drawn = attrs.evolve(generate(seed), shape="")  # what drew it, a scenario does not say
    schedule = without_idle_actions(drawn)
    assert scenario.loads(scenario.dump(schedule)).schedule() == schedule


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TIMES = st.integers(0, 10 * SECOND)
OPERATIONS = st.builds(
    Operation,
    at_ns=TIMES,
    client=st.integers(0, 9),
    kind=st.sampled_from(("put", *READS)),
    pages=st.lists(st.integers(0, 2**40), min_size=1, max_size=4).map(tuple),
    offset=st.integers(0, 8000),
    length=st.integers(8, 100),
    age=st.floats(0, 1),
    sticky=st.booleans(),
    early=st.booleans(),
    way=st.sampled_from(("put_many", "submit", "mtr")),
    hold_ns=TIMES,
    patience_ns=st.none() | TIMES,
)
WRONG = st.builds(
    Operation,
    at_ns=TIMES,
    client=st.integers(0, 9),
    kind=st.just("wrong"),
    pages=st.just((1,)),
    wrong=st.sampled_from(sorted(WRONG_CALLS)),
)
KNOBS = st.builds(
    Knobs,
    pg_count=st.integers(1, 4),
    lal=st.integers(4, 2**40),
    retention_lsns=st.none() | st.integers(0, 9),
    link=st.builds(LinkProfile, TIMES, TIMES, st.floats(0, 1, exclude_max=True)),
    cross_az_link=st.none() | st.builds(LinkProfile, TIMES),
    disk=st.builds(DiskProfile, TIMES, sync_failure=st.floats(0, 1, exclude_max=True)),
    duration_ns=st.just(11 * SECOND),
)
ACTIONS = st.sampled_from(
    [
        Action(at_ns=5, kind="crash", target="az1,C0"),
        Action(at_ns=6, kind="cut", target="writer-2", params={"others": "A,az3"}),
        Action(at_ns=7, kind="slow", target="B", params={"factor": 0.1}),
        Action(at_ns=8, kind="bit_rot", target="F0", params={"bits": 3, "offset": 77}),
        Action(at_ns=9, kind="take_over"),
    ]
)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**70), TEXTS, KNOBS, st.lists(ACTIONS), st.lists(OPERATIONS | WRONG, max_size=4)
)
def test_any_schedule_is_read_as_it_was_written(
    seed: int, name: str, knobs: Knobs, actions: list[Action], operations: list[Operation]
) -> None:
    schedule = Schedule(
        seed=seed,
        name=name,
        knobs=knobs,
        actions=tuple(sorted(actions, key=lambda each: each.at_ns)),
        operations=tuple(sorted(operations, key=lambda each: each.at_ns)),
    )
    fits = all(e.offset + 8 * (len(e.pages) - 1) + e.length <= 8192 for e in operations)
    text = scenario.dump(schedule, description=name, bug="no-fencing")
    if fits:
        found = scenario.loads(text, default_name="another")
        assert found.schedule() == schedule
        assert (found.description, found.bug) == (name.strip(), "no-fencing")
    else:
        with pytest.raises(ScenarioError, match="expected at most 8192"):
            scenario.loads(text)


def test_what_toml_cannot_say_is_not_written() -> None:
    action = Action(at_ns=1, kind="slow", target="A", params={"factor": None})
    with pytest.raises(Invalid, match="None in a schedule"):
        scenario.dump(Schedule(seed=1, actions=(action,)))


@given(st.integers(0, 2**53))
def test_times_are_exact(ns: int) -> None:
    assert parse_time(format_time(ns)) == ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [("1s", SECOND), ("1.5ms", 1_500_000), ("0.000001ms", 1), ("10 us", 10_000), ("7ns", 7)],
)
def test_times_that_are_read(text: str, ns: int) -> None:
    assert parse_time(text) == ns


@pytest.mark.parametrize("text", ["", "5", "-1s", "1m", "0.5ns", "1e3s", "s", "1.s", "½s"])
def test_times_that_are_not(text: str) -> None:
    assert parse_time(text) is None


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("name = ", "f.toml: not TOML: Invalid value (at end of document)"),
        ("nmae = 'x'", "f.toml, line 1: nmae: unknown key: did you mean 'name'? expected one of"),
        ("seed = 'x'", "f.toml, line 1: seed: found 'x': expected an integer of at least 0"),
        ("seed = true", "seed: found True: expected an integer"),
        ("\n[knobs]\n\nlall = 3", "f.toml, line 4: knobs.lall: unknown key: did you mean 'lal'?"),
        ("[knobs]\nlal = 0", "f.toml, line 2: knobs.lal: found 0: expected a"),
        ("[knobs]\nduration = 5", "line 2: knobs.duration: found 5: expected a time such as"),
        ("[knobs.link]\nloss = 2", "line 2: knobs.link.loss: found 2.0: expected 0 to 1"),
        ("[knobs.link]\nloss = 1", "line 2: knobs.link.loss: found 1: expected less than 1, or"),
        ("[knobs.disk]\nsync_failure = 1.0", "line 2: knobs.disk.sync_failure: found 1.0: expec"),
        ("name = 'x'\n[[actions]]\nat='1s'", "f.toml, line 2: actions: unknown key: did you mean"),
        (
            "[[operation]]\nat='1s'\nclient=0\ndo='put'\npages=[99999999999999999999]",
            "line 5: operation[1].pages: found [99999999999999999999]: expected a list of integers",
        ),
        ("[workload]\npages=99999999999999999999", "line 2: workload.pages: found 9999999999999"),
        ("[knobs]\nlink = 3", "line 2: knobs.link: found 3: expected a table, [link]"),
        ("action = 3", "line 1: action: found 3: expected an array of tables, [[action]]"),
        ("[[action]]\nfault = 'crash'", "line 1: action[1].at: missing: expected a time"),
        ("[[action]]\nat = '1s'\nfault = 'crahs'", "line 3: action[1].fault: found 'crahs': did"),
        (
            "[[action]]\nat='1s'\nfault='heal'\n[[action]]\nat='1s'\nfault='crash'\ntarget='az4'",
            "line 7: action[2].target: 'az4' names no segment: did you mean 'az3'?",
        ),
        ("[[action]]\nat='1s'\nfault='heal'\ntarget='A'", "fault heal takes no target"),
        ("[[action]]\nat='1s'\nfault='crash'\ntarget='B1'", "'B1' names no segment: did you mean"),
        (
            "[[action]]\nat='1s'\nfault='cut'\ntarget='A'\nothers='wrtier'",
            "others: 'wrtier' names nobody: did you mean 'writer'?",
        ),
        ("[[action]]\nat='1s'\nfault='slow'\ntarget='A'\nfactro=2", "did you mean 'factor'?"),
        ("[[action]]\nat='2s'\nfault='crash'\ntarget='A'", "found 2s: expected before 2s, when"),
        ("[[action]]\nat='1s'\nfault='recover'\nrepeat=9", "every: missing: expected a time"),
        (
            "operation = [\n {at='1s',client=0,do='get',pages=[1]},\n {at='1s',client=0,do='pu'}]",
            "line 3: operation[2].do: found 'pu': did you mean 'put'?",
        ),
        ("[[operation]]\nat='1s'\nclient=0\ndo='put'\npages=[]", "found []: expected a list of in"),
        (
            "[[operation]]\nat='1s'\nclient=0\ndo='put'\npages=[1,2]\noffset=8180",
            "found an end at byte 8196: expected at most 8192",
        ),
        (
            "[[operation]]\nat='1s'\nclient=0\ndo='wrong'\npages=[1]",
            "operation[1].wrong: missing: expected what is wrong",
        ),
        (
            "[[operation]]\nat='1s'\nclient=0\ndo='get'\npages=[1]\nwrong='no data'",
            "line 6: operation[1].wrong: found 'no data': expected nothing, as do is 'get'",
        ),
        (
            "[[operation]]\nat='1s'\nclient=0\ndo='put'\npages=[1,2]\nway='put'",
            "line 5: operation[1].pages: found 2 pages: expected 1, which is what put takes",
        ),
        ("[workload]\nways=['mrt']", "ways: found 'mrt': did you mean 'mtr'?"),
        ("[workload]\npatience=3", "patience: found 3: expected a time such as"),
        (
            "[workload]\nrate=1\noperations=1",
            "rate: found together with operations: expected one of",
        ),
        ("[workload]\nuntil='3s'", "until: found 0s to 3s: expected a later end, at most 2s"),
        ("[workload]\nreads=['gte']", "reads: found 'gte': did you mean 'get'?"),
        ("[workload]\nclients=0", "clients: found 0: expected an integer of at least 1"),
        ("[workload]\nclients=5000", "clients: found 5000: expected at most 1000"),
        ("[knobs]\nduration='0s'", "knobs.duration: found '0s': expected 1ms to 86400s"),
        ("[knobs]\nduration='1ns'", "line 2: knobs.duration: found '1ns': expected 1ms"),
        ("[knobs]\nduration='10000000s'", "knobs.duration: found '10000000s': expected 1ms"),
        ("[knobs]\nliveness='0s'", "knobs.liveness: found '0s': expected 1ms to 86400s"),
        ("[knobs]\ncheck_every=0", "check_every: found 0: expected an integer from 1 to 1,000,000"),
        ("[knobs]\nlal=1\n[workload]", "line 2: knobs.lal: found 1: expected at least 3"),
        (
            "[knobs]\nlal=1\n[[operation]]\nat='1s'\nclient=0\ndo='put'\npages=[1,2]",
            "line 2: knobs.lal: found 1: expected at least 2",
        ),
        (
            "[knobs]\nmax_mtr_writes=2\n[workload]\npages=1",
            "line 2: knobs.max_mtr_writes: found 2: expected at least 3, the records",
        ),
        (
            "[knobs]\nmax_mtr_bytes=8192\n[workload]\nbytes=4096",
            "line 2: knobs.max_mtr_bytes: found 8192: expected at least 12288, the bytes",
        ),
        ("seed=1\nbug='no-fensing'", "line 2: bug: found 'no-fensing': did you mean 'no-fencing'?"),
        ("bug=0", "line 1: bug: found 0: expected a string"),
        ("[[expect]]\nmax_stall='1s'", "line 1: expect[1]: found no subject: expected one of"),
        ("[[expect]]\nreads='wait'\nwrites='wait'", "found writes and reads: expected one of"),
        ("[[expect]]\nwrites='goes on'", "writes: found 'goes on': did you mean 'go on'?"),
        ("[[expect]]\nwrites='wait'\nmax_stall='1s'", "max_stall: unknown key"),
        ("[[expect]]\nwrites='wait'\nfrom='2s'", "until: found 2s to 2s: expected a later end"),
        ("[[expect]]\nlost=['Q']", "lost: 'Q' names no segment: expected A0 to F0"),
        ("[[expect]]\nreaches='writer fencd'", "did you mean 'writer fenced'?"),
        ("[[expect]]\nverdict='violation'\ninvariant='hist'", "did you mean 'history'?"),
    ],
)
def test_bad_files_are_refused_with_place_and_reason(text: str, error: str) -> None:
    with pytest.raises(ScenarioError) as raised:
        scenario.loads(text, "f.toml")
    assert str(raised.value).startswith("f.toml")
    assert error in str(raised.value)


@pytest.mark.parametrize(
    ("fault", "target", "more", "error"),
    [
        (
            "slow",
            "A",
            "factor='big'",
            "factor: found 'big': expected a number from 0.01 to 100,000",
        ),
        ("slow", "A", "factor=-3", "factor: found -3: expected a number from 0.01 to 100,000"),
        ("slow_disk", "A", "factor=nan", "factor: found nan: expected a number"),
        ("slow", "A", "factor=true", "factor: found True: expected a number"),
        ("bit_rot", "A", "bits='x'", "bits: found 'x': expected an integer from 1 to 10,000"),
        ("bit_rot", "A", "bits=-1", "bits: found -1: expected an integer"),
        ("bit_rot", "A", "bits=1.5", "bits: found 1.5: expected an integer"),
        ("bit_rot", "A", "frame=0\noffset=0", "frame: found with offset: expected one of the two"),
        ("rot_promise", "A", "slot=3", "slot: found 3: expected an integer from 1 to 2"),
        (
            "fail_writes",
            "A",
            "write='reading'",
            "write: found 'reading': expected one of any, append, promise, compaction, file, names",
        ),
        ("bit_rot", "A", "offset=99999999", "offset: found 99999999: expected an integer from 0"),
        (
            "fail_writes",
            "A",
            "count='many'",
            "count: found 'many': expected an integer from 0 to 1,",
        ),
        ("fail_syncs", "A", "count=-5", "count: found -5: expected an integer from 0 to 1,000,000"),
        ("cut", "A", "others=3", "others: found 3: expected names such as"),
        ("cut", "A", "others='Z'", "others: 'Z' names nobody: expected A0 to F0"),
        ("partition", "A", "others='A'", "others: found 'A': expected somebody on the other side"),
        ("clog", "A,B", "others='az1'", "others: found 'az1': expected somebody"),
        ("cut", "writers", "others='writer-2'", "others: found 'writer-2': expected somebody"),
        (
            "cut",
            "az1,az2,az3,writers",
            "",
            "target: found 'az1,az2,az3,writers': expected somebody",
        ),
        ("crash", "writer", "", "target: 'writer' names a writer: expected A0 to F0"),
    ],
)
def test_a_faults_parameters_are_checked_before_anything_runs(
    fault: str, target: str, more: str, error: str
) -> None:
    text = f"[[action]]\nat='1s'\nfault='{fault}'\ntarget='{target}'\n{more}"
    with pytest.raises(ScenarioError) as raised:
        scenario.loads(text, "f.toml")
    line = 4 if error.startswith("target") else 5
    assert str(raised.value).startswith(f"f.toml, line {line}: action[1].{error}")


def test_every_parameter_has_bounds_and_a_default_within_them() -> None:
    for fault in FAULTS.values():
        for param in fault.params.values():
            assert param.default is None or param.accepts(param.default), fault
            assert param.kind is str or (
                param.accepts(param.least) and not param.accepts(param.most + 1)
            )


@pytest.mark.parametrize("seed", range(30))
def test_what_seeds_draw_is_within_the_bounds(seed: int) -> None:
    schedule = generate(seed)
    check_ranges(schedule.knobs)
    for action in schedule.actions:
        check(action, VolumeGeometry(schedule.knobs.pg_count).groups())


def test_a_writer_that_does_not_exist_yet_is_cut_off_when_it_comes() -> None:
    text = """
        seed = 2
        [knobs]
        duration = "300ms"
        liveness = "5s"
        [workload]
        rate = 100
        [[action]]
        at = "0s"
        fault = "cut"
        target = "writer-2"
        [[action]]
        at = "20ms"
        fault = "recover"
        [[expect]]
        writes = "wait"
        from = "30ms"
        """
    found = scenario.loads(text)
    result = run(found.schedule())
    assert result.verdict is Verdict.PASSED
    assert all(each.judge(result).met for each in found.expectations)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"none\.toml: cannot be read: No such file"):
        scenario.load(tmp_path / "none.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioError, match="not UTF-8"):
        scenario.load(binary)


def test_a_scenario_is_found_by_name_or_path() -> None:
    assert scenario.find("quiet").name == "quiet.toml"
    assert scenario.find("./x") == Path("./x")
    assert scenario.find("x.toml") == Path("x.toml")
    with pytest.raises(Invalid, match="did you mean 'az-outage'"):
        scenario.find("az-outag")


def test_lines_of_keys_and_tables() -> None:
    text = 'a = """\n[no]\nb = 1"""\n[t]\nc = [\n {x=1},\n {x=2},\n]\n[[u]]\n[[u]]\nd = 1\n'
    assert line_numbers(text) == {
        ("a",): 1,
        ("t",): 4,
        ("t", "c"): 5,
        ("t", "c", 0): 6,
        ("t", "c", 1): 7,
        ("u",): 9,
        ("u", 0): 9,
        ("u", 1): 10,
        ("u", 1, "d"): 11,
    }


def test_episodes_begin_and_end() -> None:
    def episodes(*actions: Action) -> list[tuple[str, int, int, tuple[str, ...]]]:
        schedule = Schedule(seed=0, actions=actions, knobs=Knobs(duration_ns=100))
        found = episodes_of(schedule, 200)
        return [(e.title, e.start_ns, e.end_ns, e.segments) for e in found]

    def action(at_ns: int, kind: str, target: str = "", **params: object) -> Action:
        return Action(at_ns=at_ns, kind=kind, target=target, params=params)

    assert episodes(
        action(10, "crash", "az1"), action(20, "restart", "A"), action(30, "restart", "B0")
    ) == [("crash az1", 10, 30, ("A0", "B0"))]
    assert episodes(action(10, "crash", "A"), action(20, "restart", "B")) == [
        ("crash A", 10, 100, ("A0",))
    ]
    assert episodes(action(10, "slow", "A", factor=3), action(20, "slow", "A", factor=1)) == [
        ("slow A (factor 3)", 10, 20, ("A0",))
    ]
    assert episodes(action(10, "wipe", "A"), action(20, "restart", "A")) == [
        ("wipe A", 10, 200, ("A0",))
    ]
    assert episodes(
        action(10, "cut", "writer", others="A"), action(15, "take_over"), action(20, "heal_network")
    ) == [("cut writer to A", 10, 20, ()), ("take_over", 15, 15, ())]
    assert episodes(action(10, "pause", "A"), action(20, "heal")) == [("pause A", 10, 20, ("A0",))]
    assert attrs.evolve(generate(1), actions=()).actions == ()


@pytest.mark.parametrize("liveness", ["60s", "1ms"])
def test_a_duration_shorter_than_opening_takes_runs_like_any_other(liveness: str) -> None:
    text = f"[knobs]\nduration = '1ms'\nliveness = '{liveness}'\n[workload]\noperations = 20"
    result = run(scenario.loads(text).schedule())
    if liveness == "60s":
        assert (result.verdict, len(result.calls)) == (Verdict.PASSED, 20), result.finding
    else:  # that is what was asked for, and no fault of the simulator's
        assert (result.verdict, result.invariant) == (Verdict.LIVENESS, "heals-and-converges")


AT_ONCE = "minimum = '0s'\nextra_mean = '0s'"


@pytest.mark.parametrize(
    "knobs",
    [
        "liveness = '1ms'\nduration = '1ms'",
        "buffer_pool_pages = 3",
        "lal = 3\ncompact_bytes = 4096\nfold_bytes = 1\ncollect_ratio = 0.01\nretention_lsns = 0",
        f"[knobs.link]\n{AT_ONCE}\n[knobs.disk]\n{AT_ONCE}",
        "liveness = '1s'\n[knobs.link]\nloss = 0.99",
        "liveness = '1s'\n[knobs.link]\nminimum = '86400s'",
        "liveness = '1s'\n[knobs.disk]\nwrite_failure = 0.99",
        "liveness = '1s'\n[knobs.disk]\nsync_failure = 0.99",
    ],
)
def test_a_world_at_its_extremes_comes_to_a_verdict(knobs: str) -> None:
    duration = "" if "duration" in knobs else "duration = '50ms'\n"
    text = f"[knobs]\n{duration}{knobs}\n[workload]\noperations = 20"
    result = run(scenario.loads(text).schedule())
    assert result.verdict in (Verdict.PASSED, Verdict.LIVENESS, Verdict.UNDECIDED), result.finding
