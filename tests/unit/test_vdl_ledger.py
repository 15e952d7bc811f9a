"""The VDL that a volume's manifest keeps: replaced as a whole, never somebody else's file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from segments import vdl_ledger
from segments.disks import VolumeDirectory
from segments.protocol import codec
from segments.protocol.errors import Corrupt, StorageFailed, StorageFull
from segments.protocol.ids import Lsn, VolumeEpoch
from segments.protocol.volume import VolumeGeometry
from segments.vdl_ledger import MemoryLedger

EPOCH = VolumeEpoch(1, 7)


async def made(path: Path, volume_id: str = "v") -> VolumeDirectory:
    return await VolumeDirectory.create(path, volume_id, VolumeGeometry(1), EPOCH, Random(1))


def found(path: Path) -> VolumeDirectory:
    volume = VolumeDirectory.find(path)
    assert volume is not None
    return volume


async def test_what_is_noted_is_there_when_the_volume_is_found_again(tmp_path: Path) -> None:
    volume = await made(tmp_path / "v")
    assert volume.vdl == found(tmp_path / "v").vdl == 0
    ledger = volume.ledger()
    for vdl in (5, 1_000_000, 7):
        await ledger.note(vdl)
        assert ledger.vdl == found(tmp_path / "v").vdl == vdl
    ledger.close()
    ledger.close()
    assert found(tmp_path / "v") == VolumeDirectory(tmp_path / "v", "v", VolumeGeometry(1), 7)
    assert not (tmp_path / "v" / "volume.json.new").exists()


async def test_the_same_again_is_not_written(tmp_path: Path) -> None:
    ledger = (await made(tmp_path / "v")).ledger()
    await ledger.note(5)
    before = (tmp_path / "v" / "volume.json").stat().st_ino
    await ledger.note(5)
    assert (tmp_path / "v" / "volume.json").stat().st_ino == before


async def test_a_directory_that_was_moved_stays_the_same(tmp_path: Path) -> None:
    """A volume that is made in its place keeps its manifest."""
    ledger = (await made(tmp_path / "v")).ledger()
    (tmp_path / "v").rename(tmp_path / "moved")
    await made(tmp_path / "v", "another")
    await ledger.note(5)
    assert found(tmp_path / "moved").vdl == 5
    assert found(tmp_path / "v").vdl == 0 and found(tmp_path / "v").volume_id == "another"


@pytest.mark.parametrize("how", ["another", "gone", "spoilt"])
async def test_a_manifest_that_is_not_ours_is_left_alone(tmp_path: Path, how: str) -> None:
    ledger = (await made(tmp_path / "v")).ledger()
    manifest = tmp_path / "v" / "volume.json"
    if how == "another":
        await made(tmp_path / "w", "another")
        manifest.write_bytes((tmp_path / "w" / "volume.json").read_bytes())
    elif how == "gone":
        manifest.unlink()
    else:
        manifest.write_bytes(b"{}")
    before = manifest.read_bytes() if manifest.exists() else None
    with pytest.raises((StorageFailed, Corrupt)):
        await ledger.note(5)
    assert (manifest.read_bytes() if manifest.exists() else None) == before
    assert ledger.vdl == 0


async def test_what_the_disk_refuses_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = (await made(tmp_path / "v")).ledger()
    await ledger.note(5)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full)
        with pytest.raises(StorageFull):
            await ledger.note(6)
    assert ledger.vdl == found(tmp_path / "v").vdl == 5
    await ledger.note(6)
    assert found(tmp_path / "v").vdl == 6


async def test_two_at_once_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one at the end, and the one that it finds under way: both replace the manifest."""
    ledger = (await made(tmp_path / "v")).ledger()
    inside: set[Lsn] = set()
    noted: list[Lsn] = []

    async def slow(_: str, replace: Callable[[Lsn], None], vdl: Lsn) -> None:
        inside.add(vdl)
        await wait_all_tasks_blocked()
        assert inside == {vdl}
        replace(vdl)
        inside.remove(vdl)
        noted.append(vdl)

    monkeypatch.setattr(vdl_ledger, "in_thread", slow)
    async with trio.open_nursery() as nursery:
        for vdl in range(1, 6):
            nursery.start_soon(ledger.note, vdl)
    assert sorted(noted) == [1, 2, 3, 4, 5]
    assert ledger.vdl == noted[-1] == found(tmp_path / "v").vdl


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")


async def test_one_in_memory_keeps_it_for_those_that_follow() -> None:
    ledger = MemoryLedger(3)
    await ledger.note(5)
    ledger.close()
    assert ledger.vdl == 5


@pytest.mark.parametrize("vdl", [-1, 2**63, "5", None, 1.5, True])
async def test_a_manifest_with_no_vdl_is_corrupt(tmp_path: Path, vdl: object) -> None:
    await made(tmp_path / "v")
    manifest = tmp_path / "v" / "volume.json"
    values = json.loads(manifest.read_bytes()) | {"vdl": vdl}
    del values["checksum"]
    if vdl is None:
        del values["vdl"]
    values["checksum"] = f"{codec.checksum(codec.pack(tuple(values.values()))):016x}"
    manifest.write_bytes(json.dumps(values, indent=2).encode() + b"\n")
    with pytest.raises(Corrupt):
        VolumeDirectory.find(tmp_path / "v")
