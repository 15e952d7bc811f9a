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
