"""An onlooker of a run: keeps what the report needs, and writes the trace to a file if asked.

It looks at events as they happen, and never touches the world: with it and without it the digest is
the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TextIO

import attrs

from aurora.engine import Engine
from aurora.events import Acknowledged, VolumeOpened
from aurora.terminal.finishing import PatientFile
from segments.protocol import codec
from segments.protocol.errors import AuroraError
from segments.protocol.events import Event
from sim.plan.episodes import episodes_of
from sim.plan.schedule import Action
from sim.show.returns import Returns
from sim.world.history import Call
from sim.world.listener import Listener
from sim.world.network import NetworkEvent
from sim.world.world import World

MAX_LOSSES: Final = 1_000_000
"""Lost messages kept with their times; further ones are only counted, by the world."""


class Watch(Listener):
    """Listens to a world from before it runs."""

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
        world.listen(self)

    def on_message(self, event: NetworkEvent) -> None:
        if event.kind == "dropped" and event.reason != "loss" and len(self.losses) < MAX_LOSSES:
            self.losses.append((event.time_ns, event.source, event.destination, str(event.reason)))
        if self._on_event is not None:
            self._on_event()
        if self._file is not None:
            self._write(_line_of(event))

    def on_action(self, number: int, action: Action) -> None:
        self._note("action", number, str(action).lstrip())

    def on_invoked(self, call: Call) -> None:
        self._note("invoked", call.number, call.writer)

    def on_returned(self, call: Call, engine: Engine) -> None:
        self._note("returned", call.number, f"{call.outcome.value} {call.lsn}")

    def _note(self, kind: str, *values: object) -> None:
        if self._on_event is not None:
            self._on_event()
        if self._file is not None:
            self._write({"t_ns": self._world.scheduler.now_ns, "event": kind, "values": values})

    def on_step(self, source: str, event: Event) -> None:
        now_ns = self._world.scheduler.now_ns
        if isinstance(event, Acknowledged):
            self.returns.acknowledged(now_ns, event)
        elif isinstance(event, VolumeOpened):
            self.returns.opened(now_ns)
        if self._file is not None:
            head = {"t_ns": now_ns, "step": type(event).__name__, "source": source}
            self._write(head | attrs.asdict(event, recurse=False))

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(line, default=_plain, separators=(",", ":")) + "\n")


def _line_of(event: NetworkEvent) -> dict[str, Any]:
    """A line of the trace about a message."""
    time_ns, kind, number, source, destination, payload, reason = event
    line: dict[str, Any] = {
        "t_ns": time_ns,
        "event": kind,
        "message": number,
        "from": source,
        "to": destination,
    }
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
