"""`python -m aurora convert`: what it tells, and how it ends."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from click.testing import CliRunner, Result

from aurora.terminal.cli import cli
from segments.locked_directory import LockedDirectory
from tests.old_format import TABLE, adopted, frame, held, ran, unpack_fixture, write_volume
from tests.oracles import chained
from tests.terminal.playing import aurora

SIX = [f"{member}0" for member in "ABCDEF"]
CHAIN = chained((lsn, 7, 0, b"abc") for lsn in range(1, 1_201))
BEGIN = frame([adopted(TABLE)])
LOG = BEGIN + frame([held(0), ran(CHAIN)])


def convert(path: Path) -> Result:
    return CliRunner().invoke(cli, ["convert", str(path)])


def test_each_segment_is_told_and_the_volume_opens(tmp_path: Path) -> None:
    path = unpack_fixture(tmp_path)
    refused = aurora("repl", "--data-dir", str(path), typed="get 1\n")
    assert refused.returncode == 1
    assert (
        f"python -m aurora convert {path} converts it; nothing has been changed" in refused.stderr
    )
    done = aurora("convert", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "A0  52 records, 10 pages below them, SCL 30,222"
    assert [each[:2] for each in lines[:12]] == [*SIX, *(f"{member}1" for member in "ABCDEF")]
    assert lines[12:] == [f"{path} is converted"]
    assert aurora("repl", "--data-dir", str(path), typed="get 1\n").returncode == 0
    again = convert(path)
    assert (again.exit_code, again.output) == (0, f"{path} is of this version's format already\n")


def test_what_is_lost_or_spoilt_is_told(tmp_path: Path) -> None:
    path = tmp_path / "v"
    rotten = frame([ran(CHAIN[:5])])[:-1] + b"?"
    logs = dict.fromkeys(SIX[1:5], LOG) | {"F0": BEGIN + rotten + frame([held(1_200)])}
    write_volume(path, logs | {"B0": LOG + b"unfinished"})
    done = convert(path)
    assert done.exit_code == 0
    as_a_rule = "1,200 records, 0 pages below them, SCL 1,200"
    damage = f"{len(rotten)} bytes of its log were damaged; its peers have to heal it"
    assert done.output.splitlines() == [
        f"A0  left out: {path}/A0 is no directory: expected segment A0 of volume old",
        f"B0  {as_a_rule}; 10 bytes of an unfinished write cut off",
        *(f"{each}  {as_a_rule}" for each in ("C0", "D0", "E0")),
        f"F0  0 records, 0 pages below them, SCL 0; {damage}",
        f"{path} is converted",
        "A0 lost: the volume goes on without, as it would have before",
    ]


def test_what_cannot_be_converted_has_a_status(tmp_path: Path) -> None:
    refused = convert(tmp_path / "missing")
    assert refused.exit_code == 1
    assert f"Error: {tmp_path / 'missing'} holds no volume" in refused.output
    path = tmp_path / "v"
    write_volume(path, dict.fromkeys(SIX[:3], LOG))
    refused = convert(path)
    assert refused.exit_code == 1
    assert "\nError: " in refused.output and "Corrupt" not in refused.output
    with closing(LockedDirectory(path)):
        refused = convert(path)
    assert refused.exit_code == 3
    assert f"Error: {path} is open already" in refused.output
    assert CliRunner().invoke(cli, ["convert"]).exit_code == 2
