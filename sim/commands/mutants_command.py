"""The command ``mutants``: a measure of the checkers and the generator."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import click

from aurora.terminal.integers import Integer
from segments.protocol.errors import Invalid
from sim.commands.case import SEED
from sim.commands.command_groups import CommandGroup
from sim.commands.exit_codes import INTERRUPTED, PASSED, VIOLATION
from sim.commands.mutant_journal import Header, Journal
from sim.commands.mutant_runner import MutantName, MutantWork, trials
from sim.commands.progress import ProgressLine
from sim.commands.scheduler_options import Scheduler, open_crew, scheduler_options
from sim.crews.crew import CrewGone, spread
from sim.durations import duration_or_none_option, format_seconds
from sim.files.outputs import OUTPUT, writable_path
from sim.mutants.cores import CORES, chosen_modules
from sim.mutants.equivalents import entry_for, read_equivalents
from sim.mutants.operators import OPERATORS
from sim.mutants.population import code_version, diff_of, population
from sim.mutants.sample import sampled
from sim.mutants.sites import Mutant
from sim.mutants.spared import SPARED
from sim.show.mutant_tally import (
    MutantReport,
    Outcome,
    Trial,
    as_json,
    location,
    report,
)
from sim.wording import command_line, counted, say

_EPILOG = (
    "Exit codes: 0 every mutant that is not equivalent was noticed, 1 some were not, 2 usage "
    "error, 70 internal error, 130 interrupted."
)


@click.group("mutants", cls=CommandGroup, invoke_without_command=True, epilog=_EPILOG)
@click.option(
    "--sample", type=Integer(1), metavar="N",
    help="Try so many, each module with its share; without it, all.",
)  # fmt: skip
@click.option(
    "--seed", type=SEED, default=1, show_default=True, metavar="S",
    help="What the sample is drawn from.",
)  # fmt: skip
@click.option(
    "--budget", callback=duration_or_none_option, default="30s", show_default=True,
    metavar="TIME", help="CPU time for each mutant, its import included (20, 60s, 5m).",
)  # fmt: skip
@click.option(
    "--first-seed", type=SEED, default=0, show_default=True, metavar="S",
    help="The first random seed that each is run with.",
)  # fmt: skip
@click.option(
    "--jobs", metavar="N", type=Integer(1, 512), default=lambda: os.cpu_count() or 1,
    show_default="all cores", help="How many processes.",
)  # fmt: skip
@click.option(
    "--module", "patterns", multiple=True, metavar="GLOB",
    help="Only modules that match ('aurora.*', protocol.ids); may be repeated.",
)  # fmt: skip
@click.option(
    "--only", multiple=True, metavar="ID", help="Only this mutant; may be repeated.",
)  # fmt: skip
@click.option(
    "--state", type=OUTPUT, callback=writable_path, metavar="FILE",
    help="Keep results in this journal, and go on with what it holds.",
)  # fmt: skip
@click.option("--json", "wants_json", is_flag=True, help="Print the report as JSON.")
@scheduler_options
@click.pass_context
def command(
    context: click.Context,
    scheduler: Scheduler | None,
    sample: int | None,
    seed: int,
    budget: float,
    first_seed: int,
    jobs: int,
    patterns: tuple[str, ...],
    only: tuple[str, ...],
    state: Path | None,
    wants_json: bool,
) -> None:
    """Change the protocol's cores mechanically, and see whether random seeds notice.

    Each mutant is one small slip (a bound, a condition, a statement left out), run with seed after
    seed in a process of its own until one finds it or the budget is spent. What survives is either
    equivalent, which is written down with its reason, or shows what no schedule does or no
    checker sees. Ctrl-C stops it, and what is done is reported.
    """
    if context.invoked_subcommand is not None:
        return
    if budget <= 0:
        raise click.UsageError("--budget: found 0: expected more than that")
    chosen = _chosen(patterns, only, sample, seed)
    equivalents = read_equivalents()
    header = Header(code=code_version(), budget_s=budget, first_seed=first_seed)
    try:
        journal = Journal(state, header)
    except Invalid as error:
        raise click.UsageError(str(error)) from None
    found = MutantReport(mutants=chosen, trials=journal.trials, equivalents=equivalents)
    try:
        stopped = _try_all(found, journal, jobs, header, scheduler)
    finally:
        journal.close()
    if wants_json:
        asked = {"sample": sample, "seed": seed, "budget_s": budget, "first_seed": first_seed}
        values = {"code": header.code, **asked, "interrupted": bool(stopped), **as_json(found)}
        click.echo(json.dumps(values, indent=2))
    else:
        _show(found, stopped, header)
    missed = [each for each in _MISSED if found.with_outcome(each)]
    context.exit(INTERRUPTED if stopped else VIOLATION if missed else PASSED)


_MISSED = (Outcome.SURVIVED, Outcome.UNREACHED, Outcome.SIMULATOR)


def _chosen(
    patterns: tuple[str, ...], only: tuple[str, ...], sample: int | None, seed: int
) -> list[Mutant]:
    parts = population(_modules(patterns))
    if only:
        return [_named(parts, each) for each in only]
    return sampled(parts, sample, seed)


def _modules(patterns: tuple[str, ...]) -> list[str]:
    """The modules that match; raises `click.UsageError` if none does."""
    modules = chosen_modules(patterns)
    if not modules:
        raise click.UsageError(
            f"--module {' '.join(patterns)}: expected one of {', '.join(CORES)}, or a pattern"
        )
    return modules


def _named(parts: Mapping[str, Sequence[Mutant]], name: str) -> Mutant:
    """The mutant with this id or key; raises `click.UsageError`."""
    for mutants in parts.values():
        for mutant in mutants:
            if name in (mutant.id, mutant.key):
                return mutant
    raise click.UsageError(
        f"there is no mutant {name}: expected an id as `{command_line('mutants', 'list')}` shows it"
    )


def _try_all(
    found: MutantReport, journal: Journal, jobs: int, header: Header, scheduler: Scheduler | None
) -> str:
    """Try what has not been tried; returns what has ended it before that, empty if nothing did."""
    left = [
        each
        for each in found.mutants
        if each.id not in journal.trials and not found.is_equivalent(each)
    ]
    progress = ProgressLine()
    done, who = 0, ""
    running = _trials(left, jobs, header, scheduler, progress)

    def line() -> str:
        survived = sum(len(found.with_outcome(each)) for each in _MISSED)
        rest = "time left unknown"
        if done:
            rest = f"{format_seconds((len(left) - done) * progress.elapsed_s / done)} left"
        return f"{done}/{counted(len(left), 'mutant')}{who}  {survived} not noticed  {rest}"

    try:
        for trial, who in running:  # noqa: B007 - the line shows it
            if trial is not None:
                journal.add(trial)
                done += 1
            progress.show(line)
    except KeyboardInterrupt:
        return "by Ctrl-C"
    except CrewGone as error:
        if not done:
            raise
        return f"as {error}"
    finally:
        running.close()
        progress.clear()
    return ""


def _trials(
    left: list[Mutant],
    jobs: int,
    header: Header,
    scheduler: Scheduler | None,
    progress: ProgressLine,
) -> Generator[tuple[Trial | None, str], None, None]:
    """Each result as it comes, None while there is none; and for the line who works elsewhere."""
    first_seed, budget_s = header.first_seed, header.budget_s
    if scheduler is None:
        with closing(
            trials(iter(left), jobs=jobs, first_seed=first_seed, budget_s=budget_s)
        ) as here:
            for trial in here:
                yield trial, ""
        return
    work = MutantWork(first_seed=first_seed, budget_s=budget_s)
    crew = open_crew(
        scheduler,
        work,
        jobs=jobs,
        item_s=max(1.0, budget_s),
        left_s=lambda: None,
        progress=progress,
    )
    names = iter([MutantName(each.module, each.id) for each in left])
    with closing(spread(names, work, crew)) as there:
        for each in there:
            yield each.result if each else None, f"  {crew.strength()}"


def _show(found: MutantReport, stopped: str, header: Header) -> None:
    if stopped:
        say(f"stopped {stopped}; what was done until then:")
    tried = found.total().outcomes.total()
    say(
        f"{counted(len(found.mutants), 'mutant')} of code {header.code}, {tried} tried, "
        f"{format_seconds(header.budget_s)} of CPU time each"
    )
    click.echo()
    say(report(found))
    missed = next((some for each in _MISSED for some in found.with_outcome(each)), None)
    if missed is not None:
        say(f"\nlook at one: {command_line('mutants', 'show', missed[0].id)}")


@command.command("list")
@click.option(
    "--module", "patterns", multiple=True, metavar="GLOB", help="Only modules that match."
)
@click.option("--json", "wants_json", is_flag=True, help="Print it as JSON.")
def list_command(patterns: tuple[str, ...], wants_json: bool) -> None:
    """List every mutant there is: its id, where it is, and the change."""
    parts = population(_modules(patterns))
    if wants_json:
        rows = [
            {"id": each.id, "in": each.where, "operator": each.operator, "change": each.change,
             "nth": each.nth, "at": location(each)}
            for mutants in parts.values() for each in mutants
        ]  # fmt: skip
        click.echo(json.dumps(rows, indent=2))
        return
    for mutants in parts.values():
        for each in mutants:
            click.echo(f"{each.id}  {location(each)}  {each.function}: {each.change}")
    total = sum(map(len, parts.values()))
    click.echo(f"\n{counted(total, 'mutant')} in {counted(len(parts), 'module')}.")
    for title, rules in (("Operators", OPERATORS), ("Not mutated", SPARED)):
        click.echo(f"\n{title}:")
        for name, text in rules.items():
            say(f"  {name}: {text}", "  ")


@command.command()
@click.argument("name", metavar="ID")
def show(name: str) -> None:
    """The change that the mutant ID makes, how to try it, and how to call it equivalent."""
    mutant = _named(population(CORES), name)
    click.echo(diff_of(mutant))
    say(f"\n{mutant.operator}: {OPERATORS[mutant.operator]}")
    equivalent = read_equivalents().get(mutant.key)
    if equivalent is not None:
        say(f"equivalent: {equivalent.why}")
        return
    click.echo(f"\ntry it:\n  {command_line('mutants', '--only', mutant.id)}")
    click.echo("\nif nobody can ever tell it from the code, in sim/mutants/equivalent.toml:\n")
    click.echo(entry_for(mutant))
