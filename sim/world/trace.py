"""The run's trace: every event in order, as a digest, and as lines when somebody wants them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from operator import attrgetter

import attrs

from aurora.engine import Engine
from segments.protocol.events import Event
from sim.plan.schedule import Action
from sim.world.history import Call
from sim.world.listener import Listener
from sim.world.network import NetworkEvent
from sim.world.scheduler import Livelock, VirtualScheduler

MAX_EVENTS_A_STEP = 100_000
"""So many events may come of one step of a task, which ends as it gives back control. Honest runs
stay below 1,000; more is a `Livelock`."""

_FLUSH = 512
_SHOWN = 120


class Trace(Listener):
    """Digests every message, action, call and step of a core with its time."""

    def __init__(self, scheduler: VirtualScheduler) -> None:
        self.sink: Callable[[bytes], object] | None = None
        """Called with every event as it goes into the digest."""
        self.events = 0
        self._scheduler = scheduler
        self._hash = blake2b(digest_size=8)
        self._waiting: list[bytes] = []
        self._step = 0
        """The step in which events were last flushed, and how many have been since it began."""
        self._events_of_step = 0
        self._last = b""
        self._values_of: dict[type[Event], Callable[[Event], Iterable[object]]] = {}

    def on_message(self, event: NetworkEvent) -> None:
        time_ns, kind, message, source, destination, payload, _ = event
        if kind == "sent":
            self._add(b"%d sent %d %b %b " % (
                time_ns, message, source.encode(), destination.encode()) + payload)  # fmt: skip
        else:
            self._add(b"%d %b %d" % (time_ns, kind.encode(), message))

    def on_step(self, source: str, event: Event) -> None:
        # Of its values the numbers count: the rest follows from messages.
        kind = type(event)
        values = self._values_of.get(kind)
        if values is None:
            values = self._values_of[kind] = _reader_of(kind)
        numbers = [value for value in values(event) if type(value) is int]
        self._add(f"{self._scheduler.now_ns} {source} {kind.__name__} {numbers}".encode())

    def on_action(self, number: int, action: Action) -> None:
        self.note("action", number, str(action).lstrip())

    def on_invoked(self, call: Call) -> None:
        self.note("invoked", call.number, call.writer)

    def on_returned(self, call: Call, engine: Engine) -> None:
        self.note("returned", call.number, f"{call.outcome.value} {call.lsn}")
        for statement in (*call.sql.script, *(each.statement for each in call.sql.readings)):
            self.note("statement", statement.rows, statement.changes)

    def note(self, kind: str, *values: object) -> None:
        """Something else happened."""
        self._add(f"{self._scheduler.now_ns} {kind} {values!r}".encode())

    def digest(self) -> str:
        """16 hexadecimal digits that stand for every event so far."""
        self._flush()
        return self._hash.hexdigest()

    def _add(self, line: bytes) -> None:
        self.events += 1
        self._waiting.append(line)
        if self.sink is not None:
            self.sink(line)
        if len(self._waiting) >= _FLUSH:
            self._flush()
            self._bound_the_step()

    def _flush(self) -> None:
        if self._waiting:
            self._last = self._waiting[-1]
        self._hash.update(b"\n".join(self._waiting))
        self._waiting.clear()

    def _bound_the_step(self) -> None:
        """End a run in which somebody works and works without ever giving back control.

        Raised as well, since nothing else stops who never comes to a checkpoint.
        """
        step = self._scheduler.turns + self._scheduler.events
        if step != self._step:
            self._step, self._events_of_step = step, 0
        self._events_of_step += _FLUSH
        if self._events_of_step > MAX_EVENTS_A_STEP:
            last, now_ns = self._last.decode(errors="replace")[:_SHOWN], self._scheduler.now_ns
            stuck = Livelock(
                f"{self._events_of_step} events at {now_ns} ns from a task that does not give "
                f"back control; the last: {last}",
                now_ns,
            )
            self._scheduler.fail(stuck)
            raise stuck


def _reader_of(kind: type[Event]) -> Callable[[Event], Iterable[object]]:
    """A quick way to the values of all fields of a kind of event."""
    names = [each.name for each in attrs.fields(kind)]
    if len(names) > 1:
        return attrgetter(*names)
    return lambda event: [getattr(event, name) for name in names]
