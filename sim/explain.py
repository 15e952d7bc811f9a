"""The command ``explain``: how a failing run came to fail, in at most 25 lines."""

from __future__ import annotations

import sys
from typing import Final

import click

from sim.case import Case, case_options, open_case
from sim.exit_codes import EXIT_CODES, HELP
from sim.invariants import INVARIANTS
from sim.shrink import events_of
from sim.story import Recorder, tell
from sim.wording import counted
from sim.world import RunResult, Verdict, World

MAX_LINES: Final = 25
_AROUND: Final = 6
"""Lines that are not story: what failed, the rule, the next command."""
_SMALL: Final = 12
_RULES: Final = {
    "deadlock": "something can always run, or is scheduled, while anything is pending",
    "undecided": "a run ends within its limits",
    "internal error": "no assertion of the code itself fails",
    "typed errors": "a call raises nothing but the errors it documents",
}


@click.command("explain", epilog=HELP)
@case_options
def command(seed: int | None, name: str | None, bug: str | None) -> None:
    """Tell how a failing run came to fail.

    Which messages and syncs led there, who had acknowledged what, the rule that broke, and what to
    type next. Told from the events of the run around what the finding names.
    """
    case = open_case(seed, name, bug)
    recorders: list[Recorder] = []

    def listen(world: World) -> None:
        recorders.append(Recorder(world))

    result = case.run(listen)
    if result.verdict is Verdict.PASSED:
        click.echo(f"{case.source}: passed, so there is nothing to explain")
        return
    click.echo("\n".join(explained(recorders[0], result, case)))
    sys.exit(EXIT_CODES[result.verdict])


def explained(recorder: Recorder, result: RunResult, case: Case) -> list[str]:
    """All lines, at most `MAX_LINES`."""
    rule = INVARIANTS.get(result.invariant)
    number = f"invariant {rule.number}" if rule else "the run"
    text = rule.text if rule else _RULES.get(result.invariant, "the scenario's expectations hold")
    amounts = (counted(result.messages, "message"), counted(result.commits, "commit"))
    when = f"after {result.virtual_ns / 1e9:.4f} s, {', '.join(amounts)}"
    source = case.source
    lines = [
        f"{source}: {result.verdict.value} {when}",
        "",
        *tell(recorder, result, MAX_LINES - _AROUND),
        "",
        f"found  {result.finding.splitlines()[0]}",
        f"broken {number}, {result.invariant}: {text}",
    ]
    # `run` takes no recording; what is left of one is a scenario.
    if case.decisions is not None or len(events_of(result.schedule)) > _SMALL:
        lines.append(f"next   python -m aurora.sim shrink {source} -o smaller.toml")
    else:
        lines.append(f"next   python -m aurora.sim run {source} --trace events.jsonl")
    return lines
