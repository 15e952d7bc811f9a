"""Batches that are lost while their writer lives: to all six at once, to a few, or their answers.

Short cuts follow each other, and clients write just before and within them. In most of these runs
gossip comes too late to help, so that what was lost must be sent again.
"""

from __future__ import annotations

from random import Random
from typing import Final

import attrs

from sim.plan.chance import below, between, choice, happens, some
from sim.plan.schedule import MS, Action, Knobs, Operation
from sim.plan.seeds import Seeds
from sim.plan.shapes.dense_knobs import dense_knobs, whole_ms
from sim.plan.shapes.reach import LETTERS
from sim.plan.shapes.shape import Drawn, Shape

_US: Final = 1_000
_FIRST_NS: Final = 3 * MS


def _draw(seeds: Seeds) -> Drawn:
    random = seeds.stream("losses")
    knobs = attrs.evolve(
        dense_knobs(seeds.stream("knobs")),
        pg_count=choice(random, (1, 1, 2)),
        lal=choice(random, (5, 20, 200, 100_000)),
        gossip_interval_ns=choice(random, (1, 5, 10, 10)) * 1_000 * MS,
    )
    losses = _Losses(random, knobs)
    for _ in range(between(random, 4, 16)):
        losses.cut()
    return Drawn(attrs.evolve(knobs, duration_ns=whole_ms(losses.now)), losses.calls, losses.faults)


class _Losses:
    """Draws one run, cut by cut."""

    def __init__(self, random: Random, knobs: Knobs) -> None:
        self.calls: list[Operation] = []
        self.faults: list[Action] = []
        self.now = _FIRST_NS
        self._random = random
        self._clients = between(random, 1, 6)
        self._pages = choice(random, (2, 6, 20))
        self._most = min(3, knobs.lal, knobs.buffer_pool_pages)
        self._longest_us = choice(random, (500, 2_000, 5_000))
        self._pause_us = choice(random, (500, 5_000, 30_000))
        self._everybody = random.random()
        """Share of cuts that hit all segments."""
        self._deaths = choice(random, (0.0, 0.0, 0.2, 0.5))

    def cut(self) -> None:
        """One cut, the calls around it, and sometimes the end of the writer."""
        random = self._random
        length = 100 * _US + below(random, self._longest_us * _US)
        who = ",".join(some(random, LETTERS, between(random, 1, 5)))
        if happens(random, self._everybody):
            who = ",".join(LETTERS)
        kind = choice(random, ("cut", "cut", "cut", "partition", "clog"))
        sides = ("writer", who) if happens(random, 0.7) else (who, "writer")
        self._fault(kind, sides[0], others=sides[1])
        for _ in range(between(random, 1, 4)):
            self._call(self.now + below(random, 2 * length) - length // 2)
        self.now += length
        if happens(random, self._deaths):
            self._fault("recover")
        self._fault("heal_network")
        self.now += below(random, self._pause_us * _US)

    def _fault(self, kind: str, target: str = "", **params: object) -> None:
        self.faults.append(Action(at_ns=self.now, kind=kind, target=target, params=params))

    def _call(self, at_ns: int) -> None:
        random = self._random
        writes = happens(random, 0.85)
        count = between(random, 1, self._most) if writes else 1
        operation = Operation(
            at_ns=max(0, at_ns),
            client=below(random, self._clients),
            kind="put" if writes else choice(random, ("get", "strict_get", "get_at")),
            pages=tuple(below(random, self._pages) for _ in range(count)),
            offset=8 * below(random, 100),
            length=choice(random, (8, 100)),
            age=random.random(),
            cached=happens(random, 0.5),
        )
        self.calls.append(operation)


LOSSES: Final = Shape(
    "losses", "batches lost on their way to all six or to a few, and no gossip in time", 2, _draw
)
