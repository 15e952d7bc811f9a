"""The segment's shell: what order its bytes reach the disk in, and what a restart makes of them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from random import Random

import pytest
import trio

from aurora.transport import InProcessNetwork
from segments.config import SegmentConfig
from segments.disks import format_storage
from segments.protocol import codec
from segments.protocol.errors import SegmentLost
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import InstallTable, Seal
from segments.protocol.truncation import TruncationTable
from segments.server import SegmentServer
from segments.storage import Identity, MemoryStorage
from segments.wal import Promise, decode_promises

FIRST, SECOND = VolumeEpoch(1, 1), VolumeEpoch(2, 1)
TABLE = TruncationTable(FIRST).extended(SECOND, 0, 100)


class StuckPromises(MemoryStorage):
    """A disk that dies between the log and the promise."""

    stuck = False

    async def write_promise(self, data: bytes) -> None:
        if self.stuck:
            await trio.sleep_forever()
        await super().write_promise(data)


def _server(network: InProcessNetwork, storage: MemoryStorage) -> SegmentServer:
    endpoint = network.attach("A0")
    return SegmentServer("A0", 0, (), storage, endpoint, SegmentConfig(), Random(1))


def no_frame(storage: MemoryStorage) -> None:
    storage.files["wal-1"][20] ^= 0xFF


def no_log(storage: MemoryStorage) -> None:
    storage.files["wal-1"].clear()


def no_promises(storage: MemoryStorage) -> None:
    storage.files["promise"].clear()


def spoilt_promises(storage: MemoryStorage) -> None:
    storage.files["promise"] = bytearray(len(storage.files["promise"]))


def no_file(storage: MemoryStorage) -> None:
    del storage.files["wal-1"]


def no_manifest(storage: MemoryStorage) -> None:
    del storage.files["manifest"]


def spoilt_manifest(storage: MemoryStorage) -> None:
    storage.files["manifest"][10] ^= 1
    storage.files["manifest"][4096 + 10] ^= 1


@pytest.mark.parametrize(
    "spoil",
    [no_frame, no_log, no_promises, spoilt_promises, no_file, no_manifest, spoilt_manifest],
)
async def test_a_disk_without_log_or_promises_is_lost_and_left_as_it_is(
    spoil: Callable[[MemoryStorage], None],
) -> None:
    storage = MemoryStorage(Identity("volume", "A0"))
    await format_storage(storage, FIRST, Random(1))
    spoil(storage)
    before = deepcopy(storage.files)
    with pytest.raises(SegmentLost, match=r"segment A0 has lost its (log|promises): (no|a sp)"):
        await _server(InProcessNetwork(64), storage).run()
    assert storage.files == before


@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.parametrize("name", ["promise", "manifest"])
async def test_the_scrub_repairs_one_of_two_copies_before_the_other_is_needed(
    autojump_clock: trio.testing.MockClock, name: str, copy: int
) -> None:
    storage = MemoryStorage(Identity("volume", "A0"))
    await format_storage(storage, FIRST, Random(1))
    server = _server(InProcessNetwork(64), storage)
    sound = deepcopy(storage.files)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        assert server.core is not None
        await trio.sleep(10)
        assert (storage.files, server.core.scrub.damages_found) == (sound, 0)
        spoilt = storage.files[name]
        spoilt[copy * len(spoilt) // 2 + 10] ^= 1
        await trio.sleep(10)
        assert server.core.scrub.damages_found == 1
        nursery.cancel_scope.cancel()
    assert storage.files == sound


async def test_a_crash_between_log_and_promise_leaves_a_whole_segment(
    autojump_clock: trio.testing.MockClock,
) -> None:
    storage = StuckPromises(Identity("volume", "A0"))
    await format_storage(storage, FIRST, Random(1))
    network = InProcessNetwork(64)
    writer = network.attach("writer")
    async with trio.open_nursery() as nursery:
        await nursery.start(_server(network, storage).run)
        writer.send("A0", codec.encode(Seal(SECOND, 1)))
        await trio.sleep(1)
        storage.stuck = True
        writer.send("A0", codec.encode(InstallTable(SECOND, 2, TABLE)))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert decode_promises(bytes(storage.files["promise"])) == Promise(SECOND, FIRST)

    storage.stuck = False
    restarted = _server(network, storage)
    async with trio.open_nursery() as nursery:
        await nursery.start(restarted.run)
        assert restarted.core is not None
        # Were the promise written first, six such segments would wait for each other for ever.
        assert restarted.core.state.whole
        assert restarted.core.state.table == TABLE
        assert decode_promises(bytes(storage.files["promise"])) == Promise(SECOND, SECOND)
        nursery.cancel_scope.cancel()
