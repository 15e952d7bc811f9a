"""Columns of words, compared all at once, against the same word by word."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.protocol.columns import Lanes, packed, unpacked

_HIGHEST = (1 << 63) - 1
_words = st.one_of(st.integers(0, 3), st.integers(_HIGHEST - 3, _HIGHEST))


def yes(answers: list[bool]) -> int:
    """The answer of lanes: the upper bit of each."""
    return sum(answer << (64 * at + 63) for at, answer in enumerate(answers))


@given(st.lists(st.tuples(_words, _words), min_size=1, max_size=9))
def test_lanes_answer_as_words_do(pairs: list[tuple[int, int]]) -> None:
    of = Lanes(len(pairs))
    a, b = (packed(array("Q", column)) for column in zip(*pairs, strict=True))
    assert of.at_least(a, b) == yes([x >= y for x, y in pairs])
    assert of.above(a, b) == yes([x > y for x, y in pairs])
    assert of.equal(a, b) == yes([x == y for x, y in pairs])
    assert of.all == yes([True] * len(pairs))
    assert of.first == yes([True, *[False] * (len(pairs) - 1)])


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=9), _words)
def test_words_move_up_behind_another_one(words: list[int], first: int) -> None:
    column = array("Q", words)
    assert unpacked(packed(column), len(words)) == column
    moved = Lanes(len(words)).behind(packed(column), first)
    assert unpacked(moved, len(words)) == array("Q", [first, *words[:-1]])


@pytest.mark.parametrize("count", [1, 4_095, 4_096, 4_097])
def test_ones_are_one_in_each_word(count: int) -> None:
    assert unpacked(Lanes(count).ones, count) == array("Q", [1] * count)
