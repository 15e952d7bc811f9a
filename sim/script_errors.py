"""Who is to blame when a scenario in Python raises: the script, or the code under test."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeAlias

from segments.protocol.errors import AuroraError, Invalid
from sim import faults

Body: TypeAlias = Callable[[Any], Coroutine[Any, Any, None]]
"""A scenario: an asynchronous function of one argument, a `sim.scenario_api.Scenario`."""

_ROOT: Final = Path(__file__).parents[1]
_OURS: Final = tuple(_ROOT / package for package in ("aurora", "segments", "sim"))
_API: Final = _ROOT / "sim" / "scenario_api.py"


class ScriptError(Invalid):
    """A script that asks for what cannot be, or is wrong in itself: it says nothing of the engine.

    ``__cause__`` is what the script raised.
    """


def blames_the_script(error: Exception, scenario: Body) -> bool:
    """Whether the script is to blame, and not the code under test that it called.

    It is for what it leaves uncaught of the errors that a caller can do something about, and for
    what was raised in its own lines or by a library, with no line of ours but the API's in between.
    """
    if isinstance(error, ExceptionGroup):
        return all(blames_the_script(each, scenario) for each in error.exceptions)
    if isinstance(error, AuroraError) or error.__traceback__ is None:
        return True  # the second: part of a group that was made by hand
    script = _file_of(scenario)
    for file, _ in _frames(error):
        path = Path(file)
        if file == script or path == _API:
            return True
        if any(path.is_relative_to(package) for package in _OURS):
            return False
    return False


def script_error(error: Exception, scenario: Body) -> ScriptError:
    """The error to raise for one that the script is to blame for, with the script's line."""
    script = _file_of(scenario)
    line = next((line for file, line in _frames(error) if file == script), 0)
    kind = "" if isinstance(error, faults.WrongAction) else f"{type(error).__name__}: "
    found = ScriptError(f"{script}, line {line}: {kind}{error}")
    found.__cause__ = error
    return found


def _file_of(scenario: Body) -> str:
    code = getattr(inspect.unwrap(scenario), "__code__", None)
    return "" if code is None else str(code.co_filename)


def _frames(error: BaseException) -> list[tuple[str, int]]:
    """File and line of each frame that an error came through, the innermost first."""
    found = traceback.walk_tb(error.__traceback__)
    return [(frame.f_code.co_filename, line) for frame, line in found][::-1]
