"""A volume read alone: from any read quorum, beside a writer, and without a trace."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from itertools import combinations
from pathlib import Path

import pytest

import aurora
from aurora import Cluster, ClusterConfig, EngineConfig, Invalid, ReadOnly, Unavailable
from segments.config import SegmentConfig

pytestmark = pytest.mark.usefixtures("no_syncs")

CONFIG = ClusterConfig(
    pg_count=2,
    lal=100,
    engine=EngineConfig(retention_lsns=None),
    segment=SegmentConfig(gossip_interval_s=0.01, tick_interval_s=0.01),
)
LETTERS = "ABCDEF"
PAGES = 4


def tree(top: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Everything under ``top``: inode, mode, time of change and contents."""
    found = {}
    for path in sorted([top, *top.rglob("*")]):
        at = path.stat()
        data = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (at.st_ino, at.st_mode, at.st_mtime_ns, data)
    return found


async def write(cluster: Cluster, versions: list[int]) -> None:
    """One more version of every page, both groups in one mini-transaction."""
    value = bytes([len(versions) + 1])
    versions.append(await cluster.engine.put_many([(page, 0, value) for page in range(PAGES)]))


async def check(cluster: Cluster, versions: list[int]) -> None:
    """Every version is there, the newest by default."""
    engine = cluster.engine
    assert engine.vdl >= versions[-1]
    for page in range(PAGES):
        assert (await engine.get(page))[0] == len(versions)
    for number, lsn in enumerate(versions):
        async with engine.read_view(lsn) as view:
            assert [page async for page in view.pages()] == list(range(PAGES))
            assert (await view.get(number % PAGES))[0] == number + 1


async def make(path: Path) -> list[int]:
    """A volume with a past: two writers, and segments that were away by turns."""
    versions: list[int] = []
    async with aurora.open_cluster(path, config=CONFIG) as cluster:
        await write(cluster, versions)
        for away in ("A0 B0 C1 F1", "C0 E0 A1 D1"):
            cluster.crash(away)
            await write(cluster, versions)
            await write(cluster, versions)
            await cluster.restart(away)
        await cluster.recover()
        cluster.crash("B0 F0 E1 F1")
        await write(cluster, versions)
        await write(cluster, versions)
    return versions


def break_segment(directory: Path, how: int) -> None:
    if how == 0:
        shutil.rmtree(directory)
    elif how == 1:
        (directory / "promise").write_bytes(b"")
    elif how == 2:
        (directory / "wal-1").write_bytes(b"")
    else:
        log = bytearray((directory / "wal-1").read_bytes())
        log[len(log) // 2] ^= 1
        (directory / "wal-1").write_bytes(log)


async def test_any_three_of_six_still_give_everything(tmp_path: Path) -> None:
    """2017 §2.1: a read quorum has all that was ever acknowledged."""
    versions = await make(tmp_path / "v")
    groups = list(combinations(LETTERS, 3))
    for number, kept in enumerate(groups):
        other = groups[(7 * number + 3) % len(groups)]
        left = {f"{each}0" for each in kept} | {f"{each}1" for each in other}
        copy = tmp_path / f"copy{number}"
        shutil.copytree(tmp_path / "v", copy)
        for how, segment in enumerate(sorted({f"{each}{n}" for each in LETTERS for n in (0, 1)})):
            if segment not in left:
                break_segment(copy / segment, (how + number) % 4)
        before = tree(copy)
        async with aurora.open_cluster(copy, read_only=True) as cluster:
            await check(cluster, versions)
        assert tree(copy) == before
        shutil.rmtree(copy)


async def test_two_of_six_are_not_enough(tmp_path: Path) -> None:
    await make(tmp_path / "v")
    for letter in "ABCD":
        shutil.rmtree(tmp_path / "v" / f"{letter}1")
    before = tree(tmp_path / "v")
    with pytest.raises(Unavailable, match="lost A1, B1, C1, D1: expected a read quorum"):
        async with aurora.open_cluster(tmp_path / "v", read_only=True):
            pytest.fail("opened")
    assert tree(tmp_path / "v") == before


async def test_a_damaged_segment_counts_once_its_peers_have_mended_its_copy(
    tmp_path: Path,
) -> None:
    versions = await make(tmp_path / "v")
    for letter in "ABC":
        shutil.rmtree(tmp_path / "v" / f"{letter}0")
    break_segment(tmp_path / "v" / "D0", 3)
    before = tree(tmp_path / "v")
    async with aurora.open_cluster(tmp_path / "v", read_only=True, config=CONFIG) as cluster:
        await check(cluster, versions)
    assert tree(tmp_path / "v") == before


async def test_every_call_that_writes_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    versions = await make(tmp_path / "v")
    for path in [tmp_path / "v", *(tmp_path / "v").iterdir()]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = tree(tmp_path)
    async with aurora.open_cluster(tmp_path / "v", read_only=True) as cluster:
        engine = cluster.engine

        async def mini_transaction() -> None:
            async with engine.mini_transaction() as mtr:
                await mtr.read(1)

        async def wipe() -> None:
            cluster.wipe("A0")

        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: engine.put(1, 0, b"x"),
            lambda: engine.put_many([(1, 0, b"x")]),
            lambda: engine.submit([(1, 0, b"x")]),
            mini_transaction,
            lambda: engine.get(1, strict=True),
            lambda: engine.read(1, strict=True),
            wipe,
            cluster.recover,
            cluster.open_writer,
        ]
        statistics = engine.statistics()
        for call in calls:
            with pytest.raises(ReadOnly, match="for reading alone: expected one"):
                await call()
        assert engine.statistics().last_allocated_lsn == statistics.last_allocated_lsn
        assert engine.vdl == statistics.vdl
        assert cluster.engines == [engine]
        assert not cluster.lost_segments()
        await check(cluster, versions)
        cluster.crash("A0 B1")
        await cluster.restart("A0 B1")  # from its copy
        await check(cluster, versions)
    assert tree(tmp_path) == before


