"""Power cuts and bad disks: the faults, what a run may take, and what it reaches."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sim.plan.damage import DamageBudget
from sim.plan.generate import generate
from sim.plan.schedule import MS, SECOND, Action, Knobs, Operation, Schedule
from sim.plan.seeds import Seeds
from sim.plan.shapes.power import POWER
from sim.run import RunResult, Verdict, run

KNOBS = Knobs(
    duration_ns=120 * MS, retention_lsns=0, fold_bytes=1 << 10, wal_file_bytes=4 << 10, fan_out=2,
    collect_ratio=0.01, compact_bytes=0, compact_ratio=1.1,
    scrub_interval_ns=5 * MS, gossip_interval_ns=10 * MS, storage_retry_ns=2 * MS,
    heartbeat_interval_ns=5 * MS,
)  # fmt: skip
PUTS = tuple(
    Operation(at_ns=at * MS, client=at % 3, kind="put", pages=(at % 3,)) for at in range(1, 100)
)


def action(at_ms: float, kind: str, target: str = "", **params: object) -> Action:
    return Action(at_ns=int(at_ms * MS), kind=kind, target=target, params=params)


def result_of(*actions: Action, seed: int = 1, knobs: Knobs = KNOBS) -> RunResult:
    result = run(Schedule(seed=seed, knobs=knobs, actions=actions, operations=PUTS))
    assert result.verdict is Verdict.PASSED, result.finding
    return result


def marks_of(*actions: Action) -> Mapping[str, int]:
    return result_of(*actions).marks


def test_all_six_lose_power_at_once() -> None:
    cut = [action(50 + at / 10, "crash", letter) for at, letter in enumerate("ABCDEF")]
    back = action(55, "restart", "az1,az2,az3")
    marks = marks_of(*cut, back)
    assert marks["power lost by all six"] == 1
    assert "power lost by all six and the writer" not in marks
    marks = marks_of(*cut, action(50.6, "crash_writer"), back, action(56, "recover"))
    assert marks["power lost by all six and the writer"] == 1
    slowly = [action(50 + at, "crash", letter) for at, letter in enumerate("ABCDEF")]
    assert "power lost by all six" not in marks_of(*slowly, action(60, "restart", "az1,az2,az3"))


def test_a_slow_disk_is_not_kept_behind_by_what_comes_again() -> None:
    """Small writes, frequent gossip: copies of the same records once filled the queues."""
    result = run(generate(254, POWER))
    assert result.verdict is Verdict.PASSED, result.finding
    assert result.virtual_ns < 2 * SECOND


def test_slots_that_rot_just_before_the_end_are_waited_for() -> None:
    result = run(generate(75, POWER))
    assert result.verdict is Verdict.PASSED, result.finding


def test_one_rotten_slot_is_written_again_and_both_are_the_end() -> None:
    one = result_of(action(40, "rot_promise", "A", slot=2), action(41, "crash", "A"))
    assert one.marks["promise slot rotten"] == 1 and not one.lost
    both = [action(40, "rot_promise", "A", slot=slot) for slot in (1, 2)]
    lost = result_of(*both, action(40.1, "crash", "A"), action(45, "restart", "A"))
    assert lost.marks["promises lost"] == 1 and lost.lost == ("A0",)
    assert result_of(*both).marks["promise slot rotten"] == 1  # the scrub was quicker


def test_both_slots_may_rot_after_a_restart_has_read_them() -> None:
    """The restart still cuts its torn tail then; it holds its promise in memory."""
    for seed in (0, 3):
        result = result_of(
            action(40, "slow_disk", "A", factor=20),
            action(42, "crash", "A"),
            action(44, "restart", "A"),
            *(action(44.5, "rot_promise", "A", slot=slot) for slot in (1, 2)),
            seed=seed,
        )
        assert not result.lost and result.marks["torn tail cut"] == 1


@pytest.mark.parametrize(
    ("fault", "write", "mark"),
    [
        ("crash_amid_write", "compaction", "crash amid a job"),
        ("crash_after_write", "append", "crash before the answer"),
    ],
)
def test_a_crash_waits_for_its_write_and_the_segment_comes_back(
    fault: str, write: str, mark: str
) -> None:
    marks = marks_of(action(20, fault, "A,B,C", write=write, down_ms=3))
    assert marks[mark] == 3


def test_promises_are_torn_now_and_then() -> None:
    torn = 0
    for seed in range(4):
        armed = action(30, "crash_amid_write", "az1,az2,az3", write="promise", down_ms=2)
        torn += result_of(armed, action(31, "recover"), seed=seed).marks.get("promise slot torn", 0)
    assert torn > 4


def test_a_damaged_segment_without_help_stays_so_and_is_no_witness() -> None:
    marks = marks_of(
        action(40, "bit_rot", "A", frame=-1),
        action(40.1, "partition", "A"),
        action(40.2, "crash", "A"),
        action(42, "restart", "A"),
        action(60, "crash", "A"),
        action(62, "restart", "A"),
        action(80, "heal_network"),
    )
    assert marks["damaged and kept from help"] == 1
    assert marks["second crash during repair"] == 1
    assert marks["damaged frame healed"] == 1


def test_a_disk_with_little_room_takes_small_writes_and_no_new_layer() -> None:
    marks = marks_of(action(30, "disk_full", "A,B", slack=300), action(90, "disk_free", "A,B"))
    assert marks["full disk with slack"] > 0 and marks["no room for a job"] > 0


def test_no_more_is_taken_than_a_group_survives() -> None:
    budget = DamageBudget()
    assert budget.may_go("A0") and budget.may_go("A0")
    assert budget.may_rot("B0") and budget.may_rot("C0")
    assert not budget.may_rot("D0")  # no read quorum of witnesses would be left
    assert budget.may_go("B0")
    assert not budget.may_go("C0")  # no write quorum would be left
    assert budget.may_go("C1") and budget.may_go("D1") and not budget.may_go("E1")
    assert budget.may_rot("E1") and not budget.may_rot("F1")


def test_what_is_drawn_keeps_to_that_and_to_the_time() -> None:
    for seed in range(300):
        knobs, calls, faults = POWER.draw(Seeds(seed))
        knobs.cluster_config()  # refuses what cannot be
        assert calls and all(each.at_ns < knobs.duration_ns for each in calls)
        assert all(each.at_ns < knobs.duration_ns for each in faults)
        gone = {each.target for each in faults if each.kind in ("wipe", "rot_promise")}
        hurt = gone | {each.target for each in faults if each.kind == "bit_rot"}
        for pg_id in range(knobs.pg_count):
            assert sum(each.endswith(str(pg_id)) for each in gone) <= 2
            assert sum(each.endswith(str(pg_id)) for each in hurt) <= 3
