"""What a segment asks of its disk, and the disk that is only memory.

A storage holds two things for one segment: the log, which only grows at its end between
replacements, and the promise slots (see `segments.wal`). Its user calls one operation at a time
and, after a restart, loads, scans the log and cuts the torn tail before it appends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import attrs
import trio

from segments.protocol.errors import Invalid, SegmentLost
from segments.protocol.ids import SegmentId
from segments.wal import NO_PROMISE, encode_promise


@attrs.frozen
class Identity:
    """Which segment of which volume a disk was formatted for."""

    volume_id: str
    segment: SegmentId

    def __str__(self) -> str:
        return f"segment {self.segment} of volume {self.volume_id}"


class Stored(NamedTuple):
    """All that a disk holds, as it is: nothing cut, nothing checked."""

    log: bytes
    promises: bytes
    """Both slots, one after the other."""


class Storage(Protocol):
    """The disk of one segment.

    Every operation that writes is durable on return, and raises `StorageFailed` when the disk
    refuses: then nothing of it counts. `StorageBroken` means that all others will be refused too,
    until the storage is opened anew.
    """

    @property
    def identity(self) -> Identity | None:
        """Whom this disk belongs to; None when it has lost everything."""

    async def load(self) -> Stored:
        """What is there, for a restart."""

    async def append(self, data: bytes) -> None:
        """Write and sync ``data`` at the end of the log, all of it or nothing."""

    async def write_promise(self, data: bytes) -> None:
        """Write and sync one encoded promise to the first slot, then to the second."""

    async def replace(self, chunks: Iterable[bytes]) -> None:
        """Make the log consist of ``chunks``: after a crash it is wholly the old or the new one.

        ``chunks`` is consumed in the caller's thread, possibly with other tasks in between.
        """

    async def truncate(self, length: int) -> None:
        """Keep the first ``length`` bytes of the log; raises `Invalid` if it is shorter."""

    async def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes of the log as they are on disk now; fewer where the log ends."""

    async def read_promises(self) -> bytes:
        """Both promise slots as they are on disk now."""

    def size(self) -> int:
        """Bytes in the log."""

    def close(self) -> None:
        """Give the disk back; a second call does nothing."""


def check_length(length: int, size: int) -> None:
    """Raise `Invalid` unless a log of ``size`` bytes can be cut to ``length``."""
    if not 0 <= length <= size:
        raise Invalid(f"cut the log to {length} bytes: expected 0 to {size}")


def check_extent(offset: int, length: int) -> None:
    """Raise `Invalid` unless ``length`` bytes from ``offset`` can be asked for."""
    if offset < 0 or length < 0:
        raise Invalid(f"read {length} bytes at {offset}: expected neither to be negative")


class MemoryStorage:
    """A disk in memory: outlives its segment, not the process.

    An append waits for nothing, as it is on the path of every commit of an in-memory cluster.
    """

    def __init__(self, identity: Identity | None) -> None:
        """A formatted disk, or with None a lost one."""
        self._identity = identity
        self._log = bytearray()
        self._promises = b"" if identity is None else encode_promise(NO_PROMISE) * 2

    @classmethod
    def create(cls, identity: Identity) -> MemoryStorage:
        """A disk freshly formatted for ``identity``."""
        return cls(identity)

    @classmethod
    def holding(cls, identity: Identity, stored: Stored) -> MemoryStorage:
        """A disk of ``identity`` with what another one held."""
        storage = cls(identity)
        storage._log, storage._promises = bytearray(stored.log), stored.promises
        return storage

    @property
    def identity(self) -> Identity | None:
        return self._identity

    async def load(self) -> Stored:
        return Stored(bytes(self._log), self._promises)

    async def append(self, data: bytes) -> None:
        self._check_kept()
        self._log += data

    async def write_promise(self, data: bytes) -> None:
        self._check_kept()
        self._promises = data * 2

    async def replace(self, chunks: Iterable[bytes]) -> None:
        log = bytearray()
        for chunk in chunks:
            self._check_kept()
            log += chunk
            await trio.lowlevel.checkpoint()  # a checkpoint is long, and commits need not wait
        self._check_kept()
        self._log = log

    async def truncate(self, length: int) -> None:
        self._check_kept()
        check_length(length, len(self._log))
        del self._log[length:]

    async def read(self, offset: int, length: int) -> bytes:
        check_extent(offset, length)
        return bytes(self._log[offset : offset + length])

    async def read_promises(self) -> bytes:
        return self._promises

    def size(self) -> int:
        return len(self._log)

    def close(self) -> None:
        """Nothing to give back: the next segment loads the same bytes."""

    def wipe(self) -> None:
        """Lose everything, the identity too."""
        self._identity = None
        self._log = bytearray()
        self._promises = b""

    def _check_kept(self) -> None:
        if self._identity is None:
            raise SegmentLost("a wiped disk: expected one formatted for a segment")
