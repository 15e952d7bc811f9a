"""`python -m aurora clone`: what it tells, and how it ends."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aurora.terminal.cli import cli
from segments.locked_directory import LockedDirectory
from tests.terminal.playing import aurora


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
    assert "B0  begins empty, its peers bring it all: " in done.output


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
