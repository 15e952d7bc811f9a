"""The clock that mini-transactions carry: when they were committed, for those who ask much later.

It tells people the time of a version, and nothing is decided by it: clocks of machines jump, and
those of two writers differ. How old a version is, retention measures itself (`aurora.retention`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from segments.protocol.run import MAX_CLOCK_US

_US: Final = 1_000


class WriterClock:
    """One writer's clock, in microseconds since the epoch of Unix; it never goes back."""

    __slots__ = ("_last_us", "_source")

    def __init__(self, source: Callable[[], int], after_us: int = 0) -> None:
        """``source`` gives nanoseconds, as `time.time_ns`; ``after_us`` is the least it shows."""
        self._source = source
        self._last_us = after_us

    def now_us(self) -> int:
        """The time, or the last time shown if the source has gone back behind that."""
        now_us = self._source() // _US
        if now_us > self._last_us:
            self._last_us = min(now_us, MAX_CLOCK_US)
        return self._last_us


def no_clock() -> int:
    """The source of a writer whose times nobody will ask for."""
    return 0
