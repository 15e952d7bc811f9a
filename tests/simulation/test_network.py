"""The simulated network: what arrives, when, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.protocol.errors import Closed, Invalid
from segments.protocol.transport import Envelope, Network
from sim.plan.profiles import LinkProfile
from sim.plan.seeds import Seeds
from sim.world.network import NetworkEvent, SimulatedEndpoint, SimulatedNetwork
from sim.world.network_policy import (
    Decision,
    Link,
    RandomPolicy,
    RecordingPolicy,
    ReplayingPolicy,
)
from sim.world.scheduler import VirtualScheduler

MS = 1_000_000
SECOND = 1000 * MS
STEADY = LinkProfile(minimum_ns=MS, extra_mean_ns=0)
WILD = LinkProfile(minimum_ns=MS, extra_mean_ns=MS, loss=0.1, duplication=0.1, reordering=0.2)


class World:
    """A scheduler, a network, and all that its observer saw."""

    def __init__(self, profile: LinkProfile = STEADY, *, seed: int = 1, **options: int) -> None:
        self.events: list[NetworkEvent] = []
        self.scheduler = VirtualScheduler()
        self.recorder = RecordingPolicy(RandomPolicy(Seeds(seed).within("network")))
        self.network = SimulatedNetwork(
            self.scheduler,
            self.recorder,
            profile,
            az_of={"A0": "AZ1", "B0": "AZ1", "C0": "AZ2"},
            observer=self.events.append,
            **options,
        )

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            await main()

        self.scheduler.run(whole, seed=1, deadline_ns=100 * SECOND)

    def outcomes(self) -> list[tuple[int, str, int, str | None]]:
        """Time in ms, kind, message, reason: of all but the sends."""
        return [
            (event.time_ns // MS, event.kind, event.message, event.reason)
            for event in self.events
            if event.kind != "sent"
        ]


def test_it_is_a_network_and_the_observer_sees_all() -> None:
    world = World()
    network: Network = world.network
    a, c = network.attach("A0"), network.attach("C0")

    async def main() -> None:
        a.send("C0", b"one")
        a.send("C0", b"two")
        assert await c.receive(10) == [Envelope("A0", b"one")]
        assert world.scheduler.now_ns == MS
        assert await c.receive(10) == [Envelope("A0", b"two")]

    world.run(main)
    assert world.events[0] == NetworkEvent(0, "sent", 1, "A0", "C0", b"one")
    assert world.events[-1] == NetworkEvent(MS, "delivered", 2, "A0", "C0", b"two")
    assert [event.kind for event in world.events] == ["sent", "sent", "delivered", "delivered"]


def test_receive_takes_what_waits_oldest_first_up_to_the_limit() -> None:
    world = World()
    a, c = world.network.attach("A0"), world.network.attach("C0")

    async def main() -> None:
        for number in range(5):
            a.send("C0", b"%d" % number)
        await trio.sleep(1)
        assert [envelope.payload for envelope in await c.receive(3)] == [b"0", b"1", b"2"]
        assert [envelope.payload for envelope in await c.receive(3)] == [b"3", b"4"]
        with trio.move_on_after(1) as scope:
            await c.receive(3)
        assert scope.cancelled_caught
        a.send("C0", b"after the cancelled wait")
        assert len(await c.receive(1)) == 1

    world.run(main)


def test_receive_is_a_checkpoint_even_when_something_waits() -> None:
    world = World()
    a = world.network.attach("A0")

    async def main() -> None:
        a.send("A0", b"to itself")
        await trio.sleep(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await a.receive(1)
        assert scope.cancelled_caught
        assert len(await a.receive(1)) == 1

    world.run(main)


def test_misuse_is_refused() -> None:
    world = World()
    a = world.network.attach("A0")

    async def main() -> None:
        with pytest.raises(Invalid, match="at most 0"):
            await a.receive(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.receive, 1)
            await trio.sleep(1)
            with pytest.raises(Invalid, match="second task"):
                await a.receive(1)
            nursery.cancel_scope.cancel()

    world.run(main)
    with pytest.raises(Invalid, match="bytearray"):
        a.send("C0", bytearray(b"shared"))  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="slowness -1"):
        world.network.set_slowness("A0", -1)
    with pytest.raises(Invalid, match="limits 0"):
        World(inbox_limit=0)


@pytest.mark.parametrize(
    "wrong", [{"minimum_ns": -1}, {"extra_mean_ns": 0.5}, {"loss": 1.1}, {"reordering": -0.1}]
)
def test_a_profile_checks_its_values(wrong: dict[str, int]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(Invalid, match=f"{name} {value}"):
        LinkProfile(**wrong)


def _drain(world: World) -> None:
    async def main() -> None:
        await trio.sleep(50)

    world.run(main)


def _send(world: World, count: int, *, source: str = "A0") -> SimulatedEndpoint:
    endpoint = world.network.attach(source)
    for number in range(count):
        endpoint.send("C0", b"%d" % number)
    return endpoint


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    loss=st.sampled_from([0.0, 0.3, 1.0]),
    duplication=st.sampled_from([0.0, 0.3, 1.0]),
    inbox_limit=st.sampled_from([1, 10, 1000]),
)
def test_nothing_is_made_up_and_everything_is_accounted_for(
    seed: int, loss: float, duplication: float, inbox_limit: int
) -> None:
    profile = LinkProfile(loss=loss, duplication=duplication)
    world = World(profile, seed=seed, inbox_limit=inbox_limit)
    receiver = world.network.attach("C0")
    _send(world, 50)
    _drain(world)
    counts = world.network.statistics()
    assert counts.sent == 50
    assert counts.in_flight == 0
    assert counts.sent + counts.duplicated == counts.delivered + sum(counts.lost.values())
    assert counts.delivered == len(receiver._inbox) <= inbox_limit
    # The oracle: what the policy said, message by message.
    decisions = world.recorder.decisions
    copies = sum(len(decision) for decision in decisions.values())
    assert counts.lost.get("loss", 0) == sum(decision == () for decision in decisions.values())
    assert copies == counts.delivered + counts.lost.get("inbox full", 0)
    assert (loss, counts.lost.get("loss", 0)) not in {(0.0, 50), (1.0, 0)}


def test_rates_and_delays_are_those_of_the_profile() -> None:
    policy = RandomPolicy(Seeds(5).within("network"))
    link = Link("A0", "C0", WILD)
    decisions = [policy.decide(number, link) for number in range(20_000)]
    assert 0.09 < sum(decision == () for decision in decisions) / 20_000 < 0.11
    assert 0.08 < sum(len(decision) == 2 for decision in decisions) / 20_000 < 0.10
    link.profile = LinkProfile(minimum_ns=MS, extra_mean_ns=MS)
    delays = [policy.decide(number, link)[0] for number in range(20_000)]
    assert min(delays) >= MS
    assert 1.97 * MS < sum(delays) / 20_000 < 2.03 * MS
    link.slowness = 10.0
    delays = [policy.decide(number, link)[0] for number in range(20_000)]
    assert min(delays) >= 10 * MS
    assert 19.7 * MS < sum(delays) / 20_000 < 20.3 * MS


def test_no_number_is_drawn_for_a_fault_that_is_off() -> None:
    seeds, link = Seeds(1), Link("A0", "C0", LinkProfile())
    RandomPolicy(seeds).decide(1, link)
    expected = Seeds(1).stream("A0 to C0")
    expected.random()
    assert seeds.stream("A0 to C0").random() == expected.random()


def test_a_message_more_on_one_link_changes_nothing_on_another() -> None:
    def decisions(*, more: bool) -> list[Decision]:
        policy = RandomPolicy(Seeds(3))
        one, other = Link("A0", "C0", WILD), Link("C0", "A0", WILD)
        if more:
            policy.decide(0, one)
        return [policy.decide(number, other) for number in range(50)]

    assert decisions(more=True) == decisions(more=False)


def test_reordering_lets_later_messages_overtake() -> None:
    for reordering, sorted_again in ((0.0, True), (0.5, False)):
        profile = LinkProfile(minimum_ns=MS, extra_mean_ns=0, reordering=reordering)
        world = World(profile)
        world.network.attach("C0")
        _send(world, 50)
        _drain(world)
        order = [event.message for event in world.events if event.kind == "delivered"]
        assert sorted(order) == list(range(1, 51))
        assert (order == sorted(order)) is sorted_again


def test_one_seed_one_trace_and_a_recording_replays_it() -> None:
    def trace(world: World) -> list[NetworkEvent]:
        world.network.attach("C0")
        _send(world, 200)
        _drain(world)
        return world.events

    first, again, other = World(WILD, seed=1), World(WILD, seed=1), World(WILD, seed=2)
    assert trace(first) == trace(again)
    assert trace(other) != first.events
    replayed = World(WILD, seed=3)
    replayed.network._policy = ReplayingPolicy(first.recorder.decisions)
    assert trace(replayed) == first.events


def test_a_replay_delivers_plainly_what_was_not_recorded() -> None:
    policy = ReplayingPolicy({2: (), 3: (5, 6)})
    link = Link("A0", "C0", WILD)
    decisions: list[Decision] = [policy.decide(number, link) for number in (1, 2, 3)]
    assert decisions == [(MS,), (), (5, 6)]


def test_a_cut_loses_one_way_at_sending_and_on_the_way() -> None:
    world = World()
    a, c = world.network.attach("A0"), world.network.attach("C0")

    async def main() -> None:
        a.send("C0", b"on the way when it is cut")
        world.network.cut(["A0"], ["C0"])
        a.send("C0", b"sent over the cut")
        c.send("A0", b"the other way")
        await trio.sleep(1)
        world.network.heal_all()
        a.send("C0", b"healed")
        await trio.sleep(1)

    world.run(main)
    assert world.outcomes() == [
        (0, "dropped", 2, "cut"),
        (1, "dropped", 1, "cut"),
        (1, "delivered", 3, None),
        (1001, "delivered", 4, None),
    ]


def test_a_partition_separates_two_groups_and_only_them() -> None:
    world = World()
    names = ["A0", "B0", "C0", "later"]
    network = world.network
    network.partition(iter(["A0", "B0"]), iter(["C0", "later"]))
    nodes = {name: network.attach(name) for name in names}

    def reached() -> set[tuple[str, str]]:
        return {(e.source, e.destination) for e in world.events if e.kind == "delivered"}

    async def everyone_to_everyone() -> None:
        world.events.clear()
        for node in nodes.values():
            for name in names:
                node.send(name, b"")
        await trio.sleep(1)

    async def main() -> None:
        await everyone_to_everyone()
        left = {"A0", "B0"}
        everyone = {(a, b) for a in names for b in names}
        assert reached() == {(a, b) for a, b in everyone if (a in left) == (b in left)}
        network.heal_all()
        await everyone_to_everyone()
        assert reached() == everyone

    world.run(main)


def test_a_clog_holds_messages_until_it_is_gone() -> None:
    world = World()
    a, _ = world.network.attach("A0"), world.network.attach("C0")

    async def main() -> None:
        world.network.clog(["A0"], ["C0"])
        a.send("C0", b"1")
        a.send("C0", b"2")
        await trio.sleep(5)
        assert world.network.statistics().in_flight == 2
        world.network.heal_all()
        a.send("C0", b"3")
        await trio.sleep(1)
        world.network.clog(["A0"], ["C0"])
        a.send("C0", b"4")
        await trio.sleep(1)
        world.network.cut(["A0"], ["C0"])
        world.network.heal_all()
        await trio.sleep(1)

    world.run(main)
    assert world.outcomes() == [
        (5000, "delivered", 1, None),
        (5000, "delivered", 2, None),
        (5001, "delivered", 3, None),
        (7000, "delivered", 4, None),
    ]


def test_profiles_of_azs_go_before_the_default() -> None:
    world = World()
    network = world.network
    far = LinkProfile(minimum_ns=7 * MS)
    network.set_az_profile("AZ1", "AZ2", far)
    assert network.link("A0", "C0").profile == far
    assert network.link("C0", "A0").profile == network.link("A0", "B0").profile == STEADY
    assert network.link("B0", "C0").profile == far
    network.place("B0", "AZ2")
    assert network.link("B0", "C0").profile == STEADY
    network.set_az_profile("AZ1", "AZ2", None)
    assert network.link("A0", "C0").profile == STEADY


def test_a_slow_node_slows_what_it_sends_and_gets() -> None:
    world = World()
    world.network.set_slowness("A0", 4.0)
    world.network.set_slowness("C0", 2.0)
    assert world.network.link("A0", "C0").slowness == 8.0
    world.network.attach("C0")
    _send(world, 1, source="A0")
    _send(world, 1, source="B0")
    _drain(world)
    assert world.outcomes() == [(2, "delivered", 2, None), (8, "delivered", 1, None)]
    world.network.heal_all()
    assert world.network.link("A0", "C0").slowness == 1.0


def test_a_crashed_node_gets_nothing_of_what_arrived_before_its_return() -> None:
    world = World()
    network = world.network
    a, old = network.attach("A0"), network.attach("C0")

    async def main() -> None:
        a.send("C0", b"in the inbox")
        await trio.sleep(1)
        a.send("C0", b"arrives while it is down")
        network.detach("C0")
        network.detach("C0")
        old.send("A0", b"from the dead")
        await trio.sleep(1)
        a.send("C0", b"arrives after its return")
        new = network.attach("C0")
        with pytest.raises(Closed, match="C0"):
            await old.receive(10)
        assert await new.receive(10) == [Envelope("A0", b"arrives after its return")]
        old.close()  # late: does not take its successor away
        a.send("C0", b"still there")
        assert await new.receive(10) == [Envelope("A0", b"still there")]

    world.run(main)
    assert world.network.statistics().lost == {"closed": 1, "detached": 1}


def test_whoever_waits_at_a_closed_or_replaced_endpoint_is_told() -> None:
    world = World()
    a = world.network.attach("A0")

    async def main() -> None:
        world.scheduler.call_after(5, world.network.attach, "A0")
        with pytest.raises(Closed, match="A0"):
            await a.receive(1)

    world.run(main)


def test_what_is_in_flight_is_bounded() -> None:
    world = World(in_flight_limit=3)
    world.network.attach("C0")
    _send(world, 5)
    _drain(world)
    counts = world.network.statistics()
    assert (counts.delivered, counts.lost) == (3, {"flood": 2})
