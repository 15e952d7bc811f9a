"""``python -m aurora clone``: a volume as of an LSN, as a volume of its own."""

from __future__ import annotations

from pathlib import Path

import trio

from aurora.cloning import Clone
from aurora.cluster import open_cluster
from aurora.config import ClusterConfig, EngineConfig
from aurora.terminal.console import new_console
from aurora.terminal.text import styled
from segments.protocol.errors import Invalid
from segments.protocol.ids import Lsn

_VOLUME = "volume.json"


def clone(path: Path, to: Path, at: Lsn | None, *, copy: bool, color: bool) -> int:
    """Clone the volume at ``path``, and tell of it; returns the exit status.

    Raises `AuroraError` if it cannot be opened or cloned.
    """
    if not (path / _VOLUME).exists():  # to open it would make one
        raise Invalid(f"{path} holds no volume: expected one to clone")
    console = new_console(color=color)
    with console.status(f"cloning {path}"):  # nothing, if the console is plain
        done, seconds = trio.run(_clone, path, to, at, copy)
    text = (
        f"{to} is a clone of {path} at LSN {done.lsn:,}: {done.shared_bytes:,} bytes shared, "
        f"{done.own_bytes:,} its own, {seconds:.2f} s"
    )
    console.print(styled(text, "good"), soft_wrap=True)
    for segment, why in done.left_out.items():
        line = f"{segment}  begins empty, its peers bring it all: {why}"
        console.print(styled(line, "warn"), soft_wrap=True)
    return 0


async def _clone(path: Path, to: Path, at: Lsn | None, copy: bool) -> tuple[Clone, float]:
    """The clone, and how many seconds it took."""
    # Whatever is kept now can be asked for: nothing is collected meanwhile.
    config = ClusterConfig(engine=EngineConfig(retention_lsns=None))
    async with open_cluster(path, config=config) as cluster:
        started = trio.current_time()
        done = await cluster.clone(to, at=at, copy=copy)
        return done, trio.current_time() - started
