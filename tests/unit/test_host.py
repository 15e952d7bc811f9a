"""A segment whose disk refuses comes back by itself, and its mistakes are its own."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from aurora.cluster import Cluster, open_cluster
from aurora.config import ClusterConfig
from segments import file_storage
from segments.config import SegmentConfig
from segments.file_storage import FileStorage
from segments.protocol.errors import Corrupt, StorageBroken, StorageFailed
from segments.protocol.events import Event, SegmentFailed
from tests.synced_writes import write_then_sync

AT_ONCE = ClusterConfig(segment=SegmentConfig(storage_retry_s=0.01))


async def until(reached: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not reached():  # noqa: ASYNC110 - no event says so
            await trio.sleep(0.01)


def disk_of(cluster: Cluster, segment: str) -> Any:
    return cluster.hosts[segment].disk.storage  # type: ignore[attr-defined]


def refuse(storage: Any, operation: str, error: type[StorageFailed]) -> Callable[[], None]:
    """Have ``operation`` of one disk raise; returns what ends that."""

    def refused(*_: object) -> object:
        raise error(f"no {operation}")

    setattr(storage, operation, refused)
    return lambda: delattr(storage, operation)


@pytest.mark.parametrize("operation", ["names", "truncate", "write_promise"])
@pytest.mark.parametrize("error", [StorageFailed, StorageBroken])
async def test_a_segment_that_cannot_restore_is_named_and_tried_again(
    autojump_clock: trio.testing.MockClock, operation: str, error: type[StorageFailed]
) -> None:
    async with open_cluster() as cluster:
        await cluster.engine.put(1, 0, b"x")
        host, storage = cluster.hosts["A0"], disk_of(cluster, "A0")
        cluster.crash("A0")
        await trio.sleep(0.1)
        storage.files["wal-1"] += b"torn"
        storage.files["promise"][:100] = bytes(100)
        allow = refuse(storage, operation, error)
        with trio.fail_after(1):
            await cluster.restart("A0")
        for _ in range(3):
            assert (host.started, host.up, host.failure) == (True, False, f"no {operation}")
            await cluster.engine.put(1, 0, b"y")
            await trio.sleep(1)
        allow()
        await until(lambda: host.up)
        assert host.failure is None
        await until(lambda: host.core is not None and host.core.state.scl == cluster.engine.vdl)


async def test_a_volume_opens_without_a_segment_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_cluster(tmp_path / "v") as cluster:
        await cluster.engine.put(1, 0, b"x")
    names = FileStorage.names

    async def unreadable(self: FileStorage) -> tuple[str, ...]:
        if self.identity.segment == "A0":
            raise StorageFailed("a scratched platter")
        return await names(self)

    with monkeypatch.context() as patch, trio.fail_after(10):
        patch.setattr(FileStorage, "names", unreadable)
        async with open_cluster(tmp_path / "v", config=AT_ONCE) as cluster:
            assert cluster.hosts["A0"].failure == "a scratched platter"
            assert (await cluster.engine.get(1))[:1] == b"x"
            patch.undo()
            await until(lambda: cluster.hosts["A0"].up)


async def test_a_crash_ends_the_waiting_for_a_disk(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster:
        host, storage = cluster.hosts["A0"], disk_of(cluster, "A0")
        cluster.crash("A0")
        allow = refuse(storage, "names", StorageFailed)
        await cluster.restart("A0")
        cluster.crash("A0")
        allow()
        await trio.sleep(5)
        assert (host.started, host.up, host.failure) == (False, False, None)
        await cluster.restart("A0")
        assert host.up


@pytest.mark.parametrize("operation", ["_append", "write_promise", "read"])
async def test_a_storage_that_broke_is_opened_anew(
    autojump_clock: trio.testing.MockClock, operation: str
) -> None:
    async with open_cluster() as cluster:
        for segment in ("A0", "C0", "E0"):  # a write quorum cannot do without these three
            host = cluster.hosts[segment]
            before = host.server
            allow = refuse(disk_of(cluster, segment), operation, StorageBroken)
            await cluster.recover()  # gives them a promise to write
            await cluster.engine.put(1, 0, segment.encode())
            await until(lambda host=host: not host.up)  # type: ignore[misc]
            assert host.failure == f"no {operation}"
            allow()
            await until(lambda host=host, old=before: host.up and host.server is not old)  # type: ignore[misc]
        await cluster.engine.put(1, 0, b"z")
        assert all(host.up for host in cluster.hosts.values())


async def test_one_failed_sync_of_a_file_does_not_stop_a_segment_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, failing = file_storage._sync, 0

    def sometimes(file: int) -> None:
        nonlocal failing
        if failing:
            failing -= 1
            raise OSError(errno.EIO, "bad disk")
        sync(file)

    write_then_sync(monkeypatch)
    monkeypatch.setattr(file_storage, "_sync", sometimes)
    async with open_cluster(tmp_path / "v", config=AT_ONCE) as cluster:
        await cluster.engine.put(1, 0, b"x")
        with trio.fail_after(30):
            for number in range(6):
                failing = 4
                await cluster.engine.put(1, 0, bytes([number]))
        await until(lambda: all(host.up for host in cluster.hosts.values()))
        assert failing == 0


@pytest.mark.parametrize(
    "mistake", [AssertionError("own"), Corrupt("own"), ZeroDivisionError("own")]
)
async def test_a_mistake_of_one_segment_takes_down_nobody_else(
    autojump_clock: trio.testing.MockClock, mistake: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, object]] = []

    def trace(source: str, event: Event) -> None:
        if isinstance(event, SegmentFailed):
            told.append((source, event.reason))

    async with open_cluster(trace=trace) as cluster:
        host = cluster.hosts["A0"]
        assert host.core is not None

        def wrong(*_: object) -> None:
            raise mistake

        monkeypatch.setattr(host.core, "step", wrong)
        await cluster.engine.put(1, 0, b"x")
        await until(lambda: not host.started)
        assert host.failure is not None
        assert f"{type(mistake).__name__} in wrong, test_host.py" in host.failure
        assert told == [("A0", host.failure)]
        await trio.sleep(5)
        assert not host.started, "only a restart brings it back"
        await cluster.restart("A0")
        assert host.up
        await cluster.engine.put(1, 0, b"y")


NO_THREAD = RuntimeError("can't start new thread")


@pytest.mark.parametrize("lack", [MemoryError(), NO_THREAD, OSError(errno.ENFILE, "none left")])
async def test_what_is_lacking_for_a_moment_takes_no_segment_down_for_good(
    autojump_clock: trio.testing.MockClock, lack: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistakes: list[Event] = []

    def trace(source: str, event: Event) -> None:
        if isinstance(event, SegmentFailed):
            mistakes.append(event)

    async with open_cluster(trace=trace) as cluster:
        host = cluster.hosts["A0"]
        assert host.core is not None

        def short(*_: object) -> None:
            raise lack

        monkeypatch.setattr(host.core, "step", short)
        await cluster.engine.put(1, 0, b"x")
        await until(lambda: not host.up)
        health = cluster.health().segments["A0"]
        said = getattr(lack, "strerror", None) or str(lack) or "MemoryError"
        assert (host.mistake, health.status, health.why) == (None, "failing", said)
        await until(lambda: host.up)
        await until(lambda: host.core is not None and host.core.state.scl == cluster.engine.vdl)
    assert not mistakes


async def test_a_segment_without_a_thread_writes_when_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, starved = trio.lowlevel.start_thread_soon, {"A0 disk", "C0 disk", "E0 disk"}

    def start_thread_soon(job: Any, deliver: Any, name: str) -> None:
        if name in starved:
            raise NO_THREAD
        start(job, deliver, name)

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", start_thread_soon)
    monkeypatch.setattr("segments.file_storage.ring_of_this_run", lambda: None)
    async with open_cluster(tmp_path / "v", config=AT_ONCE) as cluster:
        hosts = [cluster.hosts[segment] for segment in ("A0", "C0", "E0")]
        servers = [host.server for host in hosts]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.engine.put, 1, 0, b"x")
            await until(lambda: all(host.failure for host in hosts))
            assert cluster.health().segments["A0"].why == "can't start new thread"
            starved.clear()
        assert [host.server for host in hosts] == servers, "nothing was wrong with the storage"
    starved.update(["B0 files", "D0 files", "F0 files"])
    async with trio.open_nursery() as nursery:

        async def open_again() -> None:
            async with open_cluster(tmp_path / "v", config=AT_ONCE) as cluster:
                assert (await cluster.engine.get(1))[:1] == b"x"
                await until(lambda: all(host.up for host in cluster.hosts.values()))

        nursery.start_soon(open_again)
        await trio.sleep(0.05)
        starved.clear()


async def test_a_segment_without_a_descriptor_starts_when_there_is_one(tmp_path: Path) -> None:
    async with open_cluster(tmp_path / "v", config=AT_ONCE) as cluster:
        await cluster.engine.put(1, 0, b"x")
        host = cluster.hosts["A0"]
        cluster.crash("A0")
        await until(lambda: host._ended is None)  # its descriptors have been given back
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = [os.open(os.devnull, os.O_RDONLY)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 8, hard))
        try:
            with suppress(OSError):
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            await cluster.restart("A0")
            assert (host.started, host.up, host.lost, host.mistake) == (True, False, None, None)
            assert cluster.health().segments["A0"].why == "Too many open files"
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await until(lambda: host.up)
        await until(lambda: host.core is not None and host.core.state.scl == cluster.engine.vdl)
