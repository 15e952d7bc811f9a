"""Disks that were rolled back: what was heard of a segment, and who it is held against (§8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora.config import EngineConfig
from aurora.quorum import QuorumModel
from aurora.recovery import Recovery
from segments.protocol.errors import SegmentLost, VolumeRolledBack
from segments.protocol.heard import LOST, NO_MARK, Heard, HeardMarks, Mark, marks_of
from segments.protocol.ids import MAX_INTEGER, Lsn, SegmentId, VolumeEpoch
from segments.protocol.messages import (
    GossipRecords,
    GossipStatus,
    InstallTable,
    Message,
    Seal,
    SealReply,
)
from segments.protocol.run import encode_run
from segments.protocol.truncation import TruncationTable
from segments.restart import plan_restart
from segments.state import SegmentState
from tests.store_rig import FIRST, MEMBERS, SECOND, THIRD, StoreRig, batch, records

TABLE = TruncationTable(FIRST)
SECOND_TABLE = TABLE.extended(SECOND, 3, 100)
MODEL = QuorumModel(MEMBERS)


# ---- what is kept --------------------------------------------------------------------------------

epochs = st.builds(VolumeEpoch, st.integers(0, 3), st.integers(0, 1))
heard = st.lists(
    st.tuples(st.sampled_from("ABC"), st.builds(Mark, epochs, st.integers(0, 4))), max_size=20
)


@settings(max_examples=200, deadline=None)
@given(heard, st.integers(0, 20))
def test_the_highest_mark_of_each_is_kept_and_told_once(
    told: list[tuple[str, Mark]], at: int
) -> None:
    marks, written = HeardMarks(), HeardMarks()
    for number, (segment, mark) in enumerate(told):
        if number == at:
            written.hear_all(marks.take_unwritten(), "ABC")
        marks.hear(segment, mark)
    highest = {
        segment: max(mark for name, mark in told if name == segment)
        for segment in dict.fromkeys(name for name, _ in told)
    }
    assert marks.marks == {name: mark for name, mark in highest.items() if mark > NO_MARK}
    written.hear_all(marks.take_unwritten(), "ABC")
    assert written.marks == marks.marks and marks.take_unwritten() == ()
    assert all(marks.of(segment) == highest.get(segment, NO_MARK) for segment in "ABC")


def test_a_writer_that_has_heard_nothing_says_nothing() -> None:
    marks = HeardMarks()
    marks.hear_scls(FIRST, {"A0": 3, "B0": 0, "Z9": 5}, ("A0", "B0", "C0"))
    assert marks.marks == {"A0": Mark(FIRST, 3)}


# ---- a segment keeps what it hears ---------------------------------------------------------------


def status(
    peer: SegmentId, scl: Lsn, *, epoch: VolumeEpoch = FIRST, table: TruncationTable = TABLE,
    whole: bool = True, heard: Mark | None = None, of: SegmentId = "A0",
) -> GossipStatus:  # fmt: skip
    marks = () if heard is None else (Heard(heard.epoch, {of: heard.scl}),)
    return GossipStatus(epoch, peer, table, scl, 0, 0, 0, 0, False, whole, marks)


def copy_of(rig: StoreRig) -> dict[str, bytes]:
    return {name: bytes(data) for name, data in rig.disk.files.items()}


def restored(rig: StoreRig) -> SegmentState:
    """What its disk stands for now."""
    return plan_restart("A0", rig.disk.files, rig.config).state


def test_what_was_heard_is_durable_with_the_next_write_and_written_once() -> None:
    rig = StoreRig()
    rig.step(status("B0", 7), "B0")
    rig.step(batch([])._replace(heard={"A0": 0, "C0": 9, "D0": 0}))
    rig.settle()
    expected = {"B0": Mark(FIRST, 7), "C0": Mark(FIRST, 9)}
    assert rig.state.heard.marks == expected
    assert restored(rig).heard.marks == {}
    rig.take(records([1]))
    assert restored(rig).heard.marks == expected
    before = len(rig.log)
    rig.take(records([2], prev=1))
    again = len(rig.log) - before
    rig.take(records([3], prev=2))
    assert len(rig.log) - before == 2 * again, "what is written is not written again"
    rig.restart()
    assert rig.state.heard.marks == expected
    reply = rig.seal(SECOND)
    assert reply is not None and marks_of(reply.heard) == expected


@pytest.mark.parametrize("how", ["files that are folded go", "the log is written anew"])
def test_what_was_heard_outlives_the_file_that_says_it(how: str) -> None:
    rig = StoreRig()
    rig.step(status("B0", 7), "B0")
    chain = records(range(1, 101))
    vdl = 95 if how == "files that are folded go" else 0
    for at in range(0, len(chain), 10):
        rig.take(chain[at : at + 10])
    rig.take([], vdl=vdl)
    before = rig.files.manifest.logs
    assert len(before) > 2, "it was said in the first alone, and in heads"
    rig.core.scrub.log_is_damaged = not vdl
    rig.work()
    assert before[0] not in rig.files.manifest.logs
    rig.restart()
    assert (rig.state.folded > 0, rig.state.scl) == (vdl > 0, 100)
    assert rig.state.heard.marks == {"B0": Mark(FIRST, 7)}


def test_what_a_refused_write_carried_goes_with_the_next() -> None:
    rig = StoreRig()
    rig.step(status("B0", 7), "B0")
    rig.step(batch(records([1])))
    assert rig.core.take_write() is not None
    rig.core.write_failed()
    rig.take(records([1]))
    rig.restart()
    assert rig.state.heard.marks == {"B0": Mark(FIRST, 7)}


def test_between_its_seal_and_its_table_a_peer_says_nothing_that_counts() -> None:
    """It may be younger than its seal reply, which it would contradict."""
    rig = StoreRig()
    rig.seal(SECOND)
    rig.step(status("B0", 7, epoch=SECOND), "B0")
    rig.settle()
    assert rig.state.heard.marks == {}


def test_what_others_have_heard_is_taken_over() -> None:
    """So that it is known to all who are present, and not only to those who were spoken to."""
    rig = StoreRig()
    rig.step(status("B0", 7, heard=Mark(FIRST, 9), of="C0"), "B0")
    rig.step(status("B0", 7, heard=Mark(FIRST, 4), of="C0"), "B0")
    rig.step(status("B0", 7, heard=Mark(FIRST, 9), of="Z9"), "B0")
    rig.step(status("Z9", 7, heard=Mark(FIRST, 9), of="D0"), "Z9")
    assert rig.state.heard.marks == {"B0": Mark(FIRST, 7), "C0": Mark(FIRST, 9)}


def accepted_rig() -> StoreRig:
    """One that has found out what it is, and was accepted by somebody who knows."""
    rig = rolled_back_rig()
    rig.step(status("B0", 5, heard=Mark(FIRST, 5)), "B0")
    rig.settle()
    accepted = StoreRig(files=copy_of(rig), accepts_rollback=True)
    assert accepted.state.lost is not None and accepted.state.scl == 2
    return accepted


def test_an_older_copy_that_was_accepted_is_the_disk_from_its_next_table_on() -> None:
    rig = accepted_rig()
    rig.install(SECOND_TABLE)
    assert restored(rig).lost is None and restored(rig).table == SECOND_TABLE


@pytest.mark.parametrize("how", ["files that are folded go", "the log is written anew"])
def test_until_then_it_is_one_that_was_lost(how: str) -> None:
    """Whatever becomes of the file in which that was said first."""
    rig = accepted_rig()
    first = rig.files.manifest.logs[0]
    chain = records(range(1, 101))
    for at in range(2, len(chain), 10):
        rig.take(chain[at : at + 10])
    if how == "files that are folded go":
        rig.take([], vdl=95)
    else:
        rig.core.scrub.log_is_damaged = True
    rig.work()
    assert first.number not in [each.number for each in rig.files.manifest.logs]
    with pytest.raises(SegmentLost, match="the disk of A0 was rolled back to SCL 2 under"):
        restored(rig)
    rig.install(TABLE.extended(SECOND, 100, 200))
    assert restored(rig).lost is None


def test_the_last_write_may_be_refused() -> None:
    """Then it is found out again."""
    rig = rolled_back_rig()
    rig.step(status("B0", 5, heard=Mark(FIRST, 5)), "B0")
    assert rig.core.take_write() is not None
    rig.core.write_failed()
    rig.restart()
    assert rig.core.lost is None and rig.state.scl == 2


def test_strangers_are_not_kept() -> None:
    rig = StoreRig()
    rig.step(status("Z9", 7), "Z9")
    rig.step(batch([])._replace(heard={"Z9": 4}))
    assert rig.state.heard.marks == {}


# ---- a segment hears of itself -------------------------------------------------------------------


def rolled_back_rig() -> StoreRig:
    """It has had records 1 to 5, and now has 1 and 2."""
    rig = StoreRig()
    chain = records(range(1, 6))
    rig.take(chain[:2])
    copy = copy_of(rig)
    rig.take(chain[2:])
    rig.restart(copy)
    return rig


TOLD: dict[str, tuple[str, Message]] = {
    "a batch": ("writer", batch([])._replace(heard={"A0": 5})),
    "a seal": ("writer", Seal(SECOND, 1, Mark(FIRST, 5))),
    "a seal that knows": ("writer", Seal(SECOND, 1, LOST)),
    "a table": ("writer", InstallTable(SECOND, 1, SECOND_TABLE, Mark(FIRST, 5))),
    "a peer": ("B0", status("B0", 5, heard=Mark(FIRST, 5))),
    "a peer ahead": (
        "B0", status("B0", 5, epoch=SECOND, table=SECOND_TABLE, heard=Mark(FIRST, 5))
    ),
    "a settled table": (
        "B0", status("B0", 5, epoch=SECOND, table=SECOND_TABLE.with_settled(SECOND))
    ),
    "a settled table to be installed": (
        "writer", InstallTable(SECOND, 1, SECOND_TABLE.with_settled(SECOND))
    ),
    "records beside a settled table": (
        "B0",
        GossipRecords(
            SECOND, "B0", SECOND_TABLE.with_settled(SECOND), 0, encode_run(records([3], prev=2))
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", TOLD)
def test_who_has_less_than_was_heard_of_it_is_lost(how: str) -> None:
    source, message = TOLD[how]
    rig = rolled_back_rig()
    rig.step(message, source)
    assert rig.settle() == []
    assert rig.core.lost is not None
    assert rig.core.lost.startswith("the disk of A0 was rolled back to SCL 2 under")
    rig.step(batch(records([3], prev=2)))
    assert rig.settle() == [] and rig.state.scl == 2, "nothing more is taken or said"
    with pytest.raises(SegmentLost, match="the disk of A0 was rolled back to SCL 2 under"):
        rig.restart()


@pytest.mark.parametrize("how", TOLD)
def test_who_accepts_older_copies_does_not_listen(how: str) -> None:
    source, message = TOLD[how]
    rig = rolled_back_rig()
    rig = StoreRig(files=copy_of(rig), accepts_rollback=True)
    rig.step(message, source)
    assert rig.core.lost is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("writer", batch([])._replace(heard={"A0": 2})),
        ("writer", batch([])._replace(heard={"B0": 9})),
        ("writer", batch([], epoch=SECOND)),
        ("writer", Seal(SECOND, 1, Mark(FIRST, 2))),
        ("B0", status("B0", 5, heard=Mark(FIRST, 2))),
        ("B0", status("B0", 5, epoch=SECOND, table=SECOND_TABLE)),
    ],
)
def test_who_has_as_much_as_was_heard_is_not(source: str, message: Message) -> None:
    rig = rolled_back_rig()
    rig.step(message, source)
    rig.settle()
    assert rig.core.lost is None


def test_a_higher_table_excuses_less() -> None:
    rig = StoreRig()
    rig.take(records(range(1, 6)))
    rig.install(SECOND_TABLE)
    rig.step(status("B0", 3, epoch=SECOND, table=SECOND_TABLE, heard=Mark(FIRST, 5)), "B0")
    assert rig.core.lost is None and rig.state.scl == 3


def test_damage_that_is_known_excuses_less_until_it_is_repaired() -> None:
    rig = StoreRig()
    chain = records(range(1, 6))
    rig.take(chain[:2])
    rig.take(chain[2:4])
    rig.take(chain[4:])
    rig.rot_frame(2)
    rig.restart()
    assert not rig.state.whole and rig.state.scl == 2
    rig.step(status("B0", 5, heard=Mark(FIRST, 5)), "B0")
    assert rig.core.lost is None
    rig.take(chain[2:4])
    assert rig.state.whole
    rig.step(status("B0", 5, heard=Mark(FIRST, 5)), "B0")
    assert rig.core.lost is None


def test_a_peer_that_knows_better_says_so_before_it_sends_records() -> None:
    """Or who was rolled back would catch up, and never hear of it."""
    rig = StoreRig()
    rig.take(records(range(1, 6)))
    rig.step(status("B0", 5), "B0")
    for whole, kind in ((True, GossipStatus), (False, GossipRecords)):
        rig.step(status("B0", 2, whole=whole), "B0")
        [answer] = rig.core.take_sends()
        assert type(answer.message) is kind
        if isinstance(answer.message, GossipStatus):
            assert answer.message.heard == (Heard(FIRST, {"B0": 5}),)


# ---- a recovery ----------------------------------------------------------------------------------


class Talk:
    """A recovery, and what segments answer it."""

    def __init__(
        self, *, known_vdl: Lsn = 0, accepts: bool = False, read_only: bool = False,
        lost: Callable[[], tuple[SegmentId, ...]] = tuple,
    ) -> None:  # fmt: skip
        self.now = 0.0
        self.recovery = Recovery(
            1, {0: MODEL}, 100, EngineConfig(), counter=3,
            known_vdl=known_vdl, accepts_rollback=accepts, read_only=read_only, lost=lost,
        )  # fmt: skip

    def asked(self, after: float = 0.2) -> dict[SegmentId, Seal]:
        """The seals that are sent by then."""
        self.now += after
        self.recovery.tick(self.now)
        sends = self.recovery.take_sends()
        return {segment: each for segment, each in sends if isinstance(each, Seal)}

    def hear(
        self, segment: SegmentId, scl: Lsn, *, vdl: Lsn | None = None,
        table: TruncationTable = TABLE, heard: Mapping[SegmentId, Mark] | None = None,
    ) -> dict[SegmentId, Seal]:  # fmt: skip
        reply = SealReply(
            self.recovery.epoch, segment, self.recovery._request_id, scl,
            scl if vdl is None else vdl, 0, table,
            tuple(Heard(mark.epoch, {name: mark.scl}) for name, mark in (heard or {}).items()),
        )  # fmt: skip
        self.recovery.step(reply, self.now)
        sends = self.recovery.take_sends()
        return {name: each for name, each in sends if isinstance(each, Seal)}


def test_a_reply_that_another_contradicts_does_not_count_whichever_comes_first() -> None:
    for first in (True, False):
        talk = Talk()
        talk.asked()
        told: dict[SegmentId, Seal] = {}
        if first:
            told |= talk.hear("A0", 2)
        told |= talk.hear("B0", 9, heard={"A0": Mark(FIRST, 5)})
        if not first:
            told |= talk.hear("A0", 2)
        assert told["A0"].heard == LOST, "it is told at once"
        talk.hear("C0", 9)
        assert talk.recovery.sealing and talk.recovery.missing() == {0: 1}
        assert talk.asked()["A0"].heard == LOST
        talk.hear("D0", 9)
        plan = talk.recovery.plan
        assert plan is not None and plan.vdl == 9
        assert plan.rolled_back == {
            "A0": f"the disk of A0 was rolled back to {Mark(FIRST, 2)}: B0 has heard of "
            f"{Mark(FIRST, 5)}"
        }
        assert plan.heard["A0"] == LOST and plan.heard["B0"] == NO_MARK


def test_who_has_heard_of_a_later_writer_proves_nothing_of_answers_to_this_seal() -> None:
    talk, later = Talk(), VolumeEpoch(7, 2)
    talk.asked()
    talk.hear("A0", 2)
    talk.hear("B0", 2, heard={"A0": Mark(later, 5)})
    assert talk.recovery.rolled_back == {}
    assert talk.recovery.epoch > later, "it begins anew, above that writer"
    assert talk.recovery.missing() == {0: 3}
    talk.hear("A0", 2)
    talk.hear("B0", 2, heard={"A0": Mark(later, 5)})
    assert set(talk.recovery.rolled_back) == {"A0"}, "now it must have what was heard"


def test_what_was_heard_in_one_round_counts_in_the_next() -> None:
    talk = Talk()
    talk.asked()
    talk.hear("B0", 9, heard={"A0": Mark(FIRST, 5)})
    talk.recovery._begin_sealing()
    talk.asked()
    talk.hear("A0", 2)
    assert talk.recovery.missing() == {0: 3} and "A0" in talk.recovery.rolled_back


def test_a_table_below_a_settled_one_is_an_older_copy() -> None:
    talk = Talk()
    talk.asked()
    talk.hear("A0", 9)
    talk.hear("B0", 9, table=SECOND_TABLE.with_settled(SECOND))
    assert talk.recovery.answered == {"B0"}
    assert "knows that all members had the table of epoch 2" in talk.recovery.rolled_back["A0"]


def test_a_higher_table_is_not_held_against_what_was_heard_before() -> None:
    talk = Talk()
    talk.asked()
    talk.hear("A0", 2, table=SECOND_TABLE)
    talk.hear("B0", 9, heard={"A0": Mark(FIRST, 5)})
    assert talk.recovery.answered == {"A0", "B0"}


def test_a_late_reply_that_contradicts_starts_the_round_anew() -> None:
    talk = Talk()
    talk.asked()
    talk.hear("A0", 2, vdl=0)
    talk.hear("B0", 2, vdl=0)
    talk.hear("C0", 2, vdl=0)
    assert not talk.recovery.sealing and not talk.recovery.done, "it fetches records 1 and 2"
    talk.hear("D0", 9, heard={"A0": Mark(FIRST, 5)})
    assert talk.recovery.sealing and talk.recovery.answered == frozenset()
    assert talk.asked()["A0"].heard == LOST


def test_too_many_older_copies_are_an_error_at_once() -> None:
    everybody = {each: Mark(FIRST, 5) for each in ["A0", "B0", "C0"]}
    for read_only in (False, True):
        talk = Talk(read_only=read_only)
        talk.asked()
        for segment in ("A0", "B0", "C0"):
            talk.hear(segment, 2, heard=everybody if segment == "C0" else None)
        assert isinstance(talk.recovery.error, VolumeRolledBack) is not read_only
    talk = Talk()
    talk.asked()
    talk.hear("A0", 2, heard=everybody)
    talk.hear("B0", 2)
    assert talk.recovery.error is None, "four are left"
    talk.hear("C0", 2)
    assert str(talk.recovery.error).startswith(
        "protection group 0 has lost A0, B0, C0: expected the disks as they were "
        "(the disk of A0 was rolled back"
    )


def test_who_accepts_older_copies_counts_them() -> None:
    talk = Talk(known_vdl=50, accepts=True)
    talk.asked()
    talk.hear("A0", 2, heard={"B0": Mark(FIRST, 5)})
    talk.hear("B0", 2, heard={"A0": Mark(FIRST, 5)})
    talk.hear("C0", 2)
    assert talk.recovery.plan is None, "the others may know of more"
    talk.hear("D0", 9)
    talk.hear("E0", 9)
    assert talk.recovery.plan is None
    talk.asked(EngineConfig().read_timeout_s)
    plan = talk.recovery.plan
    assert plan is not None and plan.vdl == 9 and not plan.rolled_back
    assert set(plan.heard.values()) == {NO_MARK}


def test_who_accepts_older_copies_waits_for_none_that_is_lost() -> None:
    talk = Talk(accepts=True, lost=lambda: ("D0", "E0", "F0"))
    talk.asked()
    for segment in ("A0", "B0", "C0"):
        talk.hear(segment, 2)
    assert talk.recovery.plan is not None and talk.recovery.plan.vdl == 2


# ---- less than the volume once had ---------------------------------------------------------------


def three_know_of(vdl: Lsn, **more: object) -> Talk:
    talk = Talk(known_vdl=21, **more)  # type: ignore[arg-type]
    talk.asked()
    for segment in ("A0", "B0", "C0"):
        talk.hear(segment, vdl)
    return talk


def test_a_recovery_that_would_open_below_the_known_vdl_waits_for_the_others() -> None:
    talk = three_know_of(1)
    assert talk.recovery.plan is None and talk.recovery.error is None
    assert talk.recovery.found_vdl == 1
    assert set(talk.asked()) == {"D0", "E0", "F0"}
    talk.hear("D0", 21)
    assert talk.recovery.plan is not None and talk.recovery.plan.vdl == 21


def test_its_patience_ends_with_an_error_that_names_whom_it_heard() -> None:
    talk = three_know_of(1)
    talk.asked(EngineConfig().read_timeout_s - 1.0)
    talk.hear("D0", 20)
    assert talk.recovery.error is None
    talk.asked(1.5)
    error = talk.recovery.error
    assert isinstance(error, VolumeRolledBack)
    assert str(error).startswith(
        "the volume had reached VDL 21, and A0, B0, C0, D0 (E0, F0 do not answer) know of VDL 20 "
        "at most: expected the disks as they were; nothing was changed"
    )
    assert talk.asked(9.0) == {} and talk.recovery.plan is None


def test_nobody_is_waited_for_who_cannot_come() -> None:
    talk = three_know_of(1, lost=lambda: ("E0", "F0"))
    assert talk.recovery.error is None
    talk.hear("D0", 1)
    assert isinstance(talk.recovery.error, VolumeRolledBack)


def test_the_known_vdl_itself_is_enough() -> None:
    assert three_know_of(21).recovery.plan is not None


def test_nothing_is_above_the_mark_of_who_is_lost() -> None:
    assert Mark(VolumeEpoch(MAX_INTEGER, MAX_INTEGER - 1), MAX_INTEGER) < LOST
    assert LOST.epoch > THIRD
