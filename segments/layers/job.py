"""Work that needs the disk, as a generator of operations (sans-I/O).

A job yields what it wants done, and is sent what comes of it; whoever runs it does the I/O: a
shell with a real disk, the simulator, or `finished` over bytes in memory. Between two yields it
runs for a few milliseconds at most. It may be closed at any yield, or have a `StorageFailed` thrown
in: then what it had not published does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from segments.manifest import Manifest
from segments.protocol.errors import Corrupt, StorageFailed
from segments.protocol.ids import Lsn

T = TypeVar("T")


class Read(NamedTuple):
    """Bytes of a file; is sent `bytes`, fewer where the file ends, none where there is no file."""

    name: str
    offset: int
    length: int
    at_hand: bool = False
    """Whether what the system has of it in memory will do, whatever the disk has by now."""


class Create(NamedTuple):
    """A new file, of which nothing is durable."""

    name: str


class Extend(NamedTuple):
    """Bytes for the end of a file that was created and is not synced yet."""

    name: str
    data: bytes


class SyncFile(NamedTuple):
    """Make the bytes of a file durable; not its name."""

    name: str


class SyncNames(NamedTuple):
    """Make durable which files there are."""


class Republish(NamedTuple):
    """Replace the manifest, atomically and durably, by ``edit`` of what it is then."""

    edit: Callable[[Manifest], Manifest]
    tops: Mapping[int, Lsn] = {}
    """For each log file that is new in it, by number, the highest LSN in that."""


class Delete(NamedTuple):
    """Let go of files; not refused, and lazily durable."""

    names: tuple[str, ...]


class Wait(NamedTuple):
    """Until something has happened to the segment, or a moment has passed."""


Op: TypeAlias = Read | Create | Extend | SyncFile | SyncNames | Republish | Delete | Wait

PAUSE: Final = None
"""Yielded to let others run."""

Job: TypeAlias = Generator[Op | None, Any, T]


def giving_way(
    job: Job[T], urgent: Callable[[], Job[None] | None], read: Callable[[int], object]
) -> Job[T]:
    """``job``, with what is ``urgent`` done in between, whenever ``job`` waits or lets others run.

    What fails of that is thrown into ``job``, which may let go of what it was writing. ``read`` is
    told of the bytes that ``job`` itself has read.
    """
    step: Callable[[Any], Op | None] = job.send
    answer: object = None
    while True:
        try:
            op = step(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        step, answer = job.send, None
        between = urgent() if op is PAUSE or isinstance(op, Wait) else None
        try:
            if between is not None:
                yield from between
                continue
            answer = yield op
            if isinstance(op, Read):
                read(op.length)
        except (StorageFailed, Corrupt) as error:
            step, answer = job.throw, error


def finished(job: Job[T], execute: Callable[[Op], bytes | None]) -> T:
    """The result of ``job``, at once; ``execute`` answers a `Read` with bytes."""
    answer: bytes | None = None
    while True:
        try:
            op = job.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        answer = None if op is PAUSE else execute(op)


def reader_of(files: Mapping[str, bytes | bytearray]) -> Callable[[Op], bytes]:
    """Answers a job that only reads, from files in memory."""

    def execute(op: Op) -> bytes:
        assert isinstance(op, Read), f"{op}: expected a job that only reads"
        name, offset, length, _ = op
        return bytes(memoryview(files.get(name, b""))[offset : offset + length])

    return execute
