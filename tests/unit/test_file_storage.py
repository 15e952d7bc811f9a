"""The directory of a segment: whose it is, who has it open, and what failures leave behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from segments import file_storage
from segments.file_storage import FileStorage
from segments.open_file import OpenFile
from segments.protocol.errors import (
    Closed,
    Invalid,
    SegmentLost,
    StorageBroken,
    StorageFailed,
    StorageFull,
    VolumeLocked,
)
from segments.protocol.ids import VolumeEpoch
from segments.storage import WHOLE, Identity
from segments.wal import (
    NO_PROMISE,
    HeldEntry,
    Promise,
    decode_promises,
    encode_body,
    encode_promise,
)
from segments.wal_scan import LogPart, scan
from tests.files_on_disks import make_file
from tests.synced_writes import Ends, write_then_sync

IDENTITY = Identity("volume-1", "A0")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A formatted directory with an empty file, which nobody has open."""
    directory = tmp_path / "volume" / "a0"
    FileStorage.format(directory, IDENTITY).close()
    (directory / "wal-1").touch()
    return directory


@pytest.fixture
def storage(directory: Path) -> Iterator[FileStorage]:
    storage = FileStorage.open(directory, IDENTITY)
    yield storage
    storage.close()


async def contents(storage: FileStorage, name: str = "wal-1") -> bytes:
    """All of a file, as a restart reads it."""
    await storage.names()
    return await storage.read(name, 0, WHOLE)


async def reopened(directory: Path, name: str = "wal-1") -> bytes:
    storage = FileStorage.open(directory, IDENTITY)
    try:
        return await contents(storage, name)
    finally:
        storage.close()


def on_disk(directory: Path, name: str = "wal-1") -> bytes:
    return (directory / name).read_bytes()


