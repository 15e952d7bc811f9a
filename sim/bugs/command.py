"""The command ``bugs``: list the deliberate bugs, show one, run the suite over them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import attrs
import click

from segments.protocol.errors import Invalid
from sim.bugs import BUGS, Bug, require_bug
from sim.bugs.suite import BugReport, run_suite
from sim.case import SEED
from sim.exit_codes import HELP, PASSED, VIOLATION
from sim.scenario import dump
from sim.wording import counted

_RUN_HELP = (
    "Exit codes: 0 every bug was found, 1 one of them survived, 2 usage error, 70 internal error, "
    "130 interrupted."
)
_HEADINGS = ("bug", "found by", "invariant", "median seeds", "seeds tried")


@click.group(invoke_without_command=True, epilog=HELP)
@click.pass_context
def command(context: click.Context) -> None:
    """The deliberate bugs: list them, show one, or run the suite that proves the checkers."""
    if context.invoked_subcommand is None:
        width = max(map(len, BUGS))
        for bug in BUGS.values():
            click.echo(f"{bug.name:{width}}  {bug.summary}")
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
    click.echo(f"{bug.name}: {bug.summary}\nbreaks {bug.section}")
    for edit in bug.edits:
        click.echo(f"\n{edit.target}")
        for mark, text in (("-", edit.old), ("+", edit.new)):
            for line in text.strip("\n").splitlines():
                click.echo(f"  {mark} {line}")
    if bug.directed is not None:
        click.echo(f"\nThe schedule made for it: bugs scenario {bug.name} > FILE; run FILE")


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
    "--budget", type=click.FloatRange(min=0.0), default=30.0, show_default=True,
    metavar="SECONDS", help="Begin no seed later than this, for each bug.",
)  # fmt: skip
@click.option(
    "--wanted", type=click.IntRange(1), default=5, show_default=True, metavar="N",
    help="Go on to the next bug when so many seeds have found it.",
)  # fmt: skip
@click.option(
    "--seed", type=SEED, default=0, show_default=True, metavar="S", help="The first random seed."
)
@click.option(
    "--jobs", type=click.IntRange(1, 512), metavar="N", help="Processes; all cores by default."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per bug.")
@click.pass_context
def run_command(
    context: click.Context,
    names: tuple[str, ...],
    budget: float,
    wanted: int,
    seed: int,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Run the suite over all bugs, or NAMES; fails if one of them survives."""
    try:
        chosen = [require_bug(name).name for name in names] or list(BUGS)
    except Invalid as error:
        raise click.UsageError(str(error)) from None
    reports: dict[str, BugReport] = {}
    for report in run_suite(
        chosen,
        first_seed=seed,
        wanted=wanted,
        budget_s=budget,
        jobs=max(1, min(jobs or os.cpu_count() or 1, len(chosen))),
    ):
        reports[report.name] = report
        if as_json:
            click.echo(json.dumps(attrs.asdict(report) | {"found": report.found}))
        else:
            click.echo(f"{len(reports)}/{len(chosen)} {report.name}: {report.how}", err=True)
    ordered = [reports[name] for name in chosen]
    survivors = [report.name for report in ordered if not report.found]
    if not as_json:
        click.echo("\n".join(table(ordered)))
        took = sum(report.elapsed_s for report in ordered)
        verdict = f"survived: {', '.join(survivors)}" if survivors else "none survived"
        click.echo(f"\n{counted(len(ordered), 'bug')}, {took:.0f} s of running; {verdict}")
    context.exit(VIOLATION if survivors else PASSED)


def table(reports: Sequence[BugReport]) -> list[str]:
    """The reports as the lines of a Markdown table."""
    rows = [_HEADINGS, *(_row(report) for report in reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


def _row(report: BugReport) -> tuple[str, ...]:
    needed = report.median_seeds
    seeds = f"{needed:g}" if needed is not None else f"> {report.seeds}"
    return (report.name, report.how, report.invariants, seeds, str(report.seeds))
