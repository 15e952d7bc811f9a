"""Commands at the prompt, in a held world: what they do, and that bad input does nothing."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from aurora.terminal.commands import COMMANDS, execute
from aurora.terminal.opening import Options, run
from aurora.terminal.screen import Screen
from aurora.terminal.session import Session
from tests.terminal.playing import play

BAD = [
    ("bogus", "'bogus'", None),
    ("putt 1 0 x", "did you mean put or putm", None),
    ("put", "PAGE is missing", "put"),
    ("put x 0 a", "'x' is not a page", "put"),
    ("put -1 0 a", "'-1' is not a page", "put"),
    ("put ² 0 a", "'²' is not a page", "put"),
    ("put 99999999999999999999 0 a", "out of range", "put"),
    ("put 1 8192 a", "'8192' is out of range", "put"),
    ("put 1 8191 ab", "8193", None),
    ("put 1 0 ''", "empty", None),
    ("put 1 0 0xabc", "'0xabc' is not hexadecimal", "put"),
    ("put 1 0 a b", "'b' is one word too many", "put"),
    ('put 1 0 "a', "no closing quotation", None),
    ("putm 1 0 a 2", "'2' is left over", "putm"),
    ("putm 1 0 a 2 x b", "'x' is not an offset", "putm"),
    ("get 1 12", "'12' is not a read point", "get"),
    ("get 1 @x", "'x' is not an LSN", "get"),
    ("get 1 @9", "read point 9", None),
    ("get 9", "page 9", None),
    ("get 1 @1 strict", "'@1' and strict", "get"),
    ("chain 9", "page 9", None),
    ("crash", "SEGMENT, AZ or writer is missing", "crash"),
    ("crash A0 Z9", "'Z9' names nobody", "crash"),
    ("wipe A0 Z9", "'Z9' names no segment", "wipe"),
    ("slow A0 61000", "'61000' is out of range", "slow"),
    ("partition nobody", "'nobody' names nobody", "partition"),
    ("heal now", "'now' is one word too many", "heal"),
    ("recover now", "'now' is one word too many", "recover"),
    ("viz maybe", "'maybe' is neither on nor off", "viz"),
    ("delay fast", "'fast' is not milliseconds", "delay"),
    ("delay 60001", "'60001' is out of range", "delay"),
    ("step 3", "nothing is held", "step"),
    ("drop", "nothing is held", "drop"),
    ("messages", "nothing is held", "messages"),
    ("wait 0", "'0' is out of range", "wait"),
    ("help bogus", "'bogus' is no command", "help"),
    ("segments x", "'x' is one word too many", "segments"),
    ("quit now", "'now' is one word too many", "quit"),
]


def test_bad_input_names_the_word_shows_the_usage_and_changes_nothing() -> None:
    seen: list[object] = []

    def look(session: Session) -> None:
        view = session.view()
        statistics = view.writer.statistics
        assert statistics is not None
        quiet = (statistics.vdl, statistics.last_allocated_lsn, statistics.commits)
        seen.append((view.segments, view.log, view.annulled, quiet, session.ended))
        seen.append((session.viz, session.stepping, session.delay_s, session.isolated))

    played = play("put 1 0 x", *[line for line, _, _ in BAD], look=look)
    assert played.succeeded == [True] + [False] * len(BAD)
    for (line, named, usage), output in zip(BAD, played.outputs[1:], strict=True):
        flat = " ".join(output.split())
        assert flat.startswith("error: "), line
        assert named in flat, (line, flat)
        if usage is not None:
            assert f"usage: {COMMANDS[usage].usage}" in flat, line
        assert ("in quotes" in flat) == line.startswith("put 1 0 a "), line
    assert seen[0::2] == [seen[0]] * (len(BAD) + 1)
    assert seen[1::2] == [seen[1]] * (len(BAD) + 1)


def test_bytes_and_text() -> None:
    played = play("put 1 0 0x00ff41", "put 1 8 'grüße [bold]'", "get 1")
    assert played.succeeded == [True] * 3
    assert "     1  0xff41" in played.outputs[2]
    assert '     8  "grüße [bold]"' in played.outputs[2]


def test_a_zone_and_one_more() -> None:
    played = play(
        "put 1 0 a", "crash az3", "put 1 0 b", "crash A", "put 1 0 c", "get 1", "wait 1000",
        "restart A", "wait 1500", "get 1", "restart az3", "wait 3000", "segments",
    )  # fmt: skip
    assert all(played.succeeded)
    assert "durable at LSN 2" in played.outputs[2]
    assert "waits for segments" in played.outputs[4]
    assert '"b"' in played.outputs[5]
    assert "put 1: durable at LSN 3" in played.text
    assert '"c"' in played.outputs[9]
    rows = [line.split() for line in played.outputs[12].splitlines()[1:]]
    assert [row[2:4] for row in rows] == [["up", "3"]] * 6


def test_a_lost_disk_stays_lost() -> None:
    played = play("put 1 0 a", "wipe B0", "restart B0", "put 1 0 b", "segments", "state")
    assert played.succeeded == [True, True, False, True, True, True]
    assert "lost for good" in played.outputs[2]
    assert "B0 ✗ lost" in played.outputs[5]


def test_pause_and_slow_and_resume() -> None:
    played = play(
        "pause A B C", "put 1 0 a", "state", "resume az1 C0", "slow D 500", "put 1 0 b", "state",
        "slow D 0", "wait 1000", "segments",
    )  # fmt: skip
    assert all(played.succeeded)
    assert "waits for segments" in played.outputs[1]
    assert "‖ paused" in played.outputs[2]
    assert "put 1: durable at LSN 1" in played.text
    assert "durable at LSN 2" in played.outputs[5]
    assert "◐ slow" in played.outputs[6]
    assert played.outputs[9].count(" up ") == 6


def test_partitions_also_hold_for_later_writers() -> None:
    played = play(
        "put 1 0 a", "partition az1", "put 1 0 b", "state", "recover", "segments", "heal",
        "wait 3000", "segments",
    )  # fmt: skip
    assert all(played.succeeded)
    assert "A0 ⊘ cut off" in played.outputs[3]
    epochs = [line.split()[-5] for line in played.outputs[5].splitlines()[1:3]]
    assert "2" not in epochs, played.outputs[5]
    assert played.outputs[8].count(" up ") == 6


def test_a_writer_that_is_cut_off_is_deposed() -> None:
    played = play("put 1 0 a", "partition writer", "takeover", "heal", "put 1 0 b", "get 1 strict")
    assert all(played.succeeded)
    assert "writer-2 has opened the volume: epoch 2" in played.outputs[2]
    assert '"b"' in played.outputs[5]


def test_without_a_writer() -> None:
    played = play("put 1 0 a", "crash writer", "put 1 0 b", "get 1", "state", "recover", "get 1")
    assert played.succeeded == [True, True, False, False, True, True, True]
    assert "`recover` opens the volume again" in played.outputs[2]
    assert "CRASHED" in played.outputs[4]
    assert '"a"' in played.outputs[6]


def test_a_writer_crashes_once() -> None:
    played = play("put 1 0 a", "crash writer", "crash writer", "put 1 0 b", "recover", "put 1 0 c",
                  "crash writer", "crash az3", "crash writer", "put 1 0 d")  # fmt: skip
    assert played.outputs[1] == "writer-1 is gone, and all that it knew\n"
    assert played.outputs[2] == "writer-1 is down already; `recover` opens the volume again\n"
    assert played.outputs[3].startswith("error: writer-1 has crashed; `recover` opens")
    assert played.outputs[6] == "writer-2 is gone, and all that it knew\n"
    assert played.outputs[8].startswith("writer-2 is down already")
    assert played.outputs[9].startswith("error: writer-2 has crashed; `recover` opens")


def test_stepping_begins_in_silence_while_time_runs() -> None:
    """What the last write left under way is not among the messages held, and nothing joins them."""
    held: list[list[tuple[str, str]]] = []

    async def use(session: Session) -> int:
        session.screen = Screen(console=Console(file=StringIO()))
        for line in ("put 1 0 a", "step on", "put 1 0 b", "drop 6", "step off", "step on"):
            assert await execute(session, line)
            await session.stage.quiet()
            under_way = session.stage.network.under_way()
            held.append([(each.envelope.source, each.destination) for each in under_way])
        return 0

    for _ in range(5):
        held.clear()
        assert run(Options(), use, repeatable=False) == 0
        batches = [("writer-1", f"{member}0") for member in "ABCDEF"]
        assert held == [[], [], batches, [], [], []]


def test_step_by_step() -> None:
    """Four acknowledgements make it durable: not three, and nothing happens in between."""
    vdl: list[int] = []

    def look(session: Session) -> None:
        vdl.append(session.cluster.engine.vdl)

    played = play(
        "step on", "put 1 0 a", "messages", "step 6", "messages", "step 3", "", "run", "step off",
        "put 1 0 b", look=look,
    )  # fmt: skip
    assert all(played.succeeded)
    assert vdl == [0, 0, 0, 0, 0, 0, 1, 1, 1, 2]
    assert played.outputs[2].splitlines()[5] == "   6  writer-1 → F0  WriteBatch LSN 1, VDL 0"
    assert played.outputs[4].splitlines()[0] == "   1  A0 → writer-1  WriteAck scl 1"
    assert "1 commit acknowledged" in played.outputs[6]
    assert "put 1: durable at LSN 1" in played.outputs[6]
    assert "2 messages delivered" in played.outputs[7]


def test_dropped_messages_come_again_when_time_passes() -> None:
    played = play("step on", "put 1 0 a", "drop 6", "messages", "wait 500", "step off", "get 1")
    assert all(played.succeeded)
    assert "0 messages under way" in played.outputs[3]
    assert "put 1: durable at LSN 1" in played.text


def test_history_and_statistics_and_help() -> None:
    played = play("put 1 0 a", "nonsense", "statistics", "history", "help", "help crash", "quit")
    assert "commits               1 acknowledged, 0 waiting" in played.outputs[2]
    assert played.outputs[3].splitlines() == [
        "    1  put 1 0 a",
        "    2  statistics",
        "    3  history",
    ]
    for command in COMMANDS.values():
        assert command.usage in played.outputs[4]
    assert played.outputs[5].startswith("  crash SEGMENT|AZ|writer ...")


def test_several_groups() -> None:
    played = play("putm 0 0 a 1 0 b", "crash A", "put 1 0 c", "get 0", "state", "chain 1",
                  options=Options(groups=2))  # fmt: skip
    assert all(played.succeeded)
    assert "PGCL0 1\n" in played.outputs[4]
    assert "PGCL1 3 " in played.outputs[4]
    assert "as B1 has it" in played.outputs[5]


def test_shown_steps_end_with_a_picture_and_can_be_turned_off() -> None:
    played = play("viz on", "put 1 0 a", "viz off", "put 1 0 b")
    assert all(played.succeeded)
    drawn, changed = played.outputs[1].split("\nchanged  ")
    assert drawn.endswith("SCL    A0 B0 C0 D0 E0 F0") and changed.startswith("PGCL 0 → 1, ")
    assert played.outputs[3] == "durable at LSN 2\n"


@pytest.mark.parametrize("width", [60, 80, 90, 100, 140])
def test_the_picture_fits(width: int) -> None:
    played = play("put 1 0 a", "crash writer", "recover", "put 1 0 b", "state", width=width)
    lines = played.outputs[4].splitlines()
    assert max(map(len, lines)) == min(width, 100)


@pytest.mark.parametrize(
    ("lines", "note"),
    [
        (["crash A", "crash az1"], "no effect on A0: down already\ndown: B0; what"),
        (["crash A", "crash A"], "no effect on A0: down already\n"),
        (["restart az1"], "A0 B0: up, and stopped first\nup: A0 B0\n"),
        (["pause A", "pause A"], "no effect on A0: paused already\n"),
        (["crash A", "pause A"], "no effect on A0: down already\n"),
        (["resume az1"], "no effect on A0 B0: not paused\n"),
        (["crash A", "resume A"], "no effect on A0: down already\n"),
        (["slow A 0"], "no effect on A0: not slow\n"),
        (["crash A", "slow A"], "no effect on A0: down already\n"),
        (["wipe A", "wipe A"], "no effect on A0: lost for good already\n"),
        (["heal"], "nothing to heal: nobody is cut off\n"),
        (["partition writer-9"], "there is no writer-9 yet: cut off when it comes\n"),
        (["crash writer-9"], "there is no writer-9: nothing is crashed\n"),
        (["crash writer", "crash writer"], "writer-1 is down already; `recover` opens"),
        (["recover", "crash writer-1"], "writer-1 is down already\n"),
    ],
)
def test_a_command_without_effect_says_so(lines: list[str], note: str) -> None:
    played = play(*lines)
    assert played.outputs[-1].startswith(note)
    assert not any("no effect" in output for output in played.outputs[:-1])


@pytest.mark.parametrize(
    "lines",
    [
        ["crash A", "restart A"],
        ["pause A", "resume A"],
        ["slow A 5", "slow A 0"],
        ["partition A", "heal"],
        ["partition writer", "crash writer"],
    ],
)
def test_a_command_with_effect_says_nothing_else(lines: list[str]) -> None:
    text = play(*lines).text
    assert not any(note in text for note in ("no effect", "nothing to", "there is no", "already"))
