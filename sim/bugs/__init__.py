"""The deliberate bugs: what proves that the checkers check, and that the generator goes everywhere.

First those of protocol §12, then others by their subject.

Nothing in the product knows of them. `planted` puts one into the real code for the duration of a
block; the suite (`sim.commands.bug_suite`) shows that each of them is found.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import attrs

from sim.bugs import (
    callers,
    commits,
    copies,
    damage,
    directed,
    files,
    limits,
    parts,
    promises,
    readers,
    sql,
    tables,
    versions,
)
from sim.bugs.recovery import RECOVERY_BUGS
from sim.bugs.registry import BUGS, Bug, DoesNotApply, Edit, planted, require_bug
from sim.bugs.segment import SEGMENT_BUGS
from sim.bugs.writer import WRITER_BUGS
from sim.plan.schedule import Schedule

__all__ = ["BUGS", "PLANS", "PROTOCOL", "Bug", "DoesNotApply", "Edit", "planted", "require_bug"]

PROTOCOL: Final = (
    "write-quorum-3",
    "read-quorum-2",
    "ack-before-persist",
    "vdl-not-cpl",
    "no-fencing",
    "scl-before-seal",
    "queue-survives-seal",
    "no-truncation",
    "short-range",
    "tables-unioned",
    "tables-ignored",
    "third-highest-scl",
    "open-before-rereplication",
    "open-after-one-install",
    "gossip-resurrects",
    "count-per-record",
    "vcl-max-pgcl",
    "vcl-min-pgcl",
    "gc-above-pgmrpl",
    "evict-above-vdl",
    "serve-below-required",
    "lal-ignored",
    "coalesce-above-vdl",
    "retransmit-not-idempotent",
    "torn-tail-kept",
    "wiped-rejoins",
    "amnesiac-votes",
    "newer-for-older",
    "same-mtr-chain",
)
"""The bugs of protocol §12, in its order."""
_KNOWN = {bug.name: bug for bug in (*WRITER_BUGS, *RECOVERY_BUGS, *SEGMENT_BUGS)}
PLANS: Final = (
    directed.PLANS
    | commits.PLANS
    | promises.PLANS
    | tables.PLANS
    | copies.PLANS
    | damage.PLANS
    | files.PLANS
    | readers.PLANS
    | limits.PLANS
    | sql.PLANS
)
"""The schedules made for bugs, by the bugs' names."""


def _directed_schedule(name: str) -> Schedule:
    """The schedule made for the bug called ``name``."""
    return PLANS[name]().schedule(f"directed {name}")


BUGS.update(
    (bug.name, attrs.evolve(bug, directed=partial(_directed_schedule, bug.name)))
    if bug.name in PLANS
    else (bug.name, bug)
    for bug in (
        *(_KNOWN[name] for name in PROTOCOL),
        *commits.COMMIT_BUGS,
        *promises.PROMISE_BUGS,
        *tables.TABLE_BUGS,
        *copies.COPY_BUGS,
        *damage.DAMAGE_BUGS,
        *files.FILE_BUGS,
        *readers.READER_BUGS,
        *callers.CALLER_BUGS,
        *limits.LIMIT_BUGS,
        *versions.VERSION_BUGS,
        *parts.PART_BUGS,
        *sql.SQL_BUGS,
    )
)
