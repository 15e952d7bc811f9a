"""Plans of merging and collecting: what they choose, and what all of them together cost."""

from __future__ import annotations

from array import array
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.layers.bloom import Bloom
from segments.layers.layer import Layer
from segments.layers.tiers import Collect, Merge, Plan, Tiers
from segments.protocol.errors import InvalidConfig

UNIT = 1_000


def layer(
    number: int, start: int, end: int, length: int, *, base: bool = False, pages: int = 1
) -> Layer:
    return Layer(
        number, start, end, base, length, 1, length, pages, pages,
        array("Q"), array("Q"), array("Q", (64,)), Bloom(bytes(8)),
    )  # fmt: skip


def layers_of(*sizes: int, base: int = 0, pages: int = 1) -> list[Layer]:
    """Layers of these sizes, a hundred LSNs each, perhaps behind a base of ``base`` bytes."""
    made = [layer(0, 0, 100, base, base=True, pages=pages)] if base else []
    for size in sizes:
        start = made[-1].end if made else 0
        made.append(layer(len(made), start, start + 100, size, pages=0 if base else 1))
    return made


def merged(layers: list[Layer], floor: int = 0, fan_out: int = 4) -> tuple[int, ...] | None:
    """The places of the layers that are to be merged."""
    plan = Tiers(UNIT, fan_out, 1e9).plan(layers, floor)
    if plan is None:
        return None
    assert isinstance(plan, Merge)
    return tuple(layers.index(each) for each in plan.layers)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((1_000,) * 7, None),
        ((1_000,) * 8, (0, 1, 2, 3, 4, 5, 6, 7)),
        # back to the one that is smallest beside all that is newer
        ((8_000, *[1_000] * 7), (1, 2, 3, 4, 5, 6, 7)),
        ((8_000, 7_000, *[1_000] * 6), (2, 3, 4, 5, 6, 7)),
        ((8_000, 7_000, 6_000, *[1_000] * 5), (3, 4, 5, 6, 7)),
        ((9_000, 8_000, 7_000, 6_000, 4_000, 4_000, 2_000, 1_000), (0, 1, 2, 3, 4, 5, 6, 7)),
        ((40_000, 8_000, 7_000, 6_000, 4_000, 4_000, 2_000, 1_000), (1, 2, 3, 4, 5, 6, 7)),
        # a small one between larger ones is not left behind
        ((4_000, 1_000, 4_000, 4_000, 900, 1_000, 1_100, 1_000), (1, 2, 3, 4, 5, 6, 7)),
        # the more there is, the more layers
        ((1_100_000, 20_000, 6_000, 5_000, 4_000, 3_000, 2_000, 1_000), None),
        ((1_100_000, 20_000, 6_000, 5_000, 4_000, 3_000, 2_000, 1_000, 30), (2, 3, 4, 5, 6, 7, 8)),
        ((0,) * 8, (0, 1, 2, 3, 4, 5, 6, 7)),
    ],
)
def test_the_newest_are_merged_where_there_are_too_many(
    sizes: tuple[int, ...], expected: tuple[int, ...] | None
) -> None:
    assert merged(layers_of(*sizes)) == expected
    with_base = layers_of(*sizes, base=10**6)
    shifted = expected and tuple(each + 1 for each in expected)
    assert merged(with_base) == shifted


def test_the_fan_out_decides() -> None:
    assert [Tiers(UNIT, each).most_layers(0) for each in (2, 3, 4, 5)] == [3, 5, 7, 9]
    assert [Tiers(UNIT, 2).most_layers(UNIT << each) for each in (4, 5, 6, 7)] == [3, 3, 4, 4]
    assert merged(layers_of(*[1_000] * 3), fan_out=2) is None
    assert merged(layers_of(3_000, *[1_000] * 3), fan_out=2) == (1, 2, 3)


def test_layers_on_both_sides_of_the_floor_are_not_joined() -> None:
    layers = layers_of(*[1_000] * 14)
    assert merged(layers, floor=700) is None
    assert merged(layers, floor=699) == (6, 7, 8, 9, 10, 11, 12, 13)
    assert merged(layers, floor=800) == (0, 1, 2, 3, 4, 5, 6, 7)
    lopsided = layers_of(*[2_000] * 8, *[1_000] * 8)
    assert merged(lopsided, floor=800) == tuple(range(8, 16)), "what is least first"


def collected(layers: list[Layer], floor: int, ratio: float = 1.0) -> int | None:
    """How many layers are to be collected."""
    plan = Tiers(UNIT, 100, ratio).plan(layers, floor)
    if plan is None:
        return None
    assert isinstance(plan, Collect)
    assert list(plan.layers) == layers[: len(plan.layers)]
    return len(plan.layers)


def test_what_is_below_the_floor_is_collected_when_it_is_worth_it() -> None:
    layers = layers_of(2_000, 3_000, 4_000, base=5_000)
    assert collected(layers, 400) == 4
    assert collected(layers, 399) == 3
    assert collected(layers, 299) is None
    assert collected(layers, 299, ratio=0.4) == 2
    assert collected(layers_of(500, base=100), 200) is None, "less than a unit"


