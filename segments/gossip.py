"""Gossip: segments of a protection group bring each other up to date (2017 §3.3; protocol §8).

At jittered intervals a segment tells one peer where it stands. The one that is ahead, in epoch or
table first and only then in records, sends what the other lacks. A receiver judges records by its
own adopted table, and takes none from a lower epoch; so what a recovery annulled never comes back.
"""

from __future__ import annotations

from math import inf
from random import Random
from typing import NamedTuple, TypeAlias

from segments.config import SegmentConfig
from segments.protocol import events
from segments.protocol.events import Tracer
from segments.protocol.heard import Mark, is_rolled_back
from segments.protocol.ids import Address, SegmentId, VolumeEpoch
from segments.protocol.messages import FetchLayer, GossipLayer, GossipRecords, GossipStatus
from segments.protocol.run import Run, read_run
from segments.protocol.truncation import TruncationTable
from segments.state import SegmentState
from segments.transfer import Transfer, Wanted, can_give, collects_more, is_lacking, wanted
from segments.wal import RecordsEntry

GossipMessage: TypeAlias = GossipStatus | GossipRecords | GossipLayer | FetchLayer


# ---- what comes of a message, besides an answer to its sender ------------------------------------


class TakeTable(NamedTuple):
    """Adopt this table: it is of a higher epoch than ours."""

    table: TruncationTable


class TakeRecords(NamedTuple):
    """Make these records durable, then ask for more."""

    entry: RecordsEntry
    run: Run


class TakeLayer(NamedTuple):
    """Take over a layer, whose first part is still to be asked for."""

    transfer: Transfer


class GiveLayer(NamedTuple):
    """Answer with the part of a layer that was asked for, all of which is here."""

    request: FetchLayer


Outcome: TypeAlias = TakeTable | TakeRecords | TakeLayer | GiveLayer | GossipMessage | None


