"""Mini-transactions and the three chains (2018 §2.2)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora.mtr import MiniTransaction, PageWrite, VolumeChains
from segments.protocol.errors import Invalid, InvalidConfig, InvalidPage, InvalidWrite
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import encode_run, read_records
from segments.protocol.volume import pg_of_page
from tests.compute_oracles import chained_by_search


def test_writes_are_kept_in_order() -> None:
    mtr = MiniTransaction(3, 1 << 20)
    mtr.write(5, 0, b"a")
    mtr.write(4, 8191, b"b")
    mtr.write(5, 0, b"c")
    assert len(mtr) == 3
    assert mtr.end() == [PageWrite(5, 0, b"a"), PageWrite(4, 8191, b"b"), PageWrite(5, 0, b"c")]


@pytest.mark.parametrize(
    ("page_id", "offset", "data"),
    [
        (-1, 0, b"x"),
        ("1", 0, b"x"),
        (True, 0, b"x"),
        (2**63, 0, b"x"),
        (1, -1, b"x"),
        (1, 1.0, b"x"),
        (1, PAGE_SIZE, b"x"),
        (1, PAGE_SIZE - 1, b"xy"),
        (1, 0, b""),
        (1, 0, "x"),
    ],
)
def test_a_write_that_does_not_fit_is_refused_at_once(page_id: Any, offset: Any, data: Any) -> None:
    mtr = MiniTransaction(2, 1 << 20)
    mtr.write(1, 0, b"before")
    with pytest.raises((InvalidPage, InvalidWrite)):
        mtr.write(page_id, offset, data)
    mtr.write(1, 0, b"after")
    assert mtr.end() == [PageWrite(1, 0, b"before"), PageWrite(1, 0, b"after")]


def test_the_number_of_writes_is_bounded() -> None:
    mtr = MiniTransaction(1, 1 << 20)
    mtr.write(1, 0, b"x")
    with pytest.raises(InvalidWrite, match="write 2 of a mini-transaction: expected at most 1"):
        mtr.write(1, 0, b"y")
    assert mtr.end() == [PageWrite(1, 0, b"x")]
    with pytest.raises(InvalidConfig, match="max_writes is 0"):
        MiniTransaction(0, 1 << 20)


def test_nothing_happens_after_the_end() -> None:
    mtr = MiniTransaction(9, 1 << 20)
    assert not mtr.ended
    mtr.end()
    assert mtr.ended
    with pytest.raises(Invalid, match="has ended"):
        mtr.write(1, 0, b"x")
    with pytest.raises(Invalid, match="has ended"):
        mtr.end()
    assert len(mtr) == 0


def test_two_writes_of_one_mtr_on_one_page_chain_to_each_other() -> None:
    chains = VolumeChains(10, {0: 10})
    writes = [PageWrite(1, 0, b"a"), PageWrite(2, 0, b"b"), PageWrite(1, 0, b"c")]
    first, second, third = chains.chain(20, writes, [0, 0, 0], {1: 7, 2: 0}.get)
    assert (first.prev_page_lsn, second.prev_page_lsn, third.prev_page_lsn) == (7, 0, 20)
    assert (first.prev_segment_lsn, second.prev_segment_lsn, third.prev_segment_lsn) == (10, 20, 21)
    assert (first.prev_volume_lsn, second.prev_volume_lsn, third.prev_volume_lsn) == (10, 20, 21)
    assert [each.is_cpl for each in (first, second, third)] == [False, False, True]
    assert {each.mtr_id for each in (first, second, third)} == {20}


def test_each_group_has_its_own_chain() -> None:
    chains = VolumeChains(4, {0: 4, 1: 3})
    writes = [PageWrite(page_id, 0, b"x") for page_id in (1, 0, 1)]
    records = chains.chain(5, writes, [1, 0, 1], lambda page_id: 0)
    assert [each.prev_segment_lsn for each in records] == [3, 4, 5]
    assert chains.last_volume_lsn == chains.last_segment_lsn(1) == 7
    assert chains.last_segment_lsn(0) == 6


def test_our_own_mistakes_leave_the_chains_alone() -> None:
    chains = VolumeChains(4, {0: 4})
    write = PageWrite(1, 0, b"x")
    cases: list[tuple[int, list[PageWrite], int | None]] = [
        (4, [write], 0),  # an LSN that exists
        (5, [], 0),
        (5, [write], None),  # a page that is not in the pool
    ]
    for first_lsn, writes, head in cases:
        with pytest.raises(AssertionError):
            chains.chain(first_lsn, writes, [0] * len(writes), {1: head}.get)
        assert chains.last_volume_lsn == chains.last_segment_lsn(0) == 4


@pytest.mark.parametrize(("last", "tails"), [(5, {0: 4}), (3, {0: 4}), (4, {0: 4, 1: -1})])
def test_heads_that_contradict_each_other_are_refused(last: int, tails: dict[int, int]) -> None:
    with pytest.raises(InvalidConfig, match="last_volume_lsn"):
        VolumeChains(last, tails)


_mtrs = st.lists(
    st.tuples(
        st.integers(0, 20),  # a hole in the LSNs before it
        st.lists(st.integers(0, 6), min_size=1, max_size=6),
    ),
    max_size=8,
)


@settings(max_examples=60)
@given(_mtrs, st.integers(1, 3))
def test_chains_match_a_search_through_everything(
    mtrs: list[tuple[int, list[int]]], pg_count: int
) -> None:
    """2018 §2.2: each record links to the one before it in its volume, its group and its page."""
    chains = VolumeChains(0, dict.fromkeys(range(pg_count), 0))
    heads: dict[int, int] = {}
    everything: list[RedoRecord] = []
    for hole, page_ids in mtrs:
        first_lsn = chains.last_volume_lsn + 1 + hole
        writes = [PageWrite(page_id, page_id, b"x") for page_id in page_ids]
        records = chains.chain(
            first_lsn,
            writes,
            [pg_of_page(page, pg_count) for page in page_ids],
            lambda page: heads.get(page, 0),
        )
        assert records == chained_by_search(everything, writes, first_lsn, pg_count)
        heads.update({each.page_id: each.lsn for each in records})
        everything += records
    # What is chained is also what a run lets through.
    for pg_id in range(pg_count):
        chain = [each for each in everything if pg_of_page(each.page_id, pg_count) == pg_id]
        assert read_records(encode_run(chain)) == chain
