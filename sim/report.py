"""What a run has shown, as data: for a person by `sim.report_text`, for a program as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Final

import attrs

from sim.episodes import Episode, episodes_of
from sim.expectations import (
    Ends,
    Evidence,
    Expectation,
    Judgement,
    answers_between,
    is_write,
    longest_stall,
    spans_of,
)
from sim.history import Call, Outcome
from sim.knob_tables import knob_values
from sim.watch import Watch
from sim.world import RunResult, Verdict, World

NOTHING_HAPPENED: Final = "nothing was acknowledged, so this run proves nothing"
UNMET: Final = "expectation"
"""Stands for the invariant where a scenario's own expectation was not met."""


@attrs.frozen
class Latencies:
    """Of one kind of call, in nanoseconds of virtual time."""

    count: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    max_ns: int

    @classmethod
    def of(cls, calls: Sequence[Call]) -> Latencies:
        """Those of the calls that have returned."""
        times = sorted(
            each.returned_ns - each.invoked_ns for each in calls if each.returned_ns is not None
        )
        ranks = (percentile(times, share) for share in (0.5, 0.9, 0.99, 1.0))
        return cls(len(times), *ranks)


def percentile(ascending: Sequence[int], share: float) -> int:
    """The smallest value that at least ``share`` of them do not exceed; 0 if there are none."""
    return ascending[max(0, ceil(share * len(ascending)) - 1)] if ascending else 0


@attrs.frozen(kw_only=True)
class FaultEffect:
    """What one fault did while it lasted."""

    episode: Episode
    lost_messages: int
    """Messages to and from those it hit that did not arrive on account of faults."""
    commits: int
    """Commits acknowledged meanwhile."""
    write_stall_ns: int
    read_stall_ns: int
    opened_after_ns: int | None = None
    """For a recovery: how long until a writer had opened the volume; None if it never did."""


@attrs.frozen(kw_only=True)
class Report:
    """Everything that is told about one run."""

    result: RunResult
    verdict: Verdict
    """The result's, unless an expectation or the lack of any commit speaks against it."""
    invariant: str
    finding: str
    commits: Latencies
    reads: Latencies
    outcomes: Mapping[str, int]
    """How many writes and reads ended how."""
    effects: Sequence[FaultEffect]
    judgements: Sequence[Judgement]
    lost_messages: Mapping[str, int]
    events: int
    """Events in the trace."""
    real_s: float
    command: str
    """What runs it again."""
    facts: Mapping[str, Any] = attrs.field(factory=dict)
    """What else a special kind of run has to say."""

    @property
    def speed(self) -> float:
        """Seconds simulated in one real second."""
        return self.result.virtual_ns / 1e9 / max(self.real_s, 1e-9)

    @property
    def messages_per_second(self) -> float:
        """Messages simulated in one real second."""
        return self.result.messages / max(self.real_s, 1e-9)


def make_report(
    world: World,
    result: RunResult,
    watch: Watch,
    *,
    expectations: Sequence[Expectation] = (),
    real_s: float,
    command: str,
) -> Report:
    """Judge a run that has ended."""
    writes = [each for each in result.calls if is_write(each)]
    reads = [each for each in result.calls if not is_write(each)]
    evidence = Evidence(result, tuple(world.cluster.lost_segments()))
    judgements = [each.judge(evidence) for each in expectations]
    verdict, invariant, finding = _conclusion(result, expectations, judgements)
    answered = (Outcome.OK, Outcome.NOT_FOUND)
    return Report(
        result=result,
        verdict=verdict,
        invariant=invariant,
        finding=finding,
        commits=Latencies.of([each for each in writes if each.outcome is Outcome.OK]),
        reads=Latencies.of([each for each in reads if each.outcome in answered]),
        outcomes=_outcomes(writes, reads),
        effects=_effects(result, watch),
        judgements=judgements,
        lost_messages={str(why): n for why, n in world.network.statistics().lost.items()},
        events=world.trace.events,
        real_s=real_s,
        command=command,
    )


