"""The way of a commit into the log, without a loop: stations, the line for room, giving up."""

from __future__ import annotations

import pytest

from aurora.commit import CommitIntake, PendingCommit
from aurora.config import EngineConfig
from aurora.core import WriterCore
from aurora.health import WaitKind
from aurora.mtr import PageWrite
from aurora.pending import AT_ONCE, WHEN_WOKEN
from aurora.quorum import QuorumModel
from aurora.recovery_plan import RecoveryPlan
from aurora.way import Way
from segments.protocol.errors import InvalidWrite, LsnsExhausted
from segments.protocol.ids import MAX_LSN, Lsn, PageId, VolumeEpoch
from segments.protocol.messages import PageImage, PageReply, ReadPage, TableInstalled, WriteAck
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.truncation import TruncationTable
from segments.protocol.volume import standard_members

E1, E2 = VolumeEpoch(1, 1), VolumeEpoch(2, 1)
MEMBERS = standard_members(0)
GROUPS = {0: QuorumModel(MEMBERS)}


def fresh(lal: int = 3, pages: int = 8) -> CommitIntake:
    plan = RecoveryPlan.fresh(E1, [0])
    config = EngineConfig(buffer_pool_pages=pages)
    return CommitIntake(WriterCore(plan, GROUPS, lal, config, fresh=True))


def recovered() -> CommitIntake:
    """At VDL 1, where page 7 was written; what else exists is not known."""
    table = TruncationTable(E1).extended(E2, 1, 4)
    records = {0: [RedoRecord(1, 7, 0, b"old", 0, True, 0, 0, 0)]}
    core = WriterCore(RecoveryPlan(E2, table, 1, 1, {0: 1}, records), GROUPS, 3, EngineConfig())
    for segment in MEMBERS[:4]:
        core.step(TableInstalled(E2, segment, 1, 1), 0.0)
    assert core.opened
    core.take_sends(0.0)
    return CommitIntake(core)


def begin(intake: CommitIntake, *pages: PageId, now: float = 0.0) -> PendingCommit:
    return intake.begin([PageWrite(page_id, 0, b"x") for page_id in pages], now)


def ack(intake: CommitIntake, scl: Lsn) -> None:
    """A write quorum has everything up to ``scl``: the VDL follows."""
    for segment in MEMBERS[:4]:
        intake.core.step(WriteAck(intake.core.epoch, segment, 1, scl), 0.0)
    assert intake.core.vdl == scl
    intake.progress()


def go_on(intake: CommitIntake, now: float = 1.0) -> list[Way]:
    """Look at everyone again who is to be looked at; returns them in order."""
    woken = intake.take_woken()
    for pending in woken:
        pending.on_timer(now)
    return woken


def test_with_room_for_it_a_commit_is_part_of_the_log_at_once() -> None:
    intake = fresh()
    pending = begin(intake, 1, 2)
    assert (pending.done, pending.next_timer(), pending.result()) == (True, None, 2)
    assert intake.core.pool.statistics.pinned_pages == 0
    pending.on_timer(1.0)
    pending.end()
    assert pending.result() == intake.core.last_allocated_lsn == 2


def test_the_line_for_room_is_first_come_first_served() -> None:
    intake = fresh(lal=3)
    assert begin(intake, 1).result() == 1
    long, short, last = begin(intake, 1, 2, 3), begin(intake, 1), begin(intake, 1)
    assert long.wait.kind is short.wait.kind is WaitKind.ROOM
    assert (long.next_timer(), short.next_timer()) == (AT_ONCE, WHEN_WOKEN)
    long.on_timer(0.0)
    assert long.next_timer() == WHEN_WOKEN
    assert not intake.is_behind(long)
    assert intake.is_behind(short)
    short.on_timer(0.0)  # there is room for it alone, and it is not its turn
    assert not short.done
    ack(intake, 1)
    assert go_on(intake) == [long]
    assert long.result() == 4
    assert go_on(intake) == [short], "the one before it has left the line"
    assert (short.done, short.next_timer(), last.done) == (False, WHEN_WOKEN, False)
    ack(intake, 4)
    assert go_on(intake) == [short]
    assert go_on(intake) == [last]
    assert (short.result(), last.result()) == (5, 6)
    assert not intake.line


