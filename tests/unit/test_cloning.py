"""Clones of a volume: they hold what it held, share what never changes, and live by themselves."""

from __future__ import annotations

import os
import shutil
from bisect import bisect_right
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest
import trio

import aurora
from aurora import Cluster, ClusterConfig, EngineConfig, SegmentConfig
from segments.cloning.directory import CloneDirectory, Written
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
    VolumeLocked,
)
from segments.protocol.ids import Lsn, PageId
from segments.protocol.record import PAGE_SIZE

pytestmark = pytest.mark.usefixtures("no_syncs")  # see the tests of crashes for the others

PAGES = 24
SMALL = ClusterConfig(
    pg_count=2,
    segment=SegmentConfig(
        fold_bytes=8_000, wal_file_bytes=8_192, block_bytes=1_024, image_interval=4, fan_out=2,
        tick_interval_s=0.01, gossip_interval_s=0.02,
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
    """Wait until all segments have all, and nothing to do."""

    def busy() -> bool:
        cores = [host.core for host in cluster.hosts.values() if host.core is not None]
        tails: dict[int, int] = {}
        for core in cores:
            tails[core.pg_id] = max(tails.get(core.pg_id, 0), core.state.scl)
        return any(
            core.background.fold_rule.through() > core.state.folded
            or core.background.planned()
            or core.state.scl < tails[core.pg_id]
            for core in cores
        )

    while busy():  # noqa: ASYNC110 - jobs tell nobody that they have ended
        await trio.sleep(0.005)


def names_of_layers(path: Path) -> dict[str, int]:
    """The layers of a volume, and how many names each has."""
    return {
        each.relative_to(path).as_posix(): each.stat().st_nlink for each in path.glob("*/layer-*")
    }


def taken(path: Path) -> int:
    """Bytes of the disk that the files of a volume take, shared ones included."""
    return sum(512 * each.stat().st_blocks for each in path.rglob("*") if each.is_file())


@asynccontextmanager
async def opened(path: Path, config: ClusterConfig = SMALL) -> AsyncIterator[Cluster]:
    async with aurora.open_cluster(path, config=config) as cluster:
        yield cluster


async def test_a_clone_has_every_version_up_to_its_lsn(tmp_path: Path) -> None:
    """Then both live on, merge and collect, and neither harms the other."""
    history = History(Random(5))
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 40)
        await folded(cluster)
        await history.write(cluster, 160)
        await folded(cluster)
        await history.write(cluster, 3)
        picks = [history.commits[at] for at in (0, 30, 120, 201, 202)]
        for lsn in picks:
            clone = await cluster.clone(tmp_path / f"c{lsn}", at=lsn)
            assert (clone.lsn, clone.left_out) == (lsn, {})
    for lsn in picks:
        forked = history.fork(lsn)
        async with opened(tmp_path / f"c{lsn}") as cluster:
            assert cluster.engine.vdl == lsn
            await forked.check(cluster, [lsn, *Random(lsn).sample(range(1, lsn + 1), min(lsn, 8))])
            await forked.write(cluster, 50)
            await folded(cluster)
            await forked.check(cluster, [lsn, lsn // 2 + 1, *forked.commits[-50::7]])
        async with opened(tmp_path / f"c{lsn}", COLLECTING) as cluster:
            await forked.write(cluster, 60)
            await folded(cluster)
            assert cluster.engine.statistics().floor > lsn
            await forked.check(cluster, forked.commits[-20::3])
    async with opened(tmp_path / "v") as cluster:
        await history.check(cluster, [*picks, *history.commits[::40]])


async def test_a_clone_ends_before_a_mini_transaction_that_it_cuts(tmp_path: Path) -> None:
    """Wherever its records are: in layers, in logs, or in both."""
    history = History(Random(8))
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 90)
        await folded(cluster)
        await history.write(cluster, 5)
        last = history.commits[-1]
        for lsn in [*range(1, 12), *range(last // 2, last // 2 + 12), *range(last - 14, last + 1)]:
            clone = await cluster.clone(tmp_path / "c", at=lsn)
            at = bisect_right(history.commits, lsn)
            assert clone.lsn == (history.commits[at - 1] if at else 0), lsn
            shutil.rmtree(tmp_path / "c")


async def test_no_clone_cuts_what_writers_have_annulled(tmp_path: Path) -> None:
    """Of LSNs that do not exist any more it holds what is below; retention counts past them."""
    history = History(Random(9))
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 30)
        before = cluster.engine.vdl
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 30)
        await folded(cluster)
        first = history.commits[30]
        assert first > before + 1_000
        for at, lsn in enumerate((before, before + 1, before + 5_000, first - 1, first)):
            clone = await cluster.clone(tmp_path / f"c{at}", at=lsn)
            assert clone.lsn == max(each for each in history.commits if each <= lsn) or at == 2
            forked = history.fork(clone.lsn)
            retaining = ClusterConfig(
                pg_count=2, segment=SMALL.segment, engine=EngineConfig(retention_lsns=40)
            )
            async with opened(tmp_path / f"c{at}", retaining) as other:
                assert other.engine.vdl == clone.lsn
                await forked.check(other, [forked.commits[-1]])
                await forked.write(other, 3)
                assert other.engine.statistics().floor <= forked.commits[-5]
                await forked.check(other, [forked.commits[-1], forked.commits[-5]])
    async with opened(tmp_path / "v") as cluster:
        await history.check(cluster, [before, history.commits[-1]])


async def test_siblings_and_clones_of_clones_share_what_they_have(tmp_path: Path) -> None:
    """When the source is gone they are whole."""
    history = History(Random(6))
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 120)
        await folded(cluster)
        lsn = history.commits[70]
        for at in range(16):
            clone = await cluster.clone(tmp_path / f"c{at}", at=lsn if at % 2 else None)
            assert clone.shared_bytes > 100_000
    assert set(names_of_layers(tmp_path / "v").values()) >= {17}
    shutil.rmtree(tmp_path / "v")
    path, forked = tmp_path / "c1", history.fork(lsn)
    for generation in range(3):
        async with opened(path) as cluster:
            await forked.check(cluster, [forked.commits[-1], forked.commits[40]])
            await forked.write(cluster, 20)
            await folded(cluster)
            lsn = forked.commits[-7]
            path = tmp_path / f"g{generation}"
            assert (await cluster.clone(path, at=lsn)).lsn == lsn
            forked = forked.fork(lsn)
    for at in range(16):
        if at % 5:
            shutil.rmtree(tmp_path / f"c{at}")
    async with opened(path) as cluster:
        await forked.check(cluster, forked.commits[::20])
    async with opened(tmp_path / "c10") as cluster:
        await history.check(cluster, history.commits[::30])


async def test_what_merges_drop_is_no_longer_taken(tmp_path: Path) -> None:
    history = History(Random(7))
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 200)
        await folded(cluster)
        lsn = history.commits[3]
        await cluster.clone(tmp_path / "c", at=lsn)
        narrow = [host.core.state.layers for host in cluster.hosts.values() if host.core]
        assert all(len(layers) < 12 for layers in narrow)
    shutil.rmtree(tmp_path / "v")
    before = taken(tmp_path / "c")
    forked = history.fork(lsn)
    async with opened(tmp_path / "c", COLLECTING) as cluster:
        await forked.write(cluster, 150)
        await folded(cluster)
        await forked.check(cluster, forked.commits[-3:])
    assert all(each == 1 for each in names_of_layers(tmp_path / "c").values())
    assert before > 0


