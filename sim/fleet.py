"""The command ``fleet``: many seeds over all cores, and what they reached and found together."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from hashlib import blake2b
from itertools import count, islice
from multiprocessing import get_context
from typing import Any, Final

import attrs
import click

from sim.bugs import BUGS, planted
from sim.case import check_bug
from sim.durations import duration_option, format_seconds
from sim.exit_codes import EXIT_CODES, HELP, INTERRUPTED
from sim.expectations import conclude
from sim.generate import generate
from sim.invariants import INVARIANTS
from sim.marks import MARKS
from sim.wording import WIDTH, counted
from sim.world import Verdict, World

_SHOWN_FINDINGS: Final = 10
_POLL_S: Final = 0.2
_PLAIN_EVERY_S: Final = 10.0
_PLAIN_FIRST_S: Final = 2.0
_ADJECTIVES: Final = (Verdict.PASSED, Verdict.UNDECIDED)
_WORST: Final = (Verdict.VIOLATION, Verdict.LIVENESS, Verdict.UNDECIDED)


# ---- one seed, in a worker -----------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class SeedResult:
    """What one seed came to."""

    seed: int
    verdict: Verdict
    invariant: str
    finding: str
    digest: str
    messages: int
    commits: int
    virtual_ns: int
    cpu_s: float
    """Processor time that it took."""
    marks: Mapping[str, int]
    checks: Mapping[str, int]


def run_seed(seed: int, bug: str | None = None) -> SeedResult:
    """Run the schedule of ``seed``, with ``bug`` planted."""
    started = time.process_time()
    with planted(bug):
        result = conclude(World(generate(seed)).run(), ())
    return SeedResult(
        seed=seed,
        verdict=result.verdict,
        invariant=result.invariant,
        finding=result.finding,
        digest=result.digest,
        messages=result.messages,
        commits=result.commits,
        virtual_ns=result.virtual_ns,
        cpu_s=time.process_time() - started,
        marks=result.marks,
        checks=result.checks,
    )


def _ignore_interrupts() -> None:
    # Ctrl-C reaches every process of a terminal; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# ---- all of them ---------------------------------------------------------------------------------


@attrs.define
class Tally:
    """The sum over the seeds that are done."""

    verdicts: Counter[Verdict] = attrs.field(factory=Counter)
    findings: list[SeedResult] = attrs.field(factory=list)
    """Every seed that did not pass."""
    marks: Counter[str] = attrs.field(factory=Counter)
    seeds_with: Counter[str] = attrs.field(factory=Counter)
    """Seeds that reached each mark."""
    checks: Counter[str] = attrs.field(factory=Counter)
    commits: int = 0
    messages: int = 0
    virtual_ns: int = 0
    cpu_s: float = 0.0
    digests: dict[int, str] = attrs.field(factory=dict)

    @property
    def seeds(self) -> int:
        """How many are done."""
        return self.verdicts.total()

    def add(self, result: SeedResult) -> None:
        """Count one more."""
        self.verdicts[result.verdict] += 1
        if result.verdict is not Verdict.PASSED:
            self.findings.append(result)
        self.marks.update(result.marks)
        self.seeds_with.update(result.marks.keys())
        self.checks.update(result.checks)
        self.commits += result.commits
        self.messages += result.messages
        self.virtual_ns += result.virtual_ns
        self.cpu_s += result.cpu_s
        self.digests[result.seed] = result.digest

    @property
    def digest(self) -> str:
        """Stands for every event of every seed: the same seeds give the same anywhere."""
        text = " ".join(f"{seed}:{digest}" for seed, digest in sorted(self.digests.items()))
        return blake2b(text.encode(), digest_size=8).hexdigest()

    def unreached(self) -> list[str]:
        """The marks that no seed has reached."""
        return [name for name in MARKS if name not in self.marks]

    def exit_code(self) -> int:
        """That of the worst verdict."""
        worst = next((each for each in _WORST if self.verdicts[each]), Verdict.PASSED)
        return EXIT_CODES[worst]


def results(
    seeds: Iterator[int],
    jobs: int,
    bug: str | None,
    until: Callable[[], bool],
    *,
    ahead: bool = True,
) -> Generator[SeedResult | None, None, None]:
    """Run ``seeds`` in ``jobs`` processes until they end or ``until`` says so.

    Yields each result as it comes, and None now and then while there is none. Seeds that have begun
    are always finished, unless the iterator is closed. One at a time and in order if ``jobs`` is 0.
    With ``ahead``, seeds wait for a free process, so that none idles; they count as begun.
    """
    if jobs == 0:
        for seed in seeds:
            if until():
                return
            yield run_seed(seed, bug)
        return
    executor = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_ignore_interrupts
    )
    running: set[Future[SeedResult]] = set()
    most = 2 * jobs if ahead else jobs
    try:
        while True:
            if not until():
                for seed in islice(seeds, most - len(running)):
                    running.add(executor.submit(run_seed, seed, bug))
            if not running:
                return
            done, running = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            yield from sorted((each.result() for each in done), key=lambda result: result.seed)
            if not done:
                yield None
    finally:
        executor.shutdown(wait=not running, cancel_futures=True)
        if running:  # closed early: what still runs is of no use to anybody
            for process in list((executor._processes or {}).values()):
                process.terminate()


# ---- what is shown -------------------------------------------------------------------------------


class Progress:
    """One line on the standard error: rewritten on a terminal, now and then elsewhere."""

    def __init__(self, total: int | None, budget_s: float | None) -> None:
        self._total = total
        self._budget_s = budget_s
        self._started = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._next = self._started + (_POLL_S if self._terminal else _PLAIN_FIRST_S)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def show(self, tally: Tally) -> None:
        """Show how far it is, if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (_POLL_S if self._terminal else _PLAIN_EVERY_S)
        line = self._line(tally)
        click.echo(f"\r{line:<79}" if self._terminal else line, err=True, nl=not self._terminal)

    def clear(self) -> None:
        """Take the line away."""
        if self._terminal:
            click.echo(f"\r{'':<79}\r", err=True, nl=False)

    def _line(self, tally: Tally) -> str:
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


