"""Schedules drawn from a seed: every knob, every call and every fault of a run.

Drawing is in swarms: a seed first draws its shape (`sim.plan.shapes`), and then within it its own
few kinds of fault and its own rates, so that runs differ more from each other than any one mixture
would.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from sim.plan.kept_knobs import with_limits
from sim.plan.schedule import MS, Operation, Schedule
from sim.plan.seeds import Seeds
from sim.plan.shapes import SHAPES
from sim.plan.shapes.shape import Shape, choose
from sim.plan.sql_calls import draws_sql, last_calls, with_sql
from sim.plan.writer_knobs import with_writer_limits

_TIME: Final = attrgetter("at_ns")
_UNTIL_FOUND_NS: Final = 200 * MS
"""After healing: by then clients find a writer that is not deposed."""


def generate(seed: int, shape: Shape | None = None) -> Schedule:
    """The schedule of ``seed``: the same on every machine.

    With a ``shape`` of your own it is what the seed draws in that shape.
    """
    seeds = Seeds(seed)
    sql = shape is None and draws_sql(seeds.stream("sql"))
    shape = shape or choose(seeds.stream("shape"), SHAPES)
    knobs, calls, faults = shape.draw(seeds)
    knobs = with_limits(seeds.stream("limits on what is kept"), knobs)
    knobs = with_writer_limits(seeds.stream("limits of the writer"), knobs)
    sql = sql and shape.for_sql
    if sql:
        knobs, calls = with_sql(seeds.stream("sql calls"), knobs, calls)
    client = 1 + max((each.client for each in calls), default=0)
    at_ns = knobs.duration_ns + _UNTIL_FOUND_NS
    calls = (*calls, *(last_calls(client, at_ns) if sql else [_last_write(client, at_ns)]))
    return Schedule(
        seed=seed,
        knobs=knobs,
        actions=tuple(sorted(faults, key=_TIME)),
        operations=tuple(sorted(calls, key=_TIME)),
        name=f"seed {seed}",
        shape=f"{shape.name}, in SQL" if sql else shape.name,
    )


def _last_write(client: int, at_ns: int) -> Operation:
    """A write of a client of its own, once everything heals: so something is always acknowledged.

    A run in which nothing was proves nothing.
    """
    return Operation(at_ns=at_ns, client=client, kind="put", pages=(0,), length=8)
