"""Runs of records: their bytes, and what is checked when."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress
from operator import lt
from random import Random

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.protocol.errors import MalformedMessage
from segments.protocol.ids import MAX_INTEGER
from segments.protocol.record import PAGE_SIZE, RECORD_OVERHEAD_BYTES, RedoRecord
from segments.protocol.run import (
    MAX_CLOCK_US,
    NO_RECORDS,
    RUN_HEAD_BYTES,
    Run,
    encode_rows,
    encode_run,
    join_rows,
    read_records,
    read_run,
)

modestly = settings(max_examples=60, deadline=None)

RECORD = RedoRecord(9, 4, 100, b"abc", 8, True, 8, 7, 6, 1_700_000_000_000_001)
integers = st.integers(0, MAX_INTEGER)


@st.composite
def chains(draw: st.DrawFn, min_size: int = 0) -> list[RedoRecord]:
    """Records that follow each other."""
    lsns = sorted(draw(st.sets(st.integers(1, MAX_INTEGER), min_size=min_size + 1, max_size=7)))
    prev, made = lsns[0], []
    for lsn in lsns[1:]:
        payload = draw(st.binary(min_size=1, max_size=PAGE_SIZE))
        first, is_cpl = max(1, lsn - (1 << 35) + 1), draw(st.booleans())
        record = RedoRecord(
            lsn,
            draw(integers),
            draw(st.integers(0, PAGE_SIZE - len(payload))),
            payload,
            draw(st.integers(first, lsn)),
            is_cpl,
            draw(st.integers(prev, lsn - 1)),
            prev,
            draw(st.integers(0, prev)),
            draw(st.integers(0, MAX_CLOCK_US)) if is_cpl else 0,
        )
        made.append(record)
        prev = lsn
    return made


def run_of(*rows: tuple[int, int, int, int, int], prev: int, payloads: bytes) -> bytes:
    """A run by hand, from rows of five words."""
    words = b"".join(struct.pack("<5Q", *row) for row in rows)
    head = struct.pack("<IIQQ", len(rows), len(payloads), prev, rows[-1][0])
    return summed(head + words + payloads)


def summed(body: bytes) -> bytes:
    return struct.pack("<Q", xxhash.xxh3_64_intdigest(body)) + body


def test_the_format_is_fixed() -> None:
    """Segments of different builds talk to each other, and read each other's logs."""
    meta = 3 | 100 << 14 | 1 << 27 | (9 - 8) << 29
    stored = b"abc" + struct.pack("<Q", 1_700_000_000_000_001)
    assert encode_run([RECORD]) == run_of((9, 4, 6, 8, meta), prev=7, payloads=stored)
    assert encode_run([]) == NO_RECORDS == b""
    assert read_records(NO_RECORDS) == []


@modestly
@given(chains())
def test_records_survive(records: list[RedoRecord]) -> None:
    data = encode_run(records)
    assert read_records(data) == records
    if records:
        run = read_run(data)
        assert list(run.lsns) == [each.lsn for each in records]
        assert (run.prev_lsn, run.last_lsn) == (records[0].prev_segment_lsn, records[-1].lsn)
        payloads = sum(len(each.payload) + 8 * each.is_cpl for each in records)
        assert len(data) == RUN_HEAD_BYTES + RECORD_OVERHEAD_BYTES * len(records) + payloads


@modestly
@given(chains(1), st.data())
def test_pieces_join(records: list[RedoRecord], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(records)))
    pieces = [encode_rows(records[:at]), encode_rows(records[at:])]
    joined = join_rows(records[0].prev_segment_lsn, records[-1].lsn, pieces)
    assert joined == encode_run(records)


