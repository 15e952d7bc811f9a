"""The command ``fleet``: many seeds over all cores, and what they reached and found together."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Generator, Sequence
from itertools import count
from typing import Final

import attrs
import click

from aurora.terminal.integers import Integer
from segments.protocol.errors import Invalid
from sim.bugs import planted
from sim.check.blame import asks_to_stop, described
from sim.commands.canaries import EVERY, Canaries, canaries_for
from sim.commands.case import check_bug, knob_arguments, knob_option
from sim.commands.exit_codes import EXIT_CODES, HELP, INTERRUPTED, PASSED, UNDECIDED
from sim.commands.progress import ProgressLine
from sim.commands.scheduler_options import Scheduler, open_crew, scheduler_options
from sim.commands.second_look import as_json as looks_as_json
from sim.commands.second_look import look_again, look_lines
from sim.crews.crew import CrewGone, Done, spread
from sim.durations import duration_option, format_seconds
from sim.files.expectations import conclude
from sim.files.knob_edits import edited, with_knobs
from sim.plan.generate import generate
from sim.plan.schedule import Knobs
from sim.run import Verdict, run
from sim.show.tally import SeedResult, Tally, as_json, report
from sim.wording import counted, say

_SEED_S: Final = 0.5
"""About what a seed takes, until it is measured."""


# ---- one seed, in a process of its own -----------------------------------------------------------


@attrs.frozen
class SeedWork:
    """What a fleet does with each seed."""

    bug: str | None = None
    """A bug to plant first."""
    knobs: tuple[str, ...] = ()
    canaries: Canaries | None = None

    def __call__(self, seed: int) -> SeedResult:
        return run_seed(seed, self.bug, knobs=self.knobs, canaries=self.canaries)

    def given_up(self, seed: int, why: str) -> SeedResult:
        """What a seed has come to that nobody can run."""
        return failed(seed, f"seed {seed} {why}")


def run_seed(
    seed: int,
    bug: str | None = None,
    *,
    knobs: Sequence[str] = (),
    canaries: Canaries | None = None,
) -> SeedResult:
    """Run the schedule of ``seed``, with ``bug`` planted and ``knobs`` turned.

    A seed that cannot be with these knobs is undecided. Beside it there may be a canary. Raises
    nothing that concerns this seed alone: a failure of the simulator is a result, too.
    """
    started = time.process_time()
    try:
        try:
            schedule = with_knobs(generate(seed), knobs)
        except Invalid as error:
            return undecided(seed, f"it cannot be with these knobs: {error}")
        with planted(bug):
            result = conclude(run(schedule), ())
        cpu_s = time.process_time() - started
        canary = canaries.beside(seed) if canaries else None
    except BaseException as error:  # the other seeds go on
        if asks_to_stop(error):
            raise
        return failed(seed, described(error), time.process_time() - started)
    return SeedResult(
        seed=seed,
        verdict=result.verdict,
        invariant=result.invariant,
        finding=result.finding,
        digest=result.digest,
        messages=result.messages,
        commits=result.commits,
        virtual_ns=result.virtual_ns,
        cpu_s=cpu_s,
        marks=result.marks,
        checks=result.checks,
        canary=canary,
    )


def undecided(seed: int, why: str) -> SeedResult:
    """What a seed has come to that shows nothing either way."""
    kind = Verdict.UNDECIDED
    return SeedResult(seed=seed, verdict=kind, invariant=kind.value, finding=why)


def failed(seed: int, why: str, cpu_s: float = 0.0) -> SeedResult:
    """What a seed has come to that shows nothing, as the simulator itself failed."""
    return SeedResult(
        seed=seed,
        verdict=Verdict.INTERNAL,
        invariant=Verdict.INTERNAL.value,
        finding=why,
        cpu_s=cpu_s,
    )


# ---- what is shown -------------------------------------------------------------------------------


class Progress(ProgressLine):
    """How far a fleet is."""

    def __init__(self, total: int | None, budget_s: float | None) -> None:
        super().__init__()
        self._total = total
        self._budget_s = budget_s

    def line(self, tally: Tally, strength: str) -> str:
        """How far it is, from what is known so far; ``strength`` is who works elsewhere."""
        elapsed = self.elapsed_s
        done = counted(tally.seeds, "seed")
        if self._total is not None:
            done = f"{tally.seeds}/{counted(self._total, 'seed')}"
        second = strength or counted(tally.commits, "commit")
        return (
            f"{done}  {tally.seeds / elapsed:.1f}/s  {second}  "
            f"{counted(len(tally.findings), 'finding')}  {self._left(tally, elapsed)}"
        )

    def _left(self, tally: Tally, elapsed: float) -> str:
        """What is left, as far as it can be told from the seeds done so far."""
        bounds = []
        if self._budget_s is not None:
            bounds.append(self._budget_s - elapsed)
        if self._total is not None and tally.seeds:
            bounds.append((self._total - tally.seeds) * elapsed / tally.seeds)
        if not bounds:
            return "until stopped" if self._total is None else "time left unknown"
        return f"{format_seconds(max(0.0, min(bounds)))} left"


# ---- the command ---------------------------------------------------------------------------------


@click.command("fleet", epilog=HELP)
@click.option("--seeds", type=Integer(1), metavar="N", help="How many; 100 by default.")
@click.option("--start", type=Integer(0), default=0, metavar="S", help="The first seed.")
@click.option(
    "--jobs", metavar="N", type=Integer(1, 512), default=lambda: os.cpu_count() or 1,
    show_default="all cores", help="How many processes; with --scheduler to run findings again.",
)  # fmt: skip
@click.option(
    "--budget", callback=duration_option, metavar="TIME",
    help="Begin no seed after this long (60s, 5m, 2h). Without --seeds: as many as fit.",
)  # fmt: skip
@click.option("--stop", is_flag=True, help="Begin no seed after a finding.")
@click.option("--json", "wants_json", is_flag=True, help="Print the report as JSON.")
@click.option("--bug", metavar="NAME", help="Plant one of the deliberate bugs first.")
@click.option(
    "--canary/--no-canary", default=None,
    help=f"Plant a bug now and then, which must be found; by default from {EVERY} seeds on.",
)  # fmt: skip
@knob_option
@scheduler_options
def command(
    scheduler: Scheduler | None,
    seeds: int | None,
    start: int,
    jobs: int,
    budget: float | None,
    stop: bool,
    wants_json: bool,
    bug: str | None,
    canary: bool | None,
    knobs: tuple[str, ...],
) -> None:
    """Run many seeds over all cores.

    Each seed has its own shape, faults and rates. Ctrl-C stops it, and what is done is reported. A
    finding ends with the commands that explain it and cut it down. In a large fleet canaries, bugs
    planted on purpose, must be found: if one is not, a fleet without findings is undecided.
    """
    check_bug(bug)
    edited(Knobs(), knobs)
    if bug is not None and canary:
        raise click.UsageError("--canary: expected no --bug beside it, which is one itself")
    if seeds is None and budget is None:
        seeds = 100
    drawn = iter(count(start) if seeds is None else range(start, start + seeds))
    progress, tally = Progress(seeds, budget), Tally()
    wanted = False if bug is not None else canary
    canaries = canaries_for(wanted, seeds=seeds, start=start, budget_s=budget, knobs=knobs)
    work = SeedWork(bug, knobs, canaries)

    def left_s() -> float | None:
        return None if budget is None else max(0.0, budget - progress.elapsed_s)

    def over() -> bool:
        return left_s() == 0.0 or (stop and bool(tally.findings))

    crew = open_crew(
        scheduler, work, jobs=min(jobs, seeds or jobs), item_s=_SEED_S, left_s=left_s,
        progress=progress,
    )  # fmt: skip
    stopped, ran_by = _sum_up(spread(drawn, work, crew, over), tally, progress, crew.strength)
    wall_s = progress.elapsed_s
    alone = attrs.evolve(work, canaries=None)
    looks = look_again(tally, ran_by, alone, 0 if stopped else jobs)
    if wants_json:
        found = as_json(tally, wall_s, bug, knobs) | {"interrupted": bool(stopped)}
        click.echo(json.dumps(found | looks_as_json(looks), indent=2))
    else:
        if stopped:
            say(f"stopped {stopped}; what was done until then:")
        options = knob_arguments(knobs)
        asked = [*(["--bug", bug] if bug else []), *options]
        say("\n".join([report(tally, wall_s, bug, options), *look_lines(looks, asked)]))
    code = EXIT_CODES[tally.verdict]
    sys.exit(INTERRUPTED if stopped and code in (PASSED, UNDECIDED) else code)


def _sum_up(
    running: Generator[Done[int, SeedResult] | None, None, None],
    tally: Tally,
    progress: Progress,
    strength: Callable[[], str],
) -> tuple[str, dict[int, str]]:
    """Add what comes to ``tally``; returns what has ended it early, and who ran each finding.

    The first is empty if nothing has, the second knows only findings of other machines. Raises
    `CrewGone` if nothing has been done at all.
    """
    ran_by: dict[int, str] = {}
    try:
        for done in running:
            if done is not None:
                tally.add(done.result)
                if done.by and done.result.verdict is not Verdict.PASSED:
                    ran_by[done.item] = done.by
            progress.show(lambda: progress.line(tally, strength()))
    except KeyboardInterrupt:
        return "by Ctrl-C", ran_by
    except CrewGone as error:
        if not tally.seeds:
            raise
        return f"as {error}", ran_by
    finally:
        running.close()
        progress.clear()
    return "", ran_by
