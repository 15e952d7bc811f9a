"""Work spread over a crew: each item counts once, whoever vanishes, comes back or does it twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from sim.crews.crew import Done, Ended, spread
from sim.crews.ledger import Ledger
from sim.crews.processes import Hand, LocalCrew
from tests.patience import PATIENCE_S
from tests.repo.sources import ROOT


class Squares:
    """Work that everybody can do."""

    def __call__(self, item: int) -> int:
        return item * item

    def given_up(self, item: int, why: str) -> int:
        return -item


class Unreliable:
    """A crew of many that vanish, come back, do a part, and do what somebody else has done."""

    patience = 3

    def __init__(self, chance: Random, poison: frozenset[int] = frozenset()) -> None:
        self._chance = chance
        self._poison = poison
        self._out: list[tuple[int, ...]] = []
        self._late: list[tuple[int, ...]] = []
        self.begun: Counter[int] = Counter()
        self.halted = self.closed = False

    def room(self) -> int:
        return max(0, self._chance.randint(0, 4) - len(self._out)) if self._out else 4

    def size(self, left: int | None) -> int:
        return self._chance.randint(1, 5)

    def begin(self, items: tuple[int, ...]) -> None:
        assert items and not self.closed
        self._out.append(items)
        self.begun.update(items)

    def ended(self, timeout_s: float) -> list[Ended[int, int]]:
        if not self._out:
            return []
        items = self._out.pop(self._chance.randrange(len(self._out)))
        done = tuple((each, each * each) for each in items[: self._chance.randint(0, len(items))])
        if self._poison.intersection(items):
            return [Ended(items, lost=True)]
        what = self._chance.random()
        if what < 0.3:
            self._late.append(items)
            return [Ended(items, done, lost=True)]
        if what < 0.5 and self._late:  # somebody who was thought gone is back
            done += tuple((each, each * each) for each in self._late.pop())
        elif what < 0.8:
            done = tuple((each, each * each) for each in items)
        return [Ended(items, done)]

    def halt(self) -> None:
        self.halted = True

    def close(self) -> None:
        self.closed = True

    def lost(self, times: int) -> str:
        return f"lost {times} times"

    def strength(self) -> str:
        return ""


class Patient(Unreliable):
    """One that nobody gives up on for chance alone."""

    patience = 1_000


# ---- the books -----------------------------------------------------------------------------------


def test_every_item_counts_once_whatever_becomes_of_those_who_have_it() -> None:
    for seed in range(200):
        crew, items = Patient(Random(seed)), range(seed % 40)
        found = [each for each in spread(iter(items), Squares(), crew) if each]
        assert sorted(each.item for each in found) == list(items), seed
        assert all(each.result == each.item**2 for each in found) and crew.closed


def test_what_is_lost_again_and_again_is_given_up_and_nothing_else() -> None:
    for seed in range(100):
        crew = Unreliable(Random(seed), frozenset({5}))
        found = [each for each in spread(iter(range(12)), Squares(), crew) if each]
        assert sorted(each.item for each in found) == list(range(12))
        assert next(each.result for each in found if each.item == 5) == -5
        assert crew.begun[5] == Unreliable.patience


def test_a_lost_item_comes_back_alone_and_what_nobody_began_comes_back_with_others() -> None:
    ledger = Ledger(iter(range(9)), patience=2)
    assert (ledger.left, ledger.take(3), ledger.left) == (9, (0, 1, 2), 6)
    assert [ledger.lose(each) for each in (0, 1)] == [False, False]
    ledger.give_back(2)
    assert ledger.left == 9
    assert [ledger.take(4) for _ in range(4)] == [(0,), (1,), (2, 3, 4, 5), (6, 7, 8)]
    assert ledger.lose(1) and not ledger.lose(1)
    assert ledger.count(0) and not ledger.count(0) and not ledger.count(1)
    assert not ledger.has_more() and ledger.take(4) == ()


def test_a_result_that_comes_late_spares_the_second_try() -> None:
    ledger = Ledger(iter(range(3)), patience=2)
    assert ledger.take(3) == (0, 1, 2)
    assert not ledger.lose(0) and not ledger.lose(1)
    ledger.give_back(2)
    assert ledger.count(0) and ledger.count(2)
    assert ledger.take(3) == (1,) and ledger.take(3) == ()


def test_items_without_a_known_end_are_taken_as_they_come() -> None:
    ledger = Ledger((each for each in range(3)), patience=1)
    assert ledger.left is None and ledger.has_more() and ledger.has_more()
    assert (ledger.take(2), ledger.take(2), ledger.take(2)) == ((0, 1), (2,), ())
    with pytest.raises(ValueError, match="patience is 0"):
        Ledger(iter(()), patience=0)


# ---- stopping ------------------------------------------------------------------------------------


def test_once_it_is_over_nothing_fresh_begins_and_what_has_begun_counts() -> None:
    found: list[Done[int, int]] = []
    crew = Patient(Random(1))
    before = frozenset[int]()

    def over() -> bool:
        return len(found) >= 10

    for each in spread(iter(range(100)), Squares(), crew, over):
        found += [each] if each else []
        before = before or (frozenset(crew.begun) if over() else before)
    assert crew.halted and crew.closed
    assert before == frozenset(crew.begun) and 10 <= len(found) < 40


def test_after_a_finding_only_what_runs_is_finished() -> None:
    work, found = Squares(), list[int]()

    def over() -> bool:
        return bool(found)

    for each in spread(iter((5, 6, 7)), work, LocalCrew(1, work), over):
        found += [each.item] if each else []
    assert found == [5]


def test_who_loses_interest_ends_the_crew() -> None:
    crew = Patient(Random(2))
    running = spread(iter(range(9)), Squares(), crew)
    next(running)
    running.close()
    assert crew.closed


# ---- processes -----------------------------------------------------------------------------------


class Raises(Squares):
    """Fails, with what can be sent to another process, and with what cannot."""

    def __call__(self, item: int) -> int:
        error = ValueError(f"item {item}")
        if item:
            error.unsendable = lambda: None  # type: ignore[attr-defined]
        raise error


@pytest.mark.parametrize(("item", "error"), [(0, ValueError), (1, RuntimeError)])
def test_what_work_raises_is_raised_here(item: int, error: type[Exception]) -> None:
    work = Raises()
    with pytest.raises(error, match=f"item {item}"):
        list(spread(iter([item]), work, LocalCrew(1, work)))


def test_processes_that_are_lent_stay_and_do_what_comes_next() -> None:
    idle: list[Hand] = []
    work = Squares()
    for items in ((1, 2), (3,)):
        found = [
            each.result for each in spread(iter(items), work, LocalCrew(1, work, idle)) if each
        ]
        assert found == [each * each for each in items]
    (hand,) = idle
    os.kill(hand.pid, 0)
    hand.close()


def test_no_process_outlives_the_one_that_needs_it() -> None:
    program = (
        "import os, signal, sys\n"
        "from sim.crews.processes import Hand\n"
        "from tests.simulation.test_interrupts import Pausing\n"
        "if __name__ == '__main__':\n"
        "    hand = Hand()\n"
        "    hand.begin(Pausing(), 1)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    child.communicate(timeout=PATIENCE_S)  # both have the pipe: it ends when both are gone
    assert child.returncode == -signal.SIGKILL


def seeds_begun(begun: list[int]) -> Iterator[int]:
    for seed in range(100):
        begun.append(seed)
        yield seed


def test_items_are_drawn_only_as_they_are_needed() -> None:
    begun: list[int] = []
    work = Squares()
    running = spread(seeds_begun(begun), work, LocalCrew(1, work))
    assert next(each for each in running if each).item == 0
    assert len(begun) <= 2
    running.close()
