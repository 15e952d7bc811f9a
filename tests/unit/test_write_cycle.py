"""A segment's writes: begun and ended without turns of tasks, and what is not usual."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aurora.transport import InProcessEndpoint, InProcessNetwork
from segments.config import SegmentConfig
from segments.core import SegmentCore
from segments.disks import format_storage
from segments.protocol import codec
from segments.protocol.errors import StorageBroken, StorageFailed, StorageFull
from segments.protocol.messages import Message, Seal, WriteAck
from segments.server import SegmentServer
from segments.storage import Ended, Identity, MemoryStorage
from tests.store_rig import FIRST, SECOND, batch, records

RECORDS = records(range(1, 10))


class SlowDisk(MemoryStorage):
    """What is begun ends when the test says so, and as it says."""

    def __init__(self) -> None:
        super().__init__(Identity("volume", "A0"))
        self.begun: list[tuple[bytes, Ended]] = []

    def begin_append(self, name: str, data: bytes, ended: Ended) -> bool:
        assert len(self.begun) < 1, "one at a time"
        self.begun.append((data, ended))
        return True

    def end(self, error: Exception | None = None) -> None:
        data, ended = self.begun.pop()
        if error is None:
            self._append("wal-1", data)
        ended(error)

    def let_go(self) -> None:
        """Nobody waits for a write that no test will end."""
        if self.begun:
            self.end(StorageFailed("the test is over"))


class Rig:
    """A segment, its disk, and a writer that is no task."""

    def __init__(self, disk: SlowDisk, server: SegmentServer, writer: InProcessEndpoint) -> None:
        self.disk, self.server, self.writer = disk, server, writer
        self.seq = 0

    @property
    def core(self) -> SegmentCore:
        assert self.server.core is not None
        return self.server.core

    def write(self, through: int) -> None:
        """Send one record more."""
        self.seq += 1
        self.send(batch([RECORDS[through - 1]], seq=self.seq))

    def send(self, message: Message) -> None:
        self.writer.send("A0", codec.encode(message))

    @property
    def acknowledged(self) -> list[int]:
        """The SCLs that the writer has heard of."""
        heard = [codec.decode(each.payload) for each in self.writer._inbox]
        return [each.scl for each in heard if isinstance(each, WriteAck)]


@asynccontextmanager
async def rigged() -> AsyncIterator[Rig]:
    """A segment that runs."""
    disk = SlowDisk()
    await format_storage(disk, FIRST, Random(1))
    network = InProcessNetwork(64)
    server = SegmentServer("A0", 0, (), disk, network.attach("A0"), SegmentConfig(), Random(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        await wait_all_tasks_blocked()
        try:
            yield Rig(disk, server, network.attach("writer"))
        except Exception:  # who would end the write of a test that has failed?
            disk.let_go()
            raise
        disk.let_go()
        nursery.cancel_scope.cancel()


async def test_a_write_begins_with_its_message_and_its_end_acknowledges_it() -> None:
    async with rigged() as rig:
        rig.write(1)
        assert len(rig.disk.begun) == 1 and rig.server.writing_since_s is not None
        rig.write(2)
        rig.write(3)
        assert rig.acknowledged == []
        rig.disk.end()
        assert rig.acknowledged == [1]
        assert len(rig.disk.begun) == 1, "what came meanwhile shares the next write"
        rig.disk.end()
        assert rig.acknowledged == [1, 3] and not rig.disk.begun
        assert rig.server.writing_since_s is None and rig.core.state.scl == 3


async def test_who_comes_amid_the_effects_of_a_write_is_heard_after_them() -> None:
    many = records(range(1, 8_001))
    async with rigged() as rig:
        rig.write(1)
        for at in range(1, len(many), 500):
            rig.send(batch(many[at : at + 500], seq=at + 1))
        rig.disk.end()
        await wait_all_tasks_blocked()
        rig.disk.end()
        assert rig.core.applying
        rig.send(batch([], seq=9_000))
        with trio.fail_after(5):
            while len(rig.acknowledged) < 3:
                await trio.lowlevel.checkpoint()
        assert rig.acknowledged == [1, len(many), len(many)]


async def test_a_crash_amid_a_write_waits_for_its_end_and_says_nothing() -> None:
    ended: list[str] = []

    async def crash(rig: Rig) -> None:
        await wait_all_tasks_blocked()
        ended.append("write")
        rig.disk.end()
        assert not rig.disk.begun and rig.acknowledged == []

    async with trio.open_nursery() as outer:
        with trio.CancelScope() as scope:
            async with rigged() as rig:
                rig.write(1)
                rig.write(2)
                scope.cancel()
                rig.write(3)
                outer.start_soon(crash, rig)
                await trio.sleep_forever()
        ended.append("segment")
    assert ended == ["write", "segment"]
    assert rig.acknowledged == [] and rig.core.state.scl == 0


async def test_a_refused_write_is_tried_again_later(autojump_clock: MockClock) -> None:
    async with rigged() as rig:
        rig.write(1)
        rig.disk.end(StorageFull("no space"))
        await trio.sleep(SegmentConfig().storage_retry_s / 2)
        assert rig.server.refusal is not None and rig.server.storage_failures == 1
        rig.write(1)
        assert not rig.disk.begun, "while it waits nothing is begun"
        await trio.sleep(SegmentConfig().storage_retry_s)
        rig.disk.end()
        assert rig.acknowledged == [1] and rig.server.refusal is None


async def test_a_broken_disk_ends_the_segment() -> None:
    with pytest.RaisesGroup(StorageBroken, flatten_subgroups=True):
        async with rigged() as rig:
            rig.write(1)
            rig.disk.end(StorageBroken("bad disk"))
            await wait_all_tasks_blocked()


async def test_who_waits_for_the_effects_of_a_write_waits_no_longer_than_they_take(
    autojump_clock: MockClock,
) -> None:
    async with rigged() as rig:
        rig.send(batch(records(range(1, 101), size=1_500), seq=1))  # more than one step
        assert not rig.disk.begun, "what takes long is not done where it is delivered"
        await wait_all_tasks_blocked()
        rig.disk.end()
        assert rig.core.applying
        with trio.fail_after(1):
            await rig.server.settled()  # before the task of the writes has had a turn
        assert rig.core.state.scl == 100


async def test_nobody_waits_for_the_effects_of_a_write_that_a_crash_has_ended(
    autojump_clock: MockClock,
) -> None:
    async def look_from_elsewhere(server: SegmentServer) -> None:
        with trio.fail_after(1):
            await server.settled()

    async with trio.open_nursery() as outer:
        with trio.CancelScope() as scope:
            async with rigged() as rig:
                rig.send(batch(records(range(1, 101), size=1_500), seq=1))
                await wait_all_tasks_blocked()
                rig.disk.end()
                outer.start_soon(look_from_elsewhere, rig.server)
                scope.cancel()
                await trio.sleep_forever()
        assert rig.core.applying and rig.acknowledged == []


async def test_a_mistake_in_what_a_write_means_is_the_segments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(_: SegmentCore) -> None:
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with rigged() as rig:
            monkeypatch.setattr(SegmentCore, "wrote", wrong)
            rig.write(1)
            rig.disk.end()
            await wait_all_tasks_blocked()


async def test_a_promise_takes_the_task_and_what_comes_meanwhile_waits() -> None:
    async with rigged() as rig:
        rig.send(Seal(SECOND, 1))
        assert not rig.disk.begun
        rig.send(batch([], epoch=SECOND, seq=1))
        await wait_all_tasks_blocked()
        assert rig.core.state.epoch == SECOND
