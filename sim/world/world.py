"""The world of one run: the real cluster on virtual time, a faulty network and faulty disks.

It offers what faults and clients need, and tells its listeners what happens; what is played in it
and what must hold there is none of its business (`sim.run`).

(More than 400 lines: all that can be done to one run, over one state.)
"""

from __future__ import annotations

from contextlib import suppress
from operator import itemgetter
from typing import Final

import trio

from aurora.cluster import Cluster, new_volume
from aurora.engine import Engine
from aurora.events import MtrAllocated, ReadStarted
from segments.manifest import StoredLog, log_in
from segments.protocol.errors import AuroraError, Closed, Fenced, SegmentLost, VolumeRolledBack
from segments.protocol.events import Event
from segments.protocol.ids import SegmentId, VolumeEpoch
from segments.protocol.volume import ProtectionGroup
from segments.storage import Identity
from segments.wal_scan import scan
from sim.plan.profiles import DiskProfile
from sim.plan.schedule import SECOND, Action, Schedule
from sim.plan.seeds import Seeds
from sim.world.ambush import Ambush
from sim.world.databases import Databases
from sim.world.disk import SimulatedStorage
from sim.world.history import Call
from sim.world.layer_parts import place_in
from sim.world.listener import Listener
from sim.world.network import NetworkEvent, SimulatedNetwork
from sim.world.network_policy import PolicyMaker, RandomPolicy
from sim.world.roll_back import DiskCopies
from sim.world.scheduler import VirtualScheduler
from sim.world.trace import Trace
from sim.world.traffic import Traffic
from sim.world.wall_clock import WallClock

_WRITER_BITS: Final = 62
_AT_ONCE: Final = DiskProfile(minimum_ns=0, extra_mean_ns=0)


class SimulatedDiskHandle:
    """A `Disk` for the cluster, on a simulated disk."""

    def __init__(self, storage: SimulatedStorage) -> None:
        self.storage = storage

    def open(self) -> SimulatedStorage:
        if self.storage.identity is None:
            raise SegmentLost("the disk was wiped: expected a segment's identity")
        return self.storage

    def wipe(self) -> None:
        self.storage.wipe()


