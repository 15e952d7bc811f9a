"""Disks, and what stands on them: looked at in turn, and what each would bring to a recovery."""

from __future__ import annotations

from collections.abc import Mapping

from segments.host import SegmentHost
from segments.manifest import PROMISE, log_in
from segments.protocol.errors import MalformedFrame, SegmentLost
from segments.protocol.ids import Lsn, SegmentId
from segments.restart import plan_restart
from segments.state import SegmentState
from segments.wal import NO_PROMISE, decode_promises, encode_promise
from segments.wal_scan import scan
from sim.check import invariants, rules_of_disks, rules_of_rollback, rules_of_the_end
from sim.check.disk_shadow import DiskShadow
from sim.check.findings import Findings
from sim.check.reference_model import Reference
from sim.check.rotten_layers import RottenLayers
from sim.world.world import World


class DiskChecks:
    """What is durable in one run, and whether the running segments say no more than that."""

    def __init__(self, world: World, reference: Reference, findings: Findings) -> None:
        self._world = world
        self._reference = reference
        self._findings = findings
        self._turn = 0
        self._down: dict[SegmentId, SegmentState | None] = {}
        """What the disk of a segment that is down stands for; None if it has lost its promises."""
        self._damaged: set[SegmentId] = set()
        self._promise_rotten: set[SegmentId] = set()
        self._spoilt: set[SegmentId] = set()
        """Whose disks have ever rotted."""
        self.rotten_layers = RottenLayers(world)
        self._failures: dict[SegmentId, int] = {}
        self._shadows: dict[SegmentId, DiskShadow] = {}

    def has_refused(self, segment: SegmentId) -> bool:
        """Whether a disk has refused anything since this was last asked, or refuses now."""
        disk, known = self._world.disks[segment], self._failures.get(segment, 0)
        self._failures[segment] = disk.refusals
        return disk.broken or self._failures[segment] > known

    def crashed(self, segment: SegmentId) -> None:
        """A segment is down: from now on only its disk speaks for it."""
        self._down[segment] = self._left(segment)

    def is_down(self, segment: SegmentId) -> bool:
        """Whether a segment was crashed and has not restarted."""
        return segment in self._down

    def rotted(self, segment: SegmentId) -> None:
        """A segment's disk is not what was written, until it has been repaired."""
        self._damaged.add(segment)
        self._spoilt.add(segment)
        if segment in self._down:
            self._down[segment] = self._left(segment)

    def layer_rotted(self, segment: SegmentId, name: str) -> None:
        """A layer is not what was written, until another file has taken its place."""
        self.rotten_layers.rotted(segment, name)
        if segment in self._down:
            self._down[segment] = self._left(segment)

    def promise_rotted(self, segment: SegmentId) -> None:
        """A promise slot is not what was written, until it has been: see `rotted`."""
        self._promise_rotten.add(segment)
        if segment in self._down:
            self._down[segment] = self._left(segment)

    def restarted(self, segment: SegmentId) -> SegmentState:
        """A segment is back: it speaks for itself. Returns what it has read from its disk."""
        self._down.pop(segment, None)
        files: Mapping[str, bytes | bytearray] = self._world.disks[segment].peek()
        if segment in self._promise_rotten and _is_lost(files):
            # Both slots have rotted since it read them: it holds its promise in memory.
            files = {**files, PROMISE: encode_promise(NO_PROMISE) * 2}
        return self._restored(segment, files)

    def copied(self, segment: SegmentId) -> SegmentState | None:
        """What the copy that a disk was rolled back to stands for; None if it is spoilt."""
        return self._left(segment)

    def witnesses(self) -> dict[SegmentId, SegmentState]:
        """What each segment would bring to a recovery now; no witness, no entry."""
        found: dict[SegmentId, SegmentState] = {}
        for segment, host in self._world.cluster.hosts.items():
            if host.lost is not None or self._world.rolled_back.get(segment):
                continue
            if segment in self._down:
                state = self._down[segment]
            else:
                state = host.core.state if host.core is not None else None
            if state is not None and state.whole and segment not in self._damaged:
                found[segment] = state
        return found

    def rolled_back(self, segment: SegmentId) -> None:
        """A segment's disk is an older copy of itself: perhaps one that was damaged."""
        self._shadows.pop(segment, None)
        if segment in self._spoilt:
            self._damaged.add(segment)
        if segment in self._down:
            self._down[segment] = self._left(segment)

    def is_damaged(self, segment: SegmentId) -> bool:
        """Whether its disk has rotted, and was not found repaired since."""
        return segment in self._damaged

    def is_promise_rotten(self, segment: SegmentId) -> bool:
        """Whether a promise slot has rotted, and was not found written anew since."""
        return segment in self._promise_rotten

    def look(self) -> None:
        """Compare the next segment with its disk, and see that no disk is given up (21)."""
        hosts = list(self._world.cluster.hosts.values())
        for host in hosts:
            if host.lost is not None:
                taken = self._is_taken(host.segment)
                self._findings.hold(
                    rules_of_the_end.is_lost_rightly, host.segment, host.lost, taken
                )
            at_risk = self._world.disks[host.segment].at_risk()
            self._findings.hold(rules_of_disks.named_files_are_safe, host.segment, at_risk)
        self._look_at(hosts[self._turn % len(hosts)])
        self._turn += 1

    def look_at_all(self) -> None:
        """Compare every segment with its disk."""
        for host in self._world.cluster.hosts.values():
            self._look_at(host)

    def hydrated(self, segment: SegmentId) -> None:
        """A segment has started over from the pages of a peer: all of them are on its disk."""
        self._look_at(self._world.cluster.hosts[segment])

    def _is_taken(self, segment: SegmentId) -> bool:
        """Whether nothing of a disk can be used any more, and it is known why."""
        disk = self._world.disks[segment]
        if disk.identity is None or segment in self._world.rolled_back:
            return True
        try:
            plan_restart(segment, disk.peek(), self._world.cluster.config.segment)
        except SegmentLost:
            return segment in self._spoilt or segment in self._promise_rotten
        return False

    def _look_at(self, host: SegmentHost) -> None:
        """Compare a running segment with its disk (invariants 1, 6, 7, 8, 10, 16)."""
        if not host.up or host.core is None or host.lost is not None or host.core.lost:
            return
        state, core = host.core.state, host.core
        self.rotten_layers.look(host.segment)
        if core._in_flight is None and not core.applying:
            self._findings.hold(
                rules_of_disks.knows_its_log,
                host.segment, core.files.log_bytes, self._world.disks[host.segment].log_bytes,
            )  # fmt: skip
        if host.segment in self._damaged:
            restored = self._left(host.segment)
            repaired = restored is not None and restored.whole and restored.scl >= state.scl
            log = log_in(self._world.disks[host.segment].peek()).parts
            if repaired and not scan(log).damage:
                self._damaged.discard(host.segment)  # repaired, and written anew
            return
        files = self._world.disks[host.segment].peek()
        slots = bytes(files[PROMISE])
        if host.segment in self._promise_rotten:
            if slots != encode_promise(state.promise) * 2:
                return
            self._promise_rotten.discard(host.segment)
        self._findings.hold(invariants.promise_kept, host.segment, state, slots)
        shadow = self._shadow(host.segment).restored(files)
        restored = shadow or self._restored(host.segment)
        self._findings.hold(invariants.disk_backs, host.segment, state, restored)
        if core._in_flight is None and not state.heard.unwritten:
            self._findings.hold(
                rules_of_rollback.restores_what_it_heard,
                host.segment, state.heard.marks, restored.heard.marks,
            )  # fmt: skip
        self._knows_what_pages_stand_for(host.segment, restored)
        view = invariants.newest_view(self._reference, state.table)
        self._findings.hold(invariants.nothing_annulled, host.segment, state, view)
        self._findings.hold(invariants.held_once, host.segment, state)
        if view is not None:
            for page_id, version in state.materializer.page_cache.versions():
                self._findings.hold(
                    invariants.version_matches,
                    self._reference, view, host.segment, state.vdl, page_id, version,
                )  # fmt: skip

    def _knows_what_pages_stand_for(self, segment: SegmentId, restored: SegmentState) -> None:
        if restored.index.base_lsn:
            self._findings.hold(rules_of_disks.restores_its_vdl, segment, restored)

    def promise_slots(self, segment: SegmentId) -> bytes | None:
        """Both promise slots as they are on disk now; None if rot has been there."""
        disk = self._world.disks[segment]
        if segment in self._promise_rotten or disk.identity is None:
            return None
        return disk.content(PROMISE)

    def folded(self, segment: SegmentId) -> tuple[Lsn, Lsn] | None:
        """Where a disk's base layer ends, and its last one; None if rot has been there."""
        if segment in self._damaged:
            return None
        manifest = self._world.disks[segment].manifest
        if manifest is None:
            return None
        layers = manifest.layers
        base_lsn = layers[0].end if layers and layers[0].base else 0
        return base_lsn, layers[-1].end if layers else 0

    def shadowed(self, segment: SegmentId) -> SegmentState | None:
        """What a disk would restore now, to look at; None if damage keeps that from being told."""
        disk = self._world.disks[segment]
        spoilt = segment in self._damaged or segment in self._promise_rotten
        if spoilt or disk.identity is None:
            return None
        return self._shadow(segment).restored(disk.peek())

    def _shadow(self, segment: SegmentId) -> DiskShadow:
        shadow = self._shadows.get(segment)
        if shadow is None:
            config = self._world.cluster.config.segment
            shadow = self._shadows[segment] = DiskShadow(segment, config)
        return shadow

    def _left(self, segment: SegmentId) -> SegmentState | None:
        """What the disk of a segment that is down stands for."""
        try:
            return self._restored(segment)
        except SegmentLost as lost:
            if segment not in self._promise_rotten and segment not in self._world.rolled_back:
                self._findings.fail("scl-has-no-gap", f"{lost}, and nothing has taken it")
            return None

    def _restored(
        self, segment: SegmentId, files: Mapping[str, bytes | bytearray] | None = None
    ) -> SegmentState:
        config = self._world.cluster.config.segment
        found = files or self._world.disks[segment].peek()
        plan = plan_restart(segment, found, config)
        if segment not in self._promise_rotten:
            self._findings.hold(
                rules_of_disks.restores_its_promise, segment, plan.state, bytes(found[PROMISE])
            )
        if segment not in self._damaged:
            self._findings.hold(invariants.undamaged, segment, plan.damage)
            self._knows_what_pages_stand_for(segment, plan.state)
            if segment not in self._promise_rotten and not self.rotten_layers.of(segment):
                self._findings.hold(rules_of_disks.restores_a_witness, segment, plan.state)
        return plan.state


def _is_lost(files: Mapping[str, bytes | bytearray]) -> bool:
    """Whether neither promise slot is sound."""
    try:
        decode_promises(bytes(files.get(PROMISE, b"")))
    except MalformedFrame:
        return True
    return False
