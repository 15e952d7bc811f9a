"""Work without end that comes to nothing: the story of a livelock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from segments.protocol.events import LayerPublished, LogRewritten, RecordsApplied
from sim.durations import length
from sim.story.evidence import Evidence
from sim.story.focus import Focus
from sim.story.lines import LAST, NEEDED, Line
from sim.story.recorder import Step
from sim.wording import counted

_RECENT: Final = 1_000
"""So many steps before the end are counted."""
_KINDS: Final = 3


def busy(evidence: Evidence, focus: Focus) -> Iterator[Line]:
    """What was done over and over, by whom, and since when."""
    recent = evidence.steps[-_RECENT:]
    if not recent:
        return
    sources = Counter(step.source for step in recent)
    source = next(iter(focus.segments), sources.most_common(1)[0][0])
    events = Counter(type(step.event).__name__ for step in recent if step.source == source)
    took = length(evidence.result.virtual_ns - recent[0].time_ns)
    kinds = ", ".join(f"{count} {event}" for event, count in events.most_common(_KINDS))
    text = (
        f"{events.total()} of the last {counted(len(recent), 'step')}, in which {took} passed, are "
        f"{source}'s: {kinds or 'none'}"
    )
    yield Line(LAST, evidence.result.virtual_ns, NEEDED, text)
    rewrites = _rewrites_at_the_end(evidence, source)
    if len(rewrites) > 1:
        text = (
            f"{source} writes its log or layers anew, for the first of {len(rewrites)} times in a "
            f"row: nothing is appended in between"
        )
        yield Line(rewrites[0].number, rewrites[0].time_ns, NEEDED, text)


def _rewrites_at_the_end(
    evidence: Evidence, segment: str
) -> list[Step[LogRewritten | LayerPublished]]:
    """What a segment has written anew since it took the last records."""
    applied = evidence.of(RecordsApplied, source=segment)
    last = applied[-1].number if applied else -1
    found = evidence.of(LogRewritten, LayerPublished, source=segment)
    return [step for step in found if step.number > last]
