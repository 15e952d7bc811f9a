"""Short, dense runs about power and disks: crashes by the millisecond, and logs written anew.

Everything that a segment does with its disk happens many times in them: settings that decide when
are drawn small, and some calls write whole pages, so that limits in bytes are filled.
"""

from __future__ import annotations

from random import Random
from typing import Final

import attrs

from sim.plan.chance import below, choice, happens
from sim.plan.layer_knobs import layer_knobs
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.roll_backs import with_roll_backs
from sim.plan.schedule import MS, Action, Knobs, Operation
from sim.plan.seeds import Seeds
from sim.plan.shapes.power_faults import draw_absences, draw_power_faults
from sim.plan.shapes.shape import Drawn, Shape

_KIB: Final = 1 << 10
_US: Final = 1_000
_DISKS: Final = ((20, 20), (20, 500), (200, 500), (500, 2_000), (1_000, 5_000))
"""Microseconds at least, and in the mean beyond that: from a few writes under way at a crash to
one under way on every disk."""
_LONGEST_WRITE: Final = 8_000


def draw_power_knobs(random: Random) -> Knobs:
    """A fast network; disks from fast to slow; everything that makes a log change, small."""
    gappy = random.random() < 0.4  # a log is mostly written anew with records above a gap
    lossy = gappy or random.random() < 0.5
    link = LinkProfile(
        minimum_ns=choice(random, (20, 50, 100)) * _US,
        extra_mean_ns=choice(random, (20, 100, 300)) * _US,
        loss=choice(random, (0.08, 0.15)) if gappy else random.random() * 0.1 if lossy else 0.0,
        duplication=random.random() * 0.05 if lossy else 0.0,
        reordering=random.random() * 0.2 if random.random() < 0.3 else 0.0,
        reordering_mean_ns=choice(random, (500, 5_000)) * _US,
    )
    minimum, extra = choice(random, _DISKS[:2] if gappy else _DISKS)
    failing = random.random() < 0.2
    churning = gappy or random.random() < 0.4  # logs are written anew all the time
    batch_bytes, batches = 16 * _KIB, 8 if gappy else choice(random, (1, 4, 8))
    gossip_bytes = choice(random, (16, 16, 64)) * _KIB
    gossip_interval_ns = choice(random, (5, 20) if gappy else (5, 20, 100)) * MS
    write_bytes = choice(random, (_KIB, 16 * _KIB, 64 * _KIB, 4 * _KIB * _KIB))
    queues = (1,) if write_bytes == _KIB else (1, 1, 64)  # a long one would take so many writes
    resend_min_ns = choice(random, (2, 20, 100)) * MS
    return Knobs(
        pg_count=choice(random, (1, 1, 1, 2)),
        lal=choice(random, (20, 200, 100_000)),
        retention_lsns=choice(random, (0,) if gappy else (0, 5) if churning else (None, 0, 20)),
        buffer_pool_pages=choice(random, (8, 16)),
        batch_bytes=batch_bytes,
        batches_in_flight=batches,
        resend_min_ns=resend_min_ns,
        resend_max_ns=max(20 * MS, resend_min_ns * choice(random, (1, 4))),
        heartbeat_interval_ns=choice(random, (2,) if gappy else (2, 10, 50)) * MS,
        seal_retry_ns=choice(random, (2, 10, 50)) * MS,
        queue_bytes=max(batch_bytes * batches, gossip_bytes) * choice(random, queues),
        write_bytes=write_bytes,
        unlinked_limit=choice(random, (4, 64, 65_536) if gappy else (1, 4, 64, 65_536)),
        image_interval=choice(random, (1, 2, 4)),
        image_cache_bytes=choice(random, (0, 16 * _KIB, 64 * _KIB * _KIB)),
        gossip_interval_ns=gossip_interval_ns,
        gossip_bytes=gossip_bytes,
        hydration_timeout_ns=choice(random, (20 * gossip_interval_ns, 5_000 * MS)),
        compact_bytes=choice(
            random, (0,) if gappy else (0, 0, _KIB) if churning else (0, _KIB, 4 * _KIB)
        ),
        compact_ratio=choice(random, (1.1,) if gappy else (1.1, 1.5) if churning else (1.5, 2.0)),
        **layer_knobs(random, busy=churning),
        scrub_interval_ns=choice(random, (5, 20, 50)) * MS,
        scrub_bytes=choice(random, (4 * _KIB, 64 * _KIB)),
        storage_retry_ns=choice(random, (1, 5, 50)) * MS,
        link=link,
        disk=DiskProfile(
            minimum_ns=minimum * _US,
            extra_mean_ns=extra * _US,
            write_failure=0.02 if failing else 0.0,
            sync_failure=0.01 if failing else 0.0,
        ),
        duration_ns=choice(random, (100, 200, 400, 800)) * MS,
    )


