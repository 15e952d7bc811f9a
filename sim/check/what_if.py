"""What if a writer had to recover now? Invariant 2, tried on every read quorum (§11).

A plan is made from each choice of three of six, and held against the reference model: it must keep
every VDL that was observed, know where each group's log ends, and have the log up to there.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from operator import attrgetter

from aurora.consistency import VolumeConsistency
from aurora.mtr import VolumeChains
from aurora.quorum import QuorumModel
from aurora.recovery import announced_vdl, log_sources, plan_recovery
from aurora.recovery_plan import RecoveryPlan
from segments.protocol.errors import InvalidConfig
from segments.protocol.ids import Lsn, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import SealReply
from segments.protocol.record import RedoRecord
from segments.protocol.run import read_records
from segments.protocol.truncation import TruncationTable
from segments.state import SegmentState
from sim.check.invariants import Broken, holds, newest_view
from sim.check.reference_model import Reference, WriterView, is_annulled
from sim.check.rules_of_logs import annuls_exactly

_EPOCH = VolumeEpoch(1 << 40, 1)
"""Of the writers that are only imagined: above all others."""
_epoch_of = attrgetter("epoch")


@holds("any-read-quorum-recovers")
def any_read_quorum_recovers(
    reference: Reference,
    groups: Mapping[PgId, QuorumModel],
    durable: Mapping[SegmentId, SegmentState],
    observed: Lsn,
    lal: int,
    shift: int = 0,
) -> int:
    """2: plan from every read quorum of witnesses; returns the number of plans made.

    With several groups a choice of one is combined with one of each other, which ``shift`` tells:
    all choices of each group are tried in every call, and all combinations as ``shift`` counts up.
    """
    choices = {
        pg_id: list(combinations([each for each in model.members if each in durable], model.read))
        for pg_id, model in groups.items()
    }
    if not choices or not all(choices.values()):
        return 0
    replies = {segment: state.seal_reply(segment, _EPOCH, 0) for segment, state in durable.items()}
    facts = _numbered({segment: _facts(reply) for segment, reply in replies.items()})
    tables = {_table_facts(each): each.table for each in replies.values()}
    common = next(iter(tables.values())) if len(tables) == 1 else None
    tried: set[object] = set()
    log = _Log(reference, durable)
    for combination in combined({pg_id: len(each) for pg_id, each in choices.items()}, shift):
        chosen = {
            pg_id: [replies[segment] for segment in choices[pg_id][at]]
            for pg_id, at in combination.items()
        }
        everyone = [reply for group in chosen.values() for reply in group]
        adopted = common or max((each.table for each in everyone), key=_epoch_of)
        sources = {pg_id: log_sources(group, adopted)[0].segment for pg_id, group in chosen.items()}
        answers = [sorted([facts[each.segment] for each in group]) for group in chosen.values()]
        case = (*sources.values(), *map(tuple, answers))
        if case in tried:
            continue  # the same answers, and the same records: the same plan
        tried.add(case)
        try:
            fetched = log.above(announced_vdl(everyone), sources)
            plan = plan_recovery(_EPOCH, lal, chosen, fetched)
            _keeps_what_was_observed(plan, observed)
            view = newest_view(reference, adopted)
            ranges = () if view is None else view.table.ranges
            settled = max(each.table.settled for each in everyone)
            annuls_exactly("", plan, ranges, lal, settled)
            log.has(plan, adopted, sources)
            _starts_a_writer(plan)
        except Broken as broken:
            members = ", ".join(reply.segment for reply in everyone)
            raise Broken(f"a recovery from {members} {broken}") from None
    return len(tried)


def combined(counts: Mapping[PgId, int], shift: int) -> list[dict[PgId, int]]:
    """Which choice of each group goes with which of the others, by their positions.

    Each position of each group occurs. The digits of ``shift`` say how far each group is ahead of
    the one before it: by the time they have run through, every combination has been made.
    """
    offsets: dict[PgId, int] = {}
    offset, rest = 0, shift
    for pg_id, count in counts.items():
        if offsets:
            rest, digit = divmod(rest, count)
            offset += digit
        offsets[pg_id] = offset
    return [
        {pg_id: (turn + offsets[pg_id]) % count for pg_id, count in counts.items()}
        for turn in range(max(counts.values()))
    ]


# ---- what a plan must be -------------------------------------------------------------------------


def _keeps_what_was_observed(plan: RecoveryPlan, observed: Lsn) -> None:
    if plan.vdl < observed or is_annulled(plan.table.ranges, observed):
        raise Broken(f"opens at VDL {plan.vdl} and loses {observed}, a VDL that was observed")


class _Log:
    """The log as the segments hold it, during one round: nothing is looked up or held twice."""

    def __init__(self, reference: Reference, durable: Mapping[SegmentId, SegmentState]) -> None:
        self._reference = reference
        self._durable = durable
        self._above: dict[tuple[SegmentId, Lsn], list[RedoRecord]] = {}
        self._held: set[tuple[VolumeEpoch, PgId, SegmentId, Lsn, Lsn]] = set()

    def above(self, anchor: Lsn, sources: Mapping[PgId, SegmentId]) -> dict[PgId, list[RedoRecord]]:
        """What a recovery fetches of each group: the records above ``anchor``."""
        fetched = {}
        for pg_id, source in sources.items():
            records = self._above.get((source, anchor))
            if records is None:
                index = self._durable[source].index
                if anchor < index.base_lsn:
                    raise Broken(
                        f"hears of no VDL above {anchor}, and {source}, its source, has pages as "
                        f"of {index.base_lsn} in place of records"
                    )
                records = read_records(index.runs_after(anchor, 1 << 40))
                self._above[source, anchor] = records
            fetched[pg_id] = records
        return fetched

    def has(
        self, plan: RecoveryPlan, adopted: TruncationTable, sources: Mapping[PgId, SegmentId]
    ) -> None:
        """It is the one that the writer of the ``adopted`` table must see, up to the VDL."""
        view = newest_view(self._reference, adopted)
        if view is None:
            return  # formatted, and never opened
        for pg_id, tail in plan.tails.items():
            case = (view.epoch, pg_id, sources[pg_id], tail, plan.vdl)
            if case not in self._held:
                self._has_group(view, pg_id, sources[pg_id], tail, plan.vdl)
                self._held.add(case)

    def _has_group(
        self, view: WriterView, pg_id: PgId, source: SegmentId, tail: Lsn, vdl: Lsn
    ) -> None:
        expected = self._reference.tail(view, pg_id, vdl)
        if tail != expected:
            raise Broken(
                f"opens at VDL {vdl} with PG {pg_id} ending at {tail}; its last live record "
                f"is {expected}"
            )
        # Whom the records are fetched from has all of them, or pages in place of the oldest.
        index = self._durable[source].index
        needed = self._reference.chain(view, pg_id, index.base_lsn, tail)
        for lsn in index.not_held(needed):
            raise Broken(f"opens at VDL {vdl}; {source}, its source, lacks LSN {lsn}")


def _starts_a_writer(plan: RecoveryPlan) -> None:
    try:
        VolumeChains(plan.vdl, plan.tails)
        VolumeConsistency(plan.vdl, plan.tails)
    except InvalidConfig as error:
        raise Broken(f"makes no writer: {error}") from error


# ---- a plan --------------------------------------------------------------------------------------


def _numbered(facts: Mapping[SegmentId, object]) -> dict[SegmentId, int]:
    """The same number for whoever says the same: numbers are compared more quickly."""
    numbers: dict[object, int] = {}
    return {segment: numbers.setdefault(each, len(numbers)) for segment, each in facts.items()}


def _facts(reply: SealReply) -> tuple[object, ...]:
    """What a plan depends on, whoever said it."""
    return reply.scl, reply.vdl, reply.floor, *_table_facts(reply)


def _table_facts(reply: SealReply) -> tuple[VolumeEpoch, VolumeEpoch, tuple[object, ...]]:
    return reply.table.epoch, reply.table.settled, reply.table.ranges
