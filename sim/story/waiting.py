"""What did not go on: calls that never end, groups that lag, and calls that waited too long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from aurora.events import (
    Acknowledged,
    MtrAllocated,
    SealAnswered,
    TableAcknowledged,
    VolumeOpened,
    WriterStarted,
)
from segments.protocol.events import AckSent, Event, Hydrated, RecordsApplied
from segments.protocol.ids import Lsn
from sim.check.invariants import READ_QUORUM, WRITE_QUORUM
from sim.durations import length, moment
from sim.files.expectations import Span, is_read, is_write, spans_of
from sim.files.toml_reader import parse_time
from sim.run import Verdict
from sim.story.calls import described, invoked, lsns_of, route, waiting_for
from sim.story.evidence import Evidence
from sim.story.lines import LAST, NEEDED, Line, of_six, sorted_by
from sim.story.recorder import Step
from sim.story.records import life
from sim.wording import counted
from sim.world.history import Call

_CALLS: Final = 2
_FLOW: Final = re.compile(r"\b(writes|reads) (?:go on|may wait|wait), (\S+ s) to (\S+ s)\b")


# ---- for ever ------------------------------------------------------------------------------------


def pending(evidence: Evidence) -> Iterator[Line]:
    """What is pending since when, what it waits for, and when anything last went on."""
    calls = [call for call in evidence.world.calls if call.returned_ns is None]
    for call in calls[:_CALLS]:
        begun = invoked(evidence, call)
        if begun is not None:
            text = f"{described(call)}; it is pending from here on"
            yield Line(begun.number, begun.time_ns, NEEDED, text)
        for lsn in _blocking(evidence, call):
            yield from life(evidence, lsn, NEEDED - 1)
        if not lsns_of(evidence, call):
            yield Line(
                LAST, evidence.result.virtual_ns, NEEDED,
                f"call {call.number} is still pending; {waiting_for(evidence, call)}",
            )  # fmt: skip
    if len(calls) > _CALLS:
        text = f"{counted(len(calls) - _CALLS, 'more call')} pending"
        yield Line(LAST, evidence.result.virtual_ns, NEEDED - 4, text)
    yield from _writer(evidence)
    yield from lagging(evidence)
    yield from _last_news(evidence)


def _blocking(evidence: Evidence, call: Call) -> list[Lsn]:
    """Of a write's records the one to tell of: the first without a quorum, or the last."""
    lsns = lsns_of(evidence, call)
    open_ones = [lsn for lsn in lsns if not evidence.vote(lsn, call.writer).by_quorum]
    return (open_ones or lsns[-1:])[:1]


def _writer(evidence: Evidence) -> Iterator[Line]:
    """The watermarks of the volume's writer; or what the opening of another waits for."""
    engine = evidence.world.leading_writer
    core, end_ns = engine.core, evidence.result.virtual_ns
    heard = evidence.of(Acknowledged, source=engine.name)
    if core is None:
        replies = {step.event.segment for step in evidence.of(SealAnswered, source=engine.name)}
        counts = [
            of_six([each for each in group.members if each in replies], group.members, READ_QUORUM)
            for group in evidence.groups
        ]
        text = f"{engine.name} is opening the volume; its seal is answered by {'; '.join(counts)}"
        yield Line(LAST, end_ns, NEEDED, text)
        return
    groups = []
    for group in evidence.groups:
        steps = [step for step in heard if step.event.pg_id == group.pg_id]
        pgcl = steps[-1].event.pgcl[1] if steps else 0
        tail = core.tail_lsn(group.pg_id)
        which = f"group {group.pg_id}: PGCL {pgcl}, "
        groups.append(which + (f"its last record is {tail}" if tail else "it has no record"))
    begun = evidence.of(WriterStarted, source=engine.name)[-1].event.plan
    vdl, vcl = begun.vdl, begun.vdl
    if heard:
        vdl, vcl = heard[-1].event.vdl[1], heard[-1].event.vcl
    text = f"at the end {engine.name} has VDL {vdl}, VCL {vcl}; {'; '.join(groups)}"
    yield Line(LAST, end_ns, NEEDED, text)
    if not core.opened:
        have = {step.event.segment for step in evidence.of(TableAcknowledged, source=engine.name)}
        counts = [
            of_six([each for each in group.members if each in have], group.members, WRITE_QUORUM)
            for group in evidence.groups
        ]
        text = f"{engine.name} has not opened: its table is at {'; '.join(counts)}"
        yield Line(LAST, end_ns, NEEDED, text)


