"""Quorums and the PGCL (2017 §2.1, 2018 §2.3)."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora.quorum import QuorumModel, QuorumTracker
from segments.protocol.errors import InvalidConfig
from segments.protocol.ids import VolumeEpoch
from segments.protocol.volume import standard_members
from tests.compute_oracles import pgcl_by_sorting

MEMBERS = standard_members(0)
EPOCH = VolumeEpoch(3, 1)


def tracker() -> QuorumTracker:
    return QuorumTracker(QuorumModel(MEMBERS), EPOCH)


def test_every_read_quorum_meets_every_write_quorum_and_any_two_write_quorums_meet() -> None:
    """2017 §2.1: 4 of 6 to write, 3 of 6 to read, so that each quorum meets every write quorum."""
    model = QuorumModel(MEMBERS)
    subsets = [set(each) for size in range(7) for each in combinations(MEMBERS, size)]
    writes = [each for each in subsets if model.has_write(each)]
    reads = [each for each in subsets if model.has_read(each)]
    assert min(len(each) for each in writes) == 4
    assert min(len(each) for each in reads) == 3
    assert all(one & other for one in writes for other in writes + reads)


def test_strangers_have_no_vote() -> None:
    model = QuorumModel(MEMBERS)
    assert not model.has_write(["A0", "B0", "C0", "A1", "G0"])
    assert not model.has_read(["A0", "B0", "B1"])


@pytest.mark.parametrize(
    ("write", "read"), [(3, 3), (4, 2), (3, 4), (7, 3), (4, 7), (0, 6), (6, 0), (-4, 3)]
)
def test_quorums_that_could_miss_each_other_are_refused(write: int, read: int) -> None:
    with pytest.raises(InvalidConfig):
        QuorumModel(MEMBERS, write, read)


def test_a_member_counts_once() -> None:
    with pytest.raises(InvalidConfig, match="different"):
        QuorumModel(("A0", "A0", "B0"), 2, 2)


def test_pgcl_is_the_fourth_highest() -> None:
    """2018 §2.3: the PGCL is what a write quorum of the group has reached."""
    group = tracker()
    for segment, scl in zip(MEMBERS, (60, 50, 40), strict=False):
        assert group.observe_scl(segment, EPOCH, scl) == 0  # three copies are not enough
    assert group.observe_scl("D0", EPOCH, 30) == 30
    assert group.observe_scl("E0", EPOCH, 35) == 35
    assert group.observe_scl("F0", EPOCH, 99) == 40
    assert group.pgcl == 40
    assert group.scls == dict(zip(MEMBERS, (60, 50, 40, 30, 35, 99), strict=True))


def test_other_epochs_and_strangers_do_not_count() -> None:
    group = tracker()
    for segment in MEMBERS:
        group.observe_scl(segment, EPOCH, 10)
    for epoch in (VolumeEpoch(2, 9), VolumeEpoch(3, 0), VolumeEpoch(3, 2), VolumeEpoch(4, 1)):
        for segment in MEMBERS:
            assert group.observe_scl(segment, epoch, 1000) == 10
    for segment in ("G0", "A1", ""):
        assert group.observe_scl(segment, EPOCH, 1000) == 10
    assert list(group.scls) == list(MEMBERS)


def test_late_and_repeated_acknowledgements_change_nothing() -> None:
    group = tracker()
    for segment in MEMBERS[:4]:
        group.observe_scl(segment, EPOCH, 10)
    for scl in (10, 9, 0):
        for segment in MEMBERS[:4]:
            assert group.observe_scl(segment, EPOCH, scl) == 10
    assert [group.scls[segment] for segment in MEMBERS] == [10, 10, 10, 10, 0, 0]


_acks = st.lists(
    st.tuples(
        st.sampled_from([*MEMBERS, "X0"]),
        st.sampled_from([EPOCH, EPOCH, EPOCH, VolumeEpoch(2, 1), VolumeEpoch(4, 1)]),
        st.integers(0, 30),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(_acks)
def test_pgcl_is_what_sorting_the_highest_scls_gives(
    acks: list[tuple[str, VolumeEpoch, int]],
) -> None:
    group = tracker()
    highest = dict.fromkeys(MEMBERS, 0)
    before = 0
    for segment, epoch, scl in acks:
        if epoch == EPOCH and segment in highest:
            highest[segment] = max(highest[segment], scl)
        pgcl = group.observe_scl(segment, epoch, scl)
        assert pgcl == group.pgcl == pgcl_by_sorting(highest, 4)
        assert pgcl >= before
        before = pgcl


@given(_acks)
def test_the_order_of_acknowledgements_does_not_matter(
    acks: list[tuple[str, VolumeEpoch, int]],
) -> None:
    one, other = tracker(), tracker()
    for ack in acks:
        one.observe_scl(*ack)
    for ack in sorted([*acks, *acks], key=repr):
        other.observe_scl(*ack)
    assert (one.pgcl, one.scls) == (other.pgcl, other.scls)


@pytest.mark.parametrize(("votes", "write", "read"), [(1, 1, 1), (3, 2, 2), (4, 3, 2)])
def test_other_models_count_their_own_way(votes: int, write: int, read: int) -> None:
    members = MEMBERS[:votes]
    group = QuorumTracker(QuorumModel(members, write, read), EPOCH)
    for index, segment in enumerate(members):
        group.observe_scl(segment, EPOCH, 10 + index)
    assert group.pgcl == 10 + votes - write
