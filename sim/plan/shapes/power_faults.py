"""The faults of a `power` run: segments that stop and come back within milliseconds, and disks.

Every episode is short, so that many fit, one into another: a second crash meets the repair after
the first. What would be beyond the protocol is left out by a `DamageBudget`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from segments.protocol.ids import SegmentId
from sim.plan.chance import below, choice
from sim.plan.damage import DamageBudget
from sim.plan.schedule import MS, Action, Knobs

_LETTERS: Final = "ABCDEF"
_WRITES: Final = ("any", "append", "promise", "promise", "compaction")
_EPISODE_NS: Final = 12 * MS
"""One more episode for each such piece of the run, at most."""


def draw_power_faults(random: Random, knobs: Knobs) -> list[Action]:
    """The faults of a run and their ends, in no order."""
    return _Drawing(random, knobs).actions()


def draw_absences(random: Random, knobs: Knobs) -> list[Action]:
    """One or two segments are away, again and again, until the others have collected the log."""
    drawing = _Drawing(random, knobs)
    at_ns = below(random, 40 * MS)
    while at_ns < knobs.duration_ns * 3 // 4:
        at_ns = drawing.away(at_ns)
    return drawing.found()


class _Drawing:
    """Draws the faults of one run."""

    def __init__(self, random: Random, knobs: Knobs) -> None:
        self._random = random
        self._knobs = knobs
        self._found: list[Action] = []
        self._budget = DamageBudget()

    def actions(self) -> list[Action]:
        kinds = [kind for kind in _EPISODES if self._random.random() < 0.4]
        duration_ns = self._knobs.duration_ns
        count = 2 + below(self._random, 4 + duration_ns // _EPISODE_NS)
        for _ in range(count if kinds else 0):
            choice(self._random, kinds)(self, below(self._random, duration_ns * 9 // 10))
        return self.found()

    def found(self) -> list[Action]:
        """What was drawn and begins before the run ends."""
        return [each for each in self._found if each.at_ns < self._knobs.duration_ns]

    # ---- drawing ---------------------------------------------------------------------------------

    def _add(self, at_ns: int, kind: str, target: str = "", **params: object) -> None:
        self._found.append(Action(at_ns=at_ns, kind=kind, target=target, params=params))

    def _soon(self) -> int:
        """Until the next thing happens: mostly a few milliseconds."""
        return choice(self._random, (200_000, MS, 3 * MS, 10 * MS)) + below(self._random, 2 * MS)

    def _length(self) -> int:
        """How long something lasts that needs time to do its harm."""
        return choice(self._random, (2, 10, 40)) * MS + below(self._random, 10 * MS)

    def _segment(self) -> SegmentId:
        return f"{choice(self._random, _LETTERS)}{below(self._random, self._knobs.pg_count)}"

    def _some(self) -> str:
        """One to six members, each in every group."""
        count = choice(self._random, (1, 1, 2, 3, 4, 6))
        first = below(self._random, len(_LETTERS))
        return ",".join((_LETTERS * 2)[first : first + count])

    def _cycle(self, at_ns: int, target: str) -> int:
        """Power gone and back; returns when it is."""
        back_ns = at_ns + self._soon()
        self._add(at_ns, "crash", target)
        self._add(back_ns, "restart", target)
        return back_ns

    # ---- power -----------------------------------------------------------------------------------

    def everybody(self, start: int) -> None:
        """All six of every group within a millisecond, or the writer, too; once or in a row."""
        for _ in range(choice(self._random, (1, 1, 2, 4))):
            back_ns = start + MS + self._soon()
            for letter in _LETTERS:
                self._add(start + below(self._random, MS), "crash", letter)
                self._add(back_ns + below(self._random, 2 * MS), "restart", letter)
            if self._random.random() < 0.5:
                self._add(start + below(self._random, MS), "crash_writer")
                self._add(back_ns + below(self._random, 5 * MS), "recover")
            start = back_ns + self._soon()

    def zone(self, start: int) -> None:
        self._cycle(start, f"az{1 + below(self._random, 3)}")

    def pairs(self, start: int) -> None:
        """Several segments, each when it likes."""
        for _ in range(1 + below(self._random, 6)):
            self._cycle(start + below(self._random, 5 * MS), self._segment())

    def at_a_write(self, start: int) -> None:
        """Amid a write of some kind, or right after its sync."""
        kind = choice(self._random, ("crash_amid_write", "crash_amid_write", "crash_after_write"))
        self._add(
            start, kind, self._some(),
            write=choice(self._random, _WRITES), down_ms=choice(self._random, (0.2, 2.0, 10.0)),
        )  # fmt: skip

    # ---- gaps ------------------------------------------------------------------------------------

    def gaps(self, start: int) -> None:
        """What the writer sends gets lost for a moment, again and again: later batches arrive."""
        target = self._some()
        for _ in range(1 + below(self._random, 12)):
            self._add(start, "cut", "writer", others=target)
            start += choice(self._random, (300_000, MS, 5 * MS))
            self._add(start, "heal_network")
            start += self._soon()

    # ---- damage ----------------------------------------------------------------------------------

    def _rot(self, at_ns: int, segment: SegmentId, frame: int | None = None) -> None:
        places = choice(self._random, (1, 1, 2, 5))
        if frame is None:
            frame = choice(self._random, (None, None, below(self._random, 12), -1, -2, -5))
        where = {} if frame is None else {"frame": frame}
        self._add(
            at_ns, "bit_rot", segment, bits=1 + below(self._random, 3), places=places, **where
        )

    def rot(self, start: int) -> None:
        """A disk rots, while its segment runs or is down; it restarts, once or again."""
        segment = self._segment()
        if not self._budget.may_rot(segment):
            return
        if self._random.random() < 0.5:
            self._rot(start, segment)
            start += self._soon()
        else:
            self._rot(start + 100_000, segment)
        for _ in range(below(self._random, 4)):
            start = self._cycle(start, segment) + self._soon()

    def alone(self, start: int) -> None:
        """A damaged segment that nobody can help, for longer than a scrub, restarts again."""
        segment = self._segment()
        if not self._budget.may_rot(segment):
            return
        side = choice(self._random, ({}, {"others": "az1,az2,az3"}))  # the writer may get through
        self._rot(start, segment)
        self._add(start + 50_000, "partition", segment, **side)
        start = self._cycle(start + 100_000, segment)
        for _ in range(1 + below(self._random, 3)):
            start += 2 * self._knobs.scrub_interval_ns + self._soon()
            start = self._cycle(start, segment)
        self._add(start + self._length(), "heal_network")

    def repair(self, start: int) -> None:
        """A damaged segment crashes whenever it writes."""
        segment = self._segment()
        if not self._budget.may_rot(segment):
            return
        self._rot(start, segment)
        start = self._cycle(start + 100_000, segment)
        for _ in range(1 + below(self._random, 4)):
            self._add(start, "crash_amid_write", segment, down_ms=0.5)
            start += self._soon()

    def no_witness(self, start: int) -> None:
        """A writer that opens hears two segments that are behind, and one that is damaged.

        It had acknowledged with the three that are away now. The two were cut off before.
        """
        first = below(self._random, len(_LETTERS))
        letters = (_LETTERS * 2)[first : first + len(_LETTERS)]
        group = below(self._random, self._knobs.pg_count)
        damaged, behind, away = f"{letters[0]}{group}", letters[1:3], letters[3:]
        if not self._budget.may_rot(damaged):
            return
        self._add(start, "partition", ",".join(behind))
        start += self._length()
        self._rot(start, damaged, frame=-1 - below(self._random, 3))
        self._add(start, "crash", damaged)
        self._add(start, "crash_writer")
        self._add(start + 1, "heal_network")
        self._add(start + 2, "partition", ",".join(away))
        self._add(start + 3, "restart", damaged)
        self._add(start + 4, "recover")
        self._add(start + self._length(), "heal_network")

    def ragged(self, start: int) -> None:
        """A segment has what nobody else has, and rots; a recovery that it hears of annuls that."""
        segment = self._segment()
        if not self._budget.may_rot(segment):
            return
        others = ",".join(each for each in _LETTERS if each != segment[0])
        self._add(start, "cut", "writer", others=others)
        start += self._soon() + self._soon()
        self._rot(start, segment, frame=-2 - below(self._random, 3))
        self._add(start, "crash_writer")
        self._add(start, "crash", segment)
        self._add(start + 1, "restart", segment)
        self._add(start + 2, "heal_network")
        self._add(start + 3, "recover")

    def pages(self, start: int) -> None:
        """A segment was away for long; the peer whose pages it takes goes, perhaps for good."""
        group = below(self._random, self._knobs.pg_count)
        first = below(self._random, len(_LETTERS))
        away, peer, *others = list((_LETTERS * 2)[first : first + len(_LETTERS)])
        self._add(start, "partition", f"{away}{group}")
        start += self._length() + 20 * MS
        self._add(start, "heal_network")
        names = ",".join(f"{each}{group}" for each in others)
        self._add(start, "partition", f"{away}{group}", others=f"writer,{names}")
        self._add(start, "slow", f"{peer}{group}", factor=choice(self._random, (1, 10, 40)))
        start += 2 * self._knobs.gossip_interval_ns + self._soon()
        if self._random.random() < 0.5 and self._budget.may_go(f"{peer}{group}"):
            self._add(start, "wipe", f"{peer}{group}")
        elif self._random.random() < 0.5:
            self._add(start, "crash", f"{peer}{group}")
        self._add(start + self._soon(), "slow", f"{peer}{group}", factor=1)
        self._add(start + self._soon(), "heal_network")

    def away(self, start: int) -> int:
        """Some are away for long, and power may go while they take pages; returns when that is."""
        target = choice(self._random, (self._segment(), self._segment(), "A,B", "C", "F"))
        start += 20 * MS + below(self._random, 20 * MS)
        self._add(start, "partition", target)
        start += self._length() + 30 * MS
        self._add(start, "heal_network")
        start += below(self._random, 60 * MS)
        if self._random.random() < 0.5:
            start = self._cycle(start, target)
        return start

    def promise(self, start: int) -> None:
        """A promise rots: one slot, and perhaps the other. A torn one beside it is then the end."""
        segment = self._segment()
        if not self._budget.may_go(segment):
            return
        slot = 1 + below(self._random, 2)
        self._add(start, "rot_promise", segment, slot=slot, bits=1 + below(self._random, 3))
        if self._random.random() < 0.5:
            self._add(start + 100_000, "rot_promise", segment, slot=3 - slot)
        if self._random.random() < 0.4:
            self._cycle(start + self._soon(), segment)

    def manifest(self, start: int) -> None:
        """Half of a manifest rots; its segment restarts, or stops amid a file that it makes."""
        segment = self._segment()
        if not self._budget.may_rot(segment):
            return
        self._add(start, "rot_manifest", segment, half=1 + below(self._random, 2))
        if self._random.random() < 0.5:
            self._cycle(start + self._soon(), segment)
        else:
            self._add(start, "crash_amid_write", segment, write="compaction", down_ms=0.5)

    def layer(self, start: int) -> None:
        """A layer rots, while its segment runs or is down; it restarts, once or again."""
        segment = self._segment()
        if not self._budget.may_rot(segment):
            return
        which = choice(self._random, (None, 0, -1))
        where = {} if which is None else {"layer": which}
        self._add(start, "rot_layer", segment, bits=1 + below(self._random, 3), **where)
        if self._random.random() < 0.7:
            self._cycle(start + self._soon(), segment)
        if self._random.random() < 0.3:
            self._add(start + self._soon(), "rot_layer", segment)

    def files(self, start: int) -> None:
        """Amid or after each step by which the files of logs change, several times."""
        target = self._some()
        for _ in range(1 + below(self._random, 4)):
            self._add(
                start, choice(self._random, ("crash_amid_write", "crash_after_write")), target,
                write=choice(self._random, ("file", "names", "manifest", "manifest", "deletion")),
                down_ms=choice(self._random, (0.2, 2.0)),
            )  # fmt: skip
            start += self._length()

    def wipe(self, start: int) -> None:
        segment = self._segment()
        if self._budget.may_go(segment):
            self._add(start, "wipe", segment)

    # ---- disks -----------------------------------------------------------------------------------

    def full(self, start: int) -> None:
        """No room, or room for a few small writes and for no new log."""
        target = self._some()
        self._add(start, "disk_full", target, slack=choice(self._random, (0, 300, 1_000, 9_000)))
        self._add(start + self._length(), "disk_free", target)

    def failing(self, start: int) -> None:
        """Writes are refused; those of promises come with a writer, and so one comes here."""
        kind = choice(self._random, ("fail_writes", "fail_syncs"))
        write = choice(self._random, _WRITES)
        self._add(start, kind, self._some(), count=1 + below(self._random, 3), write=write)
        if write == "promise":
            self._add(start + 1, choice(self._random, ("recover", "take_over")))

    def slow(self, start: int) -> None:
        target = self._some()
        self._add(start, "slow_disk", target, factor=choice(self._random, (5, 50)))
        self._add(start + self._length(), "slow_disk", target, factor=1)

    # ---- writers ---------------------------------------------------------------------------------

    def recoveries(self, start: int) -> None:
        """Writers come in a row: promises are made, and tables adopted."""
        kind = choice(self._random, ("recover", "recover", "take_over"))
        for _ in range(1 + below(self._random, 3)):
            self._add(start, kind)
            start += self._soon()


_EPISODES: Final[tuple[Callable[[_Drawing, int], None], ...]] = (
    _Drawing.everybody,
    _Drawing.everybody,
    _Drawing.zone,
    _Drawing.pairs,
    _Drawing.at_a_write,
    _Drawing.at_a_write,
    _Drawing.gaps,
    _Drawing.gaps,
    _Drawing.rot,
    _Drawing.alone,
    _Drawing.repair,
    _Drawing.no_witness,
    _Drawing.ragged,
    _Drawing.pages,
    _Drawing.promise,
    _Drawing.promise,
    _Drawing.manifest,
    _Drawing.layer,
    _Drawing.layer,
    _Drawing.files,
    _Drawing.wipe,
    _Drawing.full,
    _Drawing.failing,
    _Drawing.slow,
    _Drawing.recoveries,
)
