"""Keeps what a run does, step by step and in order, for its story."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sim.world.world import World

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


class Recorder:
    """Listens to a world; made before it runs. The step that breaks an invariant is the last."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.steps: list[Step] = []
        self._over = False
        world.observer = self._on_step
        world.trace.listener = self._on_event
        world.trace.sink = self._before_checks

    def _before_checks(self, _: bytes) -> None:
        """An event goes into the digest first: what the run ended by before it, it did not do."""
        self._over = self.world.scheduler.failed

    def _on_step(self, source: str, event: str, values: Mapping[str, Any]) -> None:
        if event == "collected" and (core := self.world.cluster.hosts[source].core) is not None:
            values = {**values, "announced": core.state.announced_floor}
        self._add(self.world.scheduler.now_ns, source, event, values)

    def _on_event(self, time_ns: int, kind: str, values: tuple[Any, ...]) -> None:
        if kind == "action":
            action = self.world.schedule.actions[values[0]]
            self._add(time_ns, "schedule", kind, {"action": action})
        elif kind == "dropped":
            _, source, destination, payload, reason = values
            lost = {"to": destination, "payload": payload, "reason": reason}
            self._add(time_ns, source, kind, lost)
        elif kind in ("invoked", "returned"):
            self._add(time_ns, "clients", kind, {"call": values[0]})

    def _add(self, time_ns: int, source: str, event: str, values: Mapping[str, Any]) -> None:
        if not self._over and len(self.steps) < _MAX_STEPS:
            self.steps.append(Step(len(self.steps), time_ns, source, event, values))