def _conclusion(
    result: RunResult, expectations: Sequence[Expectation], judgements: Sequence[Judgement]
) -> tuple[Verdict, str, str]:
    """Verdict, invariant and finding, after the scenario's own expectations."""
    unmet = [each for each in judgements if not each.met]
    expected_end = any(isinstance(each, Ends) for each in expectations)
    if result.verdict is not Verdict.PASSED and not (expected_end and not unmet):
        return result.verdict, result.invariant, result.finding
    if unmet:
        text = "; ".join(f"expected {each.expected}: found {each.found}" for each in unmet)
        return Verdict.VIOLATION, UNMET, text
    if result.verdict is Verdict.PASSED and result.commits == 0:
        return Verdict.UNDECIDED, "undecided", NOTHING_HAPPENED
    return Verdict.PASSED, "", ""


def _outcomes(writes: Sequence[Call], reads: Sequence[Call]) -> dict[str, int]:
    found: dict[str, int] = {}
    for what, calls in (("writes", writes), ("reads", reads)):
        for outcome in Outcome:
            count = sum(each.outcome is outcome for each in calls)
            if count:
                found[f"{what} {outcome.value}"] = count
    return found


def _effects(result: RunResult, watch: Watch) -> list[FaultEffect]:
    writes = spans_of(result.calls, writes=True)
    reads = spans_of(result.calls, writes=False)
    found = []
    for episode in episodes_of(result.schedule, result.virtual_ns):
        start, end, opened_after = episode.start_ns, episode.end_ns, None
        if episode.action.kind in ("recover", "take_over"):
            opened_at = next((at for at, _ in watch.opened if at > start), None)
            end = result.virtual_ns if opened_at is None else opened_at
            opened_after = None if opened_at is None else opened_at - start
        found.append(
            FaultEffect(
                episode=attrs.evolve(episode, end_ns=end),
                lost_messages=sum(
                    start <= loss[0] < end and _on_account_of(episode, loss)
                    for loss in watch.losses
                ),
                commits=answers_between(writes, start, end),
                write_stall_ns=longest_stall(writes, start, end),
                read_stall_ns=longest_stall(reads, start, end),
                opened_after_ns=opened_after,
            )
        )
    return found


def _on_account_of(episode: Episode, loss: tuple[int, str, str, str]) -> bool:
    """Whether a message lost while an episode lasted can be put down to it."""
    _, source, destination, reason = loss
    kind = episode.action.kind
    if kind in ("partition", "cut", "clog"):
        return reason == "cut"
    if kind in ("crash_writer", "recover", "take_over"):
        return source.startswith("writer") or destination.startswith("writer")
    return reason != "cut" and (source in episode.segments or destination in episode.segments)


# ---- as JSON -------------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """The report as a program wants it."""
    result = report.result
    schedule = result.schedule
    return {
        "seed": schedule.seed,
        "scenario": schedule.name,
        "knobs": knob_values(schedule.knobs, all_of_them=True),
        "verdict": report.verdict.value,
        "invariant": report.invariant,
        "finding": report.finding,
        "virtual_ns": result.virtual_ns,
        "real_s": round(report.real_s, 6),
        "simulated_per_real": round(report.speed, 3),
        "messages": result.messages,
        "messages_per_second": round(report.messages_per_second, 1),
        "messages_lost": dict(report.lost_messages),
        "commits": _latencies(report.commits),
        "reads": _latencies(report.reads),
        "outcomes": dict(report.outcomes),
        "faults": [_effect(each) for each in report.effects],
        "expectations": [attrs.asdict(each) for each in report.judgements],
        "checks": dict(result.checks),
        "marks": dict(result.marks),
        "events": report.events,
        "digest": result.digest,
        "command": report.command,
        **report.facts,
    }


def _latencies(latencies: Latencies) -> dict[str, int]:
    return attrs.asdict(latencies)


def _effect(effect: FaultEffect) -> dict[str, Any]:
    episode = effect.episode
    return {
        "number": episode.number,
        "fault": episode.action.kind,
        "target": episode.action.target,
        "params": dict(episode.action.params),
        "start_ns": episode.start_ns,
        "end_ns": episode.end_ns,
        "messages_lost": effect.lost_messages,
        "commits": effect.commits,
        "write_stall_ns": effect.write_stall_ns,
        "read_stall_ns": effect.read_stall_ns,
        "opened_after_ns": effect.opened_after_ns,
    }
