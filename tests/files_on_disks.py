"""Files of a storage, made and read in one call."""

from __future__ import annotations

from collections.abc import Iterable

from segments.hot_log import HotLog
from segments.storage import Storage


async def make_file(storage: Storage, name: str, chunks: Iterable[bytes]) -> None:
    """Make a new file with ``chunks`` in it, durable but for its name."""
    await storage.create(name)
    for chunk in chunks:
        await storage.extend(name, chunk)
    await storage.sync_file(name)


async def log_in(storage: Storage) -> bytes:
    """The log that a restart finds."""
    return (await HotLog(storage, 1 << 20).load()).log
