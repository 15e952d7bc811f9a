"""The in-process network: bytes from inbox to inbox, each bounded."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from aurora.transport import InProcessNetwork
from segments.protocol.transport import Envelope, Network


async def test_what_is_sent_arrives_in_order_and_together() -> None:
    network: Network = InProcessNetwork(10)
    a, b = network.attach("A"), network.attach("B")
    assert (a.address, b.address) == ("A", "B")
    for number in range(5):
        a.send("B", bytes([number]))
    assert await b.receive(3) == [Envelope("A", bytes([number])) for number in range(3)]
    assert await b.receive(9) == [Envelope("A", bytes([number])) for number in (3, 4)]
    with trio.move_on_after(0) as scope:
        await b.receive(1)
    assert scope.cancelled_caught


async def test_an_inbox_is_bounded_and_what_does_not_fit_is_lost() -> None:
    network = InProcessNetwork(3)
    a, b = network.attach("A"), network.attach("B")
    for number in range(5):
        a.send("B", bytes([number]))
    assert b.lost == 2
    assert [each.payload for each in await b.receive(9)] == [b"\0", b"\1", b"\2"]
    a.send("B", b"again")
    assert await b.receive(9) == [Envelope("A", b"again")]


async def test_nobody_there_is_a_loss_not_an_error() -> None:
    network = InProcessNetwork(3)
    a, b = network.attach("A"), network.attach("B")
    a.send("C", b"x")
    assert network.unreachable == 1
    b.close()
    b.close()
    a.send("B", b"x")
    assert network.unreachable == 2


async def test_a_new_endpoint_replaces_the_old_one_for_good() -> None:
    network = InProcessNetwork(3)
    a, old = network.attach("A"), network.attach("B")
    a.send("B", b"before the crash")
    new = network.attach("B")
    old.close()
    a.send("B", b"after")
    assert await new.receive(9) == [Envelope("A", b"after")]


async def test_a_cut_has_a_direction_and_heals() -> None:
    network = InProcessNetwork(3)
    a, b = network.attach("A"), network.attach("B")
    network.cut(["A"], ["B", "C"])
    a.send("B", b"lost")
    b.send("A", b"heard")
    assert network.unreachable == 1
    assert await a.receive(9) == [Envelope("B", b"heard")]
    network.heal()
    a.send("B", b"there")
    assert await b.receive(9) == [Envelope("A", b"there")]


async def test_an_inbox_is_bounded_in_bytes_as_well_as_in_messages() -> None:
    network = InProcessNetwork(100, inbox_bytes=1_000)
    receiver, sender = network.attach("B"), network.attach("A")
    sender.send("B", bytes(5_000))  # larger than the inbox, and alone in it
    sender.send("B", b"lost")
    assert [len(each.payload) for each in await receiver.receive(10)] == [5_000]
    for _ in range(3):
        sender.send("B", bytes(400))
    assert receiver.lost == 2
    assert [len(each.payload) for each in await receiver.receive(10)] == [400, 400]
    sender.send("B", bytes(1_000))
    assert len(await receiver.receive(10)) == 1


async def test_one_task_receives_and_closing_wakes_it() -> None:
    network = InProcessNetwork(3)
    endpoint = network.attach("B")
    ended: list[type[Exception]] = []

    async def receive() -> None:
        try:
            await endpoint.receive(1)
        except trio.ClosedResourceError as error:
            ended.append(type(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await endpoint.receive(1)
        endpoint.close()
    assert ended == [trio.ClosedResourceError]
    with pytest.raises(trio.ClosedResourceError):
        await endpoint.receive(1)


async def test_who_gives_up_receiving_loses_nothing() -> None:
    network = InProcessNetwork(3)
    a, b = network.attach("A"), network.attach("B")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.receive, 1)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    a.send("B", b"x")
    assert await b.receive(9) == [Envelope("A", b"x")]


# ---- what is taken in the step that delivers it --------------------------------------------------


class Taker:
    """A party that takes what arrives while it waits, and answers in that step."""

    def __init__(self, network: InProcessNetwork, address: str, *, takes: bool = True) -> None:
        self.endpoint = network.attach(address)
        self.takes = takes
        self.taken: list[bytes] = []
        self.received: list[bytes] = []

    def take(self, envelope: Envelope) -> bool:
        if self.takes:
            self.taken.append(envelope.payload)
            self.endpoint.send(envelope.source, b"answer to " + envelope.payload)
        return self.takes

    async def run(self) -> None:
        while True:
            envelopes = await self.endpoint.receive(9, self.take)
            self.received += [each.payload for each in envelopes]


async def test_a_message_is_taken_where_it_is_delivered_if_its_receiver_waits() -> None:
    network = InProcessNetwork(10)
    one, other, refuser = Taker(network, "A"), Taker(network, "B"), Taker(network, "C", takes=False)
    async with trio.open_nursery() as nursery:
        one.endpoint.send("B", b"early")
        for each in (one, other, refuser):
            nursery.start_soon(each.run)
        await trio.testing.wait_all_tasks_blocked()
        assert other.received == [b"early"] and not other.taken, "it did not wait yet"
        one.endpoint.send("B", b"1")
        assert other.taken == [b"1"] and not one.taken, "an answer waits for a turn"
        one.endpoint.send("C", b"2")
        one.endpoint.send("C", b"3")
        assert not refuser.received
        await trio.testing.wait_all_tasks_blocked()
        assert (one.received, one.taken) == ([b"answer to 1"], [])
        assert (refuser.received, refuser.taken) == ([b"2", b"3"], [])
        nursery.cancel_scope.cancel()
        one.endpoint.send("B", b"too late")
        assert other.taken == [b"1"], "who is cancelled takes nothing more"


async def test_nothing_is_taken_before_what_waits() -> None:
    network = InProcessNetwork(10)
    one, other = Taker(network, "A"), Taker(network, "B", takes=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.run)
        await trio.testing.wait_all_tasks_blocked()
        one.endpoint.send("B", b"first")
        other.takes = True
        one.endpoint.send("B", b"second")
        await trio.testing.wait_all_tasks_blocked()
        assert (other.received, other.taken) == ([b"first", b"second"], [])
        nursery.cancel_scope.cancel()


async def test_what_taking_raises_is_the_receivers_and_not_the_senders() -> None:
    network = InProcessNetwork(10)
    sender, receiver = network.attach("A"), network.attach("B")

    def take(_: Envelope) -> bool:
        raise ZeroDivisionError

    async def receive() -> None:
        with pytest.raises(ZeroDivisionError):
            await receiver.receive(1, take)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        sender.send("B", b"x")
        assert not network.delivering
