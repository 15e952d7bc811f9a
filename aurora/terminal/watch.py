"""Where trace events go: to those who listen at the moment, and to a file as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, TextIO

import attrs
import trio

from aurora.terminal.finishing import PatientFile
from segments.protocol.events import (
    Event,
    Restored,
    Tracer,
    WriteFailed,
    WriteStarted,
    WriteSynced,
)
from segments.protocol.ids import SegmentId, VolumeEpoch
from segments.protocol.messages import PageImage
from segments.protocol.record import RedoRecord
from segments.protocol.run import read_records

_WRITE_ENDS: Final = (WriteSynced, WriteFailed, Restored)


class Watch:
    """The tracer given to a cluster: tells all listeners, and knows which segments are writing."""

    def __init__(self, *listeners: Tracer) -> None:
        self.listeners: list[Tracer] = list(listeners)
        self._writing: dict[SegmentId, None] = {}

    def __call__(self, source: str, event: Event) -> None:
        if isinstance(event, WriteStarted):
            self._writing[source] = None
        elif isinstance(event, _WRITE_ENDS):
            self._writing.pop(source, None)
        for listener in self.listeners:
            listener(source, event)

    def writing(self) -> list[SegmentId]:
        """The segments whose disk has a write under way, or had one when they crashed."""
        return list(self._writing)


class TraceFile:
    """Each event as one line of JSON: time in seconds, source, its class and its fields."""

    def __init__(self, file: TextIO | PatientFile) -> None:
        self._file = file
        self._started_s: float | None = None

    def __call__(self, source: str, event: Event) -> None:
        now = trio.current_time()
        if self._started_s is None:
            self._started_s = now
        moment = round(now - self._started_s, 6)
        head = {"time": moment, "source": source, "event": type(event).__name__}
        self._file.write(json.dumps(head | plain_fields(event)) + "\n")


def plain_fields(value: object) -> dict[str, object]:
    """The fields of an attrs instance as JSON has them, see `plain`."""
    kind: type = type(value)
    return {each.name: plain(getattr(value, each.name)) for each in attrs.fields(kind)}


def plain(value: object) -> object:
    """``value`` as JSON has it: tuples as lists or objects, bytes as hex, a page as its length."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return value.hex()
        case VolumeEpoch():
            return f"{value.counter}.{value.writer_id}"
        case PageImage():
            return {"page_id": value.page_id, "page_lsn": value.page_lsn}
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case RedoRecord():
            return {key: plain(each) for key, each in value._asdict().items()}
        case tuple() if hasattr(value, "_asdict"):
            return _plain_message(value)
        case list() | tuple():
            return [plain(each) for each in value]
    kind: type = type(value)
    return plain_fields(value) if attrs.has(kind) else str(value)


def _plain_message(message: object) -> object:
    fields: dict[str, object] = message._asdict()  # type: ignore[attr-defined]
    records = fields.get("records")
    if isinstance(records, bytes):
        fields["records"] = [record.lsn for record in read_records(records)]
    said = {key: plain(each) for key, each in fields.items()}
    return {"message": type(message).__name__, **said}
