"""Commits, and who waits for them (2017 §4.2.2): they are acknowledged when the VDL passes them.

A commit enters the queue in the step that allocates its LSNs, so the queue is in LSN order and an
advance of the VDL takes from its front. Whether anybody waits, one task or many, before or after,
is the commit's own affair: the queue holds it until it is durable or the writer has ended, and no
longer. So what nobody ever awaits is held back by the LSN allocation limit like everything else,
which bounds the queue, and leaves nothing behind.
"""

from __future__ import annotations

from collections import deque

import trio

from segments.protocol.errors import AuroraError
from segments.protocol.ids import Lsn


class Commit:
    """A mini-transaction that is part of the log, durable already or not yet."""

    __slots__ = ("_error", "_pending", "_tasks", "lsn")

    def __init__(self, lsn: Lsn) -> None:
        self.lsn = lsn
        """The LSN of its last record: it is durable when the VDL has reached this."""
        self._pending = True
        self._error: AuroraError | None = None
        self._tasks: dict[trio.lowlevel.Task, None] = {}  # who waits, first come first

    def __repr__(self) -> str:
        state = "pending" if self._pending else "durable" if self._error is None else "not known"
        return f"<Commit {self.lsn}: {state}>"

    @trio.lowlevel.enable_ki_protection  # else it could be woken while it does not wait
    async def durable(self) -> Lsn:
        """Wait until it is durable, VDL >= `lsn`, and return that LSN.

        May be awaited by any number of tasks, any number of times, or never; giving up waiting
        changes nothing. Raises `Fenced` or `Closed` if the writer ended before it could tell: the
        commit may then survive or not, but whole.
        """
        if self._pending:
            tasks, task = self._tasks, trio.lowlevel.current_task()
            tasks[task] = None

            def abort(_: object) -> trio.lowlevel.Abort:
                del tasks[task]
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        else:
            await trio.lowlevel.checkpoint()
        if self._error is not None:
            # Of its own for each task: raising one object in many would mix their tracebacks.
            raise type(self._error)(*self._error.args)
        return self.lsn

    def settle(self, error: AuroraError | None = None) -> None:
        """It is durable, or with ``error`` will never be known to be: wake who waits."""
        self._pending, self._error = False, error
        for task in self._tasks:
            trio.lowlevel.reschedule(task)
        self._tasks.clear()


class CommitQueue:
    """The commits of one writer that are not durable yet."""

    def __init__(self) -> None:
        self._commits: deque[Commit] = deque()

    def __len__(self) -> int:
        return len(self._commits)

    @property
    def newest(self) -> Commit | None:
        """The last one; None if all are durable."""
        return self._commits[-1] if self._commits else None

    def add(self, lsn: Lsn) -> Commit:
        """The commit of an MTR that ends at ``lsn``, which is above those of all earlier calls."""
        commits = self._commits
        assert not commits or commits[-1].lsn < lsn, f"{lsn}: expected above {commits[-1].lsn}"
        commit = Commit(lsn)
        commits.append(commit)
        return commit

    def advance(self, vdl: Lsn) -> int:
        """Every commit at or below ``vdl`` is durable; returns how many have become so."""
        commits = self._commits
        before = len(commits)
        while commits and commits[0].lsn <= vdl:
            commits.popleft().settle()
        return before - len(commits)

    def fail_all(self, error: AuroraError) -> None:
        """The writer has ended with ``error``: none of these will ever be acknowledged by it."""
        while self._commits:
            self._commits.popleft().settle(error)
