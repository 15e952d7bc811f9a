"""The segment core, message by message, in every bad order (protocol §5 to §8)."""

from __future__ import annotations

import attrs
import pytest

from segments.config import SegmentConfig
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import (
    ConfirmEpoch,
    EpochConfirmed,
    EpochRefused,
    FetchLog,
    GossipStatus,
    InstallTable,
    ListPages,
    LogReply,
    Message,
    NeedTable,
    PageReply,
    PagesListed,
    ReadPage,
    ReadRefused,
    Seal,
    SealReply,
    TableInstalled,
    WriteAck,
    WriteBatch,
)
from segments.protocol.run import read_records
from segments.protocol.truncation import TruncationTable
from segments.wal import RecordsEntry
from tests.files_on_disks import scanned
from tests.store_rig import FIRST, SECOND, THIRD, TINY, StoreRig, batch, collected, durable, records

SECOND_TABLE = TruncationTable(FIRST).extended(SECOND, 5, 100)


def second_writer(rig: StoreRig) -> None:
    """Epoch 2 seals and installs its table, which annuls 6 to 100."""
    assert rig.seal(SECOND) is not None
    rig.install(SECOND_TABLE)


# ---- acknowledgements ----------------------------------------------------------------------------


def test_an_acknowledgement_waits_for_the_sync() -> None:
    """§3: an acknowledgement is sent only after the bytes are durable."""
    rig = StoreRig()
    rig.step(batch(records([1, 2])))
    assert rig.said(WriteAck) == []
    write = rig.core.take_write()
    assert write is not None and rig.said(WriteAck) == []
    rig.core.tick(10.0)
    rig.step(batch([]))  # a heartbeat meanwhile learns of nothing that is not durable
    assert [ack.scl for ack in rig.said(WriteAck)] == [0]
    rig.store(write)
    rig.core.wrote()
    assert [(ack.seq, ack.scl) for ack in rig.said(WriteAck)] == [(1, 2)]


def test_a_failed_write_was_never_received() -> None:
    rig = StoreRig()
    before = durable(rig)
    rig.step(batch(records([1, 2])))
    assert rig.core.take_write() is not None
    rig.core.write_failed()
    assert rig.settle() == [] and durable(rig) == before
    assert rig.take(records([1, 2])) == 2


def test_what_arrives_during_a_write_goes_into_the_next() -> None:
    rig = StoreRig()
    rig.step(batch(records([1])))
    write = rig.core.take_write()
    rig.step(batch(records([2], prev=1), seq=2))
    rig.step(batch(records([3], prev=2), seq=3))
    assert rig.core.take_write() is None, "one write at a time"
    assert write is not None
    rig.store(write)
    rig.core.wrote()
    rig.write()
    assert [(ack.seq, ack.scl) for ack in rig.said(WriteAck)] == [(1, 1), (3, 3)]
    assert len(scanned(rig.disk.files).frames) == 3, "the format's frame, and one for each write"


def test_each_writer_is_answered_for_its_own_batch() -> None:
    rig = StoreRig()
    rig.step(batch(records([1]), seq=5), "one")
    rig.step(batch(records([2], prev=1), seq=3), "two")
    acks = {each.destination: each.message for each in rig.settle()}
    assert {name: ack.seq for name, ack in acks.items() if isinstance(ack, WriteAck)} == {
        "one": 5,
        "two": 3,
    }


def test_retransmits_overlaps_and_disorder_change_nothing() -> None:
    """§6: records may arrive in any order, repeated, and in overlapping batches."""
    chain = records(range(1, 9))
    rig = StoreRig()
    for part, scl in (
        (chain[4:6], 0),  # a gap below it
        (chain[0:2], 2),
        (chain[1:5], 6),  # overlaps both, and fills the gap
        (chain[0:2], 6),  # again
        (chain[3:8], 8),
        (chain, 8),
    ):
        assert rig.take(part) == scl
    assert rig.state.index.held() == chain


def test_a_batch_that_is_held_already_is_acknowledged_without_a_write() -> None:
    rig = StoreRig()
    rig.take(records([1, 2]))
    size = len(rig.log)
    assert rig.take(records([1, 2])) == 2 and len(rig.log) == size


