"""Knobs turned by hand: ``NAME=VALUE``, as the option ``--knob`` takes it.

Names and values are those of a scenario file's ``[knobs]``, parts of a profile after a dot
(``link.loss=0.01``), without quotes; besides there are short names (`SHORT_NAMES`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args, get_type_hints

import attrs

from segments.protocol.errors import Invalid
from segments.protocol.volume import VolumeGeometry
from sim.files.fits import check_fits
from sim.files.knob_tables import knob_values, read_knobs
from sim.files.toml_reader import Table, format_time
from sim.plan.knob_words import SHORT_NAMES
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.schedule import Knobs, Schedule
from sim.wording import suggestion
from sim.world import faults

OPTION: Final = "--knob"
_NONE: Final = "none"
_PROFILES: Final = {"link": LinkProfile, "cross_az_link": LinkProfile, "disk": DiskProfile}


def known_knobs() -> dict[str, str]:
    """Every name that can be said, and its value by default as it is said; none: there is none."""
    found: dict[str, str] = {}
    for name, value in knob_values(Knobs(), all_of_them=True).items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{part}": str(each) for part, each in value.items()}
        elif name in _PROFILES:
            parts = knob_values(_PROFILES[name](), all_of_them=True)
            found |= {name: _NONE} | {f"{name}.{part}": str(each) for part, each in parts.items()}
        else:
            found[name.removesuffix("_ns")] = _NONE if value is None else str(value)
    return found


def edited(knobs: Knobs, texts: Sequence[str]) -> Knobs:
    """``knobs`` with each of the ``NAME=VALUE`` in turn; raises `Invalid`, naming the wrong one."""
    values = knob_values(knobs)
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not value:
            raise Invalid(f"{OPTION} {text}: expected NAME=VALUE, such as latency=5ms")
        for each in SHORT_NAMES.get(name, (name,)):
            _put(values, each, value, may_lack=name in SHORT_NAMES)
    try:
        return read_knobs(Table(values, (), OPTION, {}))
    except Invalid as error:
        for text in texts:  # named as it was typed, not as what it stands for
            short = text.partition("=")[0].strip()
            if any(each in str(error) for each in SHORT_NAMES.get(short, ())):
                raise Invalid(f"{OPTION} {text}: {error}") from None
        raise


def _put(values: dict[str, Any], name: str, text: str, *, may_lack: bool) -> None:
    known = known_knobs()
    if name not in known:
        raise Invalid(f"{OPTION} {name}: {suggestion(name, [*SHORT_NAMES, *known])}")
    head, dot, part = name.partition(".")
    if may_lack and head == "cross_az_link" and head not in values:
        return
    if name in _PROFILES:
        if text != _NONE:
            raise Invalid(
                f"{OPTION} {name}={text}: expected {_NONE}, or a part: {name}.minimum=1ms"
            )
        values.pop(name, None)
    elif not dot and text == _NONE and known[name] == _NONE:
        values.pop(name, None)
    elif dot:
        values.setdefault(head, {})[part] = _value(_PROFILES[head], part, text)
    else:
        values[name] = _value(Knobs, name, text)


def _value(kind: type[Any], key: str, text: str) -> object:
    """What TOML would have of the text; one that is of no use is left to `read_knobs` to refuse."""
    hints = get_type_hints(kind)
    if f"{key}_ns" in hints:
        return text
    wanted = hints[key]
    number = float if wanted is float else int
    assert number is float or int in (wanted, *get_args(wanted)), (key, wanted)
    try:
        return number(text)
    except ValueError:
        return text


def with_knobs(schedule: Schedule, texts: Sequence[str]) -> Schedule:
    """The schedule in an edited world; raises `Invalid` too if its calls or faults do not fit."""
    if not texts:
        return schedule
    knobs = edited(schedule.knobs, texts)
    check_fits(knobs, schedule.operations)
    groups = VolumeGeometry(knobs.pg_count).groups()
    for action in schedule.actions:
        faults.check(action, groups)
        if action.at_ns >= knobs.duration_ns > 0 and action.at_ns < schedule.knobs.duration_ns:
            raise Invalid(
                f"{OPTION} duration={format_time(knobs.duration_ns)}: found {action.kind} at "
                f"{format_time(action.at_ns)}: expected all faults before everything heals"
            )
    return attrs.evolve(schedule, knobs=knobs)
