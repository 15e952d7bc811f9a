"""The command ``bugs``: list the deliberate bugs, show one, run the suite over them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import attrs
import click

from aurora.terminal.integers import Integer
from segments.protocol.errors import Invalid
from sim.bugs import BUGS, Bug, require_bug
from sim.commands.bug_suite import BugReport, BugWork
from sim.commands.case import SEED
from sim.commands.command_groups import CommandGroup
from sim.commands.exit_codes import HELP, INTERRUPTED, PASSED, VIOLATION
from sim.commands.progress import ProgressLine
from sim.commands.scheduler_options import Scheduler, open_crew, scheduler_options
from sim.crews.crew import CrewGone, spread
from sim.durations import duration_or_none_option
from sim.files.scenario import dump
from sim.wording import command_line, counted, say

_RUN_HELP = (
    "Exit codes: 0 every bug was found, 1 random seeds or its own schedule missed one, "
    "2 usage error, 70 internal error, 130 interrupted."
)
_HEADINGS = ("bug", "invariant", "median seeds", "median CPU s", "seeds tried", "directed")


@click.group(cls=CommandGroup, invoke_without_command=True, epilog=HELP)
@click.pass_context
def command(context: click.Context) -> None:
    """The deliberate bugs: list them, show one, or run the suite that proves the checkers.

    Without a command they are listed.
    """
    if context.invoked_subcommand is None:
        width = max(map(len, BUGS))
        for bug in BUGS.values():
            say(f"{bug.name:{width}}  {bug.summary}", " " * (width + 2))
        click.echo(f"\n{len(BUGS)} bugs. Plant one: run --bug NAME. Read one: bugs show NAME.")


def _bug(_: click.Context, __: click.Parameter, name: str) -> Bug:
    try:
        return require_bug(name)
    except Invalid as error:
        raise click.UsageError(str(error)) from None


@command.command()
@click.argument("bug", metavar="NAME", callback=_bug)
def show(bug: Bug) -> None:
    """What the bug NAME changes in the real code, and the rule that it breaks."""
    say(f"{bug.name}: {bug.summary}\nbreaks {bug.section}")
    for edit in bug.edits:
        click.echo(f"\n{edit.target}")
        for mark, text in (("-", edit.old), ("+", edit.new)):
            for line in text.strip("\n").splitlines():
                click.echo(f"  {mark} {line}")
    if bug.directed is not None:
        file = f"{bug.name}.toml"
        click.echo("\nThe schedule made for it:")
        click.echo(f"  {command_line('bugs', 'scenario', bug.name)} > {file}")
        click.echo(f"  {command_line('run', file)}")


@command.command()
@click.argument("bug", metavar="NAME", callback=_bug)
def scenario(bug: Bug) -> None:
    """The schedule that exposes the bug NAME, as a scenario file that plants it."""
    if bug.directed is None:
        raise click.UsageError(f"bug {bug.name}: only random seeds find it")
    click.echo(dump(bug.directed(), description=bug.summary, bug=bug.name), nl=False)


@command.command(name="run", epilog=_RUN_HELP)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--budget", callback=duration_or_none_option, default="60s", show_default=True,
    metavar="TIME", help="Begin no random seed after this much CPU time, for each bug (20, 5m).",
)  # fmt: skip
@click.option(
    "--wanted", type=Integer(1), default=3, show_default=True, metavar="N",
    help="Go on to the next bug when this many seeds have found it.",
)  # fmt: skip
@click.option(
    "--seed", type=SEED, default=0, show_default=True, metavar="S", help="The first random seed."
)
@click.option("--jobs", type=Integer(1, 512), metavar="N", help="Processes; all cores by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per bug.")
@scheduler_options
@click.pass_context
def run_command(
    context: click.Context,
    scheduler: Scheduler | None,
    names: tuple[str, ...],
    budget: float,
    wanted: int,
    seed: int,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Run the suite over all bugs, or NAMES; fails if one of them survives.

    A bug survives that random seeds do not find within the budget, or that the schedule made for it
    does not expose. Ctrl-C stops it, and what is done is reported.
    """
    try:
        chosen = [require_bug(name).name for name in names] or list(BUGS)
    except Invalid as error:
        raise click.UsageError(str(error)) from None
    reports: dict[str, BugReport] = {}
    work = BugWork(first_seed=seed, wanted=wanted, budget_s=budget)
    jobs = max(1, min(jobs or os.cpu_count() or 1, len(chosen)))
    progress = ProgressLine()
    crew = open_crew(
        scheduler, work, jobs=jobs, item_s=max(1.0, budget), left_s=lambda: None, progress=progress
    )
    running = spread(iter(chosen), work, crew)
    stopped = ""
    try:
        for done in running:
            if done is None:
                continue
            report = done.result
            reports[report.name] = report
            if as_json:
                click.echo(json.dumps(_as_json(report)))
            else:
                click.echo(f"{len(reports)}/{len(chosen)} {report.name}: {_how(report)}", err=True)
    except KeyboardInterrupt:
        stopped = "by Ctrl-C"
    except CrewGone as error:
        if not reports:
            raise
        stopped = f"as {error}"
    finally:
        running.close()
    if stopped:
        click.echo(f"stopped {stopped}; what was done until then:", err=True)
    ordered = [reports[name] for name in chosen if name in reports]
    if not as_json:
        _show(ordered, len(chosen))
    found = all(report.found for report in ordered)
    context.exit(INTERRUPTED if stopped else PASSED if found else VIOLATION)


