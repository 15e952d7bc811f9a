"""The imagined recoveries of invariant 2: each way in which a plan can be wrong is told."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import attrs
import pytest

from aurora.quorum import QuorumModel
from aurora.recovery import plan_recovery
from aurora.recovery_plan import RecoveryPlan
from segments.protocol.ids import Lsn, SegmentId
from segments.state import SegmentState
from sim.check import what_if
from sim.check.invariants import Broken
from sim.check.reference_model import Reference
from sim.check.what_if import Recoveries, any_read_quorum_recovers, combined
from tests.store_rig import FIRST, MEMBERS, TINY, StoreRig, batch, records

GROUPS = {0: QuorumModel(MEMBERS)}


def reference(count: int) -> Reference:
    """A volume whose first writer has allocated so many records."""
    made = Reference(1)
    made.begin_writer("W", RecoveryPlan.fresh(FIRST, [0]), 0)
    if count:
        made.allocated("W", records(range(1, count + 1)))
    return made


def state(held: Lsn, vdl: Lsn) -> SegmentState:
    rig = StoreRig()
    rig.step(batch(records(range(1, held + 1)), vdl=vdl))
    rig.settle()
    return rig.state


def collected(held: Lsn, floor: Lsn) -> SegmentState:
    """As of a segment that has only the newest versions left below a floor."""
    rig = StoreRig(config=attrs.evolve(TINY, fold_bytes=1))
    rig.take(records(range(1, floor + 1)), vdl=floor, floor=floor)
    rig.work()
    assert rig.state.layers.base_lsn == floor
    rig.take(records(range(floor + 1, held + 1), prev=floor, after=records(range(1, floor + 1))))
    rig.state.announced(held, floor)
    return rig.state


def recover(known: Reference, durable: Mapping[SegmentId, SegmentState], observed: Lsn) -> int:
    return any_read_quorum_recovers(known, GROUPS, durable, observed, 1000)


def test_every_read_quorum_of_a_sound_volume_recovers() -> None:
    durable = {each: state(10, 10) for each in MEMBERS[:4]}
    durable |= {each: state(6, 6) for each in MEMBERS[4:]}
    assert recover(reference(10), durable, 10) > 1


def test_an_observed_vdl_that_a_choice_does_not_know_is_lost() -> None:
    durable = {each: state(10, 10) for each in MEMBERS[:3]}
    durable |= {each: state(6, 6) for each in MEMBERS[3:]}
    with pytest.raises(Broken, match="from D0, E0, F0 opens at VDL 6 and loses 10"):
        recover(reference(10), durable, 10)


def test_an_announced_vdl_is_not_believed_when_the_log_ends_below_it() -> None:
    durable = {each: state(5, 10) for each in MEMBERS}
    with pytest.raises(Broken, match="VDL 10 with PG 0 ending at 5; its last live record is 10"):
        recover(reference(10), durable, 10)


def test_an_announced_vdl_is_not_believed_when_nobody_has_any_log() -> None:
    durable = {each: state(0, 10) for each in MEMBERS}
    with pytest.raises(Broken, match="PG 0 ending at 0; its last live record is 10"):
        recover(reference(10), durable, 10)


def test_no_writer_can_be_made_of_a_vdl_that_is_no_record() -> None:
    durable = {each: state(10, 12) for each in MEMBERS}
    with pytest.raises(Broken, match="makes no writer: last_volume_lsn is 12"):
        recover(reference(10), durable, 10)


def test_a_source_with_a_hole_below_its_scl_is_told() -> None:
    durable = {each: state(10, 10) for each in MEMBERS}
    for each in durable.values():
        linked = each.index._linked
        whole = linked._runs.pop()
        del linked._lasts[:], linked._ends[:]
        linked.append(whole.cut(0, 3))
        linked.append(whole.cut(4, 10))
    with pytest.raises(Broken, match="A0, its source, lacks LSN 4"):
        recover(reference(10), durable, 10)


def test_a_recovery_that_was_right_is_imagined_again_only_from_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans = 0

    def planned(*given: Any) -> RecoveryPlan:
        nonlocal plans
        plans += 1
        return plan_recovery(*given)

    monkeypatch.setattr(what_if, "plan_recovery", planned)
    durable = {each: state(10, 10) for each in MEMBERS}
    known, written = Recoveries(), reference(10)

    def again(observed: Lsn = 10) -> int:
        before = plans
        any_read_quorum_recovers(written, GROUPS, durable, observed, 1000, 0, known)
        return plans - before

    assert again() == 1  # all say the same, and whoever is asked gives the same
    assert again() == 0
    with pytest.raises(Broken, match="opens at VDL 10 and loses 11"):
        again(observed=11)
    durable["A0"].announced(10, 7)
    assert again() > 0  # whoever is asked together with it
    assert again() == 0
    written.allocated("W", records(range(11, 12), after=records(range(1, 11))))
    assert again() == 0  # above the VDL
    linked = durable["A0"].index._linked
    whole = linked._runs.pop()
    del linked._lasts[:], linked._ends[:]
    linked.append(whole.cut(0, 3))
    linked.append(whole.cut(4, 10))
    with pytest.raises(Broken, match="A0, its source, lacks LSN 4"):
        again()


def test_where_the_log_ends_is_asked_again_of_a_recovery_that_was_right() -> None:
    durable, known = {each: state(10, 10) for each in MEMBERS}, Recoveries()
    written = reference(10)
    any_read_quorum_recovers(written, GROUPS, durable, 10, 1000, 0, known)
    written.writers["W"].chains[0].pop()
    with pytest.raises(Broken, match="PG 0 ending at 10; its last live record is 9"):
        any_read_quorum_recovers(written, GROUPS, durable, 10, 1000, 0, known)


def test_pages_stand_for_the_records_that_were_collected() -> None:
    durable = {each: collected(10, 7) for each in MEMBERS}
    assert recover(reference(10), durable, 10) == len(MEMBERS) - 2  # one for each source


def test_pages_whose_vdl_nobody_has_heard_of_are_told() -> None:
    durable = {each: collected(10, 7) for each in MEMBERS}
    for each in durable.values():
        each.vdl = 6
    with pytest.raises(Broken, match="no VDL above 6, and A0, its source, has pages as of 7 "):
        recover(reference(10), durable, 10)


def test_an_imagined_recovery_hears_what_each_segment_would_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans: list[RecoveryPlan] = []

    def planned(*given: Any) -> RecoveryPlan:
        plans.append(plan_recovery(*given))
        return plans[-1]

    monkeypatch.setattr(what_if, "plan_recovery", planned)
    durable = {each: state(10, 10) for each in MEMBERS}
    for each in durable.values():
        each.announced(10, 7)  # nothing is collected yet: what may go counts all the same
    recover(reference(10), durable, 10)
    assert {plan.floor for plan in plans} == {7}


@pytest.mark.parametrize("counts", [(4,), (20, 20), (4, 10), (10, 4), (3, 4, 2)])
def test_every_combination_of_choices_has_its_turn(counts: tuple[int, ...]) -> None:
    named = dict(enumerate(counts))
    calls = 1
    for count in counts[1:]:
        calls *= count
    made = set()
    for shift in range(calls):
        combinations = [tuple(each.values()) for each in combined(named, shift)]
        for pg_id, count in named.items():
            assert {each[pg_id] for each in combinations} == set(range(count))
        made.update(combinations)
    assert made == set(product(*map(range, counts)))
