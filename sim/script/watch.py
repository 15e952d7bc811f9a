"""Scenarios in Python that never end: seen in bounded virtual time, with what they wait for.

Once a second of virtual time it is asked what each of the script's tasks awaits. The script waits
for ever when all of them have been in the same call for as long as anything pending may take, and
no deadline has been set for it. When nothing but the script itself could end these calls, it is a
deadlock at once. A script that goes on and on ends at its limit.
"""

from __future__ import annotations

import linecache
from typing import Final

import attrs
import trio

from sim.plan.schedule import SECOND
from sim.run import Run
from sim.script.errors import is_foreign, is_ours
from sim.world.scheduler import deadlines_of, tasks_from

NEVER_ENDS: Final = "scenario ends"
"""Stands for the invariant where a script never came to its end."""
_EVERY_NS: Final = SECOND
_MOST_TOLD: Final = 3


@attrs.frozen
class Wait:
    """What one task of a script awaits."""

    place: str
    """File, line and text of the script's own line; empty for a task without one."""
    call: object
    """The frame of what it awaits: as long as it is the same one, so is the call."""
    ours: bool
    """Whether it waits in a call of the engine or the simulator."""
    since_ns: int
    deadlines: frozenset[float]
    """Those that have been set for it all along."""


class ScriptWatch:
    """Watches the tasks of one script, from its first step to its last."""

    def __init__(self, run: Run, limit_ns: int) -> None:
        self._run = run
        self._world = run.world
        self._limit_ns = limit_ns
        self._root: trio.lowlevel.Task | None = None
        self._waits: dict[trio.lowlevel.Task, Wait] = {}

    def begin(self, root: trio.lowlevel.Task) -> None:
        """The script runs in ``root``, and in the tasks below it."""
        self._root = root
        self._look_again()

    def end(self) -> None:
        """The script is over."""
        self._root = None
        self._waits.clear()

    def _look_again(self) -> None:
        scheduler = self._world.scheduler
        at_ns = min(scheduler.now_ns + _EVERY_NS, max(self._limit_ns, scheduler.now_ns))
        scheduler.call_at(at_ns, self._look)

    def _look(self) -> None:
        """All tasks are blocked, or the scheduler would not have come to serve this."""
        if self._root is None:
            return
        now_ns = self._world.scheduler.now_ns
        waits = {task: self._wait_of(task, now_ns) for task in tasks_from(self._root)}
        self._waits = waits
        waited_ns = now_ns - max(each.since_ns for each in waits.values())
        standing = self._run.checker.ending.standing()
        if now_ns >= self._limit_ns:
            self._fail(
                NEVER_ENDS, f"has not ended after {now_ns / SECOND:g} s, the limit; {standing}"
            )
        elif any(each.deadlines for each in waits.values()):
            self._look_again()
        elif not any(each.ours for each in waits.values()):
            self._fail("deadlock", "waits for what nobody but the script could bring about")
        elif waited_ns >= self._world.schedule.knobs.liveness_ns:
            waited = f"waits for more than {waited_ns / SECOND:g} s, without a deadline"
            self._fail(NEVER_ENDS, f"{waited}; {standing}")
        else:
            self._look_again()

    def _wait_of(self, task: trio.lowlevel.Task, now_ns: int) -> Wait:
        place, call, ours = _awaited_by(task)
        deadlines = deadlines_of(task)
        known = self._waits.get(task)
        if known is None or known.call is not call:
            return Wait(place, call, ours, now_ns, deadlines)
        return attrs.evolve(known, deadlines=known.deadlines & deadlines)

    def _fail(self, invariant: str, why: str) -> None:
        places = list(dict.fromkeys(each.place for each in self._waits.values() if each.place))
        more = f", and {len(places) - _MOST_TOLD} more" if len(places) > _MOST_TOLD else ""
        where = "; ".join(places[:_MOST_TOLD]) + more
        self._run.checker.fail(invariant, f"{where} {why}", liveness=True)


def _awaited_by(task: trio.lowlevel.Task) -> tuple[str, object, bool]:
    """The script's line that awaits, the frame of what it awaits, and whether that is of ours."""
    frames = list(task.iter_await_frames())
    files = [frame.f_code.co_filename for frame, _ in frames]
    start = next((at for at, file in enumerate(files) if not is_foreign(file)), len(files))
    end = next((at for at in range(start, len(files)) if is_foreign(files[at])), len(files))
    if start == len(files):  # a task that is one call, and no line of the script's
        return "", frames[0][0] if frames else task, any(map(is_ours, files))
    frame, line = frames[end - 1]
    text = linecache.getline(files[end - 1], line).strip()
    place = f"{files[end - 1]}, line {line}" + (f": `{text}`" if text else "")
    awaited = frames[end][0] if end < len(frames) else frame
    return place, awaited, any(map(is_ours, files[end:]))
