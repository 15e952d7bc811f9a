"""The story of a failing run: true in every sentence, short, and with what made the run fail.

Told for every deliberate bug's own schedule, and held against the steps that were recorded.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations, product
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest
from click.testing import CliRunner

from aurora.events import Acknowledged, MtrAllocated
from segments.protocol.events import (
    AckSent,
    BatchReceived,
    Event,
    GossipReceived,
    LayerReceived,
    RecordsApplied,
    WriteStarted,
    WriteSynced,
)
from segments.protocol.ids import Lsn
from segments.protocol.volume import VolumeGeometry
from sim.bugs import BUGS, PROTOCOL
from sim.check.invariants import INVARIANTS
from sim.check.lost_quorums import quorum_without
from sim.commands.case import Case, open_case
from sim.commands.explain import MAX_LINES, MAX_LINES_PASSED, PIPE_WIDTH, command, explained
from sim.plan.generate import generate
from sim.plan.schedule import MS, Action, Knobs, Operation, Schedule
from sim.plan.shapes.mixed import MIXED
from sim.run import RunResult, Verdict
from sim.story import Recorder, tell
from sim.story.evidence import Evidence
from sim.story.faults import faults
from sim.story.focus import focus_of
from sim.story.lines import LAST, NEEDED, Line, chosen, shown
from sim.story.recorder import Step
from tests.busy import BUSY

FACTS: dict[str, tuple[str, ...]] = {
    "write-quorum-3": (
        "writer-1 allocates LSN 1 for page 0",
        "LSN 1 arrives at A0 B0 C0 and is synced there",
        "LSN 1 acknowledged by A0 B0 C0: 3 of 6, needs 4; and yet its PGCL and the VDL are 1 now",
    ),
    "read-quorum-2": (
        "writer-1 allocates LSN 1",
        "LSN 1 arrives at A0 B0 C0 D0 and is synced there",
        "LSN 1 acknowledged by A0 B0 C0 D0: 4 of 6, needs 4",
        "writer-2, with E0 F0 (SCL 0): 2 of 6, needs 3, plans VDL 0; it annuls LSN 1–100000, LSN 1",
    ),
    "ack-before-persist": (
        "LSN 1 arrives at A0",
        "A0 sends writer-1 its acknowledgement, SCL 1, before any sync",
        "A0 has not synced anything yet",
    ),
    "vdl-not-cpl": (
        "allocates LSN 1 to 2, one mini-transaction, for page 0 of group 0 (LSN 1), page 1 of",
        "LSN 2 is lost on its way to A1 B1 C1 D1 E1 F1",
        "group 0's PGCL and the VDL are 1 now",
        "nobody has acknowledged LSN 2",
    ),
    "no-fencing": (
        "A0 seals epoch 2 (writer-2)",
        "writer-1 allocates LSN 2 for page 0; writer-2 has annulled that",
        "A0 takes LSN 2 from writer-1 (epoch 1)",
    ),
    "scl-before-seal": (
        "writer-2 begins to seal epoch 2",
        "A0 sends a seal reply of epoch 2 (writer-2)",
        "its promise slots say epoch 1 (writer-1) and the table of epoch 1 (writer-1)",
    ),
    "queue-survives-seal": (
        "LSN 2 arrives at C0 D0 E0 F0",
        "writer-2 begins to seal epoch 2",
        "LSN 2, queued before, is synced at C0 all the same, with the seal",
        "C0 acknowledges SCL 2 to epoch 1 (writer-1); it had answered the seal of epoch 2",
    ),
    "no-truncation": (
        "a recovery now would hear: A0 B0 C0 (SCL 0)",
        "opens at VDL 0 and annuls nothing",
    ),
    "short-range": (
        "plans VDL 1; it annuls LSN 2–21",
        "a recovery now would hear: A0 (SCL 1, writer-2's table: annuls LSN 2–21)",
        "opens at VDL 1 and annuls 2–21: expected 2–41",
    ),
    "tables-unioned": (
        "LSN 2 acknowledged by D0 E0 F0: 3 of 6, needs 4",
        "writer-2, with A0 B0 C0 (SCL 1): 3 of 6, needs 3, plans VDL 1; it annuls LSN 2–21, LSN 2",
        "writer-2's table is adopted by A0; not by B0 C0 D0 E0 F0",
        "writer-3's table is adopted by B0 C0 D0 E0 F0; not by A0",
        "writer-3 opens at VDL 2",
        "a recovery now would hear: A0 (SCL 1, writer-2's table: annuls LSN 2–21)",
    ),
    "tables-ignored": (
        "plans VDL 1; it annuls LSN 2–21",
        "a recovery now would hear: A0 (SCL 1, writer-2's table: annuls LSN 2–21)",
        "opens at VDL 1 and annuls 2–21: expected 2–41",
    ),
    "third-highest-scl": ("LSN 1 acknowledged by A0 B0 C0: 3 of 6, needs 4; and yet its PGCL",),
    "open-before-rereplication": (
        "writer-2, with A0 (SCL 1), B0 C0 (SCL 0): 3 of 6, needs 3, plans VDL 1",
        "writer-2 opens while its record LSN 1 is acknowledged by A0: 1 of 6, needs 4",
    ),
    "open-after-one-install": (
        "writer-2 opens at VDL 1, its table at A0: 1 of 6, needs 4",
        "writer-2 opens while its record LSN 1 is acknowledged by A0: 1 of 6, needs 4",
    ),
    "gossip-resurrects": (
        "LSN 2 arrives at F0",
        "it annuls LSN 2–21, LSN 2 with it",
        "adopted by A0 B0 C0 D0 E0; not by F0",
        "E0 takes gossip of LSN 2 from F0, which is in epoch 1 (writer-1)",
    ),
    "count-per-record": (
        "LSN 1 arrives at A0 B0 C0 D0 and is synced there; lost on the way to E0 F0",
        "LSN 2 is synced at A0 B0 C0",
        "E0 counts for LSN 2, but had acknowledged SCL 0 only: LSN 1 is missing there",
    ),
    "vcl-max-pgcl": (
        "LSN 1 is lost on its way to A0 B0 C0 D0 E0 F0",
        "group 1's PGCL and the VDL are 2 now",
        "nobody has acknowledged LSN 1 to writer-1: 0 of 6, needs 4",
    ),
    "vcl-min-pgcl": (
        "acknowledged by A1 B1 C1 D1: 4 of 6, needs 4; group 1's PGCL is 1 now, the VDL stays 0",
        "VCL 0 stays behind: LSN 1 is at the PGCL of PG 1, 1",
    ),
    "gc-above-pgmrpl": (
        "collected up to 3: A0 B0 C0 D0 E0 F0; the floor announced is 0, a reader is at 2",
        "A0 refuses: its SCL is 3, its floor 3",
    ),
    "evict-above-vdl": (
        "LSN 1 acknowledged by A0 B0 C0: 3 of 6, needs 4",
        "writer-1 puts LSN 1 into page 0 in its pool of 1 page",
    ),
    "serve-below-required": (
        "2 batches from writer-1 to A0 (cut)",
        "writer-1 asks A0 for what takes SCL 2",
        "behind at the end: A0 (SCL 0, the group ends at 2)",
    ),
    "lal-ignored": (
        "writer-1 allocates LSN 3",
        "LSN 1 acknowledged by A0 B0 C0: 3 of 6, needs 4",
        "no LSN may be more than 2 (LAL) above the VDL",
    ),
    "coalesce-above-vdl": (
        "the highest VDL that A0 has been told is 1, by writer-1",
        "A0 keeps page 0 as of 2: announced VDL 1",
    ),
    "retransmit-not-idempotent": ("LSN 3 comes to A0 2 times",),
    "torn-tail-kept": (
        "F0 begins to write 132 bytes; it goes down before the sync",
        "121 torn bytes at its end",
        "its log has 403 bytes, the new ones from 237 on",
        "F0 takes its log for 403 bytes long: expected 524",
    ),
    "wiped-rejoins": (
        "writer-2 begins to seal epoch 2",
        "fault: wipe F",
        "it has promised nothing",
    ),
    "amnesiac-votes": (
        "fault: wipe A",
        "A0 restarts from its log with SCL 0; it has promised nothing",
    ),
    "newer-for-older": (
        "takes page 0 as of 1 from its cache: the version there is of LSN 2",
        "page 0 as of 1 should hold LSN 1",
    ),
    "same-mtr-chain": (
        "allocates LSN 2 to 3, one mini-transaction, for page 0 (LSN 2, 3)",
        "writer-1 allocates LSN 3 of page 0 after 0: expected 2",
    ),
}
"""What each bug's story must say: without it nobody sees why the run failed."""

