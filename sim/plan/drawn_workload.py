"""What clients do, drawn from a seed after a scenario's few numbers."""

from __future__ import annotations

from random import Random
from typing import Final

import attrs

from segments.protocol.record import PAGE_SIZE
from sim.plan.chance import below, choice
from sim.plan.schedule import SECOND, Operation
from sim.plan.wrong_calls import WRONG_CALLS

_WORD: Final = 8


@attrs.frozen(kw_only=True)
class Workload:
    """A number of clients that write and read pages at random times."""

    clients: int = 4
    operations: int = 300
    """Calls of all clients together."""
    write_share: float = 0.6
    pages: int = 24
    mtr_pages: int = 3
    """The most pages that the MTR of a write touches."""
    length: int = 16
    """Bytes written to each of them, at least 8."""
    reads: tuple[str, ...] = ("get",)
    """The kinds of read, each as likely as the others."""
    cached: bool = True
    """Whether the buffer pool may answer reads."""
    sticky: bool = False
    """Whether clients keep their writer although another has taken over."""
    early: bool = False
    """Whether clients call the latest writer although it may not have opened the volume yet."""
    ways: tuple[str, ...] = ("put_many",)
    """The calls that write, each as likely as the others; ``put`` takes one page."""
    hold_ns: int = SECOND
    """The longest that a view is kept open."""
    patience_ns: int | None = None
    """The longest that an impatient caller waits; None: nobody is impatient."""
    impatient: float = 1.0
    """Fraction of the calls that are cancelled after a time below that."""
    wrong: float = 0.0
    """Fraction of the calls with a mistake in them."""
    from_ns: int = 0
    until_ns: int = 2 * SECOND
    """The calls are made in the half-open ``[from_ns, until_ns)``."""

    def draw(self, random: Random, first_client: int) -> list[Operation]:
        """The operations, in no order; clients are numbered from ``first_client``."""
        return [self._operation(random, first_client) for _ in range(self.operations)]

    def _operation(self, random: Random, first_client: int) -> Operation:
        at_ns = self.from_ns + below(random, self.until_ns - self.from_ns)
        client = first_client + below(random, self.clients)
        way, wrong = "put_many", ""
        if random.random() < self.write_share:
            kind, touched = "put", 1 + below(random, self.mtr_pages)
            way = self.ways[0] if len(self.ways) == 1 else choice(random, self.ways)
            touched = 1 if way == "put" else touched
        else:
            kind, touched = self.reads[below(random, len(self.reads))], 1
        pages = tuple(below(random, self.pages) for _ in range(touched))
        offset = _WORD * below(random, max(1, (PAGE_SIZE - self.length) // _WORD - self.mtr_pages))
        age = random.random()
        if self.wrong and random.random() < self.wrong:
            kind, way, wrong = "wrong", "put_many", choice(random, tuple(WRONG_CALLS))
        return Operation(
            at_ns=at_ns,
            client=client,
            kind=kind,
            pages=pages,
            offset=offset,
            length=self.length,
            age=age,
            cached=self.cached,
            sticky=self.sticky,
            early=self.early,
            way=way,
            hold_ns=int(age * self.hold_ns) if kind == "view" else 0,
            patience_ns=self._patience(random),
            wrong=wrong,
        )

    def _patience(self, random: Random) -> int | None:
        if self.patience_ns is None or random.random() >= self.impatient:
            return None
        return below(random, self.patience_ns + 1)
