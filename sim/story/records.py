"""The life of a record: allocated, on its way, synced, acknowledged and counted, annulled."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from aurora.events import (
    Acknowledged,
    CommitsAcknowledged,
    MtrAllocated,
    RecoveryPlanned,
    TableAcknowledged,
)
from segments.protocol.events import (
    AckSent,
    BatchReceived,
    Event,
    Hydrated,
    LayerReceived,
    RecordsApplied,
    Restored,
)
from segments.protocol.ids import Lsn, SegmentId
from segments.protocol.volume import ProtectionGroup
from sim.check.invariants import WRITE_QUORUM
from sim.check.lost_quorums import quorum_without
from sim.plan.schedule import MS
from sim.story.evidence import Copy, Evidence, Vote
from sim.story.lines import LAST, NEEDED, Line, of_six, sorted_by, together
from sim.story.recorder import Step
from sim.wording import counted


def life(evidence: Evidence, lsn: Lsn, weight: int = NEEDED) -> Iterator[Line]:
    """Everything about one record, from its allocation to who has it at the end."""
    born = evidence.birth(lsn)
    if born is None:
        return
    yield birth(evidence, born, weight)
    if born is evidence.last:
        return  # it ended the run: nothing could become of it
    yield from _way(evidence, lsn, born, weight)
    yield from _acknowledged_unsynced(evidence, lsn, weight)
    yield from counted_by(evidence, lsn, born.source, weight)
    for name, view in evidence.reference.writers.items():
        vote = evidence.vote(lsn, name)
        matters = vote.by_quorum or (vote.passed and vote.passed is evidence.last)
        if name != born.source and evidence.reference.is_live(view, lsn) and matters:
            yield from counted_by(evidence, lsn, name, weight - 2)
    yield from _folded(evidence, lsn, weight - 3)
    yield holders(evidence, lsn, weight - 1)


def birth(evidence: Evidence, step: Step[MtrAllocated], weight: int) -> Line:
    """The allocation of a mini-transaction."""
    many = len(evidence.groups) > 1
    wheres: dict[str, list[str]] = {}
    records = step.event.records
    last = records[-1].lsn
    for record in records:
        group = f" of group {evidence.group(record.lsn).pg_id}" if many else ""
        wheres.setdefault(f"page {record.page_id}{group}", []).append(str(record.lsn))
    if len(records) == 1:
        (where, lsns), *_ = wheres.items()
        text = f"allocates LSN {lsns[0]} for {where}"
    else:
        shown = ", ".join(
            f"{where} (LSN {', '.join(lsns)})" for where, lsns in list(wheres.items())[:4]
        )
        rest = f" and {counted(len(wheres) - 4, 'more page')}" if len(wheres) > 4 else ""
        text = f"allocates LSN {records[0].lsn} to {last}, one mini-transaction, for {shown}{rest}"
    for plan in evidence.of(RecoveryPlanned):
        if plan.number < step.number and plan.source != step.source:
            owner = evidence.reference.writers[step.source]
            table = plan.event.plan.table
            if table.annuls(last) and table.epoch > owner.epoch:
                text += (
                    f"; {plan.source} has annulled {'that' if first_of(step) == last else 'them'}"
                )
                break
    return Line(step.number, step.time_ns, weight, f"{step.source} {text}")


def first_of(step: Step[MtrAllocated]) -> Lsn:
    """The first LSN of a mini-transaction that was allocated."""
    return step.event.records[0].lsn


# ---- where it is ---------------------------------------------------------------------------------


def _way(evidence: Evidence, lsn: Lsn, born: Step[Event], weight: int) -> Iterator[Line]:
    """How it came to each member: in whose batches, which of them were lost, and who synced it."""
    waves: dict[str, dict[SegmentId, Step[Event]]] = {born.source: {}}
    rest = dict(evidence.copies(lsn))
    for segment, copy in evidence.copies(lsn).items():
        if copy.arrived is not None and isinstance(copy.arrived.event, BatchReceived):
            waves.setdefault(copy.arrived.event.writer, {})[segment] = copy.arrived
    for writer, wave in waves.items():
        at_once = all(_synced_at_once(rest[segment]) for segment in wave)
        yield _wave(evidence, lsn, born, writer, wave, at_once)._replace(weight=weight)
        for segment in wave if at_once else ():
            del rest[segment]
    for segment, copy in rest.items():
        step = copy.arrived
        if step is None or isinstance(step.event, BatchReceived) or step is evidence.last:
            continue  # the last step is told as what ended the run
        what = "a layer with" if isinstance(step.event, LayerReceived) else "gossip with"
        text = f"{segment} gets {what} LSN {lsn} from {step.event.peer}"
        yield Line(step.number, step.time_ns, weight - 3, text)
    yield from _synced(evidence, lsn, rest.values(), weight)


def _wave(
    evidence: Evidence,
    lsn: Lsn,
    born: Step[Event],
    writer: str,
    wave: dict[SegmentId, Step[Event]],
    at_once: bool,
) -> Line:
    """Where one writer's batches with a record arrive; for its own writer, where they never do."""
    own = writer == born.source
    lost = {
        segment: step
        for segment, step in sorted(evidence.lost_batches(lsn).items())
        if own and segment not in wave
    }
    losses = sorted_by((segment, step.event.reason) for segment, step in lost.items())
    first = min((*wave.values(), *(() if wave else lost.values())), default=born)
    if not wave and not lost:
        text = f"no batch with LSN {lsn} arrives anywhere"
    elif not wave:
        text = f"LSN {lsn} is lost on its way to {losses}"
    else:
        text = f"LSN {lsn} arrives at {together(_times(wave))}"
        text += "" if own else f" from {writer}"
        text += " and is synced there" if at_once else ""
        text += f"; lost on the way to {losses}" if losses else ""
    return Line(first.number, first.time_ns, 0, text)


