"""Reading a TOML file with errors that say where, what was found and what was expected.

`Table` hands out values by key, checked and converted, and finally refuses every key that nobody
has asked for. Lines come from a small scan of the text, since `tomllib` does not keep them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeAlias

import attrs

from aurora.targets import spelt
from segments.protocol.errors import Invalid
from sim.wording import suggestion

Path: TypeAlias = tuple[str | int, ...]
"""Where a value stands: keys, and numbers of items in arrays, from 0."""

UNITS: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Nanoseconds in each unit of time."""

_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|ms|us|ns)")
_HEADER: Final = re.compile(r"\s*(\[\[?)\s*([\w.\- ]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(r"\s*([\w-]+)\s*=\s*(.*)$")


class ScenarioError(Invalid):
    """A scenario file that cannot be used: the message names file, line and key."""


def parse_time(text: str) -> int | None:
    """Nanoseconds of a time such as ``1.5ms``, exactly; None if it is not one."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    try:
        exact = Decimal(match[1]) * UNITS[match[2]]
    except InvalidOperation:  # more digits than any time has
        return None
    return int(exact) if exact == exact.to_integral_value() else None


def format_time(ns: int) -> str:
    """The shortest text that `parse_time` reads back as ``ns``, exactly."""
    unit = next(each for each, size in UNITS.items() if ns >= size or size == 1)
    if ns == 0:
        return "0s"
    whole, rest = divmod(ns, UNITS[unit])
    digits = f"{rest:0{len(str(UNITS[unit])) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}{'.' + digits if digits else ''}{unit}"


def parse_document(text: str, file: str) -> Table:
    """The root table of a TOML text; raises `ScenarioError` for what is no TOML."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{file}: not TOML: {error}") from error
    return Table(values, (), file, line_numbers(text))


def line_numbers(text: str) -> dict[Path, int]:
    """The line, from 1, of each table header, each key and each ``{`` item that begins a line.

    An array of tables as a whole is where its first one is.
    """
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    array: Path | None = None
    quoted = False
    for number, line in enumerate(text.splitlines(), 1):
        if quoted or line.count('"""') % 2:
            if not quoted and (key := _KEY.match(line)):
                lines[*table, key[1]] = number
            quoted ^= line.count('"""') % 2 == 1
        elif array is not None:
            if line.strip().startswith("]"):
                array = None
            elif line.strip().startswith("{"):
                lines[*array, counts.setdefault(array, 0)] = number
                counts[array] += 1
        elif header := _HEADER.match(line):
            table = tuple(part.strip() for part in header[2].split("."))
            if header[1] == "[[":
                lines.setdefault(table, number)
                count = counts.get(table, 0)
                counts[table] = count + 1
                table = (*table, count)
            lines[table] = number
        elif key := _KEY.match(line):
            lines[*table, key[1]] = number
            array = (*table, key[1]) if key[2].strip() == "[" else None
    return lines


