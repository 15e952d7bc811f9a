"""A network in virtual time, with everything that can go wrong on one.

Each message is numbered, and a `NetworkPolicy` decides how many copies of it arrive, and when. From
there on cuts, clogs and closed endpoints act on the copies that are on their way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

import attrs
import outcome
import trio

from segments.protocol.errors import AuroraError, Closed, Invalid
from segments.protocol.ids import Address
from segments.protocol.transport import Envelope, Take
from sim.plan.profiles import LinkProfile
from sim.world.network_policy import Link, NetworkPolicy
from sim.world.scheduler import VirtualScheduler

DEFAULT_INBOX_LIMIT: Final = 10_000
DEFAULT_IN_FLIGHT_LIMIT: Final = 200_000

Loss = Literal["loss", "cut", "detached", "closed", "inbox full", "flood"]
"""Why a message was dropped: by the policy, by a cut, because nobody was attached at its arrival,
because the sender had been closed, or because the inbox or the whole network was full."""

Kind = Literal["sent", "duplicated", "delivered", "dropped"]


class NetworkEvent(NamedTuple):
    """What an observer is told."""

    time_ns: int
    kind: Kind
    message: int
    """Number of the message, in the order of sending, from 1; copies share it."""
    source: Address
    destination: Address
    payload: bytes
    reason: Loss | None = None
    """Why it was dropped."""


Observer: TypeAlias = Callable[[NetworkEvent], object]
"""Called within sends and deliveries. To end the run it calls `VirtualScheduler.fail`, since what
it raises would reach the sender."""


@attrs.frozen
class NetworkStatistics:
    """Counts since the start; ``sent + duplicated = delivered + in_flight + sum(lost)``."""

    sent: int
    duplicated: int
    delivered: int
    in_flight: int
    lost: Mapping[Loss, int]


@attrs.define(eq=False)
class SimulatedEndpoint:
    """An `Endpoint` of the simulated network, made by `SimulatedNetwork.attach`."""

    address: Address
    _network: SimulatedNetwork
    _links: dict[Address, Link] = attrs.field(factory=dict, init=False)
    _inbox: deque[Envelope] = attrs.field(factory=deque, init=False)
    _receiver: trio.lowlevel.Task | None = attrs.field(default=None, init=False)
    _take: Take | None = attrs.field(default=None, init=False)
    _closed: bool = attrs.field(default=False, init=False)

    def send(self, destination: Address, payload: bytes) -> None:
        """Hand over one message; never blocks. A closed endpoint's messages are lost."""
        link = self._links.get(destination)
        if link is None:
            if not isinstance(destination, str):
                raise Invalid(f"a message to {destination!r}: expected an address")
            link = self._links[destination] = self._network.link(self.address, destination)
        try:
            self._network._transmit(link, payload, self._closed)
        except AuroraError:
            raise
        except Exception as error:
            self._network._scheduler.fail(error)  # it is not the sender's, who may catch it
            raise

    async def receive(self, limit: int, take: Take | None = None) -> list[Envelope]:
        """Wait for a message; return all that wait, oldest first, at most ``limit``.

        What arrives meanwhile ``take`` may take, as of `Endpoint`.

        Raises `Closed`, also while it waits, and `Invalid` when a second task would wait.
        """
        if limit < 1:
            raise Invalid(f"receive at most {limit} messages: expected at least 1")
        if self._inbox:
            await trio.lowlevel.checkpoint()
        while not self._inbox:
            if self._closed:
                raise Closed(f"endpoint {self.address} has been closed")
            if self._receiver is not None:
                raise Invalid(f"a second task receives at {self.address}: expected only one")
            self._receiver, self._take = trio.lowlevel.current_task(), take
            await trio.lowlevel.wait_task_rescheduled(self._abort_receive)
        if len(self._inbox) <= limit:
            envelopes = list(self._inbox)
            self._inbox.clear()
            return envelopes
        return [self._inbox.popleft() for _ in range(limit)]

    def close(self) -> None:
        """Receive nothing more: what waits is gone; whoever waits gets `Closed`."""
        self._closed = True
        self._inbox.clear()
        self._network._detach(self)
        self._wake()

    def _abort_receive(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._receiver = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _arrived(self, envelope: Envelope) -> None:
        try:
            if self._receiver is None or self._take is None or not self._take(envelope):
                self._inbox.append(envelope)
                self._wake()
        except BaseException as error:  # noqa: BLE001 - it is the receiver's mistake
            self._wake(error)

    def _wake(self, error: BaseException | None = None) -> None:
        task, self._receiver = self._receiver, None
        if task is not None:
            result = outcome.Value(None) if error is None else outcome.Error(error)
            trio.lowlevel.reschedule(task, result)


class SimulatedNetwork:
    """A `Network` in virtual time.

    Cuts and clogs are sets of directed links: to cut twice is to cut once, and any heal heals. They
    also hold for addresses where nobody is attached yet. A message on its way over a link is lost
    if the link is cut when it would arrive, and held back if it is clogged then.
    """

    def __init__(
        self,
        scheduler: VirtualScheduler,
        policy: NetworkPolicy,
        profile: LinkProfile | None = None,
        *,
        az_of: Mapping[Address, str] | None = None,
        observer: Observer | None = None,
        inbox_limit: int = DEFAULT_INBOX_LIMIT,
        in_flight_limit: int = DEFAULT_IN_FLIGHT_LIMIT,
    ) -> None:
        """``az_of`` names the AZ of an address; one that is not in it is in an AZ called ""."""
        if inbox_limit < 1 or in_flight_limit < 1:
            raise Invalid(f"limits {inbox_limit} and {in_flight_limit}: expected at least 1")
        self.observer = observer
        self._scheduler = scheduler
        self._call_after = scheduler.call_after
        self._policy = policy
        self._inbox_limit = inbox_limit
        self._in_flight_limit = in_flight_limit
        self._azs = dict(az_of or {})
        self._profile = LinkProfile() if profile is None else profile
        self._az_profiles: dict[tuple[str, str], LinkProfile] = {}
        self._slowness: dict[Address, float] = {}
        self._links: dict[tuple[Address, Address], Link] = {}
        self._endpoints: dict[Address, SimulatedEndpoint] = {}
        self._sent = self._duplicated = self._delivered = self._in_flight = 0
        self._lost: dict[Loss, int] = {}

    # Who is there.

    def attach(self, address: Address) -> SimulatedEndpoint:
        """A fresh endpoint at ``address``; one that was there is closed.

        It gets what arrives from now on, even if that was sent before.
        """
        previous = self._endpoints.get(address)
        if previous is not None:
            previous.close()
        endpoint = self._endpoints[address] = SimulatedEndpoint(address, self)
        return endpoint

    def detach(self, address: Address) -> None:
        """Close the endpoint at ``address``, if there is one: its node has crashed."""
        endpoint = self._endpoints.get(address)
        if endpoint is not None:
            endpoint.close()

    def place(self, address: Address, az: str) -> None:
        """Put ``address`` into an AZ; its links take on that AZ's profiles."""
        self._azs[address] = az
        self._refresh()

    def az_of(self, address: Address) -> str:
        """The AZ of ``address``; "" if it was never placed."""
        return self._azs.get(address, "")

    # How links behave.

    def link(self, source: Address, destination: Address) -> Link:
        """The link from ``source`` to ``destination``: to look at, not to change."""
        link = self._links.get((source, destination))
        if link is None:
            link = self._links[source, destination] = Link(source, destination, self._profile)
            self._configure(link)
        return link

    def set_az_profile(self, source: str, destination: str, profile: LinkProfile | None) -> None:
        """The profile from one AZ to another, or within one; None takes it away."""
        _put(self._az_profiles, (source, destination), profile)
        self._refresh()

    def set_slowness(self, address: Address, factor: float) -> None:
        """Multiply the delays of all messages from and to ``address``; 1 is the normal speed."""
        if not 0.0 < factor < float("inf"):
            raise Invalid(f"slowness {factor!r} of {address}: expected a finite factor > 0")
        self._slowness[address] = factor
        self._refresh()

    def slowness_of(self, address: Address) -> float:
        """The factor that was set last."""
        return self._slowness.get(address, 1.0)

    @property
    def troubled(self) -> bool:
        """Whether there is anything that `heal_all` would end."""
        slow = any(factor != 1 for factor in self._slowness.values())
        return slow or any(link.cut or link.clogged for link in self._links.values())

    # Faults.

    def cut(self, sources: Iterable[Address], destinations: Iterable[Address]) -> None:
        """Lose everything from ``sources`` to ``destinations``, not the other way."""
        for link in self._between(sources, destinations):
            link.cut = True

    def partition(self, left: Iterable[Address], right: Iterable[Address]) -> None:
        """Cut both ways between two groups."""
        left, right = list(left), list(right)
        self.cut(left, right)
        self.cut(right, left)

    def clog(self, sources: Iterable[Address], destinations: Iterable[Address]) -> None:
        """Hold back what would arrive from ``sources`` at ``destinations``."""
        for link in self._between(sources, destinations):
            link.clogged = True

    def heal_all(self) -> None:
        """End every cut, clog and slowness; profiles stay."""
        self._slowness.clear()
        self._refresh()
        for link in list(self._links.values()):
            link.cut = False
            self._unclog(link)

    def statistics(self) -> NetworkStatistics:
        """What has happened so far."""
        return NetworkStatistics(
            sent=self._sent,
            duplicated=self._duplicated,
            delivered=self._delivered,
            in_flight=self._in_flight,
            lost=dict(self._lost),
        )

    # The way of a message.

    def _transmit(self, link: Link, payload: bytes, closed: bool) -> None:
        if type(payload) is not bytes:
            raise Invalid(f"a payload of {type(payload).__name__}: expected bytes")
        self._sent = message = self._sent + 1
        if self.observer is not None:
            self._observe("sent", message, link, payload)
        if closed or link.cut:
            self._drop("closed" if closed else "cut", message, link, payload)
            return
        delays = self._policy.decide(message, link)
        if not delays:
            self._drop("loss", message, link, payload)
        if len(delays) > 1:
            self._duplicated += len(delays) - 1
            for _ in delays[1:]:
                self._observe("duplicated", message, link, payload)
        for delay_ns in delays:
            if self._in_flight >= self._in_flight_limit:
                self._drop("flood", message, link, payload)
            else:
                self._in_flight += 1
                self._call_after(delay_ns, self._arrive, message, link, payload)

    def _arrive(self, message: int, link: Link, payload: bytes) -> None:
        if link.clogged:
            link.held.append((message, payload))
            return
        self._in_flight -= 1
        endpoint = self._endpoints.get(link.destination)
        if link.cut:
            self._drop("cut", message, link, payload)
        elif endpoint is None:
            self._drop("detached", message, link, payload)
        elif len(endpoint._inbox) >= self._inbox_limit:
            self._drop("inbox full", message, link, payload)
        else:
            self._delivered += 1
            if self.observer is not None:
                self._observe("delivered", message, link, payload)
            endpoint._arrived(Envelope(link.source, payload))

    def _drop(self, reason: Loss, message: int, link: Link, payload: bytes) -> None:
        self._lost[reason] = self._lost.get(reason, 0) + 1
        if self.observer is not None:
            self._observe("dropped", message, link, payload, reason)

    def _observe(
        self, kind: Kind, message: int, link: Link, payload: bytes, reason: Loss | None = None
    ) -> None:
        if self.observer is not None:
            time_ns = self._scheduler.now_ns
            source, destination = link.source, link.destination
            self.observer(
                NetworkEvent(time_ns, kind, message, source, destination, payload, reason)
            )

    def _unclog(self, link: Link) -> None:
        link.clogged = False
        held, link.held = link.held, []
        for message, payload in held:
            self._scheduler.call_after(0, self._arrive, message, link, payload)

    def _detach(self, endpoint: SimulatedEndpoint) -> None:
        if self._endpoints.get(endpoint.address) is endpoint:
            del self._endpoints[endpoint.address]

    def _between(self, sources: Iterable[Address], destinations: Iterable[Address]) -> list[Link]:
        there = list(destinations)
        return [self.link(source, destination) for source in sources for destination in there]

    def _refresh(self) -> None:
        for link in self._links.values():
            self._configure(link)

    def _configure(self, link: Link) -> None:
        source, destination = link.source, link.destination
        of_azs = self._az_profiles.get((self.az_of(source), self.az_of(destination)))
        link.profile = of_azs or self._profile
        link.slowness = self._slowness.get(source, 1.0) * self._slowness.get(destination, 1.0)


def _put(
    profiles: dict[tuple[str, str], LinkProfile],
    key: tuple[str, str],
    profile: LinkProfile | None,
) -> None:
    if profile is None:
        profiles.pop(key, None)
    else:
        profiles[key] = profile