class World:
    """One run under way."""

    cluster: Cluster

    def __init__(self, schedule: Schedule, *, policy: PolicyMaker | None = None) -> None:
        """What is drawn decides what becomes of messages, unless there is a ``policy``."""
        self.schedule = schedule
        self.scheduler = VirtualScheduler()
        self.trace = Trace(self.scheduler)
        self.calls: list[Call] = []
        self._under_way: dict[trio.lowlevel.Task, Call] = {}
        """The call that each client is making: all that it asks for is asked in its own task."""
        self.healed = False
        self.databases = Databases()
        self.traffic = Traffic()
        self._listeners: list[Listener] = []
        self._message_listeners: list[Listener] = []
        self._step_listeners: list[Listener] = []
        self.listen(self.trace)
        self.listen(self.traffic)
        knobs, now = schedule.knobs, self._tell_time
        self.seeds = seeds = Seeds(schedule.seed, redraws=schedule.redraws, now=now)
        self.config = knobs.cluster_config()
        self._geometry = self.config.new_geometry()
        drawn = RandomPolicy(seeds.within("network"))
        self.network = SimulatedNetwork(
            self.scheduler, policy(drawn, now) if policy else drawn, knobs.link
        )
        self._place_in_azs()
        self.disks: dict[SegmentId, SimulatedStorage] = {
            segment: SimulatedStorage(
                self.scheduler,
                seeds.stream(f"disk {segment}"),
                Identity("sim", segment),
                knobs.disk,
            )
            for group in self._geometry.groups()
            for segment in group.members
        }
        self.rolled_back: dict[SegmentId, str] = {}
        """Whose disks have become older copies of themselves; why that did harm, or nothing."""
        self.copies = DiskCopies(self.disks)
        self.network.observer = self._on_message
        self._opened = trio.Event()
        self._rot = seeds.stream("rot")
        self._epoch = VolumeEpoch(1, seeds.stream("writer id").getrandbits(_WRITER_BITS))

    def _tell_time(self) -> int:
        return self.scheduler.now_ns

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

    async def build(self, nursery: trio.Nursery) -> None:
        """Make the volume, start its segments, and open its first writer, all in ``nursery``."""
        for disk in self.disks.values():
            disk.profile = _AT_ONCE  # that is not what the run is about
        handles = {segment: SimulatedDiskHandle(disk) for segment, disk in self.disks.items()}
        random = self.seeds.stream("cluster")
        wall, parts = WallClock(self.seeds.within("wall clock")), self.seeds.within("parts")
        self._nursery = nursery
        self.cluster, fresh = await new_volume(
            nursery, self.network, self._geometry, handles, self._epoch, self.config, random,
            clock=lambda: wall.at(self.scheduler.now_ns), seeded=parts.begun_from,
            trace=self._on_step,
        )  # fmt: skip
        for segment, disk in self.disks.items():
            self.copies.keep(segment)
            disk.profile = self.schedule.knobs.disk
        await self.cluster.start_segments()
        await self.cluster.open_writer(fresh=fresh)
        nursery.start_soon(self.cluster.keep_noting, name="VDL")
        self._opened.set()

    @property
    def built(self) -> bool:
        """Whether there is a cluster."""
        return hasattr(self, "cluster")

    @property
    def groups(self) -> tuple[ProtectionGroup, ...]:
        """The volume's protection groups, also before it is built."""
        return self._geometry.groups()

    # ---- telling what happens --------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Tell ``listener`` of everything from now on, after those who listen already."""
        self._listeners.append(listener)
        if type(listener).on_message is not Listener.on_message:
            self._message_listeners.append(listener)  # of messages there are many, and of steps
        if type(listener).on_step is not Listener.on_step:
            self._step_listeners.append(listener)

    def _on_message(self, event: NetworkEvent) -> None:
        for listener in self._message_listeners:
            listener.on_message(event)

    def _on_step(self, source: str, event: Event) -> None:
        try:
            if isinstance(event, ReadStarted):
                self._asks_a_segment()
            elif isinstance(event, MtrAllocated):
                self._is_logged(event)
            for listener in self._step_listeners:
                listener.on_step(source, event)
        except Exception as error:
            self.scheduler.fail(error)  # before the core, whose error it is not, can catch it
            raise

    @property
    def under_way(self) -> Call | None:
        """The call that the running task is making; None amid an event, which is no task's."""
        if not trio.lowlevel.in_trio_task():
            return None
        return self._under_way.get(trio.lowlevel.current_task())

    def _asks_a_segment(self) -> None:
        call = self.under_way
        if call is not None:
            call.from_segment = True

    def _is_logged(self, event: MtrAllocated) -> None:
        call = self.under_way
        if call is not None:
            records = event.records
            goes_on = records[0].mtr_id != records[0].lsn  # it may come in parts
            written = [(e.page_id, e.offset, e.payload) for e in records]
            call.lsns = [*(call.lsns if goes_on else ()), *(each.lsn for each in records)]
            call.mtrs += not goes_on
            if call.is_sql:  # what it writes, SQLite has decided
                call.writes = [*(call.writes if goes_on else ()), *written]

    def acting(self, number: int, action: Action) -> None:
        """An action of the schedule is about to happen."""
        for listener in self._listeners:
            listener.on_action(number, action)

    def invoked(self, call: Call) -> None:
        """A client makes a call, in this task."""
        self._under_way[trio.lowlevel.current_task()] = call
        self.begun(call)

    def begun(self, call: Call) -> None:
        """A call has begun, whoever makes it."""
        self.calls.append(call)
        self.scheduler.calls += 1
        for listener in self._listeners:
            listener.on_invoked(call)

    def returned(self, call: Call, engine: Engine) -> None:
        """A client has been answered, in this task."""
        self._under_way.pop(trio.lowlevel.current_task(), None)
        self.ended(call, engine)

    def ended(self, call: Call, engine: Engine) -> None:
        """A call has ended, whoever has made it."""
        for listener in self._listeners:
            listener.on_returned(call, engine)

    def abandoned(self, call: Call) -> None:
        """A client was cancelled amid a call, in this task."""
        self._under_way.pop(trio.lowlevel.current_task(), None)
        for listener in self._listeners:
            listener.on_abandoned(call)

    def raised_undocumented(self, call: Call, error: AuroraError) -> None:
        """A call has raised what it should never raise."""
        for listener in self._listeners:
            listener.on_undocumented(call, error)

    # ---- for faults ------------------------------------------------------------------------------

    def crash_segment(self, segment: SegmentId) -> None:
        """Stop a segment at once, tearing the write that is under way."""
        host = self.cluster.hosts[segment]
        if host.started:
            self.cluster.crash(segment)
            self.disks[segment].crash()
            for listener in self._listeners:
                listener.on_crashed(segment)

    def restart_segment(self, segment: SegmentId) -> None:
        """Start a segment that is down, in a task of its own."""
        self._nursery.start_soon(self.cluster.restart, segment, name=f"restart {segment}")

    def wipe_segment(self, segment: SegmentId) -> None:
        """Lose a segment's disk for good."""
        self.crash_segment(segment)
        self.cluster.wipe(segment)

    def roll_back_segment(self, segment: SegmentId, down_ns: int) -> None:
        """Have a segment's disk be its copy again; a segment that is up crashes, and comes back."""
        host = self.cluster.hosts[segment]
        if host.lost is not None or self.copies.is_same(segment):
            return
        was_up, why = host.started, self.copies.why_harmful(segment, self.cluster)
        self.crash_segment(segment)
        self.copies.put_back(segment)
        self.rolled_back[segment] = why or self.rolled_back.get(segment, "")
        for listener in self._listeners:
            listener.on_rolled_back(segment)
        if was_up:
            self.scheduler.call_after(down_ns, self._restart_if_down, segment)

    def crash_at_write(self, segment: SegmentId, kind: str, *, after: bool, down_ns: int) -> None:
        """Stop a segment amid its next write of a kind, or right after it; it comes back then."""

        def crash() -> None:
            self.crash_segment(segment)
            self.scheduler.call_after(down_ns, self._restart_if_down, segment)

        self.disks[segment].lie_in_wait(Ambush(kind, after, crash))

    def _restart_if_down(self, segment: SegmentId) -> None:
        host = self.cluster.hosts[segment]
        if not host.started and host.lost is None:
            self.restart_segment(segment)

    def rot_promise(self, segment: SegmentId, slot: int, bits: int) -> None:
        """Flip bits in one of a segment's promise slots, 1 or 2."""
        if self.disks[segment].rot_promise(slot - 1, bits):
            for listener in self._listeners:
                listener.on_promise_rotted(segment)

    def rot_manifest(self, segment: SegmentId, half: int, bits: int) -> None:
        """Flip bits in one half of a segment's manifest, 1 or 2."""
        if self.disks[segment].rot_manifest(half - 1, bits):
            for listener in self._listeners:
                listener.on_rotted(segment)

    def rot_layer(self, segment: SegmentId, bits: int, which: int | None, part: str) -> None:
        """Flip bits in one byte of one of a segment's layers: see `place_in`."""
        disk = self.disks[segment]
        place = place_in(self._rot.random, disk.layer_files, disk.peek(), which, part)
        if place is not None and disk.rot(*place, bits):
            for listener in self._listeners:
                listener.on_layer_rotted(segment, place[0])

    def can_rot(self, segment: SegmentId) -> int:
        """How many bytes of a segment's log can rot: all of its frames but the last.

        Damage to that one cannot be told from a torn write: no protocol survives it when it was
        acknowledged, so it is not planned (protocol §8).
        """
        found = scan(log_in(self.disks[segment].peek()).parts)
        return found.frames[-1].start if found.frames else 0

    def rot_segment(
        self, segment: SegmentId, bits: int, offset: int | None, frame: int | None = None
    ) -> None:
        """Flip bits in one place of a segment's log.

        At byte ``offset``, in the frame at this place (of those that can rot, counted round and
        round from 0, or from -1 backwards), or anywhere.
        """
        stored = log_in(self.disks[segment].peek())
        found = scan(stored.parts)
        if len(found.frames) < 2:
            return
        start, end = 0, found.frames[-1].start
        if frame is not None:
            start, end, _ = found.frames[frame % (len(found.frames) - 1)]
        if offset is None:
            offset = start + int(self._rot.random() * (end - start))
        if offset < end:
            self.disks[segment].rot(*_place(stored, offset), bits)
            for listener in self._listeners:
                listener.on_rotted(segment)

    def crash_writer(self) -> None:
        """Stop the latest writer, opened or not."""
        if self.cluster.engines:
            self.cluster.crash_writer()

    def open_writer(self) -> None:
        """Have another writer open the volume, in a task of its own."""
        self._nursery.start_soon(self._open_writer, name="open writer")

    async def _open_writer(self) -> None:
        noticed = (VolumeRolledBack,) if self.rolled_back else ()
        with suppress(Fenced, Closed, *noticed):  # overtaken by another, or crashed
            await self.take_over()

    async def take_over(self) -> None:
        """Have another writer open the volume; raises as `Cluster.open_writer`."""
        try:
            await self.cluster.open_writer()
        finally:
            self._opened.set()

    def heal(self) -> None:
        """End every fault: what is down and not lost comes back, and somebody can write."""
        self.network.heal_all()
        for segment, host in self.cluster.hosts.items():
            self.disks[segment].heal()
            self.cluster.resume(segment)
            if not host.up and host.lost is None:
                self.restart_segment(segment)
        self.healed = True
        engine = self.cluster.engine
        if engine.error is not None:
            self.open_writer()

    @property
    def current_writer(self) -> Engine | None:
        """The open writer of the highest epoch; it need not be the one that was started last."""
        serving = [
            (engine.core.epoch, engine)
            for engine in self.cluster.engines
            if engine.error is None and engine.core is not None and engine.core.opened
        ]
        return max(serving, key=itemgetter(0), default=(None, None))[1]

    @property
    def opening(self) -> bool:
        """Whether some writer is on its way to open the volume."""
        return any(self.is_opening(each) for each in self.cluster.engines)

    @staticmethod
    def is_opening(engine: Engine) -> bool:
        """Whether this writer has neither opened the volume nor ended."""
        return engine.error is None and (engine.core is None or not engine.core.opened)

    @property
    def leading_writer(self) -> Engine:
        """Whose doings tell how the volume stands: the last that is about to open, or who serves.

        If nobody does either, the writer that was started last.
        """
        opening = [each for each in self.cluster.engines if self.is_opening(each)]
        return (opening or [self.current_writer or self.cluster.engine])[-1]

    @property
    def needs_a_writer(self) -> bool:
        """Whether nobody can write, or whoever could is deposed, and nobody is about to open.

        Of two that recover at a time the later one may get the lower epoch, and never hear of it.
        """
        current = self.current_writer
        return not self.opening and (current is None or self._deposed(current))

    def _deposed(self, writer: Engine) -> bool:
        """Whether some segment has sealed a higher epoch than this writer's."""
        core = writer.core
        assert core is not None
        cores = [host.core for host in self.cluster.hosts.values() if host.core is not None]
        return any(each.state.epoch > core.epoch for each in cores)

    # ---- for clients -----------------------------------------------------------------------------

    async def sleep_until(self, at_ns: int) -> None:
        """Sleep until a point in virtual time."""
        if at_ns > self.scheduler.now_ns:
            await trio.sleep_until(at_ns / SECOND)

    async def usable_engine(self) -> Engine:
        """The writer of the highest epoch that has opened the volume, and not ended; waits for one.

        That need not be the one that was made last: an older one may have sealed again since. Once
        all is well it is no one that is about to be deposed by the last.
        """
        while True:
            current, latest = self.current_writer, self.cluster.engine
            if current is not None and not (self.healed and self.is_opening(latest)):
                return current
            if self.healed and latest.error is not None:
                self.open_writer()
            self._opened = trio.Event()
            with trio.move_on_after(0.2):
                await self._opened.wait()


def _place(stored: StoredLog, offset: int) -> tuple[str, int]:
    """In which file of a log a byte of it lies, and where in there."""
    for file in stored.files:
        if offset < file.length:
            return file.name, offset
        offset -= file.length
    raise AssertionError(f"a byte {offset} behind the end of the log")