class Gossip:
    """The gossiping part of one segment: decides what to tell, and what to take, from its state."""

    def __init__(
        self,
        segment: SegmentId,
        state: SegmentState,
        peers: tuple[SegmentId, ...],
        config: SegmentConfig,
        random: Random,
        trace: Tracer | None = None,
    ) -> None:
        self._segment = segment
        self._state = state
        self._peers = peers
        self._config = config
        self._random = random
        self._trace = trace
        self._next_at = 0.0
        self.transfer: Transfer | None = None
        """The layer that is on its way here."""
        self._giving_until = 0.0
        self._replied: VolumeEpoch | None = None
        self._seen_scl = state.scl
        self._moved_at = -inf
        """When the SCL was last seen to have moved, by records."""

    def gives_layers(self, now: float) -> bool:
        """Whether a peer is taking a layer, part by part, which must not go meanwhile."""
        return now < self._giving_until

    def seal_replied(self, epoch: VolumeEpoch) -> None:
        """The recovery of ``epoch`` has been told our floor."""
        self._replied = epoch

    def tick(self, now: float) -> SegmentId | None:
        """The peer to tell where we stand, with a `status`, if it is time for that."""
        if self.transfer is not None:
            self.transfer.pass_time(now)
            if not is_lacking(self.transfer.what, self._state.layers, self._state.scl):
                self.transfer.given_up = True
        if self._state.scl != self._seen_scl:
            self._seen_scl, self._moved_at = self._state.scl, now
        if now < self._next_at or not self._peers:
            return None
        self._next_at = now + self._config.gossip_interval_s * (0.5 + self._random.random())
        return self._peers[int(self._random.random() * len(self._peers))]

    def status(self, *, reply_wanted: bool) -> GossipStatus:
        """Where we stand. It is also what gossip of a lower epoch is answered with."""
        state = self._state
        return GossipStatus(
            state.epoch, self._segment, state.table,
            state.scl, state.vdl, state.announced_floor,
            state.layers.base_lsn, state.folded, reply_wanted,
            state.whole, state.heard.all,
        )  # fmt: skip

    def step(self, source: Address, message: GossipMessage, now: float) -> Outcome:
        """Take gossip of our own epoch; other epochs have been dealt with at admission.

        A message that is returned is for ``source``.
        """
        if source not in self._peers:
            return None
        if isinstance(message, FetchLayer):
            return self._give(message, now)
        table = message.table
        if table.epoch > self._state.table.epoch:
            if self._trace is not None:
                self._trace(self._segment, events.TableGossiped(source, table.epoch))
            return TakeTable(table)
        if table.epoch < self._state.table.epoch:
            return self.status(reply_wanted=False)
        if self._state.lacks_table:
            return None
        # Two segments with the same table: their LSNs mean the same records.
        match message:
            case GossipStatus():
                return self._answer_status(source, message, now)
            case GossipRecords():
                return self._take_records(source, message)
            case GossipLayer():
                self._take_part(source, message, now)
                return None

    # ---- records ---------------------------------------------------------------------------------

    def _answer_status(self, source: Address, status: GossipStatus, now: float) -> Outcome:
        state = self._state
        if status.whole and is_rolled_back(
            Mark(status.table.epoch, status.scl), state.heard.of(source)
        ):
            # Or an old message. Its sender knows which, and is to be told before it gets records.
            return self.status(reply_wanted=False)
        # Between a seal and its table the floor is still the former writer's, and the next
        # one may have readers below it.
        level = state.table.epoch == state.epoch
        state.announced(status.vdl, status.floor if level else 0)
        if self.transfer is not None and source == self.transfer.peer:
            self.transfer.hear(status)
        if self.transfer is None:
            what = self._wanted(status, now, level=level)
            if what is not None:
                timeout_s = self._config.hydration_timeout_s
                self.transfer = Transfer.begin(source, what, timeout_s, now)
                return TakeLayer(self.transfer)
        if state.folded <= status.scl < state.scl:
            run = state.index.runs_after(status.scl, self._config.gossip_bytes)
            return GossipRecords(state.epoch, self._segment, state.table, state.vdl, run)
        if status.scl != state.scl and status.reply_wanted:
            return self.status(reply_wanted=False)
        return None

    def _wanted(self, status: GossipStatus, now: float, *, level: bool) -> Wanted | None:
        """What to ask the sender of ``status`` for; ``level``: the table of our epoch is here.

        Between a seal and its table that is only what makes a witness of us again: the recovery may
        wait for it, and no table annuls what is in layers. But once it knows our floor, the next
        writer may have readers below a base that collects more.
        """
        state = self._state
        # Under load many are a little behind, and get what they lack as records.
        moves = now - self._moved_at < self._config.gossip_interval_s
        damaged_only = moves or not (level or state.lacks_records)
        what = wanted(state.layers, state.scl, status, damaged_only=damaged_only)
        bound = not level and self._replied == state.epoch
        if what is not None and bound and collects_more(what, state.layers):
            return None
        return what

    def _take_records(self, source: Address, message: GossipRecords) -> TakeRecords | None:
        state = self._state
        state.announced(message.vdl, 0)
        run = read_run(message.records) if message.records else None
        if run is None or run.last_lsn <= state.scl:
            return None
        # Without a floor: behind a table on its way to the disk it would be the former writer's.
        entry = RecordsEntry(state.vdl, 0, message.records)
        if self._trace is not None:
            lsns = (run.lsns[0], run.last_lsn)
            received = events.GossipReceived(source, message.epoch, message.table.epoch, lsns)
            self._trace(self._segment, received)
        return TakeRecords(entry, run)

    # ---- layers ----------------------------------------------------------------------------------

    def _give(self, request: FetchLayer, now: float) -> GiveLayer | GossipStatus:
        """Go on with a transfer, or tell what there is; and collect nothing until it ends.

        What is told of must still be here when it is asked for, or nobody would ever be served by
        a segment that collects much.
        """
        self._giving_until = now + self._config.hydration_timeout_s
        state = self._state
        if state.lacks_table or not can_give(state.layers, state.scl, request):
            return self.status(reply_wanted=False)
        return GiveLayer(request)

    def fetch(self, transfer: Transfer) -> FetchLayer:
        """What to ask the peer of ``transfer`` for, now."""
        start, end, base = transfer.what
        return FetchLayer(
            self._state.epoch, self._segment, start, end, base,
            transfer.next_page, transfer.next_lsn,
        )  # fmt: skip

    def ask_again(self, now: float) -> tuple[Address, FetchLayer] | None:
        """A part that has not come for a while, and whom to ask for it: it may have been lost."""
        if self.transfer is None or not self.transfer.asks(now):
            return None
        return self.transfer.peer, self.fetch(self.transfer)

    def _take_part(self, source: Address, message: GossipLayer, now: float) -> None:
        if self.transfer is None or not self.transfer.is_next(source, message):
            return
        if message.end_lsn > message.vdl or not self.transfer.take(message, now):
            return
        self._state.announced(message.vdl, 0)
        if self.transfer.complete and self._trace is not None:
            received = events.LayerReceived(
                source, message.epoch, message.table.epoch, *self.transfer.what
            )
            self._trace(self._segment, received)

    def transferred(self) -> None:
        """The layer that was on its way is live, or was given up."""
        self.transfer = None
        self._seen_scl = self._state.scl  # so the next one need not wait
