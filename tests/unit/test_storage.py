"""What every storage does, in memory and in files alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from segments.file_storage import FileStorage
from segments.protocol.errors import Invalid, SegmentLost
from segments.protocol.ids import VolumeEpoch
from segments.storage import Identity, MemoryStorage, Storage
from segments.wal import NO_PROMISE, Promise, decode_promises, encode_promise

IDENTITY = Identity("volume-1", "A0")


@pytest.fixture(params=["memory", "files"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made: Storage
    if request.param == "memory":
        made = MemoryStorage.create(IDENTITY)
    else:
        made = FileStorage.create(tmp_path / "a0", IDENTITY)
    yield made
    made.close()


async def test_a_fresh_storage_is_empty_and_has_promised_nothing(storage: Storage) -> None:
    assert storage.identity == IDENTITY
    assert storage.size() == 0
    log, promises = await storage.load()
    assert log == b""
    assert promises != b""
    assert decode_promises(promises) == NO_PROMISE


async def test_appends_follow_each_other(storage: Storage) -> None:
    await storage.append(b"one")
    await storage.append(b"")
    await storage.append(b"two")
    assert storage.size() == 6
    assert (await storage.load()).log == b"onetwo"


async def test_a_promise_goes_to_both_slots(storage: Storage) -> None:
    for epoch in (VolumeEpoch(1, 2), VolumeEpoch(2, 1)):
        promise = encode_promise(Promise(epoch, epoch))
        await storage.write_promise(promise)
        assert (await storage.load()).promises == promise + promise


async def test_a_cut_log_goes_on_where_it_was_cut(storage: Storage) -> None:
    await storage.append(b"whole, torn")
    await storage.truncate(5)
    assert (storage.size(), (await storage.load()).log) == (5, b"whole")
    await storage.append(b"!")
    assert (await storage.load()).log == b"whole!"
    for length in (-1, 7):
        with pytest.raises(Invalid, match=f"to {length} bytes: expected 0 to 6"):
            await storage.truncate(length)
    await storage.truncate(6)
    assert (await storage.load()).log == b"whole!"


async def test_reads_stop_where_the_log_ends(storage: Storage) -> None:
    await storage.append(b"0123456789")
    assert await storage.read(2, 3) == b"234"
    assert await storage.read(8, 10) == b"89"
    assert await storage.read(10, 1) == b""
    assert await storage.read(99, 1) == b""
    assert await storage.read(0, 0) == b""
    for offset, length in ((-1, 2), (2, -1)):
        with pytest.raises(Invalid, match=f"read {length} bytes at {offset}"):
            await storage.read(offset, length)


async def test_a_replaced_log_consists_of_its_chunks(storage: Storage) -> None:
    await storage.append(b"a long history")
    await storage.replace(iter([b"check", b"", b"point"]))
    assert (storage.size(), (await storage.load()).log) == (10, b"checkpoint")
    await storage.append(b"+")
    assert (await storage.load()).log == b"checkpoint+"
    await storage.replace([])
    assert (storage.size(), (await storage.load()).log) == (0, b"")


async def test_a_replacement_that_fails_half_way_changes_nothing(storage: Storage) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise ArithmeticError

    await storage.append(b"old")
    with pytest.raises(ArithmeticError):
        await storage.replace(chunks())
    assert (await storage.load()).log == b"old"
    await storage.append(b"er")
    assert (await storage.load()).log == b"older"


async def test_closing_twice_is_closing_once(storage: Storage) -> None:
    storage.close()
    storage.close()
    assert storage.identity == IDENTITY


# ---- memory alone --------------------------------------------------------------------------------


async def test_memory_outlives_its_segment() -> None:
    storage = MemoryStorage.create(IDENTITY)
    await storage.append(b"kept")
    storage.close()
    assert (await storage.load()).log == b"kept"


async def test_what_was_loaded_does_not_change() -> None:
    storage = MemoryStorage.create(IDENTITY)
    await storage.append(b"then")
    loaded = await storage.load()
    await storage.append(b" and now")
    assert loaded.log == b"then"


async def test_a_wiped_disk_knows_and_takes_nothing() -> None:
    storage = MemoryStorage.create(IDENTITY)
    await storage.append(b"gone")
    storage.wipe()
    assert (storage.identity, storage.size(), (await storage.load())) == (None, 0, (b"", b""))
    with pytest.raises(SegmentLost):
        await storage.append(b"x")
    with pytest.raises(SegmentLost):
        await storage.write_promise(encode_promise(Promise(VolumeEpoch(1, 1), VolumeEpoch(1, 1))))
    with pytest.raises(SegmentLost):
        await storage.replace([])
    with pytest.raises(SegmentLost):
        await storage.truncate(0)
    assert MemoryStorage(None).identity is None


async def test_a_disk_wiped_during_a_replacement_stays_wiped() -> None:
    storage = MemoryStorage.create(IDENTITY)

    def chunks() -> Iterator[bytes]:
        storage.wipe()
        yield b"ghost"

    with pytest.raises(SegmentLost):
        await storage.replace(chunks())
    assert (await storage.load()) == (b"", b"")
