"""What the recorded steps prove: who got a record, who synced it, whose acknowledgement counted.

A member *has* a record when a batch, gossip or pages with it arrived there. That its SCL is past
the LSN proves nothing: an SCL also steps over what a truncation has annulled. It has *synced* the
record with the ``write_synced`` that belongs to the write of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from segments.protocol import codec
from segments.protocol.errors import AuroraError
from segments.protocol.ids import NO_EPOCH, Lsn, SegmentId, VolumeEpoch
from segments.protocol.messages import Message, WriteBatch
from segments.protocol.truncation import TruncationTable
from segments.protocol.volume import ProtectionGroup
from sim.check.invariants import WRITE_QUORUM
from sim.check.reference_model import WriterView
from sim.run import RunResult
from sim.story.recorder import Recorder, Step


@attrs.define
class Copy:
    """One member's copy of one record: the step of each stage, None for what did not happen."""

    segment: SegmentId
    arrived: Step | None = None
    """The first ``batch_received``, ``gossip_received`` or ``pages_received`` with it."""
    linked: Step | None = None
    """``records_applied`` or ``hydrated``: the SCL has reached it."""
    synced: Step | None = None
    """The ``write_synced`` of it."""
    acked: Step | None = None
    """The first ``ack_sent`` with an SCL that counts it."""
    annulled: Step | None = None
    """The ``table_adopted`` that took it away."""
    lost: Step | None = None
    """``restored`` without it, after it had been linked."""

    @property
    def held(self) -> bool:
        """Whether what arrived is still there."""
        return self.arrived is not None and self.annulled is None and self.lost is None


@attrs.define
class Vote:
    """How one writer counted the acknowledgements of one record."""

    writer: str
    heard: dict[SegmentId, Step] = attrs.field(factory=dict)
    """The first ``acknowledged`` that counts it, for each member that it had reached, in order."""
    passed: Step | None = None
    """The ``acknowledged`` that took the PGCL to it or past it."""

    @property
    def by_quorum(self) -> bool:
        """Whether enough members had it by the time it counted as complete."""
        return self.passed is not None and len(self.by(self.passed.number)) >= WRITE_QUORUM

    def by(self, number: int) -> list[SegmentId]:
        """Whoever had been heard by a step, inclusive."""
        return [segment for segment, step in self.heard.items() if step.number <= number]


