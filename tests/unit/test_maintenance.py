"""Background work: the log stays short, what rots is found, and nothing of it loses anything."""

from __future__ import annotations

from random import Random

import pytest

from segments.config import SegmentConfig
from segments.protocol.messages import Seal, WriteAck
from segments.protocol.truncation import TruncationTable
from segments.wal import scan
from tests.oracles import naive_page
from tests.segment_rig import FIRST, SECOND, SegmentRig, batch, durable, records

CONFIG = SegmentConfig(
    collect_records=1, compact_bytes=4 << 10, compact_ratio=1.1, scrub_bytes=4 << 10,
    scrub_interval_s=0.1,
)  # fmt: skip


def filled(last: int = 200, config: SegmentConfig = CONFIG) -> SegmentRig:
    rig = SegmentRig(config=config)
    chain = records(range(1, last + 1))
    for at in range(0, last, 10):
        rig.take(chain[at : at + 10])
    return rig


def scrub(rig: SegmentRig, rounds: int = 100) -> int:
    """Let it read its log again for a while; returns the damage found in all."""
    for at in range(rounds):
        now = at * 1.0
        rig.core.tick(now)
        asked = rig.core.maintenance.take_scrub(now + 0.5)
        if asked is not None:
            generation, offset, length = asked
            rig.core.maintenance.scrubbed(
                generation, offset, bytes(rig.log[offset : offset + length])
            )
    return rig.core.maintenance.damages_found


# ---- collection ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vdl", "floor", "base"), [(200, 150, 150), (120, 150, 120), (200, 0, 0), (0, 150, 0)]
)
def test_collection_stays_at_or_below_floor_and_vdl(vdl: int, floor: int, base: int) -> None:
    """§6, 2017 §3.3: gc-above-pgmrpl and coalesce-above-vdl in §12; invariant 14."""
    rig = filled()
    rig.ask(batch([], vdl=vdl, floor=floor), WriteAck)
    rig.core.tick(0.0)
    state = rig.state
    assert state.index.base_lsn == base == state.floor
    for read_point in range(max(base, 1), 201, 7):
        for page_id in range(3):
            expected = naive_page(records(range(1, 201)), page_id, read_point)
            assert state.materializer.materialize(page_id, read_point) == expected


def test_what_is_above_the_vdl_can_be_annulled_after_any_background_work() -> None:
    rig = filled()
    rig.ask(batch([], vdl=100, floor=100), WriteAck)
    for at in range(20):
        rig.core.tick(float(at))
        rig.settle()
    rig.install(TruncationTable(FIRST).extended(SECOND, 100, 300))
    assert rig.state.scl == 100
    for page_id in range(3):
        expected = naive_page(records(range(1, 101)), page_id, 100)
        assert rig.state.materializer.materialize(page_id, 100) == expected


# ---- compaction ----------------------------------------------------------------------------------


def test_the_log_written_anew_restores_the_same_state() -> None:
    rig = filled()
    rig.ask(batch([], vdl=150, floor=120), WriteAck)
    rig.core.tick(0.0)
    before, length = durable(rig.state), len(rig.log)
    rig.core.maintenance.require_rewrite()
    rig.settle()
    assert rig.core.maintenance.compactions == 1 and len(rig.log) < length
    assert rig.core.maintenance.log_bytes == len(rig.log)
    rig.restart()
    assert durable(rig.state) == before and rig.state.floor == 120


def test_a_compaction_that_the_disk_refused_changes_nothing() -> None:
    rig = filled()
    rig.core.maintenance.require_rewrite()
    write = rig.core.take_write()
    assert write is not None and write.replace is not None
    list(write.replace)
    before = durable(rig.state), len(rig.log), rig.core.maintenance.log_bytes
    rig.core.write_failed()
    assert before == (durable(rig.state), len(rig.log), rig.core.maintenance.log_bytes)
    rig.settle()
    assert rig.core.maintenance.compactions == 0, "writes come first for a while"
    rig.core.tick(5.0)
    rig.settle()
    assert rig.core.maintenance.compactions == 1


def test_what_arrives_during_a_compaction_goes_into_the_new_log() -> None:
    rig = filled()
    rig.core.maintenance.require_rewrite()
    write = rig.core.take_write()
    assert write is not None and write.replace is not None
    first = next(iter(write.replace))
    rig.step(batch(records([201], prev=200, after=records(range(1, 201)))))
    rig.core.tick(1.0)
    rig.log = bytearray(first + b"".join(write.replace))
    rig.core.wrote()
    assert rig.said(WriteAck) == []
    assert [ack.message for ack in rig.settle()] and rig.state.scl == 201
    before = durable(rig.state)
    rig.restart()
    assert durable(rig.state) == before


