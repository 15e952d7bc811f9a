"""A VDL that a volume has surely reached, kept beside its segments: in its manifest.

Segments keep what they have heard of each other, but if all those present were away, or are older
copies, nobody present knows what is missing. Hence this one number: a recovery that would open
below it finds less than there once was (protocol §8). It may lag, so nothing waits for it: it is
written when the volume is opened and closed, and now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from segments.forks import close_in_children
from segments.io_threads import in_thread
from segments.locked_directory import OpenDirectory
from segments.protocol.errors import StorageFailed
from segments.protocol.ids import Lsn
from segments.protocol.refusal import is_passing, storage_error


class VdlLedger(Protocol):
    """Where that VDL is kept."""

    @property
    def vdl(self) -> Lsn:
        """The last that was noted; 0 for none."""

    async def note(self, vdl: Lsn) -> None:
        """Keep ``vdl``, durably on return; raises `StorageFailed`, and then keeps what it had."""

    def close(self) -> None:
        """Give back what it holds; a second call does nothing."""


class MemoryLedger:
    """For a volume in memory, and for a copy of one."""

    def __init__(self, vdl: Lsn = 0) -> None:
        self.vdl = vdl

    async def note(self, vdl: Lsn) -> None:
        self.vdl = vdl

    def close(self) -> None:
        """Nothing to give back."""


class FileLedger:
    """A file of a volume's directory, replaced as a whole.

    The directory is reached through its descriptor, so that one that is moved stays the same. A
    file that is not this volume's any more is left alone.
    """

    def __init__(
        self,
        directory: OpenDirectory,
        name: str,
        vdl: Lsn,
        encode: Callable[[Lsn], bytes],
        is_ours: Callable[[bytes], bool],
    ) -> None:
        """Take over ``directory``, whose file of this name says ``vdl`` now."""
        self.vdl = vdl
        self._is_ours = is_ours
        self._directory = directory
        self._name = name
        self._encode = encode
        self._turn = trio.Lock()
        close_in_children(self)

    async def note(self, vdl: Lsn) -> None:
        async with self._turn:  # two at once would write into the same new file
            if vdl == self.vdl:
                return
            try:
                await in_thread("VDL", self._replace, vdl)
            except (OSError, RuntimeError, MemoryError) as error:
                if not is_passing(error):
                    raise
                raise storage_error(f"{self._directory}/{self._name}", error) from error
            self.vdl = vdl

    def close(self) -> None:
        self._directory.close()

    def close_in_child(self) -> None:
        self.close()

    def _replace(self, vdl: Lsn) -> None:
        directory, name = self._directory, self._name
        if not self._is_ours(directory.read(name)):
            raise StorageFailed(f"{directory}/{name} is no longer this volume's")
        directory.publish(name, self._encode(vdl))
