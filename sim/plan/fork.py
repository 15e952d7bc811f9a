"""A run taken from a moment on: the same until then, with other chances or other faults after."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter

import attrs

from segments.protocol.errors import Invalid
from sim.plan.redraws import Redraw
from sim.plan.schedule import Action, Schedule


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
        raise Invalid(f"a fork at {at_ns} ns: expected not before the start")
    _check_removed(schedule, at_ns, remove)
    for action in add:
        if not at_ns <= action.at_ns < schedule.knobs.duration_ns:
            raise Invalid(
                f"{action.kind} at {action.at_ns} ns: expected from {at_ns} ns, where the fork "
                f"begins, to before {schedule.knobs.duration_ns} ns, when everything heals"
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
            raise Invalid(
                f"action {number}: expected one of the {len(schedule.actions)} of the schedule, "
                f"counted from 0"
            )
        if schedule.actions[number].at_ns < at_ns:
            raise Invalid(
                f"action {number} at {schedule.actions[number].at_ns} ns: expected one that has "
                f"not happened by {at_ns} ns, where the fork begins"
            )
