"""One segment's disk and promises: writes, syncs, crashes, restarts, epochs and collections."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Final

from aurora.events import WriterStarted
from aurora.terminal.text import show_lsns
from segments.protocol.events import (
    BatchReceived,
    Event,
    GossipReceived,
    Hydrated,
    LayerPublished,
    LayerReceived,
    LogCollected,
    Restored,
    Sealed,
    TableGossiped,
    WriteFailed,
    WriteStarted,
    WriteSynced,
)
from segments.protocol.ids import Lsn, SegmentId
from sim.durations import length, moment
from sim.story.evidence import Arrival, Evidence
from sim.story.lines import NEEDED, Line, together
from sim.story.recorder import Step
from sim.wording import counted

_MOST_WRITES: Final = 4
"""The last writes of a disk, this many, are told; before that, only what was torn."""


def writes(evidence: Evidence, segment: SegmentId, weight: int) -> Iterator[Line]:
    """The last writes of a segment, each with its sync, or with what came in its way."""
    steps = evidence.of(WriteStarted, WriteSynced, WriteFailed, Restored, source=segment)
    told: list[Line] = []
    for at, step in enumerate(steps):
        begun = step.event
        if not isinstance(begun, WriteStarted):
            continue
        then = steps[at + 1] if at + 1 < len(steps) else None
        what = f"{begun.frame_bytes} bytes" if begun.frame_bytes else "its promise"
        what = "a new file, as it writes its log anew" if begun.new_file else what
        text = f"{segment} begins to write {what}"
        if then is None:
            text += ", and has not synced them when the run ends"
        elif isinstance(then.event, WriteSynced):
            took, size = length(then.time_ns - step.time_ns), then.event.log_bytes
            text += f", synced {took} later: its log has {size} bytes"
            if begun.frame_bytes:
                text += f", the new ones from {size - begun.frame_bytes} on"
        elif isinstance(then.event, WriteFailed):
            text += "; its disk refuses"
        else:
            text += "; it goes down before the sync"
        told.append(Line(step.number, step.time_ns, weight, text))
    yield from told[-_MOST_WRITES:]
    for line in told[:-_MOST_WRITES]:
        if "goes down" in line.text:
            yield line._replace(weight=weight - 2)


def last_sync(evidence: Evidence, segment: SegmentId, ack: Step[Event]) -> Iterator[Line]:
    """What an acknowledgement says to be durable, and what the last sync before it had left."""
    synced = evidence.last_before(ack, WriteSynced)
    begun = evidence.last_before(ack, WriteStarted)
    if synced is None:
        text = f"{segment} has not synced anything yet in this run"
    else:
        at, size = moment(synced.time_ns), synced.event.log_bytes
        text = f"the last sync of {segment} was at {at}: {size} bytes"
    if begun is not None and (synced is None or begun.number > synced.number):
        text += f"; a write of {begun.event.frame_bytes} bytes is under way"
    yield Line(ack.number, ack.time_ns, NEEDED, text)


def restarts(
    evidence: Evidence,
    segments: Container[SegmentId],
    lsns: Iterable[Lsn],
    weight: int,
    since_ns: int = 0,
) -> Iterator[Line]:
    """Restarts from the log, with what was torn or damaged, and which of ``lsns`` is gone.

    Not those of segments that had caught up by ``since_ns``.
    """
    lsns = list(lsns)
    begun = evidence.of(WriterStarted)
    for step in evidence.of(Restored):
        if not begun or step.number < begun[0].number:
            continue
        if evidence.caught_up(step, since_ns):
            continue
        event = step.event
        text = f"{step.source} restarts from its log with SCL {event.scl}"
        gone = [lsn for lsn in lsns if _lost(evidence, lsn, step)]
        if gone:
            text += f": LSN {', '.join(map(str, gone))} {'is' if len(gone) == 1 else 'are'} gone"
        if event.torn_bytes:
            text += f", {event.torn_bytes} torn bytes at its end"
        if not event.whole:
            text += ", damaged: it answers no seal yet"
        if not event.epoch.counter:
            text += "; it has promised nothing"
        near = weight if step.source in segments else weight - 4
        yield Line(step.number, step.time_ns, NEEDED if gone else near, text)


def _lost(evidence: Evidence, lsn: Lsn, step: Step[Restored]) -> bool:
    copy = evidence.copies(lsn).get(step.source)
    return copy is not None and copy.lost is step


def epochs(evidence: Evidence, segment: SegmentId, weight: int) -> Iterator[Line]:
    """Every promise that a segment has made or taken back."""
    for step in evidence.of(Sealed, TableGossiped, Hydrated, source=segment):
        match step.event:
            case Sealed(epoch=epoch, scl=scl):
                text = f"{segment} seals {evidence.epoch(epoch)} with SCL {scl}"
            case TableGossiped(peer=peer, epoch=epoch):
                text = f"{segment} is told of {evidence.owner(epoch)} by gossip from {peer}"
            case Hydrated(before=before, scl=scl):
                text = f"{segment} takes over a peer's layer: SCL {before} -> {scl}"
        yield Line(step.number, step.time_ns, weight, text)


def received(evidence: Evidence, step: Step[Event], arrival: Arrival, weight: int = NEEDED) -> Line:
    """What a segment took from a writer or a peer in a step, with the epochs of both."""
    segment, lsns = step.source, lsns_of(arrival)
    what = "a heartbeat" if not lsns else f"LSN {lsns[0]}"
    if lsns and lsns[0] != lsns[1]:
        what += f" to {lsns[1]}"
    if isinstance(arrival, BatchReceived):
        view = evidence.reference.writers.get(arrival.writer)
        epoch = f" (epoch {view.epoch.counter})" if view else ""
        text = f"{segment} takes {what} from {arrival.writer}{epoch}, batch {arrival.seq}"
    else:
        what = f"gossip of {what}"
        if isinstance(arrival, LayerReceived):
            pages = "pages as of" if arrival.base else f"the log above LSN {arrival.start_lsn} to"
            what = f"a layer, {pages} LSN {arrival.end_lsn},"
        text = (
            f"{segment} takes {what} from {arrival.peer}, which is in "
            f"{evidence.epoch(arrival.epoch)} with {evidence.owner(arrival.table_epoch)}"
        )
    return Line(step.number, step.time_ns, weight, text)


def lsns_of(arrival: Arrival) -> tuple[Lsn, Lsn] | None:
    """The first and the last record that came; None for a heartbeat, or for a layer."""
    return None if isinstance(arrival, LayerReceived) else arrival.lsns


def arrivals(evidence: Evidence, segment: SegmentId, lsn: Lsn) -> Iterator[Line]:
    """Each time that a record came to a segment."""
    found = [
        step
        for step in evidence.of(BatchReceived, GossipReceived, source=segment)
        if evidence.carries(step.event, lsn)
    ]
    if len(found) > 1:
        how = ", ".join(
            f"in batch {event.seq} of {event.writer}"
            if isinstance(event, BatchReceived)
            else f"in gossip of {event.peer}"
            for event in (step.event for step in found[:4])
        )
        text = f"LSN {lsn} comes to {segment} {len(found)} times: {how}"
        yield Line(found[1].number, found[1].time_ns, NEEDED, text)


def announced(evidence: Evidence, segment: SegmentId) -> Iterator[Line]:
    """The VDL that a segment had last been told."""
    found = evidence.of(BatchReceived, source=segment)
    if found:
        highest = max(found, key=lambda step: step.event.vdl)
        text = (
            f"the highest VDL that {segment} has been told is {highest.event.vdl}, by "
            f"{highest.event.writer}"
        )
        yield Line(highest.number, highest.time_ns, NEEDED, text)


def layers(evidence: Evidence, segment: SegmentId, number: int) -> Iterator[Line]:
    """How a layer came to be: the folds and merges by which it, and what it replaced, were made."""
    wanted = {number}
    for step in reversed(evidence.of(LayerPublished, source=segment)):
        event = step.event
        if event.number not in wanted:
            continue
        wanted.update(event.replaced)
        replaced = ", ".join(map(str, event.replaced))
        how = f"merges layers {replaced}" if event.replaced else "folds its log"
        lsns = show_lsns(event.start_lsn + 1, event.end_lsn)
        what = f"{counted(event.rows, 'record')} of {lsns}"
        if event.base:
            what = f"the pages as of LSN {event.end_lsn}"
        text = f"{segment} {how} into layer-{event.number}: {what}"
        weight = NEEDED if event.number == number else NEEDED - 2
        yield Line(step.number, step.time_ns, weight, text)


def collections(evidence: Evidence, read_point: Lsn) -> Iterator[Line]:
    """Who has collected the version that a reader needs, and what the writer had allowed."""
    groups: dict[tuple[Lsn, Lsn], dict[str, int]] = {}
    first: dict[tuple[Lsn, Lsn], Step[LogCollected]] = {}
    for step in evidence.of(LogCollected):
        floor, allowed = step.event.floor, step.event.announced
        if floor > read_point:
            first.setdefault((floor, allowed), step)
            groups.setdefault((floor, allowed), {}).setdefault(step.source, step.time_ns)
    for (floor, allowed), times in groups.items():
        step = first[floor, allowed]
        text = (
            f"collected up to {floor}: {together(times.items())}; the floor announced is "
            f"{allowed}, a reader is at {read_point}"
        )
        yield Line(step.number, step.time_ns, NEEDED, text)
