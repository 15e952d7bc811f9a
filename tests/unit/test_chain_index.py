"""The chain index against a dumb model: a bag of records, searched link by link."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segments import linked_runs
from segments.chain_index import ChainIndex
from segments.protocol.errors import MalformedMessage, NotFound
from segments.protocol.ids import Lsn, VolumeEpoch
from segments.protocol.record import RECORD_OVERHEAD_BYTES, RedoRecord
from segments.protocol.run import (
    NO_RECORDS,
    RUN_HEAD_BYTES,
    Rows,
    Run,
    encode_rows,
    encode_run,
    join_rows,
    read_records,
    read_run,
)
from segments.protocol.truncation import TruncationRange, TruncationTable
from tests.oracles import chained, encoded_size, insert, naive_scl, runs_of


def history(count: int, *, pages: int = 3, gap: int = 1, first: Lsn = 1) -> list[RedoRecord]:
    lsns = range(first, first + count * gap, gap)
    return chained([(lsn, lsn % pages, lsn % 8000, b"%d" % lsn) for lsn in lsns])


def filled(records: list[RedoRecord], *, max_unlinked: int = 1000) -> ChainIndex:
    index = ChainIndex(max_unlinked=max_unlinked)
    insert(index, records)
    return index


def lsns_after(index: ChainIndex, lsn: Lsn, limit_bytes: int = 10**6) -> list[Lsn]:
    return [each.lsn for each in read_records(index.runs_after(lsn, limit_bytes))]


def snapshot(index: ChainIndex) -> object:
    heads = [(page_id, index.page_head(page_id, index.scl)) for page_id in index.pages()]
    return index.base_lsn, index.scl, index.held(), heads, index.encoded_bytes()


def table(*ranges: tuple[Lsn, Lsn]) -> TruncationTable:
    epoch = VolumeEpoch(2, 1)
    return TruncationTable(epoch, tuple(TruncationRange(*each, epoch) for each in ranges))


class Model:
    """What the index must hold, kept as plainly as can be."""

    def __init__(self, max_unlinked: int) -> None:
        self.base: Lsn = 0
        self.held: dict[Lsn, RedoRecord] = {}
        self.max_unlinked = max_unlinked

    @property
    def scl(self) -> Lsn:
        return naive_scl(self.held.values(), self.base)

    @property
    def linked(self) -> list[RedoRecord]:
        return [self.held[lsn] for lsn in sorted(self.held) if lsn <= self.scl]

    def keep_if(self, wanted: set[Lsn]) -> None:
        self.held = {lsn: record for lsn, record in self.held.items() if lsn in wanted}

    def covers(self, lsn: Lsn) -> bool:
        held = self.held.values()
        return lsn <= self.base or any(e.prev_segment_lsn < lsn <= e.lsn for e in held)

    def insert(self, run: Run) -> None:
        """A run must have a record wherever what is held begins or ends beneath it."""
        ends = {self.base}.union(*((e.prev_segment_lsn, e.lsn) for e in self.held.values()))
        inside = [lsn for lsn in ends if run.prev_lsn < lsn < run.last_lsn]
        edges = {lsn for lsn in inside if self.covers(lsn) != self.covers(lsn + 1)}
        if edges <= set(run.lsns):
            self.held |= {each.lsn: each for each in run.records() if not self.covers(each.lsn)}
        waiting = sorted(lsn for lsn in self.held if lsn > self.scl)
        self.keep_if(set(self.held) - set(waiting[self.max_unlinked :]))

    def check(self, index: ChainIndex, draw: random.Random) -> None:
        linked, lsns = self.linked, sorted(self.held)
        above = [lsn for lsn in lsns if lsn > self.scl]
        assert (index.base_lsn, index.scl) == (self.base, self.scl)
        assert index.held() == [self.held[lsn] for lsn in lsns]
        limit = 2 * (RECORD_OVERHEAD_BYTES + 17)
        pieces = [read_records(run) for run in index.waiting_runs(limit)]
        assert [record for run in pieces for record in run] == [self.held[lsn] for lsn in above]
        assert all(len(run) == 1 or 0 < encoded_size(run) <= limit for run in pieces)
        assert (len(index), index.unlinked) == (len(lsns), len(above))
        assert index.highest_lsn == max([*lsns, self.base])
        assert index.encoded_bytes() == encoded_size(self.held.values())
        assert read_records(index.runs_after(self.base, 10**9)) == linked
        assert index.pages() == sorted({record.page_id for record in linked})
        runs = [(below, lsn) for below, lsn in pairwise([self.scl, *above])]
        gaps = [(a + 1, b) for a, b in runs if self.held[b].prev_segment_lsn != a]
        assert index.missing_ranges() == gaps
        assert [index.linked_lsn(at) for at in range(len(linked))] == [e.lsn for e in linked]
        for read_point in draw.sample([0, *lsns, *(lsn - 1 for lsn in lsns), 10**9], 2):
            self.check_at(index, read_point, draw.choice([self.base, *lsns]))

    def check_at(self, index: ChainIndex, read_point: Lsn, after: Lsn) -> None:
        linked, held = self.linked, self.held
        assert index.count_through(read_point) == sum(e.lsn <= read_point for e in linked)
        assert (index.get(read_point), read_point in index) == (
            held.get(read_point),
            read_point in held,
        )
        below = [each for each in linked if each.lsn <= read_point]
        between = [each for each in below if each.lsn > after]
        pieces = list(index.pieces(after, read_point))
        expected = encode_rows(between)
        assert b"".join(each.rows for each in pieces) == expected.rows
        assert b"".join(each.payloads for each in pieces) == expected.payloads
        for page_id in range(4):
            mine = [each for each in between if each.page_id == page_id]
            assert index.page_records(page_id, after, read_point) == mine
            heads = [each.lsn for each in below if each.page_id == page_id]
            assert index.page_head(page_id, read_point) == max(heads, default=0)


def rival(draw: random.Random, highest: Lsn) -> Run:
    """A run that was never written; it may agree with what was, or not."""
    lsns = sorted(draw.sample(range(2, min(highest, 300) + 5), draw.randint(1, min(6, highest))))
    records, prev = [], draw.randrange(lsns[0])
    for lsn in lsns:
        records.append(RedoRecord(lsn, lsn % 4, 0, b"rival", lsn, True, lsn - 1, prev, 0))
        prev = lsn
    return read_run(encode_run(records))


@settings(max_examples=200)
@given(st.data())
def test_any_order_of_deliveries_truncations_and_collections(data: st.DataObject) -> None:
    """2018 §2.2: whatever comes when, the backlinks tell the SCL and the gaps."""
    draw = random.Random(data.draw(st.integers(0, 2**32), label="seed"))
    rivals = data.draw(st.booleans(), label="rivals")
    most = draw.choice([0, 1, 5, 10_000])
    index, model = ChainIndex(max_unlinked=most), Model(most)
    written = history(draw.randint(1, 30), gap=draw.choice([1, 7]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linked_runs, "_BLOCK_RECORDS", draw.choice([1, 4, 4_096]))
        patch.setattr(linked_runs, "_BLOCK_BYTES", draw.choice([200, 1 << 20]))
        for _ in range(draw.randint(1, 12)):
            action = draw.choice(["insert"] * 5 + ["look", "truncate", "collect", "reset"])
            if action == "insert" and rivals and draw.random() < 0.3:
                run = rival(draw, written[-1].lsn)
                model.insert(run)
                index.insert_run(run)
            elif action == "insert":
                start = draw.randrange(len(written))
                for run in runs_of(written[start : start + draw.randint(1, 12)]):
                    model.insert(run)
                    index.insert_run(run)
            elif action == "look":
                before = index.look_into_more()
                assert before or not index.look_into_more()
            elif action == "truncate":
                above = [each.lsn for each in written if each.lsn > model.base]
                vdl = draw.choice([model.base, *above])
                end = written[-1].lsn + draw.choice([2, 10_000_000])
                survivors = [record for record in written if record.lsn <= vdl]
                model.keep_if({lsn for lsn in model.held if not vdl < lsn < end})
                index.truncate(table((vdl + 1, end)))
                writes = [(end + 3 * n, n % 4, 0, b"anew") for n in range(draw.randint(1, 15))]
                written = survivors + chained(writes, after=survivors)
            elif action == "collect":
                up_to = draw.randint(0, model.scl + 2)
                removed = [record for record in model.linked if record.lsn <= up_to]
                assert index.collect(up_to) == len(removed)
                model.base = removed[-1].lsn if removed else model.base
                model.keep_if({lsn for lsn in model.held if lsn > model.base})
            else:
                known = model.linked if rivals else written
                model.base = draw.choice(
                    [model.base, *(each.lsn for each in known if each.lsn > model.base)]
                )
                index.reset(model.base)
                model.keep_if({lsn for lsn in model.held if lsn > model.base})
            model.check(index, draw)


def test_a_batch_in_order_and_one_record_at_a_time_end_alike() -> None:
    records = history(50)
    one_by_one = ChainIndex(max_unlinked=0)
    for record in records:
        insert(one_by_one, [record])
    assert snapshot(one_by_one) == snapshot(filled(records))
    assert records[0].lsn in one_by_one
    assert one_by_one.get(50) == records[-1]
    assert 51 not in one_by_one
    assert one_by_one.get(51) is None


def test_what_waits_above_a_gap_is_bounded_and_the_nearest_stay() -> None:
    records = history(30)
    index = ChainIndex(max_unlinked=5)
    insert(index, records[20:])
    assert [each.lsn for each in index.held()] == [21, 22, 23, 24, 25]
    insert(index, records[10:13])
    assert [each.lsn for each in index.held()] == [11, 12, 13, 21, 22]
    insert(index, records[25:])
    assert [each.lsn for each in index.held()] == [11, 12, 13, 21, 22]
    assert index.missing_ranges() == [(1, 11), (14, 21)]
    insert(index, records[:10])
    assert (index.scl, index.unlinked) == (13, 2)
    assert index.encoded_bytes() == encoded_size(index.held())


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
def test_a_contradicting_record_is_refused(rival: tuple[Lsn, Lsn]) -> None:
    lsn, prev = rival
    index = filled([each for each in history(8) if each.lsn not in (5, 6)])
    refuses(index, lsn, prev)


@pytest.mark.parametrize("rival", [(7, 4), (7, 5), (7, 6), (9, 7)])
def test_where_a_held_record_leaves_no_room_none_is_taken(rival: tuple[Lsn, Lsn]) -> None:
    lsn, prev = rival
    refuses(filled([*history(4), history(8)[7]._replace(prev_segment_lsn=5)]), lsn, prev)


def refuses(index: ChainIndex, lsn: Lsn, prev: Lsn) -> None:
    before = snapshot(index)
    insert(index, [RedoRecord(lsn, 0, 0, b"rival", lsn, True, lsn - 1, prev, 0)])
    assert snapshot(index) == before


def test_a_run_is_taken_as_far_as_it_is_new_if_it_has_the_scl() -> None:
    records = history(10)
    index = filled(records[:4])
    insert(index, records[2:])
    assert index.held() == records


def test_a_run_that_contradicts_what_is_held_is_refused_as_a_whole() -> None:
    """Also those of its records for which there would be room."""
    index = filled([each for each in history(8) if each.lsn not in (5, 6)])
    before = snapshot(index)
    without_scl = [each for each in history(6, gap=3) if each.lsn in (1, 7, 10)]
    insert(index, chained([(lsn, 0, 0, b"rival") for lsn in (3, 5, 6, 9)]))
    insert(index, [without_scl[0], *chained([(7, 0, 0, b"x"), (10, 0, 0, b"x")], without_scl[:1])])
    assert snapshot(index) == before


def test_of_two_contradicting_records_the_first_stays() -> None:
    first, second = history(1)[0], history(1)[0]._replace(payload=b"other")
    index = ChainIndex(max_unlinked=10)
    insert(index, [first, second])
    assert index.held() == [first]


def test_one_run_fills_all_gaps() -> None:
    records = history(30)
    index = filled([*records[3:5], *records[9:10], *records[20:25]])
    insert(index, records)
    assert (index.held(), index.scl, index.unlinked) == (records, 30, 0)


def test_runs_after_keep_to_the_limit_but_have_at_least_one_record() -> None:
    huge = 2**63 - 10**6
    records = history(20, first=huge)
    index = filled(records)
    lsns = [each.lsn for each in records]
    assert lsns_after(index, 0, 1) == lsns[:1]
    assert lsns_after(index, lsns[4], 1) == lsns[5:6]
    assert lsns_after(index, lsns[4]) == lsns[5:]
    assert index.runs_after(index.scl, 10**6) == NO_RECORDS
    assert index.runs_after(index.scl + 5, 10**6) == NO_RECORDS
    for limit in range(100, 2000, 50):
        run = index.runs_after(0, limit)
        found = read_records(run)
        assert len(run) - RUN_HEAD_BYTES <= limit
        assert found == records[: len(found)]
        assert encoded_size(records[: len(found) + 1]) > limit or found == records


def test_records_that_have_left_the_log_cannot_be_had() -> None:
    index = filled(history(10))
    index.collect(4)
    for ask in (lambda: index.runs_after(3, 100), lambda: index.linked_after(3)):
        with pytest.raises(NotFound, match=r"after 3 .* >= 4"):
            ask()
    with pytest.raises(NotFound, match=r"after 3 .* >= 4"):
        index.pieces(3, 9)
    assert (
        lsns_after(index, 4) == [each.lsn for each in index.linked_after(4)] == [5, 6, 7, 8, 9, 10]
    )


def test_only_linked_records_can_be_seen() -> None:
    records = history(10, pages=1)
    index = filled(records[:4] + records[6:])
    assert index.page_head(0, 10) == 4
    assert index.page_records(0, 0, 10) == records[:4]
    assert lsns_after(index, 0) == [1, 2, 3, 4]
    assert index.collect(10) == 4
    assert (index.base_lsn, index.scl, index.unlinked) == (4, 4, 4)


def test_truncation_drops_linked_and_unlinked_records_and_the_chain_goes_on_elsewhere() -> None:
    records = history(10)
    index = filled(records[:7] + records[8:])
    index.truncate(table((5, 1000)))
    assert (index.scl, index.highest_lsn, index.pages(), len(index)) == (4, 4, [0, 1, 2], 4)
    insert(index, chained([(1000, 0, 0, b"a"), (1001, 1, 0, b"b")], after=records[:4]))
    assert index.scl == 1001
    index.truncate(table((5, 1000)))
    assert (index.scl, len(index)) == (1001, 6)


def test_truncation_keeps_unlinked_records_that_no_range_covers() -> None:
    records = history(10)
    after = chained([(1000, 0, 0, b"a"), (1001, 1, 0, b"b")], after=records[:4])
    index = filled([*records[:3], *records[5:8], after[1]])
    index.truncate(table((5, 1000)))
    assert [each.lsn for each in index.held()] == [1, 2, 3, 1001]
    insert(index, [after[0], records[3]])
    assert index.scl == 1001


def test_the_base_is_never_moved_back() -> None:
    index = filled(history(10))
    index.collect(6)
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


def test_a_damaged_row_is_told_when_it_is_looked_into_and_not_before() -> None:
    good, bad = history(4)[:2], history(4)[2:]
    run = read_run(encode_run(bad))
    rows = run.all_rows()
    spoilt = bytearray(rows.rows)
    spoilt[32] = 0  # the first row's payload has no bytes
    index = filled(good)
    assert index.page_records(1, 0, 4) == good[:1]
    index.insert_run(read_run(join_rows(2, 4, [Rows(bytes(spoilt), rows.payloads)])))
    assert (index.scl, len(index)) == (4, 4)
    assert index.page_records(1, 0, 2) == good[:1], "what lies below is still read"
    for look in (index.held, index.look_into_more, lambda: index.page_head(0, 3)):
        with pytest.raises(MalformedMessage, match="impossible fields at LSN 3"):
            look()
    assert (index.scl, len(index)) == (4, 4)
