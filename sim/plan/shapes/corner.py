"""What corners are drawn with: time in hops, the network, calls, and whom a writer reaches.

A corner is a few faults and calls in just the order in which they meet: most of what makes a
protocol hard needs three or four of them together, which hardly ever come by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from sim.plan.chance import below, between, choice, happens, some
from sim.plan.damage import DamageBudget
from sim.plan.schedule import MS, SECOND, Action, Knobs, Operation
from sim.plan.shapes.reach import LETTERS, Reach


class Corner:
    """Draws one run, corner by corner, from its beginning on."""

    def __init__(self, random: Random, knobs: Knobs) -> None:
        self.calls: list[Operation] = []
        self.faults: list[Action] = []
        self.now = 3 * MS
        self.random = random
        self.knobs = knobs
        self.hop = knobs.link.minimum_ns
        self.tick_ns = int(knobs.cluster_config().engine.tick_interval_s * SECOND)
        """Between two turns of a writer, in which it raises its floor."""
        self.writers = 1
        self.pages = choice(random, (2, 4, 12)) * knobs.pg_count
        self.most = min(knobs.lal, knobs.buffer_pool_pages, knobs.max_mtr_writes)
        self.budget = DamageBudget()
        self._clients = 0
        self._length = choice(random, (8, 16, 100))

    # ---- time ------------------------------------------------------------------------------------

    def hops(self, least: int, most: int) -> int:
        """A while between so many hops, in nanoseconds."""
        return least * self.hop + below(self.random, (most - least) * self.hop)

    def wait(self, least: int, most: int) -> None:
        self.now += self.hops(least, most)

    def settle(self) -> None:
        """Long enough for a call to be answered, mostly."""
        disk = self.knobs.disk
        self.now += 4 * (self.hop + disk.minimum_ns + disk.extra_mean_ns)
        self.wait(0, 12)

    # ---- faults ----------------------------------------------------------------------------------

    def fault(self, kind: str, target: str = "", *, after: int = 0, **params: object) -> None:
        at_ns = self.now + after
        self.faults.append(Action(at_ns=at_ns, kind=kind, target=target, params=params))

    def heal(self) -> None:
        self.fault("heal_network")

    def keep_apart(self, share: float = 0.8) -> None:
        """No segment hears from another, in this share of the cases."""
        if happens(self.random, share):
            self.faults += Reach.apart(self.now)

    def part(self, one: str, other: str, *, after: int = 0) -> None:
        """Nothing passes between two sides."""
        if one and other:
            self.fault("partition", one, after=after, others=other)

    def cut(self, source: str, destination: str, *, after: int = 0) -> None:
        """Nothing passes from source to destination."""
        if source and destination:
            self.fault("cut", source, after=after, others=destination)

    def writer(self, number: int = 0) -> str:
        """The latest writer (0), those before it, or the next (1), who is to come."""
        return f"writer-{max(1, self.writers + number)}"

    def come(self, kind: str = "recover") -> None:
        """Another writer comes."""
        self.writers += 1
        self.fault(kind)

    def split(self, count: int) -> tuple[str, str]:
        """So many of the six letters, and the others."""
        found = some(self.random, LETTERS, count)
        return ",".join(found), ",".join(each for each in LETTERS if each not in found)

    # ---- calls -----------------------------------------------------------------------------------

    def client(self) -> int:
        """One that has not called yet."""
        self._clients += 1
        return self._clients

    def put(
        self,
        *pages: int,
        client: int | None = None,
        after: int = 0,
        length: int | None = None,
        **more: object,
    ) -> None:
        """A write of these pages, or of some."""
        random = self.random
        if not pages:
            count = min(choice(random, (1, 1, 2, 3)), self.most)
            pages = tuple(below(random, self.pages) for _ in range(count))
        length = self._length if length is None else length
        self._call("put", pages, client, after, {"length": length, **more})

    def read(
        self, kind: str, page: int, *, client: int | None = None, after: int = 0, **more: object
    ) -> None:
        self._call(kind, (page,), client, after, more)

    def _call(
        self,
        kind: str,
        pages: Sequence[int],
        client: int | None,
        after: int,
        more: dict[str, object],
    ) -> None:
        values: dict[str, object] = {"offset": 8 * below(self.random, 20), "sticky": True, **more}
        operation = Operation(
            at_ns=self.now + after,
            client=self.client() if client is None else client,
            kind=kind,
            pages=tuple(pages),
            **values,  # type: ignore[arg-type]
        )
        self.calls.append(operation)

    def page(self) -> int:
        return below(self.random, self.pages)

    def some_calls(self, most: int = 4) -> None:
        """A few calls of new clients, at any moment of some hops."""
        for _ in range(between(self.random, 0, most)):
            after = self.hops(0, 20)
            if happens(self.random, 0.7):
                self.put(after=after)
            else:
                kind = choice(self.random, ("get", "strict_get", "get_at", "list"))
                age = self.random.random()
                self.read(kind, self.page(), after=after, age=age, cached=False)
