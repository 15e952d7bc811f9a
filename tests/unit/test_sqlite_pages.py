"""What a transaction has changed, as records: differences of pages, buffer, commit page, header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.mtr import PageWrite
from aurora.sqlite.commit_page import COMMIT_PAGE, CommitStamp, is_commit_page
from aurora.sqlite.header import check_header, has_header, restored, size_pages
from aurora.sqlite.page_buffer import PageBuffer
from aurora.sqlite.page_diff import MOST_GAP, changed_ranges
from aurora.sqlite.read_ahead import MOST, ReadAhead
from segments.protocol.errors import SqlCorrupt
from segments.protocol.record import EMPTY_PAGE, PAGE_SIZE

# ---- differences ---------------------------------------------------------------------------------


def ranges_byte_by_byte(base: bytes, image: bytes) -> list[tuple[int, int]]:
    """The oracle: runs of bytes that differ, those with a short gap between them made one."""
    found: list[tuple[int, int]] = []
    for at in range(PAGE_SIZE):
        if base[at] != image[at]:
            if found and at - found[-1][1] <= MOST_GAP:
                found[-1] = (found[-1][0], at + 1)
            else:
                found.append((at, at + 1))
    return found


SPOTS = st.lists(
    st.tuples(st.integers(0, PAGE_SIZE - 1), st.integers(1, 700), st.integers(0, 3)), max_size=12
)


@given(SPOTS, st.booleans())
def test_differences_are_those_found_byte_by_byte(
    spots: list[tuple[int, int, int]], zeros: bool
) -> None:
    base = EMPTY_PAGE if zeros else bytes(at * 7 % 251 for at in range(PAGE_SIZE))
    image = bytearray(base)
    for start, length, value in spots:
        for at in range(start, min(start + length, PAGE_SIZE)):
            image[at] = (image[at] + value) % 256  # with 0, what looks like a change is none
    assert changed_ranges(base, bytes(image)) == ranges_byte_by_byte(base, bytes(image))


@pytest.mark.parametrize("first", [0, 31, 32, 511, 512, 5_000])
@pytest.mark.parametrize("gap", [*range(60, 75), *range(90, 100), *range(120, 135), 200])
def test_gaps_of_up_to_128_bytes_are_bridged_wherever_they_are(first: int, gap: int) -> None:
    image = bytearray(EMPTY_PAGE)
    image[first] = image[first + gap + 1] = 1
    expected = [(first, first + gap + 2)]
    if gap > MOST_GAP:
        expected = [(first, first + 1), (first + gap + 1, first + gap + 2)]
    assert changed_ranges(EMPTY_PAGE, bytes(image)) == expected


# ---- a transaction's pages -----------------------------------------------------------------------


def page(*changes: tuple[int, bytes]) -> bytes:
    image = bytearray(EMPTY_PAGE)
    for offset, data in changes:
        image[offset : offset + len(data)] = data
    return bytes(image)


def test_the_stamp_is_the_last_of_all_writes_and_the_first_one_names_a_database() -> None:
    buffer = PageBuffer()
    buffer.put(2, page((9, b"ab"), (4_000, b"c")), EMPTY_PAGE)
    buffer.put(1, page((0, b"x")), EMPTY_PAGE)
    stamp = CommitStamp(77, 2, 4)
    for first in (True, False):
        *writes, last = buffer.writes(77, first=first)
        assert writes == [PageWrite(2, 9, b"ab"), PageWrite(2, 4_000, b"c"), PageWrite(1, 0, b"x")]
        assert (last.page_id, last.offset) == (COMMIT_PAGE, 0)
        assert CommitStamp.decode(page((0, last.data))) == stamp
        assert is_commit_page(page((0, last.data))) is first


def test_what_was_written_and_overwritten_with_what_was_there_is_no_change() -> None:
    """A savepoint that spilled and was rolled back: its pages were written twice."""
    buffer = PageBuffer()
    buffer.put(3, page((5, b"new")), page((5, b"old")))
    buffer.put(3, page((5, b"old")), page((5, b"irrelevant: not the first")))
    assert len(buffer) == 1
    assert buffer.writes(1, first=False) == []


def test_a_buffer_that_was_cleared_has_nothing() -> None:
    buffer = PageBuffer()
    buffer.put(3, page((5, b"new")), EMPTY_PAGE)
    buffer.clear()
    assert (len(buffer), buffer.get(3), buffer.writes(1, first=True)) == (0, None, [])


def test_a_stamp_holds_no_more_bytes_than_fit() -> None:
    stamp = CommitStamp(2**63, 5, 2**40)
    assert CommitStamp.decode(page((0, stamp.encode()))) == CommitStamp(2**63, 5, 2**32 - 1)


# ---- page 1 --------------------------------------------------------------------------------------


def header(
    *, page_size: int = 8_192, versions: bytes = b"\1\1", pages: int = 3, changes: int = 5,
    schema: int = 8,
) -> bytes:  # fmt: skip
    return page(
        (0, b"SQLite format 3\0"),
        (16, page_size.to_bytes(2)),
        (18, versions),
        (24, changes.to_bytes(4)),
        (28, pages.to_bytes(4)),
        (40, schema.to_bytes(4)),
        (92, changes.to_bytes(4)),
        (200, b"rows"),
    )


def test_a_header_that_fits_its_file_passes() -> None:
    for pages in (1, 3):
        check_header(header(pages=pages), 3)
    assert size_pages(header(pages=3)) == 3
    assert size_pages(b"") == 0
    assert has_header(header())
    assert not has_header(EMPTY_PAGE)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (header(page_size=4_096), "4096"),
        (header(versions=b"\2\2"), r"\(2, 2\)"),
        (header(pages=4), "4 pages"),
        (header(pages=0), "0 pages"),
    ],
)
def test_a_header_of_another_kind_is_never_committed(wrong: bytes, says: str) -> None:
    with pytest.raises(SqlCorrupt, match=says):
        check_header(wrong, 3)


def test_what_an_old_header_becomes_was_never_there_before() -> None:
    """A change counter or schema cookie that comes twice makes old pages look new."""
    old, newest = header(changes=5, schema=2, pages=2), header(changes=9, schema=7)
    assert restored(old, newest) == header(changes=10, schema=8, pages=2)
    wrapped = restored(old, header(changes=2**32 - 1))
    assert wrapped[24:28] == bytes(4)


# ---- reading ahead -------------------------------------------------------------------------------


def test_a_scan_asks_for_more_and_more_and_a_lookup_for_one() -> None:
    ahead, asked, next_page = ReadAhead(), [], 1
    while next_page < 1_000:
        pages = ahead.window(next_page, 1_000)
        asked.append(len(pages))
        next_page = pages.stop
    assert asked[:7] == [2, 4, 8, 16, 32, 64, 64]
    assert max(asked) == MOST
    assert sum(asked) == 999, "each once, and none beyond the end"
    assert [len(ahead.window(each, 9_999)) for each in (700, 20, 3_000)] == [1, 1, 1]


def test_a_page_beyond_the_end_is_asked_for_alone() -> None:
    assert ReadAhead().window(7, 0) == range(7, 8)
