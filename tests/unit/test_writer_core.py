"""The writer core: opening, acknowledgements, fencing, limits (protocol §3, §4, §7)."""

from __future__ import annotations

import pytest

from aurora.config import EngineConfig
from aurora.core import WriterCore
from aurora.mtr import PageWrite
from aurora.quorum import QuorumModel
from aurora.recovery_plan import RecoveryPlan
from segments.protocol.errors import InvalidWrite
from segments.protocol.ids import Lsn, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import (
    EpochRefused,
    InstallTable,
    Message,
    NeedTable,
    PageImage,
    TableInstalled,
    WriteAck,
    WriteBatch,
)
from segments.protocol.record import RedoRecord
from segments.protocol.run import read_records
from segments.protocol.truncation import TruncationTable
from segments.protocol.volume import standard_members

E1, E2, E3 = VolumeEpoch(1, 1), VolumeEpoch(2, 1), VolumeEpoch(3, 1)
GROUPS = {pg_id: QuorumModel(standard_members(pg_id)) for pg_id in (0, 1)}
LAL = 20
CONFIG = EngineConfig(max_mtr_writes=10, batches_in_flight=4)


def fresh(config: EngineConfig = CONFIG, lal: int = LAL) -> WriterCore:
    return WriterCore(RecoveryPlan.fresh(E1, list(GROUPS)), GROUPS, lal, config, fresh=True)


def recovered(config: EngineConfig = CONFIG) -> WriterCore:
    """Opened at VDL 4: record 2 of group 0 and 3, 4 of group 1 are to be re-replicated."""
    table = TruncationTable(E1).extended(E2, 4, 24)
    records = {
        0: [RedoRecord(2, 0, 0, b"x", 2, True, 1, 1, 1)],
        1: [
            RedoRecord(3, 1, 0, b"x", 3, True, 2, 0, 0),
            RedoRecord(4, 1, 0, b"x", 4, True, 3, 3, 3),
        ],
    }
    plan = RecoveryPlan(E2, table, 4, 4, {0: 2, 1: 4}, records)
    return WriterCore(plan, GROUPS, LAL, config)


def write(core: WriterCore, *pages: int) -> Lsn:
    core.bring_in_absent(pages)
    return core.submit([PageWrite(page_id, 0, b"x") for page_id in pages])


def ack(core: WriterCore, names: str, pg_id: PgId, scl: Lsn, epoch: VolumeEpoch = E1) -> None:
    for name in names:
        core.step(WriteAck(epoch, f"{name}{pg_id}", 1, scl), 0.0)


def sent(core: WriterCore, now: float = 0.0) -> dict[SegmentId, list[Message]]:
    found: dict[SegmentId, list[Message]] = {}
    for segment, message in core.take_sends(now):
        found.setdefault(segment, []).append(message)
    return found


def lsns(message: Message) -> list[Lsn]:
    assert isinstance(message, WriteBatch)
    return [record.lsn for record in read_records(message.records)]


# ---- watermarks ----------------------------------------------------------------------------------


def test_a_commit_needs_four_of_six() -> None:
    """write-quorum-3 and third-highest-scl in §12."""
    core = fresh()
    lsn = write(core, 0)
    ack(core, "ABC", 0, lsn)
    ack(core, "AAABBBCCC", 0, lsn)
    assert core.vdl == 0
    ack(core, "F", 0, lsn)
    assert core.vdl == lsn == 1


def test_acknowledgements_of_other_epochs_and_strangers_do_not_count() -> None:
    """§3 and invariant 5."""
    core = fresh()
    lsn = write(core, 0)
    ack(core, "ABC", 0, lsn)
    for epoch in (VolumeEpoch(0, 9), E2, VolumeEpoch(1, 2)):
        ack(core, "DEF", 0, lsn, epoch)
    core.step(WriteAck(E1, "G0", 1, lsn), 0.0)
    ack(core, "DEF", 1, 0)
    assert core.vdl == 0 and core.fenced is None


def test_late_and_reordered_acknowledgements_never_move_it_back() -> None:
    core = fresh()
    for _ in range(3):
        write(core, 0)
    ack(core, "ABCD", 0, 3)
    ack(core, "ABCD", 0, 1)
    ack(core, "EF", 0, 2)
    assert (core.vdl, core.pgcl(0)) == (3, 3)


def test_vcl_is_neither_min_nor_max_and_vdl_is_a_cpl() -> None:
    """§3, vcl-min-pgcl, vcl-max-pgcl and vdl-not-cpl in §12."""
    core = fresh()
    write(core, 0)  # 1
    ack(core, "ABCD", 0, 1)
    assert (core.vcl, core.vdl) == (1, 1), "group 1 is idle"
    write(core, 0, 1, 0)  # 2, 3, 4
    ack(core, "ABCD", 0, 4)
    assert (core.vcl, core.vdl) == (2, 1), "half an MTR is durable"
    ack(core, "CDEF", 1, 3)
    assert (core.vcl, core.vdl) == (4, 4)


