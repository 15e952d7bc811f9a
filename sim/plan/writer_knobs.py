"""What a writer keeps of old versions, and how much it asks for at a time."""

from __future__ import annotations

from random import Random

import attrs

from sim.plan.chance import choice
from sim.plan.schedule import Knobs


def with_writer_limits(random: Random, knobs: Knobs) -> Knobs:
    """``knobs``, with bounds of the writer that are reached soon, or never."""
    return attrs.evolve(
        knobs,
        old_versions=choice(random, (0, 1, 4, 64)),
        reads_in_flight=choice(random, (1, 2, 64)),
    )
