"""The end of a run: all that is pending has finished, all is at rest, and everything agrees.

Convergence (18) comes first, then rest: nothing is left of calls (24), the floor is known and what
is below it collected (25), logs are short (23), and each disk restores its segment (22). All of
that is waited for, within the bound that a run has. Then all must agree (18, 19).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from aurora.core import WriterCore
from segments.core import SegmentCore
from segments.host import SegmentHost
from segments.manifest import MANIFEST
from segments.protocol.errors import SegmentLost
from segments.protocol.ids import MAX_LSN, Lsn, SegmentId
from segments.protocol.record import PAGE_SIZE
from segments.restart import plan_restart
from segments.state import SegmentState
from sim.check import (
    invariants,
    rules_of_availability,
    rules_of_floors,
    rules_of_layers,
    rules_of_logs,
    rules_of_the_end,
)
from sim.check.bound_checks import BoundChecks
from sim.check.disk_checks import DiskChecks
from sim.check.findings import Findings
from sim.check.layer_checks import LayerChecks
from sim.check.lost_quorums import without_writes
from sim.check.reference_model import Reference, WriterView
from sim.check.rotten_layers import damage_in
from sim.plan.schedule import SECOND
from sim.wording import counted
from sim.world.disk import SimulatedStorage
from sim.world.history import Outcome
from sim.world.world import World

_SCRUBS: Final = 8
"""Rounds of the scrub that a repair may take, with pauses between two of them."""
_TRANSFERS: Final = 4
"""Times that a transfer may break off."""
_SECOND_CHANCE_NS: Final = 2 * SECOND


class _Unsettled(Exception):
    """Something has not come to rest yet."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(text)
        self.rule = rule


