"""The LAL belongs to the volume: a later writer must annul as far as an earlier one could send."""

from __future__ import annotations

from pathlib import Path

import aurora


def _config(lal: int) -> aurora.ClusterConfig:
    return aurora.ClusterConfig(engine=aurora.EngineConfig(lal=lal))


async def test_a_reopened_volume_keeps_the_lal_it_was_made_with(tmp_path: Path) -> None:
    async with aurora.open_cluster(tmp_path / "volume", config=_config(5_000)) as cluster:
        await cluster.engine.put(1, 0, b"first")
    async with aurora.open_cluster(tmp_path / "volume", config=_config(7)) as cluster:
        # A limit of 7 would hand out LSNs again that the first writer could have sent.
        assert await cluster.engine.put(1, 0, b"second") == 1 + 5_000 + 1
