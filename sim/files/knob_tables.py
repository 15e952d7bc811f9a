"""The world's knobs as tables of a scenario file, there and back.

The keys are the fields of `Knobs` and of its profiles. A field that ends in ``_ns`` is a time,
written without that ending: ``duration = "2s"``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar, get_args, get_type_hints

import attrs

from segments.protocol.errors import AuroraError, Invalid
from sim.files.toml_reader import ScenarioError, Table, format_time
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.schedule import MS, SECOND, Knobs

_T = TypeVar("_T")

_NS: Final = "_ns"
_NAMED: Final = re.compile(r"(\w+?)(?:_ns)?(?: is)? (?=\S+: )")
_MOST: Final = 1e12
_NEVER_ALL: Final = ("loss", "write_failure", "sync_failure")
"""The fractions that end with no fault, and so leave something over."""
_NOT_ALL: Final = "less than 1, or nothing could ever finish"
_LONGEST_NS: Final = 86_400 * SECOND
RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "duration_ns": (MS, _LONGEST_NS),
    "liveness_ns": (MS, _LONGEST_NS),
    "check_every": (1, 1_000_000),
}
"""From where to where, inclusive, those knobs go that no part of the engine checks by itself."""


def read_knobs(table: Table) -> Knobs:
    """The knobs that a table asks for; the rest as by default. Raises `ScenarioError`."""
    knobs = _read(table, Knobs)
    try:
        knobs.cluster_config()
    except AuroraError as error:
        raise _refused(table, error) from error
    return knobs


def check_ranges(knobs: Knobs) -> None:
    """Raise `Invalid` for a knob outside of its range."""
    for name, (least, most) in RANGES.items():
        if not least <= (value := getattr(knobs, name)) <= most:
            raise Invalid(f"{name}: found {value!r}: expected {least} to {most}")
    for name in ("link", "cross_az_link", "disk"):
        for part in _NEVER_ALL:
            if getattr(getattr(knobs, name), part, 0.0) == 1.0:
                raise Invalid(f"{name}.{part}: found 1.0: expected {_NOT_ALL}")


def _refused(table: Table, error: AuroraError) -> ScenarioError:
    """What a class or the settings refuse, at the line of the key that they name, if it is there.

    They say ``loss 2.0: expected …`` or ``lal is 0: expected …``.
    """
    named = _NAMED.match(str(error))
    if named is None or not table.has(named[1]):
        return table.error(None, str(error))
    return table.error(named[1], f"found {str(error)[named.end() :]}")


def _read(table: Table, kind: type[_T]) -> _T:
    """An instance of an attrs class out of a table whose keys are its fields."""
    hints = get_type_hints(kind)
    found: dict[str, Any] = {}
    for field in attrs.fields(kind):  # type: ignore[arg-type]
        key = field.name.removesuffix(_NS)
        table.get(key)  # known, whether it is there or not
        if table.has(key):
            found[field.name] = _value(table, key, field.name, hints[field.name])
    table.finish()
    try:
        return kind(**found)
    except AuroraError as error:
        raise _refused(table, error) from error


def _value(table: Table, key: str, name: str, hint: Any) -> Any:
    choices = [each for each in get_args(hint) if each is not type(None)] or [hint]
    wanted = choices[0]
    if name.endswith(_NS):
        ns = table.time(key)
        least, most = RANGES.get(name, (0, ns))
        if not least <= ns <= most:
            raise table.error(
                key,
                f"found {table.get(key)!r}: expected {format_time(least)} to {format_time(most)}",
            )
        return ns
    if wanted in (LinkProfile, DiskProfile):
        return _read(table.table(key), wanted)
    if wanted is float:
        value = table.number(key, 0.0, 0.0, _MOST)
        if value == 1.0 and name in _NEVER_ALL:
            raise table.error(key, f"found {table.get(key)!r}: expected {_NOT_ALL}")
        return value
    assert wanted is int, (name, hint)
    if name not in RANGES:
        return table.integer(key)
    least, most = RANGES[name]
    return table.integer(key, least=least, most=most)


def knob_values(knobs: Any, *, all_of_them: bool = False) -> dict[str, Any]:
    """What differs from the defaults, or everything, as a scenario file says it."""
    plain = type(knobs)()
    found: dict[str, Any] = {}
    for field in attrs.fields(type(knobs)):
        value, usual = getattr(knobs, field.name), getattr(plain, field.name)
        if value == usual and not all_of_them:
            continue
        if value is None:
            found[field.name] = None  # only if it is the default: TOML has no word for it
        elif field.name.endswith(_NS):
            found[field.name.removesuffix(_NS)] = format_time(value)
        elif attrs.has(type(value)):
            found[field.name] = knob_values(value, all_of_them=all_of_them)
        else:
            found[field.name] = value
    return found