def test_a_log_is_written_anew_although_there_is_always_something_to_write() -> None:
    """Under load the queue is never empty when a write ends: the log would grow for ever."""
    rig = filled(50)
    largest, chain = 0, records(range(1, 2001))
    rig.step(batch(chain[50:60], vdl=50, floor=50))
    for at in range(60, 2000, 10):
        write = rig.core.take_write()
        assert write is not None
        rig.step(batch(chain[at : at + 10], vdl=at - 10, floor=at - 10))
        rig.store(write)
        rig.core.wrote()
        rig.core.tick(at * 0.01)
        assert rig.core.has_input
        largest = max(largest, len(rig.log))
    rig.settle()
    assert rig.state.scl == 2000 and rig.core.maintenance.compactions > 2
    assert largest < 20 << 10


# ---- scrub ---------------------------------------------------------------------------------------


def test_a_sound_log_is_read_over_and_over_and_left_alone() -> None:
    rig = filled()
    size = len(rig.log)
    assert scrub(rig) == 0 and rig.core.take_write() is None and len(rig.log) == size


@pytest.mark.parametrize("seed", range(25))
def test_a_flipped_bit_is_found_wherever_it_is_and_healed(seed: int) -> None:
    """§6, 2017 §3.3: the scrub checks every checksum; memory has what the disk has lost."""
    config = SegmentConfig(compact_bytes=64 << 20, scrub_bytes=4 << 10, scrub_interval_s=0.1)
    rig = filled(config=config)
    before = durable(rig.state)
    random = Random(seed)
    at = random.randrange(len(rig.log))
    rig.log[at] ^= 1 << random.randrange(8)
    assert scrub(rig) > 0, at
    rig.settle()
    assert rig.core.maintenance.compactions == 1
    found = scan(bytes(rig.log))
    assert not found.damage and not found.torn_bytes
    rig.restart()
    assert durable(rig.state) == before and rig.state.whole


def test_a_frame_longer_than_a_piece_is_read_whole() -> None:
    rig = SegmentRig(config=SegmentConfig(scrub_bytes=4 << 10, scrub_interval_s=0.1))
    large = [record._replace(payload=bytes(8000)) for record in records(range(1, 9))]
    rig.take(large)
    rig.take(records([9, 10], prev=8))
    assert scrub(rig) == 0
    rig.log[-5] ^= 1
    assert scrub(rig) > 0


def test_what_was_read_before_a_compaction_says_nothing_of_the_new_log() -> None:
    rig = filled()
    rig.core.tick(0.0)
    asked = rig.core.maintenance.take_scrub(10.0)
    assert asked is not None
    old = bytearray(rig.log)
    old[200] ^= 1
    rig.core.maintenance.require_rewrite()
    rig.settle()
    rig.core.maintenance.scrubbed(asked[0], asked[1], bytes(old))
    assert rig.core.maintenance.damages_found == 0


def test_a_promise_on_its_way_to_the_disk_is_not_taken_for_damage() -> None:
    rig = filled(10)
    maintenance = rig.core.maintenance
    scrub(rig)
    assert maintenance.promises_to_scrub
    before = rig.promises
    rig.step(Seal(SECOND, 1))
    write = rig.core.take_write()
    assert write is not None and write.promise is not None
    for slots in (before, write.promise + before[len(before) // 2 :], write.promise * 2):
        maintenance.promises_scrubbed(slots)
        assert not maintenance.promise_due and maintenance.promises_to_scrub
    rig.store(write)
    rig.core.wrote()
    maintenance.promises_scrubbed(before)
    assert (maintenance.promise_due, maintenance.damages_found) == (True, 1)
    rig.promises = bytes(len(before))
    rig.settle()
    assert rig.promises == write.promise * 2 and not maintenance.write_due
    maintenance.promises_scrubbed(rig.promises)
    assert maintenance.damages_found == 1


def test_a_damaged_segment_heals_its_log_once_it_is_whole_again() -> None:
    rig = filled(40)
    frame = scan(bytes(rig.log)).frames[2]
    rig.log[frame.start + 20] ^= 1
    rig.restart()
    assert not rig.state.whole and scrub(rig) > 0
    rig.settle()
    assert rig.core.maintenance.compactions == 0, "a clean log would hide what is missing"
    rig.take(records(range(1, 41)))
    assert rig.state.whole
    scrub(rig)
    rig.settle()
    assert rig.core.maintenance.compactions > 0 and not scan(bytes(rig.log)).damage
