"""Draws built on `Random.random` alone, of which Python promises that it stays the same."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

_T = TypeVar("_T")


def below(random: Random, end: int) -> int:
    return int(random.random() * end)


def choice(random: Random, items: Sequence[_T]) -> _T:
    return items[below(random, len(items))]


def between(random: Random, least: int, most: int) -> int:
    """An integer of the range, both ends inclusive."""
    return least + below(random, most - least + 1)


def happens(random: Random, share: float) -> bool:
    """True in this share of the draws."""
    return random.random() < share


def some(random: Random, items: Sequence[_T], count: int) -> list[_T]:
    """``count`` of the items, or all if there are fewer, in their order."""
    left = list(range(len(items)))
    while len(left) > max(count, 0):
        del left[below(random, len(left))]
    return [items[at] for at in left]
