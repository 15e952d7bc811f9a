"""Gossip between two and more segments: what is missing comes, what is annulled does not (§8)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import attrs
import pytest

from segments.core import Outgoing
from segments.layers.block import BLOCK_HEAD_BYTES
from segments.protocol.ids import Lsn, VolumeEpoch
from segments.protocol.messages import (
    FetchLayer,
    GossipLayer,
    GossipRecords,
    GossipStatus,
    Seal,
)
from segments.protocol.record import RedoRecord
from segments.protocol.run import encode_run
from segments.protocol.truncation import TruncationTable
from tests.oracles import naive_page
from tests.store_rig import FIRST, SECOND, THIRD, TINY, StoreRig, collected, durable, records

TABLE = TruncationTable(FIRST).extended(SECOND, 5, 100)
CONFIG = attrs.evolve(
    TINY, gossip_interval_s=0.1, fold_bytes=8 << 10, collect_ratio=0.01, hydration_timeout_s=1.0
)
PAGES = 9


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
                rig.work_on(now)
                for each in [*rig.settle(), *rig.answers()]:
                    said.append((name, each))
                    for _ in range(spoil(each) if each.destination in segments else 0):
                        segments[each.destination].step(each.message, name, now)
    return said


def history(last: Lsn) -> list[RedoRecord]:
    """Records of a few hundred bytes: three of them fill a part of a layer."""
    return records(range(1, last + 1), pages=PAGES, size=300)


# ---- records -------------------------------------------------------------------------------------


def test_a_segment_that_was_away_catches_up() -> None:
    pair = rigs("A0", "B0")
    chain = records(range(1, 200))
    pair["A0"].take(chain)
    talk(pair, 3)
    assert pair["B0"].state.index.held() == chain
    assert durable(pair["A0"]) == durable(pair["B0"])


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
    status = GossipStatus(SECOND, "B0", rig.state.table, 0, 0, 0, 0, 0, True)
    rig.step(status, "B0")
    assert rig.said(GossipRecords) == []
    rig.settle()
    rig.step(status, "B0")
    [answer] = rig.said(GossipRecords)
    assert answer.epoch == SECOND
    rig.step(Seal(THIRD, 1))
    rig.step(status._replace(epoch=THIRD), "B0")
    assert rig.said(GossipRecords) == [], "promised, and not durable"


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
    before = durable(rig)
    rig.step(GossipStatus(FIRST, "B0", TruncationTable(FIRST), 9, 9, 9, 9, 9, True), "B0")
    [answer] = rig.settle()
    assert answer.destination == "B0" and answer.message.epoch == SECOND
    assert durable(rig) == before and rig.state.vdl == 0


def test_gossip_brings_an_epoch_without_its_table() -> None:
    """A recovery has sealed one and crashed: the promise spreads, the old table stays."""
    pair = rigs("A0", "B0")
    pair["A0"].seal(SECOND)
    talk(pair, 2)
    assert pair["B0"].state.epoch == SECOND and pair["B0"].state.table.epoch == FIRST


# ---- layers --------------------------------------------------------------------------------------


def check_hydrated(rig: StoreRig, last: Lsn) -> None:
    """It has the pages, by a base, and the records above; and so after a restart."""
    state, run = rig.state, history(last)
    assert (state.scl, state.whole) == (last, True)
    assert state.layers.layers[0].base
    for page_id in range(PAGES):
        assert rig.page(page_id, last) == naive_page(run, page_id, last)
    before = durable(rig)
    rig.restart()
    assert durable(rig) == before


def loses_requests(each: Outgoing) -> bool:
    return not isinstance(each.message, FetchLayer)


def test_a_base_comes_part_by_part_where_the_records_have_been_collected() -> None:
    pair = rigs("A0", "B0")
    collected(pair["A0"], history(60), 50)
    said = talk(pair, 3)
    parts = [each.message for _, each in said if isinstance(each.message, GossipLayer)]
    assert [part.from_page for part in parts] == [0, 3, 6]
    assert max(len(part.rows) for part in parts) <= CONFIG.gossip_bytes + BLOCK_HEAD_BYTES
    assert min(part.pages for part in parts) >= PAGES
    check_hydrated(pair["B0"], 60)


@pytest.mark.parametrize("seed", range(6))
def test_a_base_comes_although_parts_are_lost_repeated_and_late(seed: int) -> None:
    random = Random(seed)
    pair = rigs("A0", "B0")
    collected(pair["A0"], history(60), 50)
    talk(pair, 8, spoil=lambda _: random.choice([0, 1, 1, 2]))
    talk(pair, 8, start=8)
    check_hydrated(pair["B0"], 60)


def test_a_transfer_goes_on_where_a_part_was_lost() -> None:
    """It does not start over whenever the receiver happens to say where it stands."""
    pair = rigs("A0", "B0")
    collected(pair["A0"], history(60), 50)
    lost: list[Outgoing] = []

    def lose(each: Outgoing) -> int:
        if isinstance(each.message, FetchLayer) and each.message.from_page >= 3 and not lost:
            lost.append(each)
            return 0
        return 1

    said = talk(pair, 5, spoil=lose)
    assert lost
    asked = [each.message.from_page for _, each in said if isinstance(each.message, FetchLayer)]
    assert asked == [0, 3, 3, 6]
    check_hydrated(pair["B0"], 60)


def test_a_part_of_a_transfer_that_is_lost_is_asked_for_again_until_it_is_given_up() -> None:
    pair = rigs("A0", "B0")
    collected(pair["A0"], history(60), 50)
    taker = pair["B0"]
    taker.step(pair["A0"].core.gossip.status(reply_wanted=False), "A0")
    taker.work_on(0.0)
    [asked] = [each for each in taker.settle() if isinstance(each.message, FetchLayer)]
    again = []
    for at in range(1, 1_200):
        taker.core.tick(at / 1_000)
        again += [(at, each) for each in taker.settle() if isinstance(each.message, FetchLayer)]
        taker.work_on(at / 1_000)
    assert {each for _, each in again} == {asked} == {asked._replace(destination="A0")}
    assert [at for at, _ in again] == [63 * nth for nth in range(1, 16)], "a sixteenth of a second"
    assert taker.core.gossip.transfer is None


def test_a_receiver_that_restarts_amid_a_transfer_starts_over() -> None:
    pair = rigs("A0", "B0")
    collected(pair["A0"], history(60), 50)
    talk(pair, 3, spoil=loses_requests)
    assert pair["B0"].state.scl == 0
    pair["B0"].restart()
    talk(pair, 5, start=3)
    check_hydrated(pair["B0"], 60)


def test_a_transfer_that_stopped_is_given_up_for_another_peer() -> None:
    three = rigs("A0", "B0", "C0")
    collected(three["A0"], history(60), 50)
    collected(three["C0"], history(60), 50)
    talk({name: three[name] for name in ("A0", "B0")}, 1, spoil=loses_requests)
    assert three["B0"].core.gossip.transfer is not None
    talk({name: three[name] for name in ("B0", "C0")}, 5, start=1)
    check_hydrated(three["B0"], 60)


def test_the_sender_does_not_collect_amid_a_transfer() -> None:
    """Or one that writes much would never let a large transfer end."""
    sender = rigs("A0")["A0"]
    collected(sender, history(60), 50)
    sender.take(history(110)[60:], vdl=110, floor=110)
    now = 1.0
    for _ in range(20):
        sender.step(FetchLayer(FIRST, "B0", 0, 50, True, 3, 0), "B0", now)
        assert len(sender.answers()) == 1
        sender.work(now)
        assert (sender.state.floor, sender.state.folded) == (50, 110)
        now += 0.9
    sender.work(now + 1.0)
    assert sender.state.floor == 110, "but not for ever"


def test_a_layer_that_was_not_asked_for_is_not_taken() -> None:
    """Or is of another peer, or above the VDL that its sender knows: a recovery may annul that."""
    giver = rigs("A0")["A0"]
    collected(giver, history(60), 50)
    taker = StoreRig("B0", CONFIG)
    [part] = giver.ask(FetchLayer(FIRST, "B0", 0, 50, True, 0, 0), GossipLayer, "B0")
    taker.step(part, "A0")
    taker.work_on(0.0)
    assert taker.settle() == []

    taker.step(giver.core.gossip.status(reply_wanted=False), "A0")
    taker.work_on(0.0)
    transfer = taker.core.gossip.transfer
    assert transfer is not None
    taker.step(part, "C0")
    taker.step(part._replace(vdl=49), "A0")
    taker.step(part._replace(end_lsn=51, vdl=51), "A0")
    taker.step(part._replace(from_page=1), "A0")
    assert (transfer.part, transfer.next_page) == (None, 0)
    taker.step(part, "A0")
    assert transfer.part is not None
