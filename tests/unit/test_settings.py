"""Every setting has both bounds, and what is accepted works: at its ends, and in company.

The settings are found in the classes: a new one is covered here as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from random import Random
from types import SimpleNamespace
from typing import Any, Final

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import aurora
from scripts.settings_page import GROUPS, placed
from segments.config import LARGEST_BATCH_BYTES, Relation, Setting, settings_of
from segments.protocol.ids import VolumeEpoch
from segments.wal import MAX_FRAME_BYTES, Entry, HeldEntry, RecordsEntry, encode_body

SETTINGS: Final[dict[str, Setting]] = {
    place + each.name: each for kind, place, _ in GROUPS for each in settings_of(kind)
}
"""All of them, by the names that lead to them from a `ClusterConfig`."""
RELATIONS: Final = [placed(each, place) for _, place, relations in GROUPS for each in relations]
KINDS: Final = {place: kind for kind, place, _ in GROUPS}

Values = Mapping[str, Any]

TOO_MANY_TO_RUN: Final = {"pg_count": 24}
"""Where the upper bound is a matter of the machine: 38,400 segments are not started here."""


def made(values: Values) -> aurora.ClusterConfig:
    """A configuration with these settings, by their names in it."""

    def build(place: str, **parts: Any) -> Any:
        own = {
            each.name: values[place + each.name]
            for each in settings_of(KINDS[place])
            if place + each.name in values
        }
        return KINDS[place](**own, **parts)

    engine = build("engine.", router=build("engine.router."))
    config: aurora.ClusterConfig = build("", engine=engine, segment=build("segment."))
    return config


def at(values: Values, name: str) -> Any:
    return values.get(name, SETTINGS[name].default)


def holds(relation: Relation, values: Values) -> bool:
    sides = [
        [at(values, each) if isinstance(each, str) else each for each in side]
        for side in (relation.terms, relation.limit)
    ]
    return None in sides[0] + sides[1] or math.prod(sides[0]) <= math.prod(sides[1])


def reconciled(values: Values, relations: Sequence[Relation] = RELATIONS) -> dict[str, Any]:
    """The same settings with others moved, as far as it takes, so that the relations hold."""
    found = dict(values)
    while broken := [each for each in relations if not holds(each, found)]:
        free = {each for relation in broken for each in relation.settings} - values.keys()
        moved = {each: eased(each, broken) for each in sorted(free)}
        assert any(at(found, each) != value for each, value in moved.items()), (broken, found)
        found |= moved
    return found


def eased(name: str, broken: Sequence[Relation]) -> Any:
    """The end of a setting at which these relations are easiest to keep."""
    setting = SETTINGS[name]
    limits = [name in each.limit for each in broken if name in each.settings]
    assert len(set(limits)) == 1, f"{name} is pulled in both directions by {broken}"
    return setting.at_most if limits[0] else setting.at_least


def ends(setting: Setting) -> list[Any]:
    return [setting.at_least, setting.at_most, *([None] if setting.optional else [])]


# ---- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "place"), [(kind, place) for kind, place, _ in GROUPS])
def test_every_field_is_a_setting_or_holds_settings(kind: type, place: str) -> None:
    found = {each.name for each in settings_of(kind)}
    parts = {each.rstrip(".").split(".")[-1] for each in KINDS if each.startswith(place)} - {""}
    assert {each.name for each in attrs.fields(kind)} <= found | parts


class _Index(int):
    """Such as numpy's: an integer to Python, and not to the codec."""


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_out_of_bounds_is_refused_by_name(name: str) -> None:
    setting, place = SETTINGS[name], name[: -len(SETTINGS[name].name)]
    low, high = setting.at_least, setting.at_most
    whole = type(low) is int
    wrong = [
        low - 1 if whole else math.nextafter(low, -math.inf),
        high + 1 if whole else math.nextafter(high, math.inf),
        *(math.nan, math.inf, -math.inf, True, False, str(low), b"1", [low], low * 1j),
        *([_Index(low), float(low), low + 0.5] if whole else []),
        *([] if setting.optional else [None]),
    ]
    for value in wrong:
        with pytest.raises(aurora.InvalidConfig) as refused:
            KINDS[place](**{setting.name: value})
        said = str(refused.value)
        assert said.startswith(f"{setting.name} is {value!r}")
        assert f"from {low} to {high}" in said


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (aurora.ClusterConfig, "engine"),
        (aurora.ClusterConfig, "segment"),
        (aurora.EngineConfig, "router"),
    ],
)
def test_a_part_of_another_class_is_refused_by_name(kind: type, part: str) -> None:
    wrong: list[Any] = [None, {}, 5, aurora.ClusterConfig]
    for value in wrong:
        with pytest.raises(aurora.InvalidConfig, match=rf"^{part} is .*: expected \w+Config\("):
            kind(**{part: value})


async def test_a_configuration_of_another_class_opens_nothing() -> None:
    wrong: list[Any] = [{"pg_count": 2}, aurora.EngineConfig(), "default"]
    for value in wrong:
        with pytest.raises(aurora.Invalid, match=r"config is .*: expected a ClusterConfig"):
            async with aurora.open_cluster(config=value):
                pytest.fail("opened")