async def test_an_empty_volume_and_the_first_record(tmp_path: Path) -> None:
    history = History(Random(3))
    async with opened(tmp_path / "v") as cluster:
        assert (await cluster.clone(tmp_path / "empty")).lsn == 0
        await history.write(cluster, 2)
        assert (await cluster.clone(tmp_path / "before", at=0)).lsn == 0
        await cluster.clone(tmp_path / "c")
    for name, lsn in (("empty", 0), ("before", 0), ("c", history.commits[-1])):
        forked = history.fork(lsn)
        async with opened(tmp_path / name) as cluster:
            await forked.check(cluster, [lsn])
            await forked.write(cluster, 5)
            await forked.check(cluster, [lsn, *forked.commits])


async def test_clones_of_a_volume_that_is_written_merged_and_collected(tmp_path: Path) -> None:
    history = History(Random(4))
    clones: list[Lsn] = []
    async with opened(tmp_path / "v", COLLECTING) as cluster:
        await history.write(cluster, 20)

        async def keep_cloning() -> None:
            while len(clones) < 12:
                at = None if len(clones) % 2 else history.commits[-9]
                clone = await cluster.clone(tmp_path / f"c{len(clones)}", at=at)
                assert clone.left_out == {}
                clones.append(clone.lsn)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_cloning)
            while len(clones) < 12:
                await history.write(cluster, 4)
        await folded(cluster)
        await history.check(cluster, history.commits[-4:])
    for at, lsn in enumerate(clones):
        forked = history.fork(lsn)
        async with opened(tmp_path / f"c{at}") as cluster:
            assert cluster.engine.vdl == lsn
            await forked.check(cluster, forked.commits[-3:])
            assert {host.core.state.scl for host in cluster.hosts.values() if host.core}
            await folded(cluster)


# ---- segments that have less ---------------------------------------------------------------------


