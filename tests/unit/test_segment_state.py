"""Restarts: the log replays to the state that was acknowledged, or says that it cannot (§6, §8)."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import attrs
import pytest

from segments.config import SegmentConfig
from segments.core import Write
from segments.layers.layer import unreadable
from segments.layers.layer_map import LayerMap
from segments.manifest import PROMISE, LogFile, filled
from segments.protocol.heard import Mark
from segments.protocol.ids import NO_EPOCH, Lsn, VolumeEpoch
from segments.protocol.messages import (
    EpochRefused,
    FetchLog,
    GossipRecords,
    GossipStatus,
    InstallTable,
    Message,
    ReadRefused,
    Seal,
    SealReply,
    WriteAck,
    WriteBatch,
)
from segments.protocol.run import encode_run
from segments.protocol.truncation import TruncationRange, TruncationTable
from segments.state import SegmentState
from segments.steps import finished
from segments.wal import (
    Frame,
    FrameBody,
    HeadEntry,
    HeldEntry,
    MarksEntry,
    Promise,
    RecordsEntry,
    TableEntry,
    decode_promises,
    encode_body,
    encode_promise,
)
from segments.wal_scan import LogPart, LogScan, scan
from tests.files_on_disks import scanned
from tests.store_rig import FIRST, SECOND, THIRD, TINY, StoreRig, batch, durable, records

FOURTH = VolumeEpoch(4, 1)
TABLE = TruncationTable(FIRST).extended(SECOND, 5, 100)


def caught_up(rig: StoreRig, table: TruncationTable, lsns: range) -> None:
    """What a whole peer sends: its table, then the records after our SCL."""
    rig.step(GossipStatus(table.epoch, "B0", table, lsns[-1], 0, 0, 0, 0, False), "B0")
    rig.settle()
    missing = [each for each in records(lsns) if each.lsn > rig.state.scl]
    run = encode_run(missing)
    rig.step(GossipRecords(table.epoch, "B0", table, 0, run), "B0")
    rig.settle()


# ---- crashes -------------------------------------------------------------------------------------


def frame_bytes(write: Write) -> int:
    return 0 if write.append is None else write.append.frame_bytes


class Acknowledged:
    """What the segment has said, and must therefore still know after any crash."""

    def __init__(self) -> None:
        self.scl_of: dict[VolumeEpoch, int] = {}
        self.epoch = FIRST

    def hear(self, rig: StoreRig) -> None:
        for _, message in rig.core.take_sends():
            if isinstance(message, WriteAck):
                known = self.scl_of.get(message.epoch, 0)
                self.scl_of[message.epoch] = max(known, message.scl)
            if isinstance(message, SealReply):
                self.epoch = max(self.epoch, message.epoch)

    def check(self, rig: StoreRig) -> None:
        state = rig.state
        assert state.epoch >= self.epoch
        assert state.whole
        assert not any(state.table.annuls(record.lsn) for record in state.index.held())
        assert state.scl >= self.scl_of.get(state.table.epoch, 0)


def some_message(random: Random, rig: StoreRig, history: list[int]) -> tuple[str, Message]:
    """Anything a segment may meet, of the present, an old or a new epoch."""
    state = rig.state
    table, epoch = state.table, state.epoch
    past = [lsn for lsn in history if not table.annuls(lsn)]
    chain = records(past, size=60)
    kind = random.randrange(8)
    if kind < 4 and chain:
        at = random.randrange(len(chain))
        run = chain[at : at + random.randint(1, 6)]
        vdl = random.choice([0, min(state.scl, run[0].lsn)])
        if kind < 3:
            old = random.random() < 0.1
            return "w", batch(run, epoch=FIRST if old else epoch, seq=at, vdl=vdl, floor=vdl)
        return "B0", GossipRecords(epoch, "B0", table, vdl, encode_run(run))
    if kind == 4:
        return "x", Seal(VolumeEpoch(epoch.counter + random.randint(0, 1), 5), 1)
    if kind == 5 and epoch > table.epoch and past:
        keep = max([lsn for lsn in past if lsn <= state.vdl + 3], default=0)
        keep = max(keep, state.vdl)
        made = table.extended(epoch, keep, max(keep, table.last_annulled_lsn, past[-1]) + 5)
        history.extend(made.last_annulled_lsn + 1 + each for each in range(6))
        return "x", InstallTable(epoch, 1, made)
    return "B0", GossipStatus(epoch, "B0", table, 0, 0, 0, 0, 0, True)


@pytest.mark.parametrize("seed", range(40))
def test_a_crash_at_any_moment_loses_nothing_that_was_said(seed: int) -> None:
    """Invariants 6, 7, 8 and 10: random input, torn frames, lost promises, failed writes, jobs."""
    random = Random(seed)
    rig = StoreRig(config=attrs.evolve(TINY, image_interval=2, collect_ratio=0.01))
    history, said, now = list(range(1, 30)), Acknowledged(), 0.0
    for _ in range(150):
        source, message = some_message(random, rig, history)
        rig.step(message, source)
        said.hear(rig)
        if random.random() < 0.2:
            now += random.random()
            rig.core.tick(now)
        if random.random() < 0.05:
            rig.core.scrub.log_is_damaged = True
        if random.random() < 0.5 and (write := rig.core.take_write()) is not None:
            fate = random.random()
            if fate < 0.7:
                rig.store(write)
                rig.core.wrote()
                said.hear(rig)
            elif fate < 0.8:
                rig.core.write_failed()
            else:
                if fate < 0.9:
                    rig.store(write, torn=random.randrange(frame_bytes(write) + 1))
                else:
                    rig.store(write, promise=False)
                rig.restart(rig.disk.crashed(random))
                said.check(rig)
        if random.random() < 0.3:
            rig.some_steps(random, now)
        said.check(rig)
    before = rested(rig)
    rig.restart()
    assert durable(rig) == before
    rig.core.scrub.log_is_damaged = True
    rig.work(now=1e6)
    assert rig.core.background.rewrites == 1
    rig.restart()
    assert durable(rig) == before


def rested(rig: StoreRig) -> tuple[object, ...]:
    """What it durably holds when all that was begun is done."""
    rig.settle()
    while rig.job is not None:
        rig.step_job()
        rig.settle()
    return durable(rig)


def test_a_torn_tail_is_cut_at_every_byte() -> None:
    """§6: what is appended next can be read again (torn-tail-kept)."""
    rig = StoreRig()
    rig.take(records([1, 2]))
    whole = rig.log
    rig.take(records([3, 4], prev=2))
    longer = rig.log
    for cut in range(len(whole), len(longer)):
        rig.disk.files["wal-1"] = bytearray(longer[:cut])
        rig.restart()
        assert rig.state.whole and rig.state.scl == 2 and rig.log == whole
        assert rig.take(records([3, 4], prev=2)) == 4
        rig.restart()
        assert rig.state.scl == 4


def test_a_crash_between_the_table_and_its_promise_leaves_a_whole_segment() -> None:
    """Else power lost by all at that moment would leave nobody to vote, for ever."""
    rig = StoreRig()
    rig.take(records(range(1, 9)))
    rig.step(InstallTable(SECOND, 1, TABLE))
    write = rig.core.take_write()
    assert write is not None and write.promise is not None
    for torn in range(frame_bytes(write)):
        rig.store(write, torn=torn)
        rig.restart()
        assert rig.state.whole and rig.seal(FIRST) is not None, "never promised"
    rig.store(write, promise=False)
    rig.restart()
    assert rig.state.whole and rig.state.table == TABLE


# ---- damage --------------------------------------------------------------------------------------


def test_a_damaged_frame_of_records_is_no_shorter_log() -> None:
    """§8: no witness until peers have filled it up to its highest valid record."""
    rig = StoreRig()
    for lsn in (1, 2, 3):
        rig.take(records([lsn], prev=lsn - 1))
    rig.rot_frame(2)
    rig.restart()
    assert (rig.state.scl, rig.state.whole) == (1, False)
    assert rig.seal(SECOND) is None, "no Seal reply"
    assert rig.state.epoch == SECOND, "but the promise is kept"
    rig.install(TABLE)
    assert rig.take([], SECOND) == 1, "no acknowledgement above the gap"
    caught_up(rig, TABLE, range(1, 4))
    assert rig.state.whole and rig.seal(SECOND) is not None


def test_what_is_annulled_is_not_waited_for_though_the_vdl_is_of_another_group() -> None:
    """Damage took 3, which the next recovery annuls; it opens at 2, and that is not of this group.

    Nobody but its writer can tell that no record of the group is missing between 1 and 2.
    """
    rig = StoreRig()
    rig.take(records([1]))
    rig.take(records([3], prev=1))
    rig.seal(SECOND)
    rig.rot_frame(2)
    rig.restart()
    rig.install(TruncationTable(FIRST).extended(SECOND, 2, 100))
    assert rig.state.scl == 1 and not rig.state.whole
    rig.step(batch([], epoch=SECOND, vdl=2, tail=2))
    assert not rig.state.whole, "2 is of this group, and missing"
    rig.step(batch([], epoch=SECOND, vdl=1, tail=1))
    assert not rig.state.whole, "an earlier VDL says nothing of 2"
    rig.step(batch([], epoch=SECOND, vdl=2, tail=1))
    assert rig.state.whole and rig.seal(THIRD) is not None


@pytest.mark.parametrize("last", ["seal", "late records", "heartbeat of another"])
def test_damage_is_told_by_the_frame_behind_it_whatever_that_holds(last: str) -> None:
    """The last records are spoilt, and what follows them does not name a higher one."""
    rig = StoreRig()
    chain = records(range(1, 9))
    rig.take(chain[:3])
    if last == "late records":
        assert rig.take(chain[5:]) == 3
        rot_at = 2
        assert rig.take(chain[3:5]) == 8
    else:
        assert rig.take(chain[3:]) == 8
        rot_at = 2
        rig.seal(SECOND)
        if last != "seal":
            rig.install(TruncationTable(FIRST).extended(SECOND, 8, 100))
    rig.rot_frame(rot_at)
    rig.restart()
    assert rig.state.scl < 8 and not rig.state.whole
    assert rig.seal(THIRD) is None
    table = rig.state.table
    caught_up(rig, table if table.epoch == THIRD else _same(table, THIRD), range(1, 9))
    assert rig.state.scl == 8 and rig.state.whole


def test_what_was_let_go_for_want_of_room_is_left_out_by_a_restart() -> None:
    """It finds the gap below filled. Rot could take what it acknowledged, and no frame would tell.

    What peers have brought again counts, and is told by the next frame.
    """
    rig = StoreRig(config=attrs.evolve(TINY, unlinked_limit=1))
    chain = records(range(1, 9))
    rig.take(chain[:3])
    rig.take(chain[5:])
    assert rig.take(chain[3:6]) == 6 == rig.state.index.highest_lsn
    rig.restart()
    assert rig.take([]) == 6 and rig.state.whole
    assert rig.take(chain[6:]) == 8
    rig.seal(SECOND)
    for nth in (4, 2):
        rig.rot_frame(nth)
    rig.restart()
    assert rig.state.scl == 6 and not rig.state.whole


@pytest.mark.parametrize("annulled", [0, 1])
def test_an_idle_group_waits_for_no_lsn_of_another(annulled: int) -> None:
    """The recovery's VDL is of another group. Nobody can be asked where this one ends."""
    rig = StoreRig()
    chain = records([1, 3, 5])
    rig.take(chain[:1])
    rig.take(chain[1:2])
    rig.take(chain[2 : 2 + annulled])
    rig.install(TruncationTable(FIRST).extended(SECOND, 4, 100))
    rig.step(WriteBatch(SECOND, 1, 4, 0, 3, True, b""))
    rig.settle()
    assert rig.state.highest_lsn == 3
    rig.rot_frame(2)
    rig.restart()
    assert rig.state.scl == 1 and not rig.state.whole
    again = GossipRecords(SECOND, "B0", rig.state.table, 4, encode_run(chain[1:2]))
    rig.step(again, "B0")
    rig.settle()
    assert rig.state.scl == 3 and rig.state.whole
    assert rig.seal(THIRD) is not None


