"""``python -m aurora clone``: a volume as of a moment, as a volume of its own."""

from __future__ import annotations

from pathlib import Path

import trio

from aurora.cloning import Clone
from aurora.cluster import Cluster, open_cluster
from aurora.config import ClusterConfig, EngineConfig
from aurora.sqlite.commit_page import COMMIT_PAGE, is_commit_page
from aurora.sqlite.history import CommitInfo, commit_of
from aurora.sqlite.moments import Moment
from aurora.sqlite.volume import Volume
from aurora.terminal.console import new_console
from aurora.terminal.text import styled
from segments.protocol.errors import Invalid

_VOLUME = "volume.json"


def clone(path: Path, to: Path, at: Moment | None, *, copy: bool, color: bool) -> int:
    """Clone the volume at ``path``, and tell of it; returns the exit status.

    A time that ``at`` says is that of a commit, and needs a volume that carries a database.

    Raises `AuroraError` if it cannot be opened or cloned.
    """
    if not (path / _VOLUME).exists():  # to open it would make one
        raise Invalid(f"{path} holds no volume: expected one to clone")
    console = new_console(color=color)
    with console.status(f"cloning {path}"):  # nothing, if the console is plain
        done, commit, seconds = trio.run(_clone, path, to, at, copy)
    when = "" if commit is None else f", committed {commit.time:%Y-%m-%d %H:%M:%S.%fZ}"
    text = (
        f"{to} is a clone of {path} at LSN {done.lsn:,}{when}: {done.shared_bytes:,} bytes shared, "
        f"{done.own_bytes:,} its own, {seconds:.2f} s"
    )
    console.print(styled(text, "good"), soft_wrap=True)
    for segment, why in done.left_out.items():
        console.print(f"{segment}  begins empty: {why}", soft_wrap=True)
    if done.left_out:
        text = (
            "this is no problem: the others have all of it, and fill it up once the clone is open"
        )
        console.print(text, soft_wrap=True)
    return 0


async def _clone(
    path: Path, to: Path, at: Moment | None, copy: bool
) -> tuple[Clone, CommitInfo | None, float]:
    """The clone, the commit of a time, and how many seconds it took."""
    # Whatever is kept now can be asked for: nothing is collected meanwhile.
    config = ClusterConfig(engine=EngineConfig(retention_lsns=None))
    async with open_cluster(path, config=config) as cluster:
        started = trio.current_time()
        commit = None
        if at is not None and not isinstance(at, int):
            commit = await _commit(cluster, at)
            at = commit.lsn
        done = await cluster.clone(to, at=at, copy=copy)
        return done, commit, trio.current_time() - started


async def _commit(cluster: Cluster, when: Moment) -> CommitInfo:
    """The newest commit at or before a time."""
    volume = Volume(cluster)
    with volume.held() as vdl:
        page = await volume.page(COMMIT_PAGE, vdl)
        if not is_commit_page(page.image):
            raise Invalid(f"{when}: expected an LSN, as the volume carries no database, with times")
    return await commit_of(volume, when)
