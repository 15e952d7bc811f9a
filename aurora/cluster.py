"""The composition root: a volume's segments and its writer, joined by a network, in one process.

`open_cluster` is how users get an engine. The same `Cluster` stands in the simulator, given another
network, other disks and another clock; and through it segments, availability zones and writers are
crashed, restarted, paused and slowed, in tests as in production.

(More than 400 lines: the commands to a cluster and how one is put together share its every part.)
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from random import Random, SystemRandom
from time import time_ns

import attrs
import trio

from aurora.arguments import check_flag, check_kind, check_seconds, path_of
from aurora.checkup import take_snapshot
from aurora.cloning import Clone, CloneSource, clone_volume
from aurora.config import ClusterConfig
from aurora.diagnosis import diagnose
from aurora.engine import Engine
from aurora.health import HealthReport
from aurora.opening import OPENING_TIMEOUT_S, check_openable, open_in_time
from aurora.quorum import QuorumModel
from aurora.recovery_plan import RecoveryPlan
from aurora.targets import WRITER, WRITERS, Target, resolve
from aurora.transport import InProcessNetwork
from aurora.trio_run import check_run
from aurora.volume_statistics import VolumeStatistics, volume_statistics
from segments.disks import Disk, VolumeDirectory, format_storage, memory_disks
from segments.host import SegmentHost
from segments.pausing import PausableEndpoint
from segments.protocol.errors import Closed, Invalid, ReadOnly, StorageFailed
from segments.protocol.events import Tracer
from segments.protocol.ids import Address, Lsn, SegmentId, VolumeEpoch
from segments.protocol.showing import shown
from segments.protocol.transport import Network
from segments.protocol.volume import VolumeGeometry
from segments.server import SegmentServer
from segments.storage import Storage
from segments.vdl_ledger import MemoryLedger, VdlLedger
from segments.volume_copy import copy_disks

_ID_BITS = 62
_NOTING_S = 5.0
"""How long a closing waits for a disk that does not come to the end of noting the VDL."""
_log = logging.getLogger("aurora")


class Cluster:
    """A volume with everything that serves it."""

    def __init__(
        self,
        nursery: trio.Nursery,
        network: Network,
        geometry: VolumeGeometry,
        disks: Mapping[SegmentId, Disk],
        config: ClusterConfig,
        random: Random,
        *,
        ledger: VdlLedger | None = None,
        read_only: bool = False,
        clock: Callable[[], int] = time_ns,
        seeded: Callable[[int], Random] = Random,
        accepts_rollback: bool = False,
        trace: Tracer | None = None,
    ) -> None:
        """``read_only`` says that ``disks`` are copies: recovered once, and then only read.

        ``clock`` gives writers the time, in nanoseconds since the epoch of Unix; ``seeded`` makes
        a stream of random numbers for each part, from a number that ``random`` has drawn.
        ``ledger`` keeps a VDL that the volume has reached, by default in memory. With
        ``accepts_rollback`` disks are taken as they are, whatever else is known of them.
        """
        self.config = config = config.of_volume(geometry)
        self.read_only = read_only
        self.geometry = geometry
        self.network = network
        self.groups = geometry.groups()
        self.hosts: dict[SegmentId, SegmentHost] = {
            segment: SegmentHost(
                segment,
                group,
                disks[segment],
                self._new_server,
                config.segment.storage_retry_s,
                trace,
            )
            for group in self.groups
            for segment in group.members
        }
        self.engines: list[Engine] = []
        """The writers opened here, the latest last; of those that have ended only a few."""
        self._ledger = ledger or MemoryLedger()
        self._accepts_rollback = accepts_rollback
        self._nursery = nursery
        self._closed = False
        self._random = random
        self._seeded = seeded
        self._clock = clock
        self._trace = trace
        self._writer_scopes: dict[Engine, trio.CancelScope] = {}
        self._writers = 0
        self._run = trio.lowlevel.current_trio_token()

    @property
    def next_writer(self) -> Address:
        """The name that the next writer to be opened will have."""
        return f"writer-{self._writers + 1}"

    @property
    def clock(self) -> Callable[[], int]:
        """What gives writers the time, in nanoseconds since the epoch of Unix."""
        return self._clock

    def new_random(self) -> Random:
        """A stream of random numbers of its own, seeded from the cluster's."""
        return self._seeded(self._random.getrandbits(64))

    @property
    def engine(self) -> Engine:
        """The latest writer."""
        if not self.engines:
            raise Closed("no writer has been opened yet")
        return self.engines[-1]

    @property
    def writer_names(self) -> dict[int, Address]:
        """Names of `engines` by the ``writer_id`` in their epochs, for `name_writers`."""
        return {engine.writer_id: engine.name for engine in self.engines}

    # ---- segments --------------------------------------------------------------------------------

    def targets(self, target: Target) -> list[SegmentId]:
        """The segments that ``target`` names, in the order of its words, each once.

        It is ``"A0"``, ``"A"`` (in every group) or ``"az1"``, several of these with commas or
        spaces between them, or a list of such texts (`aurora.targets`); case does not matter.
        Raises `InvalidTarget` for anything else, before anything has changed.
        """
        return list(resolve(target, self.groups).segments)

    def addresses(self, target: Target) -> list[Address]:
        """The segments and writers that ``target`` names.

        Besides what `targets` takes, there are ``writer``, the latest, ``writers``, all that are
        known here, and ``writer-2``, which need not exist yet.
        Raises `InvalidTarget`, and `Closed` for ``writer`` when none has been opened.
        """
        named = resolve(target, self.groups, with_writers=True)
        found: list[Address] = list(named.segments)
        for word in named.writers:
            if word == WRITER:
                found.append(self.engine.name)
            elif word == WRITERS:
                found.extend(engine.name for engine in self.engines)
            else:
                found.append(word)
        return list(dict.fromkeys(found))

    async def restart(self, target: Target) -> None:
        """Start what is down; returns when it serves. A lost segment stays down and says why.

        One whose disk refuses goes on trying, and says so in `SegmentHost.failure`. Raises `Closed`
        once the cluster's block has ended.
        """
        hosts = self._commanded(target)
        self._check_open()
        for host in hosts:
            await host.start(self._nursery)

    def crash(self, target: Target) -> None:
        """Stop segments at once; only what is synced survives."""
        for host in self._commanded(target):
            host.crash()

    def pause(self, target: Target) -> None:
        """Have segments hear and say nothing, like stopped processes.

        What they have heard already they may still write to their disks.
        """
        for endpoint in self._endpoints(target):
            endpoint.pause()

    def resume(self, target: Target) -> None:
        """Let paused segments go on."""
        for endpoint in self._endpoints(target):
            endpoint.resume()

    def slow(self, target: Target, delay_s: float) -> None:
        """Have segments wait ``delay_s`` before each round of messages; 0 ends that."""
        check_seconds("delay_s", delay_s)
        for endpoint in self._endpoints(target):
            endpoint.delay_s = delay_s

    def wipe(self, target: Target) -> None:
        """Crash segments and lose their disks: they are lost for good (protocol §8)."""
        hosts = self._commanded(target)
        self._check_writable()
        for host in hosts:
            segment = host.segment
            host.crash()
            host.disk.wipe()
            host.lost = f"the disk of {segment} was wiped"
            host.since_s = trio.current_time()

    def lost_segments(self) -> dict[SegmentId, str]:
        """Every lost segment, and why.

        Also one that a writer knows to be rolled back, and that has not heard of it yet.
        """
        known = self.engines[-1].rolled_back if self.engines else {}
        return {**self._lost_by_themselves(), **known}

    def _lost_by_themselves(self) -> dict[SegmentId, str]:
        return {each.segment: each.lost for each in self.hosts.values() if each.lost is not None}

    def health(self) -> HealthReport:
        """The volume's health: every segment, whether writes and reads go on, and every wait."""
        hosts, now = self.hosts.values(), trio.current_time()
        snapshot = take_snapshot(self.groups, hosts, self.engines, now, read_only=self.read_only)
        return diagnose(snapshot)

    def statistics(self) -> VolumeStatistics:
        """The volume in figures: writer, every segment's store, and what holds the floor back."""
        return volume_statistics(self.engines[-1] if self.engines else None, self.hosts.values())

    def _endpoints(self, target: Target) -> list[PausableEndpoint]:
        hosts = self._commanded(target)
        return [host.endpoint for host in hosts if host.up and host.endpoint is not None]

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the cluster has been closed: expected one whose block is running")

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnly("the volume is open for reading alone: expected one to be written")

    def _commanded(self, target: Target) -> list[SegmentHost]:
        """The hosts that a command is for; refuses a call from outside the volume's trio run."""
        check_run(self._run)
        return [self.hosts[segment] for segment in self.targets(target)]

    async def start_segments(self) -> None:
        """Start every segment whose disk is there; one that refuses is tried again meanwhile."""
        for host in self.hosts.values():
            await host.start(self._nursery)

    def _new_server(self, host: SegmentHost, storage: Storage) -> SegmentServer:
        config, segment = self.config, host.segment
        peers = tuple(each for each in host.group.members if each != segment)
        endpoint = host.endpoint = PausableEndpoint(
            self.network.attach(segment), config.inbox_messages, config.inbox_bytes
        )
        return SegmentServer(
            segment, host.group.pg_id, peers, storage, endpoint,
            config.segment, self.new_random(),
            accepts_rollback=self._accepts_rollback, trace=self._trace,
        )  # fmt: skip

    # ---- writers ---------------------------------------------------------------------------------

    async def open_writer(self, *, fresh: RecoveryPlan | None = None) -> Engine:
        """Open the volume with a new writer, which fences every earlier one, alive or not.

        Waits until a write quorum of every group takes part; `health` says what is missing.
        ``fresh`` is for a volume formatted a moment ago. Raises `Fenced` if yet another writer was
        faster, `VolumeRolledBack` if the volume once had more than can be found, `Closed` once the
        cluster's block has ended.
        """
        check_run(self._run)
        self._check_open()
        if self.engines:
            self._check_writable()
        if fresh is not None:
            check_kind("fresh", fresh, RecoveryPlan, "the plan of a new volume, or None")
        writer_id = fresh.epoch.writer_id if fresh else self._random.getrandbits(_ID_BITS)
        name = self.next_writer
        self._writers += 1
        models = {group.pg_id: QuorumModel(group.members) for group in self.groups}
        engine = Engine(
            self.network.attach(name), models, self.geometry.lal, self.config.engine, writer_id,
            fresh=fresh, read_only=self.read_only, counter=self._next_counter(),
            clock=self._clock, known_vdl=self._ledger.vdl, accepts_rollback=self._accepts_rollback,
            lost=self._lost_by_themselves, trace=self._trace, names=lambda: self.writer_names,
        )  # fmt: skip
        self.engines.append(engine)
        self._forget_ended_writers()  # the one before may have ended while it was the latest
        scope = self._writer_scopes[engine] = trio.CancelScope()
        await self._nursery.start(self._run_writer, engine, scope)
        return engine

    async def clone(
        self, to: str | PathLike[str], *, at: Lsn | None = None, copy: bool = False
    ) -> Clone:
        """Make the volume as of ``at``, by default the VDL, a volume of its own in ``to``.

        It shares the files of history that never change, so it takes a moment and hardly any room,
        whatever its size; from then on both volumes write and collect for themselves, and either
        can be deleted. ``to`` is missing, an empty directory, or holds an unfinished clone, which
        is cleared. ``copy`` copies the files instead, as another file system needs.

        Amid a mini-transaction the clone ends before it: `Clone.lsn` says where. Segments that are
        down, lost or damaged begin empty in the clone, and get all from their peers.

        Raises `Invalid` if the volume is in memory or ``to`` holds something else, `ReadOnly`,
        `InvalidLsn`, `ReadPointAboveVdl`, `ReadPointBelowFloor`; `NotShareable` if ``to`` cannot
        share files with the volume, `VolumeLocked` if somebody else makes a volume there,
        `Unavailable` unless a write quorum of each group has all, `StorageFailed` if the disk
        refuses. Whatever is raised, nothing in ``to`` can be opened as a volume, unless it is the
        last sync that was refused: then all of it may be there.
        """
        check_run(self._run)
        self._check_open()
        self._check_writable()
        check_flag("copy", copy)
        source = CloneSource(self.geometry, self.hosts, self.engine, self._random)
        return await clone_volume(source, _location(to), at, copy=copy)

    async def note_vdl(self) -> None:
        """Keep the VDL of the latest writer, if it has opened the volume, for those that follow.

        What the disk refuses is only said: the VDL kept before is one that was reached, too.
        """
        core = self.engines[-1].core if self.engines else None
        if core is None or not core.opened or core.fenced is not None or self.read_only:
            return
        try:
            await self._ledger.note(core.vdl)
        except StorageFailed as error:
            _log.warning("the VDL that the volume has reached cannot be kept: %s", error)

    async def keep_noting(self) -> None:
        """`note_vdl`, now, and now and then, until cancelled."""
        while True:
            await self.note_vdl()
            await trio.sleep(self.config.vdl_note_interval_s)

    def _next_counter(self) -> int:
        """An epoch's counter above those of all writers known here; the first has 1.

        Also of those that have not opened the volume: a seal of theirs may still be on its way.
        """
        known = [engine.epoch for engine in self.engines]
        return 1 + max((each.counter for each in known if each is not None), default=1)

    def _forget_ended_writers(self) -> None:
        """Keep a few to look at: each holds its buffer pool."""
        ended = [each for each in self.engines[:-1] if each not in self._writer_scopes]
        for engine in ended[: max(0, len(ended) - self.config.ended_writers)]:
            self.engines.remove(engine)

    @trio.lowlevel.enable_ki_protection
    async def _run_writer(
        self, engine: Engine, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]
    ) -> None:
        try:
            with scope:
                await engine.run(task_status=task_status)
        finally:
            del self._writer_scopes[engine]
            self._forget_ended_writers()
        if engine.core is None or not engine.core.opened:
            raise Closed(f"{engine.name} was stopped before it had opened the volume")

    def crash_writer(self, engine: Engine | None = None) -> None:
        """Stop a writer at once, by default the latest: its pending calls raise `Closed`."""
        check_run(self._run)
        if engine is not None:
            check_kind("engine", engine, Engine, "a writer, or None for the latest")
        scope = self._writer_scopes.get(engine or self.engine)
        if scope is not None:
            scope.cancel()

    async def recover(self) -> Engine:
        """Crash the latest writer, if it still runs, and open the volume with a new one."""
        if self.engines:
            self._check_writable()
            self.crash_writer()
        return await self.open_writer()