def _same(table: TruncationTable, epoch: VolumeEpoch) -> TruncationTable:
    return TruncationTable(epoch, table.ranges)


def test_damage_that_is_not_repaired_survives_another_restart() -> None:
    rig = StoreRig()
    rig.take(records([1, 2, 3]))
    rig.take(records([4, 5], prev=3))
    rig.seal(SECOND)
    rig.rot_frame(2)
    rig.restart()
    rig.seal(THIRD)
    rig.core.scrub.log_is_damaged = True
    assert rig.work() == 0, "a clean log would hide what is missing"
    rig.restart()
    assert (rig.state.scl, rig.state.whole) == (3, False)


def test_a_lost_table_is_told_by_the_promise() -> None:
    """The segment acknowledged the table: a recovery may count on it (§8)."""
    rig = StoreRig()
    rig.take(records(range(1, 9)))
    rig.install(TABLE)
    rig.take(records([101], prev=5), SECOND)
    rig.rot_frame(2)
    rig.restart()
    assert rig.state.epoch == SECOND and not rig.state.whole
    assert rig.seal(THIRD) is None
    third = _same(TABLE, THIRD)
    rig.install(third)
    assert rig.state.scl == 5 and not rig.state.whole, "101 was acknowledged"
    rig.take(records([101], prev=5), THIRD)
    assert rig.state.scl == 101 and rig.state.whole


