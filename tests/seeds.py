"""Seeds by what they do, so that no test depends on what is drawn for a certain one."""

from __future__ import annotations

from functools import cache
from typing import Final

from sim.bugs import planted
from sim.plan.generate import generate
from sim.run import Verdict, run

_TRIED: Final = 50


@cache
def first_seed_that_finds(bug: str) -> int:
    """The first seed whose run does not pass with ``bug`` in the code."""
    for seed in range(_TRIED):
        with planted(bug):
            if run(generate(seed)).verdict is not Verdict.PASSED:
                return seed
    raise AssertionError(f"none of {_TRIED} seeds finds {bug}")
