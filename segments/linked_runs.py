"""The linked runs of a segment, ascending, each behind the one before; and what pages are in them.

Runs come in as they are. When a read needs it, or somebody has time, the oldest that have not been
looked into are joined into *blocks* and indexed by page. A block takes in the ones before it that
are no longer than itself: so there are few of them, and a record is moved a few times only. Who
looks for a page asks block after block, from the newest down.

Positions count the linked records from 0 at the first one ever. Those in the log keep theirs.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from segments.held_run import HeldRun, Span
from segments.protocol.errors import SpoiltRun
from segments.protocol.ids import Lsn, PageId
from segments.protocol.record import RECORD_OVERHEAD_BYTES, RedoRecord
from segments.protocol.run import join_runs

_BLOCK_RECORDS: Final = 2_048
_BLOCK_BYTES: Final = 1 << 20
"""A block has at most so much, unless it is a single run. So much may stay of what was dropped."""


class LinkedRuns:
    """Runs that follow each other; rows at or below ``base_lsn`` may be left in the first one."""

    def __init__(self) -> None:
        self.size_bytes = 0
        """What the records take when they are encoded, without the heads of runs."""
        self.payload_bytes_taken = 0
        """Payloads of all records that ever came, but for those dropped from above."""
        self._runs: list[HeldRun] = []
        self._lasts = array("Q")  # last LSN of each run
        self._ends = array("Q")  # position behind the last record of each run
        self._base_lsn: Lsn = 0
        self._gone = 0  # position of the oldest record that is in the log
        self._blocks = 0  # so many runs, from the oldest, have been looked into

    def __len__(self) -> int:
        return self._end - self._gone

    @property
    def _end(self) -> int:
        return self._ends[-1] if self._ends else self._gone

    def append(self, held: HeldRun) -> None:
        """Take in the run that follows."""
        lsns, size = held.lsns, held.run.size_bytes
        count = len(lsns)
        self._ends.append(self._end + count)
        self._lasts.append(lsns[-1])
        self._runs.append(held)
        self.size_bytes += size
        self.payload_bytes_taken += size - RECORD_OVERHEAD_BYTES * count

    # ---- what is held ----------------------------------------------------------------------------

    def spans(self, after: Lsn, through: Lsn) -> Iterator[Span]:
        """Records with ``after < lsn <= through``, run by run.

        Meanwhile records may be looked into, but none may go.
        """
        after = max(after, self._base_lsn)
        at = bisect_right(self._lasts, after)
        while at < len(self._runs):
            held, end = self._runs[at], self._ends[at]
            start, stop = held.span(after, through)
            if start < stop:
                yield Span(held, start, stop)
            if stop < len(held.lsns):
                return
            at = bisect_right(self._ends, end)

    def find(self, lsn: Lsn) -> Span | None:
        """The record at ``lsn``, if it is held."""
        at = bisect_left(self._lasts, lsn)
        if at == len(self._runs) or lsn <= self._base_lsn:
            return None
        held = self._runs[at]
        row = bisect_left(held.lsns, lsn)
        return Span(held, row, row + 1) if held.lsns[row] == lsn else None

    def count_through(self, lsn: Lsn) -> int:
        """How many records lie at or below ``lsn``."""
        at = bisect_left(self._lasts, lsn)
        if at == len(self._runs):
            return len(self)
        lsns = self._runs[at].lsns
        return max(0, self._ends[at] - len(lsns) + bisect_right(lsns, lsn) - self._gone)

    def lsn_at(self, number: int) -> Lsn:
        """The LSN of a record, counted from 0 at the oldest that is in the log."""
        position = number + self._gone
        at = bisect_right(self._ends, position)
        return self._runs[at].lsns[position - self._ends[at]]

    # ---- pages -----------------------------------------------------------------------------------

    def look_into(self, through: Lsn) -> None:
        """Index the pages of all records up to ``through``, and maybe of a few more.

        Raises `SpoiltRun` if rows are impossible; those before it have been indexed.
        """
        while self.lacks(through):
            self.look_into_more()

    def lacks(self, through: Lsn) -> bool:
        """Whether records up to ``through`` have not been looked into."""
        blocks = self._blocks
        return blocks < len(self._runs) and (not blocks or self._lasts[blocks - 1] < through)

    def unseen(self, through: Lsn) -> int:
        """How many records up to ``through`` have not been looked into, about."""
        seen = self._ends[self._blocks - 1] if self._blocks else self._gone
        return max(0, self._gone + self.count_through(through) - seen)

    def look_into_more(self) -> int:
        """One step of that: index a block; returns how many records were new, 0 if none is left."""
        return self._add_block() if self._blocks < len(self._runs) else 0

    def _add_block(self) -> int:
        """Join runs that were not looked into, and small blocks before them, into one block."""
        runs = self._runs
        start = self._blocks
        records, size = len(runs[start].lsns), runs[start].run.size_bytes
        stop = start + 1
        while stop < len(runs) and _has_room(records, size, runs[stop]):
            records, size = records + len(runs[stop].lsns), size + runs[stop].run.size_bytes
            stop += 1
        new = records
        while start and len(runs[start - 1].lsns) <= records:
            if not _has_room(records, size, runs[start - 1]):
                break
            start -= 1
            records, size = records + len(runs[start].lsns), size + runs[start].run.size_bytes
        block = _looked_into(runs[start:stop])
        runs[start:stop] = [block]
        del self._lasts[start : stop - 1], self._ends[start : stop - 1]
        self._blocks = start + 1
        return new

    def page_head(self, page_id: PageId, read_point: Lsn) -> Lsn:
        """The page's newest record at or below ``read_point``; 0 if there is none."""
        self.look_into(read_point)
        newest = min(self._blocks, bisect_left(self._lasts, read_point) + 1)
        for at in range(newest - 1, -1, -1):
            held = self._runs[at]
            if rows := held.rows_of(page_id, self._base_lsn, read_point):
                return held.lsns[rows[-1]]
        return 0

    def page_records(self, page_id: PageId, after: Lsn, through: Lsn) -> list[RedoRecord]:
        """The page's records with ``after < lsn <= through``, ascending."""
        self.look_into(through)
        after = max(after, self._base_lsn)
        newest = min(self._blocks, bisect_left(self._lasts, through) + 1)
        found = []
        for held in self._runs[bisect_right(self._lasts, after) : newest]:
            if rows := held.rows_of(page_id, after, through):
                found += held.records(rows)
        return found

    def pages(self) -> set[PageId]:
        """All pages with records in the log."""
        spans = self.spans(0, self.last_lsn)
        return {page for held, start, stop in spans for page in held.run.pages()[start:stop]}

    @property
    def last_lsn(self) -> Lsn:
        """The newest record, or the base."""
        return self._lasts[-1] if self._lasts else self._base_lsn

    # ---- records go ------------------------------------------------------------------------------

    def drop_through(self, lsn: Lsn) -> int:
        """Drop the records at or below ``lsn``, which becomes the base; returns how many."""
        before = len(self)
        gone = sum(span.size_bytes for span in self.spans(0, lsn))
        self._gone += self.count_through(lsn)
        self._base_lsn = lsn
        self.size_bytes -= gone
        count = bisect_right(self._lasts, lsn)
        del self._runs[:count], self._lasts[:count], self._ends[:count]
        self._blocks = max(0, self._blocks - count)
        return before - len(self)

    def drop_above(self, lsn: Lsn) -> list[HeldRun]:
        """Drop the records above ``lsn``, not below the base; returns them, ascending."""
        dropped = list(self.spans(lsn, self.last_lsn))
        if not dropped:
            return []
        size = sum(span.size_bytes for span in dropped)
        count = sum(span.stop - span.start for span in dropped)
        self.size_bytes -= size
        self.payload_bytes_taken -= size - RECORD_OVERHEAD_BYTES * count
        at = bisect_right(self._lasts, lsn)
        held, kept = self._runs[at], dropped[0].start
        end = self._ends[at] - len(held.lsns) + kept
        del self._runs[at:], self._lasts[at:], self._ends[at:]
        self._blocks = min(self._blocks, at)
        if kept and held.lsns[kept - 1] > self._base_lsn:
            self._runs.append(held.cut(0, kept))
            self._lasts.append(held.lsns[kept - 1])
            self._ends.append(end)
        return [span.held.cut(span.start, span.stop) for span in dropped]


def _looked_into(parts: Sequence[HeldRun]) -> HeldRun:
    """Runs that follow each other, joined and looked into.

    Raises `SpoiltRun` for the first of them with impossible rows. Rows whose payloads are longer or
    shorter than what the run has of them are noticed also where another run would make up for it.
    """
    block = HeldRun(join_runs([held.run for held in parts]))
    try:
        block.look_into()
        sound = _fit(block.ends, parts)
    except SpoiltRun:
        sound = False
    if not sound:
        for held in parts:
            held.check()
    return block


def _fit(ends: Sequence[int], parts: Sequence[HeldRun]) -> bool:
    """Whether the payloads of each part end where its rows say."""
    row = end = 0
    for held in parts:
        row += len(held.lsns)
        end += held.run.size_bytes - RECORD_OVERHEAD_BYTES * len(held.lsns)
        if ends[row - 1] != end:
            return False
    return True


def _has_room(records: int, size: int, held: HeldRun) -> bool:
    """Whether a run fits into a block that has so many records and bytes already."""
    return records + len(held.lsns) <= _BLOCK_RECORDS and size + held.run.size_bytes <= _BLOCK_BYTES
