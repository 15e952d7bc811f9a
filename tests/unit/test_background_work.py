"""No background work triggers itself, in any setting: what is written bounds it."""

from __future__ import annotations

import attrs
import trio
from hypothesis import given
from hypothesis import strategies as st

from segments.config import SegmentConfig
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import (
    GossipPages,
    GossipRecords,
    GossipStatus,
    InstallTable,
    PageImage,
)
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import encode_run
from segments.protocol.truncation import TruncationTable
from segments.storage import Identity, MemoryStorage
from segments.wal import MAGIC, CheckpointEntry, Entry, HeldEntry, ImagesEntry, scan
from tests.files_on_disks import make_file
from tests.segment_rig import FIRST, SegmentRig, batch, records

SETTINGS = st.builds(
    SegmentConfig,
    write_bytes=st.sampled_from([64 << 10, 4 << 20]),
    image_interval=st.sampled_from([1, 3, 64]),
    image_cache_bytes=st.sampled_from([0, 64 << 20]),
    coalesce_records=st.sampled_from([1, 7, 2_000]),
    gossip_bytes=st.sampled_from([16 << 10, 256 << 10]),
    collect_records=st.sampled_from([1, 50, 10_000]),
    compact_bytes=st.sampled_from([4 << 10, 64 << 10]),
    compact_records=st.sampled_from([1, 30, 100_000]),
    compact_ratio=st.sampled_from([1.1, 2.0, 1_000.0]),
)
IDLE_TICKS = 60
RECORDS = 300


@attrs.define
class Watched:
    """A segment, and what its compactions were preceded by."""

    rig: SegmentRig
    now: float = 0.0
    compactions: int = 0
    checkpoint_bytes: int = 0
    """Length of the log that the last compaction has left."""
    base_lsn: int = 0
    """What had been collected when it began."""

    def tick(self) -> None:
        self.now += 0.05
        self.rig.core.tick(self.now)
        self.settle()

    def settle(self) -> None:
        """Write all there is to write, and hold every compaction to what has come before it."""
        core, config = self.rig.core, self.rig.config
        for _ in range(50):
            write = core.take_write()
            if write is None:
                return
            before, collected = len(self.rig.log), self.rig.state.index.base_lsn - self.base_lsn
            self.rig.store(write)
            core.wrote()
            while core.applying:
                core.apply_more()
            if write.replace is None:
                continue
            grown = before > config.compact_ratio * self.checkpoint_bytes
            assert grown or collected >= config.compact_records
            assert not core.maintenance.compaction_due, "nothing has happened since the last one"
            self.compactions += 1
            self.checkpoint_bytes, self.base_lsn = len(self.rig.log), self.rig.state.index.base_lsn
        raise AssertionError("50 writes, and still something to write")


def chain(page_ids: list[int], sizes: list[int]) -> list[RedoRecord]:
    """`RECORDS` records on those pages in turn, of those sizes in turn, at the pages' ends."""
    heads: dict[int, int] = {}
    made = []
    for lsn in range(1, RECORDS + 1):
        page_id, size = page_ids[lsn % len(page_ids)], sizes[lsn % len(sizes)]
        payload = (MAGIC[:3] * PAGE_SIZE)[:size]  # which takes a third more in a log
        made.append(
            RedoRecord(lsn, page_id, PAGE_SIZE - size, payload, lsn, True, lsn - 1, lsn - 1,
                       heads.get(page_id, 0))
        )  # fmt: skip
        heads[page_id] = lsn
    return made


@given(
    config=SETTINGS,
    sizes=st.lists(st.sampled_from([1, 8, 300, PAGE_SIZE]), min_size=1, max_size=3),
    pages=st.sampled_from([1, 4, 100]),
    per_batch=st.sampled_from([1, 10, 100]),
    retention=st.none() | st.sampled_from([0, 20, 200]),
)
def test_compactions_are_bounded_by_what_is_written_and_collected(
    config: SegmentConfig, sizes: list[int], pages: int, per_batch: int, retention: int | None
) -> None:
    """A checkpoint larger than what triggers the next one would be written over and over."""
    watched = Watched(SegmentRig(config=config))
    written = chain(list(range(pages)), sizes)
    for at in range(0, RECORDS, per_batch):
        run = written[at : at + per_batch]
        floor = 0 if retention is None else max(0, at - retention)
        watched.rig.step(batch(run, vdl=at, floor=floor))
        watched.settle()
        watched.tick()
    while_writing = watched.compactions
    for _ in range(IDLE_TICKS):
        watched.tick()
    collected_at_rest = RECORDS // config.compact_records + 1
    assert watched.compactions - while_writing <= collected_at_rest
    at_rest = watched.compactions
    for _ in range(IDLE_TICKS):
        watched.tick()
    if config.coalesce_records > 7:
        assert watched.compactions == at_rest, "nothing was written, nothing was left to collect"
    assert watched.rig.state.scl == RECORDS


