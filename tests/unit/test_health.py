"""`Cluster.health` and the log of a real cluster in virtual time: no state, and no wait, is silent.

(More than 400 lines: one short story for each thing that can be wrong.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import aurora
from aurora.cluster import Cluster, open_cluster
from aurora.config import ClusterConfig, EngineConfig
from aurora.health import SegmentStatus, WaitKind
from segments.config import SegmentConfig
from segments.disks import FileDisk
from segments.protocol.errors import (
    Invalid,
    NotOpened,
    StorageBroken,
    StorageFailed,
    StorageForbidden,
    StorageFull,
    Unavailable,
)
from segments.storage import Ended, MemoryStorage, Storage
from tests.worlds import World, run_world

pytestmark = pytest.mark.usefixtures("no_syncs")


def storage_of(cluster: Cluster, segment: str) -> Any:
    return cluster.hosts[segment].disk.storage  # type: ignore[attr-defined]


def refuse(
    cluster: Cluster, names: str, operation: str, error: StorageFailed
) -> Callable[[], None]:
    """Have disks raise ``error``; returns what ends that."""
    storages = [storage_of(cluster, f"{letter}0") for letter in names]

    def refused(*_: object) -> object:
        raise error

    for each in storages:
        setattr(each, operation, refused)

    def allow() -> None:
        for each in storages:
            delattr(each, operation)

    return allow


def status(cluster: Cluster, segment: str) -> tuple[SegmentStatus, str]:
    found = cluster.health().segments[segment]
    return found.status, found.why


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """What was logged since the last call."""
    lines = [(each.levelno, each.getMessage()) for each in caplog.records if each.name == "aurora"]
    caplog.clear()
    return lines


@pytest.fixture(autouse=True)
def _hear_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aurora")


NO_SPACE = StorageFull("No space left on device")

# ---- each state ----------------------------------------------------------------------------------


async def test_all_is_well_and_nothing_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_cluster(config=ClusterConfig(pg_count=2)) as cluster:
        for page in range(100):
            await cluster.engine.put(page, 0, b"x")
            await trio.sleep(0.1)
        report = cluster.health()
        assert report.writes.goes_on
        assert report.reads.goes_on
        assert report.waits == ()
        assert {each.status for each in report.segments.values()} == {SegmentStatus.UP}
        assert report.segments["F1"].for_s == pytest.approx(10.0, abs=0.1)
    assert logged(caplog) == []


async def test_a_crash_and_a_restart(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        cluster.crash("az3")
        await trio.sleep(3)
        assert status(cluster, "E0") == (SegmentStatus.DOWN, "")
        assert cluster.health().segments["E0"].for_s == pytest.approx(3.0)
        await cluster.restart("az3")
        await trio.sleep(1)
        assert status(cluster, "E0") == (SegmentStatus.UP, "")
        assert cluster.health().segments["E0"].for_s == pytest.approx(1.0, abs=0.1)


async def test_a_segment_that_reads_its_log_is_not_up_yet(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster, trio.open_nursery() as nursery:
        storage, names = storage_of(cluster, "A0"), storage_of(cluster, "A0").names

        async def slowly() -> object:
            await trio.sleep(5)
            return await names()

        storage.names = slowly
        cluster.crash("A0")
        nursery.start_soon(cluster.restart, "A0")
        await trio.sleep(3)
        assert status(cluster, "A0") == (SegmentStatus.DOWN, "reads its log")
        await trio.sleep(3)
        assert status(cluster, "A0") == (SegmentStatus.UP, "")


async def test_a_pause_and_its_end(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        cluster.pause("B0")
        await trio.sleep(2)
        assert status(cluster, "B0") == (SegmentStatus.PAUSED, "")
        assert cluster.health().segments["B0"].for_s == pytest.approx(2.0)
        cluster.resume("B0")
        assert status(cluster, "B0") == (SegmentStatus.UP, "")


async def test_a_wiped_disk_is_lost_and_told_at_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_cluster() as cluster:
        cluster.wipe("C0")
        await trio.sleep(0.5)
        assert status(cluster, "C0") == (SegmentStatus.LOST, "the disk of C0 was wiped")
        ((level, text),) = logged(caplog)
        assert level == logging.WARNING
        assert text.startswith("C0 is lost (the disk of C0 was wiped): the volume runs on 5 of 6")
        await trio.sleep(60)
        assert logged(caplog) == []


async def test_full_disks_say_so_and_go_on_by_themselves(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_cluster() as cluster, trio.open_nursery() as nursery:
        await cluster.engine.put(1, 0, b"x")
        allow = refuse(cluster, "ABC", "_append", NO_SPACE)
        nursery.start_soon(cluster.engine.put, 1, 0, b"y")
        await trio.sleep(3)
        assert status(cluster, "A0") == (SegmentStatus.FULL, "No space left on device")
        assert cluster.hosts["A0"].failure == "No space left on device"
        assert cluster.hosts["A0"].up
        report = cluster.health()
        missing = "3 of 6 segments take writes, 4 needed: A0 B0 C0 full (No space left on device)"
        assert report.writes.missing == missing
        assert report.reads.goes_on
        assert report.segments["A0"].for_s == pytest.approx(3.0, abs=0.1)
        commits = report.waits[0]
        assert commits.kind is WaitKind.COMMITS
        assert commits.for_s == pytest.approx(3.0, abs=0.1)
        ((level, text),) = logged(caplog)
        assert (level, text.startswith(f"commits wait for a write quorum: {missing} (for 1.")) == (
            logging.WARNING, True
        )  # fmt: skip
        allow()
        await trio.sleep(3)
        assert cluster.health().writes.goes_on
        assert status(cluster, "A0") == (SegmentStatus.UP, "")
        assert [(level, text[:12]) for level, text in logged(caplog)] == [
            (logging.INFO, "commits go o")
        ]


async def test_one_full_disk_is_told_though_nothing_waits_for_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_cluster() as cluster:
        allow = refuse(cluster, "D", "_append", NO_SPACE)
        await cluster.engine.put(1, 0, b"x")
        await trio.sleep(2)
        assert [text[:36] for _, text in logged(caplog)] == ["D0 full (No space left on device) (f"]
        allow()
        await trio.sleep(2)
        ((level, text),) = logged(caplog)
        assert (level, text[-34:]) == (logging.INFO, ": D0 full (No space left on device)"[-34:])


async def test_a_disk_without_room_for_layers_says_so_and_still_takes_writes(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    config = ClusterConfig(segment=SegmentConfig(fold_bytes=1024))
    async with open_cluster(config=config) as cluster:
        allow = refuse(cluster, "A", "extend", NO_SPACE)
        for _ in range(40):
            await cluster.engine.put(1, 0, b"x")
            await trio.sleep(0.1)
        why = "No space left on device; its layers are not written; the log only grows"
        assert status(cluster, "A0") == (SegmentStatus.FULL, why)
        assert cluster.health().segments["A0"].takes_writes
        assert [text.split(" (for")[0] for _, text in logged(caplog)] == [f"A0 full ({why})"]
        allow()
        await trio.sleep(3)
        assert status(cluster, "A0") == (SegmentStatus.UP, "")


async def test_a_damaged_layer_is_told_until_peers_have_repaired_it(
    autojump_clock: MockClock,
) -> None:
    segment = SegmentConfig(fold_bytes=1024, block_cache_bytes=0, image_cache_bytes=0)
    config = ClusterConfig(segment=segment, engine=EngineConfig(retention_lsns=None))
    async with open_cluster(config=config) as cluster:
        for _ in range(40):
            await cluster.engine.put(1, 0, b"x")
        await trio.sleep(2)
        files = storage_of(cluster, "A0").files
        for name in [name for name in files if name.startswith("layer-")]:
            files[name][100] ^= 1
        cluster.crash("B C D E F")
        with trio.move_on_after(1):
            await cluster.engine.get_at(1, 5)
        why = "part of a layer is lost; peers repair it"
        assert status(cluster, "A0") == (SegmentStatus.DAMAGED, why)
        await cluster.restart("B C D E F")
        await trio.sleep(3)
        assert status(cluster, "A0") == (SegmentStatus.UP, "")
        await cluster.engine.get_at(1, 5)


@pytest.mark.parametrize("error", [StorageFailed("bad sector"), StorageBroken("bad sync")])
async def test_a_failing_disk_is_failing_all_along(
    autojump_clock: MockClock, error: StorageFailed
) -> None:
    """Also one that opens each time, and breaks at the next write."""
    async with open_cluster() as cluster:
        refuse(cluster, "A", "_append", error)
        await cluster.engine.put(1, 0, b"x")
        seen = set()
        for _ in range(50):
            await trio.sleep(0.1)
            await cluster.engine.put(1, 0, b"y")
            found = cluster.health().segments["A0"]
            if found.status is SegmentStatus.FAILING:
                seen.add((found.why, round(found.for_s)))
        assert seen >= {(str(error), 1), (str(error), 3)}


async def test_a_segment_that_made_a_mistake(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(*_: object) -> None:
        raise AssertionError("own")

    async with open_cluster() as cluster:
        core = cluster.hosts["A0"].core
        assert core is not None
        monkeypatch.setattr(core, "step", wrong)
        await cluster.engine.put(1, 0, b"x")
        await trio.sleep(2)
        found, why = status(cluster, "A0")
        assert (found, "AssertionError in wrong" in why) == (SegmentStatus.FAILED, True)
        assert [text[:10] for _, text in logged(caplog)] == ["A0 failed "]
        await cluster.restart("A0")
        assert status(cluster, "A0") == (SegmentStatus.UP, "")


async def test_a_damaged_segment_until_its_peers_have_repaired_it(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster() as cluster:
        for number in range(5):
            await cluster.engine.put(1, number, b"x")
        log, peers = (
            storage_of(cluster, "A0").files["wal-1"],
            [cluster.hosts[f"{x}0"] for x in "BCDEF"],
        )
        for host in cluster.hosts.values():
            host.crash()
        log[len(log) // 2] ^= 1
        await trio.sleep(1)
        await cluster.restart("A0")
        await trio.sleep(1)
        found, why = status(cluster, "A0")
        assert (found, why) == (SegmentStatus.DAMAGED, "part of its log is lost; peers repair it")
        for each in peers:
            await cluster.restart(each.segment)
        await trio.sleep(10)
        assert status(cluster, "A0") == (SegmentStatus.UP, "")


async def test_a_segment_that_the_writer_hears_nothing_from(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        cluster.slow("A0", 600.0)
        await cluster.engine.put(1, 0, b"x")
        await trio.sleep(0.5)
        assert status(cluster, "A0") == (
            SegmentStatus.UP,
            "slow: each round of messages waits 600000 ms",
        )
        await trio.sleep(5)
        assert status(cluster, "A0") == (SegmentStatus.SILENT, "no answer to the writer")


async def test_a_disk_that_never_finishes_a_write(autojump_clock: MockClock) -> None:
    under_way: list[Ended] = []

    def hang(_name: str, _data: bytes, ended: Ended) -> bool:
        under_way.append(ended)
        return True

    async with open_cluster() as cluster:
        storage_of(cluster, "A0").begin_append = hang
        await cluster.engine.put(1, 0, b"x")
        await trio.sleep(5)
        assert status(cluster, "A0") == (
            SegmentStatus.FAILING, "a write does not finish"
        )  # fmt: skip
        under_way[0](StorageFailed("or only now: a segment's end waits for it"))


def test_a_segment_that_is_being_brought_up_to_date_is_behind() -> None:
    """Gossip alone can help, a little at a time, when the writer's log has moved on."""
    engine = EngineConfig(outgoing_bytes=1 << 20, part_bytes=1 << 20)
    segment = SegmentConfig(gossip_bytes=64 << 10)

    async def main(world: World) -> None:
        world.crash("A0")
        for number in range(400):
            await world.engine.put(number % 3, 0, bytes(8000))
        await world.restart("A0")
        world.cluster.slow("A0", 0.5)
        await trio.sleep(3)
        found = world.cluster.health().segments["A0"]
        assert found.status is SegmentStatus.BEHIND
        assert found.why.startswith("by ")
        assert not found.takes_writes
        await world.until(
            lambda: world.cluster.health().segments["A0"].status is SegmentStatus.UP, within_s=600
        )
        assert world.cluster.health().segments["A0"].takes_writes

    run_world(main, engine=engine, segment=segment)


