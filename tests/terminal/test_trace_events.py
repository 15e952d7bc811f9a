"""docs/trace-events.md lists what is emitted: every event, its fields and its meaning."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from io import StringIO
from random import Random

import attrs
import pytest
import trio
from trio.testing import MockClock

import aurora.events
import segments.protocol.events
from aurora.cluster import open_cluster
from aurora.config import ClusterConfig, EngineConfig
from aurora.quorum import QuorumModel
from aurora.recovery import Recovery
from aurora.terminal.narrate import Narrator
from aurora.terminal.session import Session
from aurora.terminal.watch import TraceFile, plain
from segments.config import SegmentConfig
from segments.core import SegmentCore
from segments.manifest import PROMISE
from segments.protocol.errors import StorageBroken, StorageFull, VolumeFull
from segments.protocol.events import Event, RecordsApplied
from segments.protocol.heard import LOST, Heard
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import (
    GossipStatus,
    ListPages,
    ReadPage,
    Seal,
    SealReply,
)
from segments.protocol.truncation import TruncationTable
from segments.restart import format_files, plan_restart
from tests.terminal.playing import ROOT, play

EPOCH = VolumeEpoch(1, 1)
SCENARIO = (
    "put 1 0 a", "get 1 @1", "put 1 0 b", "get 1 @1", "get 1 strict", "crash A", "put 2 0 c",
    "restart A", "wait 2000", "partition F", "put 1 0 d", "heal", "pause B", "put 1 0 e",
    "resume B", "crash writer", "recover", "get 1", "partition writer", "put 1 0 f",
    "takeover", "heal",
    "wait 1000",
)  # fmt: skip


EVENTS = [
    each
    for module in (aurora.events, segments.protocol.events)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, Event) and each is not Event
]
SIMULATED = {aurora.events.RoomWaitStarted}
"""Events of a volume under pressure: tests/simulation/test_marks.py sees them."""


class Emitted:
    """A tracer that remembers the last event of each class."""

    def __init__(self) -> None:
        self.last: dict[type[Event], Event] = {}

    def __call__(self, source: str, event: Event) -> None:
        self.last[type(event)] = event


def documented() -> dict[str, tuple[list[str], str]]:
    text = (ROOT / "docs" / "trace-events.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\| ([^|]*) \|$", text, re.MULTILINE)
    return {name: (re.findall(r"`(\w+)`", fields), meaning) for name, fields, meaning in rows}


def described(kind: type[Event]) -> tuple[list[str], str]:
    meaning = " ".join(str(kind.__doc__).split()).replace("``", "`")
    return [each.name for each in attrs.fields(kind)], meaning


def rare_events(emitted: Emitted) -> None:
    """What a quiet cluster does not do: refuse a read, fail to write, adopt a table by gossip."""
    config = SegmentConfig()
    plan = plan_restart("A0", format_files(EPOCH, 7), config)
    core = SegmentCore("A0", 0, ("B0",), plan.state, plan.files, config, Random(1), trace=emitted)
    core.step("writer-1", ReadPage(EPOCH, 1, 1, 5, 5), 0.0)
    core.step("writer-1", ListPages(EPOCH, 1, 0, 9, 0, 0, 5), 0.0)
    core.scrub.tick(0.0)
    core.scrub.promises_checked(b"")
    core.scrub.manifest_checked(sound=False)
    core.scrub.promise_due = False
    core.step("B0", Seal(VolumeEpoch(2, 1), 1), 0.0)
    assert core.take_write() is not None
    core.write_failed()
    later = TruncationTable(VolumeEpoch(3, 1))
    status = GossipStatus(later.epoch, "B0", later, 5, 5, 0, 0, 0, reply_wanted=False)
    core.step("B0", status, 0.0)
    core.step("writer-1", Seal(later.epoch, 1, LOST), 0.0)
    recovery = Recovery(
        1,
        {0: QuorumModel(tuple(f"{each}0" for each in "ABCDEF"))},
        1,
        EngineConfig(),
        trace=emitted,
    )
    reply = SealReply(recovery.epoch, "A0", 1, 5, 5, 0, TruncationTable(EPOCH))
    recovery.step(reply, 0.0)
    recovery.step(reply._replace(segment="B0", heard=(Heard(EPOCH, {"A0": 6}),)), 0.0)


async def stores(emitted: Emitted) -> None:
    """What happens to layers and to a log; damage is found in each kind of file, and mended."""
    small = SegmentConfig(
        fold_bytes=2048, wal_file_bytes=2048, block_bytes=256, fan_out=2, scrub_interval_s=0.05,
        block_cache_bytes=0, image_cache_bytes=0,
    )  # fmt: skip
    engine = EngineConfig(retention_lsns=0, buffer_pool_pages=1)
    config = ClusterConfig(segment=small, engine=engine)
    async with open_cluster(config=config, trace=emitted) as cluster:
        disk = cluster.hosts["A0"].disk.storage  # type: ignore[attr-defined]

        async def write(count: int) -> None:
            for number in range(count):
                await cluster.engine.put(number % 3, number, bytes([number % 255 + 1]) * 2000)
            await trio.sleep(3.0)

        def spoil(kind: str, at: int) -> None:
            for name in [name for name in disk.files if name.startswith(kind)]:
                disk.files[name][at] ^= 1

        def full(*_: object) -> None:
            raise StorageFull("no space for a layer")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(disk, "create", full)
            await write(8)
        await write(41)  # the newest is page 1: of page 0 the pool has nothing
        for kind, at in (("wal-", 20), ("manifest", 20), (PROMISE, 20), ("layer-", 100)):
            spoil(kind, at)
            await trio.sleep(3.0)
        cluster.crash("B C D E F")
        with trio.move_on_after(1.0):
            await cluster.engine.get(0)
        await cluster.restart("B C D E F")
        await trio.sleep(3.0)
        assert cluster.health().segments["A0"].status == "up"


async def shortage(emitted: Emitted) -> None:
    """Segments that need all the space that they may take."""
    small = SegmentConfig(disk_bytes=32 << 10, fold_bytes=2048, wal_file_bytes=2048)
    async with open_cluster(config=ClusterConfig(segment=small), trace=emitted) as cluster:
        for number in range(9):
            with suppress(VolumeFull):
                await cluster.engine.put(number, 0, b"x" * 2000)


async def refusals(emitted: Emitted) -> None:
    """A disk that has to be opened anew, and a segment that makes a mistake."""

    def broken(*_: object) -> None:
        raise StorageBroken("no append")

    def wrong(*_: object) -> None:
        raise AssertionError("a mistake")

    def full(*_: object) -> None:
        raise StorageFull("no promise")

    async with open_cluster(trace=emitted) as cluster:
        third = cluster.hosts["C0"].server
        assert third is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(third._storage, "write_promise", full)
            await cluster.recover()  # gives it a promise to write
            while third.refusal is None:
                await trio.lowlevel.checkpoint()
        server, other = cluster.hosts["A0"].server, cluster.hosts["B0"].core
        assert server is not None and other is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server._storage, "_append", broken)
            patch.setattr(other, "step", wrong)
            await cluster.engine.put(1, 0, b"x")
            while cluster.hosts["A0"].up or cluster.hosts["B0"].up:
                await trio.lowlevel.checkpoint()


@pytest.fixture(scope="module")
def emitted() -> Emitted:
    emitted = Emitted()

    def listen(session: Session) -> None:
        if emitted not in session.stage.watch.listeners:
            session.stage.watch.listeners.append(emitted)

    played = play("state", *SCENARIO, look=listen)
    assert all(played.succeeded), played.text
    rare_events(emitted)
    trio.run(refusals, emitted)
    for each in (stores, shortage):
        trio.run(each, emitted, clock=MockClock(autojump_threshold=0.0))
    return emitted


def test_every_event_is_documented_and_no_other() -> None:
    assert documented() == {kind.__name__: described(kind) for kind in EVENTS}


def test_every_event_is_emitted(emitted: Emitted) -> None:
    assert set(emitted.last) == set(EVENTS) - SIMULATED


def test_an_event_is_a_value(emitted: Emitted) -> None:
    assert RecordsApplied(1, 0, 1) == RecordsApplied(1, 0, 1) != RecordsApplied(1, 0, 2)
    for event in emitted.last.values():
        assert not hasattr(event, "__dict__")
        for each in attrs.fields(type(event)):
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                setattr(event, each.name, None)


def test_every_event_can_be_told_and_written(emitted: Emitted) -> None:
    """No event is silently unknown to the walk, or breaks the file."""
    for event in emitted.last.values():
        narrator = Narrator()
        narrator("A0", event)
        narrator.tell()
        assert json.dumps(plain(event))
    assert set(Narrator.events()) == set(EVENTS)


async def test_a_line_of_the_file_is_flat_json(emitted: Emitted) -> None:
    file = StringIO()
    TraceFile(file)("A0", RecordsApplied(count=1, before=0, scl=1))
    assert file.getvalue() == (
        '{"time": 0.0, "source": "A0", "event": "RecordsApplied", "count": 1, "before": 0, '
        '"scl": 1}\n'
    )
