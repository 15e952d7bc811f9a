"""The directory of a segment: whose it is, who has it open, and what failures leave behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from segments import file_storage
from segments.file_storage import FileStorage
from segments.protocol.errors import (
    Closed,
    Invalid,
    SegmentLost,
    StorageBroken,
    StorageFailed,
    VolumeLocked,
)
from segments.protocol.ids import VolumeEpoch
from segments.storage import Identity, Stored
from segments.wal import (
    NO_PROMISE,
    HeldEntry,
    Promise,
    decode_promises,
    encode_frame,
    encode_promise,
    scan,
)

IDENTITY = Identity("volume-1", "A0")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A formatted directory that nobody has open."""
    directory = tmp_path / "volume" / "a0"
    FileStorage.create(directory, IDENTITY).close()
    return directory


@pytest.fixture
def storage(directory: Path) -> Iterator[FileStorage]:
    storage = FileStorage.open(directory, IDENTITY)
    yield storage
    storage.close()


async def reopened(directory: Path) -> Stored:
    storage = FileStorage.open(directory, IDENTITY)
    try:
        return await storage.load()
    finally:
        storage.close()


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


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, storage: FileStorage) -> FaultyDisk:
    return FaultyDisk(monkeypatch)


# ---- whose it is ---------------------------------------------------------------------------------


async def test_everything_is_there_after_reopening(directory: Path) -> None:
    storage = FileStorage.open(directory, IDENTITY)
    await storage.append(b"log")
    promise = Promise(VolumeEpoch(4, 2), VolumeEpoch(3, 2))
    await storage.write_promise(encode_promise(promise))
    storage.close()
    log, promises = await reopened(directory)
    assert log == b"log"
    assert decode_promises(promises) == promise


def test_only_an_empty_directory_is_formatted(directory: Path, tmp_path: Path) -> None:
    before = sorted(path.read_bytes() for path in directory.iterdir())
    with pytest.raises(Invalid, match="holds identity, log, promise: expected an empty"):
        FileStorage.create(directory, IDENTITY)
    assert sorted(path.read_bytes() for path in directory.iterdir()) == before
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="cannot be formatted"):
        FileStorage.create(tmp_path / "file", IDENTITY)


def test_a_missing_or_empty_directory_is_a_lost_segment(tmp_path: Path) -> None:
    with pytest.raises(SegmentLost, match="no directory: expected segment A0 of volume volume-1"):
        FileStorage.open(tmp_path / "nowhere", IDENTITY)
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(SegmentLost, match="is empty: expected segment A0 of volume volume-1"):
        FileStorage.open(tmp_path, IDENTITY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["identity", "log", "promise"])
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
            FileStorage.create(path, IDENTITY)
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
    with pytest.raises(Closed):
        await storage.append(b"x")
    with pytest.raises(Closed):
        await storage.replace([b"x"])
    with pytest.raises(Closed):
        await storage.load()


# ---- failing disks -------------------------------------------------------------------------------


async def test_short_writes_are_continued(storage: FileStorage, disk: FaultyDisk) -> None:
    disk.short = True
    await storage.append(b"0123456789")
    assert (await storage.load()).log == b"0123456789"


async def test_a_failed_write_is_rolled_back_and_the_disk_stays_usable(
    storage: FileStorage, disk: FaultyDisk, directory: Path
) -> None:
    await storage.append(b"sound.")
    disk.short, disk.failing_writes = True, {disk.writes + 3}
    with pytest.raises(StorageFailed, match="no space"):
        await storage.append(b"this one fails half way")
    assert (storage.size(), (directory / "log").read_bytes()) == (6, b"sound.")
    await storage.append(b"next.")
    storage.close()
    assert (await reopened(directory)).log == b"sound.next."


async def test_the_promise_slots_are_read_as_they_are_on_disk(
    storage: FileStorage, directory: Path
) -> None:
    data = encode_promise(Promise(VolumeEpoch(1, 1), VolumeEpoch(1, 1)))
    await storage.write_promise(data)
    assert await storage.read_promises() == data * 2
    spoilt = b"x" + data[1:] + data
    (directory / "promise").write_bytes(spoilt)
    assert await storage.read_promises() == spoilt


async def test_after_a_failed_sync_nothing_is_taken_until_reopened(
    storage: FileStorage, disk: FaultyDisk, directory: Path
) -> None:
    await storage.append(b"sound.")
    disk.failing_syncs = {disk.syncs + 1}
    with pytest.raises(StorageFailed, match="bad disk"):
        await storage.append(b"lost")
    assert (storage.size(), (directory / "log").read_bytes()) == (6, b"sound.")
    for operation in (
        storage.append(b"x"),
        storage.replace([b"x"]),
        storage.truncate(0),
        storage.write_promise(b"x"),
    ):
        with pytest.raises(StorageFailed, match=r"sync: .*bad disk.*open it again"):
            await operation
    storage.close()
    assert (await reopened(directory)).log == b"sound."


