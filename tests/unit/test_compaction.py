"""The log is written anew before a restart would have to read much history (protocol §6)."""

from __future__ import annotations

from random import Random

import pytest

from segments.config import SegmentConfig
from segments.core import SegmentCore
from segments.protocol import codec
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import WriteBatch
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.state import SegmentState, format_log
from segments.wal import RecordsEntry, decode_promises, scan

EPOCH = VolumeEpoch(1, 1)
BATCH = 10
LIMIT = 200


def log_after(records: int, config: SegmentConfig) -> tuple[bytes, int]:
    """The log of a segment that took ``records`` changes of one large page, and its compactions."""
    log, promise = format_log(EPOCH)
    state = SegmentState.restore(config, scan(log), decode_promises(promise))
    core = SegmentCore("A0", 0, (), state, config, Random(1), log_bytes=len(log))
    last = 0
    for first in range(1, records + 1, BATCH):
        run = [
            RedoRecord(lsn, 0, 0, b"x" * (PAGE_SIZE if lsn == 1 else 1), first,
                       lsn == first + BATCH - 1, lsn - 1, lsn - 1, lsn - 1)
            for lsn in range(first, first + BATCH)
        ]  # fmt: skip
        core.step("writer", WriteBatch(EPOCH, first, last, last, codec.encode_records(run)), 0.0)
        while (write := core.take_write()) is not None:
            log = log + write.append if write.replace is None else b"".join(write.replace)
            core.wrote()
        core.tick(0.0)
        last = run[-1].lsn
    assert core.maintenance.log_bytes == len(log)
    return log, core.maintenance.compactions


def records_in(log: bytes) -> int:
    entries = [entry for each in scan(log).frames for entry in each.frame.entries]
    runs = [entry.records for entry in entries if isinstance(entry, RecordsEntry)]
    return sum(len(codec.decode_records(run)) for run in runs)


@pytest.mark.parametrize("records", [1_000, 3_000])
def test_small_records_of_the_past_are_few_however_long_it_was(records: int) -> None:
    config = SegmentConfig(
        compact_bytes=4096, compact_ratio=1e9, compact_records=LIMIT, collect_records=1
    )
    log, compactions = log_after(records, config)
    assert records_in(log) <= LIMIT + 3 * BATCH
    assert compactions == (records - 2 * BATCH) // LIMIT


def test_without_that_limit_bytes_alone_would_let_them_pile_up() -> None:
    config = SegmentConfig(compact_bytes=4096, compact_ratio=1e9, collect_records=1)
    log, compactions = log_after(1_000, config)
    assert (records_in(log), compactions) == (1_000, 0)


def test_bytes_count_too() -> None:
    config = SegmentConfig(compact_bytes=4096, compact_ratio=1.5, collect_records=1)
    log, compactions = log_after(3_000, config)
    assert compactions > 0
    assert len(log) < 3 * PAGE_SIZE
