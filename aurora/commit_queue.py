"""Who waits for which commit LSN (2017 §4.2.2): commits are acknowledged when the VDL passes them.

A task that commits sleeps here and nothing else does on its behalf; one advance of the VDL wakes
all that it has reached, in LSN order. Tasks come in that order too, as each begins to wait in the
step that allocated its LSNs, so a queue is all it takes. Its length is bounded by the tasks that
call, and those that have gave up since the VDL last moved.
"""

from __future__ import annotations

from collections import deque

import outcome
import trio

from segments.protocol.errors import AuroraError
from segments.protocol.ids import Lsn


class CommitQueue:
    """Tasks that wait for the VDL."""

    def __init__(self) -> None:
        self._lsns: deque[Lsn] = deque()
        self._tasks: dict[Lsn, trio.lowlevel.Task] = {}
        """The waiting task of each of those LSNs, unless its wait was cancelled."""

    def __len__(self) -> int:
        return len(self._tasks)

    async def wait_durable(self, lsn: Lsn) -> None:
        """Sleep until `advance` reaches ``lsn``, which is above that of every earlier call.

        Raises what `fail_all` is given.
        """
        lsns, tasks = self._lsns, self._tasks
        assert not lsns or lsns[-1] < lsn, f"commit LSN {lsn}: expected above {lsns[-1]}"
        lsns.append(lsn)
        tasks[lsn] = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            del tasks[lsn]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def advance(self, vdl: Lsn) -> int:
        """Wake everyone whose commit LSN is at or below ``vdl``; returns how many."""
        lsns, tasks, woken = self._lsns, self._tasks, 0
        while lsns and lsns[0] <= vdl:
            task = tasks.pop(lsns.popleft(), None)
            if task is not None:
                trio.lowlevel.reschedule(task)
                woken += 1
        return woken

    def fail_all(self, error: AuroraError) -> None:
        """Wake everyone with ``error``: these commits are never acknowledged by this writer."""
        self._lsns.clear()
        while self._tasks:
            task = self._tasks.pop(next(iter(self._tasks)))
            trio.lowlevel.reschedule(task, outcome.Error(_copy_of(error)))


def _copy_of(error: AuroraError) -> AuroraError:
    """An exception of its own for each task: raising one object in many would mix tracebacks."""
    return type(error)(*error.args)
