"""Long work goes in steps: others run in between, and nobody sees it half done."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing

from aurora.transport import InProcessNetwork
from segments.chain_index import ChainIndex
from segments.config import SegmentConfig
from segments.disks import format_storage
from segments.file_storage import FileStorage
from segments.manifest import stored_in
from segments.protocol import codec
from segments.protocol.messages import GossipPages, GossipStatus, PageImage, WriteAck
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.transport import Envelope
from segments.protocol.truncation import TruncationTable
from segments.restart import plan_restart_steps
from segments.server import SegmentServer
from segments.state import SegmentState
from segments.steps import STEP_BYTES, Pace, Steps, finished
from segments.storage import WHOLE, Identity, MemoryStorage
from segments.wal import NO_PROMISE, encode_promise, scan, scan_steps
from tests.oracles import insert
from tests.segment_rig import FIRST, SegmentRig, batch, records

MANY = records(range(1, 6_001))
"""Some 260 KB of log."""
RUN = 1_000
IDENTITY = Identity("volume", "A0")


async def stored(storage: MemoryStorage) -> None:
    """Format a disk, and write `MANY` to it as a segment would."""
    await format_storage(storage, FIRST)
    rig = SegmentRig()
    formatted = len(rig.log)
    for at in range(0, len(MANY), RUN):
        rig.take(MANY[at : at + RUN])
    await storage.append("wal-1", bytes(rig.log[formatted:]))


def segment(network: InProcessNetwork, storage: MemoryStorage) -> SegmentServer:
    endpoint = network.attach("A0")
    return SegmentServer("A0", 0, (), storage, endpoint, SegmentConfig(), Random(1))


class HeldDisk(MemoryStorage):
    """Appends nothing before it is let go."""

    def __init__(self, identity: Identity | None) -> None:
        super().__init__(identity)
        self.go = trio.Event()

    async def append(self, name: str, data: bytes) -> None:
        await self.go.wait()
        await super().append(name, data)


def steps_of(steps: Steps[object]) -> int:
    return sum(1 for _ in steps)


def test_all_steps_at_once_give_the_result() -> None:
    def three() -> Steps[str]:
        yield
        yield
        return "done"

    assert finished(three()) == "done"


def test_a_step_ends_when_its_bytes_have_gathered() -> None:
    pace = Pace()
    sizes = [STEP_BYTES - 1, 1, 10, STEP_BYTES, 1]
    assert [pace.ends_step(size) for size in sizes] == [False, True, False, True, False]


async def test_a_log_is_read_in_steps_that_its_size_bounds() -> None:
    storage = MemoryStorage(IDENTITY)
    await stored(storage)
    held = stored_in(storage.files)
    log = held.log
    least = len(log) // (STEP_BYTES + 64 * RUN)
    assert least >= 1
    assert steps_of(scan_steps(log)) >= least
    assert steps_of(SegmentState.restore_steps(SegmentConfig(), scan(log), NO_PROMISE)) >= least
    assert steps_of(plan_restart_steps("A0", held, SegmentConfig())) >= 2 * least


async def test_others_run_while_a_segment_restarts() -> None:
    storage = MemoryStorage(IDENTITY)
    await stored(storage)
    turns = 0

    async def run_along() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_along)
        server = segment(InProcessNetwork(64), storage)
        await nursery.start(server.run)
        assert server.core is not None and server.core.state.scl == len(MANY)
        assert turns >= 2 * (len(storage.files["wal-1"]) // (STEP_BYTES + 64 * RUN)) >= 4
        nursery.cancel_scope.cancel()


# ---- a write's effects ---------------------------------------------------------------------------


def test_a_large_write_takes_effect_in_steps_and_is_acknowledged_at_their_end() -> None:
    rig = SegmentRig()
    for at in range(0, len(MANY), RUN):
        rig.step(batch(MANY[at : at + RUN], seq=at + 1))
    write = rig.core.take_write()
    assert write is not None
    rig.store(write)
    rig.core.wrote()
    steps = 0
    while rig.core.applying:
        assert rig.said(WriteAck) == [] and rig.core.take_write() is None
        with pytest.raises(AssertionError, match="amid the effects of a write"):
            rig.step(batch([]))
        with pytest.raises(AssertionError, match="amid the effects of a write"):
            rig.core.tick(1.0)
        rig.core.apply_more()
        steps += 1
    assert steps >= 2
    assert [ack.scl for ack in rig.said(WriteAck)] == [len(MANY)]
    assert rig.core.take_write() is None and not rig.core.has_input


async def test_a_message_waits_until_the_write_before_it_has_taken_effect() -> None:
    many = records(range(1, 20_001))  # so many steps that somebody else sees one, whoever is first
    storage = HeldDisk(IDENTITY)
    storage.go.set()
    await format_storage(storage, FIRST)
    storage.go = trio.Event()  # so that all the rest gathers behind the first write
    network = InProcessNetwork(64)
    writer = network.attach("writer")
    async with trio.open_nursery() as nursery:
        server = segment(network, storage)
        await nursery.start(server.run)
        for at in range(0, len(many), RUN):
            writer.send("A0", codec.encode(batch(many[at : at + RUN], seq=at + 1)))
        await trio.testing.wait_all_tasks_blocked()
        storage.go.set()
        assert server.core is not None
        seen = 0
        while server.core.state.scl < len(many):
            seen += server.core.applying
            if server.core.applying:
                writer.send("A0", codec.encode(batch([])))
            await trio.lowlevel.checkpoint()
        assert seen, "a write that took effect in steps"
        with trio.fail_after(5):
            while scl_acknowledged(await writer.receive(100)) < len(many):
                pass
        nursery.cancel_scope.cancel()


def scl_acknowledged(envelopes: Sequence[Envelope]) -> int:
    messages = [codec.decode(payload) for _, payload in envelopes]
    return max([each.scl for each in messages if isinstance(each, WriteAck)], default=0)


def test_pages_of_a_peer_count_only_when_all_are_there() -> None:
    pages = [PageImage(page_id, 50, bytes([1]) * PAGE_SIZE) for page_id in range(600)]
    config = SegmentConfig(gossip_bytes=4 << 20, queue_bytes=64 << 20, write_bytes=32 << 20)
    rig = SegmentRig(config=config)
    rig.step(batch([], vdl=60))
    table = TruncationTable(FIRST)
    rig.step(GossipPages(FIRST, "B0", table, 60, 50, 0, 0, tuple(pages)), source="B0")
    write = rig.core.take_write()
    assert write is not None
    rig.store(write)
    rig.core.wrote()
    steps = 0
    while rig.core.applying:
        assert (rig.state.scl, rig.state.floor, rig.state.index.base_lsn) == (0, 0, 0)
        rig.core.apply_more()
        steps += 1
    assert steps >= 2
    assert (rig.state.scl, rig.state.floor) == (50, 50)
    assert rig.state.materializer.materialize(599, 50).image == bytes([1]) * PAGE_SIZE
    rig.step(GossipStatus(FIRST, "B0", table, 50, 60, 0, False), source="B0")


# ---- collection ----------------------------------------------------------------------------------


def test_collection_goes_in_turns_until_it_has_caught_up() -> None:
    rig = SegmentRig(config=SegmentConfig(collect_records=10, coalesce_records=100))
    for at in range(0, 3_000, RUN):
        rig.take(MANY[at : at + RUN])
    rig.step(batch([], vdl=3_000, floor=3_000))
    turns, held = 0, len(rig.state.index)
    rig.core.tick(0.0)
    while rig.core.maintenance.behind:
        assert held - len(rig.state.index) <= 100
        held = len(rig.state.index)
        rig.core.tick(0.0)
        turns += 1
    assert turns >= 29 and len(rig.state.index) < 10
    rig.core.tick(0.0)
    assert not rig.core.maintenance.behind


# ---- what Python and the disk do -----------------------------------------------------------------


def test_the_collector_of_cycles_does_not_walk_over_all_records() -> None:
    index = ChainIndex(max_unlinked=10)
    gc.collect()
    before = len(gc.get_objects())
    insert(index, records(range(1, 2_001)))
    gc.collect()
    assert len(gc.get_objects()) - before < 200
    assert isinstance(index.get(7), RedoRecord)


async def test_the_loop_goes_on_while_a_log_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FileStorage.format(tmp_path / "A0", IDENTITY).close()
    storage = FileStorage.open(tmp_path / "A0", IDENTITY)
    started, go, sync = trio.Event(), threading.Event(), os.fsync
    token = trio.lowlevel.current_trio_token()

    def held(file: int) -> None:
        token.run_sync_soon(started.set)
        assert go.wait(10)
        sync(file)

    monkeypatch.setattr(os, "fsync", held)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.names)
        await started.wait()
        go.set()
    assert await storage.read("promise", 0, WHOLE) == encode_promise(NO_PROMISE) * 2
    storage.close()
