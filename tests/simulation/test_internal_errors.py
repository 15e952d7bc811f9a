"""Whose mistake an exception is: that of the code under test, a finding; or the simulator's."""

from __future__ import annotations

from typing import cast

import attrs
import pytest

from aurora.core import WriterCore
from aurora.events import MtrAllocated
from aurora.lsn_allocator import LsnAllocator
from segments.core import SegmentCore
from segments.protocol.errors import Invalid
from segments.protocol.events import AckSent, Event
from segments.write_cycle import WriteCycle
from sim.check import checker
from sim.check.blame import asks_to_stop, blames_the_system
from sim.check.disk_checks import DiskChecks
from sim.commands import exit_codes, fleet
from sim.plan.schedule import MS, Action, Knobs, Operation, Schedule
from sim.run import RunResult, Verdict, run
from sim.show.tally import SeedResult, Tally, report
from sim.world.network import SimulatedNetwork
from sim.world.refusals import Refusals
from sim.world.scheduler import VirtualScheduler
from sim.world.world import World

WRITES = Schedule(
    seed=1,
    knobs=Knobs(duration_ns=200 * MS, check_every=4),
    operations=tuple(
        Operation(at_ns=each * MS, client=0, kind=kind, pages=(each // 2 % 3,))
        for each, kind in enumerate(("put", "strict_get") * 9)
    ),
)
CRASHES = tuple(
    Action(at_ns=each * 3 * MS, kind=kind, target="az1")
    for each, kind in enumerate(("crash", "restart") * 6)
)


def broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError("own mistake")


def internal(result: RunResult) -> str:
    assert (result.verdict, result.invariant) == (Verdict.INTERNAL, "internal error")
    assert exit_codes.EXIT_CODES[result.verdict] == exit_codes.INTERNAL == 70
    return result.finding


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (World, "invoked"),  # within a client's task
        (World, "heal"),  # in an event
        (DiskChecks, "look"),  # within whatever takes a step
        (SimulatedNetwork, "_observe"),  # within whoever sends, who might catch it
        (Refusals, "next"),  # within a segment, which catches it
    ],
)
def test_the_simulators_own_mistake_is_no_violation(
    monkeypatch: pytest.MonkeyPatch, where: type, name: str
) -> None:
    monkeypatch.setattr(where, name, broken)
    found = internal(run(attrs.evolve(WRITES, actions=CRASHES))).splitlines()
    assert found[0].startswith("ZeroDivisionError in broken, test_internal_errors.py line ")
    assert found[0].endswith("own mistake")
    assert all(line.startswith("  called by ") for line in found[1:]) and len(found) > 1


@pytest.mark.parametrize("event", [AckSent, MtrAllocated])
def test_a_checkers_mistake_is_not_that_of_whom_it_watches(
    monkeypatch: pytest.MonkeyPatch, event: type[Event]
) -> None:
    """A segment catches what is raised in it, and is said to have failed: not so here."""
    monkeypatch.setitem(cast("dict[type[Event], object]", checker._ON_EVENT), event, broken)
    internal(run(WRITES))


@pytest.mark.parametrize(
    ("where", "name"), [(WriterCore, "tick"), (SegmentCore, "tick"), (LsnAllocator, "allocate")]
)
def test_a_mistake_of_the_code_under_test_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, where: type, name: str
) -> None:
    monkeypatch.setattr(where, name, broken)
    result = run(WRITES)
    assert (result.verdict, result.invariant) == (Verdict.VIOLATION, "system error")
    assert "ZeroDivisionError in broken, test_internal_errors.py" in result.finding


def test_who_misuses_a_simulated_disk_is_to_blame_and_not_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(self: WriteCycle, *_: object) -> bool:
        return self._storage.begin_append("wal-0", b"x", self._ended)

    monkeypatch.setattr(WriteCycle, "_begin", wrong)
    result = run(WRITES)
    assert (result.verdict, result.invariant) == (Verdict.VIOLATION, "system error")
    assert "file wal-0 is not there" in result.finding


def test_ctrl_c_is_nobodys_failure() -> None:
    nested = BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [KeyboardInterrupt()])])
    assert asks_to_stop(KeyboardInterrupt()) and asks_to_stop(nested)
    assert not asks_to_stop(SystemExit(3)) and not asks_to_stop(
        BaseExceptionGroup("", [ValueError()])
    )


def test_what_is_no_plain_exception_ends_its_seed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(*_: object) -> None:
        raise SystemExit(3)

    monkeypatch.setattr(World, "heal", leave)
    assert "SystemExit in leave" in internal(run(WRITES))
    monkeypatch.setattr(fleet, "generate", leave)
    assert fleet.run_seed(1).verdict is Verdict.INTERNAL


def test_a_group_is_a_finding_if_any_part_of_it_is() -> None:
    assert not blames_the_system(ExceptionGroup("", [ValueError(), KeyError()]))
    raised = []
    for function in (lambda: LsnAllocator(0, 0), lambda: VirtualScheduler().call_after(-1, print)):
        with pytest.raises(Invalid) as caught:
            function()
        raised.append(caught.value)
    own, simulated = raised
    assert blames_the_system(own) and not blames_the_system(simulated)
    assert blames_the_system(ExceptionGroup("", [simulated, ExceptionGroup("", [own])]))


# ---- fleets --------------------------------------------------------------------------------------


def test_it_ends_its_seed_and_not_the_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(seed: int) -> Schedule:
        if seed == 1:
            raise ZeroDivisionError("own mistake")
        return attrs.evolve(WRITES, seed=seed)

    monkeypatch.setattr(fleet, "generate", drawn)
    tally = Tally()
    for seed in range(3):
        tally.add(fleet.run_seed(seed))
    assert tally.verdicts == {Verdict.PASSED: 2, Verdict.INTERNAL: 1}
    assert exit_codes.EXIT_CODES[tally.verdict] == exit_codes.INTERNAL
    text = report(tally, 1.0, None)
    assert "  internal error: seed 1\n    ZeroDivisionError in drawn" in text
    assert "python -m aurora.sim explain --seed 1" in text


def test_a_finding_weighs_more_than_a_seed_that_shows_nothing() -> None:
    tally = Tally()
    for seed, verdict in enumerate((Verdict.INTERNAL, Verdict.LIVENESS, Verdict.UNDECIDED)):
        tally.add(SeedResult(seed=seed, verdict=verdict, invariant="x", finding="y"))
    assert exit_codes.EXIT_CODES[tally.verdict] == exit_codes.LIVENESS
