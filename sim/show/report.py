"""What a run has shown, as data: for a person by `sim.show.report_text`, for a program as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import attrs

from aurora.targets import WRITER
from segments.protocol.ids import Address, SegmentId
from sim.files.expectations import (
    Expectation,
    Judgement,
    answers_between,
    conclude,
    is_read,
    is_write,
    longest_stall,
    shown,
    spans_of,
)
from sim.files.knob_tables import knob_values
from sim.plan.episodes import Episode, episodes_of, names
from sim.plan.schedule import Action
from sim.run import RunResult, Verdict
from sim.show.returns import victims_of
from sim.show.watch import Watch
from sim.world.history import Call, Outcome
from sim.world.no_effect import WithoutEffect
from sim.world.world import World


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
    back_ns: Mapping[Address, int | None]
    """When each victim was back in service, see `returns`; None if it was not by the end."""
    lost: Sequence[SegmentId] = ()
    """The victims whose disks were lost in the run, by this fault or another."""


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
    reads = [each for each in result.calls if is_read(each)]
    others = [each for each in result.calls if not is_write(each) and not is_read(each)]
    judgements = [each.judge(shown(result)) for each in expectations]
    concluded = conclude(result, expectations)
    answered = (Outcome.OK, Outcome.NOT_FOUND)
    return Report(
        result=result,
        verdict=concluded.verdict,
        invariant=concluded.invariant,
        finding=concluded.finding,
        commits=Latencies.of([each for each in writes if each.outcome is Outcome.OK]),
        reads=Latencies.of([each for each in reads if each.outcome in answered]),
        outcomes=_outcomes(("writes", writes), ("reads", reads), ("other calls", others)),
        effects=_effects(result, watch),
        judgements=judgements,
        lost_messages={str(why): n for why, n in world.network.statistics().lost.items()},
        events=world.trace.events,
        real_s=real_s,
        command=command,
    )


def _outcomes(*kinds: tuple[str, Sequence[Call]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for what, calls in kinds:
        for outcome in Outcome:
            count = sum(each.outcome is outcome for each in calls)
            if count:
                found[f"{what} {outcome.value}"] = count
    return found


def _effects(result: RunResult, watch: Watch) -> list[FaultEffect]:
    writes = spans_of(result.calls, writes=True)
    reads = spans_of(result.calls, writes=False)
    pg_count = result.schedule.knobs.pg_count
    found = []
    for episode in episodes_of(result.schedule, result.virtual_ns):
        start, end = episode.start_ns, episode.end_ns
        back = {
            victim: watch.returns.found.get((episode.number, victim))
            for victim in victims_of(episode)
        }
        if episode.action.kind in ("recover", "take_over"):
            opened_at = back[WRITER]
            end = result.virtual_ns if opened_at is None else opened_at
        found.append(
            FaultEffect(
                episode=attrs.evolve(episode, end_ns=end),
                lost_messages=sum(
                    start <= loss[0] < end and on_account_of(episode, loss, pg_count)
                    for loss in watch.losses
                ),
                commits=answers_between(writes, start, end),
                write_stall_ns=longest_stall(writes, start, end),
                read_stall_ns=longest_stall(reads, start, end),
                back_ns=back,
                lost=[each for each in episode.segments if each in result.lost],
            )
        )
    return found


def on_account_of(episode: Episode, loss: tuple[int, str, str, str], pg_count: int) -> bool:
    """Whether a message lost while an episode lasted can be put down to it."""
    _, source, destination, reason = loss
    action = episode.action
    match action.kind:
        case "clog":
            return False  # it only holds back
        case "cut" | "partition":
            ways = [(source, destination), (destination, source)]
            between = [_leads_across(action, *way, pg_count) for way in ways]
            return reason == "cut" and (between[0] or (action.kind == "partition" and between[1]))
        case "crash_writer" | "recover" | "take_over":
            return source.startswith("writer") or destination.startswith("writer")
    return reason != "cut" and (source in episode.segments or destination in episode.segments)


def _leads_across(action: Action, source: str, destination: str, pg_count: int) -> bool:
    """Whether a message from ``source`` to ``destination`` leaves the target for the others."""
    others = action.params.get("others")
    left = names(action.target, source, pg_count)
    if others is not None and not names(str(others), destination, pg_count):
        return False
    return left and not names(action.target, destination, pg_count)


# ---- as JSON -------------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """The report as a program wants it."""
    result = report.result
    schedule = result.schedule
    return {
        "seed": schedule.seed,
        "scenario": schedule.name,
        "shape": schedule.shape,
        "knobs": knob_values(schedule.knobs, all_of_them=True),
        "redraws": [attrs.asdict(each) for each in schedule.redraws],
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
        "without_effect": [_without_effect(each) for each in result.without_effect],
        "expectations": [attrs.asdict(each) for each in report.judgements],
        "checks": dict(result.checks),
        "marks": dict(result.marks),
        "events": report.events,
        "digest": result.digest,
        "command": report.command,
        **report.facts,
    }


def _latencies(latencies: Latencies) -> dict[str, int | None]:
    """None stands for the times of calls that nobody made."""
    found = attrs.asdict(latencies)
    return found if latencies.count else dict.fromkeys(found) | {"count": 0}


def _without_effect(idle: WithoutEffect) -> dict[str, Any]:
    return {
        "at_ns": idle.at_ns,
        "fault": idle.action.kind,
        "target": idle.action.target,
        "on": list(idle.on),
        "reason": idle.reason,
    }


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
        "back_ns": dict(effect.back_ns),
    }
