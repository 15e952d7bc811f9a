"""The redo of one protection group on its way to the segments, encoded once.

Six streams read the same log at their own pace. What every segment has acknowledged leaves it;
under pressure, so does what a write quorum has, and a segment that is further behind is left to
gossip.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from segments.protocol import codec
from segments.protocol.ids import Lsn


class Run(NamedTuple):
    """Consecutive records of the group's chain, ready to be sent."""

    records: bytes
    first_lsn: Lsn
    last_lsn: Lsn


class OutgoingLog:
    """Encoded records with ``base_lsn < lsn <= tail_lsn``, ascending."""

    __slots__ = ("_encoded", "_lsns", "_memo", "_start", "base_lsn", "size_bytes", "tail_lsn")

    def __init__(self, base_lsn: Lsn) -> None:
        self.base_lsn = base_lsn
        """What is at or below this is no longer here."""
        self.tail_lsn = base_lsn
        """The newest record of the group."""
        self.size_bytes = 0
        """Encoded bytes held."""
        self._lsns: list[Lsn] = []
        self._encoded: list[bytes] = []
        self._start = 0  # entries before it have been released, and are cut off in large pieces
        self._memo: tuple[Lsn, int, Lsn, Run] | None = None

    def __len__(self) -> int:
        return len(self._lsns) - self._start

    def append(self, lsn: Lsn, encoded: bytes) -> None:
        """Add the group's next record."""
        self._lsns.append(lsn)
        self._encoded.append(encoded)
        self.tail_lsn = lsn
        self.size_bytes += len(encoded)

    def run_after(self, lsn: Lsn, limit_bytes: int) -> Run:
        """The records after ``lsn`` (exclusive), which is in ``[base_lsn, tail_lsn)``.

        At most ``limit_bytes``, but at least one record. The six streams mostly ask the same.
        """
        memo = self._memo
        if memo is not None and memo[:3] == (lsn, limit_bytes, self.tail_lsn):
            return memo[3]
        assert self.base_lsn <= lsn < self.tail_lsn, (self.base_lsn, lsn, self.tail_lsn)
        start = bisect_right(self._lsns, lsn, self._start)
        end, size = start, 0
        for encoded in self._encoded[start : start + limit_bytes]:
            size += len(encoded)
            if size > limit_bytes and end > start:
                break
            end += 1
        run = Run(
            codec.join_records(self._encoded[start:end]), self._lsns[start], self._lsns[end - 1]
        )
        self._memo = (lsn, limit_bytes, self.tail_lsn, run)
        return run

    def release(self, through_lsn: Lsn) -> None:
        """Forget the records at or below ``through_lsn``."""
        end = bisect_right(self._lsns, through_lsn, self._start)
        if end == self._start:
            return
        self.base_lsn = self._lsns[end - 1]
        for at in range(self._start, end):
            self.size_bytes -= len(self._encoded[at])
            self._encoded[at] = b""
        self._start = end
        self._memo = None
        if end * 2 > len(self._lsns):
            del self._lsns[:end], self._encoded[:end]
            self._start = 0
