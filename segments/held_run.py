"""A run as a segment holds it: packed as it came, and looked into only when somebody asks.

The Python work of taking one in does not depend on its length. Beside its bytes it keeps the LSNs,
and once it has been looked into (`HeldRun.look_into`) where each payload ends and which rows each
page has: 24 bytes a record in all, in arrays, which the collector of cycles does not walk over.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from segments.protocol.errors import MalformedMessage, SpoiltRun
from segments.protocol.ids import Lsn, PageId
from segments.protocol.record import RECORD_OVERHEAD_BYTES, RedoRecord
from segments.protocol.run import Rows, Run, join_rows
from segments.protocol.truncation import TruncationTable

_UNSEEN = array("I")


class HeldRun:
    """A sound run of one group's chain; it never changes, but learns what its rows say."""

    __slots__ = ("_ends", "_order", "_pages", "lsns", "run")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.lsns = run.lsns
        """Its LSNs, ascending; at least one."""
        self._ends = self._order = self._pages = _UNSEEN

    @property
    def ends(self) -> array[int]:
        """See `Run.payload_ends`; raises `SpoiltRun` if rows are impossible."""
        if not self._ends:
            try:
                self._ends = self.run.payload_ends()
            except MalformedMessage as error:
                raise SpoiltRun(self.run.prev_lsn, self.lsns[-1], str(error)) from error
        return self._ends

    def check(self) -> None:
        """Raise `SpoiltRun` if rows are impossible."""
        _ = self.ends

    # ---- its pages -------------------------------------------------------------------------------

    def look_into(self) -> None:
        """Check all rows, and learn their pages; raises `SpoiltRun`."""
        if self.ends and not self._pages:
            pages = self.run.pages()
            self._order = array("I", sorted(range(len(pages)), key=pages.__getitem__))
            self._pages = array("Q", map(pages.__getitem__, self._order))

    def rows_of(self, page_id: PageId, after: Lsn, through: Lsn) -> array[int]:
        """The page's rows with ``after < lsn <= through``, ascending; it was looked into."""
        pages, order = self._pages, self._order
        start = bisect_left(pages, page_id)
        if start == len(pages) or pages[start] != page_id:
            return _UNSEEN
        stop = bisect_right(pages, page_id, start)
        lsn_of = self.lsns.__getitem__
        start = bisect_right(order, after, start, stop, key=lsn_of)
        return order[start : bisect_right(order, through, start, stop, key=lsn_of)]

    # ---- its rows --------------------------------------------------------------------------------

    def span(self, after: Lsn, through: Lsn) -> tuple[int, int]:
        """The rows with ``after < lsn <= through``: first one, and behind the last one."""
        start = bisect_right(self.lsns, after)
        return start, bisect_right(self.lsns, through, start)

    def records(self, rows: Iterable[int]) -> list[RedoRecord]:
        """The records of these rows; raises `SpoiltRun` if any of the run is impossible."""
        return self.run.records_at(rows, self.ends)

    def cut(self, start: int, stop: int) -> HeldRun:
        """The rows ``start <= row < stop`` by themselves; the run itself if that is all."""
        if stop - start == len(self.lsns):
            return self
        return HeldRun(self.run.cut(start, stop, self.ends))

    def without_annulled(self, table: TruncationTable) -> Iterator[HeldRun]:
        """What ``table`` leaves of it, in pieces."""
        lsns, at = self.lsns, 0
        for start, end, _ in table.ranges:
            stop = bisect_left(lsns, start, at)
            if at < stop:
                yield self.cut(at, stop)
            at = bisect_left(lsns, end, stop)
        if at < len(lsns):
            yield self.cut(at, len(lsns))


class Span(NamedTuple):
    """The rows ``start <= row < stop`` of a run; at least one."""

    held: HeldRun
    start: int
    stop: int

    @property
    def prev_lsn(self) -> Lsn:
        """The record of the chain before the first one."""
        return self.held.lsns[self.start - 1] if self.start else self.held.run.prev_lsn

    @property
    def last_lsn(self) -> Lsn:
        """The LSN of the last one."""
        return self.held.lsns[self.stop - 1]

    @property
    def whole(self) -> bool:
        """Whether these are all rows of the run."""
        return self.stop - self.start == len(self.held.lsns)

    @property
    def size_bytes(self) -> int:
        """What they take, encoded, without the head of a run."""
        if self.whole:
            return self.held.run.size_bytes
        return self._size_through(self.stop)

    def rows(self) -> Rows:
        """The rows themselves; they are looked into only where the run has to be cut."""
        if self.whole:
            return self.held.run.all_rows()
        return self.held.run.rows(self.start, self.stop, self.held.ends)

    def records(self) -> list[RedoRecord]:
        """Their records, each checked; raises `SpoiltRun`."""
        return self.held.records(range(self.start, self.stop))

    def split(self, count: int, limit_bytes: int) -> tuple[Span | None, Span | None]:
        """The first ``count`` rows, at most, of at most ``limit_bytes``; and all others."""
        held, start, stop = self
        if stop - start <= count and self.size_bytes <= limit_bytes:
            return self, None
        most = min(stop, start + count)
        at = bisect_right(range(most + 1), limit_bytes, start + 1, key=self._size_through) - 1
        if at == start:
            return None, self
        return Span(held, start, at), Span(held, at, stop) if at < stop else None

    def _size_through(self, stop: int) -> int:
        ends, start = self.held.ends, self.start
        payloads = ends[stop - 1] - (ends[start - 1] if start else 0)
        return payloads + RECORD_OVERHEAD_BYTES * (stop - start)


def encoded_runs(spans: Iterable[Span], count: int, limit_bytes: int) -> Iterator[bytes]:
    """``spans``, ascending, as runs of at most ``count`` records, as long as they can be.

    None takes more than ``limit_bytes`` without its head, unless it has a single record.
    """
    parts: list[Span] = []
    records, left = count, limit_bytes
    for each in spans:
        rest: Span | None = each
        while rest is not None:
            follows = not parts or rest.prev_lsn == parts[-1].last_lsn
            part, after = rest.split(records, left) if follows else (None, rest)
            if part is None and not parts:  # the smallest run there can be
                part, after = rest.split(1, rest.size_bytes)
            if part is not None:
                parts.append(part)
                records -= part.stop - part.start
                left -= part.size_bytes
            if part is None or after is not None:
                yield _encoded(parts)
                parts, records, left = [], count, limit_bytes
            rest = after
    if parts:
        yield _encoded(parts)


def _encoded(parts: Sequence[Span]) -> bytes:
    if len(parts) == 1 and parts[0].whole:
        return parts[0].held.run.data
    rows = [part.rows() for part in parts]
    return join_rows(parts[0].prev_lsn, parts[-1].last_lsn, rows)
