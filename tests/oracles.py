"""Storage as it would be if nothing had to be fast: what clever structures are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from segments.chain_index import ChainIndex
from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import PageImage
from segments.protocol.record import EMPTY_PAGE, RECORD_OVERHEAD_BYTES, RedoRecord
from segments.protocol.run import Run, encode_run, read_run


def naive_scl(records_held: Iterable[RedoRecord], base: Lsn) -> Lsn:
    """The end of the chain that starts at ``base``, link by link."""
    next_lsn = {record.prev_segment_lsn: record.lsn for record in records_held}
    scl = base
    while scl in next_lsn:
        scl = next_lsn[scl]
    return scl


def naive_page(all_records: Iterable[RedoRecord], page_id: PageId, read_point: Lsn) -> PageImage:
    """The page as of ``read_point``: all its records up to there, applied to an empty page."""
    image, page_lsn = EMPTY_PAGE, 0
    for record in sorted(all_records):
        if record.page_id == page_id and record.lsn <= read_point:
            end = record.offset + len(record.payload)
            image = image[: record.offset] + record.payload + image[end:]
            page_lsn = record.lsn
    return PageImage(page_id, page_lsn, image if page_lsn else b"")


def chained(
    writes: Iterable[tuple[Lsn, PageId, int, bytes]], after: Iterable[RedoRecord] = ()
) -> list[RedoRecord]:
    """Records of one protection group from (lsn, page_id, offset, payload), LSNs ascending.

    They continue the history ``after``; each is a mini-transaction of its own.
    """
    history = list(after)
    new = []
    for lsn, page_id, offset, payload in writes:
        prev = history[-1].lsn if history else 0
        prev_page = max((each.lsn for each in history if each.page_id == page_id), default=0)
        new.append(RedoRecord(lsn, page_id, offset, payload, lsn, True, prev, prev, prev_page))
        history.append(new[-1])
    return new


def runs_of(records: Iterable[RedoRecord]) -> Iterator[Run]:
    """``records`` as runs, in their order; each as long as they follow each other."""
    run: list[RedoRecord] = []
    for record in records:
        if run and record.prev_segment_lsn != run[-1].lsn:
            yield read_run(encode_run(run))
            run = []
        run.append(record)
    if run:
        yield read_run(encode_run(run))


def insert(index: ChainIndex, records: Iterable[RedoRecord]) -> None:
    """Have ``index`` take in ``records``, in as few runs as they are."""
    for run in runs_of(records):
        index.insert_run(run)


def encoded_size(records: Iterable[RedoRecord]) -> int:
    """What records take when they are encoded, in bytes: their rows, payloads and clocks."""
    return sum(len(each.payload) + RECORD_OVERHEAD_BYTES + 8 * each.is_cpl for each in records)
