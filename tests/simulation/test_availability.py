"""What the failure table says goes on does so, in bounds (invariant 20); each way not to is found.

Protocol §9: needless unavailability is a failure just as a lost commit is.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from sim.bugs import Bug, Edit
from sim.bugs.plan import ALL, Plan
from sim.check import rules_of_availability as rules
from sim.check.availability_bounds import bounds_of
from sim.check.readiness import Readiness, Segment
from sim.check.soundness import KNOWN
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.schedule import MS, SECOND, Action, Knobs, Operation, Schedule
from sim.run import Run, Verdict, run
from sim.world.faults import FAULTS
from sim.world.world import World

Directed = Callable[[], Schedule]


def directed(plan: Plan, *reads: Operation) -> Schedule:
    schedule = plan.schedule("availability")
    operations = sorted([*schedule.operations, *reads], key=lambda each: each.at_ns)
    return attrs.evolve(schedule, operations=tuple(operations))


def read(at_ms: int, kind: str = "get", client: int = 0) -> Operation:
    """A read that a segment has to answer."""
    return Operation(at_ns=at_ms * MS, client=client, kind=kind, pages=(0,), cached=False)


# ---- directed schedules: all go on by the table --------------------------------------------------


def two_down() -> Schedule:
    plan = Plan(end_ms=900)
    plan.fault(5, "crash", "A,C")
    for at in range(10, 100, 10):
        plan.put(at, 0)
    return directed(plan, read(150))


def az_down() -> Schedule:
    plan = Plan(end_ms=900)
    plan.fault(5, "crash", "az1")
    plan.put(10, 0)
    return directed(plan, read(50), read(60, "strict_get"))


def one_slow() -> Schedule:
    plan = Plan(end_ms=9_000)
    plan.fault(5, "slow", "A", factor=10_000)
    plan.put(10, 0)
    return directed(plan)


def three_down() -> Schedule:
    plan = Plan(end_ms=2_000)
    plan.put(5, 0)
    plan.fault(20, "crash", "az1,C")
    return directed(plan, *(read(at) for at in range(100, 140, 4)), read(150, "strict_get"))


def first_asked_is_silent() -> Schedule:
    plan = Plan(end_ms=2_000)
    plan.put(5, 0)
    plan.fault(20, "pause", "A,B,C")
    return directed(plan, *(read(at) for at in range(100, 140, 4)))


def back_to_four() -> Schedule:
    plan = Plan(end_ms=12_000, heartbeat_interval_ns=SECOND)  # reminders would hide what is lost
    plan.part(5, "writer-1", "D,E,F")
    plan.put(10, 0)
    plan.fault(5_400, "heal_network")
    return directed(plan)


def lost_to_all_six() -> Schedule:
    plan = Plan(end_ms=2_000)
    plan.cut(5, "writer-1", ALL)
    plan.put(10, 0)
    plan.fault(12, "heal_network")
    return directed(plan)


def recovery_beside_one() -> Schedule:
    plan = Plan(end_ms=6_000)
    plan.put(5, 0)
    plan.fault(20, "crash", "F")
    plan.fault(40, "recover")
    return directed(plan)


def disk_full_for_a_while() -> Schedule:
    plan = Plan(end_ms=100, gossip_interval_ns=50 * MS)
    plan.fault(5, "disk_full", "A")
    plan.put(10, 0)
    plan.fault(30, "disk_free", "A")
    return directed(plan)


def much_written_beside_one() -> Schedule:
    """More is written than the outgoing logs may keep, twice, while one segment is away."""
    plan = Plan(
        end_ms=4_000, outgoing_bytes=1 << 20, max_mtr_bytes=64 << 10, max_mtr_writes=64,
        check_every=512,
    )  # fmt: skip
    plan.fault(5, "crash", "A")
    puts = [
        Operation(at_ns=(10 + at) * MS, client=at % 4, kind="put", pages=(0, 1, 2, 3), length=8_000)
        for at in range(90)
    ]
    return directed(plan, *puts)


def refused_by_one() -> Schedule:
    """A's log is spoilt: after a restart it refuses, and does not know more for a while."""
    plan = Plan(end_ms=900, gossip_interval_ns=2 * SECOND)
    for at in range(5, 15):
        plan.put(at, 0)
    plan.keep_apart(30)
    plan.fault(31, "bit_rot", "A,B", offset=200)
    plan.fault(32, "crash", "A,B")
    plan.fault(33, "restart", "A,B")
    return directed(plan, *(read(at) for at in range(40, 60, 2)))


