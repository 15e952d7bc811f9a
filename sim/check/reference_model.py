"""The reference model: knows every record ever allocated, and replays it the dumb way.

It stands apart from the system: it is told what was allocated, by whom, and from which plan each
writer started; what must follow it works out by itself.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import TypeAlias

import attrs

from aurora.recovery_plan import RecoveryPlan
from segments.protocol.ids import MAX_LSN, NO_EPOCH, Lsn, PageId, PgId, VolumeEpoch
from segments.protocol.record import EMPTY_PAGE, RedoRecord
from segments.protocol.truncation import TruncationRange, TruncationTable
from segments.protocol.volume import pg_of_page

_IMAGE_EVERY = 32

Range: TypeAlias = tuple[Lsn, Lsn]
"""LSNs from the first, inclusive, to the second, exclusive."""


def ranges_after(
    before: Sequence[TruncationRange], vdl: Lsn, lal: int, settled: VolumeEpoch
) -> tuple[Range, ...]:
    """What a recovery annuls that opens at ``vdl`` and has adopted the ranges ``before``.

    All members have adopted the table of the ``settled`` epoch: what it annuls is left out.
    """
    last = max((end - 1 for _, end, _ in before), default=0)
    end = min(max(vdl, last) + lal, MAX_LSN + 1)
    needed = [(start, stop) for start, stop, epoch in before if epoch > settled]
    return _merged([*needed, (vdl + 1, end + 1)])


def _merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Ascending; those that meet are one."""
    merged: list[Range] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return tuple(merged)


def is_annulled(ranges: Sequence[TruncationRange] | Sequence[Range], lsn: Lsn) -> bool:
    """Whether ascending ranges contain ``lsn``, whatever a table says of itself."""
    at = bisect_right(ranges, lsn, key=itemgetter(0)) - 1
    return at >= 0 and lsn < ranges[at][1]


@attrs.define(eq=False)
class _PageView:
    """One page as one writer must see it: its live records, and images along the way."""

    lsns: list[Lsn] = attrs.field(factory=list)
    image_lsns: list[Lsn] = attrs.field(factory=list)
    images: list[bytes] = attrs.field(factory=list)


@attrs.define(eq=False)
class WriterView:
    """The log as one writer must see it: what its plan left alive, and its own records."""

    name: str
    epoch: VolumeEpoch
    vdl: Lsn
    """The VDL it opened at."""
    table: TruncationTable
    annulled: tuple[Range, ...]
    """All that is annulled for it: also what its table need not name, as nobody holds it."""
    observed_before: Lsn
    """The highest VDL that anyone had observed when it began to seal."""
    opened: bool = False
    last_vdl: Lsn = 0
    """The highest VDL it has had itself."""
    pages: dict[PageId, _PageView] = attrs.field(factory=dict)
    chains: dict[PgId, list[Lsn]] = attrs.field(factory=dict)
    """The live records of each group, ascending, once somebody has asked for them."""


