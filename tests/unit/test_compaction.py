"""The log is written anew before a restart would have to read much history (protocol §6)."""

from __future__ import annotations

from random import Random

import pytest

from segments.config import SegmentConfig
from segments.core import SegmentCore
from segments.manifest import Stored
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import WriteBatch
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import encode_run, read_records
from segments.restart import plan_restart
from segments.state import format_log
from segments.wal import RecordsEntry, scan

EPOCH = VolumeEpoch(1, 1)
BATCH = 10
LIMIT = 200


def log_after(records: int, config: SegmentConfig) -> tuple[bytes, int]:
    """The log of a segment that took ``records`` changes of one large page, and its compactions."""
    log, promise = format_log(EPOCH)
    state = plan_restart("A0", Stored(log, promise * 2), config).state
    core = SegmentCore("A0", 0, (), state, config, Random(1), log_bytes=len(log))
    last = 0
    for first in range(1, records + 1, BATCH):
        run = [
            RedoRecord(lsn, 0, 0, b"x" * (PAGE_SIZE if lsn == 1 else 1), first,
                       lsn == first + BATCH - 1, lsn - 1, lsn - 1, lsn - 1)
            for lsn in range(first, first + BATCH)
        ]  # fmt: skip
        core.step("writer", WriteBatch(EPOCH, first, last, last, last, False, encode_run(run)), 0.0)
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
    return sum(len(read_records(run)) for run in runs)


@pytest.mark.parametrize("records", [1_000, 3_000])
def test_small_records_of_the_past_are_few_however_long_it_was(records: int) -> None:
    config = SegmentConfig(
        compact_bytes=4096, compact_ratio=1_000.0, compact_records=LIMIT, collect_records=1
    )
    log, compactions = log_after(records, config)
    patience = 1.5  # at most: each segment has its own, so that the six do not compact at once
    assert records_in(log) <= patience * LIMIT + 3 * BATCH
    assert compactions >= (records - 2 * BATCH) // (patience * LIMIT) - 1


def test_without_that_limit_bytes_alone_would_let_them_pile_up() -> None:
    config = SegmentConfig(compact_bytes=4096, compact_ratio=1_000.0, collect_records=1)
    log, compactions = log_after(1_000, config)
    assert (records_in(log), compactions) == (1_000, 0)


def test_bytes_count_too() -> None:
    config = SegmentConfig(compact_bytes=4096, compact_ratio=1.5, collect_records=1)
    log, compactions = log_after(3_000, config)
    assert compactions > 0
    assert len(log) < 3 * PAGE_SIZE


def core_with(config: SegmentConfig, random: Random) -> SegmentCore:
    log, promise = format_log(EPOCH)
    state = plan_restart("A0", Stored(log, promise * 2), config).state
    return SegmentCore("A0", 0, (), state, config, random, log_bytes=len(log))


def write(core: SegmentCore, lsn: int, now: float = 0.0) -> None:
    record = RedoRecord(lsn, 0, 0, b"x" * 100, lsn, True, lsn - 1, lsn - 1, lsn - 1)
    batch = WriteBatch(EPOCH, lsn, lsn - 1, lsn - 1, lsn, False, encode_run([record]))
    core.step("writer", batch, now)


SMALL = SegmentConfig(compact_bytes=4096, compact_ratio=2.0, collect_records=1)


def test_a_segment_that_is_never_idle_compacts_all_the_same() -> None:
    core = core_with(SMALL, Random(1))
    for lsn in range(1, 300):
        write(core, lsn)  # there is always input when a write may start
        assert core.take_write() is not None
        write(core, lsn + 1)
        core.wrote()
        core.tick(0.0)
    assert core.maintenance.compactions > 1
    assert core.maintenance.log_bytes < 20_000


def test_a_compaction_that_the_disk_refuses_does_not_hold_up_writes() -> None:
    core = core_with(SMALL, Random(1))
    acknowledged, refused = 0, 0
    for lsn in range(1, 300):
        write(core, lsn)
        now = lsn / 1000.0
        core.tick(now)
        while (each := core.take_write()) is not None:
            if each.replace is None:
                core.wrote()
            else:
                refused += 1
                core.write_failed()
        acknowledged = core.state.scl
    assert refused >= 1
    assert acknowledged == 299


def test_segments_do_not_all_compact_at_the_same_size() -> None:
    sizes = set()
    for seed in range(6):
        core = core_with(SMALL, Random(seed))
        lsn = 0
        while not core.maintenance.compaction_due:
            lsn += 1
            write(core, lsn)
            assert core.take_write() is not None
            core.wrote()
            core.tick(0.0)
        sizes.add(core.maintenance.log_bytes)
    assert len(sizes) > 3
