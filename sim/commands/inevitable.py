"""The command ``inevitable``: from when on a failing run could hardly end otherwise."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from aurora.terminal.integers import Integer
from sim.commands.case import Case, case_options, open_case
from sim.commands.exit_codes import EXIT_CODES, HELP, INTERRUPTED
from sim.commands.futures import Failure, run_futures, run_to_failure, told_between
from sim.commands.progress import ProgressLine
from sim.durations import duration_option, format_seconds, moment
from sim.plan.moments import MOST_FUTURES, MOST_MOMENTS, Moments
from sim.run import Verdict
from sim.story import inevitable as told
from sim.wording import PROGRAM, counted, say


@click.command("inevitable", epilog=HELP)
@case_options
@click.option(
    "--futures", type=Integer(1, MOST_FUTURES), default=8, show_default=True, metavar="K",
    help="Runs from each moment, each with other chances.",
)  # fmt: skip
@click.option(
    "--moments", type=Integer(2, MOST_MOMENTS), default=20, show_default=True, metavar="M",
    help="How many moments at most: half spread over the run, half where the share jumps.",
)  # fmt: skip
@click.option(
    "--jobs", metavar="N", type=Integer(0, 512), default=lambda: os.cpu_count() or 1,
    show_default="all cores", help="How many processes; 0: in this one.",
)  # fmt: skip
@click.option(
    "--budget", callback=duration_option, metavar="TIME",
    help="Begin no run after this long (60s, 5m, 2h).",
)  # fmt: skip
@click.option("--json", "in_json", is_flag=True, help="Print it as JSON, and nothing else.")
def command(
    seed: int | None,
    name: str | None,
    bug: str | None,
    knobs: tuple[str, ...],
    futures: int,
    moments: int,
    jobs: int,
    budget: float | None,
    in_json: bool,
) -> None:
    """Tell when a failure became inevitable.

    The run is kept up to a moment, and whatever chance decides after it, messages, disks, the order
    of tasks, is drawn anew, K times over; its faults and calls stay. The share of these futures
    that break the same invariant by about the same time is shown over the moments, and the last one
    named at which most still escape, with what happened next. Ctrl-C ends it with what is known.
    """
    case = open_case(seed, name, bug, knobs)
    failure = run_to_failure(case)
    if not isinstance(failure, Failure):
        if failure.verdict is Verdict.PASSED:
            raise click.UsageError(
                f"{case.source} passes: expected a run that fails; `fleet` looks for one"
            )
        say(f"{case.source}: {failure.verdict.value}: {failure.finding}")
        sys.exit(EXIT_CODES[failure.verdict])
    search = Moments(
        failure.times, until_ns=failure.until_ns, futures=futures, most=min(moments, MOST_MOMENTS)
    )
    interrupted = _search(failure, search, jobs, budget)
    around = _around(case, search)
    if in_json:
        click.echo(json.dumps(_as_json(failure, search, around, interrupted), indent=2))
    else:
        _show(failure, search, around, interrupted)
    sys.exit(INTERRUPTED if interrupted else EXIT_CODES[failure.result.verdict])


def _search(failure: Failure, search: Moments, jobs: int, budget_s: float | None) -> bool:
    """Run the futures within the budget; returns whether Ctrl-C ended that."""
    progress = ProgressLine()
    most = search.most * search.futures

    def line() -> str:
        done = sum(each.of for each in search.points)
        rate = done / progress.elapsed_s
        left = (most - done) / rate if done else 0.0
        if budget_s is not None:
            left = min(left, max(0.0, budget_s - progress.elapsed_s))
        ahead = f"at most {format_seconds(left)} left" if done else "time left unknown"
        return f"{done} of at most {counted(most, 'run')}  {rate:.1f}/s  {ahead}"

    running = run_futures(
        failure, search, jobs, lambda: budget_s is not None and progress.elapsed_s >= budget_s
    )
    try:
        for _ in running:
            progress.show(line)
    except KeyboardInterrupt:
        return True
    finally:
        running.close()
        progress.clear()
    return False


def _around(case: Case, search: Moments) -> told.Around | None:
    safe, after = search.last_safe, search.first_after
    if safe is None or after is None:
        return None
    return told.Around(*told_between(case, safe.at_ns, after.at_ns))


def _as_json(
    failure: Failure, search: Moments, around: told.Around | None, interrupted: bool
) -> dict[str, Any]:
    result = failure.result
    return {
        "case": failure.case.source,
        "bug": failure.case.bug,
        "verdict": result.verdict.value,
        "invariant": result.invariant,
        "finding": result.finding,
        "failed_ns": result.virtual_ns,
        **told.as_json(search, around),
        "interrupted": interrupted,
    }


def _show(failure: Failure, search: Moments, around: told.Around | None, interrupted: bool) -> None:
    result, source = failure.result, failure.case.source
    if interrupted:
        say("stopped by Ctrl-C; what was done until then:")
    kind = result.verdict.value
    say(f"{source}: {kind}, {result.invariant}, after {moment(result.virtual_ns)}")
    runs = counted(sum(each.of for each in search.points), "future")
    say(f"{runs}, {search.futures} from each of {counted(len(search.points), 'moment')}:")
    click.echo("\n".join(told.curve(search, result.virtual_ns)))
    say(f"# fail like that by {moment(failure.horizon_ns)}, + fail like that later, . do not")
    for line in told.conclusion(search, failure.case.bug):
        say(line)
    if around is not None:
        for line in told.told_around(around):
            say(line, " " * 4)
    safe = search.last_safe
    if safe is not None:
        at = f"--at {safe.at_ns}ns --redraw 1"
        say(f"one of these futures: {PROGRAM} fork {source} {at} -o fork.toml")
