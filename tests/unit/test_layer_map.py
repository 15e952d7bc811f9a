"""The layers of one moment: they tile what is folded."""

from __future__ import annotations

import pytest

from segments.layers.layer import Layer
from segments.layers.layer_map import NO_LAYERS, LayerMap
from segments.protocol.errors import Invalid
from tests.oracles import chained
from tests.page_rig import Shelf

WRITTEN = chained([(lsn, lsn % 3, 0, b"x") for lsn in range(1, 41)])


def layers(*ends: int, base: int = 0) -> list[Layer]:
    """A base up to ``base``, if that is not 0, and layers that end at ``ends``."""
    shelf = Shelf()
    starts = (base, *ends)
    deltas = [shelf.delta(WRITTEN, *each) for each in zip(starts, ends, strict=False)]
    return [shelf.base(WRITTEN, base), *deltas] if base else deltas


def test_an_lsn_is_in_the_layer_that_ends_at_or_above_it() -> None:
    base, first, second = layers(20, 30, base=10)
    found = LayerMap((base, first, second))
    expected = [None, *[base] * 10, *[first] * 10, *[second] * 10, None]
    assert [found.at(lsn) for lsn in range(32)] == expected
    assert (found.folded, found.base_lsn, len(found)) == (30, 10, 3)
    assert (NO_LAYERS.folded, NO_LAYERS.base_lsn, NO_LAYERS.at(1)) == (0, 0, None)
    assert LayerMap((*layers(10, 20),)).base_lsn == 0


def test_a_range_has_the_layers_that_hold_a_part_of_it() -> None:
    made = layers(10, 20, 30)
    found = LayerMap(tuple(made))
    for after in range(32):
        for through in range(32):
            lsns = range(after + 1, through + 1)
            parts = [each for each in made if any(each.start < lsn <= each.end for lsn in lsns)]
            assert list(found.between(after, through)) == parts


def test_neighbours_are_replaced_by_what_tiles_the_same() -> None:
    one, two, three = layers(10, 20, 30)
    found = NO_LAYERS.replace([], [one]).replace([], [two]).replace([], [three])
    assert list(found) == [one, two, three]
    (merged,) = layers(20)
    again = found.replace([one, two], [merged])
    assert [(each.start, each.end) for each in again] == [(0, 20), (20, 30)]
    assert list(found) == [one, two, three]
    assert again.numbers == {merged.number, three.number}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([0, 2], []),  # no neighbours
        ([1, 0], [0, 1]),  # not in their order
        ([1], []),  # a gap
        ([], [0]),  # an overlap
        ([2], [2, 2]),
        ([1, 2, 3], [1, 2]),  # one that is not there
    ],
)
def test_what_would_not_tile_is_refused(old: list[int], new: list[int]) -> None:
    made = layers(10, 20, 30, 40)
    found = LayerMap(tuple(made[:3]))
    with pytest.raises(Invalid):
        found.replace([made[at] for at in old], [made[at] for at in new])


def test_only_the_first_may_be_a_base() -> None:
    base, first = layers(20, base=10)
    assert LayerMap((base, first)).layers == (base, first)
    with pytest.raises(Invalid, match="only the first may be a base"):
        LayerMap((first,))
    shelf = Shelf()
    delta = shelf.delta(WRITTEN, 0, 10)
    with pytest.raises(Invalid, match="only the first may be a base"):
        LayerMap((delta, shelf.write([], 10, 20, base=True)))
