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

from segments.manifest import PROMISE
from segments.protocol.errors import (
    Invalid,
    MalformedFrame,
    SegmentLost,
    StorageBroken,
    StorageFailed,
    StorageFull,
)
from segments.protocol.ids import VolumeEpoch
from segments.storage import WHOLE, Identity, MemoryStorage, Storage
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
from tests.files_on_disks import make_file

MS = 1_000_000
SECOND = 1000 * MS
STEADY = DiskProfile(minimum_ns=MS, extra_mean_ns=0)
IDENTITY = Identity("volume", "A0")
SLOT = PROMISE_SLOT_BYTES
DATA = bytes(range(1, 101))


PROMISES = 2 * SLOT
"""Bytes of a disk's promise file, which take room like all others."""


class World:
    """A disk with a file ``a``, which is durable."""

    def __init__(
        self,
        profile: DiskProfile = STEADY,
        *,
        seed: int = 1,
        capacity: int | None = None,
        content: bytes = b"",
    ) -> None:
        self.scheduler = VirtualScheduler()
        self.disk = SimulatedStorage(
            self.scheduler, Random(seed), IDENTITY, profile, capacity_bytes=capacity
        )
        self.disk._platter.put("a", content)

    @property
    def files(self) -> dict[str, bytes]:
        """What is durable, but for the promise."""
        durable = self.disk._platter.durable.items()
        return {name: bytes(data) for name, data in durable if name != PROMISE}

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        self.scheduler.run(main, seed=1, deadline_ns=1000 * SECOND)


_NAMES = st.sampled_from(("a", "b", "c"))
OPERATIONS = st.one_of(
    st.tuples(st.just("append"), _NAMES, st.binary(max_size=20)),
    st.tuples(st.just("create"), _NAMES),
    st.tuples(st.just("extend"), _NAMES, st.binary(max_size=9)),
    st.tuples(st.just("sync_file"), _NAMES),
    st.tuples(st.just("publish"), _NAMES, st.binary(max_size=20)),
    st.tuples(st.just("truncate"), _NAMES, st.integers(0, 30)),
    st.tuples(st.just("read"), _NAMES, st.integers(0, 30), st.just(10)),
    st.tuples(st.just("delete"), st.lists(_NAMES, max_size=2)),
    st.tuples(st.just("write_promise"), st.binary(min_size=SLOT, max_size=SLOT)),
    st.tuples(st.just("sync_names")),
)


async def _perform(storage: Storage, kind: str, *arguments: Any) -> object:
    try:
        return await getattr(storage, kind)(*arguments)
    except Invalid:
        return "invalid"


async def _contents(storage: Storage) -> dict[str, bytes]:
    return {each: await storage.read(each, 0, WHOLE) for each in await storage.names()}


@settings(max_examples=50, deadline=None)
@given(st.lists(OPERATIONS, max_size=15))
def test_without_faults_it_is_the_disk_in_memory(plan: list[tuple[Any, ...]]) -> None:
    world, oracle = World(), MemoryStorage(IDENTITY)
    oracle.files["a"] = bytearray()

    async def main() -> None:
        storage: Storage = world.disk
        assert storage.identity == oracle.identity
        for operation in plan:
            assert await _perform(storage, *operation) == await _perform(oracle, *operation)
            assert await _contents(storage) == await _contents(oracle)
            assert world.disk.size() == sum(map(len, oracle.files.values()))
        storage.close()

    world.run(main)


def test_every_operation_takes_its_time_and_a_slow_disk_more() -> None:
    world = World()
    disk = world.disk

    async def main() -> None:
        await disk.append("a", b"one")
        assert world.scheduler.now_ns == MS
        await disk.read("a", 0, 1)
        assert world.scheduler.now_ns == 2 * MS
        disk.set_slowness(10.0)
        await disk.append("a", b"two")
        assert world.scheduler.now_ns == 12 * MS

    world.run(main)
    assert world.files == {"a": b"onetwo"}