@asynccontextmanager
async def open_cluster(
    directory: str | PathLike[str] | None = None,
    *,
    read_only: bool = False,
    accept_rollback: bool = False,
    config: ClusterConfig | None = None,
    trace: Tracer | None = None,
    network: Network | None = None,
    random: Random | None = None,
    timeout_s: float | None = OPENING_TIMEOUT_S,
) -> AsyncIterator[Cluster]:
    """A volume and its writer, ready for use as ``cluster.engine``; closed when the block ends.

    ``directory`` None keeps everything in memory; a path keeps it in files, each write synced, and
    is recovered, or made if it is missing or an empty directory. Raises `Invalid` for one that is
    something else, `InvalidConfig` for settings that contradict the volume there, `VolumeLocked` if
    it is open already, `Unavailable` if too many of its segments are lost, and `OutsideTrio` where
    no trio run is, as under asyncio (docs/asyncio.md). docs/settings.md lists the settings.

    ``read_only`` copies an existing volume into memory, writes nothing anywhere, and asks for no
    more than a read quorum of segments. Calls that write raise `ReadOnly`, as do strict reads: what
    is read is the volume as it was at the opening, with all versions that it keeps.

    Raises `VolumeRolledBack` if so many disks were replaced by older copies of themselves that part
    of the volume is missing. ``accept_rollback`` opens what is there, and annuls the rest for good.

    Raises `NotOpened`, which names every segment that did not take part and why, if the volume is
    not open after ``timeout_s`` seconds; None waits for ever. Where permissions stand in the way (a
    read-only file system, files of another owner) five seconds are enough: waiting cures nothing.

    A wait of more than a second while the volume is open is logged by the logger ``aurora``, as a
    warning with the reason; `Cluster.health` has all of it at any time.

    ``trace`` is called at every step (docs/trace-events.md). ``network`` and ``random``, by default
    this process's and the system's, make it possible to hold messages and to repeat a run.
    """
    check_run()
    config = config if config is not None else ClusterConfig()
    _check_parts(config, trace, network, random)
    _check_choices(timeout_s, read_only=read_only, accept_rollback=accept_rollback)
    raised: BaseException | None = None
    cluster: Cluster | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                parts = (nursery, _location(directory), accept_rollback, config, trace, network)
                if read_only:
                    cluster, fresh = await _assemble_reader(*parts, random, timeout_s), None
                else:
                    cluster, fresh = await _assemble(*parts, random)
                await _open(cluster, fresh, nursery, timeout_s)
                yield cluster
            except BaseException as error:
                if nursery.cancel_scope.cancel_called or _is_cancellation(error):
                    raise
                raised = error  # goes around the nursery, which would wrap it
            finally:
                await _close(cluster, nursery)
    except BaseException as error:
        interrupt = _interrupt_alone(error)
        if interrupt is not None:
            raise interrupt from raised
        if raised is None:
            raise
        if not _is_cancellation(error):
            raise BaseExceptionGroup("cluster and its block", [raised, error]) from None
    if raised is not None:
        raise raised


