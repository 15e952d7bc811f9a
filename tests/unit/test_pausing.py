"""A hand on an endpoint: what a paused party hears and says, and what a slow one does."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aurora.transport import InProcessEndpoint, InProcessNetwork
from segments.pausing import PausableEndpoint
from segments.protocol.transport import Envelope
from sim.plan.profiles import DiskProfile
from sim.world.network import NetworkEvent
from tests.worlds import World, run_world


def ends(messages: int = 8, size: int = 1_000) -> tuple[PausableEndpoint, InProcessEndpoint]:
    """A party that can be paused, and another that it talks to."""
    network = InProcessNetwork(64)
    return PausableEndpoint(network.attach("A0"), messages, size), network.attach("writer")


def waiting(endpoint: InProcessEndpoint) -> list[bytes]:
    """What has arrived at an endpoint and waits there."""
    found = [each.payload for each in endpoint._inbox]
    endpoint._inbox.clear()
    return found


async def test_a_paused_party_hears_what_waited_once_it_goes_on(autojump_clock: MockClock) -> None:
    party, other = ends()
    heard: list[tuple[float, list[Envelope]]] = []

    async def listen() -> None:
        heard.append((trio.current_time(), await party.receive(10)))
        heard.append((trio.current_time(), await party.receive(10)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        party.pause()
        other.send("A0", b"first")
        await trio.sleep(5)
        other.send("A0", b"second")
        await wait_all_tasks_blocked()
        assert heard == [] and party.paused_since_s == pytest.approx(trio.current_time() - 5)
        party.resume()
        await wait_all_tasks_blocked()
    assert [each for _, found in heard for each in found] == [
        Envelope("writer", b"first"),
        Envelope("writer", b"second"),
    ]
    assert party.paused_since_s is None


async def test_a_party_that_is_paused_or_slow_takes_nothing_at_once() -> None:
    party, other = ends()
    taken: list[bytes] = []

    def take(envelope: Envelope) -> bool:
        taken.append(envelope.payload)
        return True

    async def listen() -> None:
        while True:
            await party.receive(10, take)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        other.send("A0", b"1")
        party.pause()
        other.send("A0", b"2")
        await wait_all_tasks_blocked()
        party.resume()
        other.send("A0", b"behind the second")
        await wait_all_tasks_blocked()
        party.delay_s = 1.0
        other.send("A0", b"3")
        assert taken == [b"1"]
        nursery.cancel_scope.cancel()


async def test_what_is_paused_again_at_once_hears_nothing() -> None:
    party, other = ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(party.receive, 10)
        party.pause()
        other.send("A0", b"x")
        await wait_all_tasks_blocked()
        party.resume()
        party.pause()
        await wait_all_tasks_blocked()
        assert nursery.child_tasks, "received in between"
        nursery.cancel_scope.cancel()


async def test_what_a_paused_party_says_leaves_in_order_once_it_goes_on() -> None:
    party, other = ends()
    party.send("writer", b"before")
    party.pause()
    party.pause()
    for each in (b"1", b"2", b"3"):
        party.send("writer", each)
    assert waiting(other) == [b"before"]
    party.resume()
    party.send("writer", b"after")
    assert waiting(other) == [b"1", b"2", b"3", b"after"]


async def test_what_a_pause_holds_is_bounded_each_time() -> None:
    party, other = ends(messages=3, size=10)
    for payloads, held in (
        ([b"a", b"b", b"c", b"d"], [b"a", b"b", b"c"]),
        ([b"12345", b"123456", b"12345", b"1"], [b"12345", b"12345"]),
        ([b"x" * 50, b"y"], [b"x" * 50]),
    ):
        party.pause()
        for each in payloads:
            party.send("writer", each)
        party.resume()
        assert waiting(other) == held


async def test_what_a_closed_party_would_have_said_is_lost() -> None:
    party, other = ends()
    party.pause()
    party.send("writer", b"never")
    party.close()
    party.resume()
    assert waiting(other) == []


async def test_a_slow_party_hears_each_round_later(autojump_clock: MockClock) -> None:
    party, other = ends()
    party.delay_s = 3.0
    other.send("A0", b"x")
    started = trio.current_time()
    assert await party.receive(1) == [Envelope("writer", b"x")]
    assert trio.current_time() - started == pytest.approx(3.0)
    party.delay_s = 0.0
    other.send("A0", b"y")
    await party.receive(1)
    assert trio.current_time() - started == pytest.approx(3.0)


def test_a_segment_paused_during_its_sync_acknowledges_only_afterwards() -> None:
    sent: list[tuple[float, str]] = []

    def observe(event: NetworkEvent) -> None:
        if event.kind == "sent":
            sent.append((event.time_ns / 1e9, event.source))

    async def main(world: World) -> None:
        cluster = world.cluster
        commit = await world.engine.submit([(1, 0, b"x")])
        await trio.sleep(0.02)
        servers = [host.server for host in cluster.hosts.values() if host.server is not None]
        assert all(each.writing_since_s is not None for each in servers), "all are writing"
        cluster.pause("az1 az2")
        paused = trio.current_time()
        await trio.sleep(5)
        assert not any(each.writing_since_s is not None for each in servers), "all have written"
        assert not [each for each in sent if each[0] > paused and each[1][0] in "ABCD"]
        assert world.engine.vdl < commit.lsn
        cluster.resume("az1 az2")
        with trio.fail_after(0.1):
            await commit.durable()

    disk = DiskProfile(minimum_ns=50_000_000, extra_mean_ns=0)
    run_world(main, disk=disk, observer=observe)


def test_a_segment_that_restarts_is_neither_paused_nor_slow() -> None:
    async def main(world: World) -> None:
        host = world.cluster.hosts["A0"]
        world.cluster.slow("A", 0.5)
        world.cluster.pause("A")
        assert (host.paused_since_s, host.delay_s) == (trio.current_time(), 0.5)
        world.crash("A")
        assert (host.paused_since_s, host.delay_s) == (None, 0.0)
        world.cluster.resume("A")
        await world.restart("A")
        assert (host.paused_since_s, host.delay_s) == (None, 0.0)

    run_world(main)
