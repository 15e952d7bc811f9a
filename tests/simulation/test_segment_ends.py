"""What ends a segment in a run: its disk, which passes; or a mistake, which is a finding."""

from __future__ import annotations

import attrs
import pytest

from segments.core import SegmentCore
from segments.protocol.events import Event, StorageRefused
from sim.plan.generate import generate
from sim.plan.schedule import MS, Action, Schedule
from sim.plan.shapes.mixed import MIXED
from sim.run import Verdict, run
from sim.world.trace import Trace

FAILING = tuple(
    Action(at_ns=at * 40 * MS, kind="fail_syncs", target=target, params={"count": 3})
    for at, target in enumerate(("A", "C", "E", "az1", "az2", "az3"), 1)
)


def schedule(actions: tuple[Action, ...]) -> Schedule:
    return attrs.evolve(generate(3, MIXED), actions=actions)


def test_disks_that_break_are_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []
    on_step = Trace.on_step

    def listen(self: Trace, source: str, event: Event) -> None:
        if isinstance(event, StorageRefused):
            refused.append(source)
        on_step(self, source, event)

    monkeypatch.setattr(Trace, "on_step", listen)
    result = run(schedule(FAILING))
    assert result.verdict is Verdict.PASSED, result.finding
    assert result.commits > 0
    assert {source[0] for source in refused} == set("ABCDEF")


def test_a_mistake_of_one_segment_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    tick = SegmentCore.tick

    def wrong(self: SegmentCore, now: float) -> None:
        if self.segment == "B0" and now > 0.1:
            raise ZeroDivisionError("own mistake")
        tick(self, now)

    monkeypatch.setattr(SegmentCore, "tick", wrong)
    result = run(schedule(()))
    assert (result.verdict, result.invariant) == (Verdict.VIOLATION, "system error")
    assert "B0: ZeroDivisionError in wrong, test_segment_ends.py" in result.finding
    assert "own mistake" in result.finding