# ---- mistakes: each makes one of them wait -------------------------------------------------------

COMPLETE = "aurora.quorum:QuorumModel.complete_lsn"
PENDING = "aurora.read_router:PendingRead"
STREAM = "aurora.segment_stream:SegmentStream"
MISTAKES: list[tuple[str, Edit, Directed, str]] = [
    ("write quorum 5", Edit(COMPLETE, "[-self.write]", "[-5]"), two_down, rules.SOME_AWAY),
    ("all six", Edit(COMPLETE, "[-self.write]", "[-6]"), az_down, rules.AZ_AWAY),
    ("all six", Edit(COMPLETE, "[-self.write]", "[-6]"), one_slow, rules.SLOW_AWAY),
    (
        "one fixed segment",
        Edit("aurora.read_router:ReadRouter.candidates", "return ordered", "return complete[:1]"),
        three_down,
        rules.THREE_AWAY,
    ),
    (
        "no hedge, nobody else",
        Edit(f"{PENDING}._start_round", "[segment for segment in ordered if segment"
             " not in skipped]",
             "ordered[:1] if target.members[0] not in skipped else []"),
        first_asked_is_silent,
        rules.THREE_AWAY,
    ),
    (
        "six seals",
        Edit("aurora.witnesses:Witnesses.has_read_quorums", "model.has_read(self.replies[each])",
             "len(self.replies[each]) == 6"),
        recovery_beside_one,
        rules.SOME_AWAY,
    ),
    (
        "never sent again",
        Edit(f"{STREAM}.on_timer", "or now <", "or now >= 0 or now <"),
        lost_to_all_six,
        rules.NOBODY_AWAY,
    ),
    (
        "log never let go",
        Edit("aurora.core:WriterCore._release", "log.release(self._trackers[pg_id].pgcl)", "pass"),
        much_written_beside_one,
        rules.SOME_AWAY,
    ),
    (
        "sent again once",
        Edit(f"{STREAM}.on_timer", "or now <", "or self.resends or now <"),
        back_to_four,
        rules.NOBODY_AWAY,
    ),
    (
        "full for ever",
        Edit("segments.write_cycle:WriteCycle._go_on",
             "await trio.sleep(self._retry_s)", "await trio.sleep_forever()"),
        disk_full_for_a_while,
        "A0 is back",
    ),
    (
        "first refusal",
        Edit(f"{PENDING}.on_refused", "return self._failed(attempt, now)",
             "self.error = self._unavailable(); return []"),
        refused_by_one,
        "was refused",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "schedule", "said"),
    [each[1:] for each in MISTAKES],
    ids=[f"{name}: {schedule.__name__}" for name, _, schedule, _ in MISTAKES],
)
def test_each_way_to_be_needlessly_unavailable_is_found(
    edit: Edit, schedule: Directed, said: str
) -> None:
    with Bug(name="x", summary="", section="", edits=(edit,)).apply():
        result = run(schedule())
    assert result.invariant == "needless-unavailability", (result.verdict, result.finding)
    assert result.verdict is Verdict.LIVENESS
    assert said in result.finding and "expected" in result.finding


@pytest.mark.parametrize(
    ("schedule", "mark"),
    [
        (two_down, "write judged with one or two away"),
        (az_down, "write judged with an AZ away"),
        (one_slow, "write judged beside a slow segment"),
        (three_down, "read judged with three away"),
        (three_down, "strict read judged with three away"),
        (first_asked_is_silent, "read judged with three away"),
        (back_to_four, "commit resumed when a write quorum was back"),
        (recovery_beside_one, "recovery judged with some away"),
        (disk_full_for_a_while, "segment caught up in time"),
        (lost_to_all_six, "commit resumed when a write quorum was back"),
        (much_written_beside_one, "write judged with one or two away"),
        (refused_by_one, "read refused and rerouted"),
    ],
)
def test_without_a_mistake_all_goes_on_and_is_judged(schedule: Directed, mark: str) -> None:
    result = run(schedule())
    assert (result.verdict, result.finding) == (Verdict.PASSED, "")
    assert result.marks[mark] > 0


# ---- who is sound --------------------------------------------------------------------------------


class _Looking(Run):
    """A run that looks who is sound at 50 ms."""

    def __init__(self, *actions: Action) -> None:
        knobs = Knobs(duration_ns=100 * MS)
        schedule = Schedule(seed=1, knobs=knobs, actions=actions)
        super().__init__(World(schedule))
        self.found: dict[str, str] = {}
        self.world.scheduler.call_at(50 * MS, self._look)

    def _look(self) -> None:
        soundness = self.availability.readiness.soundness
        self.found = {
            segment: why
            for segment in self.world.disks
            if (why := soundness.trouble(segment, "writer-1"))
        }


