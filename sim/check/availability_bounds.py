"""How long each row of the failure table may take (protocol §9), from a run's settings. Pure.

A *trip* is a message there and back and three operations of the disk in between: what is under way
when the message comes, a log that is written anew, and its own. Delays are exponential, and counted
with their minimum and `_TAIL` times their mean, which one in half a billion exceeds; all of a trip
is doubled, since what arrives shares the next message with what came before.

Where messages are lost or disks refuse at random, an attempt fails now and then, and is made again
after the longest pause that the settings have for it: as many attempts are allowed as it takes for
all of them to fail once in a billion times. Without random loss no attempt fails.
"""

from __future__ import annotations

from math import ceil, log
from typing import Final

import attrs

from sim.check.invariants import READ_QUORUM
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.schedule import SECOND, Knobs

_TAIL: Final = 20
_ONCE_IN: Final = 1e9
_MEMBERS: Final = 6
_FACTOR: Final = 2
_GOSSIPS: Final = 16
"""Intervals of gossip: in four of five, one of three complete peers speaks to a segment, or is
spoken to; so that all fail once in 10^11 times, and with every third message lost in 10^7."""


@attrs.frozen(kw_only=True)
class Bounds:
    """The bounds of one run, in nanoseconds."""

    disk_ns: int
    """One operation of a disk."""
    moment_ns: int
    """Who lacks something for no longer is not behind: a trip."""
    settle_ns: int
    """A segment that has been sound for so long has been sent what its writer has for it: the
    longest pause before a batch is sent again, and a trip."""
    heard_ns: int
    """A writer has heard of a segment that gossip has filled up: a heartbeat, and a trip."""
    commit_ns: int
    """A record is durable: a moment until all who count have caught up, a trip, the attempts."""
    read_ns: int
    """A segment answers a read: every other segment is asked before it, which costs a hedge each;
    a trip, and the attempts."""
    read_resumes_ns: int
    """Longer for a read that began while nobody could answer: the pause of its back-off."""
    confirm_ns: int
    """A read quorum confirms an epoch: the pause before silent ones are asked again, and a trip."""
    open_ns: int
    """A writer that has begun to seal opens: seals, fetches, and tables with what is copied."""
    fetch_ns: int
    """Longer when a segment may vanish that was to be fetched from: until it is given up."""
    catch_up_ns: int
    """A segment has what is durable: from its writer or by gossip, also as pages."""


def bounds_of(knobs: Knobs) -> Bounds:
    """The bounds for these settings."""
    config = knobs.cluster_config()
    engine, segment, router = config.engine, config.segment, config.engine.router
    links = [knobs.link, *([knobs.cross_az_link] if knobs.cross_az_link else [])]
    disk_ns = _disk_ns(knobs.disk)
    there_ns = max(map(_link_ns, links))
    trip_ns = _FACTOR * (2 * there_ns + 3 * disk_ns)
    loss = max(each.loss for each in links)
    refusal = 1 - (1 - knobs.disk.write_failure) * (1 - knobs.disk.sync_failure)
    answered = (1 - loss) ** 2
    write_attempts, read_attempts = _attempts(answered * (1 - refusal)), _attempts(answered)
    tick_ns = _ns(engine.tick_interval_s)
    resend_ns = _ns(engine.resend_max_s) + tick_ns
    attempt_ns = resend_ns + trip_ns + (2 * _ns(segment.storage_retry_s) if refusal else 0)
    settle_ns = resend_ns + trip_ns
    commit_ns = 2 * trip_ns + write_attempts * attempt_ns
    pause_ns = _ns(router.attempt_timeout_s) + _ns(router.retry_max_s)
    seal_ns = (2 + write_attempts) * _ns(engine.seal_retry_s) + 3 * trip_ns
    return Bounds(
        disk_ns=disk_ns,
        moment_ns=trip_ns,
        settle_ns=settle_ns,
        heard_ns=_ns(engine.heartbeat_interval_s) + tick_ns + trip_ns,
        commit_ns=commit_ns,
        read_ns=_MEMBERS * _ns(router.hedge_max_s) + trip_ns + read_attempts * pause_ns,
        read_resumes_ns=pause_ns,
        confirm_ns=(1 + read_attempts) * _ns(engine.resend_max_s) + trip_ns,
        open_ns=seal_ns + settle_ns + commit_ns,
        # Each source is asked four times, with pauses that double (`aurora.recovery`).
        fetch_ns=15 * READ_QUORUM * _ns(engine.seal_retry_s) + seal_ns,
        catch_up_ns=(
            _GOSSIPS * _ns(1.5 * segment.gossip_interval_s)
            + _ns(segment.hydration_timeout_s)
            + settle_ns
            + commit_ns
        ),
    )  # fmt: skip


def _link_ns(link: LinkProfile) -> int:
    late_ns = link.reordering_mean_ns if link.reordering else 0
    return link.minimum_ns + _TAIL * (link.extra_mean_ns + late_ns)


def _disk_ns(disk: DiskProfile) -> int:
    return disk.minimum_ns + _TAIL * disk.extra_mean_ns


def _attempts(succeeds: float) -> int:
    """How many that each succeed so often fail all together once in a billion times."""
    if succeeds >= 1:
        return 0
    return ceil(log(_ONCE_IN) / -log(1 - succeeds)) if succeeds > 0 else 1 << 30


def _ns(seconds: float) -> int:
    return ceil(seconds * SECOND)
