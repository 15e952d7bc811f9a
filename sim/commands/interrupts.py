"""Ctrl-C: what it does to a simulation, and to the processes that run simulations.

Raised wherever the program happens to be, a `KeyboardInterrupt` would come out of trio in a group,
or be taken for a failure of the code that it hit. So a run is asked to end instead, and raises it
by itself; a command that catches it there may report what is done. The exit code is 130.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from types import FrameType
from typing import Any


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


def worker_pool(jobs: int) -> ProcessPoolExecutor:
    """Processes that ignore Ctrl-C: it reaches all of a terminal's; the parent decides."""
    return ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_ignore_interrupts
    )


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def close_pool(pool: ProcessPoolExecutor, submitted: Sequence[Future[Any]]) -> None:
    """End a pool; what has been submitted and is not done is of no use to anybody any more."""
    unfinished = not all(each.done() for each in submitted)
    processes = list((pool._processes or {}).values())  # the pool forgets them when it is shut
    pool.shutdown(wait=not unfinished, cancel_futures=True)
    if unfinished:
        for process in processes:
            process.terminate()
