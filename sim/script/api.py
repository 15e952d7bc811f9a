"""Scenarios in Python: start a cluster, break it, say what must happen, with all checkers on.

::

    async def scenario(s: Scenario) -> None:
        await s.put(1, b"before")
        s.crash("az1")
        await s.writes_go_on(within_s=0.1)
        s.crash("C")
        waiting = await s.writes_wait(for_s=5)
        s.restart("C")
        await waiting.done(within_s=3)


    run_scenario(scenario, seed=7)

Time is virtual: waiting costs nothing. When the scenario ends, the world heals, everything pending
has to finish, all segments have to agree, and the history of all calls is checked. Whatever happens
is told in a story, line by line. What the script itself does wrong is a `ScriptError`, no finding;
an expectation that is not met is one, whatever the script does about it.
"""

from __future__ import annotations

from sim.script.command import main
from sim.script.play import DEFAULT_LIMIT_S, ScenarioResult, run_scenario
from sim.script.scenario import Pending, Scenario, Teller

__all__ = [
    "DEFAULT_LIMIT_S",
    "Pending",
    "Scenario",
    "ScenarioResult",
    "Teller",
    "main",
    "run_scenario",
]
