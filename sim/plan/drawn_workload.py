"""What clients do, drawn from a seed after a scenario's few numbers."""

from __future__ import annotations

from random import Random
from typing import Final

import attrs

from segments.protocol.record import PAGE_SIZE
from sim.plan.chance import below, choice
from sim.plan.schedule import SECOND, SQL, Operation
from sim.plan.sql_calls import ACCOUNTS
from sim.plan.wrong_calls import WRONG_CALLS

_WORD: Final = 8
_MOST_MONEY: Final = 30
_HELD: Final = 0.5
"""Of the calls in SQL, those that let time pass amid what they do, where they can."""


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
    sql: bool = False
    """Whether clients call in SQL: ``ways`` and ``reads`` are SQL's then."""
    from_ns: int = 0
    until_ns: int = 2 * SECOND
    """The calls are made in the half-open ``[from_ns, until_ns)``."""

    def draw(self, random: Random, first_client: int) -> list[Operation]:
        """The operations, in no order; clients are numbered from ``first_client``."""
        draw = self._in_sql if self.sql else self._operation
        found = [draw(random, first_client) for _ in range(self.operations)]
        if self.sql and found:
            setup = Operation(
                at_ns=self.from_ns, client=first_client, kind=SQL, way="setup", pages=(0, 1)
            )
            found.insert(0, setup)
        return found

    def _in_sql(self, random: Random, first_client: int) -> Operation:
        writes = random.random() < self.write_share
        return Operation(
            at_ns=self.from_ns + below(random, self.until_ns - self.from_ns),
            client=first_client + below(random, self.clients),
            kind=SQL,
            way=choice(random, self.ways if writes else self.reads),
            pages=(below(random, ACCOUNTS), below(random, ACCOUNTS)),
            offset=1 + below(random, _MOST_MONEY),
            length=_WORD + below(random, max(1, self.length - _WORD)),
            age=random.random(),
            sticky=self.sticky,
            hold_ns=below(random, self.hold_ns) if random.random() < _HELD else 0,
            patience_ns=self._patience(random),
        )

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