@pytest.mark.parametrize(
    ("row", "prev"),
    [
        ((9, 4, 6, 8, 3 | 1 << 27 | 9 << 29), 7),  # an MTR that begins at 0
        ((9, MAX_INTEGER + 1, 6, 8, 3), 7),  # a page that cannot be
        ((9, 4, 6, 8, 0), 7),  # no payload
        ((9, 4, 6, 8, 3 | 8190 << 14), 7),  # beyond the page
        ((9, 4, 6, 8, 4), 7),  # more payload than there is
        ((9, 4, 6, 8, 2), 7),  # less
        ((9, 4, 6, 8, 3 | 1 << 27), 7),  # no clock behind the payload of a CPL
        ((9, 4, 6, 9, 3), 7),  # after itself in the volume
        ((9, 4, 6, 6, 3), 7),  # after itself in the group
        ((9, 4, 8, 8, 3), 7),  # on its page after what comes before it in the group
        ((9, 4, 6, 8, 3 | 1 << 28), 7),  # a bit that has no meaning
    ],
)
def test_impossible_rows_are_malformed(row: tuple[int, int, int, int, int], prev: int) -> None:
    """Each backlink is below the record itself, and a page's chain is part of its group's."""
    run = read_run(run_of(row, prev=prev, payloads=b"abc"))
    with pytest.raises(MalformedMessage):
        run.records()


def test_what_a_segment_checks_before_it_acknowledges() -> None:
    good = (9, 4, 6, 8, 3)
    assert read_run(run_of(good, prev=7, payloads=b"abc")).last_lsn == 9
    bad = [
        run_of(good, prev=9, payloads=b"abc"),  # not above what it follows
        run_of(good, good, prev=7, payloads=b"abcabc"),  # not ascending
        run_of((MAX_INTEGER + 1, 4, 6, 8, 3), prev=7, payloads=b"abc"),
        summed(struct.pack("<IIQQ", 0, 0, 7, 7)),  # no record
        summed(struct.pack("<IIQQ", 1, 3, 7, 8) + struct.pack("<5Q", *good) + b"abc"),
        summed(struct.pack("<IIQQ", 2**32 - 1, 3, 7, 9) + struct.pack("<5Q", *good) + b"abc"),
        encode_run([RECORD])[:-1],
        encode_run([RECORD]) + b"\0",
        b"short",
    ]
    for data in bad:
        with pytest.raises(MalformedMessage):
            read_run(data)


_NEAR = st.sampled_from([0, 1, 2, 2**32, MAX_INTEGER - 1, MAX_INTEGER, MAX_INTEGER + 1, 2**64 - 1])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(1, 2**64 - 1) | _NEAR, min_size=1, max_size=70),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 69), st.integers(-1, 1) | st.just(1 << 63)), max_size=2),
)
def test_lsns_that_do_not_ascend_are_found_wherever_they_are(
    lsns: list[int], ordered: bool, moved: list[tuple[int, int]]
) -> None:
    """Against comparing each with the next; most are in order but for one or two."""
    if ordered:
        lsns = sorted({each % MAX_INTEGER + 1 for each in lsns})
    for at, by in moved:
        lsns[at % len(lsns)] = (lsns[at % len(lsns) - 1] + by) % 2**64
    data = run_of(*((each, 1, 0, 0, 0) for each in lsns), prev=0, payloads=b"")
    sound = all(map(lt, [0, *lsns], lsns)) and lsns[-1] <= MAX_INTEGER
    if sound:
        assert [*read_run(data).lsns] == lsns
    else:
        with pytest.raises(MalformedMessage, match="expected ascending ones"):
            read_run(data)


@modestly
@given(chains(1), st.randoms(use_true_random=False))
def test_one_changed_byte_is_noticed(records: list[RedoRecord], random: Random) -> None:
    spoilt = bytearray(encode_run(records))
    spoilt[random.randrange(len(spoilt))] ^= random.randint(1, 255)
    with pytest.raises(MalformedMessage):
        read_run(bytes(spoilt))


@modestly
@given(chains(1), st.randoms(use_true_random=False))
def test_spoilt_rows_under_a_right_sum(records: list[RedoRecord], random: Random) -> None:
    """Whoever makes a sum can make a right one: records, or `MalformedMessage`, and no other."""
    body = bytearray(encode_run(records)[8:])
    for _ in range(random.randint(1, 3)):
        body[random.randrange(len(body))] = random.randrange(256)
    with suppress(MalformedMessage):
        run = read_run(summed(bytes(body)))
        assert encode_run(run.records()) == run.data


@modestly
@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    with suppress(MalformedMessage):
        assert isinstance(read_run(data), Run)
    with suppress(MalformedMessage):
        read_run(summed(data))


def test_a_length_that_lies_costs_nothing() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage):
            read_run(summed(struct.pack("<IIQQ", 2**32 - 1, 2**32 - 1, 7, 9) + bytes(100)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
