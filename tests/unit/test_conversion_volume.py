"""A volume directory of format 3, converted in place: all of it or nothing, whenever it ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Container, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from random import Random

import pytest

from aurora.conversion import convert_volume
from segments.config import SegmentConfig
from segments.conversion.segment import ConvertedSegment
from segments.conversion.volume import Conversion, LeftOut
from segments.conversion.volume import convert_volume as convert_with_quorums
from segments.disks import VolumeDirectory
from segments.locked_directory import LockedDirectory
from segments.protocol.errors import (
    Corrupt,
    Invalid,
    OtherFormat,
    StorageForbidden,
    StorageFull,
    VolumeLocked,
)
from segments.protocol.ids import SegmentId
from segments.protocol.volume import ProtectionGroup
from segments.restart import plan_restart
from segments.segment_directory import read_unlocked
from tests.old_format import (
    TABLE,
    adopted,
    check_fixture,
    checkpoint,
    frame,
    held,
    images,
    ran,
    unpack_fixture,
    write_volume,
)
from tests.oracles import chained, naive_page

SIX = [f"{member}0" for member in "ABCDEF"]
CHAIN = chained((lsn, lsn % 3, lsn, b"abc") for lsn in range(1, 21))
LOG = b"".join(
    [
        frame([checkpoint(8, 1), images(8, [naive_page(CHAIN, page, 8) for page in range(3)])]),
        frame([held(8), ran(CHAIN[8:15], vdl=15)]),
        frame([held(15), ran(CHAIN[15:], vdl=20)]),
    ]
)
SPOILT = LOG[:-60] + b"rot" + LOG[-57:] + frame([held(20)])


def convert(
    path: Path, told: Callable[[ConvertedSegment | LeftOut], None] = lambda _: None
) -> Conversion:
    return convert_volume(path, Random(1), told)


def small_volume(tmp_path: Path, logs: dict[SegmentId, bytes] | None = None) -> Path:
    path = tmp_path / "v"
    write_volume(path, dict.fromkeys(SIX, LOG) if logs is None else logs)
    return path


def contents(path: Path) -> dict[str, bytes]:
    return {
        each.relative_to(path).as_posix(): each.read_bytes()
        for each in path.rglob("*")
        if each.is_file()
    }


def check_converted(path: Path, *lost: SegmentId) -> None:
    """All of `CHAIN` is in each segment of the volume, and the volume is of the present format."""
    volume = VolumeDirectory.find(path)
    assert volume is not None
    assert (volume.volume_id, volume.geometry.pg_count, volume.geometry.lal) == ("old", 1, 1000)
    for segment, disk in volume.disks().items():
        if segment in lost:
            continue
        files = read_unlocked(disk.directory, disk.identity)
        plan = plan_restart(segment, files, SegmentConfig())
        assert (plan.state.folded, plan.state.scl, plan.state.vdl) == (8, 20, 20), segment
        assert plan.state.whole
        assert plan.state.index.held() == CHAIN[8:]


# ---- a volume that the version before has written ------------------------------------------------


async def test_all_that_could_be_read_can_be(tmp_path: Path) -> None:
    path = unpack_fixture(tmp_path)
    told: list[ConvertedSegment | LeftOut] = []
    done = convert(path, told.append)
    assert done.left_out == ()
    assert list(done.converted) == told
    assert [each.segment for each in done.converted] == [*SIX, *(f"{m}1" for m in "ABCDEF")]
    assert all(each.pages and each.records and each.whole for each in done.converted)
    names = {name.rpartition("/")[2] for name in contents(path)}
    assert names == {"volume.json", "identity", "promise", "manifest", "layer-1", "wal-2"}
    await check_fixture(path, read_only=True)
    await check_fixture(path, every=4)
    await check_fixture(path, every=4)  # and when a writer of this version has worked with it


async def test_two_disks_fewer_are_enough(tmp_path: Path) -> None:
    path = unpack_fixture(tmp_path)
    for segment in ("A0", "D0", "E1"):
        (path / segment / "log").unlink()
    log = (path / "F1" / "log").read_bytes()
    (path / "F1" / "log").write_bytes(log[:100] + b"rot" + log[103:])
    done = convert(path)
    assert [each.segment for each in done.left_out] == ["A0", "D0", "E1"]
    assert [each.segment for each in done.converted if not each.whole] == ["F1"]
    await check_fixture(path, every=4)


# ---- what is refused -----------------------------------------------------------------------------


def test_a_volume_of_the_old_format_names_the_command(tmp_path: Path) -> None:
    path = small_volume(tmp_path)
    before = contents(path)
    with pytest.raises(OtherFormat, match=rf"format 3: .*python -m aurora convert {path} converts"):
        VolumeDirectory.find(path)
    assert contents(path) == before


def test_what_is_no_volume_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="holds no volume: expected one to convert"):
        convert(tmp_path)
    with pytest.raises(Invalid, match="holds no volume"):
        convert(tmp_path / "missing")


@pytest.mark.parametrize("others", [["B0", "D0"], ["F0", "D0"]])
def test_with_three_of_six_lost_nothing_is_changed(tmp_path: Path, others: list[SegmentId]) -> None:
    """However they are lost."""
    path = small_volume(tmp_path, {each: LOG for each in SIX if each != "C0"})
    first, second = others
    (path / first / "promise").write_bytes(b"")
    (path / second / "log").write_bytes(b"")
    before = contents(path)
    with pytest.raises(Corrupt, match=r"group 0: .* write quorum of whole segments") as e:
        convert(path)
    assert all(f"{each} is lost" in str(e.value) for each in ("C0", *others))
    assert contents(path) == before


def test_too_many_damaged_are_for_the_old_version_to_heal(tmp_path: Path) -> None:
    path = small_volume(tmp_path, {each: SPOILT if each in "A0 B0 F0" else LOG for each in SIX})
    before = contents(path)
    with pytest.raises(Corrupt, match=r"A0 is damaged .*; B0 is damaged .*; F0 is damaged"):
        convert(path)
    assert contents(path) == before


def test_two_damaged_are_converted_as_they_are(tmp_path: Path) -> None:
    path = small_volume(tmp_path, {each: SPOILT if each in "A0 B0" else LOG for each in SIX})
    done = convert(path)
    assert [each.segment for each in done.converted if not each.whole] == ["A0", "B0"]
    check_converted(path, "A0", "B0")


def test_a_segment_of_another_volume_is_lost_and_left_alone(tmp_path: Path) -> None:
    path = small_volume(tmp_path)
    (path / "B0").rename(tmp_path / "other")
    (path / "A0").rename(path / "B0")
    (tmp_path / "other").rename(path / "A0")
    before = contents(path)
    done = convert(path)
    assert [each.segment for each in done.left_out] == ["A0", "B0"]
    after = contents(path)
    for name in [each for each in before if each.startswith(("A0", "B0"))]:
        assert after[name] == before[name]
    check_converted(path, "A0", "B0")


@pytest.mark.parametrize("place", ["", "D0"])
def test_nobody_may_have_it_open(tmp_path: Path, place: str) -> None:
    path = small_volume(tmp_path)
    before = contents(path)
    with closing(LockedDirectory(path / place)), pytest.raises(VolumeLocked):
        convert(path)
    assert contents(path) == before
    convert(path)
    check_converted(path)


def test_nobody_can_open_it_meanwhile(tmp_path: Path) -> None:
    path = small_volume(tmp_path)

    def told(_: object) -> None:
        for place in ("", *SIX):
            with pytest.raises(VolumeLocked):
                LockedDirectory(path / place)

    convert(path, told)


def test_each_group_needs_a_quorum(tmp_path: Path) -> None:
    """What a quorum is, who knows of them says."""
    asked: list[tuple[int, list[SegmentId]]] = []
    log = frame([adopted(TABLE)])
    path = tmp_path / "v"
    write_volume(path, dict.fromkeys([*SIX, *(f"{m}1" for m in "ABCDE")], log), pg_count=2)

    def has_write(group: ProtectionGroup, segments: Container[SegmentId]) -> bool:
        found = [f"{m}{pg}" for pg in "01" for m in "ABCDEF" if f"{m}{pg}" in segments]
        asked.append((group.pg_id, found))
        return len(found) == 6

    with pytest.raises(Corrupt, match="group 1: F1 is lost"):
        convert_with_quorums(path, Random(1), has_write, lambda _: None)
    assert asked[-1] == (1, ["A1", "B1", "C1", "D1", "E1"])


@pytest.mark.parametrize(("error", "kind"), [(28, StorageFull), (13, StorageForbidden)])
def test_a_disk_that_refuses_leaves_the_volume_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, kind: type[Exception]
) -> None:
    path = small_volume(tmp_path)
    before = contents(path)
    calls = 0

    def fsync(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(kind, match="v cannot be converted"):
            convert(path)
    assert contents(path) == before


# ---- whenever it ends ----------------------------------------------------------------------------


class Died(BaseException):
    """The process is no more: nothing it does any more has an effect."""


class Power:
    """What of a volume is durable, and when the process on it ends: before a step of so many."""

    def __init__(self, path: Path, last_step: int) -> None:
        self.steps = 0
        self._last_step = last_step
        self._directories = {
            each.stat().st_ino: each for each in (path, *path.iterdir()) if each.is_dir()
        }
        self._names: dict[Path, dict[str, int]] = {}
        self._contents: dict[int, bytes] = {}
        self._victims: list[int] = []  # open, so that no new file takes a number that has a meaning
        for directory in self._directories.values():
            self._names[directory] = self._names_in(directory)
            for each in directory.iterdir():
                if each.is_file():
                    self._contents[each.stat().st_ino] = each.read_bytes()

    @staticmethod
    def _names_in(directory: Path) -> dict[str, int]:
        return {each.name: each.stat().st_ino for each in directory.iterdir() if each.is_file()}

    def step(self) -> None:
        if self.steps == self._last_step:
            raise Died
        self.steps += 1

    def loses(self, file: Path) -> None:
        """Its name leads to nothing, or elsewhere, from now on."""
        if file.exists():
            self._victims.append(os.open(file, os.O_RDONLY))

    def synced(self, descriptor: int) -> None:
        number = os.fstat(descriptor).st_ino
        if (directory := self._directories.get(number)) is not None:
            self._names[directory] = self._names_in(directory)
        else:
            self._contents[number] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def end(self, *, loses_unsynced: bool) -> None:
        """The process is gone; if the machine is, too, only what is durable is left."""
        for each in self._victims:
            os.close(each)
        for directory, names in self._names.items() if loses_unsynced else ():
            for file in [each for each in directory.iterdir() if each.is_file()]:
                file.unlink()
            for name, number in names.items():
                (directory / name).write_bytes(self._contents.get(number, b""))


@contextmanager
def watched(power: Power) -> Iterator[None]:
    """The operations by which a conversion changes the disk are steps of ``power``."""
    opens, rename, unlink = LockedDirectory.open, LockedDirectory.rename, LockedDirectory.unlink
    write = os.pwrite

    def watched_open(self: LockedDirectory, name: str, flags: int) -> int:
        if flags & os.O_CREAT:
            power.step()
        return opens(self, name, flags)

    def watched_rename(self: LockedDirectory, name: str, new_name: str) -> None:
        power.step()
        power.loses(self.path / new_name)
        rename(self, name, new_name)

    def watched_unlink(self: LockedDirectory, name: str) -> None:
        power.step()
        power.loses(self.path / name)
        unlink(self, name)

    def watched_fsync(descriptor: int) -> None:
        power.step()
        power.synced(descriptor)  # no real one, which takes its time

    def watched_write(descriptor: int, data: bytes, offset: int) -> int:
        power.step()
        return write(descriptor, data, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LockedDirectory, "open", watched_open)
        patch.setattr(LockedDirectory, "rename", watched_rename)
        patch.setattr(LockedDirectory, "unlink", watched_unlink)
        patch.setattr(os, "fsync", watched_fsync)
        patch.setattr(os, "pwrite", watched_write)
        yield


def is_converted(path: Path) -> bool:
    try:
        return VolumeDirectory.find(path) is not None
    except OtherFormat:
        return False


@pytest.mark.parametrize("loses_unsynced", [False, True])
def test_there_is_the_old_volume_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, loses_unsynced: bool
) -> None:
    """A process, or the machine, ends before each step.

    One segment has lost its log since an attempt that has come as far as to its manifest.
    """
    monkeypatch.setattr(os, "fsync", lambda _: None)
    attempt = small_volume(tmp_path)
    convert(attempt)
    outcomes: list[bool] = []
    for last_step in count():
        path = tmp_path / str(last_step)
        write_volume(path, dict.fromkeys(SIX, LOG))
        (path / "E0" / "log").unlink()
        before = contents(path)
        shutil.copytree(attempt / "E0", path / "E0", dirs_exist_ok=True)
        power = Power(path, last_step)
        try:
            with watched(power):
                convert(path)
        except Died:
            power.end(loses_unsynced=loses_unsynced)
        else:
            power.end(loses_unsynced=False)
            break
        outcomes.append(is_converted(path))
        if outcomes[-1]:
            check_converted(path, "E0")
            assert not (path / "E0" / "manifest").exists()
        else:
            after = contents(path)
            assert {name: after.get(name) for name in before} == before, last_step
        convert(path)
        check_converted(path, "E0")
        assert len(contents(path)) == 1 + 5 * 5 + 2, (
            "old logs, and what attempts have left, are gone"
        )
        shutil.rmtree(path)
    assert outcomes == sorted(outcomes), "never back"
    assert outcomes.count(False) > 50
    assert outcomes.count(True) >= 10


def test_what_an_attempt_has_left_is_not_believed(tmp_path: Path) -> None:
    """The old version has gone on with the volume since, and then a segment was lost."""
    path = small_volume(tmp_path, dict.fromkeys(SIX, frame([adopted(TABLE)])))
    attempt = small_volume_of(tmp_path / "attempt", path)
    convert(attempt)
    for segment in SIX:
        for name in ("manifest", "wal-2"):
            (path / segment / name).write_bytes((attempt / segment / name).read_bytes())
        (path / segment / "layer-7").write_bytes(b"from another attempt")
        (path / segment / "log").write_bytes(LOG)
    (path / "C0" / "log").unlink()
    convert(path)
    check_converted(path, "C0")
    assert set(contents(path / "C0")) == {"identity", "promise"}
    assert len(contents(path)) == 1 + 5 * 5 + 2


def small_volume_of(path: Path, other: Path) -> Path:
    shutil.copytree(other, path)
    return path


def test_a_converted_volume_is_left_as_it_is(tmp_path: Path) -> None:
    path = small_volume(tmp_path)
    convert(path)
    before = contents(path)
    assert convert(path) == Conversion((), ())
    assert contents(path) == before


def test_what_cannot_be_removed_is_removed_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_volume(tmp_path)
    with monkeypatch.context() as patch:

        def unlink(_: LockedDirectory, name: str) -> None:
            raise PermissionError(13, "no", name)

        patch.setattr(LockedDirectory, "unlink", unlink)
        convert(path)
    assert (path / "A0" / "log").exists()
    convert(path)
    assert not (path / "A0" / "log").exists()
    check_converted(path)
