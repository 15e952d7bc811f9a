"""What stays readable for its age, and the clock that commits carry."""

from __future__ import annotations

from bisect import bisect_right

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora.config import EngineConfig
from aurora.recovery import plan_recovery
from aurora.retention import SHARES, Kept, Retention
from aurora.writer_clock import WriterClock
from segments.layers.block import unchecked_block
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import SealReply
from segments.protocol.record import RedoRecord
from segments.protocol.run import MAX_CLOCK_US, encode_rows
from segments.protocol.truncation import TruncationTable
from tests.worlds import World, run_world

EPOCH = VolumeEpoch(2, 1)
FIRST = VolumeEpoch(1, 1)
TABLE = TruncationTable(EPOCH)


def kept(retention: Retention, vdl: int) -> int:
    found = retention.kept(TABLE, vdl)
    assert found is not None
    return found.lsn


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.001, 4.0), st.integers(0, 5)), min_size=1, max_size=60),
    st.sampled_from([0.5, 3.0, 20.0]),
)
def test_versions_that_were_current_within_the_time_stay(
    steps: list[tuple[float, int]], seconds: float
) -> None:
    """Beside a list of every VDL and when it was so."""
    retention = Retention(EngineConfig(retention_lsns=0, retention_s=seconds))
    now, vdl = 0.0, 10
    times, vdls = list[float](), list[int]()
    for passed, commits in steps:
        now, vdl = now + passed, vdl + commits
        retention.tick(vdl, now)
        times.append(now)
        vdls.append(vdl)
        old = bisect_right(times, now - seconds)
        most = vdls[old - 1] if old else 0
        older = bisect_right(times, now - seconds * (1 + 1 / SHARES) - 4.0)
        least = vdls[older - 1] if older else 0
        assert least <= kept(retention, vdl) <= most
        assert len(retention._marks) <= SHARES + 2


def test_marks_are_few_and_the_floor_follows() -> None:
    retention = Retention(EngineConfig(retention_lsns=0, retention_s=10.0))
    for step in range(100_000):
        retention.tick(step, step / 1_000)
        assert len(retention._marks) <= SHARES + 2
    assert 99_999 - 10_000 - 2 * 10_000 / SHARES <= kept(retention, 99_999) <= 99_999 - 10_000


def test_the_lower_of_both_demands_counts() -> None:
    retention = Retention(EngineConfig(retention_lsns=5, retention_s=10.0))
    retention.tick(20, 0.0)
    assert retention.kept(TABLE, 20) == Kept(
        0, True, "what was current in the last 10 s stays readable"
    )
    retention.tick(20, 10.0)
    assert retention.kept(TABLE, 20) == Kept(15, False, "5 LSNs behind the VDL stay readable")
    retention.tick(40, 11.0)
    assert kept(retention, 40) == 20, "what the opening found"


def test_without_a_number_of_lsns_everything_stays() -> None:
    retention = Retention(EngineConfig(retention_lsns=None, retention_s=0.1))
    retention.tick(20, 0.0)
    retention.tick(20, 99.0)
    assert retention.kept(TABLE, 20) is None


def test_the_floor_of_a_volume_waits_for_its_age() -> None:
    async def main(world: World) -> None:
        engine = world.cluster.engine
        for _ in range(20):
            await engine.put(0, 0, b"x")
        await trio.sleep(0.3)
        assert engine.statistics().floor == 0, "what is at most so old"
        await trio.sleep(0.9)
        assert engine.statistics().floor == 20

    run_world(main, engine=EngineConfig(retention_lsns=0, retention_s=1.0))


# ---- the clock -----------------------------------------------------------------------------------


def test_a_clock_never_goes_back() -> None:
    shown = iter([5_000, 7_999, 3_000, 9_000, 1 << 80])
    clock = WriterClock(lambda: next(shown), after_us=6)
    assert [clock.now_us() for _ in range(5)] == [6, 7, 7, 9, MAX_CLOCK_US]


def test_a_row_gives_its_clock_and_its_change() -> None:
    records = [
        RedoRecord(1, 4, 0, b"abc", 1, False, 0, 0, 0),
        RedoRecord(2, 4, 3, b"de", 1, True, 1, 1, 1, 77),
    ]
    block = unchecked_block(encode_rows(records))
    assert [block.clock_us(row) for row in range(2)] == [0, 77]
    assert [block.payload(row) for row in range(2)] == [b"abc", b"de"]
    page = bytearray(6)
    block.apply(page, 0, 2)
    assert page == b"abcde\0"


@pytest.mark.parametrize(("through", "clock_us"), [(3, 70), (1, 0)])
def test_a_recovery_goes_on_from_the_clock_it_finds(through: int, clock_us: int) -> None:
    """Of what survives: nobody has seen the time of a mini-transaction that is annulled."""
    chain = [
        RedoRecord(1, 0, 0, b"x", 1, False, 0, 0, 0),
        RedoRecord(2, 0, 0, b"x", 1, True, 1, 1, 1, 50),
        RedoRecord(3, 0, 0, b"x", 3, True, 2, 2, 2, 70),
    ]
    replies = [
        SealReply(EPOCH, segment, 1, through, 0, 0, TruncationTable(FIRST)) for segment in "ABC"
    ]
    plan = plan_recovery(EPOCH, 10, {0: replies}, {0: chain[:through]})
    assert plan.clock_us == clock_us
