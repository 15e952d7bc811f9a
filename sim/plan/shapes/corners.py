"""Corners: one after the other what needs three or four faults and calls in just one order.

Each run draws a few kinds of corner, and each corner its segments, its pauses and what is left out.
"""

from __future__ import annotations

from random import Random
from typing import Final

import attrs

from segments.protocol.record import PAGE_SIZE
from sim.plan.chance import between, choice, happens, some
from sim.plan.schedule import MS, Knobs
from sim.plan.seeds import Seeds
from sim.plan.shapes.corner import Corner
from sim.plan.shapes.corners_of_callers import CALLER_CORNERS, LAST_CALLER_CORNERS
from sim.plan.shapes.corners_of_writers import LAST_WRITER_CORNERS, WRITER_CORNERS
from sim.plan.shapes.dense_knobs import dense_knobs, whole_ms
from sim.plan.shapes.shape import Drawn, Shape


def _draw(seeds: Seeds) -> Drawn:
    random = seeds.stream("corners")
    run = Corner(random, _knobs(random, dense_knobs(seeds.stream("knobs"))))
    kinds = some(random, (*WRITER_CORNERS, *CALLER_CORNERS), between(random, 3, 6))
    for _ in range(between(random, 4, 8)):
        choice(random, kinds)(run)
        run.heal()
        run.wait(2, 30)
        if happens(random, 0.3):
            run.some_calls()
    if happens(random, 0.7):
        run.settle()
        choice(random, (*LAST_WRITER_CORNERS, *LAST_CALLER_CORNERS))(run)
    return Drawn(attrs.evolve(run.knobs, duration_ns=whole_ms(run.now)), run.calls, run.faults)


def _knobs(random: Random, knobs: Knobs) -> Knobs:
    """Dense ones; limits in bytes that a few pages fill, and a network that loses little."""
    calm = attrs.evolve(knobs.link, loss=0.0, reordering=0.0)
    small = happens(random, 0.5)
    return attrs.evolve(
        knobs,
        pg_count=choice(random, (1, 1, 2)),
        lal=choice(random, (2, 3, 4, 20, 20, 200)),
        retention_lsns=choice(random, (None, 0, 0, 1)),
        fold_bytes=1 << 10,
        collect_ratio=0.01,
        buffer_pool_pages=choice(random, (1, 2, 4, 8)) if small else knobs.buffer_pool_pages,
        max_mtr_writes=choice(random, (4, 4, 12)),
        batches_in_flight=choice(random, (1, 1, 4, 8)),
        max_mtr_bytes=4 * PAGE_SIZE,
        outgoing_bytes=choice(random, (4, 6)) * PAGE_SIZE,
        batch_bytes=choice(random, (1 << 10, 4 << 10, 16 << 10)),
        gossip_bytes=choice(random, (1 << 10, 16 << 10, 64 << 10)),
        gossip_interval_ns=choice(random, (20, 200, 1_000)) * MS,
        link=calm if happens(random, 0.7) else knobs.link,
    )


CORNERS: Final = Shape(
    "corners", "what needs three or four faults and calls in just one order", 12, _draw, False
)
