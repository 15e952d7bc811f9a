"""Who is to blame when a scenario in Python raises: the script, or the code under test."""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import trio

from segments.protocol.errors import AuroraError, Invalid
from sim.world import faults

Body: TypeAlias = Callable[[Any], Coroutine[Any, Any, None]]
"""A scenario: an asynchronous function of one argument, a `sim.script.api.Scenario`."""

_ROOT: Final = Path(__file__).parents[2]
_OURS: Final = tuple(_ROOT / package for package in ("aurora", "segments", "sim"))
_API: Final = _ROOT / "sim" / "script" / "scenario.py"
_LIBRARY: Final = (Path(inspect.getfile(trio)).parent, Path(contextlib.__file__))

_HINTS: Final = {
    SystemExit: "a scenario ends by returning",
    AssertionError: "what the scenario expects is said with s.expect(truth, text)",
}


class ScriptError(Invalid):
    """A script that asks for what cannot be, or is wrong in itself: it says nothing of the engine.

    ``__cause__`` is what the script raised, if it raised.
    """


class ExpectationFailed(Exception):
    """An expectation was not met. The run has its finding already, even if this is caught."""


def raised_by(error: BaseException) -> list[tuple[BaseException, BaseException]]:
    """What a script has raised, out of the groups of its nurseries, each with where it came from.

    That is the exception itself, or the innermost group around it that has come through a frame.
    What ends tasks when the run has ended is left out.
    """
    return [
        (leaf, through)
        for leaf, through in _leaves(error, error)
        if not isinstance(leaf, trio.Cancelled | ExpectationFailed)
    ]


def blames_the_script(error: BaseException, scenario: Body) -> bool:
    """Whether the script is to blame, and not the code under test that it called.

    It is for what it leaves uncaught of the errors that a caller can do something about, and for
    what was raised in its own lines or by a library, with no line of ours but the API's in between.
    """
    if isinstance(error, AuroraError) or error.__traceback__ is None:
        return True  # the second: part of a group that was made by hand
    script = file_of(scenario)
    for file, _ in _frames(error):
        if file == script or Path(file) == _API:
            return True
        if is_ours(file):
            return False
    return False


def script_error(error: BaseException, scenario: Body) -> ScriptError:
    """The error to raise for one that the script is to blame for, with the script's lines."""
    found = [_told(*pair, scenario) for pair in raised_by(error)]
    script_error = ScriptError(f"{file_of(scenario)}, {'; '.join(dict.fromkeys(found))}")
    script_error.__cause__ = error
    return script_error


def file_of(scenario: Body) -> str:
    """The file of the script; empty for what has none."""
    code = getattr(inspect.unwrap(scenario), "__code__", None)
    return "" if code is None else str(code.co_filename)


def is_ours(file: str) -> bool:
    """Whether a file is one of the code under test or of the simulator."""
    return any(Path(file).is_relative_to(package) for package in _OURS)


def is_foreign(file: str) -> bool:
    """Whether a line of this file is none of a script's own."""
    return is_ours(file) or any(Path(file).is_relative_to(each) for each in _LIBRARY)


def _leaves(
    error: BaseException, through: BaseException
) -> Iterator[tuple[BaseException, BaseException]]:
    through = error if error.__traceback__ is not None else through
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each, through)
    else:
        yield error, through


def _told(error: BaseException, through: BaseException, scenario: Body) -> str:
    script = file_of(scenario)
    line = next((line for file, line in _frames(through) if file == script), None)
    if line is None:  # it never came to run a line
        line = getattr(getattr(inspect.unwrap(scenario), "__code__", None), "co_firstlineno", 0)
    kind = "" if isinstance(error, faults.WrongAction) else type(error).__name__
    text = ": ".join(part for part in (kind, str(error)) if part)
    hint = next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), "")
    return f"line {line}: {text}" + (f" ({hint})" if hint else "")


def _frames(error: BaseException) -> list[tuple[str, int]]:
    """File and line of each frame that an error came through, the innermost first."""
    found = traceback.walk_tb(error.__traceback__)
    return [(frame.f_code.co_filename, line) for frame, line in found][::-1]
