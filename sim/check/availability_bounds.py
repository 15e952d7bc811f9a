"""How long each row of the failure table may take (protocol §9), from a run's settings. Pure.

A *trip* is a message there and back and three writes of the disk in between: what is under way
when the message comes, a log that is written anew, and its own; and all of that twice, since what
comes shares its message with what comes later, but for the log, which is not written anew twice in
so short a time. Delays are exponential above their minimum: they are counted with their minimum,
and their sum with a tail times their mean, which it exceeds once in fifty million times.

Where messages are lost or disks refuse at random, an attempt fails now and then, and is made again
after a pause. As many attempts are allowed as it takes for all of them to fail once in a billion
times, each with the pause that the settings have for it; and two in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log
from typing import Final

import attrs

from sim.check.invariants import READ_QUORUM
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.schedule import SECOND, Knobs

_TAIL: Final = 30
"""Of up to six delays."""
_ANOTHER_FILE: Final = 3
"""Operations of the disk for a frame that needs another file: that one is synced, then its name,
and named in the manifest. Who has frames that go on filling files needs it now and then only."""
_ANEW: Final = 9
"""For a log written anew: its files are written, which takes an eighth of an operation a frame, and
synced, then their names, then the manifest; and the old ones are deleted before anything else is
written. In 620 random runs 27,253 logs were, of which 189 took more than four files, the longest
48: that is one segment in six then, and what waits for a single one has allowances besides."""
_OPERATIONS: Final = 4 * _ANOTHER_FILE + _ANEW
"""Of a trip: twice what is under way and its own, and once a log that is written anew."""
_DISK_TAIL: Final = 57
"""Of so many."""
_ONCE_IN: Final = 1e9
_SHARED: Final = 2
_GOSSIPS: Final = 16
"""Intervals of gossip: in four of five, one of three complete peers speaks to a segment, or is
spoken to; so that all fail once in 10^11 times, and with every third message lost in 10^7."""
_DROPPED: Final = 2
"""Attempts that may fail without random loss: what finds a queue full is dropped."""
_PARTS_ASKED: Final = 16
"""How often a part of a transfer of pages is asked for in its timeout (`segments.gossip`)."""
_PARTS_TAIL: Final = 3
"""Of the questions for them that are lost."""
_PATIENCE: Final = 4
"""A batch is sent again after so many times its usual trip (`aurora.segment_stream`)."""


@attrs.frozen(kw_only=True)
class Bounds:
    """The bounds of one run; times in nanoseconds."""

    disk_ns: int
    """One operation of a disk."""
    trip_ns: int
    """A message is answered. Who lacks something for no longer is not behind."""
    first_resend_ns: int
    """The pause before a batch is sent again for the first time."""
    last_resend_ns: int
    """The longest of these pauses, and the tick that ends it."""
    heard_ns: int
    """A writer has heard of a segment that gossip has filled up: a heartbeat, and a trip."""
    resends_ns: int
    """All attempts at a write, with their pauses."""
    resend_ns: int
    """One of these pauses."""
    read_attempts: int
    """How many attempts at a read may fail by chance."""
    hedge_ns: int
    """Until another segment is asked."""
    retry_ns: int
    """Until all are asked anew, at most: the last attempt is given up, and a pause."""
    confirm_ns: int
    """A read quorum confirms an epoch: silent ones are asked again, and a trip."""
    open_ns: int
    """A writer that has begun to seal opens: seals, fetches, and tables with what is copied."""
    fetch_ns: int
    """Longer when a segment that was to be fetched from vanishes: until it is given up."""
    catch_up_ns: int
    """A segment has what is durable: from its writer, or by gossip."""
    hydration_ns: int
    """Longer when pages may be lost on their way: until they have been asked for as often as it may
    take, and a transfer was given up."""
    part_ns: int
    """And for each of the parts in which they come: how long those that are lost hold it up."""

    def settle_ns(self, away_ns: int) -> int:
        """When a segment that was away so long has been sent what its writer has for it.

        The pause before a batch is sent again doubles: it is never longer than a few times what
        has passed in silence, or what a slow answer has taken.
        """
        pause_ns = _PATIENCE * (self.first_resend_ns + away_ns)
        return self.trip_ns + min(self.last_resend_ns, pause_ns)

    def commit_ns(self, pages: int, rounds: int) -> int:
        """A write is durable that changes so many pages and gets its turn in the last round.

        Each page is read first, which costs another hedge where somebody is away: that is counted
        by who asks. A round is over when it is durable.
        """
        each_ns = 2 * self.trip_ns + pages * (self.trip_ns + self.hedge_ns) + self.resend_ns
        return rounds * each_ns + self.resends_ns

    def read_ns(self, away: int, ready: int) -> int:
        """A segment answers: so many that are away are asked before it, which costs a hedge each.

        What is lost costs a hedge, too, and a new round once all have been asked.
        """
        lost = self.read_attempts
        hedges_ns = (1 + away + lost) * self.hedge_ns
        return self.trip_ns + hedges_ns + ceil(lost / max(1, ready)) * self.retry_ns


def bounds_of(knobs: Knobs) -> Bounds:
    """The bounds for these settings."""
    config = knobs.cluster_config()
    engine, segment, router = config.engine, config.segment, config.engine.router
    links = [knobs.link, *([knobs.cross_az_link] if knobs.cross_az_link else [])]
    trip_ns, usual_ns = _trip_ns(links, knobs.disk)
    loss = max(each.loss for each in links)
    granted = (1 - knobs.disk.write_failure) * (1 - knobs.disk.sync_failure)
    attempts = _attempts((1 - loss) ** 2 * granted**_ANOTHER_FILE)
    read_attempts = _attempts((1 - loss) ** 2)
    tick_ns = _ns(engine.tick_interval_s)
    refused_ns = 2 * _ns(segment.storage_retry_s) if granted < 1 else 0
    first_ns = max(_ns(engine.resend_min_s), _PATIENCE * usual_ns)
    resends = max(_DROPPED, attempts)
    pauses = _pauses(first_ns, _ns(engine.resend_max_s), resends)
    resends_ns = sum(pauses) + resends * (tick_ns + refused_ns)
    last_ns = _ns(engine.resend_max_s) + tick_ns
    retry_ns = _ns(engine.seal_retry_s)
    return Bounds(
        disk_ns=knobs.disk.minimum_ns + _TAIL * knobs.disk.extra_mean_ns,
        trip_ns=trip_ns,
        first_resend_ns=first_ns + tick_ns,
        last_resend_ns=last_ns,
        heard_ns=_ns(engine.heartbeat_interval_s) + tick_ns + trip_ns,
        resends_ns=resends_ns,
        resend_ns=resends_ns // resends,
        read_attempts=read_attempts,
        hedge_ns=_ns(router.hedge_max_s),
        retry_ns=_ns(router.attempt_timeout_s) + _ns(router.retry_max_s),
        confirm_ns=trip_ns + (1 + read_attempts) * _ns(engine.resend_max_s),
        open_ns=(2 + attempts) * (retry_ns + refused_ns) + 5 * trip_ns + resends_ns,
        # Each source is asked four times, with pauses that double (`aurora.recovery`).
        fetch_ns=15 * READ_QUORUM * retry_ns + retry_ns + trip_ns,
        catch_up_ns=_GOSSIPS * _ns(segment.gossip_interval_s) + last_ns + trip_ns + resends_ns,
        hydration_ns=ceil((1 + read_attempts / _PARTS_ASKED) * _ns(segment.hydration_timeout_s)),
        part_ns=_part_ns(loss, _ns(segment.hydration_timeout_s)),
    )


def _trip_ns(links: Sequence[LinkProfile], disk: DiskProfile) -> tuple[int, int]:
    """The longest trip, and a usual one."""
    link_ns = 2 * max(each.minimum_ns for each in links)
    mean_ns = max(each.extra_mean_ns for each in links)
    late_ns = max(each.reordering_mean_ns if each.reordering else 0 for each in links)
    longest_ns = _SHARED * link_ns + _OPERATIONS * disk.minimum_ns
    longest_ns += _TAIL * (mean_ns + late_ns) + _DISK_TAIL * disk.extra_mean_ns
    usual_ns = link_ns + 3 * disk.minimum_ns + 2 * (mean_ns + disk.extra_mean_ns)
    return longest_ns, usual_ns


def _part_ns(loss: float, timeout_ns: int) -> int:
    """What a part of a transfer waits for in the mean, several times over."""
    comes = (1 - loss) ** 2
    return ceil(_PARTS_TAIL * (1 - comes) / comes * timeout_ns / _PARTS_ASKED) if comes else 0


def _attempts(succeeds: float) -> int:
    """How many that each succeed so often fail all together once in a billion times."""
    if succeeds >= 1:
        return 0
    return ceil(log(_ONCE_IN) / -log(1 - succeeds)) if succeeds > 1e-4 else 1 << 20


def _pauses(first_ns: int, most_ns: int, count: int) -> list[int]:
    """So many pauses, each twice as long as the one before, none longer than ``most_ns``."""
    return [min(most_ns, first_ns << min(at, 20)) for at in range(count)]


def _ns(seconds: float) -> int:
    return ceil(seconds * SECOND)
