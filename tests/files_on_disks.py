"""Files of a storage, made and read in one call."""

from __future__ import annotations

from collections.abc import Iterable

from segments import manifest
from segments.storage import WHOLE, Storage


async def make_file(storage: Storage, name: str, chunks: Iterable[bytes]) -> None:
    """Make a new file with ``chunks`` in it, durable but for its name."""
    await storage.create(name)
    for chunk in chunks:
        await storage.extend(name, chunk)
    await storage.sync_file(name)


async def log_in(storage: Storage) -> bytes:
    """The log that a restart finds."""
    files = {name: await storage.read(name, 0, WHOLE) for name in await storage.names()}
    return manifest.log_in(files).log
