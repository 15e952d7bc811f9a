"""Messages, looked at on the wire as they are sent: whatever their senders believe.

Which kind a message is of stands in its second byte, so that only those are read that matter. Every
acknowledgement is held against the seals that were answered before; every seal reply and every
answer to a table, and one acknowledgement in eight, against its sender's disk; the first few of
each kind, and one in 64, are read as their receivers will read them. How fast things are sent
again, and what is asked, are looked at by `pace_checks` and `question_checks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, cast

import attrs

from segments.protocol import codec
from segments.protocol.ids import Address, Lsn, SegmentId, VolumeEpoch
from segments.protocol.messages import (
    ConfirmEpoch,
    EpochConfirmed,
    GossipLayer,
    GossipRecords,
    GossipStatus,
    InstallTable,
    ListPages,
    LogReply,
    NeedTable,
    PageReply,
    PagesListed,
    ReadPage,
    SealReply,
    TableInstalled,
    WriteAck,
    WriteBatch,
)
from sim.check import rules_of_disks, rules_of_wire
from sim.check.disk_checks import DiskChecks
from sim.check.findings import Findings
from sim.check.pace_checks import PaceChecks
from sim.check.question_checks import QuestionChecks
from sim.check.reference_model import Reference
from sim.check.rollback_checks import RollbackChecks
from sim.check.space_checks import SpaceChecks
from sim.plan.schedule import SECOND
from sim.world.network import NetworkEvent
from sim.world.world import World

_ACKS_EVERY: Final = 8
_READ_EVERY: Final = 64
_READ_FIRST: Final = 8
_SHORTEST: Final = 2
"""Bytes of a message: less has no kind."""
_VDL_AT: Final = 1 + WriteBatch._fields.index("vdl")
_RECORDS_AT: Final = 1 + WriteBatch._fields.index("records")
_SEQ_AT: Final = 1 + WriteBatch._fields.index("seq")
_HEARD_AT: Final = 1 + WriteBatch._fields.index("heard")


@attrs.define(eq=False)
class _Window:
    """The batches of records that a writer has sent a segment since it heard of it."""

    batches: int = 0
    since_ns: int = 0


class WireChecks:
    """The messages of one run."""

    def __init__(
        self,
        world: World,
        reference: Reference,
        disks: DiskChecks,
        rollbacks: RollbackChecks,
        findings: Findings,
    ) -> None:
        config = world.config
        self._reference = reference
        self._disks = disks
        self._rollbacks = rollbacks
        self._findings = findings
        self._hold = findings.hold
        self._window = config.engine.batches_in_flight
        self._resend_ns = int(config.engine.resend_min_s * SECOND)
        self._batch_bytes = config.engine.batch_bytes
        self._gossip_bytes = config.segment.gossip_bytes
        groups = len(world.groups)
        self._list_pages = min(
            max(1, config.engine.list_pages // groups), config.segment.list_pages
        )
        self.questions = QuestionChecks(world, findings)
        self._paces = PaceChecks(world, findings)
        self._space = SpaceChecks(world, findings)
        self._deposed: set[Address] = set()
        """Writers that know that they were."""
        self._read: Counter[int] = Counter()
        """How many messages of each kind were sent."""
        self._windows: dict[tuple[Address, Address], _Window] = {}
        self._replies: dict[SegmentId, list[SealReply]] = {}
        self._said: dict[SegmentId, tuple[VolumeEpoch, Lsn]] = {}
        """The highest epoch that a segment has acknowledged anything of, and how much of it."""
        self._acks = 0

    def on_message(self, event: NetworkEvent) -> None:
        """A message was sent, or something has become of it."""
        kind, payload = event[1], event[5]
        if kind == "sent":
            if len(payload) < _SHORTEST or self._is_sample(payload[1]):
                self._hold(rules_of_wire.can_be_read, event[3], payload)
            if self._findings.failed:
                return
            if event[3] in self._deposed:
                what = type(codec.decode(payload)).__name__
                self._hold(rules_of_wire.says_nothing_more, event[3], event[4], what)
            handler = _SENT.get(payload[1])
            if handler is not None:
                handler(self, event)
        elif kind == "delivered":
            handler = _DELIVERED.get(payload[1])
            if handler is not None:
                handler(self, event)

    def _is_sample(self, kind: int) -> bool:
        """Whether one message of a kind is read as its receiver will read it."""
        count = self._read[kind] = self._read[kind] + 1
        return count <= _READ_FIRST or count % _READ_EVERY == 0

    def deposed(self, writer: Address) -> None:
        """A writer has been told that it was."""
        self._deposed.add(writer)

    # ---- writers ---------------------------------------------------------------------------------

    def _on_batch(self, event: NetworkEvent) -> None:
        payload = event.payload
        values = codec.unpack(payload)
        self._hold(
            rules_of_wire.announces_its_vdl,
            self._reference.writers[event.source], event.destination, values[_VDL_AT],
        )  # fmt: skip
        self._rollbacks.batch(event.source, event.destination, values[_SEQ_AT], values[_HEARD_AT])
        if not values[_RECORDS_AT]:
            self._paces.beats(event)
            return
        self._paces.sends(event)
        way = event.source, event.destination
        window = self._windows.get(way)
        if window is None:
            window = self._windows[way] = _Window(0, event.time_ns)
        window.batches += 1
        if window.batches > self._window:
            self._hold(
                rules_of_wire.window_kept,
                *way, window.batches, self._window, event.time_ns - window.since_ns,
                self._resend_ns,
            )  # fmt: skip
        if len(payload) > self._batch_bytes:
            message = cast("WriteBatch", codec.decode(payload))
            self._hold(rules_of_wire.records_fit, event.source, message, self._batch_bytes)

    def _on_install(self, event: NetworkEvent) -> None:
        self._paces.installs(event)

    # ---- what writers hear -----------------------------------------------------------------------

    def _hears_ack(self, event: NetworkEvent) -> None:
        self._windows.pop((event[4], event[3]), None)
        self._paces.acknowledged(event)
        self.questions.counted(event)

    def _hears_installed(self, event: NetworkEvent) -> None:
        self._windows.pop((event[4], event[3]), None)
        self._paces.installed(event)
        self.questions.counted(event)

    def _hears_need(self, event: NetworkEvent) -> None:
        self._windows.pop((event[4], event[3]), None)
        self._paces.needs_table(event)

    def _hears_answer(self, event: NetworkEvent) -> None:
        self.questions.answered(event)

    def _hears_confirmed(self, event: NetworkEvent) -> None:
        self.questions.heard(event)
        self.questions.answered(event)

    def _hears_seal_reply(self, event: NetworkEvent) -> None:
        reply = cast("SealReply", codec.decode(event.payload))
        self._rollbacks.replied(event.destination, reply)

    # ---- segments --------------------------------------------------------------------------------

    def rolled_back(self, segment: SegmentId) -> None:
        """A segment's disk is an older copy: what the segment has said before says nothing."""
        self._replies.pop(segment, None)
        self._said.pop(segment, None)

    def _on_ack(self, event: NetworkEvent) -> None:
        _, (counter, writer_id), segment, _, scl, *space = codec.unpack(event.payload)
        self._space.told(segment, *space)
        epoch = VolumeEpoch(counter, writer_id)
        self.questions.told(segment, epoch, scl)
        self._after_seals(segment, epoch, scl)
        self._has_said(segment, epoch, scl)
        self._acks += 1
        if self._acks % _ACKS_EVERY == 0:
            self._is_on_disk(segment, "an acknowledgement", epoch, epoch, scl)

    def _on_table_installed(self, event: NetworkEvent) -> None:
        message = cast("TableInstalled", codec.decode(event.payload))
        segment, epoch = message.segment, message.epoch
        self._space.told(segment, message.needed_bytes, message.limit_bytes)
        self.questions.told(segment, epoch, message.scl)
        self._after_seals(segment, epoch, message.scl)
        self._has_said(segment, epoch, message.scl)
        self._is_on_disk(segment, "its word", epoch, epoch, message.scl)
        self._is_promised(segment, "its word", epoch, epoch)

    def _has_said(self, segment: SegmentId, epoch: VolumeEpoch, scl: Lsn) -> None:
        self._said[segment] = max((epoch, scl), self._said.get(segment, (epoch, scl)))

    def _after_seals(self, segment: SegmentId, epoch: VolumeEpoch, scl: Lsn) -> None:
        replies = self._replies.get(segment)
        if replies and replies[-1].epoch > epoch:
            sealed = [(each.epoch, each.scl) for each in replies]
            self._hold(rules_of_wire.acknowledges_no_more_than_sealed, segment, epoch, scl, sealed)

    def _on_question(self, event: NetworkEvent) -> None:
        self.questions.asks(event)

    def _on_confirm(self, event: NetworkEvent) -> None:
        self.questions.asks_for_epoch(event)

    def _on_seal_reply(self, event: NetworkEvent) -> None:
        reply = cast("SealReply", codec.decode(event.payload))
        segment = reply.segment
        replies = self._replies.setdefault(segment, [])
        before = replies[-1] if replies else None
        self._hold(rules_of_wire.answers_alike, segment, before, reply)
        said = self._said.get(segment)
        if said is not None:
            self._hold(rules_of_wire.brings_what_it_acknowledged, *said, reply)
        replies.append(reply)
        self._is_promised(segment, "a seal reply", reply.epoch, reply.table.epoch)
        self._is_on_disk(segment, "a seal reply", reply.epoch, reply.table.epoch, reply.scl)

    def _is_on_disk(
        self, segment: SegmentId, what: str, epoch: VolumeEpoch, table: VolumeEpoch, scl: Lsn
    ) -> None:
        restored = self._disks.shadowed(segment)
        if restored is not None:
            self._hold(rules_of_wire.said_is_on_disk, segment, what, epoch, table, scl, restored)

    def _is_promised(
        self, segment: SegmentId, what: str, epoch: VolumeEpoch, table: VolumeEpoch
    ) -> None:
        slots = self._disks.promise_slots(segment)
        if slots is not None:
            self._hold(rules_of_disks.is_promised_twice, segment, what, epoch, table, slots)

    def _on_records(self, event: NetworkEvent) -> None:
        message = cast("LogReply | GossipRecords", codec.decode(event.payload))
        self._hold(rules_of_wire.records_can_be_read, event.source, message)
        if len(event.payload) > self._gossip_bytes:
            self._hold(rules_of_wire.records_fit, event.source, message, self._gossip_bytes)

    def _on_layer(self, event: NetworkEvent) -> None:
        if len(event.payload) > self._gossip_bytes:
            message = cast("GossipLayer", codec.decode(event.payload))
            self._hold(rules_of_wire.part_fits, event.source, message, self._gossip_bytes)

    def _on_status(self, event: NetworkEvent) -> None:
        folded = self._disks.folded(event.source)
        if folded is not None:
            # Only its numbers are asked for: what is nested in it stays as it was packed.
            message = GossipStatus._make(codec.unpack(event.payload)[1:])
            self._hold(rules_of_wire.gives_what_is_on_disk, message, *folded)

    def _on_listed(self, event: NetworkEvent) -> None:
        message = cast("PagesListed", codec.decode(event.payload))
        self._hold(rules_of_wire.list_fits, event.source, message, self._list_pages)


