"""The core of who recovers a copy of a volume and only reads it: a writer's, which opens sooner."""

from __future__ import annotations

from aurora.core import WriterCore


class ReaderCore(WriterCore):
    """Opens once a segment of each group can answer for the newest version.

    A writer opens when a write quorum has what its recovery found, so that no later recovery finds
    less (protocol §7, step 7). A copy is recovered once and written by nobody, so any read quorum
    of segments will do, and what is complete on one of them can be read.
    """

    def _open_if_replicated(self) -> None:
        for pg_id, tail in self._plan_tails.items():
            streams = self._streams_of[pg_id]
            if not any(each.installed and each.acked_lsn >= tail for each in streams):
                return
        self._open()
