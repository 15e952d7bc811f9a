"""Actions that change nothing are noted: in the report, in JSON, in a scenario's story."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from sim.files.scenario import loads
from sim.run import Run, RunResult, run
from sim.script.api import Scenario, run_scenario
from sim.show.report import as_json, make_report
from sim.show.report_text import report_text, show
from sim.show.watch import Watch
from sim.world.world import World

HEAD = 'name = "idle"\n[knobs]\nduration = "400ms"\n[workload]\noperations = 20\n'


def schedule_of(*actions: str) -> str:
    """A scenario with the actions 10 ms apart, each as ``fault target key=value``."""
    text = HEAD
    for number, action in enumerate(actions):
        fault, *rest = action.split(" ")
        target = rest.pop(0) if rest and "=" not in rest[0] else ""
        text += f'[[action]]\nat = "{100 + 10 * number}ms"\nfault = "{fault}"\n'
        text += f'target = "{target}"\n' * bool(target) + "\n".join(rest) + "\n"
    return text


def result_of(*actions: str) -> RunResult:
    return run(loads(schedule_of(*actions)).schedule())


@pytest.mark.parametrize(
    ("actions", "note"),
    [
        (["restart A"], "restart A had no effect: A0 was up"),
        (["restart az1"], "restart az1 had no effect: A0 B0 were up"),
        (["crash A", "crash az1"], "crash az1 had no effect on A0: A0 was down"),
        (["wipe A", "restart A"], "restart A had no effect: A0 was lost"),
        (["wipe A", "crash A"], "crash A had no effect: A0 was lost"),
        (["wipe A", "wipe A,B"], "wipe A,B had no effect on A0: A0 was lost already"),
        (["crash A", "pause A"], "pause A had no effect: A0 was down"),
        (["pause A", "pause A"], "pause A had no effect: A0 was paused already"),
        (["resume A"], "resume A had no effect: A0 was not paused"),
        (["slow A factor=1"], "slow A (factor 1) had no effect: A0 was not slow"),
        (["slow_disk A factor=1"], "slow_disk A (factor 1) had no effect: A0 was not slow"),
        (["disk_free A"], "disk_free A had no effect: A0 was not full"),
        (["disk_full A", "disk_full A"], "disk_full A had no effect: A0 was full already"),
        (
            ["partition writer-9"],
            "partition writer-9 had no effect on writer-9: there was no writer-9 yet",
        ),
        (["wipe A", "rot_promise A"], "rot_promise A had no effect: A0 was lost"),
        (
            ["wipe A", "crash_amid_write A write='append'"],
            "crash_amid_write A (write append) had no effect: A0 was lost",
        ),
        (["wipe A", "roll_back A"], "roll_back A had no effect: A0 was lost"),
        (["wipe A", "copy_disk A"], "copy_disk A had no effect: A0 was lost"),
        (["copy_disk A", "roll_back A"], "roll_back A had no effect: A0 was as it had been"),
        (["wipe A", "bit_rot A"], "bit_rot A had no effect: A0 was lost"),
        (["heal_network"], "heal_network had no effect: nobody was cut off, held back or slowed"),
        (["heal"], "heal had no effect: nothing was broken that can be mended"),
        (
            ["crash_writer"] * 2,
            "crash_writer had no effect: writer-1 had ended already",
        ),
    ],
)
def test_what_changes_nothing_is_noted(actions: list[str], note: str) -> None:
    assert [str(each) for each in result_of(*actions).without_effect] == [note]


@pytest.mark.parametrize(
    "actions",
    [
        ["crash A", "restart A"],
        ["pause A", "resume A"],
        ["slow A", "slow A factor=1"],
        ["slow_disk A", "slow_disk A factor=1"],
        ["disk_full A", "disk_free A"],
        ["partition writer", "heal_network"],
        ["cut A others='writer'", "heal_network"],
        ["clog A", "heal"],
        ["pause A", "heal"],
        ["crash A", "heal"],
        ["disk_full A", "heal"],
        ["fail_syncs A count=9", "heal"],
        ["crash_after_write A write='promise'", "heal"],
        ["rot_promise A slot=2", "bit_rot A"],
        ["crash_writer", "recover"],
    ],
)
def test_what_has_its_effect_is_not(actions: list[str]) -> None:
    assert not result_of(*actions).without_effect


def test_the_report_and_its_json_say_so() -> None:
    world = World(loads(schedule_of("restart A", *["resume B"] * 9)).schedule())
    watch = Watch(world)
    report = make_report(world, Run(world).run(), watch, real_s=1.0, command="")
    file = io.StringIO()
    show(Console(file=file, width=80), report_text(report))
    section = file.getvalue().split("\nWithout effect\n")[1].split("\n\n")[0]
    assert section.startswith(
        "  0.1000 s  restart A had no effect: A0 was up\n  0.1100 s  resume B"
    )
    assert section.endswith("and 2 actions more")
    noted = json.loads(json.dumps(as_json(report)))["without_effect"]
    assert noted[0] == {
        "at_ns": 100_000_000, "fault": "restart", "target": "A", "on": [], "reason": "A0 was up",
    }  # fmt: skip


def test_a_scenario_in_python_notes_it_in_its_story() -> None:
    async def scenario(s: Scenario) -> None:
        await s.put(1, b"x")
        s.restart("A")
        s.crash("A")

    story = run_scenario(scenario).story
    at = next(number for number, line in enumerate(story) if "fault: restart A" in line)
    assert story[at + 1].endswith("  note: restart A had no effect: A0 was up")
    assert sum("note: " in line for line in story) == 1
