"""What clients called: the way of a read, and what a call that does not return waits for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from aurora.events import MtrAllocated, PoolApplied, PoolLookedUp, ReadSent, ReadStarted
from segments.protocol.events import Event, PageMaterialized, ReadDeclined
from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import ListPages
from sim.check.invariants import WRITE_QUORUM
from sim.durations import length
from sim.story.evidence import Evidence
from sim.story.lines import LAST, NEEDED, Line, of_six
from sim.story.recorder import CallInvoked, CallReturned, Step
from sim.world.history import Call, Outcome

_MOST_LSNS: Final = 6


def invoked(evidence: Evidence, call: Call) -> Step[CallInvoked] | None:
    """The step at which a client made a call."""
    return next((s for s in evidence.of(CallInvoked) if s.event.call == call.number), None)


def call_text(call: Call) -> str:
    """What a call asks for."""
    operation = call.operation
    where = ", ".join(map(str, operation.pages))
    if call.is_sql:
        return f"sql {operation.way} account {where}"
    noun = "page" if len(operation.pages) == 1 else "pages"
    return f"{operation.kind} {noun} {where}"


def described(call: Call) -> str:
    """A call as its client made it."""
    operation = call.operation
    how = f" by {operation.way}" if call.writes_pages and operation.way != "put_many" else ""
    wrong = f", {operation.wrong}" if operation.wrong else ""
    patience = operation.patience_ns
    gives_up = "" if patience is None else f", to be cancelled after {length(patience)}"
    return (
        f"call {call.number} of client {operation.client} through {call.writer}: "
        f"{call_text(call)}{how}{wrong}{gives_up}"
    )


def failing_call(evidence: Evidence) -> Call | None:
    """The call whose return ended the run."""
    last = evidence.last
    if last is None or not isinstance(last.event, CallReturned):
        ended = [
            call
            for call in evidence.world.calls
            if call.returned_ns == evidence.result.virtual_ns and call.outcome is not Outcome.OK
        ]
        return ended[-1] if ended else None
    number = last.event.call
    return next(each for each in evidence.world.calls if each.number == number)


def lsns_of(evidence: Evidence, call: Call) -> list[Lsn]:
    """The LSNs that a write was given, found by what it wrote; ascending."""
    if call.lsns:
        return sorted(call.lsns)
    wanted = {data for _, _, data in call.writes}
    records = evidence.reference.records
    return sorted(
        lsn
        for lsn, record in records.items()
        if record.payload in wanted and evidence.reference.owner[lsn] == call.writer
    )


# ---- reads ---------------------------------------------------------------------------------------


def made(evidence: Evidence, call: Call) -> Iterator[Line]:
    """That a client makes a call."""
    begun = invoked(evidence, call)
    if begun is not None:
        yield Line(begun.number, begun.time_ns, NEEDED, described(call))


def ended(evidence: Evidence, call: Call) -> Iterator[Line]:
    """How a call ended, as its client saw it."""
    for step in evidence.of(CallReturned):
        if step.event.call == call.number:
            why = f": {call.error}" if call.error else ""
            text = f"call {call.number} ends, {call.outcome.value}{why}"
            yield Line(step.number, step.time_ns, NEEDED, text)


def route(evidence: Evidence, call: Call, *, strictly: bool = False) -> Iterator[Line]:
    """How a read was answered: from the cache, or by whom, and what that segment had.

    With what others read of the page meanwhile, unless ``strictly`` at its own read point.
    """
    begun = invoked(evidence, call)
    if begun is None or not call.reads_pages:
        return
    end_ns = evidence.result.virtual_ns if call.returned_ns is None else call.returned_ns
    page_id = call.operation.pages[0]
    asked: set[str] = set()
    for step in evidence.of(PoolLookedUp, ReadSent, PageMaterialized, ReadDeclined):
        event = step.event
        if step.number < begun.number or step.time_ns > end_ns or _page_of(event) != page_id:
            continue
        of_writer = isinstance(event, PoolLookedUp | ReadSent)
        if of_writer and step.source != call.writer:
            continue
        if isinstance(event, PoolLookedUp) and event.page_lsn is None:
            continue  # then it is read, which is told
        if strictly and _read_point_of(event) != call.lsn:
            continue
        if isinstance(event, ReadSent):
            asked.add(event.segment)
        if of_writer or step.source in asked:
            yield Line(step.number, step.time_ns, NEEDED - 1, _told(evidence, step))


_Leg: TypeAlias = PoolLookedUp | ReadSent | PageMaterialized | ReadDeclined
"""A step on the way of a read."""


def _page_of(leg: _Leg) -> PageId | None:
    if not isinstance(leg, ReadSent):
        return leg.page_id
    return None if isinstance(leg.request, ListPages) else leg.request.page_id


def _read_point_of(leg: _Leg) -> Lsn:
    return leg.request.read_point if isinstance(leg, ReadSent) else leg.read_point


def _told(evidence: Evidence, step: Step[_Leg]) -> str:
    name, leg = step.source, step.event
    match leg:
        case PoolLookedUp():
            page = f"page {leg.page_id} as of {leg.read_point}"
            return f"{name} takes {page} from its cache: the version there is of LSN {leg.page_lsn}"
        case ReadSent():
            return (
                f"{name} asks {leg.segment} (known SCL {_known(evidence, step, leg)}, needed "
                f"{leg.request.required_scl}) for page {_page_of(leg)} as of {_read_point_of(leg)}"
            )
        case ReadDeclined():
            return f"{name} refuses: its SCL is {leg.scl}, its floor {leg.floor}"
        case PageMaterialized():
            lsns = ", ".join(str(record.lsn) for record in leg.changes)
            image = f"its image of LSN {leg.image_lsn}" if leg.image_lsn else "an empty page"
            return (
                f"{name}, with SCL {evidence.scl_at(step)}, makes page {leg.page_id} as of "
                f"{leg.read_point}: {image} and {f'LSN {lsns}' if lsns else 'no record'}"
            )


def _known(evidence: Evidence, step: Step[Event], sent: ReadSent) -> Lsn:
    """The SCL that the asking writer knew the segment to have."""
    begun = evidence.last_before(step, ReadStarted)
    return begun.event.scls.get(sent.segment, 0) if begun else 0


def _expected(evidence: Evidence, call: Call) -> list[Lsn]:
    reference, page_id = evidence.reference, call.operation.pages[0]
    view = reference.writers.get(call.writer)
    return [
        lsn
        for lsn, record in sorted(reference.records.items())
        if view and record.page_id == page_id and lsn <= call.lsn and reference.is_live(view, lsn)
    ]


def modelled(evidence: Evidence, call: Call) -> Iterator[Line]:
    """The records that the reference model would have put into the page that a read returned."""
    reference, page_id = evidence.reference, call.operation.pages[0]
    if not call.reads_pages or call.writer not in reference.writers:
        return
    lsns = _expected(evidence, call)
    some = ", ".join(map(str, lsns[-_MOST_LSNS:]))
    more = "..., " if len(lsns) > _MOST_LSNS else ""
    text = f"by {call.writer}'s log page {page_id} as of {call.lsn} should hold "
    text += f"LSN {more}{some}" if lsns else "nothing"
    yield Line(LAST, evidence.result.virtual_ns, NEEDED, text)


def page_writes(evidence: Evidence, page_id: int, weight: int) -> Iterator[Line]:
    """When redo went into a page in a writer's buffer pool."""
    for step in evidence.of(PoolApplied):
        if page_id in step.event.page_ids:
            size = evidence.world.schedule.knobs.buffer_pool_pages
            room = f"{size} page" if size == 1 else f"{size} pages"
            made = evidence.last_before(step, MtrAllocated)
            records = made.event.records if made else ()
            lsns = ", ".join(str(each.lsn) for each in records if each.page_id == page_id)
            text = f"{step.source} puts LSN {lsns} into page {page_id} in its pool of {room}"
            yield Line(step.number, step.time_ns, weight, text)


# ---- waiting -------------------------------------------------------------------------------------


def waiting_for(evidence: Evidence, call: Call) -> str:
    """What a write waits for at the end of the run, or waited for until it returned."""
    lsns = lsns_of(evidence, call)
    if not lsns and call.is_sql:
        return "it has become no commit"
    if not lsns and not call.writes_pages:
        sent = [
            step.event.segment
            for step in evidence.of(ReadSent, source=call.writer)
            if _page_of(step.event) == call.operation.pages[0] and step.time_ns >= call.invoked_ns
        ]
        return f"it has asked {' '.join(dict.fromkeys(sent))}" if sent else "it has asked nobody"
    if not lsns:
        return "it was given no LSN: it waits for room, or for a writer that is open"
    parts = []
    for lsn in lsns:
        group = evidence.group(lsn)
        heard = list(evidence.vote(lsn, call.writer).heard)
        parts.append(f"LSN {lsn} by {of_six(heard, group.members, WRITE_QUORUM)}")
    return f"acknowledged: {'; '.join(parts)}"
