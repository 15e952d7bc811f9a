"""Work on files, described instead of done: a generator of operations that a shell executes.

So what reads, merges and writes layers is pure, and neither knows nor cares whether the disk is
real. A shell that fails to execute an operation throws its error into the generator, or closes it;
what a closed job leaves is a file that nothing has published, which the caller deletes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")


class Read(NamedTuple):
    """Is answered by the bytes of a file from ``offset`` on: fewer at its end."""

    name: str
    offset: int
    length: int


class Create(NamedTuple):
    """A new, empty file."""

    name: str


class Extend(NamedTuple):
    """Bytes behind those that a file has; not durable by themselves."""

    name: str
    data: bytes


class SyncFile(NamedTuple):
    """Make a file's contents durable, not its name."""

    name: str


class SyncNames(NamedTuple):
    """Make durable which files there are."""


class Publish(NamedTuple):
    """Replace a file's contents: atomic, and durable when it is done."""

    name: str
    data: bytes


class Delete(NamedTuple):
    """These files are not needed any more."""

    names: tuple[str, ...]


Op: TypeAlias = Read | Create | Extend | SyncFile | SyncNames | Publish | Delete

PAUSE: Final = None
"""Instead of an operation: let others run. A job's steps take 10 ms at most."""

Job: TypeAlias = Generator[Op | None, Any, T]
"""Work that is done when the generator ends, with its result."""


def finished(job: Job[T], execute: Callable[[Op], bytes | None]) -> T:
    """Take all steps of ``job`` at once; ``execute`` answers a `Read` with bytes."""
    answer: bytes | None = None
    while True:
        try:
            op = job.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        answer = None if op is PAUSE else execute(op)
