"""Hydration and healing: what is missing or damaged comes from a peer as a layer (2017 §3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora.config import EngineConfig
from aurora.quorum import QuorumModel
from aurora.recovery import Recovery
from segments.config import SegmentConfig
from segments.layers.job import Op, SyncFile, Wait
from segments.layers.layer import Layer
from segments.protocol import events
from segments.protocol.errors import DamagedLayer, StorageFailed
from segments.protocol.ids import Lsn
from segments.protocol.messages import (
    FetchLayer,
    GossipLayer,
    GossipRecords,
    Message,
    WriteAck,
)
from segments.protocol.record import RedoRecord
from segments.protocol.run import last_lsn_of
from segments.protocol.truncation import TruncationTable
from segments.wal import Entry, RecordsEntry, TableEntry
from tests.files_on_disks import scanned
from tests.oracles import naive_page
from tests.store_rig import (
    FIRST,
    MEMBERS,
    SECOND,
    THIRD,
    TINY,
    StoreRig,
    batch,
    crashes,
    durable,
    records,
)

CHAIN = records(range(1, 401), pages=5)
TICK = 0.5

Watch = Callable[[Op | None], object]


class Pair:
    """Two segments of a group, and the network between them: `A0` takes what `B0` has."""

    def __init__(self, ours: StoreRig, theirs: StoreRig) -> None:
        self.ours, self.theirs = ours, theirs
        self.now = 0.0
        self.lost: Callable[[Message], bool] = lambda _: False
        self.sent: list[Message] = []
        self.late: list[Message] = []
        """Parts that came, to come once more."""

    def deliver(self) -> None:
        """What both have said, until neither says anything more."""
        while True:
            said = [
                (source, to, each.message)
                for source, to in ((self.ours, self.theirs), (self.theirs, self.ours))
                for each in [*source.settle(), *source.answers()]
                if each.destination == to.segment
            ]
            for source, to, message in said:
                self.sent.append(message)
                if not self.lost(message):
                    to.step(message, source.segment, self.now)
            if not said:
                return

    def tell(self) -> None:
        """One round of gossip: how far the other is."""
        status = self.theirs.core.gossip.status(reply_wanted=True)
        self.ours.step(status, self.theirs.segment, self.now)
        self.deliver()

    def work(self, watch: Watch = lambda _: None) -> int:
        """Do what is due at ours, with time passing while it waits; returns how many jobs."""
        jobs = 0
        while self.ours.take_job(self.now):
            jobs += 1
            while self.ours.job is not None:
                op = self.ours.step_job()
                watch(op)
                self.deliver()
                transfer = self.ours.core.gossip.transfer
                if isinstance(op, Wait) and transfer is not None and transfer.part is None:
                    self.pass_time()
        return jobs

    def pass_time(self) -> None:
        self.now += TICK
        self.ours.core.tick(self.now)
        self.theirs.core.tick(self.now)
        self.deliver()

    def catch_up(self, watch: Watch = lambda _: None) -> None:
        for _ in range(100):
            self.tell()
            ours = self.ours.state
            if not self.work(watch) and ours.whole and ours.scl == self.theirs.state.scl:
                return
            self.now += TICK
        raise AssertionError("it does not catch up")

    def heal(self) -> None:
        """One job after the other until no layer of ours is damaged."""
        while self.ours.state.layers.damaged:
            self.tell()
            assert self.ours.take_job(self.now)
            while self.ours.job is not None:
                self.ours.step_job()
                self.deliver()

    def check(self) -> None:
        """Ours has all that theirs has, and reads it; a restart finds the same."""
        state = self.ours.state
        assert state.whole and state.scl == self.theirs.state.scl
        for read_point in range(max(1, state.floor), state.scl + 1, 11):
            for page_id in range(5):
                expected = naive_page(CHAIN[: state.scl], page_id, read_point)
                assert self.ours.page(page_id, read_point) == expected
        pages = state.materializer.existing_pages(0, 99, state.scl, 99)
        assert pages == self.theirs.state.materializer.existing_pages(0, 99, state.scl, 99)
        before = durable(self.ours)
        for back in crashes(self.ours):
            assert durable(back) == before


def peer(
    last: Lsn, *, floor: Lsn = 0, step: int = 40, segment: str = "B0",
    chain: Sequence[RedoRecord] = CHAIN, config: SegmentConfig = TINY,
) -> StoreRig:  # fmt: skip
    """A segment with layers, collected up to about ``floor``."""
    rig = StoreRig(segment, config)
    for at in range(0, last, step):
        run = chain[at : min(last, at + step)]
        rig.take(run, vdl=run[-1].lsn, floor=min(floor, run[-1].lsn))
        rig.work()
    return rig


def asked(pair: Pair) -> list[tuple[Lsn, Lsn, bool]]:
    """The layers that were asked for."""
    found = [message[2:5] for message in pair.sent if isinstance(message, FetchLayer)]
    return list(dict.fromkeys(found))


# ---- hydration -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("floor", "held"), [(0, 0), (0, 60), (250, 0), (250, 60), (250, 330)])
def test_a_segment_far_behind_takes_layers_and_then_records(floor: Lsn, held: Lsn) -> None:
    theirs = peer(350, floor=floor)
    theirs.take(CHAIN[350:360])
    assert bool(theirs.state.floor) == bool(floor) and theirs.state.folded >= 320
    ours = StoreRig()
    if held:
        ours.take(CHAIN[:held], vdl=held)
        ours.work()
    pair = Pair(ours, theirs)
    pair.catch_up()
    pair.check()
    base = theirs.state.floor
    if held < theirs.state.folded:
        parts = sum(isinstance(each, GossipLayer) for each in pair.sent)
        assert parts > (3 if held < 300 else 0)
        assert asked(pair)[0][2] == (held < base)
    hydrated = [each for each in ours.events if isinstance(each, events.Hydrated)]
    assert [each.before for each in hydrated][:1] == ([held] if held < theirs.state.folded else [])


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_parts_that_are_lost_or_come_twice_do_no_harm(seed: int) -> None:
    random = Random(seed)
    pair = Pair(StoreRig(), peer(350, floor=random.choice([0, 200])))
    share = random.choice([0.1, 0.5])
    pair.lost = lambda message: (
        isinstance(message, FetchLayer | GossipLayer) and random.random() < share
    )

    def twice(_: Op | None) -> None:
        parts = [each for each in pair.sent if isinstance(each, GossipLayer)]
        if parts and random.random() < 0.3:
            pair.ours.step(random.choice(parts), "B0", pair.now)

    pair.catch_up(twice)
    pair.check()


def test_records_that_come_meanwhile_stay_and_link_to_the_layer() -> None:
    ours, theirs = StoreRig(), peer(300)
    pair = Pair(ours, theirs)
    at = theirs.state.scl

    def write(_: Op | None) -> None:
        nonlocal at
        if at < 380:
            for rig in (ours, theirs):
                rig.step(batch(CHAIN[at : at + 4], vdl=at))
            at += 4
            theirs.settle()
            ours.settle()

    pair.tell()
    pair.work(write)
    assert ours.state.scl == at > 300, "what came is linked as soon as the layer is live"
    pair.catch_up()
    pair.check()


def test_what_can_be_folded_meanwhile_is() -> None:
    """A transfer takes long, and what is not folded is in memory."""
    ours, theirs = StoreRig(), peer(300)
    ours.take(CHAIN[:60], vdl=60)
    ours.work()
    ours.take(CHAIN[60:120], vdl=60)
    pair = Pair(ours, theirs)
    pair.catch_up()
    pair.check()
    published = [each for each in ours.events if isinstance(each, events.LayerPublished)]
    spans = [(each.start_lsn, each.end_lsn) for each in published]
    assert spans.index((60, 120)) < spans.index((60, theirs.state.folded))


def test_whose_scl_moves_asks_for_no_layer_until_it_stands_still() -> None:
    ours, theirs = StoreRig(), peer(300)
    pair = Pair(ours, theirs)
    for held in (20, 40):
        ours.take(CHAIN[held - 20 : held], vdl=held)
        pair.pass_time()
        pair.tell()
        assert asked(pair) == [] and ours.core.gossip.transfer is None
    pair.now += TINY.gossip_interval_s
    pair.tell()
    assert ours.core.gossip.transfer is not None
    pair.catch_up()
    pair.check()


def test_who_is_back_asks_at_once_and_goes_on_with_the_next_layer() -> None:
    ours, theirs = StoreRig(), peer(300)
    ours.take(CHAIN[:40], vdl=40)
    ours.work()
    ours.restart()
    pair = Pair(ours, theirs)
    for last in (300, 400):
        theirs.take(CHAIN[theirs.state.scl : last], vdl=last)
        theirs.work()
        ours.core.tick(pair.now)
        pair.tell()
        assert ours.core.gossip.transfer is not None
        pair.work()
    pair.catch_up()
    pair.check()


def test_damage_is_healed_at_once_though_the_scl_moves() -> None:
    ours, theirs = peer(300, segment="A0"), peer(300)
    pair = Pair(ours, theirs)
    for rig in (ours, theirs):
        rig.take(CHAIN[300:310], vdl=300)
    pair.pass_time()
    ours.state.damaged(ours.state.layers.layers[0].number)
    pair.tell()
    assert ours.core.gossip.transfer is not None


def test_a_part_is_put_together_once_however_often_it_is_asked_for_meanwhile() -> None:
    theirs = peer(300)
    request = FetchLayer(FIRST, "A0", 0, theirs.state.folded, False, 0, 0)
    theirs.step(request, "A0")
    [job] = theirs.core.take_queries()
    next(job)
    theirs.step(request, "A0")
    theirs.step(request, "C0")
    assert len(theirs.core.take_queries()) == 1, "for another peer"
    job.close()
    theirs.step(request, "A0")
    assert len(theirs.core.take_queries()) == 1


def test_a_transfer_ends_when_all_of_it_has_come_as_records() -> None:
    ours, theirs = StoreRig(), peer(300)
    ours.take(CHAIN[:60], vdl=60)
    ours.work()
    pair = Pair(ours, theirs)
    pair.lost = lambda message: (
        isinstance(message, GossipLayer)
        and sum(isinstance(each, GossipLayer) for each in pair.sent) > 1
    )
    pair.tell()
    transfer = ours.core.gossip.transfer
    assert transfer is not None and ours.take_job(pair.now)
    while transfer.part is None:
        ours.step_job()
        pair.deliver()
    ours.step_job()
    ours.take(CHAIN[60 : transfer.what.end], vdl=60)
    pair.pass_time()
    assert transfer.given_up and pair.now < transfer.deadline
    while ours.job is not None:
        ours.step_job()
    assert ours.core.gossip.transfer is None
    left = {each for each in ours.names if each.startswith("layer")}
    assert left == {layer.name for layer in ours.state.layers}, "its file is deleted"
    assert ours.state.scl == theirs.state.folded


def test_who_wrote_is_acknowledged_when_a_layer_brings_what_waits_for_the_disk() -> None:
    ours, theirs = StoreRig(), peer(280)
    folded = theirs.state.folded
    ours.step(theirs.core.gossip.status(reply_wanted=False), "B0")
    ours.step(batch(CHAIN[folded - 10 : folded], seq=7, vdl=280))
    assert ours.take_job()
    acks: list[WriteAck] = []
    while ours.job is not None:
        ours.step_job()
        for to, message in ours.core.take_sends():
            if to == "writer":
                assert isinstance(message, WriteAck)
                acks.append(message)
            theirs.step(message, "A0")
        for _, message in theirs.answers():
            ours.step(message, "B0")
    acks += ours.said(WriteAck)
    assert [(ack.seq, ack.scl) for ack in acks] == [(7, folded)]
    assert ours.core.take_write() is None, "nothing of it is written again"


def test_a_peer_that_collects_meanwhile_is_asked_for_its_base() -> None:
    """Not as long as it gives: only one that has heard nothing for long."""
    ours, theirs = StoreRig(), peer(300)
    pair = Pair(ours, theirs)
    collected = False

    def collect(_: Op | None) -> None:
        nonlocal collected
        given_parts = sum(isinstance(each, GossipLayer) for each in pair.sent)
        if given_parts == 2 and not collected:
            collected = True
            theirs.take([], floor=280)
            theirs.work(now=pair.now)
            assert theirs.state.floor == 0, "while it gives"
            theirs.work(now=pair.now + 2 * TINY.hydration_timeout_s)
            assert theirs.state.floor > 0

    pair.catch_up(collect)
    pair.check()
    assert collected
    first, *rest = asked(pair)
    assert not first[2] and rest[0] == (0, theirs.state.floor, True)
    assert not any("layer" in each and each not in ours.files.manifest.names for each in ours.names)


def test_a_peer_that_goes_is_given_up_and_leaves_no_file() -> None:
    ours, theirs = StoreRig(), peer(300)
    pair = Pair(ours, theirs)
    parts = 0

    def gone(message: Message) -> bool:
        nonlocal parts
        parts += isinstance(message, GossipLayer)
        return isinstance(message, GossipLayer) and parts > 2

    before, names = durable(ours), ours.names
    pair.lost = gone
    pair.tell()
    assert pair.work() == 1
    assert (durable(ours), ours.names, ours.core.gossip.transfer) == (before, names, None)
    assert parts > 10, "it was asked again and again"
    assert TINY.hydration_timeout_s <= pair.now <= 2 * TINY.hydration_timeout_s
    pair.lost = lambda _: False
    pair.catch_up()
    pair.check()


def test_a_disk_that_refuses_any_step_of_a_transfer_leaves_all_as_it_was() -> None:
    at = 0
    while True:
        ours = StoreRig()
        ours.take(CHAIN[:10], vdl=10)
        pair = Pair(ours, peer(200, floor=100))
        before, names, rest = durable(ours), ours.names, at

        def refuse(words: str) -> bool:
            nonlocal rest
            rest -= not words.startswith("delete")
            return rest == -1

        ours.disk.refuse = refuse
        pair.tell()
        try:
            pair.work()
        except StorageFailed as error:
            ours.core.background.failed(str(error), pair.now)
        else:
            break
        assert (durable(ours), ours.names, ours.core.gossip.transfer) == (before, names, None)
        ours.disk.refuse = lambda _: False
        at += 1
    assert at > 5


def test_a_crash_amid_a_transfer_finds_what_was_there_before() -> None:
    ours = StoreRig()
    ours.take(CHAIN[:10], vdl=10)
    pair = Pair(ours, peer(200, floor=100))
    before = durable(ours)
    named = False

    def look(_: Op | None) -> None:
        nonlocal named, before
        if bool(ours.files.manifest.layers) != named:
            named = not named
            before = durable(StoreRig(files=ours.disk.files))
        for back in crashes(ours, 2):
            assert durable(back) == before
            assert set(back.names) == back.files.manifest.names

    pair.tell()
    assert pair.work(look) >= 1 and named


def test_a_table_adopted_during_a_transfer_does_not_annul_what_it_brings() -> None:
    """What is folded at a peer no recovery annuls: it goes on, of the epoch that is now."""
    ours, theirs = StoreRig(), peer(300)
    pair = Pair(ours, theirs)
    table = TruncationTable(FIRST).extended(SECOND, 300, 900)
    steps = 0

    def seal(_: Op | None) -> None:
        nonlocal steps
        steps += 1
        if steps == 6:
            for rig in (ours, theirs):
                rig.step(batch([], vdl=300))
                rig.install(table)

    pair.catch_up(seal)
    pair.check()
    assert ours.state.table == theirs.state.table == table


# ---- healing -------------------------------------------------------------------------------------


def with_damage(rig: StoreRig, which: int, how: str) -> None:
    """Spoil a layer: one block of it, which a read meets, or all that a restart looks at."""
    layer = rig.state.layers.layers[which]
    match how:
        case "block":
            rig.disk.files[layer.name][layer.offsets[0] + 30] ^= 1
            rig.core.background.found_damage(DamagedLayer(layer.number, "a block"), "a read")
        case "footer":
            rig.disk.files[layer.name][-20] ^= 1
            rig.restart()
        case "gone":
            del rig.disk.files[layer.name]
            rig.restart()
    assert rig.state.layers.damaged == {layer.number} and not rig.state.whole


@pytest.mark.parametrize("how", ["block", "footer", "gone"])
@pytest.mark.parametrize(("floor", "which"), [(0, 0), (0, -1), (200, 0), (200, -1)])
@pytest.mark.parametrize("behind", [False, True])
def test_a_damaged_layer_is_healed_by_a_peer_that_may_have_folded_less(
    how: str, floor: Lsn, which: int, behind: bool
) -> None:
    ours = StoreRig("A0", files=peer(320, floor=floor).disk.files)
    theirs = StoreRig("B0") if behind else peer(320, floor=floor)
    if behind:
        theirs.take(CHAIN[:320])
        assert theirs.state.folded == 0
    with_damage(ours, which, how)
    numbers = ours.state.layers.damaged
    pair = Pair(ours, theirs)
    pair.catch_up()
    pair.check()
    assert not ours.state.layers.damaged
    assert not any(f"layer-{number}" in ours.names for number in numbers)


def test_a_damaged_layer_that_the_peer_has_collected_is_healed_by_its_base() -> None:
    """What the base does not reach of the layers above it stays, with a raised start."""
    ours = StoreRig("A0", files=peer(200).disk.files)
    theirs = peer(320, floor=150)
    ends = [each.end for each in ours.state.layers]
    assert not ours.state.floor and theirs.state.floor not in ends
    with_damage(ours, 0, "block")
    pair = Pair(ours, theirs)
    pair.catch_up()
    pair.check()
    assert asked(pair)
    assert ours.state.floor >= theirs.state.floor > 0


@pytest.mark.parametrize("floor", [0, 200])
@pytest.mark.parametrize("which", [0, -1])
def test_a_damaged_layer_is_healed_between_a_seal_and_its_table(floor: Lsn, which: int) -> None:
    """Or a recovery might wait for ever for the seal replies of those that are damaged."""
    ours = StoreRig("A0", files=peer(300, floor=floor).disk.files)
    theirs = peer(320, floor=floor)
    with_damage(ours, which, "block")
    before = ours.state.scl, ours.state.folded, ours.state.floor
    assert theirs.seal(SECOND) is not None
    assert ours.seal(SECOND) is None, "it is no witness"
    pair = Pair(ours, theirs)
    pair.heal()
    assert (ours.state.scl, ours.state.folded, ours.state.floor) == before, "in its place"
    assert ours.state.whole
    assert ours.seal(SECOND) is not None


@pytest.mark.parametrize("floor", [0, 150])
def test_no_base_that_collects_more_is_taken_between_a_seal_reply_and_the_table(floor: Lsn) -> None:
    """The next writer may have readers below it; and no more is asked for than heals."""
    ours = StoreRig("A0", files=peer(320, floor=floor).disk.files)
    theirs = peer(320, floor=250)
    for rig in (ours, theirs):
        assert rig.seal(SECOND) is not None
    with_damage(ours, 0, "block")
    pair = Pair(ours, theirs)
    pair.tell()
    assert not ours.take_job(pair.now) and not asked(pair)
    table = TruncationTable(FIRST).extended(SECOND, 320, 900)
    for rig in (ours, theirs):
        rig.install(table)
    pair.catch_up()
    assert asked(pair) and ours.state.floor >= theirs.state.floor > floor


@pytest.mark.parametrize(("ours", "theirs"), [(0, 0), (0, 150), (150, 250)])
def test_a_recovery_need_not_wait_for_those_that_are_damaged(ours: Lsn, theirs: Lsn) -> None:
    """Two of six are gone, and two of the four left are no witnesses, who have collected less."""
    rigs = {each: peer(320, segment=each, floor=theirs) for each in ("B0", "C0")}
    for each in ("A0", "D0"):
        rigs[each] = StoreRig(each, files=peer(320, floor=ours).disk.files)
        with_damage(rigs[each], 0, "block")
    recovery = Recovery(9, {0: QuorumModel(MEMBERS)}, 1_000, EngineConfig())
    for turn in range(100):
        recovery.tick(turn * TICK)
        for segment, message in recovery.take_sends():
            if segment in rigs:
                rigs[segment].step(message, "writer", turn * TICK)
        for segment, rig in rigs.items():
            rig.core.tick(turn * TICK)
            rig.work_on(turn * TICK)
            for to, message in [*rig.settle(), *rig.answers()]:
                if to in rigs:
                    rigs[to].step(message, segment, turn * TICK)
                elif to == "writer":
                    recovery.step(message, turn * TICK)
        if recovery.done:
            break
    assert recovery.plan is not None and recovery.plan.vdl == 320
    assert recovery.plan.floor >= max(ours, theirs) - 40


def test_a_base_that_ends_between_what_is_folded_and_what_is_held_is_taken() -> None:
    """Records are not enough to go on from there: those above it come as a layer."""
    ours = StoreRig("A0", attrs.evolve(TINY, fold_bytes=4 << 10, wal_file_bytes=4 << 10))
    theirs = peer(350, floor=40)
    ours.take(CHAIN[:42], vdl=42)
    assert not ours.work() and ours.state.folded < theirs.state.floor < ours.state.scl
    pair = Pair(ours, theirs)
    pair.catch_up()
    pair.check()


def test_who_lacks_its_table_gives_no_layer() -> None:
    """Nobody can tell which of its records are annulled."""
    ours = StoreRig("A0", files=peer(200).disk.files)
    theirs = peer(200)
    theirs.take(CHAIN[200:210])
    theirs.install(TruncationTable(FIRST).extended(SECOND, 200, 900))
    frames = [each.frame for each in scanned(theirs.disk.files).frames]
    [nth] = [
        at for at, frame in enumerate(frames)
        if any(isinstance(each, TableEntry) for each in frame.entries)
    ]  # fmt: skip
    theirs.rot_frame(nth)
    theirs.restart()
    assert theirs.state.lacks_table
    with_damage(ours, 0, "block")
    for rig in (ours, theirs):
        rig.seal(THIRD)
    pair = Pair(ours, theirs)
    pair.tell()
    pair.work()
    assert not any(isinstance(each, GossipLayer) for each in pair.sent)
    assert ours.state.layers.damaged


def records_in(entries: Iterable[Entry]) -> list[RecordsEntry]:
    return [each for each in entries if isinstance(each, RecordsEntry)]


def with_a_damaged_log() -> StoreRig:
    """It was at 120, and is at 40."""
    rig = StoreRig()
    for at in range(0, 120, 40):
        rig.take(CHAIN[at : at + 40])
    rig.rot_frame(2)
    rig.restart()
    assert rig.state.scl < 120 and not rig.state.whole
    return rig


@pytest.mark.parametrize("floor", [0, 150])
def test_a_damaged_log_is_healed_by_layers_between_a_seal_and_its_table(floor: Lsn) -> None:
    """What it lost may be in layers at all others by now, and in no log."""
    ours, theirs = with_a_damaged_log(), peer(300, floor=floor)
    for rig in (ours, theirs):
        rig.seal(SECOND)
    assert ours.seal(SECOND) is None, "it is no witness"
    pair = Pair(ours, theirs)
    while not ours.state.whole:
        pair.tell()
        assert pair.work()
    reply = ours.seal(SECOND)
    assert reply is not None and reply.scl >= 120 and reply.floor >= ours.state.floor >= floor - 40
    for rig in (ours, theirs):
        rig.install(TruncationTable(FIRST).extended(SECOND, 300, 900))
    pair.catch_up()
    pair.check()


def test_a_damaged_log_whose_scl_moves_asks_for_no_layer() -> None:
    ours, theirs, third = with_a_damaged_log(), peer(300), StoreRig("C0")
    third.take(CHAIN[:90])
    for rig in (ours, theirs, third):
        rig.seal(SECOND)
    pair, before = Pair(ours, theirs), ours.state.scl
    ours.core.tick(0.0)
    ours.settle()
    run = third.state.index.runs_after(before, 400)
    ours.step(GossipRecords(SECOND, "C0", third.state.table, 0, run), "C0")
    ours.settle()
    assert before < ours.state.scl < 120
    ours.core.tick(0.0)
    pair.tell()
    assert ours.core.gossip.transfer is None


def test_a_damaged_log_stays_until_it_is_whole() -> None:
    """A layer reaches beyond a part of it; what else it held is known from its frames alone."""
    ours, theirs = StoreRig(), StoreRig("B0")
    for at in range(0, 120, 10):
        ours.take(CHAIN[at : at + 10])
    ours.seal(SECOND)
    for place in scanned(ours.disk.files).frames:
        lasts = [last_lsn_of(each.records) for each in records_in(place.frame.entries)]
        if any(last == 20 or 90 <= last < 120 for last in lasts):
            ours.rot(place.start + 30)
    ours.restart()
    assert not ours.state.whole
    theirs.take(CHAIN[:80], vdl=80)
    theirs.work()
    theirs.seal(SECOND)
    pair = Pair(ours, theirs)
    for _ in range(5):
        pair.tell()
        pair.work()
        pair.now += TICK
    assert ours.state.folded == theirs.state.folded and not ours.state.whole
    ours.restart()
    assert not ours.state.whole


def test_a_witness_with_a_gap_asks_for_no_layer_between_a_seal_and_its_table() -> None:
    ours, theirs = StoreRig(), peer(300)
    ours.take(CHAIN[:10])
    ours.take(CHAIN[20:30])
    for rig in (ours, theirs):
        rig.seal(SECOND)
    assert ours.state.whole
    pair = Pair(ours, theirs)
    pair.lost = lambda message: isinstance(message, GossipRecords)
    pair.tell()
    assert not ours.take_job(pair.now) and not asked(pair)


def test_no_floor_is_heard_between_a_seal_and_its_table() -> None:
    ours, theirs = peer(100, segment="A0"), peer(320, floor=150)
    for rig in (ours, theirs):
        rig.seal(SECOND)
    Pair(ours, theirs).tell()
    assert ours.state.announced_floor == 0


def test_a_witness_that_is_behind_asks_for_no_layer_between_a_seal_and_its_table() -> None:
    ours, theirs = StoreRig(), peer(300)
    for rig in (ours, theirs):
        rig.seal(SECOND)
    pair = Pair(ours, theirs)
    pair.tell()
    assert not ours.take_job(pair.now) and not asked(pair)


def test_layers_with_raised_starts_are_read_merged_and_collected_as_others() -> None:
    ours = StoreRig("A0", files=peer(200).disk.files)
    theirs = peer(320, floor=150)
    with_damage(ours, 0, "block")
    Pair(ours, theirs).heal()
    raised = [each for each in ours.state.layers if not each.base]
    assert ours.state.floor and raised[0].start == ours.state.floor
    assert ours.files.manifest.layers[1].start == ours.state.floor
    for last in range(240, 401, 40):
        ours.take(CHAIN[ours.state.scl : last], vdl=last, floor=last - 60)
        ours.work(now=99.0)
    assert ours.state.floor > 250
    for read_point in range(ours.state.floor, 401, 9):
        for page_id in range(5):
            assert ours.page(page_id, read_point) == naive_page(CHAIN, page_id, read_point)
    before = durable(ours)
    ours.restart()
    assert durable(ours) == before


def test_of_a_layer_cut_short_only_the_pages_that_are_new_above_are_counted() -> None:
    """Each record begins a page: of those there are as many as the base and the rest are long."""
    chain = records(range(1, 401), pages=1_000, size=60)
    config = attrs.evolve(TINY, collect_ratio=0.01)
    ours = StoreRig("A0", files=peer(140, step=20, chain=chain).disk.files)
    with_damage(ours, 0, "block")
    pair = Pair(ours, peer(320, floor=150, chain=chain, config=config))
    pair.heal()
    base, rest, *_ = ours.state.layers
    assert base.base and rest.start == base.end and rest.end - rest.start < rest.count
    news = [each.new_page_count for each in ours.state.layers]
    assert news == [each.end - each.start for each in ours.state.layers]
    ours.restart()
    assert [each.new_page_count for each in ours.state.layers] == news


@pytest.mark.parametrize("how", ["footer", "gone"])
@pytest.mark.parametrize("known", [True, False])
def test_a_damaged_layer_that_a_base_cuts_short_heals_too(how: str, known: bool) -> None:
    ours, theirs = StoreRig("A0", files=peer(200).disk.files), peer(320, floor=150)
    layers = ours.state.layers.layers
    [cut] = (each for each in layers if each.start < theirs.state.floor < each.end)
    with_damage(ours, 0, "block")
    if how == "gone":
        del ours.disk.files[cut.name]
    else:
        ours.disk.files[cut.name][-20] ^= 1
    if known:
        ours.core.background.found_damage(DamagedLayer(cut.number, how), "a read")
    pair = Pair(ours, theirs)
    pair.catch_up()
    pair.check()


@pytest.mark.parametrize("how", ["rots", "is gone", "cannot be read"])
def test_a_layer_that_spoils_as_it_is_cut_short_does_not_hold_up_the_base(how: str) -> None:
    chain = records(range(1, 401), pages=1_000, size=60)
    config = attrs.evolve(TINY, collect_ratio=0.01)
    ours = StoreRig("A0", files=peer(140, step=20, chain=chain).disk.files)
    theirs = peer(320, floor=150, chain=chain, config=config)
    with_damage(ours, 0, "block")
    pair = Pair(ours, theirs)
    cuts: list[Layer] = []

    def spoil(op: Op | None) -> None:
        transfer = ours.core.gossip.transfer
        if not isinstance(op, SyncFile) or transfer is None or not transfer.what.base or cuts:
            return
        end = transfer.what.end
        cuts.extend(each for each in ours.state.layers if each.start < end < each.end)
        match how:
            case "rots":
                ours.disk.files[cuts[0].name][-20] ^= 1
            case "is gone":
                del ours.disk.files[cuts[0].name]
            case _:
                ours.disk.refuse = lambda words: words.startswith(f"read {cuts[0].name}")

    while not cuts:
        pair.tell()
        assert ours.take_job(pair.now)
        while ours.job is not None:
            spoil(ours.step_job())
            pair.deliver()
    ours.disk.refuse = lambda _: False
    [cut] = cuts
    assert ours.state.floor == theirs.state.floor, "the base is live"
    assert (cut.number in ours.state.layers.damaged) == (how != "cannot be read")
    pair.catch_up()
    news = [each.new_page_count for each in ours.state.layers]
    names = ours.names
    ours.restart()
    assert [each.new_page_count for each in ours.state.layers] == news and ours.names == names


def test_a_transfer_that_the_peer_has_collected_meanwhile_is_given_up_at_once() -> None:
    """It answers with how far it is: what is left there is asked for next, without a pause."""
    ours = StoreRig("A0", files=peer(200).disk.files)
    theirs = peer(280)
    with_damage(ours, 0, "block")
    pair = Pair(ours, theirs)
    pair.lost = lambda message: isinstance(message, GossipLayer)
    pair.tell()
    assert ours.take_job(pair.now) and ours.core.gossip.transfer is not None
    ours.step_job()
    pair.deliver()
    theirs.take(CHAIN[280:300], vdl=300, floor=300)
    theirs.work(now=pair.now + 99.0)
    assert theirs.state.floor > 200, "where what is asked for begins"
    before = pair.now
    pair.lost = lambda _: False
    pair.tell()
    assert ours.core.gossip.transfer.given_up
    pair.catch_up()
    pair.check()
    assert pair.now - before < TINY.hydration_timeout_s / 2


def test_a_peer_that_is_damaged_itself_gives_nothing_of_it() -> None:
    ours = StoreRig("A0", files=peer(320).disk.files)
    theirs = peer(320)
    with_damage(ours, 0, "block")
    layer = theirs.state.layers.layers[0]
    theirs.disk.files[layer.name][layer.offsets[0] + 30] ^= 1
    pair = Pair(ours, theirs)
    pair.tell()
    pair.work()
    assert ours.state.layers.damaged and ours.core.gossip.transfer is None
    assert theirs.state.layers.damaged == {layer.number}, "it has noticed"
    pair.sent.clear()
    now = pair.now
    pair.tell()
    pair.work()
    assert pair.now <= now + TICK, "nobody waits until the transfer times out"
    assert asked(pair) and not any(isinstance(each, GossipLayer) for each in pair.sent)
    assert not theirs.core.take_queries(), "and looks for it no more"
