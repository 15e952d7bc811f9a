"""A log on a disk that crashes at any moment: it is the old one or the new one, and goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import pytest

from segments.hot_log import HotLog
from segments.live_files import LiveFiles
from segments.manifest import (
    MANIFEST,
    LogFile,
    Manifest,
    decode_manifest,
    encode_manifest,
    filled,
    leftovers,
    log_in,
)
from segments.protocol.errors import StorageFailed
from segments.protocol.ids import VolumeEpoch
from segments.storage import Identity
from segments.wal import FrameBody, HeldEntry, encode_body
from segments.wal_scan import scan
from sim.check.invariants import Broken
from sim.check.rules_of_disks import named_files_are_safe
from sim.check.rules_of_the_end import files_are_whole
from sim.plan.profiles import DiskProfile
from sim.world.disk import SimulatedStorage
from sim.world.scheduler import VirtualScheduler
from tests.files_on_disks import make_file

BODIES = [encode_body(VolumeEpoch(1, 1), [HeldEntry(each)]) for each in range(12)]
HEAD = BODIES[0]
FILE_BYTES = 3 * HEAD.frame_bytes
"""Its head and two frames fit into a file."""
OPERATION_NS = 1_000
STEPS = 12
"""Operations of a disk in the time of either change, and some more."""


def held_by(bodies: list[FrameBody]) -> tuple[int, ...]:
    """What each frame says of itself."""
    return tuple(BODIES.index(each) for each in bodies)


def held_on(disk: SimulatedStorage) -> tuple[int, ...]:
    """The same, of the log that a restart would find: whole."""
    scanned = scan(log_in(disk.peek()).parts)
    assert not scanned.damage and not scanned.torn_bytes
    return tuple(each.frame.entries[0].highest_lsn for each in scanned.frames)  # type: ignore[union-attr]


async def new_log(disk: SimulatedStorage) -> HotLog:
    """A file that is full: its head and two frames."""
    file, frames = filled(LogFile(1, 0, salt=5), [HEAD])
    await make_file(disk, file.name, frames)
    await disk.sync_names()
    await disk.publish(MANIFEST, encode_manifest(Manifest((file,), (), 2)))
    log = reopened(disk)
    for body in BODIES[1:3]:
        await log.append(body, 0, lambda: HEAD)
    return log


def reopened(disk: SimulatedStorage) -> HotLog:
    """The log as a restart finds it."""
    data = disk.content(MANIFEST)
    manifest = decode_manifest(data)
    assert manifest is not None
    files = LiveFiles(manifest._replace(logs=log_in(disk.peek()).files), {})
    return HotLog(disk, files, data, Random(9), file_bytes=FILE_BYTES)


async def full(log: HotLog, _: SimulatedStorage) -> None:
    """The last file is full, so that this frame gets another one."""
    await log.append(BODIES[3], 0, lambda: HEAD)


async def anew(log: HotLog, disk: SimulatedStorage) -> None:
    """One file in the place of another, as for a log that is written anew."""
    file, frames = filled(LogFile(7, 0, salt=7), BODIES[5:7])
    await make_file(disk, file.name, frames)
    await disk.sync_names()
    await log.republish(lambda manifest: manifest._replace(logs=(file,)), {7: 0})
    await disk.delete(["wal-1"])


@pytest.mark.parametrize(
    ("change", "after"),
    [(full, [*BODIES[:3], HEAD, BODIES[3]]), (anew, BODIES[5:7])],
    ids=["full", "anew"],
)
def test_a_crash_at_any_moment_leaves_the_old_log_or_the_new_one(
    change: Callable[[HotLog, SimulatedStorage], Awaitable[None]], after: list[FrameBody]
) -> None:
    left, litter = set[tuple[int, ...]](), set[str]()
    for seed in range(4):
        for half_steps in range(2 * STEPS):
            log, names = crashed(change, seed, half_steps * OPERATION_NS // 2)
            assert log in (held_by(BODIES[:3]), held_by(after))
            left.add(log)
            litter.update(names)
    assert len(left) == 2, "both happen"
    assert litter, "files are left to be deleted"


def crashed(
    change: Callable[[HotLog, SimulatedStorage], Awaitable[None]], seed: int, at_ns: int
) -> tuple[tuple[int, ...], list[str]]:
    """Crash so long after a change has begun; the log then, and the files that were left over."""
    scheduler = VirtualScheduler()
    profile = DiskProfile(minimum_ns=OPERATION_NS, extra_mean_ns=0)
    disk = SimulatedStorage(scheduler, Random(seed), Identity("sim", "A0"), profile)
    found: list[tuple[tuple[int, ...], list[str]]] = []

    async def main() -> None:
        log = await new_log(disk)
        scheduler.call_after(at_ns, disk.crash)
        try:
            await change(log, disk)
            await scheduler.sleep_ns(STEPS * OPERATION_NS)
        except StorageFailed:
            pass
        names = await disk.names()
        manifest = decode_manifest(disk.content(MANIFEST))
        assert manifest is not None
        litter = leftovers(names, manifest)
        await disk.delete(litter)
        log_now = held_on(disk)
        assert not disk.at_risk()
        await reopened(disk).append(BODIES[11], 0, lambda: HEAD)
        assert held_on(disk) in ((*log_now, 11), (*log_now, 0, 11))
        assert not disk.at_risk()
        found.append((log_now, litter))

    scheduler.run(main, seed=1, deadline_ns=1_000_000_000)
    return found[0]


# ---- what the checkers say -----------------------------------------------------------------------


def test_a_named_file_that_a_crash_could_take_is_told() -> None:
    scheduler = VirtualScheduler()
    disk = SimulatedStorage(scheduler, Random(1), Identity("sim", "A0"))

    async def main() -> None:
        await new_log(disk)
        named_files_are_safe("A0", disk.at_risk())
        files_are_whole("A0", disk.file_names(), disk.content("manifest"))
        await make_file(disk, "wal-9", [b"left"])
        with pytest.raises(Broken, match=r"the disk of A0 has .*wal-9: expected"):
            files_are_whole("A0", disk.file_names(), disk.content("manifest"))
        await disk.delete(["wal-9", "wal-1"])
        with pytest.raises(Broken, match="a crash of A0 could take wal-1, which its manifest"):
            named_files_are_safe("A0", disk.at_risk())
        assert disk.rot_manifest(1)[0] >= 4096
        with pytest.raises(Broken, match="the manifest of A0 is spoilt"):
            files_are_whole("A0", disk.file_names(), disk.content("manifest"))

    scheduler.run(main, seed=1, deadline_ns=1_000_000_000)
