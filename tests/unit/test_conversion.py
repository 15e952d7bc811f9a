"""One segment of format 3, converted: what its old log says, and what a restart then finds."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import attrs
import pytest

from segments.config import SegmentConfig
from segments.conversion.old_log import OldLog, read_old_log, with_clocks
from segments.conversion.segment import ConvertedSegment, convert_job
from segments.layers.job import Create, Extend, Op, SyncFile, finished
from segments.manifest import MANIFEST, PROMISE
from segments.protocol.errors import MalformedMessage, SegmentLost
from segments.protocol.ids import Lsn, PageId, VolumeEpoch
from segments.protocol.messages import PageImage
from segments.protocol.record import RedoRecord
from segments.protocol.run import encode_run, read_run
from segments.protocol.truncation import TruncationRange, TruncationTable
from segments.restart import RestartPlan, plan_restart
from segments.state import SegmentState
from segments.wal import PROMISE_SLOT_BYTES, Promise, encode_promise
from tests.old_format import (
    EPOCH,
    PROMISES,
    TABLE,
    adopted,
    checkpoint,
    frame,
    held,
    images,
    old_run,
    ran,
    sealed,
)
from tests.oracles import chained, naive_page, naive_scl, runs_of

LATER = VolumeEpoch(2, 9)
BEGIN = frame([adopted(TABLE)])


def history(count: int, random: Random | None = None, step: int = 1) -> list[RedoRecord]:
    """A chain on five pages, at every ``step``-th LSN."""
    random = random or Random(count)
    magics = (b"\xc1WAL", b"\xc1WA\0", b"\xc1WA\xc1WAL", b"x")
    return chained(
        (
            lsn * step,
            random.randrange(5),
            random.randrange(100),
            random.choice(magics) + random.randbytes(8),
        )
        for lsn in range(1, count + 1)
    )


@attrs.frozen
class Done:
    """What has become of a segment, and what a restart finds in its new files."""

    converted: ConvertedSegment
    plan: RestartPlan
    files: dict[str, bytes]

    @property
    def state(self) -> SegmentState:
        return self.plan.state

    def page(self, page_id: PageId, read_point: Lsn) -> PageImage:
        def read(name: str, offset: int, length: int) -> bytes:
            return self.files[name][offset : offset + length]

        return self.state.materializer.read_now(page_id, read_point, read)

    def check_pages(self, written: list[RedoRecord], read_points: Iterable[Lsn]) -> None:
        """Each page at each read point is what all records up to there make of it."""
        self.state.announced(self.state.scl, 0)
        for read_point in read_points:
            for page_id in range(6):
                assert self.page(page_id, read_point) == naive_page(written, page_id, read_point)


def convert(log: bytes, promises: bytes = PROMISES) -> Done:
    files: dict[str, bytes] = {}
    synced: set[str] = set()

    def execute(op: Op) -> None:
        match op:
            case Create(name):
                assert name not in files
                files[name] = b""
            case Extend(name, data):
                files[name] += data
            case SyncFile(name):
                synced.add(name)
            case _:
                raise AssertionError(op)

    outcome = finished(convert_job("A0", log, promises, 0xABCDEF), execute)
    assert synced == set(files)
    files |= {PROMISE: promises, MANIFEST: outcome.manifest}
    plan = plan_restart("A0", files, SegmentConfig())
    assert not plan.leftovers
    assert not plan.torn_bytes
    return Done(outcome.converted, plan, files)


def base_of(chain: list[RedoRecord], base_lsn: Lsn) -> list[PageImage]:
    """The images of all pages as of ``base_lsn``."""
    found = [naive_page(chain, page_id, base_lsn) for page_id in range(5)]
    return [each for each in found if each.page_lsn]


def in_runs(records: list[RedoRecord], random: Random) -> list[bytes]:
    """Frames of these records, in runs of any length, each of one piece of the chain."""
    frames = []
    while records:
        count = random.randrange(1, 6)
        part, records = records[:count], records[count:]
        frames += [frame([held(0), ran(run)]) for run in pieces(part)]
    return frames


def pieces(records: list[RedoRecord]) -> list[list[RedoRecord]]:
    return [run.records() for run in runs_of(records)]


# ---- whole logs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_a_segment_holds_what_it_held(seed: int) -> None:
    random = Random(seed)
    chain = history(60, random, step=1 + seed % 3)
    base_lsn = chain[random.randrange(30)].lsn if seed % 4 else 0
    lost = random.randrange(35, 60) if seed % 2 else len(chain)
    vdl = max(base_lsn, chain[32].lsn)
    kept = [each for place, each in enumerate(chain) if each.lsn > base_lsn and place != lost]
    log = [BEGIN]
    if base_lsn:
        pages = base_of(chain, base_lsn)
        parts = [pages[:2], pages[2:]]
        log = [
            frame([held(base_lsn), checkpoint(base_lsn, len(parts), vdl=vdl)]),
            *(frame([images(base_lsn, each)]) for each in parts),
        ]
    done = convert(b"".join([*log, *in_runs(kept, random)]))

    scl = naive_scl(kept, base_lsn)
    assert (done.state.scl, done.state.folded) == (scl, base_lsn)
    assert done.state.vdl >= (vdl if base_lsn else 0)
    assert done.state.index.held() == kept
    assert done.state.whole
    assert done.converted == ConvertedSegment(
        "A0", len(base_of(chain, base_lsn)), len(kept), scl,
        whole=True, damaged_bytes=0, torn_bytes=0,
    )  # fmt: skip
    done.check_pages(chain, range(max(base_lsn, 1), scl + 1))


def test_what_is_promised_and_announced_stays() -> None:
    chain = history(10)
    table = TruncationTable(LATER, (TruncationRange(6, 50, LATER),), EPOCH)
    log = BEGIN + frame([ran(chain, vdl=7, floor=3)])
    log += frame([sealed(LATER)], LATER) + frame([adopted(table, 8)], LATER)
    log += frame([(8, LATER)], LATER)
    done = convert(log, encode_promise(Promise(LATER, LATER)) * 2)
    assert done.state.epoch == LATER
    assert done.state.table == table.with_settled(LATER)
    assert (done.state.vdl, done.state.announced_floor) == (8, 0)
    assert done.state.index.held() == chain[:5]  # the others are annulled
    assert done.state.whole
    assert done.plan.promise is None


def test_a_floor_that_the_present_writer_has_announced_stays() -> None:
    done = convert(BEGIN + frame([ran(history(9), vdl=7, floor=3)]))
    assert (done.state.vdl, done.state.announced_floor) == (7, 3)


def test_a_segment_that_was_never_written_to() -> None:
    done = convert(BEGIN)
    assert (done.state.scl, done.state.epoch, done.state.table) == (0, EPOCH, TABLE)
    assert done.state.whole


def test_pages_that_came_from_a_peer_replace_what_was_there() -> None:
    """A checkpoint amid the log, and records above a gap that link to it."""
    chain = history(30)
    log = BEGIN + frame([ran(chain[:5])]) + frame([ran(chain[25:])])
    log += frame([checkpoint(22, 1), images(22, base_of(chain, 22))]) + frame([ran(chain[22:25])])
    done = convert(log)
    assert (done.state.folded, done.state.scl) == (22, 30)
    assert done.state.vdl >= 22  # nothing is in a layer that no writer has announced
    done.check_pages(chain, range(22, 31))


def test_pages_that_came_too_late_are_left_out() -> None:
    chain = history(30)
    log = BEGIN + frame([ran(chain)]) + frame([checkpoint(22, 1), images(22, base_of(chain, 22))])
    done = convert(log)
    assert (done.state.folded, done.state.scl) == (0, 30)
    done.check_pages(chain, range(1, 31))


def test_a_page_of_zeros_is_a_page() -> None:
    chain = chained([(1, 3, 0, b"\0")])
    done = convert(frame([checkpoint(1, 1), images(1, [naive_page(chain, 3, 1)])]))
    done.check_pages(chain, [1])


def test_many_pages_make_many_blocks() -> None:
    random = Random(8)
    pages = [PageImage(page, page + 1, random.randbytes(8192)) for page in range(100)]
    parts = [images(100, pages[at : at + 10]) for at in range(0, 100, 10)]
    done = convert(frame([checkpoint(100, 10)]) + b"".join(frame([each]) for each in parts))
    for each in pages:
        assert done.page(each.page_id, 100) == each


# ---- what is spoilt ------------------------------------------------------------------------------


def spoilt(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_damage_is_damage_still_and_peers_heal_it() -> None:
    chain = history(30)
    frames = [BEGIN, *(frame([held(at), ran(chain[at : at + 10])]) for at in (0, 10, 20))]
    frames[2] = spoilt(frames[2])
    done = convert(b"".join(frames))
    assert done.converted.damaged_bytes == len(frames[2])
    assert not done.converted.whole
    assert done.plan.damage
    assert not done.state.whole
    assert (done.state.scl, done.state.highest_lsn) == (10, 30)
    done.state.index.insert_run(read_run(encode_run(chain[10:20])))
    assert done.state.whole
    assert done.state.scl == 30


def test_what_was_lost_at_the_end_is_not_forgotten() -> None:
    """The last records are gone; that they were held, a later frame says."""
    chain = history(20)
    last = spoilt(frame([held(10), ran(chain[10:])]))
    done = convert(BEGIN + frame([held(0), ran(chain[:10])]) + last + frame([held(20)]))
    assert (done.state.scl, done.state.highest_lsn, done.state.whole) == (10, 20, False)


def test_a_table_that_is_lost_is_missed() -> None:
    log = BEGIN + frame([ran(history(5))])
    done = convert(log, encode_promise(Promise(LATER, LATER)) * 2)
    assert done.state.lacks_table
    assert not done.converted.whole


def test_a_checkpoint_with_a_part_missing_is_none() -> None:
    chain = history(30)
    pages = base_of(chain, 20)
    head, *parts = (frame([checkpoint(20, 2)]), *(frame([images(20, pages[k::2])]) for k in (0, 1)))
    log = head + spoilt(parts[0]) + parts[1] + frame([held(20), ran(chain[20:])])
    done = convert(log)
    assert (done.state.folded, done.state.scl) == (0, 0)
    assert done.state.highest_lsn == 30
    assert not done.state.whole


def test_the_next_parts_may_be_those_of_another_checkpoint() -> None:
    chain = history(30)
    pages = base_of(chain, 20)
    log = frame([checkpoint(20, 1)]) + spoilt(frame([held(20)])) + frame([images(20, pages)])
    assert convert(log).state.folded == 0


def test_a_torn_tail_is_cut_off() -> None:
    chain = history(20)
    tail = frame([ran(chain[10:])])[:-5]
    done = convert(BEGIN + frame([ran(chain[:10])]) + tail)
    assert done.converted.torn_bytes == len(tail)
    assert done.state.index.held() == chain[:10]
    assert done.state.whole


def test_a_frame_that_says_what_cannot_be_is_damage() -> None:
    chain = history(5)
    wrong = [
        (99,), (), (1, 0, 0, b"no run"), (1, 0, 0, spoilt(old_run(chain))), (2,),
        (5, 9), (5, 9, [7]),
        images(4, [PageImage(1, 5, b"above its base")]), (5, 9, [(1, 2, b"ends in zero\0")]),
        (5, 9, [(1, 2, bytes(8193))]), (5, 9, [(1, 2)]),
    ]  # fmt: skip
    for entry in wrong:
        log = BEGIN + frame([entry]) + frame([held(0)])
        assert read_old_log(log).damaged_bytes == len(frame([entry])), entry


def test_rows_are_checked() -> None:
    (record,) = chained([(1, 1, 0, b"x")])
    with pytest.raises(MalformedMessage, match="impossible fields"):
        with_clocks(old_run([record._replace(offset=8191, payload=b"xx")]))
    with pytest.raises(MalformedMessage, match="payloads end"):
        with_clocks(encode_run([record]))  # one with a clock


@pytest.mark.parametrize("log", [b"", b"no frame", spoilt(BEGIN)])
def test_a_log_without_a_frame_is_lost(log: bytes) -> None:
    with pytest.raises(SegmentLost, match="segment A0 has lost its log: no sound frame"):
        convert(log)


@pytest.mark.parametrize("promises", [b"", bytes(2 * PROMISE_SLOT_BYTES)])
def test_a_segment_without_promises_is_lost(promises: bytes) -> None:
    with pytest.raises(SegmentLost, match="segment A0 has lost its promises"):
        convert(BEGIN, promises)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_rots_nothing_wrong_is_read(seed: int) -> None:
    """Every frame is what was written, or damage, or the torn tail."""
    random = Random(seed)
    chain = history(12, random)
    log = bytearray(b"".join([BEGIN, *in_runs(chain, random)]))
    written = read_old_log(bytes(log))
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(log))
        log[at : at + random.randrange(30)] = random.randbytes(random.randrange(30))
    check_nothing_is_made_up(read_old_log(bytes(log)), written)


def check_nothing_is_made_up(found: OldLog, written: OldLog) -> None:
    entries = [each.entries for each in written.frames]
    assert all(each.entries in entries for each in found.frames)


@pytest.mark.parametrize("seed", range(60))
def test_no_body_is_too_strange(seed: int) -> None:
    """Bodies with sums that are right, of whatever msgpack."""
    random = Random(seed)

    def value(depth: int = 0) -> object:
        kinds = [random.randrange(-3, 1 << 40), random.randbytes(4), None, True, "text"]
        if depth < 5 and random.random() < 0.7:
            return tuple(value(depth + 1) for _ in range(random.randrange(7)))
        return random.choice(kinds)

    entries = [(random.randrange(10), *map(value, range(4))) for _ in range(3)]
    log = BEGIN + frame(entries)
    found = read_old_log(log)
    assert (len(found.frames) - 1) * found.damaged_bytes == 0
