"""A file that may be a pipe: what is not there yet is waited for, and can be cancelled."""

from __future__ import annotations

import os
from contextlib import suppress
from io import FileIO
from pathlib import Path
from stat import S_ISREG
from typing import Any

import trio

from aurora.sqlite.bridge import wait


class WaitingFile(FileIO):
    """To be read within `aurora.sqlite.bridge.run`, whose task waits."""

    def __init__(self, path: Path) -> None:
        """Never waits, also if nobody has opened a pipe to write to it."""
        super().__init__(os.fspath(path), opener=_open)
        status = os.fstat(self.fileno())
        self.size = status.st_size
        """Bytes in all; 0 for a pipe."""
        self.taken = 0
        """Bytes read."""
        self._waits = not S_ISREG(status.st_mode)

    def readinto(self, buffer: Any) -> int:
        """As ever, but for the waiting: an empty pipe that nobody has opened yet has not ended."""
        count: int | None = None
        while count is None:
            if self._waits:
                wait(_readable(self.fileno()))
            count = super().readinto(buffer)
        self.taken += count
        return count


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


async def _readable(descriptor: int) -> None:
    with suppress(PermissionError):  # what the system cannot wait for never has a reader wait
        await trio.lowlevel.wait_readable(descriptor)
