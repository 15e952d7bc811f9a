"""What becomes of a message on its link: drawn, recorded or replayed.

A decision is a tuple with one delay for each copy that is to arrive. The network asks for one per
message, so that a run can be repeated message by message without its random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import attrs

from segments.protocol.ids import Address
from sim.plan.profiles import LinkProfile, exponential
from sim.plan.seeds import Seeds

Decision: TypeAlias = tuple[int, ...]
"""One delay in nanoseconds for each copy of a message that is to arrive; empty: it is lost."""


@attrs.define(eq=False)
class Link:
    """One direction between two addresses, as it is now."""

    source: Address
    destination: Address
    profile: LinkProfile
    slowness: float = 1.0
    """Factor on every delay: those of both ends multiplied."""
    cut: bool = False
    clogged: bool = False
    held: list[tuple[int, bytes]] = attrs.field(factory=list)
    """Messages that wait for the link to be unclogged: number and payload."""


class NetworkPolicy(Protocol):
    """Who decides what becomes of each message."""

    def decide(self, message: int, link: Link) -> Decision:
        """The delays of the copies of the message with number ``message``."""


PolicyMaker: TypeAlias = Callable[[NetworkPolicy, Callable[[], int]], NetworkPolicy]
"""Is given what draws the decisions of a run, and what tells its time, and makes what decides."""


@attrs.define(eq=False)
class RandomPolicy:
    """Draws every decision from the link's profile; no number is drawn for a fault that is off.

    Each link draws from a stream of its own, so that a message more or less on one link leaves
    those on all the others as they were: a schedule can be cut down and still fail.
    """

    _seeds: Seeds
    _streams: dict[Link, Callable[[], float]] = attrs.field(factory=dict, init=False)

    def decide(self, message: int, link: Link) -> Decision:
        random, profile = self._streams.get(link), link.profile
        if random is None:
            stream = self._seeds.stream(f"{link.source} to {link.destination}")
            random = self._streams[link] = stream.random
        if profile.loss and random() < profile.loss:
            return ()
        delay = profile.minimum_ns + exponential(random(), profile.extra_mean_ns)
        if profile.reordering and random() < profile.reordering:
            delay += exponential(random(), profile.reordering_mean_ns)
        delay *= link.slowness
        if profile.duplication and random() < profile.duplication:
            later = delay + exponential(random(), profile.extra_mean_ns * link.slowness)
            return int(delay), int(later)
        return (int(delay),)


@attrs.define(eq=False)
class RecordingPolicy:
    """Keeps what another policy decides, by the number of the message."""

    _inner: NetworkPolicy
    decisions: dict[int, Decision] = attrs.field(factory=dict)

    def decide(self, message: int, link: Link) -> Decision:
        decision = self.decisions[message] = self._inner.decide(message, link)
        return decision


@attrs.define(eq=False)
class ReplayingPolicy:
    """Decides as recorded; a message without a record arrives once, after the minimum."""

    _decisions: Mapping[int, Decision]

    def decide(self, message: int, link: Link) -> Decision:
        decision = self._decisions.get(message)
        return (link.profile.minimum_ns,) if decision is None else decision


@attrs.define(eq=False)
class ForkingPolicy:
    """Decides as recorded until a moment, and from then on as drawn.

    All is drawn from the beginning, so that streams that are not drawn anew go on as they would.
    """

    _recorded: ReplayingPolicy
    _until_ns: int
    _drawn: NetworkPolicy
    _now: Callable[[], int]

    def decide(self, message: int, link: Link) -> Decision:
        drawn = self._drawn.decide(message, link)
        return drawn if self._now() >= self._until_ns else self._recorded.decide(message, link)


@attrs.frozen
class Decided:
    """What became of messages in another run, by their numbers from 1; to be so again."""

    decisions: Mapping[int, Decision]
    until_ns: int | None = None
    """For messages that are sent before this moment; None: for all."""

    def policy(self, drawn: NetworkPolicy, now: Callable[[], int]) -> NetworkPolicy:
        """A `PolicyMaker`."""
        recorded = ReplayingPolicy(self.decisions)
        if self.until_ns is None:
            return recorded
        return ForkingPolicy(recorded, self.until_ns, drawn, now)
