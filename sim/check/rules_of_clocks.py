"""The clock that mini-transactions carry (31).

As in `sim.check.invariants`: predicates, which raise `Broken`.
"""

from __future__ import annotations

from collections.abc import Sequence

from segments.protocol.record import RedoRecord
from sim.check.invariants import Broken, holds


@holds("clocks-go-forward")
def carries_the_clock(writer: str, last_us: int, records: Sequence[RedoRecord]) -> None:
    """31, for the records of one MTR, or of a part of one.

    ``last_us`` is what its writer's clock has shown before.
    """
    *others, last = records
    if not last.is_cpl:  # a part, and not the last
        others.append(last)
    if wrong := [each.lsn for each in others if each.clock_us]:
        raise Broken(f"{writer}: LSNs {wrong} carry a clock: expected only {last.lsn} to, the CPL")
    if last.is_cpl and last.clock_us < max(1, last_us):
        raise Broken(
            f"{writer}: the clock is {last.clock_us} at LSN {last.lsn}, and was {last_us} before"
        )
