"""Lines of a trace in words: when, who, and what happened.

A line says little of what was said before: of a message that arrives it has the number alone. So
all lines before it are to be told as well, in their order, or at least looked at (`see`).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any, Final

import attrs

import aurora.events
import segments.protocol.events
from segments.protocol import codec
from segments.protocol.errors import AuroraError
from segments.protocol.events import Event
from segments.protocol.ids import VolumeEpoch
from segments.protocol.truncation import TruncationTable
from sim.durations import moment
from sim.plan.schedule import Operation, Schedule

SCHEDULE: Final = "schedule"
CLIENTS: Final = "clients"
NETWORK: Final = "network"

_NUMBERS: Final = frozenset({"int", "Lsn", "PageId", "PgId"})
_OF_MESSAGES: Final = {"delivered": "arrives", "dropped": "is lost", "duplicated": "is repeated"}
_MOST_ITEMS: Final = 4
_MOST_VALUES: Final = 200
_MODULES: Final = (segments.protocol.events, aurora.events)


@attrs.frozen
class Told:
    """An event of a trace, in words."""

    at_ns: int
    source: str
    """A segment, a writer, or one of `SCHEDULE`, `CLIENTS` and `NETWORK`."""
    words: str

    def __str__(self) -> str:
        return f"{moment(self.at_ns)}  {self.source}: {self.words}"


class Teller:
    """Tells the lines of one trace."""

    def __init__(self, schedule: Schedule | None = None) -> None:
        """With its ``schedule`` calls are told, and not only numbered."""
        self._operations = schedule.operations if schedule else ()
        self._messages: dict[bytes, tuple[str, str, str]] = {}

    def see(self, line: bytes) -> None:
        """Remember what later lines are about."""
        parts = line.split(b" ", 5)
        if len(parts) == 6 and parts[1] == b"sent":
            kind = _decoded(parts[5])
            name = "a message" if kind is None else type(kind).__name__
            self._messages[parts[2]] = (name, parts[3].decode(), parts[4].decode())

    def tell(self, line: bytes) -> Told:
        """A line in words; what it is not known to be is told as it stands."""
        at, _, rest = line.partition(b" ")
        at_ns = int(at)
        kind, _, values = rest.partition(b" ")
        if kind == b"sent":
            return Told(at_ns, *_sent(line))
        name, text = kind.decode(errors="replace"), values.decode(errors="replace")
        if name in _OF_MESSAGES:
            what, source, to = self._messages.get(values, ("a message", "?", "?"))
            told = f"{what} from {source} to {to} {_OF_MESSAGES[name]} (message {text})"
            return Told(at_ns, NETWORK, told)
        if text.startswith("("):
            return Told(at_ns, *self._noted(name, text))
        event, _, numbers = text.partition(" ")
        return Told(at_ns, name, _step(event, numbers))

    def _noted(self, kind: str, text: str) -> tuple[str, str]:
        """Who has noted something, and what."""
        try:
            values = ast.literal_eval(text)
        except (ValueError, SyntaxError):  # a line that was cut
            return SCHEDULE, f"{kind} {text}"
        if kind == "action" and len(values) == 2:
            number, action = values
            return SCHEDULE, f"action {number}, {str(action).partition(' s  ')[2] or action}"
        if kind in ("invoked", "returned") and len(values) == 2:
            number, what = values
            call = f"call {number}{self._call(number)}"
            if kind == "invoked":
                return CLIENTS, f"{call} is made through {what}"
            outcome, _, lsn = str(what).rpartition(" ")
            return CLIENTS, f"{call} returns: {outcome}, LSN {lsn}"
        return CLIENTS if kind == "statement" else SCHEDULE, f"{kind} {text}"

    def _call(self, number: int) -> str:
        if not 0 <= number < len(self._operations):
            return ""
        operation: Operation = self._operations[number]
        return f" ({str(operation).partition(' s  ')[2]})"


def _sent(line: bytes) -> tuple[str, str]:
    _, _, message, source, to, payload = line.split(b" ", 5)
    said = _decoded(payload)
    if said is None:
        told = f"a message of {len(payload):,} bytes"
    else:
        told = f"{type(said).__name__} ({_fields(said)})"
    return source.decode(), f"sends {to.decode()} {told} (message {int(message)})"


def _decoded(payload: bytes) -> Any:
    """The message; None if it is none, or was cut."""
    try:
        return codec.decode(payload)
    except AuroraError:
        return None


def _fields(message: Any) -> str:
    values: Mapping[str, object] = message._asdict()
    told = ", ".join(
        f"{name} {_value(value)}"
        for name, value in values.items()
        if not isinstance(value, Mapping)
    )
    return told if len(told) <= _MOST_VALUES else f"{told[:_MOST_VALUES]} …"


def _value(value: object) -> str:
    if isinstance(value, VolumeEpoch):
        return str(value.counter)
    if isinstance(value, bytes | memoryview):
        return f"{len(value):,} bytes"
    if isinstance(value, TruncationTable):
        ranges = ", ".join(f"{each.start_lsn}–{each.end_lsn - 1}" for each in value.ranges)
        return f"of epoch {value.epoch.counter}: {ranges or 'nothing'} is annulled"
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return f"({_fields(value)})"
    kind: type[Any] = type(value)
    if attrs.has(kind):
        names = [each.name for each in attrs.fields(kind)]
        return f"({', '.join(f'{name} {_value(getattr(value, name))}' for name in names)})"
    if isinstance(value, tuple | list):
        more = " …" if value[_MOST_ITEMS:] else ""
        return f"[{', '.join(map(_value, value[:_MOST_ITEMS]))}{more}]"
    return str(value)


def _step(event: str, numbers: str) -> str:
    """What a core has done: the first words of its event's docstring, and its numbers."""
    kind = _kinds().get(event)
    if kind is None:
        return f"{event} {numbers}".rstrip()
    names = [each.name for each in attrs.fields(kind) if str(each.type) in _NUMBERS]
    values = numbers.strip("[]").split(", ") if numbers != "[]" else []
    if len(names) == len(values):
        values = [f"{name} {value}" for name, value in zip(names, values, strict=True)]
    doc = " ".join((kind.__doc__ or "").split()).replace("`", "")
    what = doc.partition(". ")[0].partition(";")[0].rstrip(".")
    return f"{event} ({', '.join(values)}): {what}" if values else f"{event}: {what}"


@cache
def _kinds() -> Mapping[str, type[Event]]:
    """The kinds of events by their names."""
    return {kind.__name__: kind for module in _MODULES for kind in _events_in(module)}


def _events_in(module: ModuleType) -> list[type[Event]]:
    return [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Event) and each is not Event
    ]
