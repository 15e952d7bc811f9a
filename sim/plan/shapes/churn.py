"""Logs written anew tens of times, nearly always with records above a gap in them.

A steady stream of writes; what is sent to a few segments gets lost for a moment, again and
again. The gap stays open until it is sent again, which takes several turns of a segment: what is
linked is folded meanwhile, and the log written anew as soon as most of it is. Segments stop, and
writers come, amid all that.
"""

from __future__ import annotations

from random import Random
from typing import Final

from sim.plan.chance import below, between, choice, happens, some
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.roll_backs import with_roll_backs
from sim.plan.schedule import MS, Action, Knobs, Operation
from sim.plan.seeds import Seeds
from sim.plan.shapes.reach import LETTERS
from sim.plan.shapes.shape import Drawn, Shape

_KIB: Final = 1 << 10
_US: Final = 1_000
_FIRST_NS: Final = 3 * MS
_PAUSE_NS: Final = 700 * _US
"""Between two calls, in the mean."""
_TURN_NS: Final = 2 * MS
"""Of writers and of segments."""
_READS: Final = ("get", "get_at", "strict_get", "list", "many", "head", "changes")


def _draw(seeds: Seeds) -> Drawn:
    random = seeds.stream("churn")
    knobs = _knobs(random)
    calls, faults = _calls(random, knobs), _faults(random, knobs)
    return Drawn(knobs, calls, with_roll_backs(seeds.stream("roll backs"), knobs, faults))


def _knobs(random: Random) -> Knobs:
    """Whatever makes a log change is small, and gossip comes late; quick disks and links."""
    gossip_interval_ns = choice(random, (20, 50)) * MS
    return Knobs(
        lal=choice(random, (200, 100_000)),
        retention_lsns=choice(random, (0, 3)),
        buffer_pool_pages=choice(random, (4, 16)),
        batches_in_flight=8,
        resend_min_ns=choice(random, (5, 8, 12)) * MS,
        resend_max_ns=20 * MS,
        heartbeat_interval_ns=_TURN_NS,
        seal_retry_ns=choice(random, (2, 10)) * MS,
        unlinked_limit=choice(random, (4, 64, 65_536)),
        image_interval=choice(random, (1, 4)),
        gossip_interval_ns=gossip_interval_ns,
        gossip_bytes=16 * _KIB,
        hydration_timeout_ns=5 * gossip_interval_ns,
        compact_bytes=0,
        compact_ratio=1.1,
        wal_file_bytes=64 * _KIB,
        fold_bytes=_KIB,
        block_bytes=choice(random, (256, _KIB)),
        fan_out=choice(random, (2, 4)),
        collect_ratio=0.01,
        scrub_interval_ns=_TURN_NS,
        storage_retry_ns=choice(random, (1, 5)) * MS,
        link=LinkProfile(
            minimum_ns=choice(random, (20, 100)) * _US,
            extra_mean_ns=20 * _US,
            loss=choice(random, (0.02, 0.05, 0.1)),
        ),
        disk=DiskProfile(
            minimum_ns=20 * _US,
            extra_mean_ns=choice(random, (20, 200)) * _US,
        ),
        duration_ns=choice(random, (80, 110)) * MS,
    )


def _calls(random: Random, knobs: Knobs) -> list[Operation]:
    """More than a write a millisecond, by several clients, and a few reads."""
    clients, pages = between(random, 3, 6), choice(random, (1, 3, 8))
    length = choice(random, (800, 1_600))
    calls = []
    for at_ns in range(_FIRST_NS, knobs.duration_ns, _PAUSE_NS):
        writes = happens(random, 0.9)
        calls.append(
            Operation(
                at_ns=at_ns + below(random, _PAUSE_NS),
                client=below(random, clients),
                kind="put" if writes else choice(random, _READS),
                pages=tuple(below(random, pages) for _ in range(choice(random, (1, 1, 2)))),
                offset=8 * below(random, 100),
                length=length,
                age=random.random(),
                cached=happens(random, 0.3),
            )
        )
    return calls


def _faults(random: Random, knobs: Knobs) -> list[Action]:
    """Gap after gap, each at a few segments; now and then power goes, or a writer comes."""
    found: list[Action] = []

    def add(at_ns: int, kind: str, target: str = "", **params: object) -> None:
        found.append(Action(at_ns=at_ns, kind=kind, target=target, params=params))

    crashes, writers = choice(random, (0.0, 0.15, 0.4)), choice(random, (0.0, 0.0, 0.1))
    now = _FIRST_NS + 2 * MS
    while now < knobs.duration_ns - 10 * MS:
        target = ",".join(some(random, LETTERS, choice(random, (1, 2, 2, 3))))
        add(now, "cut", "writers", others=target)
        now += MS // 2 + below(random, 2 * MS)
        add(now, "heal_network")
        now += between(random, 1, 3) * _TURN_NS
        if happens(random, crashes):
            who = target if happens(random, 0.7) else choice(random, LETTERS)
            add(now, "crash", who)
            add(now + below(random, 3 * MS), "restart", who)
        if happens(random, writers):
            add(now + below(random, MS), choice(random, ("recover", "take_over")))
    return found


CHURN: Final = Shape(
    "churn", "logs written anew tens of times, with records above gaps that are held open", 3, _draw
)