def test_the_mean_time_is_that_of_the_profile() -> None:
    world = World(DiskProfile(minimum_ns=MS, extra_mean_ns=MS))

    async def main() -> None:
        for _ in range(2000):
            await world.disk.append("a", b"")

    world.run(main)
    assert 1.9 * MS < world.scheduler.now_ns / 2000 < 2.1 * MS


def test_nothing_is_durable_before_its_time() -> None:
    world = World()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.disk.append, "a", b"data")
            await world.scheduler.sleep_ns(MS - 1)
            assert world.files["a"] == b""
            await world.scheduler.sleep_ns(2)
            assert world.files["a"] == b"data"

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
        await world.disk.names()
        left = world.files
        await world.scheduler.sleep_ns(10 * MS)
        assert world.files == left, "a process that is gone writes no more"

    world.run(main)


def test_a_crash_tears_at_most_the_append_in_progress() -> None:
    left: set[str] = set()
    for seed in range(200):
        world = World(seed=seed, content=b"synced")
        _crash_in(world, partial(world.disk.append, "a", DATA))
        file = world.files["a"]
        assert file.startswith(b"synced")
        tail = file[6:]
        assert len(tail) <= len(DATA)
        common = next((i for i, byte in enumerate(tail) if byte != DATA[i]), len(tail))
        rest = tail[common:]
        left.add(
            "nothing" if not tail else "prefix" if not rest else "rubbish" if any(rest) else "zeros"
        )
    assert left == {"nothing", "prefix", "zeros", "rubbish"}


def test_a_crash_leaves_a_published_or_cut_file_wholly_old_or_wholly_new() -> None:
    published, cuts = set(), set()
    for seed in range(20):
        world = World(seed=seed, content=b"old file")
        _crash_in(world, partial(world.disk.publish, "a", b"newer"))
        published.add(world.files["a"])
        world = World(seed=seed, content=b"old file")
        _crash_in(world, partial(world.disk.truncate, "a", 3))
        cuts.add(world.files["a"])
    assert published == {b"old file", b"newer"}
    assert cuts == {b"old file", b"old"}


def test_a_crash_leaves_any_blocks_of_a_file_that_was_being_made() -> None:
    block, left = 4096, set()
    data = bytes([1]) * (2 * block) + bytes([1]) * 100
    for seed in range(300):
        world = World(seed=seed)
        _crash_in(world, partial(make_file, world.disk, "b", [data]))
        file = world.files.get("b")
        if file is not None:
            parts = [file[at : at + block] for at in range(0, len(file), block)]
            assert len(file) in (0, block, 2 * block, len(data))
            assert all(len(set(part)) == 1 for part in parts), "each is there, or is not"
        left.add(file if file is None else tuple(part[0] for part in parts))
    assert {None, (), (0,), (1,), (0, 1), (1, 0, 1), (0, 0, 0), (1, 1, 1)} <= left


def test_a_crash_takes_each_name_that_is_not_synced_by_itself() -> None:
    left = set()

    async def main(disk: SimulatedStorage) -> None:
        for name in ("b", "c"):
            await make_file(disk, name, [name.encode()])
        await disk.delete(["a"])
        disk.crash()
        await disk.names()

    for seed in range(60):
        world = World(seed=seed, content=b"a")
        world.run(partial(main, world.disk))
        assert all(data == name.encode() for name, data in world.files.items()), "and none in part"
        left.add("".join(sorted(world.files)))
    assert left == {"", "a", "b", "c", "ab", "ac", "bc", "abc"}


def test_synced_names_outlive_a_crash_and_deleted_ones_stay_away_then() -> None:
    for seed in range(20):
        world = World(seed=seed)
        disk = world.disk

        async def main(disk: SimulatedStorage = disk) -> None:
            await make_file(disk, "b", [b"b"])
            await disk.delete(["a"])
            await disk.sync_names()
            await disk.publish("m", b"m")
            disk.crash()
            assert await disk.names() == ("b", "m", PROMISE)

        world.run(main)


