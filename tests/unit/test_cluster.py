"""Opening and closing a cluster, on files and in memory, and what can be done to its parts.

(More than 400 lines: every way in and out of one small public function.)
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import aurora
from aurora.cluster import Cluster, open_cluster
from aurora.config import ClusterConfig, EngineConfig
from segments.config import SegmentConfig
from segments.protocol.errors import (
    AuroraError,
    Closed,
    Corrupt,
    Fenced,
    Invalid,
    InvalidConfig,
    InvalidTarget,
    StorageFailed,
    Unavailable,
    VolumeLocked,
)
from tests.patience import PATIENCE_S
from tests.worlds import World, run_world

pytestmark = pytest.mark.usefixtures("no_syncs")

TWO_GROUPS = ClusterConfig(pg_count=2)


class OwnError(Exception):
    """What a user's block raises."""


# ---- in and out ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pg_count", [1, 2, 3])
async def test_a_volume_in_memory_of_any_number_of_groups(pg_count: int) -> None:
    async with open_cluster(config=ClusterConfig(pg_count=pg_count)) as cluster:
        engine = cluster.engine
        lsn = await engine.put_many([(page, 0, bytes([page + 1])) for page in range(7)])
        assert lsn == engine.vdl == engine.vcl == 7
        for page in range(7):
            assert (await engine.get(page))[:2] == bytes([page + 1, 0])
        assert len(cluster.hosts) == 6 * pg_count
        assert set(engine.statistics().pgcl) == set(range(pg_count))


@pytest.mark.parametrize("pg_count", [1, 2, 3])
async def test_a_volume_on_files_keeps_every_version(tmp_path: Path, pg_count: int) -> None:
    everything = EngineConfig(retention_lsns=None)
    config = ClusterConfig(pg_count=pg_count, lal=100, engine=everything)
    versions: list[int] = []
    for opening in range(4):
        async with open_cluster(tmp_path / "v", config=config) as cluster:
            engine = cluster.engine
            assert engine.vdl == (versions[-1] if versions else 0)
            for number, lsn in enumerate(versions):
                for page in range(3):
                    assert (await engine.get_at(page, lsn))[0] == number + 1
            for _ in range(3):
                value = bytes([len(versions) + 1])
                versions.append(await engine.put_many([(page, 0, value) for page in range(3)]))
            assert not cluster.lost_segments(), opening
    assert versions == sorted(versions)


async def test_an_existing_volume_keeps_its_own_number_of_groups(tmp_path: Path) -> None:
    async with open_cluster(tmp_path, config=TWO_GROUPS) as cluster:
        await cluster.engine.put(5, 0, b"x")
    async with open_cluster(tmp_path) as cluster:
        assert cluster.geometry.pg_count == 2
        assert (await cluster.engine.get(5))[:1] == b"x"


async def test_a_relative_directory_and_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_cluster("v") as cluster:
        await cluster.engine.put(1, 0, b"x")
    monkeypatch.chdir(tmp_path / "v")
    async with open_cluster(".") as cluster:
        assert (await cluster.engine.get(1))[:1] == b"x"


async def raise_in_block(
    directory: Path | None, own: BaseException, cause: Any, scope: Any
) -> None:
    """Raise ``own`` in an `open_cluster` block, with a context, and perhaps while cancelled."""
    async with open_cluster(directory) as cluster:
        await cluster.engine.put(1, 0, b"x")
        if scope is not None:
            scope.cancel()
        try:
            raise OwnError("context")
        except OwnError:
            if cause is not None:
                raise own from cause
            raise own  # noqa: B904 - its context is what is tested


@pytest.mark.parametrize("where", ["memory", "files"])
@pytest.mark.parametrize("cause", [None, OwnError("cause")])
@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("kind", [OwnError, KeyboardInterrupt, ExceptionGroup])
async def test_what_the_block_raises_comes_out_as_it_is(
    tmp_path: Path, where: str, cause: Any, cancelled: bool, kind: Any
) -> None:
    own = kind("mine", [OwnError("one")]) if kind is ExceptionGroup else kind("mine")
    directory = tmp_path / "v" if where == "files" else None
    with trio.CancelScope() as scope, pytest.raises(kind) as raised:
        await raise_in_block(directory, own, cause, scope if cancelled else None)
    assert raised.value is own
    assert isinstance(own.__context__, OwnError)
    assert str(own.__context__) == "context"
    assert own.__cause__ is cause


