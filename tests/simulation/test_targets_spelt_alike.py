"""The prompt, scenario files and scenarios in Python read the same words, and mean the same."""

from __future__ import annotations

import json

import pytest

from aurora.terminal.opening import Options
from sim.files import scenario
from sim.files.expectations import Lost
from sim.files.toml_reader import ScenarioError
from sim.script.api import Scenario, run_scenario
from tests.terminal.playing import play

TEXTS = ["az1,C0", "AZ1 c0", " az1 ,, c0,", "C0 az1 C0 B"]
LISTS = [["az1", "C0"], ["AZ1 c0"], ["az1,C0", "A0"]]


@pytest.mark.parametrize("target", TEXTS)
def test_in_the_prompt(target: str) -> None:
    played = play(f"crash {target}", f"restart {target}", options=Options(groups=2))
    assert played.succeeded == [True, True]
    down, up = (set(text.partition(": ")[2].split(";")[0].split()) for text in played.outputs)
    assert down == up == {"A0", "B0", "A1", "B1", "C0"}


def test_writers_in_the_prompt() -> None:
    played = play("crash WRITER, a0", "recover", "partition writer-2,az1", "crash writer-1")
    assert played.succeeded == [True] * 4
    assert "writer-1 is gone" in played.outputs[0]
    assert "down: A0;" in played.outputs[0]
    assert "cut off from all others: A0 B0 writer-2" in played.outputs[2]
    assert "writer-1 is down already" in played.outputs[3]


@pytest.mark.parametrize("target", [*TEXTS, *LISTS], ids=repr)
def test_in_scenario_files(target: str | list[str]) -> None:
    text = f"""
        [knobs]
        pg_count = 2
        [[action]]
        at = "1s"
        fault = "cut"
        target = {json.dumps(target)}
        others = ["Writer", "f"]
        [[expect]]
        lost = {json.dumps(target)}
    """
    found = scenario.loads(text)
    (action,) = found.actions
    assert sorted(set(action.target.split(",")) - {"A0", "B"}) == ["C0", "az1"]
    assert action.params == {"others": "writer,F"}
    (lost,) = found.expectations
    assert isinstance(lost, Lost)
    assert sorted(lost.segments) == ["A0", "A1", "B0", "B1", "C0"]
    again = scenario.loads(scenario.dump(found.schedule(), expectations=found.expectations))
    assert (again.schedule(), again.expectations) == (found.schedule(), found.expectations)


def test_what_is_no_name_in_a_file_is_refused_with_its_line() -> None:
    head = "[[action]]\nat = '1s'\nfault = 'cut'\ntarget = "
    for wrong, problem in (
        ("7", "line 4: action[1].target: found 7: expected names such as"),
        ("['A', 7]", "line 4: action[1].target: found ['A', 7]: expected names such as"),
        ("['A', 'X1']", "line 4: action[1].target: 'X1' names nobody: expected A0"),
        ("'A'\nothers = 7", "line 5: action[1].others: found 7: expected names such as"),
    ):
        with pytest.raises(ScenarioError) as raised:
            scenario.loads(head + wrong)
        assert problem in str(raised.value)


@pytest.mark.parametrize("target", [*TEXTS, *LISTS, ("az1", "c0")], ids=repr)
def test_in_scenarios_in_python(target: str | list[str]) -> None:
    async def script(s: Scenario) -> None:
        await s.put(1, b"x")
        s.crash(target)
        down = [name for name, host in s.world.cluster.hosts.items() if not host.up]
        s.expect(down == ["A0", "B0", "C0"], f"{down} are down")
        s.restart(target)
        s.partition(target, others=["Writer", "f"])
        s.heal()

    result = run_scenario(script)
    assert result.passed, result.run.finding
    assert any("others=writer,F" in line for line in result.story)
