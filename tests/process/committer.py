"""The child of the kill tests: opens a volume, checks what it is told, then commits until killed.

Called with a directory, a number for this round, and a file of acknowledged commits, a line each:
``lsn page value``. Prints such a line for each commit, once it is acknowledged and not before.
"""

from __future__ import annotations

import logging
import sys
from itertools import count
from pathlib import Path

import trio

from aurora import Cluster, ClusterConfig, EngineConfig, SegmentConfig, open_cluster

TASKS = 6
CONFIG = ClusterConfig(
    lal=10_000,
    engine=EngineConfig(buffer_pool_pages=16, retention_lsns=None),
    segment=SegmentConfig(
        wal_file_bytes=4 << 10,
        fold_bytes=2 << 10,
        block_bytes=512,
        fan_out=2,
        collect_ratio=0.1,
        compact_bytes=32 << 10,
    ),
)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def check(cluster: Cluster, acknowledged: list[str]) -> None:
    """Raise unless each commit can be read at its LSN, in both of its pages."""
    for line in acknowledged:
        lsn, page, value = line.split()
        for each in (int(page), int(page) + 100):
            found = await cluster.engine.get_at(each, int(lsn))
            assert found.startswith(value.encode()), (line, each, found[:20])


async def commit(cluster: Cluster, round_number: int, page: int) -> None:
    for number in count():
        value = f"{round_number}.{page}.{number}"
        data = value.encode().ljust(32)
        lsn = await cluster.engine.put_many([(page, 0, data), (page + 100, 0, data)])
        say(f"{lsn} {page} {value}")


async def main(directory: str, round_number: int, acknowledged: list[str]) -> None:
    async with open_cluster(directory, config=CONFIG) as cluster:
        await check(cluster, acknowledged)
        say("open " + " ".join(sorted(cluster.lost_segments())))
        async with trio.open_nursery() as nursery:
            for page in range(TASKS):
                nursery.start_soon(commit, cluster, round_number, page)


if __name__ == "__main__":
    # What it waits for on a slow machine is no error; all that is at standard error is one.
    logging.getLogger("aurora").addHandler(logging.NullHandler())
    trio.run(main, sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_text().splitlines())