def test_a_simulated_disk_that_fills_up() -> None:
    async def main(world: World) -> None:
        await world.engine.put(1, 0, b"x")
        for disk in world.disks.values():
            disk.set_capacity(disk.size())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.engine.put, 1, 0, b"y")
            await trio.sleep(2)
            report = world.cluster.health()
            assert {each.status for each in report.segments.values()} == {SegmentStatus.FULL}
            assert not report.writes.goes_on
            for disk in world.disks.values():
                disk.set_capacity(None)
        assert world.cluster.health().writes.goes_on

    run_world(main)


# ---- what waits ----------------------------------------------------------------------------------


def kinds(cluster: Cluster) -> set[WaitKind]:
    return {each.kind for each in cluster.health().waits}


async def test_commits_that_wait_for_room_below_the_limit(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    config = ClusterConfig(lal=3)
    async with open_cluster(config=config) as cluster, trio.open_nursery() as nursery:
        for letter in "ABC":
            cluster.crash(letter)
        for _ in range(6):
            nursery.start_soon(cluster.engine.put, 1, 0, b"x")
        await trio.sleep(2)
        assert kinds(cluster) == {WaitKind.COMMITS, WaitKind.ROOM}
        assert sum("wait for room" in text for _, text in logged(caplog)) == 1
        await cluster.restart("A")


async def test_commits_that_wait_for_the_buffer_pool(autojump_clock: MockClock) -> None:
    config = ClusterConfig(lal=1, engine=EngineConfig(buffer_pool_pages=1))
    async with open_cluster(config=config) as cluster, trio.open_nursery() as nursery:
        for letter in "ABC":
            cluster.crash(letter)
        for page in (1, 1, 2):  # not durable; pinned, without room; without a place
            nursery.start_soon(cluster.engine.put, page, 0, b"x")
            await trio.sleep(0.1)
        await trio.sleep(2)
        assert kinds(cluster) == {WaitKind.COMMITS, WaitKind.ROOM, WaitKind.POOL}
        await cluster.restart("A")


@pytest.mark.parametrize("writing", [False, True])
async def test_reads_that_nobody_can_answer(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, *, writing: bool
) -> None:
    async with open_cluster() as cluster:
        await cluster.engine.put(1, 0, b"x")
        await cluster.recover()
        for letter in "ABCDEF":
            cluster.crash(letter)
        async with trio.open_nursery() as nursery:
            if writing:
                nursery.start_soon(cluster.engine.put, 1, 0, b"y")
            else:
                nursery.start_soon(cluster.engine.get, 1)
            await trio.sleep(2)
            kind = WaitKind.PAGES if writing else WaitKind.READS
            (found,) = (each for each in cluster.health().waits if each.kind is kind)
            assert found.missing == (
                "none of 6 segments can answer for the newest version, 1 needed: "
                "A0 B0 C0 D0 E0 F0 down"
            )
            assert any(found.text in text for _, text in logged(caplog))
            await cluster.restart("A")
            await cluster.restart("B")
            await cluster.restart("C")
            await cluster.restart("D")
        await trio.sleep(1)
        assert kinds(cluster) == set()


async def test_a_strict_read_that_no_quorum_confirms(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster, trio.open_nursery() as nursery:
        await cluster.engine.put(1, 0, b"x")
        for letter in "ABCD":
            cluster.crash(letter)

        async def read() -> None:
            await cluster.engine.get(1, strict=True)

        nursery.start_soon(read)
        await trio.sleep(2)
        assert WaitKind.STRICT_READS in kinds(cluster)
        await cluster.restart("A")


async def test_a_recovery_that_waits_says_for_whom(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_cluster() as cluster, trio.open_nursery() as nursery:
        await cluster.engine.put(1, 0, b"x")
        for letter in "ABCD":
            cluster.crash(letter)
        nursery.start_soon(cluster.recover)
        await trio.sleep(2)
        ((level, text),) = logged(caplog)
        missing = "2 of 6 segments have sealed its epoch, 3 needed: A0 B0 C0 D0 down"
        assert level == logging.WARNING
        assert text.startswith(f"writer-2 cannot open the volume yet: {missing} (for 1.")
        await cluster.restart("A")
        await trio.sleep(1)
        assert cluster.health().writes.missing == (
            "3 of 6 segments have taken over its epoch, 4 needed: B0 C0 D0 down"
        )
        await cluster.restart("B")
        await trio.sleep(1)
        assert [text[:36] for _, text in logged(caplog)] == ["writer-2 no longer waits to open the"]
        assert cluster.health().writer == "writer-2 has the volume open, epoch 2"


async def test_a_takeover_that_waits_is_told_beside_the_writer_that_still_runs(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster() as cluster:
        cluster.crash_writer()
        await trio.sleep(0.1)
        report = cluster.health()
        assert report.writer == "writer-1 has been closed"
        assert str(report).count("writer-1") == 1
        assert not report.writes.goes_on
        await cluster.open_writer()
        assert cluster.health().writes.goes_on


async def test_what_has_not_begun_has_not_lasted(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start, texts = Cluster.start_segments, []

    async def look_first(self: Cluster) -> None:
        texts.append(str(self.health()))
        await start(self)

    monkeypatch.setattr(Cluster, "start_segments", look_first)
    await trio.sleep(1_000)
    async with open_cluster() as cluster, trio.open_nursery() as nursery:
        assert "A0       down     for 0.0 s" in texts[0]
        nursery.start_soon(cluster.open_writer)
        while len(cluster.engines) == 1:
            await trio.lowlevel.checkpoint()
        (opening,) = cluster.health().waits
        assert (opening.kind, opening.for_s) == (WaitKind.OPENING, 0.0)
    assert logged(caplog) == []


# ---- opening -------------------------------------------------------------------------------------


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume on files, made in real time: no file knows of any other."""

    async def make() -> None:
        async with open_cluster(tmp_path / "v") as cluster:
            await cluster.engine.put(1, 0, b"x")

    trio.run(make)
    return tmp_path / "v"


def forbid(monkeypatch: pytest.MonkeyPatch, names: str, error: StorageFailed) -> Callable[[], None]:
    """Have the directories of segments raise when they are opened; returns what ends that.

    The others are copied into memory, for the same reason.
    """
    opened, forbidden = FileDisk.open, set(names)

    def open_some(self: FileDisk) -> Storage:
        if self.identity.segment[0] in forbidden:
            raise error
        opened(self).close()
        copy = MemoryStorage(self.identity)
        for name in ("manifest", "promise", "wal-1"):
            copy.files[name] = bytearray((self.directory / name).read_bytes())
        return copy

    monkeypatch.setattr(FileDisk, "open", open_some)
    return forbidden.clear


READ_ONLY = StorageForbidden("Read-only file system")


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ("ABCDEF", "0 of 6 segments have sealed its epoch, 3 needed: A0 B0 C0 D0 E0 F0 "),
        ("ABC", "3 of 6 segments have taken over its epoch, 4 needed: A0 B0 C0 "),
    ],
)
async def test_a_volume_that_may_not_be_written_is_given_up_soon(
    volume: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, names: str, missing: str,
) -> None:  # fmt: skip
    forbid(monkeypatch, names, READ_ONLY)
    started = trio.current_time()
    with pytest.raises(NotOpened) as raised:
        async with open_cluster(volume):
            pytest.fail("opened")
    assert 5.0 <= trio.current_time() - started < 6.0
    why = f"{missing}refused (Read-only file system)"
    assert str(raised.value).startswith("the volume could not be opened within 5.")
    assert str(raised.value).endswith(why)
    assert isinstance(raised.value, Unavailable)
    told = [text for level, text in logged(caplog) if level == logging.WARNING]
    assert any(f"writer-1 cannot open the volume yet: {why} (for 1." in text for text in told)


async def test_a_full_disk_may_be_given_room_and_so_is_waited_for_as_long_as_asked(
    volume: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch, "ABC", NO_SPACE)
    for timeout_s in (60.0, 100.0):
        started = trio.current_time()
        with pytest.raises(NotOpened, match=r"A0 B0 C0 full \(No space left on device\)"):
            async with open_cluster(volume, timeout_s=timeout_s):
                pytest.fail("opened")
        assert trio.current_time() - started == pytest.approx(timeout_s, abs=0.5)


async def test_none_waits_for_ever(
    volume: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch, "ABC", NO_SPACE)
    with trio.move_on_after(90) as scope:
        async with open_cluster(volume, timeout_s=None):
            pytest.fail("opened")
    assert scope.cancelled_caught


async def test_an_opening_goes_on_when_what_it_waits_for_is_there(
    volume: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def make_room() -> None:
        await trio.sleep(30)
        allow()

    allow = forbid(monkeypatch, "ABC", NO_SPACE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_room)
        async with open_cluster(volume) as cluster:
            assert (await cluster.engine.get(1))[:1] == b"x"


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), "1", True])
async def test_an_impossible_timeout_is_refused(timeout_s: Any) -> None:
    with pytest.raises(Invalid, match=r"timeout_s is .*: expected seconds >= 0"):
        async with open_cluster(timeout_s=timeout_s):
            pytest.fail("opened")


async def test_a_volume_with_lost_segments_says_so_when_it_is_opened(
    volume: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (volume / "B0" / "identity").unlink()
    async with open_cluster(volume) as cluster:
        assert cluster.health().segments["B0"].status is SegmentStatus.LOST
        ((level, text),) = logged(caplog)
    assert level == logging.WARNING
    assert text.startswith("B0 is lost (")
    assert "the volume runs on 5 of 6 segments, and can do without 1 of them" in text


def test_what_people_need_is_in_the_package() -> None:
    for name in ("HealthReport", "SegmentStatus", "NotOpened", "StorageFull", "StorageForbidden"):
        assert name in aurora.__all__
        assert hasattr(aurora, name)