def trouble(*actions: tuple[int, str, str, dict[str, object]]) -> dict[str, str]:
    looking = _Looking(
        *(
            Action(at_ns=at * MS, kind=kind, target=target, params=params)
            for at, kind, target, params in actions
        )
    )
    looking.run()
    return looking.found


@pytest.mark.parametrize(
    ("kind", "target", "params", "found"),
    [
        ("crash", "A", {}, {"A0": "down"}),
        ("wipe", "B", {}, {"B0": "lost"}),
        ("pause", "C", {}, {"C0": "paused"}),
        ("slow", "D", {"factor": 5}, {"D0": "slow"}),
        ("slow", "D", {"factor": 0.5}, {}),
        ("slow_disk", "E", {"factor": 2}, {"E0": "slow"}),
        ("disk_full", "F", {}, {"F0": "disk full"}),
        ("fail_writes", "A", {"count": 1_000}, {"A0": "disk failing"}),
        ("partition", "A,B", {"others": "C,D"}, {}),
        ("partition", "A,B", {"others": "writer-1"}, {"A0": "cut off", "B0": "cut off"}),
        ("cut", "writer-1", {"others": "C"}, {"C0": "cut off"}),
        ("clog", "C", {"others": "writer-1"}, {"C0": "held back"}),
    ],
)
def test_what_a_fault_has_done_is_seen_in_the_world(
    kind: str, target: str, params: dict[str, object], found: dict[str, str]
) -> None:
    assert trouble((20, kind, target, params)) == found


@pytest.mark.parametrize(
    ("kind", "end", "target"),
    [
        ("crash", "restart", "A"),
        ("pause", "resume", "A,B"),
        ("disk_full", "disk_free", "A"),
        ("slow", "heal", ""),
        ("partition", "heal_network", ""),
    ],
)
def test_whoever_is_helped_is_sound_again(kind: str, end: str, target: str) -> None:
    assert trouble((20, kind, "A,B", {}), (30, end, target, {})) == (
        {"B0": "down" if kind == "crash" else "disk full"} if target == "A" else {}
    )


def test_a_fault_of_which_nothing_is_known_here_keeps_its_victims_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sim.check.soundness.KNOWN", KNOWN - {"bit_rot"})
    assert trouble((20, "bit_rot", "A,B", {})) == {"A0": "hit by bit_rot", "B0": "hit by bit_rot"}
    monkeypatch.undo()
    assert trouble((20, "bit_rot", "A,B", {})) == {}


def test_every_fault_that_is_known_here_exists_or_is_of_disks() -> None:
    assert set(FAULTS) <= KNOWN, "say in `sim.check.soundness` how their effects are seen"


# ---- how long ------------------------------------------------------------------------------------


def test_bounds_follow_the_settings() -> None:
    link, disk = LinkProfile(extra_mean_ns=0), DiskProfile(extra_mean_ns=0)
    quick = bounds_of(Knobs(link=link, disk=disk))
    assert quick.trip_ns == 4 * link.minimum_ns + 21 * disk.minimum_ns
    assert quick.resends_ns < 150 * MS and quick.read_attempts == 0
    assert quick.settle_ns(0) < quick.settle_ns(50 * MS) < quick.settle_ns(SECOND)
    assert quick.settle_ns(SECOND) == quick.settle_ns(60 * SECOND) < SECOND
    assert quick.commit_ns(1, 1) < quick.commit_ns(1, 3) < SECOND
    assert quick.read_ns(2, 4) - quick.read_ns(0, 4) == 2 * quick.hedge_ns
    lossy = bounds_of(Knobs(link=attrs.evolve(link, loss=0.05), disk=disk))
    assert lossy.read_attempts == 9
    assert 2 * SECOND < lossy.resends_ns < 5 * SECOND
    assert lossy.read_ns(0, 1) > lossy.read_ns(0, 6)
    for bounds in (quick, lossy):
        assert bounds.open_ns + bounds.fetch_ns < 15 * SECOND, "not the 60 of a run's end"
        assert bounds.catch_up_ns < 10 * SECOND


def test_a_link_that_loses_nearly_everything_is_given_all_the_time_in_the_world() -> None:
    assert bounds_of(Knobs(link=LinkProfile(loss=1.0))).resends_ns > 86_400 * SECOND