async def test_a_writer_beside_goes_on_and_is_not_seen(tmp_path: Path) -> None:
    versions = await make(tmp_path / "v")
    async with aurora.open_cluster(tmp_path / "v", config=CONFIG) as writer:
        await write(writer, versions)
        async with (
            aurora.open_cluster(tmp_path / "v", read_only=True) as first,
            aurora.open_cluster(tmp_path / "v", read_only=True) as second,
        ):
            seen = list(versions)
            for _ in range(3):
                await write(writer, versions)
                await check(first, seen)
                await check(second, seen)
            await writer.recover()  # nobody fences anybody
            await write(writer, versions)
            await check(first, seen)
        await check(writer, versions)
        assert (await writer.engine.get(1, strict=True))[0] == len(versions)
    assert not [host.lost for host in writer.hosts.values() if host.lost]


async def test_a_writer_opens_a_volume_that_is_being_read(tmp_path: Path) -> None:
    versions = await make(tmp_path / "v")
    async with aurora.open_cluster(tmp_path / "v", read_only=True) as reader:
        seen = list(versions)
        async with aurora.open_cluster(tmp_path / "v", config=CONFIG) as writer:
            await write(writer, versions)
            await check(writer, versions)
        await check(reader, seen)


async def test_nothing_that_is_kept_is_collected(tmp_path: Path) -> None:
    versions = await make(tmp_path / "v")
    short = ClusterConfig(
        engine=EngineConfig(retention_lsns=0), segment=SegmentConfig(tick_interval_s=0.001)
    )
    async with aurora.open_cluster(tmp_path / "v", read_only=True, config=short) as cluster:
        for _ in range(5):
            await check(cluster, versions)
        assert cluster.engine.statistics().floor == 0


@pytest.mark.parametrize("directory", [None, "missing", "empty"])
async def test_where_no_volume_is_none_is_made(tmp_path: Path, directory: str | None) -> None:
    (tmp_path / "empty").mkdir()
    before = tree(tmp_path)
    path = None if directory is None else tmp_path / directory
    with pytest.raises(Invalid, match="expected a volume that is there"):
        async with aurora.open_cluster(path, read_only=True):
            pytest.fail("opened")
    assert tree(tmp_path) == before


async def test_the_health_report_says_that_writes_are_refused(tmp_path: Path) -> None:
    await make(tmp_path / "v")
    async with aurora.open_cluster(tmp_path / "v", read_only=True) as cluster:
        report = cluster.health()
        lines = str(report).splitlines()
    assert lines[0].startswith("writer   writer-1 has a copy of the volume open, epoch ")
    assert lines[1] == "writes   are refused: the volume is open for reading alone"
    assert not report.writes.goes_on
    assert report.reads.goes_on
    assert not any(group.writes.goes_on for group in report.groups)