def _as_json(report: BugReport) -> dict[str, object]:
    computed = {
        "found": report.found,
        "median_seeds": report.median_seeds,
        "median_cpu_s": report.median_cpu_s,
    }
    return attrs.asdict(report) | computed


def _how(report: BugReport) -> str:
    """How a bug fared, in a line."""
    seeds, directed = counted(report.seeds, "seed"), report.directed
    if report.found_by_random:
        text = f"found by {len(report.needed_seeds)} of {seeds}"
    else:
        text = f"survived {seeds}"
    if directed is None or directed.ok:
        return text
    return f"{text}; its schedule {'exposes nothing' if directed.passes else 'fails without it'}"


def _show(reports: Sequence[BugReport], chosen: int) -> None:
    """The table, and what it comes to."""
    click.echo("\n".join(table(reports)))
    click.echo()
    if len(reports) < chosen:
        say(f"{len(reports)} of {counted(chosen, 'bug')} tried")
    for line in summary(reports):
        say(line)


def summary(reports: Sequence[BugReport]) -> list[str]:
    """What the reports come to, in lines."""
    found = sum(report.found_by_random for report in reports)
    cpu_s = sum(report.cpu_s for report in reports)
    tried = counted(len(reports), "bug")
    text = f"{found} of {tried} by random seeds within the budget, in {cpu_s:.0f} s of CPU time"
    lines = [text]
    survivors = [report.name for report in reports if not report.found_by_random]
    missed = [report.name for report in reports if report.directed and not report.directed.ok]
    if survivors:
        lines.append(f"survived: {', '.join(survivors)}")
    if missed:
        lines.append(f"not shown by the schedule made for it: {', '.join(missed)}")
    for report in reports:
        if report.internal_errors:
            seeds = ", ".join(map(str, report.internal_errors))
            lines.append(f"internal error of the simulator under {report.name}: seed {seeds}")
    return lines


def table(reports: Sequence[BugReport]) -> list[str]:
    """The reports as the lines of a Markdown table."""
    rows = [_HEADINGS, *(_row(report) for report in reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


def _row(report: BugReport) -> tuple[str, ...]:
    seeds, cpu_s, directed = report.median_seeds, report.median_cpu_s, report.directed
    return (
        report.name,
        report.invariants,
        f"{seeds:g}" if seeds is not None else f"> {report.seeds}",
        f"{cpu_s:.1f}" if cpu_s is not None else f"> {report.cpu_s:.0f}",
        str(report.seeds),
        "-" if directed is None else "ok" if directed.ok else "missed",
    )
