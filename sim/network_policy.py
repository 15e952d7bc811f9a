"""What becomes of a message on its link: drawn, recorded or replayed.

A decision is a tuple with one delay for each copy that is to arrive. The network asks for one per
message, so that a run can be repeated message by message without its random numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from random import Random
from typing import Protocol, TypeAlias

import attrs

from segments.protocol.errors import Invalid
from segments.protocol.ids import Address

Decision: TypeAlias = tuple[int, ...]
"""One delay in nanoseconds for each copy of a message that is to arrive; empty: it is lost."""


def _duration(_instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if type(value) is not int or value < 0:
        raise Invalid(f"{attribute.name} {value!r}: expected nanoseconds, an int >= 0")


def _fraction(_instance: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise Invalid(f"{attribute.name} {value!r}: expected 0 to 1")


@attrs.frozen
class LinkProfile:
    """How a link behaves: a delay is ``minimum_ns`` plus an exponential draw."""

    minimum_ns: int = attrs.field(default=100_000, validator=_duration)
    extra_mean_ns: int = attrs.field(default=100_000, validator=_duration)
    loss: float = attrs.field(default=0.0, validator=_fraction)
    """Fraction of messages that never arrive."""
    duplication: float = attrs.field(default=0.0, validator=_fraction)
    """Fraction of messages that arrive twice."""
    reordering: float = attrs.field(default=0.0, validator=_fraction)
    """Fraction of messages that are held up, so that later ones overtake them."""
    reordering_mean_ns: int = attrs.field(default=5_000_000, validator=_duration)
    """Mean of the exponential time for which those are held up."""


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


@attrs.define(eq=False)
class RandomPolicy:
    """Draws every decision from the link's profile; no number is drawn for a fault that is off."""

    _rng: Random

    def decide(self, message: int, link: Link) -> Decision:
        random, profile = self._rng.random, link.profile
        if profile.loss and random() < profile.loss:
            return ()
        # An exponential draw, written out: of `Random`, only `random` is promised to stay the same.
        delay = profile.minimum_ns - log(1.0 - random()) * profile.extra_mean_ns
        if profile.reordering and random() < profile.reordering:
            delay -= log(1.0 - random()) * profile.reordering_mean_ns
        delay *= link.slowness
        if profile.duplication and random() < profile.duplication:
            later = delay - log(1.0 - random()) * (profile.extra_mean_ns * link.slowness)
            return int(delay), int(later)
        return (int(delay),)


@attrs.define(eq=False)
class RecordingPolicy:
    """Keeps what another policy decides, by the number of the message."""

    _inner: NetworkPolicy
    decisions: dict[int, Decision] = attrs.field(factory=dict, init=False)

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
