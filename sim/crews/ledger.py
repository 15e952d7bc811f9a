"""Which items of a piece of work are done, and which are to be done once more. It knows no process.

Whoever has an item may vanish, and may turn up again with a result that nobody waits for any more.
So every item counts once, whoever did it and however often, and one that is never done is given up
after so many have vanished with it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterator
from itertools import islice
from operator import length_hint
from typing import Final, Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

_UNKNOWN: Final = -1


class Ledger(Generic[Item]):
    """The books over ``items``, each of which is to be done once.

    Nobody is blamed for one loss: who had several items comes to no result for any of them, and the
    machine may have been switched off. A lost item comes back alone, so that the next loss is its
    own; the one that has been lost ``patience`` times is given up.
    """

    def __init__(self, items: Iterator[Item], *, patience: int) -> None:
        if patience < 1:
            raise ValueError(f"patience is {patience}: expected at least 1")
        self._fresh = items
        self._ahead: deque[Item] = deque()
        self._returned: deque[Item] = deque()
        self._alone: deque[Item] = deque()
        self._losses: Counter[Item] = Counter()
        self._counted: set[Item] = set()
        self._patience = patience

    @property
    def left(self) -> int | None:
        """How many items nobody has begun; None if that is not known."""
        hint = length_hint(self._fresh, _UNKNOWN)
        waiting = len(self._ahead) + len(self._returned) + len(self._alone)
        return None if hint == _UNKNOWN else hint + waiting

    def has_more(self, *, fresh: bool = True) -> bool:
        """Whether `take` gives anything."""
        self._forget_counted()
        if fresh and not self._ahead:
            self._ahead.extend(islice(self._fresh, 1))
        return bool(self._alone or (fresh and (self._returned or self._ahead)))

    def take(self, most: int, *, fresh: bool = True) -> tuple[Item, ...]:
        """The next items, ``most`` at most, or one alone that was lost; empty if there are none.

        Without ``fresh`` only those that were lost.
        """
        self._forget_counted()
        if self._alone:
            return (self._alone.popleft(),)
        taken: list[Item] = []
        while fresh and len(taken) < most and self.has_more():
            taken.append((self._returned or self._ahead).popleft())
            self._forget_counted()
        return tuple(taken)

    def count(self, item: Item) -> bool:
        """Whether this result of ``item`` is the first, the one that counts."""
        if item in self._counted:
            return False
        self._counted.add(item)
        del self._losses[item]
        return True

    def give_back(self, item: Item) -> None:
        """Nobody has begun ``item``: it is to be taken again."""
        if item not in self._counted:
            self._returned.append(item)

    def lose(self, item: Item) -> bool:
        """Whoever had ``item`` has vanished; returns whether it is given up, and so counted."""
        if item in self._counted:
            return False
        self._losses[item] += 1
        if self._losses[item] < self._patience:
            self._alone.append(item)
            return False
        return self.count(item)

    def _forget_counted(self) -> None:
        """Drop from the front of the queues what has been done meanwhile by those thought gone."""
        for queue in (self._alone, self._returned):
            while queue and queue[0] in self._counted:
                queue.popleft()
