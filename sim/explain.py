"""The command ``explain``: how a failing run came to fail, in at most 25 lines."""

from __future__ import annotations

import sys
from typing import Final

import click

from aurora.terminal.console import new_console
from sim.case import Case, case_options, open_case
from sim.durations import moment
from sim.exit_codes import EXIT_CODES, HELP
from sim.findings import OTHER_FINDINGS
from sim.invariants import INVARIANTS
from sim.shrink import events_of
from sim.story import Recorder, tell
from sim.story.lines import filled
from sim.wording import counted
from sim.world import RunResult, Verdict, World

MAX_LINES: Final = 25
"""As printed, where there are `LEAST_WIDTH` columns or more."""
LEAST_WIDTH: Final = 80
PIPE_WIDTH: Final = 100
_SMALL: Final = 12
_INDENT: Final = " " * 7


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
    width = new_console().width if sys.stdout.isatty() else PIPE_WIDTH
    click.echo("\n".join(explained(recorders[0], result, case, width)))
    sys.exit(EXIT_CODES[result.verdict])


def explained(
    recorder: Recorder, result: RunResult, case: Case, width: int = PIPE_WIDTH
) -> list[str]:
    """All lines, at most `MAX_LINES` if ``width`` is `LEAST_WIDTH` columns or more."""
    rule = INVARIANTS.get(result.invariant)
    number = f"invariant {rule.number}" if rule else "the run"
    text = rule.text if rule else OTHER_FINDINGS[result.invariant]
    amounts = (counted(result.messages, "message"), counted(result.commits, "commit"))
    when = f"after {moment(result.virtual_ns)}, {', '.join(amounts)}"
    finding = result.finding.splitlines()[0]
    head = filled(f"{case.source}: {result.verdict.value} {when}", width, _INDENT)
    # Whoever copies the command wants one line.
    again = f"next   {_next_command(result, case)}"
    tail = [
        *filled(f"found  {finding}", width, _INDENT),
        *filled(f"broken {number}, {result.invariant}: {text}", width, _INDENT),
        again,
    ]
    frame = len(head) + len(tail) + (len(again) - 1) // width + 2
    return [*head, "", *tell(recorder, result, MAX_LINES - frame, width), "", *tail]


def _next_command(result: RunResult, case: Case) -> str:
    # `run` takes no recording; what is left of one is a scenario.
    if case.decisions is not None or len(events_of(result.schedule)) > _SMALL:
        return f"python -m aurora.sim shrink {case.source} -o smaller.toml"
    return f"python -m aurora.sim run {case.source} --trace events.jsonl"
