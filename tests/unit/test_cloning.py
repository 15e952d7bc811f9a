"""Clones of a volume: they hold what it held, share what never changes, and live by themselves."""

from __future__ import annotations

import os
import shutil
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio

import aurora
from aurora import Cluster, ClusterConfig, EngineConfig, SegmentConfig
from segments.protocol.errors import (
    Invalid,
    InvalidLsn,
    NotShareable,
    PageNotFound,
    ReadOnly,
    ReadPointAboveVdl,
    ReadPointBelowFloor,
    StorageFull,
    Unavailable,
)
from segments.protocol.ids import Lsn, PageId
from segments.protocol.record import PAGE_SIZE

PAGES = 24
SMALL = ClusterConfig(
    pg_count=2,
    segment=SegmentConfig(
        fold_bytes=2_000, wal_file_bytes=2_048, block_bytes=1_024, image_interval=4, fan_out=2,
        tick_interval_s=0.005, gossip_interval_s=0.02,
    ),
    engine=EngineConfig(retention_lsns=None),
)  # fmt: skip
COLLECTING = ClusterConfig(
    pg_count=2, segment=SMALL.segment, engine=EngineConfig(retention_lsns=150)
)


class History:
    """Every version of every page that was ever written: a dumb reference."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.commits: list[Lsn] = []
        self._versions: dict[PageId, list[tuple[Lsn, bytes]]] = {}

    def fork(self, lsn: Lsn) -> History:
        """The history of a clone."""
        forked = History(Random(lsn))
        forked.commits = [each for each in self.commits if each <= lsn]
        forked._versions = {
            page: [each for each in versions if each[0] <= lsn]
            for page, versions in self._versions.items()
        }
        return forked

    def page(self, page: PageId, lsn: Lsn) -> bytes | None:
        versions = self._versions.get(page, [])
        at = bisect_right([each for each, _ in versions], lsn)
        return versions[at - 1][1] if at else None

    async def write(self, cluster: Cluster, commits: int) -> None:
        """So many mini-transactions of one to five writes."""
        for _ in range(commits):
            writes = [
                (page, self.random.randrange(PAGE_SIZE - 100), self.random.randbytes(60))
                for page in self.random.sample(range(PAGES), self.random.randint(1, 5))
            ]
            lsn = await cluster.engine.put_many(writes)
            first = lsn - len(writes) + 1
            for at, (page, offset, data) in enumerate(writes, first):
                content = bytearray(self.page(page, lsn) or bytes(PAGE_SIZE))
                content[offset : offset + len(data)] = data
                self._versions.setdefault(page, []).append((at, bytes(content)))
            self.commits.append(lsn)

    async def check(self, cluster: Cluster, lsns: list[Lsn]) -> None:
        """The volume has exactly these versions."""
        for lsn in lsns:
            pages = [each async for each in cluster.engine.pages(lsn=lsn)]
            assert pages == [page for page in range(PAGES) if self.page(page, lsn) is not None]
            for page in range(PAGES):
                expected = self.page(page, lsn)
                if expected is None:
                    with pytest.raises(PageNotFound):
                        await cluster.engine.get_at(page, lsn, cached=False)
                else:
                    assert await cluster.engine.get_at(page, lsn, cached=False) == expected, (
                        page, lsn,
                    )  # fmt: skip


async def folded(cluster: Cluster) -> None:
    """Wait until the segments have nothing to do."""

    def busy() -> bool:
        cores = [host.core for host in cluster.hosts.values() if host.core is not None]
        return any(
            core.background.foldable() > core.state.folded or core.background.planned()
            for core in cores
        )

    while busy():
        await trio.sleep(0.005)


def sources(path: Path) -> dict[str, int]:
    """The layers of a volume, and how many names each has."""
    return {
        each.relative_to(path).as_posix(): each.stat().st_nlink for each in path.glob("*/layer-*")
    }


@asynccontextmanager
async def opened(path: Path, config: ClusterConfig = SMALL) -> AsyncIterator[Cluster]:
    async with aurora.open_cluster(path, config=config) as cluster:
        yield cluster


async def scl_reached(cluster: Cluster) -> None:
    """Wait until every segment has all."""

    def behind() -> bool:
        tails = {
            group.pg_id: max(
                core.state.scl for each in group.members if (core := cluster.hosts[each].core)
            )
            for group in cluster.groups
        }
        return any(
            host.core is None or host.core.state.scl < tails[host.group.pg_id]
            for host in cluster.hosts.values()
        )

    while behind():
        await trio.sleep(0.005)


async def test_a_clone_has_every_version_up_to_its_lsn(tmp_path: Path) -> None:
    """Then both live on, merge and collect, and neither harms the other."""
    history = History(Random(5))
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 40)
        await folded(cluster)
        await history.write(cluster, 160)
        await folded(cluster)
        await history.write(cluster, 3)
        picks = [history.commits[at] for at in (0, 1, 30, 77, 120, 199, 201, 202)]
        for lsn in picks:
            clone = await cluster.clone(tmp_path / f"c{lsn}", at=lsn)
            assert (clone.lsn, clone.left_out) == (lsn, {})
    for lsn in picks:
        forked = history.fork(lsn)
        async with opened(tmp_path / f"c{lsn}") as cluster:
            assert cluster.engine.vdl == lsn
            await forked.check(cluster, [lsn, *Random(lsn).sample(range(1, lsn + 1), min(lsn, 8))])
            await forked.write(cluster, 60)
            await folded(cluster)
            await forked.check(cluster, [lsn, lsn // 2 + 1, *forked.commits[-60::7]])
        async with opened(tmp_path / f"c{lsn}", COLLECTING) as cluster:
            await forked.write(cluster, 120)
            await folded(cluster)
            assert cluster.engine.statistics().floor > lsn
            await forked.check(cluster, forked.commits[-20::3])
    async with opened(tmp_path / "v") as cluster:
        await history.check(cluster, [*picks, *history.commits[::40]])
