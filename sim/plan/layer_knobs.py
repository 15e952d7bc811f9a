"""Sizes of logs, layers and blocks, so small that each is filled many times in a short run."""

from __future__ import annotations

from random import Random
from typing import TypedDict

from sim.plan.chance import choice

_KIB = 1 << 10


class LayerKnobs(TypedDict):
    """Some of the `sim.plan.schedule.Knobs`, by their names there."""

    wal_file_bytes: int
    fold_bytes: int
    block_bytes: int
    block_cache_bytes: int
    fan_out: int
    collect_ratio: float


def layer_knobs(random: Random, *, busy: bool = False) -> LayerKnobs:
    """A few records fill a layer, two layers are merged, and caches hold nothing, little or all.

    ``busy``: all of it as small as it can be, so that some record or other is always on its way.
    """
    return LayerKnobs(
        wal_file_bytes=choice(random, (4,) if busy else (4, 4, 8, 16)) * _KIB,
        fold_bytes=choice(random, (1,) if busy else (1, 1, 4, 16)) * _KIB,
        block_bytes=choice(random, (256, 256, 1 * _KIB, 4 * _KIB)),
        block_cache_bytes=choice(random, (0, 4 * _KIB, 8192 * _KIB)),
        fan_out=choice(random, (2, 2, 2, 4)),
        collect_ratio=choice(random, (0.01,) if busy else (0.01, 0.1, 0.5)),
    )
