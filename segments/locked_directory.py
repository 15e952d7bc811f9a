"""The directory of one segment, locked: all in it is reached through its descriptor.

A path says where a directory was when somebody last looked. If it is moved while it is open, and
another one is made in its place, whoever goes by the path writes into what is not theirs. So the
path serves to open a directory and to name it in messages, and for nothing else.

A directory is locked by ``flock`` on itself. Such a lock belongs to one opening of the file, hence
also shuts out a second opening by the same process, and ends with the process, as a forked child
closes it (`segments.forks`). POSIX systems only.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from segments.forks import close_in_children
from segments.protocol.errors import VolumeLocked

_CLOSED: Final = -1


class OpenDirectory:
    """A directory that is open, and not locked. All calls may raise `OSError`."""

    def __init__(self, path: Path, seen_from: int | None = None) -> None:
        """Open it: what ``path`` leads to, or what another descriptor has open already."""
        self.path = path
        self._descriptor = os.open(
            path if seen_from is None else ".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=seen_from
        )

    def __str__(self) -> str:
        return str(self.path)

    def close(self) -> None:
        """Give it back; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, _CLOSED
        if descriptor != _CLOSED:
            os.close(descriptor)

    def opened_again(self) -> OpenDirectory:
        """The same directory, wherever it is by now, open once more and not locked by that."""
        return OpenDirectory(self.path, seen_from=self._descriptor)

    def names(self) -> list[str]:
        """Everything in it, in order."""
        return sorted(os.listdir(self._descriptor))  # noqa: PTH208 - there is no path

    def open(self, name: str, flags: int) -> int:
        """The descriptor of a file in it."""
        return os.open(name, flags, 0o666, dir_fd=self._descriptor)

    def read(self, name: str) -> bytes:
        """All bytes of a file in it."""
        with os.fdopen(self.open(name, os.O_RDONLY), "rb") as file:
            return file.read()

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name, in place of what had that before."""
        os.replace(name, new_name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def link(self, name: str, source: OpenDirectory) -> None:
        """Give a file of ``source``, of this name, the same name here as well."""
        descriptors = {"src_dir_fd": source.descriptor, "dst_dir_fd": self._descriptor}
        os.link(name, name, follow_symlinks=False, **descriptors)

    def publish(self, name: str, data: bytes) -> None:
        """Make a file consist of ``data``, durably; after a crash it is wholly old or new."""
        new_name = name + ".new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(self.open(new_name, flags), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.rename(new_name, name)
        os.fsync(self._descriptor)

    @property
    def descriptor(self) -> int:
        """To be synced: then its names last."""
        return self._descriptor


class LockedDirectory(OpenDirectory):
    """An open directory that nobody else has open in this way. All calls may raise `OSError`."""

    def __init__(self, path: Path) -> None:
        """Open and lock it; raises `VolumeLocked` if somebody else has it, here or elsewhere."""
        super().__init__(path)
        close_in_children(self)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise VolumeLocked(f"{path} is open already, here or in another process") from None
        except OSError:
            self.close()
            raise

    def close_in_child(self) -> None:
        self.close()

    def unlink(self, name: str) -> None:
        """Remove a file, if there is one of this name."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def misses(self, name: str, file: int) -> str:
        """Why ``file``, opened as ``name``, is no longer what stands there; empty if it is."""
        opened = os.fstat(file)
        try:
            found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return f"{name} has been deleted"
        if (found.st_dev, found.st_ino) != (opened.st_dev, opened.st_ino):
            return f"{name} has been replaced by another file"
        return ""