def report(tally: Tally, wall_s: float, bug: str | None) -> str:
    """All that a fleet has shown, as text."""
    virtual_s, cpu_s = tally.virtual_ns / 1e9, max(tally.cpu_s, 1e-9)
    verdicts = ", ".join(
        f"{number:,} {each.value}" if each in _ADJECTIVES else counted(number, each.value)
        for each, number in tally.verdicts.items()
    )
    amounts = (
        (tally.commits, "commit"),
        (tally.messages, "message"),
        (tally.checks.total(), "check"),
    )
    lines = [
        f"{counted(tally.seeds, 'seed')} in {format_seconds(wall_s)}: {verdicts or 'none'}",
        "  " + ", ".join(counted(number, noun) for number, noun in amounts),
        f"  {tally.messages / cpu_s:,.0f} messages/s and core",
        f"  {virtual_s:,.2f} s simulated in {cpu_s:,.2f} s: {virtual_s / cpu_s:.2f} to 1",
        f"  digest of all seeds {tally.digest}",
        "marks reached (times, seeds):",
    ]
    lines += [
        f"  {name:<34}{tally.marks[name]:>9,}{tally.seeds_with[name]:>8,}"
        for name in MARKS
        if name in tally.marks
    ]
    missing = tally.unreached()
    text = f"marks that no seed reached: {', '.join(missing) or 'none'}"
    lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    lines += _finding_lines(tally, bug)
    return "\n".join(lines)


def _finding_lines(tally: Tally, bug: str | None) -> list[str]:
    found = sorted(tally.findings, key=lambda each: each.seed)
    if not found:
        return ["no findings" if bug is None else _unseen(bug)]
    lines = [f"{counted(len(found), 'finding')}:"]
    planted_bug = f" --bug {bug}" if bug else ""
    for each in found[:_SHOWN_FINDINGS]:
        what = f"--seed {each.seed}{planted_bug}"
        rule = INVARIANTS.get(each.invariant)
        text = each.finding.splitlines()[0] if each.finding else ""
        lines += [
            f"  seed {each.seed}: {each.verdict.value}, {each.invariant}",
            f"    {text}",
            *([f"    the rule: {rule.text}"] if rule else []),
            f"    python -m aurora.sim explain {what}",
            f"    python -m aurora.sim shrink {what} -o seed-{each.seed}.toml",
        ]
    if len(found) > _SHOWN_FINDINGS:
        rest = ", ".join(str(each.seed) for each in found[_SHOWN_FINDINGS:])
        more = "seed" if len(found) == _SHOWN_FINDINGS + 1 else "seeds"
        lines += textwrap.wrap(
            f"and {more} {rest}", WIDTH, initial_indent="  ", subsequent_indent="    "
        )
    return lines


