"""Work without end: while no time passes, in one step of a task, or for a disk alone."""

from __future__ import annotations

import re
from itertools import count
from random import Random
from typing import Any

import pytest
import trio

from segments.background import Background
from segments.core import SegmentCore
from segments.hot_log import HotLog
from segments.manifest import MANIFEST, LogFile, Manifest, encode_manifest
from segments.protocol import codec
from segments.protocol.errors import Invalid
from segments.protocol.events import LogCollected
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import FetchLayer
from segments.server import SegmentServer
from segments.storage import Identity
from sim.bugs import BUGS, Bug, Edit, planted
from sim.bugs.plan import Plan
from sim.commands.case import Case
from sim.commands.exit_codes import EXIT_CODES, LIVENESS
from sim.commands.explain import MAX_LINES, explained
from sim.commands.shrink import shrink_case
from sim.plan.profiles import LinkProfile
from sim.plan.schedule import MS, SECOND, Knobs, Operation, Schedule
from sim.run import RunResult, Verdict, run
from sim.story import Recorder
from sim.world.disk import SimulatedStorage
from sim.world.scheduler import Livelock, VirtualScheduler
from sim.world.work_bound import STEPS_A_CALL, STEPS_A_MS, WorkBound, share_of
from tests.files_on_disks import make_file

WRITES = Schedule(
    seed=1,
    knobs=Knobs(duration_ns=200 * MS, liveness_ns=5 * SECOND),
    operations=tuple(
        Operation(at_ns=each * MS, client=each % 2, kind="put", pages=(each % 5,))
        for each in range(20)
    ),
    name="writes",
)


def livelock(result: RunResult) -> str:
    """The finding of a run that has to end as one."""
    assert (result.verdict, result.invariant) == (Verdict.LIVENESS, "livelock"), result.finding
    assert EXIT_CODES[result.verdict] == LIVENESS
    return result.finding


def test_tasks_that_run_and_run_while_the_clock_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def spin(self: SegmentServer, core: SegmentCore, log: HotLog) -> None:
        while self.segment == "C0":
            await trio.lowlevel.checkpoint()
        await trio.sleep_forever()

    monkeypatch.setattr(SegmentServer, "_housekeep", spin)
    found = livelock(run(WRITES))
    assert "tasks run and run at" in found and "no time has passed for " in found
    assert "C0 housekeep runs in" in found and "spin (test_livelock.py:" in found
    assert "A0 housekeep" not in found, "only those that run"


def spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """One segment collects its log for ever."""
    tick = SegmentCore.tick

    def spinning(self: SegmentCore, now: float) -> None:
        tick(self, now)
        while self.segment == "D0" and now > 0.1:
            self.note(LogCollected, 0, 0, 0)

    monkeypatch.setattr(SegmentCore, "tick", spinning)


def test_work_that_never_gives_back_control(monkeypatch: pytest.MonkeyPatch) -> None:
    spin(monkeypatch)
    found = livelock(run(WRITES))
    assert "from a task that does not give back control; the last: " in found
    assert "D0 LogCollected" in found


def test_messages_without_end_are_work_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tick = SegmentCore.tick
    endpoints: dict[str, Any] = {}
    message = codec.encode(FetchLayer(VolumeEpoch(1, 1), "D0", 0, 1, False, 0, 0))
    init = SegmentServer.__init__

    def keep(self: SegmentServer, *args: Any, **values: Any) -> None:
        init(self, *args, **values)
        endpoints[self.segment] = self.endpoint

    def spin(self: SegmentCore, now: float) -> None:
        tick(self, now)
        while self.segment == "D0" and now > 0.1:
            endpoints["D0"].send("E0", message)

    monkeypatch.setattr(SegmentServer, "__init__", keep)
    monkeypatch.setattr(SegmentCore, "tick", spin)
    assert "sent " in livelock(run(WRITES))


