"""Which writer is the volume's: the one of the highest epoch, not the one that was started last."""

from __future__ import annotations

from sim.plan.schedule import MS, Action, Knobs, Operation, Schedule
from sim.run import Run, Verdict
from sim.world.world import World

OVERTAKEN = Schedule(
    seed=300018,
    knobs=Knobs(duration_ns=11 * MS),
    actions=(
        Action(at_ns=5_983_646, kind="cut", target="writer-2"),
        Action(at_ns=5_983_646, kind="take_over"),
        Action(at_ns=9_685_446, kind="take_over"),
    ),
    operations=(Operation(at_ns=5_983_646, client=11, kind="put", pages=(9,), length=8),),
)
"""Writer 2 is refused the epoch that writer 3 has sealed meanwhile, and goes above it.

Writer 3, whom nobody calls, is never told.
"""


def test_a_run_ends_with_the_writer_of_the_highest_epoch() -> None:
    run = Run(World(OVERTAKEN))
    epochs: list[tuple[int, ...]] = []
    converged = run.checker.ending.converged

    def watched() -> bool:
        engines = run.world.cluster.engines
        epochs.append(tuple(each.core.epoch.counter for each in engines[1:] if each.core))
        return converged()

    run.checker.ending.converged = watched  # type: ignore[method-assign]
    assert run.run().verdict is Verdict.PASSED
    assert epochs[-1] == (4, 3)
