"""What is annulled, and LSNs counted past it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.protocol.ids import Lsn, VolumeEpoch
from segments.protocol.truncation import TruncationRange, TruncationTable

_EDGES = st.lists(st.integers(1, 60), unique=True, max_size=12).map(sorted)


@given(_EDGES, st.integers(1, 70), st.integers(0, 80))
def test_annulled_lsns_are_not_counted_on_the_way_back(
    edges: list[int], lsn: int, count: int
) -> None:
    ranges = [TruncationRange(*pair) for pair in zip(edges[::2], edges[1::2], strict=False)]
    apart = [each for each in ranges if each.start_lsn not in {one.end_lsn for one in ranges}]
    table = TruncationTable(VolumeEpoch(2, 1), tuple(apart))
    real = [0, *(each for each in range(1, 71) if not table.annuls(each))]
    if lsn not in real:
        return
    before = [each for each in real if each <= lsn]
    behind = table.lsn_behind(lsn, count)
    assert behind == (before[-1 - count] if count < len(before) else 0)


@pytest.mark.parametrize(
    ("lsn", "survivor"), [(0, 0), (100, 100), (101, 100), (200, 100), (201, 201), (999, 999)]
)
def test_of_an_annulled_lsn_what_lies_before_its_range_is_left(lsn: Lsn, survivor: Lsn) -> None:
    table = TruncationTable(VolumeEpoch(2, 1), (TruncationRange(101, 201),))
    assert table.survivor(lsn) == survivor
