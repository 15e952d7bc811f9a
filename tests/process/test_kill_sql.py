"""A process with a database is killed, or interrupted: nothing acknowledged is lost.

Many more kills: ``python scripts/kill_sql.py --kills 200``.
"""

from __future__ import annotations

import signal
from pathlib import Path
from random import Random

import trio

from tests.patience import PATIENCE_S
from tests.process.sql_kills import (
    Imports,
    Victim,
    bytes_of,
    ended,
    make_file,
    start_import,
    wait_or_not,
)

KILLS = 6


def test_every_acknowledged_commit_is_there_once_however_often_it_is_killed(tmp_path: Path) -> None:
    victim = Victim(tmp_path / "v", Random(7))
    while victim.rounds < KILLS:
        victim.live_and_die()
    trio.run(victim.check)
    assert victim.openings > KILLS / 2
    assert len(victim.acknowledged) > 10 * KILLS


def test_an_import_that_is_killed_leaves_nothing_or_all_of_it(tmp_path: Path) -> None:
    imports = Imports(tmp_path, make_file(tmp_path / "source.db", megabytes=3), Random(1))
    imports.measure()
    for _ in range(2):
        imports.kill_one()
    assert imports.empty + imports.whole == 2


def test_ctrl_c_amid_an_import_says_what_is_left(tmp_path: Path) -> None:
    source, volume = make_file(tmp_path / "source.db", megabytes=24), tmp_path / "volume"
    child = start_import(volume, source)
    while not volume.exists() or bytes_of(volume) < source.stat().st_size // 4:
        assert not wait_or_not(child, 0.01), "all of it was imported before it was interrupted"
    child.send_signal(signal.SIGINT)
    errors = ended(child)
    assert child.returncode == 130
    assert errors == "interrupted: nothing is imported, the database is as it was\n"
    again = start_import(volume, source)
    output, errors = again.communicate(timeout=PATIENCE_S)
    assert (errors, again.returncode) == ("", 0), errors
    assert output.startswith(f"{source}: 24")
