"""A run: a world, what is played in it, and those who watch over what must hold.

A run has three parts. First the schedule: clients call, actions happen. Then everything heals. Then
whatever is pending must finish and all segments must agree, within a bound. The checker watches
throughout and ends the run at the first violation.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import ClassVar, Final

import attrs
import trio

from segments.protocol.errors import ExtraMissing
from segments.protocol.ids import Address, SegmentId, name_writers
from sim.check.availability import Availability
from sim.check.blame import asks_to_stop, blames_the_system, described
from sim.check.checker import Checker
from sim.check.findings import Violation
from sim.check.marks import Coverage
from sim.plan.schedule import SECOND, Action, Operation, Schedule
from sim.world import faults
from sim.world.clients import run_client
from sim.world.databases import check_extra
from sim.world.history import Call, Outcome
from sim.world.network_policy import PolicyMaker
from sim.world.no_effect import WithoutEffect, without_effect
from sim.world.scheduler import Deadlock, Livelock, Undecided
from sim.world.work_bound import share_of
from sim.world.world import World

_COLLECTED_AFTER: Final = 50_000
"""New objects until cycles among them are looked for: a run makes few cycles and keeps most of what
it makes, so that looking often is all in vain."""


class Verdict(Enum):
    """How a run ended."""

    PASSED = "passed"
    VIOLATION = "violation"
    LIVENESS = "liveness failure"
    UNDECIDED = "undecided"
    INTERNAL = "internal error"
    """The simulator itself failed: the run shows nothing."""


@attrs.frozen(kw_only=True)
class RunResult:
    """What a run has shown."""

    schedule: Schedule
    verdict: Verdict
    finding: str
    """Empty when passed; else the invariant, the event and the values."""
    invariant: str
    """Name of the invariant that broke, or of the kind of liveness failure."""
    digest: str
    virtual_ns: int
    messages: int
    calls: Sequence[Call]
    commits: int
    checks: Mapping[str, int]
    """How often each invariant was checked."""
    marks: Mapping[str, int]
    """What the run reached, and how often."""
    lost: tuple[SegmentId, ...] = ()
    """The segments whose disks were lost, in order."""
    without_effect: Sequence[WithoutEffect] = ()
    """The actions that changed nothing."""


class Run:
    """One run, to be made once. Whoever looks on listens to its ``world`` before it starts."""

    raises: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What ends a run and says nothing of it: by default what an onlooker could not write."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.checker = Checker(world)
        self.coverage = Coverage(world, self.checker.reference)
        self.availability = Availability(
            world, self.checker.reference, self.checker.findings, self.coverage.count
        )
        self._without_effect: list[WithoutEffect] = []

    def run(self) -> RunResult:
        """Run to the end, whatever it is."""
        # They listen last: the step that breaks a rule is the last one that onlookers are told of.
        self.world.listen(self.checker)
        self.world.listen(self.coverage)
        self.world.listen(self.availability)
        with _rarely_collected():
            verdict, invariant, finding = self._run_to_the_end()
        self.world.databases.close_all()
        world = self.world
        return RunResult(
            schedule=world.schedule,
            verdict=verdict,
            finding=name_writers(finding, self._writer_names()),
            invariant=invariant,
            digest=world.trace.digest(),
            virtual_ns=world.scheduler.now_ns,
            messages=world.network.statistics().sent,
            calls=world.calls,
            commits=sum(
                call.outcome is Outcome.OK and (call.writes_pages or bool(call.lsns))
                for call in world.calls
            ),
            checks=dict(self.checker.counts),
            marks=dict(self.coverage.counts),
            lost=tuple(world.cluster.lost_segments()) if world.built else (),
            without_effect=tuple(self._without_effect),
        )

    def _run_to_the_end(self) -> tuple[Verdict, str, str]:
        """How it ended, the name of what broke, and what was found."""
        knobs, seeds = self.world.schedule.knobs, self.world.seeds
        try:
            if self.world.schedule.has_sql:
                check_extra()
            self.world.scheduler.run(
                self._main,
                seed=seeds.begun_from(seeds.number("tasks") & 0xFFFF_FFFF, "tasks"),
                deadline_ns=knobs.duration_ns + 2 * knobs.liveness_ns,
                share=share_of(len(self.world.groups)),
            )
        except Violation as violation:
            verdict = Verdict.LIVENESS if violation.liveness else Verdict.VIOLATION
            return verdict, violation.invariant, str(violation)
        except Deadlock as deadlock:
            return Verdict.LIVENESS, "deadlock", str(deadlock)
        except Livelock as livelock:
            traffic = self.world.traffic.since(livelock.since_ns)
            return Verdict.LIVENESS, "livelock", f"{livelock}\n  {traffic}"
        except (Undecided, ExtraMissing) as undecided:
            return Verdict.UNDECIDED, "undecided", str(undecided)
        except self.raises:
            raise
        except BaseException as error:  # whoever failed, it ends this run only
            if asks_to_stop(error):
                raise
            if blames_the_system(error):
                return Verdict.VIOLATION, "system error", described(error)
            return Verdict.INTERNAL, "internal error", described(error)
        return Verdict.PASSED, "", ""

    def _writer_names(self) -> dict[int, Address]:
        """The writers by their ids: also those of whom the cluster keeps nothing any more."""
        writers = self.checker.reference.writers.values()
        names = {view.epoch.writer_id: view.name for view in writers}
        return names | (self.world.cluster.writer_names if self.world.built else {})

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            await self._begin(nursery)
            await self._play()
            self.checker.at_the_end()
            nursery.cancel_scope.cancel()

    async def _begin(self, nursery: trio.Nursery) -> None:
        """Make all that is there from the start."""
        await self.world.build(nursery)

    async def _play(self) -> None:
        """Let everything happen that is to happen, up to the point where all must agree."""
        world, knobs = self.world, self.world.schedule.knobs
        for number, action in enumerate(world.schedule.actions):
            at_ns = max(action.at_ns, world.scheduler.now_ns)
            world.scheduler.call_at(at_ns, self._act, number, action)
        heal_ns = max(knobs.duration_ns, world.scheduler.now_ns)  # it took that long to open
        world.scheduler.call_at(heal_ns, world.heal)
        clients: dict[int, list[tuple[int, Operation]]] = {}
        for number, operation in enumerate(world.schedule.operations):
            clients.setdefault(operation.client, []).append((number, operation))
        with trio.move_on_at((heal_ns + knobs.liveness_ns) / SECOND) as bound:
            async with trio.open_nursery() as calling:
                for client, operations in clients.items():
                    calling.start_soon(run_client, world, operations, name=f"client {client}")
            await world.sleep_until(heal_ns)
            await self._converge()
        if bound.cancelled_caught:
            self.checker.ending.not_finished()

    def _act(self, number: int, action: Action) -> None:
        self.world.acting(number, action)
        idle = without_effect(self.world, action)
        if idle is not None:
            self._without_effect.append(idle)
        faults.apply(self.world, action)

    async def _converge(self) -> None:
        """Wait until every segment that can has everything, as the writer knows it."""
        while not self.checker.ending.converged():
            if self.world.needs_a_writer:
                self.world.open_writer()
            await trio.sleep(0.1)


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """Look for cycles of garbage less often; afterwards everything is as it was."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _COLLECTED_AFTER) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def run(schedule: Schedule, *, policy: PolicyMaker | None = None) -> RunResult:
    """Run a schedule in a world of its own."""
    return Run(World(schedule, policy=policy)).run()