def draw_power_calls(random: Random, knobs: Knobs) -> list[Operation]:
    """Many writes in little time, small ones or whole pages, and some reads, by segments mostly."""
    clients = 2 + below(random, 7)
    pages = choice(random, (2, 6, 16))
    lengths = choice(random, ((8,), (8, 100), (100, 2_000), (_LONGEST_WRITE,)))
    write_share = 0.6 + random.random() * 0.35
    most = choice(random, (1, 2, 4))
    return [
        _call(random, knobs, below(random, clients), pages, lengths, write_share, most)
        for _ in range(choice(random, (60, 120, 240)))
    ]


def _call(
    random: Random, knobs: Knobs, client: int, pages: int, lengths: tuple[int, ...],
    write_share: float, most: int,
) -> Operation:  # fmt: skip
    at_ns = below(random, knobs.duration_ns)
    length = choice(random, lengths)
    offset = 8 * below(random, (_LONGEST_WRITE - length) // 8 + 1)
    if random.random() < write_share:
        touched = tuple(below(random, pages) for _ in range(1 + below(random, most)))
        return Operation(
            at_ns=at_ns, client=client, kind="put", pages=touched, offset=offset, length=length
        )
    kind = choice(random, ("get", "get", "strict_get", "get_at", "list"))
    return Operation(
        at_ns=at_ns, client=client, kind=kind, pages=(below(random, pages),), age=random.random(),
        cached=random.random() < 0.3,
    )  # fmt: skip


def _draw(seeds: Seeds) -> Drawn:
    knobs = draw_power_knobs(seeds.stream("power knobs"))
    copies = seeds.stream("power copies")
    away: list[Action] = []
    if happens(copies, 0.2):
        knobs = _copying_knobs(copies, knobs)
        away = draw_absences(copies, knobs)
    calls = draw_power_calls(seeds.stream("power workload"), knobs)
    faults = draw_power_faults(seeds.stream("power faults"), knobs)
    faults = with_roll_backs(seeds.stream("roll backs"), knobs, [*faults, *away])
    return Drawn(knobs, calls, faults)


def _copying_knobs(random: Random, knobs: Knobs) -> Knobs:
    """What is taken from a peer takes many writes, each takes long, and logs are soon rewritten."""
    return attrs.evolve(
        knobs,
        retention_lsns=0,
        write_bytes=choice(random, (_KIB, 16 * _KIB)),
        queue_bytes=64 * 16 * _KIB,
        gossip_bytes=16 * _KIB,
        gossip_interval_ns=5 * MS,
        hydration_timeout_ns=5_000 * MS,
        fold_bytes=_KIB,
        collect_ratio=0.01,
        compact_bytes=0,
        compact_ratio=1.1,
        disk=attrs.evolve(
            knobs.disk, minimum_ns=1_000 * _US, extra_mean_ns=choice(random, (0, 1_000)) * _US
        ),
        duration_ns=400 * MS,
    )


POWER: Final = Shape(
    "power",
    "a fraction of a second of power cuts, torn and rotten disks, and logs written anew",
    5,
    _draw,
)