SUBJECTS: dict[str, tuple[Lsn, ...]] = {
    "vcl-min-pgcl": (1,),
    "write-quorum-3": (1,), "read-quorum-2": (1,), "vdl-not-cpl": (), "scl-before-seal": (),
    "queue-survives-seal": (2,), "no-truncation": (), "short-range": (),
    "tables-unioned": (2,), "tables-ignored": (), "third-highest-scl": (1,),
    "open-before-rereplication": (1,), "open-after-one-install": (1,), "count-per-record": (2,),
    "vcl-max-pgcl": (1,), "evict-above-vdl": (1,), "serve-below-required": (),
    "lal-ignored": (3,), "ack-before-persist": (1,), "retransmit-not-idempotent": (3,),
    "newer-for-older": (1,),
    "same-mtr-chain": (3,),
}  # fmt: skip
"""Which LSNs a finding is about, where it is about any."""


@attrs.frozen
class Told:
    """A failed run, and all that is needed to tell of it."""

    case: Case
    recorder: Recorder
    result: RunResult

    def lines(self, width: int = PIPE_WIDTH) -> list[str]:
        return explained(self.recorder, self.result, self.case, width)

    def text(self, width: int = PIPE_WIDTH) -> str:
        return " ".join(" ".join(self.lines(width)).split())


