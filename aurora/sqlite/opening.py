"""`open_database`, apart from the rest: the engine works without what the rest needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aurora.arguments import check_kind
from aurora.cluster import Cluster
from segments.protocol.errors import ExtraMissing

if TYPE_CHECKING:
    from aurora.sqlite.database import Database

_NEEDED: Final = frozenset({"apsw", "greenlet"})


@asynccontextmanager
async def open_database(cluster: Cluster) -> AsyncIterator[Database]:
    """The volume of ``cluster`` as a SQLite database; closed when the block ends.

    An empty volume becomes one with the first transaction. Raises `NotADatabase` for a volume that
    has other pages, and `ExtraMissing` where the extra ``sql`` is not installed.

    The database belongs to the writer that the cluster has now, and ends with it: then open it
    anew. It may be open only once at a time, and nothing else may write to the volume.
    """
    check_kind("cluster", cluster, Cluster, "what open_cluster gives")
    try:
        from aurora.sqlite.database import Database
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        raise ExtraMissing(
            f"{error.name} is not installed, which a database needs: expected the extra `sql`, as "
            "in pip install 'aurora-py[sql]'"
        ) from error
    database = await Database.open(cluster)
    try:
        yield database
    finally:
        database.close()