class FaultyDisk:
    """Stands in for the system's writes and syncs, and fails those it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing_writes: set[int] = set()
        self.failing_syncs: set[int] = set()
        self.failing_cuts = False
        self.short = False
        self.writes = self.syncs = 0
        self._write, self._sync, self._cut = os.pwrite, file_storage._sync, os.ftruncate
        monkeypatch.setattr(os, "pwrite", self.pwrite)
        monkeypatch.setattr(os, "ftruncate", self.ftruncate)
        monkeypatch.setattr(file_storage, "_sync", self.sync)

    def pwrite(self, file: int, data: memoryview, offset: int) -> int:
        self.writes += 1
        if self.writes in self.failing_writes:
            raise OSError(errno.ENOSPC, "no space")
        return self._write(file, data[:2] if self.short else data, offset)

    def sync(self, file: int) -> None:
        self.syncs += 1
        if self.syncs in self.failing_syncs:
            raise OSError(errno.EIO, "bad disk")
        self._sync(file)

    def ftruncate(self, file: int, length: int) -> None:
        if self.failing_cuts:
            raise OSError(errno.EIO, "bad disk")
        self._cut(file, length)


@pytest.fixture(params=["one call", "two calls", "refused once"])
def disk(
    monkeypatch: pytest.MonkeyPatch, storage: FileStorage, request: pytest.FixtureRequest
) -> FaultyDisk:
    """Writes and syncs of a thread, in one call of the system or in two, as it has them."""

    def unknown(file: int, buffers: object, offset: int, flags: int) -> int:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    faulty = FaultyDisk(monkeypatch)
    monkeypatch.setattr(file_storage, "ring_of_this_run", lambda: None)
    match request.param:
        case "one call":
            write_then_sync(monkeypatch)
        case "two calls":
            monkeypatch.setattr(OpenFile, "write_durably", lambda *_: 0)
        case _:
            monkeypatch.setattr(os, "pwritev", unknown)
    return faulty


# ---- whose it is ---------------------------------------------------------------------------------


async def test_everything_is_there_after_reopening(directory: Path) -> None:
    storage = FileStorage.open(directory, IDENTITY)
    await storage.append("wal-1", b"log")
    promise = Promise(VolumeEpoch(4, 2), VolumeEpoch(3, 2))
    await storage.write_promise(encode_promise(promise))
    storage.close()
    assert await reopened(directory) == b"log"
    assert decode_promises(await reopened(directory, "promise")) == promise


def test_only_an_empty_directory_is_formatted(directory: Path, tmp_path: Path) -> None:
    before = sorted(path.read_bytes() for path in directory.iterdir())
    with pytest.raises(Invalid, match="holds identity, promise, wal-1: expected an empty"):
        FileStorage.format(directory, IDENTITY)
    assert sorted(path.read_bytes() for path in directory.iterdir()) == before
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="cannot be formatted"):
        FileStorage.format(tmp_path / "file", IDENTITY)


def test_a_missing_or_empty_directory_is_a_lost_segment(tmp_path: Path) -> None:
    with pytest.raises(SegmentLost, match="no directory: expected segment A0 of volume volume-1"):
        FileStorage.open(tmp_path / "nowhere", IDENTITY)
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(SegmentLost, match="is empty: expected segment A0 of volume volume-1"):
        FileStorage.open(tmp_path, IDENTITY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["identity", "promise"])
def test_a_directory_that_lacks_a_file_is_a_lost_segment(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(SegmentLost, match=f"lacks {name}: expected segment A0"):
        FileStorage.open(directory, IDENTITY)


@pytest.mark.parametrize("other", [Identity("volume-2", "A0"), Identity("volume-1", "B0")])
def test_a_foreign_directory_is_a_lost_segment(directory: Path, other: Identity) -> None:
    with pytest.raises(SegmentLost, match=f"belongs to {IDENTITY}: expected {other}"):
        FileStorage.open(directory, other)


def test_a_spoilt_identity_is_a_lost_segment(directory: Path) -> None:
    path = directory / "identity"
    sound = path.read_bytes()
    for at in range(len(sound)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        with pytest.raises(SegmentLost, match="spoilt identity"):
            FileStorage.open(directory, IDENTITY)
    for data in (b"", b"null", b"[]", b"{}", b"[" * 60_000, b"\xff"):
        path.write_bytes(data)
        with pytest.raises(SegmentLost, match="spoilt identity"):
            FileStorage.open(directory, IDENTITY)


# ---- who has it open -----------------------------------------------------------------------------


def test_a_directory_is_open_once_in_a_process(directory: Path, storage: FileStorage) -> None:
    for path in (directory, directory / ".." / directory.name):
        with pytest.raises(VolumeLocked, match="is open already"):
            FileStorage.open(path, IDENTITY)
        with pytest.raises(VolumeLocked, match="is open already"):
            FileStorage.format(path, IDENTITY)
    storage.close()
    FileStorage.open(directory, IDENTITY).close()


def test_a_directory_is_open_once_among_processes(directory: Path, storage: FileStorage) -> None:
    script = (
        "import sys, pathlib\n"
        "from segments.file_storage import FileStorage\n"
        "from segments.storage import Identity\n"
        "try:\n"
        "    FileStorage.open(pathlib.Path(sys.argv[1]), Identity('volume-1', 'A0'))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
        "else:\n"
        "    print('opened')\n"
    )
    command = [sys.executable, "-c", script, str(directory)]
    root = Path(__file__).parents[2]

    def other_process() -> str:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=root
        ).stdout.strip()

    assert other_process() == "VolumeLocked"
    storage.close()
    assert other_process() == "opened"


def test_a_refused_opening_leaves_no_lock_and_no_file_open(directory: Path) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(SegmentLost):
            FileStorage.open(directory, Identity("volume-2", "A0"))
    FileStorage.open(directory, IDENTITY).close()
    assert len(list(Path("/dev/fd").iterdir())) == before


async def test_a_closed_storage_takes_nothing(storage: FileStorage) -> None:
    storage.close()
    for operation in (
        storage.append("wal-1", b"x"),
        make_file(storage, "wal-2", [b"x"]),
        storage.publish("manifest", b"x"),
        storage.names(),
    ):
        with pytest.raises(Closed):
            await operation


# ---- failing disks -------------------------------------------------------------------------------


async def test_short_writes_are_continued(storage: FileStorage, disk: FaultyDisk) -> None:
    disk.short = True
    await storage.append("wal-1", b"0123456789")
    assert await contents(storage) == b"0123456789"


async def test_a_failed_write_is_rolled_back_and_the_disk_stays_usable(
    storage: FileStorage, disk: FaultyDisk, directory: Path
) -> None:
    await storage.append("wal-1", b"sound.")
    disk.short, disk.failing_writes = True, {disk.writes + 3}
    with pytest.raises(StorageFailed, match="no space"):
        await storage.append("wal-1", b"this one fails half way")
    assert on_disk(directory) == b"sound."
    await storage.append("wal-1", b"next.")
    storage.close()
    assert await reopened(directory) == b"sound.next."


async def test_the_promise_slots_are_read_as_they_are_on_disk(
    storage: FileStorage, directory: Path
) -> None:
    data = encode_promise(Promise(VolumeEpoch(1, 1), VolumeEpoch(1, 1)))
    await storage.write_promise(data)
    assert await storage.read("promise", 0, WHOLE) == data * 2
    spoilt = b"x" + data[1:] + data
    (directory / "promise").write_bytes(spoilt)
    assert await storage.read("promise", 0, WHOLE) == spoilt


async def test_after_a_failed_sync_nothing_is_taken_until_reopened(
    storage: FileStorage, disk: FaultyDisk, directory: Path
) -> None:
    await storage.append("wal-1", b"sound.")
    disk.failing_syncs = {disk.syncs + 1}
    with pytest.raises(StorageFailed, match="bad disk"):
        await storage.append("wal-1", b"lost")
    assert on_disk(directory) == b"sound."
    for operation in (
        storage.append("wal-1", b"x"),
        make_file(storage, "wal-2", [b"x"]),
        storage.sync_names(),
        storage.publish("manifest", b"x"),
        storage.truncate("wal-1", 0),
        storage.write_promise(b"x"),
    ):
        with pytest.raises(StorageFailed, match=r"sync: .*bad disk.*open it again"):
            await operation
    storage.close()
    assert await reopened(directory) == b"sound."


@pytest.mark.skipif(not hasattr(os, "RWF_DSYNC"), reason="no such call here")
async def test_an_append_is_one_call_of_the_system(
    storage: FileStorage, monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    asked, write = [], os.pwritev

    def pwritev(file: int, buffers: list[memoryview], offset: int, flags: int) -> int:
        asked.append((bytes(buffers[0]), offset, flags))
        return write(file, [buffers[0][:4]], offset, flags)

    monkeypatch.setattr(os, "pwritev", pwritev)
    monkeypatch.setattr(os, "pwrite", failing)
    monkeypatch.setattr(file_storage, "_sync", failing)
    await storage.append("wal-1", b"123")
    await storage.append("wal-1", b"456789")
    durably = os.RWF_DSYNC
    assert asked == [(b"123", 0, durably), (b"456789", 3, durably), (b"89", 7, durably)]
    assert on_disk(directory) == b"123456789"


async def test_what_cannot_write_and_sync_in_one_call_is_asked_once(
    storage: FileStorage, monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    asked, synced, sync = 0, 0, file_storage._sync

    def pwritev(*_: object) -> int:
        nonlocal asked
        asked += 1
        raise OSError(errno.EOPNOTSUPP, "not supported")

    def counting(file: int) -> None:
        nonlocal synced
        synced += 1
        sync(file)

    monkeypatch.setattr(os, "pwritev", pwritev)
    monkeypatch.setattr(file_storage, "_sync", counting)
    for _ in range(3):
        await storage.append("wal-1", b"whole")
    assert (asked, synced, on_disk(directory)) == (1, 3, b"whole" * 3)


async def test_a_roll_back_that_fails_stops_the_storage(
    storage: FileStorage, disk: FaultyDisk
) -> None:
    disk.short, disk.failing_writes, disk.failing_cuts = True, {2}, True
    with pytest.raises(StorageFailed, match="no space"):
        await storage.append("wal-1", b"half written")
    with pytest.raises(StorageFailed, match="cutting wal-1 back to 0 bytes"):
        await storage.append("wal-1", b"x")


@pytest.mark.parametrize("write", [1, 2])
async def test_a_promise_that_fails_leaves_a_slot_to_read(
    storage: FileStorage, disk: FaultyDisk, directory: Path, write: int
) -> None:
    old, new = (Promise(VolumeEpoch(n, 1), VolumeEpoch(1, 1)) for n in (1, 2))
    await storage.write_promise(encode_promise(old))
    disk.failing_writes = {disk.writes + write}
    with pytest.raises(StorageFailed, match="no space"):
        await storage.write_promise(encode_promise(new))
    assert decode_promises(await contents(storage, "promise")) == (old, new)[write - 1]


async def test_a_promise_is_synced_in_its_first_slot_before_the_second_is_touched(
    storage: FileStorage, disk: FaultyDisk
) -> None:
    old = encode_promise(Promise(VolumeEpoch(1, 1), VolumeEpoch(1, 1)))
    new = encode_promise(Promise(VolumeEpoch(2, 1), VolumeEpoch(1, 1)))
    await storage.write_promise(old)
    disk.failing_syncs = {disk.syncs + 1}
    with pytest.raises(StorageFailed):
        await storage.write_promise(new)
    storage._failure = None
    assert await contents(storage, "promise") == new + old


@pytest.mark.parametrize("name", ["wal-1", "promise", "."])
async def test_nothing_is_read_that_cannot_be_synced(
    directory: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed process left in the cache alone must not be believed."""
    spoilt = (directory / name).stat().st_ino

    def failing(file: int) -> None:
        if os.fstat(file).st_ino == spoilt:
            raise OSError(errno.EIO, "bad disk")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        storage = FileStorage.open(directory, IDENTITY)
        with pytest.raises(StorageFailed, match="bad disk"):
            await storage.names()
        storage.close()
    assert await reopened(directory) == b""


