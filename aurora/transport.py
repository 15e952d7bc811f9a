"""The in-process network: encoded bytes from inbox to inbox.

Bytes, so that nothing is shared by accident and a socket could carry the same. Every inbox is
bounded; what does not fit is lost, as on any network, and the protocol sends it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import outcome
import trio

from segments.protocol.ids import Address
from segments.protocol.transport import Envelope, Take

DEFAULT_INBOX_BYTES: Final = 64 << 20


class InProcessEndpoint:
    """One party's inbox, and its way to the others'.

    No channel of trio's, as each of its messages costs several times what one costs here: one task
    receives, takes all that is there at once, and is woken once for all that come before it runs.
    """

    def __init__(
        self, network: InProcessNetwork, address: Address, inbox_messages: int, inbox_bytes: int
    ) -> None:
        self.lost = 0
        """Messages that found this inbox full."""
        self._network = network
        self._address = address
        self._inbox: deque[Envelope] = deque()
        self._inbox_messages = inbox_messages
        self._inbox_bytes = inbox_bytes
        self._waiting_bytes = 0
        self._receiver: trio.lowlevel.Task | None = None  # while it sleeps
        self._take: Take | None = None
        self._closed = False

    @property
    def address(self) -> Address:
        return self._address

    def send(self, destination: Address, payload: bytes) -> None:
        """Put one message into the inbox of ``destination``, if there is one with room."""
        self._network.deliver(Envelope(self._address, payload), destination)

    def deliver(self, envelope: Envelope) -> None:
        """Take one message into this inbox, or lose it."""
        size = len(envelope.payload)
        if (
            len(self._inbox) >= self._inbox_messages
            or (self._waiting_bytes and self._waiting_bytes + size > self._inbox_bytes)
            or self._closed
        ):
            self.lost += 1
            return
        if self._take is not None and self._receiver is not None and self._taken(envelope):
            return
        self._inbox.append(envelope)
        self._waiting_bytes += size
        self._wake()

    def _taken(self, envelope: Envelope) -> bool:
        """Whether who receives has dealt with the message: it sleeps, and nothing waits for it."""
        network = self._network
        if network.delivering:
            return False
        network.delivering = True
        try:
            assert self._take is not None
            return self._take(envelope)
        except BaseException as error:  # noqa: BLE001 - it is the receiver's, not the sender's
            self._wake(error)
            return True
        finally:
            network.delivering = False

    # Else the task could be woken while it does not sleep.
    @trio.lowlevel.enable_ki_protection
    async def receive(self, limit: int, take: Take | None = None) -> list[Envelope]:
        """Wait for a message; return all that are waiting, at most ``limit``, oldest first.

        Raises `trio.ClosedResourceError` once this is closed, `trio.BusyResourceError` in a second
        task at the same time.
        """
        if self._receiver is not None:
            raise trio.BusyResourceError(f"{self._address} receives in another task already")
        if self._inbox or self._closed:
            await trio.lowlevel.checkpoint()
        while not (self._inbox or self._closed):
            self._receiver, self._take = trio.lowlevel.current_task(), take
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        if self._closed:
            raise trio.ClosedResourceError(f"{self._address} has been closed")
        if len(self._inbox) <= limit:
            envelopes = list(self._inbox)
            self._inbox.clear()
            self._waiting_bytes = 0
            return envelopes
        envelopes = [self._inbox.popleft() for _ in range(limit)]
        self._waiting_bytes -= sum([len(each.payload) for each in envelopes])
        return envelopes

    def _wake(self, error: BaseException | None = None) -> None:
        if self._receiver is not None:
            result = outcome.Value(None) if error is None else outcome.Error(error)
            trio.lowlevel.reschedule(self._receiver, result)
            self._receiver = None

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._receiver = None
        return trio.lowlevel.Abort.SUCCEEDED

    def close(self) -> None:
        """Receive nothing more."""
        self._closed = True
        self._inbox.clear()
        self._wake()
        self._network.detach(self)


class InProcessNetwork:
    """Joins all parties of one process."""

    def __init__(self, inbox_messages: int, inbox_bytes: int = DEFAULT_INBOX_BYTES) -> None:
        """Each inbox holds at most this many messages, and this many bytes beyond the first."""
        self.unreachable = 0
        """Messages to addresses at which nobody was, or across a cut."""
        self.delivering = False
        """Whether a message is being dealt with in the step that delivers it. What is sent in that
        step waits for a turn of its receiver: so a step stays short, and nobody is called amid a
        step of its own."""
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
