"""Logs written anew with records above a gap in them: tens of times in each run of their shape."""

from __future__ import annotations

from statistics import median

import pytest

from sim.plan.generate import generate
from sim.plan.shapes.churn import CHURN
from sim.run import Verdict, run


def test_logs_are_written_anew_over_gaps_tens_of_times_a_seed() -> None:
    results = [run(generate(seed, CHURN)) for seed in range(3)]
    assert {each.verdict for each in results} == {Verdict.PASSED}
    assert median(each.marks.get("log written anew over a gap", 0) for each in results) >= 20


@pytest.mark.parametrize("seed", [9194, 9296, 9432, 9442])
def test_a_log_waits_until_it_is_long_also_when_its_heads_have_grown(seed: int) -> None:
    """Each was once written anew too soon: for its heads as they were before marks were heard."""
    result = run(generate(seed))
    assert result.verdict is Verdict.PASSED, result.finding