def lagging(evidence: Evidence) -> Iterator[Line]:
    """Segments that lack something that their writer has."""
    core = evidence.world.leading_writer.core
    behind = []
    for segment, host in evidence.hosts.items():
        if host.lost:
            behind.append((segment, "disk lost"))
        elif host.core is None or evidence.run.checker.disks.is_down(segment):
            behind.append((segment, "down"))
        elif core is not None:
            state, tail = host.core.state, core.tail_lsn(host.group.pg_id)
            if not state.whole:
                behind.append((segment, f"damaged, SCL {state.scl}"))
            elif state.table.epoch != core.epoch:
                behind.append((segment, f"without {core.name}'s table"))
            elif state.scl != tail:
                behind.append((segment, f"SCL {state.scl}, the group ends at {tail}"))
    if behind:
        text = f"behind at the end: {sorted_by(behind)}"
    elif core is None:
        text = "no segment is away: each is up"
    else:
        text = "no segment is behind: each is up, and has all of its group"
    yield Line(LAST, evidence.result.virtual_ns, NEEDED - 1, text)


def _last_news(evidence: Evidence) -> Iterator[Line]:
    """The last step that brought anybody further."""
    if evidence.result.invariant == "livelock":
        return  # who is busy says more
    news: list[Step[Event]] = [*evidence.of(VolumeOpened, MtrAllocated)]
    news += [
        step for step in evidence.of(RecordsApplied, Hydrated) if step.event.scl > step.event.before
    ]
    news += [
        step
        for step in evidence.of(Acknowledged)
        if step.event.vdl[0] != step.event.vdl[1] or step.event.pgcl[0] != step.event.pgcl[1]
    ]
    if not news:
        return
    last = max(news)
    idle = evidence.result.virtual_ns - last.time_ns
    later = sum(step.number > last.number for step in evidence.of(AckSent))
    if evidence.result.invariant == "deadlock":
        text = "nothing can run, and nothing is scheduled any more"
    else:
        acks = counted(later, "acknowledgement") + " without news" if later else "nothing"
        text = f"nothing has moved for {length(idle)}: since then {acks} came"
    yield Line(LAST, evidence.result.virtual_ns, NEEDED, text)


# ---- too long ------------------------------------------------------------------------------------


def stalled(evidence: Evidence) -> Iterator[Line]:
    """The calls that waited longest in the window of an expectation that was not met."""
    found = _FLOW.search(evidence.result.finding)
    if found is not None:
        writes = found[1] == "writes"
        start, end = parse_time(found[2]) or 0, parse_time(found[3]) or 0
    else:  # a count of calls, or something that was to be reached: in all of the run
        writes, start, end = "reads" not in evidence.result.finding, 0, evidence.result.virtual_ns
    waits = longest_waits(evidence, start, end, writes=writes)
    for nth, (overlap, span, call) in enumerate(waits[:_CALLS]):
        if overlap:
            yield waited(evidence, span, call)
        if overlap and not nth:
            yield from waited_for(evidence, call, NEEDED)


def longest_waits(
    evidence: Evidence, start: int, end: int, *, writes: bool
) -> list[tuple[int, Span, Call]]:
    """The calls by how long each waited within ``[start, end)``, which comes first."""
    wanted = is_write if writes else is_read
    calls = [each for each in evidence.world.calls if wanted(each)]
    spans = spans_of(evidence.world.calls, writes=writes)
    return sorted(
        (
            (max(0, min(span.until_ns, end) - max(span.since_ns, start)), span, call)
            for span, call in zip(spans, calls, strict=True)
        ),
        key=lambda item: (-item[0], item[2].number),
    )


def waited(evidence: Evidence, span: Span, call: Call) -> Line:
    """A call, and how long its client waited for it."""
    begun = invoked(evidence, call)
    assert begun is not None, call
    text = described(call)
    if span.since_ns < call.invoked_ns:
        text += f", waiting for an open writer since {moment(span.since_ns)},"
    if call.returned_ns is None:
        text += " never returns"
    else:
        took = length(call.returned_ns - span.since_ns)
        text += f" returns at {moment(call.returned_ns)}, after {took}: {call.outcome.value}"
    return Line(begun.number, begun.time_ns, NEEDED, text)


def waited_for(evidence: Evidence, call: Call, weight: int) -> Iterator[Line]:
    """What a call waited for: the life of a write's record, the way of a read."""
    begun = invoked(evidence, call)
    assert begun is not None, call
    if is_write(call):
        for lsn in _blocking(evidence, call):
            yield from life(evidence, lsn, weight)
        if not lsns_of(evidence, call):
            text = f"call {call.number}: {waiting_for(evidence, call)}"
            yield Line(begun.number, begun.time_ns, weight, text)
    else:
        yield from route(evidence, call, strictly=evidence.result.verdict is Verdict.PASSED)
