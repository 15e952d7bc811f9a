"""Predicates of invariants, each given the broken situation that it is there to tell."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext

import attrs
import pytest
import trio

from aurora.recovery_plan import RecoveryPlan
from segments.layers.pages import PageDirectory
from segments.manifest import PROMISE
from segments.protocol.ids import MAX_LSN, VolumeEpoch
from segments.protocol.truncation import TruncationTable
from segments.wal import Promise, encode_promise
from segments.wal_scan import DamagedRange
from sim.check import (
    invariants,
    rules_of_availability,
    rules_of_bounds,
    rules_of_clocks,
    rules_of_disks,
    rules_of_floors,
    rules_of_layers,
    rules_of_logs,
    rules_of_rollback,
    rules_of_sql,
    rules_of_the_end,
    rules_of_wire,
    what_if,
)
from sim.check.invariants import Broken
from sim.check.reference_model import Reference, WriterView
from sim.plan.generate import generate
from sim.plan.shapes.mixed import MIXED
from sim.run import Verdict, run
from sim.world.disk import SimulatedStorage
from tests.repo.sources import python_files, text
from tests.store_rig import FIRST, SECOND, THIRD, StoreRig, records

RULES = (
    rules_of_availability,
    invariants, rules_of_bounds, rules_of_clocks, rules_of_disks, rules_of_floors, rules_of_layers,
    rules_of_logs, rules_of_rollback, rules_of_sql, rules_of_the_end, rules_of_wire, what_if,
)  # fmt: skip


def test_a_record_in_an_annulled_range_is_told() -> None:
    rig = StoreRig()
    rig.take(records(range(1, 6)))
    view = view_of()
    invariants.nothing_annulled("A0", rig.state, view)
    view.annulled = ((4, 100),)  # and no table names it any more
    with pytest.raises(Broken, match="A0 holds LSN 4, which had been annulled when writer-2 began"):
        invariants.nothing_annulled("A0", rig.state, view)
    rig.state.table = TruncationTable(FIRST).extended(SECOND, 3, 99)
    with pytest.raises(Broken, match="A0 holds LSN 4, which its table annuls"):
        invariants.nothing_annulled("A0", rig.state, None)


@pytest.mark.parametrize(("last", "told"), [(10, False), (9, True)])
def test_a_range_that_ends_below_an_allocated_lsn_is_told(last: int, told: bool) -> None:
    reference = Reference(1)
    reference.begin_writer("W1", RecoveryPlan.fresh(FIRST, [0]), 0)
    reference.allocated("W1", records(range(1, 11)))
    table = TruncationTable(FIRST).extended(SECOND, 5, last)
    plan = RecoveryPlan(SECOND, table, 5, 5, {0: 5}, {0: ()})
    reference.begin_writer("W2", plan, 0).opened = True
    if not told:
        invariants.within_ranges(reference, FIRST, 10)
        return
    with pytest.raises(Broken, match=r"LSN 10 of epoch .+: W2 covers up to 9"):
        invariants.within_ranges(reference, FIRST, 10)


def test_a_list_of_pages_that_lacks_or_invents_one_is_told() -> None:
    reference = Reference(1)
    view = reference.begin_writer("W1", RecoveryPlan.fresh(FIRST, [0]), 0)
    reference.allocated("W1", records(range(1, 6), pages=10))  # each on the page of its LSN
    invariants.list_matches(reference, view, 2, 4, [2, 3, 4])
    for listed in ([2, 3], [2, 3, 4, 5], [1, 2, 3, 4], [4, 3, 2], [2, 2, 3, 4]):
        with pytest.raises(Broken, match="the list of pages from 2 on at 4: lacks"):
            invariants.list_matches(reference, view, 2, 4, listed)


@pytest.mark.parametrize("seed", [1, 7, 11])
def test_a_segment_that_lists_what_is_too_new_is_found(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = generate(seed, MIXED)
    listing = (
        attrs.evolve(each, kind="list", age=0.9, pages=(0,)) if each.kind == "get" else each
        for each in schedule.operations
    )
    schedule = attrs.evolve(schedule, operations=tuple(listing))
    assert run(schedule).verdict is Verdict.PASSED
    existing = PageDirectory.existing

    def newest(pages: PageDirectory, first: int, last: int, _: int, limit: int) -> object:
        return existing(pages, first, last, MAX_LSN, limit)

    monkeypatch.setattr(PageDirectory, "existing", newest)
    result = run(schedule)
    assert result.verdict is Verdict.VIOLATION
    assert result.invariant == "reads-match-the-model"
    assert result.finding.startswith("the list of pages from ")


def test_a_promise_that_is_not_on_disk_is_told() -> None:
    rig = StoreRig()
    before = bytes(rig.disk.files[PROMISE])
    rig.seal(SECOND)
    invariants.promise_kept("A0", rig.state, bytes(rig.disk.files[PROMISE]))
    with pytest.raises(Broken, match=r"A0 answers by .*; its disk promises"):
        invariants.promise_kept("A0", rig.state, before)


def test_a_table_that_is_not_promised_is_told() -> None:
    """The log has the table; but if that is spoilt, nothing says that there was one."""
    rig = StoreRig()
    rig.install(TruncationTable(FIRST).extended(SECOND, 0, 9))
    invariants.promise_kept("A0", rig.state, bytes(rig.disk.files[PROMISE]))
    only_sealed = encode_promise(Promise(SECOND, FIRST)) * 2
    with pytest.raises(Broken, match=r"A0 answers by .*; its disk promises"):
        invariants.promise_kept("A0", rig.state, only_sealed)


def test_slots_without_any_promise_are_told() -> None:
    with pytest.raises(Broken, match="A0 has lost its promise: no promise in 256 bytes"):
        invariants.promise_kept("A0", StoreRig().state, bytes(256))


def test_a_run_whose_disks_forget_promises_ends_with_that(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forget(disk: SimulatedStorage, data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(SimulatedStorage, "write_promise", forget)
    result = run(generate(1, MIXED))
    assert result.invariant == "epochs-only-rise"
    assert "; its promise slots say " in result.finding


@pytest.mark.parametrize(
    ("epoch", "table_epoch", "told"),
    [
        (SECOND, FIRST, None),
        (THIRD, FIRST, None),
        (FIRST, FIRST, r"in epoch .* takes gossip"),
        (SECOND, SECOND, r"with the table of .* takes gossip"),
    ],
)
def test_gossip_of_the_past_is_told(
    epoch: VolumeEpoch, table_epoch: VolumeEpoch, told: str | None
) -> None:
    rig = StoreRig()
    rig.seal(SECOND)
    with nullcontext() if told is None else pytest.raises(Broken, match=told):
        invariants.gossip_of_our_epoch("A0", rig.state, SECOND, epoch, table_epoch)


# ---- all of them ---------------------------------------------------------------------------------


def test_each_invariant_has_predicates_and_each_of_them_is_held() -> None:
    predicates = {
        each for module in RULES for each in vars(module).values() if hasattr(each, "rule")
    }
    rules = {invariants.rule_of(each).name for each in predicates}
    assert rules == set(invariants.INVARIANTS)
    files = (each for each in python_files("sim") if each.parts[1] == "check")
    held = "".join(text(each) for each in files if each.stem != "rules_of_bounds")  # has a table
    for each in predicates:
        room = each.__module__.rpartition(".")[2]
        assert re.search(rf"\b({room}|rules)\.{each.__name__}\b", held), each.__name__


def view_of(*, vdl: int = 0, observed: int = 0, last: int = 0) -> WriterView:
    table = TruncationTable(SECOND)
    return WriterView("writer-2", SECOND, vdl, table, (), observed, last_vdl=last)


@pytest.mark.parametrize(
    ("predicate", "good", "bad"),
    [
        (invariants.opens_above_the_observed, (view_of(vdl=5, observed=5),),
         (view_of(vdl=4, observed=5),)),
        (invariants.vdl_rises, (view_of(last=4), 4, 4), (view_of(last=4), 3, 3)),
        (invariants.no_quorum_below_the_sealed, (0, 7, FIRST, [(SECOND, 7)] * 3),
         (0, 8, FIRST, [(SECOND, 7)] * 3)),
        (invariants.no_quorum_below_the_sealed, (0, 8, FIRST, [(SECOND, 7)] * 2),
         (0, 8, FIRST, [(SECOND, 7)] * 4)),
        (invariants.evicted_is_durable, (view_of(vdl=3), 3, 2), (view_of(vdl=3), 4, 3)),
        (invariants.reported_once, ({1, 2}, 3), ({1, 2}, 2)),
        (invariants.survives_whole, (1, [4, 5], [4, 5], 2), (1, [4, 5], [4], 2)),
        (invariants.scl_rises, ("A0", 3, 3), ("A0", 3, 2)),
        (invariants.undamaged, ("A0", []), ("A0", [DamagedRange(4, 9)])),
        (invariants.acknowledges_what_is_synced, ("A0", 1, 1, 90, 90), ("A0", 1, 1, 91, 90)),
        (invariants.acknowledges_what_is_synced, ("A0", 1, 1, 90, 90), ("A0", 2, 1, 90, 90)),
        (invariants.epoch_rises, ("A0", FIRST, FIRST), ("A0", SECOND, FIRST)),
        (invariants.batch_of_our_epoch, ("A0", FIRST, SECOND), ("A0", SECOND, FIRST)),
        (invariants.opens_readable, ("writer-1", 5, 5), ("writer-1", 5, 6)),
        (invariants.collects_below, ("A0", 5, "writer-1", 4, 5), ("A0", 6, "writer-1", 4, 5)),
    ],
)  # fmt: skip
def test_a_predicate_tells_the_first_value_that_is_wrong_from_the_last_that_is_right(
    predicate: Callable[..., object], good: tuple[object, ...], bad: tuple[object, ...]
) -> None:
    predicate(*good)
    with pytest.raises(Broken):
        predicate(*bad)