def test_a_checkpoint_that_no_estimate_foresees_is_written_once() -> None:
    """A table of 700 writers takes more than all that is in the log besides."""
    rig = SegmentRig(config=SegmentConfig(compact_bytes=4 << 10, compact_ratio=1.1))
    table = TruncationTable(FIRST)
    for number in range(700):
        table = table.extended(VolumeEpoch(number + 2, 1), number << 50, (number << 50) + 500)
    rig.step(InstallTable(table.epoch, 1, table))
    watched = Watched(rig)
    for _ in range(IDLE_TICKS):
        watched.tick()
    assert watched.compactions <= 1
    assert rig.core.maintenance.log_bytes > 2 * rig.state.live_bytes()


async def test_a_checkpoint_in_memory_lets_others_run() -> None:
    """And whoever waits for Ctrl-C with them."""
    storage = MemoryStorage(Identity("volume", "A0"))
    seen: list[int] = []

    async def make() -> None:
        await make_file(storage, "wal-1", (str(number).encode() for number in range(5)))
        assert len(seen) >= 4

    async with trio.open_nursery() as nursery:
        nursery.start_soon(make)
        for number in range(10):
            seen.append(number)
            await trio.lowlevel.checkpoint()
    assert (await storage.read("wal-1", 0, 9)) == b"01234"


# ---- gossip --------------------------------------------------------------------------------------


def pages_as_of(base_lsn: int) -> GossipPages:
    images = (PageImage(0, base_lsn, bytes([1]) * PAGE_SIZE),)
    return GossipPages(FIRST, "B0", TruncationTable(FIRST), 60, base_lsn, 0, 0, images)


def test_pages_that_wait_for_a_slow_disk_are_not_queued_again() -> None:
    rig = SegmentRig()
    rig.step(batch([], vdl=60))
    entries: list[Entry] = []
    rig.step(pages_as_of(50), "B0")
    for _ in range(20):
        rig.step(pages_as_of(50), "B0")  # each round of gossip finds us where we were
        rig.step(pages_as_of(40), "C0")
    while (write := rig.core.take_write()) is not None:
        rig.step(pages_as_of(50), "B0")
        rig.store(write)
        entries += scan(write.append).frames[0].frame.entries
        rig.core.wrote()
    assert [type(each) for each in entries] == [HeldEntry, CheckpointEntry, ImagesEntry]
    assert rig.state.scl == 50


def test_newer_pages_are_taken_although_older_ones_wait() -> None:
    rig = SegmentRig()
    rig.step(batch([], vdl=60))
    rig.step(pages_as_of(40), "B0")
    rig.step(pages_as_of(50), "C0")
    rig.settle()
    assert rig.state.scl == 50


def test_records_that_bring_nothing_new_are_not_asked_for_again() -> None:
    """Two segments would else send each other the same for ever, as fast as they can."""
    rig = SegmentRig()
    rig.take(records([1, 2, 3]))
    contrary = records([4], prev=2)
    run = encode_run(contrary)
    rig.step(GossipRecords(FIRST, "B0", TruncationTable(FIRST), 0, run), "B0")
    assert (rig.settle(), rig.state.scl) == ([], 3)
    run = encode_run(records([4], prev=3))
    rig.step(GossipRecords(FIRST, "B0", TruncationTable(FIRST), 0, run), "B0")
    sent = [each.message for each in rig.settle()]
    assert rig.state.scl == 4 and [type(each) for each in sent] == [GossipStatus]


# ---- scrub ---------------------------------------------------------------------------------------


def test_a_disk_that_spoils_everything_is_written_anew_at_growing_intervals() -> None:
    rig = SegmentRig(config=SegmentConfig(scrub_interval_s=0.001, tick_interval_s=0.001))
    rig.take(records(range(1, 50)))
    maintenance, times = rig.core.maintenance, []

    def look(now: float, *, spoilt: bool) -> None:
        rig.core.tick(now)
        asked = maintenance.take_scrub(now + 0.01)
        if asked is not None:
            generation, offset, length = asked
            data = bytearray(rig.log[offset : offset + length])
            data[20] ^= spoilt
            maintenance.scrubbed(generation, offset, bytes(data))
        before = maintenance.compactions
        rig.settle()
        times.extend([now] * (maintenance.compactions - before))

    for turn in range(2_000):
        look(turn * 0.05, spoilt=True)
    assert 5 < len(times) < 20
    for turn in range(2_000, 5_000):
        look(turn * 0.05, spoilt=False)
    times.clear()
    look(260.0, spoilt=True)
    assert times == [260.0], "a log that was read sound is repaired at once, when it rots again"