def _synced_at_once(copy: Copy) -> bool:
    """Whether the sync followed at once, with nothing to tell in between."""
    return (
        copy.synced is not None
        and copy.arrived is not None
        and copy.synced.time_ns - copy.arrived.time_ns < MS
    )


def _synced(evidence: Evidence, lsn: Lsn, copies: Iterable[Copy], weight: int) -> Iterator[Line]:
    """Who made it durable; apart from the others, who had sealed a later writer's epoch first."""
    epoch = evidence.reference.writers[evidence.reference.owner[lsn]].epoch
    plain: dict[SegmentId, Step[Event]] = {}
    above_gap: dict[SegmentId, Step[Event]] = {}
    after: dict[SegmentId, Step[Event]] = {}
    sealed = ""
    kept = {each.segment for each in evidence.holders(lsn) if each.held}
    for copy in copies:
        arrived, linked = copy.arrived, copy.linked
        if copy.above is not None and linked is None and copy.segment in kept:
            above_gap[copy.segment] = copy.above
        if copy.synced is None or arrived is None or linked is None:
            continue
        above = evidence.sealed_above(copy.segment, epoch, linked.number)
        queued = isinstance(arrived.event, BatchReceived)
        if above is not None and queued and arrived.number < above.number:
            after[copy.segment] = linked
            sealed = evidence.epoch(above.event.epoch)
        else:
            plain[copy.segment] = copy.synced
    if plain:
        first = min(plain.values())
        text = f"LSN {lsn} is synced at {together(_times(plain))}"
        yield Line(first.number, first.time_ns, weight, text)
    if above_gap:
        first = min(above_gap.values())
        text = f"LSN {lsn} is synced above a gap, which counts for nothing, at "
        yield Line(first.number, first.time_ns, weight, text + together(_times(above_gap)))
    if after:
        first = min(after.values())
        text = (
            f"LSN {lsn}, queued before, is synced at {together(_times(after))} all the same, with "
            f"the seal of {sealed} or after it"
        )
        yield Line(first.number, first.time_ns, weight, text)


def _folded(evidence: Evidence, lsn: Lsn, weight: int) -> Iterator[Line]:
    """Where it has left the log for a layer."""
    found: dict[SegmentId, Step[Event]] = {}
    for segment, copy in evidence.copies(lsn).items():
        if copy.folded is not None:
            found[segment] = copy.folded
    if found:
        first = min(found.values())
        text = f"LSN {lsn} leaves the log for a layer at {together(_times(found))}"
        yield Line(first.number, first.time_ns, weight, text)


