"""What the terminal tells of a volume's health: `status`, and the log as part of what is shown."""

from __future__ import annotations

import logging
import shutil
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from aurora.health import SegmentStatus
from aurora.health_watch import LOG
from aurora.terminal.picture import _MARKS
from aurora.terminal.screen import Screen
from aurora.terminal.session import Session
from aurora.terminal.told_log import ToldLog
from segments.protocol.errors import StorageFull
from tests.terminal.playing import aurora, play


def fill_disk(session: Session) -> None:
    """D0 has no room from now on."""

    def full(*_: object) -> None:
        raise StorageFull("No space left on device")

    session.cluster.hosts["D0"].disk.storage._append = full  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 100])
def test_status_says_what_waits_and_for_what(width: int) -> None:
    played = play("crash az3", "put 1 0 x", "status", "state", look=fill_disk, width=width)
    assert all(played.succeeded)
    shown, picture = played.outputs[2], played.outputs[3]
    assert max(map(len, shown.splitlines())) <= width
    assert all(line == line.rstrip() for line in shown.splitlines())
    assert " ".join(shown.split()).startswith(
        "writer writer-1 has the volume open, epoch 1 "
        "writes wait: 3 of 6 segments take writes, 4 needed: "
        "D0 full (No space left on device), E0 F0 down "
        "reads go on "
        "waiting commits wait for a write quorum (for 2.0 s) "
        "A0 up for 2.0 s"
    )
    assert "\nD0       full     for 2.0 s       No space left on device\n" in shown
    assert "\nE0       down     for 2.0 s\n" in shown
    assert "D0 ! full" in picture
    refused = play("status now")
    assert (refused.succeeded, "one word too many" in refused.text) == ([False], True)


def test_the_reason_of_a_wait_is_told_after_a_second() -> None:
    played = play("crash A B C", "put 1 0 x", "restart A", "wait 1000")
    told = " ".join(played.outputs[1].split())
    assert told.startswith(
        "log commits wait for a write quorum: 3 of 6 segments take writes, 4 needed: "
        "A0 B0 C0 down (for 1."
    )
    assert told.endswith("put 1: waits for segments to answer, and goes on by itself when they do")
    assert "log commits go on, after " in " ".join(played.outputs[3].split())


def test_a_wait_says_what_will_become_of_it() -> None:
    lost = play("wipe az1 C0", "put 1 0 x")
    assert "too many segments are lost: it can never go on" in " ".join(lost.outputs[1].split())
    read = play("put 1 0 x", "crash az1 az2", "get 1 strict", "wait 40000")
    assert "gives up after 30 s without" in " ".join(read.outputs[2].split())
    told = " ".join(read.outputs[3].split())
    assert "strict reads no longer wait, after" in told
    assert "get 1: error: Unavailable: a strict read" in told


def test_a_write_that_its_writer_did_not_survive_may_be_durable_or_not() -> None:
    played = play("crash az1 az2", "put 1 0 x", "crash writer", "wait 1000", "status")
    assert played.outputs[2].endswith(
        "put 1: error: writer-1 has crashed; it may be durable, or not\n"
    )
    assert "commits no longer wait, after" in played.outputs[3]
    assert played.outputs[4].startswith(
        "writer   writer-1 has crashed\nwrites   wait: no writer has the volume open\n"
    )


@pytest.mark.parametrize("command", ["restart", "pause", "resume", "slow", "wipe"])
def test_what_is_done_to_segments_alone_says_what_can_be_done_to_a_writer(command: str) -> None:
    played = play(f"{command} writer")
    assert (played.succeeded, "`recover` opens the volume" in " ".join(played.text.split())) == (
        [False], True,
    )  # fmt: skip
    assert "crash_writer" not in played.text


def test_a_slow_segment_is_seen_to_be_slow_until_that_ends() -> None:
    played = play("slow B0 500", "status", "slow B0 0", "status")
    assert "slow: each round of messages waits 500 ms\n" in played.outputs[1]
    assert "slow" not in played.outputs[3]


def test_a_lost_disk_is_told_with_what_it_means() -> None:
    played = play("wipe A0", "wait 500")
    assert "A0 is lost (the disk of A0 was wiped): the volume runs on 5 of 6" in " ".join(
        played.outputs[1].split()
    )


def test_a_volume_with_a_lost_segment_says_so_at_the_prompt(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    assert aurora("repl", "--data-dir", str(volume), typed="put 1 0 x\n").returncode == 0
    shutil.rmtree(volume / "B0")
    shown = aurora("repl", "--data-dir", str(volume), typed="get 1\n")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "log B0 is lost (" in " ".join(shown.stdout.split())
    assert '"x"' in shown.stdout


def test_a_volume_that_cannot_be_opened_has_an_exit_status_of_its_own(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    assert aurora("repl", "--data-dir", str(volume), typed="put 1 0 x\n").returncode == 0
    for name in ("A0", "B0", "C0"):
        shutil.rmtree(volume / name)
    shown = aurora("repl", "--data-dir", str(volume), typed="get 1\n")
    assert shown.returncode == 3
    assert shown.stderr.startswith("Error: protection group 0 has lost A0, B0, C0")


def test_the_log_is_told_on_the_screen_and_nowhere_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = StringIO()
    told = ToldLog(Screen(console=Console(file=file, width=80, color_system=None)))
    level = LOG.level
    with told.attached():
        LOG.warning("it waits")
        LOG.info("it is over")
        LOG.debug("too much")
    assert file.getvalue() == "  log       it waits\n  log       it is over\n"
    assert (LOG.level, told in LOG.handlers) == (level, False)
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger("aurora") is LOG


def test_every_status_has_a_mark_in_the_picture() -> None:
    assert {str(each) for each in SegmentStatus} <= set(_MARKS)
