"""A volume as of an LSN becomes a volume of its own: the composition of `segments.cloning`.

What each segment holds up to that LSN is taken at one moment of the loop; its layers are kept from
deletion until they have their second names, which they get in threads, several segments at a time.
The source goes on meanwhile. Whatever happens to it, the clone becomes a volume in one step, at the
end, if by then a write quorum of each group has all of its part.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from random import Random
from typing import Final

import attrs
import trio

from aurora.core import WriterCore
from aurora.engine import Engine
from aurora.quorum import QuorumModel
from segments.cloning.boundary import mtr_of_job
from segments.cloning.cut import NOTHING, Cut, Genesis, cut_at, glance_job, tail_known_to
from segments.cloning.directory import CloneDirectory, Written
from segments.core import SegmentCore
from segments.disks import FileDisk, VolumeDirectory
from segments.file_storage import FileStorage
from segments.host import SegmentHost
from segments.io_threads import in_thread
from segments.locked_directory import OpenDirectory
from segments.protocol.errors import (
    AuroraError,
    Closed,
    DamagedLayer,
    Invalid,
    SpoiltRun,
    StorageFailed,
    Unavailable,
)
from segments.protocol.ids import Lsn, PgId, SegmentId
from segments.protocol.volume import ProtectionGroup, VolumeGeometry
from segments.server import SegmentServer

_ID_BITS: Final = 62
_SALT_BITS: Final = 64
_VOLUME_ID_BITS: Final = 128
_SHORT_LOG_BYTES: Final = 64 << 10
_LOG_SHARE: Final = 256
"""A log that takes more than such a part of the layers is folded first, for all clones to come."""
_FOLDING_S: Final = 0.3
"""How long a clone waits for that: a merge may be under way."""
_HEARING_S: Final = 0.5
"""How long a clone waits for segments that are about to hear of the volume's opening."""
_LOOKS: Final = 50
_AT_A_TIME: Final = 6
"""Segments that are written at a time, each in a thread."""


@attrs.frozen
class Clone:
    """A volume that has been made as a clone."""

    path: Path
    volume_id: str
    lsn: Lsn
    """It holds everything up to here, inclusive, and nothing else: where it will open."""
    shared_bytes: int
    """In files that it has in common with its source."""
    own_bytes: int
    """In files of its own."""
    left_out: Mapping[SegmentId, str]
    """Segments that begin empty, and get all from their peers once it is open; and why."""


@attrs.frozen
class CloneSource:
    """What is cloned."""

    geometry: VolumeGeometry
    hosts: Mapping[SegmentId, SegmentHost]
    engine: Engine
    """Its latest writer."""
    random: Random


async def clone_volume(
    source: CloneSource, path: Path | None, at: Lsn | None, *, copy: bool
) -> Clone:
    """Clone a volume; all as `aurora.cluster.Cluster.clone` says."""
    if path is None:
        raise Invalid("the directory of a clone is None: expected a path")
    if not all(isinstance(host.disk, FileDisk) for host in source.hosts.values()):
        raise Invalid("the volume is in memory: expected one that is kept in a directory, to clone")
    async with source.engine.read_view(at) as asked:
        core = source.engine.core
        assert core is not None, "who reads has opened"
        await _heard_of_opening(source, core)
        lsn = await _end_of_mtr(source, core, asked.lsn)
        async with source.engine.read_view(lsn):  # it may lie below the floor
            return await _Cloning(source, core, lsn, copy=copy).run(path)


async def _heard_of_opening(source: CloneSource, writer: WriterCore) -> None:
    """Wait a moment for segments that run and have not heard yet who has opened the volume."""
    for _ in range(_LOOKS):
        running = [
            each for host in source.hosts.values() if isinstance(each := _running(host), _Running)
        ]
        if all(each.core.state.table.epoch >= writer.epoch for each in running):
            return
        await trio.sleep(_HEARING_S / _LOOKS)


# ---- what segments have --------------------------------------------------------------------------


@attrs.frozen
class _Running:
    """A segment that runs."""

    server: SegmentServer
    core: SegmentCore
    storage: FileStorage

    def found(self, error: AuroraError) -> str:
        """Have the segment heal what was found to be damaged; as text."""
        if isinstance(error, DamagedLayer):
            self.core.background.found_damage(error, "a clone")
        if isinstance(error, SpoiltRun):
            self.core.state.give_up(error)
        return str(error)


