"""How long old versions are kept, and how much may be, beside whatever a shape is after."""

from __future__ import annotations

from random import Random

import attrs

from sim.plan.chance import choice, happens
from sim.plan.schedule import MS, Knobs

_OF_A_FILE = 16
"""The least space is so many times a file of the log, or what makes a fold due."""


def with_limits(random: Random, knobs: Knobs) -> Knobs:
    """``knobs``, in some runs with a time for which versions stay readable, or little space."""
    if happens(random, 0.3):
        lsns = knobs.retention_lsns if happens(random, 0.3) else 0
        retention_ns = choice(random, (1, 10, 50, 200, 500)) * MS
        knobs = attrs.evolve(knobs, retention_ns=retention_ns, retention_lsns=lsns)
    if happens(random, 0.2):
        least = _OF_A_FILE * max(knobs.wal_file_bytes, knobs.fold_bytes)
        knobs = attrs.evolve(knobs, disk_bytes=least * choice(random, (1, 1, 2, 4)))
    return knobs
