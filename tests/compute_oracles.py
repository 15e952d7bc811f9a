"""Deliberately dumb answers to what the writer's cores compute cleverly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from segments.protocol.ids import Lsn, PageId, PgId, SegmentId
from segments.protocol.messages import PageImage
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.volume import pg_of_page


def pgcl_by_sorting(scls: Mapping[SegmentId, Lsn], write: int) -> Lsn:
    """The ``write``-th highest SCL."""
    return sorted(scls.values(), reverse=True)[write - 1]


def vcl_by_trial(
    records: Sequence[RedoRecord], pgs: Mapping[Lsn, PgId], pgcls: Mapping[PgId, Lsn], base: Lsn
) -> Lsn:
    """The highest of all LSNs such that every record up to it is <= the PGCL of its group."""

    def holds(limit: Lsn) -> bool:
        return all(each.lsn <= pgcls[pgs[each.lsn]] for each in records if each.lsn <= limit)

    return max(lsn for lsn in [base, *[each.lsn for each in records]] if holds(lsn))


def vdl_by_trial(records: Sequence[RedoRecord], vcl: Lsn, base: Lsn) -> Lsn:
    """The highest CPL at or below the VCL."""
    return max([base, *[each.lsn for each in records if each.is_cpl and each.lsn <= vcl]])


def last_at(lsns: Iterable[Lsn], limit: Lsn) -> Lsn:
    """The last of the LSNs at or below ``limit``, or 0."""
    return max((lsn for lsn in lsns if lsn <= limit), default=0)


def page_by_replay(records: Sequence[RedoRecord], page_id: PageId, read_point: Lsn) -> PageImage:
    """A page as all the records of its life up to ``read_point`` leave it."""
    image = bytearray()
    page_lsn = 0
    for record in records:
        if record.page_id == page_id and record.lsn <= read_point:
            image = image or bytearray(PAGE_SIZE)
            image[record.offset : record.offset + len(record.payload)] = record.payload
            page_lsn = record.lsn
    return PageImage(page_id, page_lsn, bytes(image))


def chained_by_search(
    earlier: Sequence[RedoRecord],
    writes: Sequence[tuple[PageId, int, bytes]],
    first_lsn: Lsn,
    pg_count: int,
) -> list[RedoRecord]:
    """An MTR's records, each link found by looking through everything before it."""
    records = list(earlier)
    for index, (page_id, offset, data) in enumerate(writes):
        volume = [each.lsn for each in records]
        segment = [
            each.lsn
            for each in records
            if pg_of_page(each.page_id, pg_count) == pg_of_page(page_id, pg_count)
        ]
        page = [each.lsn for each in records if each.page_id == page_id]
        records.append(
            RedoRecord(
                first_lsn + index,
                page_id,
                offset,
                data,
                first_lsn,
                index == len(writes) - 1,
                max(volume, default=0),
                max(segment, default=0),
                max(page, default=0),
            )
        )
    return records[len(earlier) :]
