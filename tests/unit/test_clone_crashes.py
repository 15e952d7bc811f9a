"""A clone is there or not, whenever its making ends, and never half of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import aurora
from aurora import ClusterConfig, EngineConfig, SegmentConfig
from segments.cloning.cut import NOTHING, Cut, Genesis, cut_at
from segments.cloning.directory import CloneDirectory
from segments.disks import VolumeDirectory
from segments.locked_directory import OpenDirectory
from segments.manifest import MANIFEST, decode_manifest
from segments.protocol.errors import Invalid
from segments.protocol.ids import SegmentId
from segments.restart import plan_restart
from segments.segment_directory import read_unlocked

CONFIG = SegmentConfig(
    fold_bytes=1_000, wal_file_bytes=1_024, block_bytes=1_024, fan_out=4, tick_interval_s=0.001
)
END = 20


async def _write(path: Path) -> None:
    config = ClusterConfig(segment=CONFIG, engine=EngineConfig(retention_lsns=None))
    async with aurora.open_cluster(path, config=config) as cluster:
        for number in range(40):
            await cluster.engine.put(number % 5, number, bytes([number + 1]) * 40)
        await trio.sleep(0.1)


@attrs.frozen
class Source:
    path: Path
    volume: VolumeDirectory
    genesis: Genesis
    cuts: dict[SegmentId, Cut]

    @classmethod
    def made(cls, path: Path) -> Source:
        trio.run(_write, path)
        volume = VolumeDirectory.find(path)
        assert volume is not None
        cuts, table = {}, None
        for segment, disk in volume.disks().items():
            files = read_unlocked(disk.directory, disk.identity)
            state = plan_restart(segment, files, CONFIG).state
            cuts[segment], table = cut_at(state, END), state.table
        assert any(each.layers for each in cuts.values())
        assert table is not None
        cuts["F0"] = NOTHING
        return cls(path, volume, Genesis.of(table, END, 7), cuts)

    def clone(self, to: Path) -> None:
        """As `Cluster.clone` does it, one segment after the other."""
        volume = VolumeDirectory(to, "clone", self.volume.geometry, END)
        with closing(CloneDirectory(volume)) as target:
            for salt, (segment, cut) in enumerate(self.cuts.items()):
                with closing(OpenDirectory(self.path / segment)) as source:
                    target.write_segment(segment, cut, self.genesis, salt, source, copy=False)
            target.finish()

    def check(self, to: Path) -> None:
        """All of it is at ``to``."""
        volume = VolumeDirectory.find(to)
        assert volume is not None
        assert (volume.volume_id, volume.vdl) == ("clone", END)
        for segment, disk in volume.disks().items():
            files = read_unlocked(disk.directory, disk.identity)
            plan = plan_restart(segment, files, CONFIG)
            assert plan.state.scl == (0 if segment == "F0" else END)
            assert plan.state.whole and not plan.leftovers
            manifest = decode_manifest(files[MANIFEST])
            assert manifest is not None
            for layer in manifest.layers:
                data = (self.path / segment / layer.name).read_bytes()
                assert (to / segment / layer.name).read_bytes() == data


class Died(BaseException):
    """The process is no more: nothing it does any more has an effect."""


class Power:
    """What of a directory tree is durable, and when the process ends: before a step of so many."""

    def __init__(self, root: Path, last_step: int) -> None:
        self.steps = 0
        self._root = root
        self._last_step = last_step
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, frozenset[str]] = {
            root.stat().st_ino: frozenset(each.name for each in root.iterdir())
        }
        self._renamed: tuple[Path, Path] | None = None

    def step(self) -> None:
        if self.steps == self._last_step:
            raise Died
        self.steps += 1

    def renamed(self, before: Path, after: Path) -> None:
        self._renamed = before, after

    def synced(self, descriptor: int) -> None:
        path, number = Path(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor).st_ino
        if path.is_dir():
            self._names[number] = frozenset(each.name for each in path.iterdir())
            if number == self._root.stat().st_ino:
                self._renamed = None
        else:
            self._contents[number] = path.read_bytes()

    def lose_unsynced(self) -> None:
        """The machine is gone, too: only what is durable is left, but for files with more names."""
        if self._renamed is not None:
            before, after = self._renamed
            after.rename(before)
        for path, _, names in [*os.walk(self._root, topdown=False)]:
            durable = self._names.get(Path(path).stat().st_ino, frozenset())
            for each in [Path(path, name) for name in names]:
                if each.name not in durable:
                    each.unlink()
                elif each.stat().st_nlink == 1:
                    each.write_bytes(self._contents.get(each.stat().st_ino, b""))
            if Path(path) != self._root:
                parent = self._names.get(Path(path).parent.stat().st_ino, frozenset())
                if Path(path).name not in parent:
                    shutil.rmtree(path)


@contextmanager
def watched(power: Power) -> Iterator[None]:
    """The calls of the system by which a clone is made are steps of ``power``."""

    def stepping(name: str) -> Any:
        call = getattr(os, name)

        def step(*args: Any, **named: Any) -> Any:
            if name != "open" or args[1] & os.O_CREAT:
                power.step()
            return call(*args, **named)

        return step

    def fsync(descriptor: int) -> None:
        power.step()
        power.synced(descriptor)

    replace = os.replace

    def replacing(before: Path, after: Path) -> None:
        power.step()
        replace(before, after)
        power.renamed(Path(before), Path(after))

    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "link", "pwrite", "mkdir", "unlink", "rmdir"):
            patch.setattr(os, name, stepping(name))
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "replace", replacing)
        yield


def is_clone(path: Path) -> bool:
    try:
        return VolumeDirectory.find(path) is not None
    except Invalid:
        return False


@pytest.mark.parametrize("loses_unsynced", [False, True])
@pytest.mark.parametrize("after_another", [False, True])
def test_there_is_a_clone_or_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    loses_unsynced: bool,
    after_another: bool,
) -> None:
    """A process, or the machine, ends before each call of the system; also one that clears up."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # `Power` knows what is durable
    source = Source.made(tmp_path / "v")
    before = {each: each.read_bytes() for each in source.path.rglob("*") if each.is_file()}
    outcomes: list[bool] = []
    for last_step in count():
        (to := tmp_path / "to").mkdir()
        if after_another:
            unfinished(source, to)
        power = Power(to, last_step)
        try:
            with watched(power):
                source.clone(to)
        except Died:
            if loses_unsynced:
                power.lose_unsynced()
        else:
            break
        outcomes.append(is_clone(to))
        if outcomes[-1]:
            source.check(to)
        elif last_step % 3 == 0:
            source.clone(to)
            source.check(to)
        shutil.rmtree(to)
    source.check(to)
    assert outcomes == sorted(outcomes), "never back"
    assert outcomes.count(False) > 80
    assert outcomes.count(True) >= (0 if loses_unsynced else 1)
    after = {each: each.read_bytes() for each in source.path.rglob("*") if each.is_file()}
    assert after == before, "the source is what it was"


