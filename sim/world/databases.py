"""The databases of a run: one on each writer that anybody has opened one on.

A database is opened by the first call that needs it, and closed when another writer has come and
its last call has ended: clients that keep a deposed writer keep its database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from aurora.cluster import Cluster
from aurora.engine import Engine
from segments.protocol.errors import DatabaseEnded, ExtraMissing

if TYPE_CHECKING:
    from aurora.sqlite.database import Database


def check_extra() -> None:
    """Raise `ExtraMissing` where databases cannot be opened."""
    try:
        import aurora.sqlite.database  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"{error.name} is not installed, which calls in SQL need: expected the extra `sql`, as "
            "in pip install 'aurora-py[sql]'"
        ) from error


@attrs.define(eq=False)
class _Kept:
    """The database of one writer."""

    lock: trio.StrictFIFOLock = attrs.field(factory=trio.StrictFIFOLock)
    database: Database | None = None
    users: int = 0


class Databases:
    """All of them, by their writers."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def is_open(self, engine: Engine) -> bool:
        """Whether there is one on this writer."""
        kept = self._kept.get(engine.name)
        return kept is not None and kept.database is not None

    @asynccontextmanager
    async def use(self, cluster: Cluster, engine: Engine) -> AsyncIterator[tuple[Database, bool]]:
        """The database of a writer, and whether it was opened for this call.

        A volume's database is that of its latest writer: raises `DatabaseEnded` if there is another
        by now, and none has been opened here.
        """
        kept = self._kept.setdefault(engine.name, _Kept())
        kept.users += 1
        try:
            opened = False
            async with kept.lock:
                if kept.database is None:
                    kept.database = await _open(cluster, engine)
                    opened = True
            yield kept.database, opened
        finally:
            kept.users -= 1
            self._close_those_left(cluster)

    def close(self, engine: Engine) -> None:
        """Close that of one writer, whoever uses it; the next call opens it anew."""
        kept = self._kept.get(engine.name)
        if kept is not None and kept.database is not None:
            kept.database.close()
            kept.database = None

    def close_all(self) -> None:
        """The run is over."""
        for kept in self._kept.values():
            if kept.database is not None:
                kept.database.end()
                kept.database = None

    def _close_those_left(self, cluster: Cluster) -> None:
        latest = cluster.engine.name
        for name, kept in self._kept.items():
            if name != latest and not kept.users and kept.database is not None:
                kept.database.close()
                kept.database = None


async def _open(cluster: Cluster, engine: Engine) -> Database:
    from aurora.sqlite.database import Database  # only where there are calls in SQL

    if cluster.engine is not engine:
        raise DatabaseEnded(
            f"{engine.name} is not the volume's latest writer: expected {cluster.engine.name}"
        )
    return await Database.open(cluster)
