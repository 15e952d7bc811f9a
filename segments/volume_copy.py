"""A volume on files as it is at one moment, copied into memory: for reading alone.

Nothing is locked, written, synced, cut or created, so a volume can be read on a file system that
takes no writes, and beside a writer, which never notices. But a recovery over segments that were
read at different moments would be wrong: one may say of records that a write quorum has them, and
the others have been read before that. So all files are looked at before the first is read, and
after the last. If nothing has changed, there was a moment at which all of them were as they were
read; else it is tried again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import trio

from segments.disks import VolumeDirectory
from segments.protocol.errors import ReadOnly, SegmentLost, StorageFailed, VolumeLocked
from segments.protocol.ids import SegmentId
from segments.protocol.refusal import is_passing, storage_error
from segments.segment_directory import read_unlocked
from segments.storage import Identity, MemoryStorage

_PAUSE_S: Final = 0.05
"""Between two attempts to find a volume that stands still."""

_Look: TypeAlias = tuple[tuple[str, int, int, int], ...] | str
"""Name, inode, size and time of change of each file of a directory; or why there is none."""


@attrs.define
class CopiedDisk:
    """The copy of one segment's directory. What its segment writes stays in memory."""

    directory: Path
    identity: Identity
    seen: _Look
    """The directory at the moment as of which the volume is read."""
    _storage: MemoryStorage | None = None
    _lost: str | None = None
    _failure: StorageFailed | None = None

    def open(self) -> MemoryStorage:
        """The copy. What could not be read is read now, if it is still as it was."""
        if self._storage is None and self._lost is None:
            self.copy()
            if self._storage is not None and _look(self.directory) != self.seen:
                self._storage = None
                raise StorageFailed(f"{self.directory} is not as it was: open the volume again")
        if self._storage is not None:
            return self._storage
        if self._failure is not None:
            raise self._failure
        raise SegmentLost(self._lost)

    def wipe(self) -> None:
        raise ReadOnly(f"{self.directory} is open for reading alone: expected one to be written")

    def copy(self) -> None:
        """Read the directory, or remember why it cannot be read."""
        self._failure = None
        try:
            files = read_unlocked(self.directory, self.identity)
        except SegmentLost as error:
            self._lost = str(error)
        except StorageFailed as error:
            self._failure = error
        else:
            self._storage = MemoryStorage.holding(self.identity, files)


async def copy_disks(
    volume: VolumeDirectory, timeout_s: float | None
) -> Mapping[SegmentId, CopiedDisk]:
    """All disks of a volume as of one moment.

    Raises `VolumeLocked` if somebody writes to it all the time for ``timeout_s``.
    """
    with trio.move_on_after(inf if timeout_s is None else timeout_s):
        while True:
            try:
                disks = await trio.to_thread.run_sync(_copy, volume)
            except (RuntimeError, MemoryError) as error:
                if not is_passing(error):
                    raise
                raise storage_error(f"{volume.path} cannot be read", error) from error
            if disks is not None:
                return disks
            await trio.sleep(_PAUSE_S)
    raise VolumeLocked(
        f"{volume.path} is being written all the time: expected a moment in which nobody writes, "
        "as of which it can be read"
    )


def _copy(volume: VolumeDirectory) -> dict[SegmentId, CopiedDisk] | None:
    """The disks, or None if somebody has written to one of them meanwhile.

    One that cannot be read holds nobody up: others may be enough.
    """
    disks = volume.disks()
    looks = {segment: _look(disk.directory) for segment, disk in disks.items()}
    copies = {
        segment: CopiedDisk(disk.directory, disk.identity, looks[segment])
        for segment, disk in disks.items()
    }
    for each in copies.values():
        each.copy()
    if any(_look(each.directory) != looks[segment] for segment, each in copies.items()):
        return None
    return copies


def _look(directory: Path) -> _Look:
    """What cannot be equal before and after a write."""
    try:
        with os.scandir(directory) as entries:
            found = [(entry.name, entry.stat()) for entry in entries]
    except OSError as error:
        return os.strerror(error.errno or 0)
    return tuple(sorted((name, at.st_ino, at.st_size, at.st_mtime_ns) for name, at in found))
