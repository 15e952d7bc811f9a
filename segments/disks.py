"""Where segments keep their bytes: in memory, or in the directories of a volume on files.

A volume on files is a directory: ``volume.json``, and one directory for each segment. It is made
in its place, as not every directory can be replaced (a mount point, a link, one in a directory that
takes no writes). A marker is put up first, in an empty directory, and becomes the manifest when all
else is durable: so there is never half a volume, what an interrupted creation has left is known for
that and cleared by the next, and a directory that holds anything else is never touched.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Final, Protocol

import attrs
import trio

from segments.file_storage import FileStorage
from segments.locked_directory import LockedDirectory, OpenDirectory
from segments.manifest import SALT_BITS
from segments.protocol import codec
from segments.protocol.errors import (
    Corrupt,
    Invalid,
    InvalidConfig,
    OtherFormat,
    SegmentLost,
    VolumeLocked,
)
from segments.protocol.ids import MAX_LSN, Lsn, SegmentId, VolumeEpoch
from segments.protocol.refusal import is_passing, storage_error
from segments.protocol.showing import shown
from segments.protocol.volume import VolumeGeometry
from segments.restart import format_files
from segments.segment_directory import make_directory
from segments.storage import Identity, MemoryStorage, Storage
from segments.vdl_ledger import FileLedger

_MANIFEST = "volume.json"
_MAKING = "volume.creating"
_CLONING = "volume.cloning"
_SEGMENT = re.compile(r"[A-F](0|[1-9][0-9]*)$")
_OF_THE_FILE_SYSTEM = "lost+found"  # stands in many a new one, which is empty for all that
_FORMAT = 4
"""1: records in logs were msgpack; 2: truncation tables kept every range; 3: a log was one file."""
CONVERTIBLE: Final = 3
"""The format that can be converted into the present one (`segments.conversion.volume`)."""


class Disk(Protocol):
    """One segment's disk, from which its storage is opened each time the segment starts."""

    def open(self) -> Storage:
        """The storage; raises `SegmentLost` if the disk no longer holds the segment."""

    def wipe(self) -> None:
        """Lose everything on it."""


async def format_storage(storage: Storage, epoch: VolumeEpoch, random: Random) -> None:
    """Make a new storage a segment of a new volume, whose first writer has ``epoch``.

    ``random`` draws the salt of its log.
    """
    for name, data in format_files(epoch, random.getrandbits(SALT_BITS)).items():
        await storage.publish(name, data)


class MemoryDisk:
    """Survives its segment's crashes, not the process."""

    def __init__(self, identity: Identity) -> None:
        self.storage = MemoryStorage(identity)

    def open(self) -> MemoryStorage:
        if self.storage.identity is None:
            raise SegmentLost("the disk has been wiped: expected a segment's identity")
        return self.storage

    def wipe(self) -> None:
        self.storage.wipe()


def memory_disks(geometry: VolumeGeometry, volume_id: str) -> dict[SegmentId, MemoryDisk]:
    """A new volume's disks in memory, still to be formatted."""
    return {
        segment: MemoryDisk(Identity(volume_id, segment))
        for group in geometry.groups()
        for segment in group.members
    }


@attrs.frozen
class FileDisk:
    """A directory of its own."""

    directory: Path
    identity: Identity

    def open(self) -> FileStorage:
        with self.naming_volume():
            return FileStorage.open(self.directory, self.identity)

    @contextmanager
    def naming_volume(self) -> Iterator[None]:
        """Have `VolumeLocked` name what somebody has opened, which is a volume."""
        try:
            yield
        except VolumeLocked:
            raise VolumeLocked(
                f"{self.directory.parent} is open already, here or in another process, which has "
                f"{self.identity.segment}"
            ) from None

    def wipe(self) -> None:
        shutil.rmtree(self.directory.resolve(), ignore_errors=True)  # what a link leads to


