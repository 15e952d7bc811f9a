"""Gossip between two and more segments: what is missing comes, what is annulled does not (§8)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

from segments.config import SegmentConfig
from segments.core import Outgoing
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import (
    FetchPages,
    GossipPages,
    GossipRecords,
    GossipStatus,
    Seal,
    WriteAck,
)
from segments.protocol.record import PAGE_SIZE
from segments.protocol.run import encode_run
from segments.protocol.truncation import TruncationTable
from tests.oracles import naive_page
from tests.store_rig import FIRST, SECOND, THIRD, StoreRig, batch, durable, records

TABLE = TruncationTable(FIRST).extended(SECOND, 5, 100)
CONFIG = SegmentConfig(
    gossip_interval_s=0.1, gossip_bytes=2 * PAGE_SIZE, collect_records=1, hydration_timeout_s=1.0
)


def rigs(*names: str) -> dict[str, StoreRig]:
    return {name: StoreRig(name, CONFIG) for name in names}


def talk(
    segments: dict[str, StoreRig],
    seconds: float,
    *,
    start: float = 0.0,
    spoil: Callable[[Outgoing], int] = lambda _: 1,
) -> list[tuple[str, Outgoing]]:
    """Let them gossip; ``spoil`` says how often a message arrives. Returns all that was said."""
    said = []
    for at in range(int(seconds / 0.05)):
        now = start + at * 0.05
        for rig in segments.values():
            rig.core.tick(now)
        for _ in range(6):
            for name, rig in segments.items():
                for each in rig.settle():
                    said.append((name, each))
                    for _ in range(spoil(each) if each.destination in segments else 0):
                        segments[each.destination].step(each.message, name, now)
    return said


def collected(rig: StoreRig, last: int, floor: int, pages: int = 9) -> None:
    """A segment with history up to ``last`` of which ``floor`` has left the log."""
    rig.take(records(range(1, last + 1), pages=pages), vdl=last)
    rig.ask(batch([], vdl=last, floor=floor), WriteAck)
    rig.core.tick(0.0)
    assert rig.state.index.base_lsn == floor


# ---- records -------------------------------------------------------------------------------------


def test_a_segment_that_was_away_catches_up() -> None:
    pair = rigs("A0", "B0")
    chain = records(range(1, 200))
    pair["A0"].take(chain)
    talk(pair, 3)
    assert pair["B0"].state.index.held() == chain
    assert durable(pair["A0"].state) == durable(pair["B0"].state)


def test_each_fills_the_other_ones_gaps() -> None:
    """2017 §3.3: peers of a group fill each other's gaps."""
    pair = rigs("A0", "B0")
    chain = records(range(1, 30))
    pair["A0"].take(chain[:10])
    pair["B0"].take(chain[10:])
    talk(pair, 3)
    assert pair["A0"].state.scl == pair["B0"].state.scl == 29


def test_gossip_comes_at_jittered_intervals_and_only_when_it_is_time() -> None:
    rig = rigs("A0")["A0"]
    moments = []
    for at in range(1000):
        rig.core.tick(at * 0.01)
        if rig.said(GossipStatus):
            moments.append(at)
    gaps = {later - earlier for earlier, later in pairwise(moments)}
    assert 5 <= min(gaps) < max(gaps) <= 16 and 60 < len(moments) < 140


def test_between_equals_there_is_no_more_than_the_status() -> None:
    pair = rigs("A0", "B0")
    for rig in pair.values():
        rig.take(records(range(1, 9)))
    said = talk(pair, 5)
    assert {type(each.message) for _, each in said} == {GossipStatus}
    assert len(said) < 150


def test_who_has_promised_an_epoch_that_is_not_durable_yet_answers_no_gossip() -> None:
    """It would name the old epoch, be refused with a status, and answer that, round and round."""
    rig = StoreRig()
    rig.take(records(range(1, 4)))
    status = GossipStatus(SECOND, "B0", rig.state.table, 0, 0, 0, True)
    rig.step(status, "B0")
    assert rig.said(GossipRecords) == []
    rig.settle()
    rig.step(status, "B0")
    [answer] = rig.said(GossipRecords)
    assert answer.epoch == SECOND
    rig.step(Seal(THIRD, 1))
    rig.step(status._replace(epoch=THIRD), "B0")
    assert rig.said(GossipRecords) == [], "promised, and not durable"


