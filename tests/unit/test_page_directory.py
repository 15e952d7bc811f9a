"""The directory of pages against a dictionary."""

from __future__ import annotations

import random
import sys
from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from segments.layers.pages import PageDirectory
from segments.protocol.ids import MAX_INTEGER
from segments.protocol.record import RedoRecord
from segments.protocol.run import encode_rows


def loaded(first_lsns: dict[int, int]) -> PageDirectory:
    directory = PageDirectory()
    load(directory, first_lsns)
    return directory


def load(directory: PageDirectory, first_lsns: dict[int, int]) -> None:
    page_ids = sorted(first_lsns)
    lsns = [first_lsns[page] for page in page_ids]
    directory.load(array("Q", page_ids), array("Q", lsns))


class Life:
    """A directory and the dictionary it must equal."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.directory = PageDirectory(chunk_pages=draw.choice([2, 3, 8, 1000]))
        self.known: dict[int, int] = {}

    def some(self) -> dict[int, int]:
        draw = self.draw
        kind = draw.randrange(3)
        if kind == 0:  # behind all others, as a table grows
            first = max(self.known, default=0)
            page_ids = [*range(first, first + draw.randint(1, 20))]
        elif kind == 1:
            page_ids = [draw.randrange(60) for _ in range(draw.randint(1, 20))]
        else:
            page_ids = [draw.choice([0, MAX_INTEGER])]
        return {page: draw.randint(1, 100) for page in page_ids if page <= MAX_INTEGER}

    def add(self) -> None:
        for page, lsn in self.some().items():
            self.directory.add(page, lsn)
            self.known[page] = min(lsn, self.known.get(page, lsn))

    def load(self) -> None:
        some = self.some()
        load(self.directory, some)
        for page, lsn in some.items():
            self.known[page] = min(lsn, self.known.get(page, lsn))

    def drop(self) -> None:
        lsn = self.draw.randint(0, 110)
        kept = {page: first for page, first in self.known.items() if first <= lsn}
        assert self.directory.drop_above(lsn) == len(self.known) - len(kept)
        self.known = kept

    def check(self) -> None:
        assert list(self.directory) == sorted(self.known.items())
        assert len(self.directory) == len(self.known)
        for page in [*self.known, 7, 61, MAX_INTEGER - 1]:
            assert self.directory.first_lsn(page) == self.known.get(page, 0)
        self.check_list()

    def check_list(self) -> None:
        """Call by call, each of which looks at as many pages as it may, and at no more."""
        draw = self.draw
        first, last = draw.randint(0, 30), draw.choice([draw.randint(30, 90), MAX_INTEGER])
        limit, read_point = draw.randint(1, 9), draw.randint(0, 110)
        listed, at = list[int](), first
        while at <= last:
            found, through = self.directory.existing(at, last, read_point, limit)
            looked_at = [page for page in self.known if at <= page <= through]
            assert len(looked_at) <= limit
            assert through == last or len(looked_at) == limit
            listed += found
            at = through + 1
        known = self.known.items()
        assert listed == sorted(
            page for page, lsn in known if first <= page <= last and lsn <= read_point
        )


@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_a_directory_is_a_dictionary(seed: int) -> None:
    draw = random.Random(seed)
    life = Life(draw)
    for _ in range(draw.randint(1, 25)):
        draw.choice([life.add, life.add, life.load, life.drop])()
        life.check()


def test_rows_tell_which_pages_begin_in_them() -> None:
    def record(lsn: int, page: int, prev_page: int) -> RedoRecord:
        return RedoRecord(lsn, page, 0, b"x", lsn, True, lsn - 1, lsn - 1, prev_page)

    directory = PageDirectory()
    directory.add_first_records(encode_rows([record(3, 9, 0), record(4, 9, 3)]).rows)
    directory.add_first_records(encode_rows([record(5, 9, 4), record(6, 2, 0)]).rows)
    directory.add_first_records(encode_rows([record(7, 9, 5)]).rows)
    assert list(directory) == [(2, 6), (9, 3)]


def memory(directory: PageDirectory) -> int:
    parts = (directory._pages, directory._lsns, directory._first, directory._newest)
    arrays = [*directory._pages, *directory._lsns]
    return sum(map(sys.getsizeof, (*parts, *arrays)))


def test_a_page_takes_17_bytes() -> None:
    count = 30_000
    in_order, at_random = PageDirectory(), PageDirectory()
    for page in range(count):
        in_order.add(page, page + 1)
    for page in random.Random(1).sample(range(10 * count), count):
        at_random.add(page, 1)
    at_once = loaded(dict.fromkeys(range(count), 1))
    for directory in (in_order, at_random, at_once):
        assert len(directory) == count
        assert memory(directory) <= 17 * count