def test_counting_is_by_scl_and_not_by_record() -> None:
    """count-per-record in §12: what four have is not enough if one lacks what is below."""
    core = fresh()
    for _ in range(3):
        write(core, 0)
    ack(core, "ABC", 0, 3)
    ack(core, "D", 0, 1)  # has record 3 too, above a gap
    assert core.vdl == 1


# ---- opening -------------------------------------------------------------------------------------


def install(core: WriterCore, names: str, pg_id: PgId, scl: Lsn) -> None:
    for name in names:
        core.step(TableInstalled(E2, f"{name}{pg_id}", 0, scl), 0.0)


def test_it_opens_only_when_every_group_has_table_and_records() -> None:
    """§7, step 7; open-after-one-install and open-before-rereplication in §12."""
    core = recovered()
    assert {type(each) for run in sent(core).values() for each in run} == {InstallTable}
    install(core, "ABCDEF", 0, 2)
    install(core, "ABC", 1, 4)
    assert not core.opened, "three have the table"
    install(core, "D", 1, 0)
    assert not core.opened, "four have the table, three the records"
    batches = sent(core)
    assert lsns(batches["D1"][0]) == [3, 4] and set(batches) == {"D1"}
    ack(core, "D", 1, 3, E2)
    assert not core.opened
    ack(core, "D", 1, 4, E1)
    assert not core.opened, "of another epoch"
    ack(core, "D", 1, 4, E2)
    assert core.opened and core.vdl == 4


def test_an_empty_group_too_must_have_the_table_at_four() -> None:
    """There is nothing to re-replicate, and still a tail of an older writer to be annulled."""
    table = TruncationTable(E1).extended(E2, 0, 20)
    core = WriterCore(
        RecoveryPlan(E2, table, 0, 0, {0: 0, 1: 0}, {0: (), 1: ()}), GROUPS, LAL, CONFIG
    )
    install(core, "ABCDEF", 0, 0)
    install(core, "ABC", 1, 0)
    assert not core.opened
    install(core, "F", 1, 0)
    assert core.opened


def test_until_it_opens_its_vdl_is_told_to_nobody() -> None:
    core = recovered()
    install(core, "ABC", 1, 0)
    core.tick(10.0)
    for run in sent(core, 10.0).values():
        assert all(not isinstance(each, WriteBatch) or each.vdl == 0 for each in run)
    install(core, "ABCD", 0, 2)
    install(core, "DEF", 1, 4)
    ack(core, "A", 1, 4, E2)
    assert core.opened
    core.tick(20.0)
    beats = [each for run in sent(core, 20.0).values() for each in run]
    assert any(isinstance(each, WriteBatch) and each.vdl == 4 for each in beats)


def test_it_allocates_above_everything_annulled() -> None:
    """§7, step 8."""
    core = recovered()
    install(core, "ABCD", 0, 2)
    install(core, "ABCD", 1, 4)
    assert core.opened and core.last_allocated_lsn == 24 and core.lsn_limit == 44
    assert core.bring_in_absent([7]) == [7], "an unknown page must be read before it is written"
    assert core.pool.install(PageImage(7, 0, b""), 4, 4)
    assert core.submit([PageWrite(7, 0, b"x")]) == 25
    [batch] = [each for each in sent(core)["A1"] if isinstance(each, WriteBatch)]
    [record] = read_records(batch.records)
    assert (record.prev_volume_lsn, record.prev_segment_lsn, record.prev_page_lsn) == (4, 4, 0)


def test_who_lacks_the_table_is_sent_it_before_any_record() -> None:
    core = fresh()
    write(core, 0)
    assert lsns(sent(core)["E0"][0]) == [1]
    core.step(NeedTable(E1, "E0"), 0.0)
    assert sent(core) == {"E0": [InstallTable(E1, 0, TruncationTable(E1))]}
    core.step(TableInstalled(E1, "E0", 0, 0), 0.1)
    assert [lsns(each) for each in sent(core, 0.1)["E0"]] == [[1]]


def settled(core: WriterCore, now: float = 0.0) -> dict[SegmentId, bool]:
    """What each segment is told now of whether all have the table."""
    return {
        segment: batches[-1].settled
        for segment, messages in sent(core, now).items()
        if (batches := [each for each in messages if isinstance(each, WriteBatch)])
    }


def test_a_table_is_settled_when_every_member_of_every_group_has_it() -> None:
    """§8; range-forgotten: an open volume is not enough."""
    core = recovered()
    install(core, "ABCDEF", 0, 2)
    install(core, "ABCDE", 1, 4)
    assert core.opened
    core.tick(10.0)
    assert set(settled(core, 10.0).values()) == {False}
    core.step(NeedTable(E2, "A0"), 10.0)  # rot has taken it
    install(core, "F", 1, 4)
    assert True not in settled(core, 11.0).values()
    install(core, "A", 0, 2)
    told = settled(core, 12.0)
    assert len(told) == 12 and all(told.values()), "all are told at once"
    core.tick(20.0)
    assert all(settled(core, 20.0).values()), "and again until they are known to have heard"


