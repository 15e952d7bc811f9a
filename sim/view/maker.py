"""Makes a film of a run: listens to everything that happens in it, and keeps what the page shows.

(Its events are the steps that `explain` tells from, in the same order, and a few more.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from aurora.engine import Engine
from aurora.events import (
    MtrAllocated,
    PageCached,
    PoolApplied,
    PoolLookedUp,
    ReadStarted,
    RoomWaitStarted,
)
from segments.protocol import codec
from segments.protocol.errors import AuroraError
from segments.protocol.events import Event
from segments.protocol.ids import Address, Lsn, PageId, SegmentId
from segments.protocol.messages import WriteBatch
from sim.plan.episodes import is_repair, titled
from sim.plan.schedule import Action
from sim.run import Run
from sim.story import Recorder
from sim.story.calls import call_text
from sim.view.board import Board, Value
from sim.view.kinds import Kind, kind_of
from sim.view.lives import Lives
from sim.view.mail import Mail, told
from sim.view.sentences import Sentences, client_of
from sim.view.subjects import Question, Subjects, question_of, sent_by, taken_by
from sim.world.history import Call
from sim.world.listener import Listener
from sim.world.network import NetworkEvent

MAX_EVENTS: Final = 250_000
"""Of a longer run the rest is left out, and that is said."""
KEYFRAME_EVERY: Final = 1_000
SCHEDULE: Final = "schedule"
_CALLS_OWN: Final = (
    MtrAllocated, RoomWaitStarted, PoolApplied, PoolLookedUp, ReadStarted, PageCached,
)  # fmt: skip
"""Steps that a writer takes in the task of whoever calls it."""


@attrs.define
class Row:
    """One event of the film."""

    time_ns: int
    kind: int
    node: int
    text: str
    message: int = -1
    call: int = -1
    pages: Sequence[PageId] = ()
    lsns: tuple[Lsn, Lsn] | None = None
    sets: list[Value] = attrs.field(factory=list)


class FilmMaker(Listener):
    """Listens to a run from before it starts."""

    def __init__(self, run: Run, most_events: int = MAX_EVENTS) -> None:
        self.run = run
        self.world = run.world
        self.recorder = Recorder(run)
        """What its story is told from."""
        self.rows: list[Row] = []
        self.kinds: dict[type[Event] | str, tuple[int, Kind]] = {}
        self.nodes: dict[str, int] = {}
        self.keyframes: list[tuple[int, list[Value]]] = []
        self.event_of_step: list[int] = []
        """The event of each step of the recorder, by its number."""
        self.returns: dict[int, tuple[int, int]] = {}
        """The events in which each call was made and answered, `-1` if it never was."""
        self.cut = False
        """Whether there were more events than it may have."""
        self.board = Board(self.world)
        for group in self.world.groups:
            for segment in group.members:
                self.node_of(segment)
        self.mail = Mail(self.node_of, 2 * most_events)
        self.lives = Lives(self.world.groups, self._highest)
        self._most = most_events
        self._sentences = Sentences()
        self._subjects = Subjects()
        self._askers: dict[tuple[str, Question], int] = {}
        """The call that has asked a writer for a page as of a read point, the last one."""
        self._healed = False
        self._ended = False
        self.world.listen(self)

    def node_of(self, name: str) -> int:
        """The index of a node; it is new if nobody has spoken of it before."""
        return self.nodes.setdefault(name, len(self.nodes))

    def _highest(self, segment: SegmentId) -> Lsn:
        core = self.world.cluster.hosts[segment].core
        return 0 if core is None else core.state.index.highest_lsn

    def writer_names(self) -> dict[int, Address]:
        """All writers that were heard of, by their ids."""
        known = self.world.cluster.writer_names if self.world.built else {}
        return known | self.board.names

    # ---- what it hears ---------------------------------------------------------------------------

    def on_step(self, source: str, event: Event) -> None:
        row = self._add(type(event), source, "", self._call_of(source, event))
        if row is None:
            return
        number = len(self.rows) - 1
        row.pages, row.lsns = self._subjects.of(source, event)
        row.text = self._sentences.of(source, event)
        self._link(source, event, row)
        self.board.said(source, event, row.sets)
        self.lives.on_step(number, row.time_ns, source, event, row.call)

    def on_message(self, event: NetworkEvent) -> None:
        if self.cut:
            return
        self.mail.on_message(event, len(self.rows) - 1)
        if event.kind == "dropped":
            row = self._add("MessageDropped", event.source, "")
            index = self.mail.index_of(event.message)
            if row is not None:
                text, pages, lsns = _told_of(event.payload)
                row.message, row.pages, row.lsns = index, pages, lsns
                if lsns is not None and index >= 0:
                    letter = self.mail.letters[index]
                    if letter.type == WriteBatch.__name__:
                        number = len(self.rows) - 1
                        self.lives.dropped(number, event.source, event.destination, lsns)
                row.text = f"lost on the way to {event.destination}: {text} ({_why(event.reason)})"

    def on_action(self, number: int, action: Action) -> None:
        kind = "FaultEnded" if is_repair(action) else "ActionDone"
        self._add(kind, SCHEDULE, titled(action))
        self.board.acting(number, self.world.scheduler.now_ns)

    def on_crashed(self, segment: SegmentId) -> None:
        row = self._fault("Crashed", segment, "stops at once: what it had in memory is gone")
        if row is not None:
            self.board.crashed(segment, row.sets)

    def on_rolled_back(self, segment: SegmentId) -> None:
        self._fault("DiskRolledBack", segment, "its disk is an older copy of itself")

    def on_rotted(self, segment: SegmentId) -> None:
        self._fault("Rotted", segment, "bits of its log or manifest have flipped")

    def on_layer_rotted(self, segment: SegmentId, name: str) -> None:
        self._fault("Rotted", segment, f"bits of {name} have flipped")

    def on_promise_rotted(self, segment: SegmentId) -> None:
        self._fault("Rotted", segment, "bits of one of its promise slots have flipped")

    def on_invoked(self, call: Call) -> None:
        text = f"call {call.number} through {call.writer}: {call_text(call)}"
        row = self._add("CallInvoked", client_of(call), text, call.number)
        if row is not None:
            row.pages = call.operation.pages if not call.is_sql else ()
            self.returns[call.number] = (len(self.rows) - 1, -1)

    def on_returned(self, call: Call, engine: Engine) -> None:
        at = f" at LSN {call.lsn}" if call.lsn else ""
        text = f"call {call.number}: {call.outcome.value}{at}"
        self._answered("CallReturned", call, text)

    def on_abandoned(self, call: Call) -> None:
        self._answered("CallAbandoned", call, f"call {call.number}: nobody waits for it any more")

    def _answered(self, kind: str, call: Call, text: str) -> None:
        row = self._add(kind, client_of(call), text, call.number)
        if row is not None:
            row.lsns = (call.lsn, call.lsn) if call.lsn else None
            invoked, _ = self.returns.get(call.number, (-1, -1))
            self.returns[call.number] = (invoked, len(self.rows) - 1)

    def _fault(self, kind: str, segment: SegmentId, text: str) -> Row | None:
        row = self._add(kind, segment, text)
        self.board.look_at_all()
        return row

    def finish(self, finding: str) -> None:
        """The run is over; ``finding`` is what was found, if anything."""
        self._ended = True  # nobody is as they were: all tasks have been cancelled
        if finding:
            last = list(self.nodes)[self.rows[-1].node] if self.rows else SCHEDULE
            self._add("Finding", last, finding.splitlines()[0])

    # ---- rows ------------------------------------------------------------------------------------

    def _add(
        self,
        kind: type[Event] | str,
        source: str,
        text: str,
        call: int = -1,
    ) -> Row | None:
        """A row for an event that happens now; None once it is too late for one."""
        if self.world.scheduler.failed and not self._ended:
            return None  # what happens once a finding has ended the run is only its winding up
        if self.world.healed and not self._healed and not self._ended:
            self._healed = True
            planned_ns = max(self.world.schedule.knobs.duration_ns, self._last_ns())
            healed_ns = min(planned_ns, self.world.scheduler.now_ns)
            self.board.look_at_all()
            words = kind_of("Healed").words
            self._new_row("Healed", SCHEDULE, words, -1, healed_ns, taking=source)
        row = self._new_row(kind, source, text, call, self.world.scheduler.now_ns, taking=source)
        if row is not None:
            del self.event_of_step[len(self.recorder.steps) :]
            missing = len(self.recorder.steps) - len(self.event_of_step)
            self.event_of_step += [len(self.rows) - 1] * missing
        return row

    def _last_ns(self) -> int:
        return self.rows[-1].time_ns if self.rows else 0

    def _new_row(
        self,
        kind: type[Event] | str,
        source: str,
        text: str,
        call: int,
        time_ns: int,
        *,
        taking: str,
    ) -> Row | None:
        """``taking`` is who takes the step just now: what becomes of it is not so yet."""
        if len(self.rows) >= self._most:
            self.cut = True
            return None
        self.board.crashing = kind == "Crashed"
        if not self._ended:
            self.board.look(taking, self.rows[-1].sets if self.rows else [])
        if len(self.rows) % KEYFRAME_EVERY == 0:
            looked = self.board.values if self._ended else self.board.keyframe(taking)
            self.keyframes.append((len(self.rows), list(looked)))
        if kind not in self.kinds:
            self.kinds[kind] = (len(self.kinds), kind_of(kind))
        row = Row(time_ns, self.kinds[kind][0], self.node_of(source), text, call=call)
        self.rows.append(row)
        return row

    def _call_of(self, source: str, event: Event) -> int:
        """The call that a step is taken for; -1 if it is for none, or for several."""
        call = self.world.under_way if isinstance(event, _CALLS_OWN) else None
        number = -1 if call is None else call.number
        question = question_of(event)
        if question is None:
            return number
        if isinstance(event, ReadStarted):
            self._askers[source, question] = number
        return self._askers.get((source, question), number)

    # ---- messages --------------------------------------------------------------------------------

    def _link(self, source: str, event: Event, row: Row) -> None:
        """Join a step with the message that it sends, or that has led to it."""

        def speaks_of(index: int) -> None:
            row.message = index
            if row.call >= 0:
                self.mail.letters[index].call = row.call

        key = sent_by(source, event)
        if key is not None:
            self.mail.when_sent(key, speaks_of)
            return
        writers = [name for name in self.nodes if name.startswith("writer")]
        taken = max(map(self.mail.arrived, taken_by(source, event, writers)), default=-1)
        if taken >= 0:
            speaks_of(taken)


def _why(reason: str | None) -> str:
    return "detached: nobody is there to take it" if reason == "detached" else str(reason)


def _told_of(payload: bytes) -> tuple[str, list[PageId], tuple[Lsn, Lsn] | None]:
    try:
        return told(codec.decode(payload))
    except AuroraError:
        return told(None)
