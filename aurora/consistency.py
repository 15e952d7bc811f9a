"""From what each protection group holds to what the volume holds: VCL and VDL (2017 §4.1).

Theory of operation. Records are allocated in LSN order, so those not yet complete form one queue.
Its front is the smallest outstanding record of all protection groups; the VCL is the record before
it, or the last allocated one when the queue is empty. Hence an idle group holds nothing up (the
minimum over PGCLs would), and a fast group hides no gap in another (the maximum would).

What is queued are not records but runs: consecutive LSNs of one MTR in one protection group. Each
run enters and leaves once, so the cost per record is constant however many groups there are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from segments.protocol.errors import InvalidConfig
from segments.protocol.ids import Lsn, PgId
from segments.protocol.record import RedoRecord

DEFAULT_HISTORY_RUNS: Final = 1_024
"""Runs per protection group kept to answer for older read points."""


_Run: TypeAlias = tuple[Lsn, Lsn, PgId, bool]
"""First and last LSN (inclusive) of a run, its protection group, and whether it ends its MTR. A
plain tuple, as one is made for nearly every write."""


class _History:
    """The durable LSNs of one protection group, as ascending runs; the oldest are forgotten."""

    __slots__ = ("_first_lsns", "_last_lsns", "_limit", "tail")

    def __init__(self, tail: Lsn, limit: int) -> None:
        self.tail = tail
        self._first_lsns = [tail]
        self._last_lsns = [tail]
        self._limit = limit

    def append(self, first_lsn: Lsn, last_lsn: Lsn) -> None:
        if first_lsn == self.tail + 1:
            self._last_lsns[-1] = last_lsn
        else:
            self._first_lsns.append(first_lsn)
            self._last_lsns.append(last_lsn)
            if len(self._first_lsns) > 2 * self._limit:
                del self._first_lsns[: -self._limit], self._last_lsns[: -self._limit]
        self.tail = last_lsn

    def newest_at(self, read_point: Lsn) -> Lsn:
        if read_point >= self.tail:
            return self.tail
        index = bisect_right(self._first_lsns, read_point) - 1
        return min(read_point, self._last_lsns[index]) if index >= 0 else read_point


class VolumeConsistency:
    """The volume's watermarks in one writer incarnation; both only move forward.

    ``vcl``  every record up to it (inclusive) is at or below its own group's PGCL
    ``vdl``  the highest CPL at or below the VCL: what readers may see and commits wait for
    """

    __slots__ = (
        "_allocated_tails",
        "_complete_lsn",
        "_histories",
        "_last_lsn",
        "_outstanding",
        "_pgcls",
        "_unfinished",
        "_vdl",
    )

    def __init__(
        self, vdl: Lsn, tails: Mapping[PgId, Lsn], history_runs: int = DEFAULT_HISTORY_RUNS
    ) -> None:
        """Open at ``vdl``, where a recovery has left the volume without any record above it.

        ``tails`` gives the last LSN of each protection group, 0 for none.
        """
        if not tails or max(tails.values()) != vdl or min(tails.values()) < 0:
            raise InvalidConfig(f"vdl is {vdl}: expected the highest of the tails {dict(tails)!r}")
        if history_runs < 1:
            raise InvalidConfig(f"history_runs is {history_runs!r}: expected >= 1")
        self._vdl = vdl
        self._complete_lsn = vdl
        self._last_lsn = vdl
        self._pgcls: dict[PgId, Lsn] = dict.fromkeys(tails, 0)
        self._allocated_tails: dict[PgId, Lsn] = dict(tails)
        self._histories = {pg_id: _History(tail, history_runs) for pg_id, tail in tails.items()}
        self._outstanding: deque[_Run] = deque()
        # Complete runs of an MTR that is not complete yet: above the VDL until its CPL is.
        self._unfinished: list[_Run] = []

    @property
    def vdl(self) -> Lsn:
        """Volume durable LSN."""
        return self._vdl

    @property
    def vcl(self) -> Lsn:
        """Volume complete LSN."""
        if not self._outstanding:
            return self._last_lsn
        first_lsn, _, pg_id, _ = self._outstanding[0]
        pgcl = self._pgcls[pg_id]
        return pgcl if pgcl >= first_lsn else self._complete_lsn

    @property
    def first_outstanding(self) -> tuple[Lsn, PgId] | None:
        """The first record that may be missing at a write quorum, and its group; None if none."""
        if not self._outstanding:
            return None
        first_lsn, _, pg_id, _ = self._outstanding[0]
        return first_lsn, pg_id

    def allocated(self, records: Sequence[RedoRecord], pg_ids: Sequence[PgId]) -> None:
        """Take note of the records of an MTR, or of a part of one that follows the part before.

        In order, with the protection group of each.
        """
        first, last = records[0], records[-1]
        assert first.prev_volume_lsn == self._last_lsn < first.lsn, (first, self._last_lsn)
        assert last.lsn - first.lsn + 1 == len(records) == len(pg_ids), (records, pg_ids)
        start_lsn = lsn = first.lsn
        run_pg = pg_ids[0]
        for pg_id in pg_ids:
            if pg_id != run_pg:
                self._outstanding.append((start_lsn, lsn - 1, run_pg, False))
                self._allocated_tails[run_pg] = lsn - 1
                start_lsn, run_pg = lsn, pg_id
            lsn += 1
        self._outstanding.append((start_lsn, last.lsn, run_pg, last.is_cpl))
        self._last_lsn = self._allocated_tails[run_pg] = last.lsn

    def advance(self, pg_id: PgId, pgcl: Lsn) -> Lsn:
        """Take note of a PGCL, which may be repeated or old; return the VDL."""
        pgcls = self._pgcls
        if pgcl <= pgcls[pg_id]:
            return self._vdl
        allocated_tail = self._allocated_tails[pg_id]
        assert pgcl <= allocated_tail, f"PGCL {pgcl} of PG {pg_id}: expected <= {allocated_tail}"
        pgcls[pg_id] = pgcl
        outstanding = self._outstanding
        while outstanding and outstanding[0][1] <= pgcls[outstanding[0][2]]:
            self._complete(outstanding.popleft())
        return self._vdl

    def durable_tail(self, pg_id: PgId) -> Lsn:
        """The last LSN of a protection group at or below the VDL: required SCL for reads there."""
        return self._histories[pg_id].tail

    def required_scl(self, pg_id: PgId, read_point: Lsn) -> Lsn:
        """The SCL that a segment needs to answer at ``read_point``, which is at most the VDL.

        That is the last LSN of the group at or below it (2018 §3.1), exactly while recent history
        is kept; for a read point older than that, the read point itself, which is never too little.
        """
        assert read_point <= self._vdl, (read_point, self._vdl)
        return self._histories[pg_id].newest_at(read_point)

    def _complete(self, run: _Run) -> None:
        first_lsn, last_lsn, pg_id, ends_mtr = run
        self._complete_lsn = last_lsn
        if not ends_mtr:
            self._unfinished.append(run)
            return
        if self._unfinished:
            for earlier_first, earlier_last, earlier_pg, _ in self._unfinished:
                self._histories[earlier_pg].append(earlier_first, earlier_last)
            self._unfinished.clear()
        self._histories[pg_id].append(first_lsn, last_lsn)
        self._vdl = last_lsn
