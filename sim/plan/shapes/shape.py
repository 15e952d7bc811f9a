"""What a shape of runs is: knobs, calls and faults that are drawn to go together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

import attrs

from sim.plan.schedule import Action, Knobs, Operation
from sim.plan.seeds import Seeds


class Drawn(NamedTuple):
    """A whole run, in the order of times; ties stay as they were drawn."""

    knobs: Knobs
    calls: Sequence[Operation]
    faults: Sequence[Action]


@attrs.frozen
class Shape:
    """One kind of run: what it is after decides what is drawn, and from where to where."""

    name: str
    summary: str
    """What it is after, in a line; `list` shows it."""
    weight: int
    """How often it is drawn, compared to the weights of the others."""
    draw: Callable[[Seeds], Drawn]
    """The run of a seed; draws from nothing but the streams of its argument."""
    for_sql: bool = True
    """Whether clients may call in SQL instead: not where faults wait for just these calls."""


def choose(random: Random, shapes: Sequence[Shape]) -> Shape:
    """One of ``shapes``, by weight."""
    left = random.random() * sum(each.weight for each in shapes)
    for each in shapes:
        left -= each.weight
        if left < 0:
            return each
    return shapes[-1]  # rounding
