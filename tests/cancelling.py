"""A call cancelled at each of its pauses, one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


class _CancelAtStep(trio.abc.Instrument):
    """Cancels a scope as a task is about to be run for the n-th time."""

    def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope, step: int) -> None:
        self._task, self._scope, self._left = task, scope, step

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if not self._left:
                self._scope.cancel()


async def cancelled_at(step: int, call: Callable[[], Awaitable[object]]) -> bool:
    """Make the call, cancelled once it has paused ``step`` times; whether it came that far."""
    with trio.CancelScope() as scope:
        instrument = _CancelAtStep(trio.lowlevel.current_task(), scope, step)
        trio.lowlevel.add_instrument(instrument)
        try:
            await call()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancel_called
