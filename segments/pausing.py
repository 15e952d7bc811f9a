"""A hand on a party's endpoint: it can be stopped, as a system stops a process, and slowed.

The party itself knows nothing of it. While it is paused it hears nothing, and nothing that it says
leaves; what it had heard before it may finish meanwhile, its disk included. When it goes on, what
it said leaves at once and in order, and it hears what has waited in its inbox.
"""

from __future__ import annotations

import trio

from segments.protocol.ids import Address
from segments.protocol.transport import Endpoint, Envelope, Take


class PausableEndpoint:
    """An `Endpoint` in front of another one."""

    def __init__(self, inner: Endpoint, held_messages: int, held_bytes: int) -> None:
        """A pause holds so many messages, and so many bytes beyond the first; more are lost."""
        self.paused_since_s: float | None = None
        """When it was paused, in trio's time; None if it runs."""
        self.delay_s = 0.0
        """How long each round of messages is kept from it."""
        self._inner = inner
        self._running = trio.Event()
        self._running.set()
        self._held: list[tuple[Address, bytes]] = []
        self._held_messages = held_messages
        self._room = self._held_bytes = held_bytes

    @property
    def address(self) -> Address:
        return self._inner.address

    def pause(self) -> None:
        """Receive and send nothing until `resume`; a second call changes nothing."""
        if self.paused_since_s is None:
            self.paused_since_s = trio.current_time()
            self._running = trio.Event()

    def resume(self) -> None:
        """Go on after `pause`."""
        self.paused_since_s = None
        held, self._held, self._room = self._held, [], self._held_bytes
        for destination, payload in held:
            self._inner.send(destination, payload)
        self._running.set()

    def send(self, destination: Address, payload: bytes) -> None:
        """Hand over one message, or hold it while paused."""
        if self.paused_since_s is None:
            self._inner.send(destination, payload)
        elif len(self._held) < self._held_messages and (
            not self._held or len(payload) <= self._room
        ):
            self._held.append((destination, payload))
            self._room -= len(payload)

    async def receive(self, limit: int, take: Take | None = None) -> list[Envelope]:
        """What the inner endpoint receives, once it runs, and after the delay."""

        def take_if_running(envelope: Envelope) -> bool:
            runs = self.paused_since_s is None and not self.delay_s
            return runs and take is not None and take(envelope)

        envelopes = await self._inner.receive(limit, take_if_running)
        while self.paused_since_s is not None:
            await self._running.wait()
        if self.delay_s:
            await trio.sleep(self.delay_s)
        return envelopes

    def close(self) -> None:
        """Receive nothing more; what is held never leaves."""
        self._held = []
        self._inner.close()