# ---- files that somebody takes away --------------------------------------------------------------


async def test_nothing_is_acknowledged_that_went_into_a_deleted_file(
    storage: FileStorage, directory: Path
) -> None:
    await storage.append("wal-1", b"kept")
    (directory / "wal-1").unlink()
    for _ in range(2):
        with pytest.raises(StorageBroken, match="wal-1 has been deleted while it was open"):
            await storage.append("wal-1", b"gone")


@pytest.mark.parametrize("name", ["wal-1", "promise", "identity", "manifest"])
@pytest.mark.parametrize("replaced", [False, True])
async def test_a_scrub_notices_that_a_file_was_deleted_or_replaced(
    storage: FileStorage, directory: Path, name: str, replaced: bool
) -> None:
    await storage.publish("manifest", b"first")
    (directory / name).rename(directory / "aside")
    if replaced:
        (directory / name).write_bytes((directory / "aside").read_bytes())
    scrubbed = "manifest" if name == "identity" else name
    with pytest.raises(StorageBroken, match=f"{name} has been (deleted|replaced by another)"):
        await storage.read(scrubbed, 0, 1)
    with pytest.raises(StorageBroken, match=r"while it was open.*: open it again"):
        await storage.append("wal-1", b"x")


def move_away(directory: Path) -> Path:
    """Another directory is formatted in its place."""
    moved = directory.rename(directory.with_name("moved"))
    FileStorage.format(directory, IDENTITY).close()
    return moved