def test_what_came_again_while_the_disk_was_busy_is_not_written_again() -> None:
    """Else a slow disk falls ever further behind what is sent again because it is slow."""
    rig = StoreRig(config=SegmentConfig(write_bytes=1024))
    first, second = records([1, 2]), records([3], prev=2)
    first = [each._replace(payload=bytes(800)) for each in first]
    rig.step(batch(first, seq=1))
    write = rig.core.take_write()
    for seq in (2, 3):
        rig.step(batch(first, seq=seq))
    rig.step(batch(second, seq=4))
    assert write is not None
    rig.store(write)
    rig.core.wrote()
    assert [(ack.seq, ack.scl) for ack in rig.said(WriteAck)] == [(3, 2)]
    rig.write()
    assert [(ack.seq, ack.scl) for ack in rig.said(WriteAck)] == [(4, 3)]
    assert rig.core.take_write() is None
    assert len(scanned(rig.disk.files).frames) == 3, "the format's frame, and one for each write"


def test_a_full_queue_drops_records_and_keeps_promises() -> None:
    """§4.5: nothing is unbounded."""
    rig = StoreRig(config=SegmentConfig(queue_bytes=64 << 10))
    chain = records(range(1, 12), pages=1)
    large = [record._replace(payload=bytes(8000)) for record in chain]
    for at, record in enumerate(large):
        rig.step(batch([record], seq=at))
    assert rig.core.dropped_messages == 3
    assert rig.seal(SECOND) is not None, "a seal throws the queue out, and has room"
    for _ in range(3000):
        rig.step(Seal(SECOND._replace(writer_id=10), 1))
    assert rig.core._queue_bytes <= (64 << 10) + 64


def test_malformed_records_are_dropped_and_nothing_is_stored() -> None:
    rig = StoreRig()
    rig.step(WriteBatch(FIRST, 1, 0, 0, 0, False, b"\xdd\0\0\0\1junk"))
    assert rig.settle() == [] and rig.core.dropped_messages == 1


# ---- epochs --------------------------------------------------------------------------------------

REQUESTS: list[Message] = [
    batch(records([1])),
    ReadPage(FIRST, 1, 0, 0, 0),
    Seal(FIRST, 1),
    FetchLog(FIRST, 1, 0, 1000),
    InstallTable(FIRST, 1, TruncationTable(FIRST)),
    ConfirmEpoch(FIRST, 1),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: type(each).__name__)
def test_requests_of_lower_epochs_are_refused_by_name(request_: Message) -> None:
    """§7: a segment that has sealed a higher epoch refuses, and names it."""
    rig = StoreRig()
    rig.seal(SECOND)
    before = durable(rig)
    sends = rig.ask(request_, EpochRefused)
    assert sends == [EpochRefused(FIRST, "A0", SECOND)]
    assert durable(rig) == before


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: type(each).__name__)
def test_before_the_seal_is_durable_the_old_writer_hears_nothing(request_: Message) -> None:
    """A refusal tells of the seal, which may still be lost: then the old writer goes on."""
    rig = StoreRig()
    rig.step(Seal(SECOND, 1))
    rig.step(request_)
    assert rig.core.take_sends() == []
    assert rig.core.take_write() is not None
    rig.step(request_)
    assert rig.core.take_sends() == []
    rig.core.write_failed()
    assert rig.take(records([1])) == 1


def test_writers_with_the_same_counter_still_differ() -> None:
    """§7, step 1: epochs compare as pairs."""
    rig = StoreRig()
    higher, lower = VolumeEpoch(2, 9), VolumeEpoch(2, 8)
    rig.seal(higher)
    assert rig.ask(Seal(lower, 1), EpochRefused) == [EpochRefused(lower, "A0", higher)]


@pytest.mark.parametrize(
    "message",
    [batch([], epoch=SECOND), ReadPage(SECOND, 1, 0, 0, 0), FetchLog(SECOND, 1, 0, 9)],
    ids=lambda each: type(each).__name__,
)
def test_a_higher_epoch_is_taken_over_and_its_table_asked_for(message: Message) -> None:
    """§8: takes over that epoch before it looks at anything else; asks if the table is missing."""
    rig = StoreRig()
    rig.step(message)
    assert rig.core.take_sends() == [] and rig.state.epoch == FIRST
    sends = rig.settle()
    assert [each.message for each in sends] == [NeedTable(SECOND, "A0")]
    assert rig.state.epoch == SECOND and rig.state.table.epoch == FIRST
    rig.restart()
    assert rig.state.epoch == SECOND


