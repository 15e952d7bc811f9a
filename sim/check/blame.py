"""Whose failure an exception is that nobody expected: the system's under test, or the simulator's.

The one rule: of the lines of ours that it came through, the innermost decides. One in `aurora` or
`segments` is the system's: a finding. One in `sim` is the simulator's own: that run shows nothing,
and says so. What the simulated network, disk or clock refuses with a typed error is the mistake of
who called it.
"""

from __future__ import annotations

import traceback
from pathlib import Path, PurePath
from typing import Final

from segments.host import describe_error
from segments.protocol.errors import AuroraError

_ROOT: Final = Path(__file__).parents[2]
_SYSTEM: Final = (_ROOT / "aurora", _ROOT / "segments")
_SIMULATOR: Final = _ROOT / "sim"
_PORTS: Final = tuple(
    _SIMULATOR / "world" / name for name in ("network.py", "disk.py", "scheduler.py")
)


def blames_the_system(error: BaseException) -> bool:
    """Whether the code under test failed; of a group, in any part, since that is a finding."""
    if isinstance(error, BaseExceptionGroup):
        return any(blames_the_system(each) for each in error.exceptions)
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        path = Path(frame.f_code.co_filename)
        if isinstance(error, AuroraError) and path in _PORTS:
            continue
        if any(path.is_relative_to(place) for place in _SYSTEM):
            return True
        if path.is_relative_to(_SIMULATOR):
            return False
    return False


def asks_to_stop(error: BaseException) -> bool:
    """Whether it is Ctrl-C, which is nobody's failure; of a group, in any part."""
    if isinstance(error, BaseExceptionGroup):
        return any(asks_to_stop(each) for each in error.exceptions)
    return isinstance(error, KeyboardInterrupt)


def described(error: BaseException) -> str:
    """What failed and where; below, by which lines of ours it was called."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    places = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    callers = [
        f"  called by {code.co_name}, {PurePath(code.co_filename).name} line {line}"
        for code, line in reversed(places[:-1])
        if any(Path(code.co_filename).is_relative_to(each) for each in (*_SYSTEM, _SIMULATOR))
    ]
    return "\n".join((describe_error(error), *callers))
