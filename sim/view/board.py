"""The state that a film shows: one slot for each value of each node, assigned event by event.

Three things fill it. An event says what became of a value (an SCL, an epoch): that is assigned at
once. What it does not say is looked at when its step is over, which is when somebody else takes the
next one. And at a keyframe everybody is looked at, whether or not anything was heard of them; so
what would change without an event shows there, and a test compares. Nothing is ever computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from aurora.engine import Engine
from aurora.events import (
    Acknowledged,
    MtrAllocated,
    SealingStarted,
    WriterStarted,
)
from segments.protocol.events import (
    AckSent,
    Event,
    Hydrated,
    LogRewritten,
    RecordsApplied,
    Restored,
    Sealed,
    TableAdopted,
    WriteSynced,
)
from segments.protocol.ids import NO_EPOCH, Address, Lsn, PgId, SegmentId, VolumeEpoch
from segments.protocol.truncation import TruncationTable
from sim.plan.episodes import episodes_of
from sim.show.looks import SegmentLook, WriterLook, epoch_text, look_at_segment, look_at_writer
from sim.world.world import World

Value: TypeAlias = int | str | list[list[int]] | None
VOLUME: Final = ""
"""Who has what belongs to nobody: the volume."""
TOLD: Final = frozenset({"scl", "vcl", "vdl"})
"""The fields whose every change an event tells."""
_GROWING: Final = frozenset({"log_bytes"})
"""What grows bit by bit between two events, the second of which tells of it."""
_STARTS: Final = "starts"
_AWAY: Final = ("down", "lost")


class Board:
    """The values of all slots, and what has changed in them."""

    def __init__(self, world: World) -> None:
        self.slots: dict[tuple[str, str], int] = {}
        """The index of each value, by who has it and what it is."""
        self.values: list[Value] = []
        self.untold: list[tuple[str, str, Value, Value]] = []
        """What of `TOLD` a look has found to be other than told: who, field, told, found."""
        self.names: dict[int, Address] = {}
        """The writers' names by their ids."""
        self.crashing = False
        """Whether segments are about to be told of that have crashed all at once."""
        self._world = world
        self._engines: dict[Address, Engine] = {}
        self._running: dict[Address, Engine] = {}
        """Those of them that have not ended, as far as is known."""
        self._unseen: dict[str, None] = {}
        """Whoever has taken a step since somebody looked."""
        self._everybody = True
        self._tails: dict[PgId, Lsn] = {}
        """The last LSN of each group, of which it is told how far segments are behind."""
        self._table_epoch = NO_EPOCH
        schedule = world.schedule
        self._acted: tuple[int, int] | None = None
        """Number and time of the last action."""
        self._faults: dict[SegmentId, list[tuple[int, int, str]]] = {}
        for each in episodes_of(schedule, schedule.knobs.duration_ns):
            for segment in each.segments if each.state else ():
                end_ns = each.ends.get(segment, each.end_ns)
                span = (each.number, end_ns, each.state)
                self._faults.setdefault(segment, []).append(span)

    # ---- what events say -------------------------------------------------------------------------

    def said(self, source: str, event: Event, into: list[Value]) -> None:
        """Assign what an event says of its source, and add slots and values to ``into``."""
        if isinstance(event, SealingStarted):
            self.names[event.epoch.writer_id] = source
        elif isinstance(event, WriterStarted):
            self.names[event.plan.epoch.writer_id] = source
        for field, value in self._told(source, event):
            self._assign(source, field, value, into)
        if isinstance(event, TableAdopted) and event.table.epoch > self._table_epoch:
            self._table_epoch = event.table.epoch
            self._assign(VOLUME, "annulled", _ranges(event.table), into)
        self._unseen[source] = None

    def _told(self, source: str, event: Event) -> Iterator[tuple[str, Value]]:
        match event:
            case RecordsApplied(scl=scl) | Hydrated(scl=scl):
                yield "scl", scl
            case WriteSynced(log_bytes=size) | LogRewritten(log_bytes=size):
                yield "log_bytes", size
            case AckSent(scl=scl, log_bytes=size):
                yield "scl", scl
                yield "log_bytes", size
            case Restored(scl=scl, epoch=epoch):
                starts = self.value(source, _STARTS)
                yield _STARTS, starts + 1 if isinstance(starts, int) else 1
                yield "scl", scl
                yield "epoch", self._epoch(epoch)
            case Sealed(epoch=epoch, scl=scl):
                yield "scl", scl
                yield "epoch", self._epoch(epoch)
            case TableAdopted(epoch=epoch, table=table, scl=scl):
                yield "scl", scl
                yield "epoch", self._epoch(epoch)
                yield "table_epoch", self._epoch(table.epoch)
            case SealingStarted(epoch=epoch):
                yield "epoch", self._epoch(epoch)
            case WriterStarted(plan=plan):
                yield "epoch", self._epoch(plan.epoch)
            case MtrAllocated(records=records):
                yield "next_lsn", records[-1].lsn + 1
            case Acknowledged():
                yield f"scl:{event.segment}", event.scl
                yield f"pgcl:{event.pg_id}", event.pgcl[1]
                yield "vcl", event.vcl
                yield "vdl", event.vdl[1]

    def _epoch(self, epoch: VolumeEpoch) -> str:
        return epoch_text(epoch, self.names)

    def crashed(self, segment: SegmentId, into: list[Value]) -> None:
        """A segment has stopped just now."""
        self._assign(segment, "state", self._look_at_segment(segment).state, into)

    # ---- looks -----------------------------------------------------------------------------------

    def look_at_all(self) -> None:
        """Have the next look be at everybody."""
        self._everybody = True

    def acting(self, number: int, at_ns: int) -> None:
        """An action of the schedule is about to happen: faults begin with it, or end."""
        self._acted = (number, at_ns)
        self._everybody = True

    def look(self, taking: str | None, into: list[Value]) -> None:
        """Look at whoever has taken a step, but for whoever is ``taking`` one just now."""
        self._unseen.update(dict.fromkeys(self._ended_writers()))
        self._see_tails(taking)
        whom = self._all_nodes() if self._everybody else list(self._unseen)
        kept = taking is not None and (self._everybody or taking in self._unseen)
        self._everybody = False
        self._unseen = {taking: None} if taking is not None and kept else {}
        self._look_at([each for each in whom if each != taking], into)

    def keyframe(self, taking: str) -> list[Value]:
        """Every value, from a look at everybody but for whoever is ``taking`` a step."""
        known = list(self.values)
        self._look_at([each for each in self._all_nodes() if each != taking], [])
        for (_, field), slot in self.slots.items():
            if field in _GROWING and slot < len(known):
                self.values[slot] = known[slot]
        return list(self.values)

    def _ended_writers(self) -> list[Address]:
        """Those that have ended since somebody looked: some do so without a last step."""
        if self._world.built:
            self._meet_writers()
        ended = [name for name, engine in self._running.items() if engine.error is not None]
        for name in ended:
            del self._running[name]
        return ended

    def _all_nodes(self) -> list[str]:
        if not self._world.built:
            return []
        self._meet_writers()
        return [*self._world.cluster.hosts, *self._engines]

    def _meet_writers(self) -> None:
        for engine in self._world.cluster.engines:
            if engine.name not in self._engines:
                self._engines[engine.name] = self._running[engine.name] = engine

    def _look_at(self, whom: Sequence[str], into: list[Value]) -> None:
        if not whom or not self._world.built:
            return
        hosts = self._world.cluster.hosts
        for each in whom:
            if each in hosts:
                look = self._look_at_segment(each)
                if self._is_told(each, look):
                    self._found(each, _fields_of(look), into)
            elif each in self._engines:
                engine = self._engines[each]
                self._found(each, _values_of(look_at_writer(engine, self.names)), into)

    def _look_at_segment(self, segment: SegmentId) -> SegmentLook:
        host = self._world.cluster.hosts[segment]
        tail = self._tails.get(host.group.pg_id, 0)
        return look_at_segment(host, self._faults_of(segment), tail, self.names)

    def _is_told(self, segment: SegmentId, look: SegmentLook) -> bool:
        """Whether an event has told that it is so: that it has started, or stopped."""
        if look.state not in _AWAY:
            return True
        if self.value(segment, _STARTS) is None:
            return False
        return not self.crashing or self.value(segment, "state") in _AWAY

    def _see_tails(self, taking: str | None) -> None:
        """See how far each group's log goes, unless that is just being changed."""
        leader = self._world.leading_writer if self._engines else None
        if leader is None or leader.name == taking:
            return
        tails = (
            {}
            if leader.core is None
            else {pg: leader.core.tail_lsn(pg) for pg in leader.core.pg_ids}
        )
        if tails != self._tails:
            for group in self._world.groups:
                if tails.get(group.pg_id) != self._tails.get(group.pg_id):
                    self._unseen.update(dict.fromkeys(group.members))
            self._tails = tails

    def _faults_of(self, segment: SegmentId) -> list[str]:
        """The words of the faults that last at a segment; only an action changes them."""
        if self._world.healed or self._acted is None:
            return []
        number, now_ns = self._acted
        spans = self._faults.get(segment, ())
        return [word for start, end_ns, word in spans if start <= number and now_ns < end_ns]

    def _found(self, who: str, fields: Mapping[str, Value], into: list[Value]) -> None:
        for field, value in fields.items():
            if value is None:
                continue  # it is not up: what was known of it is still so
            known = self.value(who, field)
            if field in TOLD and known is not None and known != value:
                self.untold.append((who, field, known, value))
            self._assign(who, field, value, into)

    # ---- slots -----------------------------------------------------------------------------------

    def value(self, who: str, field: str) -> Value:
        """The value of a slot; None if there is none."""
        slot = self.slots.get((who, field))
        return None if slot is None else self.values[slot]

    def _assign(self, who: str, field: str, value: Value, into: list[Value]) -> None:
        slot = self.slots.get((who, field))
        if slot is None:
            slot = self.slots[who, field] = len(self.values)
            self.values.append(None)
        if self.values[slot] != value:
            self.values[slot] = value
            into += (slot, value)


def _fields_of(look: SegmentLook) -> dict[str, Value]:
    return {
        "state": look.state,
        "scl": look.scl,
        "received": look.received,
        "gap": look.gap,
        "epoch": look.epoch,
        "table_epoch": look.table_epoch,
        "floor": look.floor,
        "log_bytes": look.log_bytes,
        "layers": look.layers,
    }


def _values_of(look: WriterLook) -> dict[str, Value]:
    values: dict[str, Any] = {
        "state": look.state,
        "epoch": look.epoch,
        "vcl": look.vcl,
        "vdl": look.vdl,
        "next_lsn": look.next_lsn,
        "waiting": look.waiting,
        "commits": look.commits,
    }
    values |= {f"pgcl:{pg_id}": lsn for pg_id, lsn in look.pgcl.items()}
    return values | {f"scl:{segment}": lsn for segment, lsn in look.scl.items()}


def _ranges(table: TruncationTable) -> list[list[int]]:
    """What a table annuls, both ends inclusive."""
    return [[start, end - 1] for start, end, _ in table.ranges]
