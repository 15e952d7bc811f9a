"""The in-process network with a hand on it: messages can be held, and delivered one at a time."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from aurora.transport import DEFAULT_INBOX_BYTES, InProcessNetwork
from segments.protocol import codec
from segments.protocol.ids import Address
from segments.protocol.messages import Message
from segments.protocol.transport import Envelope

HELD_LIMIT: Final = 10_000
"""Messages that may be under way at a time; more are lost, as on any network."""


class Held(NamedTuple):
    """A message under way."""

    envelope: Envelope
    destination: Address

    @property
    def message(self) -> Message:
        """What it says."""
        return codec.decode(self.envelope.payload)


class HeldNetwork(InProcessNetwork):
    """While `holding`, nothing arrives unless `deliver_next` is called.

    The order of delivery does not depend on the order in which tasks happened to run: what was sent
    between two deliveries is put in order of receiver and sender, behind what was sent before.
    """

    def __init__(self, inbox_messages: int, inbox_bytes: int = DEFAULT_INBOX_BYTES) -> None:
        super().__init__(inbox_messages, inbox_bytes)
        self.holding = False
        self._sent: list[Held] = []
        self._queue: deque[Held] = deque()

    def deliver(self, envelope: Envelope, destination: Address) -> None:
        """Hold the message, or hand it over at once."""
        if not self.holding:
            super().deliver(envelope, destination)
        elif len(self._sent) + len(self._queue) < HELD_LIMIT:
            self._sent.append(Held(envelope, destination))

    def under_way(self) -> list[Held]:
        """The messages held, in the order in which they will arrive."""
        self._sent.sort(key=lambda held: (held.destination, held.envelope.source))
        self._queue.extend(self._sent)
        self._sent.clear()
        return list(self._queue)

    def deliver_next(self) -> tuple[Held, bool] | None:
        """Let the next message arrive; returns it and whether somebody was there. None: no more."""
        if not self.under_way():
            return None
        held = self._queue.popleft()
        before = self.unreachable
        super().deliver(*held)
        return held, self.unreachable == before

    def drop_next(self) -> Held | None:
        """Lose the next message."""
        return self._queue.popleft() if self.under_way() else None

    def release(self) -> None:
        """Let everything held arrive, and hold no more."""
        self.holding = False
        while self.deliver_next() is not None:
            pass