class Reference:
    """Every record, every writer, and the pages that follow."""

    def __init__(self, pg_count: int) -> None:
        self.records: dict[Lsn, RedoRecord] = {}
        self.owner: dict[Lsn, str] = {}
        self.writers: dict[str, WriterView] = {}
        self.highest_by: dict[str, Lsn] = {}
        """The highest LSN that each writer has allocated."""
        self._pg_count = pg_count
        self._by_page: dict[PageId, list[Lsn]] = {}
        self._lsns: list[Lsn] = []

    def between(self, after: Lsn, through: Lsn) -> list[Lsn]:
        """Every LSN ever allocated in ``(after, through]``, ascending."""
        lsns = self._lsns
        return lsns[bisect_right(lsns, after) : bisect_right(lsns, through)]

    @property
    def newest_lsn(self) -> Lsn:
        """The highest LSN ever allocated."""
        return self._lsns[-1] if self._lsns else 0

    def next_live(self, view: WriterView, after: Lsn) -> Lsn | None:
        """The first record above ``after`` that belongs to the log as this writer must see it."""
        lsns = self._lsns
        places = range(bisect_right(lsns, after), len(lsns))
        return next((lsns[at] for at in places if self.is_live(view, lsns[at])), None)

    def live_count(self, view: WriterView, after: Lsn, through: Lsn) -> int:
        """How many records in ``(after, through]`` are live; ``through`` is at most its VDL."""
        lsns = self._lsns
        count = bisect_right(lsns, through) - bisect_right(lsns, after)
        for start, end in view.annulled:  # those that it never had are all in there
            low, high = max(start - 1, after), min(end - 1, through)
            if low < high:
                count -= bisect_right(lsns, high) - bisect_right(lsns, low)
        return count

    def last_live(self, view: WriterView) -> Lsn:
        """The newest record of its log; 0 for none."""
        return self.highest_by.get(view.name, view.vdl)

    def newest_of(self, view: WriterView, page_id: PageId) -> Lsn:
        """The newest live change of a page, durable or not; 0 for none."""
        lsns = self._page(view, page_id).lsns
        return lsns[-1] if lsns else 0

    def next_of(self, view: WriterView, page_id: PageId, lsn: Lsn) -> Lsn:
        """The next live change of a page above ``lsn``; 0 for none."""
        lsns = self._page(view, page_id).lsns
        at = bisect_right(lsns, lsn)
        return lsns[at] if at < len(lsns) else 0

    def pg_of(self, lsn: Lsn) -> PgId:
        """The protection group of a record."""
        return self.group_of(self.records[lsn].page_id)

    def begin_writer(
        self, name: str, plan: RecoveryPlan, observed_before: Lsn, adopted: VolumeEpoch = NO_EPOCH
    ) -> WriterView:
        """A writer starts from ``plan``, for which it has ``adopted`` the table of that epoch."""
        before = self.view_of(adopted)
        known = before.annulled if before is not None else ()
        annulled = _merged((*known, *(each[:2] for each in plan.table.ranges)))
        view = WriterView(name, plan.epoch, plan.vdl, plan.table, annulled, observed_before)
        view.last_vdl = plan.vdl
        self.writers[name] = view
        return view

    def view_of(self, epoch: VolumeEpoch) -> WriterView | None:
        """The writer whose recovery has made the table of ``epoch``."""
        return next((view for view in self.writers.values() if view.epoch == epoch), None)

    def allocated(self, name: str, records: Sequence[RedoRecord]) -> None:
        """A writer has made these records."""
        view = self.writers[name]
        for record in records:
            lsn = record.lsn
            self.records[lsn] = record
            self.owner[lsn] = name
            insort(self._lsns, lsn)
            self._by_page.setdefault(record.page_id, []).append(lsn)
            page = view.pages.get(record.page_id)
            if page is not None:
                page.lsns.append(lsn)
            chain = view.chains.get(self.pg_of(lsn))
            if chain is not None:
                chain.append(lsn)
        self.highest_by[name] = records[-1].lsn

    def is_live(self, view: WriterView, lsn: Lsn) -> bool:
        """Whether a record belongs to the log as this writer must see it."""
        if self.owner[lsn] == view.name:
            return True
        return lsn <= view.vdl and not is_annulled(view.annulled, lsn)

    def chain(self, view: WriterView, pg_id: PgId, after: Lsn, through: Lsn) -> list[Lsn]:
        """The live records of one group in ``(after, through]``, ascending; no link is trusted."""
        chain = view.chains.get(pg_id)
        if chain is None:
            chain = view.chains[pg_id] = [
                lsn for lsn in self._lsns if self.pg_of(lsn) == pg_id and self.is_live(view, lsn)
            ]
        return chain[bisect_right(chain, after) : bisect_right(chain, through)]

    def tail(self, view: WriterView, pg_id: PgId, through: Lsn) -> Lsn:
        """The last live record of one group at or below ``through``; 0 for none."""
        self.chain(view, pg_id, through, through)
        chain = view.chains[pg_id]
        at = bisect_right(chain, through)
        return chain[at - 1] if at else 0

    def page_at(self, view: WriterView, page_id: PageId, read_point: Lsn) -> tuple[Lsn, bytes]:
        """LSN and contents of a page as of ``read_point``; LSN 0 if it was not yet written."""
        page = self._page(view, page_id)
        end = bisect_right(page.lsns, read_point)
        at = bisect_right(page.image_lsns, read_point) - 1
        start, image = 0, bytearray(EMPTY_PAGE)
        if at >= 0:
            start = bisect_right(page.lsns, page.image_lsns[at])
            image = bytearray(page.images[at])
        for position in range(start, end):
            record = self.records[page.lsns[position]]
            image[record.offset : record.offset + len(record.payload)] = record.payload
        if end - start >= _IMAGE_EVERY and (not page.image_lsns or at == len(page.images) - 1):
            page.image_lsns.append(page.lsns[end - 1])
            page.images.append(bytes(image))
        return (page.lsns[end - 1], bytes(image)) if end else (0, b"")

    def exists(self, view: WriterView, page_id: PageId, read_point: Lsn) -> bool:
        """Whether a page had been written as of ``read_point``."""
        lsns = self._page(view, page_id).lsns
        return bool(lsns) and lsns[0] <= read_point

    def _page(self, view: WriterView, page_id: PageId) -> _PageView:
        page = view.pages.get(page_id)
        if page is None:
            page = view.pages[page_id] = _PageView()
            known = self._by_page.get(page_id, [])
            page.lsns = sorted(lsn for lsn in known if self.is_live(view, lsn))
        return page

    def pages(self) -> list[PageId]:
        """Every page ever written."""
        return sorted(self._by_page)

    def group_of(self, page_id: PageId) -> PgId:
        """The protection group of a page."""
        return pg_of_page(page_id, self._pg_count)

    def pages_of(self, view: WriterView, pg_id: PgId, read_point: Lsn) -> list[PageId]:
        """The pages of one group that had been written as of ``read_point``, ascending."""
        return [
            page_id
            for page_id in self.pages()
            if self.group_of(page_id) == pg_id and self.exists(view, page_id, read_point)
        ]

    def chain_down(self, lsn: Lsn, stop: Lsn) -> Iterator[Lsn]:
        """The records of one group from ``lsn`` down to ``stop``, exclusive, by their links."""
        while lsn > stop:
            yield lsn
            lsn = self.records[lsn].prev_segment_lsn