def test_a_lost_table_is_told_even_when_its_frame_was_the_last() -> None:
    """A rotten last frame looks like a torn tail; seals are kept in a second place (§8)."""
    rig = StoreRig()
    rig.take(records(range(1, 9)))
    rig.install(TABLE)
    rig.rot_frame(2)
    rig.restart()
    assert rig.state.epoch == SECOND and not rig.state.whole and rig.state.scl == 8
    rig.step(GossipStatus(SECOND, "B0", TABLE, 5, 0, 0, 0, 0, False), "B0")
    rig.settle()
    assert rig.state.whole and rig.state.scl == 5


SHORTER = TruncationTable(THIRD, (TruncationRange(102, 200, THIRD),), SECOND)
"""Of the recovery after `TABLE`, which all members had adopted."""


def robbed_of_its_table() -> StoreRig:
    """It holds 6 to 8, which `TABLE` annuls, and that has rotted."""
    rig = StoreRig()
    rig.take(records(range(1, 9)))
    rig.install(TABLE)
    rig.take(records([101], prev=5), SECOND)
    rig.rot_frame(2)
    rig.restart()
    assert rig.state.lacks_table and not rig.state.whole
    return rig


def test_a_damaged_log_does_not_remember_what_a_forgotten_range_has_annulled() -> None:
    """damage-remembers: the next table does not name the range any more (§8)."""
    rig = robbed_of_its_table()
    rig.install(SHORTER)
    assert (len(rig.state.index), rig.state.scl, rig.state.whole) == (0, 0, False)
    for _ in range(2):
        rig.restart()
        assert not {6, 7, 8} & {record.lsn for record in rig.state.index.held()}
        assert not rig.state.whole
    chain = [*records(range(1, 6)), *records([101], prev=5)]
    assert rig.take(chain, THIRD, vdl=101) == 101
    assert rig.state.whole
    rig.restart()
    assert (rig.state.scl, rig.state.whole) == (101, True)


