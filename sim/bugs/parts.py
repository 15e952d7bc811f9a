"""Bugs of mini-transactions that come in parts."""

from __future__ import annotations

from typing import Final

from sim.bugs.registry import Bug, Edit

PART_BUGS: Final = (
    Bug(
        name="chain-visible-early",
        summary="each part of a large mini-transaction ends with a CPL",
        section="protocol §4, step 1",
        edits=(
            Edit(
                "aurora.commit:PendingParts._write",
                "core.submit(parts[0], mtr_id=first_lsn, ends=False)",
                "core.submit(parts[0], mtr_id=first_lsn, ends=True)",
            ),
        ),
    ),
    Bug(
        name="others-between-parts",
        summary="the line goes on after the first part of a large mini-transaction",
        section="protocol §4, step 1",
        edits=(
            Edit(
                "aurora.commit:PendingParts._write",
                "intake.running = self",
                "intake.running = self\n    intake.line.leave(self)",
            ),
        ),
    ),
    Bug(
        name="stolen-page-read-stale",
        summary="the head of a page that has left above the VDL is what segments have at the VDL",
        section="protocol §5",
        edits=(
            Edit(
                "aurora.buffer_pool:BufferPool._evict",
                "self._stolen[page_id] = entry.head_lsn",
                "pass",
            ),
            Edit(
                "aurora.buffer_pool:BufferPool._evict",
                "watched.unchanged_since_lsn = max(",
                "watched.unchanged_since_lsn = min(",
            ),
        ),
    ),
    Bug(
        name="steals-what-is-not-its-own",
        summary="a large mini-transaction makes room by any pages that are not durable",
        section="protocol §5",
        edits=(
            Edit(
                "aurora.commit:PendingParts._write",
                "core.pool.steal_from(first_lsn)",
                "core.pool.steal_from(1)",
            ),
        ),
    ),
    Bug(
        name="part-can-be-given-up",
        summary="a large mini-transaction is given up with its caller though a part is in the log",
        section="protocol §4, step 1",
        edits=(
            Edit(
                "aurora.commit:CommitIntake.is_running",
                "return pending is self.running",
                "return False",
            ),
        ),
    ),
    Bug(
        name="parts-allocate-one-by-one",
        summary="a large mini-transaction waits for room below the LAL part by part",
        section="protocol §1",
        edits=(
            Edit(
                "aurora.commit:PendingParts._take_its_turn",
                "while not core.has_room(count):",
                "while not core.has_room(1):",
            ),
        ),
    ),
)
