"""Who has the writer's connection: one at a time, in order, and many in a turn of the scheduler.

A **short** turn is one transaction that waits for nobody but the volume, if for anybody. A long one
is a block of a caller's, which may wait for whatever it likes. Whoever comes when nobody is there
goes at once, without waiting. When a turn ends, those who wait are woken: the next long one alone,
or all short ones up to it, at most `MOST`, who then run one after another in the same turn of the
scheduler, as long as none of them has to wait (SQL design, decision 7). Waking each after the other
would cost as many turns of the scheduler as there are transactions.

Whoever has a long turn and asks for another one would wait for itself: that is refused. What a task
of its own waits for here is only seen by whoever asks what is waited for (`Turns.waits`).

Who is woken and finds the connection taken waits again, where it was: as many as are then woken for
nothing, so fewer are the next time, and more again with each that is not. After `MOST` transactions
in a row the next one waits for a turn of the scheduler, so that the volume's own tasks have theirs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio

from aurora.health import WaitKind
from aurora.pending import WaitSnapshot
from segments.protocol.errors import Invalid

MOST: Final = 64
"""Transactions in one turn of the scheduler."""


class Turns:
    """The line for one connection."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        """``check`` raises once there are no turns any more; `end` has those who wait ask it."""
        self._check = check
        self._taken = False
        self._block: trio.lowlevel.Task | None = None
        """Who has a long turn."""
        self._in_a_row = 0
        self._most = MOST
        """How many to wake at a time."""
        self._ticket = 0
        self._line: OrderedDict[int, tuple[trio.lowlevel.Task | None, bool]] = OrderedDict()
        """By ticket: who sleeps, None for those on their way; and whether the turn is short."""
        self._since_s: dict[int, float] = {}
        """By ticket: since when, in the order of the line."""
        self._woken: dict[int, None] = {}
        """Tickets of those who have been woken and not come yet."""

    @property
    def taken(self) -> bool:
        """Whether somebody has the connection."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def waits(self) -> list[WaitSnapshot]:
        """What is waited for, if anybody stands in line, and since when the first one has."""
        since_s = next(iter(self._since_s.values()), None)
        if since_s is None:
            return []
        why = "another one is under way"
        if self._block is not None:
            why = f"the block of {self._block.name} is open"
        return [WaitSnapshot(kind=WaitKind.TURN, since_s=since_s, pg_ids=(), missing=why)]

    async def take(self, *, short: bool) -> None:
        """Wait for the connection; `give` must follow. No checkpoint if it is free.

        Raises `Invalid` if this task has a long turn, at whose end it would wait for itself.
        """
        if not self._taken and not self._line and self._in_a_row < MOST:
            self._in_a_row += 1
        else:
            await self._wait(short)
        self._taken = True
        if not short:
            self._block = trio.lowlevel.current_task()

    async def _wait(self, short: bool) -> None:
        if self._block is trio.lowlevel.current_task():
            raise Invalid(
                "a transaction in a task that has one open already: expected its calls to go "
                "through that one, as in tx.execute(...)"
            )
        self._ticket += 1
        ticket = self._ticket
        self._line[ticket] = (None, short)
        self._since_s[ticket] = trio.current_time()
        try:
            if not self._taken and not self._woken:  # only the row is too long
                self._woken[ticket] = None
                await trio.lowlevel.checkpoint()
            else:
                await self._sleep(ticket, short)
            self._check()
            self._most = max(1, self._most // 2) if self._taken else min(MOST, 2 * self._most)
            while self._taken:
                self._woken.pop(ticket, None)
                await self._sleep(ticket, short)
                self._check()
            self._taken = True
        finally:
            del self._line[ticket], self._since_s[ticket]
            self._woken.pop(ticket, None)
            if not self._taken:  # cancelled
                self._wake()
        self._in_a_row = 1 if self._in_a_row >= MOST else self._in_a_row + 1

    async def _sleep(self, ticket: int, short: bool) -> None:
        self._line[ticket] = (trio.lowlevel.current_task(), short)  # keeps its place

        def abort(_: object) -> trio.lowlevel.Abort:
            self._line[ticket] = (None, short)  # it wakes by itself, to leave the line
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def give(self) -> None:
        """The turn has ended."""
        assert self._taken, "nobody has the connection"
        self._taken = False
        self._block = None
        self._wake()

    def end(self) -> None:
        """There will be no turns any more: whoever sleeps for one is told."""
        for ticket, (task, short) in self._line.items():
            if task is not None:
                self._line[ticket] = (None, short)
                self._woken[ticket] = None
                trio.lowlevel.reschedule(task)

    def _wake(self) -> None:
        """Wake who is next, unless those that were woken are still to come."""
        if self._woken or self._taken:
            return
        for ticket, (task, short) in self._line.items():
            if not short and self._woken:
                break
            if task is not None:
                self._line[ticket] = (None, short)
                self._woken[ticket] = None
                trio.lowlevel.reschedule(task)
            if not short or len(self._woken) >= self._most:
                break
