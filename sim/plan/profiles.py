"""How fast and how faulty the parts of the simulated world are."""

from __future__ import annotations

from math import log

import attrs

from segments.protocol.errors import Invalid


def exponential(draw: float, mean: float) -> float:
    """An exponential variate out of a uniform one, 0 <= draw < 1.

    Written out, since of `Random` only ``random()`` is promised to stay the same for ever.
    """
    return -log(1.0 - draw) * mean


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


@attrs.frozen
class DiskProfile:
    """How a disk behaves: an operation takes ``minimum_ns`` plus an exponential draw."""

    minimum_ns: int = attrs.field(default=50_000, validator=_duration)
    extra_mean_ns: int = attrs.field(default=50_000, validator=_duration)
    write_failure: float = attrs.field(default=0.0, validator=_fraction)
    """Fraction of operations whose write the disk refuses."""
    sync_failure: float = attrs.field(default=0.0, validator=_fraction)
    """Fraction of operations whose sync the disk refuses."""
