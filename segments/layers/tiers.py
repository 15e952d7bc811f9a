"""Which layers to merge, and when to collect: plans, made of what is known of the layers alone.

Every record is written once for each tier that it rises through, so the work a record costs grows
with the logarithm of what is held; and of each tier there are fewer layers than make the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby, takewhile
from typing import NamedTuple, TypeAlias

import attrs

from segments.layers.layer import Layer
from segments.protocol.errors import InvalidConfig
from segments.protocol.ids import Lsn
from segments.protocol.record import PAGE_SIZE


class Merge(NamedTuple):
    """Make one layer of these, which follow each other, oldest first."""

    layers: tuple[Layer, ...]


class Collect(NamedTuple):
    """Make a new base of these: all layers from the first on, up to one that may be collected."""

    layers: tuple[Layer, ...]


Plan: TypeAlias = Merge | Collect


@attrs.frozen
class Tiers:
    """How layers grow: ``fan_out`` of one tier become one of the next."""

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
        return Collect(taken)

    def _merge(self, layers: Sequence[Layer], floor: Lsn) -> Merge | None:
        """The oldest of the lowest tier that has enough of them.

        Layers on both sides of the floor are never joined: the older could not be collected until
        the floor has passed the younger.
        """
        deltas = [layer for layer in layers if not layer.base]
        above = [layer for layer in deltas if layer.end > floor]
        below = deltas[: len(deltas) - len(above)]
        found: list[tuple[int, tuple[Layer, ...]]] = []
        for part in (below, above):
            pairs = zip(self._ranks(part), part, strict=True)
            for rank, group in groupby(pairs, key=lambda pair: pair[0]):
                members = tuple(layer for _, layer in group)
                if len(members) >= self.fan_out:
                    found.append((rank, members[: self.fan_out]))
        return Merge(min(found, key=lambda each: each[0])[1]) if found else None

    def _ranks(self, layers: Sequence[Layer]) -> list[int]:
        """The tier of each, which counts as no lower than that of any newer one.

        So layers of one tier are neighbours, and none is left behind between larger ones.
        """
        newest_first = accumulate((self.tier_of(layer.length) for layer in reversed(layers)), max)
        return list(newest_first)[::-1]

    def tier_of(self, size: int) -> int:
        """0 for about one unit, 1 for about ``fan_out`` of them, ...; the borders lie between."""
        tier, above = 0, self.unit_bytes * self.fan_out
        while size * size >= above * above // self.fan_out:
            tier, above = tier + 1, above * self.fan_out
        return tier


def _base_bytes(layers: Sequence[Layer]) -> float:
    """About what a new base of ``layers`` takes: as much a page as the old one, else all of it."""
    pages = sum(layer.new_page_count for layer in layers)
    sizes = [layer.length / layer.new_page_count for layer in layers if layer.base and layer.count]
    return pages * (sizes[0] if sizes else PAGE_SIZE)
