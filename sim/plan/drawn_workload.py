"""What clients do, drawn from a seed after a scenario's few numbers."""

from __future__ import annotations

from random import Random
from typing import Final

import attrs

from segments.protocol.record import PAGE_SIZE
from sim.plan.chance import below
from sim.plan.schedule import SECOND, Operation

READS: Final = ("get", "strict_get", "get_at", "view", "list")
"""The ways to read; see `Operation.kind`."""
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
    from_ns: int = 0
    until_ns: int = 2 * SECOND
    """The calls are made in the half-open ``[from_ns, until_ns)``."""

    def draw(self, random: Random, first_client: int) -> list[Operation]:
        """The operations, in no order; clients are numbered from ``first_client``."""
        return [self._operation(random, first_client) for _ in range(self.operations)]

    def _operation(self, random: Random, first_client: int) -> Operation:
        at_ns = self.from_ns + below(random, self.until_ns - self.from_ns)
        client = first_client + below(random, self.clients)
        if random.random() < self.write_share:
            kind, touched = "put", 1 + below(random, self.mtr_pages)
        else:
            kind, touched = self.reads[below(random, len(self.reads))], 1
        return Operation(
            at_ns=at_ns,
            client=client,
            kind=kind,
            pages=tuple(below(random, self.pages) for _ in range(touched)),
            offset=_WORD * below(random, (PAGE_SIZE - self.length) // _WORD - self.mtr_pages),
            length=self.length,
            age=random.random(),
            cached=self.cached,
            sticky=self.sticky,
        )
