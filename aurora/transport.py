"""The in-process network: encoded bytes through trio memory channels.

Bytes, so that nothing is shared by accident and a socket could carry the same. Every inbox is
bounded; what does not fit is lost, as on any network, and the protocol sends it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import trio

from segments.protocol.ids import Address
from segments.protocol.transport import Envelope

DEFAULT_INBOX_BYTES: Final = 64 << 20


class InProcessEndpoint:
    """One party's inbox, and its way to the others'."""

    def __init__(
        self, network: InProcessNetwork, address: Address, inbox_messages: int, inbox_bytes: int
    ) -> None:
        self.lost = 0
        """Messages that found this inbox full."""
        self._network = network
        self._address = address
        self._inbox_send, self._inbox = trio.open_memory_channel[Envelope](inbox_messages)
        self._inbox_bytes = inbox_bytes
        self._waiting_bytes = 0

    @property
    def address(self) -> Address:
        return self._address

    def send(self, destination: Address, payload: bytes) -> None:
        """Put one message into the inbox of ``destination``, if there is one with room."""
        self._network.deliver(Envelope(self._address, payload), destination)

    def deliver(self, envelope: Envelope) -> None:
        """Take one message into this inbox, or lose it."""
        size = len(envelope.payload)
        if self._waiting_bytes and self._waiting_bytes + size > self._inbox_bytes:
            self.lost += 1
            return
        try:
            self._inbox_send.send_nowait(envelope)
        except (trio.WouldBlock, trio.BrokenResourceError):
            self.lost += 1
        else:
            self._waiting_bytes += size

    async def receive(self, limit: int) -> list[Envelope]:
        """Wait for a message; return all that are waiting, at most ``limit``, oldest first."""
        envelopes = [await self._inbox.receive()]
        try:
            while len(envelopes) < limit:
                envelopes.append(self._inbox.receive_nowait())
        except trio.WouldBlock:
            pass
        self._waiting_bytes -= sum([len(each.payload) for each in envelopes])
        return envelopes

    def close(self) -> None:
        """Receive nothing more."""
        self._inbox.close()
        self._network.detach(self)


class InProcessNetwork:
    """Joins all parties of one process."""

    def __init__(self, inbox_messages: int, inbox_bytes: int = DEFAULT_INBOX_BYTES) -> None:
        """Each inbox holds at most this many messages, and this many bytes beyond the first."""
        self.unreachable = 0
        """Messages to addresses at which nobody was, or across a cut."""
        self._inbox_messages = inbox_messages
        self._inbox_bytes = inbox_bytes
        self._endpoints: dict[Address, InProcessEndpoint] = {}
        self._cut: set[tuple[Address, Address]] = set()

    def cut(self, sources: Iterable[Address], destinations: Iterable[Address]) -> None:
        """Lose, from now on, what any of ``sources`` sends to any of ``destinations``."""
        receivers = list(destinations)
        self._cut.update((source, receiver) for source in sources for receiver in receivers)

    def heal(self) -> None:
        """Undo every `cut`."""
        self._cut.clear()

    def attach(self, address: Address) -> InProcessEndpoint:
        """A fresh endpoint at ``address``, replacing any that was there."""
        endpoint = InProcessEndpoint(self, address, self._inbox_messages, self._inbox_bytes)
        self._endpoints[address] = endpoint
        return endpoint

    def detach(self, endpoint: InProcessEndpoint) -> None:
        """Take an endpoint away, unless it has been replaced."""
        if self._endpoints.get(endpoint.address) is endpoint:
            del self._endpoints[endpoint.address]

    def deliver(self, envelope: Envelope, destination: Address) -> None:
        """Hand a message over, or lose it."""
        endpoint = self._endpoints.get(destination)
        if endpoint is None or (self._cut and (envelope.source, destination) in self._cut):
            self.unreachable += 1
        else:
            endpoint.deliver(envelope)
