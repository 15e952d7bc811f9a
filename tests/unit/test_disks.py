"""A volume's directory: made whole or not at all, and never believed without its checksum."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from random import Random

import pytest
import trio

from aurora.cluster import open_cluster
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
from tests.files_on_disks import log_in

EPOCH = VolumeEpoch(1, 5)
ONE = VolumeGeometry(1)


async def create(path: Path, geometry: VolumeGeometry = ONE) -> VolumeDirectory:
    return await VolumeDirectory.create(path, "v", geometry, EPOCH, Random(1))


async def test_a_volume_is_found_as_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "volume"
    assert VolumeDirectory.find(path) is None
    made = await create(path, VolumeGeometry(2))
    assert VolumeDirectory.find(path) == made
    assert sorted(each.name for each in path.iterdir()) == sorted([*made.disks(), "volume.json"])
    assert [each.name for each in path.parent.iterdir()] == ["volume"]
    for disk in made.disks().values():
        storage = disk.open()
        assert await log_in(storage)
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


@pytest.mark.parametrize("how", ["as it is", "linked", "with a slash", "relative", "with dots"])
async def test_any_empty_directory_becomes_a_volume_in_its_place(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it were a mount point: nothing is renamed over it, nothing is made beside it."""
    parent, path = tmp_path / "parent", tmp_path / "parent" / "v"
    path.mkdir(parents=True, mode=0o750)
    (path / "lost+found").mkdir()
    (tmp_path / "link").symlink_to("parent/v")
    before = parent.stat().st_mtime_ns, path.stat().st_ino, path.stat().st_mode
    monkeypatch.chdir(path)
    given: dict[str, str | Path] = {
        "as it is": path,
        "linked": tmp_path / "link",
        "with a slash": f"{path}/",
        "relative": ".",
        "with dots": "../../parent/./v/",
    }
    for opening in range(2):
        async with open_cluster(given[how]) as cluster:
            assert await cluster.engine.put(1, 0, b"x") > opening
    assert (parent.stat().st_mtime_ns, path.stat().st_ino, path.stat().st_mode) == before
    made = VolumeDirectory.find(path)
    assert made is not None
    assert {each.name for each in path.iterdir()} == {*made.disks(), "volume.json", "lost+found"}


def test_a_link_to_nothing_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("unmounted")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(Invalid, match="link leads to unmounted: expected a directory that is"):
        VolumeDirectory.find(tmp_path / "link")
    with pytest.raises(StorageFailed, match="symbolic links"):
        VolumeDirectory.find(tmp_path / "loop")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "loop"]


async def test_where_the_current_directory_is_gone_a_relative_path_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    with pytest.raises(Invalid, match="the current directory is gone: expected an absolute path"):
        async with open_cluster("v"):
            pytest.fail("opened")


def unfinished(path: Path, made: VolumeDirectory, segments: int, marker: bytes | None) -> None:
    """What a creation leaves that ends after so many segments."""
    data = (made.path / "volume.json").read_bytes()
    path.mkdir()
    (path / "volume.creating").write_bytes(data if marker is None else marker)
    for segment in list(made.disks())[:segments]:
        shutil.copytree(made.path / segment, path / segment)


@pytest.mark.parametrize("segments", [0, 1, 5, 12])
async def test_what_an_interrupted_creation_left_is_cleared(tmp_path: Path, segments: int) -> None:
    other = await VolumeDirectory.create(
        tmp_path / "other", "w", VolumeGeometry(2), EPOCH, Random(1)
    )
    unfinished(tmp_path / "v", other, segments, None if segments else b"{")
    if segments:
        (tmp_path / "v" / "A0" / "wal-1").write_bytes(b"half")
    assert VolumeDirectory.find(tmp_path / "v") is None
    made = await create(tmp_path / "v")
    assert VolumeDirectory.find(tmp_path / "v") == made
    names = {each.name for each in (tmp_path / "v").iterdir()}
    assert names == {*made.disks(), "volume.json"}
    for disk in made.disks().values():
        disk.open().close()


async def test_a_creation_that_was_interrupted_clears_nothing_but_its_own(tmp_path: Path) -> None:
    other = await VolumeDirectory.create(tmp_path / "other", "w", ONE, EPOCH, Random(1))
    unfinished(tmp_path / "v", other, 6, None)
    (tmp_path / "v" / "thesis").write_text("precious")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "A0").mkdir()  # and no marker
    for path, foreign in ((tmp_path / "v", "thesis"), (tmp_path / "w", "A0")):
        before = sorted(path.rglob("*"))
        with pytest.raises(Invalid, match=f"holds {foreign} and no"):
            VolumeDirectory.find(path)
        with pytest.raises(Invalid, match=f"holds {foreign} and no"):
            await create(path)
        assert sorted(path.rglob("*")) == before


async def test_a_creation_that_is_cancelled_or_fails_is_begun_anew(tmp_path: Path) -> None:
    for checkpoints in (1, 3, 5, 8, 13):
        path = tmp_path / f"v{checkpoints}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(create, path)
            for _ in range(checkpoints):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        if VolumeDirectory.find(path) is None:
            await create(path)
        assert VolumeDirectory.find(path) is not None


async def test_two_makers_of_one_volume_leave_each_other_alone(tmp_path: Path) -> None:
    path = tmp_path / "v"
    path.mkdir()
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (path / "volume.creating").write_text("under construction")
        with pytest.raises(VolumeLocked, match="is open already"):
            await create(path)
        assert (path / "volume.creating").exists()
    finally:
        os.close(lock)
    first = await create(path)
    with pytest.raises(VolumeLocked, match="somebody else has just made"):
        await VolumeDirectory.create(path, "other", ONE, EPOCH, Random(1))
    assert VolumeDirectory.find(path) == first


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


@pytest.mark.parametrize("written_as", [1, 2, 3, 5])
async def test_a_volume_of_another_version_is_refused_as_it_is(
    tmp_path: Path, written_as: int
) -> None:
    await create(tmp_path / "v", VolumeGeometry(3))
    manifest = tmp_path / "v" / "volume.json"
    fields = json.loads(manifest.read_bytes())
    fields["format"] = written_as
    del fields["checksum"], fields["vdl"]
    fields["checksum"] = f"{codec.checksum(codec.pack(tuple(fields.values()))):016x}"
    before = json.dumps(fields, indent=2).encode() + b"\n"
    manifest.write_bytes(before)
    with pytest.raises(OtherFormat, match=f"is of format {written_as}: expected 4") as caught:
        VolumeDirectory.find(tmp_path / "v")
    assert ("python -m aurora convert" in str(caught.value)) == (written_as == 3)
    assert str(caught.value).endswith("nothing has been changed")
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
    await format_storage(memory.storage, EPOCH, Random(1))
    volume = await create(tmp_path / "v")
    (tmp_path / "v" / "B0").rename(tmp_path / "elsewhere")
    (tmp_path / "v" / "B0").symlink_to("../elsewhere")
    for disk in (memory, volume.disks()["A0"], volume.disks()["B0"]):
        disk.open().close()
        disk.wipe()
        disk.wipe()
        with pytest.raises(SegmentLost):
            disk.open()
    assert issubclass(SegmentLost, AuroraError)
