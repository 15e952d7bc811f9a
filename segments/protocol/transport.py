"""How messages travel, as their senders and receivers see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

from segments.protocol.ids import Address


class Envelope(NamedTuple):
    """One message as it arrives."""

    source: Address
    payload: bytes


Take: TypeAlias = Callable[[Envelope], bool]
"""Deals with a message in the step that delivers it; False if that must wait for a task's turn."""


class Endpoint(Protocol):
    """One party's connection to the network. Delivery is at most once, and in any order."""

    @property
    def address(self) -> Address: ...

    def send(self, destination: Address, payload: bytes) -> None:
        """Hand over one message; never blocks. A message may be lost, as on any network."""

    async def receive(self, limit: int, take: Take | None = None) -> list[Envelope]:
        """Wait for a message; return all that are waiting, at most ``limit``, oldest first.

        What arrives while this waits is offered to ``take``, and waited on if that takes it. What
        it raises is raised here. Within it messages may be sent.
        """

    def close(self) -> None:
        """Receive nothing more."""


class Network(Protocol):
    """What joins the endpoints."""

    def attach(self, address: Address) -> Endpoint:
        """A fresh endpoint at ``address``, replacing any that was there."""
