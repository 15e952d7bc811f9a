"""The world of one run: the real cluster on virtual time, a faulty network and faulty disks.

A run has three parts. First the schedule: clients call, actions happen. Then everything heals. Then
whatever is pending must finish and all segments must agree, within a bound. Checkers watch
throughout and end the run at the first violation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from random import Random
from typing import Any

import attrs
import trio

from aurora.cluster import Cluster
from aurora.engine import Engine
from aurora.recovery import RecoveryPlan
from segments.disks import format_storage
from segments.protocol.errors import AuroraError, Closed, Fenced, SegmentLost
from segments.protocol.ids import Address, SegmentId, VolumeEpoch, name_writers
from segments.storage import Identity
from segments.wal import scan
from sim.check.blame import blames_the_system, described
from sim.check.checker import Checker
from sim.check.findings import Violation
from sim.check.marks import Coverage
from sim.plan.profiles import DiskProfile
from sim.plan.schedule import SECOND, Action, Operation, Schedule
from sim.plan.seeds import Seeds
from sim.script.errors import ScriptError
from sim.world import faults
from sim.world.clients import run_client
from sim.world.disk import SimulatedDisk
from sim.world.history import Call, Outcome
from sim.world.network import SimulatedNetwork
from sim.world.network_policy import NetworkPolicy, RandomPolicy
from sim.world.no_effect import WithoutEffect, without_effect
from sim.world.scheduler import Deadlock, Livelock, Undecided, VirtualScheduler
from sim.world.trace import Trace

_WRITER_BITS = 62


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


class SimulatedDiskHandle:
    """A `Disk` for the cluster, on a simulated disk."""

    def __init__(self, storage: SimulatedDisk) -> None:
        self.storage = storage

    def open(self) -> SimulatedDisk:
        if self.storage.identity is None:
            raise SegmentLost("the disk was wiped: expected a segment's identity")
        return self.storage

    def wipe(self) -> None:
        self.storage.wipe()


class World:
    """One run under way."""

    cluster: Cluster

    def __init__(self, schedule: Schedule, *, policy: NetworkPolicy | None = None) -> None:
        self.schedule = schedule
        self.scheduler = VirtualScheduler()
        self.trace = Trace(self.scheduler)
        self.calls: list[Call] = []
        self._under_way: dict[trio.lowlevel.Task, Call] = {}
        """The call that each client is making: all that it asks for is asked in its own task."""
        self.healed = False
        self.without_effect: list[WithoutEffect] = []
        """The actions so far that changed nothing."""
        self.coverage = Coverage(self)
        self.observer: Callable[[str, str, Mapping[str, Any]], object] | None = None
        """Called with (source, event, values) of every step of a core."""
        knobs, seeds = schedule.knobs, Seeds(schedule.seed)
        self._seeds = seeds
        self._geometry = knobs.cluster_config().new_geometry()
        self.network = SimulatedNetwork(
            self.scheduler, policy or RandomPolicy(seeds.within("network")), knobs.link
        )
        self._place_in_azs()
        self.disks: dict[SegmentId, SimulatedDisk] = {
            segment: SimulatedDisk(
                self.scheduler,
                seeds.stream(f"disk {segment}"),
                Identity("sim", segment),
                knobs.disk,
            )
            for group in self._geometry.groups()
            for segment in group.members
        }
        self.checker = Checker(self)
        self.network.observer = self.trace.on_network
        self._opened = trio.Event()
        self._rot = seeds.stream("rot")
        self._epoch = VolumeEpoch(1, seeds.stream("writer id").getrandbits(_WRITER_BITS))

    def _place_in_azs(self) -> None:
        for group in self._geometry.groups():
            for segment in group.members:
                self.network.place(segment, f"az{group.az_of(segment)}")
        cross = self.schedule.knobs.cross_az_link
        if cross is not None:
            zones = ("az1", "az2", "az3")
            for one in zones:
                for other in zones:
                    if one != other:
                        self.network.set_az_profile(one, other, cross)
            for zone in zones[1:]:  # writers live in az1, which has the default profile
                self.network.set_az_profile("", zone, cross)
                self.network.set_az_profile(zone, "", cross)

    # ---- running ---------------------------------------------------------------------------------

    def run(self) -> RunResult:
        """Run to the end, whatever it is."""
        verdict, finding, invariant = Verdict.PASSED, "", ""
        try:
            knobs = self.schedule.knobs
            self.scheduler.run(
                self._main,
                seed=self._seeds.number("tasks") & 0xFFFF_FFFF,
                deadline_ns=knobs.duration_ns + 2 * knobs.liveness_ns,
            )
        except Violation as violation:
            verdict, finding = Verdict.VIOLATION, str(violation)
            invariant = violation.invariant
            if violation.liveness:
                verdict = Verdict.LIVENESS
        except Deadlock as deadlock:
            verdict, finding, invariant = Verdict.LIVENESS, str(deadlock), "deadlock"
        except Livelock as livelock:
            verdict, finding, invariant = Verdict.LIVENESS, str(livelock), "livelock"
        except Undecided as undecided:
            verdict, finding, invariant = Verdict.UNDECIDED, str(undecided), "undecided"
        except (ScriptError, OSError):  # a script's own, and what an onlooker could not write
            raise
        except Exception as error:  # noqa: BLE001 - whoever failed, it ends this run only
            if blames_the_system(error):
                verdict, invariant = Verdict.VIOLATION, "system error"
            else:
                verdict, invariant = Verdict.INTERNAL, "internal error"
            finding = described(error)
        return RunResult(
            schedule=self.schedule,
            verdict=verdict,
            finding=name_writers(finding, self._writer_names()),
            invariant=invariant,
            digest=self.trace.digest(),
            virtual_ns=self.scheduler.now_ns,
            messages=self.network.statistics().sent,
            calls=self.calls,
            commits=sum(
                call.outcome is Outcome.OK and call.operation.kind == "put" for call in self.calls
            ),
            checks=dict(self.checker.counts),
            marks=dict(self.coverage.counts),
            lost=tuple(self.cluster.lost_segments()) if hasattr(self, "cluster") else (),
            without_effect=tuple(self.without_effect),
        )

    def _writer_names(self) -> dict[int, Address]:
        """The writers by their ids: also those of whom the cluster keeps nothing any more."""
        writers = self.checker.reference.writers.values()
        names = {view.epoch.writer_id: view.name for view in writers}
        return names | (self.cluster.writer_names if hasattr(self, "cluster") else {})

    async def _main(self) -> None:
        knobs = self.schedule.knobs
        async with trio.open_nursery() as nursery:
            await self._build(nursery)
            for number, action in enumerate(self.schedule.actions):
                at_ns = max(action.at_ns, self.scheduler.now_ns)
                self.scheduler.call_at(at_ns, self._act, number, action)
            heal_ns = max(knobs.duration_ns, self.scheduler.now_ns)  # it took that long to open
            self.scheduler.call_at(heal_ns, self.heal)
            clients: dict[int, list[tuple[int, Operation]]] = {}
            for number, operation in enumerate(self.schedule.operations):
                clients.setdefault(operation.client, []).append((number, operation))
            with trio.move_on_at((heal_ns + knobs.liveness_ns) / SECOND) as bound:
                async with trio.open_nursery() as calling:
                    for client, operations in clients.items():
                        calling.start_soon(run_client, self, operations, name=f"client {client}")
                await self.sleep_until(heal_ns)
                await self._converge()
            if bound.cancelled_caught:
                self.checker.ending.not_finished()
            self.checker.at_the_end()
            nursery.cancel_scope.cancel()

    async def _build(self, nursery: trio.Nursery) -> None:
        for disk in self.disks.values():
            disk.profile = DiskProfile()  # a volume is made on disks that work
            await format_storage(disk, self._epoch)
            disk.profile = self.schedule.knobs.disk
        handles = {segment: SimulatedDiskHandle(disk) for segment, disk in self.disks.items()}
        config = self.schedule.knobs.cluster_config()
        random: Random = self._seeds.stream("cluster")
        self._nursery = nursery
        self.cluster = Cluster(
            nursery, self.network, self._geometry, handles, config, random, trace=self.on_trace
        )
        await self.cluster.start_segments()
        self.checker.begin()
        fresh = RecoveryPlan.fresh(self._epoch, self._geometry.pg_ids)
        await self.cluster.open_writer(fresh=fresh)
        self._opened.set()

    def _act(self, number: int, action: Action) -> None:
        self.trace.note("action", number, str(action).lstrip())
        idle = without_effect(self, action)
        if idle is not None:
            self.without_effect.append(idle)
        faults.apply(self, action)

    async def _converge(self) -> None:
        """Wait until every segment that can has everything, as the writer knows it."""
        while not self.checker.ending.converged():  # noqa: ASYNC110 - no event says so
            await trio.sleep(0.1)

    # ---- for faults ------------------------------------------------------------------------------

    def crash_segment(self, segment: SegmentId) -> None:
        """Stop a segment at once, tearing the write that is under way."""
        host = self.cluster.hosts[segment]
        if host.started:
            self.cluster.crash(segment)
            self.disks[segment].crash()
            self.checker.disks.crashed(segment)

    def restart_segment(self, segment: SegmentId) -> None:
        """Start a segment that is down, in a task of its own."""
        self._nursery.start_soon(self.cluster.restart, segment, name=f"restart {segment}")

    def wipe_segment(self, segment: SegmentId) -> None:
        """Lose a segment's disk for good."""
        self.crash_segment(segment)
        self.cluster.wipe(segment)

    def rot_segment(self, segment: SegmentId, bits: int, offset: int | None) -> None:
        """Flip bits on a segment's disk."""
        found = scan(self.disks[segment].peek().log)
        if not found.frames:
            return
        # Damage to the last frame cannot be told from a torn write: no protocol survives it when
        # that frame was acknowledged, so it is not planned (protocol §8).
        end = found.frames[-1].start
        if offset is None:
            offset = int(self._rot.random() * end)
        if offset < end:
            self.disks[segment].rot(offset, bits)
            self.checker.disks.rotted(segment)

    def crash_writer(self) -> None:
        """Stop the latest writer, opened or not."""
        if self.cluster.engines:
            self.cluster.crash_writer()

    def open_writer(self) -> None:
        """Have another writer open the volume, in a task of its own."""
        self._nursery.start_soon(self._open_writer, name="open writer")

    async def _open_writer(self) -> None:
        with suppress(Fenced, Closed):  # overtaken by another, or crashed
            await self.cluster.open_writer()
        self._opened.set()

    def heal(self) -> None:
        """End every fault: what is down and not lost comes back, and somebody can write."""
        self.network.heal_all()
        for segment, host in self.cluster.hosts.items():
            disk = self.disks[segment]
            disk.set_capacity(None)
            disk.set_slowness(1.0)
            disk.fail_writes(0)
            disk.fail_syncs(0)
            self.cluster.resume(segment)
            if not host.up and host.lost is None:
                self.restart_segment(segment)
        self.healed = True
        engine = self.cluster.engine
        if engine.error is not None:
            self.open_writer()

    # ---- for clients -----------------------------------------------------------------------------

    async def sleep_until(self, at_ns: int) -> None:
        """Sleep until a point in virtual time."""
        if at_ns > self.scheduler.now_ns:
            await trio.sleep_until(at_ns / SECOND)

    async def usable_engine(self) -> Engine:
        """The latest writer that has opened the volume and has not ended; waits for one."""
        while True:
            for engine in reversed(self.cluster.engines):
                if engine.error is None and engine.core is not None and engine.core.opened:
                    return engine
            if self.healed and self.cluster.engine.error is not None:
                self.open_writer()
            self._opened = trio.Event()
            with trio.move_on_after(0.2):
                await self._opened.wait()

    def invoked(self, call: Call) -> None:
        """A client has made a call."""
        self.calls.append(call)
        self._under_way[trio.lowlevel.current_task()] = call
        self.trace.note("invoked", call.number, call.writer)
        self.checker.invoked(call)

    def returned(self, call: Call, engine: Engine) -> None:
        """A client has been answered."""
        self._under_way.pop(trio.lowlevel.current_task(), None)
        self.trace.note("returned", call.number, f"{call.outcome.value} {call.lsn}")
        self.checker.returned(call, engine)

    def fail_unexpected(self, call: Call, error: AuroraError) -> None:
        """A call raised what it should never raise."""
        self.checker.fail("typed errors", f"call {call.number}: {type(error).__name__}: {error}")

    # ---- for everyone ----------------------------------------------------------------------------

    def on_trace(self, source: str, event: str, /, **values: object) -> None:
        """A core has taken a step."""
        try:
            self.trace.on_step(source, event, values)
            if event == "read_started":
                self._asks_a_segment()
            self.checker.on_trace(source, event, values)
            self.coverage.on_trace(source, event, values)
            if self.observer is not None:
                self.observer(source, event, values)
        except Exception as error:
            self.scheduler.fail(error)  # before the core, whose error it is not, can catch it
            raise

    def _asks_a_segment(self) -> None:
        call = self._under_way.get(trio.lowlevel.current_task())
        if call is not None:
            call.from_segment = True


def run(schedule: Schedule, *, policy: NetworkPolicy | None = None) -> RunResult:
    """Run a schedule in a world of its own."""
    return World(schedule, policy=policy).run()
