"""Recordings: everything that was decided, and the same digest again."""

from __future__ import annotations

import contextlib
from pathlib import Path
from random import Random

import attrs
import pytest
from click.testing import CliRunner

from segments.protocol.errors import Invalid
from sim.commands.case import Case, open_case
from sim.commands.explain import command as explain_command
from sim.commands.record import command as record_command
from sim.commands.replay import command as replay_command
from sim.commands.run_command import make_plan
from sim.commands.shrink import command as shrink_command
from sim.files.recording import Recording, load, record, save
from sim.plan.generate import generate
from sim.plan.profiles import LinkProfile
from sim.plan.schedule import MS, Action, Knobs, Operation, Schedule
from sim.world.network_policy import Decided

SMALL = Schedule(
    seed=3,
    knobs=Knobs(
        duration_ns=300 * MS, link=LinkProfile(loss=0.05, duplication=0.05, reordering=0.1)
    ),
    actions=(
        Action(at_ns=40 * MS, kind="slow", target="az1", params={"factor": 5}),
        Action(at_ns=80 * MS, kind="recover"),
    ),
    operations=tuple(
        Operation(at_ns=at * MS, client=at % 2, kind="put" if at % 3 else "get", pages=(at % 2,))
        for at in range(1, 60, 3)
    ),
    name="small",
)


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Recording, Path]:
    recording, result = record(SMALL)
    assert result.messages >= len(recording.decisions) > 100
    path = tmp_path / "small.jsonl"
    save(recording, path)
    return recording, path


def test_a_recording_is_read_as_it_was_written(recorded: tuple[Recording, Path]) -> None:
    recording, path = recorded
    assert load(path) == recording


def test_any_drawn_schedule_survives_the_file(tmp_path: Path) -> None:
    for seed in range(40):
        recording = Recording(
            schedule=generate(seed), decisions={1: (), 3: (5, 6)}, verdict="passed", digest="0"
        )
        save(recording, tmp_path / "any")
        assert load(tmp_path / "any") == recording


def test_a_recording_comes_to_the_same_digest_without_drawing(
    recorded: tuple[Recording, Path],
) -> None:
    recording, path = recorded
    case = open_case(None, str(path), None)
    assert case.run().digest == recording.digest
    # Nothing of the network is drawn: with other messages it is another run.
    late = {number: tuple(each + MS for each in d) for number, d in recording.decisions.items()}
    assert Case(schedule=SMALL, decided=Decided(late)).run().digest != recording.digest
    # And with another loss rate it is not, since that is only asked when a message is drawn.
    knobs = attrs.evolve(SMALL.knobs, link=attrs.evolve(SMALL.knobs.link, loss=1.0))
    other = attrs.evolve(SMALL, knobs=knobs)
    assert (
        Case(schedule=other, decided=Decided(recording.decisions)).run().digest == recording.digest
    )


@pytest.mark.parametrize(
    ("line", "replaced", "message"),
    [
        (1, '{"format":"else"}', ":1: expected a recording of version 2"),
        (2, "{", ":2: Expecting"),
        (2, "7", ":2: int: expected an object"),
        (2, '{"action":5,"at_ns":1,"kind":"crash"}', ":2: record 5: expected number 0"),
        (2, '{"action":0,"at_ns":1,"kind":"crash","x":1}', ":2: extra fields found (x)"),
        (2, '{"what":0}', ":2: expected an action, an operation or a message"),
        (-2, '{"message":1,"delays_ns":[5]}', "message 1: expected a number above"),
        (-2, '{"message":1000000,"delays_ns":[-5]}', "delays (-5,): expected 0 to"),
        (-2, '{"message":1000000}', "missing 'delays_ns'"),
        (-2, '{"end":{}}', "expected nothing after the end"),
        (-1, '{"end":7}', "incomplete: found 2 actions, 20 operations, "),
        (-1, '{"end":null}', ": expected an action, an operation or a message"),
    ],
)
def test_a_damaged_recording_is_refused_with_its_line(
    recorded: tuple[Recording, Path], line: int, replaced: str, message: str
) -> None:
    _, path = recorded
    lines = path.read_text().splitlines()
    lines[line - 1 if line > 0 else line] = replaced
    path.write_text("\n".join(lines))
    with pytest.raises(Invalid) as raised:
        load(path)
    assert message in str(raised.value) and str(path) in str(raised.value)


SHORT = Recording(
    schedule=attrs.evolve(SMALL, operations=SMALL.operations[:2]),
    decisions={1: (), 2: (5, 600)},
    verdict="passed",
    digest="0123",
)


def test_a_recording_that_was_cut_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "whole"
    save(SHORT, path)
    whole = path.read_bytes()
    for length in range(len(whole) - 1):  # without the very last byte, the end of its line, it is
        path.write_bytes(whole[:length])
        with pytest.raises(Invalid) as raised:
            load(path)
        if length and whole[length - 1 : length] == b"\n":
            assert "incomplete: found" in str(raised.value)
    path.write_bytes(whole[:-1])
    assert load(path) == SHORT


def test_a_recording_without_one_of_its_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole"
    save(SHORT, path)
    whole = path.read_text().splitlines(keepends=True)
    for left_out in range(len(whole)):
        path.write_text("".join(whole[:left_out] + whole[left_out + 1 :]))
        with pytest.raises(Invalid):
            load(path)


def test_garbage_is_refused_and_nothing_worse(tmp_path: Path) -> None:
    path = tmp_path / "whole"
    save(SHORT, path)
    whole, random = path.read_bytes(), Random(7)
    for _ in range(1_500):
        spoilt = bytearray(whole)
        for _ in range(random.choice((1, 1, 4))):
            spoilt[random.randrange(len(spoilt))] = random.choice(b'\0"{}[],:-0179eaTx\xff')
        path.write_bytes(spoilt)
        with contextlib.suppress(Invalid, UnicodeDecodeError):  # or it is another recording
            load(path)


def test_a_cut_recording_is_a_usage_error_for_every_command(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    save(SHORT, path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    for command in (replay_command, explain_command, shrink_command):
        done = CliRunner().invoke(command, [str(path)])
        assert done.exit_code == 2 and "incomplete" in done.output, done.output


def test_record_and_replay_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    runner = CliRunner()
    done = runner.invoke(record_command, ["quiet", "-o", str(path)])
    assert done.exit_code == 0, done.output
    again = runner.invoke(replay_command, [str(path)])
    assert again.exit_code == 0 and load(path).digest in again.output
    text = path.read_text()
    path.write_text(text.replace('"digest":"', '"digest":"f', 1))
    other = runner.invoke(replay_command, [str(path)])
    assert other.exit_code == 1 and "not the recorded run" in other.output
    assert runner.invoke(replay_command, [__file__]).exit_code == 2


def test_a_recording_is_sent_to_the_commands_that_take_one(tmp_path: Path) -> None:
    path = tmp_path / "bug.jsonl"
    bug = ["quiet", "--bug", "ack-before-persist"]
    done = CliRunner().invoke(record_command, [*bug, "-o", str(path)])
    assert done.exit_code == 1, done.output
    with pytest.raises(Invalid, match="a recording: use `replay"):
        make_plan(str(path), None, None)
    told = CliRunner().invoke(explain_command, [str(path)])
    assert told.exit_code == 1
    next_command = told.output.splitlines()[-1]
    assert next_command.startswith(f"next   python -m aurora.sim shrink {path} ")
