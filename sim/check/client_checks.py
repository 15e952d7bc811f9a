"""Calls and what they must not do: be taken although they are wrong, or leave something behind.

What a writer keeps for its callers is looked at whenever nobody calls it: then there is nobody to
keep anything for. Only where all calls are known, that is, where they follow a schedule: a script
has the engine in its own hands.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

from aurora.engine import Engine
from segments.protocol.errors import AuroraError, InvalidLsn, Unavailable
from sim.check import rules_of_the_end
from sim.check.findings import Findings
from sim.plan.wrong_calls import WRONG_CALLS
from sim.world.history import Call, Outcome
from sim.world.world import World

_Books: TypeAlias = tuple[object, ...]


class ClientChecks:
    """The calls of one run."""

    def __init__(self, world: World, findings: Findings) -> None:
        self._world = world
        self._findings = findings
        self._under_way: Counter[str] = Counter()
        self._before: dict[int, tuple[AuroraError | None, _Books | None]] = {}
        """For wrong calls and early ones: why their writer had ended, if so, and its books then."""

    def invoked(self, call: Call) -> None:
        """A client has made a call."""
        self._under_way[call.writer] += 1
        if call.operation.wrong or call.operation.early:
            engines = self._world.cluster.engines
            for engine in engines:
                if engine.name == call.writer:
                    self._before[call.number] = (engine.error, _books(engine))

    def returned(self, call: Call, engine: Engine) -> None:
        """A client has been answered, or has given up."""
        self._under_way[call.writer] -= 1
        if call.operation.wrong:
            self._refused_as_it_must(call, engine)
        elif call.operation.early:
            self._refused_if_early(call, engine)
        if call.may_write:
            self._written_only_if_taken(call)
        if not self._under_way[call.writer] and self._world.schedule.operations:
            self._findings.hold(rules_of_the_end.nobody_is_served, engine)

    # ---- wrong calls -----------------------------------------------------------------------------

    def _refused_as_it_must(self, call: Call, engine: Engine) -> None:
        # A writer that the cluster has forgotten, and its client has not, ended before.
        ended, books = self._before.pop(call.number, (engine.error, None))
        expected = [expected_error(call)]
        if ended is not None:
            expected.append(type(ended))
        elif books is None:
            expected.append(Unavailable)
        # `submit` lets others run, and callers give up, before it looks at an MTR as a whole.
        at_once = call.operation.way != "submit"
        if call.lsns:
            self._fail("wrong calls", call, f"LSN {call.lsns} are its own")
        elif call.cancelled and not at_once:
            return
        elif call.raised not in expected:
            found = "no error" if call.raised is None else f"{call.raised.__name__}: {call.error}"
            names = " or ".join(each.__name__ for each in expected)
            self._fail("wrong calls", call, f"{found}: expected {names}")
        elif at_once and books is not None and (now := _books(engine)) != books:
            self._fail("wrong calls", call, f"{books} have become {now}")

    def _refused_if_early(self, call: Call, engine: Engine) -> None:
        """A writer that has not opened the volume yet serves nobody."""
        # A writer that the cluster has forgotten, and its client has not, ended before.
        ended, books = self._before.pop(call.number, (engine.error, None))
        serves = ended is not None or books is not None or call.operation.kind == "open"
        later = call.operation.way == "submit"  # it lets others run first: it may open meanwhile
        if not serves and not later and call.raised is not Unavailable:
            found = "no error" if call.raised is None else call.raised.__name__
            self._fail("typed errors", call, f"{found}, before it opened: expected Unavailable")

    # ---- what is left ----------------------------------------------------------------------------

    def _written_only_if_taken(self, call: Call) -> None:
        """A write that is refused, or given up before `submit` returns, has written nothing."""
        operation = call.operation
        if call.outcome is Outcome.REFUSED:
            how = f"refused ({call.error})"
        elif call.cancelled and operation.way == "submit" and not call.submitted:
            how = "given up before it was submitted"
        else:
            return
        self._findings.hold(rules_of_the_end.refused_is_not_written, call.number, how, call.lsns)

    def _fail(self, name: str, call: Call, text: str) -> None:
        what = call.operation.wrong or call.operation.kind
        self._findings.fail(name, f"call {call.number} of {call.writer} ({what}): {text}")


def expected_error(call: Call) -> type[AuroraError]:
    """The error that a wrong call must raise. Below a floor of 0 there is no LSN at all."""
    return InvalidLsn if call.lsn < 0 else WRONG_CALLS[call.operation.wrong]


def _books(engine: Engine) -> _Books | None:
    """What a refused call must not change; None if the writer does not serve."""
    core = engine.core
    if core is None or not core.opened or engine.error is not None:
        return None
    pool = core.pool.statistics
    return (
        ("last LSN", core.last_allocated_lsn, "VCL", core.vcl, "VDL", core.vdl),
        ("floor", core.reading.floor, "oldest reader", core.reading.oldest_read_point),
        ("pages", pool.pages, "evicted", pool.evictions, "pinned", pool.pinned_pages),
        ("waiting", len(engine.waits())),
    )
