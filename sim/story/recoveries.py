"""Writers that open the volume: whom they sealed, what they heard, decided and annulled."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence

from aurora.events import (
    RecoveryPlanned,
    SealAnswered,
    SealingStarted,
    TableAcknowledged,
    VolumeOpened,
    WriterFenced,
    WriterStarted,
)
from aurora.terminal.text import show_lsns
from segments.protocol.events import Event, Restored, Sealed, TableAdopted
from segments.protocol.ids import Lsn, VolumeEpoch
from segments.protocol.truncation import TruncationTable
from segments.protocol.volume import ProtectionGroup
from sim.check.invariants import READ_QUORUM, WRITE_QUORUM
from sim.story.evidence import Evidence
from sim.story.focus import focus_of
from sim.story.lines import LAST, NEEDED, Line, annulled, of_six, sorted_by, together
from sim.story.recorder import Step


def recoveries(evidence: Evidence, lsns: Iterable[Lsn], weight: int) -> Iterator[Line]:
    """All rounds of all writers, with what each means for the records that matter."""
    lsns = list(lsns)
    for step in evidence.of(SealingStarted):
        name = step.source
        text = f"{name} begins to seal epoch {step.event.epoch.counter}"
        yield Line(step.number, step.time_ns, weight - 3, text)
    for planned in evidence.of(RecoveryPlanned):
        yield from _plan(evidence, planned, lsns, weight)
    for opened in evidence.of(VolumeOpened):
        yield from _opened(evidence, opened, lsns, weight - 1)
    for fenced in evidence.of(WriterFenced):
        text = f"{fenced.source} is fenced: {fenced.event.by} has sealed a higher epoch"
        yield Line(fenced.number, fenced.time_ns, weight - 4, text)


def concerned(evidence: Evidence, lsns: Iterable[Lsn]) -> list[ProtectionGroup]:
    """The groups of some records; for none those of the segments in the finding, or all."""
    found = {evidence.group(lsn).pg_id for lsn in lsns if evidence.known(lsn)}
    if not found:
        named = focus_of(evidence.result.finding).segments
        found = {group.pg_id for group in evidence.groups if set(group.members) & set(named)}
    return [group for group in evidence.groups if not found or group.pg_id in found]


def _elsewhere(evidence: Evidence, near: Sequence[ProtectionGroup], names: Container[str]) -> str:
    """In a few words how many of each other group there are."""
    others = [group for group in evidence.groups if group not in near]
    counts = [
        f"group {pg_id}: {sum(each in names for each in members)} of {len(members)}"
        for pg_id, members in [(group.pg_id, group.members) for group in others]
    ]
    return f" ({', '.join(counts)})" if counts else ""


def seals(evidence: Evidence, lsns: Iterable[Lsn], weight: int) -> Iterator[Line]:
    """Whose promise of which epoch became durable, with what SCL, in the groups of ``lsns``."""
    near = concerned(evidence, lsns)
    by_epoch: dict[VolumeEpoch, dict[str, Step[Sealed]]] = {}
    for step in evidence.of(Sealed):
        by_epoch.setdefault(step.event.epoch, {}).setdefault(step.source, step)
    for epoch, steps in by_epoch.items():
        for group in near:
            so_far = 0
            for some in _bursts(step for name, step in steps.items() if name in group.members):
                so_far += len(some)
                who = sorted_by((each.source, f"SCL {each.event.scl}") for each in some)
                count = f"{so_far} of {len(group.members)} by now"
                text = f"{evidence.epoch(epoch)} is sealed at {who}: {count}"
                text += ", a read quorum" if so_far >= READ_QUORUM else ""
                yield Line(some[0].number, some[0].time_ns, weight, text)


def tables(evidence: Evidence, lsns: Iterable[Lsn], weight: int) -> Iterator[Line]:
    """Who adopted which truncation table, and who never did, in the groups of ``lsns``."""
    near = concerned(evidence, lsns)
    members = [name for group in near for name in group.members]
    by_epoch: dict[VolumeEpoch, dict[str, Step[TableAdopted]]] = {}
    everyone: dict[VolumeEpoch, set[str]] = {}
    for step in evidence.of(TableAdopted):
        everyone.setdefault(step.event.table.epoch, set()).add(step.source)
        if step.source in members:
            by_epoch.setdefault(step.event.table.epoch, {}).setdefault(step.source, step)
    for epoch, steps in by_epoch.items():
        first = min(steps.values())
        others = [segment for segment in members if segment not in steps]
        never = f"; not by {' '.join(others)}" if others else ""
        who = together((name, step.time_ns) for name, step in steps.items())
        owner, table = evidence.owner(epoch), first.event.table
        text = f"{owner}{'' if table.ranges else ' (annuls nothing)'} is adopted by {who}{never}"
        text += _elsewhere(evidence, near, everyone[epoch])
        yield Line(first.number, first.time_ns, weight, text)


def _bursts(steps: Iterable[Step[Sealed]]) -> list[list[Step[Sealed]]]:
    """Steps that follow each other within half a millisecond belong together."""
    found: list[list[Step[Sealed]]] = []
    for step in sorted(steps):
        if found and step.time_ns - found[-1][-1].time_ns <= 500_000:
            found[-1].append(step)
        else:
            found.append([step])
    return found


# ---- what was decided ----------------------------------------------------------------------------


def replies_of(evidence: Evidence, plan: Step[Event]) -> dict[str, Step[SealAnswered]]:
    """The seal replies that a plan was made from: the last of each segment in its round."""
    begun = evidence.last_before(plan, SealingStarted)
    return {
        step.event.segment: step
        for step in evidence.of(SealAnswered, source=plan.source)
        if step.number < plan.number and (begun is None or step.number > begun.number)
    }


def _plan(
    evidence: Evidence, step: Step[RecoveryPlanned], lsns: list[Lsn], weight: int
) -> Iterator[Line]:
    name, plan = step.source, step.event.plan
    replies = replies_of(evidence, step)
    yield from _unsealed(evidence, step, replies.values())
    heard = []
    near = concerned(evidence, lsns)
    for group in near:
        names = [each for each in group.members if each in replies]
        who = sorted_by((each, f"SCL {replies[each].event.scl}") for each in names)
        heard.append(f"{who}: {len(names)} of {len(group.members)}, needs {READ_QUORUM}")
    told = " and ".join(heard) + _elsewhere(evidence, near, replies)
    text = f"{name}, with {told}, plans VDL {plan.vdl}; {annulled_newly(plan.table)}"
    born = [each for each in lsns if (b := evidence.birth(each)) and b.number < step.number]
    gone = [str(each) for each in born if plan.table.annuls(each)]
    text += f", LSN {', '.join(gone)} with it" if gone else ""
    kept = [str(each) for each in born if each > plan.vdl and not plan.table.annuls(each)]
    text += f": LSN {', '.join(kept)}, above the VDL, is not annulled" if kept else ""
    yield Line(step.number, step.time_ns, weight, text)
    yield from _table_kept(evidence, step, replies, lsns)


def annulled_newly(table: TruncationTable) -> str:
    """What a plan annuls itself: the last range of its table."""
    if not table.ranges:
        return "it annuls nothing"
    start, end, _ = table.ranges[-1]
    return f"it annuls {show_lsns(start, end - 1)}"


def _unsealed(
    evidence: Evidence, plan: Step[RecoveryPlanned], replies: Iterable[Step[SealAnswered]]
) -> Iterator[Line]:
    """Replies of segments that had not made the promise durable."""
    early: dict[str, Step[SealAnswered]] = {}
    epoch = plan.event.plan.epoch
    for reply in replies:
        segment = reply.event.segment
        promised = (
            step.event.epoch >= epoch and step.number < reply.number
            for step in evidence.of(Sealed, TableAdopted, Restored, source=segment)
        )
        if not any(promised):
            early[segment] = reply
    if early:
        first = min(early.values())
        who = sorted_by((name, f"SCL {each.event.scl}") for name, each in early.items())
        text = f"{plan.source} hears from {who}, which had not yet sealed its epoch"
        yield Line(first.number, first.time_ns, NEEDED, text)


def _table_kept(
    evidence: Evidence,
    step: Step[RecoveryPlanned],
    replies: dict[str, Step[SealAnswered]],
    lsns: list[Lsn],
) -> Iterator[Line]:
    """Where the plan differs from the highest table that it was told of."""
    if not replies:
        return
    told = max(replies.values(), key=lambda reply: reply.event.table_epoch)
    epoch = told.event.table_epoch
    table, plan = evidence.table(epoch), step.event.plan
    if table is None or not table.ranges:
        return
    who = f"the highest table it was told of, {evidence.owner(epoch)} (from {told.event.segment})"
    needed = table.with_settled(plan.table.settled).without_settled(plan.vdl, None)
    for lsn in lsns:
        if needed.annuls(lsn) and not plan.table.annuls(lsn):
            text = f"{plan_of(step)} forgets that LSN {lsn} is annulled: {who}, {annulled(table)}"
            yield Line(step.number, step.time_ns, NEEDED, text)
        elif plan.table.annuls(lsn) and not table.annuls(lsn) and lsn <= plan.vdl:
            text = f"{plan_of(step)} annuls LSN {lsn}, which {who}, keeps"
            yield Line(step.number, step.time_ns, NEEDED, text)


def plan_of(step: Step[Event]) -> str:
    """Whose plan a step has made."""
    return f"the plan of {step.source}"


def _opened(
    evidence: Evidence, step: Step[VolumeOpened], lsns: list[Lsn], weight: int
) -> Iterator[Line]:
    """An opened volume: which segments have the table, and which have its records."""
    name, vdl = step.source, step.event.vdl
    installed = [
        each.event.segment
        for each in evidence.of(TableAcknowledged, source=name)
        if each.number <= step.number
    ]
    near = concerned(evidence, lsns)
    counts = [
        of_six([each for each in group.members if each in installed], group.members, WRITE_QUORUM)
        for group in near
    ]
    text = f"{name} opens at VDL {vdl}, its table at {' and '.join(counts)}"
    text += _elsewhere(evidence, near, installed)
    yield Line(step.number, step.time_ns, weight, text)
    plan = next(each for each in evidence.of(WriterStarted, source=name)).event.plan
    for lsn in lsns:
        if lsn > vdl or not evidence.known(lsn) or not evidence.lives_in(lsn, plan.epoch):
            continue
        group = evidence.group(lsn)
        if lsn not in [record.lsn for record in plan.records[group.pg_id]]:
            continue  # known to be at a write quorum before
        names = evidence.vote(lsn, name).by(step.number)
        if len(names) < WRITE_QUORUM:
            count = of_six(names, group.members, WRITE_QUORUM)
            text = f"{name} opens while its record LSN {lsn} is acknowledged by {count}"
            yield Line(step.number, step.time_ns, NEEDED, text)


# ---- what would be decided now -------------------------------------------------------------------


def imagined(evidence: Evidence, members: Container[str], lsns: Iterable[Lsn]) -> Iterator[Line]:
    """What a recovery from ``members`` would be told at the end, in the groups of ``lsns``."""
    witnesses = evidence.run.checker.disks.witnesses()
    answers = []
    lsns = list(lsns)
    near = concerned(evidence, lsns)
    for group in evidence.groups:
        for segment in group.members:
            state = witnesses.get(segment)
            if segment in members and state is not None:
                table = state.table
                if group not in near and not any(table.annuls(lsn) for lsn in lsns):
                    continue
                note = f"SCL {state.scl}"
                if table.ranges:
                    note += f", {evidence.owner(table.epoch)}: {annulled(table)}"
                answers.append((segment, note))
    if answers:
        text = f"a recovery now would hear: {sorted_by(answers)}"
        yield Line(LAST, evidence.result.virtual_ns, NEEDED, text)
