"""How long old versions are kept, and how much may be, beside whatever a shape is after."""

from __future__ import annotations

from random import Random
from typing import Final

import attrs

from sim.plan.chance import choice, happens
from sim.plan.schedule import MS, Knobs

_KIB: Final = 1 << 10
_LEAST: Final = 16
"""Space for so many files of the log, or folds, is the least there can be. With half of what is
drawn here, a few pages written in full before anything is durable fill it for good."""


def with_limits(random: Random, knobs: Knobs) -> Knobs:
    """``knobs``, in some runs with a time for which versions stay readable, or little space."""
    if happens(random, 0.3):
        lsns = knobs.retention_lsns if happens(random, 0.3) else 0
        retention_ns = choice(random, (1, 10, 50, 200, 500)) * MS
        knobs = attrs.evolve(knobs, retention_ns=retention_ns, retention_lsns=lsns)
    if happens(random, 0.15):
        disk_bytes = _LEAST * _KIB * choice(random, (8, 8, 10, 12))
        lsns = 0 if happens(random, 0.7) else knobs.retention_lsns
        knobs = attrs.evolve(
            knobs, disk_bytes=disk_bytes, retention_lsns=lsns, wal_file_bytes=_KIB, fold_bytes=_KIB
        )
    return knobs