async def test_a_cancelled_block_is_simply_cancelled() -> None:
    with trio.CancelScope() as scope:
        async with open_cluster():
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_calls_from_outside_are_told_of_the_close() -> None:
    endings: list[BaseException] = []

    async def read(engine: aurora.Engine) -> None:
        try:
            while True:
                await engine.get(1)
        except Closed as error:
            endings.append(error)

    async def write(engine: aurora.Engine) -> None:
        try:
            await engine.put(2, 0, b"never")
        except Closed as error:
            endings.append(error)

    async with trio.open_nursery() as nursery, open_cluster() as cluster:
        await cluster.engine.put(1, 0, b"x")
        for segment in "ABC":
            cluster.crash(segment)
        for _ in range(5):
            nursery.start_soon(write, cluster.engine)
            nursery.start_soon(read, cluster.engine)
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        assert not endings
    assert len(endings) == 10
    with pytest.raises(Closed):
        await cluster.engine.put(1, 0, b"x")


# ---- what is refused -----------------------------------------------------------------------------


async def test_a_directory_is_open_once(tmp_path: Path) -> None:
    async with open_cluster(tmp_path / "v") as cluster:
        with pytest.raises(VolumeLocked, match=f"^{tmp_path / 'v'} is open already"):
            async with open_cluster(tmp_path / "v"):
                pytest.fail("opened twice")
        await cluster.engine.put(1, 0, b"x")
    async with open_cluster(tmp_path / "v") as cluster:
        assert (await cluster.engine.get(1))[:1] == b"x"


@pytest.mark.parametrize("directory", [5, b"v", "a\0b", "\ud800", True, ["v"]])
async def test_what_is_no_path_is_refused(directory: Any) -> None:
    with pytest.raises(Invalid, match=r"directory is .*: expected a path"):
        async with open_cluster(directory):
            pytest.fail("opened")


async def test_foreign_and_damaged_directories_are_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter").write_text("dear")
    with pytest.raises(Invalid, match="holds letter"):
        async with open_cluster(tmp_path / "foreign"):
            pytest.fail("opened")
    assert [each.name for each in (tmp_path / "foreign").iterdir()] == ["letter"]
    async with open_cluster(tmp_path / "v") as cluster:
        await cluster.engine.put(1, 0, b"x")
    manifest = tmp_path / "v" / "volume.json"
    data = manifest.read_bytes()
    manifest.write_bytes(data.replace(b'"pg_count": 1', b'"pg_count": 2'))
    with pytest.raises(Corrupt, match=r"volume\.json"):
        async with open_cluster(tmp_path / "v"):
            pytest.fail("opened")
    manifest.unlink()
    with pytest.raises(Invalid, match=r"A0.* and no volume\.json"):
        async with open_cluster(tmp_path / "v"):
            pytest.fail("opened")
    manifest.write_bytes(data)
    async with open_cluster(tmp_path / "v") as cluster:
        assert (await cluster.engine.get(1))[:1] == b"x"


@pytest.mark.parametrize("pg_count", [0, -1, 10**6, 1.5, "1", True])
async def test_an_impossible_number_of_groups_is_refused(tmp_path: Path, pg_count: Any) -> None:
    with pytest.raises(InvalidConfig, match="pg_count is"):
        async with open_cluster(tmp_path / "v", config=ClusterConfig(pg_count=pg_count)):
            pytest.fail("opened")
    assert not (tmp_path / "v").exists()


async def write_some(directory: Path, config: ClusterConfig | None = None) -> None:
    async with open_cluster(directory, config=config) as cluster:
        for page in range(6):
            await cluster.engine.put(page, 0, bytes([page + 1]))


def spoil_missing(segment: Path) -> None:
    shutil.rmtree(segment)


def spoil_empty(segment: Path) -> None:
    shutil.rmtree(segment)
    segment.mkdir()


def spoil_foreign(segment: Path) -> None:
    shutil.rmtree(segment)
    shutil.copytree(segment.with_name("E0"), segment)


def spoil_identity(segment: Path) -> None:
    (segment / "identity").write_bytes(b"{}")


