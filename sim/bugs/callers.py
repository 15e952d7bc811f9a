"""Bugs of what callers give up, and of what they ask for wrongly."""

from __future__ import annotations

from typing import Final

from sim.bugs.registry import Bug, Edit

_FORGET: Final = "aurora.reading:Reading.forget"
_GO: Final = "aurora.commit:PendingCommit._go"
_STAND_IN_LINE: Final = "aurora.commit:PendingCommit._stand_in_line"
_CHECKED_READ_POINT: Final = "aurora.reading:Reading.checked_read_point"
_CHECKED_WRITE: Final = "segments.protocol.record:checked_write"

CALLER_BUGS: Final = (
    # ---- given up --------------------------------------------------------------------------------
    Bug(
        name="cancelled-commit-stays-in-line",
        summary="a caller that gives up leaves its commit in the line for room",
        section="protocol §4, step 1",
        edits=(
            Edit(
                "aurora.way:Way.end",
                "self._way.close()",
                "self._way.close() if self not in self._room.line else None",
            ),
        ),
    ),
    Bug(
        name="cancelled-commit-gives-up-the-first",
        summary="a caller that gives up takes the first in line for room out of it",
        section="protocol §4, step 1",
        edits=(
            Edit(
                "aurora.way:Line.leave",
                "del self._ways[way]",
                "self._ways.popitem(last=False)",
            ),
            Edit(
                "aurora.way:Line.is_behind",
                "return way in self._ways and",
                "return bool(self._ways) and",
            ),
        ),
    ),
    Bug(
        name="mtr-that-fails-stays",
        summary="a mini-transaction whose block raises keeps holding the floor down",
        section="protocol §6",
        edits=(
            Edit(
                "aurora.engine:Engine._snapshot",
                "    try:\n        yield read_page\n    finally:\n        for core",
                "    yield read_page\n    if True:\n        for core",
            ),
        ),
    ),
    Bug(
        name="cancelled-read-stays",
        summary="a read that its caller gives up keeps holding the floor down",
        section="protocol §6",
        edits=(
            Edit(
                _FORGET,
                "self.release(read.read_point)",
                "if read.done:\n        self.release(read.read_point)",
            ),
        ),
    ),
    Bug(
        name="cancelled-read-is-still-known",
        summary="the requests of a read that its caller gives up are kept for ever",
        section="protocol §4, step 5",
        edits=(
            Edit(
                _FORGET,
                "for request_id in read.pending.request_ids:",
                "for request_id in read.pending.request_ids if read.done else ():",
            ),
        ),
    ),
    Bug(
        name="cancelled-strict-read-stays",
        summary="a confirmation that its caller gives up is kept for ever",
        section="protocol §4, step 5",
        edits=(
            Edit(
                "aurora.reading:Confirmation.end",
                "self._reading.end_confirmation(self)",
                "if self.done:\n        self._reading.end_confirmation(self)",
            ),
        ),
    ),
    Bug(
        name="cancelled-commit-keeps-its-pages",
        summary="a commit that its caller gives up keeps its pages in the buffer pool",
        section="protocol §5",
        edits=(
            Edit(
                _GO,
                "core.pool.unpin(page_ids)",
                "if self._lsn is not None:\n            core.pool.unpin(page_ids)",
            ),
        ),
    ),
    Bug(
        name="unpin-wakes-nobody",
        summary="who gives its place in the buffer pool up does not call who waits for one",
        section="protocol §5",
        edits=(
            Edit(
                _GO,
                "core.pool.unpin(page_ids)\n        intake.progress()",
                "core.pool.unpin(page_ids)",
            ),
        ),
    ),
    Bug(
        name="cancelled-first-wakes-nobody",
        summary="who gives up at the head of the line for room does not call the next one",
        section="protocol §4, step 1",
        edits=(
            Edit(
                _STAND_IN_LINE,
                "    finally:\n        intake.line.leave(self)",
                "    except GeneratorExit:\n"
                "        del intake.line._ways[self]\n"
                "        raise\n"
                "    intake.line.leave(self)",
            ),
        ),
    ),
    Bug(
        name="cancelled-commit-is-written",
        summary="a commit given up in the line for room is written all the same",
        section="protocol §4, step 1",
        edits=(
            Edit(
                _GO,
                "            yield from self._stand_in_line()",
                "            try:\n"
                "                yield from self._stand_in_line()\n"
                "            except GeneratorExit:\n"
                "                if core.has_room(len(writes)):\n"
                "                    core.submit(writes)\n"
                "                raise",
            ),
        ),
    ),
    Bug(
        name="cancelled-commit-leaves-a-hole",
        summary="a commit given up in the line for room has taken its LSNs",
        section="protocol §2",
        edits=(
            Edit(
                _GO,
                "            yield from self._stand_in_line()",
                "            try:\n"
                "                yield from self._stand_in_line()\n"
                "            except GeneratorExit:\n"
                "                if core.has_room(len(writes)):\n"
                "                    core._allocator.allocate(len(writes), core.vdl)\n"
                "                raise",
            ),
        ),
    ),
    Bug(
        name="cancelled-waiter-takes-all-along",
        summary="who gives up waiting for a commit takes its other waiters along",
        section="protocol §4, step 4",
        edits=(Edit("aurora.commit_queue:Commit.durable", "del tasks[task]", "tasks.clear()"),),
    ),
    # ---- asked for -------------------------------------------------------------------------------
    Bug(
        name="long-mtr-cut-short",
        summary="writes beyond the most of a mini-transaction are left out without a word",
        section="protocol §2",
        edits=(
            Edit(
                "aurora.mtr:MiniTransaction.write",
                "        raise InvalidWrite(\n"
                '            f"write {len(self._writes) + 1} of a mini-transaction: "\n'
                '            f"expected at most {self._max_writes}"\n'
                "        )",
                "        return",
            ),
        ),
    ),
    Bug(
        name="read-above-vdl",
        summary="a page can be read at the LSN above the VDL",
        section="protocol §5",
        edits=(Edit(_CHECKED_READ_POINT, "if lsn > vdl:", "if lsn > vdl + 1:"),),
    ),
    Bug(
        name="read-below-floor",
        summary="a page can be read at the LSN below the floor",
        section="protocol §5",
        edits=(Edit(_CHECKED_READ_POINT, "lsn < self.floor:", "lsn < self.floor - 1:"),),
    ),
    Bug(
        name="data-over-the-end",
        summary="bytes beyond the end of a page are taken",
        section="protocol §2",
        edits=(
            Edit(
                _CHECKED_WRITE,
                "if at + len(payload) > PAGE_SIZE:",
                "if at > PAGE_SIZE or len(payload) > PAGE_SIZE:",
            ),
        ),
    ),
    Bug(
        name="data-not-copied",
        summary="a buffer that a caller passes is not copied, and may change afterwards",
        section="protocol §2",
        edits=(Edit(_CHECKED_WRITE, "data if type(data) is bytes else _copied(data)", "data"),),
    ),
    Bug(
        name="ended-view-reads",
        summary="a read view can be read when it has ended, and nothing is kept for it",
        section="protocol §5",
        edits=(Edit("aurora.engine:ReadView._check_open", "if self._ended:", "if False:"),),
    ),
    Bug(
        name="own-writes-half-seen",
        summary="a mini-transaction's reads see only the last of its writes to a page",
        section="protocol §2",
        edits=(
            Edit(
                "aurora.mtr:MiniTransaction.read",
                "for _, offset, data in writes:",
                "for _, offset, data in writes[-1:]:",
            ),
        ),
    ),
    Bug(
        name="serves-before-it-is-open",
        summary="a writer serves calls as soon as it has planned its recovery",
        section="protocol §7, step 7",
        edits=(
            Edit(
                "aurora.writer_shell:WriterShell.usable",
                "if self.core is None or not self.core.opened:",
                "if self.core is None:",
            ),
        ),
    ),
)