def unfinished(source: Source, to: Path) -> None:
    """Leave in ``to`` what another clone has come to."""
    volume = VolumeDirectory(to, "another", source.volume.geometry, 3)
    with closing(CloneDirectory(volume)) as target:
        for segment in ("A0", "B0"):
            with closing(OpenDirectory(source.path / segment)) as directory:
                target.write_segment(
                    segment, source.cuts[segment], source.genesis, 5, directory, copy=False
                )


def test_an_unfinished_clone_says_what_it_is(tmp_path: Path) -> None:
    source = Source.made(tmp_path / "v")
    unfinished(source, tmp_path / "to")
    with pytest.raises(Invalid, match=r"holds an unfinished clone, as volume\.cloning says"):
        VolumeDirectory.find(tmp_path / "to")
    source.clone(tmp_path / "to")
    source.check(tmp_path / "to")


def test_what_is_not_of_a_clone_is_not_cleared(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "volume.cloning").write_text("")
    (tmp_path / "to" / "letter").write_text("dear")
    volume = VolumeDirectory(tmp_path / "to", "clone", aurora.ClusterConfig().new_geometry(), 3)
    with pytest.raises(Invalid, match="holds letter"):
        CloneDirectory(volume)
    assert (tmp_path / "to" / "letter").read_text() == "dear"


def test_a_cut_of_a_segment_that_is_behind_says_how_far_it_goes(tmp_path: Path) -> None:
    trio.run(_write, tmp_path)
    volume = VolumeDirectory.find(tmp_path)
    assert volume is not None
    disk = volume.disks()["A0"]
    state = plan_restart("A0", read_unlocked(disk.directory, disk.identity), CONFIG).state
    assert state.scl > END
    assert [cut_at(state, end).scl for end in (END, state.scl + 5)] == [END, state.scl]
