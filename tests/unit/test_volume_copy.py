"""A volume's files as of one moment, in memory."""

from __future__ import annotations

from pathlib import Path, PosixPath
from random import Random
from typing import ClassVar

import pytest
from trio.testing import MockClock

from segments.disks import FileDisk, VolumeDirectory
from segments.protocol.errors import ReadOnly, SegmentLost, StorageFailed, VolumeLocked
from segments.protocol.ids import VolumeEpoch
from segments.protocol.volume import VolumeGeometry
from segments.volume_copy import CopiedDisk, copy_disks
from tests.files_on_disks import log_in
from tests.patience import PATIENCE_S


class BusyPath(PosixPath):
    """Of a volume to which somebody writes, a few times, just when one looks at a directory."""

    writes: ClassVar[int]

    def __fspath__(self) -> str:
        log = Path(super().__fspath__(), "wal-1")
        if type(self).writes and log.exists():
            type(self).writes -= 1
            with log.open("ab") as file:
                file.write(b"x")
        return super().__fspath__()


async def made(path: Path) -> VolumeDirectory:
    return await VolumeDirectory.create(path, "v", VolumeGeometry(1), VolumeEpoch(1, 5), Random(1))


async def test_each_disk_is_copied_and_what_is_written_to_the_copy_stays_there(
    tmp_path: Path,
) -> None:
    volume = await made(tmp_path / "v")
    for segment, copied in (await copy_disks(volume, 1.0)).items():
        there = volume.disks()[segment].open()
        stored = await log_in(there)
        copy = copied.open()
        assert copy.identity == there.identity
        assert await log_in(copy) == stored
        await copy.append("wal-1", b"more")
        assert await log_in(there) == stored
        there.close()
        assert await log_in(copied.open()) == stored + b"more"  # as a restart finds it
        with pytest.raises(ReadOnly):
            copied.wipe()


async def test_nobody_is_asked_for_a_lock(tmp_path: Path) -> None:
    volume = await made(tmp_path / "v")
    open_elsewhere = [disk.open() for disk in volume.disks().values()]
    copies = await copy_disks(volume, 1.0)
    for copied in copies.values():
        assert await log_in(copied.open())
    for storage in open_elsewhere:
        storage.close()


async def test_a_volume_that_is_written_to_is_read_when_it_stands_still(tmp_path: Path) -> None:
    volume = await made(tmp_path / "v")
    busy = VolumeDirectory(BusyPath(volume.path), volume.volume_id, volume.geometry)
    BusyPath.writes = 40
    copies = await copy_disks(busy, PATIENCE_S)
    assert BusyPath.writes == 0
    for segment, copied in copies.items():
        log = (volume.path / segment / "wal-1").read_bytes()
        assert await log_in(copied.open()) == log


async def test_a_volume_that_never_stands_still_is_called_locked(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    volume = await made(tmp_path / "v")
    busy = VolumeDirectory(BusyPath(volume.path), volume.volume_id, volume.geometry)
    BusyPath.writes = 1 << 20
    with pytest.raises(VolumeLocked, match="is being written all the time: expected a moment"):
        await copy_disks(busy, 2.0)


async def test_what_is_gone_is_lost_and_what_cannot_be_read_is_not(tmp_path: Path) -> None:
    volume = await made(tmp_path / "v")
    for each in (volume.path / "A0").iterdir():
        each.unlink()
    (volume.path / "B0" / "promise").unlink()
    (volume.path / "B0" / "promise").mkdir()
    copies = await copy_disks(volume, 1.0)
    for _ in range(2):
        with pytest.raises(SegmentLost, match="A0 is empty"):
            copies["A0"].open()
        with pytest.raises(StorageFailed, match=r"B0 cannot be read: .*Is a directory"):
            copies["B0"].open()
    assert await log_in(copies["C0"].open())


async def test_what_could_not_be_read_for_a_moment_is_read_later(tmp_path: Path) -> None:
    volume = await made(tmp_path / "v")
    disk = volume.disks()["A0"]
    seen = (await copy_disks(volume, 1.0))["A0"].seen
    again = CopiedDisk(disk.directory, disk.identity, seen)
    assert await log_in(again.open()) == await log_of(disk)


async def test_what_is_read_later_must_be_as_it_was(tmp_path: Path) -> None:
    volume = await made(tmp_path / "v")
    disk = volume.disks()["A0"]
    seen = (await copy_disks(volume, 1.0))["A0"].seen
    storage = disk.open()
    await storage.append("wal-1", b"newer than the others")
    storage.close()
    copied = CopiedDisk(disk.directory, disk.identity, seen)
    for _ in range(2):
        with pytest.raises(StorageFailed, match="is not as it was: open the volume again"):
            copied.open()


async def log_of(disk: FileDisk) -> bytes:
    storage = disk.open()
    try:
        return await log_in(storage)
    finally:
        storage.close()
