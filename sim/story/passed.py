"""The story of a run that passed: what was planned, what broke, who came back, and what waited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from aurora.events import Acknowledged, VolumeOpened
from sim.durations import length, moment
from sim.plan.schedule import MS
from sim.story import disks, recoveries, waiting
from sim.story.evidence import Evidence
from sim.story.faults import came_back, losses
from sim.story.focus import Focus
from sim.story.lines import LAST, NEEDED, Line
from sim.story.recorder import ActionDone
from sim.wording import counted
from sim.world.history import Call, Outcome

_LONG_NS: Final = 20 * MS
"""For a wait of this length or more, what the call waited for is told."""


def passed(evidence: Evidence, _: Focus) -> Iterator[Line]:
    """Every sentence about a run in which nothing went wrong for good."""
    yield _planned(evidence)
    yield from recoveries.recoveries(evidence, (), NEEDED - 3)
    yield from disks.restarts(evidence, evidence.hosts, (), NEEDED - 4)
    yield from _returns(evidence)
    yield from _waits(evidence)
    yield from losses(evidence, (), (), NEEDED - 5)
    yield from _idle(evidence)
    yield _healed(evidence)
    yield from waiting.lagging(evidence)


def _planned(evidence: Evidence) -> Line:
    schedule = evidence.world.schedule
    clients = counted(len({each.client for each in schedule.operations}), "client")
    calls, faults = len(schedule.operations), len(schedule.actions)
    writes = sum(each.may_write for each in schedule.operations)
    text = (
        f"planned: {counted(calls, 'call')} of {clients}, {counted(writes, 'write')} among them; "
        f"{counted(faults, 'action')}; all heals at {moment(schedule.knobs.duration_ns)}"
    )
    return Line(-1, 0, NEEDED, text)


def _returns(evidence: Evidence) -> Iterator[Line]:
    """For each fault its victims, once the last of them is back in service."""
    episodes, returns = came_back(evidence)
    heard = evidence.of(Acknowledged, VolumeOpened)
    for episode in episodes:
        times = {who: at for (number, who), at in returns.found.items() if number == episode.number}
        if not times or episode.action.kind in ("recover", "take_over"):
            continue  # that a writer has opened is told by itself
        last = max(times.values())
        number = next(step.number for step in heard if step.time_ns == last)
        who = ", ".join(f"{name} at {moment(at)}" for name, at in sorted(times.items(), key=_at))
        yield Line(number, last, NEEDED - 2, f"back from {episode.title}: {who}")


def _idle(evidence: Evidence) -> Iterator[Line]:
    """The actions that changed nothing."""
    for idle in evidence.result.without_effect:
        step = next(s for s in evidence.of(ActionDone) if s.event.action is idle.action)
        yield Line(step.number, step.time_ns, NEEDED - 2, f"note: {idle}")


def _at(item: tuple[str, int]) -> tuple[int, str]:
    return item[1], item[0]


def _waits(evidence: Evidence) -> Iterator[Line]:
    """The write and the read that waited longest, and for what, if that was long."""
    for writes in (True, False):
        end_ns = evidence.result.virtual_ns
        waits = [
            each
            for each in waiting.longest_waits(evidence, 0, end_ns, writes=writes)
            if each[2].operation.kind != "view"  # its client holds it open for a while
            and not _changed_nothing(each[2])
        ]
        if not waits:
            continue
        lasted, span, call = waits[0]
        kind = "write" if writes else "read"
        if lasted < _LONG_NS:
            what = f"no {kind} waited for longer than {length(lasted)}"
            yield Line(LAST, end_ns, NEEDED - 1, what)
            continue
        line = waiting.waited(evidence, span, call)
        yield line._replace(text=f"the longest wait of a {kind}: {line.text}")
        yield from waiting.waited_for(evidence, call, NEEDED - 4)
    yield _outcomes(evidence)


def _changed_nothing(call: Call) -> bool:
    """Whether it was there to write, and has rolled that back: it has waited for no commit."""
    return call.may_write and call.outcome is Outcome.OK and not call.lsns


def _outcomes(evidence: Evidence) -> Line:
    outcomes = Counter(call.outcome for call in evidence.world.calls)
    answered = outcomes.pop(Outcome.OK, 0) + outcomes.pop(Outcome.NOT_FOUND, 0)
    others = "".join(f"; {count:,} {outcome.value}" for outcome, count in outcomes.items())
    text = f"answered: {answered:,} of {counted(len(evidence.world.calls), 'call')}{others}"
    return Line(LAST, evidence.result.virtual_ns, NEEDED - 1, text)


def _healed(evidence: Evidence) -> Line:
    """That the faults are over: whatever is told from then on happened without any."""
    healed_ns = evidence.world.schedule.knobs.duration_ns
    number = next((step.number for step in evidence.steps if step.time_ns > healed_ns), LAST - 1)
    text = "all heals: what is down and not lost comes back, and what is pending has to finish"
    return Line(number, healed_ns, NEEDED - 2, text)
