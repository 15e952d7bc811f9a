"""The format of sqllogictest: statements and queries, each with what is expected of it.

Records are parted by empty lines; a line that begins with ``#`` is a comment::

    statement ok | statement error
    query TYPES [nosort | rowsort | valuesort] [LABEL]

The statement follows, up to the next empty line; of a query up to ``----``, and then the values, a
line each, row after row, or ``N values hashing to MD5``. ``skipif NAME`` and ``onlyif NAME`` are
about the next record, ``halt`` ends the file, and ``hash-threshold N`` says from when on a writer
of such files gives a hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import attrs

NAME: Final = "sqlite"
"""What ``skipif`` and ``onlyif`` call us."""
RULE: Final = "----"
_HASHED: Final = re.compile(r"(\d+) values hashing to ([0-9a-f]{32})")
_NUMBER: Final = re.compile(r"\s*([+-]?\d*\.?\d*(?:[eE][+-]?\d+)?)")
_INTEGER: Final = re.compile(r"\s*([+-]?\d+)")
_SORTS: Final = ("nosort", "rowsort", "valuesort")


class Malformed(Exception):
    """A file that is not of the format."""


@attrs.frozen
class Record:
    """One statement or query."""

    line: int
    sql: str
    fails: bool = False
    """Whether a statement is expected to."""
    types: str = ""
    """Of a query: for each column T, I or R; none for a statement."""
    sort: str = _SORTS[0]
    label: str = ""
    """Queries of one label have the same result."""
    expected: tuple[str, ...] | None = None
    """The values, or the line with their hash; None if the file gives none."""


def records(lines: Iterable[str]) -> Iterator[Record]:
    """The records of a file that are for SQLite, in order."""
    skipped = False
    for block in _blocks(lines):
        while block and block[0][1].split()[0] in ("skipif", "onlyif"):
            condition, name = block.pop(0)[1].split()[:2]
            skipped |= (condition == "skipif") == (name == NAME)
        if not block:  # of the next one
            continue
        number, head = block[0]
        kind, *words = head.split("#")[0].split()
        if not skipped:
            if kind == "halt":
                return
            if kind in ("statement", "query"):
                yield _record(number, kind, words, [line for _, line in block[1:]])
            elif kind != "hash-threshold":
                raise Malformed(f"line {number}: {head!r}: expected statement or query")
        skipped = False


def _blocks(lines: Iterable[str]) -> Iterator[list[tuple[int, str]]]:
    """Lines up to each empty one, with their numbers; comments left out, but not among values."""
    block: list[tuple[int, str]] = []
    values = False
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n")
        if not line.strip():
            if block:
                yield block
            block, values = [], False
        elif values or not line.startswith("#"):
            block.append((number, line))
            values |= line == RULE
    if block:
        yield block


def _record(line: int, kind: str, words: Sequence[str], body: list[str]) -> Record:
    if kind == "statement":
        if not words or words[0] not in ("ok", "error"):
            raise Malformed(f"line {line}: statement {words}: expected ok or error")
        return Record(line, "\n".join(body), fails=words[0] == "error")
    types, sort, label = [*words, *("", "", "")[len(words) :]][:3]
    sort = sort or _SORTS[0]
    if not types or set(types) - set("TIR") or sort not in _SORTS:
        raise Malformed(f"line {line}: query {words}: expected types of TIR, and a sort mode")
    if RULE not in body:
        return Record(line, "\n".join(body), types=types, sort=sort, label=label)
    at = body.index(RULE)
    return Record(
        line, "\n".join(body[:at]), types=types, sort=sort, label=label,
        expected=tuple(body[at + 1 :]),
    )  # fmt: skip


def values_of(rows: Sequence[Sequence[Any]], types: str, sort: str) -> list[str]:
    """The values of rows as a file has them, one after the other."""
    shown = [[_shown(value, kind) for value, kind in zip(row, types, strict=True)] for row in rows]
    if sort == "rowsort":
        shown.sort()
    values = [value for row in shown for value in row]
    if sort == "valuesort":
        values.sort()
    return values


def hashed(values: Iterable[str]) -> str:
    """The MD5 of values, in hexadecimal."""
    together = "".join(f"{value}\n" for value in values)
    return hashlib.md5(together.encode(), usedforsecurity=False).hexdigest()


def agrees(expected: Sequence[str], values: Sequence[str]) -> bool:
    """Whether values are what a file expects, which may be their hash."""
    hash_line = _HASHED.fullmatch(expected[0]) if len(expected) == 1 else None
    if hash_line is None:
        return list(expected) == list(values)
    return int(hash_line[1]) == len(values) and hash_line[2] == hashed(values)


def written(record: Record, values: Sequence[str], threshold: int) -> str:
    """A record as lines of a file, with an empty one behind."""
    if not record.types:
        return f"statement {'error' if record.fails else 'ok'}\n{record.sql}\n\n"
    head = " ".join(filter(None, ("query", record.types, record.sort, record.label)))
    if len(values) > threshold:
        values = [f"{len(values)} values hashing to {hashed(values)}"]
    return "\n".join([head, record.sql, RULE, *values]) + "\n\n"


def _shown(value: Any, kind: str) -> str:
    """One value, cast to the type of its column as SQLite does it."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if kind == "I":
        if isinstance(value, str):
            number = _INTEGER.match(value)
            value = number[1] if number else 0
        return str(int(value))
    if kind == "R":
        if isinstance(value, str):
            prefix = _NUMBER.match(value)
            value = prefix[1] if prefix and any(map(str.isdigit, prefix[1])) else 0
        # SQLite gives 16 digits, and zeros after them.
        return f"{Decimal(f'{float(value):.15e}'):.3f}"
    if isinstance(value, float):
        text = f"{value:.15g}"
        value = text if set(text) & set(".en") else f"{text}.0"
    return "".join(each if " " <= each <= "~" else "@" for each in str(value)) or "(empty)"