# ---- what is judged ------------------------------------------------------------------------------


def test_while_another_writer_recovers_nobody_judges() -> None:
    """The latest writer is cut off, and cannot open: an earlier one goes on, and is not judged."""
    plan = Plan(end_ms=3_000)
    plan.part(5, "writer-2", ALL)
    plan.fault(10, "take_over")
    plan.put(20, 0)
    result = run(directed(plan))
    assert (result.verdict, result.finding) == (Verdict.PASSED, "")
    assert not [mark for mark in result.marks if "judged" in mark]


def test_a_row_is_that_of_the_group_that_is_worst_off() -> None:
    down = dict.fromkeys(("A0", "B0", "C0", "D0"), "down")
    found = [rules.row_of(dict(list(down.items())[:count]), one_az=False) for count in range(5)]
    assert found == [
        rules.NOBODY_AWAY, rules.SOME_AWAY, rules.SOME_AWAY, rules.THREE_AWAY, rules.FOUR_AWAY,
    ]  # fmt: skip
    assert rules.row_of({"A0": "down", "B0": "down"}, one_az=True) == rules.AZ_AWAY
    assert rules.row_of({"A0": "slow", "B0": "down"}, one_az=True) == rules.SLOW_AWAY


def test_a_transfer_may_take_longer_the_more_of_its_parts_may_be_lost() -> None:
    """Seed 701836: with every third message lost, forty parts took longer than one may."""
    sure, lossy = (bounds_of(Knobs(link=LinkProfile(loss=loss))) for loss in (0.0, 0.5))
    assert sure.part_ns == 0
    # Three of four questions are in vain, so that four are asked, a sixteenth of 5 s apart.
    assert lossy.part_ns == 3 * 3 * 5 * SECOND // 16


def test_a_group_that_is_idle_since_a_recovery_waits_for_no_record_of_another() -> None:
    """The recovery's VDL is an LSN of the other group. Rot at four of six, and nobody writes."""
    plan = Plan(
        end_ms=600, pg_count=2, lal=20, resend_max_ns=20 * MS, gossip_interval_ns=5 * MS
    )  # fmt: skip
    idle = ",".join(f"{name}1" for name in "ABCDEF")
    plan.put(1, 1)
    plan.put(5, 1)
    plan.put(9, 0)
    plan.part(15, "writer", "A0,B0,C0,D0,E0,F0")
    plan.put(16, 1, 0)  # over both groups, and lost in one of them
    plan.fault(20, "crash_writer")
    plan.fault(21, "heal_network")
    plan.fault(22, "recover")
    plan.put(80, 0)
    plan.fault(150, "crash_writer")
    plan.fault(160, "crash", idle)
    plan.fault(161, "bit_rot", "A1,B1,C1,D1", frame=2)
    plan.fault(165, "restart", idle)
    plan.fault(200, "recover")
    plan.put(300, 1)
    result = run(plan.schedule("idle"))
    assert result.verdict is Verdict.PASSED, result.finding
    assert result.commits >= 3 and not result.without_effect


def test_a_segment_whose_job_has_met_damage_rests_before_it_is_healed() -> None:
    """As one whose disk refuses something: it begins no other job for a while."""
    plan = Plan(
        end_ms=2_000, gossip_interval_ns=5 * MS, resend_min_ns=2 * MS, resend_max_ns=20 * MS,
        storage_retry_ns=50 * MS, scrub_interval_ns=10 * SECOND, fold_bytes=1 << 10, fan_out=2,
        collect_ratio=0.5, wal_file_bytes=4 << 10, block_bytes=256, block_cache_bytes=0,
        check_every=64,
    )  # fmt: skip
    for turn in range(96):
        plan.put(1 + 2.5 * turn, turn % 5, length=60)
    plan.fault(203, "rot_layer", "A0", layer=-1, bits=1, part="blocks")
    result = run(plan.schedule("rests"))
    assert result.verdict is Verdict.PASSED, result.finding
    assert result.marks["layer rot found by a job"] and result.marks["segment caught up in time"]


def test_what_held_up_a_segment_is_forgotten_with_what_it_lacked() -> None:
    judge: Any = SimpleNamespace(_mark=lambda _: None)
    for forget in (
        lambda each: each.lose_count(5),
        lambda each: Readiness._caught_up(judge, each, 5),
    ):
        segment = Segment("A0", behind_ns=1, held_up=True, in_vain=2, judged=True)
        forget(segment)
        assert not segment.held_up and not segment.in_vain and not segment.judged
