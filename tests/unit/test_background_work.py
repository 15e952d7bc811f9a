"""No background work triggers itself, in any setting: what is written bounds it."""

from __future__ import annotations

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.config import SegmentConfig
from segments.protocol.events import LayerPublished, LogRewritten
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import GossipRecords, GossipStatus, InstallTable
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import encode_run
from segments.protocol.truncation import TruncationTable
from segments.storage import Identity, MemoryStorage
from tests.files_on_disks import make_file
from tests.store_rig import FIRST, StoreRig, batch, durable, records

SETTINGS = st.builds(
    SegmentConfig,
    write_bytes=st.sampled_from([64 << 10, 4 << 20]),
    image_interval=st.sampled_from([1, 3, 64]),
    gossip_bytes=st.sampled_from([16 << 10, 256 << 10]),
    wal_file_bytes=st.sampled_from([1 << 10, 16 << 10, 4 << 20]),
    fold_bytes=st.sampled_from([1 << 10, 16 << 10, 4 << 20]),
    block_bytes=st.sampled_from([1 << 8, 16 << 10]),
    fan_out=st.sampled_from([2, 4]),
    collect_ratio=st.sampled_from([0.01, 0.5, 100.0]),
    compact_bytes=st.sampled_from([0, 16 << 10]),
    compact_ratio=st.sampled_from([1.1, 2.0]),
)
RECORDS = 300


def chain(pages: int, sizes: list[int]) -> list[RedoRecord]:
    """Records on ``pages`` pages in turn, of these sizes in turn."""
    heads: dict[int, int] = {}
    made = []
    for lsn in range(1, RECORDS + 1):
        page_id, size = lsn % pages, sizes[lsn % len(sizes)]
        payload = bytes([lsn % 251 + 1]) * size
        made.append(
            RedoRecord(lsn, page_id, 0, payload, lsn, True, lsn - 1, lsn - 1, heads.get(page_id, 0))
        )
        heads[page_id] = lsn
    return made


@settings(max_examples=40, deadline=None)
@given(
    config=SETTINGS,
    sizes=st.lists(st.sampled_from([1, 8, 300, PAGE_SIZE]), min_size=1, max_size=3),
    pages=st.sampled_from([1, 4, 100]),
    per_batch=st.sampled_from([10, 100]),
    retention=st.none() | st.sampled_from([0, 20, 200]),
)
def test_layers_are_bounded_by_what_is_written_and_at_rest_there_are_none_more(
    config: SegmentConfig, sizes: list[int], pages: int, per_batch: int, retention: int | None
) -> None:
    rig = StoreRig(config=config)
    written = chain(pages, sizes)
    for at in range(0, RECORDS, per_batch):
        floor = 0 if retention is None else max(0, at - retention)
        rig.take(written[at : at + per_batch], vdl=at, floor=floor)
        rig.work(now=at * 1.0)
    rig.take([], vdl=RECORDS, floor=0 if retention is None else RECORDS - retention)
    rig.work(now=1e6)
    assert rig.state.scl == RECORDS
    for turn in range(20):
        assert not rig.take_job(1e6 + turn * 100.0), "nothing was written"
    folded = sum(
        each.file_bytes
        for each in rig.events
        if isinstance(each, LayerPublished) and not each.replaced
    )
    layers = sum(each.file_bytes for each in rig.events if isinstance(each, LayerPublished))
    tiers = 3 + (folded // config.fold_bytes).bit_length()
    bases = (1 + 1 / config.collect_ratio) * folded
    assert layers <= tiers * folded + bases
    # Deltas that are left are few: fan_out - 1 of each tier, on each side of the floor.
    assert len(rig.state.layers) <= 2 * (config.fan_out - 1) * tiers + 1
    before = durable(rig)
    rig.restart()
    assert durable(rig) == before


def test_a_head_longer_than_all_the_rest_is_not_written_over_and_over() -> None:
    """A table of 700 writers takes more than all that is in the log besides."""
    rig = StoreRig(config=SegmentConfig(compact_bytes=4 << 10, compact_ratio=1.1))
    table = TruncationTable(FIRST)
    for number in range(700):
        table = table.extended(VolumeEpoch(number + 2, 1), number << 50, (number << 50) + 500)
    rig.step(InstallTable(table.epoch, 1, table))
    rig.settle()
    for turn in range(20):
        rig.work(now=turn * 10.0, jobs=3)
    assert sum(isinstance(each, LogRewritten) for each in rig.events) <= 1


async def test_a_long_file_in_memory_lets_others_run() -> None:
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


def test_records_that_bring_nothing_new_are_not_asked_for_again() -> None:
    """Two segments would else send each other the same for ever, as fast as they can."""
    rig = StoreRig()
    rig.take(records([1, 2, 3]))
    contrary = records([4], prev=2)
    run = encode_run(contrary)
    rig.step(GossipRecords(FIRST, "B0", TruncationTable(FIRST), 0, run), "B0")
    assert (rig.settle(), rig.state.scl) == ([], 3)
    run = encode_run(records([4], prev=3))
    rig.step(GossipRecords(FIRST, "B0", TruncationTable(FIRST), 0, run), "B0")
    sent = [each.message for each in rig.settle()]
    assert rig.state.scl == 4 and [type(each) for each in sent] == [GossipStatus]


def test_a_peer_that_is_ahead_is_asked_for_one_layer_at_a_time() -> None:
    rig = StoreRig()
    rig.step(batch([], vdl=60))
    rig.core.take_sends()
    for source in ("B0", "C0", "B0"):
        status = GossipStatus(FIRST, source, TruncationTable(FIRST), 50, 60, 0, 0, 50, False)
        rig.step(status, source)
    transfer = rig.core.gossip.transfer
    assert transfer is not None and transfer.peer == "B0"
    assert rig.core.take_sends() == [], "it asks when it has time for what comes"