def test_a_damaged_log_keeps_what_a_table_can_still_judge() -> None:
    rig = robbed_of_its_table()
    rig.install(_same(TABLE, THIRD))
    assert rig.state.scl == 5


def test_who_lacks_its_table_takes_no_records_and_gives_none() -> None:
    """A message from before that table may bring what it has annulled."""
    rig = robbed_of_its_table()
    held = [record.lsn for record in rig.state.index.held()]
    first = rig.state.table
    late = records([9], prev=8)
    rig.step(GossipRecords(SECOND, "B0", first, 0, encode_run(late)), "B0")
    rig.step(GossipStatus(SECOND, "B0", first, 2, 0, 0, 0, 0, True), "B0")
    assert rig.settle() == [] and [record.lsn for record in rig.state.index.held()] == held
    [refused] = rig.ask(FetchLog(SECOND, 1, 0, 1 << 20), ReadRefused)
    assert refused.scl == 8


def test_that_a_table_is_settled_is_kept_once_and_told() -> None:
    rig = StoreRig()
    rig.install(TABLE)
    rig.step(batch([], epoch=SECOND))
    assert rig.state.table.settled == NO_EPOCH
    size = len(rig.log)
    for _ in range(3):
        rig.step(batch([], epoch=SECOND, settled=True))
    rig.settle()
    grown = len(rig.log)
    assert size < grown < size + 100
    rig.step(batch([], epoch=SECOND, settled=True))
    rig.settle()
    assert len(rig.log) == grown
    rig.restart()
    reply = rig.seal(THIRD)
    assert reply is not None and reply.table == TABLE.with_settled(SECOND)
    rig.install(TABLE.extended(THIRD, 5, 300))
    assert rig.state.table.settled == SECOND, "whoever made that table had not heard of it"
    rig.core.scrub.log_is_damaged = True
    assert rig.work() == 1
    rig.restart()
    assert rig.state.table.settled == SECOND


