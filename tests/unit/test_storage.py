"""What every storage does, in memory and in files alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from segments.file_storage import FileStorage
from segments.manifest import PROMISE
from segments.protocol.errors import Invalid, SegmentLost
from segments.protocol.ids import VolumeEpoch
from segments.storage import WHOLE, Identity, MemoryStorage, Storage
from segments.wal import NO_PROMISE, Promise, decode_promises, encode_promise
from tests.files_on_disks import make_file

IDENTITY = Identity("volume-1", "A0")


@pytest.fixture(params=["memory", "files"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made: Storage
    if request.param == "memory":
        made = MemoryStorage(IDENTITY)
    else:
        made = FileStorage.format(tmp_path / "a0", IDENTITY)
    yield made
    made.close()


async def contents(storage: Storage) -> dict[str, bytes]:
    """Its files, but for the promise."""
    names = [each for each in await storage.names() if each != PROMISE]
    return {each: await storage.read(each, 0, WHOLE) for each in names}


async def test_a_fresh_storage_has_promised_nothing(storage: Storage) -> None:
    assert storage.identity == IDENTITY
    assert await storage.names() == (PROMISE,)
    assert decode_promises(await storage.read(PROMISE, 0, WHOLE)) == NO_PROMISE


async def test_appends_to_a_file_follow_each_other(storage: Storage) -> None:
    await make_file(storage, "a", [b"one"])
    await make_file(storage, "b", [])
    for data in (b"", b"two"):
        await storage.append("a", data)
    await storage.append("b", b"three")
    assert await contents(storage) == {"a": b"onetwo", "b": b"three"}


async def test_a_promise_goes_to_both_slots(storage: Storage) -> None:
    for epoch in (VolumeEpoch(1, 2), VolumeEpoch(2, 1)):
        promise = encode_promise(Promise(epoch, epoch))
        await storage.write_promise(promise)
        assert await storage.read(PROMISE, 0, WHOLE) == promise + promise


async def test_a_cut_file_goes_on_where_it_was_cut(storage: Storage) -> None:
    await make_file(storage, "a", [b"whole, torn"])
    await storage.truncate("a", 5)
    await storage.append("a", b"!")
    for length in (-1, 7):
        with pytest.raises(Invalid, match=f"cut a to {length} bytes: expected 0 to 6"):
            await storage.truncate("a", length)
    await storage.truncate("a", 6)
    assert await contents(storage) == {"a": b"whole!"}


async def test_reads_stop_where_a_file_ends(storage: Storage) -> None:
    await make_file(storage, "a", [b"0123456789"])
    assert await storage.read("a", 2, 3) == b"234"
    assert await storage.read("a", 8, 10) == b"89"
    assert await storage.read("a", 10, 1) == b""
    assert await storage.read("a", 99, 1) == b""
    assert await storage.read("a", 0, 0) == b""
    assert await storage.read("b", 0, 9) == b"", "there is none"
    for offset, length in ((-1, 2), (2, -1)):
        with pytest.raises(Invalid, match=f"read {length} bytes of a at {offset}"):
            await storage.read("a", offset, length)


async def test_a_new_file_is_made_bit_by_bit(storage: Storage) -> None:
    await storage.create("a")
    assert await contents(storage) == {"a": b""}
    for data in (b"check", b"", b"point"):
        await storage.extend("a", data)
    assert await contents(storage) == {"a": b"checkpoint"}
    await storage.sync_file("a")
    await storage.sync_names()
    await storage.append("a", b", more")
    assert await contents(storage) == {"a": b"checkpoint, more"}


async def test_what_is_there_is_not_made_and_what_is_not_is_not_changed(storage: Storage) -> None:
    await make_file(storage, "a", [b"old"])
    with pytest.raises(Invalid, match="file a is there already: expected a new name"):
        await storage.create("a")
    for operation in (
        storage.append("b", b"x"),
        storage.truncate("b", 0),
        storage.extend("b", b"x"),
        storage.sync_file("b"),
    ):
        with pytest.raises(Invalid, match="file b is not there"):
            await operation
    assert await contents(storage) == {"a": b"old"}


async def test_a_published_file_takes_the_place_of_the_one_before(storage: Storage) -> None:
    for data in (b"first", b"2nd", b""):
        await storage.publish("m", data)
        assert await contents(storage) == {"m": data}
    await storage.append("m", b"more")
    assert await contents(storage) == {"m": b"more"}


async def test_deleted_files_are_gone_and_their_names_free(storage: Storage) -> None:
    for name in ("a", "b", "c"):
        await make_file(storage, name, [name.encode()])
    await storage.delete(["c", "a", "never there"])
    assert await contents(storage) == {"b": b"b"}
    await make_file(storage, "a", [b"again"])
    assert await contents(storage) == {"a": b"again", "b": b"b"}


async def test_closing_twice_is_closing_once(storage: Storage) -> None:
    storage.close()
    storage.close()
    assert storage.identity == IDENTITY


# ---- memory alone --------------------------------------------------------------------------------


async def test_memory_outlives_its_segment() -> None:
    storage = MemoryStorage(IDENTITY)
    await make_file(storage, "a", [b"kept"])
    storage.close()
    assert await contents(storage) == {"a": b"kept"}


async def test_what_is_at_hand_is_what_would_be_read(storage: Storage, tmp_path: Path) -> None:
    await make_file(storage, "a", [b"0123456789"])
    parts = {(0, 10): b"0123456789", (2, 3): b"234", (10, 0): b""}
    for (offset, length), data in parts.items():
        found = storage.at_hand("a", offset, length)
        assert found == data or (found is None and not tells_what_is_in_memory(tmp_path))
    for name, offset, length in (("a", 8, 3), ("a", 11, 1), ("b", 0, 1)):
        assert storage.at_hand(name, offset, length) is None, "not all of that is there"
    for offset, length in ((-1, 1), (0, -1)):
        with pytest.raises(Invalid, match="expected neither negative"):
            storage.at_hand("a", offset, length)
    storage.close()
    assert storage.at_hand("a", 0, 1) in (b"0", None), "a disk in memory outlives its user"


def tells_what_is_in_memory(directory: Path) -> bool:
    """Whether this system reads without waiting for the disk, from files in a directory."""
    path = directory / "probe"
    path.write_bytes(b"1")
    with path.open("rb") as file:
        try:
            return os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT) == 1
        except (AttributeError, OSError):
            return False


async def test_what_was_read_does_not_change() -> None:
    storage = MemoryStorage(IDENTITY)
    await make_file(storage, "a", [b"then"])
    read = await storage.read("a", 0, WHOLE)
    await storage.append("a", b" and now")
    assert read == b"then"


async def test_a_wiped_disk_knows_and_takes_nothing() -> None:
    storage = MemoryStorage(IDENTITY)
    await make_file(storage, "a", [b"gone"])
    storage.wipe()
    assert (storage.identity, await storage.names()) == (None, ())
    assert await storage.read("a", 0, 9) == b""
    for operation in (
        storage.append("a", b"x"),
        storage.create("b"),
        storage.extend("a", b"x"),
        storage.sync_file("a"),
        storage.sync_names(),
        storage.publish("m", b"x"),
        storage.truncate("a", 0),
        storage.write_promise(encode_promise(NO_PROMISE)),
    ):
        with pytest.raises(SegmentLost):
            await operation
    assert MemoryStorage(None).identity is None


async def test_a_disk_wiped_while_a_file_is_made_stays_wiped() -> None:
    storage = MemoryStorage(IDENTITY)
    await storage.create("a")
    storage.wipe()
    with pytest.raises(SegmentLost):
        await storage.extend("a", b"ghost")
    assert await storage.names() == ()
