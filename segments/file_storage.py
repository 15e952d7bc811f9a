"""The disk of one segment as a directory of files. A shell: all it does is input and output.

================  ==================================================================
``identity``      whom the directory belongs to, see `segments.segment_directory`
``promise``       two promise slots, see `segments.wal`
``manifest``      which files are the log, see `segments.manifest`
``wal-1`` ...     the files of the log
``manifest.new``  a manifest being written; never read
================  ==================================================================

One append is one call of the system that writes and syncs, done by the kernel beside the loop
(`segments.io_ring`); where it does not offer that, it is one such call, or two, in a thread of the
segment (`segments.io_threads`). So the segments of a process sync in parallel. A job that has
started is always awaited to its end, and a job alone changes a length: an append that somebody
cancels has happened or has not.

**Nothing in the background holds up an append.** What writes in the foreground (appends, promises,
cuts) takes turns, in one thread that stays; what makes, names and deletes files takes turns of its
own, and reads take none: each has a thread while it has a job. What a page is made of needs no
thread where the system has it in memory (`at_hand`); it is checked by its sum, and the scrub, which
reads from the disk itself, looks whether that has it, too. Files are in use by several jobs
then, so their users are counted (`segments.open_file`), and one that is deleted is closed when the
last job with it ends. `_naming` makes a change of names on the disk and in here one, for reads.

Files are not preallocated: it would save a tenth of the sync, and zeros are not told from a tail.

**After a failed sync** the kernel may hold pages that it takes for clean and that are not on disk,
and a second sync would succeed without writing them. So the storage is fail-stop: it cuts off what
it was writing and refuses everything until it is opened anew; five other copies go on. That goes
for the directory, too, whose names are then unknown. A failed write (a full disk) comes before any
sync, and is only rolled back; a new file that cannot be written or synced is thrown away. **A
restart** for the same reason first syncs, as a process that was killed may have left bytes in the
cache only; reading then drops the clean pages, and so reads what the disk has.

**Files that somebody deletes or replaces** stay open here, and whatever is written to them is gone
with the process. An append looks whether its file still has a name, a read whether the name still
leads to it; if not the storage is fail-stop, too. A directory that is moved is still the same one:
everything goes through its descriptor (`segments.locked_directory`).

(More than 400 lines: the operations, and the turns and threads they take, are one thing.)
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Final, NoReturn, TypeVar, TypeVarTuple

import outcome
import trio

from segments.forks import close_in_children
from segments.io_ring import ring_of_this_run
from segments.io_threads import ResidentThread, in_thread
from segments.locked_directory import LockedDirectory, OpenDirectory
from segments.manifest import PROMISE, is_ours
from segments.open_file import NotSynced, OpenFile
from segments.operation import Operation, Turn
from segments.protocol.errors import Closed, StorageBroken, StorageFailed
from segments.protocol.refusal import storage_error
from segments.segment_directory import (
    IDENTITY,
    check_belongs,
    check_is_there,
    format_directory,
    make_directory,
)
from segments.storage import (
    Ended,
    Identity,
    absent,
    check_extent,
    check_length,
    check_new,
    check_synced,
)

_NEW: Final = ".new"
_MAX_READS: Final = 4
"""At a time, each in a thread; more wait."""

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""Makes the bytes of a file durable, and as much of its metadata as it takes to find them."""


