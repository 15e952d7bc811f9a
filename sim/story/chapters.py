"""Which sentences each kind of finding needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from aurora.events import MtrAllocated, PoolApplied
from segments.protocol.events import AckSent, BatchReceived, GossipReceived
from segments.protocol.ids import Lsn, PageId
from sim.check.invariants import INVARIANTS
from sim.story import calls, disks, recoveries, waiting
from sim.story.busy import busy
from sim.story.evidence import Arrival, Evidence
from sim.story.faults import faults, losses
from sim.story.focus import Focus, focus_of
from sim.story.lines import NEEDED, Line
from sim.story.passed import passed
from sim.story.records import birth, first_of, life, losing, missing, rightly
from sim.world.history import Call

_MOST_LSNS: Final = 3
_MOST_CALLS: Final = 3
_READER_AT: Final = re.compile(r"\b(?:reader of \S+ is|version) at (\d+)")

_LAYER: Final = re.compile(r"\blayer-(\d+)")

_STALLS: Final = {
    "": 9,
    "expectation": 9,
    "heals-and-converges": 6,
    "needless-unavailability": 6,
    "deadlock": 6,
    "livelock": 6,
    "undecided": 6,
}
"""Where any fault may be what a call waits for, and what each weighs; most end with healing."""

Chapter = Callable[[Evidence, Focus], Iterator[Line]]


def story(evidence: Evidence) -> Iterator[Line]:
    """Every sentence there is."""
    focus = focus_of(evidence.result.finding)
    chapter = _CHAPTERS.get(evidence.result.invariant, _anything)
    yield from chapter(evidence, focus)
    if evidence.result.invariant in _STALLS:
        yield from faults(evidence, None, _STALLS[evidence.result.invariant])
    else:
        near = (*focus.segments, *focus.writers)
        since_ns = _since(evidence, _counted(evidence, focus)) if chapter is _quorum else 0
        yield from faults(evidence, near, 6, since_ns)


# ---- what the chapters share ---------------------------------------------------------------------


def _records(evidence: Evidence, focus: Focus) -> list[Lsn]:
    """The records that the finding is about."""
    lsns = [lsn for lsn in focus.lsns if evidence.known(lsn)]
    return (lsns or [lsn for lsn in focus.bounds if evidence.known(lsn)])[:_MOST_LSNS]


def _lives(evidence: Evidence, lsns: list[Lsn]) -> Iterator[Line]:
    """The first record whole, the others as far as there is room."""
    for nth, lsn in enumerate(lsns):
        yield from life(evidence, lsn, NEEDED - 2 * nth)


def _also(evidence: Evidence, lsns: list[Lsn]) -> Iterator[Line]:
    """Recoveries, tables, losses: what comes between a record and its end."""
    yield from recoveries.recoveries(evidence, lsns, NEEDED - 1)
    yield from recoveries.tables(evidence, lsns, NEEDED - 3)
    names = [name for lsn in lsns for name in evidence.group(lsn).members]
    yield from losses(evidence, names, lsns, 4)


# ---- the kinds of findings -----------------------------------------------------------------------


def _since(evidence: Evidence, lsns: list[Lsn]) -> int:
    """When the first of some records was made.

    A count of who has them takes a segment that had caught up by then like any other.
    """
    births = [evidence.birth(lsn) for lsn in lsns]
    return min((born.time_ns for born in births if born), default=0)


def _counted(evidence: Evidence, focus: Focus) -> list[Lsn]:
    """The records of which it matters who has them."""
    lsns = _records(evidence, focus)
    lsns += [lsn for lsn in focus.bounds if evidence.known(lsn) and lsn not in lsns]
    if "is not a CPL" in evidence.result.finding:
        lsns += [each for lsn in lsns[:1] for each in evidence.mtr_of(lsn) if each not in lsns]
    lsns += [
        gap
        for lsn in lsns[:1]
        for segment in evidence.group(lsn).members
        if evidence.copies(lsn)[segment].arrived and (gap := missing(evidence, lsn, segment))
    ]
    return list(dict.fromkeys(lsns))


def _quorum(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    lsns = _counted(evidence, focus)
    yield from _lives(evidence, lsns)
    if evidence.result.invariant == "pgcl-is-backed":
        for lsn in lsns[:1]:
            yield from rightly(evidence, lsn, NEEDED)
            yield from losing(evidence, lsn, NEEDED)
    yield from _also(evidence, lsns)
    yield from disks.restarts(evidence, focus.segments, lsns, 6, _since(evidence, lsns))


def _recovery(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    lsns = _lost_first(evidence, focus)
    yield from _lives(evidence, lsns)
    yield from recoveries.recoveries(evidence, lsns, NEEDED)
    yield from recoveries.tables(evidence, lsns, NEEDED - 1)
    yield from recoveries.seals(evidence, lsns, NEEDED - 3)
    yield from disks.restarts(evidence, focus.segments, lsns, 8)
    yield from recoveries.imagined(evidence, focus.segments, lsns)


def _lost_first(evidence: Evidence, focus: Focus) -> list[Lsn]:
    """A VDL is lost with a record at or below it: the one that those who would answer lack."""
    lsns = _records(evidence, focus)
    if "loses" not in evidence.result.finding or not lsns:
        return lsns
    members = set(focus.segments)
    opens_at = re.search(r"opens at VDL (\d+)", evidence.result.finding)
    low = int(opens_at[1]) if opens_at else 0
    owner = evidence.reference.owner[lsns[0]]
    view = evidence.reference.writers[owner]
    for lsn in evidence.reference.between(low, lsns[0]):
        asked = [each for each in evidence.holders(lsn) if each.segment in members]
        if evidence.reference.is_live(view, lsn) and not any(each.held for each in asked):
            return list(dict.fromkeys((lsn, *lsns)))
    return lsns


def _fence(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    """Promises: who sealed what, and what was taken after it."""
    lsns = _records(evidence, focus)
    last = evidence.last
    if last is not None and isinstance(last.event, Arrival):
        yield disks.received(evidence, last, last.event)
        span = disks.lsns_of(last.event)
        if span and evidence.known(span[0]) and span[0] not in lsns:
            lsns.insert(0, span[0])
    yield from _lives(evidence, lsns)
    yield from _also(evidence, lsns)
    if len(focus.segments) == 1:
        yield from disks.epochs(evidence, focus.segments[0], NEEDED)
    else:
        yield from recoveries.seals(evidence, lsns, NEEDED)
    yield from disks.restarts(evidence, focus.segments, lsns, NEEDED)


def _disk(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    lsns = _records(evidence, focus)
    last = evidence.last
    for segment in focus.segments[:1]:
        yield from disks.writes(evidence, segment, NEEDED - 1)
        taken = evidence.of(BatchReceived, GossipReceived, source=segment)
        for step in [each for each in taken if each.event.lsns and not lsns][-4:]:
            yield disks.received(evidence, step, step.event, 7)
        if last is not None and isinstance(last.event, AckSent):
            yield from disks.last_sync(evidence, segment, last)
        for lsn in lsns[:1]:
            yield from disks.arrivals(evidence, segment, lsn)
    yield from disks.restarts(evidence, focus.segments, lsns, NEEDED)
    yield from _lives(evidence, lsns)
    yield from recoveries.recoveries(evidence, lsns, 6)
    yield from recoveries.tables(evidence, lsns, 5)


def _allocated(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    """A record that names a wrong one before it: who wrote its page, and who read it meanwhile."""
    for page_id in focus.pages[:1]:
        births = [
            step
            for step in evidence.of(MtrAllocated)
            if any(record.page_id == page_id for record in step.event.records)
        ]
        for step in births[-_MOST_LSNS:]:
            yield birth(evidence, step, NEEDED - 1)
        yield from calls.page_writes(evidence, page_id, NEEDED - 2)
        for call in _readers_of(evidence, page_id)[-_MOST_CALLS:]:
            yield from calls.made(evidence, call)
            yield from calls.route(evidence, call)
    yield from _disk(evidence, focus)


def _readers_of(evidence: Evidence, page_id: PageId) -> list[Call]:
    """The calls that have read a page, in their order."""
    made = evidence.world.calls
    return [each for each in made if each.reads_pages and page_id in each.operation.pages]


def _layers(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    named = _LAYER.search(evidence.result.finding)
    if named is not None:
        for segment in focus.segments[:1]:
            yield from disks.layers(evidence, segment, int(named[1]))
    yield from disks.restarts(evidence, focus.segments, (), 7)


def _image(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    for segment in focus.segments[:1]:
        yield from disks.announced(evidence, segment)
    lsns = _records(evidence, focus)
    yield from _lives(evidence, lsns)
    yield from _also(evidence, lsns)


def _pool(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    lsns = _records(evidence, focus)
    yield from _lives(evidence, lsns)
    for step in evidence.of(MtrAllocated):
        yield birth(evidence, step, 5)
    pages = {page for step in evidence.of(PoolApplied) for page in step.event.page_ids}
    for page_id in sorted(pages):
        yield from calls.page_writes(evidence, page_id, 8)
    yield from _also(evidence, lsns)


def _limit(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    """LSNs against their limit: all that are allocated and not durable."""
    lsns = _records(evidence, focus)
    for step in evidence.of(MtrAllocated)[-6:]:
        yield birth(evidence, step, NEEDED)
    first = next(iter(evidence.of(MtrAllocated)), None)
    if first is not None:
        lsns = [first_of(first)]
    if (last := evidence.last) is not None:
        lal = evidence.world.schedule.knobs.lal
        text = f"no LSN may be more than {lal} (LAL) above the VDL, or the last one annulled"
        yield Line(last.number, last.time_ns, NEEDED, text)
    yield from _lives(evidence, lsns)
    yield from _also(evidence, lsns)


def _read(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    call = calls.failing_call(evidence)
    by_number = {each.number: each for each in evidence.world.calls}
    named = [by_number[number] for number in focus.calls if number in by_number]
    if not named and call is None:
        named = [each for each in by_number.values() if each.returned_ns is None]
        named = [each for each in named if each.operation.kind != "put"][:2]
    for each in named or ([call] if call else []):
        yield from calls.made(evidence, each)
        yield from calls.route(evidence, each)
        yield from calls.modelled(evidence, each)
        for page_id in each.operation.pages[:1]:
            yield from calls.page_writes(evidence, page_id, 7)
    found = _READER_AT.search(evidence.result.finding)
    if found is not None:
        yield from disks.collections(evidence, int(found[1]))
    lsns = list(dict.fromkeys(_records(evidence, focus)))
    yield from _lives(evidence, lsns)
    for lsn in focus.bounds:
        if lsn not in lsns and (born := evidence.birth(lsn)) is not None:
            yield birth(evidence, born, 8)
    yield from _also(evidence, lsns)


def _call(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    """A call that went wrong; of what was left behind, the calls that were given up last."""
    made = [each for each in evidence.world.calls if each.returned_ns is not None]
    named = [each for each in made if each.number in focus.calls]
    if not named and focus.writers:
        given_up = [each for each in made if each.cancelled and each.writer in focus.writers]
        named = given_up[-_MOST_CALLS:] or made[-1:]
    for each in named:
        yield from calls.made(evidence, each)
        yield from calls.ended(evidence, each)
        yield from calls.route(evidence, each)
    yield from _anything(evidence, focus)


def _waiting(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    yield from waiting.pending(evidence)
    yield from recoveries.recoveries(evidence, (), 6)
    yield from disks.restarts(evidence, evidence.hosts, (), 8)
    yield from losses(evidence, (), (), 5)


def _busy(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    yield from busy(evidence, focus)
    yield from _waiting(evidence, focus)


def _expected(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    yield from waiting.stalled(evidence)
    yield from recoveries.recoveries(evidence, (), 6)
    yield from losses(evidence, (), (), 5)


def _anything(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    lsns = _records(evidence, focus)
    yield from _lives(evidence, lsns)
    yield from _also(evidence, lsns)
    yield from disks.restarts(evidence, focus.segments, lsns, 7)


_CHAPTERS: Final[Mapping[str, Chapter]] = {
    "one-lsn-one-record": _allocated,
    "any-read-quorum-recovers": _recovery,
    "vdl-is-a-cpl": _quorum,
    "vdl-never-goes-back": _recovery,
    "pgcl-is-backed": _quorum,
    "scl-has-no-gap": _disk,
    "ack-after-sync": _disk,
    "epochs-only-rise": _fence,
    "sealed-means-over": _fence,
    "annulled-is-gone": _recovery,
    "range-covers-the-past": _recovery,
    "lal-bounds-the-log": _limit,
    "reads-match-the-model": _read,
    "floor-below-readers": _read,
    "evicted-is-durable": _pool,
    "images-match-replay": _image,
    "reported-once-when-durable": _quorum,
    "watermarks-only-rise": _quorum,
    "no-needless-loss": _disk,
    "disks-are-whole": _disk,
    "nothing-is-left": _call,
    "annuls-above-the-vdl": _recovery,
    "a-seal-is-final": _fence,
    "heals-and-converges": _waiting,
    "needless-unavailability": _waiting,
    "history": _read,
    "deadlock": _waiting,
    "livelock": _busy,
    "undecided": _waiting,
    "expectation": _expected,
    "layers-hold-the-log": _layers,
    **dict.fromkeys((each.name for each in INVARIANTS.values() if each.of_sql), _call),
    "typed errors": _call,
    "wrong calls": _call,
    "": passed,
}