@pytest.mark.parametrize("spoil", [spoil_missing, spoil_empty, spoil_foreign, spoil_identity])
@pytest.mark.parametrize("lost", ["B", "AC"])
async def test_one_or_two_lost_segments_are_named_and_all_goes_on(
    tmp_path: Path, spoil: Any, lost: str
) -> None:
    await write_some(tmp_path)
    for letter in lost:
        spoil(tmp_path / f"{letter}0")
    for opening in range(2):
        async with open_cluster(tmp_path) as cluster:
            assert sorted(cluster.lost_segments()) == [f"{letter}0" for letter in lost]
            for letter in lost:
                assert f"{letter}0" in cluster.lost_segments()[f"{letter}0"]
                await cluster.restart(letter)
                assert not cluster.hosts[f"{letter}0"].up
            for page in range(6):
                assert (await cluster.engine.get(page))[0] == page + 1
            await cluster.engine.put(50 + opening, 0, b"x")


async def test_too_many_lost_segments_are_an_error_that_names_them(tmp_path: Path) -> None:
    await write_some(tmp_path, TWO_GROUPS)
    for name in ("A1", "D1", "F1", "B0"):
        shutil.rmtree(tmp_path / name)
    with pytest.raises(Unavailable, match=r"group 1 has lost A1, D1, F1: expected a write quorum"):
        async with open_cluster(tmp_path):
            pytest.fail("opened")
    assert not (tmp_path / "A1").exists()


async def test_segments_whose_directories_are_removed_while_open_acknowledge_nothing_more(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path / "v") as cluster:
        await cluster.engine.put(1, 0, b"one")
        for name in ("A0", "B0", "C0"):
            shutil.rmtree(tmp_path / "v" / name)
        commit = await cluster.engine.submit([(1, 0, b"two")])
        with trio.fail_after(PATIENCE_S):
            while sorted(cluster.lost_segments()) != ["A0", "B0", "C0"]:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert cluster.engine.vdl < commit.lsn, "three of six have it on disk"


async def test_a_volume_that_is_moved_while_open_leaves_the_one_in_its_place_alone(
    tmp_path: Path,
) -> None:
    small = SegmentConfig(fold_bytes=1024, wal_file_bytes=1024, collect_ratio=0.01)
    config = ClusterConfig(engine=EngineConfig(retention_lsns=0), segment=small)
    path, moved = tmp_path / "v", tmp_path / "moved"
    async with open_cluster(path, config=config) as old:
        await old.engine.put(1, 0, b"old")
        path.rename(moved)
        await write_some(path)
        before = contents(path)
        with trio.fail_after(PATIENCE_S):
            while not all(each.core.state.floor for each in old.hosts.values()):  # type: ignore[union-attr]
                await old.engine.put(1, 0, b"older")
        assert contents(path) == before
    async with open_cluster(moved) as old:
        assert (await old.engine.get(1)).startswith(b"older")


def contents(directory: Path) -> dict[str, bytes]:
    files = (each for each in directory.rglob("*") if each.is_file())
    return {str(each.relative_to(directory)): each.read_bytes() for each in files}


async def test_a_segment_that_cannot_be_read_is_a_dead_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_some(tmp_path)
    (tmp_path / "C0" / "wal-1").unlink()
    (tmp_path / "C0" / "wal-1").mkdir()  # opening it for writing fails, whoever asks
    async with open_cluster(tmp_path) as cluster:
        host = cluster.hosts["C0"]
        assert not host.up
        assert host.lost is None
        assert "C0 cannot be opened" in (host.failure or "")
        await cluster.engine.put(1, 0, b"go on")


# ---- segments ------------------------------------------------------------------------------------


async def test_names_of_segments() -> None:
    async with open_cluster(config=TWO_GROUPS) as cluster:
        assert cluster.targets("A0") == cluster.targets(" a0 ") == ["A0"]
        assert cluster.targets("b") == ["B0", "B1"]
        assert cluster.targets("az3") == cluster.targets("AZ3") == ["E0", "F0", "E1", "F1"]
        before = {name: host.up for name, host in cluster.hosts.items()}
        for name in ("", "G", "A0 A2", "az4", "az", "0", "writer-1"):
            for call in (cluster.targets, cluster.crash, cluster.pause, cluster.wipe):
                with pytest.raises(InvalidTarget, match="expected A0 to F1, A to F, az1 to az3"):
                    call(name)
        for delay_s in (-1, float("inf"), float("nan")):
            with pytest.raises(Invalid, match=r"delay_s is .*: expected seconds >= 0"):
                cluster.slow("A", delay_s)
        assert before == {name: host.up for name, host in cluster.hosts.items()}


