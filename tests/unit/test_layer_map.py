"""The layers of one moment: they tile what is folded."""

from __future__ import annotations

from random import Random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.layers.layer import Layer
from segments.layers.layer_map import NO_LAYERS, LayerMap
from segments.protocol.errors import Invalid
from segments.protocol.ids import Lsn
from tests.layer_rig import Shelf
from tests.oracles import chained

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


def owners(layers: LayerMap) -> dict[Lsn, int]:
    """Which layer stands for each LSN that is folded."""
    return {lsn: each.number for each in layers for lsn in range(each.start + 1, each.end + 1)}


@given(st.integers(0, 10_000))
def test_a_layer_takes_the_place_of_all_that_lies_in_its_range(seed: int) -> None:
    """What an older one has above that stays, and of damaged ones those that are left."""
    draw, shelf = Random(seed), Shelf()
    found, expected = NO_LAYERS, dict[Lsn, int]()
    for _ in range(draw.randint(1, 8)):
        start = draw.choice([0, *(each.end for each in found), *(each.start for each in found)])
        end = draw.randint(start + 1, start + 12)
        base = not start and draw.random() < 0.3
        layer = shelf.write([], start, end, base=base)
        damaged = draw.choice([None, *found.numbers])
        before = found if damaged is None else found.with_damage(damaged)
        if any(each.base for each in found if each.end > end):
            with pytest.raises(Invalid, match="only the first may be a base"):
                before.with_layer(layer)
            continue
        found = before.with_layer(layer)
        expected |= dict.fromkeys(range(start + 1, end + 1), layer.number)
        assert owners(found) == expected
        assert found.numbers == {*expected.values()}
        assert found.damaged == before.damaged & found.numbers
        assert [each.number for each in found.damaged_layers()] == [
            each.number for each in found if each.number in found.damaged
        ]
        for lsn, number in expected.items():
            layer_there = found.at(lsn)
            assert layer_there is not None and layer_there.number == number


def test_a_value_stays_what_it_was() -> None:
    one, two, three = layers(10, 20, 30)
    found = NO_LAYERS.with_layer(one).with_layer(two).with_layer(three).with_damage(two.number)
    merged = Shelf(block_bytes=1 << 10).delta(WRITTEN, 0, 25)
    merged = attrs.evolve(merged, number=9)
    again = found.with_layer(merged)
    assert [(each.number, each.start, each.end) for each in again] == [(9, 0, 25), (3, 25, 30)]
    assert not again.damaged and found.damaged == {two.number}
    assert list(found) == [one, two, three] and found.layers[2].start == 20


@pytest.mark.parametrize(("start", "end"), [(5, 20), (5, 40), (25, 30), (31, 40), (40, 50)])
def test_a_layer_that_begins_amid_another_or_leaves_a_gap_is_refused(start: int, end: int) -> None:
    found = LayerMap(tuple(layers(10, 20, 30)))
    with pytest.raises(Invalid, match="expected to follow each other"):
        found.with_layer(Shelf().write([], start, end))


def test_only_the_first_may_be_a_base() -> None:
    base, first = layers(20, base=10)
    assert LayerMap((base, first)).layers == (base, first)
    with pytest.raises(Invalid, match="only the first may be a base"):
        LayerMap((first,))
    shelf = Shelf()
    delta = shelf.delta(WRITTEN, 0, 10)
    with pytest.raises(Invalid, match="only the first may be a base"):
        LayerMap((delta, shelf.write([], 10, 20, base=True)))
