"""Bursts of a few writes, and lulls between them, in which all comes to rest.

What is at rest is exactly where something else is: SCLs at bases, floors at VDLs, queues empty. Who
was away in one burst returns at the next one's beginning, or in the lull before, often just as
others go; and writers come in lulls. Nothing else wakes what a burst has left asleep.
"""

from __future__ import annotations

from random import Random
from typing import Final

import attrs

from segments.protocol.record import PAGE_SIZE
from sim.plan.chance import below, between, choice, happens, some
from sim.plan.profiles import DiskProfile
from sim.plan.schedule import MS, Action, Knobs, Operation
from sim.plan.seeds import Seeds
from sim.plan.shapes.dense_knobs import dense_knobs, whole_ms
from sim.plan.shapes.reach import LETTERS
from sim.plan.shapes.shape import Drawn, Shape

_FIRST_NS: Final = 3 * MS
_MTR_PAGES: Final = 3
_AWAY: Final = (0, 1, 1, 2, 2, 2, 3)
_READS: Final = ("get", "get_at", "view", "strict_get", "list", "many", "head", "changes")


def _draw(seeds: Seeds) -> Drawn:
    random = seeds.stream("lulls")
    knobs = attrs.evolve(
        dense_knobs(seeds.stream("knobs")),
        pg_count=choice(random, (1, 1, 2)),
        lal=choice(random, (20, 100_000)),
        retention_lsns=choice(random, (0, 0, 3, 10)),
        buffer_pool_pages=choice(random, (3, 4, 64)),
        max_mtr_writes=_MTR_PAGES,
        max_mtr_bytes=2 * PAGE_SIZE,
        outgoing_bytes=choice(random, (2, 2, 64)) * PAGE_SIZE,
        gossip_interval_ns=choice(random, (5, 20, 100)) * MS,
        gossip_bytes=choice(random, (4 << 10, 16 << 10)),
        fold_bytes=choice(random, (1 << 10, 1 << 10, 4 << 10)),
        compact_bytes=choice(random, (0, 1 << 10, 64 << 10)),
        compact_ratio=choice(random, (1.1, 2.0)),
        scrub_interval_ns=choice(random, (10, 50)) * MS,
    )
    disks = seeds.stream("lulls disks")
    if happens(disks, 0.4):  # what is taken from a peer takes many writes, and each of them long
        knobs = attrs.evolve(
            knobs,
            write_bytes=choice(disks, (1 << 10, 16 << 10)),
            disk=DiskProfile(minimum_ns=MS, extra_mean_ns=choice(disks, (0, 5)) * MS),
        )
    lulls = _Lulls(random, knobs)
    for _ in range(between(random, 3, 8)):
        lulls.burst()
    return Drawn(attrs.evolve(knobs, duration_ns=whole_ms(lulls.now)), lulls.calls, lulls.faults)


class _Lulls:
    """Draws one run, burst by burst."""

    def __init__(self, random: Random, knobs: Knobs) -> None:
        self.calls: list[Operation] = []
        self.faults: list[Action] = []
        self.now = _FIRST_NS
        self._random = random
        self._clients = between(random, 1, 4)
        self._pages = choice(random, (1, 2, 6, 12)) * knobs.pg_count
        self._most = min(_MTR_PAGES, knobs.buffer_pool_pages)
        self._length = choice(random, (8, 100, PAGE_SIZE // 2))
        self._writes = choice(random, (1, 3, 8))
        self._lull_ns = choice(random, (20, 60, 150, 500)) * MS
        self._impatient = choice(random, (0.0, 0.0, 0.4))
        self._successors = choice(random, (0.0, 0.3, 0.7))
        self._crash = happens(random, 0.5)
        """Whether who is away is down, or else only out of its writers' reach."""
        self._down: tuple[str, ...] = ()

    def burst(self) -> None:
        """Some go, or come and go at once; calls; perhaps another writer; then a lull."""
        random = self._random
        self._come_back(chance=0.5)
        self._go()
        self.now += below(random, 2 * MS)
        for _ in range(between(random, 1, self._writes)):
            self._call(writes=True)
        for _ in range(below(random, 3)):
            self._call(writes=False)
        self.now += 2 * MS
        if happens(random, 0.7):
            self._lull()
        if happens(random, self._successors):
            self._fault(choice(random, ("recover", "recover", "take_over")))
            self._lull()
        self._come_back(chance=0.4)
        self._lull()

    def _lull(self) -> None:
        self.now += self._lull_ns + below(self._random, self._lull_ns)

    def _go(self) -> None:
        """Others go; whoever was away returns at the same moment."""
        returning, count = self._down, choice(self._random, _AWAY)
        others = [each for each in LETTERS if each not in returning]
        self._come_back(chance=1.0)
        self._down = tuple(some(self._random, others, count))
        if not self._down:
            return
        if self._crash:
            self._fault("crash", ",".join(self._down))
        else:
            self._fault("partition", "writers", others=",".join(self._down))

    def _come_back(self, chance: float) -> None:
        if self._down and happens(self._random, chance):
            self._fault(*(("restart", ",".join(self._down)) if self._crash else ("heal_network",)))
            self._down = ()

    def _fault(self, kind: str, target: str = "", **params: object) -> None:
        self.faults.append(Action(at_ns=self.now, kind=kind, target=target, params=params))

    def _call(self, *, writes: bool) -> None:
        random = self._random
        count = between(random, 1, self._most) if writes else 1
        operation = Operation(
            at_ns=self.now + below(random, 2 * MS),
            client=below(random, self._clients),
            kind="put" if writes else choice(random, _READS),
            pages=tuple(below(random, self._pages) for _ in range(count)),
            offset=8 * below(random, 100),
            length=self._length,
            age=random.random() * 0.1,
            cached=happens(random, 0.5),
            patience_ns=below(random, MS) if happens(random, self._impatient) else None,
        )
        self.calls.append(operation)


LULLS: Final = Shape(
    "lulls", "a few writes at a time, and between them nothing but what is still asleep", 2, _draw
)
