"""The log's way to one segment: a cursor, a window, and patience (protocol §4, steps 2 and 5).

A stream sends as soon as there is anything to send, and everything that waits goes in one message;
while its window is full more gathers, so batches grow with the load. When the segment stays silent
the stream falls back to the SCL it last heard of and tries again, ever more slowly. What has left
the outgoing log by then is for gossip to bring.
"""

from __future__ import annotations

from collections import deque

import attrs

from aurora.config import EngineConfig
from aurora.outgoing_log import OutgoingLog
from segments.protocol.heard import NO_MARK, Mark, Scls
from segments.protocol.ids import Lsn, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import InstallTable, WriteAck, WriteBatch
from segments.protocol.run import NO_RECORDS
from segments.protocol.space import NO_LIMIT
from segments.protocol.truncation import TruncationTable

_SMOOTHING = 0.2
_PATIENCE = 4.0
"""A batch counts as lost after this many times the usual time to its acknowledgement."""
_REMINDER = 16.0
"""Watermarks are told again after so many heartbeat intervals, though they were heard once."""


@attrs.frozen
class Announcement:
    """What every batch tells besides its records."""

    epoch: VolumeEpoch
    vdl: Lsn
    floor: Lsn
    table: TruncationTable
    settled: bool
    """Whether every member of the volume has the table."""


@attrs.define
class _Batch:
    seq: int
    last_lsn: Lsn
    sent_at: float


