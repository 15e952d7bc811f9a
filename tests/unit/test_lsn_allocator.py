"""LSNs are unique, contiguous per MTR, and never above the limit (invariants 1 and 12)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.lsn_allocator import LsnAllocator
from segments.protocol.errors import InvalidConfig, InvalidWrite
from segments.protocol.volume import DEFAULT_LAL


def test_a_fresh_volume_begins_at_one() -> None:
    allocator = LsnAllocator(1, DEFAULT_LAL)
    assert allocator.last_allocated == 0
    assert allocator.allocate(3, vdl=0) == 1
    assert allocator.allocate(1, vdl=0) == 4
    assert allocator.last_allocated == 4


def test_the_limit_is_inclusive_and_moves_with_the_vdl() -> None:
    """2017 §4.2.1: no LSN is above the VDL by more than the LAL."""
    allocator = LsnAllocator(1, 10)
    assert allocator.limit(0) == 10
    assert allocator.can_allocate(10, vdl=0)
    allocator.allocate(10, vdl=0)
    assert not allocator.can_allocate(1, vdl=0)
    assert allocator.can_allocate(5, vdl=5)
    assert not allocator.can_allocate(6, vdl=5)


def test_after_a_recovery_the_limit_counts_from_the_annulled_range() -> None:
    # The range ends far above the VDL; the LSNs after it must be usable nevertheless (§7, step 6).
    allocator = LsnAllocator(101, 10, last_annulled_lsn=100)
    assert allocator.limit(20) == 110
    assert allocator.allocate(10, vdl=20) == 101
    assert not allocator.can_allocate(1, vdl=20)
    assert allocator.limit(105) == 115


def test_all_or_nothing() -> None:
    allocator = LsnAllocator(1, 10)
    allocator.allocate(8, vdl=0)
    with pytest.raises(AssertionError, match="3 LSNs after 8: expected to end by 10"):
        allocator.allocate(3, vdl=0)
    assert allocator.last_allocated == 8
    assert allocator.allocate(2, vdl=0) == 9


@pytest.mark.parametrize("count", [0, -1, 11])
def test_an_mtr_that_can_never_fit_is_an_error_at_once(count: int) -> None:
    allocator = LsnAllocator(1, 10)
    with pytest.raises(InvalidWrite, match=f"MTR of {count} records: expected 1 to 10"):
        allocator.can_allocate(count, vdl=1_000)
    with pytest.raises(InvalidWrite):
        allocator.allocate(count, vdl=1_000)
    assert allocator.last_allocated == 0


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="lal is 0"):
        LsnAllocator(1, 0)
    with pytest.raises(InvalidConfig, match="next_lsn is 100: expected above 100"):
        LsnAllocator(100, 10, last_annulled_lsn=100)
    with pytest.raises(InvalidConfig, match="next_lsn is 0"):
        LsnAllocator(0, 10)


@given(st.data(), st.integers(1, 30), st.integers(0, 50))
def test_no_lsn_twice_none_above_the_limit_none_annulled(
    data: st.DataObject, lal: int, annulled: int
) -> None:
    allocator = LsnAllocator(annulled + 1, lal, annulled)
    given_out: list[int] = []
    vdl = 0
    for count in data.draw(st.lists(st.integers(1, 12), max_size=20)):
        vdl = data.draw(st.integers(vdl, allocator.last_allocated))
        if count > lal or not allocator.can_allocate(count, vdl):
            continue
        first = allocator.allocate(count, vdl)
        given_out.extend(range(first, first + count))
        assert given_out[-1] == allocator.last_allocated <= max(vdl, annulled) + lal
    assert given_out == list(range(annulled + 1, annulled + 1 + len(given_out)))
