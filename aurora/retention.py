"""What stays readable whether anybody reads it or not: so many LSNs, and so much time.

**Time** is measured by the writer that retains, with the clock that no one sets: what mini-
transactions carry (`aurora.writer_clock`) jumps with the machine's clock, and an hour's jump would
take an hour of history with it. At intervals the writer marks its VDL. Versions that were current
within the time asked for are those from the newest mark before that time on. Nothing is known of
the time before a writer has opened the volume: all that it finds counts as written then.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from aurora.config import EngineConfig
from segments.protocol.ids import Lsn
from segments.protocol.truncation import TruncationTable

SHARES: Final = 256
"""Marks are at least such a share of the time apart: there are few, and so much more is kept."""


class Kept(NamedTuple):
    """What retention asks for."""

    lsn: Lsn
    """The oldest version that is to stay readable."""
    by_time: bool
    """Whether it is for its age, and not for the number of LSNs behind it."""
    text: str
    """The same for people."""


class Retention:
    """One writer's, from its opening of the volume on."""

    def __init__(self, config: EngineConfig) -> None:
        self._lsns = config.retention_lsns
        self._seconds = config.retention_s
        self._marks: deque[tuple[Lsn, float]] = deque()
        self._old: Lsn = 0  # what was current so long ago, at the last look at the time

    def tick(self, vdl: Lsn, now: float) -> None:
        """Look at the time: an open writer has this VDL, at ``now`` of any clock in seconds."""
        if self._seconds is None:
            return
        marks = self._marks
        if not marks or (vdl > marks[-1][0] and now >= marks[-1][1] + self._seconds / SHARES):
            marks.append((vdl, now))
        while len(marks) > 1 and marks[1][1] <= now - self._seconds:
            marks.popleft()
        if marks[0][1] <= now - self._seconds:
            self._old = marks[0][0]

    def kept(self, table: TruncationTable, vdl: Lsn) -> Kept | None:
        """What is to stay readable: the more of both; None: everything is."""
        if self._lsns is None:
            return None
        lsn = table.lsn_behind(vdl, self._lsns)
        if self._seconds is not None and self._old < lsn:
            text = f"what was current in the last {self._seconds:,g} s stays readable"
            return Kept(self._old, True, text)
        return Kept(lsn, False, f"{self._lsns:,} LSNs behind the VDL stay readable")