def test_a_part_of_a_transfer_that_is_lost_is_asked_for_again_until_it_is_given_up() -> None:
    pair = rigs("A0", "B0")
    collected(pair["A0"], last=20, floor=15)
    taker = pair["B0"]
    status = taker.core.gossip.status(reply_wanted=False)
    [first] = pair["A0"].ask(status, GossipPages, "B0")
    [asked] = taker.ask(first, FetchPages, "A0")
    again = []
    for at in range(1, 1_200):
        taker.core.tick(at / 1_000)
        again += [(at, each) for each in taker.settle() if isinstance(each.message, FetchPages)]
    assert {each for _, each in again} == {Outgoing("A0", asked)}
    assert [at for at, _ in again] == [63 * nth for nth in range(1, 16)], "a sixteenth of a second"


def test_strangers_are_not_listened_to() -> None:
    rig = rigs("A0")["A0"]
    run = encode_run(records([1]))
    rig.step(GossipRecords(FIRST, "B0", TruncationTable(FIRST), 0, run), "B1")
    assert rig.settle() == [] and rig.state.scl == 0


# ---- annulled ------------------------------------------------------------------------------------


def test_annulled_records_do_not_come_back_by_gossip() -> None:
    """gossip-resurrects in §12: a stale segment gossips its tail."""
    trio = rigs("A0", "B0", "C0")
    old = records(range(1, 9))
    for rig in trio.values():
        rig.take(old)
    for name in ("A0", "B0"):
        trio[name].install(TABLE)
    talk(trio, 3)
    for rig in trio.values():
        assert (rig.state.scl, rig.state.table, rig.state.epoch) == (5, TABLE, SECOND)


@pytest.mark.parametrize("epoch", [FIRST, SECOND, THIRD])
def test_records_under_another_table_are_not_taken(epoch: VolumeEpoch) -> None:
    """Their LSNs may mean other records: level tables first, in whatever epoch they come."""
    rig = rigs("A0")["A0"]
    rig.take(records(range(1, 4)))
    rig.install(TABLE)
    run = encode_run(records(range(1, 9)))
    table = TruncationTable(FIRST)
    rig.step(GossipRecords(epoch, "B0", table, 8, run), "B0")
    sends = rig.settle()
    assert (rig.state.scl, rig.state.vdl, rig.state.table) == (3, 0, TABLE)
    if epoch < THIRD:
        assert [type(each.message) for each in sends] == [GossipStatus], "the sender is told"


def test_gossip_of_a_lower_epoch_changes_nothing_and_is_answered_with_ours() -> None:
    rig = rigs("A0")["A0"]
    rig.seal(SECOND)
    before = durable(rig.state)
    rig.step(GossipStatus(FIRST, "B0", TruncationTable(FIRST), 9, 9, 9, True), "B0")
    [answer] = rig.settle()
    assert answer.destination == "B0" and answer.message.epoch == SECOND
    assert durable(rig.state) == before and rig.state.vdl == 0


def test_gossip_brings_an_epoch_without_its_table() -> None:
    """A recovery has sealed one and crashed: the promise spreads, the old table stays."""
    pair = rigs("A0", "B0")
    pair["A0"].seal(SECOND)
    talk(pair, 2)
    assert pair["B0"].state.epoch == SECOND and pair["B0"].state.table.epoch == FIRST


# ---- pages ---------------------------------------------------------------------------------------


def check_hydrated(pair: dict[str, StoreRig], last: int, pages: int) -> None:
    state = pair["B0"].state
    assert state.scl == last
    history = records(range(1, last + 1), pages=pages)
    for page_id in range(pages):
        expected = naive_page(history, page_id, last)
        assert state.materializer.materialize(page_id, last) == expected
    before = durable(state)
    pair["B0"].restart()
    assert durable(pair["B0"].state) == before


def test_pages_come_where_the_records_have_been_collected() -> None:
    pair = rigs("A0", "B0")
    collected(pair["A0"], 60, 50)
    said = talk(pair, 3)
    parts = [each.message for _, each in said if isinstance(each.message, GossipPages)]
    assert {part.from_page for part in parts} == {0, 2, 4, 6, 8} and len(parts) < 9
    assert max(len(part.pages) for part in parts) == 2
    check_hydrated(pair, 60, 9)


