"""A forgotten ``await``: a call that was never made, and a line that seems to pass.

Python itself notices when such a call is thrown away, and says so in a warning that nobody has to
heed. Here it is collected, with the line of the call.
"""

from __future__ import annotations

import gc
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from sim.script.errors import is_foreign


class Unawaited:
    """The calls of a script that were made without ``await``."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        """For each one, in the order in which they were thrown away: file, line and name."""

    def take(self, caught: list[warnings.WarningMessage]) -> None:
        """Keep those of a script; whatever else was caught is shown as it would have been."""
        for warning in caught:
            place = _place_of(warning)
            if place is not None:
                self.lines.append(place)
            else:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno,
                    source=warning.source,
                )  # fmt: skip
        caught.clear()


@contextmanager
def noticed() -> Iterator[Unawaited]:
    """Collect what is called and not awaited in the block; complete when the block has ended."""
    found = Unawaited()
    depth = sys.get_coroutine_origin_tracking_depth()
    sys.set_coroutine_origin_tracking_depth(1)
    caught: list[warnings.WarningMessage] = []
    gc.freeze()  # what has been there before is none of ours, and need not be searched
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.filterwarnings("always", "coroutine .* was never awaited", RuntimeWarning)
            try:
                yield found
            finally:
                gc.collect()  # what a cycle holds is thrown away only now
    finally:
        gc.unfreeze()
        sys.set_coroutine_origin_tracking_depth(depth)
        found.take(caught)


def clear_frames(error: BaseException) -> None:
    """Empty an exception of what it keeps alive: the variables of the frames it came through."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            clear_frames(each)
    if isinstance(error, AttributeError):
        error.obj = None
    traceback.clear_frames(error.__traceback__)


def _place_of(warning: warnings.WarningMessage) -> str | None:
    """Where a script has made the call; None if this is about something else."""
    origin = getattr(warning.source, "cr_origin", None)
    if warning.category is not RuntimeWarning or not origin:
        return None
    file, line, _ = origin[0]
    name = getattr(warning.source, "__qualname__", "a call").removeprefix("Scenario.")
    return None if is_foreign(file) else f"{file}, line {line}: {name} is never awaited"
