"""A run taken from a moment on: the same until then, with other chances or other faults after."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import Final

import attrs

from segments.protocol.errors import Invalid
from sim.durations import moment
from sim.plan.redraws import Redraw
from sim.plan.schedule import Action, Schedule

_MOST_TOLD: Final = 20


def forked(
    schedule: Schedule,
    at_ns: int,
    *,
    salt: int | None = None,
    add: Sequence[Action] = (),
    remove: Collection[int] = (),
) -> Schedule:
    """The schedule whose run is event for event that of ``schedule`` before ``at_ns``.

    From then on, inclusive, everything is drawn anew from ``salt``, if there is one; otherwise all
    streams go on. Actions of these numbers are left out, and others happen besides. Raises
    `Invalid` for what would change the past, or happen when all has healed.
    """
    if at_ns < 0:
        raise Invalid(f"a fork at {moment(at_ns)}: expected not before the start")
    _check_removed(schedule, at_ns, remove)
    for action in add:
        if not at_ns <= action.at_ns < schedule.knobs.duration_ns:
            raise Invalid(
                f"{action.kind} at {moment(action.at_ns)}: expected from {moment(at_ns)}, where "
                f"the fork begins, to before {moment(schedule.knobs.duration_ns)}, when everything "
                f"heals"
            )
    kept = [each for number, each in enumerate(schedule.actions) if number not in remove]
    redraws = schedule.redraws
    if salt is not None:
        redraws = (*(each for each in redraws if each.at_ns < at_ns), Redraw(at_ns, salt))
    return attrs.evolve(
        schedule,
        actions=tuple(sorted([*kept, *add], key=attrgetter("at_ns"))),
        redraws=redraws,
    )


def _check_removed(schedule: Schedule, at_ns: int, remove: Collection[int]) -> None:
    for number in remove:
        if not 0 <= number < len(schedule.actions):
            raise Invalid(f"action {number}: expected one of {_numbered(schedule)}")
        if schedule.actions[number].at_ns < at_ns:
            raise Invalid(
                f"action {number} at {moment(schedule.actions[number].at_ns)}: expected one that "
                f"has not happened by {moment(at_ns)}, where the fork begins"
            )


def _numbered(schedule: Schedule) -> str:
    """The actions of a schedule, each with its number."""
    actions = [
        f"{number} ({each.kind} {each.target}".rstrip() + f" at {moment(each.at_ns)})"
        for number, each in enumerate(schedule.actions[:_MOST_TOLD])
    ]
    left = len(schedule.actions) - len(actions)
    return ", ".join([*actions, *([f"{left} more"] if left else [])]) or "none: there are no faults"
