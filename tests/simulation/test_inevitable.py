"""When a failure became inevitable: which moments are tried, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import attrs
import pytest
from click.testing import CliRunner

from segments.protocol.errors import Invalid
from sim.commands.case import Case, open_case
from sim.commands.cli import cli
from sim.commands.futures import Failure, run_future, run_futures, run_to_failure, told_between
from sim.durations import moment
from sim.plan.moments import Future, Moments, Outcome, wilson
from sim.run import RunResult
from sim.story import inevitable as told
from tests.simulation.test_fork import SHORT, trace_of

BUG = "third-highest-scl"
TIMES = tuple(range(0, 100_000, 7))


def searched(ends: Callable[[Future], Outcome], most: int = 30, futures: int = 8) -> Moments:
    """A search that is over, in which futures end as they are said to, each run once."""
    moments = Moments(TIMES, until_ns=70_000, futures=futures, most=most)
    asked: set[Future] = set()
    while round_ := moments.next_round():
        assert asked.isdisjoint(round_)
        asked.update(round_)
        for future in Random(1).sample(round_, len(round_)):  # as processes happen to be done
            moments.add(future, ends(future))
    assert sum(each.of for each in moments.points) <= most * futures
    return moments


def test_a_single_moment_that_decides_is_found_exactly() -> None:
    """The dumb oracle is the moment itself, wherever it is."""
    for decisive in (7, 7 * 1_234, 7 * 11_111):

        def ends(future: Future, at_ns: int = decisive) -> Outcome:
            return Outcome.FAILED if future.at_ns >= at_ns else Outcome.PASSED

        moments = searched(ends)
        assert moments.last_safe is not None and moments.first_after is not None
        assert (moments.last_safe.at_ns, moments.first_after.at_ns) == (decisive - 7, decisive)
        assert moments.is_clear


def test_what_chance_decides_bit_by_bit_is_not_clear() -> None:
    def ends(future: Future) -> Outcome:
        draw = Random(future.at_ns * 1_000 + future.salt).random()
        return Outcome.FAILED if draw < 0.3 + 0.4 * future.at_ns / 100_000 else Outcome.LATER

    moments = searched(ends, most=12, futures=4)
    assert moments.last_safe is not None and not moments.is_clear
    text = "\n".join(told.conclusion(moments))
    assert "by chance alone" in text and "--futures 16 would tell more" in text
    lines = told.curve(moments, 100_000)
    assert max(map(len, lines)) <= 80
    assert sum(line.endswith("<") for line in lines) == 1 and any("+" in line for line in lines)


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (Outcome.FAILED, "most futures fail from the start on: 4 of 4 fail"),
        (Outcome.PASSED, "the end decided it"),
        (Outcome.OTHER, "the end decided it"),
    ],
)
def test_nothing_is_made_of_a_curve_that_does_not_rise(outcome: Outcome, says: str) -> None:
    moments = searched(lambda _: outcome, futures=4)
    assert says in "\n".join(told.conclusion(moments))
    assert moments.first_after is None and not moments.is_clear


def test_where_as_many_fail_as_escape_it_is_decided() -> None:
    """And where nothing lies between two moments, more futures of these tell: not the same ones."""
    moments = Moments((0, 1), until_ns=1, futures=2, most=4)
    asked = moments.next_round()
    for future in asked:
        fails = future.at_ns and future.salt == 1
        moments.add(future, Outcome.FAILED if fails else Outcome.PASSED)
    safe, after = moments.last_safe, moments.first_after
    assert safe is not None and after is not None and (safe.at_ns, after.at_ns) == (0, 1)
    again = moments.next_round()
    assert len({*asked, *again}) == 8


def test_a_planted_bug_is_named_where_all_fail() -> None:
    moments = searched(lambda _: Outcome.FAILED, futures=4)
    assert "the bug no-fencing is planted" in "\n".join(told.conclusion(moments, "no-fencing"))


def test_shares_come_with_their_bounds() -> None:
    """Wilson's interval, to three digits as tables have it."""
    for (count, of), bounds in {
        (0, 8): (0.0, 0.324),
        (4, 8): (0.215, 0.785),
        (8, 8): (0.676, 1.0),
        (81, 263): (0.255, 0.366),
    }.items():
        assert wilson(count, of) == pytest.approx(bounds, abs=0.0006)