def _acknowledged_unsynced(evidence: Evidence, lsn: Lsn, weight: int) -> Iterator[Line]:
    """Acknowledgements that left before the sync."""
    early: dict[SegmentId, Step[AckSent]] = {}
    for segment, copy in evidence.copies(lsn).items():
        linked = copy.linked
        if copy.acked is None or linked is None or isinstance(linked.event, Restored):
            continue
        if copy.synced is None or copy.synced.number > copy.acked.number:
            early[segment] = copy.acked
    if early:
        first = min(early.values())
        writer, scl = first.event.writer, first.event.scl
        yield Line(
            first.number, first.time_ns, weight,
            f"{together(_times(early))} sends {writer} its acknowledgement, SCL {scl}, before any "
            f"sync: no WriteSynced since LSN {lsn} arrived",
        )  # fmt: skip


def holders(evidence: Evidence, lsn: Lsn, weight: int) -> Line:
    """Which members of its group have the record when the run ends."""
    has: list[tuple[str, str]] = []
    above: list[tuple[str, str]] = []
    lacks: list[tuple[str, str]] = []
    for each in evidence.holders(lsn):
        (above if each.above else has if each.held else lacks).append((each.segment, each.note))
    text = f"at the end LSN {lsn} is on {sorted_by(has) or 'nobody'}"
    if above:
        text += f"; above a gap, where it counts for nothing, on {sorted_by(above)}"
    if lacks:
        text += f"; not on {sorted_by(lacks)}"
    return Line(LAST, evidence.result.virtual_ns, weight, text)


def losing(evidence: Evidence, lsn: Lsn, weight: int) -> Iterator[Line]:
    """Which failure would lose a record, or the writer's table, that too few have."""
    group = evidence.group(lsn)
    copies = evidence.copies(lsn)
    having = [each for each in group.members if copies[each].held and copies[each].synced]
    what = f"LSN {lsn}"
    last = evidence.last
    if len(having) >= WRITE_QUORUM and last is not None and isinstance(last.event, Acknowledged):
        writer = last.source
        having = evidence.with_table(writer, group.members, last.number)
        what = f"{writer}'s table: what that annuls may come back"
    if not quorum_without(group, having):
        return
    mute = evidence.mute(group)
    away = f"if {_listed(having)} {'is' if len(having) == 1 else 'are'} away" if having else ""
    if asked := quorum_without(group, {*having, *mute}):
        text = f"{away or 'as it is'}, a read quorum of {_listed(asked)} recovers without {what}"
    else:
        text = (
            f"{_listed(mute)} can answer no recovery: {away or 'as it is'}, "
            f"no read quorum is left, and nothing recovers"
        )
    yield Line(LAST, evidence.result.virtual_ns, weight, text, gist=True)


# ---- whose acknowledgements counted --------------------------------------------------------------


def counted_by(evidence: Evidence, lsn: Lsn, writer: str, weight: int) -> Iterator[Line]:
    """Who had acknowledged it to a writer, as a count against the quorum."""
    vote = evidence.vote(lsn, writer)
    members = evidence.group(lsn).members
    if not vote.heard:
        count = f"0 of {len(members)}, needs {WRITE_QUORUM}"
        text = f"nobody has acknowledged LSN {lsn} to {writer}: {count}"
        yield Line(LAST, evidence.result.virtual_ns, weight, text)
        return
    told = vote.passed or list(vote.heard.values())[-1]
    names = vote.by(told.number)
    times = together((name, vote.heard[name].time_ns) for name in names)
    count = f"{times or 'nobody'}: {len(names)} of {len(members)}, needs {WRITE_QUORUM}"
    if vote.passed is None:
        first = next(iter(vote.heard.values()))
        text = f"{writer} hears LSN {lsn} acknowledged by {count}"
        number = told.number if len(names) < WRITE_QUORUM else first.number
        yield Line(number, told.time_ns, weight, text)
        return
    yield Line(
        told.number, told.time_ns, weight,
        f"{writer} hears LSN {lsn} acknowledged by {count}; "
        f"{'' if len(names) >= WRITE_QUORUM else 'and yet '}{_moves(evidence, told.event)}"
        + _unheard(evidence, lsn, vote.passed, names),
    )  # fmt: skip
    yield from _believed_wrongly(evidence, lsn, vote, weight)
    for step in evidence.of(CommitsAcknowledged, source=writer):
        if step.event.vdl >= lsn:
            text = f"{writer} tells its callers that all up to {step.event.vdl} is durable"
            yield Line(step.number, step.time_ns, weight - 4, text)
            break


