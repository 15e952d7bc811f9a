"""Arithmetic on whole columns of words, so that what is checked of many rows costs no loop.

A column is taken as one large integer, its first word lowest, and words are compared in all *lanes*
at once. That needs words whose upper bit is free: it is set in one operand, so that no lane borrows
from the next when the other is subtracted, and is left where the difference was not negative. The
upper bits of all lanes together are the answer: set where it is yes.
"""

from __future__ import annotations

import sys
from array import array
from functools import lru_cache
from typing import Final

_BITS: Final = 64
_USUAL: Final = 4096


def _ones(count: int) -> int:
    """1 in each of so many words; 1 + 2**64 + 2**128 and so on is a quotient."""
    return ((1 << _BITS * count) - 1) // ((1 << _BITS) - 1)


_USUAL_ONES: Final = _ones(_USUAL)


def packed(column: array[int]) -> int:
    """All words of ``column``, the first one lowest."""
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return int.from_bytes(column.tobytes(), "little")


def unpacked(words: int, count: int) -> array[int]:
    """The column that `packed` makes ``words`` of."""
    column = array("Q", words.to_bytes(8 * count, "little"))
    if sys.byteorder == "big":
        column.byteswap()
    return column


class Lanes:
    """So many words side by side. Operands of comparisons have their upper bits free."""

    __slots__ = ("_words", "all", "ones")

    first: Final = 1 << (_BITS - 1)
    """Yes in the first one, and nowhere else."""

    def __init__(self, count: int) -> None:
        self.ones: Final = (
            _USUAL_ONES >> _BITS * (_USUAL - count) if count <= _USUAL else _ones(count)
        )
        """1 in each."""
        self.all: Final = self.ones << (_BITS - 1)
        """The upper bit of each: yes everywhere."""
        self._words = (1 << _BITS * count) - 1

    def behind(self, words: int, first: int) -> int:
        """For each the word before it, and ``first`` for the first one."""
        return (words << _BITS | first) & self._words

    def at_least(self, a: int, b: int) -> int:
        """Where ``a >= b``."""
        return ((a | self.all) - b) & self.all

    def above(self, a: int, b: int) -> int:
        """Where ``a > b``."""
        return ((a | self.all) - b - self.ones) & self.all

    def equal(self, a: int, b: int) -> int:
        """Where ``a == b``."""
        return self.all ^ (((a ^ b | self.all) - self.ones) & self.all)


lanes: Final = lru_cache(maxsize=64)(Lanes)
"""`Lanes` of a number, of which some come again and again."""
