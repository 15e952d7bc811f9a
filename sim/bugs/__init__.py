"""The deliberate bugs of protocol §12: what proves that the checkers check.

Nothing in the product knows of them. `planted` puts one into the real code for the duration of a
block; the suite (`sim.commands.bug_suite`) shows that each of them is found.
"""

from __future__ import annotations

from functools import partial

import attrs

from sim.bugs.directed import directed_schedule
from sim.bugs.recovery import RECOVERY_BUGS
from sim.bugs.registry import BUGS, Bug, DoesNotApply, Edit, planted, require_bug
from sim.bugs.segment import SEGMENT_BUGS
from sim.bugs.writer import WRITER_BUGS

__all__ = ["BUGS", "Bug", "DoesNotApply", "Edit", "planted", "require_bug"]

_ORDER = (
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
_KNOWN = {bug.name: bug for bug in (*WRITER_BUGS, *RECOVERY_BUGS, *SEGMENT_BUGS)}
BUGS.update(
    (name, attrs.evolve(_KNOWN[name], directed=partial(directed_schedule, name))) for name in _ORDER
)
