"""The redo of one protection group on its way to the segments, encoded once.

Six streams read the same log at their own pace. What every segment has acknowledged leaves it;
under pressure, so does what a write quorum has, and a segment that is further behind is left to
gossip.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from segments.protocol.ids import Lsn
from segments.protocol.record import RECORD_OVERHEAD_BYTES, RedoRecord
from segments.protocol.run import Rows, encode_rows, join_rows, stored_bytes

_CUT_BYTES = 64 << 10
"""What has been released is cut off in pieces of this size, or half of all if that is more."""


class OutgoingRun(NamedTuple):
    """Consecutive records of the group's chain, ready to be sent."""

    records: bytes
    last_lsn: Lsn


class OutgoingLog:
    """Encoded records with ``base_lsn < lsn <= tail_lsn``, ascending."""

    __slots__ = (
        "_ends",
        "_fresh",
        "_lsns",
        "_memo",
        "_payloads",
        "_rows",
        "_start",
        "base_lsn",
        "size_bytes",
        "tail_lsn",
    )

    def __init__(self, base_lsn: Lsn) -> None:
        self.base_lsn = base_lsn
        """What is at or below this is no longer here."""
        self.tail_lsn = base_lsn
        """The newest record of the group."""
        self.size_bytes = 0
        """Bytes held, as of encoded records."""
        self._fresh: list[RedoRecord] = []
        """What is not encoded yet: all that gathers until somebody sends is encoded at once."""
        # All of one length, but for the first place: that of what the first record follows.
        self._lsns = array("Q", [base_lsn])
        self._ends = array("Q", [0])  # bytes of payload up to here
        self._rows = bytearray()
        self._payloads = bytearray()
        self._start = 0  # records that have been released, and are not cut off yet
        self._memo: tuple[Lsn, int, Lsn, OutgoingRun] | None = None

    @classmethod
    def holding(cls, records: Sequence[RedoRecord], tail_lsn: Lsn) -> OutgoingLog:
        """With what is to be sent again, or else empty, behind the newest record of the group."""
        log = cls(records[0].prev_segment_lsn if records else tail_lsn)
        if records:
            log.append(records)
        return log

    def __len__(self) -> int:
        return len(self._lsns) - 1 - self._start + len(self._fresh)

    def append(self, records: Sequence[RedoRecord]) -> None:
        """Add the group's next records, one at least."""
        self._fresh += records
        for record in records:
            self.size_bytes += RECORD_OVERHEAD_BYTES + stored_bytes(record)
        self.tail_lsn = records[-1][0]

    def _encode(self) -> None:
        records = self._fresh
        if not records:
            return
        rows, payloads = encode_rows(records)
        self._rows += rows
        self._payloads += payloads
        self._lsns.extend([record[0] for record in records])
        ends = accumulate(map(stored_bytes, records), initial=self._ends[-1])
        next(ends)
        self._ends.extend(ends)
        self._fresh = []

    def run_after(self, lsn: Lsn, limit_bytes: int) -> OutgoingRun:
        """The records after ``lsn`` (exclusive), which is in ``[base_lsn, tail_lsn)``.

        At most ``limit_bytes``, but at least one record. The six streams mostly ask the same.
        """
        memo = self._memo
        if memo is not None and memo[:3] == (lsn, limit_bytes, self.tail_lsn):
            return memo[3]
        assert self.base_lsn <= lsn < self.tail_lsn, (self.base_lsn, lsn, self.tail_lsn)
        self._encode()
        lsns = self._lsns
        start = bisect_right(lsns, lsn, self._start) - 1
        limit = self._size_at(start) + limit_bytes
        end = bisect_right(range(len(lsns)), limit, start + 1, key=self._size_at) - 1
        run = self._run(start, max(end, start + 1))
        self._memo = (lsn, limit_bytes, self.tail_lsn, run)
        return run

    def _run(self, start: int, end: int) -> OutgoingRun:
        rows = bytes(self._rows[start * RECORD_OVERHEAD_BYTES : end * RECORD_OVERHEAD_BYTES])
        cut = self._ends[0]
        payloads = bytes(self._payloads[self._ends[start] - cut : self._ends[end] - cut])
        prev_lsn, last_lsn = self._lsns[start], self._lsns[end]
        records = join_rows(prev_lsn, last_lsn, [Rows(rows, payloads)])
        return OutgoingRun(records, last_lsn)

    def _size_at(self, place: int) -> int:
        """Encoded bytes up to a place, from where the log began."""
        return place * RECORD_OVERHEAD_BYTES + self._ends[place]

    def release(self, through_lsn: Lsn) -> None:
        """Forget the records at or below ``through_lsn``."""
        if through_lsn <= self.base_lsn:
            return
        self._encode()
        start = bisect_right(self._lsns, through_lsn, self._start) - 1
        if start <= self._start:
            return
        self.size_bytes -= self._size_at(start) - self._size_at(self._start)
        self._start = start
        self.base_lsn = self._lsns[start]
        self._memo = None
        size = self._size_at(start) - self._size_at(0)
        if size >= _CUT_BYTES and 2 * start > len(self._lsns):
            self._cut_off(start)

    def _cut_off(self, start: int) -> None:
        del self._rows[: start * RECORD_OVERHEAD_BYTES]
        del self._payloads[: self._ends[start] - self._ends[0]]
        del self._lsns[:start], self._ends[:start]
        self._start = 0
