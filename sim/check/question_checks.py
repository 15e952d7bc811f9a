"""What writers ask segments for reads, on the wire: of whom, and who has confirmed an epoch.

A strict read counts what has really arrived: confirmations of a read quorum, each of them an answer
to a question that was put after the read had begun. Whom a page is asked of is held against what
that segment itself has ever said to be complete.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, cast

from segments.protocol import codec
from segments.protocol.ids import Address, Lsn, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import ConfirmEpoch, EpochConfirmed, ListPages, ReadPage
from segments.protocol.volume import ProtectionGroup, pg_of_page
from sim.check import rules_of_wire
from sim.check.findings import Findings
from sim.world.history import Call, Outcome
from sim.world.network import NetworkEvent
from sim.world.world import World

_REMEMBERED: Final = 512
"""Confirmations that are remembered for each writer."""


class QuestionChecks:
    """The questions of one run, and what they were answered."""

    def __init__(self, world: World, findings: Findings) -> None:
        self._hold = findings.hold
        self._groups: Mapping[PgId, ProtectionGroup] = {each.pg_id: each for each in world.groups}
        self._told: dict[tuple[SegmentId, VolumeEpoch], Lsn] = {}
        self._asked_ns: dict[tuple[Address, int], int] = {}
        """When a writer first put the question of this number."""
        self._confirmed: dict[Address, deque[tuple[int, SegmentId]]] = {}
        """Who has confirmed a writer's epoch, and when it was asked to."""
        self._answered_ns: dict[Address, int] = {}
        """When a writer was last given an answer to a question."""
        self._counted_ns: dict[Address, int] = {}
        """When it was last told how far a segment is complete."""

    def told(self, segment: SegmentId, epoch: VolumeEpoch, scl: Lsn) -> None:
        """A segment says how far it is complete, to the writer of an epoch."""
        key = segment, epoch
        if scl > self._told.get(key, 0):
            self._told[key] = scl

    def asks(self, event: NetworkEvent) -> None:
        """A writer asks a segment for a page, or for a list of them."""
        message = cast("ReadPage | ListPages", codec.decode(event.payload))
        known = self._told.get((event.destination, message.epoch), 0)
        self._hold(
            rules_of_wire.is_asked_of_the_complete,
            event.source, event.destination, message.required_scl, known,
        )  # fmt: skip

    def asks_for_epoch(self, event: NetworkEvent) -> None:
        """A writer asks a segment whether it was deposed."""
        message = cast("ConfirmEpoch", codec.decode(event.payload))
        self._asked_ns.setdefault((event.source, message.request_id), event.time_ns)

    def heard(self, event: NetworkEvent) -> None:
        """A confirmation has come to a writer."""
        message = cast("EpochConfirmed", codec.decode(event.payload))
        asked_ns = self._asked_ns.get((event.destination, message.request_id))
        if asked_ns is not None:
            known = self._confirmed.setdefault(event.destination, deque(maxlen=_REMEMBERED))
            known.append((asked_ns, message.segment))

    def answered(self, event: NetworkEvent) -> None:
        """An answer has come to a writer."""
        self._answered_ns[event.destination] = event.time_ns

    def counted(self, event: NetworkEvent) -> None:
        """What may make more durable has come to a writer."""
        self._counted_ns[event.destination] = event.time_ns

    def returned(self, call: Call) -> None:
        """A client has been answered."""
        strict = call.operation.kind in ("strict_get", "strict_get_at")
        if not strict or call.outcome not in (Outcome.OK, Outcome.NOT_FOUND):
            return
        members = self._groups[pg_of_page(call.operation.pages[0], len(self._groups))].members
        confirmed = {
            segment: None
            for asked_ns, segment in self._confirmed.get(call.writer, ())
            if asked_ns >= call.invoked_ns and segment in members
        }
        self._hold(rules_of_wire.strict_read_was_confirmed, call, list(confirmed))

    def passed_on(self, call: Call) -> None:
        """Nobody is left waiting for what has come: a call is woken by it, and not by a timer."""
        writes, held = call.writes_pages, call.operation.hold_ns
        if call.outcome not in (Outcome.OK, Outcome.NOT_FOUND) or (held and not writes):
            return
        if writes or call.reads_pages or call.lists:
            came_ns = self._counted_ns if writes else self._answered_ns
            heard_ns = came_ns.get(call.writer, -1)
            if call.operation.kind == "head" and call.returned_ns != heard_ns:
                heard_ns = self._counted_ns.get(call.writer, -1)  # it may wait for the VDL
            self._hold(rules_of_wire.is_passed_on_at_once, call, heard_ns)