async def test_a_lost_disk_that_is_put_back_stays_lost(tmp_path: Path) -> None:
    """A copy from before has forgotten what its segment promised since (protocol §8)."""
    await write_some(tmp_path / "v")
    shutil.copytree(tmp_path / "v" / "A0", tmp_path / "copy")
    async with open_cluster(tmp_path / "v") as cluster:
        cluster.wipe("A")
        shutil.copytree(tmp_path / "copy", tmp_path / "v" / "A0", dirs_exist_ok=True)
        await cluster.restart("A")
        assert not cluster.hosts["A0"].up
        assert list(cluster.lost_segments()) == ["A0"]
        await cluster.engine.put(1, 0, b"go on")


async def test_crashing_and_restarting_twice_is_once() -> None:
    async with open_cluster() as cluster:
        for _ in range(3):
            cluster.crash("A")
            cluster.crash("A")
            assert not cluster.hosts["A0"].up
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(cluster.restart, "A")
            await cluster.restart("A")
            assert cluster.hosts["A0"].up
            await cluster.engine.put(1, 0, b"x")


async def test_two_restarts_at_once_start_one_segment(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as cluster:
        cluster.crash("B")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(cluster.restart, "B")
        assert cluster.hosts["B0"].up
        await cluster.engine.put(1, 0, b"x")


async def test_a_crash_during_a_restart() -> None:
    async with open_cluster() as cluster:
        await cluster.engine.put(1, 0, b"x")
        for turns in range(6):
            cluster.crash("A")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cluster.restart, "A")
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                cluster.crash("A")
            await cluster.restart("A")
            assert cluster.hosts["A0"].up
            await cluster.engine.put(1, 0, b"x")


@pytest.mark.parametrize("where", ["memory", "files"])
async def test_a_disk_lost_under_load_takes_nobody_along(tmp_path: Path, where: str) -> None:
    async with open_cluster(tmp_path / "v" if where == "files" else None) as cluster:

        async def write(page: int) -> None:
            for number in range(40):
                await cluster.engine.put(page, 0, bytes([number + 1]))

        async with trio.open_nursery() as nursery:
            for page in range(10):
                nursery.start_soon(write, page)
            for letter in "AF":
                for _ in range(20):
                    await trio.lowlevel.checkpoint()
                cluster.wipe(letter)
        assert list(cluster.lost_segments()) == ["A0", "F0"]
        for page in range(10):
            assert (await cluster.engine.get(page))[0] == 40


def test_a_disk_that_cannot_be_read_by_the_scrub_takes_nobody_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scratched(*_: object) -> bytes:
        raise StorageFailed("a scratched platter")

    async def main() -> None:
        config = ClusterConfig(segment=SegmentConfig(scrub_interval_s=0.001, tick_interval_s=0.001))
        async with open_cluster(tmp_path / "v", config=config) as cluster:
            await cluster.engine.put(1, 0, b"x")
            server = cluster.hosts["A0"].server
            assert server is not None
            monkeypatch.setattr(server._storage, "read", scratched)
            with trio.fail_after(PATIENCE_S):
                while not server.storage_failures:
                    await trio.lowlevel.checkpoint()
            await cluster.engine.put(1, 0, b"y")
            assert (await cluster.engine.get(1))[:1] == b"y"

    trio.run(main)


# ---- writers -------------------------------------------------------------------------------------


async def test_a_takeover_fences_the_old_writer() -> None:
    async with open_cluster() as cluster:
        old = cluster.engine
        await old.put(1, 0, b"a")
        new = await cluster.open_writer()
        assert cluster.engine is new
        assert cluster.engines == [old, new]
        await new.put(1, 1, b"b")
        with pytest.raises(Fenced, match="has been sealed"):
            await old.put(1, 2, b"c")
        with pytest.raises(Fenced):
            await old.get(1)
        assert (await new.get(1))[:3] == b"ab\0"


async def test_a_crashed_writer_is_closed_and_the_next_one_has_everything() -> None:
    async with open_cluster(config=TWO_GROUPS) as cluster:
        for number in range(1, 6):
            old = cluster.engine
            lsn = await old.put_many([(number, 0, b"x"), (number + 1, 0, b"y")])
            new = await cluster.recover()
            with pytest.raises(Closed):
                await old.get(1)
            assert new.vdl == lsn
            assert (await new.get(number))[:1] == b"x"


