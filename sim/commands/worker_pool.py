"""The processes that run simulations: what Ctrl-C does to them, and how they end."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any


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
