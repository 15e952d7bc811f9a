"""What if a writer had to recover now? Invariant 2, tried on every read quorum (§11).

A plan is made from each choice of three of six, and held against the reference model: it must keep
every VDL that was observed, know where each group's log ends, and have the log up to there.

A plan is a pure function of what was answered and fetched. So one that was found right is not made
again from the same answers and the same records (`Recoveries`): of it only that is held anew which
the rest of the world may have changed since, the observed VDL and where the log ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from itertools import count as counted_up
from operator import attrgetter
from typing import Final

import attrs

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
_REMEMBERED: Final = 4_096
"""Plans that were found right, and logs: more are forgotten, and made again."""


@holds("any-read-quorum-recovers")
def any_read_quorum_recovers(
    reference: Reference,
    groups: Mapping[PgId, QuorumModel],
    durable: Mapping[SegmentId, SegmentState],
    observed: Lsn,
    lal: int,
    shift: int = 0,
    known: Recoveries | None = None,
) -> int:
    """2: plan from every read quorum of witnesses; returns the number of different ones.

    With several groups a choice of one is combined with one of each other, which ``shift`` tells:
    all choices of each group are tried in every call, and all combinations as ``shift`` counts up.
    ``known`` are those of earlier calls, for the same reference.
    """
    known = Recoveries() if known is None else known
    witnesses = {segment: known.witness(segment, state) for segment, state in durable.items()}
    choices = {
        pg_id: list(
            combinations(
                [witnesses[each] for each in model.members if each in witnesses], model.read
            )
        )
        for pg_id, model in groups.items()
    }
    if not choices or not all(choices.values()):
        return 0
    tried: set[object] = set()
    outcomes: set[int] = set()
    for combination in combined({pg_id: len(each) for pg_id, each in choices.items()}, shift):
        chosen = [choices[pg_id][at] for pg_id, at in combination.items()]
        try:
            case = known.case(choices, chosen)
            if case.whole in tried:
                continue  # the same answers, and the same logs
            tried.add(case.whole)
            view = newest_view(reference, case.adopted)
            right = known.right.get((case.facts, view))
            if right is None:
                right = known.outcome(_planned(reference, view, case, observed, lal, known), view)
                known.right[case.facts, view] = right
            elif id(right) not in outcomes:
                _keeps_what_was_observed(right, observed)
                _ends_where_the_log_does(reference, view, right)
            outcomes.add(id(right))
            _has_the_log(reference, view, right, case.sources, known)
        except Broken as broken:
            members = ", ".join(each.segment for group in chosen for each in group)
            raise Broken(f"a recovery from {members} {broken}") from None
    return len(tried)


def _judged(chosen: Sequence[Sequence[Witness]]) -> Judged:
    everyone = [each.reply for group in chosen for each in group]
    adopted = max([each.table for each in everyone], key=_epoch_of)
    answers = [tuple(sorted([each.facts for each in group])) for group in chosen]
    places = [_source(group, adopted) for group in chosen]
    return Judged(adopted, announced_vdl(everyone), places, answers)


def _source(group: Sequence[Witness], adopted: TruncationTable) -> int:
    """The place of whom a recovery fetches a group's records from, as `log_sources` decides."""
    facts = [each.facts for each in group]
    if facts.count(facts[0]) == len(facts):
        return 0  # all are the same: the first
    replies = [each.reply for each in group]
    source = log_sources(replies, adopted)[0]
    return next(at for at, each in enumerate(replies) if each is source)


def _planned(
    reference: Reference,
    view: WriterView | None,
    case: Case,
    observed: Lsn,
    lal: int,
    known: Recoveries,
) -> RecoveryPlan:
    """The plan from these answers, once all is held of it that they decide."""
    replies = {
        pg_id: [each.reply for each in group]
        for pg_id, group in zip(case.sources, case.chosen, strict=True)
    }
    plan = plan_recovery(_EPOCH, lal, replies, dict(zip(replies, case.fetched, strict=True)))
    _keeps_what_was_observed(plan, observed)
    ranges = () if view is None else view.table.ranges
    settled = max([each.table.settled for group in replies.values() for each in group])
    annuls_exactly("", plan, ranges, lal, settled)
    _ends_where_the_log_does(reference, view, plan)
    start = plan.vdl, *plan.tails.items()
    if start not in known.starts:
        _starts_a_writer(plan)
        known.starts.add(start)
    return plan


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


def _ends_where_the_log_does(
    reference: Reference, view: WriterView | None, plan: RecoveryPlan
) -> None:
    """It knows the last record of each group that the writer of ``view`` must see."""
    if view is None:
        return  # formatted, and never opened
    for pg_id, tail in plan.tails.items():
        expected = reference.tail(view, pg_id, plan.vdl)
        if tail != expected:
            raise Broken(
                f"opens at VDL {plan.vdl} with PG {pg_id} ending at {tail}; its last live record "
                f"is {expected}"
            )


def _has_the_log(
    reference: Reference,
    view: WriterView | None,
    plan: RecoveryPlan,
    sources: Mapping[PgId, Witness],
    known: Recoveries,
) -> None:
    """Whom the records are fetched from has all of them, or pages in place of the oldest."""
    if view is None:
        return
    for pg_id, tail in plan.tails.items():
        source = sources[pg_id]
        case = view, pg_id, source.log, tail
        if case not in known.held:
            index = source.state.index
            needed = reference.chain(view, pg_id, index.base_lsn, tail)
            for lsn in index.not_held(needed):
                raise Broken(
                    f"opens at VDL {plan.vdl}; {source.segment}, its source, lacks LSN {lsn}"
                )
            known.held.add(case)


