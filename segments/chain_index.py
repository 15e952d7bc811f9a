"""The records a segment holds of its protection group's log, and how far they are complete.

Every record names the one before it in the group, so the log is a chain from ``base_lsn`` upwards.
What hangs together from the base is *linked*, and ends at the SCL; what lies above a gap is held
*unlinked* until the gap is filled (2017 §3.3, 2018 §2.2). Records come and are held as runs, each a
piece of the chain. One that begins at the SCL is linked as it is, whatever its length; its rows are
looked into when they are read. Where a run contradicts what is held, that stays (`WaitingRuns`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, filterfalse
from typing import Final

from segments.held_run import HeldRun, Span, encoded_runs
from segments.linked_runs import LinkedRuns
from segments.protocol.errors import NotFound, SpoiltRun
from segments.protocol.ids import MAX_INTEGER, Lsn, PageId
from segments.protocol.record import RECORD_OVERHEAD_BYTES, RedoRecord
from segments.protocol.run import NO_RECORDS, Rows, Run
from segments.protocol.truncation import TruncationTable
from segments.steps import Steps
from segments.waiting_runs import WaitingRuns

_ANY: Final = MAX_INTEGER


class ChainIndex:
    """One protection group's log, in one segment.

    Whatever looks into rows raises `SpoiltRun` if they are impossible, and has changed nothing by
    then. Reads of pages do, and of records; and where a run is cut, all of its rows are looked
    into. Who is told so drops that run (`drop_run`). One that comes in and must be cut is left out.
    """

    def __init__(self, *, max_unlinked: int | None = None) -> None:
        """``max_unlinked``: most records held above a gap; None: no limit, see `limit_unlinked`."""
        self.base_lsn: Lsn = 0
        """Everything of the chain up to here, inclusive, is in page images and not in the log."""
        self.scl: Lsn = 0
        """Highest LSN such that every record of the chain in ``(base_lsn, scl]`` is held."""
        self.spoilt_runs = 0
        """How many runs were left out or dropped because of impossible rows."""
        self._max_unlinked = max_unlinked
        self._linked = LinkedRuns()
        self._waiting = WaitingRuns()

    # ---- what is held ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._linked) + self._waiting.records

    def __contains__(self, lsn: Lsn) -> bool:
        return self._find(lsn) is not None

    def not_held(self, lsns: Iterable[Lsn]) -> Iterator[Lsn]:
        """Those of ``lsns`` at which no record is held, linked or not, in their order."""
        return filterfalse(self.__contains__, lsns)

    def get(self, lsn: Lsn) -> RedoRecord | None:
        """The record at ``lsn``, linked or not, if it is held."""
        span = self._find(lsn)
        return None if span is None else span.records()[0]

    def _find(self, lsn: Lsn) -> Span | None:
        return self._linked.find(lsn) if lsn <= self.scl else self._waiting.find(lsn)

    def held(self) -> list[RedoRecord]:
        """All records held, linked or not, ascending."""
        return [record for span in self._spans() for record in span.records()]

    def waiting_runs(self, limit_bytes: int) -> list[bytes]:
        """The records above a gap, encoded; a run has at most ``limit_bytes``, or one record."""
        spans = (Span(held, 0, len(held.lsns)) for held in self._waiting)
        return list(encoded_runs(spans, self.unlinked, limit_bytes))

    def _spans(self) -> Iterator[Span]:
        waiting = (Span(held, 0, len(held.lsns)) for held in self._waiting)
        return chain(self._linked.spans(self.base_lsn, self.scl), waiting)

    @property
    def unlinked(self) -> int:
        """Records held above a gap; at most ``max_unlinked``."""
        return self._waiting.records

    @property
    def highest_lsn(self) -> Lsn:
        """The highest record held, linked or not; ``base_lsn`` when none is."""
        return self._waiting.last_lsn if self._waiting else self.scl

    def encoded_bytes(self) -> int:
        """What all records held take when they are encoded, without the heads of their runs."""
        return self._linked.size_bytes + self._waiting.size_bytes

    def payload_bytes(self) -> int:
        """What the payloads of all records held take."""
        return self.encoded_bytes() - RECORD_OVERHEAD_BYTES * len(self)

    @property
    def payload_bytes_taken(self) -> int:
        """Payloads of all records that were ever linked, but for those that were dropped again."""
        return self._linked.payload_bytes_taken

    def count_through(self, lsn: Lsn) -> int:
        """How many linked records lie at or below ``lsn``."""
        return self._linked.count_through(lsn)

    def linked_lsn(self, position: int) -> Lsn:
        """The LSN of a linked record, counted from 0 at the oldest in the log."""
        return self._linked.lsn_at(position)

    def limit_unlinked(self, most: int) -> None:
        """Hold at most so many records above a gap from now on.

        What a restart replays has no limit. Layers stand for a part of it, so a gap may have been
        filled at another time than when it came; and which records had found room then, and were
        linked later, and acknowledged, nobody knows any more.
        """
        self._max_unlinked = most
        self._waiting.keep_nearest(most)

    # ---- records come in -------------------------------------------------------------------------

    def insert_run(self, run: Run) -> None:
        """Take in a run; what is held already changes nothing.

        A run that contradicts what is held is refused as a whole, also those of its records that
        would have found room. Of the unlinked records the ``max_unlinked`` nearest to the SCL are
        kept; the others have to come again.
        """
        self._insert(HeldRun(run))

    def insert_survivors(self, run: Run, table: TruncationTable) -> None:
        """Take in what ``table`` leaves of a run, as `insert_run` does."""
        self._insert_survivors(HeldRun(run), table)

    def _insert_survivors(self, held: HeldRun, table: TruncationTable) -> None:
        try:
            survivors = list(held.without_annulled(table))
        except SpoiltRun:
            self.spoilt_runs += 1
            return
        for survivor in survivors:
            self._insert(survivor)

    def _insert(self, held: HeldRun) -> None:
        if held.run.prev_lsn == self.scl and not self._waiting.records:
            self._link(held)
            return
        try:
            lacking = self._waiting.lacking(held, self.scl)
        except SpoiltRun:
            self.spoilt_runs += 1
            return
        for part in lacking:
            if part.run.prev_lsn != self.scl:
                self._waiting.add(part)
                continue
            self._link(part)
            for follower in self._waiting.take_what_follows(self.scl):
                self._link(follower)
        if self._max_unlinked is not None:
            self._waiting.keep_nearest(self._max_unlinked)

    def _link(self, held: HeldRun) -> None:
        self._linked.append(held)
        self.scl = held.lsns[-1]

    # ---- the chain -------------------------------------------------------------------------------

    def unseen(self, through: Lsn) -> int:
        """How many linked records up to ``through`` have not been indexed by page, about."""
        return self._linked.unseen(through)

    def look_into_more(self) -> int:
        """Index the pages of a few linked records, ahead of the reads that need it.

        A step of some milliseconds. Returns how many records it was; 0 when all are indexed.
        """
        return self._linked.look_into_more()

    def look_into_steps(self, through: Lsn) -> Steps[None]:
        """Index the pages of all linked records up to ``through``, step by step."""
        while self._linked.lacks(through):
            self._linked.look_into_more()
            yield

    def pages(self) -> list[PageId]:
        """Pages with linked records in the log, ascending."""
        return sorted(self._linked.pages())

    def page_head(self, page_id: PageId, read_point: Lsn) -> Lsn:
        """The page's newest linked record at or below ``read_point``; 0 if the log has none."""
        return self._linked.page_head(page_id, read_point)

    def page_records(self, page_id: PageId, after: Lsn, through: Lsn) -> list[RedoRecord]:
        """The page's linked records with ``after < lsn <= through``, ascending."""
        return self._linked.page_records(page_id, after, through)

    def pieces(self, after: Lsn, through: Lsn) -> Iterator[Rows]:
        """Linked records with ``after < lsn <= through``, packed, in the order of their LSNs.

        They are those of now, whatever comes or goes until each is copied, when it is asked for.
        Raises `NotFound` if some of them have already left the log.
        """
        self._linked.look_into(min(through, self.scl))
        spans = list(self._spans_after(after, through))
        return (span.rows() for span in spans)

    def linked_after(self, lsn: Lsn) -> Iterator[RedoRecord]:
        """Linked records above ``lsn``, ascending, one by one; none may come or go meanwhile.

        Raises `NotFound` if some of them have already left the log.
        """
        spans = self._spans_after(lsn, _ANY)
        return (record for span in spans for record in span.records())

    def runs_after(self, lsn: Lsn, limit_bytes: int) -> bytes:
        """Linked records above ``lsn`` as a run of at most ``limit_bytes``, without its head.

        At least one if there is any, so that a small limit stops nobody; else `NO_RECORDS`. Raises
        `NotFound` if some of them have already left the log.
        """
        spans = self._spans_after(lsn, _ANY)
        return next(encoded_runs(spans, len(self), limit_bytes), NO_RECORDS)

    def spans_between(self, after: Lsn, through: Lsn) -> list[Span]:
        """Linked records with ``after < lsn <= through``, ascending: those of now, not looked into.

        They stay what they are, also for another thread. Raises `NotFound` as `pieces`.
        """
        return list(self._spans_after(after, through))

    def _spans_after(self, after: Lsn, through: Lsn) -> Iterator[Span]:
        if after < self.base_lsn:
            raise NotFound(f"records after {after} have left the log: expected >= {self.base_lsn}")
        return self._linked.spans(after, through)

    def missing_ranges(self) -> list[tuple[Lsn, Lsn]]:
        """Half-open ranges above the SCL, ascending, in which at least one record is missing.

        Each ends at the first record of an unlinked run. Nothing is known above `highest_lsn`.
        """
        gaps = []
        last = self.scl
        for held in self._waiting:
            if held.run.prev_lsn != last:
                gaps.append((last + 1, held.lsns[0]))
            last = held.lsns[-1]
        return gaps

    # ---- records go ------------------------------------------------------------------------------

    def truncate(self, table: TruncationTable) -> None:
        """Drop every record that ``table`` annuls, linked or not (2017 §4.3).

        The SCL becomes the last record of the chain below all that was annulled.
        """
        linked = self._linked
        first = next(
            (
                start for start, end, _ in table.ranges
                if linked.count_through(start - 1) < linked.count_through(end - 1)
            ),
            None,
        )  # fmt: skip
        if first is not None:
            for span in linked.spans(first - 1, linked.last_lsn):
                span.held.check()
        doubtful = self._waiting.take_all()
        if first is not None:
            doubtful = linked.drop_above(first - 1) + doubtful
            self.scl = linked.last_lsn
        for held in doubtful:
            self._insert_survivors(held, table)

    def collect(self, up_to: Lsn) -> int:
        """Take the linked records at or below ``up_to`` out of the log; returns how many.

        The caller has the images that stand for them. ``base_lsn`` becomes the last of them. The
        bytes of a run go with the last of its records.
        """
        count = self._linked.count_through(up_to)
        if count:
            self.base_lsn = self._linked.lsn_at(count - 1)
            self._linked.drop_through(self.base_lsn)
        return count

    def reset(self, base_lsn: Lsn) -> None:
        """Start over from page images as of ``base_lsn``; records above it stay, and link anew.

        ``base_lsn`` is a record of the chain, and not below the present base.
        """
        assert base_lsn >= self.base_lsn, (base_lsn, self.base_lsn)
        self.base_lsn = base_lsn
        self._linked.drop_through(base_lsn)
        if base_lsn > self.scl:
            self.scl = base_lsn
            for held in self._waiting.take_all():
                self._insert(held)

    def drop_run(self, spoilt: SpoiltRun) -> bool:
        """Drop a run with impossible rows, if it is held; returns whether it was linked.

        Then the SCL goes back to where it began, and what was linked behind it waits again.
        """
        if spoilt.last_lsn > self.scl:
            self.spoilt_runs += self._waiting.drop(spoilt.last_lsn)
            return False
        span = self._linked.find(spoilt.last_lsn)
        if span is None or span.held.run.prev_lsn != spoilt.prev_lsn:
            return False
        _, *above = self._linked.drop_above(spoilt.prev_lsn)
        self.scl = self._linked.last_lsn
        self.spoilt_runs += 1
        for held in above:
            self._insert(held)
        return True

    def drop_records(self) -> None:
        """Drop every record, linked or not: what is left ends at ``base_lsn``."""
        self._linked.drop_above(self.base_lsn)
        self._waiting.take_all()
        self.scl = self.base_lsn