async def test_a_directory_that_is_moved_is_still_the_same_one(
    storage: FileStorage, directory: Path
) -> None:
    await storage.append("wal-1", b"first")
    moved = move_away(directory)
    await make_file(storage, "wal-2", [b"anew"])
    await storage.publish("manifest", b"names it")
    await storage.delete(["wal-1"])
    await storage.append("wal-2", b"!")
    await storage.write_promise(encode_promise(Promise(VolumeEpoch(9, 9), VolumeEpoch(1, 1))))
    assert await contents(storage, "wal-2") == b"anew!"
    assert await reopened(directory, "promise") == encode_promise(NO_PROMISE) * 2
    assert sorted(os.listdir(directory)) == ["identity", "promise"]  # noqa: PTH208
    storage.close()
    assert await reopened(moved, "wal-2") == b"anew!"
    assert await reopened(moved, "wal-1") == b""


# ---- files made and put in place -----------------------------------------------------------------


@pytest.mark.parametrize("how", ["written", "synced"])
async def test_a_file_that_cannot_be_made_is_thrown_away(
    storage: FileStorage,
    disk: FaultyDisk,
    directory: Path,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        if how == "written":
            disk.failing_writes = {disk.writes + 2}
        else:
            patch.setattr(os, "fsync", failing)
        with pytest.raises(StorageFailed, match=r"no space|bad disk"):
            await make_file(storage, "wal-2", [b"new", b"er"])
    assert not (directory / "wal-2").exists()
    await make_file(storage, "wal-2", [b"again"])
    assert await contents(storage, "wal-2") == b"again"


def failing(file: int) -> None:
    raise OSError(errno.EIO, "bad disk")


async def test_what_cannot_be_written_is_not_published(
    storage: FileStorage, disk: FaultyDisk, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.publish("manifest", b"old")
    disk.failing_writes = {disk.writes + 1}
    with pytest.raises(StorageFailed, match="no space"):
        await storage.publish("manifest", b"new")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(StorageFailed, match="bad disk"):
            await storage.publish("manifest", b"new")
    assert on_disk(directory, "manifest") == b"old"
    assert not (directory / "manifest.new").exists()
    await storage.publish("manifest", b"newer")
    assert await contents(storage, "manifest") == b"newer"


@pytest.mark.parametrize("published", [False, True])
async def test_names_that_may_not_last_stop_the_storage(
    storage: FileStorage, disk: FaultyDisk, directory: Path, published: bool
) -> None:
    await storage.publish("manifest", b"old")
    disk.failing_syncs = {disk.syncs + 1}
    with pytest.raises(StorageBroken, match="bad disk"):
        await (storage.publish("manifest", b"new") if published else storage.sync_names())
    with pytest.raises(StorageFailed, match="open it again"):
        await storage.append("wal-1", b"x")
    storage.close()
    assert await reopened(directory, "manifest") == (b"new" if published else b"old")


async def test_what_is_published_is_whole_at_every_moment(
    storage: FileStorage, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.publish("manifest", b"old")
    seen, sync = [], os.fsync

    def looking(file: int) -> None:
        seen.append(on_disk(directory, "manifest"))
        sync(file)

    monkeypatch.setattr(os, "fsync", looking)
    await storage.publish("manifest", b"newer")
    assert set(seen) == {b"old"} and on_disk(directory, "manifest") == b"newer"


async def test_what_cannot_be_deleted_is_left_and_forgotten(
    storage: FileStorage, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(name: str, *, dir_fd: int) -> None:
        raise OSError(errno.EIO, "bad disk")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refused)
        await storage.delete(["wal-1"])
    assert "wal-1" not in await storage.names() and (directory / "wal-1").exists()
    storage.close()
    assert await reopened(directory) == b""


# ---- cancellation and overlap --------------------------------------------------------------------


class HeldSync:
    """A sync that waits in its thread until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started, self.go = trio.Event(), threading.Event()
        self.token = trio.lowlevel.current_trio_token()
        write_then_sync(monkeypatch)
        monkeypatch.setattr(file_storage, "_sync", self.sync)

    def sync(self, file: int) -> None:
        self.token.run_sync_soon(self.started.set)
        assert self.go.wait(10)


async def test_an_append_cancelled_under_way_still_happens_whole(
    storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldSync(monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.append, "wal-1", b"cancelled but written.")
        await held.started.wait()
        nursery.cancel_scope.cancel()
        held.go.set()
    await storage.append("wal-1", b"next.")
    assert await contents(storage) == b"cancelled but written.next."


async def test_an_append_cancelled_before_it_started_never_happens(storage: FileStorage) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await storage.append("wal-1", b"never")
    assert await contents(storage) == b""


async def test_an_append_cancelled_while_it_queues_never_happens(
    storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldSync(monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.append, "wal-1", b"first")
        await held.started.wait()
        with trio.move_on_after(0):
            await storage.append("wal-1", b"second")
        held.go.set()
    assert await contents(storage) == b"first"


async def test_an_append_may_be_begun_without_waiting_for_it(
    storage: FileStorage, disk: FaultyDisk, directory: Path
) -> None:
    ends = Ends()
    assert storage.begin_append("wal-1", b"sound.", ends)
    assert not storage.begin_append("wal-1", b"second at a time", ends)
    assert not ends, "called from a step of its own"
    await ends.told.wait()
    assert ends == [None] and on_disk(directory) == b"sound."
    assert not storage.begin_append("wal-9", b"not there", ends)
    disk.failing_writes = {disk.writes + 1}
    ends = Ends()
    assert storage.begin_append("wal-1", b"refused", ends)
    await ends.told.wait()
    assert type(ends[0]) is StorageFull and on_disk(directory) == b"sound."
    disk.failing_syncs = {disk.syncs + 1}
    ends = Ends()
    assert storage.begin_append("wal-1", b"lost", ends)
    await ends.told.wait()
    assert type(ends[0]) is StorageBroken
    assert not storage.begin_append("wal-1", b"x", ends)


async def test_what_no_thread_could_begin_is_in_nobodys_way(
    storage: FileStorage, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    ends = Ends()
    with monkeypatch.context() as patch:
        patch.setattr(trio.lowlevel, "start_thread_soon", no_thread)
        patch.setattr(file_storage, "ring_of_this_run", lambda: None)
        assert not storage.begin_append("wal-1", b"never", ends)
    assert storage.begin_append("wal-1", b"later", ends)
    await ends.told.wait()
    assert ends == [None] and on_disk(directory) == b"later"


async def test_closing_waits_for_an_append_that_was_begun(
    storage: FileStorage, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = Ends()
    with monkeypatch.context() as patch:
        held = HeldSync(patch)
        assert storage.begin_append("wal-1", b"last", ends)
        await held.started.wait()
        storage.close()
        assert not storage.begin_append("wal-1", b"x", ends)
        with pytest.raises(VolumeLocked):
            FileStorage.open(directory, IDENTITY)
        held.go.set()
        await ends.told.wait()
    assert ends == [None] and await reopened(directory) == b"last"


BACKGROUND: list[tuple[str, Callable[[FileStorage], Awaitable[object]]]] = [
    ("open", lambda storage: storage.create("wal-3")),
    ("pwrite", lambda storage: storage.extend("wal-2", b"more")),
    ("fsync", lambda storage: storage.sync_file("wal-2")),
    ("rename", lambda storage: storage.publish("manifest", b"new")),
    ("unlink", lambda storage: storage.delete(["wal-2"])),
    ("preadv", lambda storage: storage.read("wal-2", 0, 3)),
]


class HeldCall:
    """The next call of the system of this name waits in its thread until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        name = {"rename": "replace"}.get(name, name)
        self.started, self.go = trio.Event(), threading.Event()
        self.token, call = trio.lowlevel.current_trio_token(), getattr(os, name)

        def held(*args: Any, **keywords: Any) -> Any:
            monkeypatch.setattr(os, name, call)
            self.token.run_sync_soon(self.started.set)
            assert self.go.wait(10)
            return call(*args, **keywords)

        monkeypatch.setattr(os, name, held)


@pytest.mark.parametrize(("call", "operation"), BACKGROUND)
async def test_nothing_in_the_background_holds_up_an_append_or_a_read(
    storage: FileStorage,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    operation: Callable[[FileStorage], Awaitable[object]],
) -> None:
    await make_file(storage, "wal-2", [b"new"])
    held = HeldCall(monkeypatch, call)
    promise = encode_promise(Promise(VolumeEpoch(9, 9), VolumeEpoch(1, 1)))
    with trio.fail_after(9):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(operation, storage)
            await held.started.wait()
            await storage.append("wal-1", b"whole, torn")
            await storage.truncate("wal-1", 5)
            await storage.write_promise(promise)
            if call not in ("rename", "unlink"):  # which change what a read looks at
                assert await storage.read("wal-1", 0, 9) == b"whole"
            held.go.set()
    assert await contents(storage, "wal-1") == b"whole"


async def test_what_is_done_in_the_background_takes_turns(
    storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, done = HeldCall(monkeypatch, "fsync"), list[str]()

    async def second() -> None:
        await storage.create("wal-3")
        done.append("second")

    await storage.create("wal-2")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.sync_file, "wal-2")
        await held.started.wait()
        nursery.start_soon(second)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not done
        held.go.set()
    assert done == ["second"]


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("begun", [False, True])
async def test_a_file_is_closed_when_the_last_who_reads_it_is_through(
    storage: FileStorage, monkeypatch: pytest.MonkeyPatch, begun: bool, replaced: bool
) -> None:
    """And it may be read to its end, though its name has gone, or leads to another one."""
    await storage.publish("manifest", b"old")
    held, seen, closed = HeldCall(monkeypatch, "preadv"), list[bytes](), list[int]()
    close, look = os.close, storage._read

    def closing(file: int) -> None:
        closed.append(file)
        close(file)

    def looking_late(*args: Any) -> int:
        held.token.run_sync_soon(held.started.set)
        assert held.go.wait(10)
        return look(*args)

    monkeypatch.setattr(os, "close", closing)
    if not begun:
        monkeypatch.setattr(storage, "_read", looking_late)
    file = storage._files["manifest"].descriptor

    async def read() -> None:
        seen.append(await storage.read("manifest", 0, 9))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await held.started.wait()
        await (storage.publish("manifest", b"new") if replaced else storage.delete(["manifest"]))
        assert file not in closed
        held.go.set()
    assert seen == [b"old"] and closed.count(file) == 1
    assert await storage.read("manifest", 0, 9) == (b"new" if replaced else b"")


async def test_closing_waits_for_a_read_too(
    directory: Path, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.append("wal-1", b"kept")
    held, seen = HeldCall(monkeypatch, "preadv"), list[bytes]()

    async def read() -> None:
        seen.append(await storage.read("wal-1", 0, 9))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await held.started.wait()
        await storage.append("wal-1", b", and more")
        storage.close()
        with pytest.raises(Closed):
            await storage.append("wal-1", b"x")
        with pytest.raises(VolumeLocked):
            FileStorage.open(directory, IDENTITY)
        held.go.set()
    assert seen == [b"kept"]
    assert await reopened(directory) == b"kept, and more"


async def test_a_file_is_appended_to_when_all_of_it_is_durable(storage: FileStorage) -> None:
    await make_file(storage, "wal-2", [b"new"])
    await storage.extend("wal-2", b"er")
    with pytest.raises(Invalid, match="append to wal-2, of which not all is durable"):
        await storage.append("wal-2", b"x")
    await storage.sync_file("wal-2")
    await storage.append("wal-2", b"x")
    assert await contents(storage, "wal-2") == b"newerx"


async def test_closing_waits_for_what_is_under_way(
    directory: Path, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        held = HeldSync(patch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storage.append, "wal-1", b"last")
            await held.started.wait()
            storage.close()
            with pytest.raises(VolumeLocked):
                FileStorage.open(directory, IDENTITY)
            held.go.set()
    assert await reopened(directory) == b"last"


async def test_segments_sync_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storages = [
        FileStorage.format(tmp_path / name, Identity("volume-1", name))
        for name in ("A0", "B0", "C0", "D0", "E0", "F0")
    ]
    all_at_once = threading.Barrier(6)

    def sync(file: int) -> None:
        all_at_once.wait(10)

    write_then_sync(monkeypatch)
    monkeypatch.setattr(file_storage, "_sync", sync)
    for storage in storages:
        await make_file(storage, "wal-1", [])
    async with trio.open_nursery() as nursery:
        for storage in storages:
            nursery.start_soon(storage.append, "wal-1", b"x")
    for storage in storages:
        storage.close()


async def test_one_thread_does_all_appends_and_ends_with_the_storage(
    directory: Path, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    held = HeldSync(monkeypatch)
    monkeypatch.setattr(file_storage, "_sync", lambda _: used.append(threading.current_thread()))
    for _ in range(3):
        await storage.append("wal-1", b"x")
        await storage.sync_names()
    appending = used[::2]
    assert len({*appending}) == 1 and appending[0].name == "A0 disk"
    monkeypatch.setattr(file_storage, "_sync", held.sync)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.append, "wal-1", b"last")
        await held.started.wait()
        storage.close()
        held.go.set()
    with trio.fail_after(9):
        while appending[0].name == "A0 disk" and appending[0].is_alive():  # noqa: ASYNC110
            await trio.sleep(0.001)
    assert await reopened(directory) == b"xxxlast"


# ---- with the log --------------------------------------------------------------------------------


async def test_a_torn_tail_is_cut_and_what_follows_can_be_read(directory: Path) -> None:
    bodies = [encode_body(VolumeEpoch(1, 1), [HeldEntry(each)]) for each in range(3)]
    size = bodies[0].frame_bytes
    frames = [body.at(7, at) for body, at in zip(bodies, (0, size, size), strict=True)]
    for tail in (frames[1][:-1], frames[1][:3], bytes(5_000), b"garbage"):
        (directory / "wal-1").write_bytes(frames[0] + tail)
        storage = FileStorage.open(directory, IDENTITY)
        found = scan([LogPart(7, await contents(storage))])
        assert (found.durable_length, found.torn_bytes) == (len(frames[0]), len(tail))
        await storage.truncate("wal-1", found.durable_length)
        await storage.append("wal-1", frames[2])
        storage.close()
        assert await reopened(directory) == frames[0] + frames[2]


async def test_reads_show_what_is_on_disk_now(storage: FileStorage, directory: Path) -> None:
    await storage.append("wal-1", b"sound")
    with (directory / "wal-1").open("r+b") as file:
        file.write(b"r")
    assert await storage.read("wal-1", 0, 5) == b"round"


@pytest.mark.parametrize(
    ("code", "tries"), [(errno.EAGAIN, 3), (errno.EOPNOTSUPP, 1), (errno.EIO, 3)]
)
async def test_what_is_not_in_memory_is_not_at_hand(
    storage: FileStorage, monkeypatch: pytest.MonkeyPatch, code: int, tries: int
) -> None:
    """A disk that fails is another's to tell; a system that knows of no such call is asked once."""
    asked = 0

    def preadv(*_: object) -> int:
        nonlocal asked
        asked += 1
        raise OSError(code, "no")

    await make_file(storage, "layer-1", [b"block"])
    monkeypatch.setattr(os, "preadv", preadv)
    assert [storage.at_hand("layer-1", 0, 5) for _ in range(3)] == [None] * 3
    assert asked == tries
    monkeypatch.undo()
    assert await storage.read("layer-1", 0, 5) == b"block"


async def test_only_a_part_in_memory_is_not_at_hand(
    storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_file(storage, "layer-1", [b"block"])
    monkeypatch.setattr(os, "preadv", lambda *_: 4)
    assert storage.at_hand("layer-1", 0, 5) is None


async def test_what_was_at_hand_keeps_no_file_open(storage: FileStorage) -> None:
    await make_file(storage, "layer-1", [b"block"])
    file = storage._files["layer-1"]
    storage.at_hand("layer-1", 0, 5)
    await storage.delete(["layer-1"])
    assert storage.at_hand("layer-1", 0, 5) is None
    assert file.descriptor < 0, "closed"
