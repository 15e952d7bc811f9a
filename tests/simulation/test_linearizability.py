"""History checking, against an oracle that tries every order."""

from __future__ import annotations

import sys
from itertools import permutations
from random import Random
from types import FrameType
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from segments.protocol.record import EMPTY_PAGE
from sim.check.linearizability import Change, ReadCall, WriteCall, check


def page(values: dict[int, bytes]) -> bytes:
    image = bytearray(EMPTY_PAGE)
    for offset, data in values.items():
        image[offset : offset + len(data)] = data
    return bytes(image)


def write(number: int, lsn: int, begin: int, end: int | None, *pages: int) -> WriteCall:
    pages = pages or (0,)
    changes = tuple(
        Change(page_id, lsn - len(pages) + 1 + index, 0, number.to_bytes(4, "big"))
        for index, page_id in enumerate(pages)
    )
    return WriteCall(number=number, changes=changes, invoked_ns=begin, returned_ns=end)


def read(
    number: int, lsn: int, saw: int | None, begin: int, end: int, *, fresh: bool = True,
    page_id: int = 0, session: tuple[int, str] | None = None,
) -> ReadCall:  # fmt: skip
    image = None if saw is None else page({0: saw.to_bytes(4, "big")})
    return ReadCall(
        number=number, page_id=page_id, read_point=lsn, page=image, invoked_ns=begin,
        returned_ns=end, fresh=fresh, session=session,
    )  # fmt: skip


# ---- the oracle ----------------------------------------------------------------------------------


def linearizable(writes: list[WriteCall], reads: list[ReadCall]) -> bool:
    """Whether any order of all calls respects real time and explains every read."""
    calls: list[WriteCall | ReadCall] = [*writes, *reads]
    return any(_explains(order) for order in permutations(calls))


def _explains(order: tuple[WriteCall | ReadCall, ...]) -> bool:
    for at, later in enumerate(order):
        for earlier in order[:at]:
            if later.returned_ns is not None and later.returned_ns < earlier.invoked_ns:
                return False
    images: dict[int, bytearray] = {}
    for call in order:
        if isinstance(call, WriteCall):
            for change in call.changes:
                image = images.setdefault(change.page_id, bytearray(EMPTY_PAGE))
                image[change.offset : change.offset + len(change.data)] = change.data
        else:
            found = images.get(call.page_id)
            if (None if found is None else bytes(found)) != call.page:
                return False
    return True


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[WriteCall], list[ReadCall]]:
    """Two to five calls that overlap as they like, with answers that may be wrong."""
    writes: list[WriteCall] = []
    reads: list[ReadCall] = []
    for number in range(1, draw(st.integers(2, 5)) + 1):
        begin = draw(st.integers(0, 12))
        end = begin + draw(st.integers(0, 6))
        lsn = draw(st.integers(1, 5))
        if draw(st.booleans()):
            if lsn not in {each.changes[0].lsn for each in writes}:
                writes.append(write(number, lsn, begin, draw(st.sampled_from([end, None]))))
        else:
            saw = draw(st.sampled_from([None, 1, 2, 3]))
            reads.append(read(number, lsn, saw, begin, end))
    return writes, reads


@settings(max_examples=150)
@given(histories())
def test_what_passes_is_linearizable(history: tuple[list[WriteCall], list[ReadCall]]) -> None:
    if check(*history) is None:
        assert linearizable(*history)


@settings(max_examples=50)
@given(st.randoms(use_true_random=False))
def test_what_a_register_does_passes(random: Random) -> None:
    writes, reads, now, latest = [], [], 0, 0
    for number in range(1, 8):
        begin, now = now, now + 1 + int(random.random() * 2)
        if random.random() < 0.5:
            latest = number
            writes.append(write(number, number, begin, now))
        else:
            reads.append(read(number, number, latest or None, begin, now))
        now += 1
    assert check(writes, reads) is None


# ---- each rule -----------------------------------------------------------------------------------