def test_gossip_of_a_higher_epoch_brings_the_table_before_anything_else() -> None:
    rig = StoreRig()
    rig.take(records(range(1, 9)))
    rig.step(GossipStatus(SECOND, "B0", SECOND_TABLE, 5, 5, 0, 0, 0, True), "B0")
    rig.settle()
    assert (rig.state.epoch, rig.state.table, rig.state.scl) == (SECOND, SECOND_TABLE, 5)


def test_a_batch_without_its_table_is_not_stored() -> None:
    rig = StoreRig()
    rig.seal(SECOND)
    after = records([101], prev=0)
    assert rig.ask(batch(after, epoch=SECOND), NeedTable) == [NeedTable(SECOND, "A0")]
    assert len(rig.state.index) == 0
    rig.install(SECOND_TABLE)
    assert rig.take(after, SECOND) == 101


def test_a_seal_drops_what_is_queued_and_counts_what_is_in_flight() -> None:
    """§7, step 2, and queue-survives-seal in §12."""
    rig = StoreRig()
    rig.step(batch(records([1, 2])))
    in_flight = rig.core.take_write()
    assert in_flight is not None
    rig.step(batch(records([3], prev=2), seq=2))
    rig.step(Seal(SECOND, 4))
    assert rig.said(SealReply) == []
    rig.store(in_flight)
    rig.core.wrote()
    rig.settle()
    reply = rig.seal(SECOND)
    assert reply is not None and (reply.scl, reply.table.epoch) == (2, FIRST)
    assert all(
        record.lsn <= 2
        for scanned in scanned(rig.disk.files).frames
        for entry in scanned.frame.entries
        if isinstance(entry, RecordsEntry)
        for record in read_records(entry.records)
    )


def test_a_seal_answers_only_when_durable_and_again_when_asked_again() -> None:
    rig = StoreRig()
    rig.step(Seal(SECOND, 1))
    rig.step(Seal(SECOND, 2))
    assert rig.said(SealReply) == []
    rig.settle()
    rig.restart()
    reply = rig.seal(SECOND)
    assert reply is not None and reply.epoch == SECOND


def test_a_seal_that_the_disk_refused_is_no_seal() -> None:
    rig = StoreRig()
    rig.step(Seal(SECOND, 1))
    assert rig.core.take_write() is not None
    rig.core.write_failed()
    assert rig.settle() == [] and rig.state.epoch == FIRST
    assert rig.take(records([1])) == 1
    assert rig.seal(SECOND) is not None


def test_the_epoch_of_what_is_queued_survives_a_failed_write() -> None:
    rig = StoreRig()
    rig.step(batch(records([1])))
    assert rig.core.take_write() is not None
    rig.step(Seal(SECOND, 1))
    rig.core.write_failed()
    rig.step(batch(records([1])))
    assert [type(each.message) for each in rig.settle()] == [SealReply]
    assert rig.state.scl == 0


def test_a_seal_reply_names_the_floor_that_was_announced_not_only_what_was_collected() -> None:
    """What an earlier writer has allowed to be collected may go at any moment (seed 144)."""
    rig = StoreRig()
    rig.step(batch(records([1, 2, 3, 4, 5]), vdl=5, floor=4))
    rig.settle()
    assert rig.state.floor == 0
    reply = rig.seal(SECOND)
    assert reply is not None
    assert reply.floor == 4


# ---- tables --------------------------------------------------------------------------------------


def test_a_table_annuls_what_is_held_and_what_comes() -> None:
    """§8: judged by the receiver's own adopted table; invariant 10."""
    rig = StoreRig()
    old = records(range(1, 9))
    rig.take(old)
    second_writer(rig)
    assert rig.state.scl == 5
    rig.ask(batch(old, epoch=SECOND), WriteAck)  # a confused sender of the right epoch
    assert rig.state.scl == 5 and [each.lsn for each in rig.state.index.held()] == [1, 2, 3, 4, 5]
    assert rig.take(records([101], prev=5, after=old[:5]), SECOND) == 101


