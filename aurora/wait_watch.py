"""What is logged about waits: soon, and then ever more rarely.

Pure: the time and a report go in, lines come out. A wait is reported after a second, or later if
nothing is known to be wrong, again after growing pauses while it lasts, and when it is over.
"""

from __future__ import annotations

import logging
from math import inf
from typing import Final, NamedTuple, TypeAlias

import attrs

from aurora.health import PATIENCE_S, HealthReport, Waiting, WaitKind, duration
from segments.protocol.ids import SegmentId

UNEXPLAINED_S: Final = 10.0
"""A wait without a known reason is reported after this: busy disks take seconds, and all is well.
What really is wrong has become known by then."""
FIRST_PAUSE_S: Final = 10.0
"""A wait that goes on is reported again after this, then after twice as long each time ..."""
LONGEST_PAUSE_S: Final = 600.0
"""... up to this."""


class Line(NamedTuple):
    """One line of the log."""

    level: int
    """As in `logging`: a warning for a wait, `INFO` when it is over."""
    text: str


_Key: TypeAlias = tuple[WaitKind, str]


@attrs.define
class _Told:
    wait: Waiting
    writer: str
    """The latest when it began to be told."""
    pause_s: float
    next_at_s: float = -inf
    segments: set[SegmentId] = attrs.field(factory=set)
    """Those that were named."""


class WaitWatch:
    """Remembers what has been reported."""

    def __init__(self) -> None:
        self._told: dict[_Key, _Told] = {}

    def observe(self, now: float, report: HealthReport) -> list[Line]:
        """The lines that are due at ``now``."""
        lasting = {(wait.kind, wait.subject): wait for wait in report.waits if self._lasts(wait)}
        over = [self._told.pop(key) for key in list(self._told) if key not in lasting]
        lines = [Line(logging.INFO, _ended(told, report)) for told in over]
        in_the_way: set[SegmentId] = set()
        for wait in report.waits:
            if wait.kind is not WaitKind.DISK:
                in_the_way.update(wait.segments)
        for key, wait in lasting.items():
            # What something else waits for is named with that, and has no line of its own.
            named = wait.kind is WaitKind.DISK and in_the_way.issuperset(wait.segments)
            if not named and self._is_due(key, wait, _name(report), now):
                lines.append(Line(logging.WARNING, _lasting(wait)))
        return lines

    def _lasts(self, wait: Waiting) -> bool:
        if wait.kind is WaitKind.LOST:
            return True
        known = wait.explained or (wait.kind, wait.subject) in self._told
        return wait.for_s >= (PATIENCE_S if known else UNEXPLAINED_S)

    def _is_due(self, key: _Key, wait: Waiting, writer: str, now: float) -> bool:
        told = self._told.get(key)
        if told is None:
            pause_s = inf if wait.kind is WaitKind.LOST else FIRST_PAUSE_S
            told = self._told[key] = _Told(wait, writer, pause_s)
        told.wait = wait
        one_more = wait.kind is WaitKind.DISK and not told.segments.issuperset(wait.segments)
        if now < told.next_at_s and not one_more:
            return False
        told.segments.update(wait.segments)
        told.next_at_s = now + told.pause_s
        told.pause_s = max(told.pause_s, min(LONGEST_PAUSE_S, 2.0 * told.pause_s))
        return True


def _lasting(wait: Waiting) -> str:
    so_far = "" if wait.kind is WaitKind.LOST else f" (for {duration(wait.for_s)} so far)"
    return f"{wait.text}{so_far}"


def _ended(told: _Told, report: HealthReport) -> str:
    wait = told.wait
    after = f"after {duration(wait.for_s)}"
    goes_on = report.writes.goes_on
    match wait.kind:
        case WaitKind.OPENING:
            return f"{wait.subject} no longer waits to open the volume, {after}"
        case WaitKind.DISK | WaitKind.LOST:
            return f"no longer so, {after}: {wait.text}"
        case WaitKind.TURN:
            return f"transactions no longer wait for their turn, {after}"
        case WaitKind.READS:
            goes_on = report.reads.goes_on
        case WaitKind.STRICT_READS:
            confirmed = all(group.strict_reads.goes_on for group in report.groups)
            goes_on = report.reads.goes_on and confirmed
    reads = wait.kind in (WaitKind.READS, WaitKind.STRICT_READS)
    who = wait.kind if reads else WaitKind.COMMITS
    if told.writer != _name(report):
        return f"{who} of {told.writer} will not go on, {after}: {report.writer}"
    # What is still missing has not ended the wait: the call has failed, or been given up.
    return f"{who} go on, {after}" if goes_on else f"{who} no longer wait, {after}: the call ended"


def _name(report: HealthReport) -> str:
    """The latest writer's; a report's sentence about it begins with that."""
    return report.writer.partition(" ")[0]
