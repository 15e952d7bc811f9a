"""Long work goes in steps: others run in between, and nobody sees it half done."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from aurora.transport import InProcessNetwork
from segments.chain_index import ChainIndex
from segments.config import SegmentConfig
from segments.disks import format_storage
from segments.file_storage import FileStorage
from segments.layers import block, collect, fold, layer_writer, ordered
from segments.layers.job import PAUSE, Job, Op, reader_of
from segments.layers.layer_map import NO_LAYERS
from segments.manifest import log_in
from segments.protocol import codec
from segments.protocol.messages import WriteAck
from segments.protocol.record import RECORD_OVERHEAD_BYTES, RedoRecord
from segments.protocol.transport import Envelope
from segments.restart import restart_job
from segments.server import SegmentServer
from segments.state import SegmentState
from segments.steps import STEP_BYTES, Pace, Steps, finished
from segments.storage import WHOLE, Ended, Identity, MemoryStorage
from segments.wal import NO_PROMISE, encode_promise
from segments.wal_scan import scan, scan_steps
from tests.layer_rig import chain
from tests.oracles import insert
from tests.store_rig import FIRST, StoreRig, batch, records

MANY = records(range(1, 6_001))
"""Some 260 KB of log."""
RUN = 1_000
IDENTITY = Identity("volume", "A0")
CONFIG = SegmentConfig()


async def stored(storage: MemoryStorage) -> None:
    """Write `MANY` to a disk as a segment would."""
    rig = StoreRig(config=CONFIG)
    for at in range(0, len(MANY), RUN):
        rig.take(MANY[at : at + RUN])
    storage.files = {name: bytearray(data) for name, data in rig.disk.files.items()}


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

    def begin_append(self, name: str, data: bytes, ended: Ended) -> bool:
        return False


def steps_of(steps: Steps[object]) -> int:
    return sum(1 for _ in steps)


def pauses_of(job: Job[object], execute: Callable[[Op], bytes | None]) -> int:
    """How often a job lets others run without asking for anything."""
    pauses, answer = 0, None
    while True:
        try:
            op = job.send(answer)
        except StopIteration:
            return pauses
        pauses += op is PAUSE
        answer = None if op is PAUSE else execute(op)


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
    parts = log_in(storage.files).parts
    least = len(parts[0].data) // (STEP_BYTES + 64 * RUN)
    assert least >= 1
    assert steps_of(scan_steps(parts)) >= least
    restored = SegmentState.restore_steps(CONFIG, NO_LAYERS, scan(parts), NO_PROMISE)
    assert steps_of(restored) >= least
    job = restart_job("A0", tuple(storage.files), CONFIG)
    assert pauses_of(job, reader_of(storage.files)) >= 2 * least


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
    rig = StoreRig(config=CONFIG)
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
    assert rig.core.take_write() is None


async def test_a_message_waits_until_the_write_before_it_has_taken_effect() -> None:
    many = records(range(1, 20_001))  # so many steps that somebody else sees one, whoever is first
    storage = HeldDisk(IDENTITY)
    storage.go.set()
    await format_storage(storage, FIRST, Random(1))
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


# ---- jobs ----------------------------------------------------------------------------------------

MOST_ROWS = 3 * 4_096
"""Rows that one step may handle, each counted as often as it is looked at: some 10 ms."""


@contextmanager
def rows_counted() -> Iterator[list[int]]:
    """Counts the rows that are checked, sorted or put into blocks, in its only place."""
    counted = [0]

    def counting(module: Any, name: str, rows: Callable[..., int]) -> None:
        inner = getattr(module, name)

        def outer(*args: Any, **named: Any) -> Any:
            counted[0] += rows(*args)
            return inner(*args, **named)

        patch.setattr(module, name, outer)

    with pytest.MonkeyPatch.context() as patch:
        size = RECORD_OVERHEAD_BYTES
        for module in (block, collect, fold, layer_writer, ordered):
            if hasattr(module, "sorted_block"):
                counting(module, "sorted_block", lambda data, *_: len(data.rows) // size)
        counting(layer_writer, "encode_block", lambda data, _: len(data.rows) // size)
        counting(fold, "by_page", lambda pages, *_: len(pages))
        yield counted


def most_rows_in_a_step(rig: StoreRig, job: Job[None]) -> tuple[int, int]:
    """Of a job: the most rows in one step, and all rows."""
    with rows_counted() as counted:
        most, rig.job = 0, job
        while rig.job is not None:
            before = counted[0]
            rig.step_job()
            most = max(most, counted[0] - before)
        return most, counted[0]


def history(count: int, pages: int, payload: int) -> tuple[StoreRig, list[RedoRecord]]:
    """A segment that holds so many records, all announced, and nothing of them in layers."""
    rig = StoreRig(config=CONFIG)
    run = chain(Random(1), count, pages, payload=payload)
    for at in range(0, count, 500):
        rig.take(run[at : at + 500])
    rig.take([], vdl=run[-1].lsn)
    return rig, run


each_history = pytest.mark.parametrize(
    ("count", "pages", "payload"), [(20_000, 40, 9), (20_000, 1, 9), (3_000, 5, 900)]
)


@each_history
def test_a_step_of_a_fold_is_of_bounded_work(count: int, pages: int, payload: int) -> None:
    rig, run = history(count, pages, payload)
    most, total = most_rows_in_a_step(rig, rig.core.background._fold(run[-1].lsn))
    assert rig.state.folded == run[-1].lsn
    assert total >= 3 * count
    assert most <= MOST_ROWS


@each_history
@pytest.mark.parametrize("kind", ["merge", "collect"])
def test_a_step_of_a_merge_or_of_a_collection_is_of_bounded_work(
    kind: str, count: int, pages: int, payload: int
) -> None:
    rig, run = history(count, pages, payload)
    background = rig.core.background
    for at in range(count // 4, count + 1, count // 4):
        most_rows_in_a_step(rig, background._fold(run[at - 1].lsn))
    layers = rig.state.layers.layers
    assert len(layers) == 4
    rig.state.announced(run[-1].lsn, run[-1].lsn)
    make = background._merge if kind == "merge" else background._collect
    most, total = most_rows_in_a_step(rig, make(layers))
    assert len(rig.state.layers) == 1
    assert total >= count
    assert most <= MOST_ROWS


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
