"""A part of a film: what happens between two moments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from segments.protocol.errors import Invalid
from sim.durations import moment
from sim.view.film import Film

_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|ms|us|ns)")
_UNITS: Final[Mapping[str, int]] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_END: Final = 1 << 62


@attrs.frozen
class Window:
    """Times in nanoseconds, both inclusive."""

    from_ns: int = 0
    to_ns: int = _END

    def has(self, time_ns: int) -> bool:
        """Whether a moment is within."""
        return self.from_ns <= time_ns <= self.to_ns

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self == Window()

    @property
    def typed(self) -> str:
        """As an option has it, at least as wide."""
        first, last = self.from_ns // 1000, -(-self.to_ns // 1000)
        end = "" if self.to_ns == _END else f"{last / 1000:g}ms"
        return f"{first / 1000:g}ms..{end}"

    def __str__(self) -> str:
        if self.is_all:
            return "the whole run"
        end = "the end" if self.to_ns == _END else moment(self.to_ns)
        return f"{moment(self.from_ns)} to {end}"


def parse_window(text: str) -> Window:
    """A window of ``300ms..500ms``; either end may be left out. Raises `Invalid`."""
    first, dots, last = text.partition("..")
    if not dots:
        raise Invalid(f"window {text!r}: expected two times such as 300ms..500ms")
    from_ns, to_ns = _parse(first, text, 0), _parse(last, text, _END)
    if from_ns > to_ns:
        raise Invalid(f"window {text!r}: expected the earlier time first")
    return Window(from_ns, to_ns)


def _parse(time: str, text: str, missing: int) -> int:
    if not time.strip():
        return missing
    found = _TIME.fullmatch(time.strip())
    if found is None:
        raise Invalid(f"window {text!r}: {time!r}: expected a time such as 300ms (s, ms, us or ns)")
    return round(float(found[1]) * _UNITS[found[2]])


@attrs.frozen
class Happening:
    """An event, or one end of a message, in the order of a film."""

    time_ns: int
    node: int
    text: str
    event: int = -1
    """The number of the event; -1 for an end of a message."""
    sends: int = -1
    """The index of the message that is sent."""
    receives: int = -1
    """The index of the message of which a copy arrives."""


def happenings(film: Film, window: Window) -> list[Happening]:
    """All that a film has in a window, causes before effects."""
    found: list[tuple[int, int, int, Happening]] = []
    events: dict[str, list[Any]] = film["events"]
    for number, at_ns in enumerate(events["t"]):
        if window.has(at_ns):
            here = Happening(at_ns, events["node"][number], events["text"][number], event=number)
            found.append((at_ns, 2 * number, 0, here))
    names = [each["id"] for each in film["nodes"]]
    for index, letter in enumerate(film["messages"]):
        what = f"{letter['type']}: {letter['text']}"
        if window.has(letter["sent_ns"]):
            text = f"→ {names[letter['to']]}: {what}"
            here = Happening(letter["sent_ns"], letter["from"], text, sends=index)
            found.append((letter["sent_ns"], 2 * letter["sent"] + 1, index, here))
        for at_ns, after in zip(letter["arrived"], letter["arrived_after"], strict=True):
            if window.has(at_ns):
                text = f"← {names[letter['from']]}: {what}"
                here = Happening(at_ns, letter["to"], text, receives=index)
                found.append((at_ns, 2 * after + 1, index, here))
    return [each[3] for each in sorted(found, key=lambda one: one[:3])]
