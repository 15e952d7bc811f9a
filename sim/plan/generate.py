"""Schedules drawn from a seed: every knob, every call and every fault of a run.

Drawing is in swarms: a seed first draws its shape (`sim.plan.shapes`), and then within it its own
few kinds of fault and its own rates, so that runs differ more from each other than any one mixture
would.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from sim.plan.schedule import Schedule
from sim.plan.seeds import Seeds
from sim.plan.shapes import SHAPES
from sim.plan.shapes.shape import Shape, choose

_TIME: Final = attrgetter("at_ns")


def generate(seed: int, shape: Shape | None = None) -> Schedule:
    """The schedule of ``seed``: the same on every machine.

    With a ``shape`` of your own it is what the seed draws in that shape.
    """
    seeds = Seeds(seed)
    shape = shape or choose(seeds.stream("shape"), SHAPES)
    knobs, calls, faults = shape.draw(seeds)
    return Schedule(
        seed=seed,
        knobs=knobs,
        actions=tuple(sorted(faults, key=_TIME)),
        operations=tuple(sorted(calls, key=_TIME)),
        name=f"seed {seed}",
        shape=shape.name,
    )
