"""Disks that were replaced by older copies of themselves: nothing is lost without a word (§8)."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio
import trio.lowlevel

import aurora
from aurora import ClusterConfig, EngineConfig, SegmentStatus, Unavailable, VolumeRolledBack
from aurora.opening import check_openable
from segments.config import SegmentConfig
from segments.disks import VolumeDirectory
from segments.protocol.volume import VolumeGeometry

pytestmark = pytest.mark.usefixtures("no_syncs")

CONFIG = ClusterConfig(
    engine=EngineConfig(read_timeout_s=0.3),
    segment=SegmentConfig(gossip_interval_s=0.02, tick_interval_s=0.01, storage_retry_s=0.02),
)
QUIET = attrs.evolve(CONFIG, segment=attrs.evolve(CONFIG.segment, gossip_interval_s=1.0))
"""Peers that know nothing of it bring nothing to a copy before the writer has asked: or it would
have again what it once had, and nobody could tell, nor need to."""
WRITES = 20


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)


async def volume_with_a_past(path: Path, copied: str = "A0", away: str = "B0 C0") -> int:
    """Records that all have, and others that neither ``away`` nor copies of disks have.

    Returns the last commit.
    """
    async with aurora.open_cluster(path, config=CONFIG) as cluster:
        await cluster.engine.put(1, 0, b"before")
        await until(
            lambda: len({host.core.state.scl for host in cluster.hosts.values() if host.core}) == 1
        )
        for segment in copied.split():
            shutil.copytree(path / segment, path.parent / "copies" / segment)
        cluster.crash(away)
        for number in range(WRITES):
            lsn = await cluster.engine.put(1, 0, b"after %2d" % number)
    for segment in copied.split():
        shutil.rmtree(path / segment)
        shutil.copytree(path.parent / "copies" / segment, path / segment)
    return lsn


def hide(path: Path, segments: str) -> None:
    """Disks that are not there yet: their files cannot be opened."""
    for segment in segments.split():
        (path / segment / "manifest").rename(path / segment / "away")
        (path / segment / "manifest").mkdir()


def show(path: Path, segments: str) -> None:
    for segment in segments.split():
        (path / segment / "manifest").rmdir()
        (path / segment / "away").rename(path / segment / "manifest")


@pytest.mark.parametrize("attempt", range(3))
async def test_a_segment_that_was_rolled_back_is_lost_by_name(tmp_path: Path, attempt: int) -> None:
    """Whoever answers first: three of these six know nothing of what was acknowledged."""
    path = tmp_path / "v"
    lsn = await volume_with_a_past(path)
    for _ in range(2):
        async with aurora.open_cluster(path, config=QUIET) as cluster:
            assert cluster.engine.vdl >= lsn
            assert (await cluster.engine.get(1))[:8] == b"after 19"
            await until(lambda: "A0" in cluster.lost_segments())
            await until(lambda: cluster.hosts["A0"].rolled_back)
            lost = cluster.lost_segments()
            assert list(lost) == ["A0"] and "the disk of A0 was rolled back to SCL 1" in lost["A0"]
            health = cluster.health()
            assert health.segments["A0"].status is SegmentStatus.LOST
            assert "A0 is lost (the disk of A0 was rolled back" in str(health).replace("\n", " ")
            lsn = await cluster.engine.put(1, 0, b"after 19")


async def test_the_newest_copy_put_back_is_the_segment_again(tmp_path: Path) -> None:
    path = tmp_path / "v"
    await volume_with_a_past(path, copied="E0")
    shutil.rmtree(path / "E0")
    await trio.lowlevel.checkpoint()
    async with aurora.open_cluster(path, config=CONFIG) as cluster:
        assert list(cluster.lost_segments()) == ["E0"]


async def test_disks_that_come_late_are_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "v"
    lsn = await volume_with_a_past(path)
    hide(path, "D0 E0 F0")
    async with trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.sleep(0.15)
            show(path, "D0 E0 F0")

        nursery.start_soon(later)
        async with aurora.open_cluster(path, config=CONFIG) as cluster:
            assert cluster.engine.vdl >= lsn
            assert list(cluster.lost_segments()) == ["A0"]
        nursery.cancel_scope.cancel()


async def test_less_than_the_volume_once_had_is_an_error_and_changes_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "v"
    lsn = await volume_with_a_past(path)
    hide(path, "D0 E0 F0")
    with pytest.raises(VolumeRolledBack, match=f"had reached VDL {lsn}, and A0, B0, C0 ") as raised:
        async with aurora.open_cluster(path, config=CONFIG):
            pytest.fail("it was opened")
    assert "D0, E0, F0 do not answer" in str(raised.value)
    assert "VDL 1 at most" in str(raised.value)
    with pytest.raises(VolumeRolledBack):
        async with aurora.open_cluster(path, read_only=True, config=CONFIG):
            pytest.fail("it was opened")
    show(path, "D0 E0 F0")
    async with aurora.open_cluster(path, config=CONFIG) as cluster:
        assert cluster.engine.vdl >= lsn
        assert (await cluster.engine.get(1))[:8] == b"after 19"


async def test_who_knows_may_open_what_is_left(tmp_path: Path) -> None:
    """From then on that is the volume."""
    path = tmp_path / "v"
    lsn = await volume_with_a_past(path, copied="A0 D0", away="B0 C0")
    for segment in ("E0", "F0"):
        shutil.rmtree(path / segment)
    with pytest.raises(VolumeRolledBack):
        async with aurora.open_cluster(path, config=CONFIG):
            pytest.fail("it was opened")
    async with aurora.open_cluster(path, accept_rollback=True, config=CONFIG) as cluster:
        assert cluster.engine.vdl == 1 < lsn
        assert (await cluster.engine.get(1))[:6] == b"before"
        assert sorted(cluster.lost_segments()) == ["E0", "F0"]
        lsn = await cluster.engine.put(1, 0, b"anew")
    async with aurora.open_cluster(path, config=CONFIG) as cluster:
        assert cluster.engine.vdl >= lsn and (await cluster.engine.get(1))[:4] == b"anew"
        assert sorted(cluster.lost_segments()) == ["E0", "F0"]


async def test_a_whole_volume_that_was_copied_disk_by_disk_says_whose_copies_are_too_old(
    tmp_path: Path,
) -> None:
    """What was copied last has heard of more than the first copies have."""
    path = tmp_path / "v"
    async with aurora.open_cluster(path, config=CONFIG) as cluster:
        for segment in [*cluster.hosts]:
            await cluster.engine.put(1, 0, segment.encode())
            await trio.sleep(0.3)
            shutil.copytree(path / segment, tmp_path / "copy" / segment)
        shutil.copy(path / "volume.json", tmp_path / "copy" / "volume.json")
    quiet = attrs.evolve(
        CONFIG, segment=SegmentConfig(gossip_interval_s=1.0)
    )  # else they might catch up before that
    with pytest.raises(VolumeRolledBack, match="protection group 0 has lost") as raised:
        async with aurora.open_cluster(tmp_path / "copy", config=quiet):
            pytest.fail("it was opened")
    assert "accept_rollback=True" in str(raised.value)
    async with aurora.open_cluster(tmp_path / "copy", accept_rollback=True, config=CONFIG) as copy:
        assert (await copy.engine.get(1))[:2] == b"F0", "nothing that is there is annulled"


def test_how_it_is_said_that_too_few_are_left() -> None:
    """Where disks were rolled back, with what there is to do about that."""
    [group] = VolumeGeometry(1).groups()
    lost = dict.fromkeys(("A0", "B0", "C0"), "why")
    check_openable([group], {"A0": "why", "B0": "why"}, {"A0"})
    check_openable([group], lost, {"A0"}, read_only=True)
    with pytest.raises(VolumeRolledBack, match=r"has lost A0, B0, C0: .*accept_rollback=True"):
        check_openable([group], lost, {"B0"})
    with pytest.raises(Unavailable, match=r"has lost A0, B0, C0: .*\(why; why; why\)$"):
        check_openable([group], lost, ())


async def test_the_vdl_is_kept_at_the_end_and_now_and_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def kept() -> int:
        volume = VolumeDirectory.find(tmp_path / "v")
        assert volume is not None
        return volume.vdl

    config = ClusterConfig(vdl_note_interval_s=0.05)
    async with aurora.open_cluster(tmp_path / "v", config=config) as cluster:
        lsn = await cluster.engine.put(1, 0, b"x")
        await until(lambda: kept() >= lsn)
        lsn = await cluster.engine.put(1, 0, b"y")
    assert kept() == lsn
    async with aurora.open_cluster(tmp_path / "v", config=config) as cluster:
        lsn = await cluster.engine.put(1, 0, b"z")
        (tmp_path / "v" / "volume.json").rename(tmp_path / "aside")
        with caplog.at_level(logging.WARNING, logger="aurora"):
            await cluster.note_vdl()
    assert "the VDL that the volume has reached cannot be kept" in caplog.text
