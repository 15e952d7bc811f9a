"""Rows as text, in each mode. Pure: rows in, lines out."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import Any, Final, NamedTuple

from rich.cells import cell_len, chop_cells

MODES: Final = ("table", "csv", "json", "line", "list")
NULL: Final = "NULL"
_GAP: Final = "  "
_NARROWEST: Final = 6
"""Cells that a column of a table keeps, however many there are."""

Row = Sequence[Any]


class Part(NamedTuple):
    """Rows of a result, which is given out in parts, so that it need not fit into memory."""

    columns: Sequence[str]
    rows: Sequence[Row]
    first: bool = True
    last: bool = True


def lines_of(mode: str, part: Part, width: int | None = None) -> Iterator[str]:
    """Part of a result as lines; ``width`` is what a table may take, None for what it needs.

    Each part of a table has columns of its own width, and so a heading.
    """
    columns, rows = part.columns, part.rows
    match mode:
        case "table":
            yield from table(columns, rows, width)
        case "csv":
            if part.first:
                yield csv_line(columns)
            yield from map(csv_line, rows)
        case "json":
            yield from _json(part)
        case "line":
            yield from _line(part)
        case "list":
            yield from ("|".join(map(plain_text, row)) for row in rows)
        case _:
            raise AssertionError(f"{mode!r}: expected one of {MODES}")


def shown(value: Any) -> str:
    """A value for people: on one line, and a blob as SQL has it."""
    if value is None:
        return NULL
    text = plain_text(value)
    if text.isprintable():
        return text
    escapes = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return "".join(
        each if each.isprintable() else escapes.get(each, f"\\x{ord(each):02x}") for each in text
    )


def plain_text(value: Any) -> str:
    """A value as text; NULL is empty, and a blob as SQL has it."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return str(value)


def unique(names: Sequence[str]) -> list[str]:
    """The names, each once: what comes again gets a number, as in ``a``, ``a:1``."""
    taken = set(names)
    seen: set[str] = set()
    result = []
    for name in names:
        free, number = name, 0
        while free in seen or (number and free in taken):
            number += 1
            free = f"{name}:{number}"
        seen.add(free)
        result.append(free)
    return result


def as_json(value: Any) -> Any:
    """A value as JSON has it: a blob as ``{"blob": "hexadecimal"}``, infinity as text."""
    if isinstance(value, bytes):
        return {"blob": value.hex()}
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


# ---- tables --------------------------------------------------------------------------------------


def table(columns: Sequence[str], rows: Sequence[Row], width: int | None) -> Iterator[str]:
    """A heading, a rule, and the rows; what is too wide for its column is folded, not cut.

    Numbers stand to the right, if there is nothing else in their column but NULL.
    """
    if not columns:
        return
    cells = [[shown(value) for value in row] for row in rows]
    heads = [shown(name) for name in columns]
    numeric = [_is_numeric([row[at] for row in rows]) for at in range(len(heads))]
    widths = [
        max(cell_len(head), max((cell_len(row[at]) for row in cells), default=0), 1)
        for at, head in enumerate(heads)
    ]
    if width is not None:
        widths = fitted(widths, width - len(_GAP) * (len(widths) - 1))
    yield from _folded(heads, widths, numeric)
    yield _GAP.join("─" * each for each in widths)
    for row in cells:
        yield from _folded(row, widths, numeric)


def fitted(widths: Sequence[int], room: int) -> list[int]:
    """Widths that need no more than ``room`` together: the widest give first, as far as they can.

    Below `_NARROWEST` none goes, so that many columns still need more than there is.
    """
    low, high = _NARROWEST, max(widths)
    while low < high:  # the widest limit that fits
        middle = (low + high + 1) // 2
        if sum(min(each, middle) for each in widths) <= room:
            low = middle
        else:
            high = middle - 1
    result = [min(each, low) for each in widths]
    left = room - sum(result)
    for at, each in enumerate(widths):
        if left <= 0:
            break
        if each > low:
            result[at] += 1
            left -= 1
    return result


def _is_numeric(values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, int | float) for value in known)


def _folded(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> Iterator[str]:
    parts = [chop_cells(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
    for number in range(max(map(len, parts))):
        line = []
        for part, width, is_right in zip(parts, widths, right, strict=True):
            text = part[number] if number < len(part) else ""
            padding = " " * (width - cell_len(text))
            line.append(padding + text if is_right else text + padding)
        yield _GAP.join(line).rstrip()


# ---- the others ----------------------------------------------------------------------------------


def csv_line(row: Row) -> str:
    """One record as RFC 4180 has it, without its end; NULL is empty."""
    buffer = StringIO()
    csv.writer(buffer, lineterminator="").writerow([plain_text(value) for value in row])
    return buffer.getvalue()


def _json(part: Part) -> Iterator[str]:
    if part.first and part.last and not part.rows:
        yield "[]"
        return
    names = unique(part.columns)
    for number, row in enumerate(part.rows):
        fields = {name: as_json(value) for name, value in zip(names, row, strict=True)}
        begin = "[" if part.first and number == 0 else " "
        end = "]" if part.last and number == len(part.rows) - 1 else ","
        yield f"{begin}{json.dumps(fields, ensure_ascii=False)}{end}"


def _line(part: Part) -> Iterator[str]:
    heads = [shown(name) for name in part.columns]
    wide = max(map(cell_len, heads), default=0)
    for number, row in enumerate(part.rows):
        if number or not part.first:
            yield ""
        for head, value in zip(heads, row, strict=True):
            yield f"{' ' * (wide - cell_len(head))}{head} = {shown(value)}"