async def test_a_roll_back_that_fails_stops_the_storage(
    storage: FileStorage, disk: FaultyDisk
) -> None:
    disk.short, disk.failing_writes, disk.failing_cuts = True, {2}, True
    with pytest.raises(StorageFailed, match="no space"):
        await storage.append(b"half written")
    with pytest.raises(StorageFailed, match="cutting the log back to 0 bytes"):
        await storage.append(b"x")


@pytest.mark.parametrize("write", [1, 2])
async def test_a_promise_that_fails_leaves_a_slot_to_read(
    storage: FileStorage, disk: FaultyDisk, directory: Path, write: int
) -> None:
    old, new = (Promise(VolumeEpoch(n, 1), VolumeEpoch(1, 1)) for n in (1, 2))
    await storage.write_promise(encode_promise(old))
    disk.failing_writes = {disk.writes + write}
    with pytest.raises(StorageFailed, match="no space"):
        await storage.write_promise(encode_promise(new))
    assert decode_promises((await storage.load()).promises) == (old, new)[write - 1]


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
    assert (await storage.load()).promises == new + old


@pytest.mark.parametrize("name", ["log", "promise", "."])
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
            await storage.load()
        storage.close()
    assert (await reopened(directory)).log == b""


# ---- files that somebody takes away --------------------------------------------------------------


async def test_nothing_is_acknowledged_that_went_into_a_deleted_file(
    storage: FileStorage, directory: Path
) -> None:
    await storage.append(b"kept")
    (directory / "log").unlink()
    for _ in range(2):
        with pytest.raises(StorageBroken, match="log has been deleted while it was open"):
            await storage.append(b"gone")


@pytest.mark.parametrize("name", ["log", "promise"])
@pytest.mark.parametrize("replaced", [False, True])
async def test_a_scrub_notices_that_a_file_was_deleted_or_replaced(
    storage: FileStorage, directory: Path, name: str, replaced: bool
) -> None:
    await storage.append(b"kept")
    (directory / name).rename(directory / "aside")
    if replaced:
        (directory / name).write_bytes((directory / "aside").read_bytes())
    reading = storage.read(0, 4) if name == "log" else storage.read_promises()
    with pytest.raises(StorageBroken, match=f"{name} has been (deleted|replaced by another)"):
        await reading
    with pytest.raises(StorageBroken, match=r"while it was open.*: open it again"):
        await storage.append(b"x")


def move_away(directory: Path) -> Path:
    """Another directory is formatted in its place."""
    moved = directory.rename(directory.with_name("moved"))
    FileStorage.create(directory, IDENTITY).close()
    return moved


async def test_a_directory_that_is_moved_is_still_the_same_one(
    storage: FileStorage, directory: Path
) -> None:
    await storage.append(b"first")
    moved = move_away(directory)
    await storage.replace([b"anew"])
    await storage.append(b"!")
    await storage.write_promise(encode_promise(Promise(VolumeEpoch(9, 9), VolumeEpoch(1, 1))))
    assert await storage.read(0, 10) == b"anew!" and (await storage.load()).log == b"anew!"
    assert await reopened(directory) == (b"", encode_promise(NO_PROMISE) * 2)
    assert sorted(os.listdir(directory)) == ["identity", "log", "promise"]  # noqa: PTH208
    storage.close()
    assert (await reopened(moved)).log == b"anew!"


# ---- replacements --------------------------------------------------------------------------------


async def test_a_failed_replacement_leaves_the_old_log(
    storage: FileStorage, disk: FaultyDisk, directory: Path
) -> None:
    await storage.append(b"old")
    disk.failing_writes = {disk.writes + 2}
    with pytest.raises(StorageFailed, match="no space"):
        await storage.replace([b"new", b"er"])
    assert (storage.size(), (await storage.load()).log) == (3, b"old")
    assert not (directory / "log.new").exists()
    await storage.append(b"est")
    storage.close()
    assert (await reopened(directory)).log == b"oldest"


