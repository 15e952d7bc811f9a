"""Where in a film to look first: faults, recoveries, stalls, the healing and the finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import attrs

from aurora.events import SealingStarted, VolumeOpened
from sim.durations import length
from sim.plan.episodes import episodes_of, is_repair, planned_episodes
from sim.plan.schedule import MS, Schedule
from sim.view.lives import NEVER
from sim.view.maker import FilmMaker

STALL_NS: Final = 20 * MS
"""Commits stall when one waits and none has become durable for so long."""


@attrs.frozen(order=True)
class Landmark:
    """A moment with a name."""

    event: int
    time_ns: int
    kind: str
    """``fault``, ``repair``, ``commit_stall``, ``commits_go_on``, ``recovery``, ``opened``,
    ``heal`` or ``finding``."""
    title: str

    def as_json(self) -> dict[str, object]:
        return {
            "event": self.event, "t": self.time_ns, "kind": self.kind, "title": self.title,
        }  # fmt: skip


def episodes(maker: FilmMaker, end_ns: int) -> list[dict[str, object]]:
    """The faults of a run that ended then, as spans."""
    return [
        {
            "from_ns": each.start_ns,
            "to_ns": each.end_ns,
            "title": each.title,
            "kind": each.action.kind,
            "nodes": [maker.nodes[name] for name in each.segments if name in maker.nodes],
            "action": each.number,
        }
        for each in episodes_of(maker.world.schedule, end_ns)
    ]


def planned(schedule: Schedule) -> list[dict[str, object]]:
    """All faults of a schedule, reached or not, each with the repairs by which it ends."""
    return [
        {
            "action": each.number,
            "at_ns": each.start_ns,
            "title": each.title,
            "ended_by": [n for n in each.ended_by if is_repair(schedule.actions[n])],
        }
        for each in planned_episodes(schedule)
    ]


def landmarks(maker: FilmMaker) -> list[Landmark]:
    """All of them, in order."""
    return sorted({*_of_events(maker), *_stalls(maker)})


def _of_events(maker: FilmMaker) -> Iterator[Landmark]:
    kinds = {number: name for name, (number, _) in maker.kinds.items()}
    names = list(maker.nodes)
    for number, row in enumerate(maker.rows):
        kind = kinds[row.kind]
        if kind == "ActionDone":
            yield Landmark(number, row.time_ns, "fault", row.text)
        elif kind == "FaultEnded":
            yield Landmark(number, row.time_ns, "repair", row.text)
        elif kind is SealingStarted:
            yield Landmark(number, row.time_ns, "recovery", f"{names[row.node]} recovers")
        elif kind is VolumeOpened:
            title = f"{names[row.node]} opens the volume"
            yield Landmark(number, row.time_ns, "opened", title)
        elif kind == "Healed":
            yield Landmark(number, row.time_ns, "heal", "all heals")
        elif kind == "Finding":
            yield Landmark(number, row.time_ns, "finding", row.text)


def _stalls(maker: FilmMaker) -> Iterator[Landmark]:
    """Where commits wait and none becomes durable, and where they go on."""
    rows = maker.rows
    for begun, ended in _waits(maker):
        until_ns = rows[-1 if ended is None else ended].time_ns
        lasted = until_ns - rows[begun].time_ns
        if lasted >= STALL_NS:
            title = f"commits wait for {length(lasted)}"
            yield Landmark(begun, rows[begun].time_ns, "commit_stall", title)
            if ended is not None:
                yield Landmark(ended, until_ns, "commits_go_on", "commits go on")


def _waits(maker: FilmMaker) -> Iterator[tuple[int, int | None]]:
    """Each stretch in which a commit waits and none becomes durable: its first and last event."""
    lives = [each for each in maker.lives.lives if each.annulled == NEVER]
    begun = Counter(each.allocated for each in lives)
    ended = Counter(each.durable for each in lives if each.durable != NEVER)
    waiting = since = 0
    for event in sorted(begun.keys() | ended.keys()):
        if event in ended:
            yield since, event
            waiting, since = waiting - ended[event], event
        if event in begun:
            since = since if waiting else event
            waiting += begun[event]
    if waiting:
        yield since, None
