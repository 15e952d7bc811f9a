"""VCL and VDL over protection groups (2017 §4.1, 2018 §2.3; invariant 3)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora.consistency import VolumeConsistency
from aurora.mtr import PageWrite, VolumeChains
from segments.protocol.errors import InvalidConfig
from segments.protocol.record import RedoRecord
from segments.protocol.volume import pg_of_page
from tests.compute_oracles import last_at, vcl_by_trial, vdl_by_trial


class Volume:
    """A volume of ``pg_count`` groups, with the cores under test and every record ever made."""

    def __init__(self, pg_count: int, history_runs: int = 100, vdl: int = 0) -> None:
        tails = {**dict.fromkeys(range(pg_count), 0), 0: vdl}
        self.base = vdl
        self.pg_count = pg_count
        self.chains = VolumeChains(vdl, tails)
        self.consistency = VolumeConsistency(vdl, tails, history_runs)
        self.records: list[RedoRecord] = []
        self.pgs: dict[int, int] = {}
        self.pgcls = dict.fromkeys(range(pg_count), 0)

    def write(self, *page_ids: int, hole: int = 0) -> None:
        first_lsn = self.chains.last_volume_lsn + 1 + hole
        writes = [PageWrite(page_id, 0, b"x") for page_id in page_ids]
        records = self.chains.chain(
            first_lsn, writes, [self.pg_of(each) for each in page_ids], lambda _: 0
        )
        self.records += records
        self.pgs.update({each.lsn: self.pg_of(each.page_id) for each in records})
        self.consistency.allocated(records, [self.pg_of(each.page_id) for each in records])

    def pg_of(self, page_id: int) -> int:
        return pg_of_page(page_id, self.pg_count)

    def advance(self, pg_id: int, pgcl: int) -> int:
        self.pgcls[pg_id] = max(self.pgcls[pg_id], pgcl)
        return self.consistency.advance(pg_id, pgcl)

    def check(self) -> None:
        vcl = vcl_by_trial(self.records, self.pgs, self.pgcls, self.base)
        assert self.consistency.vcl == vcl
        assert self.consistency.vdl == vdl_by_trial(self.records, vcl, self.base)


def test_vdl_waits_for_the_whole_mtr() -> None:
    """2017 §4.1: the VDL is the highest CPL at or below the VCL."""
    volume = Volume(1)
    volume.write(0, 0, 0)
    assert volume.advance(0, 2) == 0
    assert volume.consistency.vcl == 2
    assert volume.advance(0, 3) == 3


def test_an_idle_group_holds_nothing_up() -> None:
    volume = Volume(2)
    volume.write(0)
    volume.write(0)
    assert volume.advance(0, 2) == 2  # the minimum of the PGCLs is 0


def test_a_fast_group_hides_no_gap_in_another() -> None:
    volume = Volume(2)
    volume.write(0)
    volume.write(1)
    volume.write(0)
    assert volume.advance(0, 3) == 1  # record 2 of group 1 is on no quorum yet
    assert volume.consistency.vcl == 1
    assert volume.advance(1, 2) == 3


def test_an_mtr_over_two_groups_becomes_durable_whole() -> None:
    volume = Volume(2)
    volume.write(1, 0, 1)
    assert volume.advance(1, 3) == 0
    assert volume.consistency.vcl == 1
    assert volume.consistency.durable_tail(1) == 0  # complete, but not yet visible
    assert volume.advance(0, 2) == 3
    assert volume.consistency.durable_tail(1) == 3
    assert volume.consistency.durable_tail(0) == 2


def test_old_pgcls_never_move_anything_back() -> None:
    volume = Volume(1)
    volume.write(0)
    volume.write(0)
    volume.advance(0, 2)
    for pgcl in (2, 1, 0):
        assert volume.consistency.advance(0, pgcl) == volume.consistency.vcl == 2


def test_a_pgcl_beyond_what_was_allocated_is_our_mistake() -> None:
    volume = Volume(2)
    volume.write(0)
    with pytest.raises(AssertionError, match="PGCL 1 of PG 1: expected <= 0"):
        volume.consistency.advance(1, 1)
    with pytest.raises(AssertionError, match="PGCL 2 of PG 0: expected <= 1"):
        volume.consistency.advance(0, 2)
    assert volume.consistency.vdl == 0


def test_only_what_follows_the_last_record_is_taken() -> None:
    volume = Volume(1)
    volume.write(0)
    (record,) = volume.records
    with pytest.raises(AssertionError):
        volume.consistency.allocated([record], [0])
    following = record._replace(lsn=2, mtr_id=2, prev_volume_lsn=1)
    volume.consistency.allocated([following], [0])


def test_a_part_of_an_mtr_is_complete_and_not_durable_before_its_last() -> None:
    volume = Volume(1)
    volume.write(0)
    record = volume.records[0]
    consistency = volume.consistency
    consistency.advance(0, 1)
    parts = [
        record._replace(lsn=lsn, mtr_id=2, prev_volume_lsn=lsn - 1, is_cpl=lsn == 4)
        for lsn in (2, 3, 4)
    ]
    consistency.allocated(parts[:1], [0])
    consistency.allocated(parts[1:2], [0])
    assert consistency.advance(0, 3) == 1
    assert consistency.vcl == 3
    consistency.allocated(parts[2:], [0])
    assert consistency.advance(0, 3) == 1
    assert consistency.advance(0, 4) == 4


def test_a_recovered_volume_opens_at_its_vdl_and_goes_on_above_the_hole() -> None:
    volume = Volume(2, vdl=50)
    assert (volume.consistency.vcl, volume.consistency.vdl) == (50, 50)
    volume.write(1, hole=1000)
    assert volume.consistency.vcl == 50
    assert volume.consistency.required_scl(1, 50) == 0
    assert volume.advance(1, 1051) == 1051
    assert volume.consistency.required_scl(0, 1051) == 50


def test_older_read_points_than_history_fall_back_to_the_read_point_itself() -> None:
    volume = Volume(2, history_runs=2)
    for _ in range(20):
        volume.write(0)
        volume.write(1)
    volume.advance(0, 39)
    volume.advance(1, 40)
    assert volume.consistency.required_scl(0, 2) == 2
    assert volume.consistency.required_scl(0, 40) == volume.consistency.durable_tail(0) == 39
    assert volume.consistency.required_scl(0, 38) == 37  # still in the history
    with pytest.raises(AssertionError):
        volume.consistency.required_scl(0, 41)


def test_a_group_that_has_the_log_to_itself_needs_one_run_of_history() -> None:
    volume = Volume(2)
    for _ in range(50):
        volume.write(0, 0)
    volume.advance(0, 100)
    history = volume.consistency._histories[0]
    assert (history._first_lsns, history._last_lsns) == ([0], [100])


def test_history_is_bounded() -> None:
    volume = Volume(2, history_runs=3)
    for _ in range(50):
        volume.write(0)
        volume.write(1)
        volume.advance(0, volume.chains.last_segment_lsn(0))
        volume.advance(1, volume.chains.last_segment_lsn(1))
        assert len(volume.consistency._histories[0]._first_lsns) <= 6


@pytest.mark.parametrize(("vdl", "tails"), [(5, {0: 4}), (0, {}), (3, {0: 4}), (1, {0: 1, 1: -1})])
def test_an_impossible_beginning_is_refused(vdl: int, tails: dict[int, int]) -> None:
    with pytest.raises(InvalidConfig, match=f"vdl is {vdl}"):
        VolumeConsistency(vdl, tails)
    with pytest.raises(InvalidConfig, match="history_runs is 0"):
        VolumeConsistency(0, {0: 0}, history_runs=0)


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(st.integers(0, 5), min_size=1, max_size=5)),
        st.tuples(st.just("hole"), st.lists(st.integers(0, 5), min_size=1, max_size=2)),
        st.tuples(st.just("advance"), st.lists(st.integers(0, 60), min_size=3, max_size=3)),
    ),
    max_size=25,
)


@settings(max_examples=150)
@given(_steps, st.integers(1, 3), st.sampled_from([0, 7]))
def test_watermarks_are_what_trying_every_lsn_gives(
    steps: list[tuple[str, list[int]]], pg_count: int, base: int
) -> None:
    volume = Volume(pg_count, vdl=base)
    vdls = [base]
    for step, numbers in steps:
        if step == "advance":
            for pg_id, pgcl in zip(range(pg_count), numbers, strict=False):
                tail = volume.chains.last_segment_lsn(pg_id)
                vdls.append(volume.advance(pg_id, min(pgcl, tail)))
        else:
            volume.write(*numbers, hole=9 if step == "hole" else 0)
        volume.check()
    assert vdls == sorted(vdls)


@settings(max_examples=100)
@given(_steps, st.integers(1, 3), st.sampled_from([1, 2, 100]))
def test_required_scl_is_the_last_lsn_of_the_group_or_safely_above(
    steps: list[tuple[str, list[int]]], pg_count: int, history_runs: int
) -> None:
    volume = Volume(pg_count, history_runs)
    for step, numbers in steps:
        if step != "advance":
            volume.write(*numbers, hole=9 if step == "hole" else 0)
    for pg_id in range(pg_count):
        volume.advance(pg_id, volume.chains.last_segment_lsn(pg_id))
    vdl = volume.consistency.vdl
    for pg_id in range(pg_count):
        lsns = [lsn for lsn, pg in volume.pgs.items() if pg == pg_id]
        assert volume.consistency.durable_tail(pg_id) == last_at(lsns, vdl)
        for read_point in range(vdl + 1):
            exact = last_at(lsns, read_point)
            required = volume.consistency.required_scl(pg_id, read_point)
            if history_runs == 100:
                assert required == exact
            assert required in (exact, read_point)
            assert required <= max(lsns, default=0)  # some segment can have reached it
