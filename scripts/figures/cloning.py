"""Clones: how long they take, and how much more of the disk."""

from __future__ import annotations

import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Final

import trio

import aurora
from aurora import Cluster, ClusterConfig, EngineConfig
from scripts.figures.figure import Figure, Sizes, judge
from scripts.figures.life import LIVES, Lived, scratch
from segments.disks import VolumeDirectory
from segments.manifest import MANIFEST, PROMISE
from segments.protocol.ids import Lsn
from segments.segment_directory import IDENTITY, encode_identity

_SIBLINGS: Final = 16
_SECONDS: Final = 1.0
_SHARE: Final = 1.0
"""Per cent of what the volume takes."""


def _volume(lived: Lived, path: Path) -> None:
    """A volume of six segments with the same history each."""
    path.mkdir()
    volume = VolumeDirectory(path, "bench", ClusterConfig().new_geometry())
    volume.begin_clone()
    for segment, disk in volume.disks().items():
        directory = path / segment
        directory.mkdir()
        for file in lived.directory.iterdir():
            if file.name.startswith("layer-"):
                os.link(file, directory / file.name)
            elif file.name in {MANIFEST, PROMISE} or file.name.startswith("wal-"):
                shutil.copyfile(file, directory / file.name)
        (directory / IDENTITY).write_bytes(encode_identity(disk.identity))
    volume.finish_clone()


def _disk_bytes(path: Path) -> int:
    """What all files below a directory take; one with several names counts once."""
    found = {each.st_ino: each for each in (file.lstat() for file in path.rglob("*"))}
    return sum(512 * each.st_blocks for each in found.values())


async def _clone(cluster: Cluster, path: Path, at: Lsn | None) -> tuple[float, float]:
    """Seconds for a clone, and how many more bytes of the disk it takes."""
    before = _disk_bytes(path.parent)
    started = time.perf_counter()
    clone = await cluster.clone(path, at=at)
    taken = time.perf_counter() - started
    assert not clone.left_out, clone
    return taken, _disk_bytes(path.parent) - before


async def _siblings(directory: Path) -> list[tuple[float, float]]:
    """For each sibling seconds and more bytes: at the VDL, and every other one in the middle."""
    config = ClusterConfig(engine=EngineConfig(retention_lsns=None))
    async with aurora.open_cluster(directory / "volume", config=config) as cluster:
        middle = cluster.engine.vdl // 2 + 1
        return [
            await _clone(cluster, directory / f"clone-{at}", middle if at % 2 else None)
            for at in range(_SIBLINGS)
        ]


def cloning(sizes: Sizes) -> tuple[Lived, int, list[tuple[float, float]]]:
    """A history, what six segments with it take, and what clones of them cost."""
    lived = LIVES.get(sizes.history, sizes)
    with scratch() as name:
        (directory := name()).mkdir()
        _volume(lived, directory / "volume")
        size = 6 * (lived.layer_bytes + lived.log_bytes)  # its segments share layers here
        return lived, size, trio.run(partial(_siblings, directory))


def clone_time(sizes: Sizes) -> Figure:
    """How long a clone takes."""
    lived, _, costs = cloning(sizes)
    seconds = [each for each, _ in costs]
    return judge(
        "clone-time", f"clone of a volume with {lived.records:,} records, the slowest of "
        f"{_SIBLINGS} siblings", "s", max(seconds), "as long as it may take", _SECONDS,
        note=f"{seconds[0]:.2f} s for the first, {seconds[-1]:.2f} s for the last; every other one "
        "at an LSN in the middle",
    )  # fmt: skip


def clone_space(sizes: Sizes) -> Figure:
    """How much more of the disk a clone takes."""
    lived, size, costs = cloning(sizes)
    shares = [100 * each / size for _, each in costs]
    return judge(
        "clone-space", f"more disk for a clone of a volume with {lived.records:,} records, the "
        f"most of {_SIBLINGS} siblings", "%", max(shares), "as much as it may take", _SHARE,
        note=f"{shares[0]:.2f} % for the first, {shares[-1]:.2f} % for the last, of {size >> 20} "
        "MiB",
    )  # fmt: skip
