"""A log and its manifest on their disk: when a file is full, and when a new one counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

import pytest
import trio
import trio.testing

from segments.hot_log import HotLog
from segments.live_files import LiveFiles
from segments.manifest import LayerFile, LogFile, Manifest, encode_manifest, filled, log_in
from segments.protocol.errors import StorageBroken, StorageFailed
from segments.storage import Ended, Identity, MemoryStorage
from segments.wal import FrameBody

IDENTITY = Identity("volume-1", "A0")
BODIES = [FrameBody(0, bytes([at]) * 14) for at in range(1, 12)]
"""Frames of 38 bytes: two fit into a file of 100."""
LONG = FrameBody(0, bytes(126))
"""A frame of 150 bytes."""


class Salts(Random):
    """Gives the file of each number that number as its salt."""

    def __init__(self) -> None:
        super().__init__(1)
        self._last = 1

    def getrandbits(self, bits: int) -> int:
        assert bits == 64
        self._last += 1
        return self._last


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


def on_disk(files: Mapping[int, Sequence[FrameBody]]) -> bytes:
    """A log of these files: by the number of each, which is its salt, its frames."""
    return b"".join(
        b"".join(filled(LogFile(number, 0, number), bodies)[1]) for number, bodies in files.items()
    )


class Rig:
    """A log of one frame in one file, just opened."""

    def __init__(self) -> None:
        self.storage = Watched()
        manifest = encode_manifest(Manifest((LogFile(1, 0, 1),), (), 2))
        self.storage.files |= {
            "manifest": bytearray(manifest),
            "wal-1": bytearray(on_disk({1: BODIES[:1]})),
        }
        self.files = LiveFiles(Manifest((LogFile(1, 38, 1),), (), 2), {1: 1})
        self.log = HotLog(self.storage, self.files, manifest, Salts(), file_bytes=100)
        self.heads = 0

    async def append(self, body: FrameBody, top: int = 0) -> None:
        await self.log.append(body, top, self.head)

    def head(self) -> FrameBody:
        self.heads += 1
        return HEAD

    @property
    def written(self) -> bytes:
        return log_in(self.storage.files).log


HEAD = FrameBody(0, b"")
"""A frame of 24 bytes: behind it two more fit into a file of 100."""
NEW_FILE = ["create", "extend", "extend", "sync_file"]


def began(number: int) -> list[str]:
    """What is asked of the disk for a new file with its first frame."""
    file = [f"{each} wal-{number}" for each in NEW_FILE]
    return [*file, "sync_names", "publish manifest"]


async def test_what_fits_into_the_last_file_may_be_begun_without_a_task() -> None:
    rig = Rig()
    ends: list[Exception | None] = []
    assert rig.log.begin_append(BODIES[1], 7, ends.append) and ends == [None]
    assert (rig.files.last_log.length, rig.heads) == (76, 0)
    assert not rig.log.begin_append(BODIES[2], 8, ends.append), "it would be too long"
    await rig.append(BODIES[2], 8)
    assert ends == [None] and rig.written == on_disk({1: BODIES[:2], 2: [HEAD, BODIES[2]]})
    rig.storage.wipe()
    assert not rig.log.begin_append(BODIES[3], 9, ends.append)


async def test_what_was_begun_counts_once_it_has_ended_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, under_way = Rig(), list[Ended]()

    def begin_append(_name: str, _data: bytes, ended: Ended) -> bool:
        under_way.append(ended)
        return True

    monkeypatch.setattr(rig.storage, "begin_append", begin_append)
    ends: list[Exception | None] = []
    refused, before = StorageFailed("no space"), rig.files.log_bytes
    for error, grown in ((refused, 0), (None, BODIES[1].frame_bytes)):
        assert rig.log.begin_append(BODIES[1], 7, ends.append)
        assert rig.files.log_bytes == before
        under_way.pop()(error)
        assert rig.files.log_bytes == before + grown
    assert ends == [refused, None]
    await rig.log.new_file(HEAD)
    kept = [len(rig.files.without_folded(folded)) for folded in (6, 7)]
    assert kept == [2, 1], "the file with LSN 7 goes when that is folded"


async def test_a_full_file_is_followed_by_another_that_counts_when_it_is_named() -> None:
    rig = Rig()
    for at in range(1, 5):
        await rig.append(BODIES[at], at + 1)
    assert rig.written == on_disk(
        {1: BODIES[:2], 2: [HEAD, *BODIES[2:4]], 3: [HEAD, BODIES[4]]}
    )  # fmt: skip
    assert (rig.files.log_bytes, rig.heads) == (len(rig.written), 2)
    assert rig.storage.asked == [
        "append wal-1", *began(2), "append wal-2", *began(3),
    ]  # fmt: skip
    sealed = (LogFile(1, 76, 1), LogFile(2, 100, 2), LogFile(3, 0, 3))
    assert rig.storage.files["manifest"] == encode_manifest(Manifest(sealed, (), 4))
    assert [each.number for each in rig.files.without_folded(4)] == [3]
    assert [each.number for each in rig.files.without_folded(3)] == [2, 3]


async def test_a_frame_longer_than_a_file_has_one_of_its_own() -> None:
    rig = Rig()
    for body in (LONG, LONG, BODIES[1]):
        await rig.append(body)
    assert [len(rig.storage.files[each]) for each in rig.storage.log_files] == [38, 174, 174, 62]


async def test_the_log_goes_on_in_a_new_file_when_it_is_asked_to() -> None:
    rig = Rig()
    await rig.log.new_file(HEAD)
    assert rig.storage.asked == [
        "create wal-2", "extend wal-2", "sync_file wal-2", "sync_names", "publish manifest",
    ]  # fmt: skip
    assert rig.files.last_log == LogFile(2, 24, 2)
    assert [each.number for each in rig.files.without_folded(1)] == [2]
    await rig.append(BODIES[1])
    assert rig.written == on_disk({1: BODIES[:1], 2: [HEAD, BODIES[1]]})


@pytest.mark.parametrize("operation", ["create", "extend", "sync_file", "sync_names", "publish"])
async def test_a_refused_file_leaves_the_log_as_it_was_and_no_room_taken(operation: str) -> None:
    rig = Rig()
    await rig.append(BODIES[1])
    before = bytes(rig.storage.files["manifest"])
    rig.storage.refused[operation] = StorageFailed("no room")
    with pytest.raises(StorageFailed, match="no room"):
        await rig.append(BODIES[2])
    assert (rig.written, rig.files.log_bytes, rig.storage.log_files) == (
        on_disk({1: BODIES[:2]}), 76, ["wal-1"],
    )  # fmt: skip
    assert rig.storage.files["manifest"] == before
    await rig.append(BODIES[2])
    assert rig.written == on_disk({1: BODIES[:2], 3: [HEAD, BODIES[2]]})
    assert rig.storage.log_files == ["wal-1", "wal-3"], "no number comes twice"


async def test_a_broken_storage_is_asked_for_nothing_more() -> None:
    rig = Rig()
    await rig.append(BODIES[1])
    rig.storage.refused["sync_names"] = StorageBroken("who knows")
    with pytest.raises(StorageBroken):
        await rig.append(BODIES[2])
    assert rig.storage.asked[-1] == "sync_names"


# ---- the manifest --------------------------------------------------------------------------------

LAYER = LayerFile(7, 500, 0, 9, False)


def with_layer(manifest: Manifest) -> Manifest:
    return manifest._replace(layers=(LAYER,))


@pytest.mark.parametrize("layer_first", [True, False])
async def test_who_edits_the_manifest_while_another_does_takes_nothing_back(
    layer_first: bool,
) -> None:
    """Each edits what it is when its turn comes."""
    rig = Rig()
    publish = rig.storage.publish

    async def slowly(name: str, data: bytes) -> None:
        await trio.testing.wait_all_tasks_blocked()
        await publish(name, data)

    rig.storage.publish = slowly  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        if layer_first:
            nursery.start_soon(rig.log.republish, with_layer)
            await trio.testing.wait_all_tasks_blocked(0.0)
        nursery.start_soon(rig.log.new_file, HEAD)
        if not layer_first:
            await trio.testing.wait_all_tasks_blocked(0.0)
            nursery.start_soon(rig.log.republish, with_layer)
    said = Manifest((LogFile(1, 38, 1), LogFile(2, 0, 2)), (LAYER,), 3)
    assert rig.storage.files["manifest"] == encode_manifest(said)
    assert rig.files.manifest[:2] == ((LogFile(1, 38, 1), LogFile(2, 24, 2)), (LAYER,))


async def test_a_manifest_that_the_disk_refuses_is_as_it_was() -> None:
    rig = Rig()
    rig.storage.refused["publish"] = StorageFailed("no room")
    with pytest.raises(StorageFailed):
        await rig.log.republish(with_layer)
    assert not rig.files.manifest.layers and await rig.log.manifest_is_sound()
    await rig.log.republish(with_layer)
    assert rig.files.manifest.layers and await rig.log.manifest_is_sound()


async def test_a_manifest_is_sound_if_it_is_what_was_written_even_while_it_is() -> None:
    rig = Rig()
    assert await rig.log.manifest_is_sound()
    rig.storage.files["manifest"][5000] ^= 1
    assert not await rig.log.manifest_is_sound()
    await rig.log.republish(with_layer)
    assert await rig.log.manifest_is_sound()

    read, answers = rig.storage.read, list[bool]()

    async def slowly(name: str, offset: int, length: int) -> bytes:
        data = await read(name, offset, length)
        await trio.testing.wait_all_tasks_blocked()
        return data

    async def look() -> None:
        answers.append(await rig.log.manifest_is_sound())

    rig.storage.read = slowly  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await rig.append(LONG)
        await rig.append(LONG)
    assert answers == [True]
