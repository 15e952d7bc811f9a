"""The causal story of a failing run, told from its events: what `explain` prints.

Each kind of finding has its chapters: a quorum finding needs the count of acknowledgements, a
recovery finding the life of the record it lost and what every recovery heard and decided, and so
on. Each sentence has a weight; the heaviest that fit are told, causes before effects.
"""

from __future__ import annotations

from sim.run import RunResult
from sim.story.chapters import story
from sim.story.evidence import Evidence
from sim.story.lines import Line, chosen
from sim.story.recorder import Recorder

__all__ = ["Recorder", "tell"]


def tell(recorder: Recorder, result: RunResult, rows: int, width: int) -> list[Line]:
    """The story's sentences, as many as fit in at most ``rows`` rows of ``width`` columns."""
    return chosen(story(Evidence(recorder, result)), rows, width)
