"""What many seeds came to together: their sum, and how it is told to people and to programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import attrs

from sim.bugs import BUGS
from sim.check.invariants import INVARIANTS
from sim.check.marks import MARKS
from sim.durations import format_seconds, length
from sim.run import Verdict
from sim.wording import command_line, counted

_SHOWN_SEEDS: Final = 50
_NAMED_MARKS: Final = 24
_WIDEST: Final = max(len(name) for name in MARKS)
_ADJECTIVES: Final = (Verdict.PASSED, Verdict.UNDECIDED)
_WORST: Final = (Verdict.VIOLATION, Verdict.LIVENESS, Verdict.INTERNAL, Verdict.UNDECIDED)


@attrs.frozen
class Canary:
    """A bug that was planted on purpose beside a fleet's seed, and tried until it was found."""

    bug: str
    first_seed: int
    """Seeds were tried from here on."""
    found_by: int | None
    """The seed that failed; None if none of those tried did: then a fleet's silence is worth
    nothing."""
    invariant: str
    """What broke."""
    cpu_s: float


@attrs.frozen(kw_only=True)
class SeedResult:
    """What one seed came to."""

    seed: int
    verdict: Verdict
    invariant: str
    finding: str
    digest: str = ""
    messages: int = 0
    commits: int = 0
    virtual_ns: int = 0
    cpu_s: float = 0.0
    """Processor time that it took."""
    marks: Mapping[str, int] = attrs.field(factory=dict)
    checks: Mapping[str, int] = attrs.field(factory=dict)
    canary: Canary | None = None
    """What became of the canary beside this seed, if it has one."""


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
    canaries: list[Canary] = attrs.field(factory=list)

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
        if result.canary is not None:
            self.canaries.append(result.canary)

    @property
    def digest(self) -> str:
        """Stands for every event of every seed: the same seeds give the same anywhere."""
        text = " ".join(f"{seed}:{digest}" for seed, digest in sorted(self.digests.items()))
        return blake2b(text.encode(), digest_size=8).hexdigest()

    def unreached(self) -> list[str]:
        """The marks that no seed has reached."""
        return [name for name in MARKS if name not in self.marks]

    @property
    def missed_canaries(self) -> list[Canary]:
        """Those that no seed has found."""
        return [each for each in self.canaries if each.found_by is None]

    def fastest(self) -> dict[tuple[Verdict, str], SeedResult]:
        """For each way to fail the seed that shows it with the least: the easiest to read.

        That with the fewest messages; of several with as many, the one that takes the least virtual
        time, and then the lowest.
        """
        found: dict[tuple[Verdict, str], SeedResult] = {}
        for each in sorted(self.findings, key=lambda e: (e.messages, e.virtual_ns, e.seed)):
            found.setdefault((each.verdict, each.invariant), each)
        return found

    @property
    def verdict(self) -> Verdict:
        """The worst of all; undecided if no seed was run, or if a canary was not found."""
        shown = self.seeds and not self.missed_canaries
        none = Verdict.PASSED if shown else Verdict.UNDECIDED
        return next((each for each in _WORST if self.verdicts[each]), none)


def report(tally: Tally, wall_s: float, bug: str | None, options: Sequence[str] = ()) -> str:
    """All that a fleet has shown, as text; its commands have these ``options`` besides."""
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
        f"  {name:<{_WIDEST}}{tally.marks[name]:>9,}{tally.seeds_with[name]:>8,}"
        for name in MARKS
        if name in tally.marks
    ]
    lines += [f"marks that no seed reached: {_named(tally.unreached())}"]
    options = [*(["--bug", bug] if bug else []), *options]
    return "\n".join([*lines, *_canary_lines(tally), *_finding_lines(tally, bug, options)])


