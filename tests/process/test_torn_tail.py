"""A log cut at every byte of its last frames: what was durable before stays, and what follows."""

from __future__ import annotations

from pathlib import Path
from random import Random

import trio

from aurora.transport import InProcessEndpoint, InProcessNetwork
from segments.config import SegmentConfig
from segments.disks import format_storage
from segments.file_storage import FileStorage
from segments.protocol import codec
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import WriteAck, WriteBatch
from segments.protocol.record import RedoRecord
from segments.protocol.run import encode_run
from segments.server import SegmentServer
from segments.storage import Identity, MemoryStorage, Storage
from tests.files_on_disks import scanned

EPOCH = VolumeEpoch(1, 1)
IDENTITY = Identity("v", "A0")


def record(lsn: int) -> RedoRecord:
    data = f"record {lsn}".encode()
    return RedoRecord(lsn, 1, 16 * lsn, data, lsn, True, lsn - 1, lsn - 1, lsn - 1)


async def write(storage: Storage, first: int, last: int) -> int:
    """Run a segment on the storage, and send it records one frame each; returns its SCL before."""
    network = InProcessNetwork(100)
    writer = network.attach("writer")
    server = SegmentServer("A0", 0, (), storage, network.attach("A0"), SegmentConfig(), Random(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        assert server.core is not None
        before = server.core.state.scl
        for lsn in range(max(first, before + 1), last + 1):
            await send(writer, lsn)
        nursery.cancel_scope.cancel()
    return before


async def send(writer: InProcessEndpoint, lsn: int) -> None:
    batch = WriteBatch(EPOCH, lsn, 0, 0, lsn, False, encode_run([record(lsn)]))
    writer.send("A0", codec.encode(batch))
    for envelope in await writer.receive(10):
        message = codec.decode(envelope.payload)
        assert isinstance(message, WriteAck)
        assert message.scl == lsn


async def test_regression_nothing_stays_between_a_torn_tail_and_what_is_written_after_it() -> None:
    """A fault of an earlier engine: garbage was left in front of new entries, which it then hid."""
    storage = MemoryStorage(IDENTITY)
    await format_storage(storage, EPOCH, Random(1))
    file = storage.files["wal-1"]
    ends = [len(file)]
    for lsn in range(1, 7):
        await write(storage, lsn, lsn)
        ends.append(len(file))
    log = bytes(file)
    for cut in range(ends[4], ends[6] + 1):
        for garbage in (b"", bytes(7), b"\xc1WAL\xff\xff"):
            torn = MemoryStorage(IDENTITY)
            await format_storage(torn, EPOCH, Random(1))
            left = log[:cut] + garbage  # zeros may be what was cut off
            torn.files["wal-1"] = bytearray(left)
            survived = max(lsn for lsn, end in enumerate(ends) if left[:end] == log[:end])
            assert await write(torn, 1, 8) == survived
            found = scanned(torn.files)
            assert not found.damage
            assert not found.torn_bytes
            assert await write(torn, 9, 9) == 8, "what came after the tear is read again"


async def test_a_torn_file_is_really_shortened(tmp_path: Path) -> None:
    storage = FileStorage.format(tmp_path / "A0", IDENTITY)
    await format_storage(storage, EPOCH, Random(1))
    await write(storage, 1, 3)
    storage.close()
    log = tmp_path / "A0" / "wal-1"
    whole = log.read_bytes()

    for cut in (1, 30, 70):
        log.write_bytes(whole[:-cut])
        storage = FileStorage.open(tmp_path / "A0", IDENTITY)
        before = await write(storage, 1, 4)
        storage.close()
        assert before < 3
        assert not scanned(
            {each.name: each.read_bytes() for each in log.parent.iterdir()}
        ).torn_bytes
        storage = FileStorage.open(tmp_path / "A0", IDENTITY)
        assert await write(storage, 1, 4) == 4
        storage.close()
