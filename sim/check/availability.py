"""Whether all went on where the failure table says "go on" (protocol §9; invariant 28).

Every 20 ms of virtual time, and whenever something happens to the world, it looks who is ready to
serve the latest writer (`sim.check.readiness`). From that, counted with the oracle's quorums,
follows since when writes, reads, strict reads and recovery have been possible, and for how long
what is pending may still take (`sim.check.availability_bounds`).

Conservative where nobody can tell: while another writer recovers, or a higher epoch than the latest
writer's has been sealed anywhere, nothing is judged; each look that finds too few ready starts all
over; and a segment that was away counts again only once it has what is durable. That it gets there
is judged by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aurora.engine import Engine
from aurora.events import VolumeOpened, WriterStarted
from segments.protocol.errors import VolumeFull
from segments.protocol.events import Event, JobFailed, SpaceLookedAt
from segments.protocol.ids import Address, SegmentId
from segments.protocol.record import RECORD_OVERHEAD_BYTES
from segments.protocol.volume import pg_of_page
from sim.check import rules_of_availability as rules
from sim.check.availability_bounds import bounds_of
from sim.check.findings import Findings
from sim.check.invariants import WRITE_QUORUM
from sim.check.readiness import MAY_ANSWER, NEVER, Group, Readiness, Segment
from sim.check.reference_model import Reference, WriterView
from sim.check.rules_of_availability import Standing
from sim.check.soundness import SLOW
from sim.plan.schedule import MS, Action
from sim.world.history import Call, Outcome
from sim.world.listener import Listener
from sim.world.world import World

_LOOK_EVERY_NS: Final = 20 * MS
_ASKED_IN_VAIN: Final = 6
"""So often in a row the same one of five peers is asked once in ten thousand times."""

_WRITES_BESIDE: Final = {
    rules.SOME_AWAY: "write judged with one or two away",
    rules.AZ_AWAY: "write judged with an AZ away",
    rules.SLOW_AWAY: "write judged beside a slow segment",
}
_READS_BESIDE: Final = {
    rules.SLOW_AWAY: "read judged beside a slow segment",
    rules.THREE_AWAY: "read judged with three away",
    rules.FOUR_AWAY: "read judged with four or more away",
}


class Availability(Listener):
    """Judges one run, look by look."""

    def __init__(
        self, world: World, reference: Reference, findings: Findings, mark: Callable[[str], None]
    ) -> None:
        self.bounds = bounds_of(world.schedule.knobs)
        self._world = world
        self._reference = reference
        self._findings = findings
        self._mark = mark
        self.readiness = Readiness(world, reference, self.bounds, mark)
        self._groups = self.readiness.groups
        self._pending: dict[Call, set[SegmentId]] = {}
        """Calls under way, and who was seen away in their groups meanwhile."""
        self._writer: Address = ""
        self._opened: WriterView | None = None
        """The latest writer that has opened the volume."""
        self._opens_ns = NEVER
        """Since when the latest writer could have opened it."""
        self._away_at_first: set[SegmentId] | None = None
        """Who was away when it was first seen."""
        self._silent_at_first: set[SegmentId] = set()
        """And who of those could not answer its seal, and so is no source of what is fetched."""
        self._vanishing = False
        """Whether a source may have become one that is away, or hardly answers."""
        self._waited_out: set[Call] = set()
        """Writes that were pending while no write quorum was ready."""
        self._short: set[SegmentId] = set()
        """Who has ever been short of space."""
        self._looks = False

    # ---- when to look ----------------------------------------------------------------------------

    def on_step(self, source: str, event: Event) -> None:
        if not self._looks and self._world.built:
            self._looks = True
            self._look_later()
        if type(event) is SpaceLookedAt and event.short:
            self._short.add(source)
        if type(event) is JobFailed:
            self.readiness.job_failed(source)
        if type(event) in (WriterStarted, VolumeOpened):
            self._world.scheduler.call_after(0, self._look)
            if type(event) is VolumeOpened and source == self._writer and self._opens_ns != NEVER:
                self._mark_opening()

    def _look_later(self) -> None:
        self._world.scheduler.call_after(_LOOK_EVERY_NS, self._regular_look)

    def _regular_look(self) -> None:
        self._looks = not self._world.scheduler.quiet  # or a deadlock would never be seen
        if self._looks:
            self._look_later()
        self._look()

    def on_action(self, _: int, action: Action) -> None:
        self.readiness.soundness.acting(action)
        self._world.scheduler.call_after(0, self._look)

    def on_crashed(self, segment: SegmentId) -> None:
        self.readiness.lose_count(segment)

    def on_rotted(self, segment: SegmentId) -> None:
        self.readiness.lose_count(segment)

    def on_layer_rotted(self, segment: SegmentId, name: str) -> None:
        self.readiness.rotten_layers.rotted(segment, name)

    # ---- looking ---------------------------------------------------------------------------------

    def _look(self) -> None:
        world = self._world
        if self._findings.failed or not world.cluster.engines:
            return
        now_ns, engine = world.scheduler.now_ns, world.cluster.engine
        if engine.name != self._writer:
            self._writer, self._opens_ns, self._vanishing = engine.name, NEVER, False
            self._away_at_first = None
            for group in self._groups:
                group.count(now_ns, usable=False)
        self.readiness.look(engine.name, self._view(engine))
        alone = engine.error is None and self._is_alone(engine)
        opened = engine.core is not None and engine.core.opened
        if not opened:
            self._see_who_vanishes()
        for group in self._groups:
            group.count(now_ns, usable=alone and opened)
        if alone and opened:
            self._judge_segments(now_ns)
            self._judge_calls(now_ns)
        elif alone:
            self._judge_opening(now_ns)
        if opened or not alone:
            self._opens_ns = NEVER

    def _view(self, engine: Engine) -> WriterView | None:
        view = self._reference.writers.get(engine.name)
        if view is not None and view.opened:
            self._opened = view
        return self._opened

    def _is_alone(self, engine: Engine) -> bool:
        """Whether nobody else recovers, and nobody has sealed a higher epoch."""
        for other in self._world.cluster.engines[:-1]:
            if other.error is None and (other.core is None or not other.core.opened):
                return False
        if engine.core is None:
            return True
        epoch = engine.core.epoch
        cores = (host.core for host in self._world.cluster.hosts.values())
        return all(core is None or core.state.epoch <= epoch for core in cores)

    # ---- judging ---------------------------------------------------------------------------------

    def _judge_segments(self, now_ns: int) -> None:
        """A segment that is behind catches up, where three others are there to help it."""
        for group in self._groups:
            for segment in group.segments:
                if segment.behind_ns == NEVER or segment.name not in group.standing.away:
                    continue
                if self.readiness.can_be_helped(segment.name, group):
                    self._judge_catching_up(group, segment, now_ns)
                else:
                    segment.lose_count(now_ns)

    def _judge_catching_up(self, group: Group, segment: Segment, now_ns: int) -> None:
        since_ns = max(
            segment.behind_ns, segment.moved_ns, segment.sound_ns, segment.rests_until_ns,
            group.confirms_ns,
        )  # fmt: skip
        bound_ns = self.bounds.catch_up_ns
        segment.held_up |= segment.transfer is not None and segment.transfer_ns < since_ns
        if self.bounds.read_attempts or len(group.standing.away) > 1 or segment.held_up:
            bound_ns += self.bounds.hydration_ns + self._parts(group) * self.bounds.part_ns
        # One that is asked for what is spoilt there, too, has nothing to say.
        others = sum(each is not segment and each.has_rotted for each in group.segments)
        segment.in_vain = max(segment.in_vain, others)
        bound_ns += _ASKED_IN_VAIN * segment.in_vain * self.bounds.hydration_ns
        self._findings.hold(
            rules.catches_up,
            segment.name, segment.lacks, now_ns, since_ns, bound_ns, group.standing,
            liveness=True,
        )  # fmt: skip
        segment.judged = True

    def _parts(self, group: Group) -> int:
        """In how many parts all layers come that one of a group's segments has, at most."""
        limit = self._world.cluster.config.segment.gossip_bytes
        hosts = (self._world.cluster.hosts[each.name] for each in group.segments)
        layers = [host.core.state.layers for host in hosts if host.core is not None]
        return max((sum(1 + each.length // limit for each in one) for one in layers), default=0)

    def _judge_calls(self, now_ns: int) -> None:
        if any(group.writes_ns == NEVER for group in self._groups):
            self._waited_out.update(each for each in self._pending if each.writes_pages)
        for call, seen in self._pending.items():
            if call.writer == self._writer:
                for group in self._touched(call):
                    seen.update(group.standing.away)
                self._judge_time(call, now_ns)

    def _judge_time(self, call: Call, now_ns: int) -> int:
        """Hold a call's time against its bound; since when it runs, `NEVER` if it does not."""
        since_ns = self._since(call)
        if since_ns != NEVER:
            asked_ns, bound_ns = _asked_ns(call), self._bound_ns(call, since_ns)
            self._findings.hold(
                rules.is_answered,
                call, now_ns, max(since_ns, asked_ns), bound_ns, self._standings(call),
                liveness=True,
            )  # fmt: skip
        return since_ns

    def _judge_opening(self, now_ns: int) -> None:
        """Witnesses for the seal, and a write quorum to install the table."""
        standings = [group.standing for group in self._groups]
        if min(len(each.ready) for each in standings) < WRITE_QUORUM:
            self._opens_ns, self._vanishing = NEVER, True
            return
        if self._opens_ns == NEVER:
            self._opens_ns = now_ns
        bound_ns = self.bounds.open_ns + (self.bounds.fetch_ns if self._vanishing else 0)
        self._findings.hold(
            rules.opens,
            self._writer, now_ns, self._opens_ns, bound_ns, standings, liveness=True,
        )  # fmt: skip

    def _see_who_vanishes(self) -> None:
        """Also while it is not alone: what has answered its seal by then may be a source."""
        away: dict[SegmentId, str] = {}
        for group in self._groups:
            away |= group.standing.away
        silent = {segment for segment, why in away.items() if why not in MAY_ANSWER}
        if self._away_at_first is None:
            self._away_at_first, self._silent_at_first = set(away), silent
        vanished = (away.keys() - self._away_at_first) | (silent - self._silent_at_first)
        self._vanishing |= SLOW in away.values() or bool(vanished)

    def _mark_opening(self) -> None:
        if any(group.standing.away for group in self._groups):
            self._mark("recovery judged with some away")

    def _touched(self, call: Call) -> list[Group]:
        """The groups that it needs: a write every one, as the VDL is the volume's; so does a list.

        A read needs the group of its page. A head may wait for the mini-transaction that made it.
        """
        if call.writes_pages or call.lists or call.operation.kind == "head":
            return self._groups
        count = len(self._groups)
        touched = sorted({pg_of_page(each, count) for each in call.operation.pages})
        return [self._groups[pg_id] for pg_id in touched]

    def _standings(self, call: Call) -> list[Standing]:
        return [group.standing for group in self._touched(call)]

    def _since(self, call: Call) -> int:
        """Since when all that it needs is there, without a break; `NEVER` if it is not."""
        touched = self._touched(call)
        if call.writes_pages or call.operation.kind == "head":
            return max(group.writes_ns for group in touched)
        if _is_strict(call):
            return max(max(group.reads_ns, group.confirms_ns) for group in touched)
        return max(group.reads_ns for group in touched)

    def _bound_ns(self, call: Call, since_ns: int) -> int:
        """How long it may take from the time at which all that it needs was there."""
        bounds, knobs = self.bounds, self._world.schedule.knobs
        touched = self._touched(call)
        away = len(self._pending.get(call, ()))
        read_ns = bounds.read_ns(away, min(len(group.standing.ready) for group in touched))
        if since_ns > call.invoked_ns:
            read_ns += bounds.retry_ns  # it may just have begun to pause
        if call.writes_pages or call.operation.kind == "head":
            # Whoever stands before it takes room, below the LAL and in the buffer pool, until it is
            # durable; and in messages and writes of bounded size.
            asked = [each.operation for each in self._pending if each.writes_pages]
            records = sum(len(each.pages) for each in asked)
            size = sum(len(each.pages) * (each.length + RECORD_OVERHEAD_BYTES) for each in asked)
            rounds = 1 + records // max(1, min(knobs.lal, knobs.buffer_pool_pages))
            rounds += size // min(knobs.batch_bytes, knobs.write_bytes)
            return read_ns + bounds.commit_ns(len(call.operation.pages), rounds)
        if call.lists:
            limit = max(1, self._world.config.engine.list_pages // len(self._groups))
            parts = len(self._groups) + len(self._reference.pages()) // limit
            if call.operation.kind == "changes":  # each that may have changed is read, too
                parts = 8 * parts + 2 * len(self._reference.pages())
            return parts * read_ns
        if _is_strict(call):
            return read_ns + bounds.confirm_ns
        return len(call.operation.pages) * read_ns  # a view reads them one after the other

    # ---- calls -----------------------------------------------------------------------------------

    def on_invoked(self, call: Call) -> None:
        if _is_judged(call):
            self._pending[call] = set()

    def on_abandoned(self, call: Call) -> None:
        self._pending.pop(call, None)
        self._waited_out.discard(call)

    def on_returned(self, call: Call, engine: Engine) -> None:
        if call not in self._pending:
            return
        waited_out = call in self._waited_out
        try:
            self._judge_return(call, engine, waited_out)
        finally:
            self.on_abandoned(call)

    def _judge_return(self, call: Call, engine: Engine, waited_out: bool) -> None:
        if self._findings.failed or call.writer != self._writer or engine.error is not None:
            return
        if call.raised is VolumeFull:
            if call.in_parts and self._world.schedule.knobs.disk_bytes is not None:
                return  # it is refused for what it would add
            members = [[each.name for each in group.segments] for group in self._groups]
            self._findings.hold(rules.has_no_room, call, members, self._short)
        elif call.outcome is Outcome.REFUSED:
            self._look()
            self._judge_refusal(call)
        elif call.outcome in (Outcome.OK, Outcome.NOT_FOUND):
            since_ns = self._judge_time(call, self._world.scheduler.now_ns)
            if waited_out:
                self._mark("commit resumed when a write quorum was back")
            elif since_ns <= call.invoked_ns:
                self._mark_answer(call)

    def _judge_refusal(self, call: Call) -> None:
        since_ns, now_ns = self._since(call), self._world.scheduler.now_ns
        # Even where nobody can answer a read goes on for its whole time: somebody may come back.
        least_ns = self._world.schedule.knobs.read_timeout_ns - MS
        gave_up_early = now_ns - call.invoked_ns < least_ns
        tried_ns = 0 if since_ns == NEVER else now_ns - max(since_ns, call.invoked_ns)
        if gave_up_early or (tried_ns and tried_ns > self._bound_ns(call, since_ns)):
            self._findings.hold(rules.is_not_refused, call, self._standings(call), liveness=True)

    def _mark_answer(self, call: Call) -> None:
        row = max(self._standings(call), key=lambda each: len(each.away)).row
        if call.writes_pages:
            name = _WRITES_BESIDE.get(row)
        elif not call.from_segment:
            return
        elif _is_strict(call) and row == rules.THREE_AWAY:
            name = "strict read judged with three away"
        else:
            name = _READS_BESIDE.get(row)
        if name is not None:
            self._mark(name)


def _is_judged(call: Call) -> bool:
    """Whether it is owed an answer: it makes no mistake, and its writer has opened the volume."""
    operation = call.operation
    return not (operation.wrong or operation.early or operation.kind == "open" or call.is_sql)


def _is_strict(call: Call) -> bool:
    return call.operation.kind.startswith("strict")


def _asked_ns(call: Call) -> int:
    """When it began to want its last answer: a view is held open for a while first."""
    return call.invoked_ns + call.operation.hold_ns
