"""The chain index against a dumb model: a bag of records, searched link by link."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.chain_index import ChainIndex
from segments.protocol.errors import NotFound
from segments.protocol.ids import Lsn, VolumeEpoch
from segments.protocol.record import RECORD_OVERHEAD_BYTES, RedoRecord
from segments.protocol.run import RUN_HEAD_BYTES, encode_run
from segments.protocol.truncation import TruncationRange, TruncationTable
from tests.oracles import chained, naive_scl


def history(count: int, *, pages: int = 3, gap: int = 1, first: Lsn = 1) -> list[RedoRecord]:
    lsns = range(first, first + count * gap, gap)
    return chained([(lsn, lsn % pages, lsn % 8000, b"%d" % lsn) for lsn in lsns])


def filled(records: list[RedoRecord], *, max_unlinked: int = 1000) -> ChainIndex:
    index = ChainIndex(max_unlinked=max_unlinked)
    index.insert(records)
    return index


def most_encoded(records: Iterable[RedoRecord]) -> int:
    return sum(len(each.payload) + RECORD_OVERHEAD_BYTES for each in records)


def snapshot(index: ChainIndex) -> object:
    heads = [(page_id, index.page_head(page_id, index.scl)) for page_id in index.pages()]
    return index.base_lsn, index.scl, index.held(), heads, index.encoded_bytes()


def table(*ranges: tuple[Lsn, Lsn]) -> TruncationTable:
    epoch = VolumeEpoch(2, 1)
    return TruncationTable(epoch, tuple(TruncationRange(*each, epoch) for each in ranges))


class Model:
    """What the index must hold, kept as plainly as can be."""

    def __init__(self) -> None:
        self.base: Lsn = 0
        self.held: dict[Lsn, RedoRecord] = {}

    @property
    def scl(self) -> Lsn:
        return naive_scl(self.held.values(), self.base)

    @property
    def linked(self) -> list[RedoRecord]:
        return [self.held[lsn] for lsn in sorted(self.held) if lsn <= self.scl]

    def keep_if(self, wanted: set[Lsn]) -> None:
        self.held = {lsn: record for lsn, record in self.held.items() if lsn in wanted}

    def check(self, index: ChainIndex) -> None:
        linked, lsns = self.linked, sorted(self.held)
        above = [lsn for lsn in lsns if lsn > self.scl]
        assert (index.base_lsn, index.scl) == (self.base, self.scl)
        assert index.held() == [self.held[lsn] for lsn in lsns]
        pieces = list(index.held_in_runs(3, 2 * (RECORD_OVERHEAD_BYTES + 9)))
        assert [record for run in pieces for record in run] == index.held()
        assert all(0 < len(run) <= 3 for run in pieces)
        assert (len(index), index.unlinked) == (len(lsns), len(above))
        assert index.highest_lsn == max([*lsns, self.base])
        assert index.encoded_bytes() == most_encoded(self.held.values())
        assert index.records_after(self.base, 10**9) == linked
        assert index.pages() == sorted({record.page_id for record in linked})
        runs = [(below, lsn) for below, lsn in pairwise([self.scl, *above])]
        gaps = [(a + 1, b) for a, b in runs if self.held[b].prev_segment_lsn != a]
        assert index.missing_ranges() == gaps
        for read_point in [0, *lsns, *(lsn - 1 for lsn in lsns), 10**9]:
            for page_id in range(4):
                mine = [each.lsn for each in linked if each.page_id == page_id]
                expected = max([lsn for lsn in mine if lsn <= read_point], default=0)
                assert index.page_head(page_id, read_point) == expected


@settings(max_examples=150)
@given(st.data())
def test_any_order_of_deliveries_truncations_and_collections(data: st.DataObject) -> None:
    """2018 §2.2: whatever comes when, the backlinks tell the SCL and the gaps."""
    draw = random.Random(data.draw(st.integers(0, 2**32), label="seed"))
    index, model = ChainIndex(max_unlinked=10_000), Model()
    written = history(draw.randint(1, 30), gap=draw.choice([1, 7]))
    for _ in range(draw.randint(1, 12)):
        action = draw.choice(["insert"] * 5 + ["truncate", "collect", "reset"])
        if action == "insert":
            start = draw.randrange(len(written))
            batch = written[start : start + draw.randint(1, 12)]
            if draw.random() < 0.5:
                batch = [draw.choice(batch) for _ in batch]
            new = {each.lsn: each for each in batch if each.lsn > model.base}
            count = len(new.keys() - model.held.keys())
            model.held |= new
            assert index.insert(batch) == count
        elif action == "truncate":
            vdl = draw.choice(
                [model.base, *(each.lsn for each in written if each.lsn > model.base)]
            )
            end = written[-1].lsn + draw.choice([2, 10_000_000])
            survivors = [record for record in written if record.lsn <= vdl]
            count = len(model.held)
            model.keep_if({each.lsn for each in survivors})
            assert index.truncate(table((vdl + 1, end))) == count - len(model.held)
            writes = [(end + 3 * n, n % 4, 0, b"anew") for n in range(draw.randint(1, 15))]
            written = survivors + chained(writes, after=survivors)
        elif action == "collect":
            up_to = draw.randint(0, model.scl + 2)
            removed = [record for record in model.linked if record.lsn <= up_to]
            assert index.collect(up_to) == removed
            model.base = removed[-1].lsn if removed else model.base
            model.keep_if({lsn for lsn in model.held if lsn > model.base})
        else:
            model.base = draw.choice([model.base, *(e.lsn for e in written if e.lsn > model.base)])
            index.reset(model.base)
            model.keep_if({lsn for lsn in model.held if lsn > model.base})
        model.check(index)


def test_a_batch_in_order_and_one_record_at_a_time_end_alike() -> None:
    records = history(50)
    one_by_one = ChainIndex(max_unlinked=0)
    assert sum(one_by_one.insert([record]) for record in records) == 50
    assert snapshot(one_by_one) == snapshot(filled(records))
    assert records[0].lsn in one_by_one
    assert one_by_one.get(50) == records[-1]
    assert 51 not in one_by_one
    assert one_by_one.get(51) is None


def test_an_empty_batch_changes_nothing() -> None:
    index = filled(history(3))
    before = snapshot(index)
    assert index.insert([]) == 0
    assert snapshot(index) == before


def test_what_waits_above_a_gap_is_bounded_and_the_nearest_stay() -> None:
    records = history(30)
    index = ChainIndex(max_unlinked=5)
    assert index.insert(records[20:]) == 5
    assert [each.lsn for each in index.held()] == [21, 22, 23, 24, 25]
    assert index.insert(records[10:13]) == 3
    assert [each.lsn for each in index.held()] == [11, 12, 13, 21, 22]
    assert index.insert(records[25:]) == 0
    assert index.missing_ranges() == [(1, 11), (14, 21)]
    assert index.insert(records[:10]) == 10
    assert (index.scl, index.unlinked) == (13, 2)
    assert index.encoded_bytes() == most_encoded(index.held())


@pytest.mark.parametrize(
    "rival",
    [
        pytest.param((3, 2), id="a linked record with other content"),
        pytest.param((8, 7), id="an unlinked record with other content"),
        pytest.param((5, 3), id="a sibling of a linked record"),
        pytest.param((6, 2), id="a sibling that reaches above the SCL"),
        pytest.param((9, 7), id="a sibling of an unlinked record"),
        pytest.param((10, 6), id="one that leaves unlinked records out"),
    ],
)
def test_a_contradicting_record_is_refused_and_counted(rival: tuple[Lsn, Lsn]) -> None:
    lsn, prev = rival
    index = filled([each for each in history(8) if each.lsn not in (5, 6)])
    refuses(index, lsn, prev)


@pytest.mark.parametrize("rival", [(7, 4), (7, 5), (7, 6), (9, 7)])
def test_where_a_held_record_leaves_no_room_none_is_taken(rival: tuple[Lsn, Lsn]) -> None:
    lsn, prev = rival
    refuses(filled([*history(4), history(8)[7]._replace(prev_segment_lsn=5)]), lsn, prev)


def refuses(index: ChainIndex, lsn: Lsn, prev: Lsn) -> None:
    before = snapshot(index)
    record = RedoRecord(lsn, 0, 0, b"rival", lsn, True, lsn - 1, prev, 0)
    assert index.insert([record]) == 0
    assert snapshot(index) == before


def test_of_two_contradicting_records_in_a_batch_the_first_stays() -> None:
    first, second = history(1)[0], history(1)[0]._replace(payload=b"other")
    index = ChainIndex(max_unlinked=10)
    assert index.insert([first, second]) == 1
    assert index.get(1) == first


def test_a_batch_that_fills_its_own_gaps_is_taken_whole() -> None:
    index = ChainIndex(max_unlinked=2)
    assert index.insert(history(50)[::-1]) == 50
    assert index.scl == 50


def test_records_after_keeps_to_the_limit_but_gives_at_least_one() -> None:
    huge = 2**63 - 10**6
    records = history(20, first=huge)
    index = filled(records)
    assert index.records_after(0, 1) == records[:1]
    assert index.records_after(records[4].lsn, 1) == records[5:6]
    assert index.records_after(records[4].lsn, 10**6) == records[5:]
    assert index.records_after(index.scl, 10**6) == []
    assert index.records_after(index.scl + 5, 10**6) == []
    for limit in range(100, 2000, 50):
        found = index.records_after(0, limit)
        assert len(encode_run(found)) - RUN_HEAD_BYTES <= limit
        assert found == records[: len(found)]


def test_records_that_have_left_the_log_cannot_be_had() -> None:
    index = filled(history(10))
    index.collect(4)
    with pytest.raises(NotFound, match=r"after 3 .* >= 4"):
        index.records_after(3, 100)
    assert [each.lsn for each in index.records_after(4, 10**6)] == [5, 6, 7, 8, 9, 10]


def test_only_linked_records_can_be_seen() -> None:
    records = history(10, pages=1)
    index = filled(records[:4] + records[6:])
    assert index.page_head(0, 10) == 4
    assert index.records_after(0, 10**6) == records[:4]
    assert index.collect(10) == records[:4]
    assert (index.base_lsn, index.scl, index.unlinked) == (4, 4, 4)


def test_truncation_drops_linked_and_unlinked_records_and_the_chain_goes_on_elsewhere() -> None:
    records = history(10)
    index = filled(records[:7] + records[8:])
    assert index.truncate(table((5, 1000))) == 5
    assert (index.scl, index.highest_lsn, index.pages()) == (4, 4, [0, 1, 2])
    assert index.insert(chained([(1000, 0, 0, b"a"), (1001, 1, 0, b"b")], after=records[:4])) == 2
    assert index.scl == 1001
    assert index.truncate(table((5, 1000))) == 0
    assert index.scl == 1001


def test_truncation_keeps_unlinked_records_that_no_range_covers() -> None:
    records = history(10)
    after = chained([(1000, 0, 0, b"a"), (1001, 1, 0, b"b")], after=records[:4])
    index = filled([*records[:3], *records[5:8], after[1]])
    assert index.truncate(table((5, 1000))) == 3
    assert [each.lsn for each in index.held()] == [1, 2, 3, 1001]
    assert index.insert([after[0], records[3]]) == 2
    assert index.scl == 1001


def test_the_base_is_never_annulled_nor_moved_back() -> None:
    index = filled(history(10))
    index.collect(6)
    with pytest.raises(AssertionError):
        index.truncate(table((6, 100)))
    with pytest.raises(AssertionError):
        index.reset(5)
    assert (index.base_lsn, index.scl, len(index)) == (6, 10, 4)


def test_reset_beyond_the_scl_links_what_waited() -> None:
    records = history(20)
    index = filled(records[:5] + records[12:])
    index.reset(12)
    assert (index.base_lsn, index.scl, index.unlinked) == (12, 20, 0)
    index.reset(30)
    assert (index.base_lsn, index.scl, len(index), index.pages()) == (30, 30, 0, [])
