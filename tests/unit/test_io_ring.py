"""Writes that the kernel does by itself, and what becomes of a segment's appends in them."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
import trio

from segments import file_storage, io_ring
from segments.file_storage import FileStorage
from segments.io_ring import (
    _IN_A_WORKER,
    _MAX_WORKERS,
    _MOST,
    _REGISTER,
    _SQE,
    IoRing,
    Written,
    ring_of_this_run,
)
from segments.open_file import OpenFile
from segments.protocol.errors import Invalid, StorageBroken, StorageFailed, StorageFull
from segments.storage import Identity
from tests.synced_writes import Ends

IDENTITY = Identity("volume-1", "A0")


pytestmark = pytest.mark.skipif(not hasattr(os, "RWF_DSYNC"), reason="no such call here")


def _has_ring() -> bool:
    if not hasattr(os, "RWF_DSYNC") or io_ring._kernel() < io_ring._SINCE:
        return False
    try:
        ring = IoRing()
    except OSError:
        return False
    ring.close_in_child()
    return True


needs_ring = pytest.mark.skipif(not _has_ring(), reason="this system has no io_uring for us")


class Results(list[int]):
    """What has become of some writes, and when all have ended."""

    def __init__(self, expected: int) -> None:
        super().__init__()
        self._expected = expected
        self._ended = trio.Event()

    def __call__(self, result: int) -> None:
        self.append(result)
        if len(self) == self._expected:
            self._ended.set()

    async def all(self) -> list[int]:
        with trio.fail_after(60):
            await self._ended.wait()
        return self


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


# ---- the ring ------------------------------------------------------------------------------------


@needs_ring
async def test_what_is_written_is_in_the_file(file: int) -> None:
    """More than once around the ring; the bytes live as long as the kernel reads them."""
    random, written = Random(3), b""
    ring = ring_of_this_run()
    assert ring is not None and ring_of_this_run() is ring
    for count in (1, 7, 200, _MOST, 3, _MOST - 1):
        results, sizes = Results(count), [random.randint(1, 300) for _ in range(count)]
        for size in sizes:
            data = random.randbytes(size)
            assert ring.begin_write(data, file, len(written), results)
            written += data
        assert not results, "told from the loop, and not before"
        assert sorted(await results.all()) == sorted(sizes)
    assert os.pread(file, len(written) + 1, 0) == written


@needs_ring
async def test_each_write_is_asked_to_sync(file: int) -> None:
    ring, results = IoRing(), Results(1)
    assert ring.begin_write(b"durable", file, 40, results)
    entry = _SQE.unpack_from(ring._sqes, 0)
    _, how, _, descriptor, offset, _, length, flags, _ = entry
    assert (descriptor, offset, length, flags) == (file, 40, 7, os.RWF_DSYNC)
    assert how == _IN_A_WORKER, "or it might hold up the loop"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ring.serve)
        assert await results.all() == [7]
        nursery.cancel_scope.cancel()


@needs_ring
async def test_no_more_is_under_way_than_the_ring_has_room_for(file: int) -> None:
    ring, results = ring_of_this_run(), Results(_MOST)
    assert ring is not None
    for at in range(_MOST):
        assert ring.begin_write(b"x", file, at, results)
    assert not ring.begin_write(b"too much", file, _MOST, results)
    assert await results.all() == [1] * _MOST
    results = Results(1)
    assert ring.begin_write(b"again", file, _MOST, results)
    assert await results.all() == [5]
    assert os.pread(file, 999, 0) == b"x" * _MOST + b"again"


@needs_ring
async def test_an_error_is_a_negative_number(file: int) -> None:
    ring, results = ring_of_this_run(), Results(2)
    assert ring is not None
    reader = os.open(f"/proc/self/fd/{file}", os.O_RDONLY)
    assert ring.begin_write(b"x", reader, 0, results)
    assert ring.begin_write(b"x", 1_000_000, 0, results)
    assert await results.all() == [-errno.EBADF] * 2
    os.close(reader)


@needs_ring
def test_a_run_that_ends_waits_for_what_is_under_way(file: int) -> None:
    told: list[int] = []
    rings: list[IoRing] = []

    async def main() -> None:
        ring = ring_of_this_run()
        assert ring is not None
        rings.append(ring)
        for at in range(9):
            assert ring.begin_write(b"abc", file, 3 * at, told.append)

    for _ in range(2):
        told.clear()
        trio.run(main)
        assert told == [3] * 9 and os.pread(file, 99, 0) == b"abc" * 9
    assert rings[0] is not rings[1], "each run has its own"
    assert [each._descriptor for each in rings] == [-1, -1]


@needs_ring
async def test_a_write_that_the_system_does_not_take_is_none(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, results = ring_of_this_run(), Results(2)
    assert ring is not None
    assert ring.begin_write(b"one", file, 0, results)
    with monkeypatch.context() as patch:
        patch.setattr(ring, "_call", lambda *_: -1)
        assert not ring.begin_write(b"never", file, 3, results)
    assert ring.begin_write(b"two", file, 3, results)
    assert await results.all() == [3, 3]
    assert os.pread(file, 99, 0) == b"onetwo"


@needs_ring
async def test_one_who_raises_when_told_keeps_nothing_from_the_others(file: int) -> None:
    def raises(_: int) -> None:
        raise ValueError("a mistake")

    ring, told = IoRing(), Results(3)
    assert ring.begin_write(b"a", file, 0, raises)
    for at in (1, 2, 3):
        assert ring.begin_write(b"b", file, at, told)
    with pytest.raises(ValueError, match="a mistake"):
        await ring.serve()
    assert told == [1, 1, 1] and not ring._under_way
    assert not ring.begin_write(b"c", file, 4, told), "it is closed"


@needs_ring
def test_a_disk_that_hangs_leaves_workers_for_all_others() -> None:
    ring = IoRing()
    found = (ctypes.c_uint * 2)(0, 0)  # asks, and changes nothing
    assert ring._call(_REGISTER, ring._descriptor, _MAX_WORKERS, found, 2, None, None) == 0
    assert found[0] == _MOST
    ring.close_in_child()


@needs_ring
def test_what_cannot_be_made_to_the_end_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_: IoRing) -> None:
        raise OSError(errno.EINVAL, "an old kernel")

    monkeypatch.setattr(IoRing, "_have_workers", refused)
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for _ in range(5):
        with pytest.raises(OSError, match="an old kernel"):
            IoRing()
    gc.collect()
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize(
    ("release", "expected"), [("5.15.0-generic", False), ("6.9.1", False), ("6.10", True)]
)
async def test_no_kernel_is_asked_that_lets_writes_wait_for_each_other(
    release: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = False

    def asking(_: IoRing) -> None:
        nonlocal asked
        asked = True
        raise OSError(errno.ENOSYS, "no such call")

    monkeypatch.setattr(IoRing, "__init__", asking)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    monkeypatch.setattr(io_ring, "_rings", trio.lowlevel.RunVar("another run's"))
    assert ring_of_this_run() is None
    assert asked is expected


# ---- a segment's appends -------------------------------------------------------------------------


async def appended(storage: FileStorage, data: bytes) -> Exception | None:
    ends = Ends()
    assert storage.begin_append("wal-1", data, ends)
    with trio.fail_after(60):
        await ends.told.wait()
    [end] = ends
    return end


class FaultyRing:
    """Writes so many bytes of what it is given, and says what it is told to say."""

    def __init__(self, written: int, result: int) -> None:
        self.written, self.result = written, result
        self.asked = 0

    def begin_write(self, data: bytes, descriptor: int, offset: int, ended: Written) -> bool:
        self.asked += 1
        os.pwrite(descriptor, data[: self.written], offset)
        trio.lowlevel.current_trio_token().run_sync_soon(ended, self.result)
        return True


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[FileStorage]:
    FileStorage.format(tmp_path / "a0", IDENTITY).close()
    (tmp_path / "a0" / "wal-1").touch()
    storage = FileStorage.open(tmp_path / "a0", IDENTITY)
    yield storage
    storage.close()


def on_disk(tmp_path: Path) -> bytes:
    return (tmp_path / "a0" / "wal-1").read_bytes()


def put_in_place(monkeypatch: pytest.MonkeyPatch, ring: FaultyRing) -> None:
    monkeypatch.setattr(file_storage, "ring_of_this_run", lambda: ring)


@needs_ring
async def test_an_append_needs_no_thread(
    storage: FileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", no_thread)
    for data in (b"first, ", b"second, ", b"third"):
        assert await appended(storage, data) is None
    assert on_disk(tmp_path) == b"first, second, third"


async def test_what_the_kernel_left_is_written_by_the_thread(
    storage: FileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place(monkeypatch, FaultyRing(4, 4))
    assert await appended(storage, b"in two parts") is None
    assert await appended(storage, b", twice") is None
    assert on_disk(tmp_path) == b"in two parts, twice"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EAGAIN, errno.ECANCELED])
async def test_what_the_kernel_has_not_begun_is_written_by_the_thread(
    storage: FileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    put_in_place(monkeypatch, FaultyRing(0, -number))
    assert await appended(storage, b"all of it") is None
    assert on_disk(tmp_path) == b"all of it"


async def test_a_file_system_that_cannot_sync_by_writing_is_asked_once(
    storage: FileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = FaultyRing(0, -errno.EOPNOTSUPP)
    put_in_place(monkeypatch, ring)
    for _ in range(3):
        assert await appended(storage, b"whole") is None
    assert (ring.asked, on_disk(tmp_path)) == (1, b"whole" * 3)


async def test_a_write_that_is_refused_leaves_nothing_and_the_next_one_may_come(
    storage: FileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await appended(storage, b"sound.") is None
    ring = FaultyRing(0, -errno.ENOSPC)
    put_in_place(monkeypatch, ring)
    assert type(await appended(storage, b"refused")) is StorageFull
    assert on_disk(tmp_path) == b"sound."
    ring.written = ring.result = 4
    assert await appended(storage, b"more") is None
    assert on_disk(tmp_path) == b"sound.more"


async def test_a_sync_that_fails_is_never_tried_again(
    storage: FileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written may be taken for clean: a second sync would find nothing to do."""
    assert await appended(storage, b"sound.") is None
    put_in_place(monkeypatch, FaultyRing(3, -errno.EIO))
    assert type(await appended(storage, b"lost")) is StorageBroken
    assert on_disk(tmp_path) == b"sound."
    assert not storage.begin_append("wal-1", b"x", Ends())
    with pytest.raises(StorageBroken):
        await storage.append("wal-1", b"x")