def anomaly(writes: list[WriteCall], reads: list[ReadCall]) -> str:
    found = check(writes, reads)
    assert found is not None
    return found.text


def test_a_stale_read_is_found_unless_it_may_be_stale() -> None:
    writes = [write(1, 1, 0, 10), write(2, 2, 20, 30)]
    assert "call 2, a write with LSN 2" in anomaly(writes, [read(3, 1, 1, 40, 50)])
    assert check(writes, [read(3, 1, 1, 40, 50, fresh=False)]) is None
    assert check(writes, [read(3, 1, 1, 25, 50)]) is None


def test_a_write_may_not_come_before_one_that_had_returned() -> None:
    assert "a write with LSN 1" in anomaly([write(1, 2, 0, 10), write(2, 1, 20, 30)], [])
    assert check([write(1, 2, 0, 10), write(2, 1, 5, 30)], []) is None
    assert check([write(1, 2, 0, None), write(2, 1, 20, 30)], []) is None


def test_values_must_be_those_of_the_writes_before() -> None:
    writes = [write(1, 1, 0, 10), write(2, 2, 20, 30)]
    assert "is not what call 2 at LSN 2" in anomaly(writes, [read(3, 2, 1, 40, 50)])
    assert "not found" in anomaly(writes, [read(3, 2, None, 40, 50)])
    assert "nothing had been written" in anomaly([], [read(3, 2, 1, 40, 50)])
    assert check(writes, [read(3, 1, 1, 40, 50, fresh=False)]) is None


def test_reads_of_a_session_do_not_go_back() -> None:
    writes = [write(1, 1, 0, None), write(2, 2, 0, None)]
    session = (5, "writer-1")
    back = [
        read(3, 2, 2, 10, 11, fresh=False, session=session),
        read(4, 1, 1, 12, 13, fresh=False, session=session),
    ]
    assert "client 5 read as of LSN 2 from writer-1" in anomaly(writes, back)
    other = read(4, 1, 1, 12, 13, fresh=False, session=(6, "writer-1"))
    assert check(writes, [back[0], other]) is None


def test_one_lsn_is_written_once_and_an_mtr_is_whole() -> None:
    assert "both wrote LSN 1" in anomaly([write(1, 1, 0, 9), write(2, 1, 0, 9)], [])
    both = [write(7, 2, 0, 10, 0, 1)]
    seen = [read(8, 2, 7, 20, 21), read(9, 2, None, 22, 23, page_id=1)]
    assert "page 1" in anomaly(both, seen)
    both = [write(7, 2, 0, None, 0, 1)]
    assert "in the middle of call 7" in anomaly(both, [read(8, 1, 7, 20, 21)])
    assert check(both, [read(8, 1, 7, 20, 21, fresh=False)]) is None


def long_history(calls: int) -> tuple[list[WriteCall], list[ReadCall]]:
    """Calls that overlap by two or three, four fifths of them writes; the more, the more pages."""
    random, lsn, now = Random(1), 0, 0
    latest: dict[int, int] = {}
    writes: list[WriteCall] = []
    reads: list[ReadCall] = []
    for number in range(1, calls + 1):
        now += 10
        page_id = int(random.random() * calls / 100)
        if random.random() < 0.8:
            lsn += 1
            latest[page_id] = number
            writes.append(write(number, lsn, now, now + 25, page_id))
        else:
            saw = latest.get(page_id)
            reads.append(read(number, lsn, saw, now + 30, now + 31, page_id=page_id))
    return writes, reads


def lines_run(writes: list[WriteCall], reads: list[ReadCall]) -> int:
    """How many lines a check of them runs, those of all that it calls included."""
    lines = 0

    def count(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        found = check(writes, reads)
    finally:
        sys.settrace(before)
    assert found is None
    return lines


def test_the_work_grows_as_the_calls_do() -> None:
    few, many = (lines_run(*long_history(calls)) for calls in (500, 4_000))
    assert few > 500 and many < 9 * few
