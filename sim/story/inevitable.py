"""When a failure became inevitable, told: the curve as text, and what happened where it rises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from sim.durations import length
from sim.plan.moments import Moments, Point
from sim.story.trace_words import NETWORK, Told
from sim.wording import counted

_BAR: Final = 40
_MOST_TOLD: Final = 12
_S: Final = 1_000_000_000


@attrs.frozen
class Around:
    """What happened about the moment in question."""

    before: Told | None
    """The last event that is kept at the last safe moment; None if there is none."""
    between: Sequence[Told]
    """What is kept besides at the moment after: with it, most futures fail."""


def exact(at_ns: int) -> str:
    """A moment to the microsecond: those that are compared here may be that close."""
    return f"{at_ns / _S:.6f} s"


def share_of(point: Point) -> str:
    """``6 of 8 fail (95 % interval: 41 % to 93 %)``."""
    low, high = (f"{100 * each:.0f} %" for each in point.bounds)
    return f"{point.failed} of {point.of} fail (95 % interval: {low} to {high})"


def curve(moments: Moments, failed_ns: int) -> list[str]:
    """The share of failures over time, a line for each moment; at most 80 columns.

    ``#`` are those that fail by about the same time, ``+`` those that fail later.
    """
    safe, lines = moments.last_safe, [f"  {'kept until':>12}  {'fail':>9}  share"]
    for point in moments.points:
        filled = round(_BAR * point.share)
        later = round(_BAR * (point.failed + point.later) / point.of) - filled
        bar = "#" * filled + "+" * later + "." * (_BAR - filled - later)
        count = f"{point.failed} of {point.of}"
        mark = " <" if point == safe else ""
        others = f" {point.other} other" if point.other else ""
        lines.append(f"  {exact(point.at_ns):>12}  {count:>9}  {bar}{mark}{others}")
    return [*lines, f"  {exact(failed_ns):>12}  the finding"]


def conclusion(moments: Moments, bug: str | None = None) -> list[str]:
    """What the curve says, and how sure that is; ``bug`` is what all futures have planted."""
    safe, after = moments.last_safe, moments.first_after
    if not moments.points:
        return ["no future was run: this shows nothing"]
    first = moments.points[0]
    if safe is None:
        return [
            f"most futures fail from the start on: {share_of(first)}",
            _what_stays(bug),
        ]
    told = [f"last moment at which most futures still escape it: {exact(safe.at_ns)}"]
    told.append(f"  {share_of(safe)}")
    if after is None:
        told.append("most futures escape it from each moment that was tried: the end decided it")
        return told
    told += [f"from {exact(after.at_ns)} on, {length(after.at_ns - safe.at_ns)} later"]
    told.append(f"  {share_of(after)}")
    if not moments.is_clear:
        told.append(
            f"the two may differ by chance alone, with {safe.of} and {after.of} futures "
            f"(95 % confidence): --futures {4 * moments.futures} would tell more"
        )
    return told


def _what_stays(bug: str | None) -> str:
    if bug is None:
        return "the faults and calls bring it about, which stay in all of them: see `shrink`"
    return (
        f"the bug {bug} is planted in all of them, and the faults and calls stay, too: almost any "
        f"chance will do; `bugs show {bug}` says what it changes, `shrink` what it needs"
    )


def told_around(around: Around) -> list[str]:
    """What happened between the two moments: all of it, or what is the most telling."""
    events = around.between
    lines = ["what is kept at the second moment, and not yet at the first:"]
    if around.before is not None:
        lines.insert(0, f"before both: {around.before}")
    shown = events
    if len(events) > _MOST_TOLD:
        shown = [each for each in events if each.source != NETWORK and "sends" not in each.words]
    if len(shown) > _MOST_TOLD:
        half = _MOST_TOLD // 2
        shown = [*shown[:half], *shown[-half:]]
    lines += [f"  {each}" for each in shown]
    if len(shown) < len(events):
        left = counted(len(events) - len(shown), "more event")
        lines.append(f"  and {left} between these")
    return lines


def as_json(moments: Moments, around: Around | None) -> dict[str, Any]:
    """The same for programs."""
    safe, after = moments.last_safe, moments.first_after
    return {
        "futures": moments.futures,
        "moments": [_point(each) for each in moments.points],
        "last_safe_ns": None if safe is None else safe.at_ns,
        "inevitable_from_ns": None if after is None else after.at_ns,
        "is_clear": moments.is_clear,
        "events": [attrs.asdict(each) for each in around.between] if around else [],
    }


def _point(point: Point) -> dict[str, Any]:
    low, high = point.bounds
    found = {"at_ns": point.at_ns, "failed": point.failed, "later": point.later}
    found |= {"passed": point.passed, "other": point.other, "of": point.of}
    return {**found, "low": low, "high": high}
