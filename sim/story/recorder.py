"""Keeps what a run does, step by step and in order, for its story."""

from __future__ import annotations

from typing import Final, Generic, NamedTuple, TypeVar

import attrs

from aurora.engine import Engine
from segments.protocol.events import Event
from segments.protocol.ids import Address
from sim.plan.schedule import Action
from sim.run import Run
from sim.world.history import Call
from sim.world.listener import Listener
from sim.world.network import NetworkEvent

_MAX_STEPS: Final = 2_000_000

E_co = TypeVar("E_co", bound=Event, covariant=True)


@attrs.frozen
class ActionDone(Event):
    """The schedule has done something to the world."""

    number: int
    """Index of the action in the schedule."""
    action: Action


@attrs.frozen
class MessageDropped(Event):
    """The network has lost a message of the source, on its way."""

    to: Address
    payload: bytes
    reason: str


@attrs.frozen
class CallInvoked(Event):
    """A client has made a call."""

    call: int


@attrs.frozen
class CallReturned(Event):
    """A client has been answered."""

    call: int


class Step(NamedTuple, Generic[E_co]):
    """Something that a core did, or the schedule, the network or a client did to it."""

    number: int
    """Its place among all steps: a cause comes before its effects, also at the same time."""
    time_ns: int
    source: str
    event: E_co


class Recorder(Listener):
    """Listens to a run from before it starts. The step that breaks an invariant is the last."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.world = run.world
        self.steps: list[Step[Event]] = []
        self.world.listen(self)

    def on_step(self, source: str, event: Event) -> None:
        self._add(source, event)

    def on_action(self, number: int, action: Action) -> None:
        self._add("schedule", ActionDone(number, action))

    def on_message(self, event: NetworkEvent) -> None:
        if event.kind == "dropped":
            lost = MessageDropped(event.destination, event.payload, str(event.reason))
            self._add(event.source, lost)

    def on_invoked(self, call: Call) -> None:
        self._add("clients", CallInvoked(call.number))

    def on_returned(self, call: Call, engine: Engine) -> None:
        self._add("clients", CallReturned(call.number))

    def _add(self, source: str, event: Event) -> None:
        # What happens once a finding has ended the run is only its winding up.
        if not self.world.scheduler.failed and len(self.steps) < _MAX_STEPS:
            now_ns = self.world.scheduler.now_ns
            self.steps.append(Step(len(self.steps), now_ns, source, event))
