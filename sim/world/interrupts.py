"""Ctrl-C: what it does to a simulation.

Raised wherever the program happens to be, a `KeyboardInterrupt` would come out of trio in a group,
or be taken for a failure of the code that it hit. So a run is asked to end instead, and raises it
by itself; a command that catches it there may report what is done. The exit code is 130.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred(ask_to_end: Callable[[], object]) -> Iterator[None]:
    """Let Ctrl-C call ``ask_to_end`` while the block runs; a second one raises where it hits.

    ``ask_to_end`` may come between any two instructions: it can set flags and no more. Where Ctrl-C
    is ignored or handled by somebody else, and outside of the main thread, nothing changes.
    """
    usual = signal.default_int_handler
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not usual
    ):
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, usual)
        ask_to_end()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
