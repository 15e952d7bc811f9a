"""Threads for calls of the system that block: one that stays, and one for now and then.

A job that has started is always awaited to its end, whatever is cancelled meanwhile, and no Ctrl-C
comes between its end and whoever waits for it. Not `trio.to_thread`: its limiter costs a turn of
trio's loop for each job, and there is nothing to limit, as who has jobs takes turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar, TypeVarTuple

import outcome
import trio

from segments.protocol.refusal import storage_error

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_Ended: TypeAlias = Callable[[outcome.Outcome[_T]], object]
_Jobs: TypeAlias = "SimpleQueue[Callable[[], None] | None]"


class ResidentThread:
    """A thread that does jobs one after the other, and waits for the next one.

    Handing a job to it is one put into a queue. It is had from trio's threads with the first job,
    and given back by `end`; a process may end in spite of it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: _Jobs = SimpleQueue()
        self._runs = False

    def start(self, ended: _Ended[_T], job: Callable[[*_Ts], _T], *args: *_Ts) -> None:
        """Have a job done, and ``ended`` called with what came of it, from trio's loop.

        That may not raise anything. Raises `StorageFailed` if there is no thread to be had: nothing
        has begun then.
        """
        if not self._runs:
            _start(partial(_serve, self._jobs), _ignore, self._name)
            self._runs = True
        hand_over = _results_of_this_run().hand_over
        self._jobs.put(lambda: hand_over(ended, outcome.capture(job, *args)))

    @trio.lowlevel.enable_ki_protection
    async def run(self, job: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        """The result of a job, or what it raises; cancelled only before it starts.

        Raises as `start`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.start(_wake_current_task(), job, *args)
        return await _delivered()

    def end(self) -> None:
        """Let the thread go, once what it was given is done; a second call does nothing."""
        if self._runs:
            self._runs = False
            self._jobs.put(None)


@trio.lowlevel.enable_ki_protection
async def in_thread(name: str, job: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """The result of a job in a thread of its own; all else as of `ResidentThread.run`."""
    await trio.lowlevel.checkpoint_if_cancelled()
    hand_over, wake = _results_of_this_run().hand_over, _wake_current_task()
    _start(partial(job, *args), lambda result: hand_over(wake, result), name)
    return await _delivered()


def _start(
    job: Callable[[], _T], deliver: Callable[[outcome.Outcome[_T]], object], name: str
) -> None:
    try:
        trio.lowlevel.start_thread_soon(job, deliver, name)
    except (RuntimeError, MemoryError) as error:
        raise storage_error(f"{name}: no thread", error) from error


def _serve(jobs: _Jobs) -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # what it holds may go while this waits


def _ignore(_ended: object) -> None:
    pass


def _wake_current_task() -> Callable[[outcome.Outcome[_T]], None]:
    return partial(trio.lowlevel.reschedule, trio.lowlevel.current_task())


def _results_of_this_run() -> _Results:
    try:
        return _results.get()
    except LookupError:
        results = _Results(trio.lowlevel.current_trio_token())
        _results.set(results)
        return results


class _Results:
    """What threads have done, on its way into a trio run: all that has gathered wakes it once."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self._waiting: deque[tuple[_Ended[Any], outcome.Outcome[Any]]] = deque()
        self._called = False

    def hand_over(self, ended: _Ended[_T], result: outcome.Outcome[_T]) -> None:
        """In a thread: the result before the question, so that one of the two always sees it."""
        self._waiting.append((ended, result))
        if not self._called:
            self._called = True
            self._token.run_sync_soon(self._deliver)

    def _deliver(self) -> None:
        self._called = False
        for _ in range(len(self._waiting)):  # what comes meanwhile has asked for a turn of its own
            ended, result = self._waiting.popleft()
            ended(result)


_results: trio.lowlevel.RunVar[_Results] = trio.lowlevel.RunVar("results of threads")


async def _delivered() -> _T:
    result: _T = await trio.lowlevel.wait_task_rescheduled(_never_abort)
    return result


def _never_abort(_raise_cancel: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
