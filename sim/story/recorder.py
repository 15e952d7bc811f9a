"""Keeps what a run does, step by step and in order, for its story."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from aurora.engine import Engine
from sim.plan.schedule import Action
from sim.run import Run
from sim.world.history import Call
from sim.world.listener import Listener
from sim.world.network import NetworkEvent

_MAX_STEPS: Final = 2_000_000


class Step(NamedTuple):
    """Something that a core did, or the schedule, the network or a client did to it."""

    number: int
    """Its place among all steps: a cause comes before its effects, also at the same time."""
    time_ns: int
    source: str
    event: str
    """A name of docs/trace-events.md, or ``action``, ``dropped``, ``invoked`` or ``returned``."""
    values: Mapping[str, Any]


class Recorder(Listener):
    """Listens to a run from before it starts. The step that breaks an invariant is the last."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.world = run.world
        self.steps: list[Step] = []
        self.world.listen(self)

    def on_step(self, source: str, event: str, values: Mapping[str, Any]) -> None:
        if event == "collected" and (core := self.world.cluster.hosts[source].core) is not None:
            values = {**values, "announced": core.state.announced_floor}
        self._add(source, event, values)

    def on_action(self, number: int, action: Action) -> None:
        self._add("schedule", "action", {"action": action})

    def on_message(self, event: NetworkEvent) -> None:
        if event.kind == "dropped":
            lost = {"to": event.destination, "payload": event.payload, "reason": event.reason}
            self._add(event.source, "dropped", lost)

    def on_invoked(self, call: Call) -> None:
        self._add("clients", "invoked", {"call": call.number})

    def on_returned(self, call: Call, engine: Engine) -> None:
        self._add("clients", "returned", {"call": call.number})

    def _add(self, source: str, event: str, values: Mapping[str, Any]) -> None:
        # What happens once a finding has ended the run is only its winding up.
        if not self.world.scheduler.failed and len(self.steps) < _MAX_STEPS:
            now_ns = self.world.scheduler.now_ns
            self.steps.append(Step(len(self.steps), now_ns, source, event, values))