def test_the_longest_batch_fits_a_frame_whatever_is_in_it() -> None:
    longest = bytes(LARGEST_BATCH_BYTES)
    entries: list[Entry] = [HeldEntry(1), RecordsEntry(1, 1, longest)]
    assert encode_body(VolumeEpoch(1, 1), entries).frame_bytes < MAX_FRAME_BYTES - (1 << 20)
    with pytest.raises(aurora.Invalid, match="a frame of"):
        encode_body(VolumeEpoch(1, 1), [RecordsEntry(1, 1, longest + longest)])


# ---- relations -----------------------------------------------------------------------------------


def _nested(values: Values) -> SimpleNamespace:
    root = SimpleNamespace()
    for name, value in values.items():
        *parts, last = name.split(".")
        at_part = root
        for each in parts:
            if not hasattr(at_part, each):
                setattr(at_part, each, SimpleNamespace())
            at_part = getattr(at_part, each)
        setattr(at_part, last, value)
    return root


@pytest.mark.parametrize("relation", RELATIONS, ids=str)
def test_a_broken_relation_names_both_sides_with_their_values(relation: Relation) -> None:
    values = {
        name: SETTINGS[name].at_most if name in relation.terms else SETTINGS[name].at_least
        for name in relation.settings
    }
    with pytest.raises(aurora.InvalidConfig) as refused:
        relation.check(_nested(values))
    for name, value in values.items():
        assert f"{name} is {value}" in str(refused.value)
    assert str(refused.value).endswith(relation.reason)


@pytest.mark.parametrize("relation", RELATIONS, ids=str)
def test_the_classes_check_every_relation(relation: Relation) -> None:
    """It alone is broken here."""
    values = reconciled(
        {
            name: SETTINGS[name].at_most if name in relation.terms else SETTINGS[name].at_least
            for name in relation.settings
        },
        [each for each in RELATIONS if each is not relation],
    )
    assert not holds(relation, values)
    with pytest.raises(aurora.InvalidConfig) as refused:
        made(values)
    assert str(refused.value).endswith(relation.reason)


# ---- what is accepted works ----------------------------------------------------------------------


async def workload(config: aurora.ClusterConfig) -> None:
    """Commits, reads of now and of the past, a segment that was away, and a recovery."""
    async with aurora.open_cluster(config=config, random=Random(1)) as cluster:
        engine = cluster.engine
        first = await engine.put(1, 0, b"first")
        most = (config.new_geometry().lal, config.engine.buffer_pool_pages)
        pages = range(2, 2 + min(3, config.engine.max_mtr_writes, *most))
        await engine.put_many([(page, 0, b"x" * 1_000) for page in pages])
        cluster.crash("F0")
        with trio.move_on_after(0.5):
            async with trio.open_nursery() as nursery:
                for number in range(5):  # many more do not fit the smallest `disk_bytes`
                    nursery.start_soon(engine.put, 1, 0, b"%05d" % number)
        await trio.sleep(0.1)
        try:
            assert (await engine.get_at(1, first)).startswith(b"first")
        except aurora.ReadPointBelowFloor:
            assert config.engine.retention_lsns is not None
        await cluster.restart("F0")
        engine = await cluster.recover()
        assert (await engine.get(1))[:3] == b"000"
        last = await engine.put(pages[-1], 0, b"last")
        assert (await engine.get_at(pages[-1], last)).startswith(b"last" + b"x" * 996)
        assert (await engine.get(pages[0], strict=True))[999:1_001] == b"x\0"


def run(values: Values) -> None:
    async def bounded() -> None:
        with trio.fail_after(3_600):
            await workload(made(values))

    trio.run(bounded, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_works_at_both_ends(name: str) -> None:
    for value in ends(SETTINGS[name]):
        most = TOO_MANY_TO_RUN.get(name)
        values = reconciled({name: value})
        assert attrgetter(name)(made(values)) == value
        if most is None or value is None or value <= most:
            run(values)
        else:
            run({name: most})


def between(name: str) -> st.SearchStrategy[Any]:
    """Values of a setting that are accepted for themselves, its ends more often than the others."""
    setting = SETTINGS[name]
    low, high = setting.at_least, TOO_MANY_TO_RUN.get(name, setting.at_most)
    if type(low) is int:
        return st.sampled_from([low, high]) | st.integers(low, int(high))
    return st.sampled_from([low, high]) | st.floats(low, high)


@st.composite
def some_settings(draw: st.DrawFn) -> dict[str, Any]:
    """A few settings that are each accepted for themselves."""
    names = draw(st.lists(st.sampled_from(sorted(SETTINGS)), unique=True, max_size=6))
    return {name: draw(between(name)) for name in names}


@settings(max_examples=80)
@given(some_settings())
def test_what_is_accepted_works(values: dict[str, Any]) -> None:
    try:
        made(values)
    except aurora.InvalidConfig:
        assert not all(holds(each, values) for each in RELATIONS)
        return
    run(values)
