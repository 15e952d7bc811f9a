"""A volume directory of format 3 becomes one of this version's: the shell of the conversion.

Each segment's new files are written beside its old log, which stays as it is. While ``volume.json``
is the old one they are nobody's, and what they are is never looked at: an attempt that has not
come to its end is begun anew. When all of them are durable, ``volume.json`` is replaced, which is
the one step that counts; then the old logs go. So a crash leaves the old volume or the new one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

import attrs

from segments.conversion.segment import ConvertedSegment, convert_job
from segments.disks import CONVERTIBLE, VolumeDirectory
from segments.layers.job import Create, Extend, Op, SyncFile, finished
from segments.locked_directory import LockedDirectory
from segments.manifest import MANIFEST, PROMISE, SALT_BITS, is_ours
from segments.open_file import OpenFile
from segments.protocol.errors import Corrupt, Invalid, OtherFormat, SegmentLost
from segments.protocol.ids import SegmentId
from segments.protocol.refusal import storage_error
from segments.protocol.volume import ProtectionGroup
from segments.segment_directory import check_belongs, check_is_there

_LOG: Final = "log"
_OLD_NAMES: Final = (_LOG, "log.new")


@attrs.frozen
class LeftOut:
    """A segment that is lost: the new volume begins without it."""

    segment: SegmentId
    why: str


Told: TypeAlias = Callable[[ConvertedSegment | LeftOut], None]
"""Is told of each segment as soon as its outcome is known."""

HasWrite: TypeAlias = Callable[[ProtectionGroup, Container[SegmentId]], bool]
"""Whether these segments make a write quorum of a group."""

_Locked: TypeAlias = Mapping[SegmentId, LockedDirectory | LeftOut]


@attrs.frozen
class Conversion:
    """What has become of a volume."""

    converted: tuple[ConvertedSegment, ...]
    """Empty if the volume was of this version's format already."""
    left_out: tuple[LeftOut, ...]


def convert_volume(path: Path, random: Random, has_write: HasWrite, told: Told) -> Conversion:
    """Convert the volume at ``path``; of one that is converted already, remove old logs.

    ``random`` draws the salts of the new logs. Raises `Invalid` if there is no volume,
    `OtherFormat` if it is of a format that cannot be converted, `VolumeLocked` if somebody has it
    open, `Corrupt` if too many segments are lost or damaged, `StorageFailed` if the disk refuses.
    In all these cases the volume is what it was; if the disk refuses the last step, it may be
    converted.
    """
    _find(path)
    try:
        with ExitStack() as stack:
            directory = stack.enter_context(closing(LockedDirectory(path)))
            volume, is_old = _find(path)
            locked = _lock(volume, stack)
            if not is_old:
                _remove_old(locked)
                return Conversion((), ())
            outcome = _convert(volume, locked, random, has_write, told)
            volume.replace_manifest(directory)
            _remove_old(locked)
            return outcome
    except OSError as error:
        raise storage_error(f"{path} cannot be converted", error) from error


def _find(path: Path) -> tuple[VolumeDirectory, bool]:
    """The volume at ``path``, and whether it is to be converted."""
    try:
        volume, is_old = VolumeDirectory.find(path), False
    except OtherFormat:
        volume, is_old = VolumeDirectory.find(path, CONVERTIBLE), True
    if volume is None:
        raise Invalid(f"{path} holds no volume: expected one to convert")
    return volume, is_old


def _lock(volume: VolumeDirectory, stack: ExitStack) -> _Locked:
    """The directory of each segment, locked as by a writer; or why it is lost."""
    locked: dict[SegmentId, LockedDirectory | LeftOut] = {}
    for segment, disk in volume.disks().items():
        try:
            check_is_there(disk.directory, disk.identity)
            with disk.naming_volume():
                directory = stack.enter_context(closing(LockedDirectory(disk.directory)))
            check_belongs(directory, disk.identity)
            locked[segment] = directory
        except SegmentLost as error:
            locked[segment] = LeftOut(segment, str(error))
    return locked


# ---- before the step that counts -----------------------------------------------------------------