# ---- cancelling an opening -----------------------------------------------------------------------


class CancelAtTurn(trio.abc.Instrument):
    """Cancels a scope before step number ``left`` of all tasks together."""

    def __init__(self, scope: trio.CancelScope, left: int) -> None:
        self._scope, self._left = scope, left

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


@contextmanager
def cancelled_at(turn: int) -> Iterator[trio.CancelScope]:
    with trio.CancelScope() as scope:
        instrument = CancelAtTurn(scope, turn)
        trio.lowlevel.add_instrument(instrument)
        try:
            yield scope
        finally:
            trio.lowlevel.remove_instrument(instrument)


async def test_opening_in_memory_can_be_cancelled_at_every_step() -> None:
    turn, opened = 0, False
    while not opened:
        turn += 1
        with cancelled_at(turn):
            async with open_cluster() as cluster:
                await cluster.engine.put(1, 0, b"x")
                opened = True
    assert turn > 20


async def test_opening_on_files_can_be_cancelled_at_every_step(tmp_path: Path) -> None:
    """Whatever was interrupted, the next opening succeeds and has what was acknowledged."""
    turn, opened, lsn = 0, False, 0
    while not opened:
        turn += 9
        with cancelled_at(turn):
            async with open_cluster(tmp_path / "v") as cluster:
                lsn = await cluster.engine.put(1, 0, turn.to_bytes(4, "big"))
                opened = True
    assert turn > 50
    for later in range(1, turn, 40):
        with cancelled_at(later):
            async with open_cluster(tmp_path / "v") as cluster:
                lsn = await cluster.engine.put(2, 0, later.to_bytes(4, "big"))
        async with open_cluster(tmp_path / "v") as cluster:
            assert (await cluster.engine.get(1))[:4] == turn.to_bytes(4, "big")
            assert cluster.engine.vdl >= lsn
            assert not cluster.lost_segments()


def test_a_restart_cancelled_at_any_moment_can_be_repeated() -> None:
    async def main(world: World) -> None:
        for page in range(20):
            await world.engine.put(page, 0, b"x")
        for tenth_ms in range(8):
            world.crash("A")
            with trio.move_on_after(tenth_ms / 10_000):
                await world.restart("A")
            world.crash("A")
            await world.restart("A")
            assert world.cluster.hosts["A0"].up
        await world.engine.put(1, 0, b"y")

    run_world(main)


def test_every_public_error_has_one_root() -> None:
    errors = [each for name in aurora.__all__ if isinstance(each := getattr(aurora, name), type)]
    for each in errors:
        if issubclass(each, BaseException):
            assert issubclass(each, AuroraError), each
    assert isinstance(Cluster, type)


async def test_of_the_writers_that_have_ended_only_a_few_are_kept() -> None:
    config = aurora.ClusterConfig(ended_writers=2)
    async with aurora.open_cluster(config=config) as cluster:
        for _ in range(6):
            await cluster.recover()
        await cluster.engine.put(1, 0, b"still here")
        assert [engine.name for engine in cluster.engines] == ["writer-5", "writer-6", "writer-7"]
        assert cluster.next_writer == "writer-8"


async def test_one_that_ended_while_it_was_the_latest_counts_among_them() -> None:
    async with aurora.open_cluster(config=aurora.ClusterConfig(ended_writers=0)) as cluster:
        cluster.crash_writer()
        while cluster.engine.error is None:
            await trio.lowlevel.checkpoint()
        await cluster.open_writer()
        assert [engine.name for engine in cluster.engines] == ["writer-2"]


async def test_a_cluster_whose_block_has_ended_starts_nothing() -> None:
    async with open_cluster() as cluster:
        cluster.crash("A0")
    for call in (lambda: cluster.restart("A0"), cluster.open_writer, cluster.recover):
        with pytest.raises(Closed, match="the cluster has been closed"):
            await call()
    assert not cluster.hosts["A0"].started


async def test_a_view_whose_block_has_ended_reads_nothing() -> None:
    async with open_cluster() as cluster:
        await cluster.engine.put(1, 0, b"x")
        async with cluster.engine.read_view() as view:
            assert (await view.get(1))[:1] == b"x"
        with pytest.raises(Invalid, match="has ended"):
            await view.get(1)
        with pytest.raises(Invalid, match="has ended"):
            view.pages()
