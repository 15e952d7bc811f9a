"""A bound on how often files are written anew with nothing new in them: beyond it, a livelock."""

from __future__ import annotations

from typing import Final

from segments.protocol.ids import SegmentId
from sim.world.scheduler import NS_PER_S, Livelock, VirtualScheduler

MAX_REWRITES_A_SECOND: Final = 64
"""How often all of a disk may be written anew within a second, counted in bytes beyond what the
appends of that time allow for: each of them once. More is a `Livelock`: time passes for the disk
alone, and whoever waits for a log to be short, or for layers to be few, waits for ever."""

_SMALL: Final = 4096  # bytes: less than that counts as so much


class RewritingBound:
    """Counts what is written anew on one disk: its log, and layers out of log and layers."""

    def __init__(self, scheduler: VirtualScheduler, whose: SegmentId) -> None:
        self._scheduler = scheduler
        self._whose = whose
        self._since_ns = self._bytes = self._made = self._disk_bytes = 0
        self._named = False

    def appended(self, disk_bytes: int) -> None:
        """Something new has come, to a disk that now holds so much."""
        self._made = 0
        self._bytes = max(0, self._bytes - max(disk_bytes, _SMALL))

    def made(self, file_bytes: int, disk_bytes: int) -> None:
        """A file was made; the last one held new frames, if none was deleted since it was named."""
        if self._named:
            self.appended(disk_bytes)
        self._named = False
        self._made += file_bytes
        self._disk_bytes = disk_bytes

    def named(self) -> None:
        """A manifest names what was made."""
        self._named = True

    def deleted(self) -> None:
        """Files may go: what was made and named holds what was there before."""
        if self._named:
            self._rewrites()
        self._made, self._named = 0, False

    def _rewrites(self) -> None:
        """Count what was made; ends a run in which that has no end."""
        now_ns = self._scheduler.now_ns
        if now_ns - self._since_ns >= NS_PER_S:
            self._since_ns, self._bytes = now_ns, 0
        self._bytes += max(self._made, _SMALL)
        most = MAX_REWRITES_A_SECOND * max(self._disk_bytes, _SMALL)
        if self._bytes > most:
            self._scheduler.fail(
                Livelock(
                    f"{self._whose} writes its files anew again and again: within a second "
                    f"{self._bytes} bytes more than what was appended allows for, expected at most "
                    f"{MAX_REWRITES_A_SECOND} times its {self._disk_bytes} bytes",
                    self._since_ns,
                )
            )