def test_that_a_table_is_settled_comes_by_gossip_too() -> None:
    rig = StoreRig()
    rig.install(TABLE)
    known = TABLE.with_settled(SECOND)
    rig.step(GossipStatus(SECOND, "B0", known, 0, 0, 0, 0, 0, False), "B0")
    rig.settle()
    assert rig.state.table == known


def test_a_lost_seal_is_still_a_promise() -> None:
    rig = StoreRig()
    rig.seal(SECOND)
    rig.rot_frame(1)
    rig.restart()
    assert rig.state.epoch == SECOND
    rig.step(batch(records([1])))
    [refusal] = rig.settle()
    assert isinstance(refusal.message, EpochRefused) and rig.state.scl == 0


def test_what_was_acknowledged_is_asked_for_although_a_table_annuls_the_highest() -> None:
    """Records 4 and 5 were acknowledged, 8 was never: the table annuls only that one."""
    rig = StoreRig()
    chain = records(range(1, 9))
    rig.take(chain[:3])
    rig.take(chain[3:5])
    rig.take(chain[7:])
    rig.rot_frame(2)
    rig.restart()
    assert not rig.state.whole
    rig.install(TABLE)
    assert rig.state.scl == 3 and not rig.state.whole
    caught_up(rig, TABLE, range(1, 6))
    assert rig.state.scl == 5 and rig.state.whole


CHAIN = records(range(1, 42), pages=20)


def written_anew(folded: Lsn) -> StoreRig:
    """Its log: a head, what is above the layers, if anything; and a head and record 41."""
    rig = StoreRig()
    rig.take(CHAIN[:40], vdl=folded)
    rig.work()
    rig.core.scrub.log_is_damaged = True
    assert rig.work() == 1
    rig.take(CHAIN[40:])
    assert len(rig.files.manifest.logs) == 2
    assert (rig.state.folded, rig.state.scl) == (folded, 41)
    return rig


@pytest.mark.parametrize(("folded", "frame"), [(30, 0), (30, 2), (40, 0), (40, 1)])
def test_a_damaged_head_takes_nothing_that_the_other_one_says(folded: Lsn, frame: int) -> None:
    rig = written_anew(folded)
    before = durable(rig)
    rig.restart()
    assert durable(rig) == before
    rig.rot_frame(frame)
    rig.restart()
    assert durable(rig) == before and rig.state.whole


def test_damage_in_a_log_that_was_written_anew_takes_what_is_not_in_layers() -> None:
    rig = written_anew(30)
    rig.rot_frame(1)
    rig.restart()
    assert rig.state.scl == 30 and not rig.state.whole
    assert rig.seal(SECOND) is None
    rig.install(TruncationTable(FIRST).extended(SECOND, 41, 100))
    assert not rig.state.whole, "a table alone does not bring the records back"
    assert rig.take(CHAIN, SECOND) == 41
    assert rig.state.whole


def test_a_head_takes_nothing_back() -> None:
    """A log that was written anew stands before the file that the log went on in meanwhile."""
    rig = StoreRig()
    rig.take(records(range(1, 9)), vdl=5)
    rig.install(TABLE)
    rig.ask(batch([], epoch=SECOND, settled=True), WriteAck)
    state = rig.state
    assert state.table.settled == SECOND
    state.announced(5, 4)
    before = (state.epoch, state.table, state.vdl, state.announced_floor, state.scl)
    state.apply(HeadEntry(FIRST, TruncationTable(FIRST), 3, 2))
    assert (state.epoch, state.table, state.vdl, state.announced_floor, state.scl) == before


# ---- promises ------------------------------------------------------------------------------------


def test_a_promise_names_seal_and_table_once_they_are_durable() -> None:
    rig = StoreRig()
    rig.seal(SECOND)
    assert decode_promises(bytes(rig.disk.files[PROMISE])) == Promise(SECOND, FIRST)
    rig.install(TABLE)
    assert decode_promises(bytes(rig.disk.files[PROMISE])) == Promise(SECOND, SECOND)
    rig.seal(THIRD)
    assert decode_promises(bytes(rig.disk.files[PROMISE])) == Promise(THIRD, SECOND)


