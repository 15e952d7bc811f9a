"""`python -m aurora clone`: what it tells, and how it ends."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aurora.terminal.cli import cli
from segments.locked_directory import LockedDirectory
from tests.terminal.playing import aurora

pytestmark = pytest.mark.usefixtures("no_syncs")


def clone(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["clone", *map(str, arguments)])


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "v"
    typed = 'put 1 0 "one"\nput 2 0 "two"\nput 1 0 "ONE"\n'
    assert aurora("repl", "--data-dir", str(path), typed=typed).returncode == 0
    return path


def test_a_clone_opens_with_what_was_there(volume: Path, tmp_path: Path) -> None:
    done = clone(volume, tmp_path / "c", "--at", 2)
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"{tmp_path}/c is a clone of {volume} at LSN 2: 0 bytes shared, ")
    shown = aurora("repl", "--data-dir", str(tmp_path / "c"), typed="get 1\nget 2\n")
    assert shown.returncode == 0
    assert '"one' in shown.stdout and '"two' in shown.stdout
    assert clone(volume, tmp_path / "d", "--copy").exit_code == 0
    shown = aurora("repl", "--data-dir", str(tmp_path / "d"), typed="get 1\n")
    assert '"ONE' in shown.stdout


def test_segments_that_are_left_out_are_told(volume: Path, tmp_path: Path) -> None:
    (volume / "B0" / "identity").unlink()
    done = clone(volume, tmp_path / "c")
    assert done.exit_code == 0
    assert "B0  begins empty: " in done.output
    assert done.output.endswith("fill it up once the clone is open\n")


def test_a_clone_of_a_database_takes_a_time(volume: Path, tmp_path: Path) -> None:
    shop, copy = tmp_path / "shop", tmp_path / "copy"
    typed = "CREATE TABLE t(a);\n.history 1\nINSERT INTO t VALUES(1);\n"
    made = aurora("sql", str(shop), "--json", typed=typed)
    (then,) = [
        row[1]
        for each in map(json.loads, made.stdout.splitlines())
        if "committed" in each.get("columns", ())
        for row in each["rows"]
    ]
    done = clone(shop, copy, "--at", then)
    assert done.exit_code == 0, done.output
    assert f", committed {then}: " in done.output
    shown = aurora("sql", str(copy), typed="SELECT count(*) FROM t;\n")
    assert shown.stdout.split()[-1] == "0"
    assert clone(shop, tmp_path / "now", "--at", "0 seconds ago").exit_code == 0
    early = clone(shop, tmp_path / "early", "--at", "1 week ago")
    assert early.exit_code == 1 and "expected a time at or after the first commit" in early.output
    refused = clone(volume, tmp_path / "other", "--at", "1 week ago")
    assert refused.exit_code == 1
    assert "expected an LSN, as the volume carries no database" in refused.output
    for no_moment in ("whenever", "9" * 40):
        assert clone(shop, tmp_path / "other", "--at", no_moment).exit_code == 2
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_cloned_has_a_status(volume: Path, tmp_path: Path) -> None:
    refused = clone(tmp_path / "missing", tmp_path / "c")
    assert refused.exit_code == 1
    assert f"Error: {tmp_path / 'missing'} holds no volume" in refused.output
    assert not (tmp_path / "missing").exists()
    refused = clone(volume, tmp_path / "c", "--at", 9)
    assert refused.exit_code == 1
    assert "Error: read point 9: " in refused.output
    refused = clone(volume, volume)
    assert refused.exit_code == 1
    with closing(LockedDirectory(volume / "C0")):
        refused = clone(volume, tmp_path / "c")
    assert refused.exit_code == 3
    assert f"Error: {volume} is open already, here or in another process" in refused.output
    assert clone(volume).exit_code == 2
    assert clone(volume, tmp_path / "c", "--at", -1).exit_code == 2
