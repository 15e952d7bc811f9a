"""Bugs of tables that do not grow: what is settled, and what is forgotten then (protocol §8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sim.bugs.plan import Plan
from sim.bugs.promises import durable_and_recovered
from sim.bugs.registry import Bug, Edit

_SETTLE: Final = "aurora.core:WriterCore._settle_if_installed"

TABLE_BUGS: Final = (
    Bug(
        name="range-forgotten",
        summary="a table counts as settled when its volume opens, though a member lacks it",
        section="protocol §8",
        edits=(
            Edit(
                _SETTLE,
                "not all(stream.installed for stream in self.streams.values())",
                "not self.opened",
            ),
        ),
    ),
    Bug(
        name="damage-remembers",
        summary="a segment that damage has robbed of a table keeps the records that it may annul",
        section="protocol §8",
        edits=(
            Edit(
                "segments.state:SegmentState.adopt_table",
                "if table.settled > self.table.epoch:",
                "if False:",
            ),
        ),
    ),
    Bug(
        name="never-settles",
        summary="a writer does not say that all members have its table, and tables grow for ever",
        section="protocol §8",
        edits=(Edit(_SETTLE, "self._settled = True", "return"),),
    ),
)


def settled_without_one() -> Plan:
    """A has what a recovery annuls, and hears of none until the one after that."""
    plan = Plan(end_ms=150, lal=20, resend_max_ns=20_000_000)
    plan.put(6, 0)
    plan.keep_apart(9)
    plan.cut(9, "writer-1", "B,C,D,E,F")
    plan.put(10, 1)
    plan.fault(15, "crash_writer")
    plan.part(15, "A", "B,C,D,E,F,writer-2,writer-3")
    plan.fault(16, "recover")
    plan.put(25, 2, client=1)
    plan.fault(30, "crash_writer")
    plan.fault(31, "recover")
    plan.put(40, 3, client=2)
    plan.fault(50, "heal_network")
    return plan


def settled_table_spoilt() -> Plan:
    """A adopts a table as all do, loses it to rot, and hears of the recovery after that alone."""
    plan = Plan(end_ms=200, lal=20, resend_max_ns=20_000_000)
    plan.put(6, 0)
    plan.keep_apart(9)
    plan.cut(9, "writer-1", "B,C,D,E,F")
    plan.put(10, 1)
    plan.fault(15, "crash_writer")
    plan.part(15, "A", "writer-2")
    plan.fault(16, "recover")
    plan.fault(20, "heal_network")
    plan.put(80, 2, client=1)
    plan.fault(90, "crash_writer")
    plan.fault(90, "bit_rot", "A", bits=1, frame=3)
    plan.part(90, "A", "B,C,D,E,F,writer-3")
    plan.fault(91, "crash", "A")
    plan.fault(92, "restart", "A")
    plan.fault(93, "recover")
    plan.put(100, 3, client=2)
    plan.fault(110, "heal_network")
    return plan


PLANS: Final[dict[str, Callable[[], Plan]]] = {
    "range-forgotten": settled_without_one,
    "damage-remembers": settled_table_spoilt,
    "never-settles": durable_and_recovered,
}
