"""Who waits for which commit LSN (2017 §4.2.2): commits are acknowledged when the VDL passes them.

A task that commits sleeps here and nothing else does on its behalf; one advance of the VDL wakes
all that it has reached, in LSN order. The number of waiters is bounded by the tasks that call.
"""

from __future__ import annotations

from heapq import heappop, heappush

import attrs
import outcome
import trio

from segments.protocol.errors import AuroraError
from segments.protocol.ids import Lsn


@attrs.define(order=True, slots=True)
class _Waiter:
    lsn: Lsn
    sequence: int
    task: trio.lowlevel.Task | None = attrs.field(order=False)
    """None once the wait was cancelled."""


class CommitQueue:
    """Tasks that wait for the VDL."""

    def __init__(self) -> None:
        self._waiters: list[_Waiter] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait_durable(self, lsn: Lsn) -> None:
        """Sleep until `advance` reaches ``lsn``; raises what `fail_all` is given."""
        self._sequence += 1
        waiter = _Waiter(lsn, self._sequence, trio.lowlevel.current_task())
        heappush(self._waiters, waiter)

        def abort(_: object) -> trio.lowlevel.Abort:
            waiter.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def advance(self, vdl: Lsn) -> int:
        """Wake everyone whose commit LSN is at or below ``vdl``; returns how many."""
        waiters, woken = self._waiters, 0
        while waiters and waiters[0].lsn <= vdl:
            task = heappop(waiters).task
            if task is not None:
                trio.lowlevel.reschedule(task)
                woken += 1
        return woken

    def fail_all(self, error: AuroraError) -> None:
        """Wake everyone with ``error``: these commits are never acknowledged by this writer."""
        waiters, self._waiters = self._waiters, []
        for waiter in sorted(waiters):
            if waiter.task is not None:
                trio.lowlevel.reschedule(waiter.task, outcome.Error(_copy_of(error)))


def _copy_of(error: AuroraError) -> AuroraError:
    """An exception of its own for each task: raising one object in many would mix tracebacks."""
    return type(error)(*error.args)
