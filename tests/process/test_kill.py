"""The real thing: a process that commits is killed, again and again, and loses no commit."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import attrs
import pytest

from aurora import SegmentConfig, open_cluster
from segments.manifest import MANIFEST, decode_manifest, leftovers, log_in
from tests.files_on_disks import scanned
from tests.process.committer import CONFIG, check

LARGE = attrs.evolve(CONFIG, segment=SegmentConfig())
"""All of a log is in one file."""
ROOT = Path(__file__).parents[2]
KILLS = 20


@attrs.define
class Victim:
    """One volume, and all that was ever acknowledged on it."""

    directory: Path
    random: Random
    acknowledged: list[str] = attrs.field(factory=list)
    openings: int = 0
    lost: str = ""
    amid_jobs: int = 0
    """Files that kills have left: of jobs that were under way, or had only just ended."""

    def live_and_die(self, number: int) -> None:
        """Start a process on the volume, and kill it at a random moment."""
        known = self.directory.with_suffix(".acknowledged")
        # Everything recent and a sample of the rest, so that a round does not cost ever more.
        older = self.acknowledged[:-60]
        known.write_text(
            "\n".join(self.random.sample(older, min(20, len(older))) + self.acknowledged[-60:])
        )
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.process.committer", self.directory, str(number), known],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None and child.stderr is not None
        early = self.random.random() < 0.25
        lines = []
        if early:
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.8 * self.random.random())  # before, while or after it opens
        else:
            limit = 1 + self.random.randrange(40)
            lines = [child.stdout.readline().strip() for _ in range(limit)]
        child.kill()
        # Not `communicate`, which passes by the lines that are read already, and not asked for.
        with child:
            rest, errors = child.stdout.read(), child.stderr.read()
        assert not errors, errors
        lines += [line.strip() for line in rest.splitlines()]
        self.amid_jobs += sum(map(len, map(left_behind, self.directory.iterdir())))
        if lines:
            assert lines[0] == f"open {self.lost}".strip(), lines[0]
            self.openings += 1
        assert early or lines
        self.acknowledged += lines[1:]

    def delete(self, segment: str) -> None:
        shutil.rmtree(self.directory / segment)
        self.lost = " ".join(sorted([*self.lost.split(), segment]))

    def damage(self, segment: str) -> bool:
        """Flip bytes of a segment's log in a frame that others stand behind; False: there is none.

        A file that a crash has left behind is none of the log.
        """
        path = self.directory / segment
        files = {each.name: each.read_bytes() for each in path.iterdir()}
        names = [each.name for each in log_in(files).files]
        frames = [(name, each) for name in names for each in scanned(files, name).frames][:-1]
        if not frames:
            return False
        name, frame = frames[len(frames) // 2]
        data = bytearray(files[name])
        for _ in range(3):
            data[self.random.randrange(frame.start, frame.end)] ^= 0x40
        (path / name).write_bytes(data)
        assert scanned(files | {name: data}).damage
        return True


def left_behind(segment: Path) -> list[str]:
    """Files in the directory of a segment that its manifest does not name."""
    path = segment / MANIFEST
    manifest = decode_manifest(path.read_bytes()) if path.is_file() else None
    if manifest is None:
        return []
    return leftovers([each.name for each in segment.iterdir()], manifest)


async def test_nothing_acknowledged_is_lost_however_often_the_process_is_killed(
    tmp_path: Path,
) -> None:
    victim, damaged = Victim(tmp_path / "v", Random(2)), False
    for number in range(KILLS):
        damaged = damaged or (number >= 8 and victim.damage("F0"))
        if number == 13:
            victim.delete("A0")
        elif number == 18:
            victim.delete("D0")
        victim.live_and_die(number)
    assert damaged
    assert victim.openings > KILLS / 2
    assert len(victim.acknowledged) > 10 * KILLS
    assert victim.amid_jobs, "some came amid a fold or a merge"
    assert list(victim.directory.glob("B0/layer-*")), "most of it is in layers"
    async with open_cluster(victim.directory, config=CONFIG) as cluster:
        await check(cluster, victim.acknowledged)
        assert sorted(cluster.lost_segments()) == ["A0", "D0"]


async def test_a_tail_cut_anywhere_costs_nothing_that_others_hold(tmp_path: Path) -> None:
    """Sampled here; `test_torn_tail` cuts one segment's log at every byte."""
    whole = tmp_path / "whole"
    lines = []
    async with open_cluster(whole, config=LARGE) as cluster:
        for number in range(8):
            data = f"{number}".encode().ljust(32)
            lsn = await cluster.engine.put_many([(1, 0, data), (101, 0, data)])
            lines.append(f"{lsn} 1 {number}")
    size = (whole / "B0" / "wal-1").stat().st_size
    for cut in [1, 40, 160, size // 2]:
        copy = tmp_path / f"cut{cut}"
        shutil.copytree(whole, copy)
        for segment in ("B0", "E0"):
            log = copy / segment / "wal-1"
            log.write_bytes(log.read_bytes()[:-cut])
        async with open_cluster(copy, config=LARGE) as cluster:
            await check(cluster, lines)
            data = b"more".ljust(32)
            lsn = await cluster.engine.put_many([(1, 0, data), (101, 0, data)])
        async with open_cluster(copy, config=LARGE) as cluster:
            await check(cluster, [*lines, f"{lsn} 1 more"])
            # One that lacks what others have heard that it had counts as rolled back.
            assert set(cluster.lost_segments()) <= {"B0", "E0"}
