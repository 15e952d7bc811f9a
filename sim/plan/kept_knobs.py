"""How long old versions are kept, beside whatever a shape is after."""

from __future__ import annotations

from random import Random

import attrs

from sim.plan.chance import choice, happens
from sim.plan.schedule import MS, Knobs


def with_retention(random: Random, knobs: Knobs) -> Knobs:
    """``knobs``, in some runs with a time for which versions stay readable, too."""
    if not happens(random, 0.3):
        return knobs
    retention_ns = choice(random, (1, 10, 50, 200, 500)) * MS
    lsns = knobs.retention_lsns if happens(random, 0.3) else 0
    return attrs.evolve(knobs, retention_ns=retention_ns, retention_lsns=lsns)
