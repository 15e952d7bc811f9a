"""What a world tells its listeners: everything that happens in it, at the moment it happens."""

from __future__ import annotations

from aurora.engine import Engine
from segments.protocol.errors import AuroraError
from segments.protocol.events import Event
from segments.protocol.ids import SegmentId
from sim.plan.schedule import Action
from sim.world.history import Call
from sim.world.network import NetworkEvent


class Listener:
    """Hears nothing of anything; a listener overrides what it wants to hear."""

    def on_step(self, source: str, event: Event, /) -> None:
        """A core has taken a step (docs/trace-events.md)."""

    def on_message(self, event: NetworkEvent, /) -> None:
        """A message was sent, repeated, delivered or lost."""

    def on_action(self, number: int, action: Action, /) -> None:
        """An action of the schedule, this one by number, is about to happen."""

    def on_crashed(self, segment: SegmentId, /) -> None:
        """A segment has stopped at once: what it had in memory is gone."""

    def on_rolled_back(self, segment: SegmentId, /) -> None:
        """A segment is down, and its disk is an older copy of itself."""

    def on_rotted(self, segment: SegmentId, /) -> None:
        """Bits of a segment's log have flipped."""

    def on_layer_rotted(self, segment: SegmentId, name: str, /) -> None:
        """Bits of a segment's layer, the file of this name, have flipped."""

    def on_promise_rotted(self, segment: SegmentId, /) -> None:
        """Bits of one of a segment's promise slots have flipped."""

    def on_invoked(self, call: Call, /) -> None:
        """A client has made a call."""

    def on_returned(self, call: Call, engine: Engine, /) -> None:
        """A client has been answered by the writer ``engine``."""

    def on_abandoned(self, call: Call, /) -> None:
        """Whoever made a call has been cancelled, and waits for it no longer."""

    def on_undocumented(self, call: Call, error: AuroraError, /) -> None:
        """A call has raised what it does not document."""