def test_what_is_published_syncs_no_other_name() -> None:
    left = set()
    for seed in range(20):
        world = World(seed=seed)
        disk = world.disk

        async def main(disk: SimulatedStorage = disk) -> None:
            await make_file(disk, "b", [b"b"])
            await disk.publish("m", b"m")
            disk.crash()

        world.run(main)
        left.add("".join(sorted(world.files)))
    assert left == {"am", "abm"}


def test_a_crash_leaves_one_slot_of_a_promise_whole() -> None:
    low, high = (Promise(VolumeEpoch(at, 1 << 40), VolumeEpoch(at, 9)) for at in (1, 300))
    old, new = encode_promise(low), encode_promise(high)
    known = {old: "old", new: "new"}
    states = set()
    for seed in range(200):
        world = World(seed=seed)
        world.disk._platter.put(PROMISE, old * 2)
        _crash_in(world, partial(world.disk.write_promise, new))
        promises = world.disk.content(PROMISE)
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
        world.disk._platter.put(PROMISE, promise * 2)
        _crash_in(world, partial(world.disk.write_promise, promise))
        assert world.disk.content(PROMISE) == promise * 2


def _ambushed(kind: str, *, after: bool) -> tuple[list[str], dict[str, bytes]]:
    """Write in several ways; a crash lies in wait. What was done, and what is left."""
    world, done = World(), list[str]()
    disk = world.disk

    async def main() -> None:
        disk.lie_in_wait(Ambush(kind, after, disk.crash))
        assert disk.troubled
        for name, write in (
            ("append", partial(disk.append, "a", b"one")),
            ("file", partial(make_file, disk, "b", [b"new"])),
            ("names", disk.sync_names),
            ("manifest", partial(disk.publish, "m", b"new")),
            ("deletion", partial(disk.delete, ["b"])),
        ):
            try:
                await write()
                done.append(name)
            except StorageFailed:
                done.append(f"no {name}")
                await disk.names()
        assert not disk.troubled

    world.run(main)
    return done, world.files


def test_a_crash_lies_in_wait_for_one_write_of_its_kind() -> None:
    kinds = ["append", "file", "names", "manifest", "deletion"]
    for kind in kinds:
        for after in (False, True):
            done, left = _ambushed(kind, after=after)
            assert done == [f"no {each}" if each == kind else each for each in kinds]
            assert not after or kind == "append" or left["a"] == b"one"
    assert _ambushed("any", after=True) == _ambushed("append", after=True)
    assert _ambushed("compaction", after=True) == _ambushed("file", after=True)


def test_a_refusal_can_be_for_one_kind_of_write() -> None:
    world = World()
    disk = world.disk

    async def main() -> None:
        disk.fail_writes(1, "compaction")
        await disk.append("a", b"one")
        with pytest.raises(StorageFailed, match="refused a write"):
            await make_file(disk, "b", [b"new"])
        disk.fail_writes(1, "manifest")
        await make_file(disk, "b", [b"newer"])
        with pytest.raises(StorageFailed, match="refused a write"):
            await disk.publish("b", b"newest")
        disk.fail_syncs(1, "promise")
        await disk.append("a", b"two")
        await disk.sync_names()
        with pytest.raises(StorageBroken):
            await disk.write_promise(b"p" * SLOT)
        assert not disk.troubled

    world.run(main)
    assert world.files == {"a": b"onetwo", "b": b"newer"}


def test_a_deletion_is_not_refused() -> None:
    world = World(capacity=0)

    async def main() -> None:
        world.disk.fail_writes(1)
        world.disk.fail_syncs(1)
        await world.disk.delete(["a"])
        assert await world.disk.names() == (PROMISE,)

    world.run(main)


def test_what_is_healed_ends_and_what_has_rotted_stays() -> None:
    disk = World(capacity=5).disk
    disk.lie_in_wait(Ambush("any", False, disk.crash))
    disk.set_slowness(3.0)
    disk.fail_syncs(2)
    (offset,) = disk.rot_promise(0)
    rotten = disk.content(PROMISE)
    disk.heal()
    assert not disk.troubled and disk.content(PROMISE) == rotten
    assert offset < PROMISE_BYTES


