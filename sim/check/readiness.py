"""Which segments are ready to serve the latest writer, look by look, and since when (protocol §9).

Ready is who is sound (`sim.check.soundness`) since long enough, whole, and not behind what is
durable. What is held of those who are ready stands in `sim.check.availability`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs

from segments.protocol.ids import Address, Lsn, PgId, SegmentId
from segments.protocol.volume import ProtectionGroup
from segments.transfer import Transfer
from sim.check import rules_of_availability as rules
from sim.check.availability_bounds import Bounds
from sim.check.invariants import READ_QUORUM, WRITE_QUORUM
from sim.check.reference_model import Reference, WriterView
from sim.check.rotten_layers import RottenLayers
from sim.check.rules_of_availability import Standing
from sim.check.soundness import Soundness
from sim.world.world import World

NEVER: Final = 1 << 62
_JUST_BACK: Final = "just back"
_BEHIND: Final = "behind"
_ROTTEN: Final = "rotten"
_JUST_CAUGHT_UP: Final = "just caught up"
MAY_ANSWER: Final = frozenset({_JUST_BACK, _BEHIND, _ROTTEN, _JUST_CAUGHT_UP})
"""Why a segment is not ready that can be reached all the same."""
_RESTS: Final = 10
"""Pauses until the next job, after one that has come to nothing (`segments.background`)."""
COMPLETE: Final = 1
"""Segments that a read needs."""


@attrs.define(eq=False)
class Segment:
    """What is known of one segment."""

    name: SegmentId
    sound_ns: int = -NEVER
    """Since when it is sound; from the start on, all are that make the volume."""
    lost_ns: int = 0
    """When it had ceased to be sound, before that."""
    behind_ns: int = NEVER
    """Since when it lacks what was durable then."""
    target: Lsn = 0
    reached: tuple[Lsn, frozenset[int]] = (0, frozenset())
    """Its SCL, and its damaged layers."""
    moved_ns: int = -NEVER
    """When that was last seen to have moved: much to catch up with takes its time."""
    caught_up_ns: int = -NEVER
    """When it last ceased to lack something for longer than a moment."""
    lacks: str = ""
    lags: bool = False
    """Whether it has lacked something for longer than a moment."""
    rests_until_ns: int = -NEVER
    """A job of it has come to nothing: it begins none until then, so it takes over no layer."""
    transfer: Transfer | None = None
    """The layer that is on its way to it."""
    transfer_ns: int = NEVER
    """Since when."""
    held_up: bool = False
    """Whether what it was asked or answered may have been lost, before all was well again."""
    in_vain: int = 0
    """So many peers may be asked in vain: those that were seen rotten since it lacks something."""
    has_rotted: bool = False
    """Whether a layer on its disk is rotten."""
    judged: bool = False
    """Whether its catching up is being timed."""

    def lose_count(self, now_ns: int) -> None:
        """Whatever was counted begins anew."""
        if self.sound_ns != NEVER:
            self.lost_ns = now_ns
        self.sound_ns = self.behind_ns = NEVER
        self.forget()

    def forget(self) -> None:
        """What was counted while it lacked something."""
        self.lags = self.judged = self.held_up = False
        self.in_vain = 0


@attrs.define(eq=False)
class Group:
    """What is known of one protection group, and since when it can do what."""

    pg_id: PgId
    group: ProtectionGroup
    segments: Sequence[Segment]
    standing: Standing = attrs.field(factory=lambda: Standing((), {}, rules.FOUR_AWAY))
    writes_ns: int = NEVER
    reads_ns: int = NEVER
    confirms_ns: int = NEVER

    def count(self, now_ns: int, usable: bool) -> None:
        """Take note of how many are ready now."""
        ready = len(self.standing.ready) if usable else 0
        self.writes_ns = min(self.writes_ns, now_ns) if ready >= WRITE_QUORUM else NEVER
        self.confirms_ns = min(self.confirms_ns, now_ns) if ready >= READ_QUORUM else NEVER
        self.reads_ns = min(self.reads_ns, now_ns) if ready >= COMPLETE else NEVER


class Readiness:
    """Who is ready, in each group."""

    def __init__(
        self, world: World, reference: Reference, bounds: Bounds, mark: Callable[[str], None]
    ) -> None:
        self.soundness = Soundness(world, bounds.disk_ns)
        self.groups = [
            Group(group.pg_id, group, [Segment(each) for each in group.members])
            for group in world.groups
        ]
        self._world = world
        self._reference = reference
        self._bounds = bounds
        self._mark = mark
        self.rotten_layers = RottenLayers(world)

    def lose_count(self, segment: SegmentId) -> None:
        """Something has happened to a segment, though it may be over by the next look."""
        self._named(segment).lose_count(self._world.scheduler.now_ns)

    def job_failed(self, segment: SegmentId) -> None:
        """A job in the background of a segment has come to nothing."""
        rest_ns = _RESTS * self._world.schedule.knobs.storage_retry_ns
        self._named(segment).rests_until_ns = self._world.scheduler.now_ns + rest_ns

    def _named(self, segment: SegmentId) -> Segment:
        segments = (each for group in self.groups for each in group.segments)
        return next(each for each in segments if each.name == segment)

    def look(self, writer: Address, view: WriterView | None) -> None:
        """See who is ready for ``writer``; ``view`` is the log of the latest that has opened."""
        for group in self.groups:
            self._look_at(group, writer, view, self._world.scheduler.now_ns)

    def can_be_helped(self, segment: SegmentId, group: Group) -> bool:
        """Whether enough others are ready, and hear it, to bring it whatever it lacks."""
        between = self.soundness.between
        heard = sum(not between(segment, other) for other in group.standing.ready)
        return heard >= READ_QUORUM

    def _look_at(self, group: Group, writer: Address, view: WriterView | None, now_ns: int) -> None:
        tail = 0
        if view is not None:
            tail = self._reference.tail(view, group.pg_id, max(view.vdl, view.last_vdl))
        ready: list[SegmentId] = []
        away: dict[SegmentId, str] = {}
        for segment in group.segments:
            why = self._look_at_segment(segment, writer, view, tail, now_ns)
            if why:
                away[segment.name] = why
            else:
                ready.append(segment.name)
        one_az = len(away) == 2 and len({group.group.az_of(each) for each in away}) == 1
        group.standing = Standing(ready, away, rules.row_of(away, one_az))

    def _look_at_segment(
        self, segment: Segment, writer: Address, view: WriterView | None, tail: Lsn, now_ns: int
    ) -> str:
        """Why a segment is not ready; empty if it is."""
        trouble = self.soundness.trouble(segment.name, writer)
        core = self._world.cluster.hosts[segment.name].core
        if trouble or core is None:
            segment.lose_count(now_ns)
            segment.caught_up_ns = now_ns
            return trouble or "down"
        segment.sound_ns = min(segment.sound_ns, now_ns)
        if core.gossip.transfer is not segment.transfer:
            segment.transfer, segment.transfer_ns = core.gossip.transfer, now_ns
        state = core.state
        segment.has_rotted = bool(self.rotten_layers.of(segment.name))
        adopted = view is None or view.name != writer or state.table.epoch == view.epoch
        reached = state.scl, state.layers.damaged
        if reached != segment.reached:
            segment.reached, segment.moved_ns = reached, now_ns
        segment.lacks = rules.lacking(state.whole, adopted, state.scl, tail)
        target_met = state.whole and adopted and state.scl >= segment.target
        if not segment.lacks or target_met:
            self._caught_up(segment, now_ns)
        if segment.lacks and segment.behind_ns == NEVER:
            segment.behind_ns, segment.target = now_ns, tail
        return self._why_not_ready(segment, now_ns)

    def _caught_up(self, segment: Segment, now_ns: int) -> None:
        """It has what was durable when it was seen to lack something."""
        if segment.lags:
            segment.caught_up_ns = now_ns
        if segment.judged:
            self._mark("segment caught up in time")
        segment.behind_ns = NEVER
        segment.forget()

    def _why_not_ready(self, segment: Segment, now_ns: int) -> str:
        bounds = self._bounds
        away_ns = segment.sound_ns - segment.lost_ns
        if now_ns - segment.sound_ns < bounds.settle_ns(away_ns):
            return _JUST_BACK
        segment.lags |= now_ns - segment.behind_ns > bounds.trip_ns
        if segment.lags:
            return _BEHIND
        if segment.has_rotted:
            return _ROTTEN  # whether it has met that or not: it may refuse a read
        if now_ns - segment.caught_up_ns < bounds.heard_ns:
            return _JUST_CAUGHT_UP
        return ""