def test_whoever_gives_up_leaves_the_line_and_nothing_behind() -> None:
    intake = fresh(lal=1)
    begin(intake, 1)
    first, second, third = begin(intake, 1), begin(intake, 2), begin(intake, 3)
    first.on_timer(0.0)
    second.end()
    assert go_on(intake) == [first], "it has unpinned a page, which may be what it waits for"
    assert not first.done
    first.end()
    assert intake.take_woken() == [third]
    third.on_timer(0.0)
    third.end()
    assert not (intake.line or intake.stuck)
    assert intake.core.pool.statistics.pinned_pages == 0
    assert intake.core.last_allocated_lsn == 1


def test_a_commit_waits_for_a_place_in_the_pool() -> None:
    intake = fresh(lal=1, pages=1)
    begin(intake, 1)
    pins, waits = begin(intake, 1), begin(intake, 2, now=5.0)
    pins.on_timer(0.0)
    assert (waits.wait.kind, waits.wait.since_s, waits.wait.pg_ids) == (WaitKind.POOL, 5.0, (0,))
    assert waits.next_timer() == WHEN_WOKEN
    waits.on_timer(6.0)
    assert not waits.done
    ack(intake, 1)
    assert go_on(intake) == [pins, waits]
    assert pins.result() == 2
    assert waits.wait.kind is WaitKind.PAGES, "on, though the page in its place is not durable yet"
    waits.end()
    assert intake.core.pool.statistics.pinned_pages == 0


def test_the_line_for_places_is_first_come_first_served() -> None:
    intake = fresh(lal=2, pages=4)
    begin(intake, 1, 2)
    first, second = begin(intake, 1, 2), begin(intake, 3)
    much, little, last = begin(intake, 4, 5), begin(intake, 4), begin(intake, 5)
    assert [each.wait.kind for each in (much, little, last)] == [WaitKind.POOL] * 3
    assert [intake.is_behind(each) for each in (much, little, last)] == [False, True, True]
    little.on_timer(0.0)  # there is a place for it, and it is not its turn
    assert little.wait.kind is WaitKind.POOL
    last.end()
    first.on_timer(0.0)
    ack(intake, 2)
    assert go_on(intake) == [much, first], "pages 1 and 2 are still pinned as it looks"
    assert first.done
    assert go_on(intake) == [second, much]
    assert much.wait.kind is not WaitKind.POOL
    assert go_on(intake) == [little], "the one before it has left the line"
    assert little.wait.kind is not WaitKind.POOL
    for each in (second, much, little):
        each.end()
    assert not (intake.places or intake.line or intake.stuck)
    assert intake.core.pool.statistics.pinned_pages == 0


def answer(intake: CommitIntake, page: PageImage, now: float) -> None:
    """The segment that was asked for the page answers."""
    asked = [each for each in intake.core.take_sends(now) if isinstance(each[1], ReadPage)]
    segment, question = asked[-1]
    assert isinstance(question, ReadPage)
    reply = PageReply(E2, segment, question.request_id, question.read_point, page)
    intake.core.step(reply, now)


def test_pages_that_are_not_in_the_pool_are_brought_in_first() -> None:
    intake = recovered()
    pending = begin(intake, 7)
    assert (pending.wait.kind, pending.wait.pg_ids) == (WaitKind.PAGES, (0,))
    timer = pending.next_timer()
    assert timer is not None
    assert 0 < timer < WHEN_WOKEN, "another segment is asked if the first is slow"
    assert intake.core.reading.oldest_read_point == 1
    answer(intake, PageImage(7, 1, bytes(PAGE_SIZE)), 0.001)
    assert intake.core.reading.take_finished() == [pending], "who waits for the read, not the read"
    pending.on_timer(0.001)
    assert pending.result() == 5
    assert intake.core.reading.oldest_read_point is None


