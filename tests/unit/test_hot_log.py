"""A log on its disk: when a file is full, put in place, deleted, and what a restart tidies up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from segments.hot_log import HotLog
from segments.manifest import LogFile, encode_manifest, stored_in
from segments.protocol.errors import StorageBroken, StorageFailed
from segments.storage import Identity, MemoryStorage

IDENTITY = Identity("volume-1", "A0")
FRAMES = [bytes([at]) * 40 for at in range(1, 12)]
"""Two fit into a file of 100 bytes."""


class Watched(MemoryStorage):
    """Remembers what it was asked for, and refuses what it is told to."""

    def __init__(self) -> None:
        super().__init__(IDENTITY)
        self.asked: list[str] = []
        self.refused: dict[str, StorageFailed] = {}

    def _take(self, operation: str, *about: str) -> None:
        self.asked.append(" ".join([operation, *about]))
        if operation in self.refused:
            raise self.refused.pop(operation)

    async def append(self, name: str, data: bytes) -> None:
        self._take("append", name)
        await super().append(name, data)

    async def create(self, name: str) -> None:
        self._take("create", name)
        await super().create(name)

    async def extend(self, name: str, data: bytes) -> None:
        self._take("extend", name)
        await super().extend(name, data)

    async def sync_file(self, name: str) -> None:
        self._take("sync_file", name)
        await super().sync_file(name)

    async def sync_names(self) -> None:
        self._take("sync_names")
        await super().sync_names()

    async def publish(self, name: str, data: bytes) -> None:
        self._take("publish", name)
        await super().publish(name, data)

    async def delete(self, names: Sequence[str]) -> None:
        self._take("delete", *names)
        await super().delete(names)

    @property
    def log_files(self) -> list[str]:
        return sorted(each for each in self.files if each not in ("manifest", "promise"))


async def opened(storage: Watched) -> HotLog:
    log = HotLog(storage, 100)
    stored = await log.load()
    assert not stored.lost
    await log.tidy()
    storage.asked.clear()
    return log


async def made() -> tuple[Watched, HotLog]:
    """A log of one frame, just opened."""
    storage = Watched()
    await HotLog(storage, 100).replace(FRAMES[:1])
    return storage, await opened(storage)


def log_on(storage: Watched) -> bytes:
    stored = stored_in(storage.files)
    assert not stored.lost
    return stored.log


async def test_a_full_file_is_followed_by_another_that_counts_when_it_is_named() -> None:
    storage, log = await made()
    for at in range(1, 5):
        await log.append(FRAMES[at])
        assert log_on(storage) == b"".join(FRAMES[: at + 1])
        assert log.size() == 40 * (at + 1)
    assert storage.asked == [
        "append wal-1",
        "create wal-2", "extend wal-2", "sync_file wal-2", "sync_names", "publish manifest",
        "append wal-2",
        "create wal-3", "extend wal-3", "sync_file wal-3", "sync_names", "publish manifest",
    ]  # fmt: skip
    sealed = [LogFile(1, 80), LogFile(2, 80), LogFile(3, 0)]
    assert storage.files["manifest"] == encode_manifest(sealed, 4)


async def test_a_frame_longer_than_a_file_has_one_of_its_own() -> None:
    storage, log = await made()
    for frame in (bytes(150), bytes(150), FRAMES[1]):
        await log.append(frame)
    assert [len(storage.files[each]) for each in storage.log_files] == [40, 150, 150, 40]


async def test_a_new_log_takes_as_many_files_as_it_needs_and_no_number_twice() -> None:
    storage, log = await made()
    await log.append(FRAMES[1])
    await log.replace(iter(FRAMES[2:7]))
    assert log_on(storage) == b"".join(FRAMES[2:7]) and log.size() == 200
    assert storage.asked[1:] == [
        "create wal-2", "extend wal-2", "extend wal-2", "sync_file wal-2",
        "create wal-3", "extend wal-3", "extend wal-3", "sync_file wal-3",
        "create wal-4", "extend wal-4", "sync_file wal-4",
        "sync_names", "publish manifest",
    ]  # fmt: skip
    assert storage.log_files == ["wal-1", "wal-2", "wal-3", "wal-4"], "nobody waits for deletions"
    await log.append(FRAMES[7])
    await log.sweep()
    await log.sweep()
    assert storage.asked[14:] == ["append wal-4", "delete wal-1"]
    await log.replace(FRAMES[8:9])
    await log.sweep()
    assert storage.log_files == ["wal-5"]


@pytest.mark.parametrize("operation", ["create", "extend", "sync_file", "sync_names", "publish"])
@pytest.mark.parametrize("what", ["append", "replace"])
async def test_a_refused_file_leaves_the_log_as_it_was_and_no_room_taken(
    operation: str, what: str
) -> None:
    storage, log = await made()
    await log.append(FRAMES[1])
    storage.refused[operation] = StorageFailed("no room")
    with pytest.raises(StorageFailed, match="no room"):
        await (log.append(FRAMES[2]) if what == "append" else log.replace(FRAMES[3:9]))
    assert (log_on(storage), log.size(), storage.log_files) == (
        b"".join(FRAMES[:2]), 80, ["wal-1"],
    )  # fmt: skip
    await log.append(FRAMES[2])
    assert log_on(storage) == b"".join(FRAMES[:3])
    assert storage.log_files[0] == "wal-1" and storage.log_files[1] > "wal-2", "nor a number twice"


async def test_a_broken_storage_is_asked_for_nothing_more() -> None:
    storage, log = await made()
    await log.append(FRAMES[1])
    storage.refused["sync_names"] = StorageBroken("who knows")
    with pytest.raises(StorageBroken):
        await log.append(FRAMES[2])
    assert storage.asked[-1] == "sync_names"


# ---- a restart -----------------------------------------------------------------------------------


async def test_a_restart_goes_on_where_the_log_ends() -> None:
    storage, log = await made()
    for frame in FRAMES[1:5]:
        await log.append(frame)
    log = await opened(storage)
    assert (log.size(), storage.asked) == (200, [])
    await log.append(FRAMES[5])
    await log.append(FRAMES[6])
    assert log_on(storage) == b"".join(FRAMES[:7])
    assert storage.log_files == ["wal-1", "wal-2", "wal-3", "wal-4"]


async def test_a_torn_tail_is_cut_off_the_last_file() -> None:
    storage, log = await made()
    for frame in FRAMES[1:3]:
        await log.append(frame)
    storage.files["wal-2"] += b"torn"
    log = HotLog(storage, 100)
    assert (await log.load()).log.endswith(b"torn")
    await log.truncate(120)
    assert log_on(storage) == b"".join(FRAMES[:3]) and log.size() == 120


async def test_a_restart_deletes_what_crashes_have_left_and_nothing_else() -> None:
    storage, _ = await made()
    for name in ("wal-2", "wal-7", "manifest.new", "notes"):
        storage.files[name] = bytearray(b"left")
    log = await opened(storage)
    assert sorted(storage.files) == ["manifest", "notes", "promise", "wal-1"]
    await log.append(FRAMES[1])
    await log.append(FRAMES[2])
    assert storage.log_files == ["notes", "wal-1", "wal-8"], "seven were given out, it seems"


@pytest.mark.parametrize("half", [0, 1])
async def test_a_restart_writes_a_spoilt_half_of_the_manifest_again(half: int) -> None:
    storage, _ = await made()
    sound = bytes(storage.files["manifest"])
    storage.files["manifest"][half * 4096 + 5] ^= 1
    await opened(storage)
    assert storage.files["manifest"] == sound


async def test_a_manifest_that_cannot_be_written_again_now_is_found_by_the_scrub() -> None:
    storage, _ = await made()
    storage.files["manifest"][5] ^= 1
    storage.files["wal-9"] = bytearray(b"left")
    log = HotLog(storage, 100)
    await log.load()
    storage.refused["publish"] = StorageFailed("no room")
    await log.tidy()
    assert not await log.manifest_is_sound() and storage.log_files == ["wal-1"]
    storage.refused["publish"] = StorageBroken("who knows")
    with pytest.raises(StorageBroken):
        await (await loaded(storage)).tidy()


async def loaded(storage: Watched) -> HotLog:
    log = HotLog(storage, 100)
    await log.load()
    return log


# ---- looking -------------------------------------------------------------------------------------


async def test_reads_go_over_all_files_and_what_is_missing_is_zeros() -> None:
    storage, log = await made()
    for frame in FRAMES[1:6]:
        await log.append(frame)
    whole = b"".join(FRAMES[:6])
    for offset in range(0, 260, 13):
        for length in (0, 1, 40, 81, 300):
            assert await log.read(offset, length) == whole[offset : offset + length]
    del storage.files["wal-2"]
    assert await log.read(70, 100) == whole[70:80] + bytes(80) + whole[160:170]


async def test_a_manifest_is_sound_if_it_is_what_was_written_even_while_it_is() -> None:
    storage, log = await made()
    assert await log.manifest_is_sound()
    storage.files["manifest"][5000] ^= 1
    assert not await log.manifest_is_sound()
    await log.append(FRAMES[1])
    await log.append(FRAMES[2])
    assert await log.manifest_is_sound()

    read, answers = storage.read, list[bool]()

    async def slowly(name: str, offset: int, length: int) -> bytes:
        data = await read(name, offset, length)
        await trio.testing.wait_all_tasks_blocked()
        return data

    async def look() -> None:
        answers.append(await log.manifest_is_sound())

    storage.read = slowly  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await log.append(FRAMES[3])
        await log.append(FRAMES[4])
    assert answers == [True]
