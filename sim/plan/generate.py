"""Schedules drawn from a seed: every knob, every call and every fault of a run.

Drawing is in swarms: each run has its own shape, its own few kinds of fault and its own rates, so
that runs differ more from each other than any one mixture would. What no protocol could survive is
not drawn: more lost disks than a write quorum can spare, or rot in more places than can be
repaired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final, TypeVar

import attrs

from aurora.quorum import QuorumModel
from segments.protocol.volume import standard_members
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.schedule import MS, SECOND, Action, Knobs, Operation, Schedule
from sim.plan.seeds import Seeds

_T = TypeVar("_T")

_LETTERS: Final = "ABCDEF"
_MODEL: Final = QuorumModel(standard_members(0))
_MAX_LOST: Final = len(_MODEL.members) - _MODEL.write
"""Disks wiped for good in one run; a write quorum must remain."""
_MAX_DAMAGED: Final = len(_MODEL.members) - _MODEL.read
"""Disks wiped or rotten in one run; a read quorum must remain as witnesses."""


def generate(seed: int) -> Schedule:
    """The schedule of ``seed``: the same on every machine."""
    seeds = Seeds(seed)
    knobs = _knobs(seeds.stream("knobs"))
    operations = _operations(seeds.stream("workload"), knobs)
    actions = _Drawing(seeds.stream("faults"), knobs).actions()
    return Schedule(
        seed=seed, knobs=knobs, actions=actions, operations=operations, name=f"seed {seed}"
    )


def _below(random: Random, end: int) -> int:
    return int(random.random() * end)


def _choice(random: Random, items: Sequence[_T]) -> _T:
    return items[_below(random, len(items))]


def _knobs(random: Random) -> Knobs:
    lossy = random.random() < 0.5
    link = LinkProfile(
        minimum_ns=_choice(random, (50_000, 100_000, 500_000)),
        extra_mean_ns=_choice(random, (20_000, 100_000, 1_000_000)),
        loss=random.random() * 0.05 if lossy else 0.0,
        duplication=random.random() * 0.05 if lossy else 0.0,
        reordering=random.random() * 0.2 if random.random() < 0.5 else 0.0,
    )
    cross = None
    if random.random() < 0.5:
        cross = attrs.evolve(link, minimum_ns=link.minimum_ns * 4)
    disk = DiskProfile(
        minimum_ns=_choice(random, (20_000, 100_000)),
        extra_mean_ns=_choice(random, (20_000, 200_000, 2_000_000)),
        write_failure=0.01 if random.random() < 0.2 else 0.0,
        sync_failure=0.01 if random.random() < 0.2 else 0.0,
    )
    return Knobs(
        pg_count=_choice(random, (1, 1, 1, 2, 3)),
        lal=_choice(random, (20, 200, 100_000, 10_000_000)),
        retention_lsns=_choice(random, (None, None, 0, 20, 200)),
        buffer_pool_pages=_choice(random, (8, 16, 64)),
        batches_in_flight=_choice(random, (1, 4, 8)),
        image_interval=_choice(random, (1, 4, 16)),
        compact_bytes=_choice(random, (4 << 10, 64 << 10)),
        collect_records=_choice(random, (1, 32)),
        link=link,
        cross_az_link=cross,
        disk=disk,
        duration_ns=_choice(random, (1, 2, 4)) * SECOND,
    )


_LISTS: Final = 0.3
"""Reads of old versions no older than this are lists of all pages instead."""


def _operations(random: Random, knobs: Knobs) -> tuple[Operation, ...]:
    clients = 2 + _below(random, 7)
    count = _choice(random, (60, 150, 300))
    pages = _choice(random, (3, 12, 40))
    write_share = 0.4 + random.random() * 0.5
    sticky = random.random() < 0.3
    found = []
    for _ in range(count):
        at_ns = _below(random, knobs.duration_ns)
        if random.random() < write_share:
            kind = "put"
            touched = tuple(_below(random, pages) for _ in range(1 + _below(random, 4)))
        else:
            kind = _choice(random, ("get", "get", "strict_get", "get_at", "view"))
            touched = (_below(random, pages),)
        client = _below(random, clients)
        offset = 8 * _below(random, 1000)
        length = _choice(random, (8, 16, 100))
        age = random.random()
        if kind == "get_at" and age < _LISTS:
            kind = "list"
        found.append(
            Operation(
                at_ns=at_ns,
                client=client,
                kind=kind,
                pages=touched,
                offset=offset,
                length=length,
                age=age,
                sticky=sticky and random.random() < 0.7,
            )
        )
    return tuple(sorted(found, key=lambda each: each.at_ns))


class _Drawing:
    """Draws the faults of one run: episodes that begin and end."""

    def __init__(self, random: Random, knobs: Knobs) -> None:
        self._random = random
        self._knobs = knobs
        self._found: list[Action] = []
        self._lost: set[str] = set()
        self._damaged: set[str] = set()

    def actions(self) -> tuple[Action, ...]:
        kinds = [kind for kind in _EPISODES if self._random.random() < 0.4]
        episodes = _below(self._random, 3 + 4 * self._knobs.duration_ns // SECOND)
        for _ in range(episodes if kinds else 0):
            start = _below(self._random, self._knobs.duration_ns * 9 // 10)
            _choice(self._random, kinds)(self, start)
        inside = [each for each in self._found if each.at_ns < self._knobs.duration_ns]
        return tuple(sorted(inside, key=lambda each: each.at_ns))

    # ---- drawing ---------------------------------------------------------------------------------

    def _length(self) -> int:
        """How long an episode lasts: mostly short, sometimes long."""
        return _choice(self._random, (5, 30, 150, 800)) * MS + _below(self._random, 50 * MS)

    def _target(self) -> str:
        """Whom it hits: one segment, one in each group, a whole AZ, an AZ and one more."""
        random = self._random
        shape = _below(random, 6)
        zone = f"az{1 + _below(random, 3)}"
        if shape <= 2:
            return self._segment()
        if shape == 3:
            return _choice(random, _LETTERS)
        if shape == 4:
            return zone
        return f"{zone},{_choice(random, _LETTERS)}"

    def _segment(self) -> str:
        return f"{_choice(self._random, _LETTERS)}{_below(self._random, self._knobs.pg_count)}"

    def _some(self) -> str:
        """One to four segments of any group."""
        count = 1 + _below(self._random, 4)
        return ",".join(_choice(self._random, _LETTERS) for _ in range(count))

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
        self._add(start, "slow", target, factor=_choice(self._random, (5, 50, 500)))
        self._add(start + self._length(), "slow", target, factor=1)

    def partition(self, start: int) -> None:
        kind = _choice(self._random, ("partition", "cut", "clog"))
        target = _choice(self._random, ("writer", self._target(), self._some()))
        if self._random.random() < 0.5:
            side = _choice(self._random, ("writer", "az1")) if target != "writer" else ""
            others = side or self._some()
            self._add(start, kind, target, others=others)
        else:
            self._add(start, kind, target)
        self._add(start + self._length(), "heal_network")

    def disk(self, start: int) -> None:
        target = self._target()
        kind = _below(self._random, 3)
        if kind == 0:
            self._add(start, "disk_full", target)
            self._add(start + self._length(), "disk_free", target)
        else:
            name = ("fail_writes", "fail_syncs")[kind - 1]
            self._add(start, name, target, count=1 + _below(self._random, 5))

    def rot(self, start: int) -> None:
        segment = self._segment()
        if len(self._damaged | {segment}) <= _MAX_DAMAGED:
            self._damaged.add(segment)
            self._add(start, "bit_rot", segment, bits=1 + _below(self._random, 3))
            if self._random.random() < 0.5:
                self._add(start + 1, "crash", segment)
                self._add(start + self._length(), "restart", segment)

    def wipe(self, start: int) -> None:
        segment = self._segment()
        lost, damaged = self._lost | {segment}, self._damaged | {segment}
        if len(lost) <= _MAX_LOST and len(damaged) <= _MAX_DAMAGED:
            self._lost.add(segment)
            self._damaged.add(segment)
            self._add(start, "wipe", segment)

    def recover(self, start: int) -> None:
        self._add(start, "crash_writer")
        self._add(start + self._length(), "recover")

    def recoveries(self, start: int) -> None:
        """Recoveries in a row, each crashing midway."""
        for _ in range(1 + _below(self._random, 4)):
            self._add(start, "recover")
            start += 1 + _below(self._random, _choice(self._random, (2, 10, 200)) * MS)

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
    _Drawing.rot,
    _Drawing.wipe,
    _Drawing.recover,
    _Drawing.recoveries,
    _Drawing.take_over,
)
