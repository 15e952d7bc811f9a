"""Gossip: segments of a protection group bring each other up to date (2017 §3.3; protocol §8).

At jittered intervals a segment tells one peer where it stands. The one that is ahead, in epoch or
table first and only then in records, sends what the other lacks. A receiver judges records by its
own adopted table, and takes none from a lower epoch; so what a recovery annulled never comes back.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import attrs

from segments.config import SegmentConfig
from segments.protocol import codec
from segments.protocol.ids import Address, Lsn, PageId, SegmentId
from segments.protocol.messages import (
    FetchPages,
    GossipPages,
    GossipRecords,
    GossipStatus,
    Message,
    PageImage,
)
from segments.protocol.record import PAGE_SIZE
from segments.wal import CheckpointEntry, ImagesEntry, RecordsEntry

if TYPE_CHECKING:
    from segments.core import SegmentCore


@attrs.define
class _Hydration:
    """Pages on their way from a peer that has already collected the records we lack."""

    peer: Address
    base_lsn: Lsn
    deadline: float
    pages: list[PageImage] = attrs.field(factory=list)
    next_page: PageId = 0


class Gossip:
    """The gossiping part of one segment core."""

    def __init__(
        self, core: SegmentCore, peers: tuple[SegmentId, ...], config: SegmentConfig, random: Random
    ) -> None:
        self._core = core
        self._peers = peers
        self._config = config
        self._random = random
        self._next_at = 0.0
        self._hydration: _Hydration | None = None
        self._sending_until = 0.0

    def sends_pages(self, now: float) -> bool:
        """Whether a peer is taking page images, part by part, that must stay of one moment."""
        return now < self._sending_until

    def tick(self, now: float) -> None:
        """Tell a peer where we stand, if it is time."""
        if self._hydration is not None and now > self._hydration.deadline:
            self._hydration = None
        if now < self._next_at or not self._peers:
            return
        self._next_at = now + self._config.gossip_interval_s * (0.5 + self._random.random())
        peer = self._peers[int(self._random.random() * len(self._peers))]
        self._send_status(peer, reply_wanted=True)

    def send_table(self, peer: Address) -> None:
        """Answer gossip of a lower epoch: the peer learns the higher one, and its table."""
        self._send_status(peer, reply_wanted=False)

    def step(self, source: Address, message: Message, now: float) -> None:
        """Take gossip of our own epoch; other epochs have been dealt with at admission."""
        if source not in self._peers:
            return
        match message:
            case FetchPages():
                self._send_next_pages(source, message, now)
            case GossipStatus() | GossipRecords() | GossipPages():
                table = message.table
                if table.epoch > self._core.state.table.epoch:
                    self._core.note("table_gossiped", peer=source, epoch=table.epoch)
                    self._core.take_over(message.epoch, table, None)
                elif table.epoch < self._core.state.table.epoch:
                    self.send_table(source)
                else:
                    self._step_level(source, message, now)

    def _step_level(
        self, source: Address, message: GossipStatus | GossipRecords | GossipPages, now: float
    ) -> None:
        """Gossip between two segments with the same table: their LSNs mean the same records."""
        match message:
            case GossipStatus():
                # Between a seal and its table the floor is still the former writer's, and the next
                # one may have readers below it.
                level = self._core.state.table.epoch == self._core.state.epoch
                self._core.state.announced(message.vdl, message.floor if level else 0)
                self._answer_status(source, message)
            case GossipRecords():
                self._take_records(source, message)
            case GossipPages():
                self._take_pages(source, message, now)

    # ---- records ---------------------------------------------------------------------------------

    def _answer_status(self, source: Address, status: GossipStatus) -> None:
        state = self._core.state
        if status.scl < state.index.base_lsn:
            self._send_pages(source, 0)
        elif status.scl < state.scl:
            records = state.index.records_after(status.scl, self._config.gossip_bytes)
            run = codec.encode_records(records)
            message = GossipRecords(state.epoch, self._core.segment, state.table, state.vdl, run)
            self._core.send(source, message)
        elif status.scl > state.scl and status.reply_wanted:
            self._send_status(source, reply_wanted=False)

    def _take_records(self, source: Address, message: GossipRecords) -> None:
        state = self._core.state
        state.announced(message.vdl, 0)
        records = codec.decode_records(message.records)
        if not records or records[-1].lsn <= state.scl:
            return
        # Without a floor: behind a table on its way to the disk it would be the former writer's.
        entry = RecordsEntry(state.vdl, 0, message.records)
        self._core.note(
            "gossip_received", peer=source, epoch=message.epoch, table_epoch=message.table.epoch,
            lsns=(records[0].lsn, records[-1].lsn),
        )  # fmt: skip

        before = state.scl

        def ask_for_more() -> None:
            if state.scl > before:  # else the same would come again
                self._send_status(source, reply_wanted=False)

        self._core.queue_records(entry, records, ack=None, answer=ask_for_more)

    def _send_status(self, peer: Address, *, reply_wanted: bool) -> None:
        state = self._core.state
        status = GossipStatus(
            state.epoch, self._core.segment, state.table,
            state.scl, state.vdl, state.announced_floor, reply_wanted,
        )  # fmt: skip
        self._core.send(peer, status)

    # ---- pages -----------------------------------------------------------------------------------

    def _send_next_pages(self, peer: Address, request: FetchPages, now: float) -> None:
        """Go on with a transfer, and collect nothing until it ends; or start over if we have."""
        self._sending_until = now + self._config.hydration_timeout_s
        if request.base_lsn == self._core.state.index.base_lsn:
            self._send_pages(peer, request.from_page)
        else:
            self._send_pages(peer, 0)

    def _send_pages(self, peer: Address, from_page: PageId) -> None:
        state = self._core.state
        limit = max(1, self._config.gossip_bytes // PAGE_SIZE)
        pages = state.materializer.base_images_from(from_page, limit + 1)
        next_page = pages[limit].page_id if len(pages) > limit else 0
        message = GossipPages(
            state.epoch, self._core.segment, state.table, state.vdl,
            state.index.base_lsn, from_page, next_page, tuple(pages[:limit]),
        )  # fmt: skip
        self._core.send(peer, message)

    def _take_pages(self, source: Address, message: GossipPages, now: float) -> None:
        state = self._core.state
        if message.base_lsn <= state.scl or message.base_lsn > message.vdl:
            return
        if message.base_lsn <= self._core.awaited_base_lsn:
            return  # they are on their way to the disk, however long that takes
        current = self._hydration
        if current is not None and current.peer != source:
            return
        if current is None or current.base_lsn != message.base_lsn:
            if message.from_page:
                return
            current = self._hydration = _Hydration(source, message.base_lsn, 0.0)
        if current.next_page == message.from_page:
            current.deadline = now + self._config.hydration_timeout_s
            current.pages.extend(message.pages)
            current.next_page = message.next_page
        elif message.from_page:
            return
        if current.next_page:
            # Also after a first part that comes again: then the answer to the last request is lost.
            request = FetchPages(
                state.epoch, self._core.segment, current.base_lsn, current.next_page
            )
            self._core.send(source, request)
        else:
            state.announced(message.vdl, 0)
            self._hydration = None
            pages = len(current.pages)
            self._core.note(
                "pages_received", peer=source, epoch=message.epoch,
                table_epoch=message.table.epoch, base_lsn=message.base_lsn, pages=pages,
            )  # fmt: skip
            self._install(current)

    def _install(self, hydration: _Hydration) -> None:
        """Queue the gathered pages: a checkpoint within the log."""
        core, state, base_lsn = self._core, self._core.state, hydration.base_lsn
        pages, per_part = hydration.pages, max(1, self._config.gossip_bytes // PAGE_SIZE)
        parts = [tuple(pages[at : at + per_part]) for at in range(0, len(pages), per_part)]
        head = CheckpointEntry(state.epoch, state.table, state.vdl, base_lsn, base_lsn, len(parts))
        core.queue_checkpoint([head, *(ImagesEntry(base_lsn, part) for part in parts)])