def test_a_table_also_annuls_what_lies_above_a_gap() -> None:
    rig = StoreRig()
    chain = records(range(1, 9))
    rig.take(chain[:3])
    rig.take(chain[6:])
    second_writer(rig)
    assert rig.take(chain[3:5], SECOND) == 5
    assert rig.state.index.highest_lsn == 5


def test_tables_are_replaced_and_never_united() -> None:
    """tables-unioned in §12: what an overtaken recovery annulled is not annulled for ever."""
    rig = StoreRig()
    rig.take(records(range(1, 9)))
    second_writer(rig)
    third = TruncationTable(FIRST).extended(THIRD, 8, 200)  # never heard of the second
    rig.install(third)
    assert rig.state.table == third and not rig.state.table.annuls(7)
    chain = records(range(1, 9))
    assert rig.take(chain[5:], THIRD) == 8


def test_a_table_is_not_adopted_over_a_higher_one() -> None:
    rig = StoreRig()
    second_writer(rig)
    status = GossipStatus(SECOND, "B0", TruncationTable(FIRST), 0, 0, 0, 0, 0, False)
    rig.step(status, "B0")
    [answer] = rig.settle()
    assert isinstance(answer.message, GossipStatus) and answer.message.table == SECOND_TABLE
    assert rig.state.table == SECOND_TABLE


def test_installing_twice_is_answered_twice_and_done_once() -> None:
    rig = StoreRig()
    install = InstallTable(SECOND, 3, SECOND_TABLE)
    rig.step(install)
    rig.step(install)
    assert rig.core.take_sends() == []
    replies = [each.message for each in rig.settle()]
    assert replies == [TableInstalled(SECOND, "A0", 3, 0)] * 2
    size = len(rig.log)
    assert rig.ask(install, TableInstalled) and len(rig.log) == size


def test_a_table_of_another_epoch_than_its_message_is_malformed() -> None:
    rig = StoreRig()
    rig.step(InstallTable(SECOND, 1, TruncationTable(FIRST)))
    assert rig.settle() == [] and rig.core.dropped_messages == 1 and rig.state.epoch == FIRST


# ---- reads ---------------------------------------------------------------------------------------


def test_a_read_says_which_of_the_two_failed() -> None:
    """§5: answers only when floor <= read point and required SCL <= its SCL."""
    rig = StoreRig()
    run = records([1, 2, 3, 4], size=400)
    rig.take(run)
    assert rig.ask(ReadPage(FIRST, 1, 0, 9, 9), ReadRefused) == [ReadRefused(FIRST, "A0", 1, 4, 0)]
    collected(rig, run, 3)
    assert rig.ask(ReadPage(FIRST, 2, 0, 2, 2), ReadRefused) == [ReadRefused(FIRST, "A0", 2, 4, 3)]
    [reply] = rig.ask(ReadPage(FIRST, 3, 0, 3, 3), PageReply)
    assert (reply.page.page_lsn, reply.page.image[:1]) == (3, b"3")


def test_a_list_of_pages_is_answered_and_refused_as_a_page_is() -> None:
    rig = StoreRig(config=attrs.evolve(TINY, collect_ratio=0.01, list_pages=2))
    run = records([1, 2, 3, 4, 5], pages=5, size=400)  # each on the page of its LSN, 5 on page 0
    rig.take(run)
    ask = ListPages(FIRST, 1, 0, 9, 5, 5, 100)
    assert rig.ask(ask, PagesListed) == [PagesListed(FIRST, "A0", 1, 5, 0, 1, (0, 1))]  # its limit
    one = ask._replace(from_page=3, limit=1)
    assert rig.ask(one, PagesListed) == [PagesListed(FIRST, "A0", 1, 5, 3, 3, (3,))]
    old = ask._replace(read_point=3, from_page=3)  # page 4 is there, but not yet at that point
    assert rig.ask(old, PagesListed) == [PagesListed(FIRST, "A0", 1, 3, 3, 9, (3,))]
    none = ask._replace(from_page=7, limit=0)
    assert rig.ask(none, PagesListed) == [PagesListed(FIRST, "A0", 1, 5, 7, 9, ())]
    more = ask._replace(required_scl=6)
    assert rig.ask(more, ReadRefused) == [ReadRefused(FIRST, "A0", 1, 5, 0)]
    collected(rig, run, 4)
    assert rig.ask(old, ReadRefused) == [ReadRefused(FIRST, "A0", 1, 5, 4)]
    rig.restart()
    assert rig.ask(ask, PagesListed) == [PagesListed(FIRST, "A0", 1, 5, 0, 1, (0, 1))]
    rig.step(ask._replace(from_page=9, through_page=8))
    assert rig.settle() == [] and rig.core.dropped_messages == 1
    rig.seal(SECOND)
    assert rig.ask(ask._replace(epoch=SECOND), NeedTable) == [NeedTable(SECOND, "A0")]