def _starts_a_writer(plan: RecoveryPlan) -> None:
    try:
        VolumeChains(plan.vdl, plan.tails)
        VolumeConsistency(plan.vdl, plan.tails)
    except InvalidConfig as error:
        raise Broken(f"makes no writer: {error}") from error


# ---- what is known of earlier rounds -------------------------------------------------------------


@attrs.frozen(eq=False)
class Witness:
    """A segment as a recovery would hear it now."""

    segment: SegmentId
    state: SegmentState
    seen: tuple[object, ...]
    """What tells whether it is still the same."""
    reply: SealReply
    facts: int
    """The same number for whoever says the same."""
    log: int
    """A number of its own for whatever it has ever held."""


@attrs.frozen(eq=False)
class Judged:
    """What follows from answers alone."""

    adopted: TruncationTable
    anchor: Lsn
    """The highest VDL announced."""
    places: Sequence[int]
    """Who of each group is fetched from."""
    answers: Sequence[tuple[int, ...]]
    """Of each group, whoever gave which."""


@attrs.define(eq=False)  # as nothing frozen is, quickly made
class Case:
    """What a recovery hears from a choice of witnesses, and what it fetches then."""

    adopted: TruncationTable
    chosen: Sequence[Sequence[Witness]]
    """Of each group."""
    sources: Mapping[PgId, Witness]
    fetched: Sequence[Sequence[RedoRecord]]
    """Of each group."""
    facts: tuple[object, ...]
    """All that a plan depends on."""
    whole: tuple[object, ...]
    """That, and which logs the records are from."""


class Recoveries:
    """The imagined recoveries of one run that were found right, and what they were made from."""

    def __init__(self) -> None:
        self.right: dict[object, RecoveryPlan] = {}
        """By answers, what was fetched, and the writer whose table was adopted."""
        self.held: set[tuple[WriterView, PgId, int, Lsn]] = set()
        """Which logs have all that writers must see up to an LSN."""
        self.starts: set[tuple[object, ...]] = set()
        """From which VDL and tails a writer starts."""
        self._said: dict[tuple[int, ...], Judged] = {}
        self._cases: dict[tuple[object, ...], Case] = {}
        self._outcomes: dict[object, RecoveryPlan] = {}
        self._above: dict[tuple[int, Lsn], tuple[int, Sequence[RedoRecord]]] = {}
        self._witnesses: dict[SegmentId, Witness] = {}
        self._numbers: dict[object, int] = {}
        self._count = counted_up()

    def witness(self, segment: SegmentId, state: SegmentState) -> Witness:
        """What a segment in this ``state`` answers: as before if nothing has come or gone there.

        Records come and go, so their number and size tell; another state is another log.
        """
        index, before = state.index, self._witnesses.get(segment)
        log = (index.scl, index.base_lsn, len(index), index.encoded_bytes(), index.spoilt_runs)
        seen = (log, state.vdl, state.floor, state.announced_floor, state.table)
        if before is not None and before.state is not state:
            before = None
        if before is not None and before.seen == seen:
            return before
        self._forget_some()
        reply = state.seal_reply(segment, _EPOCH, 0)
        facts = self._numbers.setdefault(_facts(reply), next(self._count))
        number = next(self._count) if before is None or before.seen[0] != log else before.log
        now = Witness(segment, state, seen, reply, facts, number)
        self._witnesses[segment] = now
        return now

    def case(self, groups: Iterable[PgId], chosen: Sequence[Sequence[Witness]]) -> Case:
        """What a recovery from these witnesses would hear and fetch."""
        said = tuple([each.facts for group in chosen for each in group])
        known = self._said.get(said)
        if known is None:
            known = self._said[said] = _judged(chosen)
        sources = [group[place] for group, place in zip(chosen, known.places, strict=True)]
        whole = (*known.answers, *[each.log for each in sources])
        case = self._cases.get(whole)
        if case is None:
            found = [self._fetched(source, known.anchor) for source in sources]
            facts = (*known.answers, *[number for number, _ in found])
            case = self._cases[whole] = Case(
                known.adopted, chosen, dict(zip(groups, sources, strict=True)),
                [records for _, records in found], facts, whole,
            )  # fmt: skip
        return case

    def outcome(self, plan: RecoveryPlan, view: WriterView | None) -> RecoveryPlan:
        """The same plan for all of which the same is held again: they end alike."""
        ends = view, plan.vdl, plan.table.ranges, *plan.tails.items()
        return self._outcomes.setdefault(ends, plan)

    def _fetched(self, source: Witness, anchor: Lsn) -> tuple[int, Sequence[RedoRecord]]:
        """What a recovery fetches of a group: the records of its source above ``anchor``.

        And a number, the same for whoever gives the same.
        """
        found = self._above.get((source.log, anchor))
        if found is None:
            index = source.state.index
            if anchor < index.base_lsn:
                raise Broken(
                    f"hears of no VDL above {anchor}, and {source.segment}, its source, has pages "
                    f"as of {index.base_lsn} in place of records"
                )
            records = tuple(read_records(index.runs_after(anchor, 1 << 40)))
            number = self._numbers.setdefault(records, next(self._count))
            found = self._above[source.log, anchor] = number, records
        return found

    def _forget_some(self) -> None:
        remembered = (
            self.right, self.held, self.starts, self._said, self._cases, self._outcomes,
            self._above, self._numbers,
        )  # fmt: skip
        for each in remembered:
            if len(each) > _REMEMBERED:
                each.clear()


def _facts(reply: SealReply) -> tuple[object, ...]:
    """What a plan depends on, whoever said it."""
    table = reply.table
    return reply.scl, reply.vdl, reply.floor, table.epoch, table.settled, table.ranges
