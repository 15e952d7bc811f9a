"""Findings of other machines are run again here, and one that does not come back is loud."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
import pytest

from sim.commands.fleet import SeedWork
from sim.commands.second_look import Look, as_json, look_again, look_lines
from sim.run import Verdict
from sim.show.tally import SeedResult, Tally


def broken(seed: int, digest: str = "d1") -> SeedResult:
    return SeedResult(
        seed=seed, verdict=Verdict.VIOLATION, invariant="history", finding="what", digest=digest,
        messages=seed,
    )  # fmt: skip


class OtherHere(SeedWork):
    """Seed 2 passes here, and 3 breaks the same rule in another way."""

    def __call__(self, seed: int) -> SeedResult:
        if seed == 2:
            return attrs.evolve(broken(seed), verdict=Verdict.PASSED, invariant="")
        return broken(seed, "d2" if seed == 3 else "d1")


WHERE: Final = "tls://there:1"


def tally_of(*results: SeedResult) -> Tally:
    tally = Tally()
    for each in results:
        tally.add(each)
    return tally


def looks(work: SeedWork, seeds: Sequence[int], jobs: int = 1) -> Sequence[Look]:
    tally = tally_of(*map(broken, seeds), broken(99))
    return look_again(tally, dict.fromkeys(seeds, WHERE), work, jobs)


def test_what_does_not_come_back_is_loud() -> None:
    found = looks(OtherHere(), (1, 2, 3))
    assert [each.differs for each in found] == [False, True, True]
    lines = look_lines(found)
    assert lines[0] == "NOT THE SAME HERE: 2 of 3 findings run again"
    assert (
        f"  seed 2: violation of history (digest d1) on {WHERE}, passed (digest d1) here" in lines
    )
    assert any("history (digest d2) here" in line for line in lines)
    assert "    python -m aurora.sim check-determinism --seed 3" in lines
    asked = as_json(found)["run_again"]
    assert [(each["seed"], each["same"]) for each in asked] == [(1, True), (2, False), (3, False)]


def test_what_was_found_here_is_not_run_again() -> None:
    assert look_again(tally_of(broken(1)), {}, OtherHere(), 1) == []
    assert look_lines([]) == [] and as_json([]) == {}


def test_findings_that_were_not_run_again_are_told_apart() -> None:
    found = looks(OtherHere(), (1, 2), jobs=0)
    assert look_lines(found) == ["NOT run again here: 2 findings"]
    assert [each["same"] for each in as_json(found)["run_again"]] == [None, None]


class Same(SeedWork):
    """All is as it was there."""

    def __call__(self, seed: int) -> SeedResult:
        return broken(seed)


def test_of_a_kind_that_is_found_all_the_time_some_are_enough() -> None:
    found = looks(Same(), range(20))
    assert look_lines(found) == ["run again here: 16 findings, each came back; 4 more were not"]
    (shown,) = tally_of(*(each.there for each in found)).kinds().values()
    assert found[0].there == shown[0] and found[0].here is not None


@pytest.mark.parametrize("jobs", [0, 1])
def test_nothing_found_nothing_to_do(jobs: int) -> None:
    assert look_again(Tally(), {}, Same(), jobs) == []
