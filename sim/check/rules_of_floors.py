"""Where the floor is to be (25): no higher than retention allows, and no lower than it must.

As in `sim.check.invariants`: predicates, which raise `Broken`. `sim.check.floor_checks` holds them.
"""

from __future__ import annotations

from segments.protocol.ids import MAX_LSN, Lsn
from segments.protocol.truncation import retention_slack
from sim.check.invariants import Broken, holds
from sim.check.reference_model import Reference, WriterView


@holds("floor-follows")
def keeps_what_is_retained(
    reference: Reference, view: WriterView, floor: Lsn, vdl: Lsn, retention: int | None
) -> None:
    """25: at least so many LSNs behind the VDL stay readable; those annulled do not count."""
    total = reference.live_count(view, 0, vdl)
    least = total if retention is None else min(retention, total)
    kept = reference.live_count(view, floor, vdl)
    if kept < least:
        raise Broken(
            f"{view.name} has its floor at {floor} and its VDL at {vdl}, {kept} records above: "
            f"expected at least {least}"
        )


@holds("floor-follows")
def keeps_what_is_young(writer: str, floor: Lsn, most: Lsn, retention_s: float) -> None:
    """25: what was current so lately stays readable; ``most`` is the highest VDL of that time."""
    if floor > most:
        raise Broken(
            f"{writer} has its floor at {floor}: expected at most {most}, which was current "
            f"{retention_s:g} s ago"
        )


@holds("floor-follows")
def floor_is_raised(
    reference: Reference, view: WriterView, floor: Lsn, vdl: Lsn, retention: int, readers: Lsn
) -> None:
    """25: no more than that is kept, unless for a reader; none is below ``readers``.

    ``vdl`` is what it was some heartbeats ago. A little more may be, where tables have forgotten
    what exactly they annulled.
    """
    kept = reference.live_count(view, floor, vdl)
    if kept > retention + retention_slack(retention) and floor < readers:
        nobody = "nobody reads" if readers == MAX_LSN else f"no reader is below {readers}"
        raise Broken(
            f"{view.name} leaves its floor at {floor}, and keeps {kept} records up to LSN {vdl}, "
            f"its VDL for long: expected to keep {retention}, as {nobody}"
        )