def _moves(evidence: Evidence, event: Acknowledged) -> str:
    group = f"group {event.pg_id}'s PGCL" if len(evidence.groups) > 1 else "its PGCL"
    old, vdl = event.vdl
    pgcl = event.pgcl[1]
    if vdl == old:
        return f"{group} is {pgcl} now, the VDL stays {vdl}"
    if vdl == pgcl:
        return f"{group} and the VDL are {vdl} now"
    return f"{group} is {pgcl} now, the VDL {vdl}"


def _unheard(
    evidence: Evidence, lsn: Lsn, passed: Step[Event], heard: Collection[SegmentId]
) -> str:
    """Who else had synced a record by then: with them it may have had its quorum all the same."""
    others = [
        segment
        for segment, copy in evidence.copies(lsn).items()
        if segment not in heard and copy.synced and copy.synced.number < passed.number
    ]
    others = evidence.with_table(passed.source, others, passed.number)
    if len(heard) >= WRITE_QUORUM or len(heard) + len(others) < WRITE_QUORUM:
        return ""
    has = "has" if len(others) == 1 else "have"
    return f". No rule is broken yet: {_listed(others)} {has} it on disk, too, only unheard"


def rightly(evidence: Evidence, lsn: Lsn, weight: int) -> Iterator[Line]:
    """What the PGCL should be instead, by the SCLs that the writer has heard of."""
    last = evidence.last
    if last is None or not isinstance(last.event, Acknowledged):
        return
    group = evidence.group(lsn)
    heard = {
        step.event.segment: step.event.scl
        for step in evidence.of(Acknowledged, TableAcknowledged, source=last.source)
    }
    scls = sorted((heard.get(each, 0) for each in group.members), reverse=True)
    right = scls[WRITE_QUORUM - 1]
    if right >= lsn:
        return
    if not right and evidence.reference.owner[lsn] != last.source:
        yield _right_with_table(evidence, last.source, group, weight)
        return
    mute = evidence.mute(group)
    lacking = [each for each in group.members if heard.get(each, 0) < lsn and each not in mute]
    text = (
        f"right would be PGCL {right}, the fourth highest SCL that {last.source} has heard of: "
        f"LSN {lsn} would wait for {_one_of(lacking)}"
    )
    yield Line(LAST, evidence.result.virtual_ns, weight, text, gist=True)


def _right_with_table(evidence: Evidence, writer: str, group: ProtectionGroup, weight: int) -> Line:
    """Why records that former writers have left do not count yet, wherever they are."""
    assert evidence.last is not None
    having = evidence.with_table(writer, group.members, evidence.last.number)
    lacking = [each for each in group.members if each not in having]
    text = (
        f"an SCL counts for {writer} only with its table, and that is at "
        f"{of_six(having, group.members, WRITE_QUORUM)}; right would be no PGCL yet, until "
        f"{_one_of(lacking)} has the table, too"
    )
    return Line(LAST, evidence.result.virtual_ns, weight, text, gist=True)


def _believed_wrongly(evidence: Evidence, lsn: Lsn, vote: Vote, weight: int) -> Iterator[Line]:
    """Members that counted although they had never said that they have it."""
    assert vote.passed is not None
    for segment in vote.by(vote.passed.number):
        said = evidence.sent_scl(segment, vote.writer, vote.passed.number)
        if said is not None and said < lsn:
            why = f"{segment} counts for LSN {lsn}, but had acknowledged SCL {said} only"
            why += (
                f": LSN {gap} is missing there" if (gap := missing(evidence, lsn, segment)) else ""
            )
            yield Line(vote.passed.number, vote.passed.time_ns, weight, why)


def missing(evidence: Evidence, lsn: Lsn, segment: SegmentId) -> Lsn | None:
    """The last record below another in its group's chain that has never come to a segment."""
    steps = evidence.of(RecordsApplied, Hydrated, Restored, source=segment)
    complete = max((step.event.scl for step in steps), default=0)
    below = evidence.reference.records[lsn].prev_segment_lsn
    for each in evidence.reference.chain_down(below, complete):
        if evidence.copies(each)[segment].arrived is None:
            return each
    return None


def _listed(names: Sequence[str]) -> str:
    """``A0, B0 and C0``."""
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last


def _one_of(names: Sequence[str]) -> str:
    """``one of A0 and B0``."""
    return f"one of {_listed(names)}" if len(names) > 1 else "".join(names) or "ever"


def _times(steps: Mapping[SegmentId, Step[Event]]) -> list[tuple[str, int]]:
    return [(segment, step.time_ns) for segment, step in steps.items()]
