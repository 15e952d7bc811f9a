"""Seeds that found a mistake once: the mistake stays mended.

What a seed draws changes with the generator. So each mistake has a test of its own, too, where it
was; here stands what the whole did.
"""

from __future__ import annotations

import attrs
import pytest

from sim.plan.generate import generate
from sim.plan.schedule import MS
from sim.run import Verdict, run


@pytest.mark.parametrize(
    "seed",
    [
        30009,  # a peer's layers reach beyond what a table, adopted before they came, annuls
        30682,  # marks in a log written anew were gone with it, a restart later
        220091,  # who waited for room was woken by the next tick, not by the acknowledgement
        221115,  # a collection gave way to folds for ever, and reads looked into 130 layers
        700252,  # records waited for a fold, amid a transfer that no peer went on with
        700205,  # the checker restored a disk that its segment knows to be rolled back
        700807,  # the checker looked at a write that had failed before its marks were due again
        1200274,  # the outgoing log was full of what was durable, and writers waited for a tick
        1201299,  # the checker forgot that a segment leaves a disk alone that has refused a job
        1201853,  # so little space was drawn that nothing was ever acknowledged
        1200915,  # the same, with records of full pages
        1401039,  # two waited for each other, each for what it had spoilt itself
        1301498,  # the checker forgot that a transfer's message may be lost before all is well
        1601550,  # the checker took records for gone that the last frame let a restart count again
        1500827,  # the last write was made through a writer that was about to be deposed
        1501180,  # in SQL, through one that had been, and did not know it yet
        1301530,  # clients asked a writer that an older one had deposed by sealing again
        1101450,  # a restart found the gap below records filled that had been let go; rot took them
        1101956,  # pages new in a layer and in one that took over its begin were counted twice
        1705488,  # a recovery waited for witnesses that might not heal before its table
        970974,  # a fold took one large record, and records waited for many folds
        990202,  # layers were read in pieces so small that a part took many reads of each
        980529,  # who was back took its own SCL for one that moves, and asked for no layer
        971215,  # the checker took for no source who vanished while two writers recovered
        60002,  # a slow recovery held old replies against what was heard after a later one
    ],
)
def test_a_mistake_that_this_seed_found_stays_mended(seed: int) -> None:
    result = run(generate(seed))
    assert result.verdict is Verdict.PASSED, result.finding


@pytest.mark.parametrize(
    ("seed", "until_ms"),
    [
        (1100874, 100),  # the checker took a late answer for one that the writer had not timed
    ],
)
def test_the_begin_of_a_long_run_is_enough(seed: int, until_ms: int) -> None:
    """What comes up to then: it found the mistake, too."""
    schedule, until_ns = generate(seed), until_ms * MS
    schedule = attrs.evolve(
        schedule,
        knobs=attrs.evolve(schedule.knobs, duration_ns=until_ns),
        operations=tuple(each for each in schedule.operations if each.at_ns <= until_ns),
        actions=tuple(each for each in schedule.actions if each.at_ns <= until_ns),
    )
    result = run(schedule)
    assert result.verdict is Verdict.PASSED, result.finding
