"""What the recorded steps prove: who got a record, who synced it, whose acknowledgement counted.

A member *has* a record when a batch, gossip or a layer with it arrived there. That its SCL is past
the LSN proves nothing: an SCL also steps over what a truncation has annulled. It has *synced* the
record with the `WriteSynced` that belongs to the write of it, or when the layer of a peer is live.

(More than 400 lines: whatever the steps prove, it is asked here.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, overload

import attrs

from aurora.events import Acknowledged, MtrAllocated, SealingStarted
from segments.host import SegmentHost
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
    RecordsApplied,
    Restored,
    Sealed,
    TableAdopted,
    WriteStarted,
    WriteSynced,
)
from segments.protocol.ids import NO_EPOCH, Lsn, SegmentId, VolumeEpoch
from segments.protocol.messages import Message, WriteBatch
from segments.protocol.run import read_records
from segments.protocol.truncation import TruncationTable
from segments.protocol.volume import ProtectionGroup
from sim.check.invariants import WRITE_QUORUM
from sim.check.reference_model import WriterView
from sim.run import RunResult
from sim.story.recorder import MessageDropped, Recorder, Step

A = TypeVar("A", bound=Event)
B = TypeVar("B", bound=Event)
C = TypeVar("C", bound=Event)
D = TypeVar("D", bound=Event)

Arrival: TypeAlias = BatchReceived | GossipReceived | LayerReceived
"""How a record comes to a segment."""


@attrs.define
class Copy:
    """One member's copy of one record: the step of each stage, None for what did not happen."""

    segment: SegmentId
    arrived: Step[Arrival] | None = None
    """The first arrival with it."""
    linked: Step[RecordsApplied | Hydrated | Restored] | None = None
    """The SCL has reached it."""
    above: Step[WriteSynced] | None = None
    """The sync of it above a gap, where it had no effect yet."""
    synced: Step[WriteSynced | LayerPublished] | None = None
    """The sync of it."""
    folded: Step[LayerPublished] | None = None
    """The first layer with it is live: it has left the log, or came as a part of that layer."""
    acked: Step[AckSent] | None = None
    """The first acknowledgement with an SCL that counts it."""
    annulled: Step[TableAdopted] | None = None
    """The truncation table that took it away."""
    lost: Step[Restored] | None = None
    """The restart without it, after it had been linked."""

    @property
    def held(self) -> bool:
        """Whether what arrived is still there."""
        return self.arrived is not None and self.annulled is None and self.lost is None


@attrs.define
class Vote:
    """How one writer counted the acknowledgements of one record."""

    writer: str
    heard: dict[SegmentId, Step[Acknowledged]] = attrs.field(factory=dict)
    """The first `Acknowledged` that counts it, for each member that it had reached, in order."""
    passed: Step[Acknowledged] | None = None
    """The `Acknowledged` that took the PGCL to it or past it."""

    @property
    def by_quorum(self) -> bool:
        """Whether enough members had it by the time it counted as complete."""
        return self.passed is not None and len(self.by(self.passed.number)) >= WRITE_QUORUM

    def by(self, number: int) -> list[SegmentId]:
        """Whoever had been heard by a step, inclusive."""
        return [segment for segment, step in self.heard.items() if step.number <= number]


class Standing(NamedTuple):
    """How a member stands with a record at the end."""

    segment: SegmentId
    held: bool
    """Whether it has the record."""
    note: str
    above: bool = False
    """Whether it has it above a gap, where it counts for nothing."""