def test_the_table_of_a_new_volume_annuls_nothing_and_is_not_spoken_of() -> None:
    core = fresh()
    write(core, 0)
    assert set(settled(core).values()) == {False}


# ---- fencing -------------------------------------------------------------------------------------


def test_a_fenced_writer_is_silent_and_acknowledges_nothing_more() -> None:
    """§7: stops sending, and never acknowledges another commit."""
    core = fresh()
    write(core, 0)
    ack(core, "ABC", 0, 1)
    core.step(EpochRefused(E1, "F0", E2), 0.0)
    assert core.fenced == E2
    ack(core, "DEF", 0, 1)
    assert core.vdl == 0
    for at in range(10):
        core.tick(at * 1.0)
        assert core.take_sends(at * 1.0) == []


def test_refusals_that_do_not_mean_this_writer_are_ignored() -> None:
    core = recovered()
    core.step(EpochRefused(E1, "F0", E3), 0.0)
    core.step(EpochRefused(E2, "F0", E2), 0.0)
    core.step(EpochRefused(E2, "F0", E1), 0.0)
    assert core.fenced is None


# ---- limits --------------------------------------------------------------------------------------


def test_lsns_never_run_ahead_of_the_limit() -> None:
    """LAL, §7 and invariant 12: all or nothing; lal-ignored in §12."""
    core = fresh()
    write(core, *[0] * 10)
    write(core, *[0] * 9)
    assert core.has_room(1) and not core.has_room(2)
    ack(core, "ABCD", 0, 10)
    assert core.has_room(10) and not core.has_room(12)
    with pytest.raises(InvalidWrite, match="21"):
        core.check_mtr([PageWrite(0, 0, b"x")] * 21)
    assert core.last_allocated_lsn == 19


def test_a_dead_segment_slows_nobody_and_costs_a_bounded_log() -> None:
    """§4, step 4 and 5."""
    config = EngineConfig(outgoing_bytes=1 << 20, part_bytes=1 << 20)
    core = fresh(config, lal=10_000)
    payload = bytes(8_000)
    core.bring_in_absent([0])
    for at in range(1, 400):
        assert core.has_room(1)
        lsn = core.submit([PageWrite(0, 0, payload)])
        batches = sent(core, at * 0.01)
        assert all(lsns(batches[f"{name}0"][0]) == [lsn] for name in "ABCD")
        ack(core, "ABCD", 0, lsn)
        assert core.vdl == lsn
        core.tick(at * 0.01)
        assert core._logs[0].size_bytes <= (1 << 20) + 9_000
        assert core.streams["F0"].in_flight <= config.batches_in_flight
    assert core.streams["F0"].behind, "left to gossip"


def test_without_a_quorum_writers_wait_before_the_log_grows_too_long() -> None:
    config = EngineConfig(outgoing_bytes=1 << 20, part_bytes=1 << 20)
    core = fresh(config, lal=10_000)
    core.bring_in_absent([0])
    count = 0
    while core.has_room(1):
        core.submit([PageWrite(0, 0, bytes(8_000))])
        core.tick(count * 0.01)
        count += 1
        assert count < 400
    assert core._logs[0].size_bytes < (2 << 20) + 9_000
    ack(core, "ABC", 0, count)
    assert not core.has_room(1)
    ack(core, "D", 0, count)
    assert core.vdl == count and core.has_room(1), "all of it was kept, and went, before any tick"


def test_what_is_durable_takes_no_room_from_what_is_not() -> None:
    """It goes as the log becomes full, and not at the next tick: until then writers would wait."""
    core = fresh(EngineConfig(outgoing_bytes=1 << 20, part_bytes=1 << 20), lal=10_000)
    log = core._logs[0]
    core.bring_in_absent([0])
    core.submit([PageWrite(0, 0, bytes(8_000))])
    sent(core, 0.0)
    ack(core, "ABCD", 0, 1)
    while log.base_lsn == 0:
        assert core.has_room(1), "not while some of it is durable"
        core.submit([PageWrite(0, 0, bytes(8_000))])
    assert log.base_lsn == 1 and log.size_bytes >= (2 << 20) - 8_100
    while core.has_room(1):
        core.submit([PageWrite(0, 0, bytes(8_000))])
    assert log.base_lsn == 1, "the rest is no write quorum's yet"


def test_two_writes_of_one_mtr_on_one_page_follow_each_other() -> None:
    """§2, and same-mtr-chain in §12."""
    core = fresh()
    write(core, 0, 0)
    [batch] = sent(core)["A0"]
    assert isinstance(batch, WriteBatch)
    first, second = read_records(batch.records)
    assert (second.prev_page_lsn, second.prev_segment_lsn, second.prev_volume_lsn) == (1, 1, 1)
    assert (first.is_cpl, second.is_cpl, first.mtr_id, second.mtr_id) == (False, True, 1, 1)