class FileStorage:
    """A directory that holds one segment. Implements `Storage`; get one by `format` or `open`."""

    def __init__(self, directory: LockedDirectory, identity: Identity) -> None:
        """Take over ``directory``, which has been checked, unless this raises `OSError`."""
        self._directory = directory
        self._identity = identity
        self._foreground = trio.Semaphore(1, max_value=1)  # a lock that no task owns
        self._background = trio.Lock()
        self._reading = trio.Semaphore(_MAX_READS)
        self._operations = 0
        """Those under way, which nobody may close the directory to."""
        self._naming = Lock()
        self._thread = ResidentThread(f"{identity.segment} disk")
        self._failure: str | None = None
        self._closing = False
        self._files: dict[str, OpenFile] = {}
        self._kept: Counter[str] = Counter()
        self._deleted_later: set[str] = set()
        try:
            for name in directory.names():
                if name == IDENTITY or is_ours(name):
                    self._files[name] = OpenFile(directory.open(name, os.O_RDWR))
        except OSError:
            self._close_files()
            raise
        close_in_children(self)

    @classmethod
    def format(cls, directory: Path, identity: Identity) -> FileStorage:
        """Make ``directory`` that of ``identity``, and open it.

        Parents are made as needed. Raises `Invalid` if the directory holds anything, `VolumeLocked`
        if someone has it open, `StorageFailed` if the disk refuses.
        """
        try:
            make_directory(directory)
            locked = LockedDirectory(directory)
            try:
                format_directory(locked, identity)
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
            check_is_there(directory, expected)
            locked = LockedDirectory(directory)
            try:
                check_belongs(locked, expected)
                return cls(locked, expected)
            except BaseException:
                locked.close()
                raise
        except OSError as error:
            raise storage_error(f"{directory} cannot be opened", error) from error

    @property
    def identity(self) -> Identity:
        return self._identity

    def close(self) -> None:
        """Give the directory back, at once or when the operations under way have ended."""
        self._closing = True
        if not self._operations:
            self._close_files()

    def close_in_child(self) -> None:
        self._closing = True
        self._files.clear()  # each closes itself in children

    async def names(self) -> tuple[str, ...]:
        async with self._taking(self._foreground), self._taking(self._background):
            await self._in_thread(self._sync_all)
            return tuple(sorted(set(self._files) - {IDENTITY}))

    async def read(self, name: str, offset: int, length: int) -> bytes:
        check_extent(name, offset, length)
        # What is written in place is not read meanwhile.
        async with self._taking(self._foreground if name == PROMISE else self._reading):
            if (file := self._in_use(name)) is None:
                return b""
            # Not made in there: an allocator keeps what each of many threads has let go of.
            room = bytearray(min(length, max(0, file.length - offset)))
            read = await self._letting_go(file, self._read, name, file, offset, room)
            return bytes(memoryview(room)[:read])

    def at_hand(self, name: str, offset: int, length: int) -> bytes | None:
        check_extent(name, offset, length)
        if self._closing or self._failure is not None or (file := self._in_use(name)) is None:
            return None
        try:
            return file.in_memory(offset, length)
        finally:
            file.let_go()

    async def append(self, name: str, data: bytes) -> None:
        async with self._taking(self._foreground):
            await self._in_order(name, self._append, data)

    @trio.lowlevel.enable_ki_protection  # the turn that it takes is given back by whoever ends it
    def begin_append(self, name: str, data: bytes, ended: Ended) -> bool:
        if self._closing or self._failure is not None or self._foreground.value == 0:
            return False
        if (file := self._in_use(name)) is None:
            return False

        def over(result: outcome.Outcome[None]) -> None:
            self._end_foreground(file)
            error = result.error if isinstance(result, outcome.Error) else None
            assert error is None or isinstance(error, Exception)
            ended(self._refused(error) if isinstance(error, OSError) else error)

        self._foreground.acquire_nowait()
        self._operations += 1
        try:
            if not self._begin_in_ring(name, file, data, over):
                self._thread.start(over, self._append, name, file, data)
        except StorageFailed:
            self._end_foreground(file)
            return False
        except BaseException:
            self._end_foreground(file)
            raise
        return True

    def _begin_in_ring(
        self, name: str, file: OpenFile, data: bytes, over: Callable[[outcome.Outcome[None]], None]
    ) -> bool:
        """Whether the kernel does an append by itself; unless all goes well, the thread goes on."""

        def written(result: int) -> None:
            if result == len(data) and _is_named(file):
                file.length += result
                over(outcome.Value(None))
                return
            try:
                self._thread.start(over, self._append, name, file, data, result)
            except StorageFailed:  # no thread: what is there may not stay undecided
                over(outcome.capture(self._append, name, file, data, result))

        if not file.synced or not file.syncs_by_writing or (ring := ring_of_this_run()) is None:
            return False
        return ring.begin_write(data, file.descriptor, file.length, written)

    def _end_foreground(self, file: OpenFile) -> None:
        file.let_go()
        self._foreground.release()
        self._ended()

    async def truncate(self, name: str, length: int) -> None:
        async with self._taking(self._foreground):
            await self._in_order(name, self._truncate, length)

    async def write_promise(self, data: bytes) -> None:
        async with self._taking(self._foreground):
            await self._in_order(PROMISE, self._write_promise, data)

    async def create(self, name: str) -> None:
        async with self._taking(self._background):
            check_new(name, self._files)
            await self._in_thread(self._create, name)

    async def extend(self, name: str, data: bytes) -> None:
        async with self._taking(self._background):
            await self._with(name, self._extend, data)

    async def sync_file(self, name: str) -> None:
        async with self._taking(self._background):
            await self._with(name, self._sync_file)

    async def sync_names(self) -> None:
        async with self._taking(self._background):
            await self._in_thread(self._sync_or_fail, self._directory.descriptor)

    async def publish(self, name: str, data: bytes) -> None:
        async with self._taking(self._background):
            await self._in_thread(self._publish, name, data)

    async def delete(self, names: Sequence[str]) -> None:
        async with self._taking(self._background):
            kept = self._kept.keys() & names
            self._deleted_later |= kept
            await self._in_thread(self._delete, [each for each in names if each not in kept])

    @asynccontextmanager
    async def keeping(self, names: Sequence[str]) -> AsyncIterator[OpenDirectory]:
        """Have files stay while the block runs, even if they are deleted; they go after it.

        Begins without giving others a turn. Gives the directory that they are in, opened once more:
        so it can be used to the end, and nobody waits for it, even if this storage is closed.
        """
        self._check_usable()
        try:
            directory = self._directory.opened_again()
        except OSError as error:
            raise self._refused(error) from error
        self._kept.update(names)
        try:
            yield directory
        finally:
            directory.close()
            self._kept.subtract(names)
            self._kept = +self._kept
            gone = sorted(self._deleted_later - self._kept.keys())
            self._deleted_later.difference_update(gone)
            if gone and not self._closing and self._failure is None:
                with trio.CancelScope(shield=True), suppress(StorageFailed, Closed):
                    await self.delete(gone)

    # ---- turns and threads -----------------------------------------------------------------------

    def _taking(self, turn: Turn) -> Operation:
        """Be an operation under way, when it is its turn."""
        return Operation(turn, self._began, self._ended)

    def _began(self) -> None:
        self._operations += 1
        self._check_usable()

    def _ended(self) -> None:
        self._operations -= 1
        if self._closing and not self._operations:
            self._close_files()

    def _in_use(self, name: str) -> OpenFile | None:
        """A file that nobody closes until it is let go of, not even who deletes it."""
        file = self._files.get(name)
        return file if file is not None and file.use() else None

    def _opened(self, name: str) -> OpenFile:
        if (file := self._in_use(name)) is None:
            raise absent(name)
        return file

    async def _with(self, name: str, job: Callable[[str, OpenFile, *_Ts], _T], *args: *_Ts) -> _T:
        """Run a job of the background with a file."""
        return await self._letting_go(file := self._opened(name), job, name, file, *args)

    async def _letting_go(self, file: OpenFile, job: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        try:
            return await self._in_thread(job, *args)
        finally:
            file.let_go()

    async def _in_thread(self, job: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        """Run a job to its end, in some thread; cancelled only before it starts."""
        self._check_usable()
        try:
            return await in_thread(f"{self._identity.segment} files", job, *args)
        except OSError as error:
            raise self._refused(error) from error

    async def _in_order(
        self, name: str, job: Callable[[str, OpenFile, *_Ts], _T], *args: *_Ts
    ) -> _T:
        """Run a job of the foreground with a file, in the thread that stays."""
        file = self._opened(name)
        try:
            return await self._thread.run(job, name, file, *args)
        except OSError as error:
            raise self._refused(error) from error
        finally:
            file.let_go()

    def _refused(self, error: OSError) -> StorageFailed:
        if self._failure is not None:
            return StorageBroken(f"{self._directory}: {error}")
        return storage_error(f"{self._directory}", error)

    def _check_usable(self) -> None:
        if self._closing:
            raise Closed(f"{self._directory} has been closed")
        if self._failure is not None:
            raise StorageBroken(
                f"{self._directory} takes nothing since a failure ({self._failure}): open it again"
            )

    def _close_files(self) -> None:
        self._thread.end()
        while self._files:
            self._files.popitem()[1].let_go()
        self._directory.close()

    # ---- in a thread of the foreground -----------------------------------------------------------

    def _append(self, name: str, file: OpenFile, data: bytes, tried: int = 0) -> None:
        check_synced(name, synced=file.synced)
        try:
            done = file.write_durably(data, file.length, tried)
            if done < len(data):
                file.write(memoryview(data)[done:], file.length + done)
                self._sync_or_fail(file.descriptor)
            has_name = file.has_name
        except OSError as error:
            if isinstance(error, NotSynced):
                self._failure = f"sync: {error}"
            self._cut_back(name, file)
            raise
        if not has_name:
            self._vanished(f"{name} has been deleted")
        file.length += len(data)

    def _truncate(self, name: str, file: OpenFile, length: int) -> None:
        check_length(name, length, file.length)
        os.ftruncate(file.descriptor, length)
        file.length = length
        self._sync_or_fail(file.descriptor)

    def _write_promise(self, _name: str, file: OpenFile, data: bytes) -> None:
        for offset in (0, len(data)):
            file.write(data, offset)
            self._sync_or_fail(file.descriptor)

    def _sync_or_fail(self, descriptor: int) -> None:
        try:
            _sync(descriptor)
        except OSError as error:
            self._failure = f"sync: {error}"
            raise

    def _cut_back(self, name: str, file: OpenFile) -> None:
        """Leave nothing at the end of a file of what was never durable."""
        try:
            os.ftruncate(file.descriptor, file.length)
        except OSError as error:
            self._failure = f"cutting {name} back to {file.length} bytes: {error}"

    def _vanished(self, what: str) -> NoReturn:
        """Somebody has taken a file away: what is written there from now on is written nowhere."""
        self._failure = f"{what} while it was open"
        raise FileNotFoundError(errno.ENOENT, self._failure)

    # ---- in one of the background ----------------------------------------------------------------

    def _sync_all(self) -> None:
        for file in self._files.values():
            os.fsync(file.descriptor)
        os.fsync(self._directory.descriptor)

    def _create(self, name: str) -> None:
        file = OpenFile(self._directory.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        with self._naming:
            self._files[name] = file

    def _extend(self, name: str, file: OpenFile, data: bytes) -> None:
        file.synced = False
        try:
            file.write(data, file.length)
        except OSError:
            self._delete([name])
            raise
        file.length += len(data)

    def _sync_file(self, name: str, file: OpenFile) -> None:
        """Not fatal: what the system now believes of this file, nobody will believe."""
        try:
            os.fsync(file.descriptor)
        except OSError:
            self._delete([name])
            raise
        file.synced = True

    def _publish(self, name: str, data: bytes) -> None:
        new_name = name + _NEW
        file = OpenFile(self._directory.open(new_name, os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        try:
            file.write(data, 0)
            os.fsync(file.descriptor)
            file.length = len(data)
            with self._naming:
                self._directory.rename(new_name, name)
                replaced, self._files[name] = self._files.get(name), file
        except BaseException:
            file.let_go()
            with suppress(OSError):
                self._directory.unlink(new_name)
            raise
        if replaced is not None:
            replaced.let_go()
        self._sync_or_fail(self._directory.descriptor)

    def _delete(self, names: Sequence[str]) -> None:
        for name in names:
            with self._naming:
                file = self._files.pop(name, None)
                with suppress(OSError):
                    self._directory.unlink(name)
            if file is not None:
                file.let_go()

    # ---- in one of a read ------------------------------------------------------------------------

    def _read(self, name: str, file: OpenFile, offset: int, room: bytearray) -> int:
        with self._naming:
            # What we have deleted or replaced ourselves since can still be read.
            for each in (name, IDENTITY) if self._files.get(name) is file else ():
                if missing := self._directory.misses(each, self._files[each].descriptor):
                    self._vanished(missing)
        return file.read_into(memoryview(room), offset)


def _is_named(file: OpenFile) -> bool:
    """Whether it is in some directory still, as far as the system can say at once."""
    try:
        return file.has_name
    except OSError:
        return False
