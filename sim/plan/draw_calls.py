"""What the clients of a run call, drawn from a seed.

First the habits of all clients (`Calls`), then call by call. A shape that wants something of them,
more calls or more haste, draws the usual habits and changes what it cares for.
"""

from __future__ import annotations

from random import Random
from typing import Final

import attrs

from segments.protocol.ids import MAX_INTEGER
from segments.protocol.record import PAGE_SIZE
from sim.plan.chance import below, choice
from sim.plan.schedule import MS, READS, SECOND, WAYS, Knobs, Operation
from sim.plan.wrong_calls import WRONG_CALLS

_USUAL_READS: Final = (*("get",) * 5, *("strict_get",) * 3, *READS[2:], "view")
_FEW_PAGES: Final = 4
_MOST_READ: Final = {"view": _FEW_PAGES, "many": 40}
"""Pages that one call reads."""
_WORD: Final = 8
_HOLDING: Final = ("mtr", "submit")
_UNTOUCHED: Final = 0.05
"""Reads of pages that nobody writes."""


@attrs.frozen(kw_only=True)
class Calls:
    """The habits of a run's clients. Shares are of all calls, if not said otherwise: 0 to 1."""

    clients: int = 4
    count: int = 150
    """Calls of all clients together."""
    pages: int = 12
    """How many different pages they write."""
    write_share: float = 0.6
    reads: tuple[str, ...] = _USUAL_READS
    """Ways to read, each as likely as another (named twice: twice as likely)."""
    sticky: float = 0.0
    """Calls whose client keeps its writer although another has taken over."""
    early: float = 0.0
    """Calls of the latest writer, whether it has opened the volume or not."""
    uncached: float = 0.0
    """Reads that a segment has to answer."""
    impatient: float = 0.0
    """Calls that are cancelled after a while."""
    patiences_ns: tuple[int, ...] = (0, MS // 2, 3 * MS, 100 * MS)
    """The most that one of them waits; what it waits is drawn below that."""
    opens: float = 0.0
    """Calls that have another writer take over."""
    wrong: float = 0.0
    """Calls with a mistake in them."""
    bursts: float = 0.0
    """Calls made at the very moment of the one before, by another client."""
    follow: float = 0.0
    """Calls that the client of the one before makes as soon as that has returned."""
    other_ways: float = 0.0
    """Writes that are not made by ``put_many``."""
    wide: float = 0.0
    """Writes of as many pages, or parts of pages, as an MTR may have, or `most_writes`."""
    most_writes: int = 24
    together: float = 0.0
    """Writes of several pages that all lie in one protection group."""
    large: float = 0.0
    """Writes of up to a whole page, anywhere in it."""
    hold_ns: int = SECOND
    """The longest that a view is kept open."""
    from_ns: int = 0
    until_ns: int | None = None
    """The calls are made in the half-open ``[from_ns, until_ns)``; None: until all heals."""


def usual_calls(random: Random) -> Calls:
    """The habits of a run that wants nothing special: in swarms, each with its own few."""

    def sometimes(chance: float, most: float) -> float:
        drawn, share = random.random(), random.random()
        return share * most if drawn < chance else 0.0

    return Calls(
        clients=choice(random, (2 + below(random, 7),) * 5 + (24,)),
        count=choice(random, (60, 150, 300)),
        pages=choice(random, (3, 12, 40)),
        write_share=0.4 + random.random() * 0.5,
        sticky=0.7 if random.random() < 0.3 else 0.0,
        early=sometimes(0.3, 0.3),
        uncached=sometimes(0.3, 1.0),
        impatient=sometimes(0.4, 0.5),
        opens=sometimes(0.2, 0.05),
        wrong=sometimes(0.6, 0.2),
        bursts=sometimes(0.4, 0.95),
        follow=sometimes(0.4, 0.5),
        other_ways=sometimes(0.6, 1.0),
        wide=sometimes(0.3, 0.3),
        together=sometimes(0.5, 1.0),
        large=sometimes(0.2, 0.2),
        hold_ns=choice(random, (10 * MS, 100 * MS, SECOND)),
    )


def draw_calls(random: Random, knobs: Knobs, calls: Calls | None = None) -> tuple[Operation, ...]:
    """The calls of all clients, in the order of their times; by default with the usual habits."""
    drawing = _Drawing(random, knobs, calls or usual_calls(random))
    return tuple(sorted(drawing.operations(), key=lambda each: each.at_ns))


class _Drawing:
    """Draws the calls of one run."""

    def __init__(self, random: Random, knobs: Knobs, calls: Calls) -> None:
        self._random = random
        self._knobs = knobs
        self._calls = calls
        self._until_ns = knobs.duration_ns if calls.until_ns is None else calls.until_ns
        self._most_writes = min(knobs.max_mtr_writes, knobs.lal, calls.most_writes)

    def operations(self) -> list[Operation]:
        found: list[Operation] = []
        for _ in range(self._calls.count):
            found.append(self._operation(found[-1] if found else None))
        return found

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _operation(self, before: Operation | None) -> Operation:
        random, calls = self._random, self._calls
        at_ns = calls.from_ns + below(random, self._until_ns - calls.from_ns)
        client = below(random, calls.clients)
        if before is not None and self._chance(calls.bursts):
            at_ns = before.at_ns
        elif before is not None and self._chance(calls.follow):
            at_ns, client = before.at_ns, before.client
        if self._chance(calls.wrong):
            kind = "wrong"
        elif self._chance(calls.opens):
            kind = "open"
        else:
            kind = "put" if self._chance(calls.write_share) else choice(random, calls.reads)
        operation = Operation(
            at_ns=at_ns,
            client=client,
            kind=kind,
            pages=self._pages_read(kind, before),
            age=choice(random, (0.0, 1.0, random.random(), random.random())),
            cached=not self._chance(calls.uncached),
            sticky=self._chance(calls.sticky),
            early=self._chance(calls.early),
            hold_ns=below(random, calls.hold_ns) if kind == "view" else 0,
            patience_ns=self._patience() if self._chance(calls.impatient) else None,
        )
        if kind == "put":
            return self._write(operation)
        if kind == "wrong":
            way, wrong = choice(random, WAYS), choice(random, tuple(WRONG_CALLS))
            return attrs.evolve(operation, way=way, wrong=wrong)
        return operation

    def _patience(self) -> int:
        most = choice(self._random, self._calls.patiences_ns)
        return below(self._random, most + 1)

    # ---- reads -----------------------------------------------------------------------------------

    def _pages_read(self, kind: str, before: Operation | None) -> tuple[int, ...]:
        random = self._random
        if self._chance(_UNTOUCHED):
            return (choice(random, (self._calls.pages, self._calls.pages + 1, MAX_INTEGER)),)
        if before is not None and before.kind == "put" and self._chance(0.3):
            return before.pages[:1]  # what has just been written, often by the same client
        count = (
            1 + below(random, _MOST_READ[kind]) if kind in _MOST_READ and self._chance(0.5) else 1
        )
        return tuple(below(random, self._calls.pages) for _ in range(count))

    # ---- writes ----------------------------------------------------------------------------------

    def _write(self, operation: Operation) -> Operation:
        random, calls = self._random, self._calls
        way = choice(random, WAYS) if self._chance(calls.other_ways) else "put_many"
        count = 1 + below(random, _FEW_PAGES)
        if self._chance(calls.wide):
            count = 1 + below(random, self._most_writes)
        count = 1 if way == "put" else min(count, self._most_writes)
        length = choice(random, (8, 16, 100))
        if self._chance(calls.large):
            length = choice(random, (1_000, PAGE_SIZE // 2, PAGE_SIZE, below(random, PAGE_SIZE)))
        length = max(_WORD, min(length, self._knobs.max_mtr_bytes // count))
        last = PAGE_SIZE - length
        offset = choice(random, (_WORD * below(random, 1 + last // _WORD),) * 6 + (0, last))
        return attrs.evolve(
            operation,
            way=way,
            pages=self._pages_written(count),
            offset=offset,
            length=length,
            hold_ns=below(random, 2 * MS) if way in _HOLDING and self._chance(0.5) else 0,
        )

    def _pages_written(self, count: int) -> tuple[int, ...]:
        """The pages of an MTR, some of them twice."""
        random, groups = self._random, self._knobs.pg_count
        group = below(random, groups) if self._chance(self._calls.together) else None
        found: list[int] = []
        for _ in range(count):
            page = below(random, self._calls.pages)
            if group is not None and self._calls.pages >= groups:
                page = (page - page % groups + group) % (self._calls.pages // groups * groups)
            found.append(page)
        return tuple(found)
