"""Knobs of worlds in which much happens in little time: everything is fast, and everything small.

Distances are told in hops: the time that a message takes at least. Cores take a step every few
microseconds, so that the costly checks come at nearly each of them.
"""

from __future__ import annotations

from random import Random

from sim.plan.chance import choice, happens
from sim.plan.layer_knobs import layer_knobs
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.schedule import MS, Knobs

_US = 1_000


def dense_knobs(random: Random) -> Knobs:
    """Fast links and disks; what sends again, gossips and gathers is drawn small or far away."""
    heartbeat_ms = choice(random, (5, 20, 100))
    resend_ms = choice(random, (1, 5, 20))
    return Knobs(
        pg_count=choice(random, (1, 1, 2, 3)),
        lal=choice(random, (2, 5, 20, 20, 200)),
        retention_lsns=choice(random, (None, None, 0, 20, 200)),
        buffer_pool_pages=choice(random, (4, 8, 64)),
        batches_in_flight=choice(random, (1, 2, 4, 8)),
        resend_min_ns=resend_ms * MS,
        resend_max_ns=max(20, resend_ms * choice(random, (1, 4, 20))) * MS,
        heartbeat_interval_ns=heartbeat_ms * MS,
        seal_retry_ns=choice(random, (2, 5, 20, 100)) * MS,
        unlinked_limit=choice(random, (1, 8, 65_536)),
        image_interval=choice(random, (1, 4, 16)),
        gossip_interval_ns=choice(random, (20, 200, 1_000, 2_000, 5_000)) * MS,
        link=_link(random),
        disk=DiskProfile(
            minimum_ns=choice(random, (20, 50, 100)) * _US,
            extra_mean_ns=choice(random, (0, 20, 100)) * _US,
        ),
        check_every=choice(random, (2, 8, 32)),
        image_cache_bytes=choice(random, (0, 16 << 10, 64 << 20)),
        **layer_knobs(random),
    )


def whole_ms(ns: int) -> int:
    """The next whole millisecond, in nanoseconds."""
    return -(-ns // MS) * MS


def _link(random: Random) -> LinkProfile:
    """Little jitter, so that what is drawn to happen between two messages does."""
    faulty = happens(random, 0.4)
    return LinkProfile(
        minimum_ns=choice(random, (50, 100, 200)) * _US,
        extra_mean_ns=choice(random, (0, 5, 30)) * _US,
        loss=choice(random, (0.0, 0.02, 0.1, 0.3)) if faulty else 0.0,
        duplication=choice(random, (0.0, 0.1, 0.5)) if faulty else 0.0,
        reordering=choice(random, (0.0, 0.1, 0.3)) if faulty else 0.0,
        reordering_mean_ns=choice(random, (200, 1_000, 5_000)) * _US,
    )
