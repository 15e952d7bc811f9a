"""Gossip: segments of a protection group bring each other up to date (2017 §3.3; protocol §8).

At jittered intervals a segment tells one peer where it stands. The one that is ahead, in epoch or
table first and only then in records, sends what the other lacks. A receiver judges records by its
own adopted table, and takes none from a lower epoch; so what a recovery annulled never comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple, TypeAlias

import attrs

from segments.config import SegmentConfig
from segments.protocol import events
from segments.protocol.events import Tracer
from segments.protocol.heard import Mark, is_rolled_back
from segments.protocol.ids import Address, Lsn, PageId, SegmentId
from segments.protocol.messages import (
    FetchPages,
    GossipPages,
    GossipRecords,
    GossipStatus,
    PageImage,
)
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import encode_run, read_records
from segments.protocol.truncation import TruncationTable
from segments.state import SegmentState
from segments.wal import CheckpointEntry, ImagesEntry, RecordsEntry

GossipMessage: TypeAlias = GossipStatus | GossipRecords | GossipPages | FetchPages

_ATTEMPTS: Final = 16
"""How often a part of a transfer of pages is asked for until the transfer is given up."""


# ---- what comes of a message, besides an answer to its sender ------------------------------------


class TakeTable(NamedTuple):
    """Adopt this table: it is of a higher epoch than ours."""

    table: TruncationTable


class TakeRecords(NamedTuple):
    """Make these records durable, then ask for more."""

    entry: RecordsEntry
    records: list[RedoRecord]


class TakePages(NamedTuple):
    """Make these page images durable: a checkpoint within the log, in entries."""

    head: CheckpointEntry
    parts: Sequence[ImagesEntry]


Outcome: TypeAlias = TakeTable | TakeRecords | TakePages | GossipMessage | None


@attrs.define
class _Hydration:
    """Pages on their way from a peer that has already collected the records we lack."""

    peer: Address
    base_lsn: Lsn
    deadline: float
    ask_at: float = 0.0
    """When to ask for the next part once more."""
    pages: list[PageImage] = attrs.field(factory=list)
    next_page: PageId = 0


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
        self._hydration: _Hydration | None = None
        self._sending_until = 0.0

    def sends_pages(self, now: float) -> bool:
        """Whether a peer is taking page images, part by part, that must stay of one moment."""
        return now < self._sending_until

    def tick(self, now: float) -> SegmentId | None:
        """The peer to tell where we stand, with a `status`, if it is time for that."""
        if self._hydration is not None and now > self._hydration.deadline:
            self._hydration = None
        if now < self._next_at or not self._peers:
            return None
        self._next_at = now + self._config.gossip_interval_s * (0.5 + self._random.random())
        return self._peers[int(self._random.random() * len(self._peers))]

    def status(self, *, reply_wanted: bool) -> GossipStatus:
        """Where we stand. It is also what gossip of a lower epoch is answered with."""
        state = self._state
        return GossipStatus(
            state.epoch, self._segment, state.table,
            state.scl, state.vdl, state.announced_floor, reply_wanted,
            state.whole, state.heard.all,
        )  # fmt: skip

    def step(
        self, source: Address, message: GossipMessage, now: float, awaited_base_lsn: Lsn
    ) -> Outcome:
        """Take gossip of our own epoch; other epochs have been dealt with at admission.

        A message that is returned is for ``source``. ``awaited_base_lsn`` is the highest base of
        the page images that wait for the disk already; 0 if none do.
        """
        if source not in self._peers:
            return None
        if isinstance(message, FetchPages):
            return self._next_pages(message, now)
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
                return self._answer_status(source, message)
            case GossipRecords():
                return self._take_records(source, message)
            case GossipPages():
                return self._take_pages(source, message, now, awaited_base_lsn)

    # ---- records ---------------------------------------------------------------------------------

    def _answer_status(self, source: Address, status: GossipStatus) -> GossipMessage | None:
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
        if status.scl < state.index.base_lsn:
            return self._pages(0)
        if status.scl < state.scl:
            records = state.index.records_after(status.scl, self._config.gossip_bytes)
            run = encode_run(records)
            return GossipRecords(state.epoch, self._segment, state.table, state.vdl, run)
        if status.scl > state.scl and status.reply_wanted:
            return self.status(reply_wanted=False)
        return None

    def _take_records(self, source: Address, message: GossipRecords) -> TakeRecords | None:
        state = self._state
        state.announced(message.vdl, 0)
        records = read_records(message.records)
        if not records or records[-1].lsn <= state.scl:
            return None
        # Without a floor: behind a table on its way to the disk it would be the former writer's.
        entry = RecordsEntry(state.vdl, 0, message.records)
        if self._trace is not None:
            lsns = (records[0].lsn, records[-1].lsn)
            received = events.GossipReceived(source, message.epoch, message.table.epoch, lsns)
            self._trace(self._segment, received)
        return TakeRecords(entry, records)

    # ---- pages -----------------------------------------------------------------------------------

    def _next_pages(self, request: FetchPages, now: float) -> GossipPages:
        """Go on with a transfer, and collect nothing until it ends; or start over if we have."""
        self._sending_until = now + self._config.hydration_timeout_s
        moved = request.base_lsn != self._state.index.base_lsn
        return self._pages(0 if moved else request.from_page)

    def ask_again(self, now: float) -> tuple[Address, FetchPages] | None:
        """A part that has not come for a while, and whom to ask for it: it may have been lost."""
        current = self._hydration
        if current is None or now < current.ask_at:
            return None
        current.ask_at = now + self._config.hydration_timeout_s / _ATTEMPTS
        return current.peer, self._next_part(current)

    def _next_part(self, current: _Hydration) -> FetchPages:
        return FetchPages(self._state.epoch, self._segment, current.base_lsn, current.next_page)

    def _pages(self, from_page: PageId) -> GossipPages:
        state = self._state
        limit = max(1, self._config.gossip_bytes // PAGE_SIZE)
        pages = state.materializer.base_images_from(from_page, limit + 1)
        next_page = pages[limit].page_id if len(pages) > limit else 0
        return GossipPages(
            state.epoch, self._segment, state.table, state.vdl,
            state.index.base_lsn, from_page, next_page, tuple(pages[:limit]),
        )  # fmt: skip

    def _take_pages(
        self, source: Address, message: GossipPages, now: float, awaited_base_lsn: Lsn
    ) -> TakePages | FetchPages | None:
        state = self._state
        if message.base_lsn <= state.scl or message.base_lsn > message.vdl:
            return None
        if message.base_lsn <= awaited_base_lsn:
            return None  # they are on their way to the disk, however long that takes
        current = self._hydration
        if current is not None and current.peer != source:
            return None
        if current is None or current.base_lsn != message.base_lsn:
            if message.from_page:
                return None
            current = self._hydration = _Hydration(source, message.base_lsn, 0.0)
        if current.next_page == message.from_page:
            current.deadline = now + self._config.hydration_timeout_s
            current.ask_at = now + self._config.hydration_timeout_s / _ATTEMPTS
            current.pages.extend(message.pages)
            current.next_page = message.next_page
        elif message.from_page:
            return None
        if current.next_page:
            # Also after a first part that comes again: then the answer to the last request is lost.
            return self._next_part(current)
        state.announced(message.vdl, 0)
        self._hydration = None
        if self._trace is not None:
            received = events.PagesReceived(
                source, message.epoch, message.table.epoch, message.base_lsn, len(current.pages)
            )
            self._trace(self._segment, received)
        return self._checkpoint(current.base_lsn, current.pages)

    def _checkpoint(self, base_lsn: Lsn, pages: Sequence[PageImage]) -> TakePages:
        state, per_part = self._state, max(1, self._config.gossip_bytes // PAGE_SIZE)
        parts = [
            ImagesEntry(base_lsn, tuple(pages[at : at + per_part]))
            for at in range(0, len(pages), per_part)
        ]
        head = CheckpointEntry(state.epoch, state.table, state.vdl, base_lsn, base_lsn, len(parts))
        return TakePages(head, parts)
