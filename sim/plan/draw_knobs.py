"""The shape of a run: its world's knobs, drawn from a seed."""

from __future__ import annotations

from random import Random

import attrs

from sim.plan.chance import choice
from sim.plan.layer_knobs import layer_knobs
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.schedule import SECOND, Knobs


def draw_knobs(random: Random) -> Knobs:
    """How fast, how faulty and how large everything is."""
    lossy = random.random() < 0.5
    link = LinkProfile(
        minimum_ns=choice(random, (50_000, 100_000, 500_000)),
        extra_mean_ns=choice(random, (20_000, 100_000, 1_000_000)),
        loss=random.random() * 0.05 if lossy else 0.0,
        duplication=random.random() * 0.05 if lossy else 0.0,
        reordering=random.random() * 0.2 if random.random() < 0.5 else 0.0,
    )
    cross = None
    if random.random() < 0.5:
        cross = attrs.evolve(link, minimum_ns=link.minimum_ns * 4)
    disk = DiskProfile(
        minimum_ns=choice(random, (20_000, 100_000)),
        extra_mean_ns=choice(random, (20_000, 200_000, 2_000_000)),
        write_failure=0.01 if random.random() < 0.2 else 0.0,
        sync_failure=0.01 if random.random() < 0.2 else 0.0,
    )
    return Knobs(
        pg_count=choice(random, (1, 1, 1, 2, 3)),
        lal=choice(random, (8, 20, 200, 100_000, 10_000_000)),
        retention_lsns=choice(random, (None, None, 0, 20, 200)),
        buffer_pool_pages=choice(random, (8, 16, 64)),
        batches_in_flight=choice(random, (1, 4, 8)),
        image_interval=choice(random, (1, 4, 16)),
        link=link,
        cross_az_link=cross,
        disk=disk,
        duration_ns=choice(random, (1, 2, 4)) * SECOND,
        max_mtr_writes=choice(random, (4_096, 4_096, 4_096, 3, 12)),
        max_mtr_bytes=choice(random, (4 << 20, 4 << 20, 16 << 10)),
        compact_bytes=choice(random, (4 << 10, 64 << 10)),
        **layer_knobs(random),
    )