async def test_two_segments_may_be_down_lost_or_damaged(tmp_path: Path) -> None:
    """They begin empty, and their peers fill them up; more of a group are too few."""
    history = History(Random(2))
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 60)
        await folded(cluster)
        cluster.wipe("A0")
        cluster.crash("B1")
        layer = next((tmp_path / "v" / "C0").glob("layer-*"))
        data = layer.read_bytes()
        layer.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        clone = await cluster.clone(tmp_path / "c")
        assert set(clone.left_out) == {"A0", "B1", "C0"}
        assert "wiped" in clone.left_out["A0"] and clone.left_out["B1"] == "it is down"
        assert f"{layer.name}: has a wrong sum" in clone.left_out["C0"]
        cluster.crash("D0,E0")
        with pytest.raises(Unavailable, match=r"group 0 cannot be cloned .*A0: .*D0: it is down"):
            await cluster.clone(tmp_path / "d")
        assert not (tmp_path / "d").exists()
    async with opened(tmp_path / "c") as cluster:
        await history.check(cluster, [history.commits[-1]])
        await folded(cluster)
        cluster.crash("D0,E0,F0,D1,E1,F1")
        await history.check(cluster, [history.commits[20]])


async def test_a_segment_that_has_not_heard_of_the_opening_is_named_in_plain_words(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "v") as cluster:
        await cluster.engine.put(1, 0, b"x")
        cluster.pause("A0")
        await cluster.recover()
        clone = await cluster.clone(tmp_path / "c")
        assert clone.left_out == {"A0": "it has not heard yet that the volume was opened anew"}
        cluster.resume("A0")


async def test_a_segment_that_lags_brings_what_it_has(tmp_path: Path) -> None:
    history = History(Random(2))
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 30)
        await folded(cluster)
        cluster.pause("A0,A1")
        await history.write(cluster, 5)
        clone = await cluster.clone(tmp_path / "c")
        assert clone.left_out == {}
        cluster.resume("A0,A1")
    async with opened(tmp_path / "c") as cluster:
        await history.check(cluster, [history.commits[-1]])
        await folded(cluster)
        cluster.crash("B0,C0,B1,C1")
        await history.check(cluster, [history.commits[-1]])


# ---- what is refused -----------------------------------------------------------------------------


async def test_what_cannot_be_cloned_is_refused(tmp_path: Path) -> None:
    async with aurora.open_cluster() as cluster:
        with pytest.raises(Invalid, match="in memory: expected one that is kept in a directory"):
            await cluster.clone(tmp_path / "c")
    history = History(Random(2))
    async with opened(tmp_path / "v", COLLECTING) as cluster:
        await history.write(cluster, 150)
        vdl = cluster.engine.vdl
        with pytest.raises(ReadPointAboveVdl):
            await cluster.clone(tmp_path / "c", at=vdl + 1)
        with pytest.raises(ReadPointBelowFloor):
            await cluster.clone(tmp_path / "c", at=3)
        for wrong in ("7", -1, 1.5, True):
            with pytest.raises(InvalidLsn):
                await cluster.clone(tmp_path / "c", at=wrong)  # type: ignore[arg-type]
        for path in (None, 7, "a\0b"):
            with pytest.raises(Invalid):
                await cluster.clone(path)  # type: ignore[arg-type]
        with pytest.raises(Invalid, match="copy is 'yes'"):
            await cluster.clone(tmp_path / "c", copy="yes")  # type: ignore[arg-type]
        with pytest.raises(Invalid, match="holds a volume"):
            await cluster.clone(tmp_path / "v")
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "letter").write_text("dear")
        with pytest.raises(Invalid, match="holds letter"):
            await cluster.clone(tmp_path / "full")
        assert (tmp_path / "full" / "letter").read_text() == "dear"
        assert not (tmp_path / "c").exists()
    async with aurora.open_cluster(tmp_path / "v", read_only=True) as cluster:
        with pytest.raises(ReadOnly):
            await cluster.clone(tmp_path / "c")


@pytest.mark.parametrize(
    ("error", "why"),
    [(18, "different file systems"), (31, "as many names"), (1, "does not allow it")],
)
async def test_what_cannot_be_shared_can_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, why: str
) -> None:
    history = History(Random(2))
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 60)
        await folded(cluster)

        def link(*_: object, **__: object) -> None:
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr(os, "link", link)
        with pytest.raises(NotShareable, match=rf"{why} .*expected .*copy=True"):
            await cluster.clone(tmp_path / "c")
        assert list((tmp_path / "c").iterdir()) == []
        clone = await cluster.clone(tmp_path / "c", copy=True)
        assert clone.shared_bytes == 0
    assert set(names_of_layers(tmp_path / "c").values()) == {1}
    async with opened(tmp_path / "c") as cluster:
        await history.check(cluster, history.commits[::20])


