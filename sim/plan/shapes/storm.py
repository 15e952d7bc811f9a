"""Recovery storms: writer after writer, each of which reaches a few segments for a few messages.

A storm is a sequence of short rounds. In each of them the current writer reaches some segments, a
few clients write; then another writer comes, or several in a row, of whom each reaches its own
segments, and some die between two of their steps. Gossip is kept from helping in most storms.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

import attrs

from sim.plan.chance import below, between, choice, happens, some
from sim.plan.roll_backs import with_roll_backs
from sim.plan.schedule import MS, Action, Knobs, Operation
from sim.plan.seeds import Seeds
from sim.plan.shapes.dense_knobs import dense_knobs, whole_ms
from sim.plan.shapes.reach import FEW, LETTERS, Reach
from sim.plan.shapes.shape import Drawn, Shape

_READS: Final = ("get", "get", "strict_get", "get_at", "view", "list", "many", "head", "changes")
_FIRST_NS: Final = 3 * MS


def _draw(seeds: Seeds) -> Drawn:
    knobs = dense_knobs(seeds.stream("knobs"))
    storm = _Storm(seeds.stream("storm"), knobs)
    storm.draw()
    knobs = attrs.evolve(knobs, duration_ns=whole_ms(storm.now))
    faults = with_roll_backs(seeds.stream("roll backs"), knobs, storm.faults)
    return Drawn(knobs, storm.calls, faults)


class _Storm:
    """Draws one storm, from its beginning on."""

    def __init__(self, random: Random, knobs: Knobs) -> None:
        self.calls: list[Operation] = []
        self.faults: list[Action] = []
        self.now = _FIRST_NS
        self._random = random
        self._reach = Reach(random, knobs.pg_count)
        self._hop = knobs.link.minimum_ns
        self._writers = 1
        self._clients = 0
        self._faithful: list[int] = []
        """Clients that keep the writer they had first."""
        self._pages = choice(random, (2, 4, 12)) * knobs.pg_count
        self._most = min(knobs.lal, knobs.buffer_pool_pages)
        self._length = choice(random, (8, 16, 100))
        self._rounds = between(random, 2, 6)
        self._pace = choice(random, (8, 20, 50))
        """Hops between one thing and the next, on average."""
        self._keeps_apart = knobs.gossip_interval_ns < 500 * MS and happens(random, 0.7)
        self._cuts: list[Action] = []
        """The network as it was drawn last."""
        self._blinks = choice(random, (0.0, 0.3, 0.8))
        self._disks_fail = happens(random, 0.4)
        self._turns = some(random, _TURNS, between(random, 2, 4))

    def draw(self) -> None:
        for _ in range(self._rounds):
            self._redraw(self._writer(-1), self._writer(0))
            if self._disks_fail and happens(self._random, 0.5):
                self._trouble_disks()
            self._call()
            if happens(self._random, self._blinks):
                self._blink()
            self._wait()
            choice(self._random, self._turns)(self)
            self._call()
            self._wait()

    # ---- time ------------------------------------------------------------------------------------

    def _hops(self, most: int) -> int:
        """A while of up to so many hops, in nanoseconds."""
        return below(self._random, most * self._hop)

    def _wait(self) -> None:
        self.now += self._hops(2 * self._pace)

    def _fault(self, kind: str, target: str = "", *, after: int = 0, **params: object) -> None:
        at_ns = self.now + after
        self.faults.append(Action(at_ns=at_ns, kind=kind, target=target, params=params))

    # ---- network and disks -----------------------------------------------------------------------

    def _writer(self, number: int) -> str:
        """The latest writer (0), those before it, or the next (1), who is to come."""
        return f"writer-{max(1, self._writers + number)}"

    def _redraw(self, *writers: str) -> None:
        """Heal, and cut some writers off from some segments, each from its own."""
        cuts = self._reach.apart(self.now) if self._keeps_apart else []
        for writer in dict.fromkeys(writers):
            if happens(self._random, 0.85):
                cuts += self._reach.cut_off(self.now, writer, self._reach.away())
        self._replace(cuts)

    def _replace(self, cuts: list[Action]) -> None:
        """Heal what was cut, and cut this."""
        self._fault("heal_network")
        self.faults += cuts
        self._cuts = cuts

    def _blink(self) -> None:
        """For a few messages the writer reaches fewer still; then all is as it was."""
        away = self._reach.away()
        self.faults += self._reach.cut_off(self.now, self._writer(0), away)
        self._call()
        self.now += self._hops(choice(self._random, (4, 16)))
        self._replace([attrs.evolve(each, at_ns=self.now) for each in self._cuts])
        self._call()

    def _trouble_disks(self) -> None:
        """Slow disks, or a loss of power, and their end."""
        target = ",".join(some(self._random, LETTERS, between(self._random, 1, 6)))
        end = self._hops(4 * self._pace)
        if happens(self._random, 0.6):
            self._fault("slow_disk", target, factor=choice(self._random, (5, 20, 100)))
            self._fault("slow_disk", target, after=end, factor=1)
        else:
            start = self._hops(self._pace)
            self._fault("crash", target, after=start)
            self._fault("restart", target, after=start + end)

    # ---- clients ---------------------------------------------------------------------------------

    def _call(self, faithful: float = 0.4) -> None:
        """A few calls of new clients, and of some that keep a writer of the past."""
        for _ in range(between(self._random, 0, 6)):
            if self._faithful and happens(self._random, faithful):
                client, sticky = choice(self._random, self._faithful), True
            else:
                self._clients += 1
                client, sticky = self._clients, happens(self._random, 0.3)
                self._faithful += [client] if sticky else []
            self.calls.append(self._operation(client, sticky=sticky))

    def _operation(self, client: int, *, sticky: bool, writes: bool | None = None) -> Operation:
        random = self._random
        if writes is None:
            writes = happens(random, 0.7)
        count = min(choice(random, (1, 1, 2, 3)), self._most) if writes else 1
        return Operation(
            at_ns=self.now + self._hops(self._pace),
            client=client,
            kind="put" if writes else choice(random, _READS),
            pages=tuple(below(random, self._pages) for _ in range(count)),
            offset=8 * below(random, 100),
            length=self._length,
            age=random.random() * 0.02,
            cached=happens(random, 0.5),
            sticky=sticky,
        )

    # ---- turns: what becomes of the writer -------------------------------------------------------

    def stay(self) -> None:
        """It goes on."""

    def crash(self) -> None:
        """It dies; only later another comes."""
        self._fault("crash_writer")
        self._wait()
        self._come("recover")

    def succeed(self) -> None:
        self._come("recover")

    def depose(self) -> None:
        """Another comes while it goes on, a zombie."""
        self._come("take_over")

    def split(self) -> None:
        """Another comes, and the old one keeps exactly those whom the new one does not reach."""
        for _ in range(3):  # who has read through a writer keeps it
            self._clients += 1
            self._faithful.append(self._clients)
            self.calls.append(self._operation(self._clients, sticky=True, writes=False))
        self._wait()
        most, rest = self._reach.halves()
        old, new = self._writer(0), self._writer(1)
        cuts = self._reach.cut_off(self.now, old, most) + self._reach.cut_off(self.now, new, rest)
        self._replace(cuts)
        self._writers += 1
        self._fault("take_over")
        for _ in range(2):
            self._wait()
            self._call(faithful=0.8)

    def stillborn(self) -> None:
        """Another comes, reaches one or two whose disks refuse its seal, and dies at once."""
        reached = some(self._random, LETTERS, choice(self._random, (1, 1, 2)))
        rest = ",".join(each for each in LETTERS if each not in reached)
        self._replace(self._reach.cut_off(self.now, self._writer(1), rest, ("partition", "cut")))
        self._fault("fail_writes", ",".join(reached), count=between(self._random, 1, 3))
        self._writers += 1
        self._fault("take_over")
        self.now += self._hops(choice(self._random, (6, 16)))
        self._fault("crash_writer")

    def busy(self) -> None:
        """Another comes while slow disks still have batches of the old one to write."""
        slow = some(self._random, LETTERS, between(self._random, 3, 6))
        fast = ",".join(each for each in LETTERS if each not in slow)
        cut = happens(self._random, 0.5)
        self._replace(self._reach.cut_off(self.now, self._writer(0), fast) if cut else [])
        factor = choice(self._random, (20, 50, 100))
        self._fault("slow_disk", ",".join(slow), factor=factor)
        for _ in range(2):
            self._call(faithful=0.2)
            self.now += self._hops(choice(self._random, (8, 30)))
        self._writers += 1
        self._fault("take_over")
        self._wait()
        self._wait()
        self._fault("slow_disk", ",".join(slow), factor=1)

    def row(self) -> None:
        """Several in a row, each of whom may have come to any point when the next one comes."""
        for _ in range(between(self._random, 2, 4)):
            self._come(choice(self._random, ("recover", "recover", "take_over")))
            self.now += self._hops(choice(self._random, (4, 12, 40)))

    def _come(self, kind: str) -> None:
        """A writer comes, reaches some segments, and perhaps others after a few messages."""
        random = self._random
        if happens(random, 0.7):
            self._redraw(self._writer(1), self._writer(0))
        self._writers += 1
        self._fault(kind)
        if happens(random, 0.7):
            self.now += self._hops(choice(random, (6, 6, 16)))
            self._interrupt()

    def _interrupt(self) -> None:
        """Between two of its messages a writer reaches others, or just a few, or dies."""
        writer = self._writer(0)
        way = below(self._random, 4)
        if way == 0:
            self._redraw(writer, self._writer(-1))
        elif way == 1:
            self._fault("crash_writer")
        else:
            away = self._reach.away(FEW)
            self.faults += self._reach.cut_off(self.now, writer, away, ("cut", "cut", "clog"))


_TURNS: Final[tuple[Callable[[_Storm], None], ...]] = (
    _Storm.stay,
    _Storm.crash,
    _Storm.succeed,
    _Storm.depose,
    _Storm.split,
    _Storm.stillborn,
    _Storm.busy,
    _Storm.row,
    _Storm.row,
)

STORM: Final = Shape(
    "storm", "writer after writer, each of whom reaches a few segments for a few messages", 6, _draw
)