class SegmentStream:
    """One segment, as its writer sees it."""

    def __init__(
        self,
        segment: SegmentId,
        pg_id: PgId,
        log: OutgoingLog,
        scls: Scls,
        config: EngineConfig,
        *,
        installed: bool,
        heard: Mark = NO_MARK,
    ) -> None:
        """``scls`` is what all members of the group have told in this epoch, as it changes.

        ``heard`` is what the segment's peers had heard of it before.
        """
        self.segment = segment
        self.pg_id = pg_id
        self.acked_lsn: Lsn = 0
        """The highest SCL it has reported in this epoch."""
        self.sent_lsn: Lsn = 0
        """Everything of the log up to here has been sent, or is left to gossip."""
        self.installed = installed
        """Whether the segment has this epoch's truncation table."""
        self.latency_s: float | None = None
        """Moving average from sending a batch to its acknowledgement."""
        self.resends = 0
        self.silent_since_s: float | None = None
        """Since when it has owed an answer; None if it owes none, or has just given one."""
        self.behind_since_s: float | None = None
        """Since when it has lacked what a write quorum has."""
        self.space = NO_LIMIT
        """What it has said of its space, in this epoch."""
        self._log = log
        self._scls = scls
        self._heard_before = heard
        self._config = config
        self._in_flight: deque[_Batch] = deque()
        self._seq = 0
        self._announced: tuple[Lsn, Lsn, bool] = (0, 0, False)
        self._announced_at = -1.0
        self._heard: tuple[Lsn, Lsn, bool] = (0, 0, False)  # what it has surely heard of those
        self._silences = 0
        self._install_at: float | None = None

    @property
    def in_flight(self) -> int:
        """Batches without an acknowledgement yet."""
        return len(self._in_flight)

    @property
    def behind(self) -> bool:
        """Whether what it lacks next has left the outgoing log, so that only gossip can help."""
        return self.acked_lsn < self._log.base_lsn

    @property
    def lacks(self) -> bool:
        """Whether there is something that has not been sent to it."""
        return self.sent_lsn < self._log.tail_lsn or not self.installed

    # ---- sending ---------------------------------------------------------------------------------

    def next_message(
        self, announcement: Announcement, now: float
    ) -> WriteBatch | InstallTable | None:
        """What to send now, if anything. Call again until it returns None."""
        if not self.installed:
            return self._install(announcement, now)
        window = 1 if self._silences else self._config.batches_in_flight
        if self.sent_lsn >= self._log.tail_lsn or len(self._in_flight) >= window or self.behind:
            return None
        run = self._log.run_after(max(self.sent_lsn, self._log.base_lsn), self._config.batch_bytes)
        self.sent_lsn = run.last_lsn
        self._in_flight.append(_Batch(self._seq + 1, run.last_lsn, now))
        return self._batch(announcement, run.records, now)

    def heartbeat(self, announcement: Announcement, now: float) -> WriteBatch | None:
        """An empty batch, if the segment is not known to have heard of the watermarks for a while.

        It also asks for the SCL of a segment that gossip is bringing up to date, and for the space
        of one that was short of it. And it reminds: a segment that has restarted since has
        forgotten what no record has told it, and maybe all of its group have.
        """
        silent_s = now - self._announced_at
        due = silent_s >= self._config.heartbeat_interval_s
        news = self._heard != _watermarks(announcement)
        news |= silent_s >= _REMINDER * self._config.heartbeat_interval_s
        waiting = self.acked_lsn < self._log.tail_lsn and not self._in_flight
        waiting |= self.space.short
        if not (self.installed and due and (news or waiting)):
            return None
        return self.announce(announcement, now)

    def announce(self, announcement: Announcement, now: float) -> WriteBatch:
        """An empty batch: the segment hears of the watermarks."""
        return self._batch(announcement, NO_RECORDS, now)

    def _batch(self, announcement: Announcement, records: bytes, now: float) -> WriteBatch:
        self._seq += 1
        self._announced = _watermarks(announcement)
        self._announced_at = now
        return WriteBatch(
            announcement.epoch, self._seq, announcement.vdl, announcement.floor,
            self._log.tail_lsn, announcement.settled, records, dict(self._scls),
        )  # fmt: skip

    def _install(self, announcement: Announcement, now: float) -> InstallTable | None:
        if self._install_at is not None and now < self._install_at:
            return None
        self._install_at = now + self._timeout_s()
        self._silences += 1
        return InstallTable(announcement.epoch, 0, announcement.table, self._heard_before)

    # ---- hearing ---------------------------------------------------------------------------------

    def on_ack(self, ack: WriteAck, now: float) -> None:
        """The segment is alive, and holds everything up to the SCL it names."""
        self._silences = 0
        self.silent_since_s = None
        if ack.scl > self.acked_lsn:
            self.acked_lsn = ack.scl
        if ack.seq == self._seq:
            self._heard = self._announced
        in_flight = self._in_flight
        while in_flight and in_flight[0].last_lsn <= self.acked_lsn:
            batch = in_flight.popleft()
            if batch.seq == ack.seq:
                self._observe(now - batch.sent_at)
        if self.sent_lsn < self.acked_lsn:
            self.sent_lsn = self.acked_lsn

    def on_installed(self, scl: Lsn) -> None:
        """The segment has adopted the table: what it holds now counts."""
        self._silences = 0
        self.silent_since_s = None
        self.installed = True
        self._install_at = None
        self.acked_lsn = self.sent_lsn = max(scl, self.acked_lsn)

    def on_need_table(self) -> None:
        """The segment was away when the table was installed, or lost it to damage."""
        if self.installed:
            self.installed = False
            self._rewind()

    def note_delay(self, pgcl: Lsn, now: float) -> None:
        """Note since when it has been silent, or behind what a write quorum has."""
        owing = not self.installed or self.acked_lsn < self._log.tail_lsn
        behind = not self.installed or self.acked_lsn < pgcl
        self.silent_since_s = _began(self.silent_since_s, now) if owing else None
        self.behind_since_s = _began(self.behind_since_s, now) if behind else None

    def on_timer(self, now: float) -> bool:
        """Whether patience has run out, so that `next_message` has something to send again."""
        if not self.installed:
            return self._install_at is None or now >= self._install_at
        if not self._in_flight or now < self._in_flight[0].sent_at + self._timeout_s():
            return False
        self._silences += 1
        self.resends += 1
        self._rewind()
        return True

    # ---- details ---------------------------------------------------------------------------------

    def _rewind(self) -> None:
        self._in_flight.clear()
        self.sent_lsn = self.acked_lsn

    def _timeout_s(self) -> float:
        config = self._config
        usual = _PATIENCE * (self.latency_s or 0.0)
        doubled = max(config.resend_min_s, usual) * 2.0 ** min(self._silences, 16)
        return min(config.resend_max_s, doubled)

    def _observe(self, latency_s: float) -> None:
        known = self.latency_s
        self.latency_s = latency_s if known is None else known + _SMOOTHING * (latency_s - known)


def _watermarks(announcement: Announcement) -> tuple[Lsn, Lsn, bool]:
    return announcement.vdl, announcement.floor, announcement.settled


def _began(since_s: float | None, now: float) -> float:
    return now if since_s is None else since_s