def _unseen(bug: str) -> str:
    """How to see a bug that no seed has found."""
    if BUGS[bug].directed is None:
        return "not found by these seeds"
    return (
        "not found by these seeds; its own schedule:\n"
        f"  python -m aurora.sim bugs scenario {bug} > {bug}.toml\n"
        f"  python -m aurora.sim run {bug}.toml"
    )


def as_json(tally: Tally, wall_s: float, bug: str | None) -> dict[str, Any]:
    """The same for programs."""
    return {
        "seeds": tally.seeds,
        "bug": bug,
        "verdicts": {each.value: number for each, number in tally.verdicts.items()},
        "commits": tally.commits,
        "messages": tally.messages,
        "virtual_s": tally.virtual_ns / 1e9,
        "wall_s": wall_s,
        "cpu_s": tally.cpu_s,
        "digest": tally.digest,
        "checks": dict(sorted(tally.checks.items())),
        "marks": {name: tally.marks[name] for name in MARKS if name in tally.marks},
        "unreached_marks": tally.unreached(),
        "findings": [
            {
                "seed": each.seed,
                "verdict": each.verdict.value,
                "invariant": each.invariant,
                "finding": each.finding,
                "digest": each.digest,
            }
            for each in sorted(tally.findings, key=lambda each: each.seed)
        ],
    }


# ---- the command ---------------------------------------------------------------------------------


@click.command("fleet", epilog=HELP)
@click.option("--seeds", type=click.IntRange(1), metavar="N", help="How many; 100 by default.")
@click.option("--start", type=click.IntRange(0), default=0, metavar="S", help="The first seed.")
@click.option(
    "--jobs", type=click.IntRange(1, 512), default=lambda: os.cpu_count() or 1,
    show_default="all cores", help="Processes.",
)  # fmt: skip
@click.option(
    "--budget", callback=duration_option, metavar="TIME",
    help="Begin no seed after this long (60s, 5m, 2h). Without --seeds: as many as fit.",
)  # fmt: skip
@click.option("--stop", is_flag=True, help="Begin no seed after a finding.")
@click.option("--json", "wants_json", is_flag=True, help="Print the report as JSON.")
@click.option("--bug", metavar="NAME", help="Plant one of the deliberate bugs first.")
def command(
    seeds: int | None,
    start: int,
    jobs: int,
    budget: float | None,
    stop: bool,
    wants_json: bool,
    bug: str | None,
) -> None:
    """Run many seeds over all cores.

    Each seed has its own shape, faults and rates. Ctrl-C stops it, and what is done is reported. A
    finding ends with the commands that explain it and cut it down.
    """
    check_bug(bug)
    if seeds is None and budget is None:
        seeds = 100
    drawn = iter(count(start) if seeds is None else range(start, start + seeds))
    progress, tally = Progress(seeds, budget), Tally()

    def over() -> bool:
        late = budget is not None and progress.elapsed_s >= budget
        return late or (stop and bool(tally.findings))

    interrupted = False
    running = results(drawn, min(jobs, seeds or jobs), bug, over, ahead=not stop)
    try:
        for result in running:
            if result is not None:
                tally.add(result)
            progress.show(tally)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        running.close()
        progress.clear()
    wall_s = progress.elapsed_s
    if wants_json:
        click.echo(json.dumps({**as_json(tally, wall_s, bug), "interrupted": interrupted}))
    else:
        if interrupted:
            click.echo("stopped by Ctrl-C; what was done until then:")
        click.echo(report(tally, wall_s, bug))
    sys.exit(tally.exit_code() or (INTERRUPTED if interrupted else 0))