def _interrupt_alone(error: BaseException) -> BaseException | None:
    """The Ctrl-C that came while the block ended, if it is all that happened; trio groups it."""
    if isinstance(error, BaseExceptionGroup):
        interrupts, rest = error.split(KeyboardInterrupt)
        if interrupts is not None and (rest is None or _is_cancellation(rest)):
            return _interrupt_alone(interrupts.exceptions[0])
    return error if isinstance(error, KeyboardInterrupt) else None


def _is_cancellation(error: BaseException) -> bool:
    """Whether a cancellation is all that happened."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)


async def _close(cluster: Cluster | None, nursery: trio.Nursery) -> None:
    """Let nobody begin anything more, note how far the volume has come, and end all tasks."""
    try:
        if cluster is not None:
            cluster._closed = True
            with trio.move_on_after(_NOTING_S, shield=True):
                await cluster.note_vdl()
            cluster._ledger.close()
    finally:
        nursery.cancel_scope.cancel()


async def _open(
    cluster: Cluster, fresh: RecoveryPlan | None, nursery: trio.Nursery, timeout_s: float | None
) -> None:
    """Have the first writer open the volume in time."""
    models = [QuorumModel(group.members) for group in cluster.groups]
    start, read_only = partial(_start, cluster, fresh), cluster.read_only
    await open_in_time(start, cluster.health, models, nursery, timeout_s, read_only=read_only)
    nursery.start_soon(cluster.keep_noting, name="VDL")


async def _start(cluster: Cluster, fresh: RecoveryPlan | None) -> None:
    """Start the segments, and the first writer if one can ever open the volume."""
    await cluster.start_segments()
    rolled_back = {each.segment for each in cluster.hosts.values() if each.rolled_back}
    lost = cluster.lost_segments()
    check_openable(cluster.groups, lost, rolled_back, read_only=cluster.read_only)
    await cluster.open_writer(fresh=fresh)


async def _assemble(
    nursery: trio.Nursery,
    path: Path | None,
    accept_rollback: bool,
    config: ClusterConfig,
    trace: Tracer | None,
    network: Network | None,
    random: Random | None,
) -> tuple[Cluster, RecoveryPlan | None]:
    """A cluster that nobody has started yet, and its plan if the volume has just been made."""
    random = random or SystemRandom()
    epoch = VolumeEpoch(1, random.getrandbits(_ID_BITS))
    found = None if path is None else VolumeDirectory.find(path)
    geometry = found.geometry if found else config.new_geometry()
    config = config.of_volume(geometry)
    volume_id = f"{random.getrandbits(128):032x}"
    network = network or InProcessNetwork(config.inbox_messages, config.inbox_bytes)
    if path is None:
        disks = memory_disks(geometry, volume_id)
        return await new_volume(
            nursery, network, geometry, disks, epoch, config, random, trace=trace
        )
    volume = found or await VolumeDirectory.create(path, volume_id, geometry, epoch, random)
    cluster = Cluster(
        nursery, network, geometry, volume.disks(), config, random,
        ledger=volume.ledger(), accepts_rollback=accept_rollback, trace=trace,
    )  # fmt: skip
    return cluster, None if found else RecoveryPlan.fresh(epoch, geometry.pg_ids)


async def _assemble_reader(
    nursery: trio.Nursery,
    path: Path | None,
    accept_rollback: bool,
    config: ClusterConfig,
    trace: Tracer | None,
    network: Network | None,
    random: Random | None,
    timeout_s: float | None,
) -> Cluster:
    """A cluster that nobody has started yet, on a copy of a volume in which nothing is folded."""
    volume = None if path is None else VolumeDirectory.find(path)
    if volume is None:
        raise Invalid(f"directory is {path}: expected a volume that is there, to read alone")
    engine = attrs.evolve(config.engine, retention_lsns=None)
    config = attrs.evolve(config.of_volume(volume.geometry), engine=engine)
    network = network or InProcessNetwork(config.inbox_messages, config.inbox_bytes)
    disks = await copy_disks(volume, timeout_s)
    return Cluster(
        nursery, network, volume.geometry, disks, config, random or SystemRandom(),
        ledger=MemoryLedger(volume.vdl), read_only=True, accepts_rollback=accept_rollback,
        trace=trace,
    )  # fmt: skip


async def new_volume(
    nursery: trio.Nursery,
    network: Network,
    geometry: VolumeGeometry,
    disks: Mapping[SegmentId, Disk],
    epoch: VolumeEpoch,
    config: ClusterConfig,
    random: Random,
    *,
    clock: Callable[[], int] = time_ns,
    seeded: Callable[[int], Random] = Random,
    trace: Tracer | None = None,
) -> tuple[Cluster, RecoveryPlan]:
    """Make ``disks``, all of them empty, a new volume; as `Cluster`, and the plan to open it with.

    Nobody is started yet: `Cluster.start_segments` and `Cluster.open_writer` follow. ``epoch`` is
    that of the first writer.
    """
    for disk in disks.values():
        await format_storage(disk.open(), epoch, random)
    cluster = Cluster(
        nursery, network, geometry, disks, config, random,
        clock=clock, seeded=seeded, trace=trace,
    )  # fmt: skip
    return cluster, RecoveryPlan.fresh(epoch, geometry.pg_ids)


def _check_parts(config: object, trace: object, network: object, random: object) -> None:
    """Raise `Invalid` for what cannot be part of a cluster."""
    check_kind("config", config, ClusterConfig, "a ClusterConfig, or None")
    if trace is not None and not callable(trace):
        raise Invalid(f"trace is {shown(trace)}: expected what can be called, or None")
    if network is not None and not callable(getattr(network, "attach", None)):
        raise Invalid(f"network is {shown(network)}: expected what can be attached to, or None")
    if random is not None:
        check_kind("random", random, Random, "a random.Random, or None")


def _check_choices(timeout_s: float | None, **flags: bool) -> None:
    """Raise `Invalid` for what nobody can choose."""
    for name, value in flags.items():
        check_flag(name, value)
    if timeout_s is not None:
        check_seconds("timeout_s", timeout_s)


def _location(directory: str | PathLike[str] | None) -> Path | None:
    """The absolute path of a volume's directory; raises `Invalid` for what is no path."""
    if directory is None:
        return None
    path = path_of("directory", directory, "a path, or None for memory")
    try:
        return path.absolute()
    except FileNotFoundError:
        raise Invalid(
            f"directory is {str(path)!r}, and the current directory is gone: expected an absolute "
            "path"
        ) from None