@pytest.mark.parametrize(
    ("times", "futures", "most", "says"),
    [((), 1, 2, "0 times"), ((3, 3), 1, 2, "each once"), ((1,), 0, 2, "0 futures"),
     ((1,), 1, 1, "1 moments"), ((1,), 1_001, 2, "1 to 1000"), ((1,), 1, 201, "2 to 200")],
)  # fmt: skip
def test_a_search_that_cannot_be_is_refused(
    times: tuple[int, ...], futures: int, most: int, says: str
) -> None:
    with pytest.raises(Invalid, match=says):
        Moments(times, until_ns=5, futures=futures, most=most)


# ---- with real runs ------------------------------------------------------------------------------


@cache
def failing() -> Failure:
    found = run_to_failure(Case(schedule=SHORT, bug=BUG, source="short"))
    assert isinstance(found, Failure)
    return found


def test_the_same_futures_in_processes_as_in_this_one() -> None:
    failure = failing()
    searches = [
        Moments(failure.times, until_ns=failure.until_ns, futures=2, most=2) for _ in range(2)
    ]
    for jobs, search in enumerate(searches):
        assert [*run_futures(failure, search, jobs, lambda: False)]
    assert searches[0].points == searches[1].points
    assert [each.of for each in searches[0].points] == [2, 2]
    none = Moments(failure.times, until_ns=failure.until_ns, futures=2, most=2)
    assert not [*run_futures(failure, none, 0, lambda: True)] and not none.points


def test_a_future_is_the_fork_that_can_be_typed() -> None:
    failure = failing()
    future = Future(failure.times[len(failure.times) // 2], 3)
    fork = failure.case.fork(future.at_ns, salt=3)
    assert run_future(failure, future) is failure.outcome_of(fork.run())
    same = failure.result
    late = attrs.evolve(same, virtual_ns=failure.horizon_ns + 1)
    other = attrs.evolve(same, invariant="history")
    outcomes = [failure.outcome_of(each) for each in (same, late, other)]
    assert outcomes == [Outcome.FAILED, Outcome.LATER, Outcome.OTHER]


def test_what_happened_in_between_is_told() -> None:
    failure = failing()
    start, end = failure.times[100], failure.times[110]
    before, between = told_between(failure.case, start, end)
    lines = [each for each in trace_of(failure.case) if start <= int(each.split(b" ")[0]) < end]
    assert before is not None and before.at_ns < start
    assert [each.at_ns for each in between] == [int(each.split(b" ")[0]) for each in lines]
    text = told.told_around(told.Around(before, between * 5))
    assert len(text) <= 16 and "more events between these" in text[-1]


def test_a_run_that_passes_has_no_such_moment() -> None:
    assert isinstance(run_to_failure(Case(schedule=SHORT)), RunResult)


def test_the_command_tells_people_and_programs(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text(Case(schedule=SHORT, bug=BUG).scenario_text())
    few = ["inevitable", str(path), "--futures", "1", "--moments", "2", "--jobs", "0"]
    done = CliRunner().invoke(cli, few)
    assert done.exit_code == 1, done.output
    ended = moment(open_case(None, str(path), None).run().virtual_ns)
    assert f"violation, pgcl-is-backed, after {ended}" in done.output
    assert "the finding" in done.output and "# fail like that by 0." in done.output
    found = json.loads(CliRunner().invoke(cli, [*few, "--json"]).stdout)
    assert found["failed_ns"] == open_case(None, str(path), None).run().virtual_ns
    assert [each["of"] for each in found["moments"]] and found["futures"] == 1
    done = CliRunner().invoke(cli, ["inevitable", "quiet"])
    assert done.exit_code == 2 and "quiet passes: expected a run that fails" in done.output
