"""Who reaches whom: networks in which each writer reaches a few segments of each group.

A network is redrawn as a whole: all that was cut heals, and in the same moment the new cuts begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import attrs

from sim.plan.chance import choice, happens, some
from sim.plan.schedule import Action

LETTERS: Final = "ABCDEF"
ALL: Final = ",".join(LETTERS)
SOME: Final = (1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 6)
"""How many of a group's six a writer reaches: most often just a quorum, or just none."""
FEW: Final = (1, 1, 2, 2, 3)
"""As many as are too few for anything to stand on."""
WAYS: Final = ("partition", "partition", "cut", "answers", "clog")
"""How a writer is cut off: what it sends, what it is answered, or both, lost or held back."""


@attrs.define
class Reach:
    """Draws networks; two in a row often are each other's opposites."""

    _random: Random
    _pg_count: int
    _last: tuple[str, ...] = ()

    def away(self, counts: Sequence[int] = SOME) -> str:
        """Segments out of some writer's reach, as a target; empty if it reaches them all.

        ``counts`` says how many of each group it may reach.
        """
        random = self._random
        if self._pg_count > 1 and happens(random, 0.5):  # each group in its own way
            left = [
                f"{letter}{pg_id}"
                for pg_id in range(self._pg_count)
                for letter in self._letters((), counts)
            ]
            return ",".join(left)
        self._last = self._letters(self._last if happens(random, 0.6) else (), counts)
        return ",".join(self._last)

    def _letters(self, avoided: tuple[str, ...], counts: Sequence[int]) -> tuple[str, ...]:
        """Those of one group; whoever was ``avoided`` is reached, as far as there is room."""
        random = self._random
        count = choice(random, counts)
        reached = some(random, avoided, count)
        others = [each for each in LETTERS if each not in reached]
        reached += some(random, others, count - len(reached))
        return tuple(each for each in LETTERS if each not in reached)

    def halves(self) -> tuple[str, str]:
        """Two parts of all segments: one with a quorum or more, and the rest."""
        most = some(self._random, LETTERS, choice(self._random, (3, 4, 4, 4, 5)))
        return ",".join(most), ",".join(each for each in LETTERS if each not in most)

    def cut_off(
        self, at_ns: int, writer: str, away: str, ways: Sequence[str] = WAYS
    ) -> list[Action]:
        """Nothing passes between a writer and those ``away``: both ways, or one."""
        if not away:
            return []
        way = choice(self._random, ways)
        if way == "answers":
            return [Action(at_ns=at_ns, kind="cut", target=away, params={"others": writer})]
        return [Action(at_ns=at_ns, kind=way, target=writer, params={"others": away})]

    @staticmethod
    def apart(at_ns: int) -> list[Action]:
        """No segment hears from another: no gossip."""
        return [
            Action(
                at_ns=at_ns,
                kind="partition",
                target=letter,
                params={"others": ",".join(LETTERS[LETTERS.index(letter) + 1 :])},
            )
            for letter in LETTERS[:-1]
        ]
