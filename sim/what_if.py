"""What if a writer had to recover now? Invariant 2, tried on every read quorum (§11).

A plan is made from each choice of three of six, and held against the reference model: it must keep
every VDL that was observed, know where each group's log ends, and have the log up to there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from aurora.consistency import VolumeConsistency
from aurora.mtr import VolumeChains
from aurora.quorum import QuorumModel
from aurora.recovery import (
    RecoveryPlan,
    adopted_table,
    announced_vdl,
    plan_recovery,
    surviving_scl,
)
from segments.protocol.errors import InvalidConfig
from segments.protocol.ids import Lsn, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import SealReply
from segments.protocol.truncation import TruncationTable
from segments.state import SegmentState
from sim.invariants import Broken, newest_view
from sim.oracle import Reference

_EPOCH = VolumeEpoch(1 << 40, 1)
"""Of the writers that are only imagined: above all others."""


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
    replies = {segment: _seal_reply(segment, state) for segment, state in durable.items()}
    tried: set[object] = set()
    for combination in combined({pg_id: len(each) for pg_id, each in choices.items()}, shift):
        chosen = {
            pg_id: [replies[segment] for segment in choices[pg_id][at]]
            for pg_id, at in combination.items()
        }
        sources = _sources(chosen)
        case = (tuple(sources.values()), tuple(_facts(group) for group in chosen.values()))
        if case in tried:
            continue  # the same answers, and the same records: the same plan
        tried.add(case)
        plan = _plan(lal, chosen, sources, durable)
        try:
            _keeps_what_was_observed(plan, observed)
            _has_the_log(reference, plan, adopted_table(_everyone(chosen)), sources, durable)
            _starts_a_writer(plan)
        except Broken as broken:
            members = ", ".join(reply.segment for reply in _everyone(chosen))
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
    if plan.vdl < observed or plan.table.annuls(observed):
        raise Broken(f"opens at VDL {plan.vdl} and loses {observed}, a VDL that was observed")


def _has_the_log(
    reference: Reference,
    plan: RecoveryPlan,
    adopted: TruncationTable,
    sources: Mapping[PgId, SegmentId],
    durable: Mapping[SegmentId, SegmentState],
) -> None:
    """The log is the one that the writer of the ``adopted`` table must see, up to the VDL."""
    view = newest_view(reference, adopted)
    if view is None:
        return  # formatted, and never opened
    for pg_id, tail in plan.tails.items():
        expected = reference.tail(view, pg_id, plan.vdl)
        if tail != expected:
            raise Broken(
                f"opens at VDL {plan.vdl} with PG {pg_id} ending at {tail}; its last live record "
                f"is {expected}"
            )
        # Whom the records are fetched from has all of them, or pages in place of the oldest.
        index = durable[sources[pg_id]].index
        for lsn in reference.chain(view, pg_id, index.base_lsn, tail):
            if lsn not in index:
                raise Broken(
                    f"opens at VDL {plan.vdl}; {sources[pg_id]}, its source, lacks LSN {lsn}"
                )


def _starts_a_writer(plan: RecoveryPlan) -> None:
    try:
        VolumeChains(plan.vdl, plan.tails)
        VolumeConsistency(plan.vdl, plan.tails)
    except InvalidConfig as error:
        raise Broken(f"makes no writer: {error}") from error


# ---- a plan --------------------------------------------------------------------------------------


def _everyone(chosen: Mapping[PgId, Sequence[SealReply]]) -> list[SealReply]:
    return [reply for group in chosen.values() for reply in group]


def _sources(chosen: Mapping[PgId, Sequence[SealReply]]) -> dict[PgId, SegmentId]:
    """From whom each group's records are fetched."""
    table = adopted_table(_everyone(chosen))
    return {
        pg_id: max(group, key=lambda reply: (surviving_scl(reply, table), reply.scl)).segment
        for pg_id, group in chosen.items()
    }


def _facts(group: Sequence[SealReply]) -> tuple[object, ...]:
    """What a plan depends on, whoever said it."""
    return tuple(sorted((each.scl, each.vdl, each.floor, *_of_table(each)) for each in group))


def _of_table(reply: SealReply) -> tuple[VolumeEpoch, object]:
    return reply.table.epoch, reply.table.ranges


def _plan(
    lal: int,
    chosen: Mapping[PgId, Sequence[SealReply]],
    sources: Mapping[PgId, SegmentId],
    durable: Mapping[SegmentId, SegmentState],
) -> RecoveryPlan:
    anchor = announced_vdl(_everyone(chosen))
    fetched = {}
    for pg_id, source in sources.items():
        index = durable[source].index
        fetched[pg_id] = index.records_after(max(anchor, index.base_lsn), 1 << 40)
    return plan_recovery(_EPOCH, lal, chosen, fetched)


def _seal_reply(segment: SegmentId, state: SegmentState) -> SealReply:
    return SealReply(_EPOCH, segment, 0, state.scl, state.vdl, state.floor, state.table)