def test_a_promise_that_outlives_its_log_is_never_lowered() -> None:
    rig = StoreRig()
    rig.disk.files[PROMISE] = bytearray(encode_promise(Promise(THIRD, SECOND)) * 2)
    rig.restart()
    fourth = VolumeEpoch(4, 1)
    assert rig.seal(fourth) is None
    assert decode_promises(bytes(rig.disk.files[PROMISE])) == Promise(fourth, SECOND)
    rig.restart()
    assert not rig.state.whole


def test_records_alone_write_no_promise() -> None:
    """One sync for each group commit, not three."""
    rig = StoreRig()
    rig.step(batch(records([1])))
    write = rig.core.take_write()
    assert write is not None and write.promise is None


# ---- the state by itself -------------------------------------------------------------------------


def test_a_lower_table_never_replaces_a_higher_one() -> None:
    rig = StoreRig()
    rig.install(TABLE)
    rig.state.adopt_table(TruncationTable(FIRST))
    assert rig.state.table == TABLE


def test_what_the_first_state_of_all_is() -> None:
    rig = StoreRig()
    state = rig.state
    assert (state.epoch, state.table, state.scl, state.vdl) == (FIRST, TruncationTable(FIRST), 0, 0)
    assert state.epoch > NO_EPOCH and state.whole
    assert scanned(rig.disk.files).frames[0].frame.entries == (HeldEntry(0), state.head())
    rig.take(records([1]))
    held, run = scanned(rig.disk.files).frames[1].frame.entries
    assert held == HeldEntry(0) and isinstance(run, RecordsEntry)


def test_a_successor_is_not_bound_by_the_floor_its_predecessor_announced() -> None:
    state = SegmentState(SegmentConfig())
    state.adopt_table(TruncationTable(FIRST))
    state.announced(100, 90)
    state.adopt_table(TruncationTable(FIRST).extended(SECOND, 100, 200))
    # The second writer learned of no floor, and may have readers at 1.
    assert (state.announced_floor, state.floor, state.vdl) == (0, 0, 100)


def test_a_log_is_as_long_as_its_heads_are_now() -> None:
    """What is heard of others makes them grow: it must not have the log written anew too soon."""
    rig = StoreRig()
    before = rig.state.live_bytes()
    head_bytes = rig.state.head_frame().frame_bytes
    for segment in ("B0", "C0", "D0", "E0", "F0"):
        rig.state.heard.hear(segment, Mark(SECOND, 1 << 40))
    grown = rig.state.head_frame().frame_bytes - head_bytes
    assert grown > 0
    assert rig.state.live_bytes() == before + 2 * grown


# ---- files of the log, and layers that come from elsewhere ---------------------------------------


def scan_of(bodies: Iterable[FrameBody]) -> LogScan:
    """What a log of one file with these frames says."""
    file, frames = filled(LogFile(1, 0, 7), [*bodies])
    return scan([LogPart(file.salt, b"".join(frames))])


def test_what_is_written_anew_of_the_log_has_no_news_of_peers() -> None:
    """The file behind it has them all: from here they would go with the next fold."""
    rig = StoreRig()
    rig.step(batch(records([1])), "writer")
    rig.settle()
    rig.state.heard.hear("B0", Mark(FIRST, 1))
    log = scan_of(body for body, _ in rig.state.log_frames())
    kinds = [type(entry) for _, _, frame in log.frames for entry in frame.entries]
    assert RecordsEntry in kinds and MarksEntry not in kinds


def test_layers_of_a_peer_may_be_newer_than_a_table_that_the_log_adopted() -> None:
    """That table annuls what a later one lets live: a peer has folded it, and given it here."""
    layers = LayerMap((unreadable(1, 0, 14, base=True, length=100),))
    tables = [TruncationTable(FIRST), TABLE, TruncationTable(FIRST).extended(THIRD, 14, 100)]
    assert [each.annuls(14) for each in tables] == [False, True, False]
    log = scan_of(encode_body(each.epoch, [HeldEntry(0), TableEntry(0, each)]) for each in tables)
    promise = Promise(THIRD, THIRD)
    state = finished(SegmentState.restore_steps(TINY, layers, log, promise))
    assert (state.scl, state.table) == (14, tables[-1])
    with pytest.raises(AssertionError):  # live, a table never annuls what is folded
        state.apply_frame(Frame(FOURTH, (TableEntry(0, TABLE.extended(FOURTH, 13, 100)),)))
