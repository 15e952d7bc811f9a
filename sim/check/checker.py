"""The checker: holds every invariant while a run goes on, and ends the run at the first violation.

It is told of each step by the cores' trace events, and looks at the rest itself. What is cheap is
held after every event, what is costly every few (`Knobs.check_every`).

Here are the handlers of the events, over one state of the run. Beside it `log_checks` follow the
watermarks, `wire_checks` look at messages, `layer_checks` at layers, `bound_checks` at what
settings bound, `floor_checks` at the floor, `disk_checks` at disks, `reader_checks` at what readers
may still need, `what_if` imagines recoveries, `ending` judges the end.

(More than 400 lines: all events of a run, over one state.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from aurora.core import WriterCore
from aurora.engine import Engine
from aurora.events import (
    Acknowledged,
    MtrAllocated,
    PageCached,
    RollbackFound,
    SealAnswered,
    SealingStarted,
    VolumeOpened,
    WriterFenced,
    WriterStarted,
)
from aurora.quorum import QuorumModel
from segments.core import SegmentCore
from segments.layers.layer import layer_name
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
    RolledBack,
    Sealed,
    SegmentFailed,
    StorageRefused,
    TableAdopted,
    TableSettled,
)
from segments.protocol.ids import NO_EPOCH, Lsn, PgId, SegmentId, VolumeEpoch
from segments.state import SegmentState
from sim.check import invariants, rules_of_clocks, what_if
from sim.check.bound_checks import BoundChecks
from sim.check.client_checks import ClientChecks
from sim.check.disk_checks import DiskChecks
from sim.check.ending import Ending
from sim.check.findings import Findings
from sim.check.floor_checks import FloorChecks
from sim.check.layer_checks import LayerChecks
from sim.check.log_checks import LogChecks
from sim.check.reader_checks import ReaderChecks
from sim.check.reference_model import Reference, WriterView
from sim.check.rollback_checks import RollbackChecks
from sim.check.space_checks import SpaceChecks
from sim.check.sql_checks import SqlChecks
from sim.check.wire_checks import WireChecks
from sim.world.history import Call, Outcome
from sim.world.listener import Listener
from sim.world.network import NetworkEvent
from sim.world.world import World

_DISK_EVERY = 4
"""Rounds of what-if recoveries (invariant 2) between two comparisons of a segment with its disk
(invariants 6, 7, 10, 16)."""


class Checker(Listener):
    """All invariants of one run."""

    def __init__(self, world: World) -> None:
        self.findings = Findings(world.scheduler)
        self.counts = self.findings.counts
        self.fail = self.findings.fail
        self._hold = self.findings.hold
        self.reference = Reference(world.schedule.knobs.pg_count)
        self._world = world
        self._lal = world.schedule.knobs.lal
        self._check_every = world.schedule.knobs.check_every
        self._events = 0
        self._reported: set[Lsn] = set()
        self._observed_vdl: Lsn = 0
        self._observed_before: dict[str, Lsn] = {}
        self._vcl: dict[str, Lsn] = {}
        self._heads: dict[int, Lsn] = {}
        """Of calls for a page's head: its newest change when they were made."""
        self._clocks: dict[str, int] = {}
        """What each writer's clock has shown."""
        self._epochs: dict[SegmentId, VolumeEpoch] = {}
        self._held: dict[tuple[VolumeEpoch, PgId], dict[SegmentId, Lsn]] = {}
        self._sealed: dict[PgId, dict[SegmentId, tuple[VolumeEpoch, Lsn]]] = {}
        self._models = {group.pg_id: QuorumModel(group.members) for group in world.groups}
        self._opened_ns: dict[str, int] = {}
        self._what_ifs = 0
        self._recoveries = what_if.Recoveries()
        self._recovered_from: object = None
        """What the recoveries were last tried on."""
        self.disks = DiskChecks(world, self.reference, self.findings)
        self.readers = ReaderChecks(world, self.findings)
        self.client_calls = ClientChecks(world, self.findings)
        self.logs = LogChecks(world, self.reference, self.findings, self._held)
        self.rollbacks = RollbackChecks(world, self.findings)
        self.wire = WireChecks(world, self.reference, self.disks, self.rollbacks, self.findings)
        self.bounds = BoundChecks(world, self.findings)
        self.space = SpaceChecks(world, self.findings)
        self.floors = FloorChecks(world, self.reference, self.findings)
        self.layers = LayerChecks(world, self.reference, self.findings)
        self.sql = SqlChecks(world, self.reference, self.findings)
        self.ending = Ending(
            world, self.reference, self.findings, self.disks, self.bounds, self.layers
        )
        self._cores: dict[str, WriterCore] = {}
        self.on_message = self.wire.on_message  # type: ignore[method-assign] # without a call more

    # ---- the cores' steps ------------------------------------------------------------------------

    def on_step(self, source: str, event: Event) -> None:
        if self.findings.failed:
            return
        self._events += 1
        handler = _ON_EVENT.get(type(event))
        if handler is not None:
            handler(self, source, event)
        if source in self._world.disks:
            self._segment_stepped(source, event)
        else:
            self._writer_stepped(source, event)
        if self._events % self._check_every == 0:
            self._what_if()
            if self._events % (self._check_every * _DISK_EVERY) == 0:
                self._look()

    def on_message(self, event: NetworkEvent) -> None:
        self.wire.on_message(event)

    def _writer_stepped(self, writer: str, event: Event) -> None:
        core = self._cores.get(writer)
        if core is None:
            engines = self._world.cluster.engines if self._world.built else ()
            found = [each.core for each in engines if each.name == writer and each.core is not None]
            if found:
                core = self._cores[writer] = found[0]
        self.bounds.writer_stepped(writer, core, event)
        if core is not None:
            self.logs.writer_stepped(writer, core)

    def _segment_stepped(self, segment: SegmentId, event: Event) -> None:
        core = self._world.cluster.hosts[segment].core
        self.bounds.segment_stepped(segment, core, event)
        if core is not None:
            self.logs.segment_stepped(segment, core.state)

    def _look(self) -> None:
        self.disks.look()
        self.readers.look()
        self.bounds.look()
        engine = self._world.current_writer
        if engine is not None and engine.core is not None:
            self.floors.look(engine, engine.core, readers_known=self.ending.clients_only)

    def _on_recovery_started(self, source: str, _: SealingStarted) -> None:
        self._observed_before[source] = self._observed_vdl
        self.logs.sealing(source)
        self.rollbacks.sealing(source)

    def _on_seal_answered(self, source: str, event: SealAnswered) -> None:
        self.logs.answered(source, event.segment, event.table_epoch, event.settled)
        self.rollbacks.answered(source, event.segment)

    def _on_rollback_found(self, source: str, event: RollbackFound) -> None:
        self.logs.not_counted(source, event.segment)
        self.rollbacks.found(source, event.segment)

    def _on_writer_started(self, source: str, event: WriterStarted) -> None:
        plan = event.plan
        observed = self._observed_before.get(source, 0)
        adopted = self.logs.table_of(source)
        view = self.reference.begin_writer(source, plan, observed, adopted)
        self._vcl[source] = plan.vdl
        if not event.fresh:
            self.logs.planned(source, plan)
            self.rollbacks.planned(source, plan.epoch)
        seen = (each.clock_us for group in plan.records.values() for each in group)
        self._clocks[source] = max(seen, default=0)
        self.floors.starts_at(source, plan.floor)
        if event.fresh:
            self._opened(view)

    def _on_opened(self, source: str, _: VolumeOpened) -> None:
        self._opened(self.reference.writers[source])
        self.readers.opened(source, self._core(source))

    def _on_fenced(self, source: str, _: WriterFenced) -> None:
        self.wire.deposed(source)

    def _opened(self, view: WriterView) -> None:
        view.opened = True
        self._opened_ns[view.name] = self._world.scheduler.now_ns
        self.floors.opened(view.name)
        self._hold(invariants.opens_above_the_observed, view)
        for name, highest in self.reference.highest_by.items():
            other = self.reference.writers[name]
            if other.epoch < view.epoch:
                self._hold(
                    invariants.within_ranges,
                    self.reference, other.epoch, highest,
                )  # fmt: skip
        self._observed_vdl = max(self._observed_vdl, view.vdl)

    def _on_allocated(self, source: str, event: MtrAllocated) -> None:
        records = event.records
        view = self.reference.writers[source]
        core = self._core(source)
        self._hold(
            invariants.new_records,
            self.reference, view, records,
        )  # fmt: skip
        self._hold(invariants.names_the_one_before, self.reference, view, records)
        last = self.reference.highest_by.get(source)
        before = None if last is None else self.reference.records[last]
        self._hold(invariants.within_lal, view, core, self._lal, records, before)
        self._hold(rules_of_clocks.carries_the_clock, source, self._clocks.get(source, 0), records)
        if records[-1].is_cpl:
            self._clocks[source] = records[-1].clock_us
        self.logs.made(records)
        if records[0].lsn == records[0].mtr_id:  # what has begun goes on
            self.space.allocated(source, core)
        self.sql.allocated(source, event)
        self.reference.allocated(source, records)
        self._hold(
            invariants.within_ranges,
            self.reference, view.epoch, records[-1].lsn,
        )  # fmt: skip
        self.logs.pool_changed(source, core)

    def _on_page_cached(self, source: str, _: PageCached) -> None:
        self.logs.pool_changed(source, self._core(source))

    def _on_acknowledged(self, source: str, event: Acknowledged) -> None:
        core, view = self._core(source), self.reference.writers[source]
        before, pgcl = event.pgcl
        if pgcl > before:
            self._pgcl_moved(core, event.pg_id, pgcl)
        old_vdl, vdl = event.vdl
        self._hold(invariants.vdl_rises, view, old_vdl, vdl)
        view.last_vdl = vdl
        vcl, last = core.vcl, self._vcl[source]
        if vcl != last or vdl > old_vdl:
            reference = self.reference
            fresh = [each for each in reference.between(last, vcl) if reference.is_live(view, each)]
            self._vcl[source] = vcl
            self._hold(invariants.watermarks, self.reference, core, view, last, fresh)
        if pgcl > before:
            self._hold(invariants.vcl_follows, self.reference, core, view)
        if core.opened:
            self._observed_vdl = max(self._observed_vdl, vdl)
        self._hold(invariants.evicted_is_durable, view, core.pool.newest_evicted_lsn, vdl)

    def _pgcl_moved(self, core: WriterCore, pg_id: PgId, pgcl: Lsn) -> None:
        held = self._held.get((core.epoch, pg_id), {})
        self._hold(invariants.pgcl_backed, self._models[pg_id], pgcl, held, core.epoch)
        self._hold(
            invariants.no_quorum_below_the_sealed,
            pg_id, pgcl, core.epoch, self._sealed.get(pg_id, {}).values(),
        )  # fmt: skip

    # ---- the segments' steps ---------------------------------------------------------------------

    def _on_applied(self, source: str, event: RecordsApplied) -> None:
        state = self._state(source)
        self._hold(invariants.scl_rises, source, event.before, state.scl)
        if state.scl > event.before:
            self._hold(
                invariants.chain_complete,
                self.reference, source, state, event.before,
            )  # fmt: skip
            self._count_held(source, state)

    def _on_epoch(self, source: str, _: Sealed | Hydrated | TableAdopted) -> None:
        state = self._state(source)
        self.logs.adopted(source, state)
        self._epoch_moved(source, state)
        self._count_held(source, state)

    def _on_settled(self, source: str, _: TableSettled) -> None:
        self.logs.adopted(source, self._state(source))

    def _on_hydrated(self, source: str, event: Hydrated) -> None:
        self._on_epoch(source, event)
        self.readers.inherited(source, self._segment(source))
        self.disks.hydrated(source)

    def _on_table(self, source: str, event: TableAdopted) -> None:
        self.readers.inherited(source, self._segment(source))
        self._on_epoch(source, event)
        state = self._state(source)
        view = invariants.newest_view(self.reference, state.table)
        self._hold(invariants.nothing_annulled, source, state, view)

    def _on_batch(self, source: str, event: BatchReceived) -> None:
        view = self.reference.writers.get(event.writer)
        if view is not None:
            known = self._epochs.get(source, NO_EPOCH)
            self._hold(invariants.batch_of_our_epoch, source, known, view.epoch)
            state = self._state(source)
            self.rollbacks.received(source, state, event.writer, view.epoch, event.seq)

    def _on_layer_received(self, source: str, event: LayerReceived) -> None:
        self._on_gossip(source, event)
        self.layers.received(source, event)

    def _on_published(self, source: str, event: LayerPublished) -> None:
        rotten = layer_name(event.number) in self.disks.rotten_layers.of(source)
        sound = not rotten and not self.disks.is_damaged(source)
        self.layers.published(source, event, sound=sound)

    def _on_gossip(self, source: str, event: GossipReceived | LayerReceived) -> None:
        self._hold(
            invariants.gossip_of_our_epoch,
            source, self._state(source), self._epochs.get(source, NO_EPOCH),
            event.epoch, event.table_epoch,
        )  # fmt: skip

    def _on_ack(self, source: str, event: AckSent) -> None:
        core = self._world.cluster.hosts[source].core
        assert core is not None
        written = max([core.state.folded, *core.files._tops.values()])
        self._hold(
            invariants.acknowledges_what_is_synced,
            source, event.scl, written, event.log_bytes, self._world.disks[source].log_bytes,
        )  # fmt: skip

    def _epoch_moved(self, segment: SegmentId, state: SegmentState) -> None:
        known = self._epochs.get(segment, NO_EPOCH)
        self._hold(invariants.epoch_rises, segment, known, state.epoch)
        self._epochs[segment] = state.epoch
        pg_id = self._world.cluster.hosts[segment].group.pg_id
        sealed = self._sealed.setdefault(pg_id, {})
        if segment not in sealed or sealed[segment][0] < state.epoch:
            sealed[segment] = (state.epoch, state.scl)

    def _count_held(self, segment: SegmentId, state: SegmentState) -> None:
        """Remember how far a segment has durably held the log of its table's writer."""
        pg_id = self._world.cluster.hosts[segment].group.pg_id
        held = self._held.setdefault((state.table.epoch, pg_id), {})
        held[segment] = max(held.get(segment, 0), state.scl)

    def _on_refused(self, source: str, event: StorageRefused) -> None:
        if not self.disks.has_refused(source):
            self.fail("system error", f"{source} starts over, and not for its disk: {event.reason}")
        self.disks.crashed(source)  # all that it had in memory is gone

    def _on_failed(self, source: str, event: SegmentFailed) -> None:
        """Elsewhere a mistake takes down its segment only; here it is what is looked for."""
        self.fail("system error", f"{source}: {event.reason}")

    def _on_restored(self, source: str, _: Restored) -> None:
        state = self.disks.restarted(source)
        self.layers.restarted(source, state)
        self.logs.restarted(source)
        self.logs.adopted(source, state)
        pg_id = self._world.cluster.hosts[source].group.pg_id
        held = self._held.get((state.table.epoch, pg_id), {}).get(source, 0)
        self._hold(invariants.restart_keeps_scl, source, state, held)
        # What was durable at its end, though nobody was told, is in effect from now on.
        self._epoch_moved(source, state)
        self._count_held(source, state)

    # ---- what faults have done ------------------------------------------------------------------

    def on_crashed(self, segment: SegmentId) -> None:
        self.disks.crashed(segment)

    def on_rolled_back(self, segment: SegmentId) -> None:
        """It is as if what the disk has lost had never been on it."""
        self.disks.rolled_back(segment)
        self.wire.rolled_back(segment)
        state = self.disks.copied(segment)
        if state is None:
            return
        pg_id = self._world.cluster.hosts[segment].group.pg_id
        for (table, of), held in self._held.items():
            if of == pg_id and segment in held:
                if table > state.table.epoch:
                    del held[segment]
                else:
                    held[segment] = min(held[segment], state.scl)
        self._epochs[segment] = state.epoch
        self._sealed.setdefault(pg_id, {})[segment] = (state.epoch, state.scl)

    def _on_rolled_back(self, source: str, _: RolledBack) -> None:
        self.disks.crashed(source)  # it says nothing more

    def on_rotted(self, segment: SegmentId) -> None:
        self.disks.rotted(segment)
        self.bounds.rotted(segment)

    def on_layer_rotted(self, segment: SegmentId, name: str) -> None:
        self.disks.layer_rotted(segment, name)

    def on_promise_rotted(self, segment: SegmentId) -> None:
        self.disks.promise_rotted(segment)
        self.bounds.promise_rotted(segment)

    # ---- clients ---------------------------------------------------------------------------------

    def on_invoked(self, call: Call) -> None:
        self.readers.invoked(call)
        self.client_calls.invoked(call)
        self.floors.invoked(call)
        view = self.reference.writers.get(call.writer)
        if call.operation.kind == "head" and view is not None:
            newest = self.reference.newest_of(view, call.operation.pages[0])
            self._heads[call.number] = newest
        self.sql.invoked(call)

    def on_undocumented(self, call: Call, error: AuroraError) -> None:
        self.fail("typed errors", f"call {call.number}: {type(error).__name__}: {error}")

    def on_returned(self, call: Call, engine: Engine) -> None:
        if self.findings.failed:
            return
        self.readers.returned(call, engine)
        self.client_calls.returned(call, engine)
        self.wire.questions.returned(call)
        self.floors.returned(call)
        self.bounds.returned(call)
        if call.outcome is Outcome.OK and (call.writes_pages or call.lsns):
            self._reported_commit(call, engine)
        self.sql.returned(call, engine)
        self._answered(call, engine)
        self.wire.questions.passed_on(call)

    def _answered(self, call: Call, engine: Engine) -> None:
        """What a call has read, whether it was a reader's or a mini-transaction's."""
        answers = call.answers()
        if answers:
            view = self.reference.writers[engine.name]
            for page_id, page in answers:
                self._hold(
                    invariants.read_matches,
                    self.reference, view, page_id, call.read_point, page,
                )  # fmt: skip
            if call.own is not None:
                self._hold(invariants.own_writes_are_read, self.reference, view, call, call.own)
        elif call.operation.kind == "changes" and call.outcome is Outcome.OK:
            self._hold(
                invariants.changes_match,
                self.reference, self.reference.writers[engine.name], call.after, call.lsn,
                call.listed,
            )  # fmt: skip
        elif call.lists and call.outcome is Outcome.OK:
            self._hold(
                invariants.list_matches,
                self.reference, self.reference.writers[engine.name],
                call.operation.pages[0], call.lsn, call.listed,
            )  # fmt: skip
        elif call.head is not None:
            self._hold(
                invariants.head_matches,
                self.reference, self.reference.writers[engine.name], call.head,
                self._heads[call.number],
            )  # fmt: skip

    def _reported_commit(self, call: Call, engine: Engine) -> None:
        core = engine.core
        assert core is not None
        self._hold(invariants.commit_is_durable, self.reference, call.lsn, core.vdl)
        self.logs.commit_reported(engine.name, call.lsn)
        self._hold(invariants.reported_once, self._reported, call.lsn)
        self._reported.add(call.lsn)

    # ---- the costly ones -------------------------------------------------------------------------

    def _what_if(self) -> None:
        durable = self.disks.witnesses()
        basis = (
            self._observed_vdl,
            [
                (
                    segment,
                    state.scl,
                    state.vdl,
                    state.floor,
                    state.table.epoch,
                    state.table.settled,
                    state.index.base_lsn,
                )
                for segment, state in durable.items()
            ],
        )
        if basis == self._recovered_from:
            self.counts["any-read-quorum-recovers"] += 1
            return  # nothing has changed that a recovery could see
        self._recovered_from = basis
        self._hold(
            what_if.any_read_quorum_recovers,
            self.reference, self._models, durable, self._observed_vdl, self._lal, self._what_ifs,
            self._recoveries,
        )  # fmt: skip
        self._what_ifs += 1

    def at_the_end(self) -> None:
        """Everything has finished: now everything must agree."""
        if not self.findings.failed:
            self._what_if()
            self._look()
            self.ending.agrees(self._opened_ns)

    # ---- looking up ------------------------------------------------------------------------------

    def _core(self, writer: str) -> WriterCore:
        core = self._cores.get(writer)
        if core is not None:
            return core
        for engine in self._world.cluster.engines:
            if engine.name == writer and engine.core is not None:
                return engine.core
        raise AssertionError(f"no writer {writer}")

    def _segment(self, segment: SegmentId) -> SegmentCore:
        core = self._world.cluster.hosts[segment].core
        assert core is not None, segment
        return core

    def _state(self, segment: SegmentId) -> SegmentState:
        return self._segment(segment).state


_ON_EVENT: Final[Mapping[type[Event], Callable[[Checker, str, Any], None]]] = {
    SealingStarted: Checker._on_recovery_started,
    SealAnswered: Checker._on_seal_answered,
    RollbackFound: Checker._on_rollback_found,
    WriterStarted: Checker._on_writer_started,
    VolumeOpened: Checker._on_opened,
    WriterFenced: Checker._on_fenced,
    MtrAllocated: Checker._on_allocated,
    PageCached: Checker._on_page_cached,
    Acknowledged: Checker._on_acknowledged,
    RecordsApplied: Checker._on_applied,
    Sealed: Checker._on_epoch,
    Hydrated: Checker._on_hydrated,
    TableAdopted: Checker._on_table,
    TableSettled: Checker._on_settled,
    Restored: Checker._on_restored,
    RolledBack: Checker._on_rolled_back,
    StorageRefused: Checker._on_refused,
    SegmentFailed: Checker._on_failed,
    BatchReceived: Checker._on_batch,
    GossipReceived: Checker._on_gossip,
    LayerReceived: Checker._on_layer_received,
    LayerPublished: Checker._on_published,
    AckSent: Checker._on_ack,
}
