"""Older versions of pages: which read points they answer, against all that was ever given."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aurora.buffer_pool import BufferPool
from aurora.cached_pages import CachedPages
from aurora.old_versions import OldVersions
from segments.protocol.messages import PageImage
from segments.protocol.record import PAGE_SIZE

PAGES, MOST = 3, 30


def image(page_id: int, lsn: int) -> PageImage:
    return PageImage(page_id, lsn, bytes([page_id, lsn]).ljust(PAGE_SIZE, b"\0") if lsn else b"")


def test_a_version_answers_from_its_lsn_to_where_it_was_read_and_not_beyond() -> None:
    old = OldVersions(2)
    old.add(image(1, 4), 7)
    assert [old.read(1, at) is not None for at in range(3, 9)] == [False, *[True] * 4, False]
    old.add(image(1, 4), 9)
    old.add(image(1, 4), 5)
    assert old.read(1, 9) == image(1, 4)
    assert old.read(1, 10) is None
    assert old.read(2, 5) is None


def test_a_page_is_known_not_to_have_been_written() -> None:
    old = OldVersions(1)
    old.add(image(1, 0), 3)
    assert old.read(1, 3) == PageImage(1, 0, b"")
    assert old.read(1, 4) is None


def test_the_least_recently_used_version_goes_first() -> None:
    old = OldVersions(2)
    old.add(image(1, 1), 1)
    old.add(image(1, 2), 2)
    assert old.read(1, 1) == image(1, 1)
    old.add(image(2, 1), 1)
    assert len(old) == 2
    assert (old.read(1, 1), old.read(1, 2), old.read(2, 1)) == (image(1, 1), None, image(2, 1))


def test_with_no_room_nothing_is_kept() -> None:
    old = OldVersions(0)
    old.add(image(1, 1), 1)
    assert len(old) == 0
    assert old.read(1, 1) is None


def test_what_the_pool_can_answer_is_not_kept_twice() -> None:
    pool, old = BufferPool(2, vdl=10), OldVersions(4)
    cached = CachedPages(pool, old)
    cached.take_in(image(1, 9), 10, 10)
    assert len(old) == 0
    assert cached.look_up(1, 8, 10) is None
    cached.take_in(image(1, 3), 8, 10)
    assert len(old) == 1
    assert cached.look_up(1, 8, 10) == cached.look_up(1, 3, 10) == image(1, 3)
    assert cached.look_up(1, 9, 10) == image(1, 9)


@settings(max_examples=200, deadline=None)
@given(
    capacity=st.integers(0, 4),
    written=st.lists(st.tuples(st.integers(0, PAGES - 1), st.integers(1, MOST)), max_size=20),
    steps=st.lists(
        st.tuples(st.booleans(), st.integers(0, PAGES - 1), st.integers(0, MOST)), max_size=60
    ),
)
def test_whatever_was_added_every_answer_is_the_version_at_the_read_point(
    capacity: int, written: list[tuple[int, int]], steps: list[tuple[bool, int, int]]
) -> None:
    known: list[tuple[int, int]] = []
    old = OldVersions(capacity)
    for add, page_id, read_point in steps:
        lsns = [lsn for page, lsn in written if page == page_id and lsn <= read_point]
        expected = image(page_id, max(lsns, default=0))
        if add:
            old.add(expected, read_point)
            known.append((page_id, read_point))
        else:
            found = old.read(page_id, read_point)
            assert found is None or found == expected
            # Nothing can be known of read points above all that were ever asked for.
            assert found is None or any(
                page == page_id and read_point <= through for page, through in known
            )
        assert len(old) <= capacity
        assert sum(map(len, old._lsns.values())) == len(old)
