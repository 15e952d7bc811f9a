"""What must happen, by failure: the protocol's table (§9), row by row, in virtual time.

(More than 400 lines: the table is one, and is read as one.)
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
import trio

from aurora.config import EngineConfig
from segments.protocol.errors import Closed, Fenced, PageNotFound, Unavailable
from segments.protocol.ids import Lsn
from tests.worlds import World, run_world

PAGES = 12
COLD = EngineConfig(buffer_pool_pages=4)
"""A pool smaller than the working set, so that reads go to the segments."""

SEGMENTS = "ABCDEF"
PAIRS = ["".join(pair) for pair in combinations(SEGMENTS, 2)]
ZONES = ["az1", "az2", "az3"]
AZ_AND_ONE = ["az1 C", "az2 F", "az3 A"]


class Load:
    """One writer and one reader who never stop, and what they saw."""

    def __init__(self, world: World, pause_s: float = 0.002) -> None:
        self.world = world
        self.pause_s = pause_s
        self.acknowledged: dict[int, tuple[Lsn, bytes]] = {}
        self.commits = self.reads = 0
        self.write_stall = self.read_stall = 0.0
        self._wrote_at = self._read_at = trio.current_time()

    def look_away(self) -> None:
        """Forget the stalls so far."""
        now = trio.current_time()
        self.write_stall = self.read_stall = 0.0
        self._wrote_at = self._read_at = now

    async def write(self) -> None:
        count = 0
        while True:
            count += 1
            page, data = count % PAGES, count.to_bytes(8, "big")
            lsn = await self.world.engine.put(page, 0, data)
            self.acknowledged[page] = lsn, data
            now = trio.current_time()
            self.write_stall = max(self.write_stall, now - self._wrote_at)
            self._wrote_at = now
            self.commits += 1
            await trio.sleep(self.pause_s)

    async def read(self) -> None:
        count = 0
        while True:
            count += 5
            page = count % PAGES
            if page not in self.acknowledged:
                await trio.sleep(0.001)
                continue
            _, before = self.acknowledged[page]
            found = await self.world.engine.get(page)
            assert found[:8] >= before, "a read went back behind an acknowledged commit"
            now = trio.current_time()
            self.read_stall = max(self.read_stall, now - self._read_at)
            self._read_at = now
            self.reads += 1
            await trio.sleep(self.pause_s)

    def stalls_now(self) -> tuple[float, float]:
        """The longest pauses between two commits and two reads, those under way included."""
        now = trio.current_time()
        write_stall = max(self.write_stall, now - self._wrote_at)
        return write_stall, max(self.read_stall, now - self._read_at)


Fault = Callable[[World, str], None]


def crash(world: World, names: str) -> None:
    world.crash(names)


def pause(world: World, names: str) -> None:
    for segment in world.targets(names):
        world.cluster.pause(segment)


def cut_off(world: World, names: str) -> None:
    others = [*world.cluster.hosts, "writer-1"]
    world.network.partition(world.targets(names), others)


def wipe(world: World, names: str) -> None:
    for segment in world.targets(names):
        world.cluster.wipe(segment)


async def check_all(world: World, load: Load) -> None:
    for page, (lsn, data) in load.acknowledged.items():
        assert (await world.engine.get_at(page, lsn))[:8] == data


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        *[(names, crash) for names in [*SEGMENTS, *PAIRS, *ZONES]],
        *[(names, fault) for names in ["A", "BD", "az3"] for fault in [pause, cut_off, wipe]],
    ],
)
def test_one_or_two_segments_or_a_zone_and_all_goes_on(names: str, fault: Fault) -> None:
    async def main(world: World) -> None:
        load = Load(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.write)
            nursery.start_soon(load.read)
            await trio.sleep(0.05)
            load.look_away()
            before = load.commits, load.reads
            fault(world, names if names in ZONES else " ".join(names))
            await trio.sleep(0.2)
            write_stall, read_stall = load.stalls_now()
            assert write_stall < 0.02, "the fourth fastest of those that are left decides"
            assert read_stall < 0.05, "a hedge, not a timeout, is what a dead segment costs"
            assert load.commits > before[0] + 30 and load.reads > before[1] + 30
            nursery.cancel_scope.cancel()
        await check_all(world, load)

    run_world(main, engine=COLD, seed=len(names))


@pytest.mark.parametrize(
    ("names", "fault"),
    [*[(names, crash) for names in AZ_AND_ONE], ("az1 C", pause), ("az2 F", cut_off)],
)
def test_a_zone_and_one_more_and_writes_wait_while_reads_go_on(names: str, fault: Fault) -> None:
    """2017 §2.1: AZ + 1 costs the write quorum, and neither data nor reads."""

    async def main(world: World) -> None:
        load = Load(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.write)
            nursery.start_soon(load.read)
            await trio.sleep(0.05)
            fault(world, names)
            await trio.sleep(0.05)
            load.look_away()
            load.pause_s = 0.05
            vdl, commits = world.engine.vdl, load.commits
            await trio.sleep(20)
            assert (world.engine.vdl, load.commits) == (vdl, commits), "three copies are no quorum"
            assert world.engine.statistics().commits_waiting == 1
            assert load.stalls_now()[1] < 0.3
            assert load.reads > 300
            await heal(world, names)
            # The resend's longest pause, and a bit of gossip.
            await world.until(lambda: load.commits >= commits + 10, within_s=2.5)
            nursery.cancel_scope.cancel()
        await check_all(world, load)

    run_world(main, engine=COLD)


async def heal(world: World, names: str) -> None:
    world.network.heal_all()
    for segment in world.targets(names):
        world.cluster.resume(segment)
    await world.restart(names)


def test_hundreds_of_writes_wait_out_a_zone_and_one_more_and_none_is_lost() -> None:
    async def main(world: World) -> None:
        lsns: dict[int, Lsn] = {}

        async def commit(number: int) -> None:
            lsns[number] = await world.engine.put(number, 0, number.to_bytes(4, "big"))

        async with trio.open_nursery() as nursery:
            world.crash("az2 A")
            for number in range(300):
                nursery.start_soon(commit, number)
            await trio.sleep(20)
            assert not lsns
            assert world.engine.statistics().commits_waiting == 300
            await world.restart("C")
            await world.until(lambda: len(lsns) == 300, within_s=2.5)
        assert sorted(lsns.values()) == list(range(1, 301))
        for number, lsn in lsns.items():
            assert (await world.engine.get_at(number, lsn))[:4] == number.to_bytes(4, "big")

    run_world(main)


@pytest.mark.parametrize("left", ["A B", "C D", "A F", "E"])
def test_reads_go_on_where_one_complete_segment_is_left(left: str) -> None:
    async def main(world: World) -> None:
        for page in range(PAGES):
            await world.engine.put(page, 0, bytes([page + 1]))
        await trio.sleep(1)
        world.crash(" ".join(set(SEGMENTS) - set(left)))
        for page in range(PAGES):
            with world.stall_below(1.0):
                assert (await world.engine.get(page))[0] == page + 1
        with trio.move_on_after(30):
            await world.engine.put(0, 0, b"no quorum")
            pytest.fail("a write was acknowledged without a quorum")

    run_world(main, engine=COLD)


def test_an_incomplete_segment_never_answers_for_the_complete_ones() -> None:
    async def main(world: World) -> None:
        world.disks["F0"].fail_writes(1_000_000)  # alive, and full
        for page in range(PAGES):
            await world.engine.put(page, 0, b"new")
        world.crash("A B C D E")
        started = trio.current_time()
        with pytest.raises(Unavailable, match=r"expected a segment with SCL >= 12"):
            await world.engine.get(0)
        assert trio.current_time() - started == pytest.approx(COLD.read_timeout_s, abs=0.01)
        await world.restart("B")
        with world.stall_below(3):
            assert (await world.engine.get(0))[:3] == b"new"

    run_world(main, engine=COLD)


def test_a_write_waits_even_for_the_page_that_it_changes() -> None:
    async def main(world: World) -> None:
        for page in range(PAGES):
            await world.engine.put(page, 0, b"old")
        world.crash("A B C D E F")
        written = trio.Event()

        async def write() -> None:
            await world.engine.put(0, 0, b"new")
            written.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await trio.sleep(3 * COLD.read_timeout_s)
            assert not written.is_set()
            await world.restart("A B C D")
            with world.stall_below(4):
                await written.wait()
        assert (await world.engine.get(0))[:3] == b"new"

    run_world(main, engine=COLD)


def test_a_lost_disk_is_a_dead_segment_that_is_named_and_never_comes_back() -> None:
    async def main(world: World) -> None:
        await world.engine.put(1, 0, b"before")
        world.cluster.wipe("D")
        assert list(world.cluster.lost_segments()) == ["D0"]
        await world.restart("D")
        assert not world.cluster.hosts["D0"].up
        assert list(world.cluster.lost_segments()) == ["D0"]
        assert "wiped" in world.cluster.lost_segments()["D0"]
        with world.stall_below(0.1):
            await world.engine.put(1, 0, b"after!")
        with world.stall_below(2):
            await world.cluster.recover()
        assert (await world.engine.get(1))[:6] == b"after!"

    run_world(main)


def test_writes_go_at_the_speed_of_the_fourth_fastest() -> None:
    async def main(world: World) -> None:
        async def commit_time() -> float:
            started = trio.current_time()
            for number in range(10):
                await world.engine.put(number, 0, b"x")
            return (trio.current_time() - started) / 10

        quick = await commit_time()
        for segment in "ABC":
            world.cluster.slow(segment, 0.2)
            if segment != "C":
                assert await commit_time() < 2 * quick, "two slow segments slow down nobody"
        # Of three slow ones, one is the fourth fastest; what comes while it sleeps takes two naps.
        assert 0.2 <= await commit_time() < 0.45
        world.cluster.slow("C", 0)
        await trio.sleep(1)
        assert await commit_time() < 2 * quick

    run_world(main)


@pytest.mark.parametrize("names", ["A", "A B", "A C E", "A B C D E"])
def test_reads_avoid_a_gray_segment(names: str) -> None:
    async def main(world: World) -> None:
        for page in range(PAGES):
            await world.engine.put(page, 0, bytes([page + 1]))
        await trio.sleep(1)
        for segment in world.targets(names):
            world.cluster.slow(segment, 0.7)
        times = []
        for number in range(100):
            started = trio.current_time()
            assert (await world.engine.get(number % PAGES))[0] == number % PAGES + 1
            times.append(trio.current_time() - started)
        assert max(times) < 0.1, "hedged"
        assert sorted(times)[50] < 0.002, "and routed around, so that most reads cost nothing"

    run_world(main, engine=COLD)


@pytest.mark.parametrize("names", ["", "A", "B F", "az1", "az3"])
def test_a_writer_recovers_with_a_write_quorum_left(names: str) -> None:
    async def main(world: World) -> None:
        load = Load(world)
        world.crash(names)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.write)
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        with world.stall_below(2.0):
            engine = await world.cluster.recover()
        assert engine is world.engine
        assert engine.vdl >= max(lsn for lsn, _ in load.acknowledged.values())
        await check_all(world, load)
        with world.stall_below(0.1):
            await engine.put(0, 0, b"go on")

    run_world(main, engine=COLD)


@pytest.mark.parametrize(
    ("names", "helper"),
    [("az1 C", "A"), ("az3 A", "F"), ("A B C D", "A B"), ("az1 az2 F", "C D F")],
)
def test_a_recovery_without_a_write_quorum_waits_and_loses_nothing(names: str, helper: str) -> None:
    async def main(world: World) -> None:
        load = Load(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.write)
            await trio.sleep(0.1)
            world.crash(names)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        opened = trio.Event()

        async def recover() -> None:
            await world.cluster.recover()
            opened.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(recover)
            await trio.sleep(30)
            assert not opened.is_set()
            with pytest.raises((Unavailable, Closed)):
                await world.engine.get(0)
            await world.restart(helper)
            with world.stall_below(3):
                await opened.wait()
        await check_all(world, load)
        await world.engine.put(0, 0, b"go on")

    run_world(main, engine=COLD)


def test_an_old_writer_that_comes_back_is_fenced_and_nothing_of_it_is_seen() -> None:
    """2018 §2.4: a new volume epoch shuts out every writer of an older one."""

    async def main(world: World) -> None:
        old = world.engine
        acknowledged = await old.put(1, 0, b"acknowledged")
        everyone = list(world.cluster.hosts)
        world.network.partition(["writer-1"], everyone)
        outcomes: list[str] = []

        async def try_to_write(page: int) -> None:
            try:
                await old.put(page, 0, b"zombie")
            except Fenced as error:
                outcomes.append(str(error))

        async with trio.open_nursery() as nursery:
            for page in range(1, 20):
                nursery.start_soon(try_to_write, page)
            await trio.sleep(1)
            new = await world.cluster.open_writer()
            assert new.vdl == acknowledged
            mine = await new.put(2, 0, b"mine")
            assert (await old.get(1))[:12] == b"acknowledged", "old, but consistent"
            world.network.heal_all()
            await world.until(lambda: len(outcomes) == 19, within_s=3)
        assert all(": epoch 2 (" in each for each in outcomes), "the epoch that deposed it is named"
        assert isinstance(old.error, Fenced)
        with pytest.raises(Fenced):
            await old.get(1)
        await trio.sleep(5)
        for page in range(1, 20):
            if page > 2:
                with pytest.raises(PageNotFound, match="expected a page that was written"):
                    await new.get(page)
        assert (await new.get(1))[:12] == b"acknowledged"
        assert (await new.get_at(2, mine))[:4] == b"mine"
        for host in world.cluster.hosts.values():
            assert host.core is not None and host.core.state.scl == mine

    run_world(main)


def test_a_deposed_writer_cannot_read_strictly_even_when_nobody_tells_it() -> None:
    async def main(world: World) -> None:
        old = world.engine
        await old.put(1, 0, b"old")
        world.network.cut(list(world.cluster.hosts), ["writer-1"])  # it speaks and hears nothing
        new = await world.cluster.open_writer()
        await new.put(1, 0, b"new")
        assert (await old.get(1))[:3] == b"old"
        with pytest.raises(Unavailable, match="expected a read quorum"):
            await old.get(1, strict=True)
        assert (await new.get(1, strict=True))[:3] == b"new"
        world.network.heal_all()
        with pytest.raises(Fenced):
            await old.get(1, strict=True)

    run_world(main)
