"""Limits that are reached: quorums stall, and several clients write as much as there is room for.

Payloads are as large as a page can take, and batches hold a few of them. Besides, either the pool
and the LSN allocation limit have room for a few records, or the outgoing logs have.
"""

from __future__ import annotations

from random import Random
from typing import Final

import attrs

from segments.protocol.record import PAGE_SIZE
from sim.plan.chance import below, between, choice, happens
from sim.plan.schedule import MS, Action, Knobs, Operation
from sim.plan.seeds import Seeds
from sim.plan.shapes.dense_knobs import dense_knobs, whole_ms
from sim.plan.shapes.reach import Reach
from sim.plan.shapes.shape import Drawn, Shape

_FIRST_NS: Final = 3 * MS
_MTR_PAGES: Final = 3
_STALLED: Final = (1, 2, 3, 3, 3)
_LARGEST: Final = PAGE_SIZE - 8 * _MTR_PAGES  # a page may be written so often in one MTR


def _draw(seeds: Seeds) -> Drawn:
    random = seeds.stream("limits")
    knobs = attrs.evolve(
        dense_knobs(seeds.stream("knobs")),
        pg_count=choice(random, (1, 1, 2)),
        max_mtr_writes=_MTR_PAGES,
        max_mtr_bytes=4 * PAGE_SIZE,
        batch_bytes=choice(random, (1 << 10, 4 << 10, 16 << 10)),
        gossip_bytes=choice(random, (1 << 10, 16 << 10, 64 << 10)),
        gossip_interval_ns=choice(random, (20, 200, 1_000)) * MS,
    )
    if happens(random, 0.5):
        lal, pool = choice(random, (2, 5, 20)), choice(random, (1, 2, 4))
        knobs = attrs.evolve(knobs, lal=lal, buffer_pool_pages=pool)
    else:
        knobs = attrs.evolve(knobs, lal=100_000, buffer_pool_pages=64, outgoing_bytes=4 * PAGE_SIZE)
    limits = _Limits(random, knobs)
    for _ in range(between(random, 2, 6)):
        limits.stall()
    return Drawn(attrs.evolve(knobs, duration_ns=whole_ms(limits.now)), limits.calls, limits.faults)


class _Limits:
    """Draws one run, stall by stall."""

    def __init__(self, random: Random, knobs: Knobs) -> None:
        self.calls: list[Operation] = []
        self.faults: list[Action] = []
        self.now = _FIRST_NS
        self._random = random
        self._reach = Reach(random, knobs.pg_count)
        self._clients = between(random, 3, 12)
        self._pages = choice(random, (2, 6, 20))
        self._most = min(_MTR_PAGES, knobs.lal, knobs.buffer_pool_pages)
        self._lengths = choice(random, ((8,), (16, 2_000), (_LARGEST,), (2_000, _LARGEST)))
        self._longest = choice(random, (3, 10, 40)) * MS

    def stall(self) -> None:
        """No write quorum for a while, calls meanwhile and after it, and perhaps a new writer."""
        random = self._random
        away = self._reach.away(_STALLED)
        slow = happens(random, 0.2)
        if not slow:
            self.faults += self._reach.cut_off(self.now, "writer", away)
        else:
            self._fault("slow_disk", away, factor=50)
        self._call(between(random, 3, 14))
        self.now += below(random, self._longest)
        if happens(random, 0.2):
            self._fault(choice(random, ("recover", "take_over")))
        if slow:
            self._fault("slow_disk", away, factor=1)
        else:
            self._fault("heal_network")
        self._call(between(random, 0, 4))
        self.now += below(random, self._longest)

    def _fault(self, kind: str, target: str = "", **params: object) -> None:
        self.faults.append(Action(at_ns=self.now, kind=kind, target=target, params=params))

    def _call(self, count: int) -> None:
        random = self._random
        for _ in range(count):
            writes = happens(random, 0.75)
            kind = choice(
                random, ("get", "get_at", "view", "strict_get", "list", "many", "head", "changes")
            )
            pages = between(random, 1, self._most) if writes else 1
            length = choice(random, self._lengths)
            operation = Operation(
                at_ns=self.now + below(random, self._longest // 2),
                client=below(random, self._clients),
                kind="put" if writes else kind,
                pages=tuple(below(random, self._pages) for _ in range(pages)),
                offset=8 * below(random, (_LARGEST - length) // 8 + 1),
                length=length,
                age=random.random() * 0.05,
                cached=happens(random, 0.5),
            )
            self.calls.append(operation)


LIMITS: Final = Shape(
    "limits", "stalled quorums and many writers, with every limit as small as it can be", 2, _draw
)
