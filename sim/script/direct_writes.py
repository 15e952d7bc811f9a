"""What a script writes past the scenario's calls, through an engine's own: calls like any other.

An engine writes down what it allocates and what has become durable, and that is all a history
needs: no script can make a write of which the checkers know nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from aurora.engine import Engine
from aurora.events import CommitsAcknowledged, MtrAllocated
from segments.protocol.events import Event
from segments.protocol.ids import Lsn
from segments.protocol.record import RedoRecord
from sim.plan.schedule import Operation
from sim.world.history import Call, Outcome
from sim.world.listener import Listener
from sim.world.world import World


class DirectWrites(Listener):
    """Makes a call of each mini-transaction that belongs to none."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: dict[str, list[Call]] = {}
        """Of each writer, in order of their LSNs."""

    def on_step(self, source: str, event: Event) -> None:
        if isinstance(event, MtrAllocated) and self._world.under_way is None:
            self._begin(source, event.records)
        elif isinstance(event, CommitsAcknowledged):
            self._acknowledge(self._engine(source), event.vdl)

    def _begin(self, writer: str, records: Sequence[RedoRecord]) -> None:
        waiting = self._waiting.setdefault(writer, [])
        if waiting and waiting[-1].lsns[0] == records[0].mtr_id:  # another part
            call = waiting[-1]
            call.writes = [*call.writes, *((e.page_id, e.offset, e.payload) for e in records)]
            call.lsns = [*call.lsns, *(each.lsn for each in records)]
            return
        now_ns = self._world.scheduler.now_ns
        pages = tuple(dict.fromkeys(each.page_id for each in records))
        operation = Operation(at_ns=now_ns, client=0, kind="put", pages=pages)
        call = Call(len(self._world.calls), operation, now_ns, writer)
        call.writes = [(each.page_id, each.offset, each.payload) for each in records]
        call.lsns = [each.lsn for each in records]
        waiting.append(call)
        self._world.begun(call)

    def _acknowledge(self, engine: Engine, vdl: Lsn) -> None:
        waiting = self._waiting.get(engine.name, [])
        while waiting and waiting[0].lsns[-1] <= vdl:
            call = waiting.pop(0)
            call.outcome, call.lsn = Outcome.OK, call.lsns[-1]
            call.returned_ns = self._world.scheduler.now_ns
            self._world.ended(call, engine)

    def _engine(self, name: str) -> Engine:
        return next(each for each in self._world.cluster.engines if each.name == name)
