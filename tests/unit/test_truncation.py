"""What is annulled, what may be forgotten of it, and LSNs counted past both."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.protocol.ids import NO_EPOCH, Lsn, VolumeEpoch
from segments.protocol.truncation import (
    Gap,
    TruncationRange,
    TruncationTable,
    retention_slack,
)

_EDGES = st.lists(st.integers(1, 60), unique=True, max_size=12).map(sorted)
_SECOND = VolumeEpoch(2, 1)
_FORMATTED = TruncationTable(VolumeEpoch(1, 1))


@given(_EDGES, st.integers(1, 70), st.integers(0, 80))
def test_annulled_lsns_are_not_counted_on_the_way_back(
    edges: list[int], lsn: int, count: int
) -> None:
    pairs = [*zip(edges[::2], edges[1::2], strict=False)]
    ends = {end for _, end in pairs}
    ranges = [TruncationRange(*each, _SECOND) for each in pairs if each[0] not in ends]
    table = TruncationTable(_SECOND, tuple(ranges))
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
    table = TruncationTable(_SECOND, (TruncationRange(101, 201, _SECOND),))
    assert table.survivor(lsn) == survivor


# ---- tables that forget --------------------------------------------------------------------------


@attrs.define
class Volume:
    """A row of recoveries, with a table that forgets beside one that never does."""

    retention: int | None
    table: TruncationTable = attrs.field(default=_FORMATTED)
    full: TruncationTable = attrs.field(default=_FORMATTED)
    vdl: Lsn = 0
    recoveries: list[VolumeEpoch] = attrs.field(factory=list)

    def recover(self, written: int, annulled: int) -> None:
        """A writer makes so many records durable, and its successor annuls so many LSNs."""
        last = self.full.last_annulled_lsn
        if written:
            self.vdl = max(self.vdl, last) + written
        end = max(self.vdl, last) + annulled
        epoch = VolumeEpoch(self.table.epoch.counter + 1, 1)
        self.table = self.table.without_settled(self.vdl, self.retention).extended(
            epoch, self.vdl, end
        )
        self.full = self.full.extended(epoch, self.vdl, end)
        self.recoveries.append(epoch)

    def settle(self) -> None:
        self.table = self.table.with_settled(self.table.epoch)

    def live(self, lsn: Lsn) -> list[Lsn]:
        return [each for each in range(lsn + 1, self.vdl + 1) if not self.full.annuls(each)]


_STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), st.booleans()), max_size=40)


@given(_STEPS, st.one_of(st.none(), st.integers(0, 80)), st.integers(0, 4))
def test_a_table_keeps_what_is_not_settled_and_counts_past_the_rest(
    steps: list[tuple[int, int, bool]], retention: int | None, written: int
) -> None:
    volume = Volume(retention)
    settled = NO_EPOCH
    for count, annulled, settles in steps:
        volume.recover(count, annulled)
        table, full = volume.table, volume.full
        assert table.ranges[-1] == (*full.ranges[-1][:2], table.epoch) or settled != NO_EPOCH
        assert table.last_annulled_lsn == full.last_annulled_lsn
        needed = [epoch for epoch in volume.recoveries if epoch > settled]
        assert len(table.ranges) <= len(needed)
        newest = {lsn for start, end, _ in table.ranges for lsn in range(start, end)}
        assert all(full.annuls(lsn) for lsn in newest)
        if settles:
            volume.settle()
            settled = table.epoch
        if retention is None:
            continue
        # As the writer does it whose recovery that was, when it has written a little.
        vdl = volume.vdl
        if written:
            volume.vdl = full.last_annulled_lsn + written
        floor = table.lsn_behind(volume.vdl, retention)
        kept, total = len(volume.live(floor)), len(volume.live(0))
        assert min(retention, total) <= kept <= retention + retention_slack(retention)
        volume.vdl = vdl


@given(_STEPS)
def test_whatever_is_not_settled_stays_annulled(steps: list[tuple[int, int, bool]]) -> None:
    volume = Volume(None)
    since: set[Lsn] = set()
    for count, annulled, settles in steps:
        before = volume.full
        volume.recover(count, annulled)
        new = range(volume.vdl + 1, volume.full.last_annulled_lsn + 1)
        since |= {lsn for lsn in new if not before.annuls(lsn)}
        assert all(volume.table.annuls(lsn) for lsn in since)
        if settles:
            volume.settle()
            since = set()


@pytest.mark.parametrize("retention", [0, 7, 160, 16_384, None])
@pytest.mark.parametrize("written", [0, 1, 3, 50])
def test_a_table_does_not_grow(retention: int | None, written: int) -> None:
    """Writer after writer, and all members hear each of them."""
    volume = Volume(retention)
    for _ in range(300):
        volume.recover(written, 1_000)
        volume.settle()
    assert len(volume.table.ranges) == 1
    assert len(volume.table.gaps) <= (retention if retention and retention < 33 else 34)


def test_ranges_stay_while_one_member_is_away() -> None:
    volume = Volume(0)
    for turn in range(5):
        volume.recover(1, 10)
        assert len(volume.table.ranges) == turn + 1
    volume.settle()
    volume.recover(1, 10)
    assert len(volume.table.ranges) == 1


def test_a_gap_ends_where_a_recovery_opens_below_it() -> None:
    """What it found above was lost again: the gap would be counted twice, as a gap and a range."""
    first = TruncationTable(VolumeEpoch(3, 1)).extended(VolumeEpoch(4, 1), 24, 44)
    settled = first.with_settled(VolumeEpoch(4, 1))
    above = settled.without_settled(47, 3).extended(VolumeEpoch(5, 1), 47, 67)
    assert above.gaps == (Gap(25, 45, 0),)
    below = above.without_settled(24, 3).extended(VolumeEpoch(6, 1), 24, 87)
    assert below.gaps == ()
    assert below.lsn_behind(90, 3) == 24, "LSNs 88 to 90"