def test_what_was_over_but_not_reported_at_the_crash_is_not_reported_as_done() -> None:
    world = World()
    results: list[str] = []

    async def write() -> None:
        try:
            await world.disk.append("a", b"data")
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
            world.disk._writes[0].event[2] = finish_and_crash

    world.run(main)
    assert results == ["failed"]
    assert world.files == {"a": b"data"}


def test_whoever_began_an_append_is_told_of_its_end_in_the_step_that_ends_it() -> None:
    world = World()
    disk = world.disk
    told: list[tuple[int, str, bytes]] = []

    def ended(error: Exception | None) -> None:
        told.append((world.scheduler.now_ns // MS, str(error), world.files["a"]))

    async def main() -> None:
        assert disk.begin_append("a", b"one", ended)
        with pytest.raises(Invalid, match="a second write at the same time"):
            disk.begin_append("a", b"two", ended)
        await trio.sleep(1)
        disk.fail_writes(1)
        assert disk.begin_append("a", b"two", ended)
        await trio.sleep(1)
        disk.lie_in_wait(Ambush("append", True, disk.crash))
        assert disk.begin_append("a", b"three", ended)
        await trio.sleep(1)
        assert not disk.begin_append("a", b"four", ended), "the process has crashed"

    world.run(main)
    at, said, left = zip(*told, strict=True)
    assert at == (1, 1001, 2001) and left == (b"one", b"one", b"onethree")
    assert said[0] == "None" and "refused a write" in said[1] and "crashed before" in said[2]


def test_after_a_crash_nothing_works_until_it_is_loaded() -> None:
    world = World()
    disk = world.disk

    async def main() -> None:
        await disk.append("a", b"kept")
        disk.crash()
        disk.crash()
        for operation in (
            disk.append("a", b""), disk.read("a", 0, 1), make_file(disk, "b", []),
            disk.sync_names(), disk.delete(["a"]),
        ):  # fmt: skip
            with pytest.raises(StorageFailed, match="restart"):
                await operation
        assert await disk.names() == ("a", PROMISE) and world.files == {"a": b"kept"}
        await disk.append("a", b" on")
        assert await disk.read("a", 0, WHOLE) == b"kept on"

    world.run(main)


def test_a_read_that_a_crash_overtakes_brings_nothing() -> None:
    world = World()
    _crash_in(world, partial(world.disk.read, "a", 0, 1))


def test_a_cancelled_write_is_done_all_the_same_and_a_crashed_one_stays_cancelled() -> None:
    world = World()
    disk = world.disk

    async def main() -> None:
        with trio.move_on_after(MS / 2 / SECOND) as scope:
            await disk.append("a", b"data")
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert (world.scheduler.now_ns, world.files["a"]) == (MS, b"data")
        with trio.CancelScope() as scope:
            world.scheduler.call_after(MS // 2, scope.cancel)
            world.scheduler.call_after(MS // 2, disk.crash)
            await disk.append("a", b"data")
        assert scope.cancelled_caught

    world.run(main)


def test_the_end_of_the_world_does_not_wait_for_a_disk() -> None:
    world = World()

    async def main() -> None:
        world.scheduler.call_after(5, world.scheduler.fail, ValueError("violation"))
        await world.disk.append("a", b"data")

    with pytest.raises(ValueError, match="violation"):
        world.run(main)
    assert world.files == {"a": b""}


def test_two_writes_at_once_are_a_mistake() -> None:
    world = World()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.disk.append, "a", b"first")
            await world.scheduler.sleep_ns(1)
            with pytest.raises(Invalid, match="second write"):
                await world.disk.append("a", b"second")
            with pytest.raises(Invalid, match="middle of a write"):
                await world.disk.names()
            assert await world.disk.read("a", 0, 9) in {b"", b"first"}

    world.run(main)


def test_what_is_done_in_the_background_runs_beside_an_append_and_takes_turns() -> None:
    world = World()
    disk, done = world.disk, list[str]()

    async def say(name: str, operation: Awaitable[object]) -> None:
        await operation
        done.append(f"{name} {world.scheduler.now_ns / MS:g}")

    async def main() -> None:
        await disk.create("b")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, "file", disk.sync_file("b"))
            await world.scheduler.sleep_ns(MS // 4)
            nursery.start_soon(say, "names", disk.sync_names())
            nursery.start_soon(say, "append", disk.append("a", b"data"))
            await trio.lowlevel.checkpoint()
            assert disk.busy_until_ns == MS + MS // 4

    world.run(main)
    assert done == ["file 1", "append 1.25", "names 2"]


def test_a_crash_interrupts_what_is_under_way_both_here_and_there() -> None:
    left: set[tuple[bool, bool]] = set()
    for seed in range(40):
        world = World(seed=seed, content=b"synced")
        disk = world.disk

        async def refused(operation: Awaitable[object]) -> None:
            with pytest.raises(StorageFailed, match="crashed"):
                await operation

        async def main(disk: SimulatedStorage = disk, world: World = world) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(refused, disk.publish("m", b"new"))
                nursery.start_soon(refused, disk.append("a", DATA))
                await world.scheduler.sleep_ns(1)
                nursery.start_soon(refused, disk.delete(["a"]))  # waits for its turn
                await world.scheduler.sleep_ns(MS // 2)
                disk.crash()
            await disk.names()
            await disk.append("a", b"on")
            await disk.sync_names()

        world.run(main)
        assert world.files["a"].startswith(b"synced") and world.files["a"].endswith(b"on")
        left.add(("m" in world.files, len(world.files["a"]) > 8))
    assert len(left) == 4


def test_what_a_file_is_extended_by_is_not_durable_again() -> None:
    left = set()
    for seed in range(40):
        world = World(seed=seed, content=b"synced")

        async def main(disk: SimulatedStorage = world.disk) -> None:
            await disk.extend("a", b" and more")
            with pytest.raises(Invalid, match="append to a, of which not all is durable"):
                await disk.append("a", b"!")
            disk.crash()
            await disk.names()

        world.run(main)
        left.add(world.files["a"])
    assert left == {b"synced", b"synced" + bytes(9), b"synced and more"}


def test_a_full_disk_refuses_until_there_is_room() -> None:
    most = PROMISES + 10
    world = World(capacity=most)
    disk = world.disk

    async def main() -> None:
        await disk.append("a", b"12345678")
        with pytest.raises(StorageFull, match=f"{most + 1} bytes needed, expected at most {most}"):
            await disk.append("a", b"9ab")
        with pytest.raises(StorageFull):
            await make_file(disk, "b", [b"123"])
        with pytest.raises(StorageFull):
            await disk.publish("a", b"123")
        assert await disk.names() == ("a", PROMISE) and world.files == {"a": b"12345678"}
        await disk.append("a", b"9a")
        await disk.write_promise(b"p" * SLOT)
        await disk.sync_names()
        disk.set_capacity(None)
        await disk.append("a", b"b")
        assert world.files == {"a": b"123456789ab"}

    world.run(main)
    with pytest.raises(Invalid, match="-1"):
        disk.set_capacity(-1)


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_refused_operation_leaves_nothing(kind: str) -> None:
    certain = DiskProfile(1, 1, write_failure=kind == "write", sync_failure=kind == "sync")
    for asked in (False, True):
        world = World(STEADY if asked else certain)
        disk = world.disk
        before = dict(disk._platter.durable)
        if asked:
            (disk.fail_writes if kind == "write" else disk.fail_syncs)(5)

        async def main(disk: SimulatedStorage = disk) -> None:
            for operation in (
                disk.append("a", b"data"),
                make_file(disk, "b", [b"data"]),
                disk.sync_names(),
                disk.publish("a", b"data"),
                disk.write_promise(b"p" * SLOT),
            ):
                with pytest.raises(StorageBroken if kind == "sync" else StorageFailed, match=kind):
                    await operation
                assert await disk.names() == ("a", PROMISE)

        world.run(main)
        assert disk._platter.durable == before


def test_after_a_refused_sync_nothing_works_until_the_disk_is_loaded_again() -> None:
    world = World(STEADY)
    disk = world.disk

    async def main() -> None:
        await disk.append("a", b"sound.")
        disk.fail_syncs(1)
        with pytest.raises(StorageBroken, match="refused a sync"):
            await disk.append("a", b"lost")
        for operation in (
            disk.append("a", b"x"),
            make_file(disk, "b", [b"x"]),
            disk.publish("a", b"x"),
            disk.truncate("a", 0),
            disk.write_promise(b"p" * SLOT),
            disk.read("a", 0, 1),
        ):
            with pytest.raises(StorageBroken, match="loaded again first"):
                await operation
        await disk.names()
        assert world.files == {"a": b"sound."}
        await disk.append("a", b"next.")

    world.run(main)
    assert world.files == {"a": b"sound.next."}


def test_failures_come_at_the_rate_of_the_profile_and_end_as_asked() -> None:
    world = World(DiskProfile(write_failure=0.1, sync_failure=0.1))
    disk = world.disk

    failures = 0

    async def main() -> None:
        nonlocal failures
        for _ in range(2000):
            try:
                await disk.append("a", b"x")
            except StorageFailed:
                failures += 1
                await disk.names()
        disk.profile = STEADY
        disk.fail_syncs(1)
        with pytest.raises(StorageBroken):
            await disk.append("a", b"x")
        await disk.names()
        await disk.append("a", b"x")

    world.run(main)
    assert 330 < failures < 430
    assert len(world.files["a"]) == 2001 - failures


def test_a_wiped_disk_has_lost_everything_for_good() -> None:
    world = World()
    outcomes: list[str] = []

    async def write() -> None:
        try:
            await world.disk.append("a", DATA)
        except StorageFailed:
            outcomes.append("failed")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await world.scheduler.sleep_ns(MS // 2)
            world.disk.wipe()
        assert world.disk.identity is None
        assert (await world.disk.names(), world.disk.size()) == ((), 0)
        for operation in (world.disk.append("a", b""), world.disk.write_promise(b"")):
            with pytest.raises(SegmentLost):
                await operation

    world.run(main)
    assert outcomes == ["failed"]


def test_rot_flips_the_bits_it_says() -> None:
    world = World(content=DATA)
    disk = world.disk
    assert disk.rot("b") == ()
    (offset,) = disk.rot("a")
    differing = [i for i, byte in enumerate(world.files["a"]) if byte != DATA[i]]
    assert differing == [offset]
    assert (world.files["a"][offset] ^ DATA[offset]).bit_count() == 1
    assert disk.rot("a", 7, bits=3) == (7, 7, 7)
    promises = disk.content(PROMISE)
    (offset,) = disk.rot_promise(1)
    assert [i for i, byte in enumerate(disk.content(PROMISE)) if byte != promises[i]] == [offset]
    assert SLOT <= offset < SLOT + PROMISE_BYTES
    with pytest.raises(Invalid, match="rot at byte 100 of a"):
        disk.rot("a", 100)


def test_one_seed_one_disk() -> None:
    def history(seed: int) -> tuple[int, bytes]:
        world = World(DiskProfile(), seed=seed)

        async def main() -> None:
            for _ in range(20):
                await world.disk.append("a", DATA)
            world.disk.rot("a")

        world.run(main)
        return world.scheduler.now_ns, world.files["a"]

    assert history(1) == history(1)
    assert history(1) != history(2)


def test_a_disk_that_waits_is_never_taken_for_a_deadlock() -> None:
    world = World()

    async def main() -> None:
        await world.disk.append("a", b"")
        await trio.sleep_forever()

    with pytest.raises(Deadlock) as caught:
        world.run(main)
    assert caught.value.now_ns == MS
