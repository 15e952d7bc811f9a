"""The seam between work and who does it: a crew takes batches of items and hands results back.

There are two crews: `sim.crews.processes.LocalCrew`, and `sim.crews.dask_crew.DaskCrew`. `spread`
is all that a command needs of either.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Generic, Protocol, TypeVar

import attrs

from segments.protocol.errors import Unavailable
from sim.crews.ledger import Item, Ledger

Result = TypeVar("Result")
ItemIn = TypeVar("ItemIn", contravariant=True)
ResultOut = TypeVar("ResultOut", covariant=True)


class CrewGone(Unavailable):
    """Nobody is left who could do the work."""


class Work(Protocol[ItemIn, ResultOut]):
    """What is done with each item; can be pickled, as it is done elsewhere."""

    def __call__(self, item: ItemIn, /) -> ResultOut:
        """Do it."""

    def given_up(self, item: ItemIn, why: str) -> ResultOut:
        """What an item has come to that nobody can do; ``why`` is what it does to whoever tries."""


@attrs.frozen
class Ended(Generic[Item, Result]):
    """A batch that is under way no more."""

    items: tuple[Item, ...]
    results: tuple[tuple[Item, Result], ...] = ()
    """Of those that were done."""
    lost: bool = False
    """Whether whoever had it has vanished; otherwise what has no result was not begun."""
    by: str = ""
    """Who had it, if that is somewhere else."""


@attrs.frozen
class Done(Generic[Item, Result]):
    """An item's one result."""

    item: Item
    result: Result
    by: str = ""
    """Who has done it, if that is somewhere else."""


class Crew(Protocol[Item, Result]):
    """Those who do the work."""

    patience: int
    """How often an item may be lost before it is given up."""

    def room(self) -> int:
        """How many batches more may begin now."""

    def size(self, left: int | None) -> int:
        """How many items the next batch is to have, if ``left`` are left, or nobody knows."""

    def begin(self, items: tuple[Item, ...]) -> None:
        """Begin a batch; only if there is room."""

    def ended(self, timeout_s: float) -> list[Ended[Item, Result]]:
        """Which batches have ended; waits up to ``timeout_s`` for the first."""

    def halt(self) -> None:
        """Begin nothing more, not even what is next in a batch that is under way."""

    def close(self) -> None:
        """End whatever is under way; nobody waits for it."""

    def lost(self, times: int) -> str:
        """What an item that was lost ``times`` times has done to whoever tried it."""

    def strength(self) -> str:
        """Who is at work, for the line of progress; empty if nothing is to be said."""


def spread(
    items: Iterator[Item],
    work: Work[Item, Result],
    crew: Crew[Item, Result],
    until: Callable[[], bool] = lambda: False,
    poll_s: float = 0.2,
) -> Generator[Done[Item, Result] | None, None, None]:
    """Have ``crew`` do ``work`` with all ``items``, or with as many as begin before ``until``.

    Yields each result as it comes, once for each item, and None now and then while there is none.
    What has begun is finished, unless the iterator is closed. Raises `CrewGone`, and what the work
    raises in a process of this machine.
    """
    ledger = Ledger(items, patience=crew.patience)
    under_way, halted = 0, False
    try:
        while True:
            if not halted and until():
                halted = True
                crew.halt()
            while ledger.has_more(fresh=not halted) and crew.room():
                crew.begin(ledger.take(crew.size(ledger.left), fresh=not halted))
                under_way += 1
            if not under_way and not ledger.has_more(fresh=not halted):
                return
            told = False
            for batch in crew.ended(poll_s):
                under_way -= 1
                for item, result in batch.results:
                    if ledger.count(item):
                        told = True
                        yield Done(item, result, batch.by)
                done = {item for item, _ in batch.results}
                for item in batch.items:
                    if item in done:
                        continue
                    if not batch.lost:
                        ledger.give_back(item)
                    elif ledger.lose(item):
                        told, why = True, crew.lost(crew.patience)
                        yield Done(item, work.given_up(item, why), batch.by)
            if not told:  # also where batches come back in which nothing was begun
                yield None
    finally:
        crew.close()