@attrs.frozen
class VolumeDirectory:
    """A volume on files."""

    path: Path
    volume_id: str
    geometry: VolumeGeometry
    vdl: Lsn = 0
    """One that the volume had surely reached when its manifest was read."""

    def ledger(self) -> FileLedger:
        """What keeps that VDL from now on; raises `StorageFailed` if the disk refuses."""
        try:
            directory = OpenDirectory(self.path)
        except OSError as error:
            raise storage_error(f"{self.path} cannot be read", error) from error

        def encode(vdl: Lsn) -> bytes:
            return _encode_manifest(self.volume_id, self.geometry, vdl)

        def is_ours(data: bytes) -> bool:
            return _decode_manifest(self.path / _MANIFEST, data, _FORMAT)[:2] == (
                self.volume_id,
                self.geometry,
            )

        return FileLedger(directory, _MANIFEST, self.vdl, encode, is_ours)

    def disks(self) -> Mapping[SegmentId, FileDisk]:
        """One disk for each segment of the volume."""
        segments = [each for group in self.geometry.groups() for each in group.members]
        return {
            segment: FileDisk(self.path / segment, Identity(self.volume_id, segment))
            for segment in segments
        }

    @classmethod
    def find(cls, path: Path, written_as: int = _FORMAT) -> VolumeDirectory | None:
        """The volume at ``path``; None if nothing is there yet.

        Raises `Invalid` for a directory that holds something else, `OtherFormat` for a volume of
        another format than ``written_as``, `Corrupt` for a manifest that is not byte by byte what
        was written, `StorageFailed` if the disk refuses.
        """
        manifest = path / _MANIFEST
        try:
            if not _is_directory(path):
                return None
            found = _names(path)
            data = manifest.read_bytes() if _MANIFEST in found else None
        except OSError as error:
            raise storage_error(f"{path} cannot be read", error) from error
        if data is not None:
            return cls(path, *_decode_manifest(manifest, data, written_as))
        if _CLONING in found:
            raise Invalid(
                f"{path} holds an unfinished clone, as {_CLONING} says: expected a volume; clone "
                "into it again, which clears it first, or delete it"
            )
        _check_free(path, found)
        return None

    @classmethod
    async def create(
        cls,
        path: Path,
        volume_id: str,
        geometry: VolumeGeometry,
        epoch: VolumeEpoch,
        random: Random,
    ) -> VolumeDirectory:
        """A new volume at ``path``, which is missing or an empty directory; as `format_storage`.

        Raises `VolumeLocked` if somebody else is making it, or just has; `Invalid` if something
        else is there, `StorageFailed` if the disk refuses.
        """
        volume = cls(path, volume_id, geometry)
        manifest = _encode_manifest(volume_id, geometry, 0)
        try:
            await trio.to_thread.run_sync(make_directory, path)
            with closing(LockedDirectory(path)):
                if _MANIFEST in (names := _names(path)):
                    raise VolumeLocked(f"{path}: somebody else has just made a volume there")
                _check_free(path, names)
                await trio.to_thread.run_sync(_begin, path, _MAKING, manifest)
                await volume._format(epoch, random)
                await trio.to_thread.run_sync(_finish, path, _MAKING)
        except (OSError, RuntimeError, MemoryError) as error:
            if not is_passing(error):
                raise
            raise storage_error(f"{path} cannot be made", error) from error
        return volume

    def replace_manifest(self, directory: LockedDirectory) -> None:
        """Make the manifest in ``directory``, the volume's own, one of the present format.

        Durably, and in one step: a crash leaves the old one or the new one. Raises `OSError`.
        """
        directory.publish(_MANIFEST, _encode_manifest(self.volume_id, self.geometry, 0))

    def make_place(self) -> None:
        """Make its directory unless it is there; `Invalid` if it is none; may raise `OSError`."""
        if not _is_directory(self.path):
            make_directory(self.path)

    def begin_clone(self) -> None:
        """Put up the marker of an unfinished clone, and clear what another one has left.

        The directory is there, and locked. Raises `Invalid` if it holds anything else, and
        `OSError`, as the two that follow.
        """
        names = _names(self.path)
        if _MANIFEST in names:
            raise Invalid(f"{self.path} holds a volume: expected an empty directory for a clone")
        _check_free(self.path, names, (_CLONING, _MAKING))
        _begin(self.path, _CLONING, _encode_manifest(self.volume_id, self.geometry, self.vdl))

    def finish_clone(self) -> None:
        """Make an unfinished clone a volume, in one step, once all else in it is durable."""
        _finish(self.path, _CLONING)

    def abandon_clone(self) -> None:
        """Remove an unfinished clone; one that is finished stays."""
        if _CLONING in _names(self.path):
            _clear(self.path, _CLONING)
            (self.path / _CLONING).unlink()

    async def _format(self, epoch: VolumeEpoch, random: Random) -> None:
        for segment, disk in self.disks().items():
            # In a thread, like all that syncs: the loop serves others, too.
            storage = await trio.to_thread.run_sync(
                FileStorage.format, self.path / segment, disk.identity
            )
            try:
                await format_storage(storage, epoch, random)
            finally:
                storage.close()