async def test_a_new_log_that_cannot_be_synced_is_not_put_in_place(
    storage: FileStorage, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(file: int) -> None:
        raise OSError(errno.EIO, "bad disk")

    await storage.append(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(StorageFailed, match="bad disk"):
            await storage.replace([b"new"])
    assert (storage.size(), (directory / "log").read_bytes()) == (3, b"old")


async def test_a_rename_that_may_not_last_stops_the_storage(
    storage: FileStorage, disk: FaultyDisk, directory: Path
) -> None:
    await storage.append(b"old")
    disk.failing_syncs = {disk.syncs + 1}
    with pytest.raises(StorageFailed, match="bad disk"):
        await storage.replace([b"new"])
    with pytest.raises(StorageFailed, match="open it again"):
        await storage.append(b"x")
    storage.close()
    assert (await reopened(directory)).log == b"new"


async def test_the_log_is_whole_at_every_moment_of_a_replacement(
    storage: FileStorage, directory: Path
) -> None:
    seen: list[bytes] = []

    def chunks() -> Iterator[bytes]:
        for chunk in (b"new", b"er"):
            seen.append((directory / "log").read_bytes())
            yield chunk
        seen.append((directory / "log").read_bytes())

    await storage.append(b"old")
    await storage.replace(chunks())
    assert seen == [b"old"] * 3
    assert (directory / "log").read_bytes() == b"newer"


async def test_what_an_interrupted_replacement_left_is_removed(directory: Path) -> None:
    (directory / "log").write_bytes(b"old")
    (directory / "log.new").write_bytes(b"unfinished")
    assert (await reopened(directory)).log == b"old"
    assert not (directory / "log.new").exists()


async def test_a_cancelled_replacement_leaves_the_old_log(
    storage: FileStorage, directory: Path
) -> None:
    with trio.CancelScope() as scope:

        def chunks() -> Iterator[bytes]:
            yield b"new"
            scope.cancel()
            yield b"er"

        await storage.replace(chunks())
    assert scope.cancelled_caught
    assert (await storage.load()).log == b""
    assert not (directory / "log.new").exists()
    await storage.append(b"next")
    assert (await storage.load()).log == b"next"


# ---- cancellation and overlap --------------------------------------------------------------------


class HeldSync:
    """A sync that waits in its thread until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started, self.go = trio.Event(), threading.Event()
        self.token = trio.lowlevel.current_trio_token()
        monkeypatch.setattr(file_storage, "_sync", self.sync)

    def sync(self, file: int) -> None:
        self.token.run_sync_soon(self.started.set)
        assert self.go.wait(10)


async def test_an_append_cancelled_under_way_still_happens_whole(
    storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldSync(monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.append, b"cancelled but written.")
        await held.started.wait()
        nursery.cancel_scope.cancel()
        held.go.set()
    await storage.append(b"next.")
    assert (await storage.load()).log == b"cancelled but written.next."
    assert storage.size() == len((await storage.load()).log)


async def test_an_append_cancelled_before_it_started_never_happens(storage: FileStorage) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await storage.append(b"never")
    assert (storage.size(), (await storage.load()).log) == (0, b"")


async def test_an_append_cancelled_while_it_queues_never_happens(
    storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldSync(monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.append, b"first")
        await held.started.wait()
        with trio.move_on_after(0):
            await storage.append(b"second")
        held.go.set()
    assert (await storage.load()).log == b"first"


async def test_appends_that_overlap_with_a_replacement_come_after_it(storage: FileStorage) -> None:
    async with trio.open_nursery() as nursery:

        def chunks() -> Iterator[bytes]:
            nursery.start_soon(storage.append, b"+")
            yield b"check"
            yield b"point"

        await storage.replace(chunks())
    assert (await storage.load()).log == b"checkpoint+"


async def test_closing_waits_for_what_is_under_way(
    directory: Path, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        held = HeldSync(patch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storage.append, b"last")
            await held.started.wait()
            storage.close()
            with pytest.raises(VolumeLocked):
                FileStorage.open(directory, IDENTITY)
            held.go.set()
    assert (await reopened(directory)).log == b"last"


async def test_segments_sync_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storages = [
        FileStorage.create(tmp_path / name, Identity("volume-1", name))
        for name in ("A0", "B0", "C0", "D0", "E0", "F0")
    ]
    all_at_once = threading.Barrier(6)

    def sync(file: int) -> None:
        all_at_once.wait(10)

    monkeypatch.setattr(file_storage, "_sync", sync)
    async with trio.open_nursery() as nursery:
        for storage in storages:
            nursery.start_soon(storage.append, b"x")
    for storage in storages:
        storage.close()


# ---- with the log --------------------------------------------------------------------------------


async def test_a_torn_tail_is_cut_and_what_follows_can_be_read(directory: Path) -> None:
    frames = [encode_frame(VolumeEpoch(1, 1), [HeldEntry(each)]) for each in range(3)]
    for tail in (frames[1][:-1], frames[1][:3], bytes(5_000), b"garbage"):
        (directory / "log").write_bytes(frames[0] + tail)
        storage = FileStorage.open(directory, IDENTITY)
        found = scan((await storage.load()).log)
        assert (found.durable_length, found.torn_bytes) == (len(frames[0]), len(tail))
        await storage.truncate(found.durable_length)
        await storage.append(frames[2])
        storage.close()
        assert (await reopened(directory)).log == frames[0] + frames[2]


async def test_reads_show_what_is_on_disk_now(storage: FileStorage, directory: Path) -> None:
    await storage.append(b"sound")
    with (directory / "log").open("r+b") as file:
        file.write(b"r")
    assert await storage.read(0, 5) == b"round"
