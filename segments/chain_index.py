"""The records a segment holds of its protection group's log, and how far they are complete.

Every record names the one before it in the group, so the log is a chain from ``base_lsn`` upwards.
What hangs together from the base is *linked*, and ends at the SCL; what lies above a gap is held
*unlinked* until the gap is filled (2017 §3.3, 2018 §2.2). A record with its backlink covers the
half-open interval ``(prev_segment_lsn, lsn]``, in which the chain has no other record: two records
that overlap contradict each other, and of those the first one stays. Nothing else needs checking
to keep the chain free of forks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import filterfalse
from operator import itemgetter
from typing import Any, Final

from segments.page_directory import PageDirectory
from segments.protocol.errors import NotFound
from segments.protocol.ids import Lsn, PageId
from segments.protocol.record import RECORD_OVERHEAD_BYTES, RedoRecord, as_record
from segments.protocol.truncation import TruncationTable

_lsn_of = itemgetter(0)
_PREV_SEGMENT: Final = RedoRecord._fields.index("prev_segment_lsn")


class _LsnsByPage(dict[PageId, list[Lsn]]):
    """Makes a list for a page that has none, and only then enters it in the directory."""

    def __init__(self, directory: PageDirectory) -> None:
        super().__init__()
        self._directory = directory

    def __missing__(self, page_id: PageId) -> list[Lsn]:
        self._directory.add(page_id)
        lsns = self[page_id] = []
        return lsns


class ChainIndex:
    """One protection group's log, in one segment.

    Records are taken as the codec checks them: each backlink is below the record's own LSN.
    """

    def __init__(self, *, max_unlinked: int) -> None:
        self.base_lsn: Lsn = 0
        """Everything of the chain up to here, inclusive, is in page images and not in the log."""
        self.scl: Lsn = 0
        """Highest LSN such that every record of the chain in ``(base_lsn, scl]`` is held."""
        self._max_unlinked = max_unlinked
        self._records: dict[Lsn, tuple[Any, ...]] = {}
        # Plain tuples, no `RedoRecord`: once Python's collector of cycles has seen that a tuple
        # holds plain values, it forgets it. Else it would walk over all records, time and again.
        self._chain: list[Lsn] = []  # linked, ascending
        self._unlinked: list[Lsn] = []  # ascending; their intervals are disjoint, and above scl
        self.directory = PageDirectory()
        """Every page that has ever had a linked record here, and what else was added to it."""
        self._by_page = _LsnsByPage(self.directory)  # linked, ascending
        self._payload_bytes = 0

    # ---- what is held ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, lsn: Lsn) -> bool:
        return lsn in self._records

    def not_held(self, lsns: Iterable[Lsn]) -> Iterator[Lsn]:
        """Those of ``lsns`` at which no record is held, linked or not, in their order."""
        return filterfalse(self._records.__contains__, lsns)

    def get(self, lsn: Lsn) -> RedoRecord | None:
        """The record at ``lsn``, linked or not, if it is held."""
        values = self._records.get(lsn)
        return None if values is None else as_record(values)

    def held(self) -> list[RedoRecord]:
        """All records held, linked or not, ascending."""
        records = self._records
        return [as_record(records[lsn]) for lsns in (self._chain, self._unlinked) for lsn in lsns]

    def held_in_runs(self, count: int, limit_bytes: int) -> Iterator[list[RedoRecord]]:
        """What `held` returns, piece by piece; the index must not change meanwhile.

        The records of a run follow each other in the chain. It has at most ``count``, of at most
        ``limit_bytes`` when they are encoded unless a single one is longer.
        """
        run: list[RedoRecord] = []
        size = 0
        last = self.base_lsn
        for lsns in (self._chain, self._unlinked):
            for lsn in lsns:
                record = as_record(self._records[lsn])
                size += len(record.payload) + RECORD_OVERHEAD_BYTES
                full = len(run) == count or size > limit_bytes
                if run and (full or record.prev_segment_lsn != last):
                    yield run
                    run, size = [], len(record.payload) + RECORD_OVERHEAD_BYTES
                run.append(record)
                last = lsn
        if run:
            yield run

    @property
    def unlinked(self) -> int:
        """Records held above a gap; at most ``max_unlinked``."""
        return len(self._unlinked)

    @property
    def highest_lsn(self) -> Lsn:
        """The highest record held, linked or not; ``base_lsn`` when none is."""
        return self._unlinked[-1] if self._unlinked else self.scl

    def encoded_bytes(self) -> int:
        """What all records held take when they are encoded, without the heads of their runs."""
        return self._payload_bytes + RECORD_OVERHEAD_BYTES * len(self._records)

    def count_through(self, lsn: Lsn) -> int:
        """How many linked records lie at or below ``lsn``."""
        return bisect_right(self._chain, lsn)

    def linked_lsn(self, position: int) -> Lsn:
        """The LSN of a linked record, counted from 0 at the oldest in the log."""
        return self._chain[position]

    # ---- records come in -------------------------------------------------------------------------

    def insert(self, records: Sequence[RedoRecord]) -> int:
        """Take in records, in any order, repeated or not; returns how many were not held before.

        Those at or below ``base_lsn`` and those already held change nothing. A record that
        contradicts one that is held is refused. Of the unlinked ones the ``max_unlinked`` nearest
        to the SCL are kept; the others have to come again.
        """
        linked = 0 if self._unlinked else self._append_run(records)
        if linked == len(records):
            return linked
        others = sorted(records[linked:], key=_lsn_of)
        return linked + sum([self._insert_one(record) for record in others])

    def _append_run(self, records: Sequence[RedoRecord]) -> int:
        """Link the records that continue the chain, up to the first that does not: the hot path."""
        held, chain, by_page = self._records, self._chain, self._by_page
        scl, size = self.scl, self._payload_bytes
        start = len(chain)
        for record in records:
            lsn, page_id, _, payload, _, _, _, prev_segment_lsn, _ = record
            if prev_segment_lsn != scl:
                break
            held[lsn] = record[:]
            chain.append(lsn)
            by_page[page_id].append(lsn)
            size += len(payload)
            scl = lsn
        self.scl, self._payload_bytes = scl, size
        return len(chain) - start

    def _insert_one(self, record: RedoRecord) -> bool:
        lsn, unlinked = record.lsn, self._unlinked
        if lsn <= self.base_lsn:
            return False
        held = self._records.get(lsn)
        at = bisect_left(unlinked, lsn)
        if held is not None or self._overlaps(record, at):
            return False
        if record.prev_segment_lsn == self.scl:
            self._hold(record)
            self._link(record)
            self._link_what_follows()
            return True
        if at == len(unlinked) >= self._max_unlinked:
            return False
        self._hold(record)
        unlinked.insert(at, lsn)
        if len(unlinked) > self._max_unlinked:
            self._remove(unlinked.pop())
        return True

    def _overlaps(self, record: RedoRecord, at: int) -> bool:
        """Whether the interval of ``record``, not held, meets one that is; ``at``: its place."""
        prev, unlinked = record.prev_segment_lsn, self._unlinked
        if prev < (unlinked[at - 1] if at else self.scl):
            return True
        return at < len(unlinked) and self._records[unlinked[at]][_PREV_SEGMENT] < record.lsn

    def _link(self, record: RedoRecord) -> None:
        self._chain.append(record.lsn)
        self._by_page[record.page_id].append(record.lsn)
        self.scl = record.lsn

    def _link_what_follows(self) -> None:
        count = 0
        for lsn in self._unlinked:
            record = self._records[lsn]
            if record[_PREV_SEGMENT] != self.scl:
                break
            self._link(as_record(record))
            count += 1
        del self._unlinked[:count]

    def _hold(self, record: RedoRecord) -> None:
        self._records[record.lsn] = record[:]
        self._payload_bytes += len(record.payload)

    def _remove(self, lsn: Lsn) -> RedoRecord:
        record = as_record(self._records.pop(lsn))
        self._payload_bytes -= len(record.payload)
        return record

    # ---- the chain -------------------------------------------------------------------------------

    def pages(self) -> list[PageId]:
        """Pages with linked records in the log, ascending."""
        return sorted(self._by_page)

    def page_head(self, page_id: PageId, read_point: Lsn) -> Lsn:
        """The page's newest linked record at or below ``read_point``; 0 if the log has none."""
        lsns = self._by_page.get(page_id)
        if lsns is None:
            return 0
        if lsns[-1] <= read_point:
            return lsns[-1]
        at = bisect_right(lsns, read_point)
        return lsns[at - 1] if at else 0

    def linked_after(self, lsn: Lsn) -> Iterator[RedoRecord]:
        """Linked records above ``lsn``, ascending, one by one; the index must not change meanwhile.

        Raises `NotFound` if some of them have already left the log.
        """
        if lsn < self.base_lsn:
            raise NotFound(f"records after {lsn} have left the log: expected >= {self.base_lsn}")
        chain, records = self._chain, self._records
        return (as_record(records[chain[at]]) for at in range(bisect_right(chain, lsn), len(chain)))

    def records_after(self, lsn: Lsn, limit_bytes: int) -> list[RedoRecord]:
        """Linked records above ``lsn``, ascending, that encode to at most ``limit_bytes``.

        At least one if there is any, so that a small limit stops nobody. Raises `NotFound` if some
        of them have already left the log.
        """
        found: list[RedoRecord] = []
        size = 0
        for record in self.linked_after(lsn):
            size += len(record.payload) + RECORD_OVERHEAD_BYTES
            if size > limit_bytes and found:
                break
            found.append(record)
        return found

    def missing_ranges(self) -> list[tuple[Lsn, Lsn]]:
        """Half-open ranges above the SCL, ascending, in which at least one record is missing.

        Each ends at the first record of an unlinked run. Nothing is known above `highest_lsn`.
        """
        gaps = []
        last = self.scl
        for lsn in self._unlinked:
            if self._records[lsn][_PREV_SEGMENT] != last:
                gaps.append((last + 1, lsn))
            last = lsn
        return gaps

    # ---- records go ------------------------------------------------------------------------------

    def truncate(self, table: TruncationTable) -> int:
        """Drop every record that ``table`` annuls, linked or not; returns how many (2017 §4.3).

        The SCL becomes the last record of the chain below all that was annulled.
        """
        assert not table.annuls(self.base_lsn), (self.base_lsn, table)
        cut = len(self._chain)
        for start, end, _ in table.ranges:
            at = bisect_left(self._chain, start)
            if at < len(self._chain) and self._chain[at] < end:
                cut = at
                break
        before = len(self)
        doubtful = [self._remove(lsn) for lsn in (*self._chain[cut:], *self._unlinked)]
        survivors = [record for record in doubtful if not table.annuls(record.lsn)]
        for record in reversed(doubtful[: len(self._chain) - cut]):
            self._unlink_from_page(record)
        del self._chain[cut:]
        self._unlinked.clear()
        self.scl = self._chain[-1] if self._chain else self.base_lsn
        self.insert(survivors)
        return before - len(self)

    def _unlink_from_page(self, record: RedoRecord) -> None:
        lsns = self._by_page[record.page_id]
        popped = lsns.pop()
        assert popped == record.lsn, (popped, record)
        if not lsns:
            del self._by_page[record.page_id]

    def collect(self, up_to: Lsn) -> list[RedoRecord]:
        """Take the linked records at or below ``up_to`` out of the log; returns them, ascending.

        The caller has the images that stand for them. ``base_lsn`` becomes the last of them. The
        cost is that of the records taken, and two block moves.
        """
        count = bisect_right(self._chain, up_to)
        if not count:
            return []
        removed = [self._remove(lsn) for lsn in self._chain[:count]]
        del self._chain[:count]
        self.base_lsn = removed[-1].lsn
        for page_id in dict.fromkeys(record.page_id for record in removed):
            lsns = self._by_page[page_id]
            del lsns[: bisect_right(lsns, self.base_lsn)]
            if not lsns:
                del self._by_page[page_id]
        return removed

    def reset(self, base_lsn: Lsn) -> None:
        """Start over from page images as of ``base_lsn``; records above it stay, and link anew.

        ``base_lsn`` is a record of the chain, and not below the present base.
        """
        assert base_lsn >= self.base_lsn, (base_lsn, self.base_lsn)
        kept = [record for record in self.held() if record.lsn > base_lsn]
        self.base_lsn = base_lsn
        self.drop_records()
        self.insert(kept)

    def drop_records(self) -> None:
        """Drop every record, linked or not: what is left ends at ``base_lsn``."""
        self._records.clear()
        self._chain.clear()
        self._unlinked.clear()
        self._by_page.clear()
        self._payload_bytes = 0
        self.scl = self.base_lsn