def _encode_manifest(
    volume_id: str, geometry: VolumeGeometry, vdl: Lsn | None, written_as: int = _FORMAT
) -> bytes:
    values: dict[str, object] = {
        "format": written_as,
        "volume_id": volume_id,
        "pg_count": geometry.pg_count,
        "lal": geometry.lal,
    }
    if vdl is not None:  # as in earlier formats
        values["vdl"] = vdl
    # A wrong number of groups would deal the pages anew: nothing here may be taken on trust.
    values["checksum"] = f"{codec.checksum(codec.pack(tuple(values.values()))):016x}"
    return json.dumps(values, indent=2).encode() + b"\n"


def _decode_manifest(manifest: Path, data: bytes, expected: int) -> tuple[str, VolumeGeometry, Lsn]:
    try:
        values = json.loads(data)
        written_as = values["format"]
        volume_id, geometry = values["volume_id"], VolumeGeometry(values["pg_count"], values["lal"])
        vdl = values.get("vdl")
        intact = _encode_manifest(volume_id, geometry, vdl, written_as) == data
    except (ValueError, KeyError, TypeError, RecursionError, InvalidConfig) as error:
        raise Corrupt(f"{manifest} cannot be read: {error!r}") from error
    if not intact:
        raise Corrupt(f"{manifest} is {shown(data)}: expected what was written, by its checksum")
    if written_as != expected:
        raise OtherFormat(_of_another_format(manifest, written_as))
    if written_as == CONVERTIBLE:
        vdl = 0
    elif type(vdl) is not int or not 0 <= vdl <= MAX_LSN:
        raise Corrupt(f"{manifest} says VDL {shown(vdl)}: expected 0 to {MAX_LSN}")
    return volume_id, geometry, vdl


def _of_another_format(manifest: Path, written_as: object) -> str:
    what_helps = "nothing has been changed"
    if written_as == CONVERTIBLE:
        command = f"python -m aurora convert {shlex.quote(str(manifest.parent))}"
        what_helps = f"{command} converts it; {what_helps}"
    return (
        f"{manifest} is of format {shown(written_as)}: expected {_FORMAT}, the one that this "
        f"version reads and writes; {what_helps}"
    )


def _is_directory(path: Path) -> bool:
    """Whether there is one; raises `Invalid` if there is something else."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():  # to a disk that is not mounted, perhaps: nothing is made there
            target = path.readlink()
            raise Invalid(f"{path} leads to {target}: expected a directory that is there") from None
        return False
    if not stat.S_ISDIR(mode):
        raise Invalid(f"{path} is a file: expected a directory")
    return True


def _names(path: Path) -> list[str]:
    return sorted({each.name for each in path.iterdir()} - {_OF_THE_FILE_SYSTEM})


def _check_free(path: Path, names: Sequence[str], markers: Sequence[str] = (_MAKING,)) -> None:
    """Raise `Invalid` if a directory without a volume holds more than what an unfinished one left.

    Its marker was put into an empty directory, so segments beside that are of its making.
    """
    making = any(each in names for each in markers)
    others = [
        each for each in names if each not in markers and not (making and _SEGMENT.match(each))
    ]
    if others:
        raise Invalid(
            f"{path} holds {', '.join(others[:3])} and no {_MANIFEST}: "
            "expected a volume, or an empty directory for a new one"
        )


def _begin(path: Path, marker: str, manifest: bytes) -> None:
    """Put up the marker, and remove what an unfinished volume has left."""
    _write_synced(path / marker, manifest)
    _sync_directory(path)
    _clear(path, marker)


def _clear(path: Path, marker: str) -> None:
    """Remove all but the marker, which tells what there is for that."""
    for each in [path / name for name in _names(path) if name != marker]:
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()


def _finish(path: Path, marker: str) -> None:
    """The marker becomes the manifest, once all that it tells of is durable."""
    _sync_directory(path)
    (path / marker).replace(path / _MANIFEST)
    _sync_directory(path)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