def _convert(
    volume: VolumeDirectory, locked: _Locked, random: Random, has_write: HasWrite, told: Told
) -> Conversion:
    """Write the new files of all segments, durably."""
    try:
        outcomes: dict[SegmentId, ConvertedSegment | LeftOut] = {}
        for segment, directory in locked.items():
            outcome = (
                directory
                if isinstance(directory, LeftOut)
                else _convert_segment(segment, directory, random.getrandbits(SALT_BITS))
            )
            outcomes[segment] = outcome
            told(outcome)
            _check_quorums(volume, outcomes, has_write)
    except BaseException:
        for directory in _directories(locked):
            with suppress(OSError):
                _clear(directory)
        raise
    found = outcomes.values()
    return Conversion(
        tuple([each for each in found if isinstance(each, ConvertedSegment)]),
        tuple([each for each in found if isinstance(each, LeftOut)]),
    )


def _check_quorums(
    volume: VolumeDirectory,
    outcomes: Mapping[SegmentId, ConvertedSegment | LeftOut],
    has_write: HasWrite,
) -> None:
    """Raise `Corrupt` if too few of a group have all that they ever acknowledged.

    The version that wrote the volume can heal damage, and read what three segments still hold.
    """
    missing = {each: why for each, found in outcomes.items() if (why := _misses(found))}
    for group in volume.geometry.groups():
        if not has_write(group, [each for each in group.members if each not in missing]):
            reasons = "; ".join(missing[each] for each in group.members if each in missing)
            raise Corrupt(
                f"{volume.path}, group {group.pg_id}: {reasons}: expected a write quorum of whole "
                "segments. Nothing has been changed: open the volume with the version that wrote "
                "it, where peers heal what is damaged; or read it there, if segments are lost"
            )


def _misses(outcome: ConvertedSegment | LeftOut) -> str:
    """Why a segment does not have all that it acknowledged; empty if it has."""
    if isinstance(outcome, LeftOut):
        return f"{outcome.segment} is lost ({outcome.why})"
    if outcome.whole:
        return ""
    return f"{outcome.segment} is damaged ({outcome.damaged_bytes} bytes of its log)"


def _convert_segment(
    segment: SegmentId, directory: LockedDirectory, salt: int
) -> ConvertedSegment | LeftOut:
    _clear(directory)
    try:
        if _LOG not in directory.names():
            raise SegmentLost(f"segment {segment} has lost its log: no file {_LOG}: expected it")
        job = convert_job(segment, directory.read(_LOG), directory.read(PROMISE), salt)
        with closing(_Files(directory)) as files:
            outcome = finished(job, files.execute)
    except SegmentLost as error:
        return LeftOut(segment, str(error))
    directory.publish(MANIFEST, outcome.manifest)  # syncs all names
    return outcome.converted


def _clear(directory: LockedDirectory) -> None:
    """Remove, durably, what an attempt has left: no manifest may stand beside an old log."""
    left = [name for name in directory.names() if is_ours(name) and name != PROMISE]
    for name in left:
        directory.unlink(name)
    if left:
        os.fsync(directory.descriptor)


class _Files:
    """Carries out the operations of a job that writes one new file after the other."""

    def __init__(self, directory: LockedDirectory) -> None:
        self._directory = directory
        self._file: OpenFile | None = None

    def execute(self, op: Op) -> None:
        """All may raise `OSError`."""
        match op:
            case Create(name):
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
                self._file = OpenFile(self._directory.open(name, flags))
            case Extend(_, data):
                file = self._open_file
                file.write(data, file.length)
                file.length += len(data)
            case SyncFile():
                os.fsync(self._open_file.descriptor)
                self.close()
            case _:
                raise AssertionError(f"{op}: expected a job that only makes files")

    @property
    def _open_file(self) -> OpenFile:
        assert self._file is not None, "no file has been created"
        return self._file

    def close(self) -> None:
        """Let go of a file that has not been finished."""
        if self._file is not None:
            self._file.let_go()
            self._file = None


# ---- and behind it -------------------------------------------------------------------------------


def _remove_old(locked: _Locked) -> None:
    """Remove old logs, and what the old version was writing; of a lost segment, nothing.

    What cannot be removed takes space and is in nobody's way: the next conversion removes it.
    """
    for directory in _directories(locked):
        with suppress(OSError):
            if MANIFEST in directory.names():
                for name in _OLD_NAMES:
                    directory.unlink(name)


def _directories(locked: _Locked) -> Iterable[LockedDirectory]:
    return (each for each in locked.values() if isinstance(each, LockedDirectory))
