"""An onlooker of a run: keeps what the report needs, and writes the trace to a file if asked.

It looks at events as they happen, and never touches the world: with it and without it the digest is
the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TextIO

from aurora.terminal.finishing import PatientFile
from segments.protocol import codec
from segments.protocol.errors import AuroraError
from sim.plan.episodes import episodes_of
from sim.show.returns import Returns

if TYPE_CHECKING:
    from sim.world.world import World

MAX_LOSSES: Final = 1_000_000
"""Lost messages kept with their times; further ones are only counted, by the world."""


class Watch:
    """Attached to a world before it runs."""

    def __init__(
        self,
        world: World,
        *,
        trace_file: TextIO | PatientFile | None = None,
        on_event: Callable[[], object] | None = None,
    ) -> None:
        """``on_event`` is called at every message event and note: it must be quick."""
        self.losses: list[tuple[int, str, str, str]] = []
        """Messages lost to faults: time, source, destination and reason."""
        schedule = world.schedule
        self.returns = Returns(episodes_of(schedule, schedule.knobs.duration_ns))
        self._world = world
        self._file = trace_file
        self._on_event = on_event
        world.trace.listener = self._listen
        world.observer = self._observe

    def _listen(self, time_ns: int, kind: str, values: tuple[Any, ...]) -> None:
        if kind == "dropped" and values[4] != "loss" and len(self.losses) < MAX_LOSSES:
            self.losses.append((time_ns, values[1], values[2], values[4]))
        if self._on_event is not None:
            self._on_event()
        if self._file is not None:
            self._write(_line_of(time_ns, kind, values))

    def _observe(self, source: str, event: str, values: Mapping[str, Any]) -> None:
        if event == "acknowledged":
            self.returns.acknowledged(self._world.scheduler.now_ns, values)
        elif event == "opened":
            self.returns.opened(self._world.scheduler.now_ns)
        if self._file is not None:
            head = {"t_ns": self._world.scheduler.now_ns, "step": event, "source": source}
            self._write(head | dict(values))

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(line, default=_plain, separators=(",", ":")) + "\n")


def _line_of(time_ns: int, kind: str, values: tuple[Any, ...]) -> dict[str, Any]:
    """A line of the trace about a message or a note."""
    if kind not in ("sent", "duplicated", "delivered", "dropped"):
        return {"t_ns": time_ns, "event": kind, "values": values}
    number, source, destination, payload, reason = values
    line = {"t_ns": time_ns, "event": kind, "message": number, "from": source, "to": destination}
    if kind == "sent":
        line |= {"type": _type_of(payload), "bytes": len(payload)}
    return line | {"reason": reason} if reason else line


def _type_of(payload: bytes) -> str:
    try:
        return type(codec.decode(payload)).__name__
    except AuroraError:
        return "malformed"


def _plain(value: object) -> object:
    """What JSON has no word for."""
    return value.hex() if isinstance(value, bytes | bytearray | memoryview) else str(value)