def _running(host: SegmentHost) -> _Running | str:
    """A segment, or why it cannot be asked for anything."""
    if host.lost is not None:
        return host.lost
    server = host.server
    if not host.up or server is None or server.core is None:
        return host.failure or "it is down"
    assert isinstance(server.storage, FileStorage)
    return _Running(server, server.core, server.storage)


def _is_long(core: SegmentCore) -> bool:
    """Whether the log is so long that a clone would rather share it, as a layer."""
    size = core.state.index.encoded_bytes()
    return size > max(_SHORT_LOG_BYTES, core.files.layer_bytes // _LOG_SHARE)


def _why_not(core: SegmentCore, writer: WriterCore, end: Lsn) -> str | None:
    """Why nothing of a segment may be taken up to ``end``; None if it may."""
    state = core.state
    if state.table.epoch < writer.epoch or state.lacks_table:
        return "it has not heard yet that the volume was opened anew"
    if not state.whole:
        return "it is damaged, and its peers have not healed it yet"
    if state.floor > end:
        return f"it has collected what is below {state.floor}"
    return None


async def _end_of_mtr(source: CloneSource, writer: WriterCore, lsn: Lsn) -> Lsn:
    """``lsn``, or if that is amid a mini-transaction, what is before it.

    Raises `Unavailable` if no segment of some group can tell.
    """
    for group in source.geometry.groups() if lsn < writer.vdl else ():
        first = await _mtr_of(source, writer, group, lsn + 1)
        if first is not None:
            return min(lsn, first - 1)
    return lsn


async def _mtr_of(
    source: CloneSource, writer: WriterCore, group: ProtectionGroup, lsn: Lsn
) -> Lsn | None:
    """Where the mini-transaction of the record at ``lsn`` begins; None if the group has none."""
    required = writer.required_scl(group.pg_id, lsn)
    reasons: list[str] = []
    for segment in group.members:
        running = _running(source.hosts[segment])
        why = running if isinstance(running, str) else _why_not(running.core, writer, lsn - 1)
        if why is None and not isinstance(running, str):
            state = running.core.state
            layer = state.layers.at(lsn)
            try:
                async with running.storage.keeping([layer.name] if layer is not None else []):
                    if state.scl >= required:
                        job = mtr_of_job(state, lsn)
                        return await running.server.work(running.core, job)
                why = f"it has SCL {state.scl}"
            except (DamagedLayer, SpoiltRun, StorageFailed, Closed) as error:
                why = running.found(error)
        reasons.append(f"{segment}: {why}")
    raise Unavailable(
        f"protection group {group.pg_id}: no segment can tell whether a mini-transaction goes "
        f"across {lsn}: {'; '.join(reasons)}"
    )


# ---- a clone on its way --------------------------------------------------------------------------


class _Cloning:
    """One clone, from what segments hold to a volume."""

    def __init__(self, source: CloneSource, writer: WriterCore, lsn: Lsn, *, copy: bool) -> None:
        """``lsn`` is the end of a mini-transaction, and kept."""
        self._source = source
        self._writer = writer
        self._copy = copy
        self._groups = source.geometry.groups()
        self._ends: dict[PgId, Lsn] = {each.pg_id: self._end_in(each, lsn) for each in self._groups}
        vdl = max(self._ends.values())  # lower if what is between was annulled
        random = source.random
        self._genesis = Genesis.of(writer.table, vdl, random.getrandbits(_ID_BITS))
        self._written: dict[SegmentId, Written] = {}
        self._complete: dict[SegmentId, None] = {}
        self._left_out: dict[SegmentId, str] = {}
        self._behind: dict[SegmentId, str] = {}
        self._errors: list[Exception] = []
        self._turns = trio.Semaphore(_AT_A_TIME)

    def _end_in(self, group: ProtectionGroup, lsn: Lsn) -> Lsn:
        """Where the cut of a group's segments ends; see `segments.cloning.cut`."""
        required = self._writer.required_scl(group.pg_id, lsn)
        if required < lsn:
            return required
        for segment in group.members:
            running = _running(self._source.hosts[segment])
            if not isinstance(running, str) and not _why_not(running.core, self._writer, lsn):
                tail = tail_known_to(running.core.state, lsn)
                if tail is not None:
                    return tail
        return lsn

    async def run(self, path: Path) -> Clone:
        """Write all segments; make it a volume, or leave nothing."""
        self._check_quorums(self._could_be_complete())
        source, random = self._source, self._source.random
        volume_id = f"{random.getrandbits(_VOLUME_ID_BITS):032x}"
        volume = VolumeDirectory(path, volume_id, source.geometry, self._genesis.vdl)
        target = await in_thread("clone", CloneDirectory, volume)
        try:
            await self._write_all(target)
            self._check_quorums(self._complete)
            await in_thread("clone", target.finish)
        except BaseException:
            with trio.CancelScope(shield=True):
                await in_thread("clone", target.abandon)
            raise
        finally:
            target.close()
        written = self._written.values()
        return Clone(
            path, volume_id, self._genesis.vdl,
            sum(each.shared_bytes for each in written), sum(each.own_bytes for each in written),
            self._left_out,
        )  # fmt: skip

    def _could_be_complete(self) -> list[SegmentId]:
        """Who has all of its part now."""
        found = []
        for group in self._groups:
            end = self._ends[group.pg_id]
            for segment in group.members:
                running = _running(self._source.hosts[segment])
                if isinstance(running, str):
                    self._left_out[segment] = running
                elif why := _why_not(running.core, self._writer, end):
                    self._left_out[segment] = why
                elif running.core.state.scl < end:
                    self._behind[segment] = f"it has SCL {running.core.state.scl}: expected {end}"
                else:
                    found.append(segment)
        return found

    def _check_quorums(self, complete: Container[SegmentId]) -> None:
        """Raise `Unavailable` unless a write quorum of each group is ``complete``."""
        reasons = self._left_out | self._behind
        for group in self._groups:
            if not QuorumModel(group.members).has_write(
                [each for each in group.members if each in complete]
            ):
                why = "; ".join(
                    f"{each}: {reasons[each]}" for each in group.members if each in reasons
                )
                raise Unavailable(
                    f"protection group {group.pg_id} cannot be cloned at {self._genesis.vdl}: "
                    f"{why}: expected a write quorum with all of it"
                )

    async def _write_all(self, target: CloneDirectory) -> None:
        self._left_out.clear()
        self._behind.clear()
        async with trio.open_nursery() as nursery:
            for group in self._groups:
                for segment in group.members:
                    host, end = self._source.hosts[segment], self._ends[group.pg_id]
                    nursery.start_soon(self._write, target, host, end, nursery.cancel_scope)
        if self._errors:
            raise self._errors[0]

    async def _write(
        self, target: CloneDirectory, host: SegmentHost, end: Lsn, scope: trio.CancelScope
    ) -> None:
        """Write one segment; what goes wrong goes around the nursery, which would wrap it."""
        async with self._turns:
            try:
                running = _running(host)
                why = (
                    running if isinstance(running, str) else await self._share(target, running, end)
                )
                if why is not None:
                    self._left_out[host.segment] = why
                    await self._write_files(target, host.segment, NOTHING, None)
            except Exception as error:  # noqa: BLE001 - whatever it is, all of it is off
                self._errors.append(error)
                scope.cancel()

    async def _share(self, target: CloneDirectory, running: _Running, end: Lsn) -> str | None:
        """Write a segment of what another one holds; or why nothing of it may be taken."""
        server, core = running.server, running.core
        if end > core.state.folded and _is_long(core):
            await server.fold(core, end, _FOLDING_S)
        await server.settled()
        if why := _why_not(core, self._writer, end):
            return why
        cut = cut_at(core.state, end)
        names = [each.name for each in cut.layers]
        try:
            async with running.storage.keeping(names) as directory:
                try:
                    await server.work(core, glance_job(cut))
                except StorageFailed as error:
                    return running.found(error)
                await self._write_files(target, server.segment, cut, directory)
        except (DamagedLayer, SpoiltRun, Closed) as error:
            return running.found(error)
        if cut.scl < end:
            self._behind[server.segment] = f"it has SCL {cut.scl}: expected {end}"
        else:
            self._complete[server.segment] = None
        return None

    async def _write_files(
        self, target: CloneDirectory, segment: SegmentId, cut: Cut, source: OpenDirectory | None
    ) -> None:
        salt = self._source.random.getrandbits(_SALT_BITS)

        def write() -> Written:
            return target.write_segment(segment, cut, self._genesis, salt, source, copy=self._copy)

        self._written[segment] = await in_thread(f"{segment} clone", write)