def test_a_log_that_is_always_due_to_be_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes then, for the disk: it is the work that has no end, and that is told at once."""

    def due(self: Background, _: float) -> bool:
        return self._segment == "C0"

    monkeypatch.setattr(Background, "_rewrite_due", due)
    result = run(WRITES)
    assert (result.verdict, result.invariant) == (Verdict.VIOLATION, "bounds-are-kept")
    assert result.finding.startswith("C0 writes its log of ") and " anew, " in result.finding


def test_it_can_be_explained_and_cut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    spin(monkeypatch)
    monkeypatch.setattr("sim.world.trace.MAX_EVENTS_A_STEP", 5_000)  # quick, on a busy machine too
    case = Case(schedule=WRITES, source="writes.toml")
    recorders: list[Recorder] = []
    result = case.run(lambda run: recorders.append(Recorder(run)))
    lines = explained(recorders[0], result, case)
    assert len(lines) <= MAX_LINES
    assert any("of the last 1,000 steps" in line for line in lines)
    assert any("broken the run, livelock: no work goes on" in line for line in lines)
    shrinker, _ = shrink_case(case, result, budget_s=3.0)
    assert len(shrinker.best.operations) < len(WRITES.operations)
    assert shrinker.result.invariant == "livelock"


def test_a_storm_of_messages_while_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has promised an epoch, not yet on its slow disk, answers gossip in the old one."""
    edit = Edit(
        "segments.core:SegmentCore._on_gossip",
        "case answer if self.state.epoch == self._promised:",
        "case answer if True:",
    )
    monkeypatch.setitem(BUGS, "storm", Bug(name="storm", summary="", section="", edits=(edit,)))
    link = LinkProfile(minimum_ns=1_000, extra_mean_ns=0)
    plan = Plan(end_ms=300, link=link, gossip_interval_ns=20 * MS)
    plan.part(5, "B", "C,D,E,F")
    plan.cut(5, "writer-1", "B")
    plan.put(10, 0)  # A is ahead of B, and nobody else brings that to B
    plan.fault(15, "slow_disk", "A", factor=2_000)
    plan.fault(20, "recover")
    plan.cut(20.1, "writer-2", "B")
    stormy = run(plan.schedule("no storm"))
    assert stormy.verdict is Verdict.PASSED, stormy.finding
    with planted("storm"):
        stormy = run(plan.schedule("storm"))
    found = livelock(stormy)
    assert re.search(r"only \S+ [mu]s have passed in \d+ turns", found)
    assert re.search(r"of the last 1,000 messages: \d+ Gossip\w+ \w\d → \w\d", found)
    assert stormy.messages < 200_000, "it ends soon"


def test_calls_and_time_account_for_work() -> None:
    bound = WorkBound(burst=100)
    assert not bound.is_broken(100, 0, 5), "at once"
    assert bound.is_broken(101, 0, 50), "calls in no time account for nothing"
    bound = WorkBound(burst=100)
    assert not bound.is_broken(STEPS_A_MS + 100, MS, 0)
    assert bound.is_broken(STEPS_A_MS + 101, MS, 0)
    bound, much = WorkBound(burst=100), STEPS_A_MS + STEPS_A_CALL + 100
    assert not bound.is_broken(much, MS, 1)
    assert not bound.is_broken(much, SECOND, 1)
    assert (bound.since_ns, bound.since_steps) == (SECOND, much)
    assert bound.is_broken(much + 101, SECOND, 1), "no more than a burst is saved"
    bound = WorkBound(burst=100, share=share_of(8))
    assert not bound.is_broken(300, 0, 0), "a volume of many groups"
    assert bound.is_broken(301, 0, 0)


def test_events_that_follow_each_other_at_one_instant() -> None:
    scheduler = VirtualScheduler()

    def again() -> None:
        scheduler.call_after(0, again)

    scheduler.call_after(7, again)
    with pytest.raises(Livelock, match=r"events follow events at 7 ns: .* 12\d of them"):
        scheduler.run(trio.sleep_forever, seed=1, deadline_ns=SECOND, burst=100)
    assert 100 <= scheduler.events <= 150


async def _spin() -> None:
    while True:
        await trio.lowlevel.checkpoint()


def test_turns_that_follow_each_other_at_one_instant() -> None:
    scheduler = VirtualScheduler()
    with pytest.raises(Livelock, match="tasks run and run at 0 ns"):
        scheduler.run(_spin, seed=1, deadline_ns=SECOND, burst=100)
    assert 100 <= scheduler.turns <= 200


def test_work_that_takes_time_is_none() -> None:
    scheduler = VirtualScheduler()

    async def main() -> str:
        for _ in range(1_000):
            await scheduler.sleep_ns(MS // 10)
            for _ in range(30):
                await trio.lowlevel.checkpoint()
        return "done"

    ended = scheduler.run(main, seed=1, deadline_ns=SECOND, burst=100)
    assert (ended, scheduler.now_ns) == ("done", 100 * MS)


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(Invalid, match="a burst of 0, a share of 1: expected at least 1"):
        VirtualScheduler().run(trio.sleep_forever, seed=1, deadline_ns=1, burst=0)


def test_a_disk_that_is_written_anew_without_end() -> None:
    scheduler = VirtualScheduler()

    async def main() -> None:
        disk = SimulatedStorage(scheduler, Random(1), Identity("sim", "A0"))
        for number in count(1):
            file = LogFile(number, 100, 0)
            await make_file(disk, file.name, [bytes(100)])
            await disk.sync_names()
            await disk.publish(MANIFEST, encode_manifest(Manifest((file,), (), number + 1)))
            await disk.delete([f"wal-{number - 1}"])

    with pytest.raises(Livelock, match="A0 writes its files anew again and again"):
        scheduler.run(main, seed=1, deadline_ns=SECOND)
