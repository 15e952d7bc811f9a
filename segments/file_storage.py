"""The disk of one segment as a directory of files. A shell: all it does is input and output.

(More than 400 lines, of which a good part says why each sync is where it is.)

=============  =====================================================================
``identity``   JSON: whom the directory belongs to, with a checksum; written last
``log``        frames, see `segments.wal`
``promise``    two promise slots
``log.new``    a replacement being written; never read, and removed when opening
=============  =====================================================================

One append is one write and one ``fdatasync``, in one job of a worker thread, so that the segments
of a process sync in parallel. A job that has started is always awaited to its end, whatever is
cancelled meanwhile, and a job alone changes the length: a cancelled append has happened or has not.

The log is not preallocated. What that would save of the sync (a tenth to a fifth, where it was
measured) is small against handing the job to the thread, and a log that ends where it says needs
no telling of zeros from a torn tail.

**After a failed sync** the kernel may hold pages that it takes for clean and that are not on disk,
and a second sync would succeed without writing them. So the storage is fail-stop: it cuts off what
it was writing and refuses everything until it is opened anew; five other copies go on. A failed
write (a full disk) comes before any sync, and is only rolled back. **Loading** for the same reason
first syncs, as a process that was killed may have left bytes in the cache only, then drops the
clean pages, and so reads what the disk has.

**Files that somebody deletes or replaces** stay open here, and whatever is written to them is gone
with the process. An append looks whether its file still has a name, a read whether the name still
leads to it; if not the storage is fail-stop, too. A directory that is moved is still the same one:
everything goes through its descriptor (`segments.locked_directory`).
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Final, NoReturn, TypeVar, TypeVarTuple

import outcome
import trio

from segments.forks import close_in_children
from segments.locked_directory import LockedDirectory, OpenDirectory
from segments.protocol import codec
from segments.protocol.errors import Closed, Invalid, SegmentLost, StorageBroken
from segments.protocol.refusal import storage_error
from segments.storage import Identity, Stored, check_extent, check_length
from segments.wal import NO_PROMISE, encode_promise

_IDENTITY: Final = "identity"
_NEW_IDENTITY: Final = "identity.new"
_LOG: Final = "log"
_NEW_LOG: Final = "log.new"
_PROMISE: Final = "promise"
_FORMAT: Final = 1
_LONGEST_IDENTITY: Final = 65_536

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""Makes the bytes of a file durable, and as much of its metadata as it takes to find them."""