class Evidence:
    """All steps of a run, and what follows from them."""

    def __init__(self, recorder: Recorder, result: RunResult) -> None:
        self.run = recorder.run
        self.world = recorder.world
        self.steps: Sequence[Step[Event]] = recorder.steps
        self.result = result
        self.reference = recorder.run.checker.reference
        self._by_kind: dict[type[Event], list[Step[Any]]] = {}
        self._by_source: dict[str, list[Step[Any]]] = {}
        for step in recorder.steps:
            self._by_kind.setdefault(type(step.event), []).append(step)
            self._by_source.setdefault(step.source, []).append(step)
        self._copies: dict[Lsn, dict[SegmentId, Copy]] = {}
        self._votes: dict[tuple[Lsn, str], Vote] = {}

    # ---- steps -----------------------------------------------------------------------------------

    @overload
    def of(self, a: type[A], /, *, source: str | None = None) -> list[Step[A]]: ...

    @overload
    def of(self, a: type[A], b: type[B], /, *, source: str | None = None) -> list[Step[A | B]]: ...

    @overload
    def of(
        self, a: type[A], b: type[B], c: type[C], /, *, source: str | None = None
    ) -> list[Step[A | B | C]]: ...

    @overload
    def of(
        self, a: type[A], b: type[B], c: type[C], d: type[D], /, *, source: str | None = None
    ) -> list[Step[A | B | C | D]]: ...

    def of(self, *kinds: type[Event], source: str | None = None) -> list[Step[Any]]:
        """The steps of these kinds, in order; of one source, if that is given."""
        if source is not None:
            return [each for each in self._by_source.get(source, ()) if type(each.event) in kinds]
        found = [step for kind in kinds for step in self._by_kind.get(kind, ())]
        return sorted(found, key=lambda step: step.number) if len(kinds) > 1 else found

    @property
    def last(self) -> Step[Event] | None:
        """The last step: of a broken invariant, mostly the one that broke it."""
        return self.steps[-1] if self.steps else None

    def last_before(self, step: Step[Event], kind: type[A]) -> Step[A] | None:
        """The last step of this kind that the source of ``step`` had taken by then."""
        found = None
        for each in self.of(kind, source=step.source):
            if each.number >= step.number:
                break
            found = each
        return found

    def scl_at(self, step: Step[Event]) -> Lsn:
        """The SCL that the segment which took a step had told of by then."""
        scl = 0
        for each in self._by_source.get(step.source, ()):
            if each.number >= step.number:
                break
            if isinstance(each.event, _TELLING_SCL):
                scl = each.event.scl
        return scl

    def caught_up(self, step: Step[Restored], by_ns: int) -> bool:
        """Whether a segment that restarted had told a writer by then that it has all again."""
        return any(
            heard.number > step.number and heard.time_ns < by_ns
            for heard in self.of(Acknowledged)
            if heard.event.segment == step.source and heard.event.scl >= heard.event.pgcl[1]
        )

    # ---- the volume ------------------------------------------------------------------------------

    @property
    def groups(self) -> Sequence[ProtectionGroup]:
        return self.world.groups

    @property
    def hosts(self) -> Mapping[SegmentId, SegmentHost]:
        """The segments' places; none of a run that ended before there was a cluster."""
        return self.world.cluster.hosts if self.world.built else {}

    def known(self, lsn: Lsn) -> bool:
        """Whether a record of this LSN was ever allocated."""
        return lsn in self.reference.records

    def group(self, lsn: Lsn) -> ProtectionGroup:
        """The protection group of a record."""
        return self.groups[self.reference.pg_of(lsn)]

    def birth(self, lsn: Lsn) -> Step[MtrAllocated] | None:
        """The `MtrAllocated` of a record; the last, if there are several."""
        found = None
        for step in self.of(MtrAllocated):
            records = step.event.records
            if records[0].lsn <= lsn <= records[-1].lsn:
                found = step
        return found

    def mtr_of(self, lsn: Lsn) -> list[Lsn]:
        """All records of the mini-transaction that a record belongs to."""
        step = self.birth(lsn)
        return [] if step is None else [each.lsn for each in step.event.records]

    def view(self, epoch: VolumeEpoch) -> WriterView | None:
        """The writer of an epoch; None for one that has not planned."""
        writers = self.reference.writers.values()
        return next((view for view in writers if view.epoch == epoch), None)

    def epoch(self, epoch: VolumeEpoch) -> str:
        """An epoch in words: ``epoch 2 (writer-2)``."""
        owner = next(
            (each.source for each in self.of(SealingStarted) if each.event.epoch == epoch), None
        )
        if owner is None and (view := self.view(epoch)) is not None:
            owner = view.name
        return f"epoch {epoch.of(owner) if owner else epoch}"

    def owner(self, epoch: VolumeEpoch) -> str:
        """Whose table this epoch's is, in words."""
        view = self.view(epoch)
        if epoch == NO_EPOCH:
            return "no table"
        return f"{view.name}'s table" if view else f"the table of epoch {epoch}"

    def table(self, epoch: VolumeEpoch) -> TruncationTable | None:
        """The truncation table that the writer of an epoch has made."""
        view = self.view(epoch)
        return None if view is None else view.table

    def lives_in(self, lsn: Lsn, epoch: VolumeEpoch) -> bool:
        """Whether a record belongs to the log as the writer of ``epoch`` sees it."""
        view = self.view(epoch)
        return view is not None and self.reference.is_live(view, lsn)

    # ---- copies of records -----------------------------------------------------------------------

    def copies(self, lsn: Lsn) -> Mapping[SegmentId, Copy]:
        """The copy of a record at each member of its group."""
        if lsn not in self._copies:
            self._copies[lsn] = {
                segment: self._copy(lsn, segment) for segment in self.group(lsn).members
            }
        return self._copies[lsn]

    def _copy(self, lsn: Lsn, segment: SegmentId) -> Copy:
        copy = Copy(segment)
        born = self.birth(lsn)
        started: Step[WriteStarted] | None = None
        synced: tuple[Step[WriteStarted], Step[WriteSynced]] | None = None
        for step in self._by_source.get(segment, ()):
            if born is None or step.number < born.number:
                continue
            match step.event:
                case WriteStarted():
                    started, synced = step, None
                case WriteSynced() if started is not None:
                    synced = (started, step)
                    linked = copy.linked
                    if linked and not copy.synced and started.number > linked.number:
                        copy.synced = step  # the write began after it had taken effect
                    arrived = copy.arrived
                    if copy.held and arrived and not linked and started.number > arrived.number:
                        copy.above = copy.above or step  # unless it takes effect at once
                case BatchReceived() | GossipReceived() | LayerReceived() as arrival:
                    if not copy.held and self.carries(arrival, lsn):
                        copy = Copy(segment, arrived=step)
                case RecordsApplied(before=before, scl=scl):
                    arrived = copy.arrived
                    if arrived and not copy.linked and before < lsn <= scl:
                        copy.linked = step
                        if synced and copy.above == synced[1]:
                            copy.above = None
                        if synced and synced[1].time_ns == step.time_ns:
                            copy.synced = synced[1] if synced[0].number > arrived.number else None
                case LayerPublished(start_lsn=start, end_lsn=end):
                    if copy.held and not copy.folded and start < lsn <= end:
                        copy.folded = step
                case Hydrated(before=before, scl=scl):
                    if copy.arrived and not copy.linked and before < lsn <= scl:
                        copy.linked, copy.synced = step, copy.folded
                case AckSent(scl=scl):
                    if copy.linked and copy.held and not copy.acked and scl >= lsn:
                        copy.acked = step
                case TableAdopted(table=table):
                    if copy.arrived and not copy.annulled and table.annuls(lsn):
                        copy.annulled = step
                case Restored():
                    self._restored(copy, step, lsn)
        return copy

    @staticmethod
    def _restored(copy: Copy, step: Step[Restored], lsn: Lsn) -> None:
        if step.event.scl >= lsn:
            if copy.arrived and not copy.linked:
                copy.linked = step
        elif copy.linked:
            copy.lost = step
        elif copy.above is None:
            copy.arrived = None

    def carries(self, arrival: Arrival, lsn: Lsn) -> bool:
        """Whether what a segment received has the record, or the newest pages up to there."""
        if isinstance(arrival, LayerReceived):
            within = arrival.start_lsn < lsn <= arrival.end_lsn
            return within and self.lives_in(lsn, arrival.table_epoch)
        if not arrival.lsns or not arrival.lsns[0] <= lsn <= arrival.lsns[1]:
            return False
        if isinstance(arrival, GossipReceived):
            return self.lives_in(lsn, arrival.table_epoch)
        view = self.reference.writers.get(arrival.writer)
        return view is not None and self.reference.is_live(view, lsn)

    def lost_batches(self, lsn: Lsn) -> dict[SegmentId, Step[MessageDropped]]:
        """The first batch with a record that was lost on the way to each member."""
        found: dict[SegmentId, Step[MessageDropped]] = {}
        members = self.group(lsn).members
        for step in self.of(MessageDropped):
            to = step.event.to
            view = self.reference.writers.get(step.source)
            if to not in members or to in found or view is None:
                continue
            message = decoded(step.event)
            if not isinstance(message, WriteBatch) or not self.reference.is_live(view, lsn):
                continue
            records = read_records(message.records)
            if any(record.lsn == lsn for record in records):
                found[to] = step
        return found

    def holders(self, lsn: Lsn) -> Iterator[Standing]:
        """Each member at the end."""
        for segment, copy in self.copies(lsn).items():
            host = self.hosts[segment]
            core = host.core
            scl = None if core is None else core.state.scl
            down = self.run.checker.disks.is_down(segment)
            notes = [f"SCL {scl}"] if scl is not None and not down else []
            held, above = copy.held, False
            if core is not None and not down:
                index = core.state.index
                applied = lsn in index or lsn <= index.base_lsn
                if held and not applied:
                    notes.append("arrived, not synced")
                elif held and scl is not None and scl < lsn:
                    above = True
                elif held and (layer := core.state.layers.at(lsn)) is not None:
                    notes.append(f"in {layer.name}")
                held = held and applied
            elif down:
                notes.append("down")
                held = held and copy.synced is not None
            if host.lost:
                notes, held = ["disk lost"], False
            if copy.annulled:
                notes.append("annulled")
            elif copy.arrived is None and scl is not None and scl >= lsn:
                notes.append("never had it")
            elif held and copy.synced is None and copy.linked:
                notes.append("not synced")
            yield Standing(segment, held, ", ".join(notes), above)

    def mute(self, group: ProtectionGroup) -> list[SegmentId]:
        """The members that can answer no recovery: their disk is gone, rolled back or damaged."""
        witnesses = self.run.checker.disks.witnesses()
        return [each for each in group.members if each not in witnesses]

    # ---- votes -----------------------------------------------------------------------------------

    def vote(self, lsn: Lsn, writer: str) -> Vote:
        """How a writer, to whom the record is alive, counted the acknowledgements of it."""
        if (lsn, writer) not in self._votes:
            self._votes[lsn, writer] = self._vote(lsn, writer)
        return self._votes[lsn, writer]

    def _vote(self, lsn: Lsn, writer: str) -> Vote:
        vote = Vote(writer)
        group, born = self.group(lsn), self.birth(lsn)
        for step in self.of(Acknowledged, source=writer):
            event = step.event
            if event.pg_id != group.pg_id or (born and step.number < born.number):
                continue
            arrived = self.copies(lsn)[event.segment].arrived
            if event.scl >= lsn and arrived is not None and arrived.number < step.number:
                vote.heard.setdefault(event.segment, step)
            before, pgcl = event.pgcl
            if before < lsn <= pgcl and vote.passed is None:
                vote.passed = step
        return vote

    def with_table(self, writer: str, members: Iterable[SegmentId], number: int) -> list[SegmentId]:
        """Which members had a writer's truncation table by a step: only there an SCL counts for it.

        A new volume is formatted with that of its first writer.
        """
        epoch = self.reference.writers[writer].epoch
        adopted = {
            step.source
            for step in self.of(TableAdopted)
            if step.event.epoch == epoch and step.number < number
        }
        formatted = writer == next(iter(self.reference.writers))
        return [each for each in members if formatted or each in adopted]

    def sent_scl(self, segment: SegmentId, writer: str, number: int) -> Lsn | None:
        """The highest SCL that a segment had acknowledged to a writer by a step; None for none."""
        scls = [
            step.event.scl
            for step in self.of(AckSent, source=segment)
            if step.number <= number and step.event.writer == writer
        ]
        scls += [
            step.event.scl
            for step in self.of(TableAdopted, source=segment)
            if step.number <= number
        ]
        return max(scls, default=None)

    def sealed_above(
        self, segment: SegmentId, epoch: VolumeEpoch, number: int
    ) -> Step[Sealed | TableAdopted] | None:
        """The first step, before another, by which a segment had promised more than ``epoch``."""
        for step in self.of(Sealed, TableAdopted, source=segment):
            if step.number < number and step.event.epoch > epoch:
                return step
        return None


_TELLING_SCL: Final = (RecordsApplied, Hydrated, TableAdopted, Restored, Sealed)


def decoded(dropped: MessageDropped) -> Message | None:
    """The message that was lost; None if it cannot be read."""
    try:
        return codec.decode(dropped.payload)
    except AuroraError:
        return None