async def test_a_failure_without_a_thread_to_look_into_it_is_one_all_the_same(
    storage: FileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    put_in_place(monkeypatch, FaultyRing(2, -errno.EIO))
    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", no_thread)
    assert type(await appended(storage, b"lost")) is StorageBroken
    assert on_disk(tmp_path) == b""


async def test_what_the_ring_does_not_take_is_written_by_the_thread(
    storage: FileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = FaultyRing(0, 0)
    monkeypatch.setattr(ring, "begin_write", lambda *_: False)
    put_in_place(monkeypatch, ring)
    assert await appended(storage, b"by a thread") is None
    assert on_disk(tmp_path) == b"by a thread"


async def test_nothing_is_appended_to_what_is_not_synced(
    storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be acknowledged with bytes before it that may be lost."""
    ring = FaultyRing(1, 1)
    put_in_place(monkeypatch, ring)
    await storage.create("wal-2")
    await storage.extend("wal-2", b"not synced")
    ends = Ends()
    assert storage.begin_append("wal-2", b"x", ends)
    await ends.told.wait()
    assert isinstance(ends[0], Invalid) and not ring.asked


async def test_what_fails_to_begin_is_in_nobodys_way(
    storage: FileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory() -> FaultyRing:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(file_storage, "ring_of_this_run", no_memory)
        with pytest.raises(MemoryError):
            storage.begin_append("wal-1", b"x", Ends())
    assert await appended(storage, b"sound") is None
    await storage.append("wal-1", b", too")
    assert on_disk(tmp_path) == b"sound, too"


async def test_a_file_that_cannot_be_looked_at_fails_its_append_alone(
    storage: FileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(_: OpenFile) -> bool:
        raise OSError(errno.ESTALE, "stale")

    put_in_place(monkeypatch, FaultyRing(4, 4))
    with monkeypatch.context() as patch:
        patch.setattr(OpenFile, "has_name", property(stale))
        error = await appended(storage, b"lost")
    assert isinstance(error, StorageFailed) and "stale" in str(error)
    assert on_disk(tmp_path) == b"", "as if it had never been"
    assert await appended(storage, b"kept") is None


async def test_a_file_that_was_deleted_is_noticed(
    storage: FileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place(monkeypatch, FaultyRing(4, 4))
    (tmp_path / "a0" / "wal-1").unlink()
    error = await appended(storage, b"gone")
    assert type(error) is StorageBroken and "wal-1 has been deleted" in str(error)


async def test_without_a_ring_threads_write(
    storage: FileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def forbidden(_: object) -> None:
        nonlocal asked
        asked += 1
        raise PermissionError(errno.EPERM, "not in this sandbox")

    monkeypatch.setattr(IoRing, "__init__", forbidden)
    monkeypatch.setattr(io_ring, "_kernel", lambda: io_ring._SINCE)
    monkeypatch.setattr(io_ring, "_rings", trio.lowlevel.RunVar("another run's"))
    for data in (b"first, ", b"second"):
        assert await appended(storage, data) is None
    assert (asked, on_disk(tmp_path)) == (1, b"first, second")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", _refused)
        assert isinstance(await appended(storage, b"x"), StorageFailed)


def _refused(*_: object) -> int:
    raise OSError(errno.EIO, "bad disk")
