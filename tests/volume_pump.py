"""Writers, recoveries and segments joined by hand: one thing happens at a time, drawn from a seed.

Messages are held in a list and delivered in any order, twice or never. Segments crash at any write,
writers at any moment, and any number of them are about at the same time. The truth is kept aside:
every record ever allocated, every commit acknowledged, every VDL that anyone could observe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from random import Random

import attrs

from aurora.config import EngineConfig
from aurora.core import WriterCore
from aurora.events import MtrAllocated
from aurora.mtr import PageWrite
from aurora.quorum import QuorumModel
from aurora.recovery import Recovery
from aurora.recovery_plan import RecoveryPlan
from segments.protocol import codec
from segments.protocol.events import Event
from segments.protocol.ids import Lsn, PgId, SegmentId, VolumeEpoch
from segments.protocol.record import RedoRecord
from segments.protocol.volume import pg_of_page, standard_members
from tests.oracles import naive_page
from tests.store_rig import FIRST, TINY, StoreRig

PAGES = 6


@attrs.define(eq=False)
class Writer:
    """One incarnation, from the moment it begins to seal."""

    name: str
    observed_before: Lsn
    """The highest VDL that anyone had observed when it began to seal (invariant 4)."""
    recovery: Recovery | None = None
    core: WriterCore | None = None
    opened_at: Lsn | None = None
    vdl: Lsn = 0


class VolumePump:
    """A volume of ``pg_count`` groups, and everything that happens to it."""

    def __init__(self, seed: int, pg_count: int = 2, lal: int = 12) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.lal = lal
        self.config = EngineConfig(retention_lsns=4, seal_attempts=50)
        self.groups = {pg_id: QuorumModel(standard_members(pg_id)) for pg_id in range(pg_count)}
        segment_config = attrs.evolve(
            TINY, gossip_interval_s=0.05, collect_ratio=0.01, compact_bytes=4 << 10,
            compact_ratio=1.1, hydration_timeout_s=1.0, image_interval=2,
        )  # fmt: skip
        self.rigs = {
            segment: StoreRig(segment, segment_config)
            for model in self.groups.values()
            for segment in model.members
        }
        self.down: set[SegmentId] = set()
        self.epochs: dict[SegmentId, VolumeEpoch] = {}
        self.wire: list[tuple[str, str, bytes]] = []
        self.allocated: dict[Lsn, RedoRecord] = {}
        self.acknowledged: Lsn = 0
        self.observed: Lsn = 0
        self.opened = 0
        self.writers: dict[str, Writer] = {}
        self._names = 0
        plan = RecoveryPlan.fresh(FIRST, list(self.groups))
        core = WriterCore(plan, self.groups, self.lal, self.config, fresh=True, trace=self._trace)
        self._add(Writer("w0", 0, core=core, opened_at=0))

    # ---- what may happen -------------------------------------------------------------------------

    def anything(self) -> None:
        """One event, of any kind."""
        draw = self.random.random()
        if draw < 0.45:
            for _ in range(self.random.randint(1, 20)):
                self.deliver()
        elif draw < 0.72:
            for _ in range(self.random.randint(1, 8)):
                self.disk()
                self.background()
        elif draw < 0.82:
            self.tick()
        elif draw < 0.96:
            self.submit()
        elif draw < 0.99:
            self.crash_or_restart()
        elif draw < 0.992:
            self.crash_writer()
        elif draw < 0.998 or not self.writers:
            self.open_writer()
        self.collect()
        self.check()

    def deliver(self, *, faults: bool = True) -> None:
        """One message of all that are under way."""
        if not self.wire:
            return
        at = self.random.randrange(len(self.wire))
        self.wire[at], self.wire[-1] = self.wire[-1], self.wire[at]
        source, destination, data = self.wire[-1]
        fate = self.random.random() if faults else 1.0
        if fate > 0.05:
            self.wire.pop()  # else it will be delivered again
        if 0.05 < fate < 0.1:
            return
        message = codec.decode(data)
        rig, writer = self.rigs.get(destination), self.writers.get(destination)
        if rig is not None and destination not in self.down:
            rig.core.step(source, message, self.now)
        elif writer is not None and writer.core is not None:
            writer.core.step(message, self.now)
        elif writer is not None and writer.recovery is not None:
            writer.recovery.step(message, self.now)
            self._promote(writer)

    def disk(self, *, faults: bool = True) -> None:
        """One write of one segment: done, refused, or cut short by a crash."""
        segment = self.random.choice(sorted(self.rigs))
        rig = self.rigs[segment]
        if segment in self.down or (write := rig.core.take_write()) is None:
            return
        fate = self.random.random() if faults else 1.0
        if fate > 0.02:
            rig.store(write)
            rig.core.wrote()
        elif fate > 0.015:
            rig.core.write_failed()
        else:
            if fate > 0.007:
                size = 0 if write.append is None else write.append.frame_bytes
                rig.store(write, torn=self.random.randrange(size + 1))
            else:
                rig.store(write, promise=False)
            self.down.add(segment)

    def background(self) -> None:
        """Some steps of what one segment does on its own account."""
        segment = self.random.choice(sorted(self.rigs))
        if segment not in self.down:
            self.rigs[segment].some_steps(self.random, self.now)

    def tick(self) -> None:
        self.now += self.random.random() * 0.2
        for segment, rig in self.rigs.items():
            if segment not in self.down and self.random.random() < 0.5:
                rig.core.tick(self.now)
        for writer in list(self.writers.values()):
            if writer.core is not None:
                writer.core.tick(self.now)
            elif writer.recovery is not None:
                writer.recovery.tick(self.now)
                self._promote(writer)

    def submit(self) -> None:
        """One MTR of one writer that believes itself to be the writer."""
        able = [
            each.core
            for each in self.writers.values()
            if each.core is not None and each.core.opened and each.core.fenced is None
        ]
        if not able:
            return
        core = self.random.choice(able)
        writes = [
            PageWrite(
                self.random.randrange(PAGES),
                self.random.randrange(50),
                (b"%d" % at).ljust(40, b"."),
            )
            for at in range(self.random.randint(1, 4))
        ]
        if not core.has_room(len(writes)):
            return
        lineage = self.lineage(core.vdl, core)
        for page_id in core.pool.missing([write.page_id for write in writes]):
            assert core.pool.install(naive_page(lineage, page_id, core.vdl), core.vdl, core.vdl)
        core.submit(writes)

    def crash_or_restart(self) -> None:
        """Mostly one or two are down, sometimes more."""
        if self.random.random() < len(self.down) / 3:
            segment = self.random.choice(sorted(self.down))
            self.restart(segment)
        else:
            self.down.add(self.random.choice(sorted(self.rigs)))

    def restart(self, segment: SegmentId) -> None:
        """With what a crash has left of its disk."""
        rig = self.rigs[segment]
        rig.restart(rig.disk.crashed(self.random))
        self.down.discard(segment)

    def crash_writer(self) -> None:
        if self.writers:
            self.writers.pop(self.random.choice(sorted(self.writers)))

    def open_writer(self) -> Writer:
        """A new incarnation begins to seal, whoever else is about."""
        self._names += 1
        recovery = Recovery(self._names, self.groups, self.lal, self.config)
        writer = Writer(f"w{self._names}", self.observed, recovery=recovery)
        if len(self.writers) >= 4:
            self.writers.pop(min(self.writers, key=lambda name: int(name[1:])))
        self._add(writer)
        return writer

    def _add(self, writer: Writer) -> None:
        self.writers[writer.name] = writer

    def _promote(self, writer: Writer) -> None:
        """A recovery that has its plan becomes a writer; one that failed goes."""
        recovery = writer.recovery
        if recovery is None or not recovery.done:
            return
        if recovery.plan is None:
            self.writers.pop(writer.name)
            return
        self.check_plan(recovery.plan)
        writer.recovery = None
        writer.core = WriterCore(
            recovery.plan, self.groups, self.lal, self.config, trace=self._trace
        )

    def _trace(self, _: str, event: Event) -> None:
        if not isinstance(event, MtrAllocated):
            return
        for record in event.records:
            assert record.lsn not in self.allocated, "invariant 1: one LSN, two records"
            self.allocated[record.lsn] = record

    # ---- the truth -------------------------------------------------------------------------------

    def collect(self) -> None:
        """Put on the wire what anyone has to say, and take note of what anyone can see."""
        for segment, rig in self.rigs.items():
            if segment not in self.down:
                for destination, message in rig.answers():
                    self.wire.append((segment, destination, codec.encode(message)))
        for writer in self.writers.values():
            core, recovery = writer.core, writer.recovery
            sends = core.take_sends(self.now) if core else recovery.take_sends() if recovery else []
            self.wire += [(writer.name, segment, codec.encode(each)) for segment, each in sends]
            if core is not None and core.opened:
                self._observe(writer, core)
        del self.wire[:-400]

    def _observe(self, writer: Writer, core: WriterCore) -> None:
        if writer.opened_at is None:
            writer.opened_at = core.vdl
            self.opened += 1
            assert core.vdl >= writer.observed_before, "invariant 4: opened below what was seen"
        assert core.vdl >= writer.vdl, "a VDL went back"
        writer.vdl = core.vdl
        self.observed = max(self.observed, core.vdl)
        self.acknowledged = self.observed
        assert core.vdl <= core.vcl and core.last_allocated_lsn <= core.lsn_limit

    def lineage(self, vdl: Lsn, core: WriterCore | None = None) -> list[RedoRecord]:
        """The records at or below ``vdl``, by walking back from there."""
        found = []
        while vdl:
            found.append(self.allocated[vdl])
            vdl = found[-1].prev_volume_lsn
        return found[::-1]

    def check(self) -> None:
        for segment, rig in self.rigs.items():
            state = rig.state
            known = self.epochs.get(segment, FIRST)
            if segment not in self.down:
                assert state.epoch >= known, "invariant 8"
                self.epochs[segment] = state.epoch
                held = state.index.held()
                assert not any(state.table.annuls(each.lsn) for each in held), "invariant 10"
                assert all(self.allocated[each.lsn] == each for each in held), "invariant 1"
                assert state.whole

    def check_plan(self, plan: RecoveryPlan) -> None:
        """Invariants 1 to 4 and 11, against the truth."""
        lineage = self.lineage(plan.vdl)
        assert not plan.vdl or lineage[-1].is_cpl, "invariant 3"
        assert not any(plan.table.annuls(each.lsn) for each in lineage), "annulled, and alive"
        for pg_id, tail in plan.tails.items():
            own = [
                each.lsn for each in lineage if pg_of_page(each.page_id, len(self.groups)) == pg_id
            ]
            assert tail == max(own, default=0), (pg_id, tail, own[-3:])
            sent = [each.lsn for each in plan.records[pg_id]]
            assert sent == own[len(own) - len(sent) :], "re-replicates exactly what comes last"
        for lsn in self.allocated:
            if lsn > plan.vdl:
                assert plan.table.annuls(lsn), f"invariant 11: {lsn} was sent"
        assert plan.next_lsn > max(self.allocated, default=0), "an LSN would be used twice"

    def what_if(self, alive: Mapping[PgId, Iterable[SegmentId]]) -> RecoveryPlan:
        """Invariant 2: what a recovery from just these segments' disks would decide, now."""
        rigs = {}
        for segment in [each for members in alive.values() for each in members]:
            rig = self.rigs[segment]
            rigs[segment] = StoreRig(segment, rig.config, rig.disk.crashed(self.random))
        recovery = Recovery(10**6, self.groups, self.lal, self.config)
        for at in range(300):
            recovery.tick(at * 0.1)
            for segment, message in recovery.take_sends():
                if segment in rigs:
                    rigs[segment].step(message, "what-if")
            for rig in rigs.values():
                for _, answer in rig.settle():
                    recovery.step(answer, at * 0.1)
            if recovery.done:
                break
        assert recovery.plan is not None, (recovery.missing(), alive)
        return recovery.plan

    def check_every_read_quorum(self, subsets: int) -> None:
        """Some of all read quorums; each finds every commit that was acknowledged."""
        quorums = {
            pg_id: list(combinations(model.members, 3)) for pg_id, model in self.groups.items()
        }
        for _ in range(subsets):
            alive = {pg_id: self.random.choice(each) for pg_id, each in quorums.items()}
            plan = self.what_if(alive)
            assert plan.vdl >= self.acknowledged, (alive, plan.vdl, self.acknowledged)
            self.check_plan(plan)

    # ---- in the end ------------------------------------------------------------------------------

    def heal(self) -> Writer:
        """All is up and nothing is lost any more; a last writer opens (§9, invariant 18)."""
        for segment in sorted(self.down):
            self.restart(segment)
        self.writers.clear()
        writer = self.open_writer()
        for _ in range(60):
            self.tick()
            self.collect()
            for _ in range(4):
                while self.wire:
                    self.deliver(faults=False)
                    if len(self.wire) < 30:
                        self.collect()
                for rig in self.rigs.values():
                    while rig.write():
                        pass
                    rig.work_on(self.now)
                self.collect()
            if writer.name not in self.writers:
                writer = self.open_writer()
            self.check()
        return writer

    def check_converged(self, writer: Writer) -> None:
        core = writer.core
        assert core is not None and core.opened and core.vdl >= self.acknowledged
        lineage = self.lineage(core.vdl)
        for pg_id, model in self.groups.items():
            tail = max(
                [r.lsn for r in lineage if pg_of_page(r.page_id, len(self.groups)) == pg_id],
                default=0,
            )
            for segment in model.members:
                state = self.rigs[segment].state
                assert state.scl == tail and state.table.epoch == core.epoch, segment
                for page_id in range(pg_id, PAGES, len(self.groups)):
                    page = self.rigs[segment].page(page_id, core.vdl)
                    assert page == naive_page(lineage, page_id, core.vdl)
