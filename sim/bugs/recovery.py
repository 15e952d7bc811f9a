"""Bugs of recovery: sealing, truncation tables, and when a volume may be opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from segments.protocol.messages import SealReply
from segments.protocol.truncation import TruncationRange, TruncationTable
from sim.bugs.registry import Bug, Edit

_PLAN: Final = "aurora.recovery:plan_recovery"
_OPEN: Final = "aurora.core:WriterCore._open_if_replicated"
_OPEN_RULE: Final = "not model.has_write(installed) or self.pgcl(pg_id) < self._plan_tails[pg_id]"
_ADOPTED: Final = "aurora.recovery:adopted_table"
_HIGHEST: Final = "return highest.with_settled(max(reply.table.settled for reply in replies))"


def united_table(replies: Sequence[SealReply]) -> TruncationTable:
    """All ranges of all tables, as "tables-unioned" would have it."""
    ranges: list[TruncationRange] = []
    for start, end, epoch in sorted(each for reply in replies for each in reply.table.ranges):
        if ranges and start <= ranges[-1].end_lsn:
            first, last, of = ranges[-1]
            ranges[-1] = TruncationRange(first, max(end, last), max(epoch, of))
        else:
            ranges.append(TruncationRange(start, end, epoch))
    return TruncationTable(max(reply.table.epoch for reply in replies), tuple(ranges))


RECOVERY_BUGS: Final = (
    Bug(
        name="scl-before-seal",
        summary="segments tell their SCL first, and are sealed later",
        section="protocol §7, step 2; 2017 §4.3",
        edits=(
            Edit(
                "segments.core:SegmentCore._on_seal",
                "self._take_over(message.epoch, None, answer)",
                "answer()",
            ),
        ),
    ),
    Bug(
        name="no-truncation",
        summary="the ragged tail above the VDL is kept",
        section="protocol §7, step 7; 2017 §4.3",
        edits=(
            Edit(
                _PLAN,
                "needed.extended(epoch, vdl, last_lsn)",
                "TruncationTable(epoch, needed.ranges)",
            ),
        ),
    ),
    Bug(
        name="short-range",
        summary="the truncation range ends at VDL + LAL, whatever was annulled before",
        section="protocol §7, step 6",
        edits=(
            Edit(
                _PLAN,
                "lsn_limit(vdl, table.last_annulled_lsn, lal)",
                "max(vdl + lal, table.last_annulled_lsn)",
            ),
        ),
    ),
    Bug(
        name="tables-unioned",
        summary="a recovery adopts the union of all truncation tables",
        section="protocol §7, step 3",
        edits=(
            Edit(
                _ADOPTED,
                _HIGHEST,
                "from sim.bugs.recovery import united_table; return united_table(replies)",
            ),
        ),
    ),
    Bug(
        name="tables-ignored",
        summary="a recovery adopts no truncation table",
        section="protocol §7, step 3",
        edits=(Edit(_ADOPTED, _HIGHEST, "return TruncationTable()"),),
    ),
    Bug(
        name="open-before-rereplication",
        summary="the volume is opened before its records are at a write quorum",
        section="protocol §7, step 7",
        edits=(Edit(_OPEN, _OPEN_RULE, "not model.has_write(installed)"),),
    ),
    Bug(
        name="open-after-one-install",
        summary="the volume is opened when one segment has the truncation table",
        section="protocol §7, step 7",
        edits=(Edit(_OPEN, _OPEN_RULE, "not installed"),),
    ),
)
