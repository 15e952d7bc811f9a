"""Time and network in the hands of the person who watches: running by themselves, or held.

While held, the clock stands and no message arrives by itself. One step is one message delivered and
everything that follows from it, up to the next silence; so a walk-through is the engine itself at
work, only slowly, and takes the same steps each time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aurora.cluster import Cluster
from aurora.terminal.network import Held, HeldNetwork
from aurora.terminal.watch import Watch

if TYPE_CHECKING:
    from trio.testing import MockClock

TICK_S: Final = 0.01
"""Virtual time passes in pieces of this length; everything settles after each."""
_PATIENCE_S: Final = 0.0005
"""Real time between two looks at a disk that is writing."""
_STEP_LIMIT: Final = 100_000
"""Messages after which a run that does not come to rest is given up."""


class Stage:
    """Lets a cluster run, or moves it on step by step."""

    def __init__(self, network: HeldNetwork, clock: MockClock, watch: Watch) -> None:
        self.network = network
        self.cluster: Cluster | None = None
        """To be set once there is one."""
        self.on_step: Callable[[tuple[Held, bool] | None], Awaitable[None]] | None = None
        """Called after each step, with the message delivered, and whether somebody got it."""
        self._clock = clock
        self.watch = watch

    @property
    def held(self) -> bool:
        """Whether nothing happens by itself."""
        return self.network.holding

    async def hold(self) -> None:
        """Stop the clock, let what is under way arrive, and hold every message from then on.

        So what is held is only what follows from what is done next: no heartbeat and no gossip is
        due before time passes again.
        """
        if self.held:
            return
        self._clock.rate = 0.0
        try:
            await self.quiet()
        finally:
            self.network.holding = True

    def let_run(self) -> None:
        """Let the messages go, and the clock."""
        self.network.release()
        self._clock.rate = 1.0

    async def quiet(self) -> None:
        """Wait until everyone waits for a message or for time to pass, and no disk is writing."""
        from trio.testing import wait_all_tasks_blocked  # it loads pytest: see `opening`

        await wait_all_tasks_blocked()
        while self._disk_is_writing():
            await wait_all_tasks_blocked(_PATIENCE_S)

    def _disk_is_writing(self) -> bool:
        if self.cluster is None:
            return False
        hosts = self.cluster.hosts
        return any(hosts[each].up for each in self.watch.writing() if each in hosts)

    async def rest(self) -> None:
        """Wait for silence, and show what led there."""
        await self.quiet()
        if self.on_step is not None:
            await self.on_step(None)

    async def step(self) -> tuple[Held, bool] | None:
        """Deliver one message and wait for silence; None if there was no message."""
        delivered = self.network.deliver_next()
        if delivered is not None:
            await self.quiet()
            if self.on_step is not None:
                await self.on_step(delivered)
        return delivered

    async def settle(self) -> int:
        """Deliver until nothing is under way; returns how many messages that took."""
        await self.rest()
        count = 0
        while count < _STEP_LIMIT and await self.step() is not None:
            count += 1
        return count

    async def pass_time(self, seconds: float) -> None:
        """Let virtual time pass, and everything that is due happen."""
        for _ in range(max(1, round(seconds / TICK_S))):
            self._clock.jump(TICK_S)
            await self.settle()
