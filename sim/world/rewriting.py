"""A bound on how often a log is written anew with nothing new in it: beyond it, a livelock."""

from __future__ import annotations

from typing import Final

from segments.protocol.ids import SegmentId
from sim.world.scheduler import NS_PER_S, Livelock, VirtualScheduler

MAX_REWRITES_A_SECOND: Final = 64
"""How often a log may be written anew within a second, counted in bytes beyond what the appends of
that time allow for: each of them one rewriting. More is a `Livelock`: time passes for the disk
alone, and whoever waits for the log waits for ever."""

_SMALL_LOG: Final = 4096  # bytes: a log below that size counts as one of it


class RewritingBound:
    """Counts the rewriting of one log."""

    def __init__(self, scheduler: VirtualScheduler, whose: SegmentId) -> None:
        self._scheduler = scheduler
        self._whose = whose
        self._since_ns = self._bytes = self._made = 0
        self._named = False

    def appended(self, log_bytes: int) -> None:
        """Something new has come, to a log that now has this size."""
        self._made = 0
        self._bytes = max(0, self._bytes - max(log_bytes, _SMALL_LOG))

    def made(self, file_bytes: int, log_bytes: int) -> None:
        """A file was made; the last one held new frames, if none was deleted since it was named."""
        if self._named:
            self.appended(log_bytes)
        self._named = False
        self._made += file_bytes

    def named(self) -> None:
        """A manifest names what was made."""
        self._named = True

    def deleted(self) -> None:
        """Files are deleted: what was made and named was the log, written anew."""
        if self._named:
            self._rewrites(self._made)
        self._made, self._named = 0, False

    def _rewrites(self, log_bytes: int) -> None:
        """A log of this size is written anew; ends a run in which that has no end."""
        now_ns = self._scheduler.now_ns
        if now_ns - self._since_ns >= NS_PER_S:
            self._since_ns, self._bytes = now_ns, 0
        self._bytes += max(log_bytes, _SMALL_LOG)
        if self._bytes > MAX_REWRITES_A_SECOND * max(log_bytes, _SMALL_LOG):
            self._scheduler.fail(
                Livelock(
                    f"{self._whose} writes its log of {log_bytes} bytes anew again and again: "
                    f"within a second {self._bytes} bytes more than what was appended allows for, "
                    f"expected at most {MAX_REWRITES_A_SECOND} times its size",
                    self._since_ns,
                )
            )
