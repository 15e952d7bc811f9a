"""What the schedule and the network did: faults of one moment together, losses in one line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby
from typing import Final

from aurora.events import Acknowledged, VolumeOpened
from segments.protocol.ids import Lsn
from segments.protocol.messages import InstallTable, Seal, SealReply, WriteAck, WriteBatch
from segments.protocol.run import read_records
from sim.plan.episodes import (
    Episode,
    ending_only,
    episodes_of,
    is_repair,
    segments_of,
    titled,
)
from sim.plan.schedule import Action
from sim.show.returns import Returns, victims_of
from sim.story.evidence import Evidence, decoded
from sim.story.lines import Line
from sim.story.recorder import ActionDone, MessageDropped, Step

_LETTERS: Final = frozenset("ABCDEF")
_SHOWN: Final = 4
_KINDS: Final = {
    WriteBatch: ("batch", "batches"),
    WriteAck: ("acknowledgement", "acknowledgements"),
    Seal: ("seal", "seals"),
    SealReply: ("seal reply", "seal replies"),
    InstallTable: ("table", "tables"),
}
"""The messages whose loss tells something, in words; all others are asked for again and again."""


def faults(
    evidence: Evidence, near: Collection[str] | None, weight: int, since_ns: int = 0
) -> Iterator[Line]:
    """Every fault; those that are ``near`` weigh more, which None says of all.

    Not those from which all were back by ``since_ns``.
    """
    over = over_by(evidence, since_ns)
    happened = [step for step in evidence.of(ActionDone) if step.event.number not in over]
    for _, some in groupby(happened, key=lambda step: step.time_ns):
        yield from _moment(evidence, list(some), near, weight)


def came_back(evidence: Evidence) -> tuple[list[Episode], Returns]:
    """All faults, and when those whom they hit were back in service."""
    episodes = episodes_of(evidence.world.schedule, evidence.result.virtual_ns)
    returns = Returns(episodes)
    for step in evidence.of(Acknowledged, VolumeOpened):
        match step.event:
            case VolumeOpened():
                returns.opened(step.time_ns)
            case Acknowledged() as acknowledged:
                returns.acknowledged(step.time_ns, acknowledged)
    return episodes, returns


def over_by(evidence: Evidence, at_ns: int) -> set[int]:
    """The actions by which faults began and ended whose victims were all back by then.

    What ends several faults is over with the last of them.
    """
    episodes, returns = came_back(evidence)
    over = set[int]()
    for episode in episodes:
        victims = victims_of(episode)
        back = [returns.found.get((episode.number, each), at_ns) < at_ns for each in victims]
        if victims and all(back):
            over.add(episode.number)
    return over | ending_only(episodes, over)


def _hits(evidence: Evidence, action: Action, near: Collection[str]) -> bool:
    names = f"{action.target},{action.params.get('others', '')}"
    hit = segments_of(names, len(evidence.groups))
    return (
        action.kind in ("recover", "take_over")
        or "writer" in f"{action.kind} {names}"
        or (bool(set(hit) & set(near)))
    )


def _moment(
    evidence: Evidence, steps: list[Step[ActionDone]], near: Collection[str] | None, weight: int
) -> Iterator[Line]:
    gossip = [each for each in steps if _between_segments(each.event.action)]
    if len(gossip) < len(_LETTERS) - 1:
        gossip = []
    for step in steps:
        if step in gossip:
            continue
        text = titled(step.event.action)
        matters = near is None or _hits(evidence, step.event.action, near)
        what = "repair" if is_repair(step.event.action) else "fault"
        yield Line(step.number, step.time_ns, weight if matters else weight - 2, f"{what}: {text}")
    if gossip:
        first = gossip[0]
        text = "fault: the segments are parted from each other, so nothing is gossiped"
        yield Line(first.number, first.time_ns, weight - 3, text)


def _between_segments(action: Action) -> bool:
    names = f"{action.target},{action.params.get('others', '')}".split(",")
    return action.kind == "partition" and all(name in _LETTERS for name in names)


def _news(batch: WriteBatch, told: Collection[Lsn]) -> bool:
    lsns = {record.lsn for record in read_records(batch.records)}
    return bool(lsns) and not lsns & set(told)


def losses(
    evidence: Evidence, near: Collection[str], told: Collection[Lsn], weight: int
) -> Iterator[Line]:
    """All lost messages that matter, in one line: how many of which kind, between whom, and why.

    Of the batches, those with records that are ``told`` of elsewhere do not count here.
    """
    between: dict[tuple[tuple[str, str], str, str], dict[str, None]] = {}
    counts: dict[tuple[tuple[str, str], str, str], int] = {}
    first: Step[MessageDropped] | None = None
    for step in evidence.of(MessageDropped):
        to, reason = step.event.to, step.event.reason
        if near and not {step.source, to} & set(near):
            continue
        message = decoded(step.event)
        kind = _KINDS.get(type(message))
        if kind is None or (isinstance(message, WriteBatch) and not _news(message, told)):
            continue
        first = first or step
        one, other = (step.source, "") if step.source.startswith("writer") else ("", to)
        key = (kind, f"from {one}" if one else f"to {other}", reason)
        counts[key] = counts.get(key, 0) + 1
        between.setdefault(key, {})[to if one else step.source] = None
    if first is None:
        return
    parts = []
    for (kind, end, reason), names in sorted(between.items(), key=lambda it: -counts[it[0]]):
        count = counts[kind, end, reason]
        other = "to" if end.startswith("from") else "from"
        parts.append(
            f"{count} {kind[count > 1]} {end} {other} {' '.join(sorted(names))} ({reason})"
        )
    rest = f"; and {len(parts) - _SHOWN} other kinds" if len(parts) > _SHOWN else ""
    text = f"lost from here on: {'; '.join(parts[:_SHOWN])}{rest}"
    yield Line(first.number, first.time_ns, weight, text)
