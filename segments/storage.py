"""What a segment asks of its disk, and the disk that is only memory.

A storage is a disk of named files. What they mean is its user's business (`segments.hot_log`),
but for the promise slots, which it has from its formatting on. After a restart its user asks for
the names before anything else.

Operations are of three sorts, which do not wait for each other. In the **foreground**, on which
acknowledgements wait, are `append`, `write_promise` and `truncate`: its user calls one at a time.
In the **background** are those that make, name and delete files, by whoever has such work: they
take turns. **Reads** run beside both, several at a time. A file belongs to one sort at a time: what
is made in the background is appended to when all of it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Protocol, TypeAlias

import attrs
import trio

from segments.manifest import PROMISE
from segments.manifest import WHOLE as WHOLE
from segments.protocol.errors import Invalid, SegmentLost, StorageFailed
from segments.protocol.ids import SegmentId
from segments.wal import NO_PROMISE, encode_promise


@attrs.frozen
class Identity:
    """Which segment of which volume a disk was formatted for."""

    volume_id: str
    segment: SegmentId

    def __str__(self) -> str:
        return f"segment {self.segment} of volume {self.volume_id}"


Ended: TypeAlias = Callable[[Exception | None], object]
"""Is told how an operation has ended."""


class Storage(Protocol):
    """The disk of one segment.

    What an operation makes durable is so on its return. It raises `StorageFailed` when the disk
    refuses: then nothing of it counts. `StorageBroken` means that all others will be refused too,
    until the storage is opened anew. `Invalid` is the caller's mistake.
    """

    @property
    def identity(self) -> Identity | None:
        """Whom this disk belongs to; None when it has lost everything."""

    async def names(self) -> tuple[str, ...]:
        """The files that there are, in order; with all that is in them, they are durable now."""

    async def read(self, name: str, offset: int, length: int) -> bytes:
        """``length`` bytes of a file as they are on disk now; fewer where it ends, or is none."""

    def at_hand(self, name: str, offset: int, length: int) -> bytes | None:
        """All of that at once, if the system has it in memory; None: `read` it.

        It is what was written, and says nothing of what the disk has by now.
        """

    async def append(self, name: str, data: bytes) -> None:
        """Write ``data`` at the end of a file, all of it or nothing, durably.

        `Invalid` if the file was extended and not synced since.
        """

    def begin_append(self, name: str, data: bytes, ended: Ended) -> bool:
        """Begin an `append` without waiting, if it can be begun now: returns whether it was.

        ``ended`` is called in a step of trio's loop, perhaps this one, with what it raises or None;
        it raises nothing itself. Nobody can cancel it.
        """

    async def create(self, name: str) -> None:
        """Make a new empty file, of which nothing is durable: `Invalid` if there is one."""

    async def extend(self, name: str, data: bytes) -> None:
        """Write ``data`` at the end of a new file; a crash may leave any of its blocks, or none.

        If it is refused the file is let go of, as by `delete`.
        """

    async def sync_file(self, name: str) -> None:
        """Make durable what is in a file; that it has a name becomes so by `sync_names`.

        If it is refused the file is let go of: nobody can tell what a second try would be worth.
        """

    async def sync_names(self) -> None:
        """Make durable which files there are."""

    async def publish(self, name: str, data: bytes) -> None:
        """Make a file consist of ``data``, durably; after a crash it is wholly old or new."""

    async def truncate(self, name: str, length: int) -> None:
        """Keep the first ``length`` bytes of a file, durably; `Invalid` if it is shorter."""

    async def delete(self, names: Sequence[str]) -> None:
        """Let go of files, if they are there. A crash may bring them back.

        It is not refused: what cannot be deleted now is left for another time.
        """

    async def write_promise(self, data: bytes) -> None:
        """Write one encoded promise to the first slot, then to the second, each durably."""

    def close(self) -> None:
        """Give the disk back; a second call does nothing."""


def check_length(name: str, length: int, size: int) -> None:
    """Raise `Invalid` unless a file of ``size`` bytes can be cut to ``length``."""
    if not 0 <= length <= size:
        raise Invalid(f"cut {name} to {length} bytes: expected 0 to {size}")


def check_extent(name: str, offset: int, length: int) -> None:
    """Raise `Invalid` unless ``length`` bytes from ``offset`` can be asked for."""
    if offset < 0 or length < 0:
        raise Invalid(f"read {length} bytes of {name} at {offset}: expected neither negative")


def check_new(name: str, files: Container[str]) -> None:
    """Raise `Invalid` if a file that is to be made is among ``files`` already."""
    if name in files:
        raise Invalid(f"file {name} is there already: expected a new name")


def absent(name: str) -> Invalid:
    """A file that is to be changed is not there."""
    return Invalid(f"file {name} is not there: expected it")


def check_synced(name: str, *, synced: bool) -> None:
    """Raise `Invalid` if somebody appends to a file that was extended and not ``synced`` since."""
    if not synced:
        raise Invalid(f"append to {name}, of which not all is durable: expected it synced")


class MemoryStorage:
    """A disk in memory: outlives its segment, not the process.

    An append waits for nothing, as it is on the path of every commit of an in-memory cluster.
    """

    def __init__(self, identity: Identity | None) -> None:
        """A formatted disk, or with None a lost one."""
        self._identity = identity
        self.files: dict[str, bytearray] = {}
        """Its files, for who looks at the platter."""
        self._unsynced: set[str] = set()
        if identity is not None:
            self.files[PROMISE] = bytearray(encode_promise(NO_PROMISE) * 2)

    @classmethod
    def holding(cls, identity: Identity, files: Mapping[str, bytes]) -> MemoryStorage:
        """A disk of ``identity`` with the files of another one."""
        storage = cls(identity)
        storage.files = {name: bytearray(data) for name, data in files.items()}
        return storage

    @property
    def identity(self) -> Identity | None:
        return self._identity

    async def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.files))

    async def read(self, name: str, offset: int, length: int) -> bytes:
        check_extent(name, offset, length)
        return self._part(name, offset, length)

    def at_hand(self, name: str, offset: int, length: int) -> bytes | None:
        check_extent(name, offset, length)
        data = self._part(name, offset, length)
        return data if len(data) == length else None

    def _part(self, name: str, offset: int, length: int) -> bytes:
        with memoryview(self.files.get(name, b"")) as file:
            return bytes(file[offset : offset + length])

    async def append(self, name: str, data: bytes) -> None:
        self._append(name, data)

    def begin_append(self, name: str, data: bytes, ended: Ended) -> bool:
        try:
            self._append(name, data)
        except (SegmentLost, StorageFailed):
            return False
        ended(None)
        return True

    def _append(self, name: str, data: bytes) -> None:
        check_synced(name, synced=name not in self._unsynced)
        self._file(name).extend(data)

    async def create(self, name: str) -> None:
        self._check_kept()
        check_new(name, self.files)
        self.files[name] = bytearray()

    async def extend(self, name: str, data: bytes) -> None:
        self._file(name).extend(data)
        self._unsynced.add(name)
        await trio.lowlevel.checkpoint()  # new files are long, and commits need not wait

    async def sync_file(self, name: str) -> None:
        self._file(name)
        self._unsynced.discard(name)

    async def sync_names(self) -> None:
        self._check_kept()

    async def publish(self, name: str, data: bytes) -> None:
        self._check_kept()
        self.files[name] = bytearray(data)
        self._unsynced.discard(name)

    async def truncate(self, name: str, length: int) -> None:
        file = self._file(name)
        check_length(name, length, len(file))
        del file[length:]

    async def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self.files.pop(name, None)
            self._unsynced.discard(name)

    async def write_promise(self, data: bytes) -> None:
        self._check_kept()
        self.files[PROMISE] = bytearray(data * 2)

    def close(self) -> None:
        """Nothing to give back: the next segment loads the same bytes."""

    def wipe(self) -> None:
        """Lose everything, the identity too."""
        self._identity = None
        self.files = {}

    def _file(self, name: str) -> bytearray:
        """The bytes of a file that is to be changed."""
        self._check_kept()
        if name not in self.files:
            raise absent(name)
        return self.files[name]

    def _check_kept(self) -> None:
        if self._identity is None:
            raise SegmentLost("a wiped disk: expected one formatted for a segment")
