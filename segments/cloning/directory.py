"""The directory of a clone, while it is made. A shell: all it does is input and output.

As with a new volume, a marker is put up first, and becomes ``volume.json`` when all else is
durable: so there is never half a clone that opens. But what is left of an unfinished one is not
taken for the beginnings of a new, empty volume: its marker has another name, and whoever opens the
directory is told so. The next clone into it clears it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Final

import attrs

from segments.cloning.cut import Cut, CutFiles, Genesis
from segments.disks import VolumeDirectory
from segments.layers.layer import Layer
from segments.locked_directory import LockedDirectory, OpenDirectory
from segments.open_file import OpenFile
from segments.protocol.errors import DamagedLayer, NotShareable, StorageFailed
from segments.protocol.ids import SegmentId
from segments.protocol.refusal import storage_error
from segments.segment_directory import IDENTITY, encode_identity
from segments.storage import Identity

_COPIED_BYTES: Final = 1 << 20
"""Of a layer that is copied, at a time."""

_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL

_REASONS: Final = {
    errno.EXDEV: "they are on different file systems",
    errno.EMLINK: "it has as many names as the file system allows",
    errno.EPERM: "the file system, or its owner, does not allow it",
    errno.EOPNOTSUPP: "the file system knows of no second names",
}


@attrs.frozen
class Written:
    """What one segment of a clone takes."""

    shared_bytes: int
    """In files that it has in common with the segment that it comes from."""
    own_bytes: int


class CloneDirectory:
    """An unfinished clone, locked. Calls raise `StorageFailed` if the disk refuses."""

    def __init__(self, volume: VolumeDirectory) -> None:
        """Clear the way for ``volume``, and lock it.

        Its directory is missing or empty, or holds an unfinished clone. Raises `Invalid` if it
        holds something else, `VolumeLocked` if somebody else makes a volume there.
        """
        self._volume = volume
        try:
            volume.make_place()
            self._locked = LockedDirectory(volume.path)
            try:
                volume.begin_clone()
            except BaseException:
                self._locked.close()
                raise
        except OSError as error:
            raise self._refused(error) from error

    def write_segment(
        self, segment: SegmentId, cut: Cut, genesis: Genesis, salt: int,
        source: OpenDirectory | None, *, copy: bool,
    ) -> Written:  # fmt: skip
        """Make a segment of ``cut``, whose layers are in ``source``, anew if it is there.

        Raises `NotShareable` if they cannot have second names; with ``copy`` they are copied.
        `SpoiltRun` and `DamagedLayer` say that the source is damaged.
        """
        path = self._volume.path / segment
        files = CutFiles(cut, genesis, salt)
        try:
            if path.exists():
                shutil.rmtree(path)
            path.mkdir()
            with closing(LockedDirectory(path)) as directory:
                for layer in cut.layers:
                    assert source is not None
                    (_copied if copy else _linked)(layer, source, directory)
                own_bytes = _write_log(files, directory)
                others = files.others()
                others[IDENTITY] = encode_identity(Identity(self._volume.volume_id, segment))
                for name, data in others.items():
                    own_bytes += len(data)
                    _write(directory, name, data)
                os.fsync(directory.descriptor)
        except OSError as error:
            raise self._refused(error) from error
        return (
            Written(0, own_bytes + cut.shared_bytes)
            if copy
            else Written(cut.shared_bytes, own_bytes)
        )

    def finish(self) -> None:
        """Make it a volume, in one step, when all of it is durable."""
        try:
            self._volume.finish_clone()
        except OSError as error:
            raise self._refused(error) from error

    def abandon(self) -> None:
        """Remove what there is of it, as far as the disk lets us; the marker goes last."""
        with suppress(OSError):
            self._volume.abandon_clone()

    def close(self) -> None:
        """Unlock it."""
        self._locked.close()

    def _refused(self, error: OSError) -> StorageFailed:
        return storage_error(f"{self._volume.path} cannot be made a clone", error)


def _linked(layer: Layer, source: OpenDirectory, directory: LockedDirectory) -> None:
    """Give a layer's file a second name."""
    try:
        directory.link(layer.name, source)
    except FileNotFoundError:
        raise DamagedLayer(layer.number, "is gone: expected it to be shared") from None
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        raise NotShareable(
            f"{source}/{layer.name} cannot be shared with {directory}: "
            f"{_REASONS[error.errno]} ({os.strerror(error.errno)}): expected a directory on the "
            "same file system, or copy=True (--copy), which copies layers"
        ) from error
    _check_length(layer, os.stat(layer.name, dir_fd=directory.descriptor).st_size)


def _copied(layer: Layer, source: OpenDirectory, directory: LockedDirectory) -> None:
    try:
        descriptor = source.open(layer.name, os.O_RDONLY)
    except FileNotFoundError:
        raise DamagedLayer(layer.number, "is gone: expected it to be copied") from None
    with os.fdopen(descriptor, "rb", buffering=0) as file, _new_file(directory, layer.name) as copy:
        length = 0
        while data := file.read(_COPIED_BYTES):
            copy.write(data, length)
            length += len(data)
        os.fsync(copy.descriptor)
    _check_length(layer, length)


def _check_length(layer: Layer, found: int) -> None:
    if found != layer.length:
        raise DamagedLayer(layer.number, f"has {found} bytes: expected {layer.length}")


def _write_log(files: CutFiles, directory: LockedDirectory) -> int:
    length = 0
    with _new_file(directory, files.log_name) as log:
        for frame in files.log():
            log.write(frame, length)
            length += len(frame)
        os.fsync(log.descriptor)
    return length


def _write(directory: LockedDirectory, name: str, data: bytes) -> None:
    with _new_file(directory, name) as file:
        file.write(data, 0)
        os.fsync(file.descriptor)


@contextmanager
def _new_file(directory: LockedDirectory, name: str) -> Iterator[OpenFile]:
    """A new file, closed behind the block."""
    file = OpenFile(directory.open(name, _NEW))
    try:
        yield file
    finally:
        file.let_go()
