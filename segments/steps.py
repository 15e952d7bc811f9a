"""Long work in steps: a generator that yields whenever others may run.

Who is in a hurry, or alone, calls `finished`; a shell gives its loop a turn after every step. How
much a step does is counted in bytes and not in time, so that a run is the same each time.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, TypeAlias, TypeVar

T = TypeVar("T")

Steps: TypeAlias = Generator[None, None, T]
"""Work that is done when the generator ends, with its result."""

STEP_BYTES: Final = 64 << 10
"""Encoded log in one step: some 1,500 of the smallest records, which take some milliseconds."""


def finished(steps: Steps[T]) -> T:
    """Take all steps at once; returns the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


class Pace:
    """Counts work, and says when a step is long enough."""

    def __init__(self) -> None:
        self._done = 0

    def ends_step(self, size: int) -> bool:
        """Count ``size`` bytes; returns whether `STEP_BYTES` have gathered since it last did."""
        self._done += size
        if self._done < STEP_BYTES:
            return False
        self._done = 0
        return True
