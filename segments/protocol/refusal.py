"""Why a disk does not take what it is given, in kinds that people respond to differently.

A full disk wants space, a forbidden one other permissions; any other failure wants another disk.
"""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import Final

import attrs

from segments.protocol.errors import StorageFailed, StorageForbidden, StorageFull

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class DiskTrouble(StrEnum):
    """What is wrong with a disk that does not take what it is given."""

    FULL = "full"
    """No space, or no quota, is left on it."""
    REFUSED = "refused"
    """It may not be written, or not be read: permissions, or a read-only file system."""
    FAILING = "failing"
    """Anything else, such as an error of the device."""


_NO_THREAD: Final = "can't start new thread"
"""What Python says when the system gives it none; the error has no type of its own."""


def is_passing(error: BaseException) -> bool:
    """Whether the machine, or a disk, lacked what it may have again: then trying again is right."""
    match error:
        case StorageFailed() | OSError() | MemoryError():
            return True
        case RuntimeError():
            return str(error) == _NO_THREAD
    return False


def storage_error(about: str, error: Exception) -> StorageFailed:
    """What to raise when the operating system has refused; ``about`` says what was tried."""
    kinds = {DiskTrouble.FULL: StorageFull, DiskTrouble.REFUSED: StorageForbidden}
    return kinds.get(_trouble_of(error), StorageFailed)(f"{about}: {_said(error)}")


@attrs.frozen
class Refusal:
    """That a disk does not take what it is given, why, and since when."""

    trouble: DiskTrouble
    why: str
    """In a few words, without the path."""
    detail: str
    """All that the error says."""
    since_s: float
    """When it began, in seconds of the clock that segments are run by."""

    @classmethod
    def of(cls, error: BaseException, now: float, before: Refusal | None = None) -> Refusal:
        """What ``error`` stands for; the same trouble as ``before`` began when that did."""
        trouble = _trouble_of(error)
        same = before is not None and before.trouble is trouble
        cause = error if isinstance(error, OSError) else error.__cause__
        brief = cause.strerror if isinstance(cause, OSError) else cause and _said(cause)
        detail = _said(error)
        return cls(trouble, brief or detail, detail, before.since_s if before and same else now)

    def __str__(self) -> str:
        return self.detail


def _said(error: BaseException) -> str:
    """What an error says; that there is no memory it says by its type alone."""
    return str(error) or type(error).__name__


def _trouble_of(error: BaseException | None) -> DiskTrouble:
    """Also of an error that was raised from another: a failed sync may have met a full disk."""
    match error:
        case StorageFull():
            return DiskTrouble.FULL
        case StorageForbidden():
            return DiskTrouble.REFUSED
        case OSError():
            if error.errno in _FULL:
                return DiskTrouble.FULL
            return DiskTrouble.REFUSED if error.errno in _FORBIDDEN else DiskTrouble.FAILING
        case StorageFailed():
            return _trouble_of(error.__cause__)
    return DiskTrouble.FAILING
