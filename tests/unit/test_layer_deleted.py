"""A layer's file that somebody deletes or spoils under a running volume comes back from a peer."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from aurora.cluster import open_cluster
from aurora.config import ClusterConfig
from segments.config import SegmentConfig

CONFIG = ClusterConfig(
    segment=SegmentConfig(
        fold_bytes=4096, fan_out=16, wal_file_bytes=4096, scrub_interval_s=0.01,
        tick_interval_s=0.01,
        gossip_interval_s=0.02, hydration_timeout_s=0.5, storage_retry_s=0.01,
    )
)  # fmt: skip


@pytest.mark.parametrize("how", ["deleted", "replaced", "spoilt"])
async def test_the_scrub_notices_a_layer_that_is_gone_while_the_volume_serves(
    tmp_path: Path, how: str
) -> None:
    async with open_cluster(tmp_path / "vol", config=CONFIG) as cluster:
        for number in range(150):
            await cluster.engine.put(number % 3, 0, b"%d" % number)
        core = cluster.hosts["A0"].core
        assert core is not None
        for _ in range(1_000):
            live = core.files.manifest.layers  # what a job still writes is not among them
            if live:
                break
            await trio.sleep(0.01)
        else:
            raise AssertionError("there is no layer")
        gone = tmp_path / "vol" / "A0" / live[0].name
        data = gone.read_bytes()
        if how != "spoilt":
            gone.unlink()
        if how != "deleted":
            gone.write_bytes(data[:80] + bytes([data[80] ^ 1]) + data[81:])
        with trio.fail_after(20.0):
            for number in range(600):
                await cluster.engine.put(number % 3, 8, b"%d" % number)
                host = cluster.hosts["A0"]
                healed = not gone.exists() and host.up and host.core is not None
                if healed and host.core is not None and host.core.state.whole:
                    break
                await trio.sleep(0.01)
            else:
                raise AssertionError("it is not healed")
        assert await cluster.engine.get(1)
