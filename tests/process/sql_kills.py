"""A process with a database in files is killed, again and again, amid commits and amid imports."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Final

import attrs
import trio

from aurora import open_cluster, open_database
from tests.patience import PATIENCE_S
from tests.process.sql_sessions import CONFIG, Acknowledged, check, check_past, read
from tests.repo.sources import ROOT

_MOST: Final = 120
"""Commits that are waited for, at most, before a kill."""


@attrs.define
class Victim:
    """One volume, and all that was ever acknowledged on it."""

    directory: Path
    random: Random
    acknowledged: list[Acknowledged] = attrs.field(factory=list)
    rounds: int = 0
    openings: int = 0

    def live_and_die(self) -> None:
        """Start a process on the volume, and kill it at a random moment; it checks at first."""
        known = self.directory.with_suffix(".acknowledged")
        known.write_text("".join(f"{' '.join(map(str, each))}\n" for each in self.acknowledged))
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.process.sql_sessions",
             self.directory, str(self.rounds), known],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.rounds += 1
        assert child.stdout is not None and child.stderr is not None
        lines = []
        if self.random.random() < 0.2:
            wait_or_not(child, 1.2 * self.random.random())  # before, while or after it opens
        else:
            lines = [child.stdout.readline() for _ in range(1 + self.random.randrange(_MOST))]
        child.kill()
        # Not `communicate`, which passes by the lines that are read already, and not asked for.
        with child:
            rest, errors = child.stdout.read(), child.stderr.read()
        assert not errors, errors
        lines += rest.splitlines()
        if lines:
            assert lines[0].strip() == "open", lines[0]
            self.openings += 1
        self.acknowledged += read(lines[1:])

    async def check(self) -> None:
        """What a process that lives on finds."""
        async with (
            open_cluster(self.directory, config=CONFIG) as cluster,
            open_database(cluster) as database,
        ):
            await check(database, self.acknowledged)
            await check_past(database, self.acknowledged[-20:])


def wait_or_not(child: subprocess.Popen[str], seconds: float) -> bool:
    """Give a child so long; whether it has ended by itself."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


# ---- imports -------------------------------------------------------------------------------------


def make_file(path: Path, megabytes: float) -> Path:
    """A SQLite file that SQLite need not copy before it is imported."""
    with sqlite3.connect(path) as plain:
        plain.execute("PRAGMA page_size = 8192")
        plain.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
        rows = int(megabytes * 512)
        random = Random(4)
        plain.executemany(
            "INSERT INTO t VALUES(?, ?)",
            ((number, random.randbytes(2_000)) for number in range(rows)),
        )
    plain.close()
    return path


def start_import(volume: Path, source: Path) -> subprocess.Popen[str]:
    """The command, as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "aurora", "sql", volume, "--import", source],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(child: subprocess.Popen[str]) -> str:
    """Wait for it; its standard error."""
    _, errors = child.communicate(timeout=PATIENCE_S)
    return errors


def bytes_of(volume: Path) -> int:
    """The size of all files of a volume."""
    return sum(each.stat().st_size for each in volume.rglob("*") if each.is_file())


@attrs.define
class Imports:
    """Imports of one file, each into a volume of its own."""

    directory: Path
    source: Path
    random: Random
    empty: int = 0
    whole: int = 0
    amid: int = 0
    """Killed when some of the file's pages were in the volume, and not all."""
    took_s: float = 0.0

    def measure(self) -> None:
        """How long one takes that nobody kills."""
        started = time.monotonic()
        child = start_import(self.directory / "measured", self.source)
        assert not ended(child)
        assert child.returncode == 0
        self.took_s = time.monotonic() - started

    def kill_one(self) -> None:
        """Kill one at a random moment; the database is empty or whole, and empty serves again."""
        volume = self.directory / f"killed-{self.empty + self.whole}"
        child = start_import(volume, self.source)
        if not wait_or_not(child, self.took_s * self.random.random()):
            child.kill()
        assert not ended(child)
        written = bytes_of(volume) if volume.exists() else 0
        if self._rows(volume):
            self.whole += 1
        else:
            self.empty += 1
            self.amid += written > self.source.stat().st_size // 8
            again = start_import(volume, self.source)
            assert not ended(again)
            assert again.returncode == 0
            assert self._rows(volume)

    def _rows(self, volume: Path) -> bool:
        """Whether it is whole; raises if it is neither that nor empty."""

        async def look() -> bool:
            copy = volume.with_suffix(".copy")
            async with open_cluster(volume) as cluster, open_database(cluster) as database:
                assert (await database.execute("PRAGMA integrity_check")).rows == [("ok",)]
                if not await database.query("SELECT count(*) FROM sqlite_schema").value():
                    return False
                await database.export(copy)
            whole = copy.read_bytes() == self.source.read_bytes()
            copy.unlink()
            assert whole, "neither empty nor what was imported"
            return True

        return trio.run(look)
