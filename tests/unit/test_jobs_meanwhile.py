"""Jobs of a segment amid each other: folds, and layers of peers, amid what takes longer."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from segments.layers.job import PAUSE, Extend, Op, Read
from segments.layers.tiers import Collect, Merge
from segments.protocol import events
from segments.protocol.errors import DamagedLayer
from segments.protocol.ids import Lsn
from segments.protocol.messages import FetchLayer, GossipLayer, Message
from tests.store_rig import FIRST, TINY, StoreRig, records
from tests.unit.test_layers_from_peers import CHAIN, TICK, Pair, peer, with_damage

LAGGING = attrs.evolve(TINY, unfolded_bytes=4 << 10)


def with_a_fold(rig: StoreRig, through: Lsn) -> None:
    """One more layer, however little is in it."""
    at = rig.state.scl
    rig.take(CHAIN[at:through], vdl=through)
    rig.core.background.fold_rule.asked = through
    assert rig.work(jobs=1) == 1
    rig.core.background.fold_rule.asked = 0


def about_to_merge() -> tuple[StoreRig, Merge]:
    """A segment with one layer more than there may be before a merge."""
    rig = peer(240, segment="A0")
    while not isinstance(plan := rig.core.background.planned(), Merge):
        with_a_fold(rig, rig.state.scl + 3)
    return rig, plan


def through_the_job(pair: Pair, watch: Callable[[Op | None], object] = lambda _: None) -> None:
    """To the end of the job that is under way at ours."""
    for _ in range(2_000):
        if pair.ours.job is None:
            return
        watch(pair.ours.step_job())
        pair.deliver()
    raise AssertionError("it does not end")


def asks(pair: Pair) -> int:
    return sum(isinstance(each, FetchLayer) for each in pair.sent)


# ---- a layer of a peer amid a merge --------------------------------------------------------------


def test_a_layer_above_what_is_merged_comes_amid_the_merge() -> None:
    """Where merging lags a merge is always under way, and takes long."""
    ours, plan = about_to_merge()
    pair = Pair(ours, peer(300))
    assert ours.take_job()
    ours.step_job()
    pair.now += TICK
    pair.tell()
    assert ours.core.gossip.transfer is not None
    through_the_job(pair)
    published = [each for each in ours.events if isinstance(each, events.LayerPublished)]
    hydrated, merged = published[-2:]
    assert not hydrated.replaced and hydrated.end_lsn == pair.theirs.state.folded
    assert merged.replaced == tuple(layer.number for layer in plan.layers)
    pair.catch_up()
    pair.check()


@pytest.mark.parametrize("anew", [False, True], ids=["", "and is damaged, too"])
@pytest.mark.parametrize("amid", [Read, Extend])
@pytest.mark.parametrize("kind", [Merge, Collect])
def test_what_heals_a_layer_that_is_made_part_of_another_waits_for_that(
    kind: type, amid: type, anew: bool
) -> None:
    """And is wanted no more then: what was damaged had been read before."""
    ours, plan = about_to_merge()
    if kind is Collect:
        ours.take([], floor=ours.state.folded)
    layers = ours.core.background.planned()
    assert isinstance(layers, kind)
    ours.take(CHAIN[ours.state.scl : 300], vdl=ours.state.scl)
    pair = Pair(ours, peer(300))
    assert ours.take_job()
    while not isinstance(ours.step_job(), amid):
        pass
    ours.core.background.found_damage(DamagedLayer(plan.layers[1].number, "x"), "a read")
    pair.now += TICK
    pair.tell()
    assert ours.core.gossip.transfer is not None
    through_the_job(pair)
    assert asks(pair) == 0 and not ours.state.layers.damaged
    if anew:
        ours.state.damaged(ours.state.layers.at(plan.layers[1].end).number)  # type: ignore[union-attr]
    assert ours.take_job(pair.now)
    through_the_job(pair)
    assert ours.core.gossip.transfer is None and asks(pair) == 0
    pair.catch_up()
    pair.check()


def test_others_have_a_turn_after_each_part() -> None:
    """Though the next one is at hand: a fold may be due."""
    pair = Pair(StoreRig(), peer(300))
    turns = 0

    def count(op: Op | None) -> None:
        nonlocal turns
        turns += op is PAUSE and pair.ours.core.gossip.transfer is not None

    pair.tell()
    assert pair.ours.take_job(pair.now)
    through_the_job(pair, count)
    assert turns >= sum(isinstance(each, GossipLayer) for each in pair.sent) - 1 > 3


def test_a_transfer_that_was_given_up_while_it_waited_asks_for_nothing() -> None:
    ours, theirs = StoreRig(), peer(300)
    pair = Pair(ours, theirs)
    ours.step(theirs.core.gossip.status(reply_wanted=False), "B0", pair.now)
    transfer = ours.core.gossip.transfer
    assert transfer is not None
    transfer.given_up = True
    assert ours.take_job(pair.now)
    through_the_job(pair)
    assert ours.core.gossip.transfer is None and asks(pair) == 0


# ---- healing -------------------------------------------------------------------------------------


def test_no_fold_that_needs_what_is_damaged_ends_the_transfer_that_heals_it() -> None:
    """Nor do records wait for a fold meanwhile, as none comes."""
    chain = records(range(1, 61), pages=3)
    more = records(range(61, 91), prev=60, pages=3, after=chain)
    large = [each._replace(payload=b"x" * 8_000) for each in more]
    ours, theirs = StoreRig("A0"), StoreRig("B0")
    for rig in (ours, theirs):
        rig.take(chain, vdl=60)
        rig.work()
        assert rig.state.folded == 60
    ours.config = attrs.evolve(TINY, fold_bytes=64 << 10, unfolded_bytes=64 << 10)
    ours.restart()
    layer = ours.state.layers.layers[0]
    for at in layer.offsets[:-1]:
        ours.disk.files[layer.name][at + 30] ^= 1
    ours.core.background.found_damage(DamagedLayer(layer.number, "x"), "a read")
    for rig in (ours, theirs):
        rig.take(large[:15], vdl=75)
    pair = Pair(ours, theirs)
    assert ours.core.background.records_wait
    pair.tell()
    assert not ours.core.background.records_wait
    pair.catch_up()
    assert not ours.state.layers.damaged and ours.state.folded == 75
    assert not [each for each in ours.events if isinstance(each, events.JobFailed)]


def test_a_segment_that_is_always_a_little_behind_is_healed() -> None:
    ours, theirs = StoreRig("A0", files=peer(200).disk.files), peer(300)
    ours.state.damaged(ours.state.layers.layers[0].number)
    pair = Pair(ours, theirs)
    for _ in range(3):
        ours.take(CHAIN[ours.state.scl : ours.state.scl + 1], vdl=ours.state.scl)
        pair.now += 0.2
        ours.core.tick(pair.now)
        ours.step(theirs.core.gossip.status(reply_wanted=False), "B0", pair.now)
    transfer = ours.core.gossip.transfer
    assert transfer is not None and transfer.what.start == 0


def test_what_heals_is_wanted_though_nothing_is_missing() -> None:
    """Each part is lost once: it takes long, and time passes."""
    ours, theirs = StoreRig("A0", files=peer(320).disk.files), peer(320)
    with_damage(ours, 0, "block")
    pair = Pair(ours, theirs)
    lost: set[tuple[int, int]] = set()

    def lose(message: Message) -> bool:
        if not isinstance(message, GossipLayer):
            return False
        part = (message.from_page, message.from_lsn)
        is_new = part not in lost
        lost.add(part)
        return is_new

    pair.lost = lose
    pair.tell()
    transfer = ours.core.gossip.transfer
    pair.work()
    assert transfer is not None and not transfer.given_up and lost
    assert not ours.state.layers.damaged
    pair.check()


def test_damage_elsewhere_keeps_no_transfer_that_is_not_needed() -> None:
    ours, theirs = StoreRig("A0", files=peer(160).disk.files), peer(300)
    pair = Pair(ours, theirs)
    pair.tell()
    transfer = ours.core.gossip.transfer
    assert transfer is not None and transfer.what.start >= 120
    ours.state.damaged(ours.state.layers.layers[0].number)
    ours.take(CHAIN[ours.state.scl : transfer.what.end], vdl=ours.state.scl)
    ours.core.tick(pair.now + TICK)
    assert transfer.given_up


def test_damage_that_is_found_while_a_layer_becomes_live_stays_known() -> None:
    rig = peer(160, segment="A0")
    rig.take(CHAIN[160:240], vdl=240)
    assert rig.take_job()
    while rig.core.background.naming is None:
        rig.step_job()
    number = min(rig.state.layers.numbers)
    rig.core.background.found_damage(DamagedLayer(number, "x"), "a read")
    while rig.job is not None:
        rig.step_job()
    assert rig.state.layers.damaged == {number} and not rig.state.whole


# ---- what is owed --------------------------------------------------------------------------------


def test_what_is_owed_is_the_last_fold_as_often_as_there_are_too_many_layers() -> None:
    rig = StoreRig(config=LAGGING)
    background, lags = rig.core.background, set()
    for at in range(25, 400, 25):
        with_a_fold(rig, at)
        layers = rig.state.layers.layers
        lag = background.tiers.lag(layers, background.collectable_floor)
        assert background._owed == (round(lag * layers[-1].length) if lag > 1 else 0)
        lags.add(lag > 1)
    assert lags == {False, True}


def test_a_collection_pays_with_what_it_reads() -> None:
    """It may write hardly anything: few pages with much history."""
    rig = StoreRig(config=attrs.evolve(LAGGING, fan_out=4, collect_ratio=1.0))
    chain = records(range(1, 4_001), pages=2)
    background, at = rig.core.background, 0
    while background._owed == 0:
        rig.take(chain[at : at + 25], vdl=at + 25)
        assert rig.work(jobs=1) == 1
        at += 25
    rig.take([], floor=at)
    assert isinstance(background.planned(), Collect)
    folded, owed = rig.state.folded, background._owed
    rig.take(chain[at : at + 100], vdl=at + 100)
    assert background.records_wait and rig.take_job()
    read = 0
    while rig.state.folded == folded:
        assert rig.job is not None, "the fold comes amid the collection"
        op = rig.step_job()
        if isinstance(op, Read) and background._owed > 0:
            read += op.length
    assert read <= owed + TINY.block_bytes * 64


def test_a_fold_amid_a_transfer_waits_for_no_merge() -> None:
    rig = StoreRig(config=LAGGING)
    while rig.core.background._owed == 0:
        with_a_fold(rig, rig.state.scl + 25)
    pair = Pair(rig, peer(400))
    pair.lost = lambda message: isinstance(message, GossipLayer)
    rig.take(CHAIN[rig.state.scl : rig.state.scl + 60], vdl=rig.state.scl + 60)
    folded = rig.state.folded
    pair.tell()
    assert rig.core.gossip.transfer is not None and rig.take_job(pair.now)
    for _ in range(200):
        rig.step_job()
    assert rig.state.folded > folded and rig.core.gossip.transfer is not None


def test_no_fold_waits_for_a_collection_that_waits_for_a_peer() -> None:
    rig = StoreRig(config=LAGGING)
    while rig.core.background._owed == 0:
        with_a_fold(rig, rig.state.scl + 25)
    rig.take([], floor=rig.state.scl)
    assert isinstance(rig.core.background.planned(), Collect)
    rig.step(FetchLayer(FIRST, "B0", 0, rig.state.folded, True, 0, 0), "B0")
    folded = rig.state.folded
    rig.take(CHAIN[folded : folded + 30], vdl=folded + 30)
    assert rig.core.gossip.gives_layers(0.0)
    assert rig.work(jobs=1) == 1
    assert rig.state.folded == folded + 30
