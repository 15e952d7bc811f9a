"""The sentences of a story: which are told when there is not room for all, and how they wrap."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from aurora.terminal.text import show_lsns
from segments.protocol.truncation import TruncationTable
from sim.durations import later, moment_column

LAST: Final = 1 << 60
"""The position of what is so at the end, after every step."""
NEEDED: Final = 10
"""The weight of a sentence without which the failure cannot be understood."""
_INDENT: Final = " " * 13
_BEFORE_UNIT: Final = re.compile(r"(?<=\d) (?=(?:s|ms|us|ns)\b)")


class Line(NamedTuple):
    """One sentence of the story."""

    number: int
    """Its place: that of the step it tells of, see `sim.story.recorder.Step`."""
    time_ns: int
    weight: int
    """The heaviest lines are told when there is not room for all; `NEEDED` at most."""
    text: str
    gist: bool = False
    """Whether it belongs beside the finding: what would have been right, and what it may cost."""


def chosen(lines: Iterable[Line], rows: int, width: int) -> list[Line]:
    """The heaviest lines that fit into ``rows`` rows of ``width`` columns, in causal order."""
    told = list(lines)
    places = {line.text: place for place, line in reversed(list(enumerate(told)))}
    found: list[tuple[int, int, Line]] = []
    said: set[tuple[int, str]] = set()
    for line in sorted(told, key=lambda each: (-each.weight, -each.number)):
        height = len(shown(line, width))
        if height <= rows and (line.number, line.text) not in said:
            said.add((line.number, line.text))
            rows -= height
            found.append((line.number, places[line.text], line))
    return [line for _, _, line in sorted(found, key=lambda each: each[:2])]


def shown(line: Line, width: int) -> list[str]:
    """The rows of a line, after its moment."""
    return filled(f"{moment_column(line.time_ns)}  {line.text}", width, _INDENT)


def filled(text: str, width: int, indent: str) -> list[str]:
    """Rows of at most ``width`` columns, broken between words, with a hanging indent.

    A number stays with its unit of time.
    """
    rows = textwrap.wrap(
        _BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", text), width, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False, drop_whitespace=True,
    )  # fmt: skip
    return [row.replace("\N{NO-BREAK SPACE}", " ") for row in rows]


# ---- lists in words ------------------------------------------------------------------------------


def together(times: Iterable[tuple[str, int]]) -> str:
    """Names with the time in nanoseconds of each: ``A0 B0 first, C0 (+1.2 ms)``, after these."""
    ordered = sorted(times, key=lambda each: each[1])
    groups: dict[str, list[str]] = {}
    for name, at_ns in ordered:
        groups.setdefault(later(at_ns - ordered[0][1]), []).append(name)
    first, *others = (" ".join(names) for names in groups.values()) if groups else ("",)
    if not others:
        return first
    after = zip(others, list(groups)[1:], strict=True)
    return ", ".join([f"{first} first", *(f"{names} ({time})" for names, time in after)])


def sorted_by(values: Iterable[tuple[str, str]]) -> str:
    """Names, those with the same note together: ``A0 B0 (SCL 1), C0 (SCL 0)``."""
    groups: dict[str, list[str]] = {}
    for name, note in values:
        groups.setdefault(note, []).append(name)
    return ", ".join(
        " ".join(names) + (f" ({note})" if note else "") for note, names in groups.items()
    )


def of_six(names: Sequence[str], members: Sequence[str], needed: int) -> str:
    """A count against a quorum: ``A0 B0 C0: 3 of 6, needs 4``."""
    return f"{' '.join(names) or 'nobody'}: {len(names)} of {len(members)}, needs {needed}"


def annulled(table: TruncationTable) -> str:
    """The ranges of a table: ``annuls LSN 5–9 and LSN 15–20``."""
    ranges = [show_lsns(start, end - 1) for start, end, _ in table.ranges]
    return f"annuls {' and '.join(ranges)}" if ranges else "annuls nothing"
