"""Runs of a second or more in which anything may fail, a few kinds of fault each."""

from __future__ import annotations

from typing import Final

from sim.plan.draw_calls import draw_calls
from sim.plan.draw_faults import draw_faults
from sim.plan.draw_knobs import draw_knobs
from sim.plan.roll_backs import with_roll_backs
from sim.plan.seeds import Seeds
from sim.plan.shapes.shape import Drawn, Shape


def _draw(seeds: Seeds) -> Drawn:
    knobs = draw_knobs(seeds.stream("knobs"))
    calls = draw_calls(seeds.stream("workload"), knobs)
    faults = draw_faults(seeds.stream("faults"), knobs)
    return Drawn(knobs, calls, with_roll_backs(seeds.stream("roll backs"), knobs, faults))


MIXED: Final = Shape(
    "mixed", "seconds of many clients, and a few kinds of fault of any length", 7, _draw
)
