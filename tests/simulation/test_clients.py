"""Simulated clients: what they call, how they give up and err, and what is made of it."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import attrs
import pytest

from segments.protocol.record import PAGE_SIZE
from sim.bugs.registry import Bug, Edit
from sim.plan.draw_calls import Calls, draw_calls, usual_calls
from sim.plan.generate import generate
from sim.plan.schedule import MS, READS, WAYS, Action, Knobs, Operation, Schedule
from sim.plan.wrong_calls import WRONG_CALLS
from sim.run import RunResult, Verdict, run
from sim.world.clients import writes_of
from sim.world.history import Outcome

KNOBS = Knobs(duration_ns=400 * MS, check_every=1, retention_lsns=0)


def operation(at_ms: float, kind: str = "put", *pages: int, **values: Any) -> Operation:
    values.setdefault("client", 0)
    return Operation(at_ns=int(at_ms * MS), kind=kind, pages=pages or (1,), **values)


def run_of(
    *operations: Operation, actions: tuple[Action, ...] = (), knobs: Knobs = KNOBS
) -> RunResult:
    return run(Schedule(seed=1, knobs=knobs, actions=actions, operations=operations))


def outcomes(result: RunResult) -> list[Outcome]:
    assert result.verdict is Verdict.PASSED, result.finding
    return [each.outcome for each in result.calls]


def found_with(edit: Edit, *operations: Operation, knobs: Knobs = KNOBS) -> str:
    """What a run finds with a mistake planted; nothing without it."""
    assert run_of(*operations, knobs=knobs).verdict is Verdict.PASSED
    with Bug(name="x", summary="x", section="x", edits=(edit,)).apply():
        result = run_of(*operations, knobs=knobs)
    assert result.verdict is Verdict.VIOLATION
    return f"{result.invariant}: {result.finding}"


# ---- giving up -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_write_that_is_given_up_may_survive_but_whole(way: str) -> None:
    pages = (1,) if way == "put" else (1, 2)
    tried = [
        operation(10 + at, "put", *pages, way=way, patience_ns=at * MS // 10) for at in range(20)
    ]
    last = operation(390, "get", 1, client=1)
    result = run_of(*tried, last)
    assert {Outcome.UNKNOWN, Outcome.OK} <= set(outcomes(result))
    in_the_log = {bool(each.lsns) for each in result.calls if each.cancelled}
    assert in_the_log == ({True} if way in ("put", "put_many") else {True, False})
    assert result.marks["commit cancelled"] and result.marks["commit survived its caller"]


@pytest.mark.parametrize("kind", READS)
def test_a_read_that_is_given_up_leaves_nothing(kind: str) -> None:
    tried = [
        operation(20 + at, kind, 1, cached=False, patience_ns=at * MS // 20, hold_ns=MS // 2)
        for at in range(20)
    ]
    assert {Outcome.GAVE_UP, Outcome.OK} <= set(outcomes(run_of(operation(5), *tried)))


def test_a_write_that_waits_for_room_can_be_given_up() -> None:
    knobs = attrs.evolve(KNOBS, lal=4)
    crowd = [
        operation(10, "put", client, client=client, patience_ns=100 * MS * (client % 2) or None)
        for client in range(20)
    ]
    slow = Action(at_ns=5 * MS, kind="pause", target="A,B,C")
    back = Action(at_ns=300 * MS, kind="resume", target="A,B,C")
    result = run_of(*crowd, actions=(slow, back), knobs=knobs)
    assert Counter(outcomes(result)) == {Outcome.OK: 10, Outcome.UNKNOWN: 10}
    given_up = sum(bool(each.lsns) for each in result.calls) - 10
    assert 0 < given_up < 4, "some of the first four, for whom there was room"
    assert result.marks["cancelled in want of room"] == 10 - given_up


def test_a_read_that_keeps_the_floor_after_it_was_given_up_is_found() -> None:
    keeps = Edit(
        "aurora.reading:Reading.forget",
        "    self.release(read.read_point)",
        "    if read.done:\n        self.release(read.read_point)",
    )
    gives_up = operation(20, "get", 1, cached=False, patience_ns=MS // 10)
    found = found_with(keeps, operation(5), gives_up)
    assert found == ("nothing-is-left: writer-1, which nobody calls, keeps held read points: 1")


def test_a_submit_that_is_given_up_and_writes_all_the_same_is_found() -> None:
    writes = Edit(
        "aurora.engine:Engine.submit",
        "    await trio.lowlevel.checkpoint()  # the log takes them at once, if it has room\n"
        "    return await self._shell.commit(checked)",
        "    commit = await self._shell.commit(checked)\n"
        "    await trio.lowlevel.checkpoint()\n"
        "    return commit",
    )
    found = found_with(writes, operation(5), operation(20, way="submit", patience_ns=0))
    assert "given up before it was submitted, and LSN [2] are its own" in found


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_every_wrong_call_is_refused_and_the_next_one_is_served(way: str) -> None:
    knobs = attrs.evolve(KNOBS, max_mtr_writes=12, buffer_pool_pages=8, max_mtr_bytes=90_000)
    wrong = [
        operation(50 + at, "wrong", 3, wrong=each, way=way) for at, each in enumerate(WRONG_CALLS)
    ]
    first = [operation(5 + at, "put", at) for at in range(5)]
    result = run_of(*first, *wrong, operation(350), operation(351, "get"), knobs=knobs)
    expected = [Outcome.OK] * 5 + [Outcome.INVALID] * len(WRONG_CALLS) + [Outcome.OK] * 2
    assert outcomes(result) == expected
    assert result.calls[-2].lsn == 6, "the wrong ones took no LSN"
    assert result.marks["wrong call refused"] == len(WRONG_CALLS)


def test_a_wrong_call_that_is_served_is_found() -> None:
    edit = Edit("aurora.reading:Reading.checked_read_point", "lsn > vdl:", "lsn > vdl + 1:")
    found = found_with(edit, operation(5), operation(20, "wrong", 1, wrong="view above the VDL"))
    assert found == (
        "wrong calls: call 1 of writer-1 (view above the VDL): no error: expected ReadPointAboveVdl"
    )


def test_a_wrong_call_that_is_refused_by_another_name_is_found() -> None:
    edit = Edit(
        "aurora.reading:Reading.checked_read_point", "raise ReadPointAboveVdl(", "raise InvalidLsn("
    )
    found = found_with(edit, operation(5), operation(20, "wrong", 1, wrong="read above the VDL"))
    assert "InvalidLsn: read point 2" in found and found.endswith("expected ReadPointAboveVdl")


def test_a_refusal_that_changes_something_is_found() -> None:
    edit = Edit(
        "aurora.commit:CommitIntake.at_once",
        "    core.check_mtr(writes)\n",
        "    core.pool.pin([write.page_id for write in writes])\n    core.check_mtr(writes)\n",
    )
    knobs = attrs.evolve(KNOBS, lal=4)
    found = found_with(edit, operation(20, "wrong", 1, wrong="too many writes"), knobs=knobs)
    assert found.startswith("wrong calls: ") and "'pinned', 0), ('waiting', 0)) have" in found


# ---- other calls ---------------------------------------------------------------------------------


def test_a_writer_is_called_before_it_has_opened() -> None:
    away = Action(at_ns=20 * MS, kind="crash", target="A,B,C,D")
    over = Action(at_ns=21 * MS, kind="take_over")
    back = Action(at_ns=100 * MS, kind="restart", target="A,B,C,D")
    early = [operation(40, kind, 1, early=True, client=at) for at, kind in enumerate(READS)]
    writes = operation(40, "put", 1, early=True, client=20)
    wrong = operation(40, "wrong", 1, early=True, client=21, wrong="read above the VDL")
    result = run_of(operation(5), *early, writes, wrong, actions=(away, over, back))
    refused = len(READS) + 1
    expected = {Outcome.OK: 1, Outcome.REFUSED: refused, Outcome.INVALID: 1}
    assert Counter(outcomes(result)) == expected
    assert result.marks["called too early"] == refused + 1


def test_a_client_opens_another_writer_or_gives_up_amid_that() -> None:
    tried = [
        operation(20 + 10 * at, "open", client=1, patience_ns=at * MS // 4) for at in range(12)
    ]
    writes = [operation(21 + 10 * at, "put", at) for at in range(20)]
    result = run_of(*sorted([*tried, *writes], key=lambda each: each.at_ns))
    ended = Counter(outcomes(result))
    assert ended[Outcome.GAVE_UP] == result.marks["opening cancelled"] > 1
    assert ended[Outcome.OK] > 12
    assert result.marks["recovery completed"] > 1


def test_a_writer_that_serves_before_it_has_opened_is_found() -> None:
    edit = Edit(
        "aurora.writer_shell:WriterShell.usable",
        "if self.core is None or not self.core.opened:",
        "if self.core is None:",
    )
    over = Action(at_ns=20 * MS, kind="take_over")
    early = [operation(20 + at / 20, "get", early=True, client=at) for at in range(1, 100)]
    with Bug(name="x", summary="x", section="x", edits=(edit,)).apply():
        result = run_of(operation(5), *early, actions=(over,))
    assert result.verdict is Verdict.VIOLATION
    assert result.finding.endswith("no error, before it opened: expected Unavailable")


def test_a_view_reads_its_pages_and_tells_which_are_not_there() -> None:
    view = operation(20, "view", 1, 9, 2, hold_ns=30 * MS)
    result = run_of(operation(5, "put", 1, 2), view)
    assert outcomes(result) == [Outcome.OK, Outcome.OK]
    read = result.calls[1]
    assert [(page_id, page is None) for page_id, page in read.answers()] == [
        (1, False),
        (9, True),
        (2, False),
    ]
    assert read.returned_ns is not None and read.returned_ns >= 50 * MS


def test_a_mini_transaction_that_does_not_see_its_own_writes_is_found() -> None:
    edit = Edit("aurora.mtr:MiniTransaction.read", "data in writes:", "data in writes[1:]:")
    found = found_with(edit, operation(5, "put", 1, 1, way="mtr"))
    assert found.startswith("reads-match-the-model: page 1 at 0: read without the own writes")


def test_what_a_caller_does_with_its_buffer_later_changes_nothing() -> None:
    edit = Edit(
        "segments.protocol.record:checked_write",
        "data if type(data) is bytes else _copied(data)",
        "data",
    )
    writes = operation(5, "put", 1, way="submit")
    with Bug(name="x", summary="x", section="x", edits=(edit,)).apply():
        assert run_of(writes, operation(20, "get", cached=False)).verdict is not Verdict.PASSED
    assert outcomes(run_of(writes, operation(20, "get", cached=False))) == [Outcome.OK] * 2


def test_the_parts_of_a_write_stay_within_their_pages() -> None:
    whole = operation(5, "put", 1, 1, 2, offset=0, length=PAGE_SIZE)
    assert [offset for _, offset, _ in writes_of(7, whole)] == [0, 0, 0]
    near_the_end = operation(5, "put", 1, 1, 2, offset=PAGE_SIZE - 20, length=8)
    assert [offset for _, offset, _ in writes_of(7, near_the_end)] == [8172, 8180, 8184]
    assert outcomes(run_of(whole, near_the_end)) == [Outcome.OK] * 2


# ---- drawing -------------------------------------------------------------------------------------


def test_what_is_drawn_fits_its_world() -> None:
    small = Knobs(max_mtr_writes=5, lal=4, buffer_pool_pages=2, max_mtr_bytes=9_000, pg_count=3)
    calls = Calls(count=2_000, write_share=1.0, wide=0.5, large=0.5, other_ways=0.5, together=0.5)
    drawn = draw_calls(Random(1), small, calls)
    assert {len(each.pages) for each in drawn} == {1, 2, 3, 4}
    assert all(8 <= each.length <= 9_000 // len(each.pages) for each in drawn)
    assert all(each.offset + each.length <= PAGE_SIZE for each in drawn)
    assert {each.way for each in drawn} == set(WAYS)
    assert all(len(each.pages) == 1 for each in drawn if each.way == "put")


def test_a_shape_gets_the_calls_that_it_asks_for() -> None:
    random = Random(1)
    dense = attrs.evolve(
        usual_calls(random), count=500, bursts=0.5, impatient=1.0, from_ns=MS, until_ns=2 * MS
    )
    drawn = draw_calls(random, KNOBS, dense)
    assert len(drawn) == 500
    assert all(MS <= each.at_ns < 2 * MS for each in drawn)
    assert all(each.patience_ns is not None for each in drawn)
    moments = Counter(each.at_ns for each in drawn)
    assert len(moments) < 350 and max(moments.values()) > 3


def test_seeds_differ_in_what_their_clients_do() -> None:
    drawn = [generate(seed).operations for seed in range(120)]
    for has in (
        lambda each: each.patience_ns is not None,
        lambda each: each.kind == "wrong",
        lambda each: each.early,
        lambda each: each.length == PAGE_SIZE,
    ):
        share = sum(any(map(has, operations)) for operations in drawn)
        assert 3 <= share <= 117, share
    assert {each.kind for operations in drawn for each in operations} >= set(READS)
