"""Schedules drawn from a seed: every knob, every call and every fault of a run.

Drawing is in swarms: each run has its own shape, its own few kinds of fault and its own rates, so
that runs differ more from each other than any one mixture would.
"""

from __future__ import annotations

from sim.plan.draw_calls import draw_calls
from sim.plan.draw_faults import draw_faults
from sim.plan.draw_knobs import draw_knobs
from sim.plan.schedule import Schedule
from sim.plan.seeds import Seeds


def generate(seed: int) -> Schedule:
    """The schedule of ``seed``: the same on every machine."""
    seeds = Seeds(seed)
    knobs = draw_knobs(seeds.stream("knobs"))
    calls = draw_calls(seeds.stream("workload"), knobs)
    faults = draw_faults(seeds.stream("faults"), knobs)
    return Schedule(seed=seed, knobs=knobs, actions=faults, operations=calls, name=f"seed {seed}")
