"""How a directed schedule is put together: action by action, in milliseconds.

Nothing is left to chance: every message takes 0.1 ms, every sync 0.1 ms, so that a cut between two
messages can be planned. The costly checks run at every step.

Who is "cut off" hears and says nothing; segments that "keep apart" do not gossip. All of it ends
when the world heals.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.schedule import MS, SECOND, Action, Knobs, Operation, Schedule

LINK: Final = LinkProfile(minimum_ns=100_000, extra_mean_ns=0)
_DISK: Final = DiskProfile(minimum_ns=100_000, extra_mean_ns=0)
ALL: Final = "A,B,C,D,E,F"


class Plan:
    """Puts a schedule together, action by action."""

    def __init__(self, end_ms: float = 60.0, seed: int = 1, **knobs: Any) -> None:
        self._end_ns = int(end_ms * MS)
        self._seed = seed
        self._knobs = knobs
        self._actions: list[Action] = []
        self._operations: list[Operation] = []

    def fault(self, at_ms: float, kind: str, target: str = "", **params: Any) -> None:
        self._actions.append(Action(at_ns=int(at_ms * MS), kind=kind, target=target, params=params))

    def cut(self, at_ms: float, source: str, destination: str) -> None:
        """Nothing passes from source to destination."""
        self.fault(at_ms, "cut", source, others=destination)

    def part(self, at_ms: float, one: str, other: str) -> None:
        """Nothing passes between two sides."""
        self.fault(at_ms, "partition", one, others=other)

    def keep_apart(self, at_ms: float) -> None:
        """No segment hears from another."""
        for letter in "ABCDE":
            self.part(at_ms, letter, ",".join("ABCDEF"["ABCDEF".index(letter) + 1 :]))

    def put(self, at_ms: float, *pages: int, client: int = 0, length: int = 8) -> None:
        """One mini-transaction; a client keeps its writer."""
        self._call(at_ms, "put", pages, client, 0.0, length=length)

    def get(self, at_ms: float, page: int, client: int = 0) -> None:
        self._call(at_ms, "get", (page,), client, 0.0)

    def strict_get(self, at_ms: float, page: int, client: int = 0) -> None:
        self._call(at_ms, "strict_get", (page,), client, 0.0)

    def get_at(self, at_ms: float, page: int, age: float, client: int = 0) -> None:
        self._call(at_ms, "get_at", (page,), client, age)

    def listed(self, at_ms: float, page: int, age: float, client: int = 0) -> None:
        """All pages from ``page`` on."""
        self._call(at_ms, "list", (page,), client, age)

    def view(
        self, at_ms: float, page: int, hold_s: float, client: int = 0, age: float = 0.0
    ) -> None:
        """Open a view, hold it for so long, and read at its end; at the VDL unless ``age``."""
        self._call(at_ms, "view", (page,), client, age, hold_ns=int(hold_s * SECOND))

    def sql(
        self, at_ms: float, way: str, client: int = 0, pages: tuple[int, int] = (0, 1), **more: Any
    ) -> None:
        """A call in SQL: money goes from one account to another."""
        values: dict[str, Any] = {"offset": 10, "way": way, "sticky": False} | more
        age = values.pop("age", 0.0)
        self._call(at_ms, "sql", pages, client, age, **values)

    def _call(
        self, at_ms: float, kind: str, pages: tuple[int, ...], client: int, age: float, **more: Any
    ) -> None:
        values = {"offset": 64, "length": 8, "age": age, "sticky": True} | more
        operation = Operation(
            at_ns=int(at_ms * MS), client=client, kind=kind, pages=pages, **values
        )
        self._operations.append(operation)

    def schedule(self, name: str) -> Schedule:
        knobs = Knobs(link=LINK, disk=_DISK, check_every=1, duration_ns=self._end_ns)
        knobs = attrs.evolve(knobs, liveness_ns=5_000 * MS, **self._knobs)
        return Schedule(
            seed=self._seed, knobs=knobs, name=name,
            actions=tuple(sorted(self._actions, key=lambda each: each.at_ns)),
            operations=tuple(sorted(self._operations, key=lambda each: each.at_ns)),
        )  # fmt: skip


def folding(end_ms: float = 400.0, **knobs: Any) -> Plan:
    """What can be folded is folded at once, and what is below the floor is collected at once."""
    at_once = {"retention_lsns": 0, "fold_bytes": 1, "collect_ratio": 0.01}
    return Plan(end_ms, **at_once | knobs)
