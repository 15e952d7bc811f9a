"""Which layers to merge, and when to collect: plans, made of what is known of the layers alone.

Nothing is merged until there are too many layers, and then the newest, back to one that is small
beside all that is newer: so much is written for it that it hardly counts. How many are too many
grows with the logarithm of what is held, as does what a record costs. Merging ``fan_out`` of one
tier whenever there are so many would write as much, and leave one layer at one moment and ``fan_out
- 1`` of each tier at another: twice as many at the worst, in which a read has to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Final, NamedTuple, TypeAlias

import attrs

from segments.layers.layer import Layer
from segments.protocol.errors import InvalidConfig
from segments.protocol.ids import Lsn
from segments.protocol.record import PAGE_SIZE

_LEAST_TIERS: Final = 4
"""As many layers as of so many tiers are never too many: merging sooner gains little."""
_WIDEST: Final = 8
"""As many layers as `fan_out` so many times are made one at the most; only where merging lags are
there more."""


class Merge(NamedTuple):
    """Make one layer of these, which follow each other, oldest first."""

    layers: tuple[Layer, ...]


class Collect(NamedTuple):
    """Make a new base of these: all layers from the first on, up to one that may be collected."""

    layers: tuple[Layer, ...]


Plan: TypeAlias = Merge | Collect


@attrs.frozen
class Tiers:
    """How layers grow: a tier's are ``fan_out`` times as large as those of the one below."""

    unit_bytes: int
    """About what a fold writes: the size of the lowest tier."""
    fan_out: int = 4
    collect_ratio: float = 1.0
    """Collectable bytes against those of the new base, from which on they are collected: so
    collecting writes at most 1 / ratio times what it takes in."""

    def __attrs_post_init__(self) -> None:
        if self.unit_bytes < 1 or self.fan_out < 2 or self.collect_ratio <= 0:
            raise InvalidConfig(
                f"tiers of {self.unit_bytes} bytes by {self.fan_out}, collected at "
                f"{self.collect_ratio}: expected >= 1, >= 2 and above 0"
            )

    def plan(self, layers: Sequence[Layer], floor: Lsn, *, short: bool = False) -> Plan | None:
        """What to do next with ``layers``, which tile what is folded, oldest first; None: nothing.

        ``floor``: what is at or below it may be collected. Collecting comes first, as it takes in
        what would be merged; where space is ``short``, whatever it gains.
        """
        return self._collection(layers, floor, short) or self._merge(layers, floor)

    def room(self, layers: Sequence[Layer], floor: Lsn) -> int:
        """About what a merge or a collection of ``layers`` may write, whichever comes next."""
        taken = [layer for layer in layers if layer.end <= floor]
        collected = 0 if all(layer.base for layer in taken) else _base_bytes(taken)
        return max(sum(layer.length for layer in layers), round(collected))

    def _collection(self, layers: Sequence[Layer], floor: Lsn, short: bool) -> Collect | None:
        taken = tuple(takewhile(lambda layer: layer.end <= floor, layers))
        gained = sum(layer.length for layer in taken if not layer.base)
        ratio = 0.0 if short else self.collect_ratio
        if gained < max(self.unit_bytes, _base_bytes(taken) * ratio):
            return None
        if len(taken) > 1 + self._widest:
            return None  # those are merged first
        return Collect(taken)

    def _merge(self, layers: Sequence[Layer], floor: Lsn) -> Merge | None:
        """Of the newest, where there are too many; what is least first.

        Layers on both sides of the floor are never joined: the older could not be collected until
        the floor has passed the younger.
        """
        found = [
            Merge(_worth_most(part)[: self._widest])
            for part in _parts(layers, floor)
            if len(part) > self.most_layers(_bytes(part))
        ]
        return min(found, key=lambda each: _bytes(each.layers)) if found else None

    def lag(self, layers: Sequence[Layer], floor: Lsn) -> float:
        """How many times as many layers there are as there are at the most where merging keeps up.

        That is twice as many as there may be before some merge.
        """
        parts = _parts(layers, floor)
        return max(len(part) / (2 * self.most_layers(_bytes(part))) for part in parts)

    def most_layers(self, size: int) -> int:
        """How many layers of ``size`` bytes in all there may be on one side of the floor.

        One more than half of what could be left if ``fan_out - 1`` of each tier were.
        """
        tiers, reached = 0, self.unit_bytes * self.fan_out
        while reached <= size:
            tiers, reached = tiers + 1, reached * self.fan_out
        return 1 + (self.fan_out - 1) * max(tiers, _LEAST_TIERS) // 2

    @property
    def _widest(self) -> int:
        """So many layers are made one at a time: each takes memory meanwhile.

        It is more than there may be before a merge, unless there are 2 ** 60 bytes of them.
        """
        return _WIDEST * self.fan_out

    def tier_of(self, size: int) -> int:
        """0 for about one unit, 1 for about ``fan_out`` of them, ...; the borders lie between."""
        tier, above = 0, self.unit_bytes * self.fan_out
        while size * size >= above * above // self.fan_out:
            tier, above = tier + 1, above * self.fan_out
        return tier


def _parts(layers: Sequence[Layer], floor: Lsn) -> tuple[Sequence[Layer], Sequence[Layer]]:
    """Those that are no base, at or below the floor and above it."""
    deltas = [layer for layer in layers if not layer.base]
    above = [layer for layer in deltas if layer.end > floor]
    return deltas[: len(deltas) - len(above)], above


def _worth_most(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The newest of ``layers``, back to the one that is smallest beside all that is newer."""
    most, first, newer = 0.0, 0, layers[-1].length
    for at in range(len(layers) - 2, -1, -1):
        worth = newer / max(1, layers[at].length)
        if worth >= most:
            most, first = worth, at
        newer += layers[at].length
    return tuple(layers[first:])


def _bytes(layers: Sequence[Layer]) -> int:
    return sum(layer.length for layer in layers)


def _base_bytes(layers: Sequence[Layer]) -> float:
    """About what a new base of ``layers`` takes: as much a page as the old one, else all of it."""
    pages = sum(layer.new_page_count for layer in layers)
    sizes = [layer.length / layer.new_page_count for layer in layers if layer.base and layer.count]
    return pages * (sizes[0] if sizes else PAGE_SIZE)
