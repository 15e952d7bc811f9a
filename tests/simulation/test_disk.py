"""The simulated disk: what is synced stays, and what becomes of everything else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.protocol.errors import (
    Invalid,
    MalformedFrame,
    SegmentLost,
    StorageBroken,
    StorageFailed,
)
from segments.protocol.ids import VolumeEpoch
from segments.storage import Identity, MemoryStorage, Storage, Stored
from segments.wal import (
    PROMISE_BYTES,
    PROMISE_SLOT_BYTES,
    Promise,
    decode_promises,
    encode_promise,
)
from sim.plan.profiles import DiskProfile
from sim.world.ambush import Ambush
from sim.world.disk import SimulatedStorage
from sim.world.scheduler import Deadlock, VirtualScheduler

MS = 1_000_000
SECOND = 1000 * MS
STEADY = DiskProfile(minimum_ns=MS, extra_mean_ns=0)
IDENTITY = Identity("volume", "A0")
SLOT = PROMISE_SLOT_BYTES
DATA = bytes(range(1, 101))


class World:
    def __init__(
        self, profile: DiskProfile = STEADY, *, seed: int = 1, capacity: int | None = None
    ) -> None:
        self.scheduler = VirtualScheduler()
        self.disk = SimulatedStorage(
            self.scheduler, Random(seed), IDENTITY, profile, capacity_bytes=capacity
        )

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        self.scheduler.run(main, seed=1, deadline_ns=1000 * SECOND)


OPERATIONS = st.one_of(
    st.tuples(st.just("append"), st.binary(max_size=20)),
    st.tuples(st.just("promise"), st.binary(min_size=SLOT, max_size=SLOT)),
    st.tuples(st.just("replace"), st.lists(st.binary(max_size=9), max_size=3)),
    st.tuples(st.just("truncate"), st.integers(0, 30)),
    st.tuples(st.just("read"), st.integers(0, 30)),
)


async def _perform(storage: Storage, kind: str, argument: Any) -> object:
    try:
        if kind == "append":
            await storage.append(argument)
        elif kind == "promise":
            await storage.write_promise(argument)
        elif kind == "replace":
            await storage.replace(iter(argument))
        elif kind == "truncate":
            await storage.truncate(argument)
        else:
            return await storage.read(argument, 10)
    except Invalid:
        return "invalid"
    return None


@settings(max_examples=50, deadline=None)
@given(st.lists(OPERATIONS, max_size=15))
def test_without_faults_it_is_the_disk_in_memory(plan: list[tuple[str, object]]) -> None:
    world, oracle = World(), MemoryStorage.create(IDENTITY)

    async def main() -> None:
        storage: Storage = world.disk
        assert storage.identity == oracle.identity
        for kind, argument in plan:
            assert await _perform(storage, kind, argument) == await _perform(oracle, kind, argument)
            assert (await storage.load()) == (await oracle.load())
            assert storage.size() == oracle.size()
        storage.close()

    world.run(main)


def test_every_operation_takes_its_time_and_a_slow_disk_more() -> None:
    world = World()
    disk = world.disk

    async def main() -> None:
        await disk.append(b"one")
        assert world.scheduler.now_ns == MS
        await disk.read(0, 1)
        assert world.scheduler.now_ns == 2 * MS
        disk.set_slowness(10.0)
        await disk.append(b"two")
        assert world.scheduler.now_ns == 12 * MS

    world.run(main)
    assert disk.peek().log == b"onetwo"


def test_the_mean_time_is_that_of_the_profile() -> None:
    world = World(DiskProfile(minimum_ns=MS, extra_mean_ns=MS))

    async def main() -> None:
        for _ in range(2000):
            await world.disk.append(b"")

    world.run(main)
    assert 1.9 * MS < world.scheduler.now_ns / 2000 < 2.1 * MS


def test_nothing_is_durable_before_its_time() -> None:
    world = World()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.disk.append, b"data")
            await world.scheduler.sleep_ns(MS - 1)
            assert world.disk.size() == 0
            await world.scheduler.sleep_ns(2)
            assert world.disk.size() == 4

    world.run(main)


def _crash_in(world: World, write: Callable[[], Awaitable[object]]) -> None:
    """Crash in the middle of a write, which must never end well."""

    async def fail() -> None:
        with pytest.raises(StorageFailed, match="crashed"):
            await write()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await world.scheduler.sleep_ns(MS // 2)
            world.disk.crash()
        left = await world.disk.load()
        await world.scheduler.sleep_ns(10 * MS)
        assert (await world.disk.load()) == left, "a process that is gone writes no more"

    world.run(main)


def test_a_crash_tears_at_most_the_append_in_progress() -> None:
    left: set[str] = set()
    for seed in range(200):
        world = World(seed=seed)
        world.disk._log = bytearray(b"synced")
        _crash_in(world, partial(world.disk.append, DATA))
        log = world.disk.peek().log
        assert log.startswith(b"synced")
        tail = log[6:]
        assert len(tail) <= len(DATA)
        common = next((i for i, byte in enumerate(tail) if byte != DATA[i]), len(tail))
        rest = tail[common:]
        left.add(
            "nothing" if not tail else "prefix" if not rest else "rubbish" if any(rest) else "zeros"
        )
    assert left == {"nothing", "prefix", "zeros", "rubbish"}


def test_a_crash_leaves_a_replaced_or_cut_log_wholly_old_or_wholly_new() -> None:
    logs, cuts = set(), set()
    for seed in range(20):
        world = World(seed=seed)
        world.disk._log = bytearray(b"old log")
        _crash_in(world, partial(world.disk.replace, [b"new", b"er"]))
        logs.add(world.disk.peek().log)
        world = World(seed=seed)
        world.disk._log = bytearray(b"old log")
        _crash_in(world, partial(world.disk.truncate, 3))
        cuts.add(world.disk.peek().log)
    assert logs == {b"old log", b"newer"}
    assert cuts == {b"old log", b"old"}


def test_a_crash_leaves_one_slot_of_a_promise_whole() -> None:
    low, high = (Promise(VolumeEpoch(at, 1 << 40), VolumeEpoch(at, 9)) for at in (1, 300))
    old, new = encode_promise(low), encode_promise(high)
    known = {old: "old", new: "new"}
    states = set()
    for seed in range(200):
        world = World(seed=seed)
        world.disk._promises = old * 2
        _crash_in(world, partial(world.disk.write_promise, new))
        promises = world.disk.peek().promises
        slots = promises[:SLOT], promises[SLOT:]
        states.add(tuple(known.get(each, "torn") for each in slots))
        for slot in slots:
            if slot not in known:  # a promise that nobody can take for one
                with pytest.raises(MalformedFrame):
                    decode_promises(slot)
        assert decode_promises(promises) in (low, high)
    assert states == {
        ("old", "old"), ("torn", "old"), ("new", "old"), ("new", "torn"), ("new", "new"),
    }  # fmt: skip


def test_a_promise_written_again_over_itself_cannot_be_torn() -> None:
    promise = encode_promise(Promise(VolumeEpoch(3, 4), VolumeEpoch(3, 4)))
    for seed in range(20):
        world = World(seed=seed)
        world.disk._promises = promise * 2
        _crash_in(world, partial(world.disk.write_promise, promise))
        assert world.disk.peek().promises == promise * 2


def _ambushed(kind: str, *, after: bool) -> tuple[list[str], Stored]:
    """Append, compact, append again; a crash lies in wait. What was done, and what is left."""
    world, done = World(), list[str]()
    disk = world.disk

    async def main() -> None:
        disk.lie_in_wait(Ambush(kind, after, disk.crash))
        assert disk.troubled
        for name, data in (("append", b"one"), ("compaction", b"new"), ("append", b"two")):
            write = disk.replace([data]) if name == "compaction" else disk.append(data)
            try:
                await write
                done.append(name)
            except StorageFailed:
                done.append(f"no {name}")
                await disk.load()
        assert not disk.troubled

    world.run(main)
    return done, disk.peek()


def test_a_crash_lies_in_wait_for_one_write_of_its_kind() -> None:
    done, left = _ambushed("compaction", after=False)
    assert done == ["append", "no compaction", "append"] and left.log in (b"onetwo", b"newtwo")
    done, left = _ambushed("append", after=True)
    assert done == ["no append", "compaction", "append"] and left.log == b"newtwo"
    assert _ambushed("any", after=True)[0] == done
    assert _ambushed("compaction", after=True)[1].log == b"newtwo"


def test_a_refusal_can_be_for_one_kind_of_write() -> None:
    world = World()
    disk = world.disk

    async def main() -> None:
        disk.fail_writes(1, "compaction")
        await disk.append(b"one")
        with pytest.raises(StorageFailed, match="refused a write"):
            await disk.replace([b"new"])
        disk.fail_syncs(1, "promise")
        await disk.append(b"two")
        with pytest.raises(StorageBroken):
            await disk.write_promise(b"p" * SLOT)
        assert not disk.troubled

    world.run(main)
    assert disk.peek().log == b"onetwo"


def test_what_is_healed_ends_and_what_has_rotted_stays() -> None:
    disk = World(capacity=5).disk
    disk.lie_in_wait(Ambush("any", False, disk.crash))
    disk.set_slowness(3.0)
    disk.fail_syncs(2)
    (offset,) = disk.rot_promise(0)
    rotten = disk.peek()
    disk.heal()
    assert not disk.troubled and disk.peek() == rotten
    assert offset < PROMISE_BYTES


def test_what_was_over_but_not_reported_at_the_crash_is_not_reported_as_done() -> None:
    world = World()
    results: list[str] = []

    async def write() -> None:
        try:
            await world.disk.append(b"data")
            results.append("done")
        except StorageFailed:
            results.append("failed")

    def finish_and_crash(write: Any) -> None:
        world.disk._finish(write)
        world.disk.crash()  # before the task that waits can run

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await world.scheduler.sleep_ns(MS // 2)
            assert world.disk._write is not None
            world.disk._write.event[2] = finish_and_crash

    world.run(main)
    assert results == ["failed"]
    assert world.disk.peek().log == b"data"


def test_after_a_crash_nothing_works_until_it_is_loaded() -> None:
    world = World()
    disk = world.disk

    async def main() -> None:
        await disk.append(b"kept")
        disk.crash()
        disk.crash()
        for operation in (disk.append(b""), disk.read(0, 1), disk.replace([])):
            with pytest.raises(StorageFailed, match="restart"):
                await operation
        assert (await disk.load()).log == b"kept"
        await disk.append(b" on")
        assert (await disk.load()).log == b"kept on"

    world.run(main)


def test_a_read_that_a_crash_overtakes_brings_nothing() -> None:
    world = World()
    _crash_in(world, partial(world.disk.read, 0, 1))


def test_a_cancelled_write_is_done_all_the_same_and_a_crashed_one_stays_cancelled() -> None:
    world = World()
    disk = world.disk

    async def main() -> None:
        with trio.move_on_after(MS / 2 / SECOND) as scope:
            await disk.append(b"data")
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert (world.scheduler.now_ns, (await disk.load()).log) == (MS, b"data")
        with trio.CancelScope() as scope:
            world.scheduler.call_after(MS // 2, scope.cancel)
            world.scheduler.call_after(MS // 2, disk.crash)
            await disk.append(b"data")
        assert scope.cancelled_caught

    world.run(main)


def test_the_end_of_the_world_does_not_wait_for_a_disk() -> None:
    world = World()

    async def main() -> None:
        world.scheduler.call_after(5, world.scheduler.fail, ValueError("violation"))
        await world.disk.append(b"data")

    with pytest.raises(ValueError, match="violation"):
        world.run(main)
    assert world.disk.size() == 0


def test_two_writes_at_once_are_a_mistake() -> None:
    world = World()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.disk.append, b"first")
            await world.scheduler.sleep_ns(1)
            with pytest.raises(Invalid, match="second write"):
                await world.disk.append(b"second")
            with pytest.raises(Invalid, match="middle of a write"):
                await world.disk.load()
            assert await world.disk.read(0, 9) in {b"", b"first"}

    world.run(main)


def test_a_full_disk_refuses_until_there_is_room() -> None:
    world = World(capacity=10)
    disk = world.disk

    async def main() -> None:
        await disk.append(b"12345678")
        with pytest.raises(StorageFailed, match="11 bytes needed, expected at most 10"):
            await disk.append(b"9ab")
        with pytest.raises(StorageFailed, match="full"):
            await disk.replace([b"123"])
        assert (await disk.load()).log == b"12345678"
        await disk.append(b"9a")
        disk.set_capacity(None)
        await disk.append(b"b")
        assert (await disk.load()).log == b"123456789ab"

    world.run(main)
    with pytest.raises(Invalid, match="-1"):
        disk.set_capacity(-1)


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_refused_operation_leaves_nothing(kind: str) -> None:
    certain = DiskProfile(1, 1, write_failure=kind == "write", sync_failure=kind == "sync")
    for asked in (False, True):
        world = World(STEADY if asked else certain)
        disk = world.disk
        before = disk.peek()
        if asked:
            (disk.fail_writes if kind == "write" else disk.fail_syncs)(3)

        async def main(disk: SimulatedStorage = disk, before: Stored = before) -> None:
            for operation in (
                disk.append(b"data"),
                disk.replace([b"data"]),
                disk.write_promise(b"p" * SLOT),
            ):
                with pytest.raises(StorageBroken if kind == "sync" else StorageFailed, match=kind):
                    await operation
                assert (await disk.load()) == before

        world.run(main)
        assert disk.peek() == before


def test_after_a_refused_sync_nothing_works_until_the_disk_is_loaded_again() -> None:
    world = World(STEADY)
    disk = world.disk

    async def main() -> None:
        await disk.append(b"sound.")
        disk.fail_syncs(1)
        with pytest.raises(StorageBroken, match="refused a sync"):
            await disk.append(b"lost")
        for operation in (
            disk.append(b"x"),
            disk.replace([b"x"]),
            disk.truncate(0),
            disk.write_promise(b"p" * SLOT),
            disk.read(0, 1),
        ):
            with pytest.raises(StorageBroken, match="loaded again first"):
                await operation
        assert (await disk.load()).log == b"sound."
        await disk.append(b"next.")

    world.run(main)
    assert disk.peek().log == b"sound.next."


def test_failures_come_at_the_rate_of_the_profile_and_end_as_asked() -> None:
    world = World(DiskProfile(write_failure=0.1, sync_failure=0.1))
    disk = world.disk

    failures = 0

    async def main() -> None:
        nonlocal failures
        for _ in range(2000):
            try:
                await disk.append(b"x")
            except StorageFailed:
                failures += 1
                await disk.load()
        disk.profile = STEADY
        disk.fail_syncs(1)
        with pytest.raises(StorageBroken):
            await disk.append(b"x")
        await disk.load()
        await disk.append(b"x")

    world.run(main)
    assert 330 < failures < 430
    assert disk.size() == 2001 - failures


def test_a_wiped_disk_has_lost_everything_for_good() -> None:
    world = World()
    outcomes: list[str] = []

    async def write() -> None:
        try:
            await world.disk.append(DATA)
        except StorageFailed:
            outcomes.append("failed")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await world.scheduler.sleep_ns(MS // 2)
            world.disk.wipe()
        assert world.disk.identity is None
        assert (await world.disk.load()) == (b"", b"")
        for operation in (world.disk.append(b""), world.disk.write_promise(b"")):
            with pytest.raises(SegmentLost):
                await operation

    world.run(main)
    assert outcomes == ["failed"]


def test_rot_flips_the_bits_it_says() -> None:
    disk = World().disk
    assert disk.rot() == ()
    disk._log = bytearray(DATA)
    (offset,) = disk.rot()
    differing = [i for i, byte in enumerate(disk.peek().log) if byte != DATA[i]]
    assert differing == [offset]
    assert (disk.peek().log[offset] ^ DATA[offset]).bit_count() == 1
    assert disk.rot(7, bits=3) == (7, 7, 7)
    promises = disk.peek().promises
    (offset,) = disk.rot_promise(1)
    assert [i for i, byte in enumerate(disk.peek().promises) if byte != promises[i]] == [offset]
    assert SLOT <= offset < SLOT + PROMISE_BYTES
    with pytest.raises(Invalid, match="rot at byte 100"):
        disk.rot(100)


def test_one_seed_one_disk() -> None:
    def history(seed: int) -> tuple[int, bytes]:
        world = World(DiskProfile(), seed=seed)

        async def main() -> None:
            for _ in range(20):
                await world.disk.append(DATA)
            world.disk.rot()

        world.run(main)
        return world.scheduler.now_ns, world.disk.peek().log

    assert history(1) == history(1)
    assert history(1) != history(2)


def test_a_disk_that_waits_is_never_taken_for_a_deadlock() -> None:
    world = World()

    async def main() -> None:
        await world.disk.append(b"")
        await trio.sleep_forever()

    with pytest.raises(Deadlock) as caught:
        world.run(main)
    assert caught.value.now_ns == MS
