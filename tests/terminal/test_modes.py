"""The four modes as programs: piped, repeatable, with a meaningful exit status."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from aurora.terminal.cli import cli
from aurora.terminal.demo import DEMO, VIZ_DEMO, Act, perform
from aurora.terminal.opening import Options, run
from aurora.terminal.screen import Screen
from aurora.terminal.session import Session
from tests.patience import PATIENCE_S
from tests.terminal.playing import ROOT, aurora, environment, play, process

ESCAPE = "\x1b"


def capture(options: Options, acts: tuple[Act, ...]) -> str:
    """What the demo prints, in this process."""
    file = StringIO()

    async def use(session: Session) -> int:
        session.screen = Screen(console=Console(file=file, width=80, color_system=None))
        return await perform(session, acts)

    assert run(options, use, repeatable=True) == 0
    return file.getvalue()


def test_the_demo_prints_the_same_text_every_time() -> None:
    first, second = process("demo"), capture(Options(), DEMO)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == second
    assert ESCAPE not in first.stdout
    assert max(map(len, first.stdout.splitlines())) <= 80
    for shown in (
        'page 1 at 2\n     0  "hello, world"',  # a versioned read
        "put 4: waits for segments to answer",  # AZ + 1: writes wait ...
        "put 4: durable at LSN 6",  # ... and resume by themselves
        "writer-2 has opened the volume: epoch 2, VDL 6, next LSN 1007",
        "PageNotFound: page 9",  # what nobody was told to be durable is gone
        "╳7–1006╳",
    ):
        assert shown in first.stdout


def test_the_walk_prints_the_same_text_every_time_and_shows_each_step() -> None:
    first, second = aurora("viz-demo", "--no-color"), capture(Options(viz=True), VIZ_DEMO)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.endswith(second)
    at = 0
    for step in (
        "mini-transaction of 1 record: LSN 1",
        "follows 0 in the volume, 0 in group 0, 0 on the page",
        "→ A0 B0 C0 D0 E0 F0: LSN 1",
        "WAL: a frame of",
        "WAL: synced",
        "SCL 0 → 1",
        "← D0: its SCL is 1; 4 of 6 have LSN 1 (A0 B0 C0 D0)",
        "PGCL 0 → 1",
        "VCL 1, VDL 0 → 1",
        "1 commit acknowledged",
        "← F0: its SCL is 1; 6 of 6",
        "durable at LSN 1",
        "╭─ COMPUTE",
        "needs a segment with SCL ≥ 2",
        "LSN 2 follows 1",
        "+ LSN 2: page 1",
        "recovery: seals epoch 2",
    ):
        at = first.stdout.index(step, at)


def test_piped_commands_and_their_exit_status() -> None:
    good = process("repl", typed='put 1 0 "a b"\n# a remark\n\nget 1\n')
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout == (
        'aurora> put 1 0 "a b"\ndurable at LSN 1\naurora> # a remark\n'
        'aurora> get 1\npage 1 at 1\n     0  "a b"\n'
    )
    bad = aurora("repl", typed="get\nput 1 0 still here\nput 1 0 x\nquit\nnot reached\n")
    assert bad.returncode == 1
    assert "error: PAGE is missing\nusage: get PAGE [@LSN|strict]\n" in bad.stdout
    assert "'here' is one word too many" in bad.stdout
    assert "durable at LSN 1" in bad.stdout
    assert "not reached" not in bad.stdout


def test_a_volume_kept_in_a_directory(tmp_path: Path) -> None:
    volume = str(tmp_path / "volume")
    assert aurora("repl", "--data-dir", volume, typed="put 1 0 kept\n").returncode == 0
    shown = aurora("viz-repl", "--data-dir", volume, typed="get 1\nput 1 0 more\nviz off\nget 1\n")
    assert shown.returncode == 0
    assert "recovery: seals epoch 2" in shown.stdout
    assert '"kept"' in shown.stdout
    assert '"more"' in shown.stdout


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("not a volume")
    refused = CliRunner().invoke(cli, ["repl", "--data-dir", str(tmp_path)])
    assert refused.exit_code == 1
    assert refused.output.startswith(f"Error: {tmp_path} holds mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "not a volume"


def test_a_volume_keeps_its_number_of_groups(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    assert aurora("repl", "--data-dir", str(volume), typed="put 1 0 kept\n").returncode == 0
    before = {path: path.read_bytes() for path in volume.rglob("*") if path.is_file()}
    refused = CliRunner().invoke(cli, ["repl", "--data-dir", str(volume), "--groups", "2"])
    assert refused.exit_code == 1
    assert "pg_count is 2, and the volume was made with 1" in refused.output
    assert {path: path.read_bytes() for path in volume.rglob("*") if path.is_file()} == before
    same = aurora("repl", "--data-dir", str(volume), "--groups", "1", typed="get 1\n")
    assert (same.returncode, '"kept"' in same.stdout) == (0, True)


@pytest.mark.parametrize("mode", ["repl", "viz-repl"])
def test_a_volume_that_is_only_read(mode: str, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    assert aurora("repl", "--data-dir", str(volume), typed="put 1 0 kept\n").returncode == 0
    for lost in ("A0", "C0", "F0"):
        shutil.rmtree(volume / lost)
    before = {path: (path.stat().st_mtime_ns, path.is_dir()) for path in volume.rglob("*")}
    typed = "get 1\nput 1 0 more\nrecover\ntakeover\nwipe B0\nget 1 strict\nstatus\nget 1\n"
    shown = aurora(mode, "--data-dir", str(volume), "--read-only", typed=typed)
    assert shown.returncode == 1
    assert shown.stdout.count('"kept"') >= 2
    assert shown.stdout.count("error: ReadOnly: ") == 5
    assert "writes   are refused: the volume is open for reading alone" in shown.stdout
    assert {path: (path.stat().st_mtime_ns, path.is_dir()) for path in volume.rglob("*")} == before


def test_reading_alone_needs_a_volume_that_is_there(tmp_path: Path) -> None:
    refused = CliRunner().invoke(cli, ["repl", "--read-only"])
    assert refused.exit_code == 2
    assert "--data-dir" in refused.output
    missing = tmp_path / "missing"
    refused = CliRunner().invoke(cli, ["repl", "--data-dir", str(missing), "--read-only"])
    assert refused.exit_code == 1
    assert "expected a volume that is there" in refused.output
    assert not missing.exists()


@pytest.mark.parametrize("mode", ["demo", "viz-demo", "repl", "viz-repl"])
def test_a_trace_that_cannot_be_written_is_refused_first(mode: str, tmp_path: Path) -> None:
    volume = ["--data-dir", str(tmp_path / "volume")] if "repl" in mode else []
    path = str(tmp_path / "nowhere" / "trace.jsonl")
    refused = CliRunner().invoke(cli, [mode, *volume, "--trace", path])
    assert refused.exit_code == 2
    assert "Invalid value for '--trace'" in refused.output
    assert "is no directory" in " ".join(refused.output.split())
    assert list(tmp_path.iterdir()) == []


def test_a_script_prints_the_same_text_every_time() -> None:
    typed = "put 1 0 a\ncrash az3\nput 1 0 b\nrestart az3\nwait 900\nstep on\nput 1 0 c\nmessages\n"
    first, second = (process("repl", typed=typed).stdout for _ in range(2))
    assert first == second
    assert first.count("writer-1 → ") == 6


def test_a_trace_is_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    played = play("put 1 0 x", "get 1", options=Options(trace=path))
    assert all(played.succeeded)
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {"time", "source", "event"} <= set(events[0])
    (allocated,) = [each for each in events if each["event"] == "MtrAllocated"]
    assert allocated["records"][0]["payload"] == b"x".hex()
    assert [each["segment"] for each in events if each["event"] == "Sent"] == [
        "A0", "B0", "C0", "D0", "E0", "F0"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "mode", [[], ["demo"], ["repl"], ["viz-demo"], ["viz-repl"], ["convert"]], ids=str
)
def test_help_reads_well(mode: list[str]) -> None:
    shown = CliRunner().invoke(cli, [*mode, "--help"], prog_name="python -m aurora")
    assert shown.exit_code == 0
    assert shown.output.startswith(" ".join(["Usage: python -m aurora", *mode]))
    assert max(map(len, shown.output.splitlines())) <= 90


@pytest.mark.parametrize(
    ("module", "arguments"), [("aurora", ["demo"]), ("aurora.sim", ["run", "az-outage"])]
)
def test_a_pipe_gets_no_escape_code_whatever_is_asked_for(
    module: str, arguments: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True, text=True, check=True, cwd=ROOT, timeout=PATIENCE_S,
        env=environment(FORCE_COLOR="1", TERM="xterm"),
    )  # fmt: skip
    assert ESCAPE not in done.stdout + done.stderr
