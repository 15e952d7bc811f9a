"""Runs whose clients call in SQL: under the faults of whatever shape their seed has drawn.

The volume is a database then, and nobody else writes to it; calls that read pages stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import attrs

from sim.plan.chance import below, between, choice, happens
from sim.plan.schedule import MS, READS, SQL, Knobs, Operation

SHARE: Final = 0.2
"""Of the seeds whose shape can do with it."""
_MOST_CALLS: Final = 120
_SETUPS: Final = 3
"""Calls that make the tables, as the first may be lost with its writer."""
_ROOM: Final = 64
"""Times the space of a disk: pages of a database are larger than what other clients write."""
ACCOUNTS: Final = 8
USUAL_WRITES: Final = (
    *("transfer",) * 6, *("auto",) * 5, *("function",) * 3, *("savepoint",) * 2, *("caught",) * 2,
    *("many",) * 2,
    "rollback", "bulk", "unbulk", "delete", "vacuum", "backtrack",
)  # fmt: skip
USUAL_READS: Final = (
    *("query",) * 3, *("snapshot",) * 3, *("at",) * 2, *("head",) * 2, "few", "history", "audit",
    "refused", "close",
)  # fmt: skip


def draws_sql(random: Random) -> bool:
    """Whether a seed's clients call in SQL."""
    return happens(random, SHARE)


def with_sql(
    random: Random, knobs: Knobs, calls: Sequence[Operation]
) -> tuple[Knobs, list[Operation]]:
    """Knobs under which a database can be used, and the calls of a bank's clients."""
    max_mtr_bytes = max(knobs.max_mtr_bytes, choice(random, (4 << 20, 256 << 10)))
    knobs = attrs.evolve(
        knobs,
        lal=max(knobs.lal, choice(random, (500, 5_000, 100_000))),
        max_mtr_writes=choice(random, (4_096, 4_096, 40, 16)),
        max_mtr_bytes=max_mtr_bytes,
        outgoing_bytes=max(knobs.outgoing_bytes, max_mtr_bytes),
        buffer_pool_pages=max(knobs.buffer_pool_pages, choice(random, (24, 64, 256))),
        disk_bytes=None if knobs.disk_bytes is None else _ROOM * knobs.disk_bytes,
    )
    found = [_setup(random, at * knobs.duration_ns // 8) for at in range(_SETUPS)]
    found += [each for each in calls if each.kind in READS and happens(random, 0.2)]
    count = min(_MOST_CALLS, max(30, len(calls) // 2))
    clients, writes = between(random, 1, 8), 0.3 + 0.5 * random.random()
    impatient = choice(random, (0.0, 0.0, 0.1, 0.3))
    bursts, sticky = choice(random, (0.0, 0.3, 0.8)), choice(random, (0.0, 0.0, 0.5))
    hold_ns = choice(random, (MS, 20 * MS, 200 * MS))
    at_ns = 0
    for _ in range(count):
        if not happens(random, bursts):
            at_ns = below(random, knobs.duration_ns)
        way = choice(random, USUAL_WRITES if happens(random, writes) else USUAL_READS)
        call = Operation(
            at_ns=at_ns,
            client=below(random, clients),
            kind=SQL,
            way=way,
            pages=(below(random, ACCOUNTS), below(random, ACCOUNTS)),
            offset=1 + below(random, choice(random, (10, 60))),
            length=8 + below(random, choice(random, (8, 60, 300))),
            age=choice(random, (0.0, 1.0, random.random(), random.random())),
            hold_ns=below(random, hold_ns) if happens(random, 0.5) else 0,
            sticky=happens(random, sticky),
            patience_ns=_patience(random) if happens(random, impatient) else None,
        )
        found.append(call)
    return knobs, found


def _setup(random: Random, at_ns: int) -> Operation:
    return Operation(at_ns=at_ns, client=below(random, 2), kind=SQL, way="setup", pages=(0, 1))


def _patience(random: Random) -> int:
    return below(random, choice(random, (1, MS // 2, 3 * MS, 100 * MS)))


def last_calls(client: int, at_ns: int) -> list[Operation]:
    """Once everything heals: something is acknowledged, and an audit, by a client of its own."""
    return [
        Operation(at_ns=at_ns, client=client, kind=SQL, way=way, pages=(0, 1))  # of no money
        for way in ("setup", "auto", "audit")
    ]
