"""What a segment does on its own account: when, in which order on the disk, and whatever fails."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.layers.job import Create, Delete, Read, Republish, Wait
from segments.layers.tiers import Collect, Merge
from segments.manifest import MANIFEST, PROMISE
from segments.protocol import events
from segments.protocol.errors import DamagedLayer, StorageFailed
from segments.protocol.heard import Mark
from segments.protocol.ids import Lsn
from segments.protocol.messages import InstallTable, Seal, WriteAck
from segments.protocol.space import Space
from segments.protocol.truncation import TruncationTable
from segments.transfer import Transfer, Wanted
from segments.wal import Promise, encode_promise
from tests.files_on_disks import scanned
from tests.oracles import naive_page
from tests.store_rig import (
    FIRST,
    SECOND,
    TINY,
    StoreRig,
    batch,
    crashes,
    durable,
    records,
)

CHAIN = records(range(1, 401))
HEARD = {"B0": Mark(FIRST, 7)}
LONG = attrs.evolve(TINY, compact_bytes=0, compact_ratio=1.5)
"""A log that is rewritten when it is long."""


def filled(last: int, *, vdl: Lsn = 0, floor: Lsn = 0, step: int = 10) -> StoreRig:
    """A segment that has heard of a peer before it took its first record, and no more of any."""
    rig = StoreRig()
    rig.ask(batch([])._replace(heard={"B0": 7}), WriteAck)
    more(rig, last, vdl=vdl, floor=floor, step=step)
    return rig


def more(rig: StoreRig, last: int, *, vdl: Lsn = 0, floor: Lsn = 0, step: int = 10) -> None:
    for at in range(rig.state.scl, last, step):
        rig.take(CHAIN[at : min(last, at + step)])
    rig.take([], vdl=vdl, floor=floor)


def check_pages(rig: StoreRig) -> None:
    """Every version that is left is a replay of the records."""
    state = rig.state
    for read_point in range(max(1, state.floor), state.scl + 1, 7):
        for page_id in range(3):
            expected = naive_page(CHAIN[: state.scl], page_id, read_point)
            assert rig.page(page_id, read_point) == expected
            assert rig.read(page_id, read_point) == expected.image.rstrip(b"\0")


# ---- the fold rule -------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_what_is_folded_lies_at_or_below_the_announced_vdl_and_the_scl(seed: int) -> None:
    """2017 §4.3: no recovery annuls what a writer has announced, all else it may."""
    random = Random(seed)
    rig = StoreRig()
    vdl = 0
    for _ in range(random.randint(1, 12)):
        start = random.randrange(200)
        vdl = max(vdl, random.choice([vdl, random.randint(0, 250)]))
        rig.step(batch(CHAIN[start : start + random.randint(1, 60)], vdl=vdl))
        if random.random() < 0.5:
            rig.step(batch(CHAIN[rig.state.scl : rig.state.scl + 40], vdl=vdl))
        rig.settle()
        rig.work(jobs=random.randint(0, 2))
        state = rig.state
        assert state.folded <= min(vdl, state.scl)
        assert state.folded == 0 or state.folded == CHAIN[state.folded - 1].lsn
    assert rig.core.background.fold_rule.through() <= min(vdl, rig.state.scl)
    check_pages(rig)


def test_a_fold_is_due_when_enough_can_be_folded_and_not_before() -> None:
    rig = filled(200)
    assert not rig.take_job(), "nothing is announced"
    record_bytes = rig.state.index.encoded_bytes() / 200
    due = -(-TINY.fold_bytes // int(record_bytes))
    rig.take([], vdl=due - 2)
    assert not rig.take_job()
    rig.take([], vdl=due + 2)
    rig.work()
    assert rig.state.folded == due + 2


def test_a_log_that_is_much_too_long_is_folded_however_little_it_holds() -> None:
    """What was sent again and again stands in it as often, and would be read at each restart."""
    rig = StoreRig()
    run = CHAIN[:10]
    rig.take(run[:5], vdl=8)
    rig.take([])
    size = rig.files.log_bytes
    assert not rig.take_job()
    while rig.files.log_bytes <= 2 * TINY.fold_bytes:
        rig.step(batch(CHAIN[20:30]))
        rig.settle()
        assert rig.files.log_bytes > size
    assert not rig.take_job(), "most of it cannot be folded"
    rig.take(run)
    rig.take(CHAIN[10:20], vdl=30)
    assert rig.take_job()
    rig.work()
    assert rig.state.folded == 30 and len(rig.files.manifest.logs) == 1


def test_a_fold_takes_a_bounded_part_of_what_has_gathered() -> None:
    rig = filled(400, vdl=400)
    assert rig.work(jobs=1) == 1
    first = rig.state.layers.layers[0]
    assert 4 * TINY.fold_bytes * 0.7 < first.user_bytes + 40 * first.end < 4 * TINY.fold_bytes * 1.1
    rig.work()
    assert rig.state.folded > 350


@pytest.mark.parametrize("kind", ["merge", "collect"])
def test_a_fold_does_not_wait_for_the_end_of_a_longer_job(kind: str) -> None:
    """What is not folded is in memory, and a merge takes the longer the more there is."""
    rig = JOBS[kind]()
    before = rig.state.folded
    assert rig.take_job()
    rig.step_job()
    more(rig, before + 60, vdl=before + 60)
    published: list[events.LayerPublished] = []
    while rig.job is not None:
        rig.step_job()
        published = [each for each in rig.events if isinstance(each, events.LayerPublished)]
    fold, last = published[-2:]
    assert not fold.replaced and fold.start_lsn == before
    assert last.replaced and last.end_lsn == before
    check_pages(rig)
    rig.restart()
    assert rig.state.folded == before + 60
    check_pages(rig)


def test_a_fold_that_fails_amid_a_longer_job_ends_that_without_a_file() -> None:
    rig = mergeable()
    names = rig.names
    assert rig.take_job()
    rig.step_job()
    more(rig, 180, vdl=180)
    rig.disk.refuse = lambda words: words.startswith("create layer")
    with pytest.raises(StorageFailed):
        rig.work(jobs=1)
    assert {each for each in rig.names if each.startswith("layer")} <= set(names)
    rig.disk.refuse = lambda _: False
    rig.work(now=100.0)
    assert rig.state.folded == 180
    check_pages(rig)


def lagging() -> tuple[StoreRig, int]:
    """A segment with one layer more than there may be before a fold waits, and how many that is."""
    rig = StoreRig(config=attrs.evolve(TINY, unfolded_bytes=4 << 10))
    most = 2 * rig.core.background.tiers.most_layers(0)
    for folds in range(1, most + 2):
        more(rig, rig.state.scl + 25, vdl=rig.state.scl + 25)
        assert rig.work(jobs=1) == 1 and len(rig.state.layers) == folds, "a fold comes first"
    return rig, most


@pytest.mark.parametrize("gathered", [30, 60])
def test_where_merging_lags_a_fold_waits_until_it_takes_half_of_what_may_be_unfolded(
    gathered: int,
) -> None:
    """Each fold is one layer more to look into, and a longer job would give way to it for ever."""
    rig, most = lagging()
    folded, rig.core.background._owed = rig.state.folded, 0
    more(rig, folded + gathered, vdl=folded + gathered)
    assert rig.core.background.fold_rule.through() > folded, "it is due"
    assert rig.work(jobs=1) == 1
    assert (len(rig.state.layers) < most) is (rig.state.folded == folded) is (gathered == 30)
    check_pages(rig)


def test_where_merging_lags_so_much_is_merged_before_the_next_fold() -> None:
    rig, most = lagging()
    folded, owed = rig.state.folded, rig.core.background._owed
    assert owed >= rig.state.layers.layers[-1].length
    more(rig, folded + 60, vdl=folded + 60)
    assert rig.take_job()
    merged = 0
    while rig.state.folded == folded:
        op = rig.step_job()
        assert rig.job is not None, "the fold comes amid the merge"
        if isinstance(op, Read) and op.name != f"layer-{rig.state.layers.layers[-1].number + 2}":
            merged += op.length
    assert owed <= merged < sum(layer.length for layer in rig.state.layers)
    rig.work()
    assert len(rig.state.layers) <= most
    check_pages(rig)


def test_where_merging_lags_a_fold_waits_for_no_more_than_that() -> None:
    rig, most = lagging()
    folded = rig.state.folded
    more(rig, folded + 60, vdl=folded + 60)
    assert rig.take_job()
    rig.core.background._owed = 0
    rig.work_on()
    assert rig.state.folded == folded + 60 and len(rig.state.layers) <= most
    check_pages(rig)


def test_no_fold_waits_for_a_merge_that_the_disk_refuses() -> None:
    rig, _ = lagging()
    folded = rig.state.folded
    more(rig, folded + 60, vdl=folded + 60)
    rig.core.background.failed("no room", 0.0)
    assert rig.work(now=100.0, jobs=1) == 1
    assert rig.state.folded == folded + 60


@pytest.mark.parametrize("behind", [None, 500], ids=["no floor", "a floor"])
def test_however_fast_a_writer_is_the_number_of_layers_comes_to_rest(behind: int | None) -> None:
    """It always has more than may be unfolded, and waits for a fold."""
    rig = StoreRig(config=attrs.evolve(TINY, unfolded_bytes=4 << 10))
    background, counts = rig.core.background, []
    chain = records(range(1, 8_001), pages=5)
    for at in range(0, len(chain), 25):
        floor = 0 if behind is None else max(0, at - behind)
        rig.take(chain[at : at + 25], vdl=at + 25, floor=floor)
        while background.records_wait and (rig.job is not None or rig.take_job()):
            rig.step_job()
        assert not background.records_wait, "a fold comes about"
        counts.append(len(rig.state.layers))
    size = sum(layer.length for layer in rig.state.layers)
    assert max(counts) <= 6 * background.tiers.most_layers(size)  # on both sides of the floor


@pytest.mark.parametrize("why", ["space is short", "it was asked for", "nothing can be merged"])
def test_though_merging_lags_a_fold_does_not_wait_where(why: str) -> None:
    rig, _ = lagging()
    background, folded = rig.core.background, rig.state.folded
    more(rig, folded + 30, vdl=folded + 30)
    match why:
        case "space is short":
            background.watch.space = Space(2, 1)
        case "it was asked for":
            background.fold_rule.asked = folded + 1
        case _:
            rig.state.damaged(min(rig.state.layers.numbers))
    assert rig.work(jobs=1) == 1
    assert rig.state.folded == folded + 30


# ---- writers that are faster than folds ----------------------------------------------------------

NARROW = attrs.evolve(TINY, unfolded_bytes=2 << 10)


def too_far_ahead() -> StoreRig:
    """A segment with one more batch than it takes before a fold."""
    rig = StoreRig(config=NARROW)
    more(rig, 60, vdl=60)
    assert rig.core.background.records_wait
    rig.step(batch(CHAIN[60:70], seq=7, vdl=60))
    assert rig.settle() == [] and rig.state.scl == 60
    return rig


def test_records_wait_for_a_fold_when_too_many_are_in_memory() -> None:
    rig = too_far_ahead()
    assert rig.core.take_write() is None
    rig.work(jobs=1)
    [ack] = [each.message for each in rig.settle() if isinstance(each.message, WriteAck)]
    assert (ack.seq, ack.scl) == (7, 70)


def test_one_fold_takes_all_that_makes_records_wait_however_small_folds_are() -> None:
    """Where single records are larger than a fold they would wait for as many folds."""
    rig = StoreRig(config=attrs.evolve(NARROW, fold_bytes=1))
    rig.take(CHAIN[:60], vdl=60)
    assert rig.core.background.records_wait
    assert rig.work(jobs=1) == 1
    assert not rig.core.background.records_wait and rig.state.folded > 30


def test_what_no_vdl_has_reached_does_not_wait_as_it_cannot_be_folded() -> None:
    rig = StoreRig(config=NARROW)
    more(rig, 200)
    assert rig.state.scl == 200 and rig.state.folded == 0


def test_what_is_sent_again_waits_once() -> None:
    rig = too_far_ahead()
    size = rig.core._queue_bytes
    rig.step(batch(CHAIN[60:70], seq=8, vdl=60))
    assert rig.core._queue_bytes == size
    rig.step(batch(CHAIN[70:80], seq=9, vdl=60))
    assert rig.core._queue_bytes > size
    rig.work(jobs=1)
    [ack] = [each.message for each in rig.settle() if isinstance(each.message, WriteAck)]
    assert (ack.seq, ack.scl) == (9, 80)


def test_what_is_no_record_waits_for_no_fold_and_those_stay_in_line() -> None:
    rig = too_far_ahead()
    assert rig.state.table.settled < FIRST
    rig.step(batch([], seq=8, vdl=60)._replace(settled=True))
    rig.settle()
    assert rig.state.table.settled == FIRST and rig.state.scl == 60
    rig.work(jobs=1)
    rig.settle()
    assert rig.state.scl == 70


def test_a_seal_waits_for_no_fold() -> None:
    rig = too_far_ahead()
    rig.step(Seal(SECOND, 1))
    rig.settle()
    assert rig.state.epoch == SECOND and rig.state.scl == 60


def test_records_do_not_wait_for_a_fold_that_the_disk_refuses() -> None:
    """It may still take writes: so the volume goes on."""
    rig = too_far_ahead()
    rig.disk.refuse = lambda words: words.startswith("create layer")
    with pytest.raises(StorageFailed) as refused:
        rig.work(jobs=1)
    rig.core.background.failed(str(refused.value), 0.0)
    rig.settle()
    assert rig.state.scl == 70
    rig.disk.refuse = lambda _: False
    rig.work(now=100.0)
    assert rig.state.folded == 60
    more(rig, 130, vdl=130)
    assert rig.core.background.records_wait, "from then on they do again"


def test_a_fold_comes_while_a_peer_may_be_silent_amid_a_transfer() -> None:
    """What its writer sends may be all that the segment lacks."""
    rig = too_far_ahead()
    what = Wanted(0, 90, base=False)
    rig.core.gossip.transfer = Transfer.begin("B0", what, timeout_s=5.0, now=0.0)
    assert rig.take_job()
    while rig.core.background.records_wait:
        rig.step_job()
    [ack] = [each.message for each in rig.settle() if isinstance(each.message, WriteAck)]
    assert (ack.seq, ack.scl) == (7, 70)
    assert rig.state.folded == 60 and rig.core.gossip.transfer is not None


def test_nothing_is_folded_between_a_seal_and_its_table() -> None:
    rig = filled(100, vdl=60)
    rig.seal(SECOND)
    assert not rig.take_job()
    rig.install(TruncationTable(FIRST).extended(SECOND, 80, 200))
    rig.work()
    assert rig.state.folded == 60


def test_nothing_is_folded_without_the_table_that_was_adopted() -> None:
    rig = filled(90)
    rig.take(CHAIN[90:100], vdl=60)
    rig.disk.files[PROMISE] = bytearray(encode_promise(Promise(SECOND, SECOND)) * 2)
    rig.restart()
    assert rig.state.lacks_table and rig.state.index.scl == 100
    assert not rig.take_job()
    rig.install(TruncationTable(FIRST).extended(SECOND, 100, 200))
    assert rig.take_job()


def test_log_files_go_as_a_prefix_of_what_is_folded() -> None:
    rig = filled(200)
    rig.take([], vdl=95)
    before = [each.number for each in rig.files.manifest.logs]
    rig.work()
    folded = rig.state.folded
    left = [each.number for each in rig.files.manifest.logs]
    assert 60 < folded <= 95 and left == before[-len(left) :] and 1 < len(left) < len(before)
    assert all(f"wal-{each}" in rig.disk.files for each in left)
    assert not any(f"wal-{each}" in rig.disk.files for each in before[: -len(left)])
    held = [
        entry
        for each in rig.files.manifest.logs[:1]
        for found in scanned(rig.disk.files, each.name).frames
        for entry in found.frame.entries
    ]
    assert held
    folded = rig.state.folded
    assert 0 < folded <= 95
    rig.restart()
    assert (rig.state.scl, rig.state.folded) == (200, folded)


# ---- merges and collection -----------------------------------------------------------------------


def test_layers_become_few_and_what_is_below_the_floor_the_newest_versions() -> None:
    rig = StoreRig()
    for last in range(30, 401, 30):
        more(rig, last, vdl=last, floor=max(0, last - 100))
        rig.work()
        assert len(rig.state.layers) <= 5
        assert rig.state.floor <= max(0, last - 100)
        check_pages(rig)
    kinds = {type(each) for each in rig.events}
    assert {events.LayerPublished, events.LogCollected} <= kinds
    assert rig.state.floor > 200
    before = durable(rig)
    rig.restart()
    assert durable(rig) == before
    check_pages(rig)


@pytest.mark.parametrize(
    ("vdl", "floor", "base"), [(200, 150, 150), (150, 200, 150), (200, 0, 0), (0, 150, 0)]
)
def test_collection_stays_at_or_below_floor_and_vdl(vdl: Lsn, floor: Lsn, base: Lsn) -> None:
    """2017 §3.3: a version that somebody may read, or that may be annulled, is not collected."""
    rig = StoreRig()
    for last in range(50, 201, 50):
        more(rig, last, vdl=min(last, vdl))
        rig.work(jobs=1)
    rig.take([], floor=floor)
    rig.work()
    assert rig.state.floor <= base
    assert rig.state.floor == 0 if base == 0 else rig.state.floor > 0
    check_pages(rig)


def test_nothing_is_collected_while_a_peer_takes_a_layer() -> None:
    rig = collectable()
    assert isinstance(rig.core.background.planned(), Collect)
    rig.core.gossip._giving_until = 100.0
    assert not rig.take_job(now=99.0)
    assert rig.take_job(now=100.0)


def test_what_is_collected_for_a_writer_that_has_a_successor_is_left_as_it_was() -> None:
    """It may have readers below the floor that the writer before had told of.

    Whenever it comes, before the manifest is about to name the new layer.
    """
    tried = 0
    while (rig := collecting(steps=tried + 1)).core.background.naming is None:
        tried += 1
        names = set(rig.disk.files)
        table = TruncationTable(FIRST).extended(SECOND, 61, 100)
        rig.step(InstallTable(SECOND, 1, table), "writer-2")
        rig.settle()
        while rig.job is not None:
            rig.step_job()
        assert (rig.state.floor, rig.state.announced_floor) == (0, 0)
        assert {each for each in rig.disk.files if each.startswith("layer")} <= names
        check_pages(rig)
    assert tried > 3


def collecting(steps: int) -> StoreRig:
    """A collection under way, of which so many steps are done."""
    rig = collectable()
    assert rig.take_job(now=0.0)
    for _ in range(steps):
        rig.step_job()
    return rig


def collectable() -> StoreRig:
    rig = filled(60, vdl=60)
    rig.work()
    rig.take([], floor=60)
    return rig


def mergeable() -> StoreRig:
    rig = filled(0)
    for last in (30, 60, 90, 120):
        more(rig, last, vdl=last)
        assert rig.work(jobs=1) == 1
    assert isinstance(rig.core.background.planned(), Merge)
    return rig


def foldable() -> StoreRig:
    rig = mergeable()
    rig.work()
    more(rig, 180, vdl=150)
    return rig


def rewritable() -> StoreRig:
    rig = filled(60, vdl=60)
    rig.work()
    more(rig, 110)
    rig.core.scrub.log_is_damaged = True
    return rig


def spoilt_manifest() -> StoreRig:
    rig = filled(60, vdl=60)
    rig.work()
    rig.disk.files[MANIFEST][5] ^= 1
    rig.core.scrub.manifest_to_read = True
    rig.core.scrub.manifest_checked(sound=False)
    return rig


JOBS: dict[str, Callable[[], StoreRig]] = {
    "fold": foldable,
    "merge": mergeable,
    "collect": collectable,
    "rewrite": rewritable,
    "mend": spoilt_manifest,
}
each_job = pytest.mark.parametrize("kind", JOBS)


# ---- the order on the disk -----------------------------------------------------------------------


def asked(rig: StoreRig) -> list[str]:
    """What one job asks of the disk, an extension once however often."""
    before = len(rig.disk.asked)
    assert rig.work(jobs=1) == 1
    words = rig.disk.asked[before:]
    return [each for at, each in enumerate(words) if at == 0 or words[at - 1] != each]


def test_a_layer_counts_when_all_of_it_is_durable_and_what_it_replaces_goes_last() -> None:
    rig = StoreRig()
    more(rig, 30, vdl=30)
    full = [each.name for each in rig.files.manifest.logs[:-1]]
    number = rig.files.take_number() + 1
    assert full and asked(rig) == [
        f"create layer-{number}", f"extend layer-{number}", f"sync layer-{number}", "sync names",
        "publish manifest", " ".join(["delete", *full]),
    ]  # fmt: skip
    for last in (60, 90, 120):
        more(rig, last, vdl=last)
        rig.work(jobs=1)
    [*replaced] = rig.state.layers
    number = rig.files.take_number() + 1
    assert asked(rig) == [
        f"create layer-{number}", f"extend layer-{number}", f"sync layer-{number}", "sync names",
        "publish manifest", " ".join(["delete", *(each.name for each in replaced)]),
    ]  # fmt: skip


def test_a_log_is_written_anew_behind_a_roll_and_takes_the_place_of_what_was_there() -> None:
    rig = rewritable()
    old = [each.name for each in rig.files.manifest.logs]
    rolled = rig.files.take_number() + 2  # the number of the new log is taken behind it
    assert asked(rig) == [
        f"create wal-{rolled - 1}", f"extend wal-{rolled - 1}", f"sync wal-{rolled - 1}",
        "sync names", "publish manifest",
        f"create wal-{rolled}", f"extend wal-{rolled}", f"sync wal-{rolled}", "sync names",
        "publish manifest", " ".join(["delete", *old]),
    ]  # fmt: skip
    assert [each.number for each in rig.files.manifest.logs] == [rolled, rolled - 1]


@each_job
def test_a_restart_amid_any_job_finds_the_same(kind: str) -> None:
    """At every operation, whatever of what is not durable a crash leaves."""
    rig = JOBS[kind]()
    before = durable(rig)
    for now in crashes(rig):
        assert durable(now) == before
    assert rig.take_job()
    steps = 0
    while rig.job is not None:
        if isinstance(rig.step_job(), Wait):
            rig.write()
        steps += 1
        assert durable(rig) == before
        for back in crashes(rig):
            assert durable(back) == before and back.state.heard.marks == HEARD
            left = set(back.names) - back.files.manifest.names
            assert not left, "what a crash has left is deleted"
    assert steps > (5 if kind != "mend" else 1)
    check_pages(rig)


@each_job
def test_a_disk_that_refuses_any_step_leaves_everything_as_it_was_and_no_file(kind: str) -> None:
    refused_at = 0
    while True:
        rig = JOBS[kind]()
        if kind == "rewrite":  # the roll is a write's, not the job's
            rig.core.background.new_file_due = True
            rig.write()
        before, names, manifest = durable(rig), rig.names, rig.files.manifest
        rest = refused_at

        def refuse(words: str) -> bool:
            nonlocal rest
            rest -= not words.startswith("delete")
            return rest == -1

        rig.disk.refuse = refuse
        assert rig.take_job()
        if kind == "rewrite":
            rig.step_job()
            rig.core.background.new_file_due = False
        try:
            while rig.job is not None:
                rig.step_job()
        except StorageFailed as error:
            rig.core.background.failed(str(error), 50.0)
        else:
            break
        assert (durable(rig), rig.names, rig.files.manifest) == (before, names, manifest)
        assert isinstance(rig.events[-1], events.JobFailed)
        assert not rig.take_job(50.0), "it is left alone for a while"
        rig.disk.refuse = lambda _: False
        assert rig.work(now=60.0) >= 1, "and tried again"
        assert durable(rig) == before
        back = StoreRig(files=rig.disk.files)
        assert durable(back) == before
        refused_at += 1
    assert refused_at == {"mend": 1}.get(
        kind, rig.disk.asked.count("publish manifest") and refused_at
    )
    assert refused_at >= (1 if kind == "mend" else 5)


@each_job
def test_a_job_that_is_abandoned_leaves_nothing_that_a_restart_would_not_delete(kind: str) -> None:
    """As when the segment stops: the generator is closed at any of its steps."""
    stop = 0
    while True:
        rig = JOBS[kind]()
        before = durable(rig)
        assert rig.take_job()
        for _ in range(stop):
            if rig.job is not None and isinstance(rig.step_job(), Wait):
                rig.write()
        if rig.job is None:
            break
        rig.job.close()
        rig.restart()
        assert durable(rig) == before
        stop += 1


# ---- the log, written anew -----------------------------------------------------------------------


def begun_rewrite() -> StoreRig:
    """A rewrite whose file is made, and not yet synced."""
    rig = rewritable()
    assert rig.take_job()
    while not isinstance(op := rig.step_job(), Create):
        if isinstance(op, Wait):
            rig.write()
    return rig


def test_records_that_come_while_the_log_is_written_anew_are_kept() -> None:
    """And do not keep it from ending, however many they are."""
    rig = begun_rewrite()
    at = rig.state.scl
    while rig.job is not None:
        rig.take(CHAIN[at : at + 1])
        at += 1
        rig.step_job()
    assert at > 113 and rig.state.scl == at
    assert not rig.core.scrub.log_is_damaged and rig.core.background.rewrites == 1
    before = durable(rig)
    for back in crashes(rig):
        assert durable(back) == before and back.state.whole


def test_records_above_a_gap_are_in_the_log_that_is_written_anew() -> None:
    rig = filled(50)
    rig.step(batch(CHAIN[60:80]))
    rig.settle()
    rig.core.scrub.log_is_damaged = True
    before = durable(rig)
    rig.work()
    rig.restart()
    assert durable(rig) == before and rig.state.index.unlinked == 20


@pytest.mark.parametrize("seed", range(6))
def test_little_room_above_a_gap_costs_nothing_whatever_order_the_log_is_in(seed: int) -> None:
    """A restart finds all that was acknowledged, though records stand in another order by then."""
    random = Random(seed)
    rig = StoreRig(config=attrs.evolve(TINY, unlinked_limit=3))
    while rig.state.scl < 60:
        at = rig.state.scl + random.randrange(8)
        rig.step(batch(CHAIN[at : at + random.randint(1, 3)]))
        rig.settle()
        assert rig.state.index.unlinked <= 3
        if rig.job is None:
            rig.core.scrub.log_is_damaged = True
            rig.take_job(now=99.0 * rig.state.scl)
        elif random.random() < 0.5:
            rig.step_job()
        restored = StoreRig("A0", rig.config, rig.disk.files)
        assert restored.state.scl >= rig.state.scl
    assert rig.core.background.rewrites > 1


def test_a_table_that_is_adopted_meanwhile_makes_a_new_log_of_no_use() -> None:
    """It may hold what the table annuls, and would stand before it."""
    rig = begun_rewrite()
    rig.seal(SECOND)
    rig.install(TruncationTable(FIRST).extended(SECOND, 90, 300))
    ops = []
    while rig.job is not None:
        ops.append(rig.step_job())
    assert [type(each) for each in ops if each is not None][-1] is Delete
    assert not any(isinstance(each, Republish) for each in ops)
    assert rig.core.scrub.log_is_damaged and rig.core.background.rewrites == 0
    before = durable(rig)
    for back in crashes(rig):
        assert durable(back) == before
    assert rig.work(now=99.0) >= 1 and not rig.core.scrub.log_is_damaged
    rig.restart()
    assert durable(rig) == before and rig.state.scl == 90


def test_a_log_that_is_much_longer_than_what_it_holds_is_written_anew_and_then_left_alone() -> None:
    rig = StoreRig(config=attrs.evolve(LONG, compact_bytes=20_000))
    rig.take(CHAIN[:5])
    while rig.files.log_bytes <= 20_000:
        rig.step(batch(CHAIN[20:30]))  # above a gap, so that it is written over and over
        rig.settle()
    before = durable(rig)
    assert rig.work() == 1 and rig.core.background.rewrites == 1
    assert rig.files.log_bytes < 3_000
    assert not rig.take_job()
    rig.restart()
    assert durable(rig) == before


def test_where_space_is_short_the_log_is_written_anew_however_short_it_is() -> None:
    """What was annulled, or sent twice, may be all that takes it: the volume would stay full."""
    rig = StoreRig(config=attrs.evolve(LONG, compact_bytes=1 << 20, disk_bytes=24 << 10))
    rig.take(CHAIN[:5])
    while not rig.core.background.watch.space.short:
        assert not rig.take_job()
        rig.step(batch(CHAIN[20:30]))
        rig.settle()
    assert rig.work() == 1 and rig.core.background.rewrites == 1
    assert not rig.core.background.watch.space.short


def test_damage_that_comes_back_is_mended_at_growing_intervals() -> None:
    rig = filled(20)
    times = []
    for turn in range(2_000):
        rig.core.scrub.log_is_damaged = True
        if rig.work(now=turn * 0.05):
            times.append(turn * 0.05)
    assert 5 < len(times) < 20
    pauses = [round(after - before, 3) for before, after in pairwise(times)]
    assert pauses == sorted(pauses)


def test_a_segment_that_is_not_whole_does_not_write_its_log_anew() -> None:
    """A clean log would hide what is missing."""
    rig = filled(60)
    frame = scanned(rig.disk.files, "wal-1").frames[1]
    rig.disk.files["wal-1"][frame.start + 20] ^= 1
    rig.restart()
    rig.core.scrub.log_is_damaged = True
    assert not rig.state.whole and not rig.take_job()
    more(rig, 60)
    rig.take(CHAIN[:60])
    assert rig.state.whole and rig.work() == 1
    assert not scanned(rig.disk.files).damage


# ---- damage in a layer ---------------------------------------------------------------------------


def damaged() -> StoreRig:
    rig = foldable()
    rig.work()
    layer = rig.state.layers.layers[0]
    rig.disk.files[layer.name][layer.offsets[0] + 30] ^= 1
    for page_id in range(3):
        try:
            rig.page(page_id, layer.end)
        except DamagedLayer as damage:
            rig.core.background.found_damage(damage, "a read")
    assert rig.state.layers.damaged == {layer.number}
    return rig


def test_with_a_damaged_layer_a_segment_is_no_witness_and_does_nothing_but_fold() -> None:
    rig = damaged()
    assert not rig.state.whole and rig.core.scrub.damages_found == 1
    rig.core.background.found_damage(
        DamagedLayer(rig.state.layers.layers[0].number, "again"), "a read"
    )
    rig.core.background.found_damage(DamagedLayer(999, "of a layer that is gone"), "a read")
    assert rig.core.scrub.damages_found == 1
    assert rig.seal(SECOND) is None
    rig.install(TruncationTable(FIRST).extended(SECOND, 150, 300))
    chain = CHAIN[:150] + records(range(301, 401), prev=150, after=CHAIN[:150])
    for at in range(150, 250, 25):
        rig.take(chain[at : at + 25], epoch=SECOND, vdl=chain[at + 24].lsn, floor=chain[at].lsn)
        rig.work()
    assert rig.state.folded >= 320
    assert rig.core.background.planned() is None


@pytest.mark.parametrize("kind", ["merge", "collect"])
def test_a_job_that_meets_damage_ends_and_leaves_no_file(kind: str) -> None:
    """It must not take the segment down: a restart would begin the same job again."""
    rig = JOBS[kind]()
    layer = rig.state.layers.layers[-1]
    rig.disk.files[layer.name][layer.offsets[0] + 30] ^= 1
    names = rig.names
    assert rig.work(now=50.0) == 1
    assert rig.names == names and rig.state.layers.damaged == {layer.number}
    assert not rig.state.whole and not rig.take_job(99.0)
    [failed] = [each for each in rig.events if isinstance(each, events.JobFailed)]
    assert layer.name in failed.reason


def test_a_fold_that_needs_a_damaged_page_is_tried_again_a_little_later() -> None:
    rig = filled(60, vdl=60)
    rig.work()
    rig.config = attrs.evolve(TINY, fold_bytes=64 << 10)
    rig.restart()
    layer = rig.state.layers.layers[0]
    sound = rig.disk.files[layer.name][:]
    for at in layer.offsets[:-1]:
        rig.disk.files[layer.name][at + 30] ^= 1
    big = [each._replace(payload=b"x" * 8_000) for each in CHAIN[60:75]]  # images are due in here
    rig.take(big, vdl=75)
    assert rig.work(now=50.0) == 1 and rig.state.folded == 60
    assert rig.state.layers.damaged and not rig.take_job(50.5)
    assert rig.work(now=52.0) == 1 and rig.state.folded == 60
    rig.disk.files[layer.name] = sound
    assert rig.work(now=54.0) == 1 and rig.state.folded == 75


# ---- what is acknowledged ------------------------------------------------------------------------


def test_a_write_is_acknowledged_at_any_step_of_any_job() -> None:
    """2017 §3.3: nothing in the background holds up a writer."""
    for make in JOBS.values():
        rig = make()
        chain, at = CHAIN, rig.state.scl
        assert rig.take_job()
        while rig.job is not None:
            [ack] = rig.ask(batch(chain[at : at + 1]), WriteAck)
            at += 1
            assert ack.scl == at
            rig.step_job()
        rig.restart()
        assert rig.state.scl == at


def test_a_seal_during_a_fold_does_not_undo_it_and_is_answered() -> None:
    rig = foldable()
    assert rig.take_job()
    rig.step_job()
    rig.step(Seal(SECOND, 1))
    rig.settle()
    while rig.job is not None:
        rig.step_job()
    assert rig.state.folded == 150
    rig.install(TruncationTable(FIRST).extended(SECOND, 150, 300))
    rig.restart()
    assert (rig.state.scl, rig.state.folded, rig.state.table.epoch) == (150, 150, SECOND)
