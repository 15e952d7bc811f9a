"""A database, as of any moment, becomes a plain SQLite file.

Pages are the same on the volume and in a file, so they are only copied. The file is whole or not
there: it is written under another name, synced, and then given its own.

Until then it is in a folder of its own beside the target: in the same file system, under nobody
else's name. Who writes there holds the folder's lock, which ends with its process; so the next
export can tell what one that was killed has left, and removes it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO, Final

from aurora.arguments import path_of
from aurora.sqlite.header import HEADER_PAGE, size_pages
from aurora.sqlite.history import CommitInfo, commit_at, commit_of
from aurora.sqlite.moments import Moment
from aurora.sqlite.source_file import Progress, check_no_journal, new_database
from aurora.sqlite.volume import Volume
from segments.locked_directory import LockedDirectory
from segments.protocol.errors import FileInTheWay, VolumeLocked
from segments.protocol.record import PAGE_SIZE

_PREFIX: Final = ".aurora-export-"
_PART_NAME: Final = "part"
_PART: Final = 64
"""Pages asked for together."""
_SYNCED: Final = 8 * _PART
"""Pages after which the file is synced: all at once would hold everyone up at the end."""


async def export_file(
    volume: Volume,
    path: str | PathLike[str],
    *,
    at: Moment | None,
    replace: bool,
    progress: Progress | None,
) -> CommitInfo | None:
    """As `Database.export`."""
    target = path_of("path", path)
    _check_target(target, replace)
    async with AsyncExitStack() as stack:
        if at is None:
            read_point = stack.enter_context(volume.held())
            commit = await commit_at(volume, read_point)
        else:
            commit = await commit_of(volume, at)
            read_point = stack.enter_context(volume.held(commit.lsn))
        with _named(target):
            _remove_left_behind(target.parent)
            part = stack.enter_context(_own_folder(target.parent)) / _PART_NAME
            file = stack.enter_context(part.open("wb"))
        if commit is None:
            _write(file, target, [new_database()])
        else:
            (header,) = await volume.fetch([HEADER_PAGE], read_point)
            pages = size_pages(header)
            for first in range(HEADER_PAGE, pages + 1, _PART):
                asked = range(first, min(first + _PART, pages + 1))
                images = await volume.fetch(asked, read_point)
                _write(file, target, images, sync=first % _SYNCED == HEADER_PAGE)
                if progress is not None:
                    progress("writing", asked[-1], pages)
            assert file.tell() == pages * PAGE_SIZE
        with _named(target):
            _publish(file, part, target, replace)
    return commit


@contextmanager
def _own_folder(parent: Path) -> Iterator[Path]:
    """A new folder with its lock, removed afterwards."""
    while True:
        name = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
        # Before it is locked, somebody may take it for one that was left behind.
        with suppress(VolumeLocked, FileNotFoundError):
            folder = LockedDirectory(Path(name))
            if os.fstat(folder.descriptor).st_nlink:
                break
            folder.close()
    with closing(folder):
        try:
            yield folder.path
        finally:
            _remove(folder.path)


def _remove_left_behind(parent: Path) -> None:
    """Remove the folders that nobody has locked; what cannot be removed stays."""
    for path in parent.glob(f"{_PREFIX}*"):
        if path.is_symlink():
            continue  # not made by any export: what it leads to is somebody else's
        with suppress(VolumeLocked, OSError), closing(LockedDirectory(path)):
            _remove(path)


def _remove(folder: Path) -> None:
    (folder / _PART_NAME).unlink(missing_ok=True)
    folder.rmdir()


@contextmanager
def _named(target: Path) -> Iterator[None]:
    """Have the system's errors name what was asked for, and not what it is written as."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error


def _write(file: BinaryIO, target: Path, images: Iterable[bytes], *, sync: bool = False) -> None:
    with _named(target):
        file.write(b"".join(images))
        if sync:
            _sync(file)


def _check_target(path: Path, replace: bool) -> None:
    if path.exists() and not path.is_file():
        raise FileInTheWay(f"{path} is there already, and no file: expected a name that is free")
    if path.exists() and not replace:
        raise _in_the_way(path)
    check_no_journal(path)


def _in_the_way(path: Path) -> FileInTheWay:
    return FileInTheWay(
        f"{path} is there already: expected a name that is free, or --force, which replaces it "
        "(in a program replace=True)"
    )


def _publish(file: BinaryIO, part: Path, path: Path, replace: bool) -> None:
    """Give the file its name, once all of it is on disk."""
    _sync(file)
    if replace:
        part.replace(path)
    else:
        _link(part, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _link(part: Path, path: Path) -> None:
    """Give it the name unless somebody has taken that meanwhile."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise _in_the_way(path) from None
    except OSError:  # a file system without hard links
        part.rename(path)