def test_pages_are_brought_in_side_by_side() -> None:
    intake = recovered()
    pending = begin(intake, 7, 8, 9)
    asked = [
        (segment, message)
        for segment, message in intake.core.take_sends(0.0)
        if isinstance(message, ReadPage)
    ]
    assert [question.page_id for _, question in asked] == [7, 8, 9]
    for segment, question in asked:
        page = PageImage(question.page_id, 1, bytes(PAGE_SIZE))
        reply = PageReply(E2, segment, question.request_id, question.read_point, page)
        intake.core.step(reply, 0.001)
        assert not pending.done
        pending.on_timer(0.001)
    assert pending.result() == 7
    assert intake.core.reading.oldest_read_point is None


def test_a_commit_goes_on_asking_for_its_page_when_a_read_has_given_up() -> None:
    intake = recovered()
    pending = begin(intake, 7)
    timeout_s, now = EngineConfig().read_timeout_s, 0.0
    while now <= 2 * timeout_s:
        timer = pending.next_timer()
        assert timer is not None
        assert timer > now - 1e-9, "it makes no progress in time"
        now = timer
        pending.on_timer(now)
    assert not pending.done
    assert pending.wait.since_s == 0.0
    answer(intake, PageImage(7, 1, bytes(PAGE_SIZE)), now)
    pending.on_timer(now)
    assert pending.result() == 5


def test_what_can_never_be_written_is_refused() -> None:
    intake = fresh(lal=3)
    with pytest.raises(InvalidWrite, match="expected 1 to 3, the LAL"):
        begin(intake, 1, 2, 3, 4)
    table = TruncationTable(E1).extended(E2, 0, MAX_LSN - 2)
    plan = RecoveryPlan(E2, table, 0, 0, {0: 0}, {0: []})
    intake = CommitIntake(WriterCore(plan, GROUPS, 3, EngineConfig(), fresh=True))
    with pytest.raises(LsnsExhausted):
        begin(intake, 1, 2, 3)


def test_a_commit_in_line_that_the_end_of_the_lsns_overtakes_fails() -> None:
    table = TruncationTable(E1).extended(E2, 0, MAX_LSN - 4)
    plan = RecoveryPlan(E2, table, 0, 0, {0: 0}, {0: []})
    core = WriterCore(plan, GROUPS, 2, EngineConfig(), fresh=True)
    intake = CommitIntake(core)
    last_lsn = begin(intake, 1, 2).result()
    first, second = begin(intake, 1, 2), begin(intake, 1)
    first.on_timer(0.0)
    ack(intake, last_lsn)
    assert go_on(intake) == [first]
    assert first.result() == MAX_LSN
    assert go_on(intake) == [second]
    assert second.done
    with pytest.raises(LsnsExhausted):
        second.result()
    assert core.pool.statistics.pinned_pages == 0


def at_once(intake: CommitIntake, *pages: PageId) -> Lsn | None:
    return intake.at_once([PageWrite(page_id, 0, b"x") for page_id in pages])


def test_who_need_not_wait_goes_through_all_stations_at_once() -> None:
    intake = fresh(lal=9)
    assert at_once(intake, 1) == 1, "a new page is brought in"
    assert at_once(intake, 1, 2) is None, "a second one might take the place of the first"
    assert begin(intake, 2).result() == 2
    assert at_once(intake, 1, 2) == 4
    assert intake.core.pool.statistics.pinned_pages == 0
    assert not intake.take_woken()


def test_nobody_goes_past_the_line_nor_beyond_a_limit() -> None:
    intake = fresh(lal=3)
    assert at_once(intake, 1) == 1
    long = begin(intake, 1, 1, 1)
    assert at_once(intake, 1) is None, "there is room for it, and somebody waits for more"
    ack(intake, 1)
    long.on_timer(1.0)
    assert long.result() == 4
    assert at_once(intake, 1) is None, "the LAL"
    with pytest.raises(InvalidWrite, match="an MTR of 4 records"):
        at_once(intake, 1, 1, 1, 1)
    assert intake.core.last_allocated_lsn == 4


def test_a_page_that_has_to_be_fetched_is_waited_for() -> None:
    intake = recovered()
    assert at_once(intake, 7) is None
    assert intake.core.last_allocated_lsn == 4
