"""Files of a disk, made and read in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from segments import manifest
from segments.storage import WHOLE, Storage
from segments.wal_scan import LogScan, scan


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


def scanned(files: Mapping[str, bytes | bytearray], name: str | None = None) -> LogScan:
    """What the log on a disk with these files still says, or one file of it."""
    stored = manifest.log_in(files)
    parts = [
        part for file, part in zip(stored.files, stored.parts, strict=True)
        if name in (None, file.name)
    ]  # fmt: skip
    assert parts, f"no file {name} in the log"
    return scan(parts)
