"""Schedules that once kept a healthy volume waiting for ever: unavailability for no reason.

Needless unavailability is a failure like data loss is (protocol §9). Each test is a schedule that a
review of the protocol came up with, played on the real cores.
"""

from __future__ import annotations

import heapq

import attrs

from aurora.config import EngineConfig
from aurora.quorum import QuorumModel
from aurora.recovery import Recovery, plan_recovery
from segments.config import SegmentConfig
from segments.protocol.messages import (
    EpochRefused,
    FetchLayer,
    GossipLayer,
    GossipRecords,
    GossipStatus,
    InstallTable,
    Message,
    PageReply,
    ReadPage,
    Seal,
    SealReply,
)
from segments.protocol.run import encode_run
from segments.protocol.truncation import TruncationTable
from segments.protocol.volume import DEFAULT_LAL
from tests.store_rig import FIRST, MEMBERS, SECOND, THIRD, TINY, StoreRig, batch, records


def test_a_recovery_waits_longer_for_a_slow_source_each_time() -> None:
    """Only three segments answer, and the one that alone holds the newest record takes 4 s."""
    delays = {"A0": 4.0, "C0": 0.01, "E0": 0.01}
    rigs = {segment: StoreRig(segment) for segment in delays}
    run = records(range(1, 4))
    for segment, rig in rigs.items():
        rig.take(run if segment == "A0" else run[:2])
    recovery = Recovery(5, {0: QuorumModel(MEMBERS)}, DEFAULT_LAL, EngineConfig(), counter=2)
    now, count = 0.0, 0
    mail: list[tuple[float, int, str | None, Message]] = []

    def post(delay: float, segment: str | None, message: Message) -> None:
        nonlocal count
        count += 1
        heapq.heappush(mail, (now + delay, count, segment, message))

    while not recovery.done and now < 120.0:
        recovery.tick(now)
        for segment, message in recovery.take_sends():
            if segment in rigs:
                post(delays[segment] / 2, segment, message)
        while mail and mail[0][0] <= now:
            _, _, to, message = heapq.heappop(mail)
            if to is None:
                recovery.step(message, now)
                continue
            rigs[to].step(message)
            for outgoing in rigs[to].settle():
                post(delays[to] / 2, None, outgoing.message)
        now += 0.05
    assert recovery.plan is not None
    assert recovery.plan.vdl == 3


def test_a_sealed_segment_learns_no_more_floors_of_the_former_writer() -> None:
    config = attrs.evolve(TINY, fan_out=64)
    rigs = {member: StoreRig(member, config) for member in MEMBERS}
    run = records(range(1, 101))
    for rig in rigs.values():
        for start in range(0, 100, 30):  # layers, some of which end below 90
            rig.take(run[start : start + 30], vdl=min(100, start + 30), floor=10)
            rig.work()
    rigs["F0"].step(batch([], vdl=100, floor=90))  # the last heartbeat reaches nobody else
    rigs["F0"].settle()
    replies = {member: rigs[member].seal(SECOND) for member in MEMBERS}
    chosen = [reply for member in ("A0", "C0", "E0") if (reply := replies[member]) is not None]
    plan = plan_recovery(SECOND, 1000, {0: chosen}, {0: []})
    assert plan.floor == 10
    state = rigs["F0"].state
    status = GossipStatus(
        state.epoch, "F0", state.table, state.scl, state.vdl, state.announced_floor,
        state.floor, state.folded, False,
    )  # fmt: skip
    for member in MEMBERS[:5]:
        rigs[member].step(status, source="F0")
        rigs[member].settle()
        rigs[member].core.tick(1.0)
        rigs[member].work(1.0)
        rigs[member].install(plan.table)
        rigs[member].work(1.0)
        # The new writer lets readers in from 10 on, so somebody must be able to answer.
        assert len(rigs[member].ask(ReadPage(SECOND, 1, 1, 50, 50), PageReply)) == 1


def test_an_annulled_record_in_the_last_frame_is_not_waited_for_after_damage() -> None:
    rig, run = StoreRig("A0"), records(range(1, 6))
    rig.take(run[:2])
    rig.take(run[2:3])
    rig.take(run[3:4])
    rig.seal(SECOND)
    table = TruncationTable(FIRST).extended(SECOND, 4, 1004)
    rig.step(InstallTable(SECOND, 1, table))
    tail = GossipRecords(SECOND, "B0", TruncationTable(FIRST), 0, encode_run(run[4:5]))
    rig.step(tail, source="B0")  # it shares the frame of the table that annuls it
    rig.settle()
    rig.rot_frame(2)
    rig.restart()
    assert not rig.state.whole
    rig.step(GossipRecords(SECOND, "B0", table, 4, encode_run(run[2:4])), source="B0")
    rig.settle()
    assert rig.state.scl == 4
    assert isinstance(rig.seal(THIRD), SealReply)


def test_a_seal_that_the_disk_refused_leaves_nobody_between_two_epochs() -> None:
    rig, run = StoreRig("A0"), records(range(1, 6))
    rig.take(run[:3])
    rig.step(Seal(SECOND, 1))
    assert rig.core.take_write() is not None
    later = GossipRecords(SECOND, "B0", TruncationTable(FIRST), 0, encode_run(run[3:]))
    rig.step(later, source="B0")  # queued behind the seal, in the epoch that it promises
    rig.core.write_failed()
    rig.settle()
    assert rig.state.epoch == SECOND, "its frame says so, and a restart would believe it"
    assert len(rig.ask(batch([], epoch=FIRST), EpochRefused)) == 1
    epoch = rig.state.epoch
    rig.restart()
    assert rig.state.epoch == epoch


def test_a_message_larger_than_the_queue_fits_an_empty_one() -> None:
    rig = StoreRig("A0", SegmentConfig(queue_bytes=64 << 10))
    run = [record._replace(payload=bytes(8_000)) for record in records(range(1, 21), pages=1)]
    assert rig.take(run) == 20
    assert rig.core.dropped_messages == 0


def test_a_base_is_not_collected_away_from_under_a_slow_receiver() -> None:
    """It asks for a base that has been left behind: the one it is told of must stay until it asks.

    Else a segment that writes much would refuse it again and again.
    """
    rig, run = StoreRig("A0"), records(range(1, 1_001))
    now, told, answers = 0.0, 1, list[type[Message]]()
    for at in range(50, 1_050, 50):
        assert rig.take(run[at - 50 : at], vdl=at, floor=at) == at
        rig.work(now)
        rig.step(FetchLayer(FIRST, "B0", 0, told, True, 0, 0), source="B0", now=now)
        [answer] = [each.message for each in rig.answers()]
        answers.append(type(answer))
        if isinstance(answer, GossipStatus):
            told = answer.base_lsn
        now += 1.5
    assert answers == [GossipStatus] + 19 * [GossipLayer]