def _canary_lines(tally: Tally) -> list[str]:
    """What became of the canaries; loud if one was not found."""
    lines = []
    for bug in sorted({each.bug for each in tally.canaries}):
        some = sorted((e for e in tally.canaries if e.bug == bug), key=lambda e: e.first_seed)
        found = [each for each in some if each.found_by is not None]
        if found:
            times = f", {len(found)} times of {len(some)}" if len(some) > 1 else ""
            first = found[0]
            lines.append(
                f"canary {bug}: found at seed {first.found_by} by {first.invariant}{times}"
            )
        lines += [
            f"CANARY NOT FOUND: {each.bug}, planted on purpose, failed no seed from "
            f"{each.first_seed} on"
            for each in some
            if each.found_by is None
        ]
    if tally.missed_canaries:
        lines.append("  so it means nothing that this fleet has found nothing else")
    return lines


def _named(missing: list[str]) -> str:
    """Those marks, unless they are so many that a few seeds more would reach most of them."""
    if len(missing) > _NAMED_MARKS:
        return f"{len(missing)} of {len(MARKS)}; with --json by name"
    return ", ".join(missing) or "none"


def _finding_lines(tally: Tally, bug: str | None, options: Sequence[str]) -> list[str]:
    """One paragraph for each invariant that broke: its seeds, and what the fastest has found."""
    found = sorted(tally.findings, key=lambda each: each.seed)
    if not found:
        if not tally.seeds:
            return ["no seed was run: this shows nothing"]
        return ["no findings" if bug is None else _unseen(bug)]
    groups: dict[tuple[Verdict, str], list[SeedResult]] = {}
    for each in found:
        groups.setdefault((each.verdict, each.invariant), []).append(each)
    lines = [f"{counted(len(found), 'finding')}:"]
    for (verdict, invariant), some in groups.items():
        fastest, rule = tally.fastest()[verdict, invariant], INVARIANTS.get(invariant)
        seeds = ", ".join(str(each.seed) for each in some[:_SHOWN_SEEDS])
        if len(some) > _SHOWN_SEEDS:
            seeds += f" and {len(some) - _SHOWN_SEEDS:,} more"
        what = ["--seed", str(fastest.seed), *options]
        small = f"seed-{fastest.seed}.toml"
        kind = verdict.value if invariant == verdict.value else f"{verdict.value}, {invariant}"
        lines += [
            f"  {kind}: {'seed' if len(some) == 1 else 'seeds'} {seeds}",
            *([f"    {_amounts(fastest)}"] if len(some) > 1 else []),
            f"    {fastest.finding.partition(chr(10))[0]}",
            *([f"    the rule: {rule.text}"] if rule else []),
            f"    {command_line('explain', *what)}",
            f"    {command_line('shrink', *what, '-o', small)}",
        ]
    return lines


def _amounts(fastest: SeedResult) -> str:
    messages = counted(fastest.messages, "message")
    return f"the fastest: seed {fastest.seed}, after {messages} and {length(fastest.virtual_ns)}"


def _unseen(bug: str) -> str:
    """How to see a bug that no seed has found."""
    if BUGS[bug].directed is None:
        return "not found by these seeds"
    return (
        "not found by these seeds; its own schedule:\n"
        f"  {command_line('bugs', 'scenario', bug)} > {bug}.toml\n"
        f"  {command_line('run', f'{bug}.toml')}"
    )


def as_json(
    tally: Tally, wall_s: float, bug: str | None, knobs: Sequence[str] = ()
) -> dict[str, Any]:
    """The same for programs."""
    return {
        "seeds": tally.seeds,
        "bug": bug,
        "knobs": list(knobs),
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
                "messages": each.messages,
                "virtual_ns": each.virtual_ns,
            }
            for each in sorted(tally.findings, key=lambda each: each.seed)
        ],
        "fastest": [each.seed for each in tally.fastest().values()],
        "canaries": [attrs.asdict(each) for each in tally.canaries],
        "canaries_missed": len(tally.missed_canaries),
    }
