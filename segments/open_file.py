"""A file that is open, and used from several threads: its descriptor, and how it is written.

A descriptor that is closed while a system call still uses its number may be another file's by then.
So users are counted, whoever opened it among them, and the last of them closes it.
"""

from __future__ import annotations

import errno
import os
from threading import Lock
from typing import Final

from segments.forks import close_in_children

_CLOSED: Final = -1
_DURABLY: Final[int] = getattr(os, "RWF_DSYNC", 0)
"""Has `os.pwritev` make durable what it writes; 0 where Python knows of no such thing."""
_WITHOUT_WAITING: Final[int] = getattr(os, "RWF_NOWAIT", 0)
"""Has `os.preadv` read nothing that is not in memory; 0 where Python knows of no such thing."""
_NOT_KNOWN: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})
"""What a system or a file system says that knows of none, all the same."""
_NOT_BEGUN: Final = frozenset({errno.EINVAL, errno.EAGAIN, errno.ECANCELED})
"""What a ring of writes (`segments.io_ring`) says where nothing has been tried."""


class NotSynced(OSError):
    """Bytes were written and may not be durable, whatever a second try would say."""


class OpenFile:
    """A descriptor with users: one from the beginning, who opened it. All may raise `OSError`."""

    def __init__(self, descriptor: int) -> None:
        """Take over ``descriptor``."""
        self.descriptor = descriptor
        self.length = os.fstat(descriptor).st_size
        """Bytes from its start that its user counts as there."""
        self.synced = True
        """Whether it was not extended since it was synced last."""
        self.syncs_by_writing = _DURABLY != 0
        """Whether one call of the system writes and syncs."""
        self._reads_memory = _WITHOUT_WAITING != 0
        self._users = 1
        self._counting = Lock()
        close_in_children(self)

    def use(self) -> bool:
        """One user more, unless the last one has gone: whether there is."""
        with self._counting:
            self._users += self._users > 0
            return self._users > 0

    def let_go(self) -> None:
        """One user less; the last one closes it."""
        with self._counting:
            self._users -= 1
            if self._users == 0:
                self._close()

    def close_in_child(self) -> None:
        self._close()  # without the lock: a thread that held it does not exist here

    def _close(self) -> None:
        descriptor, self.descriptor = self.descriptor, _CLOSED
        if descriptor != _CLOSED:
            os.close(descriptor)

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of it, into the cache of the system."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self.descriptor, rest, offset)
            rest, offset = rest[written:], offset + written

    def write_durably(self, data: bytes, offset: int, tried: int = 0) -> int:
        """Write at the end of the file, and sync, by one call of the system if it has that.

        ``tried``: what has become of a first try, as the system says it: bytes, or an error below
        0. Returns how much of ``data`` is durable: less than all where there is no such call.
        Raises `NotSynced` if the sync failed: a write that fails comes before it, and leaves the
        file as long as it was.
        """
        done, size = max(tried, 0), len(data)
        refused = -tried if tried < 0 and -tried not in _NOT_BEGUN else 0
        while done < size and self.syncs_by_writing:
            rest = data[done:] if done else data  # all of it at once, as nearly always
            try:
                if refused:
                    raise OSError(refused, os.strerror(refused))
                done += os.pwritev(self.descriptor, (rest,), offset + done, _DURABLY)
            except OSError as error:
                if error.errno in _NOT_KNOWN:
                    self.syncs_by_writing = False
                    break
                if os.fstat(self.descriptor).st_size != offset + done:
                    raise NotSynced(*error.args) from error
                raise
        return done

    @property
    def has_name(self) -> bool:
        """Whether it is in some directory still."""
        return os.fstat(self.descriptor).st_nlink > 0

    def in_memory(self, offset: int, length: int) -> bytes | None:
        """``length`` bytes from ``offset`` on, if the system has all of them in its cache."""
        if not self._reads_memory:
            return None
        room = bytearray(length)
        try:
            read = os.preadv(self.descriptor, (room,), offset, _WITHOUT_WAITING)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _NOT_KNOWN:
                self._reads_memory = False
            return None  # whoever reads it from the disk will be told
        return bytes(room) if read == length else None

    def read_into(self, room: memoryview, offset: int) -> int:
        """Fill ``room`` from ``offset`` on, from the disk itself where the cache is clean.

        Returns how many bytes that were: fewer where the file ends.
        """
        file, done = self.descriptor, 0
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file, offset, len(room), os.POSIX_FADV_DONTNEED)
        while room[done:] and (count := os.preadv(file, [room[done:]], offset + done)):
            done += count
        return done