class FileStorage:
    """A directory that holds one segment. Implements `Storage`; operations that overlap queue up.

    Segments of a process sync in parallel: each storage has a thread of its own while it has a job.
    Get one by `create` or `open`.
    """

    def __init__(self, directory: LockedDirectory, identity: Identity) -> None:
        """Take over ``directory``, which has been checked, unless this raises `OSError`."""
        self._directory = directory
        self._identity = identity
        self._turn = trio.Lock()
        self._failure: str | None = None
        self._closing = False
        directory.unlink(_NEW_LOG)
        self._files: dict[str, int] = {}
        try:
            for name in (_LOG, _PROMISE):
                self._files[name] = directory.open(name, os.O_RDWR)
            self._length = os.fstat(self._files[_LOG]).st_size
        except OSError:
            self._close_files()
            raise
        close_in_children(self)

    @classmethod
    def create(cls, directory: Path, identity: Identity) -> FileStorage:
        """Format ``directory`` for ``identity``, and open it.

        Parents are made as needed. Raises `Invalid` if the directory holds anything, `VolumeLocked`
        if someone has it open, `StorageFailed` if the disk refuses.
        """
        try:
            make_directory(directory)
            locked = LockedDirectory(directory)
            try:
                _format(locked, identity)
                return cls(locked, identity)
            except BaseException:
                locked.close()
                raise
        except OSError as error:
            raise storage_error(f"{directory} cannot be formatted", error) from error

    @classmethod
    def open(cls, directory: Path, expected: Identity) -> FileStorage:
        """Open the directory of ``expected``.

        Raises `SegmentLost` if it is missing, empty, incomplete or somebody else's, `VolumeLocked`
        if someone has it open, `StorageFailed` if the disk refuses.
        """
        try:
            _check_is_there(directory, expected)
            locked = LockedDirectory(directory)
            try:
                _check_belongs(locked, expected)
                return cls(locked, expected)
            except BaseException:
                locked.close()
                raise
        except OSError as error:
            raise storage_error(f"{directory} cannot be opened", error) from error

    @property
    def identity(self) -> Identity:
        return self._identity

    def size(self) -> int:
        return self._length

    def close(self) -> None:
        """Give the directory back, at once or when the operation under way has ended."""
        self._closing = True
        if not self._turn.locked():
            self._close_files()

    def close_in_child(self) -> None:
        self._closing = True
        self._close_files()

    async def load(self) -> Stored:
        async with self._taking_turns():
            return await self._in_thread(self._load)

    async def append(self, data: bytes) -> None:
        async with self._taking_turns():
            await self._in_thread(self._append, data)

    async def write_promise(self, data: bytes) -> None:
        async with self._taking_turns():
            await self._in_thread(self._write_promise, data)

    async def truncate(self, length: int) -> None:
        async with self._taking_turns():
            check_length(length, self._length)
            await self._in_thread(self._truncate, length)

    async def read(self, offset: int, length: int) -> bytes:
        check_extent(offset, length)
        async with self._taking_turns():
            length = min(length, max(0, self._length - offset))
            return await self._in_thread(self._read, _LOG, offset, length)

    async def read_promises(self) -> bytes:
        async with self._taking_turns():
            size = os.fstat(self._files[_PROMISE]).st_size
            return await self._in_thread(self._read, _PROMISE, 0, size)

    async def replace(self, chunks: Iterable[bytes]) -> None:
        async with self._taking_turns():
            new_log = await self._in_thread(self._create_new_log)
            length = 0
            try:
                for chunk in chunks:
                    await self._in_thread(_write, new_log, chunk, length)
                    length += len(chunk)
                await self._in_thread(self._swap, new_log, length)
            except BaseException:
                if self._files[_LOG] != new_log:
                    os.close(new_log)
                    self._directory.unlink(_NEW_LOG)
                raise

    # ---- one at a time ---------------------------------------------------------------------------

    @asynccontextmanager
    async def _taking_turns(self) -> AsyncIterator[None]:
        try:
            self._turn.acquire_nowait()  # the usual case, without a turn of trio's loop
        except trio.WouldBlock:
            await self._turn.acquire()
        try:
            self._check_usable()
            yield
        finally:
            if self._closing:
                self._close_files()
            self._turn.release()

    @trio.lowlevel.enable_ki_protection
    async def _in_thread(self, job: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        """Run a job to its end; cancelled only before it starts.

        Not `trio.to_thread`: its limiter costs a turn of trio's loop for every sync, and there is
        nothing to limit, as a storage has at most one job at a time.
        """
        self._check_usable()
        await trio.lowlevel.checkpoint_if_cancelled()
        task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()

        def deliver(result: outcome.Outcome[_T]) -> None:
            token.run_sync_soon(trio.lowlevel.reschedule, task, result)

        name = f"{self._identity.segment} disk"
        try:
            trio.lowlevel.start_thread_soon(partial(job, *args), deliver, name)
        except (RuntimeError, MemoryError) as error:  # no thread to be had: nothing has begun
            raise storage_error(f"{self._directory}", error) from error
        try:
            result: _T = await trio.lowlevel.wait_task_rescheduled(_never_abort)
        except OSError as error:
            if self._failure is not None:
                raise StorageBroken(f"{self._directory}: {error}") from error
            raise storage_error(f"{self._directory}", error) from error
        return result

    def _check_usable(self) -> None:
        if self._closing:
            raise Closed(f"{self._directory} has been closed")
        if self._failure is not None:
            raise StorageBroken(
                f"{self._directory} takes nothing since a failure ({self._failure}): open it again"
            )

    def _close_files(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])
        self._directory.close()

    # ---- in a thread -----------------------------------------------------------------------------

    def _load(self) -> Stored:
        for file in (*self._files.values(), self._directory.descriptor):
            os.fsync(file)
        promise = self._files[_PROMISE]
        return Stored(
            _read(self._files[_LOG], 0, self._length), _read(promise, 0, os.fstat(promise).st_size)
        )

    def _read(self, name: str, offset: int, length: int) -> bytes:
        if missing := self._directory.misses(name, self._files[name]):
            self._vanished(missing)
        return _read(self._files[name], offset, length)

    def _append(self, data: bytes) -> None:
        try:
            _write(self._files[_LOG], data, self._length)
        except OSError:
            self._cut_back()
            raise
        self._sync_or_fail(self._files[_LOG])
        if not os.fstat(self._files[_LOG]).st_nlink:
            self._vanished(f"{_LOG} has been deleted")
        self._length += len(data)

    def _write_promise(self, data: bytes) -> None:
        for offset in (0, len(data)):
            _write(self._files[_PROMISE], data, offset)
            self._sync_or_fail(self._files[_PROMISE])

    def _truncate(self, length: int) -> None:
        os.ftruncate(self._files[_LOG], length)
        self._length = length
        self._sync_or_fail(self._files[_LOG])

    def _create_new_log(self) -> int:
        return self._directory.open(_NEW_LOG, os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def _swap(self, new_log: int, length: int) -> None:
        os.fsync(new_log)
        self._directory.rename(_NEW_LOG, _LOG)
        old_log, self._files[_LOG], self._length = self._files[_LOG], new_log, length
        try:
            self._sync_or_fail(self._directory.descriptor)
        finally:
            os.close(old_log)

    def _sync_or_fail(self, file: int) -> None:
        try:
            _sync(file)
        except OSError as error:
            self._failure = f"sync: {error}"
            self._cut_back()
            raise

    def _vanished(self, what: str) -> NoReturn:
        """Somebody has taken a file away: what is written there from now on is written nowhere."""
        self._failure = f"{what} while it was open"
        raise FileNotFoundError(errno.ENOENT, self._failure)

    def _cut_back(self) -> None:
        """Leave nothing in the log of what was never durable."""
        try:
            os.ftruncate(self._files[_LOG], self._length)
        except OSError as error:
            self._failure = f"cutting the log back to {self._length} bytes: {error}"


def _never_abort(_raise_cancel: object) -> trio.lowlevel.Abort:
    """A job that has started is awaited to its end."""
    return trio.lowlevel.Abort.FAILED


# ---- directories ---------------------------------------------------------------------------------


def make_directory(directory: Path) -> None:
    """Make a directory and what is missing of its parents, durably."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for each in reversed(missing):
        parent = os.open(each.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


def _format(directory: LockedDirectory, identity: Identity) -> None:
    if found := directory.names():
        raise Invalid(f"{directory} holds {', '.join(found[:5])}: expected an empty directory")
    _write_file(directory, _LOG, b"")
    _write_file(directory, _PROMISE, encode_promise(NO_PROMISE) * 2)
    _write_file(directory, _NEW_IDENTITY, _encode_identity(identity))
    directory.rename(_NEW_IDENTITY, _IDENTITY)
    os.fsync(directory.descriptor)


def read_unlocked(path: Path, expected: Identity) -> Stored:
    """What `FileStorage.load` gives, of a directory that is not locked: nothing is written.

    So bytes that a killed process has left in the cache only are there, too. Raises as
    `FileStorage.open`.
    """
    try:
        _check_is_there(path, expected)
        with closing(OpenDirectory(path)) as directory:
            _check_belongs(directory, expected)
            return Stored(directory.read(_LOG), directory.read(_PROMISE))
    except OSError as error:
        raise storage_error(f"{path} cannot be read", error) from error


def _check_is_there(path: Path, expected: Identity) -> None:
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            raise NotADirectoryError
    except (FileNotFoundError, NotADirectoryError):  # what cannot be looked at is not lost
        raise SegmentLost(f"{path} is no directory: expected {expected}") from None


def _check_belongs(directory: OpenDirectory, expected: Identity) -> None:
    found = set(directory.names())
    if missing := sorted({_IDENTITY, _LOG, _PROMISE} - found):
        state = f"lacks {', '.join(missing)}" if found else "is empty"
        raise SegmentLost(f"{directory} {state}: expected {expected}")
    with os.fdopen(directory.open(_IDENTITY, os.O_RDONLY), "rb") as file:
        data = file.read(_LONGEST_IDENTITY)
    identity = _decode_identity(data)
    if identity is None:
        raise SegmentLost(f"{directory} has a spoilt identity {data[:60]!r}: expected {expected}")
    if identity != expected:
        raise SegmentLost(f"{directory} belongs to {identity}: expected {expected}")


def _encode_identity(identity: Identity) -> bytes:
    fields: dict[str, object] = {
        "format": _FORMAT,
        "volume_id": identity.volume_id,
        "segment": identity.segment,
    }
    fields["checksum"] = f"{codec.checksum(codec.pack(tuple(fields.values()))):016x}"
    return json.dumps(fields, indent=2).encode() + b"\n"


def _decode_identity(data: bytes) -> Identity | None:
    """Whom ``data`` names; None unless it is byte by byte what was written for somebody."""
    try:
        fields = json.loads(data)
        identity = Identity(fields["volume_id"], fields["segment"])
        return identity if _encode_identity(identity) == data else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


# ---- files ---------------------------------------------------------------------------------------


def _write_file(directory: LockedDirectory, name: str, data: bytes) -> None:
    file = directory.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        _write(file, data, 0)
        os.fsync(file)
    finally:
        os.close(file)


def _write(file: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written


def _read(file: int, offset: int, length: int) -> bytes:
    """Up to ``length`` bytes from the disk itself where the cache is clean."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, offset, length, os.POSIX_FADV_DONTNEED)
    parts: list[bytes] = []
    while length and (part := os.pread(file, length, offset)):
        parts.append(part)
        length, offset = length - len(part), offset + len(part)
    return b"".join(parts)
