"""Faults as episodes: what a schedule's actions do to whom, from when to when."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import attrs

from aurora import targets
from aurora.targets import Target
from segments.protocol.ids import Address, SegmentId
from segments.protocol.volume import VolumeGeometry
from sim.plan.schedule import Action, Schedule

ENDED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "crash": ("restart",),
    "pause": ("resume", "crash", "wipe"),
    "slow": ("slow", "heal_network"),
    "slow_disk": ("slow_disk",),
    "disk_full": ("disk_free",),
    "partition": ("heal_network",),
    "cut": ("heal_network",),
    "clog": ("heal_network",),
    "crash_writer": ("recover", "take_over"),
}
"""What ends a fault that lasts, besides the healing of everything."""

_FOR_EVER: Final = ("wipe",)
_AT_ONCE: Final = (
    "bit_rot", "rot_promise", "rot_manifest", "rot_layer", "fail_writes", "fail_syncs",
    "crash_amid_write", "crash_after_write", "recover", "take_over", "copy_disk", "roll_back",
)  # fmt: skip
_WORDS: Final[Mapping[str, str]] = {
    "crash": "down", "pause": "paused", "slow": "slow", "slow_disk": "slow disk",
    "wipe": "lost", "disk_full": "full",
    "partition": "cut off", "cut": "cut off", "clog": "clogged",
}  # fmt: skip


@attrs.frozen
class Episode:
    """A fault, from its beginning to its end."""

    number: int
    """Index of its action in the schedule."""
    action: Action
    start_ns: int
    end_ns: int
    """Exclusive; the start for what is over at once, the end of the run for what stays."""
    segments: tuple[SegmentId, ...]
    """Whom it hits, of the segments."""
    ends: Mapping[SegmentId, int] = attrs.field(factory=dict)
    """When it ends for each of them, if it lasts and can end."""
    ended_by: tuple[int, ...] = ()
    """The actions by which it ends, by their index."""

    @property
    def state(self) -> str:
        """What a segment is while this lasts, in a word or two."""
        return _WORDS.get(self.action.kind, "")

    @property
    def title(self) -> str:
        """The fault and whom it hits."""
        return titled(self.action)


def titled(action: Action) -> str:
    """An action and whom it hits, in words: ``slow D0 (factor 50)``."""
    between = "from" if action.kind == "partition" else "to"
    others = [f"{between} {value}" for name, value in action.params.items() if name == "others"]
    values = [_worded(*each) for each in action.params.items() if each[0] != "others"]
    how = f"({', '.join(values)})" if values else ""
    return " ".join(part for part in (action.kind, action.target, *others, how) if part)


def _worded(name: str, value: object) -> str:
    words, _, unit = name.partition("_")
    number = f"{value:g}" if isinstance(value, float) else value
    return f"{words} {number} {unit}".rstrip()


def is_repair(action: Action) -> bool:
    """Whether an action only ends faults."""
    if action.kind in ("slow", "slow_disk"):
        return bool(action.params.get("factor", 10.0) == 1)
    return action.kind not in ENDED_BY and action.kind not in _FOR_EVER + _AT_ONCE


def episodes_of(schedule: Schedule, end_ns: int) -> list[Episode]:
    """The episodes of a run that ended at ``end_ns``, in the order of their beginning.

    What is left at the schedule's duration ends then, when everything heals; a lost disk stays.
    """
    found = []
    for number, action in enumerate(schedule.actions):
        if action.at_ns > end_ns:
            break  # the run was over before it could happen
        if is_repair(action):
            continue
        segments = segments_of(action.target, schedule.knobs.pg_count)
        end, ends, ended_by = _ends(schedule, number, segments, end_ns)
        found.append(Episode(number, action, action.at_ns, end, segments, ends, ended_by))
    return found


def planned_episodes(schedule: Schedule) -> list[Episode]:
    """All of a schedule's, whenever its run may end."""
    return episodes_of(schedule, max((each.at_ns for each in schedule.actions), default=0))


def ending_only(episodes: Sequence[Episode], numbers: Collection[int]) -> set[int]:
    """The actions by which faults of these numbers end, and none that is not among them."""
    ends = {each for one in episodes if one.number in numbers for each in one.ended_by}
    others = {each for one in episodes if one.number not in numbers for each in one.ended_by}
    return ends - others


def _ends(
    schedule: Schedule, number: int, segments: Sequence[SegmentId], end_ns: int
) -> tuple[int, dict[SegmentId, int], tuple[int, ...]]:
    """When a fault is over, when for each of the segments, if it lasts and can end, and by what."""
    action = schedule.actions[number]
    if action.kind in _AT_ONCE:
        return action.at_ns, {}, ()
    if action.kind in _FOR_EVER:
        return max(end_ns, action.at_ns), {}, ()
    over = max(action.at_ns, min(schedule.knobs.duration_ns, end_ns))
    ends: dict[SegmentId, int] = {}
    ended_by = []
    for place, later in enumerate(schedule.actions[number + 1 :], number + 1):
        if later.kind != "heal" and later.kind not in ENDED_BY[action.kind]:
            continue
        named = segments_of(later.target, schedule.knobs.pg_count) if later.target else segments
        ended = [each for each in named if each in segments and each not in ends]
        ends.update(dict.fromkeys(ended, later.at_ns))
        if ended or not later.target:
            ended_by.append(place)
        if not later.target or len(ends) == len(segments):
            over = later.at_ns
            break
    return over, {each: ends.get(each, over) for each in segments}, tuple(ended_by)


def segments_of(target: Target, pg_count: int) -> tuple[SegmentId, ...]:
    """The segments that a target's words name; writers and anything else name none."""
    return targets.segments_of(targets.words_of(target), VolumeGeometry(pg_count).groups())


def names(target: Target, address: Address, pg_count: int) -> bool:
    """Whether a target's words name this address, a segment's or a writer's."""
    if address.startswith(targets.WRITER):
        words = targets.words_of(target)
        return address in words or targets.WRITER in words or targets.WRITERS in words
    return address in segments_of(target, pg_count)