@pytest.mark.parametrize("seed", range(6))
def test_pages_come_although_parts_are_lost_repeated_and_late(seed: int) -> None:
    random = Random(seed)
    pair = rigs("A0", "B0")
    collected(pair["A0"], 60, 50)
    talk(pair, 8, spoil=lambda _: random.choice([0, 1, 1, 2]))
    talk(pair, 8, start=8)
    check_hydrated(pair, 60, 9)


def test_a_transfer_goes_on_where_a_part_was_lost() -> None:
    """It does not start over whenever the receiver happens to say where it stands."""
    pair = rigs("A0", "B0")
    collected(pair["A0"], 60, 50)
    lost: list[Outgoing] = []

    def lose(each: Outgoing) -> int:
        if isinstance(each.message, FetchPages) and each.message.from_page >= 4 and not lost:
            lost.append(each)
            return 0
        return 1

    said = talk(pair, 5, spoil=lose)
    assert lost
    requests = [each.message for _, each in said if isinstance(each.message, FetchPages)]
    asked = [request.from_page for request in requests]
    assert asked == sorted(asked) and {2, 4, 6, 8} == {*asked} and len(asked) < 9
    check_hydrated(pair, 60, 9)


def test_a_receiver_that_restarts_amid_a_transfer_starts_over() -> None:
    pair = rigs("A0", "B0")
    collected(pair["A0"], 60, 50)
    talk(pair, 3, spoil=lambda each: not isinstance(each.message, FetchPages))
    assert pair["B0"].state.scl == 0
    pair["B0"].restart()
    talk(pair, 5, start=3)
    check_hydrated(pair, 60, 9)


def test_a_transfer_that_stopped_is_given_up_for_another_peer() -> None:
    three = rigs("A0", "B0", "C0")
    collected(three["A0"], 60, 50)
    collected(three["C0"], 60, 50)
    talk({name: three[name] for name in ("A0", "B0")}, 1,
         spoil=lambda each: not isinstance(each.message, FetchPages))  # fmt: skip
    assert three["B0"].core.gossip._hydration is not None
    pair = {"B0": three["B0"], "C0": three["C0"]}
    talk(pair, 5, start=1)
    check_hydrated(pair, 60, 9)


def test_the_sender_does_not_collect_amid_a_transfer() -> None:
    """Or one that writes much would never let a large transfer end."""
    sender = rigs("A0")["A0"]
    collected(sender, 60, 50)
    now = 1.0
    for _ in range(20):
        sender.step(FetchPages(FIRST, "B0", 50, 2), "B0", now)
        sender.ask(batch([], vdl=60, floor=60), WriteAck)
        sender.core.tick(now)
        assert sender.state.index.base_lsn == 50
        now += 0.9
    sender.core.tick(now + 1.0)
    assert sender.state.index.base_lsn == 60, "but not for ever"


def test_a_transfer_starts_over_when_the_sender_has_collected_meanwhile() -> None:
    pair = rigs("A0", "B0")
    collected(pair["A0"], 60, 50)
    first = GossipStatus(FIRST, "B0", TruncationTable(FIRST), 0, 0, 0, False)
    pair["A0"].step(first, "B0")
    for each in pair["A0"].settle():
        if each.destination == "B0":
            pair["B0"].step(each.message, "A0", 0.0)
    pair["A0"].ask(batch([], vdl=60, floor=58), WriteAck)
    pair["A0"].core.tick(0.0)
    assert pair["A0"].state.index.base_lsn == 58
    talk(pair, 3)
    assert pair["B0"].state.floor == 58
    check_hydrated(pair, 60, 9)


def test_pages_that_are_not_ahead_or_above_the_vdl_are_not_taken() -> None:
    rig = rigs("A0")["A0"]
    rig.take(records(range(1, 9)))
    table = TruncationTable(FIRST)
    for vdl, base in ((8, 8), (8, 7), (9, 10)):
        rig.step(GossipPages(FIRST, "B0", table, vdl, base, 0, 0, ()), "B0")
    assert rig.settle() == [] and rig.state.scl == 8