def test_a_first_base_is_thought_to_be_of_whole_pages() -> None:
    assert collected(layers_of(8_000), 100) is None
    assert collected(layers_of(8_200), 100) == 1
    assert collected(layers_of(8_200, 8_000), 200) is None, "two pages"


def test_new_pages_count_as_the_old_ones_do() -> None:
    old = layer(0, 0, 100, 2_000, base=True, pages=10)
    new = [layer(1, 100, 200, 2_500, pages=5), layer(2, 200, 300, 2_500, pages=5)]
    assert collected([old, new[0]], 200) is None, "fifteen pages of 200 bytes"
    assert collected([old, *new], 300) == 3


def test_a_base_alone_is_left_alone() -> None:
    assert Tiers(UNIT).plan(layers_of(base=10**6), 10**6) is None
    assert Tiers(UNIT).plan([], 10**6) is None


@pytest.mark.parametrize("values", [(0, 4, 1.0), (1, 1, 1.0), (1, 2, 0.0)])
def test_what_makes_no_sense_is_refused(values: tuple[int, int, float]) -> None:
    with pytest.raises(InvalidConfig, match="expected >= 1, >= 2 and above 0"):
        Tiers(*values)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1_000), st.integers(2, 5), st.integers(1, 2_000), st.integers(0, 300))
def test_layers_stay_few_and_writing_is_bounded(
    seed: int, fan_out: int, page_bytes: int, behind: int
) -> None:
    """Folds of any size, a floor that lags: what a plan says is done until there is none."""
    random, tiers = Random(seed), Tiers(UNIT, fan_out)
    layers: list[Layer] = []
    folded = wrote = collected_bytes = based = 0
    for turn in range(1, 300):
        size = random.randint(UNIT // 10, UNIT)
        start = layers[-1].end if layers else 0
        layers.append(layer(10 * turn, start, 100 * turn, size, pages=1 if turn < 20 else 0))
        folded += size
        floor = 100 * (turn - behind)
        while (plan := tiers.plan(layers, floor)) is not None:
            done = outcome(plan, page_bytes)
            at = layers.index(plan.layers[0])
            layers[at : at + len(plan.layers)] = [done]
            if isinstance(plan, Merge):
                wrote += done.length
            else:
                based += done.length
                collected_bytes += sum(each.length for each in plan.layers if not each.base)
        tiers_there_are = 1 + (folded // UNIT + 1).bit_length() // (fan_out.bit_length() - 1)
        assert len(layers) <= 2 * (fan_out - 1) * (tiers_there_are + 1) + 1
    assert all(older.end == newer.start for older, newer in pairwise(layers))
    assert wrote <= folded * (tiers_there_are + 1)
    assert based <= collected_bytes + 20 * page_bytes


@pytest.mark.parametrize("fan_out", [2, 4, 7])
@pytest.mark.parametrize("floor", [0, 200, 400], ids=["none", "half", "all"])
def test_of_a_backlog_so_many_are_made_one_at_a_time_and_few_are_left(
    fan_out: int, floor: int
) -> None:
    """Each layer that is merged takes memory, and while merging lags any number may have come."""
    tiers = Tiers(UNIT, fan_out, collect_ratio=0.5)
    layers = [layer(10 * at, at, at + 1, UNIT, pages=int(at < 4)) for at in range(400)]
    wrote = 0
    while (plan := tiers.plan(layers, floor)) is not None:
        assert 2 <= len(plan.layers) <= 8 * fan_out + 1
        done = outcome(plan, page_bytes=100)
        at = layers.index(plan.layers[0])
        layers[at : at + len(plan.layers)] = [done]
        wrote += done.length
    assert len(layers) <= 2 * tiers.most_layers(400 * UNIT)
    assert wrote <= 400 * UNIT * 4
    assert layers[0].base is (floor > 0)


def test_what_is_too_wide_to_be_collected_is_merged_first() -> None:
    tiers = Tiers(UNIT, 4, collect_ratio=0.5)
    base = layer(1, 0, 10, UNIT, base=True, pages=1)
    deltas = [layer(at, at * 10, at * 10 + 10, UNIT) for at in range(1, 34)]
    assert isinstance(tiers.plan([base, *deltas[:32]], 330), Collect)
    assert isinstance(tiers.plan([base, *deltas], 340), Merge)


def outcome(plan: Plan, page_bytes: int) -> Layer:
    """The layer that a plan makes."""
    number, start, end = plan.layers[0].number, plan.layers[0].start, plan.layers[-1].end
    pages = sum(each.new_page_count for each in plan.layers)
    if isinstance(plan, Merge):
        size = sum(each.length for each in plan.layers)
        return layer(number + 1, start, end, size, pages=pages)
    return layer(number + 1, 0, end, pages * page_bytes, base=True, pages=pages)
