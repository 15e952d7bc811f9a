"""The plan of a recovery, and the conversation that leads to it (protocol §7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aurora.config import EngineConfig
from aurora.quorum import QuorumModel
from aurora.recovery import Recovery, plan_recovery
from aurora.recovery_plan import RecoveryPlan
from segments.protocol.errors import Fenced
from segments.protocol.heard import Heard
from segments.protocol.ids import Lsn, PgId, VolumeEpoch
from segments.protocol.messages import EpochRefused, FetchLog, LogReply, Message, Seal, SealReply
from segments.protocol.record import RedoRecord
from segments.protocol.run import encode_run
from segments.protocol.truncation import TruncationRange, TruncationTable
from segments.protocol.volume import standard_members

E1, E2, E22, E3 = (VolumeEpoch(*each) for each in ((1, 1), (2, 1), (2, 2), (3, 1)))
T1 = TruncationTable(E1)
T2 = TruncationTable(E2, (TruncationRange(101, 201, E2),))
LAL = 100


def history(
    writes: Sequence[tuple[Lsn, PgId, bool]], prev: Mapping[PgId, Lsn] | None = None
) -> dict[PgId, list[RedoRecord]]:
    """Records of the volume from (lsn, group, is CPL), page ids being those of the groups."""
    heads = dict(prev or {})
    volume, mtr_id = max(heads.values(), default=0), 0
    made: dict[PgId, list[RedoRecord]] = {0: [], 1: []}
    for lsn, pg_id, is_cpl in writes:
        mtr_id = mtr_id or lsn
        head = heads.get(pg_id, 0)
        made[pg_id].append(RedoRecord(lsn, pg_id, 0, b"x", mtr_id, is_cpl, volume, head, head))
        volume = heads[pg_id] = lsn
        mtr_id = 0 if is_cpl else mtr_id
    return made


def sealed(
    segment: str, scl: Lsn, *, vdl: Lsn = 0, table: TruncationTable = T1, floor: Lsn = 0
) -> SealReply:
    return SealReply(E3, segment, 1, scl, vdl, floor, table)


def group(pg_id: PgId, *scls: Lsn, table: TruncationTable = T1, vdl: Lsn = 0) -> list[SealReply]:
    return [
        sealed(f"{letter}{pg_id}", scl, vdl=vdl, table=table)
        for letter, scl in zip("ABC", scls, strict=True)
    ]


# ---- the plan ------------------------------------------------------------------------------------


def test_the_maximum_counts_and_the_vdl_is_a_cpl() -> None:
    """§7.4 and 7.5: three replies cannot disprove an acknowledged record; VDL <= VCL is a CPL."""
    log = history([(1, 0, True), (2, 1, True), (3, 0, False), (4, 1, False), (5, 0, True)])
    replies = {0: group(0, 1, 3, 0), 1: group(1, 4, 0, 2)}
    plan = plan_recovery(E3, 100, replies, {0: log[0][:2], 1: log[1]})
    assert (plan.vcl, plan.vdl) == (4, 2)
    assert plan.tails == {0: 1, 1: 2}
    assert {pg: [each.lsn for each in run] for pg, run in plan.records.items()} == {0: [1], 1: [2]}
    assert plan.table == TruncationTable(E3, (TruncationRange(3, 103, E3),))
    assert plan.next_lsn == 103


def test_a_gap_in_one_group_ends_the_volume_there() -> None:
    """vcl-max-pgcl in §12."""
    log = history([(1, 0, True), (2, 1, True), (3, 0, True)])
    plan = plan_recovery(E3, 100, {0: group(0, 3, 3, 3), 1: group(1, 0, 0, 0)}, {0: log[0], 1: []})
    assert plan.vdl == 1 and plan.tails == {0: 1, 1: 0}


def test_an_idle_group_holds_nothing_up() -> None:
    """vcl-min-pgcl in §12."""
    log = history([(1, 0, True), (2, 0, True)])
    plan = plan_recovery(E3, 100, {0: group(0, 2, 2, 2), 1: group(1, 0, 0, 0)}, {0: log[0], 1: []})
    assert plan.vdl == 2


def test_the_table_of_the_highest_epoch_is_adopted_alone() -> None:
    """§7.3, tables-unioned and tables-ignored."""
    overtaken = TruncationTable(E2, (TruncationRange(2, 50, E2),))
    other = TruncationTable(E22, (TruncationRange(10, 60, E22),))
    log = history([(1, 0, True), (2, 0, True), (3, 0, True)])
    replies = {0: [sealed("A0", 3, table=overtaken), sealed("B0", 3, table=other), sealed("C0", 0)]}
    plan = plan_recovery(E3, 100, replies, {0: log[0]})
    assert plan.vdl == 3 and plan.table.ranges == (TruncationRange(4, 160, E3),)


def test_what_is_settled_is_left_out_and_its_lsns_are_still_not_given_again() -> None:
    """§8: it is enough that one reply knows it."""
    third = T2.extended(VolumeEpoch(2, 7), 250, 300)
    knowing = T2.with_settled(E2)
    replies = {0: [sealed(each, 0, vdl=400, table=third) for each in ("A0", "B0")]}
    replies[0].append(sealed("C0", 0, vdl=400, table=knowing))
    plan = plan_recovery(E3, 100, replies, {0: []}, retention=0)
    assert plan.table.ranges == (*third.ranges[1:], TruncationRange(401, 501, E3))
    assert (plan.table.settled, plan.next_lsn) == (E2, 501)
    replies[0][0] = sealed("A0", 0, vdl=400, table=third.with_settled(third.epoch))
    plan = plan_recovery(E3, 100, replies, {0: []}, retention=0)
    assert plan.table.ranges == (TruncationRange(401, 501, E3),)


def test_what_is_settled_still_bounds_the_range_of_who_made_nothing_durable() -> None:
    table = T2.with_settled(E2)
    plan = plan_recovery(E3, 100, {0: group(0, 100, 100, 100, table=table, vdl=100)}, {0: []})
    assert plan.table.ranges == (TruncationRange(101, 301, E3),)


def test_annulled_records_do_not_count_however_many_hold_them() -> None:
    log = history([(100, 0, True), (101, 0, True), (102, 0, True)])
    replies = {0: [sealed("A0", 102), sealed("B0", 102), sealed("C0", 100, table=T2)]}
    plan = plan_recovery(E3, 100, replies, {0: log[0]})
    assert plan.vdl == 100 and plan.tails == {0: 100}
    assert [each.lsn for each in plan.records[0]] == [100]


def test_the_range_ends_above_the_last_one_whatever_was_durable() -> None:
    """2017 §4.3: all that was in flight is annulled; short-range in §12, two such in a row."""
    table, ends = T1, []
    for counter in (2, 3, 4):
        epoch = VolumeEpoch(counter, 1)
        plan = plan_recovery(epoch, 100, {0: group(0, 0, 0, 0, table=table)}, {0: []})
        table = plan.table
        ends.append(plan.next_lsn)
    assert ends == [101, 201, 301]


def test_the_tail_of_an_idle_group_is_one_of_its_own_records() -> None:
    """A segment that was away counts up to 105, annulled since; its bound, 100, is no record here.

    Were 100 taken for the tail, the next record of this group would link to nothing, for ever.
    """
    replies = {
        0: [sealed("A0", 105), sealed("B0", 98, table=T2, vdl=300), sealed("C0", 98, table=T2)],
        1: group(1, 300, 300, 300, table=T2, vdl=300),
    }
    plan = plan_recovery(E3, 100, replies, {0: [], 1: []})
    assert plan.vdl == 300 and plan.tails == {0: 98, 1: 300}


def test_a_tail_below_what_was_fetched_is_what_it_links_to() -> None:
    log = history([(4, 0, False), (5, 1, False)], prev={0: 2, 1: 3})
    replies = {0: group(0, 4, 2, 2, vdl=3), 1: group(1, 3, 3, 3, vdl=3)}
    plan = plan_recovery(E3, 100, replies, {0: log[0], 1: []})
    assert plan.vdl == 3 and plan.tails == {0: 2, 1: 3} and plan.records == {0: [], 1: []}


def test_a_fresh_volume_starts_at_one() -> None:
    plan = RecoveryPlan.fresh(E1, [0, 1])
    assert plan.next_lsn == 1 and plan.tails == {0: 0, 1: 0} and plan.table == T1


# ---- the conversation ----------------------------------------------------------------------------


class Conversation:
    """A recovery of one group, and what it has asked."""

    def __init__(self) -> None:
        self.recovery = Recovery(
            1, {0: QuorumModel(standard_members(0))}, LAL, EngineConfig(), counter=3
        )
        self.now = 0.0

    def tick(self, seconds: float = 0.0) -> list[tuple[str, Message]]:
        self.now += seconds
        self.recovery.tick(self.now)
        return self.recovery.take_sends()

    def hear(self, message: Message) -> list[tuple[str, Message]]:
        self.recovery.step(message, self.now)
        return self.recovery.take_sends()

    def seal_id(self) -> int:
        seals = [each for _, each in self.tick(1.0) if isinstance(each, Seal)]
        return seals[0].request_id

    def to_fetching(self, scl: Lsn = 3) -> tuple[str, FetchLog]:
        request_id = self.seal_id()
        for segment in ("A0", "B0"):
            self.hear(sealed(segment, 0)._replace(request_id=request_id))
        [(source, fetch)] = self.hear(sealed("C0", scl)._replace(request_id=request_id))
        assert isinstance(fetch, FetchLog)
        return source, fetch


LOG = history([(1, 0, True), (2, 0, True), (3, 0, True)])[0]


def answer(fetch: FetchLog, run: Sequence[RedoRecord], *, through: Lsn | None = None) -> LogReply:
    last = run[-1].lsn if run else fetch.after_lsn
    through = last if through is None else through
    records = encode_run(run)
    return LogReply(E3, "C0", fetch.request_id, fetch.after_lsn, through, through, records)


def test_seals_are_repeated_to_the_silent_alone() -> None:
    talk = Conversation()
    first = talk.tick()
    assert [segment for segment, _ in first] == list(standard_members(0))
    assert talk.tick(0.01) == []
    [(_, seal), *_] = first
    assert isinstance(seal, Seal)
    talk.hear(sealed("B0", 0)._replace(request_id=seal.request_id))
    assert [segment for segment, _ in talk.tick(1.0)] == ["A0", "C0", "D0", "E0", "F0"]
    assert talk.recovery.missing() == {0: 2}


def test_two_replies_of_one_segment_are_one() -> None:
    """read-quorum-2 in §12."""
    talk = Conversation()
    request_id = talk.seal_id()
    for segment in ("A0", "B0", "B0", "A0", "Z9"):
        assert talk.hear(sealed(segment, 0)._replace(request_id=request_id)) == []
    assert talk.recovery.sealing and not talk.recovery.done


def test_replies_to_another_epoch_or_round_do_not_count() -> None:
    """scl-before-seal in §12: only an SCL told after this very seal counts."""
    talk = Conversation()
    request_id = talk.seal_id()
    for segment in "ABCDEF":
        late = sealed(f"{segment}0", 0)
        talk.hear(late._replace(request_id=request_id, epoch=E2))
        talk.hear(late._replace(request_id=request_id + 1))
    assert talk.recovery.missing() == {0: 3}


def test_the_log_is_fetched_from_who_holds_most_piece_by_piece() -> None:
    talk = Conversation()
    source, fetch = talk.to_fetching()
    assert (source, fetch.after_lsn) == ("C0", 0)
    [(_, more)] = talk.hear(answer(fetch, LOG[:2]))
    assert isinstance(more, FetchLog) and more.after_lsn == 2
    assert talk.hear(answer(fetch, LOG[:2])) == [], "repeated: taken once"
    talk.hear(answer(more, LOG[2:]))
    plan = talk.recovery.plan
    assert plan is not None and plan.vdl == 3 and list(plan.records[0]) == LOG


def test_a_source_slower_than_the_retry_is_listened_to() -> None:
    """A gray segment may be the only one that has the records."""
    talk = Conversation()
    _, fetch = talk.to_fetching()
    assert talk.tick(EngineConfig().seal_retry_s * 1.5) != [], "asked again"
    talk.hear(answer(fetch, LOG))
    assert talk.recovery.plan is not None


def test_a_source_that_cannot_deliver_is_not_asked_in_a_loop() -> None:
    """It was truncated, or damaged, between its seal and our question: another round is due."""
    talk = Conversation()
    _, fetch = talk.to_fetching()
    for _ in range(100):
        assert talk.hear(answer(fetch, [])) == []
    seconds = 0.0
    while not talk.recovery.sealing:
        talk.tick(0.05)
        seconds += 0.05
        assert seconds < 10
    request_id = talk.seal_id()
    for segment in ("D0", "E0", "F0"):
        talk.hear(sealed(segment, 0)._replace(request_id=request_id))
    assert talk.recovery.plan is not None and talk.recovery.plan.vdl == 0


def test_answers_to_an_earlier_round_are_not_mixed_in() -> None:
    talk = Conversation()
    _, old = talk.to_fetching()
    while not talk.recovery.sealing:
        talk.tick(0.05)
    _, fetch = talk.to_fetching()
    talk.hear(answer(old, LOG[:1], through=3))
    assert talk.recovery.plan is None
    talk.hear(answer(fetch, LOG))
    assert talk.recovery.plan is not None and talk.recovery.plan.vdl == 3


def test_a_refusal_while_sealing_means_a_higher_epoch() -> None:
    talk = Conversation()
    talk.tick()
    rival = VolumeEpoch(7, 5)
    sends = talk.hear(EpochRefused(E3, "A0", rival))
    assert talk.recovery.epoch == VolumeEpoch(8, 1)
    assert len(sends) == 6 and all(each.epoch.counter == 8 for _, each in sends)


def test_a_reply_that_has_heard_of_a_later_table_means_a_higher_epoch_and_judges_nobody() -> None:
    """C0 answered before that table was adopted there: its disk was not rolled back since."""
    talk = Conversation()
    request_id = talk.seal_id()
    talk.hear(sealed("C0", 3)._replace(request_id=request_id))
    later = Heard(VolumeEpoch(7, 5), {"C0": 3})
    sends = talk.hear(sealed("A0", 3)._replace(request_id=request_id, heard=(later,)))
    assert talk.recovery.rolled_back == {}
    assert talk.recovery.epoch == VolumeEpoch(8, 1)
    assert {segment for segment, _ in sends} == {*standard_members(0)}, "C0 is asked anew, too"
    assert all(isinstance(each, Seal) and each.epoch.counter == 8 for _, each in sends)


def test_a_refusal_after_the_seal_is_the_end() -> None:
    talk = Conversation()
    talk.to_fetching()
    talk.hear(EpochRefused(E2, "A0", E3))
    assert not talk.recovery.done, "an answer to an earlier attempt"
    talk.hear(EpochRefused(E3, "A0", VolumeEpoch(4, 1)))
    assert isinstance(talk.recovery.error, Fenced) and "epoch 4 (id 000001)" in str(
        talk.recovery.error
    )
    assert talk.tick(5.0) == []


def test_rivals_do_not_drive_each_other_up_for_ever() -> None:
    talk = Conversation()
    for _ in range(1000):
        if talk.recovery.done:
            break
        rival = VolumeEpoch(talk.recovery.epoch.counter + 1, 9)
        talk.hear(EpochRefused(talk.recovery.epoch, "A0", rival))
    assert talk.recovery.error is not None
