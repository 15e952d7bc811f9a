"""What a volume was made with stays with it, and its LSNs come to an end that stops nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio

import aurora
from aurora.lsn_allocator import LsnAllocator
from aurora.transport import InProcessNetwork
from segments.disks import MemoryDisk
from segments.manifest import MANIFEST, LogFile, Manifest, encode_manifest, filled
from segments.protocol.ids import MAX_LSN, VolumeEpoch
from segments.protocol.truncation import TruncationRange, TruncationTable
from segments.protocol.volume import MAX_LAL, VolumeGeometry
from segments.storage import Identity
from segments.wal import HeadEntry, HeldEntry, Promise, encode_body, encode_promise
from tests.files_on_disks import make_file

LAL = 100
EPOCH = VolumeEpoch(1, 1)


def _config(lal: int | None, pg_count: int | None = None) -> aurora.ClusterConfig:
    return aurora.ClusterConfig(pg_count=pg_count, lal=lal)


def _files(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


async def test_a_reopened_volume_keeps_the_lal_it_was_made_with(tmp_path: Path) -> None:
    async with aurora.open_cluster(tmp_path / "volume", config=_config(5_000)) as cluster:
        await cluster.engine.put(1, 0, b"first")
    async with aurora.open_cluster(tmp_path / "volume") as cluster:
        assert cluster.config.lal == 5_000
        # The default would hand out LSNs again that the first writer could have sent, or skip more.
        assert await cluster.engine.put(1, 0, b"second") == 1 + 5_000 + 1
    async with aurora.open_cluster(tmp_path / "volume", config=_config(5_000, 1)) as cluster:
        assert (await cluster.engine.get(1)).startswith(b"second")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (_config(7), "lal is 7, and the volume was made with 5000"),
        (_config(None, 2), "pg_count is 2, and the volume was made with 1"),
        (_config(10_000_000), "lal is 10000000, and the volume was made with 5000"),
    ],
)
async def test_settings_that_contradict_the_volume_are_refused_and_change_nothing(
    tmp_path: Path, config: aurora.ClusterConfig, said: str
) -> None:
    async with aurora.open_cluster(tmp_path / "volume", config=_config(5_000)) as cluster:
        await cluster.engine.put(1, 0, b"first")
    before = _files(tmp_path)
    with pytest.raises(aurora.InvalidConfig, match=said):
        async with aurora.open_cluster(tmp_path / "volume", config=config):
            pytest.fail("opened")
    assert _files(tmp_path) == before


# ---- the end of the LSNs -------------------------------------------------------------------------


@asynccontextmanager
async def volume_annulled_below(lsn: int, lal: int = LAL) -> AsyncIterator[aurora.Cluster]:
    """A volume in memory whose table annuls every LSN below ``lsn``; no writer is open."""
    geometry = VolumeGeometry(1, lal)
    table = TruncationTable(EPOCH, (TruncationRange(1, lsn, EPOCH),))
    disks = {}
    for segment in geometry.groups()[0].members:
        disk = disks[segment] = MemoryDisk(Identity("old", segment))
        await disk.storage.write_promise(encode_promise(Promise(EPOCH, EPOCH)))
        head = encode_body(EPOCH, [HeldEntry(0), HeadEntry(EPOCH, table, 0, 0)])
        log, frames = filled(LogFile(1, 0, 5), [head])
        await make_file(disk.storage, log.name, frames)
        manifest = encode_manifest(Manifest((log,), (), 2))
        await disk.storage.publish(MANIFEST, manifest)
    network = InProcessNetwork(1_000)
    async with trio.open_nursery() as nursery:
        cluster = aurora.Cluster(
            nursery, network, geometry, disks, aurora.ClusterConfig(), Random(1)
        )
        await cluster.start_segments()
        yield cluster
        nursery.cancel_scope.cancel()


async def test_the_last_lsn_can_be_written_and_survives_recoveries(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with trio.fail_after(60):
        async with volume_annulled_below(MAX_LSN - 4 - LAL) as cluster:
            engine = await cluster.open_writer()
            assert await engine.put_many([(1, 0, b"a"), (2, 0, b"b")]) == MAX_LSN - 3
            with pytest.raises(aurora.LsnsExhausted, match="MTR of 4 records: expected at most 3"):
                await engine.put_many([(1, at, b"no") for at in range(4)])
            assert await engine.put_many([(3, at, b"last") for at in range(3)]) == MAX_LSN
            for _ in range(3):
                with pytest.raises(aurora.LsnsExhausted, match="expected at most 0"):
                    await engine.put(1, 0, b"no")
                assert engine.vdl == MAX_LSN
                assert (await engine.get(1)).startswith(b"a")
                assert (await engine.get(3)).startswith(b"lllast")
                engine = await cluster.recover()


async def test_a_volume_recovered_to_the_end_of_its_lsns_stays_readable(
    autojump_clock: trio.testing.MockClock,
) -> None:
    written = refused = 0
    with trio.fail_after(600):
        async with volume_annulled_below(MAX_LSN - 10 * LAL) as cluster:
            for number in range(20):
                engine = await cluster.recover()
                try:
                    await engine.put(1, 0, b"%d" % number)
                    written += 1
                except aurora.LsnsExhausted:
                    refused += 1
                assert (await engine.get(1)).startswith(b"%d" % (written - 1))
    assert written >= 9 and refused >= 9


async def test_a_volume_of_the_largest_lal_can_be_recovered_again_and_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert MAX_LSN // MAX_LAL > 8_000_000
    async with aurora.open_cluster(config=_config(MAX_LAL)) as cluster:
        for number in range(10):
            assert await cluster.engine.put(1, 0, b"x") == number * (MAX_LAL + 1) + 1
            await cluster.recover()


@pytest.mark.parametrize("lal", [0, MAX_LAL + 1, 2**63 - 1, 2**61])
def test_a_lal_that_would_use_the_lsns_up_is_refused(lal: int) -> None:
    with pytest.raises(aurora.InvalidConfig, match=f"lal is {lal}: expected"):
        _config(lal)
    with pytest.raises(aurora.InvalidConfig, match=f"lal is {lal}: expected"):
        VolumeGeometry(1, lal)
    with pytest.raises(aurora.InvalidConfig, match=f"lal is {lal}: expected"):
        LsnAllocator(1, lal)
