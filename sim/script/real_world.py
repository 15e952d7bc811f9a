"""What a scenario in Python may not ask of the real world: its time, its threads, its chance.

A seed is one run. Whatever differs from one moment to the next in the real world would differ in
the run, too. So a script that asks for it is stopped at that line.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from segments.protocol.errors import Invalid
from sim.script.errors import Body, file_of

_CLOCKS: Final = tuple(
    f"{name}{suffix}"
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time")
    for suffix in ("", "_ns")
)
_DRAW: Final = "s.random draws from the seed"
_REFUSED: Final[tuple[tuple[str, tuple[str, ...], str], ...]] = (
    ("time", _CLOCKS, "trio.current_time() is the virtual time"),
    ("time", ("sleep",), "await s.sleep(seconds) lets virtual time pass"),
    ("random", (), _DRAW),
    ("secrets", (), _DRAW),
    ("os", ("urandom", "getrandom"), _DRAW),
    ("uuid", ("uuid1", "uuid4"), _DRAW),
)
"""Functions of a module, all that are public if none is named, and what a script takes instead."""


class OfTheRealWorld(Invalid):
    """A script has asked for something that no seed decides."""


@contextmanager
def refused(scenario: Body) -> Iterator[None]:
    """Refuse the script those while the block runs; for everybody else nothing changes."""
    script, own = file_of(scenario), getattr(inspect.unwrap(scenario), "__globals__", {})
    with ExitStack() as stack:
        for owner, name, instead in _functions():
            real = getattr(owner, name)
            refusing = _refusing(script, real, f"{owner.__name__}.{name}", instead)
            setattr(owner, name, refusing)
            stack.callback(setattr, owner, name, real)
            for key in [key for key, value in own.items() if value is real]:
                own[key] = refusing  # it was imported by its name
                stack.callback(own.__setitem__, key, real)
        yield


def _functions() -> Iterator[tuple[Any, str, str]]:
    for module_name, names, instead in _REFUSED:
        module = importlib.import_module(module_name)
        public = [name for name in getattr(module, "__all__", ()) if name[0].islower()]
        for name in names or public:
            if hasattr(module, name):  # not every platform has all of them
                yield module, name, instead
    yield threading.Thread, "start", "tasks of trio take turns as the seed has it"


def _refusing(script: str, real: Callable[..., Any], name: str, instead: str) -> Callable[..., Any]:
    def ask(*args: Any, **kwargs: Any) -> Any:
        if sys._getframe(1).f_code.co_filename == script:
            raise OfTheRealWorld(f"{name}() is of the real world, which no seed decides: {instead}")
        return real(*args, **kwargs)

    return ask
