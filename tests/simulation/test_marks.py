"""Coverage marks: each one known, and reached when what it says has happened."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from segments.protocol.events import Event, LogCollected
from sim.check.marks import MARKS
from sim.plan.generate import generate
from sim.plan.schedule import MS, Action, Knobs, Operation, Schedule
from sim.run import Run, run
from sim.world.listener import Listener
from sim.world.world import World

PUTS = tuple(
    Operation(at_ns=at * MS, client=at % 3, kind="put", pages=(at % 3, at % 2))
    for at in range(1, 90)
)


LARGE = tuple(
    Operation(at_ns=10 * MS + at, client=at, kind="put", pages=(at,), length=8_000)
    for at in range(8)
)


def marks_of(
    *actions: Action, knobs: Knobs | None = None, calls: tuple[Operation, ...] = PUTS
) -> Mapping[str, int]:
    knobs = knobs or Knobs(pg_count=2, duration_ns=400 * MS)
    return run(Schedule(seed=1, knobs=knobs, actions=actions, operations=calls)).marks


def action(at_ms: int, kind: str, target: str = "", **params: object) -> Action:
    return Action(at_ns=at_ms * MS, kind=kind, target=target, params=params)


def test_a_quiet_run_reaches_next_to_nothing() -> None:
    assert set(marks_of()) <= {"commit spans groups", "gossip filled a gap", "hedged read won"}


def test_a_recovery_is_seen_with_all_that_comes_with_it() -> None:
    marks = marks_of(action(30, "take_over"))
    assert marks["recovery completed"] == 1
    assert marks["zombie refused"] >= 1 and marks["writer fenced"] == 1
    overtaken = marks_of(action(30, "recover"), action(30, "recover"))
    assert overtaken["recovery overtaken"] == 1


def test_an_az_and_one_more_is_waited_out() -> None:
    away = (action(20, "crash", "az1,C"), action(200, "restart", "az1,C"))
    assert marks_of(*away)["commit waited out an AZ + 1"] == 1
    assert "commit waited out an AZ + 1" not in marks_of(action(20, "crash", "az1"))


def test_a_small_lal_holds_commits_back() -> None:
    knobs = Knobs(lal=4, duration_ns=400 * MS)
    slow = action(10, "slow", "az1,az2", factor=200)
    assert marks_of(slow, knobs=knobs)["LAL back-pressure"] > 0


WITHOUT_GOSSIP = Knobs(gossip_interval_ns=5_000 * MS, duration_ns=400 * MS)


def test_a_batch_lost_to_all_six_is_seen_to_arrive_at_last() -> None:
    lost = (action(20, "cut", "writer"), action(22, "heal_network"))
    marks = marks_of(*lost, knobs=WITHOUT_GOSSIP)
    assert marks["batch had reached nobody"] == marks["batch arrived at last"] == 6
    assert "answer was lost" not in marks
    some = marks_of(action(20, "cut", "writer", others="A,B"), lost[1], knobs=WITHOUT_GOSSIP)
    assert "batch had reached nobody" not in some and some["batch arrived at last"] > 0


def test_lost_answers_are_no_lost_batches() -> None:
    lost = (action(20, "cut", "az1,az2,az3", others="writer"), action(60, "heal_network"))
    marks = marks_of(*lost, knobs=WITHOUT_GOSSIP)
    assert marks["answer was lost"] >= 6
    assert "batch had reached nobody" not in marks


def test_limits_in_bytes_are_seen_when_they_are_reached() -> None:
    knobs = Knobs(outgoing_bytes=16 << 10, max_mtr_bytes=16 << 10, max_mtr_writes=4)
    knobs = attrs.evolve(knobs, batch_bytes=1 << 10, batches_in_flight=1, duration_ns=400 * MS)
    stalled = (action(5, "partition", "writer", others="A,B,C"), action(60, "heal_network"))
    marks = marks_of(*stalled, knobs=knobs, calls=LARGE)
    assert marks["outgoing log full"] > 0 and marks["batch limit filled"] > 0
    assert "LAL back-pressure" in marks  # both are waits for room
    assert "outgoing log full" not in marks_of(knobs=Knobs(duration_ns=400 * MS), calls=LARGE)


def test_a_deposed_writer_is_seen_to_be_heard() -> None:
    calls = tuple(
        Operation(at_ns=at * MS, client=at % 5, kind="put", pages=(at % 5,), sticky=True)
        for at in (*range(5, 10), *range(25, 30))
    )
    apart = (
        action(12, "partition", "writer-1", others="A,B,C,D"),
        action(12, "partition", "writer-2", others="E,F"),
        action(13, "take_over"),
    )
    assert marks_of(*apart, calls=calls)["deposed writer was heard"] > 0
    assert "deposed writer was heard" not in marks_of(apart[2], calls=calls)


def test_every_mark_counted_is_a_known_one() -> None:
    for seed in (1, 4):
        assert set(run(generate(seed)).marks) <= set(MARKS)


def test_what_is_collected_is_told_with_its_numbers() -> None:
    knobs = Knobs(retention_lsns=0, fold_bytes=1 << 10, collect_ratio=0.01, duration_ns=400 * MS)
    collecting = Run(World(Schedule(seed=1, knobs=knobs, operations=PUTS)))
    seen: list[LogCollected] = []

    class Looking(Listener):
        def on_step(self, _: str, event: Event) -> None:
            if isinstance(event, LogCollected):
                seen.append(event)

    collecting.world.listen(Looking())
    assert collecting.run().marks["base collected"] == len(seen)
    assert seen and all(0 < each.floor <= each.announced and each.rows for each in seen)
