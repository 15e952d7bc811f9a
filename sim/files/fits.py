"""Whether a world's knobs have room for what its clients write: the engine takes nothing larger."""

from __future__ import annotations

from collections.abc import Sequence

from segments.protocol.errors import Invalid
from sim.plan.drawn_workload import Workload
from sim.plan.schedule import SQL, Knobs, Operation


class DoesNotFit(Invalid):
    """A write that the knob ``key`` has no room for, or, without a key, clients at odds."""

    def __init__(self, key: str | None, problem: str) -> None:
        self.key = key
        super().__init__(problem)


def check_fits(
    knobs: Knobs, operations: Sequence[Operation], workloads: Sequence[Workload] = ()
) -> None:
    """Raise `DoesNotFit` if some write is larger than the engine ever takes."""
    puts = [each for each in operations if each.kind == "put"]
    drawn = [each for each in workloads if each.write_share and not each.sql]
    in_sql = [each for each in workloads if each.sql]
    if (puts or drawn) and (in_sql or any(each.kind == SQL for each in operations)):
        raise DoesNotFit(
            None, "found writes of pages beside calls in SQL: expected nobody else to write then"
        )
    records = max([*(len(e.pages) for e in puts), *(e.mtr_pages for e in drawn)], default=1)
    written = [*(len(e.pages) * e.length for e in puts), *(e.mtr_pages * e.length for e in drawn)]
    for knob, least, what in (
        ("lal", records, "records"),
        ("max_mtr_writes", records, "records"),
        ("max_mtr_bytes", max(written, default=1), "bytes"),
    ):
        if (found := getattr(knobs, knob)) < least:
            raise DoesNotFit(
                knob,
                f"found {found}: expected at least {least}, the {what} of the largest "
                f"mini-transaction (pages, mtr_pages, bytes)",
            )
