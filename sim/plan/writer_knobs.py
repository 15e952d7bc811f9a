"""What a writer keeps of old versions, asks for at a time, and writes in one step."""

from __future__ import annotations

from random import Random

import attrs

from segments.protocol.record import PAGE_SIZE
from sim.plan.chance import choice
from sim.plan.schedule import Knobs


def with_writer_limits(random: Random, knobs: Knobs) -> Knobs:
    """``knobs``, with bounds of the writer that are reached soon, or never."""
    return attrs.evolve(
        knobs,
        old_versions=choice(random, (0, 1, 4, 64)),
        reads_in_flight=choice(random, (1, 2, 64)),
        part_writes=choice(random, (4_096, 4_096, 1, 2, 3, 8)),
        part_bytes=choice(random, (4 << 20, PAGE_SIZE)),
    )
