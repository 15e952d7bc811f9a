"""The command ``explain``: how a run came to end as it did, in at most 25 lines."""

from __future__ import annotations

import sys
from typing import Final

import attrs
import click

from aurora.terminal.console import new_console
from sim.bugs import BUGS
from sim.check.findings import OTHER_FINDINGS
from sim.check.invariants import INVARIANTS
from sim.commands.case import Case, case_options, open_case
from sim.commands.exit_codes import EXIT_CODES, HELP
from sim.commands.shrink import events_of
from sim.durations import moment
from sim.run import Run, RunResult, Verdict
from sim.story import Recorder, tell
from sim.story.lines import Line, filled, shown
from sim.wording import counted

MAX_LINES: Final = 25
"""As printed, where there are `LEAST_WIDTH` columns or more."""
MAX_LINES_PASSED: Final = 40
"""The same for a run that passed: nothing in it is more to the point than the rest."""
LEAST_WIDTH: Final = 80
PIPE_WIDTH: Final = 100
_SMALL: Final = 12
_MOST_EXPECTATIONS: Final = 4
_INDENT: Final = " " * 7


@click.command("explain", epilog=HELP)
@case_options
def command(seed: int | None, name: str | None, bug: str | None, knobs: tuple[str, ...]) -> None:
    """Tell how a run came to end as it did.

    Of a run that failed: which messages and syncs led there, who had acknowledged what, the rule
    that broke, and what to type next. Of one that passed: what was planned, which faults happened,
    who came back when, what waited, and what it has proved. Told from the events of the run.
    """
    case = open_case(seed, name, bug, knobs)
    recorders: list[Recorder] = []

    def listen(run: Run) -> None:
        recorders.append(Recorder(run))

    result = case.run(listen)
    width = new_console().width if sys.stdout.isatty() else PIPE_WIDTH
    click.echo("\n".join(explained(recorders[0], result, case, width)))
    sys.exit(EXIT_CODES[result.verdict])


@attrs.frozen(kw_only=True)
class Explanation:
    """What is told of a run, sentence by sentence."""

    head: str
    story: list[Line]
    conclusions: list[str]
    """Each with a word and spaces, in `_INDENT` columns, before it."""
    again: str
    """The command to go on with."""

    def rows(self, width: int) -> list[str]:
        """As it is printed."""
        story = [row for line in self.story for row in shown(line, width)]
        tail = [row for text in self.conclusions for row in filled(text, width, _INDENT)]
        # Whoever copies the command wants one line.
        return [*filled(self.head, width, _INDENT), "", *story, "", *tail, f"next   {self.again}"]


def explained(
    recorder: Recorder, result: RunResult, case: Case, width: int = PIPE_WIDTH
) -> list[str]:
    """All lines, at most `MAX_LINES` if ``width`` is `LEAST_WIDTH` columns or more.

    Of a run that passed at most `MAX_LINES_PASSED`.
    """
    return explanation(recorder, result, case, width).rows(width)


def explanation(
    recorder: Recorder, result: RunResult, case: Case, width: int = PIPE_WIDTH
) -> Explanation:
    """What `explained` prints, as sentences; as many as fit there are told."""
    most = MAX_LINES_PASSED if result.verdict is Verdict.PASSED else MAX_LINES
    amounts = (counted(result.messages, "message"), counted(result.commits, "commit"))
    when = f"after {moment(result.virtual_ns)}, {', '.join(amounts)}"
    found = Explanation(
        head=f"{case.source}: {result.verdict.value} {when}",
        story=[],
        conclusions=_conclusions(result, case),
        again=_next_command(result, case),
    )
    *frame, command = found.rows(width)
    used = len(frame) + 1 + (len(command) - 1) // width
    return attrs.evolve(found, story=tell(recorder, result, most - used, width))


def _conclusions(result: RunResult, case: Case) -> list[str]:
    """What was found and which rule broke; of a run that passed, what it has proved."""
    if result.verdict is not Verdict.PASSED:
        rule = INVARIANTS.get(result.invariant)
        number = f"invariant {rule.number}" if rule else "the run"
        text = rule.text if rule else OTHER_FINDINGS[result.invariant]
        finding = result.finding.splitlines()[0]
        return [f"found  {finding}", f"broken {number}, {result.invariant}: {text}"]
    held = (
        f"{counted(len(result.checks), 'invariant')} held, {sum(result.checks.values()):,} checks"
    )
    owed = [each for each in INVARIANTS.values() if not each.of_sql or result.schedule.has_sql]
    idle = ", ".join(each.name for each in owed if each.name not in result.checks)
    told = [f"proved {held}" + (f"; never put to the test: {idle}" if idle else "")]
    if case.bug is not None:
        text = f"bug    {case.bug} was planted, and this run has not exposed it"
        if BUGS[case.bug].directed is not None:
            text += (
                f"; its own schedule does: python -m aurora.sim bugs scenario {case.bug} > bug.toml"
            )
        told.append(text)
    judged = [each.judge(result) for each in case.expectations]
    told += [f"met    {each.expected}: {each.found}" for each in judged[:_MOST_EXPECTATIONS]]
    marks = ", ".join(f"{name} ({count:,})" for name, count in sorted(result.marks.items()))
    return [*told, f"marks  {marks or 'none: nothing out of the ordinary happened'}"]


def _next_command(result: RunResult, case: Case) -> str:
    if result.verdict is Verdict.PASSED:
        how = "replay" if case.is_recording else "run"
        return f"python -m aurora.sim {how} {case.source}"
    # `run` takes no recording; what is left of one is a scenario.
    if case.is_recording or len(events_of(result.schedule)) > _SMALL:
        return f"python -m aurora.sim shrink {case.source} -o smaller.toml"
    return f"python -m aurora.sim run {case.source} --trace events.jsonl"
