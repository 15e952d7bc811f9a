"""Where segments keep their bytes: in memory, or in the directories of a volume on files.

A volume on files is a directory: ``volume.json``, written last, and one directory for each segment.
It is made under another name and renamed when it is complete, so there is never half a volume, and
a directory that is not one is never touched.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as shown
from typing import Protocol

import attrs
import trio

from segments.file_storage import FileStorage
from segments.protocol import codec
from segments.protocol.errors import (
    Corrupt,
    Invalid,
    InvalidConfig,
    OtherFormat,
    SegmentLost,
    VolumeLocked,
)
from segments.protocol.ids import SegmentId, VolumeEpoch
from segments.protocol.refusal import storage_error
from segments.protocol.volume import VolumeGeometry
from segments.state import format_log
from segments.storage import Identity, MemoryStorage, Storage

_MANIFEST = "volume.json"
_FORMAT = 3  # 1: records in logs were msgpack; 2: truncation tables kept every range


class Disk(Protocol):
    """One segment's disk, from which its storage is opened each time the segment starts."""

    def open(self) -> Storage:
        """The storage; raises `SegmentLost` if the disk no longer holds the segment."""

    def wipe(self) -> None:
        """Lose everything on it."""


async def format_storage(storage: Storage, epoch: VolumeEpoch) -> None:
    """Make a new storage a segment of a new volume, whose first writer has ``epoch``."""
    log, promise = format_log(epoch)
    await storage.write_promise(promise)
    await storage.append(log)


class MemoryDisk:
    """Survives its segment's crashes, not the process."""

    def __init__(self, identity: Identity) -> None:
        self.storage = MemoryStorage.create(identity)

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
        return FileStorage.open(self.directory, self.identity)

    def wipe(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


@attrs.frozen
class VolumeDirectory:
    """A volume on files."""

    path: Path
    volume_id: str
    geometry: VolumeGeometry

    def disks(self) -> Mapping[SegmentId, FileDisk]:
        """One disk for each segment of the volume."""
        segments = [each for group in self.geometry.groups() for each in group.members]
        return {
            segment: FileDisk(self.path / segment, Identity(self.volume_id, segment))
            for segment in segments
        }

    @classmethod
    def find(cls, path: Path) -> VolumeDirectory | None:
        """The volume at ``path``; None if nothing is there yet.

        Raises `Invalid` for a directory that holds something else, `Corrupt` for a manifest that
        is not byte by byte what was written, `StorageFailed` if the disk refuses.
        """
        manifest = path / _MANIFEST
        try:
            if not path.exists():
                return None
            if not path.is_dir():
                raise Invalid(f"{path} is a file: expected a directory")
            found = sorted(each.name for each in path.iterdir())
            data = manifest.read_bytes() if _MANIFEST in found else None
        except OSError as error:
            raise storage_error(f"{path} cannot be read", error) from error
        if data is not None:
            return cls(path, *_decode_manifest(manifest, data))
        if found:
            raise Invalid(
                f"{path} holds {', '.join(found[:3])} and no {_MANIFEST}: "
                "expected a volume, or an empty directory for a new one"
            )
        return None

    @classmethod
    async def create(
        cls, path: Path, volume_id: str, geometry: VolumeGeometry, epoch: VolumeEpoch
    ) -> VolumeDirectory:
        """A new volume at ``path``, which is missing or an empty directory.

        Raises `VolumeLocked` if somebody else is making it, or just has; `StorageFailed` if the
        disk refuses.
        """
        if not path.name:
            raise Invalid(f"{path}: expected a directory that can be made or replaced")
        try:
            with _site(path.with_name(path.name + ".creating")) as building:
                await cls(building, volume_id, geometry)._format(epoch)
                await trio.to_thread.run_sync(_move_into_place, building, path)
        except OSError as error:
            raise storage_error(f"{path} cannot be made", error) from error
        return cls(path, volume_id, geometry)

    async def _format(self, epoch: VolumeEpoch) -> None:
        for segment, disk in self.disks().items():
            # In a thread, like all that syncs: the loop serves others, too.
            storage = await trio.to_thread.run_sync(
                FileStorage.create, self.path / segment, disk.identity
            )
            try:
                await format_storage(storage, epoch)
            finally:
                storage.close()
        manifest = _encode_manifest(self.volume_id, self.geometry)
        await trio.to_thread.run_sync(_write_synced, self.path / _MANIFEST, manifest)
        await trio.to_thread.run_sync(_sync_directory, self.path)


def _encode_manifest(volume_id: str, geometry: VolumeGeometry, written_as: int = _FORMAT) -> bytes:
    values: dict[str, object] = {
        "format": written_as,
        "volume_id": volume_id,
        "pg_count": geometry.pg_count,
        "lal": geometry.lal,
    }
    # A wrong number of groups would deal the pages anew: nothing here may be taken on trust.
    values["checksum"] = f"{codec.checksum(codec.pack(tuple(values.values()))):016x}"
    return json.dumps(values, indent=2).encode() + b"\n"


def _decode_manifest(manifest: Path, data: bytes) -> tuple[str, VolumeGeometry]:
    try:
        values = json.loads(data)
        written_as = values["format"]
        volume_id, geometry = values["volume_id"], VolumeGeometry(values["pg_count"], values["lal"])
        intact = _encode_manifest(volume_id, geometry, written_as) == data
    except (ValueError, KeyError, TypeError, RecursionError, InvalidConfig) as error:
        raise Corrupt(f"{manifest} cannot be read: {error!r}") from error
    if not intact:
        raise Corrupt(f"{manifest} is {shown(data)}: expected what was written, by its checksum")
    if written_as != _FORMAT:
        raise OtherFormat(
            f"{manifest} is of format {shown(written_as)}: expected {_FORMAT}, the one that this "
            "version reads and writes; nothing has been changed"
        )
    return volume_id, geometry


@contextmanager
def _site(building: Path) -> Iterator[Path]:
    """An empty directory to build in, ours alone; what an interrupted creation left is removed."""
    building.mkdir(parents=True, exist_ok=True)
    lock = os.open(building, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VolumeLocked(f"{building}: somebody else is making this volume") from None
        for each in building.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        yield building
    finally:
        os.close(lock)


def _move_into_place(building: Path, path: Path) -> None:
    try:
        building.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise VolumeLocked(f"{path}: somebody else has just put something there") from error
    _sync_directory(path.parent)


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