@attrs.define(eq=False)
class Table:
    """A table of a TOML file, read key by key."""

    values: Mapping[str, Any]
    path: Path
    file: str
    lines: Mapping[Path, int]
    _asked: dict[str, None] = attrs.field(factory=dict, init=False)

    def error(self, key: str | None, problem: str) -> ScenarioError:
        """The error to raise about a key, or about the whole table."""
        path: Path = self.path if key is None else (*self.path, key)
        # A key within an inline table has no line of its own: its table's is near enough.
        line = next(
            (self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), 0
        )
        place = f"{self.file}, line {line}" if line else self.file
        name = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path)
        return ScenarioError(
            f"{place}: {name.lstrip('.')}: {problem}" if name else f"{place}: {problem}"
        )

    def has(self, key: str) -> bool:
        return key in self.values

    def get(self, key: str) -> Any:
        """The raw value, None if there is none."""
        self._asked[key] = None
        return self.values.get(key)

    def finish(self) -> None:
        """Raise `ScenarioError` for the first key that nobody has asked for."""
        for key in self.values:
            if key not in self._asked:
                raise self.error(key, f"unknown key: {suggestion(key, self._asked)}")

    # ---- values ----------------------------------------------------------------------------------

    def text(self, key: str, default: str | None = None) -> str:
        """A string; required if there is no default."""
        value = self._value(key, default, "a string")
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def choice(self, key: str, known: Collection[str], default: str | None = None) -> str:
        """One of some words."""
        value = self._value(key, default, f"one of {', '.join(known)}")
        if value not in known:
            raise self.error(key, f"found {value!r}: {suggestion(str(value), known)}")
        return str(value)

    def choices(
        self, key: str, known: Collection[str], default: tuple[str, ...]
    ) -> tuple[str, ...]:
        """A list of words, each of some."""
        found = self.texts(key, default)
        for value in found:
            if value not in known:
                raise self.error(key, f"found {value!r}: {suggestion(value, known)}")
        return found

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of strings."""
        value = self._value(key, list(default), "a list of strings")
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._wrong(key, value, "a list of strings")
        return tuple(value)

    def names(self, key: str) -> str:
        """A target (`aurora.targets`), a string or a list, as one string; "" if missing."""
        value = self._value(key, "", "names")
        try:
            return spelt(value)
        except Invalid:
            raise self._wrong(key, value, 'names such as "az1, C0", or a list of them') from None

    def integer(
        self, key: str, default: int | None = None, least: int = 0, most: int | None = None
    ) -> int:
        """An integer from ``least`` to ``most``, both inclusive; without ``most`` there is none."""
        expected = f"an integer of at least {least}"
        if most is not None:
            expected = f"an integer from {least:,} to {most:,}"
        value = self._value(key, default, expected)
        if type(value) is not int or value < least or (most is not None and value > most):
            raise self._wrong(key, value, expected)
        return value

    def integers(self, key: str, most: int) -> tuple[int, ...]:
        """A list of integers from 0 to ``most``, both inclusive; not empty."""
        expected = f"a list of integers from 0 to {most:,}"
        value = self._value(key, None, expected)
        if not isinstance(value, list) or not value:
            raise self._wrong(key, value, expected)
        if not all(type(each) is int and 0 <= each <= most for each in value):
            raise self._wrong(key, value, expected)
        return tuple(value)

    def number(self, key: str, default: float, least: float, most: float) -> float:
        """A number from ``least`` to ``most``, both inclusive."""
        expected = f"a number from {least:g} to {most:g}"
        value = self._value(key, default, expected)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, value, expected)
        if not least <= value <= most:
            raise self._wrong(key, value, expected)
        return float(value)

    def time(self, key: str, default: int | None = None) -> int:
        """Nanoseconds; required if there is no default."""
        expected = 'a time such as "500ms" (s, ms, us or ns)'
        value = self._value(key, default if default is None else format_time(default), expected)
        ns = parse_time(value) if isinstance(value, str) else None
        if ns is None:
            raise self._wrong(key, value, expected)
        return ns

    def boolean(self, key: str, default: bool) -> bool:
        """``true`` or ``false``."""
        value = self._value(key, default, "true or false")
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def table(self, key: str) -> Table:
        """A table within this one, empty if it is not there."""
        value = self._value(key, {}, "a table")
        if not isinstance(value, dict):
            raise self._wrong(key, value, f"a table, [{key}]")
        return Table(value, (*self.path, key), self.file, self.lines)

    def tables(self, key: str) -> list[Table]:
        """An array of tables, empty if it is not there."""
        value = self._value(key, [], "an array of tables")
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise self._wrong(key, value, f"an array of tables, [[{key}]]")
        return [
            Table(each, (*self.path, key, index), self.file, self.lines)
            for index, each in enumerate(value)
        ]

    def _value(self, key: str, default: Any, expected: str) -> Any:
        value = self.get(key)
        if value is None:
            if default is None:
                raise self.error(key, f"missing: expected {expected}")
            return default
        return value

    def _wrong(self, key: str, value: Any, expected: str) -> ScenarioError:
        return self.error(key, f"found {value!r}: expected {expected}")