class Ending:
    """Whether one run has come to its end, and to a good one."""

    clients_only = True
    """Whether all calls are those of the schedule's clients; a scenario in Python makes others, and
    may hold what it likes."""

    def __init__(
        self,
        world: World,
        reference: Reference,
        findings: Findings,
        disks: DiskChecks,
        bounds: BoundChecks,
        layers: LayerChecks,
    ) -> None:
        self._world = world
        self._reference = reference
        self._findings = findings
        self._disks = disks
        self._bounds = bounds
        self._layers = layers
        self._unsettled: tuple[str, str] | None = None
        """What has not come to rest yet, though everything has converged: the rule, and why."""
        self._restored: dict[SegmentId, SegmentState] = {}
        """What each disk restored when it was found whole."""

    def converged(self) -> bool:
        """Whether every running segment has all that its writer has made, and all is at rest."""
        self._unsettled = None
        engine = self._world.current_writer
        if engine is None or engine.core is None or self._world.opening:
            return False
        core = engine.core
        try:
            self._has_converged(engine.name, core)
        except invariants.Broken:
            return False
        for rule in (
            self._nothing_is_left, self._are_heard_of, self._is_settled, self._floors_follow,
            self._has_room, self._is_small, self._is_whole,
        ):  # fmt: skip
            try:
                rule(core)
            except _Unsettled as unsettled:
                self._unsettled = unsettled.rule, str(unsettled)
                return False
        return True

    def not_finished(self) -> None:
        """The bound has passed, and something is still pending, or not at rest."""
        rule, text = self._unsettled or ("heals-and-converges", self.standing())
        self._findings.fail(rule, text, liveness=True)

    # ---- what must come true ---------------------------------------------------------------------

    def _running(self) -> Iterator[tuple[SegmentHost, SegmentCore]]:
        for host in self._world.cluster.hosts.values():
            if host.lost is None:
                if not host.up or host.core is None:
                    raise invariants.Broken(f"{host.segment} is down")
                yield host, host.core

    def _has_converged(self, writer: str, core: WriterCore) -> None:
        view = self._reference.writers[writer]
        last = self._reference.last_live(view)
        rules_of_the_end.all_is_durable(writer, core.vdl, last)
        for host, segment in self._running():
            tail = self._reference.tail(view, host.group.pg_id, last)
            invariants.has_everything(host.segment, segment.state, core.epoch, tail)

    def _nothing_is_left(self, _: WriterCore) -> None:
        if not self.clients_only or any(each.returned_ns is None for each in self._world.calls):
            return
        for engine in self._world.cluster.engines:
            self._hold(rules_of_the_end.writer_is_idle, engine)
        for host, segment in self._running():
            self._hold(rules_of_the_end.segment_is_idle, host.segment, segment)

    def _are_heard_of(self, core: WriterCore) -> None:
        for host, segment in self._running():
            known = core.scls(host.group.pg_id).get(host.segment, 0)
            self._hold(
                rules_of_the_end.is_heard_of, core.name, host.segment, known, segment.state.scl
            )

    def _is_settled(self, core: WriterCore) -> None:
        running = [*self._running()]
        if len(running) < len(self._world.cluster.hosts) or not core.table.ranges:
            return  # who is lost adopts nothing; and a volume that was just made has no ranges
        for host, segment in running:
            self._hold(rules_of_logs.knows_it_is_settled, host.segment, segment.state.table)

    def _floors_follow(self, core: WriterCore) -> None:
        if not self.clients_only:
            return
        floor, view = core.reading.floor, self._reference.writers[core.name]
        config = self._world.cluster.config.segment
        retention = self._world.schedule.knobs.retention_lsns
        if retention is not None:
            self._hold(
                rules_of_floors.floor_is_raised,
                self._reference, view, floor, core.vdl, retention, MAX_LSN,
            )  # fmt: skip
        for host, segment in self._running():
            state = segment.state
            self._hold(rules_of_the_end.floor_is_known, host.segment, state, core.vdl, floor)
            ratio = 0.0 if segment.background.watch.space.short else config.collect_ratio
            below = self._below(host, state, view, floor)
            self._hold(rules_of_the_end.is_collected, *below, ratio, config.fold_bytes)

    def _has_room(self, core: WriterCore) -> None:
        """Only those that run have room: of a segment that is lost nothing is ever heard."""
        roomy = {
            each.segment for _, each in self._running() if not each.background.watch.space.short
        }
        groups = {pg_id: core.members(pg_id) for pg_id in core.pg_ids}
        short = {each for members in groups.values() for each in members if each not in roomy}
        self._hold(rules_of_availability.hears_of_room, core.name, core.space.full, groups, short)

    def _below(
        self, host: SegmentHost, state: SegmentState, view: WriterView, floor: Lsn
    ) -> tuple[SegmentId, list[int], float]:
        """What a segment has below the floor, and what its pages would take."""
        layers = state.layers
        below = [each for each in layers if each.end <= floor]
        page_bytes: float = PAGE_SIZE
        if layers.base_lsn and layers.layers[0].count:
            page_bytes = layers.layers[0].length / layers.layers[0].count
        pages = 0
        if below:
            pages = len(self._reference.pages_of(view, host.group.pg_id, below[-1].end))
        sizes = [each.length for each in below if not each.base]
        return host.segment, sizes, pages * page_bytes

    def _is_small(self, _: WriterCore) -> None:
        for host, segment in self._running():
            for predicate, *args in self._bounds.at_rest(host.segment, segment.state):
                self._hold(predicate, *args)

    def _is_whole(self, core: WriterCore) -> None:
        view, config = self._reference.writers[core.name], self._world.cluster.config.segment
        for host, segment in self._running():
            disk = self._world.disks[host.segment]
            can_be_scrubbed = self._can_be_scrubbed(disk.log_bytes)
            if self._disks.is_damaged(host.segment) and not can_be_scrubbed:
                continue
            rotten = bool(self._disks.rotten_layers.of(host.segment))
            if rotten and not self._can_be_healed(disk):
                continue
            try:
                plan = plan_restart(host.segment, disk.peek(), config)
            except SegmentLost as lost:  # both promise slots have rotted: it has the promise
                if self._disks.is_promise_rotten(host.segment) and not can_be_scrubbed:
                    continue
                rule = invariants.rule_of(rules_of_the_end.disk_is_whole).name
                raise _Unsettled(rule, str(lost)) from None
            state, pg_id = plan.state, host.group.pg_id
            self._hold(
                rules_of_the_end.disk_is_whole,
                host.segment, segment.state, plan, disk.log_bytes,
            )  # fmt: skip
            damage = damage_in(disk.layer_files, disk.peek()) if rotten else []
            self._hold(rules_of_layers.layers_are_whole, host.segment, damage)
            self._hold(
                rules_of_the_end.files_are_whole,
                host.segment, disk.file_names(), disk.content(MANIFEST),
            )  # fmt: skip
            chain = self._reference.chain(view, pg_id, state.index.base_lsn, state.scl)
            missing = next(state.index.not_held(chain), None)
            self._hold(rules_of_the_end.log_is_held, host.segment, pg_id, missing, state)
            self._restored[host.segment] = state

    def _can_be_scrubbed(self, log_bytes: int) -> bool:
        """Whether the scrub finds and mends all within the bound that a run has."""
        knobs = self._world.schedule.knobs
        rounds_ns = knobs.scrub_interval_ns * (2 + log_bytes // knobs.scrub_bytes)
        return _SCRUBS * rounds_ns + _SECOND_CHANCE_NS < knobs.liveness_ns

    def _can_be_healed(self, disk: SimulatedStorage) -> bool:
        """Whether the scrub finds what has rotted in layers, and peers heal it, within the bound.

        A peer that has nothing to say is asked in vain for the time that a transfer may take.
        """
        knobs = self._world.schedule.knobs
        pieces = sum(3 + each.length // knobs.scrub_bytes for each in disk.layer_files)
        needed_ns = pieces * knobs.scrub_interval_ns + _TRANSFERS * knobs.hydration_timeout_ns
        return needed_ns + _SECOND_CHANCE_NS < knobs.liveness_ns

    def _hold(self, predicate: Callable[..., object], *args: Any) -> None:
        """Hold a predicate that may come true later; not yet raises `_Unsettled`."""
        rule = invariants.rule_of(predicate).name
        self._findings.counts[rule] += 1
        try:
            predicate(*args)
        except invariants.Broken as broken:
            raise _Unsettled(rule, str(broken)) from None

    def standing(self) -> str:
        """What is pending, what is missing of a writer, and how far each segment is."""
        engine = self._world.leading_writer
        opened = engine.core is not None and engine.core.opened
        writer = "" if opened else f"; {engine.name} has not opened the volume"
        if engine.error is not None:
            writer = f"; {engine.error}"
        pending = [call for call in self._world.calls if call.returned_ns is None]
        scls = ", ".join(
            f"{segment} {host.core.state.scl if host.core is not None and host.up else 'down'}"
            for segment, host in self._world.cluster.hosts.items()
        )
        listed = f" ({'; '.join(str(each.operation) for each in pending[:3])})" if pending else ""
        why = without_writes(self._world.groups, self._world.cluster.lost_segments())
        gone = f"; {why}" if why else ""
        return f"{counted(len(pending), 'call')} pending{listed}{writer}; SCLs: {scls}{gone}"

    def agrees(self, opened_ns: Mapping[str, int]) -> None:
        """Everything has finished: now everything must agree.

        ``opened_ns`` tells when each writer opened.
        """
        engine = self._world.current_writer
        assert engine is not None and engine.core is not None
        core = engine.core
        view = self._reference.writers[engine.name]
        self._history(view, opened_ns)
        self._disks.look_at_all()
        for host in self._world.cluster.hosts.values():
            rotten = self._disks.rotten_layers.of(host.segment)
            if host.lost is None and host.core is not None and not rotten:
                self._pages_agree(host, view, core.vdl, host.core.state)
                pages = self._reference.pages_of(view, host.group.pg_id, core.vdl)
                self._layers.replay_little(host.segment, host.core.state, pages, core.vdl)
                restored = self._restored.get(host.segment)
                if restored is not None:
                    self._pages_agree(host, view, core.vdl, restored)

    def _pages_agree(
        self, host: SegmentHost, view: WriterView, vdl: Lsn, state: SegmentState
    ) -> None:
        files = self._world.disks[host.segment].peek()

        def read(name: str, offset: int, length: int) -> bytes:
            return bytes(files[name][offset : offset + length])

        for page_id in self._reference.pages():
            if self._reference.group_of(page_id) == host.group.pg_id:
                page = state.materializer.read_now(page_id, vdl, read)
                self._findings.hold(
                    invariants.page_agrees,
                    self._reference, view, page_id, vdl, page.image or None,
                )  # fmt: skip

    def _history(self, last: WriterView, opened_ns: Mapping[str, int]) -> None:
        """19: all that clients were told fits one order of their calls."""
        writers = self._reference.writers.values()
        deposed_ns = {
            view.name: min(
                opened_ns[other.name]
                for other in writers
                if other.opened and other.epoch > view.epoch
            )
            for view in writers
            if view.epoch < max(other.epoch for other in writers if other.opened)
        }
        if self._world.calls:
            self._findings.hold(
                invariants.fits_one_order, self._world.calls, self._survivors(last), deposed_ns
            )

    def _survivors(self, last: WriterView) -> dict[int, list[Lsn]]:
        """The LSNs of those writes of unknown outcome that the last writer's log contains."""
        found: dict[int, list[Lsn]] = {}
        for call in self._world.calls:
            if not call.may_write or call.outcome is Outcome.OK or not call.writes:
                continue
            live = [lsn for lsn in call.lsns if self._reference.is_live(last, lsn)]
            count = len(call.writes)
            self._findings.hold(invariants.survives_whole, call.number, call.lsns, live, count)
            if live:
                found[call.number] = live
        return found