def test_a_page_not_yet_written_has_no_image() -> None:
    rig = StoreRig()
    rig.take(records([1, 2]))
    [reply] = rig.ask(ReadPage(FIRST, 1, 2, 1, 1), PageReply)
    assert (reply.page.page_lsn, reply.page.image) == (0, b"")


def test_nothing_is_read_without_the_table() -> None:
    """Without it the segment may still hold what has been annulled."""
    rig = StoreRig()
    rig.take(records(range(1, 9)))
    rig.seal(SECOND)
    read = ReadPage(SECOND, 1, 0, 5, 5)
    assert rig.ask(read, PageReply) == []
    assert rig.ask(read, NeedTable) == [NeedTable(SECOND, "A0")]


def test_a_read_never_sees_what_is_not_durable() -> None:
    rig = StoreRig()
    rig.step(batch(records([1])))
    assert rig.core.take_write() is not None
    rig.step(ReadPage(FIRST, 1, 1, 1, 1))
    assert rig.said(ReadRefused) == [ReadRefused(FIRST, "A0", 1, 0, 0)]


def test_the_epoch_is_confirmed_only_while_it_is_the_highest() -> None:
    rig = StoreRig()
    assert rig.ask(ConfirmEpoch(FIRST, 6), EpochConfirmed) == [EpochConfirmed(FIRST, "A0", 6)]
    rig.step(Seal(SECOND, 1))
    assert rig.ask(ConfirmEpoch(FIRST, 7), EpochConfirmed) == []


# ---- the log for a recovering writer -------------------------------------------------------------


def test_the_log_is_fetched_in_pieces_up_to_the_scl() -> None:
    rig = StoreRig()
    chain = records(range(1, 9))
    rig.take(chain[:6])
    rig.take(chain[7:])
    rig.seal(SECOND)
    after, fetched = 2, []
    while after < 6:
        [reply] = rig.ask(FetchLog(SECOND, 1, after, 100), LogReply)
        assert (reply.after_lsn, reply.scl) == (after, 6)
        run = read_records(reply.records)
        assert run[-1].lsn == reply.through_lsn and len(run) <= 2
        fetched += run
        after = reply.through_lsn
    assert fetched == chain[2:6]
    [last] = rig.ask(FetchLog(SECOND, 1, 6, 150), LogReply)
    assert (last.through_lsn, read_records(last.records)) == (6, [])


def test_a_log_that_is_in_layers_is_refused() -> None:
    rig = StoreRig()
    run = records(range(1, 9), size=300)
    rig.take(run, vdl=4)
    rig.work()
    assert (rig.state.folded, rig.state.floor) == (4, 0)
    assert rig.ask(FetchLog(FIRST, 1, 3, 100), ReadRefused) == [ReadRefused(FIRST, "A0", 1, 8, 0)]
    [reply] = rig.ask(FetchLog(FIRST, 1, 4, 700), LogReply)
    assert read_records(reply.records) == run[4:6]


def test_a_log_without_its_table_is_not_given() -> None:
    """It may hold what that table annuls."""
    rig = StoreRig()
    rig.take(records(range(1, 9)))
    second_writer(rig)
    rig.rot_frame(-1)
    rig.restart()
    assert rig.state.lacks_table
    refused = [ReadRefused(SECOND, "A0", 1, rig.state.scl, 0)]
    assert rig.ask(FetchLog(SECOND, 1, 0, 100), ReadRefused) == refused
