"""Coverage marks of the network, of writers that follow each other, and of limits that are reached.

All of them follow from the cores' trace events, and from what segments and streams held then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import attrs

from aurora.core import WriterCore
from aurora.events import (
    EpochVouched,
    RecoveryPlanned,
    RoomWaitStarted,
    SealAnswered,
    SealingStarted,
    Sent,
    TableAcknowledged,
    VolumeOpened,
)
from segments.protocol.events import (
    AckSent,
    BatchReceived,
    Event,
    RecordsApplied,
    Restored,
    Sealed,
    TableAdopted,
)
from segments.protocol.ids import NO_EPOCH, Lsn, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import WriteBatch
from segments.protocol.run import NO_RECORDS, read_records
from sim.check.mark import Mark
from sim.check.reference_model import Reference
from sim.world.world import World

STORM_MARKS: Final = (
    Mark("batch had reached nobody", "a batch was sent again that none of the six had received"),
    Mark("batch arrived at last", "a batch that was sent again brought a segment what it lacked"),
    Mark("answer was lost", "a batch was sent again to a segment that had received it"),
    Mark("gap opened", "a segment held records above one that it lacked"),
    Mark("queue dropped at a seal", "a segment sealed with batches waiting that it then forgot"),
    Mark("annulled tail dropped", "a segment adopted a table that annulled its newest records"),
    Mark("annulled gap dropped", "a segment adopted a table that annulled records above a gap"),
    Mark("deposed writer was heard", "a segment took a batch after a later writer had opened"),
    Mark("deposed writer was vouched for", "a segment confirmed the epoch of a deposed writer"),
    Mark("recovery left half a table", "a recovery ended with its table at some, but not enough"),
    Mark("recovery copied a tail", "a recovery found records that it had to copy first"),
    Mark("recovery met one group behind", "segments told different SCLs, in one group only"),
    Mark("batch limit filled", "a batch left records behind, since it was full"),
    Mark("outgoing log full", "a commit waited although there was room below the LAL"),
)


_REMEMBERED: Final = 64
"""Batches that are remembered for each way from a writer to a segment."""


@attrs.define
class _Way:
    """What a writer has sent to a segment, and what has arrived there."""

    sent_lsn: Lsn = 0
    resends: int = 0
    received: deque[tuple[Lsn, Lsn]] = attrs.field(factory=lambda: deque(maxlen=_REMEMBERED))
    """First and last LSN of each batch."""
    again_lsn: Lsn = 0
    """The first LSN of the batch that was sent again last."""

    def has_received(self, lsn: Lsn) -> bool:
        return any(first <= lsn <= last for first, last in self.received)


class StormCoverage:
    """Counts them for one run."""

    def __init__(self, world: World, reference: Reference, count: Callable[[str], None]) -> None:
        self._world = world
        self._reference = reference
        self._count = count
        self._ways: dict[tuple[str, SegmentId], _Way] = {}
        self._held: dict[SegmentId, tuple[Lsn, Lsn]] = {}
        """The SCL and the highest LSN of each segment, after its last records."""
        self._waiting: dict[SegmentId, dict[int, None]] = {}
        """Numbers of the batches that it has received and not acknowledged."""
        self._opened: VolumeEpoch = NO_EPOCH
        self._opening: str | None = None
        self._installed = 0
        self._told: dict[str, dict[SegmentId, Lsn]] = {}

    def handler_of(self, kind: type[Event]) -> Callable[[str, Any], None] | None:
        """What is to be called with each step of a kind; None if it counts for nothing here."""
        handler = _ON_EVENT.get(kind)
        return None if handler is None else partial(handler, self)

    def _core(self, writer: str) -> WriterCore | None:
        engines = self._world.cluster.engines
        return next((each.core for each in reversed(engines) if each.name == writer), None)

    # ---- batches ---------------------------------------------------------------------------------

    def _on_sent(self, source: str, event: Sent) -> None:
        core = self._core(source)
        if core is None or not isinstance(event.message, WriteBatch):
            return
        if event.message.records == NO_RECORDS:
            return
        stream = core.streams[event.segment]
        last = stream.sent_lsn
        if last < core.tail_lsn(stream.pg_id):
            self._count("batch limit filled")
        way = self._ways.setdefault((source, event.segment), _Way())
        if stream.resends > way.resends:
            way.resends = stream.resends
            way.again_lsn = read_records(event.message.records)[0].lsn
            self._sent_again(source, core, stream.pg_id, way)
        way.sent_lsn = max(way.sent_lsn, last)

    def _sent_again(self, source: str, core: WriterCore, pg_id: PgId, way: _Way) -> None:
        first = way.again_lsn
        if way.has_received(first):
            self._count("answer was lost")
            return
        ways = [self._ways.get((source, each)) for each in core.members(pg_id)]
        if all(each and first <= each.sent_lsn and not each.has_received(first) for each in ways):
            self._count("batch had reached nobody")

    def _on_batch(self, source: str, event: BatchReceived) -> None:
        if event.lsns is None:
            return
        view = self._reference.writers.get(event.writer)
        if view is not None and view.epoch < self._opened:
            self._count("deposed writer was heard")
        self._waiting.setdefault(source, {})[event.seq] = None
        way = self._ways.get((event.writer, source))
        if way is None:
            return
        if way.again_lsn == event.lsns[0] > self._scl(source) and not way.has_received(
            event.lsns[0]
        ):
            self._count("batch arrived at last")
        way.received.append(event.lsns)

    def _scl(self, segment: SegmentId) -> Lsn:
        return self._held.get(segment, (0, 0))[0]

    # ---- segments --------------------------------------------------------------------------------

    def _on_ack(self, source: str, event: AckSent) -> None:
        self._waiting.get(source, {}).pop(event.seq, None)

    def _on_applied(self, source: str, event: RecordsApplied) -> None:
        core = self._world.cluster.hosts[source].core
        if core is not None:
            highest = core.state.index.highest_lsn
            if highest > event.scl > 0 and self._held.get(source) != (event.scl, highest):
                self._count("gap opened")
            self._held[source] = (event.scl, highest)

    def _on_sealed(self, source: str, _: Sealed) -> None:
        if self._waiting.pop(source, None):
            self._count("queue dropped at a seal")

    def _on_table(self, source: str, event: TableAdopted) -> None:
        scl, highest = self._held.get(source, (0, 0))
        if event.table.survivor(scl) < scl:
            self._count("annulled tail dropped")
        if highest > scl and event.table.annuls(highest):
            self._count("annulled gap dropped")
        self._held[source] = (event.scl, event.scl)

    def _on_restored(self, source: str, event: Restored) -> None:
        self._waiting.pop(source, None)
        self._held[source] = (event.scl, event.scl)

    # ---- writers ---------------------------------------------------------------------------------

    def _on_sealing(self, source: str, _: SealingStarted) -> None:
        if self._opening not in (None, source) and self._installed:
            self._count("recovery left half a table")
        self._opening, self._installed = source, 0
        self._told[source] = {}

    def _on_seal_reply(self, source: str, event: SealAnswered) -> None:
        self._told[source][event.segment] = event.scl

    def _on_planned(self, source: str, event: RecoveryPlanned) -> None:
        if any(event.plan.records.values()):
            self._count("recovery copied a tail")
        told = self._told.pop(source, {})
        groups = self._world.groups
        differ = [
            len({told[each] for each in group.members if each in told}) > 1 for group in groups
        ]
        if len(groups) > 1 and sum(differ) == 1:
            self._count("recovery met one group behind")

    def _on_installed(self, source: str, _: TableAcknowledged) -> None:
        if source == self._opening:
            self._installed += 1

    def _on_opened(self, source: str, event: VolumeOpened) -> None:
        self._opened = max(self._opened, event.epoch)
        if source == self._opening:
            self._opening = None

    def _on_vouched(self, source: str, _: EpochVouched) -> None:
        view = self._reference.writers.get(source)
        if view is not None and view.epoch < self._opened:
            self._count("deposed writer was vouched for")

    def _on_room(self, source: str, event: RoomWaitStarted) -> None:
        core = self._core(source)
        if core is None or core.has_room(event.count):
            return
        if core.last_allocated_lsn + event.count <= event.limit:
            self._count("outgoing log full")


_ON_EVENT: Final[Mapping[type[Event], Callable[[StormCoverage, str, Any], None]]] = {
    Sent: StormCoverage._on_sent,
    BatchReceived: StormCoverage._on_batch,
    AckSent: StormCoverage._on_ack,
    RecordsApplied: StormCoverage._on_applied,
    Sealed: StormCoverage._on_sealed,
    TableAdopted: StormCoverage._on_table,
    Restored: StormCoverage._on_restored,
    SealingStarted: StormCoverage._on_sealing,
    SealAnswered: StormCoverage._on_seal_reply,
    RecoveryPlanned: StormCoverage._on_planned,
    TableAcknowledged: StormCoverage._on_installed,
    VolumeOpened: StormCoverage._on_opened,
    EpochVouched: StormCoverage._on_vouched,
    RoomWaitStarted: StormCoverage._on_room,
}
