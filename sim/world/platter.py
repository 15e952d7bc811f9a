"""What is on a simulated disk: named files, and which of their names and bytes a crash may take.

A name points to bytes. Which names there are is one thing while the process runs, and another thing
that is durable: at a crash each name that differs is drawn by itself, so files are absent that were
made, and back that were deleted. Bytes are durable, but for those that a file was extended by since
its last sync: of them any subset of blocks is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sim.world.torn import Draw, torn_blocks


class Platter:
    """The files of one disk, which draws from ``draw``."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self.files: dict[str, bytearray] = {}
        """As the process sees them."""
        self.durable: dict[str, bytearray] = {}
        """As a crash would leave them, if it took every name that it can."""
        self._unsynced: dict[int, tuple[bytearray, int]] = {}
        """By identity: files that were extended, and how much of each is durable."""

    def create(self, name: str) -> None:
        """A new file, which has its name for the process only."""
        self.files[name] = bytearray()

    def extend(self, file: bytearray, data: bytes) -> None:
        """More at the end of a file, which is not durable."""
        self._unsynced.setdefault(id(file), (file, len(file)))
        file += data

    def sync(self, file: bytearray) -> None:
        """All that is in a file is durable; its name is not."""
        self._unsynced.pop(id(file), None)

    def is_synced(self, file: bytearray) -> bool:
        """Whether all that is in a file is durable."""
        return id(file) not in self._unsynced

    def put(self, name: str, data: bytes) -> None:
        """A file under a name, durably both."""
        self.files[name] = self.durable[name] = bytearray(data)

    def remove(self, names: Iterable[str]) -> None:
        """Forget names; a crash may bring them back."""
        for name in names:
            file = self.files.pop(name, None)
            if file is not self.durable.get(name):
                self._unsynced.pop(id(file), None)

    def sync_names(self) -> None:
        """The names are durable as they are now."""
        self.durable = dict(self.files)

    def crash(self) -> None:
        """The process is gone, and with it whatever the draw takes of what was not durable."""
        for file, synced in self._unsynced.values():
            file[synced:] = torn_blocks(self._draw, bytes(file[synced:]))
        self._unsynced = {}
        for name in sorted({*self.files, *self.durable}):
            now, kept = self.files.get(name), self.durable.get(name)
            if now is not kept:
                left = now if self._draw() < 0.5 else kept
                self.files.pop(name, None)
                if left is not None:
                    self.files[name] = left
        self.sync_names()

    def put_back(self, copy: Mapping[str, bytes]) -> None:
        """These files, durably, and no others."""
        self.wipe()
        for name, data in copy.items():
            self.put(name, data)

    def wipe(self) -> None:
        """Nothing is left."""
        self.files, self.durable, self._unsynced = {}, {}, {}

    def size(self) -> int:
        """Bytes in all files."""
        return sum(map(len, self.files.values()))
