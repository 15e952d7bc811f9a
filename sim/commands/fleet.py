"""The command ``fleet``: many seeds over all cores, and what they reached and found together."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import count, islice
from operator import itemgetter
from typing import Final, TypeAlias

import click

from segments.protocol.errors import Invalid
from sim.bugs import planted
from sim.check.blame import asks_to_stop, described
from sim.commands.canaries import EVERY, Canaries, canaries_for
from sim.commands.case import check_bug, knob_arguments, knob_option
from sim.commands.exit_codes import EXIT_CODES, HELP, INTERRUPTED, PASSED, UNDECIDED
from sim.commands.progress import ProgressLine
from sim.commands.worker_pool import close_pool, worker_pool
from sim.durations import duration_option, format_seconds
from sim.files.expectations import conclude
from sim.files.knob_edits import edited, with_knobs
from sim.plan.generate import generate
from sim.plan.schedule import Knobs
from sim.run import Verdict, run
from sim.show.tally import SeedResult, Tally, as_json, report
from sim.wording import counted, say

Work: TypeAlias = Callable[[int, str | None], SeedResult]
"""Done with one seed, and the name of a bug to plant; what a worker can find by its name."""

_POLL_S: Final = 0.2


# ---- one seed, in a worker -----------------------------------------------------------------------


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


# ---- all of them ---------------------------------------------------------------------------------


def results(
    seeds: Iterator[int],
    jobs: int,
    bug: str | None,
    until: Callable[[], bool],
    *,
    ahead: bool = True,
    work: Work = run_seed,
) -> Generator[SeedResult | None, None, None]:
    """Run ``seeds`` in ``jobs`` processes until they end or ``until`` says so.

    Yields each result as it comes, and None now and then while there is none. Seeds that have begun
    are always finished, unless the iterator is closed. One at a time and in order if ``jobs`` is 0.
    With ``ahead``, seeds wait for a free process, so that none idles; they count as begun. ``work``
    is what is done with each. When a process dies, those seeds that may have been in it are run
    again, each in a process of its own: the ones that end it again are internal errors.
    """
    if jobs == 0:
        for seed in seeds:
            if until():
                return
            yield work(seed, bug)
        return
    pool = worker_pool(jobs)
    running: dict[Future[SeedResult], int] = {}
    suspects: list[int] = []
    most = 2 * jobs if ahead else jobs
    try:
        while True:
            if suspects:
                close_pool(pool, list(running))
                suspects += running.values()
                running.clear()
                for seed in sorted(suspects):
                    yield _alone(work, seed, bug)
                suspects.clear()
                pool = worker_pool(jobs)
            if not until():
                for seed in islice(seeds, most - len(running)):
                    try:
                        running[pool.submit(work, seed, bug)] = seed
                    except BrokenProcessPool:
                        suspects.append(seed)
            if not running and not suspects:
                return
            done, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            for seed, each in sorted(
                [(running.pop(each), each) for each in done], key=itemgetter(0)
            ):
                try:
                    yield each.result()
                except BrokenProcessPool:
                    suspects.append(seed)
            if not done:
                yield None
    finally:
        close_pool(pool, list(running))


def _alone(work: Work, seed: int, bug: str | None) -> SeedResult:
    """Run a seed in a process of its own, which it may end."""
    pool = worker_pool(1)
    future = pool.submit(work, seed, bug)
    try:
        return future.result()
    except BrokenProcessPool:
        return failed(seed, f"seed {seed} has ended the process that ran it")
    finally:
        close_pool(pool, [future])


# ---- what is shown -------------------------------------------------------------------------------


class Progress(ProgressLine):
    """How far a fleet is."""

    def __init__(self, total: int | None, budget_s: float | None) -> None:
        super().__init__()
        self._total = total
        self._budget_s = budget_s

    def line(self, tally: Tally) -> str:
        """How far it is, from what is known so far."""
        elapsed = self.elapsed_s
        done = counted(tally.seeds, "seed")
        if self._total is not None:
            done = f"{tally.seeds}/{counted(self._total, 'seed')}"
        return (
            f"{done}  {tally.seeds / elapsed:.1f}/s  {counted(tally.commits, 'commit')}  "
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
@click.option("--seeds", type=click.IntRange(1), metavar="N", help="How many; 100 by default.")
@click.option("--start", type=click.IntRange(0), default=0, metavar="S", help="The first seed.")
@click.option(
    "--jobs", metavar="N", type=click.IntRange(1, 512), default=lambda: os.cpu_count() or 1,
    show_default="all cores", help="How many processes.",
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
def command(
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
    work = partial(run_seed, knobs=knobs, canaries=canaries)

    def over() -> bool:
        late = budget is not None and progress.elapsed_s >= budget
        return late or (stop and bool(tally.findings))

    interrupted = False
    running = results(drawn, min(jobs, seeds or jobs), bug, over, ahead=not stop, work=work)
    try:
        for result in running:
            if result is not None:
                tally.add(result)
            progress.show(lambda: progress.line(tally))
    except KeyboardInterrupt:
        interrupted = True
    finally:
        running.close()
        progress.clear()
    wall_s = progress.elapsed_s
    if wants_json:
        found = {**as_json(tally, wall_s, bug, knobs), "interrupted": interrupted}
        click.echo(json.dumps(found, indent=2))
    else:
        if interrupted:
            say("stopped by Ctrl-C; what was done until then:")
        say(report(tally, wall_s, bug, knob_arguments(knobs)))
    code = EXIT_CODES[tally.verdict]
    sys.exit(INTERRUPTED if interrupted and code in (PASSED, UNDECIDED) else code)
