"""Where segments keep their bytes: in memory, or in the directories of a volume on files.

A volume on files is a directory: ``volume.json``, written last, and one directory for each segment.
It is made under another name and renamed when it is complete, so there is never half a volume, and
a directory that is not one is never touched.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import attrs
import trio

from aurora.volume import VolumeGeometry
from segments.file_storage import FileStorage
from segments.protocol.errors import Corrupt, Invalid, InvalidConfig, SegmentLost
from segments.protocol.ids import SegmentId, VolumeEpoch
from segments.state import format_log
from segments.storage import Identity, MemoryStorage, Storage

_MANIFEST = "volume.json"
_FORMAT = 1


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


@attrs.frozen
class FileDisk:
    """A directory of its own."""

    directory: Path
    identity: Identity
    limiter: trio.CapacityLimiter

    def open(self) -> FileStorage:
        return FileStorage.open(self.directory, self.identity, limiter=self.limiter)

    def wipe(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


@attrs.frozen
class VolumeDirectory:
    """A volume on files."""

    path: Path
    volume_id: str
    geometry: VolumeGeometry

    def disks(self) -> Mapping[SegmentId, FileDisk]:
        """One disk for each segment of the volume; all may sync at the same time."""
        segments = [each for group in self.geometry.groups() for each in group.members]
        limiter = trio.CapacityLimiter(len(segments))
        return {
            segment: FileDisk(self.path / segment, Identity(self.volume_id, segment), limiter)
            for segment in segments
        }

    @classmethod
    def find(cls, path: Path) -> VolumeDirectory | None:
        """The volume at ``path``; None if nothing is there yet.

        Raises `Invalid` for a directory that holds something else, `Corrupt` for a manifest that
        cannot be read.
        """
        if not path.exists():
            return None
        if not path.is_dir():
            raise Invalid(f"{path} is a file: expected a directory")
        manifest = path / _MANIFEST
        if not manifest.exists():
            found = sorted(each.name for each in path.iterdir())
            if found:
                raise Invalid(
                    f"{path} holds {', '.join(found[:3])} and no {_MANIFEST}: "
                    "expected a volume, or an empty directory for a new one"
                )
            return None
        try:
            values = json.loads(manifest.read_text(encoding="utf-8"))
            if values["format"] != _FORMAT:
                raise Corrupt(f"{manifest} is of format {values['format']!r}: expected {_FORMAT}")
            return cls(path, str(values["volume_id"]), VolumeGeometry(values["pg_count"]))
        except (ValueError, KeyError, TypeError, InvalidConfig) as error:
            raise Corrupt(f"{manifest} cannot be read: {error!r}") from error

    @classmethod
    async def create(
        cls, path: Path, volume_id: str, geometry: VolumeGeometry, epoch: VolumeEpoch
    ) -> VolumeDirectory:
        """A new volume at ``path``, which is missing or an empty directory."""
        building = path.with_name(path.name + ".creating")
        shutil.rmtree(building, ignore_errors=True)
        volume = cls(building, volume_id, geometry)
        for segment, disk in volume.disks().items():
            storage = FileStorage.create(building / segment, disk.identity, limiter=disk.limiter)
            try:
                await format_storage(storage, epoch)
            finally:
                storage.close()
        values = {"format": _FORMAT, "volume_id": volume_id, "pg_count": geometry.pg_count}
        _write_synced(building / _MANIFEST, json.dumps(values, indent=2) + "\n")
        _sync_directories([building])
        building.replace(path)
        _sync_directories([path.parent])
        return cls(path, volume_id, geometry)


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_directories(paths: Iterable[Path]) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
