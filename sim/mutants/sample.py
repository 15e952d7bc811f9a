"""A sample of the mutants: the same for the same seed, every module with its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import TypeVar

from sim.plan.seeds import Seeds

_T = TypeVar("_T")


def shares(sizes: Mapping[str, int], wanted: int) -> dict[str, int]:
    """How many of ``wanted`` fall to each part, by its size: largest remainders first.

    Everything if ``wanted`` is more than there is.
    """
    total = sum(sizes.values())
    if wanted >= total:
        return dict(sizes)
    found = {name: wanted * size // total for name, size in sizes.items()}
    behind = sorted(sizes, key=lambda name: (-(wanted * sizes[name] % total), name))
    for name in behind[: wanted - sum(found.values())]:
        found[name] += 1
    return found


def sampled(parts: Mapping[str, Sequence[_T]], wanted: int | None, seed: int) -> list[_T]:
    """``wanted`` of all items, or all; drawn in each part by itself, then in their old order.

    What is drawn of a part for a small sample is drawn for a larger one, too.
    """
    if wanted is None:
        return [each for items in parts.values() for each in items]
    seeds = Seeds(seed)
    drawn: list[_T] = []
    for name, count in shares({name: len(each) for name, each in parts.items()}, wanted).items():
        items = parts[name]
        order = _shuffled(seeds.stream(name), len(items))
        drawn += [items[at] for at in sorted(order[:count])]
    return drawn


def _shuffled(random: Random, count: int) -> list[int]:
    return sorted(range(count), key={at: random.random() for at in range(count)}.__getitem__)
