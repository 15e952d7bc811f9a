"""A volume's directory: made whole or not at all, and never believed without its checksum."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from segments.disks import MemoryDisk, VolumeDirectory, format_storage
from segments.protocol import codec
from segments.protocol.errors import (
    AuroraError,
    Corrupt,
    Invalid,
    OtherFormat,
    SegmentLost,
    StorageFailed,
    VolumeLocked,
)
from segments.protocol.ids import VolumeEpoch
from segments.protocol.volume import VolumeGeometry
from segments.storage import Identity

EPOCH = VolumeEpoch(1, 5)
ONE = VolumeGeometry(1)


async def create(path: Path, geometry: VolumeGeometry = ONE) -> VolumeDirectory:
    return await VolumeDirectory.create(path, "v", geometry, EPOCH)


async def test_a_volume_is_found_as_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "volume"
    assert VolumeDirectory.find(path) is None
    made = await create(path, VolumeGeometry(2))
    assert VolumeDirectory.find(path) == made
    assert sorted(each.name for each in path.iterdir()) == sorted([*made.disks(), "volume.json"])
    assert [each.name for each in path.parent.iterdir()] == ["volume"]
    for disk in made.disks().values():
        storage = disk.open()
        assert (await storage.load()).log
        storage.close()


async def test_an_empty_directory_becomes_a_volume(tmp_path: Path) -> None:
    assert VolumeDirectory.find(tmp_path) is None
    await create(tmp_path / "v")
    (tmp_path / "w").mkdir()
    await create(tmp_path / "w")
    assert VolumeDirectory.find(tmp_path / "w") is not None


def test_what_is_no_volume_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(Invalid, match=r"holds precious and no volume\.json: expected a volume"):
        VolumeDirectory.find(tmp_path)
    with pytest.raises(Invalid, match="is a file: expected a directory"):
        VolumeDirectory.find(tmp_path / "precious")
    assert (tmp_path / "precious").read_text() == "data"


async def test_what_an_interrupted_creation_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / "v.creating" / "A0"
    left.mkdir(parents=True)
    (left / "log").write_bytes(b"half")
    (left.parent / "volume.json").write_bytes(b"{")
    made = await create(tmp_path / "v")
    assert VolumeDirectory.find(tmp_path / "v") == made
    assert not left.parent.exists()


async def test_two_makers_of_one_volume_leave_each_other_alone(tmp_path: Path) -> None:
    site = tmp_path / "v.creating"
    site.mkdir()
    (site / "theirs").write_text("under construction")
    lock = os.open(site, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(VolumeLocked, match="somebody else is making this volume"):
            await create(tmp_path / "v")
        assert (site / "theirs").exists()
    finally:
        os.close(lock)
    first = await create(tmp_path / "v")
    with pytest.raises(VolumeLocked, match="somebody else has just put"):
        await VolumeDirectory.create(tmp_path / "v", "other", ONE, EPOCH)
    assert VolumeDirectory.find(tmp_path / "v") == first


async def test_every_flipped_byte_and_every_cut_of_the_manifest_is_noticed(tmp_path: Path) -> None:
    await create(tmp_path / "v", VolumeGeometry(3))
    manifest = tmp_path / "v" / "volume.json"
    data = manifest.read_bytes()
    spoilt = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(len(data))]
    spoilt += [data[:at] for at in range(len(data))]
    spoilt += [data + b"x", data * 2, b"[" * 100_000, b"null", b"\xff", b"{}", b"[1]"]
    for each in spoilt:
        manifest.write_bytes(each)
        with pytest.raises(Corrupt, match=r"volume\.json"):
            VolumeDirectory.find(tmp_path / "v")


@pytest.mark.parametrize(
    ("key", "value"), [("pg_count", 1), ("pg_count", 10**9), ("format", 1), ("volume_id", "w")]
)
async def test_a_manifest_that_says_something_else_is_corrupt(
    tmp_path: Path, key: str, value: object
) -> None:
    await create(tmp_path / "v", VolumeGeometry(3))
    manifest = tmp_path / "v" / "volume.json"
    values = json.loads(manifest.read_bytes()) | {key: value}
    manifest.write_bytes(json.dumps(values, indent=2).encode() + b"\n")
    with pytest.raises(Corrupt):
        VolumeDirectory.find(tmp_path / "v")


async def test_a_volume_of_another_version_is_refused_as_it_is(tmp_path: Path) -> None:
    await create(tmp_path / "v", VolumeGeometry(3))
    manifest = tmp_path / "v" / "volume.json"
    fields = json.loads(manifest.read_bytes())
    fields["format"] -= 1
    del fields["checksum"]
    fields["checksum"] = f"{codec.checksum(codec.pack(tuple(fields.values()))):016x}"
    before = json.dumps(fields, indent=2).encode() + b"\n"
    manifest.write_bytes(before)
    with pytest.raises(OtherFormat, match="is of format 2: expected 3"):
        VolumeDirectory.find(tmp_path / "v")
    assert manifest.read_bytes() == before


async def test_a_disk_that_refuses_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed):
        await create(tmp_path / "file" / "v")
    await create(tmp_path / "v")
    manifest = tmp_path / "v" / "volume.json"
    manifest.unlink()
    manifest.mkdir()
    with pytest.raises(StorageFailed):
        VolumeDirectory.find(tmp_path / "v")
    with pytest.raises(Invalid):
        await create(Path("/"))


async def test_a_wiped_disk_is_a_lost_segment(tmp_path: Path) -> None:
    memory = MemoryDisk(Identity("v", "A0"))
    await format_storage(memory.storage, EPOCH)
    files = (await create(tmp_path / "v")).disks()["A0"]
    for disk in (memory, files):
        disk.open().close()
        disk.wipe()
        disk.wipe()
        with pytest.raises(SegmentLost):
            disk.open()
    assert issubclass(SegmentLost, AuroraError)