async def test_a_disk_that_refuses_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(Random(2))
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 90)
        with monkeypatch.context() as patch:

            def link(*_: object, **__: object) -> None:
                raise OSError(28, os.strerror(28))

            await folded(cluster)
            patch.setattr(os, "link", link)
            with pytest.raises(StorageFull, match="cannot be made a clone"):
                await cluster.clone(tmp_path / "c")
        assert list((tmp_path / "c").iterdir()) == []
        with trio.CancelScope() as scope:
            scope.cancel()
            await cluster.clone(tmp_path / "c")
        assert list((tmp_path / "c").iterdir()) == []
        await cluster.clone(tmp_path / "c")


# ---- a source that does not stand still ----------------------------------------------------------


async def test_what_is_merged_meanwhile_goes_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before it has its second name, and then at once."""
    history = History(Random(2))
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 100)
        await folded(cluster)
        lsn = cluster.engine.vdl
        before = set(names_of_layers(tmp_path / "v"))
        reached, go_on, began = Event(), Event(), set[str]()
        write_segment = CloneDirectory.write_segment

        def slowly(self: CloneDirectory, segment: str, *args: Any, **named: Any) -> Written:
            began.add(segment)
            if len(began) == 6:
                reached.set()
            assert go_on.wait(30)
            return write_segment(self, segment, *args, **named)

        monkeypatch.setattr(CloneDirectory, "write_segment", slowly)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(cluster.clone, tmp_path / "c"))
            await trio.to_thread.run_sync(reached.wait)
            await history.write(cluster, 200)
            await folded(cluster)
            live = {
                f"{segment}/{layer.name}"
                for segment, host in cluster.hosts.items()
                if host.core
                for layer in host.core.state.layers
            }
            kept = {each for each in before - live if each[:2] in began}
            assert kept and kept <= set(names_of_layers(tmp_path / "v"))
            go_on.set()
        assert set(names_of_layers(tmp_path / "v")) == live
        await history.check(cluster, history.commits[::80])
    forked = history.fork(lsn)
    async with opened(tmp_path / "c") as cluster:
        await forked.check(cluster, forked.commits[::30])


async def test_a_segment_that_crashes_meanwhile_is_left_out_or_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And can be started again while the clone is still being made."""
    history = History(Random(2))
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 100)
        await folded(cluster)
        write_segment = CloneDirectory.write_segment
        crashed = set[str]()

        def crashing(self: CloneDirectory, segment: str, *args: Any, **named: Any) -> Written:
            if segment in {"A0", "F1"} and segment not in crashed:
                crashed.add(segment)

                async def crash() -> None:
                    cluster.crash(segment)
                    await cluster.restart(segment)

                trio.from_thread.run(crash, trio_token=token)
            return write_segment(self, segment, *args, **named)

        token = trio.lowlevel.current_trio_token()
        monkeypatch.setattr(CloneDirectory, "write_segment", crashing)
        clone = await cluster.clone(tmp_path / "c")
        assert crashed == {"A0", "F1"}
        assert set(clone.left_out) <= crashed
        await history.check(cluster, history.commits[-1:])
    async with opened(tmp_path / "c") as cluster:
        await history.check(cluster, history.commits[::30])
        await folded(cluster)


async def test_one_place_is_made_one_clone(tmp_path: Path) -> None:
    history = History(Random(2))
    outcomes: list[str] = []
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 60)

        async def clone() -> None:
            try:
                await cluster.clone(tmp_path / "c")
            except (VolumeLocked, Invalid) as error:
                outcomes.append(type(error).__name__)
            else:
                outcomes.append("cloned")

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(clone)
        assert outcomes.count("cloned") == 1
    async with opened(tmp_path / "c") as cluster:
        await history.check(cluster, history.commits[::20])


async def test_hidden_damage_is_healed_in_both(tmp_path: Path) -> None:
    """What has rotted in a shared file, and nobody has met yet."""
    history = History(Random(2))
    async with opened(tmp_path / "v") as cluster:
        await history.write(cluster, 120)
        await folded(cluster)
        for layer in (tmp_path / "v" / "C0").glob("layer-*"):
            data = bytearray(layer.read_bytes())
            data[len(data) // 3] ^= 1
            layer.write_bytes(data)
        clone = await cluster.clone(tmp_path / "c", at=history.commits[60])
    forked = history.fork(clone.lsn)
    for path, each in ((tmp_path / "v", history), (tmp_path / "c", forked)):
        async with opened(path) as cluster:
            cluster.crash("A0,B0" if path.name == "v" else "D0,E0")
            await each.check(cluster, each.commits[::20])