class Evidence:
    """All steps of a run, and what follows from them."""

    def __init__(self, recorder: Recorder, result: RunResult) -> None:
        self.run = recorder.run
        self.world = recorder.world
        self.steps: Sequence[Step] = recorder.steps
        self.result = result
        self.reference = recorder.run.checker.reference
        self._by_event: dict[str, list[Step]] = {}
        self._by_source: dict[str, list[Step]] = {}
        for step in recorder.steps:
            self._by_event.setdefault(step.event, []).append(step)
            self._by_source.setdefault(step.source, []).append(step)
        self._copies: dict[Lsn, dict[SegmentId, Copy]] = {}
        self._votes: dict[tuple[Lsn, str], Vote] = {}

    # ---- steps -----------------------------------------------------------------------------------

    def of(self, *events: str, source: str | None = None) -> list[Step]:
        """The steps of these kinds, in order; of one source, if that is given."""
        if source is not None:
            return [each for each in self._by_source.get(source, ()) if each.event in events]
        found = [step for event in events for step in self._by_event.get(event, ())]
        return sorted(found, key=lambda step: step.number) if len(events) > 1 else found

    @property
    def last(self) -> Step | None:
        """The last step: of a broken invariant, mostly the one that broke it."""
        return self.steps[-1] if self.steps else None

    def last_before(self, step: Step, *events: str) -> Step | None:
        """The last of these kinds that the source of ``step`` had taken by then."""
        found = None
        for each in self.of(*events, source=step.source):
            if each.number >= step.number:
                break
            found = each
        return found

    # ---- the volume ------------------------------------------------------------------------------

    @property
    def groups(self) -> Sequence[ProtectionGroup]:
        return self.world.cluster.groups

    def known(self, lsn: Lsn) -> bool:
        """Whether a record of this LSN was ever allocated."""
        return lsn in self.reference.records

    def group(self, lsn: Lsn) -> ProtectionGroup:
        """The protection group of a record."""
        return self.groups[self.reference.pg_of(lsn)]

    def birth(self, lsn: Lsn) -> Step | None:
        """The ``mtr_allocated`` of a record; the last, if there are several."""
        found = None
        for step in self.of("mtr_allocated"):
            records = step.values["records"]
            if records[0].lsn <= lsn <= records[-1].lsn:
                found = step
        return found

    def mtr_of(self, lsn: Lsn) -> list[Lsn]:
        """All records of the mini-transaction that a record belongs to."""
        step = self.birth(lsn)
        return [] if step is None else [each.lsn for each in step.values["records"]]

    def view(self, epoch: VolumeEpoch) -> WriterView | None:
        """The writer of an epoch; None for one that has not planned."""
        writers = self.reference.writers.values()
        return next((view for view in writers if view.epoch == epoch), None)

    def epoch(self, epoch: VolumeEpoch) -> str:
        """An epoch in words: ``epoch 2 (writer-2)``."""
        owner = next(
            (each.source for each in self.of("sealing") if each.values["epoch"] == epoch), None
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
        started: Step | None = None
        synced: tuple[Step, Step] | None = None
        for step in self._by_source.get(segment, ()):
            if born is None or step.number < born.number:
                continue
            event, values = step.event, step.values
            if event == "write_started":
                started, synced = step, None
            elif event == "write_synced" and started is not None:
                synced = (started, step)
                linked = copy.linked
                if linked and not copy.synced and started.number > linked.number:
                    copy.synced = step  # the write began after it had taken effect
            elif event in _ARRIVALS:
                if not copy.held and self.carries(step, lsn):
                    copy = Copy(segment, arrived=step)
            elif event in ("records_applied", "hydrated"):
                arrived = copy.arrived
                if arrived and not copy.linked and values["before"] < lsn <= values["scl"]:
                    copy.linked = step
                    if synced and synced[1].time_ns == step.time_ns:
                        copy.synced = synced[1] if synced[0].number > arrived.number else None
            elif event == "ack_sent":
                if copy.linked and copy.held and not copy.acked and values["scl"] >= lsn:
                    copy.acked = step
            elif event == "table_adopted":
                if copy.arrived and not copy.annulled and values["table"].annuls(lsn):
                    copy.annulled = step
            elif event == "restored":
                self._restored(copy, step, lsn)
        return copy

    @staticmethod
    def _restored(copy: Copy, step: Step, lsn: Lsn) -> None:
        if step.values["scl"] >= lsn:
            if copy.arrived and not copy.linked:
                copy.linked = step
        elif copy.linked:
            copy.lost = step
        else:
            copy.arrived = None

    def carries(self, step: Step, lsn: Lsn) -> bool:
        """Whether what a step received has the record, or pages with it."""
        values = step.values
        if step.event == "pages_received":
            return values["base_lsn"] >= lsn and self.lives_in(lsn, values["table_epoch"])
        if not values["lsns"] or not values["lsns"][0] <= lsn <= values["lsns"][1]:
            return False
        if step.event == "gossip_received":
            return self.lives_in(lsn, values["table_epoch"])
        view = self.reference.writers.get(values["writer"])
        return view is not None and self.reference.is_live(view, lsn)

    def lost_batches(self, lsn: Lsn) -> dict[SegmentId, Step]:
        """The first batch with a record that was lost on the way to each member."""
        found: dict[SegmentId, Step] = {}
        members = self.group(lsn).members
        for step in self.of("dropped"):
            to = step.values["to"]
            view = self.reference.writers.get(step.source)
            if to not in members or to in found or view is None:
                continue
            message = decoded(step)
            if not isinstance(message, WriteBatch) or not self.reference.is_live(view, lsn):
                continue
            records = codec.decode_records(message.records)
            if any(record.lsn == lsn for record in records):
                found[to] = step
        return found

    def holders(self, lsn: Lsn) -> Iterator[tuple[SegmentId, bool, str]]:
        """Each member at the end: whether it has the record, and a note on how it stands."""
        for segment, copy in self.copies(lsn).items():
            host = self.world.cluster.hosts[segment]
            core = host.core
            scl = None if core is None else core.state.scl
            down = self.run.checker.disks.is_down(segment)
            notes = [f"SCL {scl}"] if scl is not None and not down else []
            held = copy.held
            if core is not None and not down:
                index = core.state.index
                applied = lsn in index or lsn <= index.base_lsn
                if held and not applied:
                    notes.append("arrived, not synced")
                elif held and scl is not None and scl < lsn:
                    notes.append("above a gap")
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
            yield segment, held, ", ".join(notes)

    # ---- votes -----------------------------------------------------------------------------------

    def vote(self, lsn: Lsn, writer: str) -> Vote:
        """How a writer, to whom the record is alive, counted the acknowledgements of it."""
        if (lsn, writer) not in self._votes:
            self._votes[lsn, writer] = self._vote(lsn, writer)
        return self._votes[lsn, writer]

    def _vote(self, lsn: Lsn, writer: str) -> Vote:
        vote = Vote(writer)
        group, born = self.group(lsn), self.birth(lsn)
        for step in self.of("acknowledged", source=writer):
            values = step.values
            if values["pg_id"] != group.pg_id or (born and step.number < born.number):
                continue
            arrived = self.copies(lsn)[values["segment"]].arrived
            if values["scl"] >= lsn and arrived is not None and arrived.number < step.number:
                vote.heard.setdefault(values["segment"], step)
            before, pgcl = values["pgcl"]
            if before < lsn <= pgcl and vote.passed is None:
                vote.passed = step
        return vote

    def sent_scl(self, segment: SegmentId, writer: str, number: int) -> Lsn | None:
        """The highest SCL that a segment had acknowledged to a writer by a step; None for none."""
        scls = [
            step.values["scl"]
            for step in self.of("ack_sent", source=segment)
            if step.number <= number and step.values["writer"] == writer
        ]
        scls += [
            step.values["scl"]
            for step in self.of("table_adopted", source=segment)
            if step.number <= number
        ]
        return max(scls, default=None)

    def sealed_above(self, segment: SegmentId, epoch: VolumeEpoch, number: int) -> Step | None:
        """The first step, before another, by which a segment had promised more than ``epoch``."""
        for step in self.of("sealed", "table_adopted", source=segment):
            if step.number < number and step.values["epoch"] > epoch:
                return step
        return None


_ARRIVALS: Final = ("batch_received", "gossip_received", "pages_received")


def decoded(step: Step) -> Message | None:
    """The message that a ``dropped`` step has lost; None if it cannot be read."""
    try:
        return codec.decode(step.values["payload"])
    except AuroraError:
        return None
