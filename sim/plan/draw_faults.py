"""What goes wrong in a run, drawn from a seed: episodes that begin and end.

What no protocol could survive is not drawn (`sim.plan.damage`).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from sim.plan.chance import below, choice
from sim.plan.damage import DamageBudget
from sim.plan.schedule import MS, SECOND, Action, Knobs

_LETTERS: Final = "ABCDEF"
_WRITES: Final = ("any", "any", "append", "promise", "compaction")


def draw_faults(random: Random, knobs: Knobs) -> tuple[Action, ...]:
    """The faults of a run and their ends, in the order of their times."""
    return _Drawing(random, knobs).actions()


class _Drawing:
    """Draws the faults of one run: episodes that begin and end."""

    def __init__(self, random: Random, knobs: Knobs) -> None:
        self._random = random
        self._knobs = knobs
        self._found: list[Action] = []
        self._budget = DamageBudget()

    def actions(self) -> tuple[Action, ...]:
        kinds = [kind for kind in _EPISODES if self._random.random() < 0.4]
        episodes = below(self._random, 3 + 4 * self._knobs.duration_ns // SECOND)
        for _ in range(episodes if kinds else 0):
            start = below(self._random, self._knobs.duration_ns * 9 // 10)
            choice(self._random, kinds)(self, start)
        inside = [each for each in self._found if each.at_ns < self._knobs.duration_ns]
        return tuple(sorted(inside, key=lambda each: each.at_ns))

    # ---- drawing ---------------------------------------------------------------------------------

    def _length(self) -> int:
        """How long an episode lasts: mostly short, sometimes long."""
        return choice(self._random, (5, 30, 150, 800)) * MS + below(self._random, 50 * MS)

    def _target(self) -> str:
        """Whom it hits: one segment, one in each group, a whole AZ, an AZ and one more."""
        random = self._random
        shape = below(random, 6)
        zone = f"az{1 + below(random, 3)}"
        if shape <= 2:
            return self._segment()
        if shape == 3:
            return choice(random, _LETTERS)
        if shape == 4:
            return zone
        return f"{zone},{choice(random, _LETTERS)}"

    def _segment(self) -> str:
        return f"{choice(self._random, _LETTERS)}{below(self._random, self._knobs.pg_count)}"

    def _some(self) -> str:
        """One to four segments of any group."""
        count = 1 + below(self._random, 4)
        return ",".join(choice(self._random, _LETTERS) for _ in range(count))

    def _add(self, at_ns: int, kind: str, target: str = "", **params: object) -> None:
        self._found.append(Action(at_ns=at_ns, kind=kind, target=target, params=params))

    # ---- episodes --------------------------------------------------------------------------------

    def crash(self, start: int) -> None:
        target = self._target()
        self._add(start, "crash", target)
        self._add(start + self._length(), "restart", target)

    def pause(self, start: int) -> None:
        target = self._target()
        self._add(start, "pause", target)
        self._add(start + self._length(), "resume", target)

    def slow(self, start: int) -> None:
        target = self._target()
        self._add(start, "slow", target, factor=choice(self._random, (5, 50, 500)))
        self._add(start + self._length(), "slow", target, factor=1)

    def partition(self, start: int) -> None:
        kind = choice(self._random, ("partition", "cut", "clog"))
        target = choice(self._random, ("writer", self._target(), self._some()))
        if self._random.random() < 0.5:
            side = choice(self._random, ("writer", "az1")) if target != "writer" else ""
            others = side or self._some()
            self._add(start, kind, target, others=others)
        else:
            self._add(start, kind, target)
        self._add(start + self._length(), "heal_network")

    def disk(self, start: int) -> None:
        target = self._target()
        kind = below(self._random, 3)
        if kind == 0:
            slack = choice(self._random, (0, 0, 300, 9_000))
            self._add(start, "disk_full", target, slack=slack)
            self._add(start + self._length(), "disk_free", target)
        else:
            name = ("fail_writes", "fail_syncs")[kind - 1]
            write, count = choice(self._random, _WRITES), 1 + below(self._random, 5)
            self._add(start, name, target, count=count, write=write)

    def at_a_write(self, start: int) -> None:
        """Amid a write of some kind, or right after its sync."""
        kind = choice(self._random, ("crash_amid_write", "crash_after_write"))
        write, down_ms = choice(self._random, _WRITES), choice(self._random, (1.0, 20.0, 200.0))
        self._add(start, kind, self._target(), write=write, down_ms=down_ms)

    def rot(self, start: int) -> None:
        segment = self._segment()
        if self._budget.may_rot(segment):
            bits, places = 1 + below(self._random, 3), choice(self._random, (1, 1, 3))
            frame = choice(self._random, (None, below(self._random, 12), -1, -3))
            where = {} if frame is None else {"frame": frame}
            self._add(start, "bit_rot", segment, bits=bits, places=places, **where)
            if self._random.random() < 0.5:
                self._add(start + 1, "crash", segment)
                self._add(start + self._length(), "restart", segment)

    def layer(self, start: int) -> None:
        """A layer rots, or several do, also of the same place at a peer; one may restart."""
        which = choice(self._random, (None, 0, -1))
        where: dict[str, object] = {} if which is None else {"layer": which}
        for _ in range(choice(self._random, (1, 1, 2))):
            segment = self._segment()
            if not self._budget.may_rot(segment):
                continue
            for _ in range(choice(self._random, (1, 1, 2))):
                if (part := choice(self._random, (None, "blocks", "footer"))) is not None:
                    where["part"] = part
                self._add(start, "rot_layer", segment, bits=1 + below(self._random, 3), **where)
            if self._random.random() < 0.5:
                self._add(start + 1, "crash", segment)
                self._add(start + self._length(), "restart", segment)

    def promise(self, start: int) -> None:
        """A promise slot rots, at a segment that may restart."""
        segment = self._segment()
        if self._budget.may_go(segment):
            slot, bits = 1 + below(self._random, 2), 1 + below(self._random, 3)
            self._add(start, "rot_promise", segment, slot=slot, bits=bits)
            if self._random.random() < 0.3:
                self._add(start + 1, "crash", segment)
                self._add(start + self._length(), "restart", segment)

    def wipe(self, start: int) -> None:
        segment = self._segment()
        if self._budget.may_go(segment):
            self._add(start, "wipe", segment)

    def recover(self, start: int) -> None:
        self._add(start, "crash_writer")
        self._add(start + self._length(), "recover")

    def recoveries(self, start: int) -> None:
        """Recoveries in a row, each crashing midway."""
        for _ in range(1 + below(self._random, 4)):
            self._add(start, "recover")
            start += 1 + below(self._random, choice(self._random, (2, 10, 200)) * MS)

    def take_over(self, start: int) -> None:
        if self._random.random() < 0.5:
            self._add(start, "partition", "writer", others=self._some())
            self._add(start + self._length(), "heal_network")
        self._add(start + 1, "take_over")


_EPISODES: Final[tuple[Callable[[_Drawing, int], None], ...]] = (
    _Drawing.crash,
    _Drawing.crash,
    _Drawing.pause,
    _Drawing.slow,
    _Drawing.partition,
    _Drawing.disk,
    _Drawing.at_a_write,
    _Drawing.rot,
    _Drawing.layer,
    _Drawing.promise,
    _Drawing.wipe,
    _Drawing.recover,
    _Drawing.recoveries,
    _Drawing.take_over,
)
