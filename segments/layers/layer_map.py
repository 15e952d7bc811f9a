"""The layers of a segment at one moment: which of them holds an LSN, without gap or overlap."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

import attrs

from segments.layers.layer import Layer
from segments.protocol.errors import Invalid
from segments.protocol.ids import Lsn


def _tile(_: object, __: object, layers: tuple[Layer, ...]) -> None:
    end: Lsn = 0
    for number, layer in enumerate(layers):
        if layer.start != end or layer.end <= layer.start or (layer.base and number):
            raise Invalid(
                f"layers {[(each.name, each.start, each.end, each.base) for each in layers]}: "
                "expected to follow each other from 0, and only the first may be a base"
            )
        end = layer.end


@attrs.frozen(eq=False)
class LayerMap:
    """Layers that tile ``(0, folded]`` by LSN, ascending; a base can only be the first.

    A value: who works with one is not disturbed by those that come after it.
    """

    layers: tuple[Layer, ...] = attrs.field(default=(), validator=_tile)
    damaged: frozenset[int] = frozenset()
    """The numbers of those of which a part is known not to be what was written."""
    numbers: frozenset[int] = attrs.field(init=False)
    _ends: tuple[Lsn, ...] = attrs.field(init=False)

    @numbers.default
    def _all_numbers(self) -> frozenset[int]:
        return frozenset(layer.number for layer in self.layers)

    @_ends.default
    def _all_ends(self) -> tuple[Lsn, ...]:
        return tuple(layer.end for layer in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @property
    def folded(self) -> Lsn:
        """F: all records up to here, inclusive, are in layers; 0 if there are none."""
        return self._ends[-1] if self._ends else 0

    @property
    def base_lsn(self) -> Lsn:
        """Up to here, inclusive, only the newest version of each page is left; 0 if all are."""
        return self.layers[0].end if self.layers and self.layers[0].base else 0

    def at(self, lsn: Lsn) -> Layer | None:
        """The layer with ``start < lsn <= end``; None for 0, and above what is folded."""
        number = bisect_left(self._ends, lsn)
        return self.layers[number] if lsn and number < len(self.layers) else None

    def between(self, after_lsn: Lsn, through_lsn: Lsn) -> tuple[Layer, ...]:
        """The layers that have a part of ``(after_lsn, through_lsn]``, ascending."""
        if through_lsn <= after_lsn:
            return ()
        first = bisect_left(self._ends, after_lsn + 1)
        return self.layers[first : bisect_left(self._ends, through_lsn) + 1]

    def damaged_layers(self) -> Iterator[Layer]:
        """Those of which a part is damaged, ascending."""
        return (layer for layer in self.layers if layer.number in self.damaged)

    def with_damage(self, number: int) -> LayerMap:
        """This map, with damage in one more layer."""
        return LayerMap(self.layers, self.damaged | {number})

    def with_damage_of(self, other: LayerMap) -> LayerMap:
        """This map, with the damage that ``other`` knows of in layers that are here, too."""
        return LayerMap(self.layers, self.damaged | (other.damaged & self.numbers))

    def cut_by(self, layer: Layer) -> Layer | None:
        """The older layer of which only what is above ``layer`` will stay; None: there is none."""
        old = self.at(layer.end)
        return None if old is None or old.end == layer.end else old

    def with_layer(self, layer: Layer, rest: Layer | None = None) -> LayerMap:
        """This map with ``layer`` in place of all that it has of ``(layer.start, layer.end]``.

        What an older layer has above that stays: ``rest``, if it is known how many of its pages are
        new there. Raises `Invalid` if ``layer`` begins amid another one, or leaves a gap.
        """
        before = [each for each in self.layers if each.start < layer.start]
        above = [each for each in self.layers if each.end > layer.end]
        if (cut := self.cut_by(layer)) is not None:
            above[0] = attrs.evolve(cut, start=layer.end) if rest is None else rest
        layers = (*before, layer, *above)
        return LayerMap(layers, self.damaged & {each.number for each in layers})


NO_LAYERS: Final = LayerMap()
"""What a segment has before its first fold."""
