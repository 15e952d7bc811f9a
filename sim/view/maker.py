"""Makes a film of a run: listens to everything that happens in it, and keeps what the page shows.

(Its events are the steps that `explain` tells from, in the same order, and a few more.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from aurora.engine import Engine
from aurora.events import (
    Acknowledged,
    CommitsAcknowledged,
    EpochVouched,
    LogFetched,
    MtrAllocated,
    PageCached,
    PoolApplied,
    PoolLookedUp,
    ReadAnswered,
    ReadSent,
    ReadStarted,
    RecoveryPlanned,
    RoomWaitStarted,
    SealAnswered,
    Sent,
    TableAcknowledged,
    VolumeOpened,
)
from aurora.terminal.narrate import Narrator
from segments.protocol import codec
from segments.protocol.errors import AuroraError
from segments.protocol.events import (
    AckSent,
    BatchReceived,
    Event,
    GossipReceived,
    Hydrated,
    LayerPublished,
    LayerReceived,
    LogCollected,
    PageMaterialized,
    ReadDeclined,
    RecordsApplied,
    TableAdopted,
    TableGossiped,
)
from segments.protocol.ids import Address, Lsn, PageId, SegmentId
from segments.protocol.messages import PageReply, ReadPage, WriteBatch
from segments.protocol.run import read_records
from sim.plan.episodes import titled
from sim.plan.schedule import Action
from sim.run import Run
from sim.story import Recorder
from sim.view.board import Board, Value
from sim.view.kinds import Kind, kind_of
from sim.view.lives import Lives
from sim.view.mail import Mail, told
from sim.world.history import Call
from sim.world.listener import Listener
from sim.world.network import NetworkEvent

MAX_EVENTS: Final = 250_000
"""Of a longer run the rest is left out, and that is said."""
KEYFRAME_EVERY: Final = 1_000
SCHEDULE: Final = "schedule"
_CALLS_OWN: Final = (
    MtrAllocated, RoomWaitStarted, PoolApplied, PoolLookedUp, ReadStarted, ReadSent, ReadAnswered,
    PageCached, EpochVouched,
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
        self.lives = Lives(self.world.groups)
        self._most = most_events
        self._narrator = Narrator()
        self._acked: dict[tuple[str, str], Lsn] = {}
        self._healed = False
        self._ended = False
        self.world.listen(self)

    def node_of(self, name: str) -> int:
        """The index of a node; it is new if nobody has spoken of it before."""
        return self.nodes.setdefault(name, len(self.nodes))

    def writer_names(self) -> dict[int, Address]:
        """All writers that were heard of, by their ids."""
        known = self.world.cluster.writer_names if self.world.built else {}
        return known | self.board.names

    # ---- what it hears ---------------------------------------------------------------------------

    def on_step(self, source: str, event: Event) -> None:
        row = self._add(type(event), source, "", self._call_of(event))
        if row is None:
            return
        number = len(self.rows) - 1
        row.pages, row.lsns = self._subject(source, event)
        row.message = self._message(source, event, row)
        if row.call >= 0 and isinstance(event, ReadSent) and row.message >= 0:
            self.mail.letters[row.message].call = row.call
        self._narrator(source, event)
        row.text = "\n".join(text.plain for _, text in self._narrator.tell(by_party=False))
        if not row.text:
            row.text = _quietly(event)
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
                row.text = f"lost on the way to {event.destination}: {text} ({event.reason})"

    def on_action(self, number: int, action: Action) -> None:
        self._add("ActionDone", SCHEDULE, titled(action))
        self.board.acting(number, self.world.scheduler.now_ns)

    def on_crashed(self, segment: SegmentId) -> None:
        self._fault("Crashed", segment, "stops at once: what it had in memory is gone")

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

    def _fault(self, kind: str, segment: SegmentId, text: str) -> None:
        self._add(kind, segment, text)
        self.board.look_at_all()

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
            healed_ns = max(self.world.schedule.knobs.duration_ns, self._last_ns())
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

    def _call_of(self, event: Event) -> int:
        call = self.world.under_way if isinstance(event, _CALLS_OWN) else None
        return -1 if call is None else call.number

    # ---- what an event speaks of -----------------------------------------------------------------

    def _subject(self, source: str, event: Event) -> tuple[Sequence[PageId], Any]:
        """Its pages, and its first and last LSN, both inclusive."""
        match event:
            case MtrAllocated(records=records) | LogFetched(records=records):
                return _of_records(records)
            case Sent(message=WriteBatch() as batch):
                return _of_records(read_records(batch.records))
            case PoolApplied(page_ids=page_ids):
                return list(dict.fromkeys(page_ids)), None
            case PoolLookedUp() | PageCached() | PageMaterialized():
                return [event.page_id], _at(event.page_lsn)
            case ReadStarted() | ReadDeclined():
                return [] if event.page_id is None else [event.page_id], _at(event.read_point)
            case ReadSent(request=ReadPage() as request):
                return [request.page_id], _at(request.read_point)
            case ReadAnswered(answer=PageReply() as answer):
                return [answer.page.page_id], _at(answer.page.page_lsn)
            case BatchReceived(lsns=lsns) | GossipReceived(lsns=lsns):
                return [], lsns
            case RecordsApplied(before=before, scl=scl) | Hydrated(before=before, scl=scl):
                return [], _span(before, scl)
            case AckSent(scl=scl, writer=writer):
                return [], self._newly(f"{source} {writer}", "sent", scl)
            case Acknowledged(scl=scl, segment=segment):
                return [], self._newly(f"{source} {segment}", "heard", scl)
            case CommitsAcknowledged(vdl=vdl) | VolumeOpened(vdl=vdl):
                return [], self._newly("", "vdl", vdl)
            case LayerPublished() | LayerReceived():
                return [], _span(event.start_lsn, event.end_lsn)
            case LogCollected(floor=floor):
                return [], _span(0, floor)
            case TableAdopted(table=table):
                ranges = table.ranges
                return [], (ranges[-1].start_lsn, ranges[-1].end_lsn - 1) if ranges else None
            case RecoveryPlanned(plan=plan):
                ranges = plan.table.ranges
                return [], (ranges[-1].start_lsn, ranges[-1].end_lsn - 1) if ranges else None
        return [], None

    def _newly(self, who: str, what: str, lsn: Lsn) -> tuple[Lsn, Lsn] | None:
        """What is above the last LSN of which somebody said the same."""
        known = self._acked.get((who, what), 0)
        self._acked[who, what] = max(known, lsn)
        return _span(known, lsn)

    # ---- which message it is about ---------------------------------------------------------------

    def _message(self, source: str, event: Event, row: Row) -> int:
        def sent(kind: str, to: Address, key: object) -> int:
            self.mail.when_sent((kind, source, to, key), lambda index: _put(row, event, index))
            return -1

        def came(kind: str, peer: Address, key: object = None) -> int:
            return self.mail.arrived((kind, peer, source, key))

        match event:
            case Sent(segment=to, message=message):
                if isinstance(message, WriteBatch):
                    return sent("WriteBatch", to, message.seq)
                return sent("InstallTable", to, message.epoch)
            case AckSent(writer=to, seq=seq):
                return sent("WriteAck", to, seq)
            case ReadSent(segment=to, request=request):
                return sent(type(request).__name__, to, request.request_id)
            case BatchReceived(writer=writer, seq=seq):
                return came("WriteBatch", writer, seq)
            case Acknowledged(segment=peer, scl=scl):
                return max(came("WriteAck", peer, scl), came("TableInstalled", peer, scl))
            case ReadAnswered(segment=peer, answer=answer):
                return came(type(answer).__name__, peer, answer.request_id)
            case SealAnswered(segment=peer, epoch=epoch):
                return came("SealReply", peer, epoch)
            case LogFetched(segment=peer):
                return came("LogReply", peer)
            case TableAcknowledged(segment=peer, scl=scl):
                return came("TableInstalled", peer, scl)
            case EpochVouched(segment=peer):
                return came("EpochConfirmed", peer)
            case GossipReceived(peer=peer):
                return came("GossipRecords", peer)
            case LayerReceived(peer=peer):
                return came("GossipLayer", peer)
            case PageMaterialized(page_id=page_id, read_point=point):
                key = (page_id, point)
                writers = [name for name in self.nodes if name.startswith("writer")]
                return max((came("ReadPage", each, key) for each in writers), default=-1)
            case TableGossiped(peer=peer):
                return max(came("GossipStatus", peer), came("GossipRecords", peer))
        return -1


def _put(row: Row, event: Event, index: int) -> None:
    row.message = index


def client_of(call: Call) -> str:
    """The name of the node that makes a call."""
    return f"client {call.operation.client}"


def call_text(call: Call) -> str:
    """What a call asks for, in words."""
    operation = call.operation
    where = ", ".join(map(str, operation.pages))
    if call.is_sql:
        return f"sql {operation.way} account {where}"
    noun = "page" if len(operation.pages) == 1 else "pages"
    return f"{operation.kind} {noun} {where}"


def _told_of(payload: bytes) -> tuple[str, list[PageId], tuple[Lsn, Lsn] | None]:
    try:
        return told(codec.decode(payload))
    except AuroraError:
        return told(None)


def _quietly(event: Event) -> str:
    """What is said of an event for which the terminal's walk has no words."""
    if isinstance(event, BatchReceived):
        return f"a heartbeat of {event.writer}: no redo"
    if isinstance(event, AckSent):
        return f"acknowledges SCL {event.scl} to {event.writer}"
    if isinstance(event, Acknowledged):
        return f"← {event.segment}: its SCL is {event.scl}, as before"
    if isinstance(event, Sent):
        return f"→ {event.segment}: no redo"
    return kind_of(type(event)).words


def _of_records(records: Sequence[Any]) -> tuple[list[PageId], tuple[Lsn, Lsn] | None]:
    if not records:
        return [], None
    pages = list(dict.fromkeys(record.page_id for record in records))
    return pages, (records[0].lsn, records[-1].lsn)


def _at(lsn: Lsn | None) -> tuple[Lsn, Lsn] | None:
    return (lsn, lsn) if lsn else None


def _span(before: Lsn, last: Lsn) -> tuple[Lsn, Lsn] | None:
    """The LSNs in ``(before, last]``."""
    return (before + 1, last) if last > before else None
