"""A log on a disk that crashes at any moment: it is the old one or the new one, and goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import pytest

from segments.hot_log import HotLog
from segments.manifest import leftovers
from segments.protocol.errors import StorageFailed
from segments.protocol.ids import VolumeEpoch
from segments.storage import Identity
from segments.wal import HeldEntry, encode_frame, scan
from sim.check.invariants import Broken
from sim.check.rules_of_disks import named_files_are_safe
from sim.check.rules_of_the_end import files_are_whole
from sim.plan.profiles import DiskProfile
from sim.world.disk import SimulatedStorage
from sim.world.scheduler import VirtualScheduler
from tests.files_on_disks import make_file

FRAMES = [encode_frame(VolumeEpoch(1, 1), [HeldEntry(each)]) for each in range(12)]
FILE_BYTES = 2 * len(FRAMES[0])
"""Two frames fit into a file."""
OPERATION_NS = 1_000
STEPS = 12
"""Operations of a disk in the time of either change, and some more."""


async def full(log: HotLog) -> None:
    """The last file is full, so that this frame gets another one."""
    await log.append(FRAMES[4])


async def anew(log: HotLog) -> None:
    """Three files in the place of two."""
    await log.replace(FRAMES[5:10])
    await log.sweep()


@pytest.mark.parametrize(
    ("change", "after"), [(full, FRAMES[:5]), (anew, FRAMES[5:10])], ids=["full", "anew"]
)
def test_a_crash_at_any_moment_leaves_the_old_log_or_the_new_one(
    change: Callable[[HotLog], Awaitable[None]], after: list[bytes]
) -> None:
    left, litter = set(), set[str]()
    for seed in range(4):
        for half_steps in range(2 * STEPS):
            log, names = crashed(change, seed, half_steps * OPERATION_NS // 2)
            assert log in (b"".join(FRAMES[:4]), b"".join(after))
            left.add(log)
            litter.update(names)
    assert len(left) == 2, "both happen"
    assert litter, "files are left to be deleted"


def crashed(
    change: Callable[[HotLog], Awaitable[None]], seed: int, at_ns: int
) -> tuple[bytes, list[str]]:
    """Crash so long after a change has begun; the log then, and the files that were left over."""
    scheduler = VirtualScheduler()
    profile = DiskProfile(minimum_ns=OPERATION_NS, extra_mean_ns=0)
    disk = SimulatedStorage(scheduler, Random(seed), Identity("sim", "A0"), profile)
    found: list[tuple[bytes, list[str]]] = []

    async def main() -> None:
        log = HotLog(disk, FILE_BYTES)
        await log.replace(FRAMES[:2])
        for frame in FRAMES[2:4]:
            await log.append(frame)
        scheduler.call_after(at_ns, disk.crash)
        try:
            await change(log)
            await scheduler.sleep_ns(STEPS * OPERATION_NS)
        except StorageFailed:
            pass
        restarted = HotLog(disk, FILE_BYTES)
        stored = await restarted.load()
        assert not stored.lost
        scanned = scan(stored.log)
        assert not scanned.damage and scanned.durable_length > stored.last_start
        if scanned.torn_bytes:
            await restarted.truncate(scanned.durable_length)
        names = leftovers(disk.file_names(), disk.log_files)
        await restarted.tidy()
        log_now = disk.peek().log
        await restarted.append(FRAMES[11])
        await restarted.append(FRAMES[11])
        assert disk.peek().log == log_now + 2 * FRAMES[11]
        assert not disk.at_risk() and not leftovers(disk.file_names(), disk.log_files)
        found.append((log_now, names))

    scheduler.run(main, seed=1, deadline_ns=1_000_000_000)
    return found[0]


# ---- what the checkers say -----------------------------------------------------------------------


def test_a_named_file_that_a_crash_could_take_is_told() -> None:
    scheduler = VirtualScheduler()
    disk = SimulatedStorage(scheduler, Random(1), Identity("sim", "A0"))

    async def main() -> None:
        await HotLog(disk, FILE_BYTES).replace(FRAMES[:4])
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