_TAGS: Final = {kind: tag for tag, kind in codec._TAGS.items()}
_SENT: Final[dict[int, Callable[[WireChecks, NetworkEvent], None]]] = {
    _TAGS[WriteBatch]: WireChecks._on_batch,
    _TAGS[InstallTable]: WireChecks._on_install,
    _TAGS[WriteAck]: WireChecks._on_ack,
    _TAGS[TableInstalled]: WireChecks._on_table_installed,
    _TAGS[SealReply]: WireChecks._on_seal_reply,
    _TAGS[ReadPage]: WireChecks._on_question,
    _TAGS[ListPages]: WireChecks._on_question,
    _TAGS[ConfirmEpoch]: WireChecks._on_confirm,
    _TAGS[LogReply]: WireChecks._on_records,
    _TAGS[GossipRecords]: WireChecks._on_records,
    _TAGS[GossipLayer]: WireChecks._on_layer,
    _TAGS[GossipStatus]: WireChecks._on_status,
    _TAGS[PagesListed]: WireChecks._on_listed,
}
_DELIVERED: Final[dict[int, Callable[[WireChecks, NetworkEvent], None]]] = {
    _TAGS[WriteAck]: WireChecks._hears_ack,
    _TAGS[TableInstalled]: WireChecks._hears_installed,
    _TAGS[NeedTable]: WireChecks._hears_need,
    _TAGS[PageReply]: WireChecks._hears_answer,
    _TAGS[PagesListed]: WireChecks._hears_answer,
    _TAGS[EpochConfirmed]: WireChecks._hears_confirmed,
    _TAGS[SealReply]: WireChecks._hears_seal_reply,
}