def told(case: Case) -> Told:
    recorders: list[Recorder] = []
    result = case.run(lambda world: recorders.append(Recorder(world)))
    return Told(case, recorders[0], result)


@cache
def of_bug(name: str) -> Told:
    directed = BUGS[name].directed
    assert directed is not None
    return told(Case(schedule=directed(), bug=name, source=f"{name}.toml"))


@cache
def of_scenario(name: str) -> Told:
    return told(open_case(None, name, None))


@cache
def of_seed(seed: int, bug: str) -> Told:
    return told(Case(schedule=generate(seed, MIXED), bug=bug, source=f"--seed {seed} --bug {bug}"))


def sentences(lines: Sequence[str]) -> list[str]:
    """The story's sentences, each in one piece, with its time in front."""
    found: list[str] = []
    for line in lines:
        if re.match(r" *\d+\.\d{4} s  ", line):
            found.append(line.strip())
        elif line.startswith(" " * 13):
            found[-1] += " " + line.strip()
    return found


# ---- what every story must be --------------------------------------------------------------------


def test_every_bug_of_the_protocol_has_its_facts() -> None:
    assert list(FACTS) == list(PROTOCOL)


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", FACTS)
def test_the_story_says_what_made_the_run_fail(name: str, width: int) -> None:
    text = of_bug(name).text(width)
    for fact in FACTS[name]:
        assert fact in text, fact


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("name", FACTS)
def test_a_story_fits_and_is_in_order(name: str, width: int) -> None:
    lines = of_bug(name).lines(width)
    assert len(lines) <= MAX_LINES
    assert all(len(line) <= width for line in lines[:-1])
    assert lines[-1].startswith("next   python -m aurora.sim ")
    assert sum(max(0, len(line) - 1) // width for line in lines) + len(lines) <= MAX_LINES
    times = [float(each.partition(" s")[0]) for each in sentences(lines)]
    assert times == sorted(times) and times
    assert not any(mark in line for line in lines for mark in ("['", "{'", "…", "1 calls"))


def test_a_story_breaks_lines_between_words() -> None:
    whole = sentences(of_bug("tables-unioned").lines(1000))
    narrow = sentences(of_bug("tables-unioned").lines(80))
    assert set(narrow) <= set(whole)


SEEDS = ((8, "write-quorum-3"), (8, "scl-before-seal"), (8, "no-truncation"))


@pytest.mark.parametrize("name", FACTS)
def test_every_sentence_about_a_record_is_proved_by_a_step(name: str) -> None:
    checked = assert_true(of_bug(name))
    assert checked or "acknowledged by" not in " ".join(FACTS[name])


@pytest.mark.parametrize(("seed", "bug"), SEEDS)
def test_so_is_every_sentence_about_a_random_run(seed: int, bug: str) -> None:
    run = of_seed(seed, bug)
    assert_true(run)
    assert len(run.lines(80)) <= MAX_LINES


def assert_true(run: Told) -> int:
    """No member is said to have, to have synced or to have acknowledged what it has not.

    Returns how often that was said of any.
    """
    checked = 0
    for sentence in sentences(run.lines(1000)):
        for claim, lsn, names in claims(sentence):
            pg_id = run.recorder.run.checker.reference.pg_of(lsn)
            members = run.recorder.world.cluster.groups[pg_id].members
            for name in names:
                assert name in members, sentence
                assert proved(run.recorder.steps, claim, lsn, name), (name, sentence)
                checked += 1
    return checked


CLAIMS = {
    "arrived": re.compile(r"LSN (\d+) arrives at ([^;]*)"),
    "synced": re.compile(r"LSN (\d+)(?:, queued before,)? is synced at ([^;]*?)(?: all|$)"),
    "acknowledged": re.compile(r"hears LSN (\d+) acknowledged by ([^:]*)"),
    "held": re.compile(r"at the end LSN (\d+) is on ([^;]*)"),
}


def claims(sentence: str) -> Iterator[tuple[str, Lsn, list[str]]]:
    for claim, pattern in CLAIMS.items():
        for lsn, names in pattern.findall(sentence):
            found = re.findall(r"\b[A-F]\d\b", names)
            yield claim, int(lsn), found
            if "and is synced there" in names:
                yield "synced", int(lsn), found


def proved(steps: Sequence[Step[Event]], claim: str, lsn: Lsn, name: str) -> bool:
    came = [each for each in steps if each.source == name and brings(each, lsn)]
    if not came:
        return False
    since = came[0].number
    if claim == "synced":
        return any(
            each.source == name and isinstance(each.event, WriteSynced) and each.number > since
            for each in steps
        )
    if claim == "acknowledged":
        return any(
            isinstance(each.event, Acknowledged)
            and each.event.segment == name
            and each.event.scl >= lsn
            and each.number > since
            for each in steps
        )
    return True


def brings(step: Step[Event], lsn: Lsn) -> bool:
    match step.event:
        case LayerReceived(end_lsn=end_lsn):
            return end_lsn >= lsn
        case BatchReceived(lsns=(first, last)) | GossipReceived(lsns=(first, last)):
            return first <= lsn <= last
    return False


def test_what_is_not_so_is_caught() -> None:
    steps = of_bug("tables-ignored").recorder.steps
    assert proved(steps, "arrived", 2, "F0") and proved(steps, "synced", 2, "F0")
    assert not proved(steps, "arrived", 2, "A0")  # its SCL went from 1 to 22
    early = of_bug("ack-before-persist").recorder.steps
    assert proved(early, "arrived", 1, "A0") and not proved(early, "synced", 1, "A0")
    assert [*claims("LSN 5 is synced at B1, A1 +1.1 ms")] == [("synced", 5, ["B1", "A1"])]


def test_a_record_above_what_a_truncation_annuls_is_no_proof_of_what_is_below() -> None:
    run = of_bug("tables-ignored")
    copies = Evidence(run.recorder, run.result).copies(2)
    assert copies["F0"].synced is not None and copies["F0"].annulled is None
    assert not any(copies[name].held for name in ["A0", "B0", "C0", "D0", "E0"])


def evidence_of(run: Told, *steps: tuple[str, Event]) -> Evidence:
    """As if these had been the steps of a run after its allocations, all at the same time."""
    born = [step for step in run.recorder.steps if isinstance(step.event, MtrAllocated)]
    since = born[-1].number + 1
    made = [
        Step(since + place, born[-1].time_ns, source, event)
        for place, (source, event) in enumerate(steps)
    ]
    recorder = SimpleNamespace(run=run.recorder.run, world=run.recorder.world, steps=[*born, *made])
    return Evidence(recorder, run.result)  # type: ignore[arg-type]


COMES = ("A0", BatchReceived("writer-1", seq=1, lsns=(1, 1), vdl=0))
STARTS = ("A0", WriteStarted(61, promise=False, new_file=False))
SYNCS = ("A0", WriteSynced(log_bytes=105))
APPLIES = ("A0", RecordsApplied(count=1, before=0, scl=1))
ACKS = ("A0", AckSent("writer-1", seq=1, scl=1, log_bytes=105))


def test_the_sync_of_a_record_is_that_of_the_write_that_began_after_it_came() -> None:
    run = of_bug("write-quorum-3")
    right = evidence_of(run, COMES, STARTS, SYNCS, APPLIES, ACKS).copies(1)["A0"]
    assert right.synced is not None and isinstance(right.synced.event, WriteSynced)
    assert right.acked is not None and right.acked.number > right.synced.number
    busy = evidence_of(run, STARTS, COMES, SYNCS, APPLIES, ACKS).copies(1)["A0"]
    assert busy.synced is None and busy.acked is not None
    early = evidence_of(run, COMES, APPLIES, ACKS, STARTS, SYNCS).copies(1)["A0"]
    assert early.synced is not None and early.acked is not None
    assert early.synced.number > early.acked.number


def test_a_batch_brings_only_what_is_alive_to_its_writer() -> None:
    run = of_bug("tables-ignored")
    for writer, brings_it in (("writer-1", True), ("writer-2", False)):
        batch = ("A0", BatchReceived(writer, seq=1, lsns=(1, 22), vdl=0))
        held = evidence_of(run, batch).copies(2)["A0"].held
        assert held is brings_it, "writer-2 has annulled LSN 2"


def test_faults_of_what_the_finding_names_weigh_more() -> None:
    run = of_bug("wiped-rejoins")
    evidence = Evidence(run.recorder, run.result)
    for near, weight in ((("F0",), 6), (("B0",), 4), (None, 6)):
        lines = {line.text: line.weight for line in faults(evidence, near, 6)}
        assert lines["fault: wipe F"] == weight
        assert lines["fault: take_over"] == 6


def test_members_of_other_groups_do_not_hold_a_record() -> None:
    schedule = Schedule(
        seed=1,
        knobs=Knobs(pg_count=3, duration_ns=100 * MS),
        actions=(Action(at_ns=5 * MS, kind="crash", target="A1,B1,C1"),),
        operations=(
            Operation(at_ns=0, client=1, kind="put", pages=(0, 1, 2)),
            Operation(at_ns=20 * MS, client=1, kind="put", pages=(1, 0, 2)),
        ),
    )
    text = told(Case(schedule=schedule, bug="write-quorum-3", source="three.toml")).text()
    assert re.search(r"LSN 4 acknowledged by [^:]*: 3 of 6, needs 4; and yet group 1's", text)
    assert "A0" not in text and "A2" not in text


# ---- what a finding is about ---------------------------------------------------------------------


@pytest.mark.parametrize("name", FACTS)
def test_a_finding_says_what_its_story_is_about(name: str) -> None:
    focus = focus_of(of_bug(name).result.finding)
    assert focus.lsns == SUBJECTS.get(name, ())
    assert focus.lsns or focus.bounds or focus.segments or focus.pages


def test_names_are_taken_from_a_finding_in_the_order_in_which_they_matter() -> None:
    focus = focus_of("page 4 at 37: B0 and writer-2 know LSN 36; SCL 12 of commit 37, in call 8")
    assert (focus.lsns, focus.bounds) == ((36, 37), (12,))
    assert (focus.pages, focus.segments, focus.writers) == ((4,), ("B0",), ("writer-2",))
    assert focus.calls == (8,)
    assert focus_of("of call 3, an MTR at [5, 6], only [5] survived").lsns == (5, 6)
    assert focus_of("2 calls pending").calls == ()


FINDINGS = (
    "writer-2 opens at VDL 1; 2 had been observed",
    "A0 holds LSN 2, which its table annuls",
    "commit 2 reported at VDL 1",
    "A0 says SCL 2 and does not hold LSN 1",
    "A0 is in epoch 2 (writer-2) with the table of epoch 1 (writer-1); its disk says epoch 1",
    "call 3 read page 1 as of LSN 22: not found, but call 1 had written it at LSN 2",
    "of call 1, an MTR at [2, 3], only [2] survived",
    "expected writes go on, 0.0000 s to 1.0000 s, stalls up to 1.00 ms: found 0 answered",
    "expected at least 1000 commits: found 59",
    "expected reached: hedged read won: found 0 times",
    "LSN 99 and page 77 of Z9, which nobody knows",
)


@pytest.mark.parametrize(
    "invariant", [*INVARIANTS, "deadlock", "livelock", "undecided", "expectation", "x"]
)
@pytest.mark.parametrize("bug", ["tables-ignored", "vcl-max-pgcl", "gc-above-pgmrpl"])
def test_there_is_a_story_whatever_breaks(invariant: str, bug: str) -> None:
    run = of_bug(bug)
    for finding in FINDINGS:
        result = attrs.evolve(run.result, invariant=invariant, finding=finding)
        assert len(tell(run.recorder, result, rows=19, width=80)) <= 19


# ---- how it is told ------------------------------------------------------------------------------


def test_what_fewer_than_four_have_a_read_quorum_may_not_know_of() -> None:
    (group,) = VolumeGeometry(1).groups()
    for votes in product((False, True), repeat=6):
        having = {each for each, has in zip(group.members, votes, strict=True) if has}
        asked = quorum_without(group, having)
        blind = [each for each in combinations(group.members, 3) if not having & set(each)]
        assert bool(asked) == bool(blind) == (len(having) < 4)
        assert not asked or asked in blind


@pytest.mark.parametrize(
    ("seed", "gone", "others"), [(1, "B0", "A0 and C0"), (3, "F0", "B0 and D0")]
)
def test_who_cannot_answer_is_in_no_read_quorum(seed: int, gone: str, others: str) -> None:
    """B0 was rolled back and is lost; both promises of F0 have rotted, and it is down."""
    text = told(open_case(seed, None, "third-highest-scl")).text()
    assert f"would wait for one of {others} " in text
    assert f"{gone} can answer no recovery: if " in text
    assert "no read quorum is left, and nothing recovers" in text
    assert "recovers without" not in text


def test_a_record_that_all_have_counts_only_with_its_writers_table() -> None:
    run = told(open_case(4, None, "third-highest-scl"))
    text = run.text()
    assert "writer-4 hears LSN 22 acknowledged by A0 first, C0 E0 (+0.1 ms): 3 of 6" in text
    assert "is at A0 C0 E0: 3 of 6, needs 4; right would be no PGCL yet, until one of B0" in text
    assert "a read quorum of B0, D0 and F0 recovers without writer-4's table" in text
    assert "PGCL 0" not in text and "C0 has it on disk, too, only unheard" in text
    last = run.recorder.steps[-1].number
    assert last in {each.number for each in tell(run.recorder, run.result, 20, 100)}


THE_ACCUSED = {
    "merge-loses-a-boundary": (
        "A0 folds its log into layer-2: 1 record of LSN 1",
        "A0 merges layers 2, 3, 4, 5, 6, 7, 8 into layer-9: 0 records of LSN 1–7",
        "expected 7; missing: LSN 1–7; not its own: none",
    ),
    "stale-page-cached": (
        "writer-1 allocates LSN 1 for page 0",
        "call 2 of client 2 through writer-1: get page 0",
        "writer-1 asks A0 (known SCL 2, needed 2) for page 0 as of 2",
        "expected 1, the last record of that page before it",
    ),
    "sql-read-before-durable": (
        "page 3 (LSN 55, 56), page 4 (LSN 57, 58) and 1 more page",
        "sql head account 0, 1",
        "call 12 ends, ok",
    ),
}


@pytest.mark.parametrize("name", THE_ACCUSED)
def test_the_last_of_a_story_is_what_the_checker_objects_to(name: str) -> None:
    run = of_bug(name)
    for fact in THE_ACCUSED[name]:
        assert fact in run.text(), fact
    story = tell(run.recorder, run.result, 20, 100)
    last = [each.number for each in story if each.number < len(run.recorder.steps)][-1]
    assert last == run.recorder.steps[-1].number
    assert run.result.invariant != "one-lsn-one-record" or "no batch" not in run.text()


def test_the_heaviest_sentences_are_told_causes_first() -> None:
    lines = [
        Line(LAST, 9, NEEDED, "the end"),
        Line(3, 9, NEEDED, "an effect"),
        Line(2, 9, 5, "left out"),
        Line(1, 9, NEEDED, "a cause"),
        Line(1, 9, 4, "a cause"),
    ]
    told = chosen(lines, rows=3, width=80)
    assert [each.text for each in told] == ["a cause", "an effect", "the end"]


def test_a_sentence_that_needs_more_rows_than_there_are_gives_way() -> None:
    lines = [Line(1, 0, NEEDED, "word " * 40), Line(2, 0, 1, "short")]
    assert [shown(each, 80) for each in chosen(lines, rows=2, width=80)] == [["   0.0000 s  short"]]
    rows = [row for each in chosen(lines, rows=9, width=80) for row in shown(each, 80)]
    assert len(rows) == 5 and all(each.startswith(" " * 13 + "word") for each in rows[1:4])


def test_a_version_collected_too_early_is_told_with_the_floor_and_the_reader() -> None:
    knobs = Knobs(duration_ns=200 * MS, fold_bytes=1, collect_ratio=0.01, check_every=1)
    operations = (
        Operation(at_ns=0, client=4, kind="put", pages=(8, 3), length=8),
        Operation(at_ns=0, client=4, kind="view", pages=(7,), age=0.76, hold_ns=200 * MS),
    )
    schedule = Schedule(seed=0, knobs=knobs, operations=operations, name="early")
    run = told(Case(schedule=schedule, bug="gc-above-pgmrpl", source="early.toml"))
    assert run.result.invariant == "floor-below-readers"
    told_of = [each for each in sentences(run.lines()) if "collected up to 2: " in each]
    told_right = r"collected up to 2: [A-F]0; the floor announced is 0, a reader is at 1"
    assert told_of and all(re.search(told_right, each) for each in told_of)


STALLED = """
name = "an AZ and one more"
seed = 1
[knobs]
duration = "600ms"
[workload]
clients = 4
rate = 120
[[action]]
at = "200ms"
fault = "crash"
target = "az1,C"
[[action]]
at = "400ms"
fault = "restart"
target = "C"
[[expect]]
writes = "go on"
from = "100ms"
max_stall = "50ms"
"""


def test_a_missed_expectation_is_told_with_the_call_that_waited_longest(tmp_path: Path) -> None:
    path = tmp_path / "with a blank.toml"
    path.write_text(STALLED)
    done = CliRunner().invoke(command, [str(path)])
    assert done.exit_code == 1, done.output
    text = " ".join(done.output.split())
    assert re.search(
        r"through writer-1: put pages? [\d, ]+ returns at 0\.\d{4} s, after \d+ ms: ok", text
    )
    assert re.search(r"acknowledged by [^:]*C0 \(\+\d+\.\d ms[^:]*: 4 of 6, needs 4", text)
    assert "fault: crash az1,C" in text and "repair: restart C" in text
    assert re.search(r"LSN \d+ arrives at [^;]*; lost on the way to [^;]*\(detached\)", text)
    last = done.output.splitlines()[-1]
    assert shlex.split(last)[5] == str(path), "a path with blanks is quoted"
    case = open_case(None, str(path), None)
    run = told(case)
    assert run.result.invariant == "expectation"
    assert len(run.lines(80)) <= MAX_LINES


PASSED = {
    "az-plus-one": (
        "planned: 210 calls of 6 clients, 105 writes among them; 3 actions; all heals at 1.5000 s",
        "fault: crash az1,C",
        "C0 restarts from its log with SCL",
        "back from crash az1,C: C0 at 0.8",
        "the longest wait of a write: call 53",
        (
            "writer-1 hears LSN 61 acknowledged by E0 first, D0 (+0.2 ms), F0 (+0.3 ms), "
            "C0 (+524.8 ms): 4 of 6, needs 4; its PGCL and the VDL are 65 now"
        ),
        "no read waited for longer than",
        "answered: 210 of 210 calls",
        "no segment is behind",
        "invariants held, ",
        "never put to the test: no-needless-loss",
        "met writes wait, 0.3200 s to 0.8000 s: 0 answered",
        "commit waited out an AZ + 1 (1)",
    ),
    "disk-lost": (
        "fault: wipe B0",
        "writer-2 opens at VDL 99",
        "behind at the end: B0 (disk lost)",
    ),
    "zombie-writer": ("is fenced: ", "answered: 107 of 144 calls; 30 unknown; 7 refused"),
    "bank-during-az-outage": (
        "planned: 212 calls of 10 clients, 122 writes among them",
        "the longest wait of a read: call 143 of client 9 through writer-2: sql at account 4, 6",
        "the longest wait of a write: call 175 of client 4 through writer-2: sql auto account 3, 7",
    ),
    "quiet": ("0 actions", "marks none: nothing out of the ordinary happened"),
}


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", PASSED)
def test_the_story_of_a_run_that_passed_is_told(name: str, width: int) -> None:
    run = of_scenario(name)
    assert run.result.verdict is Verdict.PASSED
    lines = run.lines(width)
    assert len(lines) <= MAX_LINES_PASSED and max(map(len, lines)) <= width
    times = [float(each.partition(" s")[0]) for each in sentences(lines)]
    assert times == sorted(times)
    for fact in PASSED[name]:
        assert fact in run.text(width), fact
    assert lines[-1] == f"next   python -m aurora.sim run {name}"


def test_explain_of_a_run_that_passed_ends_well() -> None:
    done = CliRunner().invoke(command, ["quiet"])
    assert done.exit_code == 0 and done.output.startswith("quiet: passed after 1.1000 s")
    assert CliRunner().invoke(command, []).exit_code == 2
    assert CliRunner().invoke(command, ["--seed", "1", "--bug", "none"]).exit_code == 2


def test_listening_changes_nothing() -> None:
    listened = told(Case(schedule=BUSY, bug="serve-below-required"))
    alone = Case(schedule=BUSY, bug="serve-below-required").run()
    assert alone.verdict is Verdict.VIOLATION
    assert listened.result.digest == alone.digest


def test_a_planted_bug_that_a_passing_run_does_not_expose_is_named() -> None:
    told = CliRunner().invoke(command, ["quiet", "--bug", "no-fencing"])
    assert told.exit_code == 0
    assert "bug    no-fencing was planted, and this run has not exposed it" in told.output
    assert "bugs scenario no-fencing" in " ".join(told.output.split())
    assert "was planted" not in CliRunner().invoke(command, ["quiet"]).output


def test_a_bug_without_a_schedule_of_its_own_is_sent_to_none() -> None:
    told = CliRunner().invoke(command, ["quiet", "--bug", "bad-promise-stays"])
    assert told.exit_code == 0, told.output
    assert "bug    bad-promise-stays was planted" in told.output
    assert "bugs scenario" not in told.output


def test_a_bug_in_place_of_a_scenario_is_answered_with_its_scenario() -> None:
    told = CliRunner().invoke(command, ["no-fencing"])
    assert told.exit_code == 2
    assert "bugs scenario no-fencing > bug.toml" in " ".join(told.output.split())
